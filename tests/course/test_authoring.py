"""Notebook files in their one shape, and the commands of authors."""

import copy
import json
from pathlib import Path

import pytest

from minillm.core.files import write_atomically
from minillm.course import notebooks
from minillm.course.cli import main
from minillm.course.notebooks import normalise, notebook_text, read_notebook, squash_frames


def code(source, *outputs, **extra):
    return {
        "cell_type": "code",
        "metadata": {},
        "source": source,
        "outputs": list(outputs),
        "execution_count": 9,
    } | extra


def text(source, **extra):
    return {"cell_type": "markdown", "metadata": {}, "source": source} | extra


def stream(words, name="stdout"):
    return {"output_type": "stream", "name": name, "text": words}


def shape(*cells):
    return normalise({"cells": list(cells), "metadata": {"widgets": {"x": 1}, "language_info": {"version": "3.99"}}})


def test_one_shape_whatever_came_before():
    got = shape(text("# a\n"), code("1 ", metadata={"scrolled": True, "tags": ["t"], "execution": {"iopub": "time"}}))
    assert got["metadata"] == {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert got["cells"][0]["source"] == ["# a"] and got["cells"][1]["metadata"] == {"tags": ["t"]}
    assert got["cells"][1]["execution_count"] == 1 and (got["nbformat"], got["nbformat_minor"]) == (4, 5)


def test_twice_is_once():
    once = shape(text("a", id="deadbeef"), code("b\r\n", stream("x\r10%\r100%\n")), code("c", id="named-cell"))
    assert normalise(copy.deepcopy(once)) == once
    assert notebook_text(normalise(json.loads(notebook_text(once)))) == notebook_text(once)


def test_ids_are_stable_and_unique():
    """The prototype gave two cells one id when a cell was copied or moved."""
    ids = ["c002", "c002", "c001", "", "5f2b1c3d", "5f2b1c3d-aaaa-bbbb-cccc-1234567890ab", "03-merge", "03-merge"]
    got = [cell["id"] for cell in shape(*[text("x", id=i) for i in ids])["cells"]]
    assert got == ["c002", "c002-x2", "c001", "c003", "c004", "c005", "03-merge", "03-merge-x2"]
    assert len(set(got)) == len(ids)
    again = [cell["id"] for cell in shape(*[text("x", id=i) for i in got])["cells"]]
    assert again == got


def test_outputs_keep_what_is_meant_and_lose_what_is_random():
    view = {"output_type": "display_data", "data": {notebooks.WIDGET_VIEW: {"model_id": "1"}}, "metadata": {}}
    both = copy.deepcopy(view)
    both["data"]["text/plain"] = "still"
    result = {"output_type": "execute_result", "data": {"text/plain": ["3"]}, "metadata": {}, "execution_count": 77}
    got = shape(code("x", stream("a"), stream("b\n"), stream("e", "stderr"), view, both, result, stream("")))
    outputs = got["cells"][0]["outputs"]
    assert [o.get("text", o.get("data")) for o in outputs] == [
        ["ab\n"],
        ["e"],
        {"text/plain": ["still"]},
        {"text/plain": ["3"]},
    ]
    assert outputs[-1]["execution_count"] == 1


def test_a_cell_that_never_ran_has_no_number():
    got = shape(code("a", execution_count=None), code("b"), code("c"))
    assert [cell["execution_count"] for cell in got["cells"]] == [None, 1, 2]


def test_spaces_inside_strings_are_kept():
    """The prototype stripped every line of code, and so changed texts in quotes."""
    source = 'x = """a  \nb"""\n\n'
    assert "".join(shape(code(source))["cells"][0]["source"]) == source.rstrip("\n")


@pytest.mark.parametrize(
    ("raw", "left"),
    [("a\rb\n", "b\n"), ("a\r\nb", "a\nb"), ("10%\r20%\r", "20%"), ("x\n1\r22\ny", "x\n22\ny"), ("", ""), ("\r", "")],
)
def test_progress_frames(raw, left):
    assert squash_frames(raw) == left


def test_author_normalise(tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": [code("1")], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    before = path.read_bytes()
    assert main(["author", "normalise", "--check", str(path)]) == 1
    assert path.read_bytes() == before and "not normal" in capsys.readouterr().out
    assert main(["author", "normalise", str(path)]) == 0
    assert main(["author", "normalise", "--check", str(path)]) == 0
    assert list(tmp_path.iterdir()) == [path]


def test_author_run_saves_outputs_or_nothing(tmp_path, capsys):
    good, bad = tmp_path / "good.ipynb", tmp_path / "bad.ipynb"
    cells = [code("from pathlib import Path\nprint(Path.cwd().name)"), code("%matplotlib inline\n1 + 1")]
    good.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    broken = [code("print('fine')"), code("1 / 0")]
    bad.write_text(json.dumps({"cells": broken, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    kept = bad.read_bytes()
    assert main(["author", "run", str(good), str(bad)]) == 1
    said = capsys.readouterr().out
    assert f" s  {good}" in said and "ZeroDivisionError" in said and "\x1b" not in said
    assert bad.read_bytes() == kept
    done = read_notebook(good)
    assert done["cells"][0]["outputs"][0]["text"] == [f"{tmp_path.name}\n"]
    assert done["cells"][1]["outputs"][0]["data"] == {"text/plain": ["2"]}
    assert done == normalise(copy.deepcopy(done))


def test_author_exercises(tmp_path, capsys, monkeypatch):
    """A new source is written, a changed one rewritten, an orphan removed; --check only looks."""
    from minillm.course import places

    course = tmp_path / "course"
    for folder in ("notebooks", "solutions/01-x", "exercises/01-x", "exercises/09-gone"):
        (course / folder).mkdir(parents=True)
    (course / "pyproject.toml").write_text('name = "minillm-course"')
    (course / "exercises/09-gone/gone.ipynb").write_text("{}")
    mark = {"grade": False, "solution": True, "locked": False, "grade_id": "x", "schema_version": 3}
    answer = code("def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION", metadata={"nbgrader": mark})
    (course / "solutions/01-x/x.ipynb").write_text(notebook_text(shape(answer)))
    monkeypatch.setattr(places, "_from_library", lambda: tmp_path)
    monkeypatch.chdir(course / "notebooks")
    assert main(["author", "exercises", "--check"]) == 1
    said = capsys.readouterr().out
    assert "out of step: exercises/01-x/x.ipynb" in said and "out of step: exercises/09-gone/gone.ipynb" in said
    assert main(["author", "exercises"]) == 0 and main(["author", "exercises", "--check"]) == 0
    made = read_notebook(course / "exercises/01-x/x.ipynb")
    assert "".join(made["cells"][0]["source"]) == "def f():\n    # YOUR CODE HERE\n    raise NotImplementedError"
    assert not (course / "exercises/09-gone/gone.ipynb").exists()


def test_a_kill_leaves_the_old_file(tmp_path, monkeypatch):
    import os

    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    path.chmod(0o640)

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    write_atomically(path, b"new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o640
    assert isinstance(path, Path)
