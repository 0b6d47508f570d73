"""Files that are whole or not there: whatever fails, a reader sees the old content and no part is left."""

import os
import stat
import sys

import pytest

from minillm.core.files import write_atomically


@pytest.mark.parametrize("data", [b"\x00\xff new", "new \u4e2d", ["new", " in", " pieces"], ""])
def test_what_is_written_is_read(tmp_path, data):
    path = tmp_path / "a.txt"
    path.write_text("something old and longer than the new")
    write_atomically(path, data)
    wanted = data if isinstance(data, bytes) else "".join(data).encode()
    assert path.read_bytes() == wanted and os.listdir(tmp_path) == ["a.txt"]


def breaks_in_the_middle():
    yield "half of the "
    raise KeyboardInterrupt


def test_a_kill_in_the_middle_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, breaks_in_the_middle())
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_the_target_never_holds_a_part(tmp_path):
    path, seen = tmp_path / "a.txt", []

    def pieces():
        for i in range(5):
            seen.append(path.exists())
            yield f"piece {i} " * 10_000

    write_atomically(path, pieces())
    assert seen == [False] * 5 and path.stat().st_size == 5 * 80_000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_the_mode_of_a_replaced_file_stays(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o640)
    write_atomically(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "a.txt", "new")
