"""The kernels of cross-entropy against their twins and torch: values, gradients, and where the gradients lie."""

import pytest
import torch
from kernel_cases import DEVICE, FORMATS, agree, draw
from torch.nn import functional as F
from torch.testing import assert_close

from minillm.kernels import cross_entropy as module
from minillm.kernels.cross_entropy import (
    cross_entropy,
    cross_entropy_plain,
    linear_cross_entropy,
    linear_cross_entropy_plain,
)

N, V, D = 11, 53, 6
FEW = 32  # logits that a program looks at together here, so that a row takes more than one look


def targets(v=V):
    target_n = torch.randint(v, (N,), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    target_n[3] = -100
    return target_n


@pytest.fixture(params=[FEW, 4096])
def tile(request, monkeypatch):
    monkeypatch.setattr(module, "TILE", request.param)


@pytest.mark.no_promises  # the interpreter is mostly loops
@pytest.mark.parametrize("dtype", FORMATS)
def test_the_kernel_agrees_with_its_twin_and_writes_its_slope_over_the_logits(tile, dtype):
    start, target = 3 * draw(N, V, dtype=dtype), targets()
    leaf = start.clone().requires_grad_()
    logits = leaf * 1  # what a model computes
    logits.retain_grad()
    loss = cross_entropy(logits, target)
    assert torch.equal(logits, start)  # not yet
    (2 * loss).backward()
    twin = start.clone().requires_grad_()
    plain = cross_entropy_plain(twin, target)
    (2 * plain).backward()
    assert_close(loss.float(), plain.float(), rtol=1e-5, atol=1e-6)
    agree(leaf.grad, twin.grad)
    assert torch.equal(logits, logits.grad) and logits.grad.abs().sum() > 0  # no second tensor


@pytest.mark.no_promises
def test_it_takes_no_memory_for_its_slope():
    """Of the tensors of the size of the logits that are made on the way back, all lie where the logits lie."""
    logits = (draw(N, V).requires_grad_() * 1).detach().requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(logits, targets()), logits)
    assert slope.data_ptr() == logits.data_ptr()


@pytest.mark.no_promises
def test_spent_logits_cannot_be_used_unawares():
    leaf = draw(N, V).requires_grad_()
    logits = leaf * 1
    loss = cross_entropy(logits, targets())
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    logits = leaf * 1
    other = logits.square().sum()  # needs the logits on its own way back
    cross_entropy(logits, targets()).backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        other.backward()


@pytest.mark.no_promises
def test_limits(tile):
    target = torch.tensor([0, 52, 31, 32], device=DEVICE)
    assert_close(cross_entropy(torch.zeros(4, V, device=DEVICE), target).item(), torch.tensor(V).log().item())
    sure = torch.full((4, V), -1e4, device=DEVICE)
    sure[range(4), target] = 1e4  # e^10000 alone would be infinite
    assert cross_entropy(sure, target).item() == 0
    barred = torch.zeros(4, V, device=DEVICE)
    barred[:, 1:31] = -torch.inf  # whole tiles that nothing may be drawn from
    assert_close(cross_entropy(barred, target).item(), torch.tensor(V - 30.0).log().item())
    assert cross_entropy(torch.zeros(4, V, device=DEVICE), torch.tensor([0, 1, 2, V], device=DEVICE)).isnan()
    assert cross_entropy(torch.zeros(4, V, device=DEVICE), torch.full((4,), -100, device=DEVICE)).isnan()  # as torch


@pytest.mark.no_promises
@pytest.mark.parametrize("rows", [4, 11, 4096])
@pytest.mark.parametrize("dtype", FORMATS)
def test_the_head_in_pieces_agrees_with_the_whole(dtype, rows):
    target, found = targets(), []
    for by in (linear_cross_entropy, linear_cross_entropy_plain):
        x, weight = draw(N, D, dtype=dtype).requires_grad_(), draw(V, D, dtype=dtype, seed=2).requires_grad_()
        loss = by(x, weight, target, rows=rows)
        (3 * loss).backward()
        found.append((loss.detach().float(), x.grad, weight.grad))
    assert_close(found[0][0], found[1][0], rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=0)
    agree(found[0][1], found[1][1])
    agree(found[0][2], found[1][2])


@pytest.mark.no_promises
def test_the_head_without_a_way_back_and_under_autocast():
    x, weight, target = draw(N, D), draw(V, D, seed=2).requires_grad_(), targets()
    with torch.no_grad():
        loss = linear_cross_entropy(x, weight, target, rows=4)
    assert_close(loss, F.cross_entropy(x @ weight.detach().T, target)) and not loss.requires_grad
    with torch.autocast(DEVICE, torch.bfloat16):
        linear_cross_entropy(x, weight, target, rows=4).backward()
    assert weight.grad.dtype == torch.float32
    plain = weight.detach().clone().requires_grad_()
    F.cross_entropy((x @ plain.T), target).backward()
    assert_close(weight.grad, plain.grad, rtol=0.05, atol=0.003)


def test_the_twins_are_torchs_and_their_slopes_are_right():
    logits, target = draw(N, V, dtype=torch.float64), targets()
    assert_close(cross_entropy_plain(logits, target), F.cross_entropy(logits, target))
    x, weight = draw(N, D, dtype=torch.float64), draw(V, D, dtype=torch.float64, seed=2)
    assert_close(linear_cross_entropy_plain(x, weight, target), F.cross_entropy(x @ weight.T, target))
    assert torch.autograd.gradcheck(lambda z: cross_entropy_plain(z, target), logits.requires_grad_())
    inputs = (x.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, w: linear_cross_entropy_plain(x, w, target), inputs)


@pytest.mark.no_promises
def test_what_it_refuses():
    logits, target = draw(N, V), targets()
    with pytest.raises(ValueError, match=r"logits.flatten\(0, -2\) and target.flatten\(\) work"):
        cross_entropy(logits[None], target[None])
    with pytest.raises(ValueError, match=r"logits.contiguous\(\) works"):
        cross_entropy(draw(V, N).T, target)
    with pytest.raises(ValueError, match="rows=0: the rule is"):
        linear_cross_entropy(draw(N, D), draw(V, D), target, rows=0)
    with pytest.raises(ValueError, match="int64, one for each row"):
        linear_cross_entropy(draw(N, D), draw(V, D), target.int())
