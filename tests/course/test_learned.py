"""What a learner has solved: noted in a learner's notebook and nowhere else, and never lost, doubled or in the way."""

import errno
import html
import inspect
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minillm.course import learned
from minillm.course.checks import check
from minillm.course.cli import main
from minillm.course.places import FOLDER
from minillm.course.progress import QUIET

ROOT = Path(__file__).resolve().parents[2]
OPENED = "JPY_SESSION_NAME"


def bits(total_nats, characters):
    """The answer to exercise 00.bits."""
    if characters < 1:
        raise ValueError
    return total_nats / math.log(2) / characters


@pytest.fixture
def mine(monkeypatch, tmp_path):
    """A learner's folder, which is not there yet, and nothing that silences."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "my"))
    monkeypatch.delenv(QUIET, raising=False)
    monkeypatch.delenv(OPENED, raising=False)
    return tmp_path / "my"


def stored(folder):
    return json.loads((folder / learned.FILE).read_text("utf-8"))


def test_a_solved_exercise_is_noted_once_with_its_time(mine):
    said = learned.note_solved("02.counts")
    assert said == "", "no exercise has this name, so there is nothing to count"
    first = stored(mine)
    assert first["version"] == 1 and list(first["solved"]) == ["02.counts"]
    assert abs(time.time() - learned.datetime.fromisoformat(first["solved"]["02.counts"]).timestamp()) < 60
    assert learned.note_solved("02.counts") == "" and stored(mine) == first
    learned.note_solved("01.patterns")
    assert list(stored(mine)["solved"]) == ["01.patterns", "02.counts"]


def test_what_is_said_counts_the_exercises_of_the_chapter(mine):
    names = sorted(learned._exercises(ROOT, "01"))
    said = [learned.note_solved(name) for name in names]
    assert len(names) == 4 and said[0] == "Chapter 01: 1 of 4 exercises solved."
    assert said[-1] == "Chapter 01 is done: all 4 exercises are solved."
    assert learned.note_solved("01.withdrawn") == said[-1], "an exercise that is gone counts nowhere"


@pytest.mark.parametrize(
    ("audience", "opened", "quiet", "noted"),
    [
        ("notebook", "exercises/00-start-here/start-here.ipynb", "", True),
        ("notebook", "C:\\course\\exercises\\00-start-here\\start-here.ipynb", "", True),
        ("notebook", "/any/where/notebooks/solutions-of-mine.ipynb", "", True),
        ("notebook", "/home/ann/solutions/minillm/exercises/00-start-here/start-here.ipynb", "", True),
        ("notebook", "solutions/00-start-here/start-here.ipynb", "", False),  # a teacher looks
        ("notebook", "/home/ann/minillm/solutions/00-start-here/start-here.ipynb", "", False),
        ("notebook", "C:\\course\\solutions\\00-start-here\\start-here.ipynb", "", False),
        ("notebook", "", "", False),  # nbclient, nbconvert, nbgrader: executed, not opened
        ("notebook", "exercises/00-start-here/start-here.ipynb", "1", False),  # author run, nbval, grading
        ("terminal", "exercises/00-start-here/start-here.ipynb", "", False),
        ("nobody", "exercises/00-start-here/start-here.ipynb", "", False),  # the examiner of `minillm grade`
    ],
)
def test_only_a_learners_notebook_notes(mine, monkeypatch, capsys, audience, opened, quiet, noted):
    monkeypatch.setattr(learned, "audience", lambda: audience)
    shell = type("Shell", (), {"user_ns": {}})
    monkeypatch.setitem(sys.modules, "IPython", type("IPython", (), {"get_ipython": staticmethod(lambda: shell)}))
    monkeypatch.setenv(OPENED, opened)
    monkeypatch.setenv(QUIET, quiet)
    check("00.bits", bits)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "00.bits: correct" and (mine / learned.FILE).exists() == noted
    assert rest == (["Chapter 00 is done: its exercise is solved."] if noted else [])


def test_a_notebook_in_vs_code_is_a_learners(mine, monkeypatch):
    monkeypatch.setattr(learned, "audience", lambda: "notebook")
    shell = type("Shell", (), {"user_ns": {"__vsc_ipynb_file__": "c:\\course\\exercises\\a.ipynb"}})
    monkeypatch.setitem(sys.modules, "IPython", type("IPython", (), {"get_ipython": staticmethod(lambda: shell)}))
    assert learned.is_learner()


def test_a_wrong_answer_is_not_noted(mine, monkeypatch):
    monkeypatch.setattr("minillm.course.checks.is_learner", lambda: True)
    with pytest.raises(AssertionError):
        check("00.bits", lambda nats, characters: 0.0)
    assert not mine.exists()


def test_in_a_real_kernel(mine, tmp_path):
    """As JupyterLab starts it, and as a tool starts it that only executes."""
    from jupyter_client.manager import start_new_kernel

    cell = f"import math\nfrom minillm.course.checks import check\n{inspect.getsource(bits)}\ncheck('00.bits', bits)"
    for opened, noted in (("", False), ("exercises/00-start-here/start-here.ipynb", True)):
        environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), **({OPENED: opened} if opened else {})}
        manager, client = start_new_kernel(env=environment, extra_arguments=["--log-level=40"])
        printed: list[dict] = []
        try:
            reply = client.execute_interactive(
                cell, timeout=60, output_hook=lambda message, kept=printed: kept.append(message["content"])
            )
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
        text = "".join(content.get("text", "") for content in printed)
        assert reply["content"]["status"] == "ok" and text.startswith("00.bits: correct\n")
        assert ("is done" in text) == noted == (mine / learned.FILE).exists()


DAMAGED = {
    "half": b'{"version": 1, "solved": {"00.bi',
    "empty": b"",
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "of the future": b'{"version": 2, "solved": {}}',
    "no names": b'{"version": 1, "solved": {"../../x": "2026"}}',
    "no times": b'{"version": 1, "solved": {"00.bits": true}}',
    "not solved": b'{"version": 1}',
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("by", ["note", "read"])
def test_a_damaged_file_is_kept_and_a_new_one_begun(mine, data, by):
    mine.mkdir()
    for number in (1, 2):  # twice: the second copy does not take the place of the first
        (mine / learned.FILE).write_bytes(data + b" " * (number - 1))
        said = learned.note_solved("00.bits") if by == "note" else learned.read_solved()[1]
        kept = f"my/progress.json.damaged-{number}"
        assert said.startswith(f"my/progress.json was damaged: a new one was begun, the old one is kept as {kept}.")
        assert (mine.parent / kept).read_bytes() == data + b" " * (number - 1)
    assert learned.read_solved()[0].keys() == ({"00.bits"} if by == "note" else set())


def test_missing_is_no_damage(mine):
    assert learned.read_solved() == ({}, "") and not mine.exists()
    mine.mkdir()
    assert learned.read_solved() == ({}, "")


WRITER = """
import sys
from minillm.course import learned
for n in range(25):
    said = learned.note_solved(f"{sys.argv[1]}.exercise_{n}")
    assert "could not" not in said, said
"""


def test_two_notebooks_that_write_at_once_lose_nothing(mine):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, chapter]) for chapter in ("91", "92")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(stored(mine)["solved"]) == 50


def test_who_was_killed_holds_no_lock(mine):
    mine.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", "from minillm.course import learned as l, places as p; import time\n"
         "with l.alone(p.learner_folder() / l.LOCK):\n    print('held', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout.readline() == b"held\n"
    try:
        learned_patience, learned.PATIENCE = learned.PATIENCE, 0.05
        assert learned.note_solved("00.bits") == (
            "(It could not be noted in my/progress.json: another notebook holds the file.)"
        )
    finally:
        learned.PATIENCE = learned_patience
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert "could not" not in learned.note_solved("00.bits") and "00.bits" in stored(mine)["solved"]


def test_a_full_disk_costs_the_note_and_nothing_else(mine, monkeypatch, capsys):
    learned.note_solved("01.patterns")
    before = (mine / learned.FILE).read_bytes()
    monkeypatch.setattr("minillm.course.checks.is_learner", lambda: True)
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("minillm.core.files.os.fsync", lambda _: (_ for _ in ()).throw(full))
    check("00.bits", bits)
    said = capsys.readouterr()
    assert (
        said.out == ("00.bits: correct\n(It could not be noted in my/progress.json: No space left on device.)\n")
        and said.err == ""
    )
    assert (mine / learned.FILE).read_bytes() == before
    assert sorted(path.name for path in mine.iterdir()) == [learned.LOCK, learned.FILE]


def test_a_folder_that_cannot_be_is_told(mine, capsys):
    mine.write_text("a file where the folder should be")
    assert learned.note_solved("00.bits").startswith("(It could not be noted in my/progress.json: ")
    assert learned.read_solved() == ({}, "")
    mine.unlink()
    (mine / learned.FILE).mkdir(parents=True)
    assert "could not be noted" in learned.note_solved("00.bits")
    assert learned.read_solved()[1].startswith("my/progress.json cannot be read (")


def test_the_overview_knows_every_chapter_and_every_exercise(mine):
    seen = learned.overview()
    assert [one.notebook for one in seen.chapters] == sorted(path.name for path in ROOT.glob("notebooks/*.ipynb"))
    graded = [
        cell["metadata"]["nbgrader"]["grade_id"]
        for path in ROOT.glob("solutions/*/*.ipynb")
        for cell in json.loads(path.read_text("utf-8"))["cells"]
        if cell["metadata"].get("nbgrader", {}).get("grade")
    ]
    assert sum(one.exercises for one in seen.chapters) == len(graded) > 70
    titles = {one.number: one.title for one in seen.chapters}
    assert titles["00"] == "Start here" and titles["01"] == "Rules and Eliza"
    assert all("-" not in title and len(title) > 2 for title in titles.values())


def test_the_overview_counts_what_is_solved(mine):
    for name in ("00.bits", "01.withdrawn", *sorted(learned._exercises(ROOT, "01"))[:3]):
        learned.note_solved(name)
    seen = {one.number: one for one in learned.overview().chapters}
    assert seen["00"].is_done and (seen["01"].solved, seen["01"].exercises, seen["01"].is_done) == (3, 4, False)
    lines = str(learned.overview()).splitlines()
    assert re.fullmatch(r"00  Start here +# +1 of 1, done", lines[0])
    assert re.fullmatch(r"01  Rules and Eliza +###\. +3 of 4", lines[1])
    assert re.match(rf"4 of \d+ exercises solved, 1 of {len(seen)} chapters done\.", lines[-1])
    page = learned.overview()._repr_html_()
    assert '<a href="01-rules-and-eliza.ipynb">01 · Rules and Eliza</a>' in page and "●●●○" in page


def test_a_stored_notebook_shows_nobodys_progress(mine, monkeypatch):
    empty = str(learned.overview())
    learned.note_solved("00.bits")
    assert str(learned.overview()) != empty
    monkeypatch.setenv(QUIET, "1")
    assert str(learned.overview()) == empty


def test_titles_are_shown_as_text(mine):
    one = learned.ChapterState(number="01", title="<script>", notebook='a".ipynb', solved=0, exercises=0)
    page = learned.Overview(chapters=(one,), notice="<b>")._repr_html_()
    assert "<script>" not in page and "<b>" not in page and html.escape('a".ipynb') in page and "no exercises" in page


def test_a_broken_chapter_or_exercise_costs_its_own_row(mine, monkeypatch, tmp_path):
    for place in ("notebooks", "exercises/07-odd"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "notebooks/07-half-saved.ipynb").write_text("{")
    (tmp_path / "exercises/07-odd/odd.ipynb").write_text("{")
    monkeypatch.setattr(learned, "find_course", lambda: tmp_path)
    (row,) = learned.overview().chapters
    assert (row.number, row.title, row.exercises, row.is_done) == ("07", "Half saved", 0, False)


def test_in_a_terminal(mine, capsys):
    learned.note_solved("00.bits")
    assert main(["progress"]) == 0
    assert "Start here" in capsys.readouterr().out.splitlines()[0]
