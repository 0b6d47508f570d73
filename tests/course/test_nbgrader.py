"""The course in nbgrader: release, collect, autograde, feedback, export; and the same points from `minillm grade`.

Two runs. One assignment goes through every command that the README names, with good, half-right, broken and hostile
submissions. The whole course goes through nbgrader's own interface in one process, half-right, so that points that are
given and points that are refused are both compared.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minillm.course import authoring
from minillm.course.grading import grade_id, grade_notebook
from minillm.course.notebooks import normalise, notebook_text, read_notebook

pytestmark = [pytest.mark.no_promises, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = sorted((ROOT / "solutions").glob("*/*.ipynb"))
TOPIC, NAME = "02-counting-words", "counting-words.ipynb"
MOST = {"02-mle": 2, "02-continuation": 2, "02-discounted": 3, "02-next-word": 4}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A copy of the course as nbgrader sees it, and how to run a program in it."""
    pytest.importorskip("nbgrader")
    folder = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    shutil.copytree(ROOT / "solutions", folder / "solutions")
    (folder / "solutions/99-odd").mkdir()
    (folder / "solutions/99-odd/odd.ipynb").write_text(notebook_text(odd_notebook()), "utf-8")
    for name in ("grading", "exercises"):
        (folder / name).mkdir()
    return folder


def run(course, *words, program=("-m", "nbgrader")):
    """Run nbgrader, or another program, in the course; gives what it did."""
    # nbgrader calls alembic by name
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *program, *words]
    return subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, check=False)


def exported(course):
    """(student, assignment) to points, as `nbgrader export` writes them."""
    done = run(course, "export", "--to", "points.csv")
    assert done.returncode == 0, done.stderr[-2000:]
    with (course / "points.csv").open(encoding="utf-8", newline="") as lines:
        return {(row["student_id"], row["assignment"]): float(row["score"]) for row in csv.DictReader(lines)}


def odd_notebook():
    def cell(kind, name, source, **mark):
        mark = {"grade": False, "solution": False, "locked": False, "task": False, **mark}
        graded_cell = {"points": 1.5} if mark["grade"] else {}
        nbgrader = {"grade_id": name, "schema_version": 3, **mark, **graded_cell}
        made = {"cell_type": kind, "id": name, "metadata": {"nbgrader": nbgrader, "tags": ["x"]}, "source": source}
        return made | ({"outputs": [], "execution_count": 3} if kind == "code" else {})

    two = "x = '中'\n### BEGIN SOLUTION\nx = 1\n### END SOLUTION\nif x:\n\t# BEGIN SOLUTION\n\ty\n\t# END SOLUTION\n"
    cells = [
        cell("code", "two-regions", two, solution=True),
        cell("code", "no-region", "z = 1\nz", solution=True),
        cell("markdown", "written", "an answer", solution=True, grade=True),
        cell("code", "by-hand", "def f():\n    return 1", solution=True, grade=True),
        cell("code", "test", "a\n### BEGIN HIDDEN TESTS\nb\n### END HIDDEN TESTS\n", grade=True, locked=True),
        cell("markdown", "read-only", "read *this*", locked=True),
        cell("code", "locked-answer", "q = 1", solution=True, locked=True),
    ]
    free = {"cell_type": "code", "id": "free", "metadata": {"collapsed": True}, "source": "1", "outputs": []}
    return normalise({"cells": [*cells, {**free, "execution_count": None}]})


# one process for all topics: nbgrader takes seconds to start
API = """
import pathlib
from nbgrader.apps import NbGrader
from nbgrader.apps.api import NbGraderAPI
app = NbGrader()
app.load_config_file()
api = NbGraderAPI(config=app.config)
for folder in sorted(pathlib.Path("solutions").iterdir()):
    done = api.generate_assignment(folder.name, force=True, create=True)
    assert done["success"], done
for folder in sorted(pathlib.Path("grading/submitted/whole").glob("*")):
    done = api.autograde(folder.name, "whole", force=True, create=True)
    assert done["success"], done
"""


def half_right(path):
    """An exercise with every second answer filled in."""
    notebook = read_notebook(ROOT / "exercises" / path.relative_to(ROOT / "solutions"))
    answers = [cell for cell in read_notebook(path)["cells"] if authoring.is_solution(cell)]
    right = {grade_id(cell): cell["source"] for cell in answers[1::2]}
    for cell in notebook["cells"]:
        cell["source"] = right.get(grade_id(cell), cell["source"])
    return notebook


def test_the_whole_course_half_right_gets_the_same_points_from_both(course):
    for path in SOLUTIONS:
        target = course / "grading/submitted/whole" / path.relative_to(ROOT / "solutions")
        target.parent.mkdir(parents=True)
        target.write_text(json.dumps(half_right(path)), "utf-8")
    done = run(course, "-c", API, program=())
    assert done.returncode == 0, done.stderr[-3000:]
    ours = {path.relative_to(course): text for path, text in authoring.exercise_texts(course)}
    assert len(ours) == len(SOLUTIONS) + 1
    for path, text in ours.items():
        assert (course / path).read_text("utf-8") == text, f"{path}: not what nbgrader generates"
    theirs = exported(course)
    for path in SOLUTIONS:
        topic = path.parent.name
        grade = grade_notebook(course / "grading/submitted/whole" / topic / path.name, ROOT)
        assert theirs["whole", topic] == grade.points, (topic, grade)
        assert grade.points < grade.most and (grade.points > 0 or len(grade.cells) == 1)


def answered(*right, **sources):
    """The exercise of chapter 02: `right` names answers taken from the solution, `sources` others (mle="…")."""
    notebook = read_notebook(ROOT / "exercises" / TOPIC / NAME)
    solution = {grade_id(cell): cell["source"] for cell in read_notebook(ROOT / "solutions" / TOPIC / NAME)["cells"]}
    given = {f"02-{name}": solution[f"02-{name}"] for name in right}
    given |= {f"02-{name}": source for name, source in sources.items()}
    for cell in notebook["cells"]:
        cell["source"] = given.get(grade_id(cell), cell["source"])
    return notebook


def without(notebook, *names):
    """A notebook whose author deleted these cells."""
    notebook["cells"] = [cell for cell in notebook["cells"] if grade_id(cell) not in names]
    return notebook


def with_helpers():
    """Right answers in a learner's own way: helper cells, magics, a second try, warnings, tests of one's own."""
    notebook = answered("mle", continuation="continuation = helper", discounted="def discounted(): pass")
    cells = notebook["cells"]
    second = next(i for i, cell in enumerate(cells) if grade_id(cell) == "02-continuation")
    third = next(i for i, cell in enumerate(cells) if grade_id(cell) == "02-discounted")
    solution = {grade_id(cell): cell["source"] for cell in read_notebook(ROOT / "solutions" / TOPIC / NAME)["cells"]}
    start = "%matplotlib inline\nfrom minillm.course.checks import check\nimport sys, warnings\n"
    noise = "    print('working', file=sys.stderr)\n    warnings.warn('slow')\n"
    helper = "".join(solution["02-continuation"]).replace("def continuation", "def helper")
    helper = start + helper.replace("    rows =", noise + "    rows =")
    own = {"cell_type": "code", "id": "own", "metadata": {}, "outputs": [], "execution_count": None}
    cells.insert(third + 1, {**cells[third], "id": "again", "source": solution["02-discounted"]})
    cells.insert(second, {**own, "source": helper + "\ncheck('02.mle', mle)\ndisplay(1)"})
    return notebook


LOOP = "def mle(sentences):\n    while True:\n        pass"
SUBMISSIONS = {
    "ann": (lambda: read_notebook(ROOT / "solutions" / TOPIC / NAME), 11),
    "ben": (lambda: answered("mle", continuation="def continuation(sentences): return {'a': 1.0}"), 2),
    "cat": (lambda: answered("continuation", mle="def mle(sentences: return {}"), 2),
    "dan": (
        lambda: without(answered("mle", "discounted"), "02-mle-check", "02-continuation", "02-continuation-check"),
        5,
    ),
    "gus": (lambda: answered(mle="import os\nos._exit(0)"), 0),
    "hal": (lambda: answered("discounted", mle=LOOP), 3),
    "ida": (with_helpers, 7),
}
# nbgrader runs tests in the learner's own kernel, which can be told to skip them; the README says so
FOOLS = "get_ipython().input_transformers_cleanup.append(lambda lines: ['pass'])"
UNREADABLE = {"eve": "my homework", "fay": "", "kim": "[" * 100_000}


def test_every_command_of_the_flow(course, tmp_path):
    """Release, collect, autograde, feedback, export: the points are right, and bad submissions stop nobody."""
    handed_in = course / "grading/downloaded" / TOPIC / "archive"
    handed_in.mkdir(parents=True)
    for who, (make, _) in SUBMISSIONS.items():
        (handed_in / f"{who}_{NAME}").write_text(json.dumps(make()), "utf-8")
    (handed_in / f"lou_{NAME}").write_text(json.dumps(answered(mle=FOOLS)), "utf-8")
    for who, text in UNREADABLE.items():
        (handed_in / f"{who}_{NAME}").write_text(text, "utf-8")
    for words in (("generate_assignment", TOPIC, "--force", "--create"), ("zip_collect", TOPIC, "--force")):
        done = run(course, *words)
        assert done.returncode == 0, done.stderr[-2000:]
    graded = run(course, "autograde", TOPIC, "--ExecutePreprocessor.timeout=30")
    assert graded.returncode == 1, "nbgrader says when a submission could not be graded"
    done = run(course, "generate_feedback", TOPIC)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = exported(course)
    for who, (_, points) in SUBMISSIONS.items():
        assert theirs[who, TOPIC] == points, who
        file = handed_in / f"{who}_{NAME}"
        seconds = 10.0 if who == "hal" else 60.0
        assert grade_notebook(file, ROOT, seconds=seconds).points == points, f"minillm grade differs for {who}"
    assert theirs["lou", TOPIC] == 11, "nbgrader is no longer fooled: say so in the README"
    assert grade_notebook(handed_in / f"lou_{NAME}", ROOT).points == 0
    for who in UNREADABLE:
        assert theirs.get((who, TOPIC), 0.0) == 0.0
        with pytest.raises(ValueError, match="not a notebook"):
            grade_notebook(handed_in / f"{who}_{NAME}", ROOT)
    pages = {path.parts[-3] for path in (course / "grading/feedback").rglob("*.html")} - {"whole"}
    assert pages == {*SUBMISSIONS, "lou"} - {"gus"}, "a dead kernel leaves no page"
