"""Whoever kills `minillm grade` leaves no process behind, even while an answer loops."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOOP = "def bits(total_nats, characters):\n    while True:\n        pass\n"


def processes_with(word):
    """The process ids whose command line or environment holds a word (Linux)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            seen = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if word.encode() in seen:
            found.append(int(entry.name))
    return found


def cpu_seconds(pid):
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.mark.skipif(sys.platform != "linux", reason="held by Linux alone")
def test_a_killed_grader_takes_its_processes_along(tmp_path):
    notebook = json.loads((ROOT / "exercises/00-start-here/start-here.ipynb").read_text("utf-8"))
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "00-bits":
            cell["source"] = LOOP
    path = tmp_path / "loops.ipynb"
    path.write_text(json.dumps(notebook), "utf-8")
    mark = f"minillm-orphans-{os.getpid()}"
    code = "import sys; from minillm.course.grading import grade_notebook; from pathlib import Path; "
    code += "grade_notebook(Path(sys.argv[1]), Path(sys.argv[2]), seconds=600.0)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MARK": mark}
    grader = subprocess.Popen([sys.executable, "-c", code, str(path), str(ROOT)], env=environment)
    try:
        # the grader and its examiner; the answers' process clears its environment and is named by its parent
        assert wait_for(lambda: len(processes_with(mark)) >= 2, 60), "the examiner did not start"
        examiner = next(pid for pid in processes_with(mark) if pid != grader.pid)
        children = Path(f"/proc/{examiner}/task/{examiner}/children")
        assert wait_for(lambda: bool(children.read_text().split()), 60), "the answers' process did not start"
        answers = int(children.read_text().split()[-1])
        family = [examiner, answers]
        # looping, not loading: the examiner waits inside a test, and nothing tells it that the grader has gone
        assert wait_for(lambda: cpu_seconds(answers) > 5, 120), "the answer did not run"
    finally:
        os.kill(grader.pid, signal.SIGKILL)
        grader.wait()
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 10), "somebody lives on"
