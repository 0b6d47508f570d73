"""The notebook plugin: what counts as the same output, and what a run of it does to real notebooks."""

import json
import subprocess
import sys
import time
from pathlib import Path

import nbval_tolerance
import pytest
from nbval_tolerance import close, settle

ROOT = Path(__file__).resolve().parents[1]
SAME = [
    ("loss 1.23456", "loss 1.23459"),
    ("0.50", "0.49"),  # one unit of the last place that is printed
    ("[0.5000,  1.0000]", "[0.5000, 1.00003]"),
    ("tensor([1., 2.])", "tensor([1.0000, 2.0000])"),
    ("1e-3 and 2.5E+4", "1.00001e-3 and 2.50001E+4"),
    ("-0.00", "0.00"),
    ("ratio 1.5000x", "ratio 1.5001x"),
    ("a   3.14159\n", "a 3.14158\n"),
    ("no numbers", "no numbers"),
    ("version 1.2.3", "version 1.2.3"),
]
DIFFERENT = [
    ("shape (2, 3)", "shape (2, 4)"),
    ("we count 120000.", "we count 120001."),
    ("loss 1.2345", "loss 1.2445"),
    ("1.0 2.0", "1.0"),
    ("1.0", "one"),
    ("version 1.2.3", "version 1.2.4"),
    ("0.5", "0.6"),
    ("5", "5.0"),
    ("nan", "1.0"),
    ("cat 1.0", "dog 1.0"),
    ("# 1.0", "1.0 1.0"),
    ("1e-3", "1e-4"),
]


@pytest.mark.parametrize(("ref", "got"), SAME)
def test_close(ref, got):
    assert close(ref, got, 1e-4, 1e-6) and close(got, ref, 1e-4, 1e-6)


@pytest.mark.parametrize(("ref", "got"), DIFFERENT)
def test_not_close(ref, got):
    assert not close(ref, got, 1e-4, 1e-6) and not close(got, ref, 1e-4, 1e-6)


def test_the_tolerance_is_a_tolerance():
    assert close("100.0", "100.9", 1e-2, 0) and not close("100.0", "101.1", 1e-2, 0)


def message(kind, **content):
    return {"msg_type": kind, "content": content}


def test_what_a_reader_is_left_seeing():
    first = message("display_data", data="old", metadata={}, transient={"display_id": "1"})
    new = message("update_display_data", data="new", metadata={}, transient={"display_id": "1"})
    assert [m["content"]["data"] for m in settle([first, new], set())] == ["new"]
    noise = [message("stream", name="stdout", text="a"), message("clear_output", wait=True)]
    assert settle([*noise, message("stream", text="b")], set())[-1]["content"]["text"] == "b"
    assert len(settle([*noise, message("stream", text="b")], set())) == 1
    start = message("comm_msg", comm_id="o", data={"state": {"msg_id": "m"}})
    stop = message("comm_msg", comm_id="o", data={"state": {"msg_id": ""}})
    kept = settle([start, message("stream", text="held"), stop, message("stream", text="shown")], set())
    assert [m["content"]["text"] for m in kept if m["msg_type"] == "stream"] == ["shown"]


def test_pictures_are_not_compared_but_their_words_are():
    a = '<img alt="falls to 0.50" src="data:image/png;base64,AAAA">'
    b = '<img alt="falls to 0.50" src="data:image/png;base64,BBBB==">'
    assert nbval_tolerance._blind(a) == nbval_tolerance._blind(b)
    assert nbval_tolerance._blind(a) != nbval_tolerance._blind(b.replace("falls", "rises"))


def run(folder, *cells):
    """pytest on a notebook of (source, stored output, tags) triples, in a process of its own."""
    made = []
    for i, (source, stored, *tags) in enumerate(cells):
        outputs = [{"output_type": "stream", "name": "stdout", "text": stored}] if isinstance(stored, str) else stored
        cell = {"cell_type": "code", "id": f"c{i}", "metadata": {"tags": tags}, "source": source}
        made.append(cell | {"outputs": [o for o in outputs if o.get("text") != ""], "execution_count": i + 1})
    (folder / "a.ipynb").write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    options = [
        "-p",
        "nbval_tolerance",
        "--nbval",
        "--nbval-current-env",
        "-p",
        "no:cacheprovider",
        "-q",
        "-c",
        "none.ini",
    ]
    command = [sys.executable, "-m", "pytest", "--rootdir", str(folder), *options, "a.ipynb"]
    (folder / "none.ini").write_text("[pytest]\n")
    environment = {**__import__("os").environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stdout


def test_a_notebook_end_to_end(tmp_path):
    figure = (
        "from minillm.course.figures import line_chart\nline_chart({'a': [1, 2]}, title='t', x_label='i (no unit)',"
    )
    figure += " y_label='y (no unit)', alt='The line rises from 1 to 2.')"
    alt = "Figure: t. The line rises from 1 to 2."
    html = '<img alt="The line rises from 1 to 2." src="data:image/png;base64,AAAA">'
    shown = [{"output_type": "execute_result", "metadata": {}, "execution_count": 2}]
    shown[0]["data"] = {"text/plain": alt, "text/html": html, "image/png": "AAAA"}
    progress = "from minillm.course.progress import progress\nfor _ in progress(range(3)): pass"
    status, said = run(
        tmp_path,
        ("print(0.123456)", "0.123459\n"),
        (figure, shown),
        (progress, ""),
        ("1 + 1;", ""),
        ("print(1.05)", "1.00\n", "rtol-1e-1"),
    )
    assert status == 0, said
    assert "chapter seconds" in said and " s  a.ipynb" in said


def test_differences_fail(tmp_path):
    status, said = run(tmp_path, ("print(0.5)", "0.6\n"), ("print(3)", "3\n"), ("print(4)", "5\n"))
    assert status == 1 and "2 failed, 1 passed" in said


def test_a_dead_kernel_fails_at_once(tmp_path):
    start = time.monotonic()
    status, said = run(tmp_path, ("import os; os._exit(1)", ""), ("print(1)", "1\n"))
    assert status == 1 and "2 failed" in said and "the kernel died" in said
    assert time.monotonic() - start < 1000  # nbval alone waits out 2,000 s; a busy machine may take minutes
