"""House rules on docstrings: every file says what it is and what to read next, every public name is explained."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

import minillm

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p for p in (ROOT / "minillm").rglob("*.py") if p.name != "__init__.py")
# folders whose files implement published work, and the files there that are our own idea
PUBLISHED = (
    "rules",
    "statistical",
    "vectors",
    "neural",
    "attention",
    "transformer",
    "kernels",
    "adaptation",
    "alignment",
)
PUBLISHED_FILES = {"text/bpe.py"}
OUR_OWN: set[str] = set()  # such as "rules/village_rules.py", each with its reason in a comment


def name_of(path):
    return path.relative_to(ROOT / "minillm").as_posix()


def unexplained(tree):
    """Public classes and functions without a docstring: at the top level, and the public methods of public classes."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    missing = []
    for node in tree.body:
        if not isinstance(node, kinds) or node.name.startswith("_"):
            continue
        members = [m for m in node.body if isinstance(m, kinds)] if isinstance(node, ast.ClassDef) else []
        for member in [node, *members]:
            inherits = any(getattr(d, "id", "") in ("override", "overload") for d in member.decorator_list)
            # forward and draw are explained by the class that they belong to
            known = member.name in ("forward", "draw") or member.name.startswith("_") or inherits
            if not (known and (member is not node or inherits)) and not ast.get_docstring(member):
                missing.append(member.name if member is node else f"{node.name}.{member.name}")
    return missing


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_public_name_is_explained(path):
    assert unexplained(ast.parse(path.read_text("utf-8"))) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_opens_in_house_form(path):
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    lines = text.splitlines()
    assert lines and lines[0].endswith((".", "?", ":")), "the first line is the idea in one sentence"
    own = name_of(path)
    mapped = re.findall(r"^ {4}(\S+\.py) ", minillm.__doc__, re.MULTILINE)
    is_last = [own] == [name for name in mapped if name.startswith(own.partition("/")[0])][-1:]
    wants_next = "say what to read next: `Next:    minillm/…`; the last file of a folder may leave it out"
    assert is_last or any(line.startswith("Next:") for line in lines), wants_next
    published = (own.startswith(tuple(f"{f}/" for f in PUBLISHED)) or own in PUBLISHED_FILES) and own not in OUR_OWN
    assert not published or any(line.startswith("Paper:") for line in lines), "cite what this implements: `Paper:   …`"


@pytest.mark.no_promises
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_examples_in_docstrings(path):
    """Warnings are errors here, as in all tests."""
    module = importlib.import_module(f"minillm.{name_of(path)[:-3].replace('/', '.')}")
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_the_rule_itself_can_fail():
    tree = ast.parse(
        "class A:\n    '''a'''\n    def b(self): pass\n    def _c(self): pass\ndef d(): pass\ndef _e(): pass"
    )
    assert unexplained(tree) == ["A.b", "d"]
