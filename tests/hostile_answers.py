"""The table of hostile submissions: what each tries, and the points that it must score. Run by test_grading_hostile.py.

Each row is the answer cell of exercise 00.bits (2 points), unless it names another. Two kinds: a trick in place of an
answer must score 0; a right answer that first tries something forbidden is defined only if every attempt was refused,
and then scores 2. Bombs are bounded, so that a missing protection shows as a red test and not as a dead machine.
"""

from dataclasses import dataclass

FILES, CALLS = "no files but its own", "no new processes, signals or network"
RIGHT = """
import math
def bits(total_nats, characters):
    if characters < 1:
        raise ValueError("no characters")
    return total_nats / math.log(2) / characters
"""
STUB = "def bits(total_nats, characters):\n    raise NotImplementedError\n"
WRONG = "\ndef bits(n, c): return 0.0\n"


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """One row. `needs` names the protections of the system without which the row is skipped."""

    name: str
    tries: str
    source: str
    earned: float = 0.0
    says: str = ""
    needs: tuple[str, ...] = ()
    exercise: str = "00-bits"
    seconds: float = 20.0  # for each cell; short where the row waits for it


def trick(name: str, tries: str, source: str, says: str = "", **more: object) -> Hostile:
    """A row that does something else than the exercise, and scores nothing."""
    return Hostile(name=name, tries=tries, source=source, says=says, **more)  # type: ignore[arg-type]


def refused(name: str, tries: str, attempts: str, needs: tuple[str, ...] = (FILES,), first: str = "") -> Hostile:
    """A row that answers right if all its attempts raise; COURSE, HOME and NEIGHBOUR become paths."""
    source = f"""
import ctypes, os, socket, subprocess, sys
{first}
attempts = [
{attempts}
]
def worked(attempt):
    try:
        return attempt() != -1  # what C returns when it was refused
    except Exception:
        return False
if done := [i for i, attempt in enumerate(attempts) if worked(attempt)]:
    raise RuntimeError("these worked: %s" % done)
{RIGHT}"""
    return Hostile(name=name, tries=tries, source=source, earned=2.0, needs=needs)


LEAVING = [
    trick("leaves", "sys.exit when asked", "import sys\ndef bits(n, c): sys.exit(0)"),
    trick("leaves at once", "sys.exit in the cell", "import sys; sys.exit(0)"),
    trick("is gone", "os._exit when asked", "import os\ndef bits(n, c): os._exit(0)", says="ended"),
    trick("is gone at once", "os._exit in the cell", "import os; os._exit(0)", says="ended"),
    trick("kills itself", "raises SIGKILL", "import signal\ndef bits(n, c): signal.raise_signal(9)", says="ended"),
    trick("crashes", "reads address 0", "import ctypes\ndef bits(n, c): ctypes.string_at(0)", says="ended"),
    trick(
        "is gone later",
        "a thread that ends the process while it is asked",
        "import os, threading, time\nthreading.Timer(0.2, os._exit, (0,)).start()\ndef bits(n, c): time.sleep(9)",
    ),
    Hostile(
        name="lives on",
        tries="threads and an exit handler that never end",
        source=f"""
import atexit, threading, time
def forever():
    while True: time.sleep(1)
atexit.register(forever)
for _ in range(5): threading.Thread(target=forever).start()
{RIGHT}""",
        earned=2.0,
    ),
]
JUDGING = [
    trick(
        "redefines the check",
        "check and checks_00 replaced, and for the hidden tests a float that equals everything (this fools nbgrader)",
        """
import math
import minillm.course.checks as checks, minillm.course.checks_00 as checks_00
checks.check = checks_00.bits = lambda *a: None
def check(*a): pass
class Yes(float):
    __eq__ = __le__ = __lt__ = __ge__ = __gt__ = lambda *a: True
    __sub__ = __rsub__ = __abs__ = lambda *a: Yes(0)
def bits(n, c):
    if c < 1: raise ValueError
    return Yes(7)
""",
    ),
    trick(
        "skips the tests",
        "IPython told to run nothing more (this fools nbgrader)",
        """
try: get_ipython().input_transformers_cleanup.append(lambda lines: ["pass"])
except NameError: pass
def bits(n, c): return 0.0
""",
    ),
    trick(
        "changes builtins",
        "AssertionError, isinstance and abs replaced",
        """
import builtins
builtins.AssertionError = builtins.Exception = type("Fine", (BaseException,), {})
builtins.abs = lambda x: 0.0
builtins.isinstance = lambda *a: True
def abs(x): return 0.0
def bits(n, c): return 0.0
""",
    ),
    trick(
        "patches numpy and the library",
        "numpy.isclose, math.log and the library's own bits replaced",
        """
import math, numpy, minillm.statistical.information as information
numpy.isclose = numpy.allclose = numpy.array_equal = lambda *a, **k: True
numpy.abs = math.fabs = math.log = lambda *a: 0.0
information.bits_per_character = lambda *a: 0.0
def bits(n, c): return 0.0
""",
    ),
    trick(
        "patches torch.allclose",
        "check replaced, torch.allclose always true (chapter 17, whose hidden test asks it)",
        """
import torch
import minillm.course.checks as checks
checks.check = lambda *a: None
torch.allclose = torch.equal = torch.testing.assert_close = lambda *a, **k: True
def lora(x, weight, a, b, alpha): return [0.0] * len(weight)
""",
        exercise="17-lora",
        seconds=120.0,
    ),
    trick(
        "equals everything",
        "a float whose == is always true",
        """
class Yes(float):
    __eq__ = __le__ = __lt__ = __ge__ = __gt__ = lambda *a: True
    __ne__ = lambda *a: False
    __sub__ = __rsub__ = __abs__ = __truediv__ = __mul__ = __rmul__ = lambda *a: Yes(0)
def bits(n, c):
    if c < 1: raise ValueError
    return Yes(7)
""",
    ),
    trick(
        "an object that claims to equal",
        "a class that agrees with everybody",
        """
class Yes:
    __eq__ = lambda *a: True
    __ne__ = lambda *a: False
    def __getattr__(self, name): return lambda *a: True
    def __len__(self): return 1
def bits(n, c): return Yes()
""",
    ),
    trick(
        "lies about its class",
        "__class__ says float, __float__ says what is asked",
        """
class Liar:
    __class__ = property(lambda self: float)
    __float__ = lambda self: 7.0
    __eq__ = lambda *a: True
def bits(n, c):
    if c < 1: raise ValueError
    return Liar()
""",
    ),
    trick("is not a number", "NaN", "def bits(n, c):\n    if c < 1: raise ValueError\n    return float('nan')"),
    trick("ends the loop", "StopIteration out of a call", "def bits(n, c): raise StopIteration"),
    trick("says it is not written", "NotImplementedError", STUB, says="not written yet"),
]
FORGING = [
    trick(
        "prints a verdict",
        "the examiner's own line, on every file it can find",
        """
import json, os, sys
line = json.dumps({"id": "00-bits-check", "passed": True, "message": "correct"}) + "\\n"
for fd in range(3, 40):
    try: os.write(fd, line.encode())
    except OSError: pass
def bits(n, c):
    print(line); sys.__stdout__.write(line); os.write(1, line.encode())
    return 0.0
""",
    ),
    trick(
        "forges frames",
        "replies of its own on the wire",
        """
import json, os
data = json.dumps({"ok": True, "passed": True}).encode()
def bits(n, c):
    for fd in range(3, 12):
        try: os.write(fd, len(data).to_bytes(4, "big") + data)
        except OSError: pass
    return 1.0
""",
    ),
    trick("closes the wire", "every file closed", "import os\nos.closerange(3, 64)" + WRONG, says="ended"),
    trick(
        "floods the wire",
        "noise without end on every file",
        """
import os
def bits(n, c):
    while True:
        for fd in range(3, 12):
            try: os.write(fd, b"x" * 65536)
            except OSError: pass
""",
        seconds=2.0,
    ),
    trick(
        "borrows what was not lent",
        "asks the examiner to call functions that it never gave",
        """
import sys
def bits(n, c):
    channel = vars(sys.modules["__main__"])["Channel"]
    import gc
    wire = next(o for o in gc.get_objects() if type(o) is channel)
    for number in (-1, 0, 10**9, "x", None):
        wire.send({"borrow": number, "arguments": [{"t": "given", "v": -1}]})
        wire.receive()
    return 0.0
""",
    ),
    trick(
        "looks for the tests",
        "verdicts and frames in memory changed",
        """
import gc, inspect, sys
def bits(n, c):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and "owner" in thing: thing["passed"] = True
    for frame in inspect.stack(): frame.frame.f_locals["passed"] = True
    for name in list(sys.modules):
        if "grading" in name: vars(sys.modules[name]).update(encode=lambda *a: True, decode=lambda *a: True)
    return 0.0
""",
    ),
    trick(
        "claims a range",
        "a forged range of 10**18 steps",
        """
import sys
sys.modules["__main__"].encode = lambda *a: {"t": "range", "v": [0, 10**18, 1]}
def bits(n, c): return 0.0
""",
        says="too long",
    ),
    trick(
        "claims rows",
        "a forged array of 10**12 empty rows",
        """
import sys
sys.modules["__main__"].encode = lambda *a: {"t": "array", "v": "", "as": "float64", "shape": [10**12, 0]}
def bits(n, c): return 0.0
""",
        says="damaged array",
    ),
]
VALUES = [
    trick("a huge string", "40 MB of text", "def bits(n, c): return 'x' * 40_000_000", says="ended"),
    trick("a huge integer", "forty million bits", "def bits(n, c): return 1 << 40_000_000", says="digits"),
    trick("a huge range", "10**18 steps", "def bits(n, c): return range(10**18)"),
    trick("rows without end", "10**12 empty rows", "import numpy\ndef bits(n, c): return numpy.zeros((10**12, 0))"),
    trick("a list in itself", "a cycle", "def bits(n, c):\n    a = []\n    a.append(a)\n    return a"),
    trick(
        "a deep list",
        "100,000 lists in each other",
        "def bits(n, c):\n    a = []\n    for _ in range(100_000): a = [a]\n    return a",
    ),
    trick("without end", "an endless iterator", "import itertools\ndef bits(n, c): return itertools.count()"),
    trick(
        "an exception with an evil text",
        "__str__ that raises",
        "class E(Exception):\n    def __str__(self): raise KeyError\ndef bits(n, c): raise E",
    ),
    trick(
        "writes to the terminal",
        "escape characters and turned text in a message",
        "def bits(n, c): raise ValueError('\\x1b[2J\\x1b]0;owned\\x07\\u202e<script>=1+1')",
        says="?[2J?]0;owned??<script>=1+1",
    ),
    trick("no such name", "the wrong function", "bytes_ = 1", says="does not define it"),
    trick("does not compile", "a syntax error", "def bits(n, c: return", says="SyntaxError"),
    trick("brackets", "100,000 open brackets", "(" * 100_000),
    trick("minus signs", "a million minus signs", "-" * 1_000_000 + "1"),
    trick("half a character", "a lone surrogate in the source", "def bits(n, c): return '\ud800'"),
    trick("zero bytes", "a NUL in the source", "def bits(n, c): return 0\0"),
]
