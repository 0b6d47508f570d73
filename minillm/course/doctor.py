"""`minillm doctor`: look at this machine, one line for each thing, with the command that mends it.

    ok   torch 2.13.0 (needs >=2.9)
    fix  matplotlib is missing: pip install -c constraints.txt -e .

The text is fit for a bug report: it holds versions and sizes, no path of the reader's and no name of the machine.
The exit status is 1 when something stands in the way of the course; a missing font or GPU does not.

Next:    minillm/course/cli.py
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import minillm
from minillm.course.places import NoCourse, find_course

INSTALL = "pip install -c constraints.txt -e ."
OLDEST_PYTHON = (3, 11)
LEAST_DISK = 1.0  # GB: the course writes little; a full disk breaks everything else


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the report: what was found, the command that mends it ("" when well), and whether it blocks."""

    what: str
    mend: str = ""
    blocks: bool = True

    def __str__(self) -> str:
        return f"fix  {self.what}: {self.mend}" if self.mend else f"ok   {self.what}"


def doctor() -> int:
    """Print the report and give the exit status: 1 when something stands in the way of the course."""
    print(f"minillm {minillm.__version__} on {platform.system()} {platform.machine()}")
    blocked = 0
    for look in LOOKS:
        for finding in _carefully(look):
            print(hide_paths(str(finding)))
            blocked += bool(finding.mend) and finding.blocks
    print("all is well" if not blocked else f"{blocked} to mend before the course can run")
    return int(blocked > 0)


def look_at_python() -> Iterator[Finding]:
    """The version of Python, and whether this is an environment of the course's own."""
    version, oldest = platform.python_version(), ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield Finding(
            what=f"Python {version} (needs >={oldest})", mend=f"install Python {oldest} or newer (python.org)"
        )
        return
    own = sys.prefix != sys.base_prefix or "CONDA_PREFIX" in os.environ
    yield Finding(what=f"Python {version} (needs >={oldest}), {'an' if own else 'not in an'} environment of its own")


def look_at_packages() -> Iterator[Finding]:
    """Each package that the course needs, against its range."""
    from packaging.requirements import Requirement

    for line in requirements():
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate():
            continue
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            yield Finding(what=f"{need.name} is missing", mend=INSTALL)
            continue
        what = f"{need.name} {version} (needs {need.specifier})"
        yield Finding(what=what, mend="" if need.specifier.contains(version, prereleases=True) else INSTALL)


def requirements() -> list[str]:
    """What minillm needs, as its installed metadata says, else its `pyproject.toml`.

    >>> any(line.startswith("torch") for line in requirements())
    True
    """
    try:
        found = metadata.requires("minillm-course")
    except metadata.PackageNotFoundError:
        found = None
    if found is not None:
        return [line for line in found if "extra ==" not in line]
    pyproject = Path(__file__).resolve().parents[2] / "pyproject.toml"
    return tomllib.loads(pyproject.read_text("utf-8"))["project"]["dependencies"]


def look_at_kernel() -> Iterator[Finding]:
    """Whether a kernel of this Python starts and imports minillm, and whether another one bears its name."""
    if importlib.util.find_spec("ipykernel") is None or importlib.util.find_spec("jupyter_client") is None:
        yield Finding(what="the kernel cannot start, ipykernel is missing", mend=INSTALL)
        return
    code = "import ipykernel.kernelapp, minillm; print(minillm.__version__)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode or answer.stdout.strip() != minillm.__version__:
        yield Finding(what="the kernel does not find this minillm", mend=INSTALL)
        return
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    other = ""
    try:
        first = KernelSpecManager().get_kernel_spec("python3").argv[0]
        if Path(first).is_absolute() and Path(first) != Path(sys.executable):
            other = "; another python3 kernel is installed, which `minillm lab` passes over"
    except NoSuchKernel:
        pass
    yield Finding(what=f"kernel python3 starts this Python with minillm {minillm.__version__}{other}")


def look_at_course() -> Iterator[Finding]:
    """Whether the notebooks are here, and room on the disk."""
    try:
        course = find_course()
    except NoCourse:
        yield Finding(what="the notebooks are not here", mend=f"go to the course's folder, then {INSTALL}")
        course = Path.cwd()
    else:
        count = len(list((course / "notebooks").glob("*.ipynb")))
        yield Finding(what=f"course folder with {count} chapters")
    free = shutil.disk_usage(course).free / 1e9
    mend = "" if free >= LEAST_DISK else f"free some space; {LEAST_DISK:g} GB is enough"
    yield Finding(what=f"disk: {free:.1f} GB free", mend=mend)


def look_at_processor() -> Iterator[Finding]:
    """How many threads torch uses, and whether it sees a GPU."""
    import torch

    from minillm.core.runtime import pick_device

    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    mend = "" if threads <= cores else "unset OMP_NUM_THREADS (more threads than cores make everything slower)"
    yield Finding(what=f"threads: torch uses {threads} of {cores} cores", mend=mend, blocks=False)
    device = pick_device()
    if device.value == "cpu" and shutil.which("nvidia-smi"):
        mend = "see pytorch.org/get-started for the build with CUDA (the course runs without)"
        yield Finding(what=f"GPU: there seems to be one, but {device.why}", mend=mend, blocks=False)
    else:
        yield Finding(what=f"GPU: {device.why}" if device.value == "cuda" else f"GPU: none is needed ({device.why})")


def look_at_speed() -> Iterator[Finding]:
    """Which of the means of `minillm.training.accelerate` apply here, and why the others do not."""
    from minillm.core.runtime import pick_device, pick_dtype
    from minillm.training.hardware import choose_compile, peak_rate

    device = pick_device().value
    number, compiler = pick_dtype(device, fastest=True), choose_compile(device)
    yield Finding(what=f"speed: trains fastest in {number}")
    yield Finding(what=f"speed: torch.compile {'works' if compiler.value == 'yes' else 'is left out'}, {compiler.why}")
    if device == "cpu":
        yield Finding(what="speed: TF32, pinned batches and CUDA graphs are for a GPU only")
        return
    rate = peak_rate(device)
    known = "is not in our table: give `peak` yourself" if rate is None else f"is {rate / 1e12:.0f} TFLOP/s"
    yield Finding(what=f"speed: TF32, pinned batches and CUDA graphs apply; the peak rate, for MFU, {known}")


def look_at_font() -> Iterator[Finding]:
    """Whether figures can show Chinese."""
    from minillm.course.figures import cjk_font

    name = cjk_font()
    by_system = {"Linux": "sudo apt install fonts-noto-cjk", "Darwin": "brew install font-noto-sans-cjk"}
    mend = by_system.get(platform.system(), "install the font Noto Sans CJK SC")
    what = f"Chinese in figures: {name}" if name else "Chinese in figures: no font has it (boxes are shown)"
    yield Finding(what=what, mend="" if name else f"{mend}, then restart", blocks=False)


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    look_at_python,
    look_at_packages,
    look_at_kernel,
    look_at_course,
    look_at_processor,
    look_at_speed,
    look_at_font,
)


def _carefully(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a look finds; when it breaks itself, that is a finding too."""
    try:
        yield from look()
    except Exception as error:
        lines = str(error).splitlines() or [""]
        what = f"{look.__name__.replace('_', ' ')} failed ({type(error).__name__}: {lines[0][:200]})"
        yield Finding(what=what, mend=INSTALL)


def hide_paths(text: str) -> str:
    """Text without the folders and the names that say who and where the reader is.

    >>> hide_paths(f"cannot read {Path.home() / 'notes'}").startswith("cannot read ~")
    True
    """
    course = str(Path(__file__).parents[2])
    places = [
        (sys.prefix, "<environment>"),
        (sys.base_prefix, "<python>"),
        (course, "<course>"),
        (str(Path.cwd()), "."),
    ]
    for place, name in sorted([*places, (str(Path.home()), "~")], key=lambda pair: -len(pair[0])):
        if len(place) > 1:
            text = text.replace(place, name)
    machine = platform.node()
    return re.sub(rf"\b{re.escape(machine)}\b", "<machine>", text) if machine else text
