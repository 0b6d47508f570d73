"""House rules on notebooks: committed ones are complete, in order, anonymous and small; one anatomy."""

import json
import platform
import re
import statistics
import sys
from pathlib import Path

import pytest

from minillm.course.notebooks import cell_source, normalise, notebook_text, read_notebook

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WITHOUT_ANATOMY = ("00-",)  # the start has a form of its own
PARTS = ("The question", "By hand", "Predict", "Build", "See", "Break", "Practise and keep")
MOST_BYTES, MOST_LINES, MEDIAN_LINES, PREDICTIONS = 1_000_000, 25, 8, 3
PRIVATE = re.compile(r"(?<![\w.])/(home|Users|root|work|tmp|mnt|private)/|[A-Z]:\\\\?Users|site-packages")
PIXELS = re.compile(r"[A-Za-z0-9+/=\n]{200,}")


def tags(cell):
    return cell.get("metadata", {}).get("tags", [])


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]


def untidy(notebook):
    """What is wrong with a notebook as a file."""
    wrong, count = [], 0
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        skipped = "nbval-skip" in tags(cell)
        count += not skipped
        if not skipped and cell["execution_count"] != count:
            wrong.append(f"cell {number}: executed as {cell['execution_count']}, wanted {count}: run all, from the top")
        kinds = {output["output_type"] for output in cell["outputs"]}
        if "error" in kinds and "raises-exception" not in tags(cell):
            wrong.append(f"cell {number}: its output is an error")
        if any(output.get("name") == "stderr" for output in cell["outputs"]):
            wrong.append(f"cell {number}: writes to stderr")
        if not cell_source(cell).strip():
            wrong.append(f"cell {number}: is empty")
    text = PIXELS.sub("", notebook_text(notebook))
    wrong += [f"names a place on a machine: {m.group()!r}" for m in PRIVATE.finditer(text)]
    node = platform.node()
    for secret in (sys.prefix, str(ROOT), str(Path.home()), node if len(node) > 5 else ""):
        if len(secret) > 2 and secret in text:
            wrong.append(f"names {secret!r}")
    if len(notebook_text(notebook).encode()) > MOST_BYTES:
        wrong.append(f"is larger than {MOST_BYTES:,} bytes")
    return wrong


def headings(notebook):
    """All headings, as (depth, text), without what stands in blocks of code."""
    lines = "\n".join(cell_source(cell) for cell in text_cells(notebook))
    lines = re.sub(r"(?ms)^(```|~~~).*?^\1", "", lines)
    return [(len(m.group(1)), m.group(2).strip()) for m in re.finditer(r"(?m)^(#+) (.+)$", lines)]


def predictions(notebook):
    """How many times a reader commits to a guess: a marked text, then code, then a folded answer."""
    cells, found = notebook["cells"], 0
    for i, cell in enumerate(cells):
        if cell["cell_type"] == "markdown" and is_prediction(cell):
            after = cells[i + 1 : i + 5]
            code = next((k for k, c in enumerate(after) if c["cell_type"] == "code"), None)
            found += code is not None and any("<details>" in cell_source(c) for c in after[code + 1 :])
    return found


def is_prediction(cell):
    return "predict" in tags(cell) or cell_source(cell).lstrip().startswith("**Predict")


def wrong_anatomy(notebook):
    """What DESIGN section 4 asks for and is missing."""
    wrong = []
    found = headings(notebook)
    if [text for depth, text in found if depth == 1] != [text for depth, text in found[:1]]:
        wrong.append("one `#`, and it comes first")
    parts = [text for depth, text in found if depth == 2]
    if len(parts) != len(PARTS) or not all(a.startswith(b) for a, b in zip(parts, PARTS, strict=False)):
        wrong.append(f"the seven `##` are {', '.join(PARTS)}; found {', '.join(parts)}")
    if any(depth > 3 for depth, _ in found):
        wrong.append("nothing below `###`")
    if predictions(notebook) < PREDICTIONS:
        wrong.append(f"{predictions(notebook)} predictions with a folded answer, wanted {PREDICTIONS}")
    lengths = [len(cell_source(cell).splitlines()) for cell in code_cells(notebook)]
    if lengths and max(lengths) > MOST_LINES:
        wrong.append(f"a code cell of {max(lengths)} lines, at most {MOST_LINES}")
    # the formatter puts two empty lines around a function: the reader's load is in the others
    filled = [sum(bool(line.strip()) for line in cell_source(cell).splitlines()) for cell in code_cells(notebook)]
    if filled and statistics.median(filled) > MEDIAN_LINES:
        wrong.append(f"code cells of {statistics.median(filled)} lines in the median, at most {MEDIAN_LINES}")
    if not any(re.search(r"(?m)^\s*assert ", cell_source(cell)) for cell in code_cells(notebook)):
        wrong.append("no assert: each step of Build ends in one")
    return wrong


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tidy(path):
    assert untidy(read_notebook(path)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_normal(path):
    text = path.read_bytes().decode("utf-8")
    same = notebook_text(normalise(json.loads(text))) == text
    assert same, f"run: minillm author normalise {path.relative_to(ROOT)}"


@pytest.mark.parametrize(
    "path", [p for p in NOTEBOOKS if not p.name.startswith(WITHOUT_ANATOMY)], ids=lambda path: path.stem
)
def test_anatomy(path):
    assert wrong_anatomy(read_notebook(path)) == []


LINK = re.compile(r"\]\(([^)\s#:]+\.\w+)\)")  # to a file of the course


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere_and_to_the_exercises(path):
    links = [link for cell in text_cells(read_notebook(path)) for link in LINK.findall(cell_source(cell))]
    assert [link for link in links if not (path.parent / link).exists()] == []
    topic = path.stem.partition("-")[2]
    assert f"../exercises/{path.stem}/{topic}.ipynb" in links


def make(*cells):
    """A notebook from (kind, source, extra) triples."""
    made, count = [], 0
    for kind, source, *extra in cells:
        cell = {"cell_type": kind, "metadata": {}, "source": source}
        if kind == "code":
            count += 1
            cell |= {"outputs": [], "execution_count": count}
        made.append(cell | (extra[0] if extra else {}))
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


GOOD = [("markdown", "# Title"), *[("markdown", f"## {part}") for part in PARTS]]
for _ in range(PREDICTIONS):
    GOOD += [("markdown", "**Predict** it"), ("code", "assert 1 < 2"), ("markdown", "<details>why</details>")]


def test_a_good_notebook_passes():
    assert wrong_anatomy(make(*GOOD)) == [] and untidy(make(*GOOD)) == []
    assert headings(make(("markdown", "# a\n```\n# no heading\n```\n## b"))) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cells: [*cells, ("markdown", "# Another")], "one `#`"),
        (lambda cells: [c for c in cells if c[1] != "## Break"], "seven `##`"),
        (lambda cells: [*cells, ("markdown", "#### deep")], "nothing below"),
        (lambda cells: cells[:-1], "predictions"),
        (lambda cells: [*cells, ("code", "x = 1\n" * 26)], "at most 25"),
        (lambda cells: cells + [("code", "x = 1\n" * 9)] * 4, "in the median"),
        (lambda cells: [(k, s.replace("assert", "print"), *e) for k, s, *e in cells], "no assert"),
    ],
)
def test_a_wrong_anatomy_is_named(change, said):
    assert any(said in line for line in wrong_anatomy(make(*change(GOOD))))


def output(text, name="stdout"):
    return {"outputs": [{"output_type": "stream", "name": name, "text": text}]}


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (("code", "x", {"execution_count": 7}), "executed as 7"),
        (("code", "x", {"execution_count": None}), "executed as None"),
        (("code", "x", {"outputs": [{"output_type": "error", "ename": "E", "evalue": "", "traceback": []}]}), "error"),
        (("code", "x", output("a warning", "stderr")), "stderr"),
        (("code", "x", output("saved /home/ann/model")), "place on a machine"),
        (("code", "x", output(str(ROOT))), "names"),
        (("code", " \n"), "empty"),
        (("markdown", "x y " * 300_000), "larger"),
    ],
)
def test_an_untidy_notebook_is_named(cell, said):
    assert any(said in line for line in untidy(make(cell)))
