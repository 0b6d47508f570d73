"""Notebook files: one shape for every committed notebook, and a run from the first cell to the last.

`normalise` keeps outputs (readers see them on the web, tests compare them) and removes what changes without anyone
meaning it: kernel display names, Python's patch version, timings, widget state, random cell ids, progress frames.

Next:    minillm/course/authoring.py
"""

import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from minillm.core.files import write_atomically

Notebook = dict[str, Any]
KEPT = {"tags", "nbgrader", "deletable", "editable", "slideshow", "jupyter"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CELL_SECONDS = 600
# ids that Jupyter makes up: eight hexadecimal digits, or a whole UUID
_RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]+)?")
_GOOD_ID = re.compile(r"[a-z0-9][a-z0-9_-]{1,39}")


def read_notebook(path: str | Path) -> Notebook:
    """Read a notebook file as plain data; a `ValueError` names a file that is none."""
    path = Path(path)
    try:
        notebook = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, an endless number, nested too deep
        raise ValueError(f"{path}: not a notebook ({type(error).__name__}); is it a .ipynb file?") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(_is_cell(cell) for cell in cells):
        raise ValueError(f"{path}: not a notebook of format 4 (its `cells` are missing or damaged)")
    return notebook


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, dict) or not isinstance(cell.get("metadata", {}), dict):
        return False
    source = cell.get("source")
    return isinstance(source, str) or (isinstance(source, list) and all(isinstance(line, str) for line in source))


def write_notebook(path: str | Path, notebook: Notebook) -> None:
    """Write a notebook, whole or not at all, as nbformat writes it."""
    write_atomically(path, notebook_text(notebook))


def notebook_text(notebook: Notebook) -> str:
    """The text of a notebook file, byte for byte as nbformat writes it.

    >>> notebook_text({"nbformat": 4, "cells": []})
    '{\\n "cells": [],\\n "nbformat": 4\\n}\\n'
    """
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def cell_source(cell: Notebook) -> str:
    """The text of a cell, however the file keeps it.

    >>> cell_source({"source": ["a = 1\\n", "a"]})
    'a = 1\\na'
    """
    return "".join(cell["source"])


def as_lines(text: str) -> list[str]:
    """Text as a notebook file keeps it: a list of lines that keep their ends."""
    return text.splitlines(keepends=True)


def squash_frames(text: str) -> str:
    """What a terminal is left showing after carriage returns.

    >>> squash_frames("10%\\r50%\\r100%\\ndone")
    '100%\\ndone'
    """
    return re.sub(r"(?m)^.*\r(?=[^\n])", "", text.replace("\r\n", "\n").rstrip("\r"))


def normalise(notebook: Notebook) -> Notebook:
    """The same notebook in the one shape that is committed; doing it twice changes nothing more."""
    cells: list[Notebook] = []
    count, taken = 0, set[str]()
    for index, old in enumerate(notebook["cells"]):
        cell = {"cell_type": old["cell_type"], "metadata": _kept(old.get("metadata", {}))}
        if "attachments" in old:
            cell["attachments"] = old["attachments"]
        cell["id"] = _stable_id(str(old.get("id", "")), index, taken)
        cell["source"] = as_lines(cell_source(old).rstrip("\n"))
        if cell["cell_type"] == "code":
            outputs = [o for o in map(_normal_output, _merge_streams(old.get("outputs", []))) if o]
            ran = old.get("execution_count") is not None or bool(outputs)
            count += ran
            cell["execution_count"] = count if ran else None
            for output in outputs:
                if output["output_type"] == "execute_result":
                    output["execution_count"] = count
            cell["outputs"] = outputs
        cells.append(cell)
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _kept(metadata: Notebook) -> Notebook:
    return {key: value for key, value in sorted(metadata.items()) if key in KEPT and value not in ([], {})}


def _stable_id(old: str, index: int, taken: set[str]) -> str:
    """The cell's own readable id; else one from its place. Copied cells share an id: the second gets another."""
    new = old if _GOOD_ID.fullmatch(old) and not _RANDOM_ID.fullmatch(old) else f"c{index:03d}"
    while new in taken:
        stem, _, number = new.rpartition("-x")
        new = f"{stem}-x{int(number) + 1}" if stem and number.isdigit() else f"{new}-x2"
    taken.add(new)
    return new


def _merge_streams(outputs: list[Notebook]) -> list[Notebook]:
    merged: list[Notebook] = []
    for output in outputs:
        if output["output_type"] == "stream":
            output = {**output, "text": "".join(output["text"])}
            if merged and merged[-1]["output_type"] == "stream" and merged[-1]["name"] == output["name"]:
                merged[-1]["text"] += output["text"]
                continue
        merged.append(output)
    return merged


def _normal_output(output: Notebook) -> Notebook | None:
    """An output without what is random; None when nothing is left of it."""
    if output["output_type"] == "stream":
        lines = as_lines(squash_frames(output["text"]))
        return {"name": output["name"], "output_type": "stream", "text": lines} if lines else None
    if output["output_type"] in ("display_data", "execute_result"):
        # the model that a widget view points to lives in a kernel that is gone
        data = {kind: _as_stored(kind, value) for kind, value in output["data"].items() if kind != WIDGET_VIEW}
        return {**output, "data": data, "metadata": output.get("metadata", {})} if data else None
    return dict(output)


def _as_stored(kind: str, value: Any) -> Any:
    """The value of one kind of output as nbformat stores it: text as lines, pictures as one string."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    return as_lines(value) if isinstance(value, str) and not kind.startswith("image/") else value


def run_notebook(path: str | Path, library: Path) -> tuple[Notebook, float]:
    """Execute all cells in a fresh kernel of this very Python, in the notebook's folder; gives it and the seconds.

    `library` is the folder whose `minillm` the kernel imports. Raises `ValueError` at the first cell that fails.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    path = Path(path).resolve()
    nodes: Any = nbformat.reads(notebook_text(normalise(read_notebook(path))), as_version=4)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="minillm-ipython-") as private:
        quiet = ["--log-level=40"]  # errors only: ipykernel warns about local sockets, on the author's terminal
        client = NotebookClient(nodes, timeout=CELL_SECONDS, km=this_kernel(), extra_arguments=quiet)
        try:
            # cleanup_kc: nbclient leaves a kernel alone that it was given, and it would live on
            client.execute(cleanup_kc=True, cwd=str(path.parent), env=kernel_environment(library, private))
        except CellExecutionError as error:
            raise ValueError(f"{path.name}: {error.ename}: {error.evalue}\n{_plain(error.traceback)}") from None
        except (CellTimeoutError, DeadKernelError) as error:
            raise ValueError(f"{path.name}: {type(error).__name__}: {_plain(str(error))}") from None
    # nbformat's nodes are dicts of their own: back to plain data
    return normalise(json.loads(json.dumps(nodes))), time.monotonic() - start


def this_kernel() -> Any:
    """A kernel manager that starts this very Python, whatever kernels are installed under the same name."""
    from jupyter_client.manager import AsyncKernelManager

    from minillm.course.kernel import ThisPython

    return AsyncKernelManager(kernel_spec_manager=ThisPython(), kernel_name="python3")


def kernel_environment(library: Path, private: str) -> dict[str, str]:
    """The environment of a kernel whose outputs are kept: our library first, nothing shown that moves."""
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(library), *inherited]),
        "MINILLM_QUIET": "1",
        "PYTHONHASHSEED": "0",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "IPYTHONDIR": private,
    }


def _plain(text: str) -> str:
    """Text without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
