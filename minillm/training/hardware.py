"""What this machine can do, asked before anything is chosen: threads, a compiler, peak rates, the measured roofline.

    time of a step ≥ max(operations / peak rate, bytes / bandwidth)          the roofline
    MFU = operations that the model needs / (seconds · peak rate)            the share of it that a step reaches

Paper:   Williams, Waterman and Patterson 2009, "Roofline", CACM 52(4); MFU: Chowdhery et al. 2022, "PaLM", appendix B,
         arXiv:2204.02311.
Names:   rates are in floating-point operations a second; a multiplication and an addition are two.
Next:    minillm/training/accelerate.py
"""

import ctypes
import os
import platform
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import torch

from minillm.core.runtime import Choice

# Dense products in bfloat16 with float32 sums, as the makers' data sheets say; the first name that fits counts.
PEAK_BFLOAT16 = {
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "GH200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def usable_cores() -> int:
    """How many cores this process may use: those it is bound to, and no more than its container is given.

    >>> 1 <= usable_cores() <= (os.cpu_count() or 1)
    True
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, _quota(Path("/sys/fs/cgroup/cpu.max"))))


def _quota(file: Path) -> int:
    """The whole cores that a Linux container may use in the mean; very many when nothing limits it."""
    try:
        allowed, period = file.read_text("utf-8").split()
        return max(1, int(allowed) // int(period))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return sys.maxsize


def choose_threads(wanted: int | None = None) -> Choice:
    """How many threads torch should use: what was asked for, what the environment sets, else one for each core.

    >>> choose_threads(3)
    Choice(value='3', why='as you asked')
    """
    cores = usable_cores()
    if wanted is not None:
        if wanted < 1:
            raise ValueError(f"threads={wanted} must be at least 1; None takes one for each core that is yours")
        return Choice(value=str(wanted), why="as you asked")
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return Choice(value=str(torch.get_num_threads()), why="OMP_NUM_THREADS is set")
    return Choice(value=str(cores), why="one for each core that this process may use")


def choose_memory(wanted: bool | None = None) -> Choice:
    """Whether freed memory can be kept for the next tensor (see `keep_freed_memory`): "yes" or "no", and why.

    >>> choose_memory(False)
    Choice(value='no', why='as you asked')
    """
    if wanted is False:
        return Choice(value="no", why="as you asked")
    if platform.libc_ver()[0] != "glibc":
        return Choice(value="no", why="this system's allocator has no such switch")
    return Choice(value="yes", why="a tensor takes the place of one that was freed, for the whole process")


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed, for as long as this process runs; whether it agreed.

    Otherwise large blocks go back to the system when a tensor dies, and the next tensor pays for each of its pages
    again: on this course's small models up to a third of a training step. Memory that was used once stays taken.
    """
    m_trim_threshold, m_mmap_threshold, most = -1, -3, 2**31 - 1
    tell = ctypes.CDLL(None).mallopt
    return bool(tell(m_mmap_threshold, 2**30) and tell(m_trim_threshold, most))


def choose_compile(device: str) -> Choice:
    """Whether `torch.compile` can work on `device` ("cpu" or "cuda"): value "yes" or "no", and why.

    >>> choose_compile("cpu").value in ("yes", "no")
    True
    """
    if sys.platform == "win32" and device == "cpu":
        return Choice(value="no", why="on Windows it needs a compiler set up by hand")
    wanted = os.environ.get("CXX", "g++")
    compiler = shutil.which(wanted) or shutil.which("clang++")
    if device == "cuda":
        from importlib.util import find_spec

        if find_spec("triton") is None:
            return Choice(value="no", why="the package triton, which writes its kernels, is missing")
        if compiler is None and shutil.which("gcc") is None and shutil.which("cc") is None:
            return Choice(value="no", why="triton needs a C compiler, and there is none: install gcc")
        return Choice(value="yes", why="triton and a compiler are here")
    if compiler is None:
        return Choice(value="no", why=f"no C++ compiler answers to {wanted}: install g++, or set CXX")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return Choice(value="no", why="Python's own headers are missing: install python3-dev")
    return Choice(value="yes", why=f"{Path(compiler).name} and Python's headers are here")


def peak_rate(device: str) -> float | None:
    """The bfloat16 rate of this GPU by its maker's data sheet, or None when it is not in our table, or a CPU.

    >>> peak_rate("cpu") is None
    True
    """
    if device != "cuda" or not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name(0)
    return next((rate for known, rate in PEAK_BFLOAT16.items() if known in name), None)


def best_seconds(work: Callable[[], object], rounds: int = 5, device: str = "cpu") -> float:
    """The shortest time of one call, after one to warm up: other work on the machine can only lengthen it.

    >>> best_seconds(lambda: None, rounds=2) < 1
    True
    """
    work()
    found = []
    for _ in range(rounds):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        found.append(time.perf_counter() - began)
    return min(found)


def product_rate(dtype: torch.dtype, size: int = 1536, device: str = "cpu", rounds: int = 5) -> float:
    """The measured rate of a product of two square matrices, operations a second: this machine's flat roof.

    >>> product_rate(torch.float32, size=64, rounds=2) > 0
    True
    """
    a = torch.ones(size, size, device=device, dtype=dtype)
    return 2 * size**3 / best_seconds(lambda: a @ a, rounds, device)


def copy_rate(megabytes: int = 256, device: str = "cpu", rounds: int = 5) -> float:
    """The measured bytes a second of a copy, reading and writing: the sloping roof."""
    a = torch.ones(megabytes * 2**20 // 4, device=device)
    b = torch.empty_like(a)
    return 2 * a.numel() * 4 / best_seconds(lambda: b.copy_(a), rounds, device)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
