"""The kernel of RMSNorm against its twin and torch, there and back. How it runs here: conftest.py at the root."""

import pytest
import torch
from kernel_cases import DEVICE, FORMATS, agree, draw, slopes
from torch.nn import functional as F
from torch.testing import assert_close

from minillm.kernels.rms_norm import rms_norm, rms_norm_plain

SHAPES = [(1, 3), (3, 7, 50), (5, 129), (37, 16)]  # rows that end within a tile, widths that are no power of 2


@pytest.mark.no_promises  # the interpreter is mostly loops
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_agrees_with_its_twin(shape, dtype):
    x, weight = draw(*shape, dtype=dtype), draw(shape[-1], seed=1)
    pull = draw(*shape, dtype=dtype, seed=2)
    for ours, theirs in zip(slopes(rms_norm, pull, x, weight), slopes(rms_norm_plain, pull, x, weight), strict=True):
        agree(ours, theirs)


@pytest.mark.no_promises
def test_many_rows_are_shared_by_few_programs():
    """On the way back each program adds up the gradient of the weight over several tiles of rows."""
    x, weight, pull = draw(150, 3), draw(3, seed=1), draw(150, 3, seed=2)
    for ours, theirs in zip(slopes(rms_norm, pull, x, weight), slopes(rms_norm_plain, pull, x, weight), strict=True):
        agree(ours, theirs)


@pytest.mark.no_promises
def test_rows_and_pulls_may_lie_anywhere_in_memory():
    x, pull = draw(7, 3, 50).transpose(0, 1), draw(50, 7, 3, seed=2).permute(2, 1, 0)
    weight = draw(100, seed=1)[::2]
    for ours, theirs in zip(slopes(rms_norm, pull, x, weight), slopes(rms_norm_plain, pull, x, weight), strict=True):
        agree(ours, theirs)


@pytest.mark.no_promises
def test_limits():
    weight = torch.ones(5, device=DEVICE)
    assert rms_norm(torch.zeros(3, 5, device=DEVICE), weight).abs().max() == 0  # no 0/0: that is what eps is for
    assert rms_norm(torch.zeros(0, 5, device=DEVICE), weight).shape == (0, 5)
    large = rms_norm(torch.full((1, 5), 1e15, device=DEVICE), weight)
    assert_close(large, torch.ones_like(large))
    x = draw(4, 5)
    agree(rms_norm(8 * x, weight, 1e-30), rms_norm(x, weight, 1e-30))  # the length of a row does not matter


def test_the_twin_is_torchs_norm_and_its_slopes_are_right():
    x, weight = draw(4, 7, dtype=torch.float64), draw(7, dtype=torch.float64, seed=1)
    assert_close(rms_norm_plain(x, weight, 1e-3), F.rms_norm(x, (7,), weight, 1e-3))
    x, weight = x.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradcheck(rms_norm_plain, (x, weight))


@pytest.mark.no_promises
def test_what_it_refuses():
    x, weight = draw(4, 7), draw(7)
    with pytest.raises(ValueError, match=r"a weight of shape \(7,\) works"):
        rms_norm(x, weight[:6])
    with pytest.raises(ValueError, match=r"x has dtype=torch.float64, but .* rms_norm_plain takes it"):
        rms_norm(x.double(), weight)
