"""Two stages in a process of their own: the same numbers, and nobody is left behind."""

import os
import signal
import subprocess
import sys
import time

import pytest
from small_tours import TINY

from minillm.course import tour_aside
from minillm.course.tour import run_tour, train_stages
from minillm.course.tour_aside import ASIDE, aside
from minillm.course.tour_folder import TourFolder

LEFT = """
import sys, time
from pathlib import Path
from minillm.course import tour_aside
tour_aside.usable_cores = lambda: 2
if __name__ == "__main__":
    with tour_aside.aside(Path.write_text, Path(sys.argv[1]), "began"), tour_aside.aside(time.sleep, 600):
        import multiprocessing
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        time.sleep(600)
"""


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(tour_aside, "usable_cores", lambda: 2)


def test_what_is_trained_aside_is_what_is_trained_in_turn(two_cores, tmp_path):
    with aside(train_stages, TINY, tmp_path / "aside", ASIDE):
        train_stages(TINY, tmp_path / "aside", ("eliza", "ngram"))
    folder = TourFolder(TINY, tmp_path / "aside")
    assert all(folder.read(stage) is not None for stage in ASIDE), "they were trained, and waited for"
    theirs, ours = (run_tour(TINY, tmp_path / name, until="lstm") for name in ("aside", "in turn"))
    same = ("name", "parameters", "tokens", "bits_per_character", "above_floor", "verdict", "passed")
    assert [[getattr(row, x) for x in same] for row in theirs] == [[getattr(row, x) for x in same] for row in ours]


def test_with_one_core_nothing_is_begun(monkeypatch, tmp_path):
    monkeypatch.setattr(tour_aside, "usable_cores", lambda: 1)
    with aside(tmp_path.rmdir) as both:
        assert not both
    assert tmp_path.exists()


def test_an_error_there_is_left_to_the_tour(two_cores):
    with aside(int, "not a number"):
        pass


def test_an_error_here_ends_it(two_cores):
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError), aside(time.sleep, 600):
        raise ZeroDivisionError
    assert time.monotonic() - began < 120


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
def test_killed_the_tour_leaves_nobody_behind(tmp_path):
    script = tmp_path / "left.py"
    script.write_text(LEFT)
    process = subprocess.Popen([sys.executable, script, tmp_path / "file"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    children = [int(word) for word in process.stdout.readline().split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for _ in range(600):
        if not any(alive(child) for child in children):
            break
        time.sleep(0.1)
    assert children and not any(alive(child) for child in children)


def alive(number):
    try:
        with open(f"/proc/{number}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
