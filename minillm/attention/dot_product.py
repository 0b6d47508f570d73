"""Scaled dot-product attention: every token asks, every token that it may look at answers.

    attention(Q, K, V) = softmax(Q Kᵀ / √k + bias) V

`attend` writes the formula out; `attend_fused` is the same function as one kernel, which never holds the weights.

Paper:   Vaswani et al. 2017, "Attention Is All You Need", §3.2.1, arXiv:1706.03762. Fewer key heads than query heads:
         Shazeer 2019, arXiv:1911.02150 (one), Ainslie et al. 2023, arXiv:2305.13245 (groups).
Names:   our k is their d_k; our t and s are the query and key positions; `may_look` is the mask.
Differs: the mask is boolean and means "may look"; the paper adds -inf instead. A query that may look nowhere gets
         zeros: 0/0 is NaN in the paper's formula.
Next:    minillm/attention/masks.py
"""

import math

import torch
from einops import einsum, repeat
from torch import Tensor
from torch.nn import functional as F

from minillm.attention.masks import both, causal_mask, check_mask


def attend(
    q_bhtk: Tensor,
    k_bhsk: Tensor,
    v_bhsk: Tensor,
    may_look_ts: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Mix the values by how well each query matches each key: (b, h, t, k).

    `may_look_ts` is boolean, (t, s) or anything that broadcasts to (b, h, t, s), such as (b, 1, t, s); True = may look.
    `causal` forbids the future besides, the last query standing at the last key. `bias` (broadcasts too) is added to
    the scores. Keys and values may have fewer heads than the queries, if their number divides: each is then shared.

    >>> k_bhsk, v_bhsk = torch.randn(1, 1, 2, 2), torch.tensor([[[[0.0, 4.0], [2.0, 0.0]]]])
    >>> attend(torch.zeros(1, 1, 1, 2), k_bhsk, v_bhsk)  # a query of zeros prefers no key: the mean of the values
    tensor([[[[1., 2.]]]])
    """
    k_bhsk, v_bhsk = share_heads(k_bhsk, q_bhtk.shape[1]), share_heads(v_bhsk, q_bhtk.shape[1])
    weight_bhts = attention_weights(q_bhtk, k_bhsk, may_look_ts, bias, scale, causal)
    del may_look_ts  # it may have more axes than its name promises
    weight_bhts = F.dropout(weight_bhts, dropout) if dropout else weight_bhts
    return einsum(weight_bhts, v_bhsk, "b h t s, b h s k -> b h t k")


def attention_weights(
    q_bhtk: Tensor,
    k_bhsk: Tensor,
    may_look: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
) -> Tensor:
    """How each query spends its one unit of attention on the keys: (b, h, t, s), rows that sum to 1 (or to 0).

    >>> one = torch.ones(1, 1, 3, 2)
    >>> attention_weights(one, one, causal=True)[0, 0]
    tensor([[1.0000, 0.0000, 0.0000],
            [0.5000, 0.5000, 0.0000],
            [0.3333, 0.3333, 0.3333]])
    """
    k_bhsk = share_heads(k_bhsk, q_bhtk.shape[1])
    may_look = allowed(q_bhtk, k_bhsk, may_look, bias, causal)
    score_bhts = einsum(q_bhtk, k_bhsk, "b h t k, b h s k -> b h t s") * scale_of(q_bhtk, scale)
    if bias is not None:
        score_bhts = score_bhts + bias
    if may_look is None:
        return score_bhts.softmax(dim=-1)  # over the keys: each query spends exactly one unit
    # The lowest finite number, not -inf: a row with nothing but -inf is NaN, and so is its gradient.
    score_bhts = score_bhts.masked_fill(~may_look, torch.finfo(score_bhts.dtype).min)
    return score_bhts.softmax(dim=-1).masked_fill(~may_look, 0.0)


def attend_fused(
    q_bhtk: Tensor,
    k_bgsk: Tensor,
    v_bgsk: Tensor,
    may_look_ts: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """The twin of `attend` as one kernel: same arguments, same numbers, no (t, s) weights in memory."""
    may_look, scale = may_look_ts, scale_of(q_bhtk, scale)
    del may_look_ts  # it may have more axes than its name promises
    (t, s), shared = (q_bhtk.shape[2], k_bgsk.shape[2]), q_bhtk.shape[1] != k_bgsk.shape[1]
    by_flag = causal and may_look is None and bias is None and t == s > 1  # a flag is cheaper than a mask
    may_look = allowed(q_bhtk, k_bgsk, may_look, bias, causal and not by_flag)
    mask = may_look if bias is None else bias if may_look is None else bias.masked_fill(~may_look, -math.inf)
    return F.scaled_dot_product_attention(
        q_bhtk, k_bgsk, v_bgsk, mask, dropout, is_causal=by_flag, scale=scale, enable_gqa=shared
    )


def allowed(q_bhtk: Tensor, key: Tensor, may_look: Tensor | None, bias: Tensor | None, causal: bool) -> Tensor | None:
    """The mask and `causal` in one, after all shapes were checked; None when every query may look everywhere."""
    (b, h, t, k), (b_key, g, s, k_key) = q_bhtk.shape, key.shape
    if b != b_key or k != k_key or h % g:
        raise ValueError(
            f"queries of shape {tuple(q_bhtk.shape)} and keys of shape {tuple(key.shape)}: batch and head width must "
            f"be equal and the key heads divide the query heads, so keys of shape {(b, h, s, k)} fit"
        )
    if may_look is not None:
        check_mask(may_look, (b, h, t, s))
    return both(may_look, causal_mask(t, s, device=q_bhtk.device)) if causal and t > 1 else may_look


def scale_of(q_bhtk: Tensor, scale: float | None) -> float:
    """What scores are multiplied by: 1/√k unless it was chosen, which keeps their variance at 1."""
    return q_bhtk.shape[-1] ** -0.5 if scale is None else scale


def share_heads(x: Tensor, heads: int) -> Tensor:
    """Keys or values (b, g, s, k) repeated for `heads` query heads, each for h/g neighbours: (b, h, s, k)."""
    return x if x.shape[1] == heads else repeat(x, "b g s k -> b (g n) s k", n=max(1, heads // x.shape[1]))
