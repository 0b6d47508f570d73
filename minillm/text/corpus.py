"""One door to every text of the course: a generated world, its stories, Python's manual, a file of yours, a classic.

    validation  =  the documents whose SHA-256, read as a number in 0 … 1, lies below the fraction

The split is by document and by content. So a document that comes twice lands on one side both times, a document never
changes sides when others are added, and the same text is split the same way on every machine. The share of validation
documents is the fraction only on average: with n documents, ± √(fraction (1 − fraction) / n).

Paper:   the hash as a coin for splits is common practice, e.g. Lakshmanan et al. 2020, "Machine Learning Design
         Patterns", pattern "Repeatable Splitting".
Differs: where all documents fall on one side, the one nearest to the boundary changes over, so that a corpus of two or
         more different documents always has both sides.
Next:    minillm/text/normalise.py
"""

import difflib
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from minillm.text.public_texts import PUBLIC_TEXTS, fetch_public_text
from minillm.text.stories import Story, load_stories

__all__ = ["VALIDATION_FRACTION", "Corpus", "Story", "load_corpus", "load_stories", "read_text", "split"]

VALIDATION_FRACTION = 0.1
MAX_BYTES = 64 * 2**20  # of one corpus; chapters need about 1 MB
_VILLAGE_STORIES = 2000
_SUFFIXES = (".txt", ".text", ".md", ".rst", ".tex", ".csv", ".tsv", ".json", ".jsonl", ".html", ".htm", ".xml", ".py")
_UTF16_AND_32 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_BINARY = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")  # control bytes that no text file holds


@dataclass(frozen=True, kw_only=True)
class Corpus:
    r"""A text, its documents, and a split of them that never depends on chance or order.

    `sha256` is of `text` in UTF-8. `train` and `validation` hold documents, in the order of `documents`.

    >>> corpus = Corpus(name="toy", text="a b\n\nc d\n\ne f", documents=["a b", "c d", "e f"], licence="MIT")
    >>> sorted(corpus.train + corpus.validation) == corpus.documents, len(corpus.sha256)
    (True, 64)
    """

    name: str
    text: str
    documents: list[str]
    licence: str
    fraction: float = VALIDATION_FRACTION

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            raise ValueError(f"fraction={self.fraction} of documents for validation: 0 ≤ fraction < 1, for example 0.1")

    @cached_property
    def _sides(self) -> tuple[list[str], list[str]]:
        return split(self.documents, self.fraction)

    @property
    def train(self) -> list[str]:
        """The documents to learn from."""
        return self._sides[0]

    @property
    def validation(self) -> list[str]:
        """The documents to judge with: about `fraction` of all. Empty when there is only one document."""
        return self._sides[1]

    @cached_property
    def sha256(self) -> str:
        """Of the text in UTF-8, as 64 hex digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def __repr__(self) -> str:
        return (
            f"Corpus({self.name!r}: {len(self.text):,} characters, {len(self.documents):,} documents, "
            f"{len(self.train):,} train + {len(self.validation):,} validation, licence {self.licence})"
        )


def split(documents: Sequence[str], fraction: float = VALIDATION_FRACTION) -> tuple[list[str], list[str]]:
    """Documents to train on and documents to validate with, told apart by the hash of their content.

    >>> train, validation = split([f"document {i}" for i in range(1000)])
    >>> len(train), len(validation)
    (887, 113)
    """
    coin = {document: int(hashlib.sha256(document.encode()).hexdigest()[:13], 16) / 16**13 for document in documents}
    chosen = {document for document, value in coin.items() if value < fraction}
    if fraction and len(coin) > 1:
        if not chosen:
            chosen = {min(coin, key=lambda document: coin[document])}
        elif len(chosen) == len(coin):
            chosen -= {max(coin, key=lambda document: coin[document])}
    return [d for d in documents if d not in chosen], [d for d in documents if d in chosen]


def load_corpus(name_or_path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Corpus:
    """A corpus by name, or from a UTF-8 file or a folder of them.

    Names: "village" (generated stories), "stories", "stories-zh", "python" (the language reference that comes with
    Python; its size differs by version), and the public texts, such as "tinyshakespeare", which are fetched once.
    A name comes before a path: write "./stories" for a folder of that name.

    A file is cut into documents at empty lines, or at line ends when it has no empty line. A folder has one
    document per file, by path; hidden files, files without a text suffix and empty files are passed over. A byte
    order mark is dropped, and CRLF and CR become LF. Nothing else is changed: cleaning is another step.

    Raises ValueError for what is empty, binary, not UTF-8 or larger than `max_bytes`, with file, byte and remedy.

    >>> load_corpus("stories").licence
    'MIT'
    """
    if isinstance(name_or_path, str):
        if name_or_path in _NAMED:
            return _NAMED[name_or_path]()
        if name_or_path in PUBLIC_TEXTS:
            corpus = _from_file(fetch_public_text(name_or_path), max_bytes)
            return _corpus(name_or_path, corpus.documents, PUBLIC_TEXTS[name_or_path].licence, text=corpus.text)
    path = Path(name_or_path)
    if path.is_dir():
        return _from_folder(path, max_bytes)
    if path.exists():
        return _from_file(path, max_bytes)
    names = [*_NAMED, *PUBLIC_TEXTS]
    near = difflib.get_close_matches(str(name_or_path), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"name_or_path={str(name_or_path)!r} is neither a file, nor a folder, nor a name ({', '.join(names)}){hint}"
    )


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    r"""The text of a UTF-8 file: without byte order mark, with \n at line ends. May be empty.

    Raises ValueError with the file, the byte offset and what to do, when it is no such file.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file; give a text file or a folder of text files")
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(
            f"{path} goes on after byte {max_bytes:,}, the limit; use a part of it (for example with "
            f"`head -c {max_bytes}`), or raise the limit: load_corpus(..., max_bytes=...)"
        )
    if data.startswith(_UTF16_AND_32):
        raise ValueError(f"{path}: byte 0 begins a UTF-16 or UTF-32 mark; save the file as UTF-8")
    if found := _BINARY.search(data):
        raise ValueError(
            f"{path}: byte {found.start():,} is {data[found.start()]:#04x}, which no text file holds, so this looks "
            "like a binary file; export it as plain text in UTF-8"
        )
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start + 3 * data.startswith(b"\xef\xbb\xbf")
        raise ValueError(
            f"{path}: byte {at:,} ({data[at]:#04x}) is not UTF-8 ({error.reason}); save the file as UTF-8, "
            f"for example with `iconv -f LATIN1 -t UTF-8`"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _from_file(path: Path, max_bytes: int) -> Corpus:
    text = read_text(path, max_bytes)
    if not text.strip():
        raise ValueError(
            f"{path}: no text from byte 0 to the end ({path.stat().st_size:,} bytes); give a file with text"
        )
    documents = [part.strip("\n") for part in re.split(r"\n(?:[^\S\n]*\n)+", text) if part.strip()]
    if len(documents) == 1:
        documents = [line for line in text.split("\n") if line.strip()]
    return _corpus(path.name, documents, "unknown: your own file", text=text)


def _from_folder(folder: Path, max_bytes: int) -> Corpus:
    documents: list[str] = []
    left, passed_over = max_bytes, 0
    for path in _files(folder):
        if path.suffix.lower() not in _SUFFIXES:
            passed_over += 1
            continue
        text = read_text(path, left)
        left -= path.stat().st_size
        if text.strip():
            documents.append(text.strip("\n"))
    if not documents:
        raise ValueError(
            f"{folder}: no file with text among {passed_over} others, so there is nothing from byte 0 on; put UTF-8 "
            f"files in it with one of the suffixes {' '.join(_SUFFIXES)}"
        )
    return _corpus(folder.resolve().name, documents, "unknown: your own files")


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for where, folders, files in os.walk(folder):  # does not follow links to folders, so it ends
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(where, name) for name in files if not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _corpus(name: str, documents: list[str], licence: str, text: str | None = None) -> Corpus:
    return Corpus(
        name=name, text="\n\n".join(documents) if text is None else text, documents=documents, licence=licence
    )


def _village() -> Corpus:
    from minillm.text.village import Village

    return _corpus("village", Village(seed=0).stories(_VILLAGE_STORIES), "MIT")


def _python() -> Corpus:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError(
            "the corpus 'python' is the file pydoc_data/topics.py of the standard library, and this Python was "
            "installed without it; use a full installation (on Debian: apt install python3), or another corpus"
        ) from error
    return _corpus("python", [topics[key].strip("\n") for key in sorted(topics)], "PSF-2.0")


_NAMED: dict[str, Callable[[], Corpus]] = {
    "village": _village,
    "stories": lambda: _corpus("stories", [story.text for story in load_stories()], "MIT"),
    "stories-zh": lambda: _corpus("stories-zh", [story.text_zh for story in load_stories()], "MIT"),
    "python": _python,
}
