"""What every kernel needs: Triton where it is installed, and a clear word where it is not.

A Triton kernel is a Python function that is compiled for a GPU. Many copies of it, the programs, run at once; each
asks for its number and works on its own tile: a few rows of a matrix, say. `tl.load` and `tl.store` move a tile between
the GPU's memory and the registers of the program, and everything between the two costs no memory traffic at all.

Without a GPU the same function runs as ordinary Python, one program after the other, when TRITON_INTERPRET=1 stood in
the environment before Triton was first imported. That is slow, and good for two things: tests, and looking inside.

Paper:   Tillet, Kung and Cox 2019, "Triton: An Intermediate Language and Compiler for Tiled Neural Network
         Computations", MAPL, doi:10.1145/3315508.3329973.
Names:   `tl` is triton.language; `triton` is None where it is missing; a size in capitals is known to the compiler.
Differs: importing a kernel works without Triton; using it then says what to do.
Next:    minillm/kernels/rms_norm.py
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import triton
    import triton.knobs
    import triton.language as tl
else:
    try:
        import triton
        import triton.knobs
        import triton.language as tl
    except ImportError:  # not on this machine: the plain twins work, and `check` says so to whoever calls a kernel
        triton, tl = None, SimpleNamespace(constexpr=int)  # so that a kernel can be written down, if not run

INTERPRETED: bool = triton is not None and bool(triton.knobs.runtime.interpret)  # as it was when Triton was imported
FORMATS = (torch.float32, torch.bfloat16, torch.float16)


def jit(function: Callable[..., Any]) -> Any:
    """`triton.jit` where Triton is installed; elsewhere the function itself, which `check` keeps from being called."""
    return function if triton is None else triton.jit(function)


def check(twin: str, **tensors: Tensor) -> None:
    """Raise unless a kernel can run on these tensors; `twin` is the plain function that would work anywhere.

    RuntimeError without Triton, or without a GPU and without the interpreter; ValueError for a wrong device or format.
    """
    if triton is None:
        raise RuntimeError(
            f"Triton is not installed: on Linux `pip install triton`, elsewhere call {twin}, which works anywhere"
        )
    (first_name, first), *others = tensors.items()
    for name, tensor in others:
        if tensor.device != first.device:
            raise ValueError(
                f"{name} is on {tensor.device} and {first_name} on {first.device}: a kernel reads one device's memory; "
                f"{name}.to({str(first.device)!r}) works"
            )
    if first.device.type != "cuda" and not INTERPRETED:
        raise RuntimeError(
            f"{first_name} is on {first.device}, and Triton compiles for a GPU: call {twin}, or set TRITON_INTERPRET=1 "
            "before Python starts, which runs kernels slowly but anywhere"
        )
    if first.device.type == "cuda" and first.device.index != torch.cuda.current_device():
        raise ValueError(
            f"{first_name} is on {first.device}, but the current device is cuda:{torch.cuda.current_device()}, where "
            f"Triton would start: torch.cuda.set_device({first.device.index}) works"
        )
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.dtype not in FORMATS:
            raise ValueError(
                f"{name} has dtype={tensor.dtype}, but the kernels know float32, bfloat16 and float16; {twin} takes it"
            )


def power_of_2(n: int, least: int = 1) -> int:
    """The size of a tile that holds n numbers: tiles are powers of 2.

    >>> power_of_2(768), power_of_2(3, least=16)
    (1024, 16)
    """
    return max(least, 1 << (n - 1).bit_length())


def processors(device: torch.device) -> int:
    """How many programs can run at the same time, roughly: the multiprocessors of the GPU, few in the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 3
