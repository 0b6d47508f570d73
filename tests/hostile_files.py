"""The table of hostile submissions, third part: not what the answer does, but what the file is.

`earned` is None where the file must be refused, with `says` in the reason.
"""

import base64
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile_answers import RIGHT, STUB, WRONG

ROOT = Path(__file__).resolve().parents[1]
Cells = list[dict[str, Any]]
Build = Callable[[Path, Path], object]


@dataclass(frozen=True, kw_only=True)
class HostileFile:
    """One row: `build(path, neighbour)` writes the file; `path` may be ignored for another name in its folder."""

    name: str
    tries: str
    build: Build
    earned: float | None = None
    says: str = ""


def exercise(answer: str, topic: str = "00-start-here", cell_id: str = "00-bits") -> dict[str, Any]:
    """An exercise notebook with one answer filled in."""
    (path,) = (ROOT / "exercises" / topic).glob("*.ipynb")
    notebook = json.loads(path.read_text("utf-8"))
    by_id(notebook["cells"], cell_id)["source"] = answer
    return notebook


def by_id(cells: Cells, name: str) -> dict[str, Any]:
    """The first cell with an nbgrader id."""
    return next(cell for cell in cells if cell["metadata"].get("nbgrader", {}).get("grade_id") == name)


def loose(source: str) -> dict[str, Any]:
    """A code cell that a learner added."""
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}


def changed(answer: str, change: Callable[[Cells], object] = lambda cells: None) -> Build:
    """Writes an exercise with one answer, and then `change` of its cells."""

    def build(path: Path, neighbour: Path) -> None:
        notebook = exercise(answer)
        change(notebook["cells"])
        path.write_text(json.dumps(notebook), "utf-8")

    return build


def text(content: str) -> Build:
    """Writes this and nothing else."""
    return lambda path, neighbour: path.write_text(content, "utf-8")


def drop_test(cells: Cells) -> None:
    """Delete the test."""
    cells.remove(by_id(cells, "00-bits-check"))


def own_test(cells: Cells) -> None:
    """Edit the test, and make it worth more."""
    test = by_id(cells, "00-bits-check")
    test["source"] = "print('00.bits: correct')"
    test["metadata"]["nbgrader"]["points"] = 1000


def another_test(cells: Cells) -> None:
    """Add a graded cell of one's own."""
    meta = {"grade": True, "solution": False, "locked": True, "grade_id": "mine", "points": 1000, "schema_version": 3}
    cells.append({**loose("1"), "metadata": {"nbgrader": meta}})


def test_into_answer(cells: Cells) -> None:
    """Make the test cell a solution cell, so that it need not be replaced."""
    test = by_id(cells, "00-bits-check")
    test["source"] = "def check(*a): pass\ndef bits(*a): return 0.0"
    test["metadata"]["nbgrader"] |= {"solution": True, "locked": False}


def odd_ids(cells: Cells) -> None:
    """Put things into the metadata that are no nbgrader marks."""
    for strange in ([], 7, "x", {"grade_id": ["00-bits"]}, {"grade_id": {}, "grade": "yes"}, None):
        cells.insert(0, {**loose("1"), "metadata": {"nbgrader": strange}})


def large(cells: Cells) -> None:
    """19 MB of outputs."""
    picture = base64.b64encode(b"x" * 14_000_000).decode()
    cells[-1]["outputs"] = [{"output_type": "display_data", "data": {"image/png": picture}, "metadata": {}}]


def many(cells: Cells) -> None:
    """Two hundred cells of one's own."""
    cells[1:1] = [loose(f"x{i} = {i}") for i in range(200)]


def link(target: str) -> Build:
    """A symbolic link instead of a file."""
    return lambda path, neighbour: os.symlink(target or neighbour, path)


def named(name: str) -> Build:
    """A right answer in a file with an evil name."""
    return lambda path, neighbour: changed(RIGHT)(path.parent / name, neighbour)


def turn_into(cells: Cells, kind: str) -> None:
    """Turn the answer into another kind of cell."""
    by_id(cells, "00-bits")["cell_type"] = kind


def row(name: str, tries: str, build: Build, earned: float | None = None, says: str = "") -> HostileFile:
    """A row of the table."""
    return HostileFile(name=name, tries=tries, build=build, earned=earned, says=says)


COPY = {**loose(RIGHT), "metadata": {"nbgrader": {"grade_id": "00-bits", "solution": True, "schema_version": 3}}}
BAD_COPY = {**COPY, "source": WRONG}
ENORMOUS = '{"cells": [], "nbformat": ' + "9" * 5000 + "}"
ROWS = [
    row("edited test", "a test that always passes, worth 1000", changed(STUB, own_test), 0),
    row("deleted test", "no test, a wrong answer", changed(WRONG, drop_test), 0),
    row("deleted test, right", "no test, a right answer", changed(RIGHT, drop_test), 2),
    row("another test", "a test of its own, worth 1000", changed(STUB, another_test), 0),
    row("test as answer", "the test marked as an answer", changed(WRONG, test_into_answer), 0),
    row("odd marks", "lists, numbers and null for nbgrader's marks", changed(RIGHT, odd_ids), 2),
    row(
        "the same id twice",
        "a right copy below a wrong answer, above the test",
        changed(WRONG, lambda cells: cells.insert(3, COPY)),
        2,
    ),
    row(
        "the same id again",
        "a right copy below the test that a wrong answer had",
        changed(WRONG, lambda cells: cells.append(COPY)),
        0,
    ),
    row(
        "a wrong copy",
        "a wrong copy between a right answer and its test",
        changed(RIGHT, lambda cells: cells.insert(3, BAD_COPY)),
        0,
    ),
    row("answer as text", "the answer in a markdown cell", changed(RIGHT, lambda c: turn_into(c, "markdown")), 2),
    row("19 MB", "19 MB of outputs around a right answer", changed(RIGHT, large), 2),
    row("two hundred cells", "many cells of its own", changed(RIGHT, many), 2),
    row("21 MB", "more than the limit", text(" " * (21 << 20)), says="the limit is"),
    row("deep JSON", "100,000 lists in each other", text("[" * 100_000), says="not a notebook"),
    row("an enormous number", "5000 digits", text(ENORMOUS), says="not a notebook"),
    row("nothing", "an empty file", text(""), says="not a notebook"),
    row("no JSON", "prose", text("my notebook"), says="not a notebook"),
    row("no UTF-8", "noise", lambda p, n: p.write_bytes(b"\xff\xfe\x00"), says="not a notebook"),
    row("a list", "JSON, not a notebook", text("[]"), says="not a notebook"),
    row("no cells", "an object without cells", text("{}"), says="not a notebook"),
    row("damaged cells", "a number for a cell", text('{"cells": [1]}'), says="not a notebook"),
    row("no answers", "a notebook of something else", text('{"cells": []}'), says="no answer cell"),
    row("a link", "the neighbour's work by a link", link(""), says="not a file"),
    row("a link to noise", "an endless device", link("/dev/zero"), says="not a file"),
    row("a pipe", "a file that never answers", lambda p, n: os.mkfifo(p), says="not a file"),
    row("a folder", "a folder called .ipynb", lambda p, n: p.mkdir(), says="not a file"),
    row("formula name", "a spreadsheet formula as file name", named("=HYPERLINK(1).ipynb"), 2),
    row("terminal name", "escapes in the file name", named("\x1b[2J\u202e.ipynb"), 2),
    row("nameless", "a file name that is no text", named(os.fsdecode(b"\xff.ipynb")), 2),
]
