"""What authors of chapters use: `minillm author exercises | normalise | run`.

    minillm author run notebooks/02-counting-words.ipynb     execute, save outputs, normalise, print the seconds
    minillm author normalise --check notebooks/*.ipynb       one shape for committed notebooks; --check only looks
    minillm author exercises --check                         exercises/ from solutions/; --check says what is stale

`solutions/NN-topic/topic.ipynb` is the one source of an exercise: an nbgrader instructor notebook (its layout is
described in `minillm/course/checks.py`). What `exercises` writes is, byte for byte, what `nbgrader generate_assignment`
writes, so that a teacher may use either; a test holds that.

How a chapter marks its cells: a prediction is a markdown cell with the tag `predict` (or that begins with **Predict**),
then the code, then a markdown cell with the folded answer `<details><summary>Why</summary>…</details>`. A cell that
prints decimals after training may carry a tag such as `rtol-1e-2`; `nbval-ignore-output` runs it without comparing.

Names:   nbgrader calls solutions/ the source and exercises/ the release step.
Next:    minillm/course/grading.py
"""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from minillm.core.files import write_atomically
from minillm.course.notebooks import (
    Notebook,
    as_lines,
    cell_source,
    normalise,
    notebook_text,
    read_notebook,
    run_notebook,
    write_notebook,
)

CODE_STUB, TEXT_STUB = ("# YOUR CODE HERE", "raise NotImplementedError"), ("YOUR ANSWER HERE",)


def make_exercise(solution: Notebook) -> Notebook:
    """What learners get of a solution notebook: stubs for answers, no hidden tests, no outputs.

    Raises `ValueError` for a region that is nested, never ends, or stands in the wrong kind of cell.
    """
    notebook = copy.deepcopy(solution)
    notebook["metadata"].pop("celltoolbar", None)
    for cell in notebook["cells"]:
        meta = cell["metadata"].get("nbgrader", {})
        source = cell_source(cell)
        if meta.get("task") or "BEGIN MARK SCHEME" in source or "### AUTOTEST" in source:
            raise ValueError("nbgrader's task cells, mark schemes and AUTOTEST lines are not used in this course")
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            for key in ("collapsed", "scrolled"):
                cell["metadata"].pop(key, None)
        source = _hide(cell, source)
        if is_grade(cell) or is_solution(cell) or is_locked(cell):
            cell["metadata"]["deletable"] = False
            if is_locked(cell):
                cell["metadata"]["editable"] = False
            meta["cell_type"] = cell["cell_type"]
            meta["checksum"] = checksum(cell, source)
        cell["source"] = as_lines(source)
    return notebook


def _hide(cell: Notebook, source: str) -> str:
    """The source of a cell without what only teachers see."""
    stub = CODE_STUB if cell["cell_type"] == "code" else TEXT_STUB
    if is_solution(cell):
        source = drop_region(source, "SOLUTION", stub) if "BEGIN SOLUTION" in source else "\n".join(stub)
    elif "BEGIN SOLUTION" in source:
        raise ValueError("BEGIN SOLUTION stands in a cell that is not marked as a solution cell")
    if "BEGIN HIDDEN TESTS" in source and not is_grade(cell):
        raise ValueError("BEGIN HIDDEN TESTS stands in a cell that is not marked as a test cell")
    return drop_region(source, "HIDDEN TESTS")


def drop_region(source: str, name: str, stub: Sequence[str] = ()) -> str:
    """Replace each region from `BEGIN name` to `END name` by the stub, at the region's indent.

    >>> drop_region("def f():\\n    ### BEGIN SOLUTION\\n    return 1\\n    ### END SOLUTION", "SOLUTION", ["pass"])
    'def f():\\n    pass'
    """
    kept: list[str] = []
    inside = False
    for line in source.split("\n"):
        if f"BEGIN {name}" in line:
            if inside:
                raise ValueError(f"BEGIN {name} stands inside another BEGIN {name}")
            inside = True
            indent = line[: len(line) - len(line.lstrip())]
            kept += [indent + text for text in stub]
        elif f"END {name}" in line:
            inside = False
        elif not inside:
            kept.append(line)
    if inside:
        raise ValueError(f"BEGIN {name} has no END {name}")
    return "\n".join(kept)


def is_grade(cell: Notebook) -> bool:
    """Whether nbgrader gives points for this cell."""
    return bool(cell["metadata"].get("nbgrader", {}).get("grade", False))


def is_solution(cell: Notebook) -> bool:
    """Whether a learner writes in this cell."""
    return bool(cell["metadata"].get("nbgrader", {}).get("solution", False))


def is_locked(cell: Notebook) -> bool:
    """Whether a learner must leave this cell as it is (nbgrader's rule: tests always, answers never)."""
    if is_solution(cell) or is_grade(cell):
        return not is_solution(cell)
    return bool(cell["metadata"].get("nbgrader", {}).get("locked", False))


def checksum(cell: Notebook, source: str) -> str:
    """nbgrader's own sum over a cell, by which it sees that a cell was changed (not a safeguard against anyone)."""
    meta = cell["metadata"]["nbgrader"]
    parts = [source, cell["cell_type"], str(is_grade(cell)), str(is_solution(cell)), str(is_locked(cell))]
    parts.append(meta["grade_id"])
    if is_grade(cell):
        parts.append(str(float(meta["points"])))
    return hashlib.md5("".join(parts).encode("utf-8"), usedforsecurity=False).hexdigest()


def exercise_texts(course: Path) -> Iterator[tuple[Path, str]]:
    """Each exercise file that `solutions/` asks for, with the text that it should have."""
    for source in sorted((course / "solutions").glob("*/*.ipynb")):
        try:
            text = notebook_text(make_exercise(read_notebook(source)))
        except ValueError as error:
            raise ValueError(f"{source.relative_to(course)}: {error}") from None
        yield course / "exercises" / source.relative_to(course / "solutions"), text


def author_exercises(course: Path, *, check: bool = False) -> int:
    """Write `exercises/` from `solutions/` and remove what has no source; with `check`, only say what is out of step.

    Returns the exit status: 1 when `check` found something.
    """
    wanted = dict(exercise_texts(course))
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_bytes() != text.encode("utf-8")]
    extra = sorted(set((course / "exercises").glob("*/*.ipynb")) - set(wanted))
    for path in [*stale, *extra]:
        print("out of step:" if check else "removed" if path in extra else "wrote", path.relative_to(course).as_posix())
    if check:
        return int(bool(stale or extra))
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, wanted[path])
    for path in extra:
        path.unlink()
    return 0


def author_normalise(files: Sequence[str], *, check: bool = False) -> int:
    """Bring notebooks into their one shape; with `check`, only say which are not. Returns the exit status."""
    wrong = 0
    for file in files:
        path = Path(file)
        text = notebook_text(normalise(read_notebook(path)))
        if path.read_bytes() == text.encode("utf-8"):
            continue
        wrong += 1
        print(f"{'not normal' if check else 'wrote'}: {file}")
        if not check:
            write_notebook(path, normalise(read_notebook(path)))
    return int(check and wrong > 0)


def author_run(files: Sequence[str], library: Path) -> int:
    """Execute notebooks, save their outputs and print the seconds of each; a notebook that fails keeps its old outputs.

    Returns the exit status: 1 when one failed.
    """
    failed = 0
    for file in files:
        try:
            notebook, seconds = run_notebook(file, library)
        except ValueError as error:
            failed += 1
            print(f"failed: {error}")
            continue
        write_notebook(file, notebook)
        print(f"{seconds:6.1f} s  {file}")
    return int(failed > 0)
