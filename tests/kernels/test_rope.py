"""The kernel of RoPE against its twin and the library's own, there and back."""

import pytest
import torch
from kernel_cases import DEVICE, FORMATS, agree, draw, slopes
from torch.testing import assert_close

from minillm.attention.positions import RoPE
from minillm.kernels.rope import rope, rope_plain

B, H, T, K = 2, 3, 37, 10  # more than a tile of 32 positions; half the width is no power of 2


def angles(*shape, seed=3):
    angle = draw(*shape, K // 2, seed=seed)
    return angle.cos(), angle.sin()


@pytest.mark.no_promises  # the interpreter is mostly loops
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("shape", [(T,), (B, T), (1, T)], ids=str)
def test_the_kernel_agrees_with_its_twin(shape, dtype):
    x, pull, (cos, sin) = draw(B, H, T, K, dtype=dtype), draw(B, H, T, K, dtype=dtype, seed=1), angles(*shape)
    ours, theirs = (slopes(lambda x, by=by: by(x, cos, sin), pull, x) for by in (rope, rope_plain))
    for one, other in zip(ours, theirs, strict=True):
        agree(one, other)


@pytest.mark.no_promises
def test_heads_may_be_a_transpose_and_angles_a_slice():
    """As in the model: (b, t, h, k) in memory, and cosines that are half of a wider table."""
    x, pull = draw(B, T, H, K).transpose(1, 2), draw(K, H, B, T, seed=1).permute(2, 1, 3, 0)
    rotation = RoPE(K).at(torch.arange(5, 5 + T, device=DEVICE))
    cos, sin = rotation.cos[:, : K // 2], rotation.sin[:, K // 2 :]
    ours, theirs = slopes(lambda x: rope(x, cos, sin), pull, x), slopes(rotation.rotate, pull, x)
    for one, other in zip(ours, theirs, strict=True):
        agree(one, other)
    assert rope(x, cos, sin).stride() == x.stride()


@pytest.mark.no_promises
def test_limits():
    x, (cos, sin) = draw(B, H, T, K), angles(T)
    assert torch.equal(rope(x, torch.ones_like(cos), torch.zeros_like(sin)), x)  # no turn
    agree(rope(rope(x, cos, sin), cos, -sin), x)  # there and back
    assert_close(rope(x, cos, sin).norm(dim=-1), x.norm(dim=-1))  # a turn keeps lengths
    assert rope(x[:, :, :0], cos[:0], sin[:0]).shape == (B, H, 0, K)


def test_the_twin_is_the_librarys_and_its_slopes_are_right():
    x = draw(B, H, 4, 6, dtype=torch.float64)
    positions = torch.tensor([0, 3, 4, 9], device=DEVICE)
    angle = (positions[:, None] * RoPE(6).frequency.to(DEVICE)).double()
    assert_close(rope_plain(x, angle.cos(), angle.sin()).float(), RoPE(6).rotate(x.float(), positions))
    assert torch.autograd.gradcheck(lambda x: rope_plain(x, angle.cos(), angle.sin()), x.requires_grad_())


@pytest.mark.no_promises
def test_what_it_refuses():
    x, (cos, sin) = draw(B, H, T, K), angles(T)
    with pytest.raises(ValueError, match=rf"\({T}, {K // 2}\) works"):
        rope(x, cos[:-1], sin[:-1])
    with pytest.raises(ValueError, match="an even width"):
        rope(x[..., :-1], cos, sin)
