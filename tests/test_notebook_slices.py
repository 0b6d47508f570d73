"""The slices of notebooks: all that a cell needs, in order, and little else."""

import ast
import builtins
import json
from pathlib import Path

import pytest
from notebook_slices import binds, changes, reads, slice_of

ROOT = Path(__file__).resolve().parents[1]


def notebook(*sources):
    return {"cells": [{"cell_type": "code", "source": source} for source in sources]}


def kept(*sources, given=()):
    return slice_of(notebook(*sources), len(sources) - 1, given)


def test_what_is_needed_and_no_more():
    assert kept("import math, re\nx = 1", "y = 2\nprint(y)\nassert y == 2", "z = y + x\nw = 5", "z") == [
        "x = 1",
        "y = 2",
        "z = y + x",
        "z",
    ]
    assert kept("from a import b as c, d", "c()") == ["from a import b as c", "c()"]


def test_the_last_word_counts():
    assert kept("x = 1", "x = 2", "x") == ["x = 2", "x"]
    assert kept("x = 1", "x = x + 1", "x") == ["x = 1", "x = x + 1", "x"]
    assert kept("x = 1", "if y:\n    x = 2", "y = 3", "x") == ["x = 1", "if y:\n    x = 2", "x"]
    assert kept("x = 1", "x += 1", "x") == ["x = 1", "x += 1", "x"]
    assert kept("x = 1", "x", "x = 2") == ["x = 2"], "what comes later is not needed"


def test_what_changes_an_object_is_kept():
    for change in ("x[0] = 1", "x.a = 1", "x.append(1)", "fill(x)", "fill(into=x)", "for i in y:\n    x.append(i)"):
        assert change in kept("x, y = [], []\nfill = list", change, "x"), change
    for saying in ("print(x)", "display(x)", "check('a', x)", "assert x", "x", "y = len(x)", "z = [i for i in x]"):
        assert saying not in "\n".join(kept("x = []", saying, "[x][0]")).splitlines(), saying


def test_own_names_of_functions_and_loops_are_no_needs():
    assert kept("text = 1", "def f(text):\n    return [word for word in text]", "word = 2", "f([])") == [
        "def f(text):\n    return [word for word in text]",
        "f([])",
    ]
    assert kept("name = 1\nd = {}", "e = {}\nfor name, x in d.items():\n    e[name] = x", "e")[0] == "d = {}"
    assert kept("k = 1", "def f():\n    return k", "f()")[0] == "k = 1", "but what they take from outside is"
    late = ("def f():\n    return k", "k = 1", "f()")
    assert kept(*late) == list(late), "and they take it when they are called"
    assert kept("@wrap\ndef f():\n    pass", "f()")[0] == "@wrap\ndef f():\n    pass"


def test_what_is_given_is_not_needed():
    assert kept("slow = train()", "fast = slow", "fast", given=["slow"]) == ["fast = slow", "fast"]
    assert kept("def train(): pass", "slow = train()", "slow", given=["slow"]) == ["slow"]


def test_texts_are_left_out():
    two = {"cells": [{"cell_type": "markdown", "source": "x = 1"}, {"cell_type": "code", "source": ["y = 2\n", "y"]}]}
    assert slice_of(two, 1) == ["y = 2\ny"]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_name_of_a_slice_of_a_chapter_is_made_before_it_is_used(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    number = max(i for i, cell in enumerate(cells) if cell["cell_type"] == "code")
    made = set(dir(builtins))
    for source in slice_of({"cells": cells}, number):
        for statement in ast.parse(source).body:
            if not isinstance(statement, ast.FunctionDef | ast.ClassDef):  # they read when they are called
                assert reads(statement) - binds(statement) <= made
            made |= binds(statement) | changes(statement)
