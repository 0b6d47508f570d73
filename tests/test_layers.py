"""House rules on imports: layers, who may import what, and a map that names exactly the files there are."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minillm

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "minillm").rglob("*.py"))
LAYERS = {"core": 0, "text": 1, "rules": 1, "statistical": 1, "kernels": 1, "vectors": 2, "neural": 2, "attention": 2}
LAYERS |= {"transformer": 3, "training": 4, "adaptation": 5, "alignment": 6, "chat": 7, "course": 8}
CHAT = (
    "chat",
    "conversation",
    "history",
    "speaker",
    "speaker_files",
    "speakers",
)  # files without a folder: layer 7 is theirs
LAYERS |= dict.fromkeys(CHAT, 7)
LAYERS["__main__"] = 9  # it only hands over to course/cli.py
LIGHT = ("text", "rules", "statistical")
EXECUTES = {"course/grading_answers.py", "course/grading_examiner.py"}  # running cells is what these two are for


def imports(tree, *, at_import=False):
    """The modules that a file imports, as dotted names; `at_import` leaves out functions and `if TYPE_CHECKING`."""
    found = []
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not (at_import and (lazy or typing_only)):
            stack += ast.iter_child_nodes(node)
    return found


def folder(module):
    parts = module.split(".")
    return parts[1] if parts[0] == "minillm" and len(parts) > 1 and parts[1] in LAYERS else None


def broken_layers(own, modules):
    """The imports of a file in folder `own` that go sideways or up."""
    together = CHAT if own in CHAT else (own,)
    others = {f for m in modules if (f := folder(m)) is not None and f not in together}
    return sorted(f for f in others if LAYERS[f] >= LAYERS[own])


def each_file(path):
    return path.relative_to(ROOT / "minillm").as_posix()


@pytest.mark.parametrize("path", FILES, ids=each_file)
def test_imports_go_down_only(path):
    own = path.relative_to(ROOT / "minillm").parts[0].removesuffix(".py")
    if own == "__init__":
        assert not imports(ast.parse(path.read_text("utf-8")))
        return
    assert own in LAYERS, f"{own} is in no layer of DESIGN section 2"
    assert broken_layers(own, imports(ast.parse(path.read_text("utf-8")))) == []


@pytest.mark.parametrize("path", FILES, ids=each_file)
def test_who_may_import_what(path):
    own, tree = each_file(path), ast.parse(path.read_text("utf-8"))
    tops = {module.partition(".")[0] for module in imports(tree)}
    if not own.startswith("course/figures"):
        assert "matplotlib" not in tops
    if not own.startswith("course/widgets"):
        assert "ipywidgets" not in tops
    assert not tops & {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib"}, "these execute code from data"
    called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert own in EXECUTES or not called & {"eval", "exec"}
    if own.startswith(tuple(f"{f}/" for f in LIGHT)) and own != "statistical/sampling.py":
        early = {module.partition(".")[0] for module in imports(tree, at_import=True)}
        assert not early & {"torch", "matplotlib", "scipy", "pandas", "sklearn"}


def test_the_light_layers_load_no_torch():
    light = [
        each_file(p)[:-3].replace("/", ".") for p in FILES if each_file(p).startswith(LIGHT) and p.stem != "sampling"
    ]
    names = [f"minillm.{name.removesuffix('.__init__')}" for name in light]
    code = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
    code += "print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert got.strip() == "[]"


def test_the_map_names_exactly_the_files_there_are():
    mapped = re.findall(r"^ {4}(\S+\.py) {1,}\S", minillm.__doc__, re.MULTILINE)
    there = {each_file(path) for path in FILES if path.name != "__init__.py"}
    assert set(mapped) == there, f"only on the map: {set(mapped) - there}; not on it: {there - set(mapped)}"
    assert len(mapped) == len(set(mapped))
    layers = [LAYERS[name.partition("/")[0].removesuffix(".py")] for name in mapped]
    assert layers == sorted(layers), "the map lists the layers in order"
    for number, name in re.findall(r"^layer (\d)  (\w+)", minillm.__doc__, re.MULTILINE):
        assert LAYERS[name] == int(number)


def test_the_rules_themselves_can_fail():
    assert broken_layers("text", ["minillm.core.files", "minillm.statistical.ngram"]) == ["statistical"]
    assert broken_layers("vectors", ["minillm.transformer.block", "minillm.text.bpe"]) == ["transformer"]
    tree = ast.parse("import torch\ndef f():\n    from minillm.text import bpe\nif TYPE_CHECKING:\n    import jax")
    assert set(imports(tree)) == {"torch", "minillm.text", "minillm.text.bpe", "jax"}
    assert imports(tree, at_import=True) == ["torch"]
