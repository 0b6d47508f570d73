"""The table of hostile submissions, second part: time, memory, disk, and what the operating system must refuse."""

from hostile_answers import CALLS, FILES, RIGHT, WRONG, Hostile, refused, trick

TIME = [
    trick("an endless loop", "while True", "def bits(n, c):\n    while True: pass", says="more than 2 s", seconds=2.0),
    trick(
        "a loop that will not be stopped",
        "every signal and exception ignored",
        """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True:
    try:
        while True: pass
    except BaseException: pass
""",
        says="more than 2 s",
        seconds=2.0,
    ),
    trick(
        "calls itself", "endless recursion", "def bits(n, c): return bits(n, c)", says="never stopped calling itself"
    ),
    trick(
        "calls itself without limit",
        "endless recursion with the limit taken away",
        "import sys\nsys.setrecursionlimit(10**9)\ndef bits(n, c): return bits(n, c)",
        seconds=2.0,
    ),
    trick(
        "a crowd of threads",
        "2000 threads",
        """
import threading, time
for _ in range(2000): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
"""
        + WRONG,
    ),
]
SPACE = [
    trick(
        "10 GB", "one allocation", "def bits(n, c): return len(bytearray(10 << 30))", "MemoryError", needs=("memory",)
    ),
    trick(
        "shared memory",
        "2 GB that the limit on data does not count",
        """
import mmap
def bits(n, c):
    m = mmap.mmap(-1, 2 << 30)
    for _ in range(2000): m.write(b"x" * (1 << 20))
    while True: pass
""",
        "512 MB of memory",
        needs=("memory",),
    ),
    Hostile(
        name="endless output",
        tries="100 MB on each stream",
        source=RIGHT + "\nimport sys\nfor _ in range(100):\n    print('x' * 10**6); sys.stderr.write('y' * 10**6)\n",
        earned=2.0,
    ),
    trick(
        "a full disk",
        "600 MB in files of 30 MB",
        """
def bits(n, c):
    for i in range(20):
        with open(str(i), "wb") as file: file.write(b"x" * (30 << 20))
    while True: pass
""",
        says="more than 256 MB",
    ),
    trick("a large file", "a file of 100 MB", "open('large', 'wb').write(b'x' * (100 << 20))", says="OSError"),
    Hostile(
        name="deep folders",
        tries="1500 folders in each other, to break whoever cleans up",
        source="import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')\n" + RIGHT,
        earned=2.0,
    ),
    trick(
        "deeper than a path",
        "5000 folders in each other, to break whoever counts, and then a loop",
        "import os\nfor _ in range(5000):\n    os.mkdir('d')\n    os.chdir('d')\ndef bits(n, c):\n    while True: pass",
        says="than can be counted",
    ),
    Hostile(
        name="a locked folder",
        tries="a folder without permissions, with a file inside",
        source="import os\nos.mkdir('d')\nopen('d/x', 'w').close()\nos.umask(0o777)\nos.mkdir('d/e')\n" + RIGHT,
        earned=2.0,
    ),
]
SYSTEM = [
    refused(
        "reads the solutions",
        "opens the answer and the hidden tests",
        """
    lambda: open(COURSE + "/solutions/00-start-here/start-here.ipynb").read(),
    lambda: open(COURSE + "/exercises/00-start-here/start-here.ipynb").read(),
    lambda: os.listdir(COURSE + "/solutions"),
""",
    ),
    trick(
        "hands in the solution",
        "reads the answer from solutions/ and runs it (this fools nbgrader)",
        """
import json
cells = json.load(open(COURSE + "/solutions/00-start-here/start-here.ipynb"))["cells"]
exec("".join(next(c for c in cells if c["metadata"].get("nbgrader", {}).get("grade_id") == "00-bits")["source"]))
""",
        needs=(FILES,),
    ),
    refused(
        "reads the checks",
        "opens the installed package's checks, as source and as bytecode",
        """
    lambda: open(minillm.__path__[0] + "/course/checks_00.py").read(),
    lambda: [open(path, "rb").read() for path in glob.glob(minillm.__path__[0] + "/course/__pycache__/checks_0*")][0],
    lambda: inspect.getsource(importlib.import_module("minillm.course.checks_00")),
""",
        first="import glob, importlib, inspect, minillm",
    ),
    trick(
        "imports the checks",
        "what a check compares with, handed in as the answer (chapter 05)",
        "from minillm.course.checks_05 import _lstm as lstm_step, _through_time as through_time",
        exercise="05-lstm-step",
    ),
    refused("reads a neighbour", "opens the next learner's submission", "    lambda: open(NEIGHBOUR).read(),"),
    refused("reads the home folder", "lists it", "    lambda: os.listdir(HOME),\n    lambda: os.listdir('/root'),"),
    refused(
        "writes outside",
        "README, the solution, the library, the neighbour, /tmp",
        """
    lambda: open(COURSE + "/README.md", "a"),
    lambda: open(COURSE + "/solutions/00-start-here/start-here.ipynb", "a"),
    lambda: open(COURSE + "/minillm/course/checks_00.py", "a"),
    lambda: open(NEIGHBOUR, "a"),
    lambda: open("/tmp/minillm-hostile", "w"),
    lambda: os.rename(NEIGHBOUR, NEIGHBOUR + "-gone"),
    lambda: os.unlink(NEIGHBOUR),
    lambda: os.chmod(COURSE + "/README.md", 0o644),
    lambda: os.utime(NEIGHBOUR),
    lambda: os.truncate(NEIGHBOUR, 0),
""",
        needs=(FILES, CALLS),
    ),
    refused(
        "goes round by links",
        "symbolic and hard links in its own folder",
        """
    lambda: open("link").read(),
    lambda: os.link(NEIGHBOUR, "hard"),
    lambda: open("up/" + NEIGHBOUR).read(),
""",
        first="os.symlink(NEIGHBOUR, 'link'); os.symlink('/', 'up')",
    ),
    refused(
        "reads its parent",
        "memory, environment and files of the examiner",
        """
    lambda: open("/proc/%d/mem" % os.getppid(), "rb").read(1),
    lambda: open("/proc/%d/environ" % os.getppid(), "rb").read(1),
    lambda: os.listdir("/proc/%d/fd" % os.getppid()),
""",
    ),
    refused(
        "starts processes",
        "fork, subprocess, a child that sleeps on, a shell through C",
        """
    lambda: os.fork() or os._exit(0),
    lambda: subprocess.run(["true"]),
    lambda: subprocess.Popen(["sleep", "600"]),
    lambda: os.posix_spawn("/bin/true", ["true"], {}),
    lambda: ctypes.CDLL(None).fork() or os._exit(0),
    lambda: -1 if ctypes.CDLL(None).system(b"true") else 0,  # the status of a shell
    lambda: os.execv("/bin/true", ["true"]),
""",
        needs=(CALLS,),
    ),
    refused(
        "a fork bomb",
        "64 forks, each child asleep",
        "    *[bomb] * 64,",
        needs=(CALLS,),
        first="def bomb():\n    if os.fork() == 0:\n        import time; time.sleep(20); os._exit(0)\n",
    ),
    refused(
        "sends signals",
        "to its parent and to everybody",
        """
    lambda: os.kill(os.getppid(), 0),
    lambda: os.kill(os.getppid(), 9),
    lambda: os.killpg(os.getpgid(os.getppid()), 0),
    lambda: os.setsid(),
    lambda: ctypes.CDLL(None).kill(os.getppid(), 9),
""",
        needs=(CALLS,),
    ),
    refused(
        "opens sockets",
        "the internet and this machine",
        """
    lambda: socket.socket(),
    lambda: socket.socket(socket.AF_UNIX),
    lambda: socket.create_connection(("127.0.0.1", 22), 1),
    lambda: __import__("urllib.request").request.urlopen("http://127.0.0.1", timeout=1),
""",
        needs=(CALLS,),
    ),
    refused(
        "takes its limits away",
        "setrlimit, ptrace, a new namespace",
        """
    lambda: resource.setrlimit(resource.RLIMIT_DATA, (-1, -1)),
    lambda: resource.prlimit(os.getpid(), resource.RLIMIT_AS, (-1, -1)),
    lambda: ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0),
    lambda: ctypes.CDLL(None).unshare(0x10000000),
""",
        needs=(CALLS,),
        first="import resource",
    ),
    trick(
        "stops the grader",
        "SIGKILL to its parents, and a wrong answer",
        """
import os, signal
for pid in (os.getppid(), os.getpgid(os.getppid())):
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
def bits(n, c): return 0.0
""",
        needs=(CALLS,),
    ),
]
PROGRAMS = [*TIME, *SPACE, *SYSTEM]
