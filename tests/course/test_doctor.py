"""Every line of `minillm doctor`, on machines that are well and on machines that are not: words, mending, blocking."""

import sys
import tomllib
import types
from importlib import metadata
from pathlib import Path

import pytest

import minillm
from minillm.core import runtime
from minillm.course import doctor, figures
from minillm.course.places import NoCourse
from minillm.training import hardware

ROOT = Path(__file__).resolve().parents[2]


def said(look):
    return [str(finding) for finding in look()]


def raising(error):
    def function(*arguments, **options):
        raise error

    return function


# Python and packages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(3, 10, 14), (2, 7, 18)])
def test_an_old_python_is_to_be_replaced(monkeypatch, version):
    monkeypatch.setattr(doctor, "sys", types.SimpleNamespace(version_info=version, prefix="a", base_prefix="b"))
    monkeypatch.setattr(doctor.platform, "python_version", lambda: ".".join(map(str, version)))
    (finding,) = doctor.look_at_python()
    assert finding.what == f"Python {'.'.join(map(str, version))} (needs >=3.11)" and finding.blocks
    assert finding.mend == "install Python 3.11 or newer (python.org)"


@pytest.mark.parametrize(
    ("prefix", "conda", "words"),
    [("/venv", None, "an environment"), ("/usr", None, "not in an environment"), ("/usr", "/c", "an environment")],
)
def test_the_oldest_python_will_do_and_its_environment_is_named(monkeypatch, prefix, conda, words):
    here = types.SimpleNamespace(version_info=(3, 11, 0), prefix=prefix, base_prefix="/usr")
    monkeypatch.setattr(doctor, "sys", here)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    if conda is not None:
        monkeypatch.setenv("CONDA_PREFIX", conda)
    (line,) = said(doctor.look_at_python)
    assert line.startswith("ok   Python") and line.endswith(f"(needs >=3.11), {words} of its own")


def test_packages_are_judged_by_their_ranges_where_they_are_needed_at_all(monkeypatch):
    monkeypatch.setattr(doctor, "requirements", lambda: ["a>=2", "b<2", "c>=1; python_version < '3'", "d>=2.9"])
    monkeypatch.setattr(metadata, "version", {"a": "2.0", "b": "2.0", "c": "0.1", "d": "2.13.0rc1"}.__getitem__)
    assert said(doctor.look_at_packages) == [
        "ok   a 2.0 (needs >=2)",
        "fix  b 2.0 (needs <2): pip install -c constraints.txt -e .",
        "ok   d 2.13.0rc1 (needs >=2.9)",
    ]


def test_what_is_needed_comes_from_the_metadata_else_from_the_project_file(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch>=2", "nbval>=0.1; extra == 'test'"])
    assert doctor.requirements() == ["torch>=2"]
    monkeypatch.setattr(metadata, "requires", raising(metadata.PackageNotFoundError("minillm-course")))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    assert doctor.requirements() == declared != []


# the kernel ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(monkeypatch):
    """A kernel that answers, and the list of the first words of the commands of the kernel called python3."""
    from jupyter_client import kernelspec

    answer, commands = types.SimpleNamespace(returncode=0, stdout=f"{minillm.__version__}\n"), [sys.executable]

    def get_kernel_spec(self, name):
        if not commands:
            raise kernelspec.NoSuchKernel(name)
        return types.SimpleNamespace(argv=commands)

    monkeypatch.setattr(doctor.subprocess, "run", lambda command, **options: answer)
    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", get_kernel_spec)
    return answer, commands


def test_a_kernel_that_starts(kernel):
    well = f"ok   kernel python3 starts this Python with minillm {minillm.__version__}"
    assert said(doctor.look_at_kernel) == [well]
    for first, more in (("/other/python", "; another python3 kernel is installed"), ("python", ""), (None, "")):
        kernel[1][:] = [first] if first else []
        (line,) = said(doctor.look_at_kernel)
        assert line.startswith(well + more) and (more or line == well)


@pytest.mark.parametrize("answer", [{"returncode": 1}, {"stdout": "0.0.1\n"}, {"stdout": ""}], ids=str)
def test_a_kernel_with_another_minillm_or_none(kernel, answer):
    vars(kernel[0]).update(answer)
    assert said(doctor.look_at_kernel) == [f"fix  the kernel does not find this minillm: {doctor.INSTALL}"]


@pytest.mark.parametrize("missing", ["ipykernel", "jupyter_client"])
def test_a_kernel_that_cannot_start(monkeypatch, missing):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == missing else object())
    (finding,) = doctor.look_at_kernel()
    assert "ipykernel is missing" in finding.what and finding.mend == doctor.INSTALL and finding.blocks


# the folder and the disk --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "well"), [(1.0e9, True), (0.99e9, False), (55.04e9, True)])
def test_chapters_are_counted_and_the_disk_is_looked_at(monkeypatch, tmp_path, free, well):
    (tmp_path / "notebooks").mkdir()
    for name in ("a.ipynb", "b.ipynb", "c.ipynb", "notes.txt"):
        (tmp_path / "notebooks" / name).touch()
    monkeypatch.setattr(doctor, "find_course", lambda: tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=free))
    course, disk = doctor.look_at_course()
    assert str(course) == "ok   course folder with 3 chapters"
    assert disk.what == f"disk: {free / 1e9:.1f} GB free" and disk.blocks
    assert disk.mend == ("" if well else "free some space; 1 GB is enough")


def test_without_notebooks_it_says_where_to_go(monkeypatch):
    monkeypatch.setattr(doctor, "find_course", raising(NoCourse("nowhere")))
    course, disk = doctor.look_at_course()
    assert str(course) == f"fix  the notebooks are not here: go to the course's folder, then {doctor.INSTALL}"
    assert course.blocks and disk.what.startswith("disk: ")


# processor, GPU, speed, font: none of them blocks -------------------------------------------------------------------


@pytest.mark.parametrize(("threads", "well"), [(1, True), (4, True), (5, False)])
def test_more_threads_than_cores(monkeypatch, threads, well):
    import torch

    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    finding, _ = doctor.look_at_processor()
    assert finding.what == f"threads: torch uses {threads} of 4 cores" and not finding.blocks
    assert finding.mend == ("" if well else "unset OMP_NUM_THREADS (more threads than cores make everything slower)")


@pytest.mark.parametrize(
    ("device", "driver", "line"),
    [
        ("cuda", "/bin/nvidia-smi", "ok   GPU: pretended"),
        ("cpu", None, "ok   GPU: none is needed (pretended)"),
        ("cpu", "/bin/nvidia-smi", "fix  GPU: there seems to be one, but pretended: see pytorch.org/get-started for"),
    ],
)
def test_a_gpu_that_is_there_or_not_or_not_used(monkeypatch, device, driver, line):
    monkeypatch.setattr(runtime, "pick_device", lambda: runtime.Choice(value=device, why="pretended"))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: driver if name == "nvidia-smi" else None)
    _, finding = doctor.look_at_processor()
    assert str(finding).startswith(line) and (finding.mend == "" or not finding.blocks)


@pytest.mark.parametrize(("rate", "words"), [(989e12, "is 989 TFLOP/s"), (None, "is not in our table: give `peak`")])
def test_on_a_gpu_the_speed_lines_name_its_peak(monkeypatch, rate, words):
    asked = []
    monkeypatch.setattr(runtime, "pick_device", lambda: runtime.Choice(value="cuda", why="pretended"))
    monkeypatch.setattr(hardware, "peak_rate", lambda device: asked.append(device) or rate)
    for works in ("yes", "no"):
        choice = runtime.Choice(value=works, why="pretended")
        monkeypatch.setattr(hardware, "choose_compile", lambda device, choice=choice: asked.append(device) or choice)
        lines = [finding.what for finding in doctor.look_at_speed()]
        compiled = "works" if works == "yes" else "is left out"
        assert lines[1] == f"speed: torch.compile {compiled}, pretended"
        assert "TF32, pinned batches and CUDA graphs apply" in lines[2] and f"for MFU, {words}" in lines[2]
    assert asked == ["cuda"] * 4 and len(lines) == 3


@pytest.mark.parametrize(
    ("system", "mend"),
    [
        ("Linux", "sudo apt install fonts-noto-cjk, then restart"),
        ("Darwin", "brew install font-noto-sans-cjk, then restart"),
        ("Windows", "install the font Noto Sans CJK SC, then restart"),
    ],
)
def test_a_font_for_chinese(monkeypatch, system, mend):
    monkeypatch.setattr(doctor.platform, "system", lambda: system)
    monkeypatch.setattr(figures, "cjk_font", lambda: None)
    (finding,) = doctor.look_at_font()
    assert finding.mend == mend and not finding.blocks and "boxes are shown" in finding.what
    monkeypatch.setattr(figures, "cjk_font", lambda: "Some Font")
    assert said(doctor.look_at_font) == ["ok   Chinese in figures: Some Font"]


# the report ---------------------------------------------------------------------------------------------------------


def test_what_blocks_is_counted_and_what_does_not_is_shown(monkeypatch, capsys):
    look = lambda *findings: lambda: iter(findings)
    fix = doctor.Finding(what="this is broken", mend="mend it")
    fine, font = doctor.Finding(what="this is well"), doctor.Finding(what="no font", mend="get one", blocks=False)
    monkeypatch.setattr(doctor, "LOOKS", (look(fix, fine), look(font), look(fix)))
    assert doctor.doctor() == 1
    lines = capsys.readouterr().out.splitlines()
    wanted = ["fix  this is broken: mend it", "ok   this is well", "fix  no font: get one"]
    assert lines[1:] == [*wanted, wanted[0], "2 to mend before the course can run"]
    monkeypatch.setattr(doctor, "LOOKS", (look(font),))
    assert doctor.doctor() == 0 and capsys.readouterr().out.endswith("all is well\n")


def test_a_look_that_breaks_is_a_finding_of_one_line(monkeypatch):
    def look_at_stars():
        yield doctor.Finding(what="one is seen")
        raise OSError("x" * 300 + "\nsecond line")

    first, second = doctor._carefully(look_at_stars)
    assert str(first) == "ok   one is seen" and second.blocks and second.mend == doctor.INSTALL
    assert second.what == f"look at stars failed (OSError: {'x' * 200})"
    (bare,) = doctor._carefully(raising(KeyError()))
    assert bare.what == "function failed (KeyError: )"


def test_places_and_the_machines_name_are_hidden_the_longest_first(monkeypatch):
    course = str(Path(doctor.__file__).parents[2])
    monkeypatch.setattr(doctor, "sys", types.SimpleNamespace(prefix=f"{course}/.venv", base_prefix="/opt/python"))
    monkeypatch.setattr(doctor.platform, "node", lambda: "ann-pc")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ann"))
    monkeypatch.setattr(Path, "cwd", lambda: Path("/home/ann/study"))
    text = f"{course}/.venv/lib and {course}/a and /opt/python/b and /home/ann/study/c and /home/ann/d"
    assert doctor.hide_paths(text) == "<environment>/lib and <course>/a and <python>/b and ./c and ~/d"
    assert doctor.hide_paths("ann-pc and joann-pc and ann-pc2") == "<machine> and joann-pc and ann-pc2"
    monkeypatch.setattr(doctor.platform, "node", lambda: "")
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    assert doctor.hide_paths("a/b") == "a/b", "a root folder hides nothing"
