"""Flash attention against its twin and the library's own: there and back, all shapes, tiles that end anywhere."""

import itertools

import pytest
import torch
from kernel_cases import DEVICE, FORMATS, agree, draw, slopes
from needs_cuda import cuda
from torch.testing import assert_close

from minillm.attention.dot_product import attend
from minillm.kernels.attention_tiles import Tiles, tiles_for
from minillm.kernels.flash_attention import flash_attention, flash_attention_plain

B, H, T, S, K = 1, 2, 37, 53, 10
SMALL = Tiles(held=32, passing=16)  # so that 37 queries and 53 keys take several, and the last ones are not full


def inputs(t=T, s=S, heads=H, dtype=torch.float32, b=B):
    shapes = [(b, H, t, K), (b, heads, s, K), (b, heads, s, K)]
    return [draw(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]


def both(pull, *qkv, causal=False, scale=None, tiles=SMALL):
    by = (flash_attention, flash_attention_plain)
    return zip(*(slopes(lambda *x, f=f: f(*x, causal, scale, tiles), pull, *qkv) for f in by), strict=True)


@pytest.mark.no_promises  # the interpreter is mostly loops
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("t", "s"), [(37, 53), (53, 37)])  # as with a cache; queries before the first key
def test_the_kernel_agrees_with_its_twin(t, s, causal, dtype):
    pull = draw(B, H, t, K, dtype=dtype, seed=9)
    for ours, theirs in both(pull, *inputs(t, s, dtype=dtype), causal=causal):
        agree(ours, theirs)


@pytest.mark.no_promises
@pytest.mark.parametrize("tiles", [Tiles(held=16, passing=16), Tiles(held=16, passing=32), None], ids=str)
def test_how_the_work_is_cut_does_not_matter(tiles):
    pull = draw(B, H, 33, K, seed=9)
    for ours, theirs in both(pull, *inputs(33, 33), causal=True, tiles=tiles):
        agree(ours, theirs)


@pytest.mark.no_promises
def test_heads_may_share_keys_and_lie_anywhere_in_memory():
    """Rows, heads and groups of different numbers; all four inputs as transposes, as a model has them."""
    b, h, g, t, s = 2, 6, 3, 18, 20
    q, pull = (draw(b, t, h, K, seed=i).transpose(1, 2) for i in (0, 9))
    k, v = (draw(K, s, b, g, seed=i).permute(2, 3, 1, 0) for i in (1, 2))
    for ours, theirs in both(pull, q, k, v, causal=True, scale=0.7):
        agree(ours, theirs)


@pytest.mark.no_promises
def test_it_is_the_librarys_attention():
    q, k, v = inputs(21, 33, heads=1)
    for causal, scale in itertools.product((False, True), (None, 0.1)):
        ours, theirs = flash_attention(q, k, v, causal, scale, SMALL), attend(q, k, v, scale=scale, causal=causal)
        assert_close(ours, theirs)


@pytest.mark.no_promises
def test_the_future_cannot_change_the_past():
    q, k, v = inputs(33, 33)
    before = flash_attention(q, k, v, True, None, SMALL)
    for cut in (1, 16, 17, 32):
        k[:, :, cut:], v[:, :, cut:] = k[:, :, cut:] + 1, v[:, :, cut:] + 9
        after = flash_attention(q, k, v, True, None, SMALL)
        assert torch.equal(after[:, :, :cut], before[:, :, :cut]) and (after - before)[:, :, cut].abs().min() > 1e-4
        before = after


@pytest.mark.no_promises
def test_limits():
    q, k, v = inputs(5, 53)
    zeros = flash_attention(torch.zeros_like(q), k, v, tiles=SMALL)  # prefers no key: the mean of the values
    assert_close(zeros, v.mean(dim=2, keepdim=True).expand_as(zeros))
    k[:, :, -1], q[:] = 100.0, 100.0  # e^(the highest score) alone would be infinite
    assert_close(flash_attention(q, k, v, tiles=SMALL), v[:, :, -1:].expand_as(q))
    first = flash_attention(*inputs(5, 3), True, None, SMALL)
    assert first[:, :, :2].abs().max() == 0 and first[:, :, 2].abs().min() > 0  # the first two queries see no key
    assert flash_attention(q[:, :, :0], k, v).shape == (B, H, 0, K)


@pytest.mark.no_promises
def test_the_bits_do_not_depend_on_the_run():
    q, k, v = inputs(20, 20)
    first, second = (slopes(lambda *x: flash_attention(*x, True), draw(B, H, 20, K, seed=9), q, k, v) for _ in "12")
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_twins_slopes_are_right():
    q, k, v = (x.double().requires_grad_() for x in inputs(4, 5, heads=1))
    for causal in (False, True):
        assert torch.autograd.gradcheck(lambda *x, causal=causal: flash_attention_plain(*x, causal), (q, k, v))


@pytest.mark.no_promises
def test_what_it_refuses():
    q, k, v = inputs()
    with pytest.raises(ValueError, match=rf"keys and values of \({B}, {H}, {S}, {K}\) work"):
        flash_attention(q, k[..., :-1], v[..., :-1])
    with pytest.raises(ValueError, match="one format for all three"):
        flash_attention(q, k, v.bfloat16())
    with pytest.raises(ValueError, match="passing=24 must be a power of 2"):
        Tiles(held=32, passing=24)


@cuda
@pytest.mark.no_promises
@pytest.mark.parametrize("k", [64, 128])
@pytest.mark.parametrize("dtype", FORMATS)
def test_sizes_of_real_models_on_a_gpu(k, dtype):
    """The tiles that are used in earnest, against torch's own kernel."""
    q, key, v = (draw(2, 4, 700, k, dtype=dtype, seed=i) for i in range(3))
    pull = draw(2, 4, 700, k, dtype=dtype, seed=9)
    theirs = slopes(lambda *x: torch.nn.functional.scaled_dot_product_attention(*x, is_causal=True), pull, q, key, v)
    for one, other in zip(slopes(lambda *x: flash_attention(*x, True), pull, q, key, v), theirs, strict=True):
        agree(one, other)
    assert tiles_for(k, dtype, back=True).held >= 32 and DEVICE == "cuda"
