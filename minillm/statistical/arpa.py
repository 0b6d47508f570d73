"""The ARPA format: an n-gram model as a text file that KenLM, SRILM and others read.

    \\data\\              one line "ngram n=how many" for each order, then for each order a section
    \\n-grams:           log10 p(w | h) <tab> the n words <tab> log10 γ, the backoff weight of the n words as context
    \\end\\

Paper:   the format is Doug Paul's (MIT Lincoln Laboratory); described in Stolcke 2002, "SRILM - An Extensible
         Language Modeling Toolkit", and its manual page ngram-format(5).
Names:   our log_backoff is the third column; both columns are log10 in the file and nats in memory.
Differs: probability 0 has no logarithm: it is written as -99 (SRILM's habit) and -99 or less is read as 0. KenLM
         refuses a file of unigrams alone, so one gets an empty 2-gram section, which is dropped when read back.
Next:    minillm/statistical/ngram.py
"""

import math
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from minillm.core.files import write_atomically
from minillm.statistical.ngram_counts import END, START, UNKNOWN, find
from minillm.statistical.smoothing import Level

LOG_ZERO = -99.0
MAX_ORDER = 6  # what KenLM is built for by default
_BREAKS_A_LINE = re.compile(r"[\s\0]", re.ASCII)
_LN10 = math.log(10)


def write_arpa(path: str | os.PathLike[str], levels: list[Level], vocabulary: list[str]) -> None:
    """Write the levels as an ARPA file, whole or not at all; `vocabulary` names the events by id.

    Raises ValueError for a word that the format cannot hold: empty, with white space, or "<UNK>" (read as "<unk>").
    """
    for word in vocabulary:
        if not word or _BREAKS_A_LINE.search(word) or word == "<UNK>":
            raise ValueError(
                f"word {word!r} cannot stand in an ARPA file; words there are not empty, hold no white space "
                "and are not '<UNK>'; rename it before fit"
            )
    write_atomically(path, _lines(levels, vocabulary))


def _lines(levels: list[Level], vocabulary: list[str]) -> Iterator[str]:
    sizes = [len(level.key_n) for level in levels]
    yield "\\data\\\n"
    yield from (f"ngram {n}={size}\n" for n, size in enumerate(sizes + [0] * (len(sizes) == 1), start=1))
    words = [*vocabulary, START]
    texts = words
    for n, level in enumerate(levels, start=1):
        if n > 1:
            context_n, last_n = np.divmod(level.key_n, len(vocabulary))
            texts = [f"{texts[c]} {words[w]}" for c, w in zip(context_n.tolist(), last_n.tolist(), strict=True)]
        log_prob = np.clip(level.log_prob_n / _LN10, LOG_ZERO, 0.0).tolist()
        yield f"\n\\{n}-grams:\n"
        if n == len(levels):
            yield from (f"{p:.9g}\t{text}\n" for p, text in zip(log_prob, texts, strict=True))
        else:
            backoff = np.maximum(level.log_backoff_n / _LN10, LOG_ZERO).tolist()
            yield from (f"{p:.9g}\t{text}\t{b:.9g}\n" for p, text, b in zip(log_prob, texts, backoff, strict=True))
    yield "\n\\2-grams:\n\n\\end\\\n" if len(levels) == 1 else "\n\\end\\\n"


def read_arpa(path: str | os.PathLike[str]) -> tuple[list[Level], list[str]]:
    """Read levels and vocabulary from an ARPA file of orders 1 to 6 in UTF-8.

    A missing "<unk>" gets probability 0. Raises ValueError that names the file and the line where it is malformed.
    """
    return _Reader(Path(path)).read()


class _Reader:
    """Reads line by line and knows where it is, so that every complaint has a line number.

    It stays with bytes, whose `split` knows the white space of ASCII alone, as KenLM does: a word may hold other kinds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.ids: dict[bytes, int] = {}
        self.levels: list[Level] = []

    def wrong(self, what: str) -> ValueError:
        return ValueError(f"{self.path.name} line {self.number}: {what}")

    def read(self) -> tuple[list[Level], list[str]]:
        with open(self.path, "rb") as file:
            self.file = file
            while self.next_line() != b"\\data\\":  # what stands before it is comment
                pass
            sizes = self.read_sizes()
            vocabulary = self.read_unigrams(sizes[0], len(sizes) == 1)
            for n, size in enumerate(sizes[1:], start=2):
                self.read_ngrams(n, size, n == len(sizes))
            if (line := self.next_full_line()) != b"\\end\\":
                raise self.wrong(f"expected \\end\\, found {_text(line)}")
        if len(sizes) == 2 and sizes[1] == 0:
            del self.levels[1]
        return self.levels, vocabulary

    def next_line(self) -> bytes:
        raw = self.file.readline()
        self.number += 1
        if not raw:
            raise self.wrong("the file ends early: an ARPA file goes from \\data\\ to \\end\\")
        return raw.strip()

    def next_full_line(self) -> bytes:
        while not (line := self.next_line()):
            pass
        return line

    def read_sizes(self) -> list[int]:
        sizes: list[int] = []
        line = self.next_line()
        while line.startswith(b"ngram"):
            match = re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line)
            if match is None or int(match[1]) != len(sizes) + 1:
                raise self.wrong(f"expected 'ngram {len(sizes) + 1}=<how many>', found {_text(line)}")
            sizes.append(int(match[2]))
            line = self.next_line()  # an empty line ends the list
        if line:
            raise self.wrong(f"expected an empty line after the 'ngram n=' lines, found {_text(line)}")
        if not 1 <= len(sizes) <= MAX_ORDER:
            raise self.wrong(f"the file has {len(sizes)} orders; 1 to {MAX_ORDER} can be read")
        return sizes

    def rows(self, n: int, size: int, last: bool) -> Iterator[tuple[float, list[bytes], float]]:
        """Yield log p, the n words and the log backoff weight, in nats, of each line of a section."""
        if (line := self.next_full_line()) != f"\\{n}-grams:".encode():
            raise self.wrong(f"expected \\{n}-grams:, found {_text(line)}")
        for done in range(size):
            fields = self.next_full_line().split()
            if fields[0].startswith(b"\\"):
                raise self.wrong(f"{size} {n}-grams were announced, the section ends after {done}")
            if len(fields) != n + 1 and (last or len(fields) != n + 2):
                also = "" if last else ", with or without a backoff weight"
                raise self.wrong(f"expected a log10 probability and {n} words{also}; found {len(fields)} fields")
            log_prob = self.number_in(fields[0])
            if log_prob > 0:
                raise self.wrong(f"log10 probability {_text(fields[0])} is above 0")
            yield log_prob, fields[1 : n + 1], self.number_in(fields[n + 1]) if len(fields) == n + 2 else 0.0

    def number_in(self, field: bytes) -> float:
        try:
            value = float(field)
        except ValueError:
            value = math.nan
        if math.isnan(value) or value == math.inf:
            raise self.wrong(f"{_text(field)} is not a log10 number")
        return -math.inf if value <= LOG_ZERO else value * _LN10

    def read_unigrams(self, size: int, last: bool) -> list[str]:
        """Read the first level and return the vocabulary: "<unk>", "</s>", then the words as they stand."""
        found: dict[str, tuple[float, float]] = {}
        for log_prob, (word,), backoff in self.rows(1, size, last):
            try:
                text = word.decode("utf-8")
            except UnicodeDecodeError as error:
                raise self.wrong(f"byte {error.start} of the word is not UTF-8") from None
            if text in found:
                raise self.wrong(f"the unigram {text!r} stands there twice")
            found[text] = log_prob, backoff
        for marker in (START, END):
            if marker not in found:
                raise self.wrong(f"there is no unigram {marker} in the section that ends here")
        found.setdefault(UNKNOWN, (-math.inf, 0.0))
        found[START] = -math.inf, found[START][1]  # whatever stands there, it is never an event
        vocabulary = [UNKNOWN, END, *(word for word in found if word not in (UNKNOWN, END, START))]
        self.ids = {word.encode("utf-8"): i for i, word in enumerate([*vocabulary, START])}
        pairs = np.array([found[word] for word in [*vocabulary, START]])
        self.levels.append(Level(key_n=np.arange(len(pairs)), log_prob_n=pairs[:, 0], log_backoff_n=pairs[:, 1]))
        return vocabulary

    def read_ngrams(self, n: int, size: int, last: bool) -> None:
        log_probs, backoffs, lines, words = (array(kind) for kind in "ddqq")
        for log_prob, ngram, backoff in self.rows(n, size, last):
            log_probs.append(log_prob)
            backoffs.append(backoff)
            lines.append(self.number)
            words.extend(self.ids.get(word, -1) for word in ngram)
        line_at, word = np.array(lines, np.int64), np.array(words, np.int64).reshape(-1, n)
        self.complain(line_at, np.any(word < 0, axis=1), "a word is not among the unigrams")
        self.complain(line_at, np.any(word[:, 1:] == len(self.ids) - 1, axis=1), f"{START} follows nothing")
        node = word[:, 0]
        for level, column in zip(self.levels[1:], word.T[1:], strict=False):
            node = np.where(node >= 0, find(level.key_n, node * (len(self.ids) - 1) + column), -1)
        self.complain(line_at, node < 0, f"its first {n - 1} words are not among the {n - 1}-grams")
        key = node * (len(self.ids) - 1) + word[:, -1]
        rank = np.argsort(key, kind="stable")
        again = np.zeros(len(key), bool)
        again[rank[1:]] = key[rank[1:]] == key[rank[:-1]]
        self.complain(line_at, again, "this n-gram stands there twice")
        log_prob_n, log_backoff_n = np.array(log_probs)[rank], np.array(backoffs)[rank]
        self.levels.append(Level(key_n=key[rank], log_prob_n=log_prob_n, log_backoff_n=log_backoff_n))

    def complain(self, line_at: np.ndarray, wrong: npt.ArrayLike, what: str) -> None:
        if len(bad := np.flatnonzero(wrong)):
            self.number = int(line_at[bad[0]])
            raise self.wrong(what)


def _text(found: bytes) -> str:
    return repr(found[:60].decode("utf-8", "replace"))
