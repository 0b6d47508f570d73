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
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

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
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(_lines(levels, vocabulary))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


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
    """Reads line by line and knows where it is, so that every complaint has a line number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0

    def wrong(self, what: str) -> ValueError:
        return ValueError(f"{self.path.name} line {self.number}: {what}")

    def read(self) -> tuple[list[Level], list[str]]:
        with open(self.path, "rb") as file:
            self.file = file
            while (line := self.next_line()) != "\\data\\":  # what stands before it is comment
                pass
            sizes = self.read_sizes()
            sections = [self.read_section(n, size, n == len(sizes)) for n, size in enumerate(sizes, start=1)]
            if (line := self.next_full_line()) != "\\end\\":
                raise self.wrong(f"expected \\end\\, found {line[:60]!r}")
        if len(sizes) == 2 and sizes[1] == 0:
            del sections[1]
        return self.build(sections)

    def next_line(self) -> str:
        raw = self.file.readline()
        self.number += 1
        if not raw:
            raise self.wrong("the file ends early: an ARPA file goes from \\data\\ to \\end\\")
        try:
            return raw.decode("utf-8").strip(" \t\r\n")
        except UnicodeDecodeError as error:
            raise self.wrong(f"byte {error.start} of the line is not UTF-8") from None

    def next_full_line(self) -> str:
        while not (line := self.next_line()):
            pass
        return line

    def read_sizes(self) -> list[int]:
        sizes: list[int] = []
        line = self.next_full_line()
        while line.startswith("ngram"):
            match = re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line, re.ASCII)
            if match is None or int(match[1]) != len(sizes) + 1:
                raise self.wrong(f"expected 'ngram {len(sizes) + 1}=<how many>', found {line[:60]!r}")
            sizes.append(int(match[2]))
            line = self.next_line()  # an empty line ends the list
        if line:
            raise self.wrong(f"expected an empty line after the 'ngram n=' lines, found {line[:60]!r}")
        if not 1 <= len(sizes) <= MAX_ORDER:
            raise self.wrong(f"the file has {len(sizes)} orders; 1 to {MAX_ORDER} can be read")
        return sizes

    def read_section(self, n: int, size: int, last: bool) -> list[tuple[int, float, list[str], float]]:
        if (line := self.next_full_line()) != f"\\{n}-grams:":
            raise self.wrong(f"expected \\{n}-grams:, found {line[:60]!r}")
        rows: list[tuple[int, float, list[str], float]] = []
        while len(rows) < size:
            fields = re.split(r"[ \t]+", self.next_full_line())
            if fields[0].startswith("\\"):
                raise self.wrong(f"{size} {n}-grams were announced, the section ends after {len(rows)}")
            if len(fields) != n + 1 and (last or len(fields) != n + 2):
                raise self.wrong(
                    f"expected a log10 probability and {n} words"
                    + ("" if last else ", with or without a backoff weight")
                    + f"; found {len(fields)} fields"
                )
            log_prob = self.number_in(fields[0])
            if log_prob > 0:
                raise self.wrong(f"log10 probability {fields[0]} is above 0")
            backoff = self.number_in(fields[n + 1]) if len(fields) == n + 2 else 0.0
            rows.append((self.number, log_prob, fields[1 : n + 1], backoff))
        return rows

    def number_in(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isnan(value) or value == math.inf:
            raise self.wrong(f"{text[:60]!r} is not a log10 number")
        return -math.inf if value <= LOG_ZERO else value * _LN10

    def build(self, sections: list[list[tuple[int, float, list[str], float]]]) -> tuple[list[Level], list[str]]:
        present = {words[0] for _, _, words, _ in sections[0]}
        for marker in (START, END):
            if marker not in present:
                raise self.wrong(f"there is no unigram {marker}")
        if UNKNOWN not in present:
            sections[0].append((self.number, -math.inf, [UNKNOWN], 0.0))
        vocabulary = [UNKNOWN, END, *sorted(present - {UNKNOWN, END, START})]
        ids = {word: i for i, word in enumerate([*vocabulary, START])}
        levels: list[Level] = []
        for n, rows in enumerate(sections, start=1):
            lines = np.array([row[0] for row in rows], np.int64)
            word = np.array([[ids.get(w, -1) for w in row[2]] for row in rows], np.int64).reshape(len(rows), n)
            self.complain(lines, np.any(word < 0, axis=1), "a word is not among the unigrams")
            node = word[:, 0]
            for level, column in zip(levels[1:], word.T[1:], strict=False):
                node = np.where(node >= 0, find(level.key_n, node * len(vocabulary) + column), -1)
            if n > 1:
                self.complain(lines, node < 0, f"its first {n - 1} words are not among the {n - 1}-grams")
                self.complain(lines, word[:, -1] == ids[START], "'<s>' follows nothing")
            key = node if n == 1 else node * len(vocabulary) + word[:, -1]
            rank = np.argsort(key, kind="stable")
            again = np.zeros(len(rows), bool)
            again[rank[1:]] = key[rank[1:]] == key[rank[:-1]]
            self.complain(lines, again, "this n-gram stands there twice")
            log_prob, backoff = (np.array([row[i] for row in rows], np.float64)[rank] for i in (1, 3))
            if n == 1:
                log_prob[ids[START]] = -math.inf
            levels.append(Level(key_n=key[rank], log_prob_n=log_prob, log_backoff_n=backoff))
        return levels, vocabulary

    def complain(self, lines: np.ndarray, wrong: npt.ArrayLike, what: str) -> None:
        if len(bad := np.flatnonzero(wrong)):
            self.number = int(lines[bad[0]])
            raise self.wrong(what)
