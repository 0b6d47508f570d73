"""One at a time: a file that one process holds while it works, and of which the system lets go however that one ends.

Next:    minillm/core/json_lines.py
"""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def alone(
    lock: str | os.PathLike[str], patience: float = 0.0, busy: str = "another process works here"
) -> Iterator[None]:
    """Hold a lock during the block; its file is made if it is missing, and stays. Its folder must exist.

    Raises TimeoutError, with the words `busy`, if another process still holds it after `patience` seconds. Where the
    file system knows no locks nobody waits.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, alone(Path(folder) / "lock"):
    ...     os.listdir(folder)
    ['lock']
    """
    with Path(lock).open("ab") as stream:
        late = time.monotonic() + patience
        while not _locked(stream):
            if time.monotonic() > late:
                raise TimeoutError(busy)
            time.sleep(0.01)
        yield


def _locked(stream: IO[bytes]) -> bool:
    """Whether the lock is ours now."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # anything else says that this file system knows no locks; then there is none to wait for
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True
