"""Scaled dot-product attention: every token asks, and every token that it may look at answers.

    attention(Q, K, V) = softmax(Q Kᵀ / √k + bias) V

`attend` writes the formula out; `attend_fused` is the same function as one kernel, which never holds the weights.

Paper:   Vaswani et al. 2017, "Attention Is All You Need", §3.2.1, arXiv:1706.03762. Fewer key heads than query heads:
         Shazeer 2019, arXiv:1911.02150 (one), Ainslie et al. 2023, arXiv:2305.13245 (groups).
Names:   our k is their d_k; t and s are the query and key positions; g, at most h, is the number of key heads.
Differs: the mask is boolean and means "may look"; the paper adds -inf instead. A query that may look nowhere gets
         zeros: the paper's formula has 0/0 for it.
Next:    minillm/attention/tiled.py
"""

import math

import torch
from einops import einsum, repeat
from torch import Tensor
from torch.nn import functional as F

from minillm.attention import masks

MOST_PRODUCTS = 1024  # tokens of a row; the measured table is at `_products_are_faster`


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

    `may_look_ts` is boolean, (t, s) or anything that broadcasts to (b, h, t, s), such as (b, 1, t, s): True = may look.
    `causal` forbids the future besides, the last query standing at the last key. `bias`, finite and of a shape that
    broadcasts, is added to the scores, which are multiplied by `scale` (1/√k) before. Keys and values may have g
    heads where the queries have h, if g divides h: each is shared by h/g neighbours. `dropout` is the share of the
    weights that is dropped. Raises ValueError for shapes that do not fit.

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

    The arguments are those of `attend`.

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
    # Not -inf: a row of nothing else has the softmax 0/0. With the lowest number it is a mean, which is then emptied.
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
    """The twin of `attend` as one kernel: same arguments, same numbers, and no (t, s) weights in memory.

    >>> q_bhtk, k_bhsk = torch.randn(2, 3, 4, 5), torch.randn(2, 1, 6, 5)
    >>> torch.allclose(attend_fused(q_bhtk, k_bhsk, k_bhsk), attend(q_bhtk, k_bhsk, k_bhsk), atol=1e-6)
    True
    """
    may_look, scale = may_look_ts, scale_of(q_bhtk, scale)
    del may_look_ts  # it may have more axes than its name promises
    (t, s), shared = (q_bhtk.shape[2], k_bgsk.shape[2]), q_bhtk.shape[1] != k_bgsk.shape[1]
    if may_look is None and not dropout and t == s > 1 and not shared and _products_are_faster(q_bhtk):
        allowed(q_bhtk, k_bgsk, None, bias, False)
        return _as_products(q_bhtk, k_bgsk, v_bgsk, bias, scale, causal)
    by_flag = causal and may_look is None and bias is None and t == s > 1  # a kernel that knows skips the future
    may_look = allowed(q_bhtk, k_bgsk, may_look, bias, causal and not by_flag)
    mask = may_look if bias is None else bias if may_look is None else bias.masked_fill(~may_look, -math.inf)
    if shared and t == 1:
        return _one_query(q_bhtk, k_bgsk, v_bgsk, mask, scale, dropout)
    return F.scaled_dot_product_attention(
        q_bhtk, k_bgsk, v_bgsk, mask, dropout, is_causal=by_flag, scale=scale, enable_gqa=shared
    )


def _products_are_faster(q_bhtk: Tensor) -> bool:
    """Whether torch's kernel is the slow way: to learn in bfloat16 on a CPU, in rows that are not too long.

    Its processor time in units of the products', there and back, 1024 tokens in all, one thread, AVX-512 with bfloat16:

        tokens of a row           64    128    256    512   1024   2048
        4 heads of 32            5.9    4.3    2.2    1.8    1.1    0.4
        12 heads of 64           5.3    3.9    2.2    2.2    1.3
        4 heads of 32, ALiBi     1.9    1.9    2.3    2.2    3.0    2.1
        12 heads of 64, ALiBi    2.8    2.5    2.4    2.3    3.4

    Beyond 1024 the kernel that knows the future skips it, and the weights, which it never holds, fill the memory.
    """
    learns = q_bhtk.requires_grad and torch.is_grad_enabled() and q_bhtk.shape[2] <= MOST_PRODUCTS
    return learns and q_bhtk.device.type == "cpu" and q_bhtk.dtype == torch.bfloat16


def _as_products(
    q_bhtk: Tensor, k_bhsk: Tensor, v_bhsk: Tensor, bias: Tensor | None, scale: float, causal: bool
) -> Tensor:
    """Two batched products and a softmax; what is added to the scores rides on the first product."""
    (b, h, t, k), s = q_bhtk.shape, k_bhsk.shape[2]
    added = q_bhtk.new_zeros(1, t, s) if bias is None else bias.to(q_bhtk.dtype)
    if causal:
        added = added.masked_fill(~masks.causal(t, s, q_bhtk.device), -math.inf)
    if added.shape[0] != 1 or added.ndim != 3:
        added = added.expand(b, h, t, s).reshape(b * h, t, s)
    q, key, value = (x.reshape(b * h, -1, k) for x in (q_bhtk, k_bhsk, v_bhsk))
    weight = torch.baddbmm(added, q, key.mT, alpha=scale).softmax(dim=-1)
    return torch.bmm(weight, value).view(b, h, t, k)


def _one_query(
    q_bhtk: Tensor, k_bgsk: Tensor, v_bgsk: Tensor, mask: Tensor | None, scale: float, dropout: float
) -> Tensor:
    """With t = 1 the queries that share a key take the place of time: each key is read once, not h/g times."""
    (b, h, _, k), g = q_bhtk.shape, k_bgsk.shape[1]
    if mask is not None and mask.ndim > 2 and mask.shape[-3] == h:  # a mask of its own for each head
        mask = mask.reshape(*mask.shape[:-3], g, h // g, mask.shape[-1])
    mixed = F.scaled_dot_product_attention(q_bhtk.reshape(b, g, h // g, k), k_bgsk, v_bgsk, mask, dropout, scale=scale)
    return mixed.reshape(b, h, 1, k)


def allowed(q_bhtk: Tensor, key: Tensor, may_look: Tensor | None, bias: Tensor | None, causal: bool) -> Tensor | None:
    """The mask and `causal` in one, after all shapes were checked; None when every query may look everywhere."""
    (b, h, t, k), (b_key, g, s, k_key) = q_bhtk.shape, key.shape
    if b != b_key or k != k_key or h % g:
        raise ValueError(
            f"queries of shape {(b, h, t, k)} and keys of shape {(b_key, g, s, k_key)}: batch and head width must be "
            f"equal and the number of key heads divide that of the queries; keys of shape {(b, h, s, k)} fit"
        )
    if may_look is not None:
        masks.check_mask(may_look, (b, h, t, s))
    if bias is not None:
        masks.check_broadcast("bias", bias, (b, h, t, s))
    return masks.both(may_look, masks.causal(t, s, q_bhtk.device)) if causal and t > 1 else may_look


def scale_of(q_bhtk: Tensor, scale: float | None) -> float:
    """What the scores are multiplied by: 1/√k, which keeps their variance at 1, unless another was chosen.

    >>> scale_of(torch.zeros(1, 1, 1, 16), None)
    0.25
    """
    return q_bhtk.shape[-1] ** -0.5 if scale is None else scale


def share_heads(x: Tensor, heads: int) -> Tensor:
    """Keys or values (b, g, s, k) repeated for `heads` query heads, each for its neighbours: (b, h, s, k).

    >>> share_heads(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), heads=4).flatten()
    tensor([1., 1., 2., 2.])
    """
    g = x.shape[1]
    return x if heads == g or heads % g else repeat(x, "b g s k -> b (g share) s k", share=heads // g)
