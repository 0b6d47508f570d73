"""The exercises, each with its solution: in step, gradable, laid out as a card, and hard to pass without work."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minillm.course import authoring
from minillm.course.checks import CHECK_NAME, find_check
from minillm.course.grading import grade_notebook
from minillm.course.notebooks import cell_source, normalise, notebook_text, read_notebook, run_notebook

pytestmark = pytest.mark.no_promises
ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = sorted((ROOT / "solutions").glob("*/*.ipynb"))
KINDS = ("Reproduce", "Modify", "Invent", "Find the bug")
CARD = re.compile(rf"\*({'|'.join(KINDS)}) · difficulty ([1-5]) of 5 · (\d+) minutes\*")
each_solution = pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)


def meta(cell):
    return cell["metadata"].get("nbgrader", {})


def graded(path):
    """(card, answer, test) sources of each exercise of a solutions notebook."""
    cells = read_notebook(path)["cells"]
    by_id = {meta(cell).get("grade_id"): cell for cell in cells}
    for cell in cells:
        if meta(cell).get("grade") and not meta(cell).get("solution"):
            stem = meta(cell)["grade_id"].removesuffix("-check")
            yield stem, by_id.get(f"{stem}-card"), by_id.get(stem), cell


def test_there_are_solutions():
    assert SOLUTIONS


def test_exercises_are_in_step_with_solutions(capsys):
    stale = authoring.author_exercises(ROOT, check=True)
    assert not stale, f"{capsys.readouterr().out}run: minillm author exercises"


@each_solution
def test_layout_of_cards(path):
    assert notebook_text(normalise(read_notebook(path))) == path.read_text("utf-8"), "run: minillm author normalise"
    count = 0
    for stem, card, answer, test in graded(path):
        count += 1
        assert card is not None and answer is not None, (
            f"{stem}: wants cells {stem}-card and {stem} before {stem}-check"
        )
        text, code, tests = cell_source(card), cell_source(answer), cell_source(test)
        name = f"{stem[:2]}.{stem[3:].replace('-', '_')}"
        assert text.startswith(f"### Exercise {name}: "), f"{stem}: the card begins with its name"
        assert CARD.search(text), f"{stem}: a line such as *Reproduce · difficulty 2 of 5 · 10 minutes*"
        assert "**Objective.**" in text and text.count("<details>") == 2 and text.count("</details>") == 2, stem
        assert re.search(r"(?m)^(def|class) \w+", code) and '"""' in code and "->" in code, f"{stem}: a typed stub"
        assert code.count("### BEGIN SOLUTION") == code.count("### END SOLUTION") >= 1, stem
        assert CHECK_NAME.fullmatch(name) and find_check(name), stem
        assert f'check("{name}", ' in tests and tests.count("### BEGIN HIDDEN TESTS") == 1, stem
        assert meta(test)["points"] > 0 and meta(test)["locked"]
    assert count >= 1


@each_solution
def test_solutions_run_clean_and_score_full_marks(path):
    notebook, _ = run_notebook(path, ROOT)
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)
    # a value as the last line of a graded cell would be partial credit to nbgrader
    tests = [cell for cell in notebook["cells"] if meta(cell).get("grade")]
    assert not any(output["output_type"] == "execute_result" for cell in tests for output in cell["outputs"])
    grade = grade_notebook(path, ROOT)
    assert grade.points == grade.most > 0, [cell for cell in grade.cells if cell.points != cell.most]


@each_solution
def test_an_untouched_exercise_is_not_written_yet(path):
    grade = grade_notebook(ROOT / "exercises" / path.relative_to(ROOT / "solutions"), ROOT)
    assert grade.points == 0 and grade.cells
    for cell in grade.cells:
        assert cell.points is None or "is not written yet" in cell.message, cell


@pytest.fixture
def nbgrader_course(tmp_path, monkeypatch):
    """A copy of the course as nbgrader sees it, with one more notebook of odd cells."""
    pytest.importorskip("nbgrader")
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    shutil.copytree(ROOT / "solutions", tmp_path / "solutions")
    (tmp_path / "solutions/99-odd").mkdir()
    (tmp_path / "solutions/99-odd/odd.ipynb").write_text(notebook_text(odd_notebook()), "utf-8")
    for folder in ("grading", "exercises"):
        (tmp_path / folder).mkdir()
    # nbgrader calls alembic by name
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def run(*command):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def nbgrader(*words):
    run("-m", "nbgrader", *words)


# one process for all topics: nbgrader takes seconds to start
GENERATE = """
import pathlib
from nbgrader.apps import NbGrader
from nbgrader.apps.api import NbGraderAPI
app = NbGrader()
app.load_config_file()
api = NbGraderAPI(config=app.config)
for folder in sorted(pathlib.Path("solutions").iterdir()):
    done = api.generate_assignment(folder.name, force=True, create=True)
    assert done["success"], done
"""


@pytest.mark.slow
def test_exercises_are_what_nbgrader_would_write(nbgrader_course):
    run("-c", GENERATE)
    ours = {path.relative_to(nbgrader_course): text for path, text in authoring.exercise_texts(nbgrader_course)}
    assert len(ours) == len(SOLUTIONS) + 1
    for path, text in ours.items():
        assert (nbgrader_course / path).read_text("utf-8") == text, path


@pytest.mark.slow
def test_nbgrader_gives_full_marks_to_a_solution_and_none_to_a_stub(nbgrader_course):
    """Generate, hand in, autograde, read the points: once, on chapter 00."""
    topic = "00-start-here"
    nbgrader("generate_assignment", topic, "--force", "--create")
    sources = {"ann": "solutions", "bob": "exercises"}
    for who, source in sources.items():
        target = nbgrader_course / "grading/submitted" / who / topic
        target.mkdir(parents=True)
        shutil.copy(nbgrader_course / source / topic / "start-here.ipynb", target)
    nbgrader("autograde", topic)
    nbgrader("export", "--to", "points.csv")
    lines = (nbgrader_course / "points.csv").read_text("utf-8").splitlines()
    head = lines[0].split(",")
    rows = [dict(zip(head, line.split(","), strict=False)) for line in lines[1:]]
    points = {row["student_id"]: float(row["score"]) for row in rows if row["assignment"] == topic}
    most = sum(meta(test)["points"] for *_, test in graded(ROOT / "solutions" / topic / "start-here.ipynb"))
    assert points == {"ann": most, "bob": 0.0}


def test_a_wrong_region_is_named(tmp_path):
    course = tmp_path
    (course / "solutions/01-x").mkdir(parents=True)
    path = course / "solutions/01-x/x.ipynb"
    bad = {"BEGIN SOLUTION": "not marked as a solution", "### BEGIN HIDDEN TESTS": "not marked as a test"}
    for source, said in bad.items():
        cells = [{"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}]
        path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
        with pytest.raises(ValueError, match=said) as caught:
            list(authoring.exercise_texts(course))
        assert "solutions/01-x/x.ipynb" in str(caught.value)
