"""word2vec: a word is known by the company it keeps, so learn vectors that tell true neighbours from random words.

    skip-gram   loss = − log σ(w·c) − Σ_{i=1…k} log σ(−w·cᵢ)        each neighbour c of each word w, k words of noise
    CBOW        the same, once a word: w's place is taken by the mean of its neighbours, c's by the word itself

Every word has two vectors: one as a centre (skip-gram) or neighbour (CBOW), which is kept as its vector, and one for
the other role, `context_vectors`. At skip-gram's best, w·c = PMI(w, c) − log k: see `pmi.py`.

Paper:   Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their Compositionality", §2,
         arXiv:1310.4546; CBOW: Mikolov et al. 2013, "Efficient Estimation of Word Representations in Vector Space",
         §3.1, arXiv:1301.3781; shared noise: Ji et al. 2016, arXiv:1604.04661.
Names:   window is their c, negatives their k, subsample their t.
Differs: noise is shared by the words of a block, and the blocks of a step see the same vectors (`blocks.py`). As in
         the authors' program, a neighbour in CBOW moves by the whole gradient of the mean, not by its share of it.
Next:    minillm/vectors/pmi.py
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from minillm.core.settings import check_seed, check_whole_numbers
from minillm.vectors.blocks import ROWS, SHARING, Blocks, cbow_moves, reaches, skip_gram_moves
from minillm.vectors.negative_sampling import keep_probability, learning_rate_at, noise_distribution
from minillm.vectors.vocabulary import NumberedText, number_words
from minillm.vectors.word_vectors import WordVectors

Architecture = Literal["skip-gram", "cbow"]
MOST_BLOCKS = 64  # blocks of a step
FEWEST_STEPS = 200  # in an epoch
# learning rate times how often a step scores its most frequent word; vectors may diverge at 25, with CBOW at 60
STALE = {"skip-gram": 7.5, "cbow": 15.0}


class Word2Vec(WordVectors):
    """Word vectors learned by negative sampling.

    dimensions          width of the vectors
    window              the farthest neighbour; each word draws its own reach, from 1 to this, so near ones count more
    negatives           words of noise for each true one
    min_count           rarer words are left out
    epochs              times the text is read
    seed                the same seed and text give the same vectors
    architecture        "skip-gram": a word tells its neighbours; "cbow": its neighbours, as a bag, tell the word
    learning_rate       at the start; it falls in a straight line to `last_learning_rate`
    subsample           words with a larger share of the text are dropped at random; 0 drops none
    noise_power         noise words are drawn by their counts to this power

    After `fit`: `words`, the most frequent first; `vectors` and `context_vectors`, float32 arrays of shape (v, d).

    >>> text = [f"the {animal} eats".split() for animal in ("cat", "dog")] + [["we", "read", "books"]]
    >>> model = Word2Vec(dimensions=8, subsample=0, epochs=20).fit(text * 50)
    >>> model.most_similar("cat", 1)[0][0]
    'dog'
    """

    def __init__(
        self,
        dimensions: int = 100,
        window: int = 5,
        negatives: int = 5,
        min_count: int = 2,
        epochs: int = 5,
        seed: int = 0,
        *,
        architecture: Architecture = "skip-gram",
        learning_rate: float = 0.025,
        last_learning_rate: float = 0.0001,
        subsample: float = 1e-3,
        noise_power: float = 0.75,
    ) -> None:
        super().__init__()
        whole = {"dimensions": (dimensions, 100), "window": (window, 5), "negatives": (negatives, 5)}
        check_whole_numbers(whole | {"min_count": (min_count, 2), "epochs": (epochs, 5)})
        check_seed(seed)
        if architecture not in get_args(Architecture):
            raise ValueError(f"architecture={architecture!r} is not known; use 'skip-gram' or 'cbow'")
        if not 0 < last_learning_rate <= learning_rate < math.inf:
            raise ValueError(
                f"learning_rate={learning_rate!r} must be finite and not below last_learning_rate="
                f"{last_learning_rate!r}, which must be above 0; 0.025 and 0.0001 are usual"
            )
        if not 0 <= subsample < 1:
            raise ValueError(
                f"subsample={subsample!r} must be a share from 0 to below 1; 0.001 is usual, 0 drops nothing"
            )
        if not 0 <= noise_power <= 1:
            raise ValueError(
                f"noise_power={noise_power!r} must be from 0 (all words alike) to 1 (as in text); 0.75 works"
            )
        self.dimensions, self.window, self.negatives, self.min_count = dimensions, window, negatives, min_count
        self.epochs, self.seed, self.architecture = epochs, seed, architecture
        self.learning_rate, self.last_learning_rate = learning_rate, last_learning_rate
        self.subsample, self.noise_power = subsample, noise_power

    def fit(self, sentences: Iterable[Sequence[str]]) -> Self:
        """Learn the vectors of the words of some sentences, from the start; no window goes over a sentence's end."""
        text = number_words(sentences, self.min_count)
        generator = torch.Generator().manual_seed(self.seed)
        v, d = len(text.words), self.dimensions
        vector_vd, context_vd = (torch.rand(v, d, generator=generator) * 2 - 1) / d, torch.zeros(v, d)
        with _one_thread():
            self._train(text, vector_vd, context_vd, generator)
        self._set(text.words, vector_vd.numpy())
        self.context_vectors = context_vd.numpy()
        return self

    def _train(self, text: NumberedText, vector_vd: Tensor, context_vd: Tensor, generator: torch.Generator) -> None:
        """Read the text `epochs` times, each time subsampled and cut into blocks anew."""
        id_n, sentence_n = torch.from_numpy(text.id_n), torch.from_numpy(text.sentence_n)
        count_v = torch.from_numpy(text.count_v)
        keep_v = keep_probability(count_v, self.subsample).float()
        noise_v = noise_distribution(count_v, self.noise_power).cumsum(0).float()
        sharing = SHARING if self.architecture == "cbow" else 1
        size, damping = self._step_size(count_v * keep_v)
        size = -(-size // sharing) * sharing
        near_rows = reaches(self.window)
        for epoch in range(self.epochs):
            kept = (torch.rand(len(id_n), generator=generator) < keep_v.index_select(0, id_n)).nonzero().flatten()
            blocks = Blocks.cut(id_n[kept], sentence_n[kept], self.window, noise_v, generator, sharing)
            for at, step in enumerate(blocks.steps(size)):
                done = (epoch + at * size / len(blocks)) / self.epochs
                rate = learning_rate_at(done, self.learning_rate, self.last_learning_rate)
                self._step(step, near_rows, vector_vd, context_vd, rate * damping)

    def _step_size(self, expected_v: Tensor) -> tuple[int, float]:
        """Return the blocks of a step, and a factor on the learning rate, which is below 1 for tiny vocabularies only.

        The more often the most frequent word is scored, the sooner its vector must be looked at again. A short text is
        read in many steps all the same.
        """
        words = float(expected_v.sum())
        move = self.learning_rate * float(expected_v.max()) / words * ROWS * (self.window + 1) * (self.negatives + 1)
        stale = STALE[self.architecture]
        size = min(MOST_BLOCKS, int(stale / move), int(words / ROWS / FEWEST_STEPS))
        return max(1, size), min(1.0, stale / move)

    def _step(self, step: Blocks, near_rows: Tensor, vector_vd: Tensor, context_vd: Tensor, rate: float) -> None:
        """Move the vectors and the context vectors of the words of some blocks."""
        near = near_rows.index_select(0, step.reach_bt.flatten()).view(*step.reach_bt.shape, -1)
        how = (near, step.pairs_bt, self.negatives, rate)
        if self.architecture == "skip-gram":
            target_bs = torch.cat([step.column_bs, step.noise], dim=1)
            centres, targets = _rows(vector_vd, step.centre_bt), _rows(context_vd, target_bs)
            centre_moves, target_moves = skip_gram_moves(centres, targets, *how)
            _add(vector_vd, step.centre_bt, centre_moves)
            _add(context_vd, target_bs, target_moves)
        else:
            centre_bt = step.centre_bt
            columns, words = _rows(vector_vd, step.column_bs), _rows(context_vd, centre_bt)
            column_moves, word_moves, noise_moves = cbow_moves(columns, words, _rows(context_vd, step.noise), *how)
            _add(vector_vd, step.column_bs, column_moves)
            _add(context_vd, centre_bt, word_moves)
            _add(context_vd, step.noise, noise_moves)


def _rows(table_vd: Tensor, ids: Tensor) -> Tensor:
    return table_vd.index_select(0, ids.flatten()).view(*ids.shape, -1)


def _add(table_vd: Tensor, ids: Tensor, moves: Tensor) -> None:
    """Add moves to rows; with `alpha=` in place of moves that hold the rate, this takes more than twice the time."""
    table_vd.index_add_(0, ids.flatten(), moves.flatten(0, -2))


@contextmanager
def _one_thread() -> Iterator[None]:
    """These products are small: threads would spend their time in waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
