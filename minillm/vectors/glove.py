"""GloVe: count first, then find vectors whose products are the logarithms of the counts.

    J = Σ f(X[w, c]) · (w·c + b_w + b_c − log X[w, c])²         f(x) = min(1, (x / x_max)^0.75)

Only pairs that met take part, and f keeps the many rare pairs, whose counts are noise, from outweighing the rest. Both
tables of vectors play the same part, so their sum is the vector of a word.

Paper:   Pennington, Socher and Manning 2014, "GloVe: Global Vectors for Word Representation", §3 (eq. 8, 9) and §4.2;
         AdaGrad: Duchi, Hazan and Singer 2011, "Adaptive Subgradient Methods for Online Learning".
Names:   w and b_w are their w_i and b_i, c and b_c their w̃_j and b̃_j, count_power their α.
Differs: a batch of pairs sees the same vectors, where the authors' program goes pair by pair; as in that program, the
         squared gradients of AdaGrad start at 1, and the factor 2 of the square is part of the learning rate.
Next:    minillm/vectors/evaluation.py
"""

import math
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from minillm.core.settings import check_seed, check_whole_numbers
from minillm.vectors.cooccurrence import Cooccurrence, count_pairs
from minillm.vectors.word_vectors import WordVectors

BATCH = 1024  # pairs that see the same vectors


class GloVe(WordVectors):
    """Word vectors from weighted co-occurrence counts.

    dimensions, window, min_count, epochs, seed     as in `Word2Vec`; neighbours count 1/distance
    x_max, count_power                              pairs with x_max or more count fully, others (x / x_max)^count_power
    learning_rate                                   AdaGrad's, at the start

    After `fit`: `words`, the most frequent first; `vectors`, a float32 array of shape (v, d); `losses`, one an epoch,
    the mean of ½ · f · error² over the pairs.

    >>> text = [f"the {animal} eats".split() for animal in ("cat", "dog")] + [["we", "read", "books"]]
    >>> model = GloVe(dimensions=8, epochs=50).fit(text * 50)
    >>> model.similarity("cat", "dog") > model.similarity("cat", "books")
    True
    >>> model.losses[-1] < model.losses[0]
    True
    """

    def __init__(
        self,
        dimensions: int = 100,
        window: int = 10,
        min_count: int = 2,
        epochs: int = 25,
        seed: int = 0,
        *,
        x_max: float = 100.0,
        count_power: float = 0.75,
        learning_rate: float = 0.05,
    ) -> None:
        super().__init__()
        whole = {"dimensions": (dimensions, 100), "window": (window, 10)}
        check_whole_numbers(whole | {"min_count": (min_count, 2), "epochs": (epochs, 25)})
        check_seed(seed)
        for name, value, usual in (("x_max", x_max, 100), ("learning_rate", learning_rate, 0.05)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value!r} must be above 0 and finite; {usual} is usual")
        if not 0 <= count_power <= 1:
            raise ValueError(f"count_power={count_power!r} must be from 0 to 1; 0.75 is usual")
        self.dimensions, self.window, self.min_count = dimensions, window, min_count
        self.epochs, self.seed = epochs, seed
        self.x_max, self.count_power, self.learning_rate = x_max, count_power, learning_rate

    def fit(self, sentences: Iterable[Sequence[str]]) -> Self:
        """Count the pairs of some sentences and learn the vectors of their words, from the start."""
        return self.fit_counts(count_pairs(sentences, self.window, "harmonic", self.min_count))

    def fit_counts(self, pairs: Cooccurrence) -> Self:
        """Learn vectors from counts that are there already."""
        if not len(pairs.count_n):
            raise ValueError("no two words ever meet: every sentence has one known word; give longer sentences")
        generator = torch.Generator().manual_seed(self.seed)
        v, d = len(pairs.words), self.dimensions
        # one row a word: its vector, then its bias
        word, context = (((torch.rand(v, d + 1, generator=generator) - 0.5) / (d + 1)) for _ in range(2))
        squares = torch.ones_like(word), torch.ones_like(context)
        row_n, column_n = torch.from_numpy(pairs.row_n), torch.from_numpy(pairs.column_n)
        log_n = torch.from_numpy(np.log(pairs.count_n)).float()
        weight_n = torch.from_numpy(np.minimum(1, (pairs.count_n / self.x_max) ** self.count_power)).float()
        self.losses: list[float] = []
        for _ in range(self.epochs):
            order_n = torch.randperm(len(row_n), generator=generator)
            loss = 0.0
            for at in order_n.split(BATCH):
                rows, columns = word[row_n[at]], context[column_n[at]]
                part, *gradients = weighted_squares(rows, columns, log_n[at], weight_n[at])
                loss += float(part)
                for table, square, i, gradient in zip(
                    (word, context), squares, (row_n[at], column_n[at]), gradients, strict=True
                ):
                    table.index_add_(0, i, gradient / square[i].sqrt(), alpha=-self.learning_rate)
                    square.index_add_(0, i, gradient**2)
            self.losses.append(loss / len(row_n))
        self._set(pairs.words, (word + context)[:, :d].numpy())
        return self


def weighted_squares(
    word_nd: Tensor, context_nd: Tensor, log_count_n: Tensor, weight_n: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ½ Σ f · error², and its gradients for the rows of both sides; the last column of a row is its bias.

    >>> word, context = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[3.0, 1.0, 0.5]])  # 3 + 2 + ½ + ½ = 6
    >>> loss, for_word, _ = weighted_squares(word, context, torch.tensor([4.0]), torch.tensor([0.5]))
    >>> loss.item(), for_word.tolist()
    (1.0, [[3.0, 1.0, 1.0]])
    """
    product_n = (word_nd[:, :-1] * context_nd[:, :-1]).sum(dim=1)
    error_n = product_n + word_nd[:, -1] + context_nd[:, -1] - log_count_n
    push_n = weight_n * error_n
    for_word_nd, for_context_nd = push_n[:, None] * context_nd, push_n[:, None] * word_nd
    for_word_nd[:, -1] = for_context_nd[:, -1] = push_n
    return (weight_n * error_n**2).sum() / 2, for_word_nd, for_context_nd
