"""The empty folder in which a submission runs: how much lies in it, and how it is removed, whatever was built inside.

A learner's code may nest folders deeper than a path can name, take away their permissions or fill them with names.
Neither counting nor removing may therefore recurse, follow links or trust that a folder can be read: what cannot be
counted counts as too much, and removing moves every inner folder to the top before it looks inside.

Next:    minillm/course/grading.py
"""

import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator

MOST_ENTRIES = 50_000


@contextlib.contextmanager
def empty_folder(prefix: str) -> Iterator[str]:
    """Lend a new empty folder, and remove it with everything in it.

    >>> with empty_folder("minillm-doctest-") as folder:
    ...     os.makedirs(os.path.join(folder, "a/b"))
    >>> os.path.exists(folder)
    False
    """
    folder = os.path.realpath(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # what cannot be removed stays; the next file is graded all the same
            remove(folder)


def remove(folder: str) -> None:
    """Remove a folder, however deep it is nested: no path longer than two names below it is ever used."""
    number = itertools.count()
    while entries := _entries(folder):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in _entries(entry.path):
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, 0o700)  # a folder that moves has to be writable itself
                os.rename(inner.path, _free_name(folder, number))
            os.rmdir(entry.path)
    os.rmdir(folder)


def bytes_held(folder: str) -> int:
    """Bytes of all files in a folder, 4096 more for each entry; `sys.maxsize` when they cannot be counted.

    >>> with empty_folder("minillm-doctest-") as folder:
    ...     bytes_held(folder)
    0
    """
    total, count, waiting = 0, 0, [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    total += entry.stat(follow_symlinks=False).st_size + 4096
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    if count > MOST_ENTRIES:
                        return sys.maxsize
        except FileNotFoundError:  # removed while we looked
            continue
        except OSError:  # locked, or deeper than a path can say
            return sys.maxsize
    return total


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return list(entries)


def _free_name(folder: str, number: Iterator[int]) -> str:
    return next(path for n in number if not os.path.lexists(path := os.path.join(folder, f"removed-{n}")))
