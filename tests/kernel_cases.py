"""What the tests of the kernels share. With a GPU they run there, compiled; without one on the CPU, as Python."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is for Linux; elsewhere the kernels cannot run, and nothing uses them")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORMATS = (torch.float32, torch.bfloat16)


def draw(*shape, dtype=torch.float32, seed=0):
    """Numbers of a normal distribution, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def slopes(function, pull, *inputs):
    """The value of a function and its gradients, for fresh copies of the inputs."""
    own = [x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for x in inputs]
    value = function(*own)
    value.backward(pull)
    return [value.detach(), *(x.grad for x in own)]


def agree(ours, theirs):
    """Equal but for rounding, measured against the largest number: 1e-5 in float32, 2e-2 in bfloat16."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    tolerance = 1e-5 if ours.dtype == torch.float32 else 2e-2
    error, size = (ours.float() - theirs.float()).abs().max(), theirs.float().abs().max()
    assert ours.isfinite().all() and error <= tolerance * size, (
        f"off by {error:.2g}, where the numbers reach {size:.2g}"
    )
