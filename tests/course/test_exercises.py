"""The exercises, each with its solution: in step, gradable, laid out as a card, and hard to pass without work."""

import json
import re
from pathlib import Path

import pytest
from nbformat import from_dict

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
    # nbgrader's own rule on what the kernel gave; whole runs of nbgrader are in test_nbgrader.py
    rule = pytest.importorskip("nbgrader.utils").determine_grade
    assert {cell["metadata"]["nbgrader"]["grade_id"]: rule(from_dict(cell))[0] for cell in tests} == {
        cell.cell: cell.points for cell in grade.cells
    }


@each_solution
def test_an_untouched_exercise_is_not_written_yet(path):
    grade = grade_notebook(ROOT / "exercises" / path.relative_to(ROOT / "solutions"), ROOT)
    assert grade.points == 0 and grade.cells
    for cell in grade.cells:
        assert cell.points is None or "is not written yet" in cell.message, cell


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
