"""Files that are whole or not there: write beside the target, then rename.

A rename within one folder is atomic on every system that the course runs on, so a reader of `path` sees the old
content or the new one, never half of it, whatever is killed in between.

Next:    minillm/core/tensor_files.py
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes | str | Iterable[str]) -> None:
    """Write bytes, or text as UTF-8 (in one piece or in many), to `path`, whole or not at all; its folder must exist.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "a.txt", "whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    with replacing(path) as temporary, temporary.open("wb") as stream:
        for piece in (data,) if isinstance(data, bytes | str) else data:
            stream.write(piece.encode("utf-8") if isinstance(piece, str) else piece)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lend an empty file beside `path` for others to write; it takes the place of `path` when the block ends well.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    try:
        yield (temporary := Path(name))
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())  # the content is on the disk before the name points to it
        # mkstemp makes private files; keep the mode of the file that is replaced, else what `open` would have given
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(name)
        raise
    sync_folder(path.parent)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Wait until the names in a folder are on the disk too: a rename that only memory knows is lost with the power.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sync_folder(folder)
    """
    if os.name != "posix":  # elsewhere a folder cannot be opened for this
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
