"""Points for exercises without nbgrader: `minillm grade FILES…`, made for submissions that nobody has read.

    this process ── job, verdicts ── examiner (tests from solutions/) ── plain data ── answers (a learner's code)

One examiner and one answers' process for each submission, in an empty folder that is removed afterwards. A
submission cannot print its result or change its tests, because neither is in its process: what it sends is taken for
the value of a function call, and nothing else. Of the notebook that was handed in the answer cells are used (by their
nbgrader ids) and the cells that a learner added, in the learner's order; tests come from `solutions/`. So the points
are those of nbgrader (tests/course/test_nbgrader.py), where nbgrader is not fooled.

Defended on every system, and tested with the table of hostile notebooks in tests/hostile_answers.py: leaving
(`sys.exit`, `os._exit`), changed builtins, checks and library, objects that claim to equal anything, forged output,
endless loops, endless output, edited and deleted test cells. A process that dies or hangs costs the exercise it was
asked about, and no other. Defended where the system allows (the report says what was in force): memory; on Linux
also new processes, signals, the network, and all files but Python, minillm without its checks, and the empty folder
(`grading_sandbox`).

Not defended: holes in the kernel; reading `solutions/` and the checks where Landlock is missing (macOS, Windows, old
Linux); memory on macOS and Windows; a function that calls the library's own instead of doing the work; an answer that
was copied from `solutions/` by hand; anything that a person reads (written answers are marked "by hand"). Where the
filter of system calls is missing, a submission that runs as the same user could stop the grader, but not make it give
points.

Limits of the tests: an answer gets and gives plain data (`minillm/course/checks.py` says which). What it changes in
place in its arguments comes back only through `expect_inputs_kept`; gradients do not cross.

Next:    minillm/course/gradebook.py
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minillm
from minillm.course.authoring import is_grade, is_solution
from minillm.course.grading_answers import runnable
from minillm.course.grading_folder import empty_folder
from minillm.course.notebooks import Notebook, cell_source, read_notebook

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
    seconds: float

    @property
    def points(self) -> float:
        """The points of all cells that are graded by tests."""
        return sum(cell.points or 0.0 for cell in self.cells)

    @property
    def most(self) -> float:
        """The points that could be had."""
        return sum(cell.most for cell in self.cells)


def grade_notebook(file: str | Path, course: Path, *, seconds: float = 60.0, megabytes: int = 2048) -> Grade:
    """Grade one notebook against the solution that shares its cells; `seconds` is the limit for each graded cell.

    Raises `ValueError` for a file that is no submission to this course.
    """
    if not seconds > 0 or megabytes < 256:
        raise ValueError(f"seconds={seconds} must be positive and megabytes={megabytes} at least 256; 60 and 2048 work")
    start = time.monotonic()
    notebook = _read_submission(Path(file))
    solution_path = _find_solution(notebook, course, str(file))
    solution = read_notebook(solution_path)
    with empty_folder("minillm-grade-") as folder:
        job = {
            "cells": _job_cells(solution, submitted_cells(notebook, solution)),
            "library": str(Path(minillm.__file__).resolve().parents[1]),
            "folder": folder,
            "seconds": seconds,
            "megabytes": megabytes,
        }
        verdicts, in_force = _examine(job)
    cells = tuple(_cell_grade(cell, verdicts) for cell in solution["cells"] if is_grade(cell))
    name, took = solution_path.relative_to(course).as_posix(), time.monotonic() - start
    return Grade(file=str(file), solution=name, cells=cells, in_force=tuple(in_force), seconds=took)


def _read_submission(path: Path) -> Notebook:
    """A file that was handed in; refuses what is no plain file, or too large to be a notebook."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{path}: a link or a device, not a file; hand in the notebook itself")
    if path.exists() and path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size:,} bytes; the limit is {MOST_BYTES:,}. Clear its outputs first")
    return read_notebook(path)


def submitted_cells(notebook: Notebook, solution: Notebook) -> dict[str, list[str]]:
    """What a learner wrote for each answer cell of a solution: the cell itself, and cells of their own around it.

    As in nbgrader, where everything runs from top to bottom: a cell that the learner added, or a copy of an answer,
    counts for the next test below it.
    """
    asked = {grade_id(cell): cell for cell in solution["cells"] if grade_id(cell)}
    given = {cell_source(cell) for cell in solution["cells"]}
    written: dict[str, list[str]] = {}
    loose: list[str] = []
    open_answer, tested = "", set[str]()  # the last answer without a test so far; those that had theirs
    for cell in notebook["cells"]:
        name, source = grade_id(cell), cell_source(cell)
        if name in asked and is_solution(asked[name]) and name not in tested:
            written.setdefault(name, []).extend([*loose, source])
            loose, open_answer = [], name
        elif name in asked and is_grade(asked[name]):
            if open_answer:
                written[open_answer] += loose
                loose = []
            open_answer, tested = "", set(written)
        elif cell.get("cell_type") == "code" and source not in given and (name not in asked or name in tested):
            loose.append(source)
    if open_answer:
        written[open_answer] += loose
    return written


def grade_id(cell: Notebook) -> str:
    """The nbgrader id of a cell, "" where it has none; a submission may hold anything there."""
    meta = cell.get("metadata", {}).get("nbgrader")
    name = meta.get("grade_id") if isinstance(meta, dict) else None
    return name if isinstance(name, str) else ""


def _find_solution(notebook: Notebook, course: Path, file: str) -> Path:
    """The solution notebook that shares most answer cells with a submission, whatever the file is called."""
    there = {grade_id(cell) for cell in notebook["cells"]}
    best, most = None, 0
    for path in sorted((course / "solutions").glob("*/*.ipynb")):
        shared = there & {grade_id(cell) for cell in read_notebook(path)["cells"] if is_solution(cell)}
        if len(shared) > most:
            best, most = path, len(shared)
    if best is None:
        raise ValueError(f"{file}: holds no answer cell of this course; hand in a notebook from exercises/")
    return best


def _job_cells(solution: Notebook, written: dict[str, list[str]]) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = []
    for index, cell in enumerate(solution["cells"]):
        if cell["cell_type"] != "code":
            continue
        name = grade_id(cell) or f"cell {index}"
        kind = "answer" if is_solution(cell) else "test" if is_grade(cell) else "setup"
        source = runnable(cell_source(cell))
        cells.append({"kind": kind, "id": name, "source": source, "submitted": written.get(name, [])})
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
        try:
            message = json.loads(line)
        except ValueError:  # a line that a killed examiner did not finish
            continue
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
