"""The command line as a reader meets it: clear words, the right exit status, the right kernel."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import minillm
from minillm.course import doctor, lab, places
from minillm.course.cli import main

ROOT = Path(__file__).resolve().parents[2]


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"minillm {minillm.__version__}\n"


@pytest.mark.parametrize("words", [["dance"], ["lab", "--port", "x"], ["author"], ["grade"]])
def test_what_is_not_understood(words, capsys):
    assert main(words) == 2
    assert "minillm" in capsys.readouterr().err


def test_no_command_prints_the_commands(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("lab", "doctor", "grade", "author"))


def test_the_package_runs_as_a_program():
    for words, status in ((["--version"], 0), (["chat", "nobody"], 2)):
        command = [sys.executable, "-m", "minillm", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == status and said.startswith("minillm ") and "directly executed" not in said


def test_a_busy_port(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["lab", "--no-browser", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"port={port} is busy" in said and "minillm lab --port" in said and said.count("\n") == 1


def test_jupyterlab_missing(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["lab"]) == 2
    assert "pip install" in capsys.readouterr().err


def test_a_wheel_without_notebooks(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "_from_library", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["lab"]) == 2
    assert "installed without them" in capsys.readouterr().err


def test_a_wheel_run_inside_the_course(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "_from_library", lambda: tmp_path)
    assert places.find_course(ROOT / "tests" / "course") == ROOT


@pytest.fixture
def bad_home(tmp_path, monkeypatch):
    """A home with a kernel called python3 that belongs to something else."""
    for folder in ("home/.local/share/jupyter", "home/Library/Jupyter", "data"):
        kernel = tmp_path / folder / "kernels/python3/kernel.json"
        kernel.parent.mkdir(parents=True)
        spec = {"argv": ["/nowhere/python", "-f", "{connection_file}"], "display_name": "bad", "language": "python"}
        kernel.write_text(json.dumps(spec))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))  # goes before everything, whatever Jupyter prefers
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))


def test_lab_starts_our_kernel_in_a_home_with_a_bad_one(bad_home):
    """The server of `minillm lab` itself, asked over its own interface."""
    from jupyter_client.kernelspec import KernelSpecManager

    assert KernelSpecManager().get_kernel_spec("python3").argv[0] == "/nowhere/python", "the trap is not set"
    port = lab.choose_port(None)
    command = [sys.executable, "-m", "minillm.course.cli", "lab", "--no-browser", "--port", str(port)]
    environment = {**os.environ, "JUPYTER_TOKEN": "test"}
    # in a session of its own, so that JupyterLab ends with the command that started it
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True, cwd=ROOT)
    try:
        specs = ask(f"http://127.0.0.1:{port}/api/kernelspecs?token=test")
        assert specs["kernelspecs"]["python3"]["spec"]["argv"][0] == sys.executable
        started = ask(f"http://127.0.0.1:{port}/api/kernels?token=test", data=b'{"name": "python3"}')
        alive = ask(f"http://127.0.0.1:{port}/api/kernels/{started['id']}?token=test")
        assert alive["name"] == "python3"
        about = ask(f"http://127.0.0.1:{port}/lab/api/settings/@jupyterlab/apputils-extension:notification?token=test")
        asks = {name: one["default"] for name, one in about["schema"]["properties"].items()}
        assert asks["fetchNews"] == "false" and asks["checkForUpdates"] is False, "a question covers the page"
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def ask(url, data=None):
    for _ in range(150):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=5) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not answer within 30 s")


def test_author_run_uses_our_kernel_in_a_home_with_a_bad_one(bad_home, tmp_path, capsys):
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cell["source"] = "import sys, os, minillm\nprint(sys.executable, minillm.__version__, os.environ['MINILLM_QUIET'])"
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    assert main(["author", "run", str(path)]) == 0
    (output,) = json.loads(path.read_text())["cells"][0]["outputs"]
    assert "".join(output["text"]) == f"{sys.executable} {minillm.__version__} 1\n"


def test_doctor_is_well_here_and_fit_for_a_bug_report(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok   ", "fix  ")) for line in lines[1:-1])
    for word in ("Python", "torch", "jupyterlab", "kernel", "disk", "threads", "GPU", "Chinese"):
        assert any(word in line for line in lines), word
    text = "\n".join(lines)
    assert str(Path.home()) not in text and sys.prefix not in text and str(ROOT) not in text


def test_doctor_says_which_means_of_speed_apply(monkeypatch):
    from minillm.core import runtime

    monkeypatch.setattr(runtime, "pick_device", lambda: runtime.Choice(value="cpu", why="pretended"))
    for features, value in ((set(), "float32"), ({"amx_bf16"}, "bfloat16")):
        monkeypatch.setattr(runtime, "processor_features", lambda features=features: features)
        said = [finding.what for finding in doctor.look_at_speed()]
        assert said[0].startswith(f"speed: trains fastest in {value} (") and "torch.compile" in said[1]
        assert said[2].endswith("for a GPU only")


def test_doctor_says_what_to_mend(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "requirements", lambda: ["numpy>=99", "no-such-package>=1", "torch>=1"])
    monkeypatch.setattr(doctor, "LOOKS", (doctor.look_at_packages, doctor.look_at_font))
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "fix  numpy" in said and "fix  no-such-package is missing: pip install" in said and "ok   torch" in said
    assert "2 to mend" in said


def test_doctor_survives_its_own_looks(capsys, monkeypatch):
    def look_at_trouble():
        raise OSError(f"cannot open {Path.home()}/secret")
        yield

    monkeypatch.setattr(doctor, "LOOKS", (look_at_trouble,))
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "look at trouble failed" in said and str(Path.home()) + "/" not in said


def test_a_missing_font_or_gpu_does_not_block(capsys, monkeypatch):
    from minillm.course import figures

    monkeypatch.setattr(figures, "cjk_font", lambda: None)
    monkeypatch.setattr(doctor, "LOOKS", (doctor.look_at_font,))
    assert main(["doctor"]) == 0
    assert "fix  Chinese in figures" in capsys.readouterr().out


def test_importing_minillm_is_cheap():
    code = "import sys, minillm; print(sorted({'torch', 'matplotlib', 'numpy', 'ipywidgets'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert out.strip() == "[]"
