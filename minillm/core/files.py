"""Files that are whole or not there: write beside the target, then rename.

A rename within one folder is atomic on every system that the course runs on, so a reader of `path` sees the old
content or the new one, never half of it, whatever is killed in between.

Next:    minillm/text/village.py
"""

import os
import tempfile
from pathlib import Path


def write_atomically(path: str | Path, data: bytes | str) -> None:
    """Write bytes, or text as UTF-8, to `path`, whole or not at all; its folder must exist.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "a.txt", "whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data.encode("utf-8") if isinstance(data, str) else data)
        # mkstemp makes private files; keep the mode of the file that is replaced, else what `open` would have given
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
