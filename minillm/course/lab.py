"""`minillm lab`: JupyterLab on the first chapter, with a kernel that has minillm, whatever else is installed.

It runs the JupyterLab of this very Python (never the `jupyter` that is first on PATH), opens the course's folder, and
brings its own list of kernels (`kernel.py`): a `python3` kernel of another Python in the reader's home is passed over.

Next:    minillm/course/doctor.py
"""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

from minillm.course.places import find_course

FIRST_PORT, FIRST_CHAPTER = 8888, "notebooks/00-start-here.ipynb"


def open_lab(*, browser: bool = True, port: int | None = None) -> int:
    """Run JupyterLab until it is stopped, and give its exit status.

    Raises `ValueError`, with what to do, when JupyterLab or the notebooks are missing or the port is busy.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise ValueError("JupyterLab is not installed in this Python; run: pip install -c constraints.txt -e .")
    course = find_course()
    port = choose_port(port)
    command = lab_command(course, port, browser=browser)
    start = FIRST_CHAPTER if (course / FIRST_CHAPTER).exists() else "the course's folder"
    print(f"JupyterLab opens {start} on port {port}. Press Ctrl-C twice here to stop it.", flush=True)
    process = subprocess.Popen(command, env=lab_environment())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # JupyterLab got the key too, and asks for a second one


def lab_command(course: Path, port: int, *, browser: bool = True) -> list[str]:
    """The command that starts JupyterLab of this Python on the course.

    >>> lab_command(Path("course"), 8888)[1:3]
    ['-m', 'jupyterlab']
    """
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={course}"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += ["--ServerApp.kernel_spec_manager_class=minillm.course.kernel.ThisPython"]
    command += ["--Application.log_level=WARN"]  # a page of notes would hide the address and how to stop it
    if (course / FIRST_CHAPTER).exists():
        command.append(f"--LabApp.default_url=/lab/tree/{FIRST_CHAPTER}")
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container the only user; JupyterLab refuses without being told
    return command


def lab_environment() -> dict[str, str]:
    """The environment of JupyterLab: what belongs to this Python goes before what lies in the reader's home.

    With defaults of our own, which the reader's settings override: the course needs no network, so nothing looks for
    news or updates, and no question about them covers the page.
    """
    paths = [str(Path(__file__).parent / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    return {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, paths))}


def choose_port(wanted: int | None) -> int:
    """The port that was asked for, or the first free one from 8888; `ValueError` when it is busy or impossible.

    >>> choose_port(70_000)
    Traceback (most recent call last):
    ...
    ValueError: port=70000 must lie in 1 … 65535; for example 8888
    """
    if wanted is None:
        free = next((port for port in range(FIRST_PORT, FIRST_PORT + 100) if _is_free(port)), None)
        if free is None:
            raise ValueError("no port from 8888 to 8987 is free; name one: minillm lab --port 9100")
        return free
    if not 1 <= wanted <= 65_535:
        raise ValueError(f"port={wanted} must lie in 1 … 65535; for example {FIRST_PORT}")
    if not _is_free(wanted):
        raise ValueError(
            f"port={wanted} is busy: another JupyterLab, or another program, listens there. "
            f"Leave --port out to get a free one, or try: minillm lab --port {choose_port(None)}"
        )
    return wanted


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # as the server does; without it a port that was in use a moment ago looks busy
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
