"""All hostile submissions in one run of `minillm grade`: each scores what it earned, and the next file is graded."""

import contextlib
import csv
import io
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile_answers import FORGING, JUDGING, LEAVING, RIGHT, VALUES
from hostile_files import ROWS, exercise
from hostile_programs import PROGRAMS

from minillm.course import gradebook, grading

pytestmark = [pytest.mark.no_promises, pytest.mark.skipif(os.name != "posix", reason="links, pipes and names of POSIX")]
ROOT = Path(__file__).resolve().parents[2]
ANSWERS = [*LEAVING, *JUDGING, *FORGING, *VALUES, *PROGRAMS]
TOPICS = {"00": "00-start-here", "05": "05-neural-language-models", "17": "17-lora"}
MEGABYTES = 512


@dataclass(frozen=True)
class Outcome:
    """What `minillm grade` made of the whole table."""

    points: dict[str, float | None]
    said: dict[str, str]
    seconds: dict[str, float]
    in_force: tuple[str, ...]
    printed: str
    table: list[list[str]]
    pages: list[str]
    left: list[str]
    status: int


def write_all(folder):
    """Every row as a file of its own; gives its file name by the name of the row."""
    neighbour = folder / "neighbour.ipynb"
    neighbour.write_text(json.dumps(exercise(RIGHT)), "utf-8")
    files = {}
    paths = {"COURSE": str(ROOT), "HOME": str(Path.home()), "NEIGHBOUR": str(neighbour)}
    constants = "".join(f"{name} = {value!r}\n" for name, value in paths.items())
    for row in ANSWERS:
        topic = TOPICS[row.exercise[:2]]
        path = folder / f"{row.name.replace(' ', '-')}.ipynb"
        source = constants + row.source if any(name in row.source for name in paths) else row.source
        path.write_text(json.dumps(exercise(source, topic, row.exercise)), "utf-8")
        files[row.name] = path
    for row in ROWS:
        path = folder / f"{row.name.replace(' ', '-')}.ipynb"
        before = set(folder.iterdir())
        row.build(path, neighbour)
        (files[row.name],) = set(folder.iterdir()) - before
    assert len(files) == len(ANSWERS) + len(ROWS), "a name is used twice"
    return {**files, "neighbour": neighbour}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """One run over the whole table, the honest neighbour last."""
    base = tmp_path_factory.mktemp("hostile")
    for name in ("in", "temporary", "pages"):
        (base / name).mkdir()
    files = write_all(base / "in")
    grades, problems = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(base / "temporary"))
        patch.setattr(tempfile, "tempdir", None)
        patch.chdir(ROOT)
        graded = gradebook._graded

        def noted(file, course, _, megabytes):
            start = time.monotonic()
            # for torch, half a gigabyte is too little to be loaded at all
            row = graded(file, course, limits.get(file, 20.0), megabytes * (4 if limits.get(file, 0) > 60 else 1))
            grades[file], problems[file] = row.grade, row.problem
            seconds[file] = time.monotonic() - start
            return row

        seconds, limits = {}, {str(files[row.name]): row.seconds for row in ANSWERS}
        patch.setattr(gradebook, "_graded", noted)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status = gradebook.grade_files(
                [str(path) for path in files.values()], megabytes=MEGABYTES,
                csv_path=str(base / "points.csv"), feedback=str(base / "pages"),
            )  # fmt: skip
    tempfile.tempdir = None
    points = {name: grades[str(path)] and grades[str(path)].points for name, path in files.items()}
    said = {
        name: "\n".join(cell.message for cell in grades[str(path)].cells) if grades[str(path)] else problems[str(path)]
        for name, path in files.items()
    }
    took = {name: seconds[str(path)] for name, path in files.items()}
    return Outcome(
        points, said, took, grades[str(files["neighbour"])].in_force,
        printed.getvalue(), list(csv.reader(io.StringIO((base / "points.csv").read_text("utf-8-sig")))),
        [page.read_text("utf-8") for page in (base / "pages").iterdir()], os.listdir(base / "temporary"), status,
    )  # fmt: skip


@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: row.name)
def test_an_answer_scores_what_it_earned(row, outcome):
    if missing := set(row.needs) - set(outcome.in_force):
        pytest.skip(f"this system has not: {', '.join(missing)}")
    assert outcome.points[row.name] == row.earned, outcome.said[row.name]
    assert row.says in outcome.said[row.name]
    assert all(c.isprintable() or c == "\n" for c in outcome.said[row.name])
    assert outcome.seconds[row.name] < 20 + row.seconds, "limits end it, not the last deadline"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_file_scores_what_it_earned(row, outcome):
    assert outcome.points[row.name] == row.earned, outcome.said[row.name]
    assert row.says in outcome.said[row.name]


def test_the_run_goes_on_to_the_last_file(outcome):
    assert outcome.points["neighbour"] == 2 and len(outcome.points) == len(ANSWERS) + len(ROWS) + 1
    refused = [row for row in ROWS if row.earned is None]
    assert outcome.status == 1 and f"; {len(refused)} not graded" in outcome.printed
    assert len(outcome.pages) == len(outcome.points) - len(refused)


def test_nothing_of_theirs_reaches_a_terminal_a_spreadsheet_or_a_page(outcome):
    assert all(c.isprintable() or c == "\n" for c in outcome.printed)
    assert len(outcome.table) == 1 + len(outcome.points)
    assert not [cell for row in outcome.table for cell in row if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert not [page for page in outcome.pages if "<script" in page]
    assert any("&lt;script&gt;=1+1" in page for page in outcome.pages)


def test_nothing_is_left_behind(outcome):
    assert outcome.left == []
    if sys.platform != "linux":
        return
    alive = [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"hostile" in _bytes(path)]
    assert [_bytes(path) for path in alive if b"minillm-grade-" in _bytes(path)] == []


def _bytes(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_submission_needs_limits_that_make_sense():
    for wrong in ({"seconds": 0}, {"seconds": float("nan")}, {"megabytes": 100}):
        with pytest.raises(ValueError, match="60 and 2048 work"):
            grading.grade_notebook("x.ipynb", ROOT, **wrong)
