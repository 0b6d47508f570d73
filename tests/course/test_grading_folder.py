"""The folder of a submission can be counted and removed, whatever was built inside."""

import os
import sys

import pytest

from minillm.course.grading_folder import MOST_ENTRIES, bytes_held, empty_folder, remove

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, permissions and long paths of POSIX")


def dig(depth):
    """Folders in each other, deeper than any path can say; ends where it began."""
    here = os.open(".", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    os.fchdir(here)
    os.close(here)


def test_deeper_than_a_path(monkeypatch):
    with empty_folder("minillm-test-") as folder:
        monkeypatch.chdir(folder)
        dig(4000)
        assert bytes_held(folder) == sys.maxsize
        monkeypatch.undo()
    assert not os.path.exists(folder)


def test_links_and_locked_folders(tmp_path):
    (tmp_path / "kept").write_text("x" * 10_000)
    with empty_folder("minillm-test-") as folder:
        os.symlink(tmp_path, os.path.join(folder, "out"))
        os.symlink(folder, os.path.join(folder, "round"))
        os.makedirs(os.path.join(folder, "a/removed-0/b"))
        assert 5 * 4096 <= bytes_held(folder) < 60_000
        for name in ("a/removed-0/b", "a/removed-0", "a"):
            os.chmod(os.path.join(folder, name), 0)
        if os.geteuid() != 0:  # root reads everything
            assert bytes_held(folder) == sys.maxsize
    assert not os.path.exists(folder) and (tmp_path / "kept").exists()


def test_what_lies_in_files_is_counted(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(b"x" * 1_000_000)
    assert 1_000_000 < bytes_held(str(tmp_path)) < 1_020_000
    remove(str(tmp_path / "a"))
    assert bytes_held(str(tmp_path)) == 0


def test_too_many_names(tmp_path, monkeypatch):
    monkeypatch.setattr("minillm.course.grading_folder.MOST_ENTRIES", 9)
    assert MOST_ENTRIES > 9
    for i in range(10):
        (tmp_path / str(i)).touch()
    assert bytes_held(str(tmp_path)) == sys.maxsize
