"""The process that holds the tests while one submission is graded: no line of a learner's code ever runs in it.

The tests come from `solutions/`. A name that a learner had to define stands for an `Answer` (see `grading_desk`).
Verdicts go to a pipe that the answers' process does not have.

Job (JSON on stdin): {"cells": [{"kind": "answer" | "setup" | "test", "id", "source", "submitted": [sources]}],
"library", "folder", "seconds", "megabytes"}. Out (JSON lines on what was stdout): {"in force": […]} once, and for each
test {"id", "passed", "message"}. What an answer sends may keep a check busy or fill its memory, so this process has
limits of its own.

Next:    minillm/course/grading.py
"""

import ast
import contextlib
import io
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from minillm.course.checks import Wrong
from minillm.course.grading_desk import Desk, Gone
from minillm.course.grading_sandbox import die_with_parent, hide_memory, limit_memory

MOST_WORDS = 600  # characters of a message


class Examiner:
    """Goes through the cells in order: runs answers there, and setup and tests here."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.desk = Desk(job)
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.owner: dict[str, str] = {}  # a name that a learner has to define -> the cell that should

    def take(self, cell: dict[str, Any]) -> dict[str, Any] | None:
        """Deal with one cell; for a test, give the verdict."""
        if cell["kind"] == "test":
            return self._test(cell)
        self.desk.add(cell["id"], cell["submitted"] if cell["kind"] == "answer" else [cell["source"]])
        if cell["kind"] == "answer":
            imports, defined = split_names(cell["source"])
            self._run(imports, cell["id"])
            self.owner.update({name: cell["id"] for name in defined})
        else:
            self._set_up(cell)
        return None

    def _set_up(self, cell: dict[str, Any]) -> None:
        try:
            with _alarm(self.desk.job["seconds"] + 1), self.desk.clock():
                self._fetch(cell["source"])
                self._run(cell["source"], cell["id"])
        except Gone as gone:
            self.desk.give_up(str(gone))
        except Exception:
            pass  # it may show off an answer that is not there; the tests say what they miss

    def _test(self, cell: dict[str, Any]) -> dict[str, Any]:
        try:
            self.desk.open()
            with _alarm(self.desk.job["seconds"] + 1), self.desk.clock():
                self._fetch(cell["source"])
                self._run(cell["source"], cell["id"])
            passed, message = True, "correct"
        except Wrong as wrong:
            passed, message = False, str(wrong)
        except AssertionError as error:
            passed, message = False, str(error) or "a hidden test failed"
        except Gone as gone:
            passed, message = False, str(self.desk.give_up(str(gone)))
        except Exception as error:
            passed, message = False, f"{type(error).__name__}: {error}"
        # what an answer raised is its own text: nothing of it may steer a terminal
        message = "".join(c if c.isprintable() or c == "\n" else "?" for c in message)[:MOST_WORDS]
        return {"id": cell["id"], "passed": passed, "message": message}

    def _fetch(self, source: str) -> None:
        """Put the learner's names that this cell uses in place."""
        used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        for name in sorted(used & set(self.owner)):
            self.names.pop(name, None)
            try:
                value = self.desk.ask(op="get", name=name)
            except KeyError:
                cell = self.owner[name]
                why = self.desk.problems.get(cell, "the cell does not define it")
                raise Wrong(f"{name} is not there: cell {cell}: {why}") from None
            if type(value).__name__ == "Answer":
                value.__name__ = name
            self.names[name] = value

    def _run(self, source: str, name: str) -> None:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            exec(compile(source, name, "exec"), self.names)


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Stop a check that is still busy with what an answer gave after the answer's own time is over (POSIX)."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: object) -> None:
        raise Gone("checking what the answer gave took too long")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def split_names(source: str) -> tuple[str, list[str]]:
    """The imports of a solution cell, which run here too, and the other names that it defines at its top level.

    >>> split_names("import math\\nfrom os import path\\nlimit = 3\\ndef bits(x):\\n    import re\\n    return x")
    ('import math\\nfrom os import path', ['bits', 'limit'])
    """
    imports: list[str] = []
    names: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(ast.unparse(node))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.append(node.name)
        else:
            names += [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return "\n".join(imports), sorted(set(names))


def main() -> None:
    """Read the job, examine, write the verdicts."""
    die_with_parent()
    hide_memory()
    job = json.load(sys.stdin)
    limit_memory(max(2 * job["megabytes"], 4096))
    verdicts = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    examiner = Examiner(job)

    def tell(line: dict[str, Any]) -> None:
        verdicts.write(json.dumps(line) + "\n")
        verdicts.flush()

    try:
        with contextlib.suppress(Gone):  # a process that cannot start: the parent finds no verdicts and says so
            examiner.desk.open()
            tell({"in force": examiner.desk.in_force})
            for cell in job["cells"]:
                verdict = examiner.take(cell)
                if verdict is not None:
                    tell(verdict)
    finally:
        examiner.desk.stop("")


if __name__ == "__main__":
    main()
