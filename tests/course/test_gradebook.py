"""A class at a time: the table, the CSV, the pages, and a run that neither a bad file nor a stop can spoil."""

import csv
import json
import os
from pathlib import Path

import pytest
from hostile_answers import RIGHT, STUB
from hostile_files import exercise

from minillm.course import gradebook
from minillm.course.cli import main
from minillm.course.grading import CellGrade, Grade

pytestmark = pytest.mark.no_promises
ROOT = Path(__file__).resolve().parents[2]


def made_up(file, course, *, seconds, megabytes):
    """A grade without any grading: what the file is called is what happens to it."""
    name = Path(file).stem
    if name == "refused":
        raise ValueError(f"{file}: not a notebook")
    if name == "surprise":
        raise RecursionError("nobody thought of this")
    got = [("00-a-check", 2.0 if name == "good" else 0.0, "correct"), ("00-essay", None, "a person has to read this")]
    got += [("00-b-check", 0.5, "two\nlines; =1+1 " + "x" * 200)]
    cells = tuple(CellGrade(cell=cell, points=points, most=2.0, message=said) for cell, points, said in got)
    solution = "solutions/00-start-here/start-here.ipynb"
    return Grade(file=str(file), solution=solution, cells=cells, in_force=("memory",), seconds=1.6)


@pytest.fixture
def class_of_four(tmp_path, monkeypatch):
    """Four files in a folder, and a grader that does not grade."""
    monkeypatch.setattr(gradebook, "grade_notebook", made_up)
    for name in ("good", "poor", "refused", "surprise"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / f"{name}.ipynb").touch()
    return tmp_path


def test_the_table(class_of_four, capsys):
    assert gradebook.grade_files([str(class_of_four / "in")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["points", "of", "seconds", "file"]
    assert [line.split()[:3] for line in lines if line.endswith(("good.ipynb", "poor.ipynb"))] == [
        ["2.5", "6", "2"],
        ["0.5", "6", "2"],
    ]
    assert sum("not graded" in line for line in lines[:-3]) == 2 and any("RecursionError" in line for line in lines)
    assert any("by hand of 2  00-essay" in line for line in lines) and max(map(len, lines[1:])) < 200
    assert lines[-3] == "2 graded with 3 of 12 points; 2 not graded"
    assert lines[-2] == "in force: time, output, memory" and "grade strangers' work in a container" in lines[-1]


def test_the_csv(class_of_four):
    path = class_of_four / "points.csv"
    gradebook.grade_files([str(class_of_four / "in")], csv_path=str(path))
    assert path.read_bytes().startswith(b"\xef\xbb\xbf"), "spreadsheets see by this that it is UTF-8"
    rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
    assert [Path(row["file"]).stem for row in rows] == ["good", "poor", "refused", "surprise"]
    assert [row["points"] for row in rows] == ["2.5", "0.5", "", ""] and rows[0]["of"] == "6"
    assert rows[0]["by hand"] == "2" and rows[1]["lost"].startswith("00-a-check 0 of 2; 00-essay by hand of 2; ")
    assert rows[2]["lost"].startswith("not graded: ")


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=1", "'=1"), ("+1", "'+1"), ("-1", "'-1"), ("@x", "'@x"), ("  =1", "'  =1"), ('"=1', "'\"=1"),
        ("\t=1", "?=1"), ("a;=1;@b", "a;'=1;'@b"), ("＝1", "'＝1"), ("a\n=1", "a?=1"), ("a=b-c", "a=b-c"), ("", ""),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula(text, safe):
    assert gradebook.safe_cell(text) == safe


def test_a_stopped_run_keeps_what_it_has(class_of_four, monkeypatch):
    def stopped(file, *arguments, **named):
        if "poor" in file:
            raise KeyboardInterrupt
        return made_up(file, *arguments, **named)

    monkeypatch.setattr(gradebook, "grade_notebook", stopped)
    monkeypatch.chdir(ROOT)
    words = ["grade", str(class_of_four / "in"), "--csv", str(class_of_four / "points.csv")]
    assert main(words) == 130
    assert (class_of_four / "points.csv").read_text("utf-8-sig").count("\n") == 2, "the head and the first file"


def test_pages_of_files_with_one_name(class_of_four):
    for who in ("ann", "ben"):
        (class_of_four / "names" / who).mkdir(parents=True)
        (class_of_four / "names" / who / "good.ipynb").touch()
    (class_of_four / "names" / "ann-good.ipynb").touch()
    gradebook.grade_files([str(class_of_four / "names")], feedback=str(class_of_four / "a/b"))
    pages = {path.name: path.read_text("utf-8") for path in (class_of_four / "a/b").iterdir()}
    assert set(pages) == {"ann-good.html", "ann-good-2.html", "ben-good.html"}
    page = pages["ben-good.html"]
    assert "2.5 of 6 points" in page and "<pre>two\nlines; =1+1" in page and "default-src 'none'" in page


def test_which_files(tmp_path):
    for name in ("a.ipynb", "b/c.ipynb", "b/.ipynb_checkpoints/c-checkpoint.ipynb", "b/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    a, c = str(tmp_path / "a.ipynb"), str(tmp_path / "b" / "c.ipynb")
    assert gradebook.each_file([str(tmp_path)]) == [a, c]
    assert gradebook.each_file([str(tmp_path / "*.ipynb"), a]) == [a], "once each"
    assert gradebook.each_file([str(tmp_path / "none*")]) == [str(tmp_path / "none*")], "named in the report"


def test_a_folder_that_is_not_there_is_said_before_anything_is_graded(class_of_four, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    for option in ("--csv", "--json"):
        assert main(["grade", str(class_of_four / "in"), option, str(class_of_four / "none/points")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "there is no folder" in said.err


def test_status_and_json_of_real_grading(tmp_path, capsys, monkeypatch):
    """The one test here that grades: points are no matter of the exit status."""
    monkeypatch.chdir(ROOT)
    for name, answer in (("right", RIGHT), ("stub", STUB)):
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(exercise(answer)), "utf-8")
    assert main(["grade", str(tmp_path), "--json", str(tmp_path / "all.json"), "--seconds", "20"]) == 0
    grades = json.loads((tmp_path / "all.json").read_text("utf-8"))
    assert [(os.path.basename(grade["file"]), grade["points"]) for grade in grades] == [
        ("right.ipynb", 2),
        ("stub.ipynb", 0),
    ]
    assert grades[0]["seconds"] > 0 and "not written yet" in grades[1]["cells"][0]["message"]
    assert "2 graded with 2 of 4 points; 0 not graded" in capsys.readouterr().out
