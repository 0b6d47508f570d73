"""Points for exercises without nbgrader: `minillm grade FILES…`, made for submissions that nobody has read.

    this process ── job, verdicts ── examiner (tests from solutions/) ── plain data ── answers (a learner's code)

One examiner and one answers' process for each submission, in an empty folder that is removed afterwards. A
submission cannot print its result or change its tests, because neither is in its process: what it sends is taken for
the value of a function call, and nothing else. Of the notebook that was handed in only the solution cells are used (by
their nbgrader ids); tests and all other cells come from `solutions/`. Helper cells that a learner added are not run.

Defended on every system, and tested with hostile notebooks in tests/course/test_grading.py: leaving (`sys.exit`,
`os._exit`), changed builtins, checks and library, objects that claim to equal anything, forged output, endless loops,
endless output, edited test cells. A process that dies or hangs costs the exercise it was asked about, and no other.
Defended where the system allows (each line of the report says what was in force): memory; on Linux also new
processes, signals, the network, and all files but Python, minillm and the empty folder (`grading_sandbox`).

Not defended: holes in the kernel; reading `solutions/` where Landlock is missing (macOS, Windows, old Linux); memory on
macOS and Windows; a function that calls the library's own instead of doing the work; anything that a person reads
(written answers are marked "by hand"). Where the filter of system calls is missing, a submission that runs as the
same user could stop the grader, but not make it give points.

Limits of the tests: an answer gets and gives plain data (`minillm/course/checks.py` says which). What it changes in
place in its arguments comes back only through `expect_inputs_kept`; gradients do not cross.

Next:    minillm/course/lab.py
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import minillm
from minillm.core.files import write_atomically
from minillm.course.authoring import is_grade, is_solution
from minillm.course.grading_answers import runnable
from minillm.course.notebooks import Notebook, cell_source, read_notebook
from minillm.course.places import find_course

MOST_BYTES = 20 * 1024 * 1024
HARDENING = ("memory", "files of at most 64 MB", "no files but its own", "no new processes, signals or network")


@dataclass(frozen=True, kw_only=True, slots=True)
class CellGrade:
    """What one graded cell got; `points` is None where a person has to read it."""

    cell: str
    points: float | None
    most: float
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """What one submission got, and which protections were in force while it ran."""

    file: str
    solution: str
    cells: tuple[CellGrade, ...]
    in_force: tuple[str, ...]

    @property
    def points(self) -> float:
        """The points of all cells that are graded by tests."""
        return sum(cell.points or 0.0 for cell in self.cells)

    @property
    def most(self) -> float:
        """The points that could be had."""
        return sum(cell.most for cell in self.cells)


def grade_files(
    files: Sequence[str], *, seconds: float = 60.0, megabytes: int = 2048, result_path: str | None = None
) -> int:
    """Grade notebooks and print the points of each; gives the exit status: 1 when a file could not be graded."""
    course = find_course(Path.cwd())
    grades: list[Grade] = []
    failed = 0
    for file in files:
        try:
            grade = grade_notebook(file, course, seconds=seconds, megabytes=megabytes)
        except ValueError as error:
            failed += 1
            print(f"not graded: {error}")
            continue
        grades.append(grade)
        print(f"{file}: {grade.points:g} of {grade.most:g} points")
        for cell in grade.cells:
            got = "by hand" if cell.points is None else f"{cell.points:g}"
            print(f"  {got:>7} of {cell.most:g}  {cell.cell}: {cell.message.splitlines()[0] if cell.message else ''}")
    if grades:
        print(f"in force: time, output, {', '.join(grades[0].in_force) or 'nothing else'}")
        if missing := [what for what in HARDENING if what not in grades[0].in_force]:
            print(f"not on this system: {', '.join(missing)}; grade strangers' work in a container")
    if result_path:
        whole = [{**asdict(grade), "points": grade.points, "most": grade.most} for grade in grades]
        write_atomically(result_path, json.dumps(whole, indent=1) + "\n")
    return int(failed > 0)


def grade_notebook(file: str | Path, course: Path, *, seconds: float = 60.0, megabytes: int = 2048) -> Grade:
    """Grade one notebook against the solution that shares its cells; `seconds` is the limit for each graded cell.

    Raises `ValueError` for a file that is no submission to this course.
    """
    if not seconds > 0 or megabytes < 256:
        raise ValueError(f"seconds={seconds} must be positive and megabytes={megabytes} at least 256; 60 and 2048 work")
    path = Path(file)
    if path.exists() and path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file}: {path.stat().st_size:,} bytes; the limit is {MOST_BYTES:,}. Clear its outputs first")
    answers = _submitted_answers(read_notebook(path))
    solution_path = _find_solution(answers, course, str(file))
    solution = read_notebook(solution_path)
    with tempfile.TemporaryDirectory(prefix="minillm-grade-") as folder:
        job = {
            "cells": _job_cells(solution, answers),
            "library": str(Path(minillm.__file__).resolve().parents[1]),
            "folder": str(Path(folder).resolve()),
            "seconds": seconds,
            "megabytes": megabytes,
        }
        verdicts, in_force = _examine(job)
    cells = tuple(_cell_grade(cell, verdicts) for cell in solution["cells"] if is_grade(cell))
    name = solution_path.relative_to(course).as_posix()
    return Grade(file=str(file), solution=name, cells=cells, in_force=tuple(in_force))


def _submitted_answers(notebook: Notebook) -> dict[str, str]:
    """What a learner wrote, by the id of the cell; of a cell that was copied, the first counts."""
    answers: dict[str, str] = {}
    for cell in notebook["cells"]:
        meta = cell.get("metadata", {}).get("nbgrader")
        if isinstance(meta, dict) and meta.get("solution") is True and isinstance(meta.get("grade_id"), str):
            answers.setdefault(meta["grade_id"], cell_source(cell))
    return answers


def _find_solution(answers: dict[str, str], course: Path, file: str) -> Path:
    """The solution notebook that shares most answer cells with a submission, whatever the file is called."""
    best, most = None, 0
    for path in sorted((course / "solutions").glob("*/*.ipynb")):
        wanted = {
            cell["metadata"]["nbgrader"]["grade_id"] for cell in read_notebook(path)["cells"] if is_solution(cell)
        }
        if len(wanted & set(answers)) > most:
            best, most = path, len(wanted & set(answers))
    if best is None:
        raise ValueError(f"{file}: holds no answer cell of this course; hand in a notebook from exercises/")
    return best


def _job_cells(solution: Notebook, answers: dict[str, str]) -> list[dict[str, str]]:
    cells: list[dict[str, str]] = []
    for index, cell in enumerate(solution["cells"]):
        if cell["cell_type"] != "code":
            continue
        name = cell["metadata"].get("nbgrader", {}).get("grade_id", f"cell {index}")
        kind = "answer" if is_solution(cell) else "test" if is_grade(cell) else "setup"
        source = runnable(cell_source(cell))
        cells.append({"kind": kind, "id": name, "source": source, "submitted": answers.get(name, "")})
    return cells


def _examine(job: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Run the examiner to its end, or to the end of its time, and collect the verdicts that it gave."""
    tests = sum(cell["kind"] == "test" for cell in job["cells"])
    # each cell has a limit of its own inside; this one is for the examiner itself
    deadline = 60.0 + job["seconds"] * (len(job["cells"]) + tests)
    environment = {**os.environ, "PYTHONPATH": job["library"], "MINILLM_QUIET": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory(prefix="minillm-examiner-") as own:
        process = subprocess.Popen(
            [sys.executable, "-m", "minillm.course.grading_examiner"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=own, env=environment, text=True, encoding="utf-8", start_new_session=os.name == "posix",
        )  # fmt: skip
        alarm = threading.Timer(deadline, process.kill)
        alarm.start()
        try:
            output, _ = process.communicate(json.dumps(job))
        finally:
            alarm.cancel()
            process.kill()
            process.wait()
    verdicts: dict[str, dict[str, Any]] = {}
    in_force: list[str] = []
    for line in output.splitlines():
        message = json.loads(line)
        if "in force" in message:
            in_force = message["in force"]
        else:
            verdicts[message["id"]] = message
    return verdicts, in_force


def _cell_grade(cell: Notebook, verdicts: dict[str, dict[str, Any]]) -> CellGrade:
    meta = cell["metadata"]["nbgrader"]
    name, most = meta["grade_id"], float(meta["points"])
    if is_solution(cell):
        return CellGrade(cell=name, points=None, most=most, message="a person has to read this answer")
    verdict = verdicts.get(name, {"passed": False, "message": "the examiner was stopped before this cell"})
    return CellGrade(cell=name, points=most if verdict["passed"] else 0.0, most=most, message=verdict["message"])
