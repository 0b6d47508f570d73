"""A table of words and their vectors: neighbours, analogies, and the text format that other programs read.

    similar(a, b) = cos(x_a, x_b)          a : b = c : ?  is the word d that maximises cos(x_d, x_b − x_a + x_c)

The three vectors of an analogy are scaled to length one first, and the three words themselves are not candidates:
without that rule the answer would often be b or c.

Paper:   Mikolov, Yih and Zweig 2013, "Linguistic Regularities in Continuous Space Word Representations", §5.
Names:   their y = x_b − x_a + x_c, and the same cosine.
Next:    minillm/vectors/negative_sampling.py
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from minillm.core.files import write_atomically
from minillm.core.settings import check_whole_numbers


class WordVectors:
    """Words, `words[i]`, and their vectors, `vectors[i]`: a float32 array of shape (v, d).

    >>> table = WordVectors(["king", "queen", "man", "woman"], np.array([[2, 1], [2, -1], [0, 1], [0, -1]]))
    >>> table.analogy("man", "king", "woman")[0][0]
    'queen'
    >>> table.similarity("man", "woman")
    -1.0
    """

    def __init__(self, words: Sequence[str] = (), vectors: np.ndarray | None = None) -> None:
        if vectors is not None:
            self._set(words, vectors)

    def _set(self, words: Sequence[str], vectors: np.ndarray) -> None:
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(words) or 0 in vectors.shape:
            raise ValueError(
                f"vectors has shape {vectors.shape}, which must be (words, dimensions) = ({len(words)}, d)"
            )
        if not np.isfinite(vectors).all():
            raise ValueError("vectors holds NaN or infinity; a lower learning_rate often mends that")
        self.words, self.vectors = list(words), vectors
        self.index = {word: i for i, word in enumerate(self.words)}
        if len(self.index) != len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self.index[word] != i)
            raise ValueError(f"words has {twice!r} twice; every word has one vector")

    def __len__(self) -> int:
        return len(self._words())

    def __contains__(self, word: object) -> bool:
        return word in self.index if hasattr(self, "index") else False

    def __getitem__(self, word: str) -> np.ndarray:
        """The vector of a word, of shape (d,); an unknown word raises ValueError with the nearest spellings."""
        i = self._id(word)
        return self.vectors[i]

    def similarity(self, first: str, second: str) -> float:
        """Return the cosine between the vectors of two words, from -1 to 1."""
        return float(np.clip(self._unit(self[first]) @ self._unit(self[second]), -1, 1))

    def most_similar(self, word: str, n: int = 10) -> list[tuple[str, float]]:
        """Return the n words whose vectors point most nearly the same way, with their cosines, the nearest first."""
        return self._nearest(self._unit(self[word]), {self._id(word)}, n)

    def analogy(self, a: str, b: str, c: str, n: int = 1) -> list[tuple[str, float]]:
        """Answer "a is to b as c is to ?" with the n best words and their cosines, the best first.

        The same as gensim's `most_similar(positive=[b, c], negative=[a])`. a, b and c are not candidates.
        """
        x_a, x_b, x_c = (self._unit(self[word]) for word in (a, b, c))
        return self._nearest(self._unit(x_b - x_a + x_c), {self._id(word) for word in (a, b, c)}, n)

    def save(self, path: str | Path) -> None:
        """Write word2vec's text format: a line "words dimensions", then each word and its numbers."""
        words = self._words()
        if bad := next((word for word in words if not word or word.split() != [word]), None):
            raise ValueError(
                f"the word {bad!r} holds white space, which separates columns; join its parts, as in 'new_york'"
            )
        lines = [f"{len(words)} {self.vectors.shape[1]}"]
        # nine significant digits are enough to read back the very same float32
        lines += [
            " ".join([word, *(f"{x:.9g}" for x in row)]) for word, row in zip(words, self.vectors.tolist(), strict=True)
        ]
        write_atomically(path, "\n".join(lines) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read word2vec's text format, as written by us, by gensim, or by the original program."""
        table = cls()
        table._set(*read_text_format(path))
        return table

    def _words(self) -> list[str]:
        if not hasattr(self, "words"):
            raise ValueError(f"this {type(self).__name__} has no vectors yet; call fit(sentences) or load(path) first")
        return self.words

    def _id(self, word: str) -> int:
        words = self._words()
        if word not in self.index:
            near = difflib.get_close_matches(str(word), words, n=3, cutoff=0.5) or words[:3]
            raise ValueError(
                f"word={word!r} has no vector; the nearest spellings of the {len(words)} known words: {', '.join(near)}"
            )
        return self.index[word]

    @staticmethod
    def _unit(x_d: np.ndarray) -> np.ndarray:
        length = float(np.linalg.norm(x_d))
        return x_d / length if length else x_d

    def _nearest(self, query_d: np.ndarray, left_out: set[int], n: int) -> list[tuple[str, float]]:
        check_whole_numbers({"n": (n, 10)})
        length_v = np.linalg.norm(self.vectors, axis=1)
        cosine_v = self.vectors @ query_d / np.where(length_v > 0, length_v, 1)
        cosine_v[list(left_out)] = -math.inf
        best = np.argsort(-cosine_v, kind="stable")[: min(n, len(self.words) - len(left_out))]
        return [(self.words[i], float(cosine_v[i])) for i in best]


def read_text_format(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Read the words and vectors of a file in word2vec's text format; of a damaged file, ValueError says the line."""
    words: list[str] = []
    with open(path, encoding="utf-8", newline="\n") as stream:
        header = stream.readline().split()
        if len(header) != 2 or not all(part.isdigit() and part.isascii() for part in header):
            raise ValueError(f"{Path(path).name}: line 1 must be two numbers, words and dimensions, such as '1000 100'")
        n, d = map(int, header)
        rows = list(_rows(stream, words, d, Path(path).name))
    if len(rows) != n:
        raise ValueError(f"{Path(path).name}: line 1 promises {n} words, but {len(rows)} follow; the file is not whole")
    return words, np.array(rows, dtype=np.float32).reshape(n, d)


def _rows(stream: Iterable[str], words: list[str], d: int, name: str) -> Iterable[list[float]]:
    for number, line in enumerate(stream, start=2):
        word, *values = line.rstrip().split(" ")
        try:
            row = [float(value) for value in values]
        except ValueError:
            row = []
        if len(row) != d:
            raise ValueError(f"{name}: line {number} must be a word and {d} numbers; it begins {line[:40]!r}")
        words.append(word)
        yield row
