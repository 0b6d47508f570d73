"""word2vec: a word is known by the company it keeps, so learn vectors that tell true neighbours from random words.

    loss = − log σ(w·c) − Σ_{i=1…k} log σ(−w·c_i),     c a word within the window of w, c_i drawn from noise

Paper:   Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their Compositionality", §2.2,
         arXiv:1310.4546; CBOW: Mikolov et al. 2013, arXiv:1301.3781, §3.1; shared noise: Ji et al. 2016,
         "Parallelizing Word2Vec in Shared and Distributed Memory", arXiv:1604.04661.
Next:    minillm/vectors/word_vectors.py
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from minillm.vectors.word_vectors import WordVectors

BLOCK = 16  # centre words that share a matrix product
SHARED = 16  # noise words that they share


class Word2Vec(WordVectors):
    """Vectors learned with negative sampling; words[i] has vectors[i], the most frequent word first."""

    def __init__(
        self,
        dimensions: int = 100,
        window: int = 5,
        negatives: int = 5,
        min_count: int = 2,
        epochs: int = 5,
        seed: int = 0,
        *,
        architecture: Literal["skip-gram", "cbow"] = "skip-gram",
        learning_rate: float = 0.025,
        last_learning_rate: float = 0.0001,
        subsample: float = 1e-3,
        noise_power: float = 0.75,
    ) -> None:
        super().__init__()
        self.dimensions, self.window, self.negatives, self.min_count = dimensions, window, negatives, min_count
        self.epochs, self.seed, self.architecture = epochs, seed, architecture
        self.learning_rate, self.last_learning_rate = learning_rate, last_learning_rate
        self.subsample, self.noise_power = subsample, noise_power

    def fit(self, sentences: Iterable[list[str]]) -> Self:
        """Learn the vectors."""
        sentences = [list(sentence) for sentence in sentences]
        counts = Counter(word for sentence in sentences for word in sentence)
        words = sorted((w for w, n in counts.items() if n >= self.min_count), key=lambda w: (-counts[w], w))
        if not words:
            raise ValueError("empty vocabulary")
        index = {word: i for i, word in enumerate(words)}
        id_n = torch.tensor([index[w] for sentence in sentences for w in sentence if w in index])
        lengths = torch.tensor([sum(w in index for w in sentence) for sentence in sentences])
        sentence_n = torch.repeat_interleave(lengths)
        count_v = torch.tensor([counts[w] for w in words], dtype=torch.float64)
        self._train(words, count_v, id_n, sentence_n)
        return self

    def _train(self, words, count_v, id_n, sentence_n) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        v, d = len(words), self.dimensions
        vector_vd = (torch.rand(v, d, generator=generator) - 0.5) / d
        context_vd = torch.zeros(v, d)
        ratio_v = self.subsample * count_v.sum() / count_v if self.subsample else torch.ones_like(count_v)
        keep_v = (ratio_v.sqrt() + ratio_v).clamp(max=1).float()
        noise_v = count_v**self.noise_power
        noise_v = (noise_v / noise_v.sum()).cumsum(0).float()
        w, t = self.window, BLOCK
        s = t + 2 * w
        likely = float(((count_v * keep_v) / (count_v * keep_v).sum()).max())
        blocks = self.blocks or max(1, min(64, round(8 / likely / t)))
        reach_grid = torch.arange(w + 1)
        offset = torch.arange(-w, w + 1)
        # pattern[left, right]: which offsets are within reach
        pattern = (
            (offset >= -reach_grid[:, None, None]) & (offset <= reach_grid[None, :, None]) & (offset != 0)
        ).float()
        pattern = pattern.reshape(-1, 2 * w + 1)
        grad = torch.zeros(blocks, t, s + SHARED)
        band_strides = (t * (s + SHARED), s + SHARED + 1, 1)
        for epoch in range(self.epochs):
            keep = torch.rand(len(id_n), generator=generator) < keep_v[id_n]
            ids, sent = id_n[keep], sentence_n[keep]
            n = len(ids)
            reach = torch.randint(1, w + 1, (n,), generator=generator)
            at = torch.arange(n)
            left = torch.minimum(reach, at - torch.searchsorted(sent, sent))
            right = torch.minimum(reach, torch.searchsorted(sent, sent, right=True) - 1 - at)
            total = -(-n // t) * t
            row = torch.zeros(total, dtype=torch.int64)
            row[:n] = left * (w + 1) + right
            padded = torch.zeros(total + 2 * w, dtype=torch.int64)
            padded[w : w + n] = ids
            pairs = torch.zeros(total)
            pairs[:n] = (left + right).float()
            columns = padded.unfold(0, s, t)
            order = torch.randperm(len(columns), generator=generator)
            row, pairs = row.view(-1, t), pairs.view(-1, t)
            for start in range(0, len(order), blocks):
                done = (epoch + start / len(order)) / self.epochs
                rate = self.learning_rate + (self.last_learning_rate - self.learning_rate) * done
                pick = order[start : start + blocks]
                b = len(pick)
                column_bs = columns[pick]
                noise = torch.searchsorted(noise_v, torch.rand(b, SHARED, generator=generator)).clamp_(max=v - 1)
                centre_n = column_bs[:, w : w + t].reshape(-1)
                target_n = torch.cat([column_bs, noise], 1).reshape(-1)
                x = vector_vd.index_select(0, centre_n).view(b, t, d)
                c = context_vd.index_select(0, target_n).view(b, s + SHARED, d)
                score = torch.bmm(x, c.transpose(1, 2)).sigmoid_()
                g = grad[:b]
                band = pattern.index_select(0, row[pick].view(-1)).view(b, t, -1)
                g_band = g.as_strided((b, t, 2 * w + 1), band_strides)
                s_band = score.as_strided((b, t, 2 * w + 1), band_strides)
                g_band.copy_((1 - s_band).mul_(band))
                g[:, :, s:] = score[:, :, s:] * (pairs[pick] * (-self.negatives / SHARED))[:, :, None]
                g = g * rate
                vector_vd.scatter_add_(0, centre_n[:, None].expand(-1, d), torch.bmm(g, c).view(-1, d))
                context_vd.scatter_add_(0, target_n[:, None].expand(-1, d), torch.bmm(g.transpose(1, 2), x).view(-1, d))
        self._set(words, vector_vd.numpy())

    blocks = 0
