"""Where a run happens, in which number format, and how to make it happen the same way again.

Every choice comes with its reason in words, because wrong silent choices are the hardest to find.
One dial for chance: `seed_everything` seeds the global generators once; everything that draws inside the
library takes an explicit `torch.Generator` (or a numpy one).

Names:   bf16 is the 16-bit format with float32's range (8 exponent bits) and 8 bits of precision.
Next:    minillm/text/village.py
"""

import platform
import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Something that was chosen for the reader, and why."""

    value: str
    why: str

    def __str__(self) -> str:
        return f"{self.value} ({self.why})"


def pick_device() -> Choice:
    """Choose "cuda" when a GPU answers, else "cpu", and say why.

    >>> pick_device().value in ("cpu", "cuda")
    True
    """
    import torch

    if torch.cuda.is_available():
        return Choice(value="cuda", why=f"found {torch.cuda.get_device_name(0)}")
    built_for = "this torch is built for CPU only" if torch.version.cuda is None else "no GPU answers"
    return Choice(value="cpu", why=built_for)


def pick_dtype(device: str, *, fastest: bool = False) -> Choice:
    """Choose the number format for training on `device` ("cpu" or "cuda"), and say why.

    On a CPU that is float32, for results that agree between machines; `fastest` gives that up where the processor
    multiplies bfloat16 itself. Where it does not, that format is many times slower, and is never chosen.

    >>> pick_dtype("cpu").value
    'float32'
    """
    import torch

    if device not in ("cpu", "cuda"):
        raise ValueError(f"device={device!r} is not known; use 'cpu' or 'cuda'")
    if device == "cuda" and torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False):
        return Choice(value="bfloat16", why="this GPU multiplies it natively, and its range is that of float32")
    if device == "cuda":
        return Choice(value="float32", why="no GPU here multiplies bfloat16 natively")
    if not fastest:
        return Choice(value="float32", why="results on a CPU agree best between machines in this format")
    if not (known := BFLOAT16_UNITS & processor_features()):
        return Choice(value="float32", why="this processor is not known to multiply bfloat16 natively")
    if not torch.backends.mkldnn.is_available():
        return Choice(value="float32", why="this torch has no oneDNN, which holds the products in bfloat16")
    return Choice(value="bfloat16", why=f"this processor multiplies it natively ({', '.join(sorted(known))})")


BFLOAT16_UNITS = {"amx_bf16", "avx512_bf16", "bf16"}  # Linux's names: Intel's tiles, AVX-512, Arm


def processor_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What the processor says that it can, by Linux's names; empty where nobody can be asked.

    >>> "bf16" in processor_features(Path("no such file"))
    False
    """
    try:
        text = cpuinfo.read_text("utf-8", errors="replace")
    except OSError:
        return set()
    lines = (line.partition(":") for line in text.splitlines())
    return {word for name, _, words in lines if name.strip() in ("flags", "Features") for word in words.split()}


def seed_everything(seed: int = 0) -> "torch.Generator":
    """Seed Python, numpy and torch, and return a fresh CPU generator with the same seed.

    Draw from the returned generator where you can: an explicit generator cannot be disturbed by other code.

    >>> float(seed_everything(1).initial_seed())
    1.0
    """
    import torch

    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed} must lie in 0 … 2**32 - 1 (numpy's range); for example 0")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """What must be known to repeat a run: its configuration, seed, versions and the revision of the code."""

    seed: int
    config: dict[str, object] = field(default_factory=dict)
    python: str = field(default_factory=platform.python_version)
    versions: dict[str, str] = field(default_factory=lambda: package_versions())
    revision: str = field(default_factory=lambda: _revision())


def package_versions() -> dict[str, str]:
    """The versions of what a result may depend on.

    >>> sorted(package_versions())[-1]
    'torch'
    """
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for name in ("minillm-course", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _revision() -> str:
    """The git revision of the source tree, with a + when it was changed since; empty outside a checkout."""
    command = ["git", "describe", "--always", "--dirty=+"]
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
