"""Attention in tiles: the weights never exist as a whole, because a softmax can be mended as more of it is seen.

    m' = max(m, max scores)     l' = e^(m - m') l + Σ e^(score - m')     o' = e^(m - m') o + Σ e^(score - m') v

After the last tile of keys, o / l is the attention. m, l and o take memory for t queries, not for t × s weights; inside
a GPU the tile stays in fast memory, which is where FlashAttention's speed comes from. On a CPU this loop shows
the arithmetic; the speed is in `attend_fused`.

Paper:   Milakov and Gimelshein 2018, "Online normalizer calculation for softmax", algorithm 3, arXiv:1805.02867;
         Dao et al. 2022, "FlashAttention", §3.1, arXiv:2205.14135; queries outside: Dao 2023, §3.1, arXiv:2307.08691.
Names:   `top`, `total`, `mixed` are m, l, o.
Differs: the way back is torch's own, which keeps every tile; FlashAttention computes the tiles again.
Next:    minillm/attention/masks.py
"""

import torch
from einops import einsum
from torch import Tensor

from minillm.attention.dot_product import allowed, scale_of, share_heads


def attend_tiled(
    q_bhtk: Tensor,
    k_bhsk: Tensor,
    v_bhsk: Tensor,
    may_look_ts: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
    tile: int = 64,
) -> Tensor:
    """The same function as `dot_product.attend`, with at most `tile` queries and `tile` keys in view: (b, h, t, k).

    >>> q_bhtk, k_bhsk, v_bhsk = torch.randn(3, 1, 2, 9, 4)
    >>> from minillm.attention.dot_product import attend
    >>> torch.allclose(attend_tiled(q_bhtk, k_bhsk, v_bhsk, tile=2), attend(q_bhtk, k_bhsk, v_bhsk), atol=1e-6)
    True
    """
    if tile < 1:
        raise ValueError(f"tile={tile} must be at least one query and one key; tile=64 works")
    k_bhsk, v_bhsk = share_heads(k_bhsk, q_bhtk.shape[1]), share_heads(v_bhsk, q_bhtk.shape[1])
    may_look = allowed(q_bhtk, k_bhsk, may_look_ts, bias, causal)
    del may_look_ts  # it may have more axes than its name promises
    (b, h, t, _), s = q_bhtk.shape, k_bhsk.shape[2]
    may_look = torch.ones(t, s, dtype=torch.bool, device=q_bhtk.device) if may_look is None else may_look
    may_look, bias = may_look.expand(b, h, t, s), None if bias is None else bias.expand(b, h, t, s)
    scaled_bhtk = q_bhtk * scale_of(q_bhtk, scale)
    rows = []
    for first in range(0, t, tile):
        seen = slice(first, first + tile)
        part_bias = None if bias is None else bias[:, :, seen]
        rows.append(_tile_of_queries(scaled_bhtk[:, :, seen], k_bhsk, v_bhsk, may_look[:, :, seen], part_bias, tile))
    return torch.cat(rows, dim=2)


def _tile_of_queries(
    q_bhtk: Tensor, k_bhsk: Tensor, v_bhsk: Tensor, may_look: Tensor, bias: Tensor | None, tile: int
) -> Tensor:
    """One tile of queries meets the keys, tile by tile."""
    lowest = torch.finfo(q_bhtk.dtype).min
    top = torch.full_like(q_bhtk[..., :1], lowest)  # the highest score so far
    total, mixed = torch.zeros_like(top), torch.zeros_like(q_bhtk)
    for first in range(0, k_bhsk.shape[2], tile):
        seen = slice(first, first + tile)
        score = einsum(q_bhtk, k_bhsk[:, :, seen], "b h t k, b h s k -> b h t s")
        score = score if bias is None else score + bias[..., seen]
        score = score.masked_fill(~may_look[..., seen], lowest)
        higher = torch.maximum(top, score.amax(dim=-1, keepdim=True))
        kept, weight = (top - higher).exp(), (score - higher).exp() * may_look[..., seen]
        total = kept * total + weight.sum(dim=-1, keepdim=True)
        mixed = kept * mixed + einsum(weight, v_bhsk[:, :, seen], "b h t s, b h s k -> b h t k")
        top = higher
    return mixed / total.masked_fill(total == 0, 1.0)  # a query that may look nowhere: 0 / 1
