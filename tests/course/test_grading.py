"""Points for one submission: they follow the answer and nothing else. Hostile ones are in test_grading_hostile.py."""

import json
import os
import sys
from pathlib import Path

import pytest

from minillm.course import grading

pytestmark = pytest.mark.no_promises
ROOT = Path(__file__).resolve().parents[2]
RIGHT = """
import math
def bits(total_nats, characters):
    if characters < 1:
        raise ValueError("no characters")
    return total_nats / math.log(2) / characters
"""
STUB = "def bits(total_nats, characters):\n    raise NotImplementedError\n"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="held by Linux alone")


def submit(folder, source, **changes):
    """The exercise of chapter 00 with `source` as its answer, in a file of its own."""
    notebook = json.loads((ROOT / "exercises/00-start-here/start-here.ipynb").read_text("utf-8"))
    for cell in notebook["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if name == "00-bits":
            cell["source"] = source
        if name in changes:
            cell["source"] = changes[name]
    path = folder / "handed in.ipynb"
    path.write_text(json.dumps(notebook), "utf-8")
    return path


def grade(folder, source, seconds=20.0, megabytes=1024, **changes):
    return grading.grade_notebook(submit(folder, source, **changes), ROOT, seconds=seconds, megabytes=megabytes)


def only_cell(grade_):
    (cell,) = grade_.cells
    return cell


def test_a_right_answer_gets_all_points(tmp_path):
    got = grade(tmp_path, RIGHT)
    assert (got.points, got.most, only_cell(got).message) == (2, 2, "correct")
    assert got.solution == "solutions/00-start-here/start-here.ipynb"


def test_a_stub_gets_none_and_is_told_so(tmp_path):
    got = grade(tmp_path, STUB)
    assert got.points == 0 and "not written yet" in only_cell(got).message


def test_a_wrong_answer_gets_the_diagnosis_of_the_check(tmp_path):
    got = grade(tmp_path, "import math\ndef bits(n, c): return n / c")
    assert got.points == 0 and "still nats" in only_cell(got).message


def test_hidden_tests_count(tmp_path, monkeypatch):
    """An answer that passes the visible check alone gets nothing: the hidden tests are run too."""
    course = tmp_path / "course"
    (course / "solutions/00-start-here").mkdir(parents=True)
    text = (ROOT / "solutions/00-start-here/start-here.ipynb").read_text("utf-8")
    visible = "assert bits(200.0, 100) == "
    harder = text.replace(visible, f"assert False, 'hidden but real'\\n\",\n    \"{visible}")
    assert harder != text
    (course / "solutions/00-start-here/start-here.ipynb").write_text(harder, "utf-8")
    got = grading.grade_notebook(submit(tmp_path, RIGHT), course, seconds=20)
    assert got.points == 0 and only_cell(got).message == "hidden but real"


def test_one_deadly_exercise_does_not_cost_the_next(tmp_path):
    course = two_exercises(tmp_path)
    notebook = json.loads((course / "solutions/00-two/two.ipynb").read_text("utf-8"))
    notebook["cells"][0]["source"] = "import os\ndef first(x): os._exit(3)"
    (tmp_path / "two.ipynb").write_text(json.dumps(notebook), "utf-8")
    got = grading.grade_notebook(tmp_path / "two.ipynb", course, seconds=20)
    assert [cell.points for cell in got.cells] == [0, 3, None]
    assert (got.points, got.most) == (3, 10)


def test_borrowed_functions_arrays_objects_and_iterators(tmp_path):
    course = two_exercises(tmp_path)
    got = grading.grade_notebook(course / "solutions/00-two/two.ipynb", course, seconds=30)
    assert [cell.points for cell in got.cells] == [2, 3, None], got.cells


def two_exercises(folder):
    """A course with two exercises that pass more than numbers, and a written answer."""

    def cell(name, source, **meta):
        mark = {"grade": False, "solution": False, "locked": True, "grade_id": name, "schema_version": 3, **meta}
        return {
            "cell_type": "code",
            "metadata": {"nbgrader": mark},
            "source": source,
            "outputs": [],
            "execution_count": 1,
        }

    first = "def first(x):\n    return x + 1\n"
    second = """
import numpy as np
class Second:
    def __init__(self, start): self.start = start
    def rows(self, a): return a.sum(axis=1) + self.start
    def each(self, function, items):
        for item in items: yield function(item)
"""
    tests = """
import numpy as np
shift = 2
two = Second(shift)
assert two.start == 2
got = two.rows(np.ones((3, 4), dtype="float32"))
assert got.dtype == np.float32 and got.tolist() == [6.0, 6.0, 6.0]
seen = []
assert list(two.each(lambda x: seen.append(x) or x * x, [1, 2, 3])) == [1, 4, 9] and seen == [1, 2, 3]
"""
    cells = [
        cell("first", first, solution=True, locked=False),
        cell("first-test", "assert first(1) == 2 and first(1 << 70) == (1 << 70) + 1", grade=True, points=2),
        cell("second", second, solution=True, locked=False),
        cell("second-test", tests, grade=True, points=3),
        cell("essay", "...", grade=True, solution=True, points=5),
    ]
    (folder / "course/solutions/00-two").mkdir(parents=True)
    whole = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "course/solutions/00-two/two.ipynb").write_text(json.dumps(whole), "utf-8")
    return folder / "course"


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    grade(tmp_path, RIGHT + "\nopen('mine.txt', 'w').write('x' * 1000)\n")
    assert os.listdir(tmp_path / "t") == []


def notebook(*cells):
    """(grade_id, source) pairs as a notebook; ids that begin with "test" are tests, an empty id is a learner's cell."""

    def meta(name):
        marks = {"grade_id": name, "grade": name[:4] == "test", "solution": name[:4] != "test"}
        return {"nbgrader": marks} if name else {}

    return {"cells": [{"cell_type": "code", "metadata": meta(name), "source": source} for name, source in cells]}


def test_cells_of_ones_own_count_as_in_nbgrader():
    """Everything runs from top to bottom: what stands above a test counts for it, and what stands below does not."""
    solution = notebook(("", "setup"), ("a", "A"), ("test-a", "t"), ("b", "B"), ("test-b", "t"))
    cases = {
        "as it was": ([("", "setup"), ("a", "1"), ("test-a", ""), ("b", "2"), ("test-b", "")], {"a": "1", "b": "2"}),
        "helpers": ([("", "h"), ("a", "1"), ("", "i"), ("test-a", ""), ("", "j"), ("b", "2")], {"a": "h1i", "b": "j2"}),
        "a copy above its test": ([("a", "1"), ("a", "2"), ("test-a", "")], {"a": "12"}),
        "a copy below its test": ([("a", "1"), ("test-a", ""), ("a", "2"), ("b", "3")], {"a": "1", "b": "23"}),
        "a copy after another": (
            [("a", "1"), ("test-a", ""), ("b", "2"), ("a", "3"), ("test-b", "")],
            {"a": "1", "b": "23"},
        ),
        "tests deleted": ([("a", "1"), ("b", "2"), ("", "h")], {"a": "1", "b": "2h"}),
        "unknown ids": ([("zz", "z"), ("a", "1")], {"a": "z1"}),
        "nothing": ([], {}),
    }  # fmt: skip
    for name, (cells, wanted) in cases.items():
        got = grading.submitted_cells(notebook(*cells), solution)
        assert {cell: "".join(sources) for cell, sources in got.items()} == wanted, name


def test_an_answer_may_check_itself(tmp_path):
    """The checks are not where answers run, but a learner's own `check(…)` and `display(…)` must not cost points."""
    own = "%matplotlib inline\nfrom minillm.course.checks import Wrong, check\n"
    own += "from minillm.course.checks_02 import held_out_perplexity\ndisplay(1)\n"
    after = "check('00.bits', bits)\nprint(held_out_perplexity(bits))\nhelp?\n"
    assert grade(tmp_path, own + RIGHT + after).points == 2


def test_a_setup_cell_whose_answer_dies_costs_nothing_more(tmp_path):
    """A setup cell that fetches an answer met a process that had ended, and the examiner ended with it."""
    course = two_exercises(tmp_path)
    path = course / "solutions/00-two/two.ipynb"
    whole = json.loads(path.read_text("utf-8"))
    whole["cells"].insert(1, {**whole["cells"][0], "metadata": {}, "source": "shown = first(1)"})
    path.write_text(json.dumps(whole), "utf-8")
    handed_in = json.loads(path.read_text("utf-8"))
    handed_in["cells"][0]["source"] = "import os\ndef first(x): os._exit(3)"
    (tmp_path / "two.ipynb").write_text(json.dumps(handed_in), "utf-8")
    got = grading.grade_notebook(tmp_path / "two.ipynb", course, seconds=20)
    assert [cell.points for cell in got.cells] == [0, 3, None], got.cells
