"""Who stands near whom: counts of pairs of words, kept only where they are not zero.

    X[w, c] = Σ over pairs of positions i ≠ j in one sentence, |i − j| ≤ window, w at i and c at j, of weight(|i − j|)

Three weights: 1; 1/distance, for GloVe; and (window + 1 − distance)/window, which is how often word2vec looks that far
when each word draws its reach from 1 to window.

Paper:   Pennington, Socher and Manning 2014, "GloVe: Global Vectors for Word Representation", §4.2; Levy, Goldberg and
         Dagan 2015, "Improving Distributional Similarity with Lessons Learned from Word Embeddings", §3.1.
Names:   X is GloVe's X and Levy and Goldberg's #(w, c).
Next:    minillm/vectors/pmi.py
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from minillm.core.settings import check_whole_numbers
from minillm.vectors.vocabulary import NumberedText, number_words

Weighting = Literal["flat", "harmonic", "linear"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cooccurrence:
    """Sparse counts: word `row_n[i]` has the neighbour `column_n[i]` `count_n[i]` > 0 times; no pair comes twice."""

    words: list[str]
    row_n: np.ndarray
    column_n: np.ndarray
    count_n: np.ndarray

    def dense(self) -> np.ndarray:
        """Return the counts as a symmetric matrix of (words, words), for small vocabularies."""
        counts = np.zeros((len(self.words), len(self.words)))
        counts[self.row_n, self.column_n] = self.count_n
        return counts


def count_pairs(
    sentences: Iterable[Sequence[str]], window: int = 5, weighting: Weighting = "flat", min_count: int = 1
) -> Cooccurrence:
    """Count the neighbours of every word; no window goes over a sentence's end.

    >>> pairs = count_pairs([["a", "b", "c"]], window=2, weighting="harmonic")
    >>> pairs.dense().tolist()
    [[0.0, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.0]]
    """
    return count_numbered_pairs(number_words(sentences, min_count), window, weighting)


def count_numbered_pairs(text: NumberedText, window: int, weighting: Weighting) -> Cooccurrence:
    """The same, of a text whose words have numbers."""
    check_whole_numbers({"window": (window, 5)})
    if weighting not in get_args(Weighting):
        raise ValueError(f"weighting={weighting!r} is not known; use one of {', '.join(get_args(Weighting))}")
    v = len(text.words)
    keys: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    for distance in range(1, window + 1):
        together = text.sentence_n[distance:] == text.sentence_n[:-distance]
        key, times = np.unique((text.id_n[:-distance] * v + text.id_n[distance:])[together], return_counts=True)
        keys.append(key)
        weights.append(
            times * {"flat": 1.0, "harmonic": 1 / distance, "linear": (window + 1 - distance) / window}[weighting]
        )
    key, place = np.unique(np.concatenate(keys), return_inverse=True)
    weight = np.bincount(place, np.concatenate(weights), minlength=len(key))
    both, place = np.unique(np.concatenate([key, key % v * v + key // v]), return_inverse=True)  # to the left, too
    count_n = np.bincount(place, np.concatenate([weight, weight]), minlength=len(both))
    return Cooccurrence(words=text.words, row_n=both // v, column_n=both % v, count_n=count_n)
