"""Attention in tiles is attention: for every size of the tile, mask and bias, in values and gradients."""

import pytest
import torch
from torch.testing import assert_close

from minillm.attention import masks
from minillm.attention.dot_product import attend
from minillm.attention.tiled import attend_tiled

B, H, T, S, K = 2, 6, 5, 11, 4


def inputs(heads=H):
    draw = torch.Generator().manual_seed(0)
    shapes = [(B, H, T, K), (B, heads, S, K), (B, heads, S, K)]
    return [torch.randn(shape, generator=draw).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("tile", [1, 2, 3, 4, 5, 11, 64])
@pytest.mark.parametrize("heads", [H, 2])
def test_tiles_agree_with_the_whole(tile, heads):
    q, k, v = inputs(heads)
    mask, bias = masks.padding([0, 7], S), torch.randn(H, T, S)
    for arguments in ((), (mask,), (None, bias), (mask, bias, 0.3, True), (None, None, None, True)):
        whole, tiled = attend(q, k, v, *arguments), attend_tiled(q, k, v, *arguments, tile=tile)
        assert_close(tiled, whole)
        pull = torch.randn_like(whole)
        slopes = [torch.autograd.grad((mixed * pull).sum(), (q, k, v)) for mixed in (whole, tiled)]
        for ours, theirs in zip(*slopes, strict=True):
            assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_scores_that_rise_and_fall_are_all_counted():
    """A later, higher score makes all earlier ones shrink; e^100 alone would be infinite in this format."""
    k = torch.zeros(1, 1, 6, 2)
    k[..., 0] = torch.tensor([0.0, 200.0, -200.0, 199.0, 100.0, 200.5])
    q, v = torch.tensor([[[[1.0, 0.0]]]]), torch.randn(1, 1, 6, 2, generator=torch.Generator().manual_seed(1))
    for tile in (1, 2, 4):
        assert_close(attend_tiled(q, k, v, scale=1.0, tile=tile), attend(q, k, v, scale=1.0))


@pytest.mark.no_promises  # a wrong shape breaks them before it is refused
def test_bad_input_is_named():
    q, k, v = inputs()
    with pytest.raises(ValueError, match=r"tile=0 must be at least one query and one key; tile=64 works"):
        attend_tiled(q, k, v, tile=0)
    with pytest.raises(ValueError, match="may_look has shape"):
        attend_tiled(q, k, v, torch.ones(S, T, dtype=torch.bool))
