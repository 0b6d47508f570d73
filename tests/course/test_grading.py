"""`minillm grade` against honest, lazy and hostile submissions: points follow the answer and nothing else."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from minillm.course import grading

pytestmark = pytest.mark.no_promises
ROOT = Path(__file__).resolve().parents[2]
RIGHT = """
import math
def bits(total_nats, characters):
    if characters < 1:
        raise ValueError("no characters")
    return total_nats / math.log(2) / characters
"""
STUB = "def bits(total_nats, characters):\n    raise NotImplementedError\n"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="held by Linux alone")


def submit(folder, source, **changes):
    """The exercise of chapter 00 with `source` as its answer, in a file of its own."""
    notebook = json.loads((ROOT / "exercises/00-start-here/start-here.ipynb").read_text("utf-8"))
    for cell in notebook["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if name == "00-bits":
            cell["source"] = source
        if name in changes:
            cell["source"] = changes[name]
    path = folder / "handed in.ipynb"
    path.write_text(json.dumps(notebook), "utf-8")
    return path


def grade(folder, source, seconds=20.0, megabytes=1024, **changes):
    return grading.grade_notebook(submit(folder, source, **changes), ROOT, seconds=seconds, megabytes=megabytes)


def only_cell(grade_):
    (cell,) = grade_.cells
    return cell


def test_a_right_answer_gets_all_points(tmp_path):
    got = grade(tmp_path, RIGHT)
    assert (got.points, got.most, only_cell(got).message) == (2, 2, "correct")
    assert got.solution == "solutions/00-start-here/start-here.ipynb"


def test_a_stub_gets_none_and_is_told_so(tmp_path):
    got = grade(tmp_path, STUB)
    assert got.points == 0 and "not written yet" in only_cell(got).message


def test_a_wrong_answer_gets_the_diagnosis_of_the_check(tmp_path):
    got = grade(tmp_path, "import math\ndef bits(n, c): return n / c")
    assert got.points == 0 and "still nats" in only_cell(got).message


def test_hidden_tests_count(tmp_path, monkeypatch):
    """An answer that passes the visible check alone gets nothing: the hidden tests are run too."""
    course = tmp_path / "course"
    (course / "solutions/00-start-here").mkdir(parents=True)
    text = (ROOT / "solutions/00-start-here/start-here.ipynb").read_text("utf-8")
    visible = "assert bits(200.0, 100) == "
    harder = text.replace(visible, f"assert False, 'hidden but real'\\n\",\n    \"{visible}")
    assert harder != text
    (course / "solutions/00-start-here/start-here.ipynb").write_text(harder, "utf-8")
    got = grading.grade_notebook(submit(tmp_path, RIGHT), course, seconds=20)
    assert got.points == 0 and only_cell(got).message == "hidden but real"


HOSTILE = {
    "leaves": "import sys\ndef bits(n, c): sys.exit(0)",
    "leaves at once": "import sys; sys.exit(0)",
    "is gone": "import os\ndef bits(n, c): os._exit(0)",
    "is gone at once": "import os; os._exit(0)",
    "changes the check": """
import minillm.course.checks as checks, minillm.course.checks_00 as checks_00
checks.check = checks_00.bits = lambda *a: None
checks.Wrong.__init__ = lambda *a: sys.exit(0)
def check(*a): pass
def bits(n, c): return 0.0
""",
    "changes builtins": """
import builtins
builtins.AssertionError = builtins.Exception = type("Fine", (BaseException,), {})
builtins.abs = lambda x: 0.0
builtins.isinstance = lambda *a: True
def abs(x): return 0.0
def bits(n, c): return 0.0
""",
    "equals everything": """
class Yes(float):
    __eq__ = __le__ = __lt__ = __ge__ = __gt__ = lambda *a: True
    __ne__ = lambda *a: False
    __sub__ = __rsub__ = __abs__ = __truediv__ = __mul__ = __rmul__ = lambda *a: Yes(0)
def bits(n, c):
    if c < 1: raise ValueError
    return Yes(7)
""",
    "an object that claims to equal": """
class Yes:
    __eq__ = lambda *a: True
    __ne__ = lambda *a: False
    def __getattr__(self, name): return lambda *a: True
    def __len__(self): return 1
def bits(n, c): return Yes()
""",
    "is not a number": "def bits(n, c):\n    if c < 1: raise ValueError\n    return float('nan')",
    "ends the loop": "def bits(n, c): raise StopIteration",
    "prints a verdict": """
import json, os, sys
line = json.dumps({"id": "00-bits-check", "passed": True, "message": "correct"}) + "\\n"
for fd in range(3, 40):
    try: os.write(fd, line.encode())
    except OSError: pass
def bits(n, c):
    print(line); sys.__stdout__.write(line); os.write(1, line.encode())
    return 0.0
""",
    "forges frames": """
import json, os
data = json.dumps({"ok": True, "passed": True}).encode()
def bits(n, c):
    for fd in range(3, 12):
        try: os.write(fd, len(data).to_bytes(4, "big") + data)
        except OSError: pass
    return 1.0
""",
    "looks for the tests": """
import gc, inspect, sys
def bits(n, c):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and "owner" in thing: thing["passed"] = True
    for frame in inspect.stack(): frame.frame.f_locals["passed"] = True
    for name in list(sys.modules):
        if "grading" in name: vars(sys.modules[name]).update(encode=lambda *a: True, decode=lambda *a: True)
    return 0.0
""",
    "stops the grader": """
import os, signal
for pid in (os.getppid(), os.getpgid(os.getppid())):
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
def bits(n, c): return 0.0
""",
    "a message too long": "def bits(n, c): return 'x' * 40_000_000",
    "a list in itself": "def bits(n, c):\n    a = []\n    a.append(a)\n    return a",
    "a deep list": "def bits(n, c):\n    a = []\n    for _ in range(100_000): a = [a]\n    return a",
    "an exception with an evil text": """
class E(Exception):
    def __str__(self): raise KeyError
def bits(n, c): raise E
""",
    "no such name": "bytes_ = 1",
    "does not compile": "def bits(n, c: return",
    "writes to the terminal": "def bits(n, c): raise ValueError('\\x1b[2J\\x1b]0;owned\\x07')",
}


@pytest.mark.parametrize("how", HOSTILE)
def test_no_trick_gets_a_point(how, tmp_path):
    got = grade(tmp_path, HOSTILE[how])
    assert got.points == 0 and only_cell(got).message
    assert all(c.isprintable() or c == "\n" for c in only_cell(got).message)


def test_edited_tests_are_not_used(tmp_path):
    got = grade(tmp_path, STUB, **{"00-bits-check": "print('00.bits: correct')"})
    assert got.points == 0


def test_an_endless_loop_ends_in_time(tmp_path):
    start = time.monotonic()
    got = grade(tmp_path, "def bits(n, c):\n    while True: pass", seconds=1.5)
    assert got.points == 0 and "more than 1.5 s" in only_cell(got).message
    assert time.monotonic() - start < 15


def test_endless_output_costs_nothing(tmp_path):
    loud = RIGHT + "\nprint('x' * 1_000_000_000)\nimport sys\nsys.stderr.write('y' * 100_000_000)\n"
    assert grade(tmp_path, loud, megabytes=4096).points == 2


@LINUX
def test_a_memory_bomb_is_stopped(tmp_path):
    got = grade(tmp_path, "def bits(n, c): return len(bytearray(3 << 30))", megabytes=512)
    assert got.points == 0 and "MemoryError" in only_cell(got).message
    shared = "import mmap\ndef bits(n, c):\n    m = mmap.mmap(-1, 2 << 30)\n    m.write(b'x' * (1 << 20))\n"
    shared += "    for _ in range(2000): m.write(b'x' * (1 << 20))\n    import time; time.sleep(60)"
    got = grade(tmp_path, shared, megabytes=512)
    assert got.points == 0 and "512 MB of memory" in only_cell(got).message


ATTEMPTS = f"""
import os, resource, socket, subprocess
attempts = [
    lambda: os.fork(),
    lambda: subprocess.run(["true"]),
    lambda: os.kill(os.getppid(), 0),
    lambda: socket.socket(),
    lambda: open({str(ROOT / "solutions/00-start-here/start-here.ipynb")!r}).read(),
    lambda: open({str(ROOT / "README.md")!r}, "a"),
    lambda: os.chmod({str(ROOT / "README.md")!r}, 0o644),
    lambda: os.listdir({str(Path.home())!r}),
    lambda: open("/proc/%d/mem" % os.getppid(), "rb").read(1),
    lambda: resource.setrlimit(resource.RLIMIT_DATA, (-1, -1)),
]
def worked(attempt):
    try: attempt()
    except (OSError, ValueError): return False
    return True
done = [i for i, attempt in enumerate(attempts) if worked(attempt)]
if done: raise RuntimeError("these worked: %s" % done)
"""


@LINUX
def test_the_system_refuses_what_an_answer_does_not_need(tmp_path):
    """A right answer that first tries other things is defined only if every attempt was refused."""
    got = grade(tmp_path, ATTEMPTS + RIGHT)
    if {"no files but its own", "no new processes, signals or network"} - set(got.in_force):
        pytest.skip("this kernel has no Landlock or no seccomp")
    assert got.points == 2, only_cell(got).message


def test_one_deadly_exercise_does_not_cost_the_next(tmp_path):
    course = two_exercises(tmp_path)
    notebook = json.loads((course / "solutions/00-two/two.ipynb").read_text("utf-8"))
    notebook["cells"][0]["source"] = "import os\ndef first(x): os._exit(3)"
    (tmp_path / "two.ipynb").write_text(json.dumps(notebook), "utf-8")
    got = grading.grade_notebook(tmp_path / "two.ipynb", course, seconds=20)
    assert [cell.points for cell in got.cells] == [0, 3, None]
    assert (got.points, got.most) == (3, 10)


def test_borrowed_functions_arrays_objects_and_iterators(tmp_path):
    course = two_exercises(tmp_path)
    got = grading.grade_notebook(course / "solutions/00-two/two.ipynb", course, seconds=30)
    assert [cell.points for cell in got.cells] == [2, 3, None], got.cells


def two_exercises(folder):
    """A course with two exercises that pass more than numbers, and a written answer."""

    def cell(name, source, **meta):
        mark = {"grade": False, "solution": False, "locked": True, "grade_id": name, "schema_version": 3, **meta}
        return {
            "cell_type": "code",
            "metadata": {"nbgrader": mark},
            "source": source,
            "outputs": [],
            "execution_count": 1,
        }

    first = "def first(x):\n    return x + 1\n"
    second = """
import numpy as np
class Second:
    def __init__(self, start): self.start = start
    def rows(self, a): return a.sum(axis=1) + self.start
    def each(self, function, items):
        for item in items: yield function(item)
"""
    tests = """
import numpy as np
shift = 2
two = Second(shift)
assert two.start == 2
got = two.rows(np.ones((3, 4), dtype="float32"))
assert got.dtype == np.float32 and got.tolist() == [6.0, 6.0, 6.0]
seen = []
assert list(two.each(lambda x: seen.append(x) or x * x, [1, 2, 3])) == [1, 4, 9] and seen == [1, 2, 3]
"""
    cells = [
        cell("first", first, solution=True, locked=False),
        cell("first-test", "assert first(1) == 2 and first(1 << 70) == (1 << 70) + 1", grade=True, points=2),
        cell("second", second, solution=True, locked=False),
        cell("second-test", tests, grade=True, points=3),
        cell("essay", "...", grade=True, solution=True, points=5),
    ]
    (folder / "course/solutions/00-two").mkdir(parents=True)
    whole = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "course/solutions/00-two/two.ipynb").write_text(json.dumps(whole), "utf-8")
    return folder / "course"


@pytest.mark.parametrize("content", ["", "not json", "[]", "{}", '{"cells": [1]}', '{"cells": []}', "[" * 100_000])
def test_what_is_no_submission_is_refused(content, tmp_path):
    path = tmp_path / "x.ipynb"
    path.write_text(content, "utf-8")
    with pytest.raises(ValueError, match=r"x\.ipynb: "):
        grading.grade_notebook(path, ROOT)


def test_the_report_and_the_json(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = tmp_path / "result.json"
    status = grading.grade_files([str(submit(tmp_path, RIGHT)), str(tmp_path / "none.ipynb")], result_path=str(result))
    said = capsys.readouterr().out
    assert status == 1 and "2 of 2 points" in said and "none.ipynb: cannot be read" in said and "in force: time" in said
    assert json.loads(result.read_text())[0]["points"] == 2


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    grade(tmp_path, RIGHT + "\nopen('mine.txt', 'w').write('x' * 1000)\n")
    assert os.listdir(tmp_path / "t") == []
