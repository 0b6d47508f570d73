"""A file that only grows: one JSON object a line, each on the disk before the next is written.

    append  =  one write of the whole line, then fsync           mend  =  half of a last line goes to FILE.torn

A program that is killed has lost nothing but, at worst, half of the line that it was writing. A disk that is full takes
nothing of the new line: what was there before is there still, and ends where it ended.

Next:    minillm/core/tensor_files.py
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

TORN = ".torn"  # beside such a file: halves of lines that were found at its end


def append_line(path: str | os.PathLike[str], fields: Mapping[str, Any], *, wait: bool = True) -> None:
    """Add an object as one line; when this returns it is on the disk. The file is made if it is missing.

    Without `wait` it is only handed to the system: a killed program loses nothing then, but a power cut may. Raises
    OSError when the disk refuses, ValueError when the file ends in half a line: `mend_lines` first.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     append_line(f"{folder}/a.jsonl", {"a": 1})
    ...     append_line(f"{folder}/a.jsonl", {"a": 2})
    ...     Path(f"{folder}/a.jsonl").read_text()
    '{"a": 1}\\n{"a": 2}\\n'
    """
    path = Path(path)
    if path.exists() and path.stat().st_size:
        with path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                raise ValueError(f"path={os.fspath(path)!r} ends in half a line; mend(path) keeps that half aside")
    _write_end(path, json.dumps(fields, ensure_ascii=False).encode() + b"\n", wait)


def whole_lines(path: str | os.PathLike[str]) -> tuple[list[tuple[int, bytes]], bytes]:
    """The lines of a file that end, each with its number, empty ones left out; and the half line behind them.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a").write_text("one\\n\\nthree\\nfo")
    ...     whole_lines(Path(folder, "a"))
    ([(1, b'one'), (3, b'three')], b'fo')
    """
    lines = Path(path).read_bytes().split(b"\n")  # not splitlines: a text may hold other signs that end lines
    torn = lines.pop()
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()], torn


def object_of(line: bytes) -> dict[str, Any]:
    """A line as an object; ValueError with the reason for anything else.

    >>> object_of(b'{"a": 1}')
    {'a': 1}
    """
    try:
        fields = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise ValueError(f"{line[:60]!r} is not JSON in UTF-8 ({error})") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{line[:60]!r} must be an object")
    return fields


def mend_lines(path: str | os.PathLike[str], check: Callable[[bytes], object] = object_of) -> str | None:
    """Make a file end with a whole line. Returns the half line that is now in `path` + ".torn", None if there was none.

    A last line that is whole but for its end, so that `check` raises no ValueError, is ended, not put aside. Nobody
    else may write to the file meanwhile.
    """
    path = Path(path)
    whole, newline, torn = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    if not torn:
        return None
    try:
        check(torn)
    except ValueError:
        _write_end(path.with_name(path.name + TORN), torn + b"\n")  # first the copy, then the cut
        os.truncate(path, len(whole) + len(newline))
        return torn.decode("utf-8", "replace")
    _write_end(path, b"\n")
    return None


def _write_end(path: Path, data: bytes, wait: bool = True) -> None:
    """Add bytes to a file in one write, all or none, and wait until the disk has them."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
    try:
        before = os.fstat(handle).st_size
        written = os.write(handle, data)
        if written < len(data):
            os.ftruncate(handle, before)  # the part that went in goes out again: the file ends where it ended
            raise OSError(
                f"path={os.fspath(path)!r}: only {written} of {len(data)} bytes could be written; is the disk full?"
            )
        if wait:
            os.fsync(handle)
    finally:
        os.close(handle)
