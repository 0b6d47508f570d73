"""Flash attention, there and back: the weights (t, s) never leave the registers of the program that needs them.

    top' = max(top, scores)    total' = 2^(top - top') total + Σ 2^(scores - top')    mixed' = 2^(top - top') mixed + …
    out = mixed / total        weights = 2^(scores - (top + log₂ total)), tile by tile again on the way back

Each program holds some queries and lets the keys and values pass by, tile after tile; a softmax that is mended as more
keys are seen needs to remember two numbers a query. One is kept for the way back, top + log₂ total: with it the weights
of any tile can be computed again from its queries and keys. Computing twice is cheaper than storing, because memory,
not arithmetic, is what attention waits for.

The way back is two kernels. One holds queries and lets keys pass, for ∂q; the other holds keys and lets queries pass,
for ∂k and ∂v. So every number is written by one program, in a fixed order: no atomics, the same bits every time.

    δ = Σ_k out ⊙ ∂out     ∂weights = ∂out Vᵀ     ∂scores = weights ⊙ (∂weights - δ)
    ∂q = ∂scores K         ∂k = ∂scoresᵀ Q        ∂v = weightsᵀ ∂out

Paper:   Dao et al. 2022, "FlashAttention", §3.1 and B.2, arXiv:2205.14135; Dao 2023, "FlashAttention-2", §3.1–3.2,
         arXiv:2307.08691; Milakov and Gimelshein 2018, algorithm 3, arXiv:1805.02867.
Names:   `top`, `total`, `mixed` are m, ℓ, O; `log_total` is L, to base 2; `delta` is D; `pull` is dO.
Differs: powers of 2, which a GPU has an instruction for: the scores are multiplied by log₂ e once. Where there are more
         keys than queries, the last query stands at the last key; a query that may look nowhere gets zeros. Queries may
         share keys in groups, as in `minillm.attention`.
Next:    minillm/vectors/word_vectors.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minillm.kernels.attention_tiles import Tiles, keys_seen, precision_of, product, put, tile, tiles_for, unseen
from minillm.kernels.launch import check, jit, power_of_2, tl


def flash_attention(
    q_bhtk: Tensor,
    k_bgsk: Tensor,
    v_bgsk: Tensor,
    causal: bool = False,
    scale: float | None = None,
    tiles: Tiles | None = None,
) -> Tensor:
    """Mix the values by how well each query matches each key: (b, h, t, k).

    Keys and values have g heads, where g divides h; `causal` forbids the future, the last query standing at the last
    key; the scores are multiplied by `scale`, 1/√k if None; `tiles` is a choice of speed. On a GPU, or anywhere with
    TRITON_INTERPRET=1; `flash_attention_plain` is the same function in torch. Raises ValueError for shapes that do not
    fit, RuntimeError where no kernel can run.
    """
    _check_shapes(q_bhtk, k_bgsk, v_bgsk)
    check("flash_attention_plain", q=q_bhtk, k=k_bgsk, v=v_bgsk)
    scale = q_bhtk.shape[-1] ** -0.5 if scale is None else float(scale)
    q_bhtk, k_bgsk, v_bgsk = (x if x.stride(-1) == 1 else x.contiguous() for x in (q_bhtk, k_bgsk, v_bgsk))
    return _FlashAttention.apply(q_bhtk, k_bgsk, v_bgsk, causal, scale, tiles)  # type: ignore[return-value]


def flash_attention_plain(
    q_bhtk: Tensor,
    k_bgsk: Tensor,
    v_bgsk: Tensor,
    causal: bool = False,
    scale: float | None = None,
    tiles: Tiles | None = None,
) -> Tensor:
    """The plain twin of `flash_attention`: all weights at once, in float32 at least; `tiles` changes nothing.

    >>> flash_attention_plain(torch.zeros(1, 1, 1, 2), torch.randn(1, 1, 2, 2), torch.tensor([[[[0.0, 4], [2, 0]]]]))
    tensor([[[[1., 2.]]]])
    """
    _check_shapes(q_bhtk, k_bgsk, v_bgsk)
    (_, h, t, k), (_, g, s, _) = q_bhtk.shape, k_bgsk.shape
    exact = torch.promote_types(q_bhtk.dtype, torch.float32)
    k_bhsk, v_bhsk = (x.to(exact).repeat_interleave(h // g, dim=1) for x in (k_bgsk, v_bgsk))
    score_bhts = (q_bhtk.to(exact) @ k_bhsk.mT) * (k**-0.5 if scale is None else scale)
    if causal:
        future_ts = torch.ones(t, s, dtype=torch.bool, device=q_bhtk.device).triu(s - t + 1)
        lowest = torch.finfo(exact).min  # not -inf: a row of nothing else would be 0/0
        weight_bhts = score_bhts.masked_fill(future_ts, lowest).softmax(dim=-1).masked_fill(future_ts, 0.0)
    else:
        weight_bhts = score_bhts.softmax(dim=-1)
    return (weight_bhts @ v_bhsk).to(q_bhtk.dtype)


class _FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_bhtk: Tensor, k_bgsk: Tensor, v_bgsk: Tensor, causal: bool, scale: float, tiles: Tiles | None
    ) -> Tensor:
        b, h, t, k = q_bhtk.shape
        out_bhtk = torch.empty_like(q_bhtk)
        log_total_bht = torch.empty(b, h, t, dtype=torch.float32, device=q_bhtk.device)
        if out_bhtk.numel():
            rows, sizes = (q_bhtk, k_bgsk, v_bgsk, out_bhtk), (*_sizes(q_bhtk, k_bgsk), scale)
            there = tiles or tiles_for(k, q_bhtk.dtype)
            grid, known = (-(-t // there.held), b * h), _known(q_bhtk, causal, there)
            _there[grid](*rows, log_total_bht, *_strides(*rows), *sizes, **known)
        ctx.save_for_backward(q_bhtk, k_bgsk, v_bgsk, out_bhtk, log_total_bht)
        ctx.causal, ctx.scale, ctx.tiles = causal, scale, tiles
        return out_bhtk

    @staticmethod
    def backward(ctx: Any, *pulls: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        q_bhtk, k_bgsk, v_bgsk, out_bhtk, log_total_bht = ctx.saved_tensors
        pull_bhtk = pulls[0] if pulls[0].stride(-1) == 1 else pulls[0].contiguous()
        slope_q, slope_k, slope_v = (torch.empty_like(x) for x in (q_bhtk, k_bgsk, v_bgsk))
        delta_bht = torch.empty_like(log_total_bht)
        (b, h, t, k), (_, g, s, _) = q_bhtk.shape, k_bgsk.shape
        tiles = ctx.tiles or tiles_for(k, q_bhtk.dtype, back=True)
        if q_bhtk.numel() and k_bgsk.numel():
            known = _known(q_bhtk, ctx.causal, tiles)
            sizes = (*_sizes(q_bhtk, k_bgsk), ctx.scale)
            rows = (q_bhtk, k_bgsk, v_bgsk, out_bhtk, pull_bhtk, slope_q)
            _back_to_queries[(-(-t // tiles.held), b * h)](
                *rows, log_total_bht, delta_bht, *_strides(*rows), *sizes, **known
            )  # which also writes delta, for the next kernel
            rows = (q_bhtk, k_bgsk, v_bgsk, pull_bhtk, slope_k, slope_v)
            _back_to_keys[(-(-s // tiles.held), b * g)](
                *rows, log_total_bht, delta_bht, *_strides(*rows), *sizes, **known
            )
        else:
            slope_q, slope_k, slope_v = (x.zero_() for x in (slope_q, slope_k, slope_v))
        return slope_q, slope_k, slope_v, None, None, None


def _strides(*tensors: Tensor) -> tuple[int, ...]:
    """How far apart in memory rows, heads and positions of each tensor are."""
    return tuple(stride for tensor in tensors for stride in tensor.stride()[:3])


def _sizes(q_bhtk: Tensor, k_bgsk: Tensor) -> tuple[int, int, int, int]:
    """Query heads, query heads that share a key, queries, keys."""
    return q_bhtk.shape[1], q_bhtk.shape[1] // k_bgsk.shape[1], q_bhtk.shape[2], k_bgsk.shape[2]


def _known(q_bhtk: Tensor, causal: bool, tiles: Tiles) -> dict[str, Any]:
    """What is known when a kernel is compiled, and how it is to run."""
    k, precision = q_bhtk.shape[-1], precision_of(q_bhtk.dtype)
    known = {"K": k, "WIDTH": power_of_2(k, least=16), "CAUSAL": causal, "PRECISION": precision}
    return known | {"HELD": tiles.held, "PASSING": tiles.passing, "num_warps": tiles.warps, "num_stages": tiles.stages}


@jit
def _meet_keys(
    top, total, mixed, q, query, k, v, kt, vt, first, end, t, s, scale,
    MASKED: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    PASSING: tl.constexpr,
):  # fmt: skip
    """The heart: keys and values from `first` to `end` pass by, and the softmax is mended with each tile."""
    for start in range(first, end, PASSING):
        key = start + tl.arange(0, PASSING)
        score = product(q, tl.trans(tile(k, key, kt, s, K, WIDTH)), None, PRECISION) * scale
        if MASKED:
            score = unseen(score, query[:, None], key[None, :], t, s, CAUSAL)
        higher = tl.maximum(top, tl.max(score, axis=1))
        kept, weight = tl.exp2(top - higher), tl.exp2(score - higher[:, None])
        total = kept * total + tl.sum(weight, axis=1)
        value = tile(v, key, vt, s, K, WIDTH)
        mixed = product(weight.to(value.dtype), value, mixed * kept[:, None], PRECISION)
        top = higher
    return top, total, mixed


@jit
def _there(
    q, k, v, out, log_total, qb, qh, qt, kb, kh, kt, vb, vh, vt, ob, oh, ot, heads, share, t, s, scale,
    K: tl.constexpr, WIDTH: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    HELD: tl.constexpr, PASSING: tl.constexpr,
):  # fmt: skip
    """A program holds queries of one head of one row; keys and values pass by."""
    row = tl.program_id(1).to(tl.int64)
    batch, head = row // heads, row % heads
    first = tl.program_id(0) * HELD
    query = first + tl.arange(0, HELD)
    q_held = tile(q + batch * qb + head * qh, query, qt, t, K, WIDTH)
    k, v = k + batch * kb + head // share * kh, v + batch * vb + head // share * vh
    scale *= 1.4426950408889634  # log₂ e: from here on powers of 2
    top = tl.zeros((HELD,), dtype=tl.float32) - 1e30  # finite, so that a row of nothing but -inf gives 0 and not 0/0
    total, mixed = tl.zeros((HELD,), dtype=tl.float32), tl.zeros((HELD, WIDTH), dtype=tl.float32)
    whole, end = keys_seen(first, t, s, CAUSAL, HELD, PASSING)
    top, total, mixed = _meet_keys(
        top, total, mixed, q_held, query, k, v, kt, vt, 0, whole, t, s, scale,
        False, K, WIDTH, CAUSAL, PRECISION, PASSING,
    )  # fmt: skip
    top, total, mixed = _meet_keys(
        top, total, mixed, q_held, query, k, v, kt, vt, whole, end, t, s, scale,
        True, K, WIDTH, CAUSAL, PRECISION, PASSING,
    )  # fmt: skip
    nothing = total == 0  # a query that may look nowhere
    mixed = mixed / tl.where(nothing, 1.0, total)[:, None]
    put(out + batch * ob + head * oh, query, ot, t, mixed, K, WIDTH)
    kept = top + tl.log2(tl.where(nothing, 1.0, total))
    tl.store(log_total + row * t + query, kept, mask=query < t)


@jit
def _gather_for_queries(
    slope, q, pull, whole_log, delta, query, k, v, kt, vt, first, end, t, s, scale,
    MASKED: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    PASSING: tl.constexpr,
):  # fmt: skip
    """∂q from the keys `first` to `end`: their weights are computed again."""
    for start in range(first, end, PASSING):
        key = start + tl.arange(0, PASSING)
        k_tile, v_tile = tile(k, key, kt, s, K, WIDTH), tile(v, key, vt, s, K, WIDTH)
        score = product(q, tl.trans(k_tile), None, PRECISION) * scale
        if MASKED:
            score = unseen(score, query[:, None], key[None, :], t, s, CAUSAL)
        weight = tl.exp2(score - whole_log[:, None])
        slope_score = weight * (product(pull, tl.trans(v_tile), None, PRECISION) - delta[:, None])
        slope = product(slope_score.to(k_tile.dtype), k_tile, slope, PRECISION)
    return slope


@jit
def _back_to_queries(
    q, k, v, out, pull, slope_q, log_total, delta,
    qb, qh, qt, kb, kh, kt, vb, vh, vt, ob, oh, ot, pb, ph, pt, sb, sh, st, heads, share, t, s, scale,
    K: tl.constexpr, WIDTH: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    HELD: tl.constexpr, PASSING: tl.constexpr,
):  # fmt: skip
    """∂q, and δ: a program holds queries, as on the way there."""
    row = tl.program_id(1).to(tl.int64)
    batch, head = row // heads, row % heads
    first = tl.program_id(0) * HELD
    query = first + tl.arange(0, HELD)
    q_held = tile(q + batch * qb + head * qh, query, qt, t, K, WIDTH)
    pull_held = tile(pull + batch * pb + head * ph, query, pt, t, K, WIDTH)
    out_held = tile(out + batch * ob + head * oh, query, ot, t, K, WIDTH)
    own_delta = tl.sum(out_held.to(tl.float32) * pull_held.to(tl.float32), axis=1)
    tl.store(delta + row * t + query, own_delta, mask=query < t)
    whole_log = tl.load(log_total + row * t + query, mask=query < t, other=float("inf"))
    k, v = k + batch * kb + head // share * kh, v + batch * vb + head // share * vh
    slope, scale2 = tl.zeros((HELD, WIDTH), dtype=tl.float32), scale * 1.4426950408889634  # log₂ e
    whole, end = keys_seen(first, t, s, CAUSAL, HELD, PASSING)
    slope = _gather_for_queries(
        slope, q_held, pull_held, whole_log, own_delta, query, k, v, kt, vt, 0, whole, t, s, scale2,
        False, K, WIDTH, CAUSAL, PRECISION, PASSING,
    )  # fmt: skip
    slope = _gather_for_queries(
        slope, q_held, pull_held, whole_log, own_delta, query, k, v, kt, vt, whole, end, t, s, scale2,
        True, K, WIDTH, CAUSAL, PRECISION, PASSING,
    )  # fmt: skip
    put(slope_q + batch * sb + head * sh, query, st, t, slope * scale, K, WIDTH)


@jit
def _gather_for_keys(
    slope_k, slope_v, k, v, key, q, pull, log_total, delta, qt, pt, first, end, t, s, scale,
    MASKED: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    PASSING: tl.constexpr,
):  # fmt: skip
    """∂k and ∂v from the queries `first` to `end`; the tile of weights lies on its side, keys by queries."""
    for start in range(first, end, PASSING):
        query = start + tl.arange(0, PASSING)
        q_tile, pull_tile = tile(q, query, qt, t, K, WIDTH), tile(pull, query, pt, t, K, WIDTH)
        whole_log = tl.load(log_total + query, mask=query < t, other=float("inf"))  # no such query: weights of 0
        own_delta = tl.load(delta + query, mask=query < t, other=0.0)
        score = product(k, tl.trans(q_tile), None, PRECISION) * scale
        if MASKED:
            score = unseen(score, query[None, :], key[:, None], t, s, CAUSAL)
        weight = tl.exp2(score - whole_log[None, :])
        slope_v = product(weight.to(pull_tile.dtype), pull_tile, slope_v, PRECISION)
        slope_score = weight * (product(v, tl.trans(pull_tile), None, PRECISION) - own_delta[None, :])
        slope_k = product(slope_score.to(q_tile.dtype), q_tile, slope_k, PRECISION)
    return slope_k, slope_v


@jit
def _back_to_keys(
    q, k, v, pull, slope_k, slope_v, log_total, delta,
    qb, qh, qt, kb, kh, kt, vb, vh, vt, pb, ph, pt, ab, ah, at, cb, ch, ct, heads, share, t, s, scale,
    K: tl.constexpr, WIDTH: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    HELD: tl.constexpr, PASSING: tl.constexpr,
):  # fmt: skip
    """∂k and ∂v: a program holds keys and values of one group, and the queries of all heads that share them pass by."""
    groups, scale2 = heads // share, scale * 1.4426950408889634  # log₂ e
    batch, group = tl.program_id(1).to(tl.int64) // groups, tl.program_id(1).to(tl.int64) % groups
    first = tl.program_id(0) * HELD
    key = first + tl.arange(0, HELD)
    k_held = tile(k + batch * kb + group * kh, key, kt, s, K, WIDTH)
    v_held = tile(v + batch * vb + group * vh, key, vt, s, K, WIDTH)
    sum_k, sum_v = tl.zeros((HELD, WIDTH), dtype=tl.float32), tl.zeros((HELD, WIDTH), dtype=tl.float32)
    begin, whole = 0, 0  # the first query that sees any of these keys, and the first of those that see all
    if CAUSAL:
        begin = tl.maximum(first - (s - t), 0) // PASSING * PASSING
        whole = (tl.maximum(first + HELD - 1 - (s - t), 0) + PASSING - 1) // PASSING * PASSING
    for head in range(group * share, (group + 1) * share):
        q_head, pull_head = q + batch * qb + head * qh, pull + batch * pb + head * ph
        row = (batch * heads + head) * t
        sum_k, sum_v = _gather_for_keys(
            sum_k, sum_v, k_held, v_held, key, q_head, pull_head, log_total + row, delta + row, qt, pt,
            begin, tl.minimum(whole, t), t, s, scale2, True, K, WIDTH, CAUSAL, PRECISION, PASSING,
        )  # fmt: skip
        sum_k, sum_v = _gather_for_keys(
            sum_k, sum_v, k_held, v_held, key, q_head, pull_head, log_total + row, delta + row, qt, pt,
            whole, t, t, s, scale2, False, K, WIDTH, CAUSAL, PRECISION, PASSING,
        )  # fmt: skip
    put(slope_k + batch * ab + group * ah, key, at, s, sum_k * scale, K, WIDTH)
    put(slope_v + batch * cb + group * ch, key, ct, s, sum_v, K, WIDTH)


def _check_shapes(q_bhtk: Tensor, k_bgsk: Tensor, v_bgsk: Tensor) -> None:
    shapes = [tuple(x.shape) for x in (q_bhtk, k_bgsk, v_bgsk)]
    (b, h, _, k), key = shapes[0], shapes[1]
    if key != shapes[2] or (b, k) != (key[0], key[3]) or not key[1] or h % key[1]:
        raise ValueError(
            f"queries, keys and values of shapes {shapes}: the rule is (b, h, t, k) and twice (b, g, s, k), where g "
            f"divides h; keys and values of {(b, h, key[2], k)} work"
        )
    if not q_bhtk.dtype == k_bgsk.dtype == v_bgsk.dtype:
        raise ValueError(
            f"queries, keys and values of {q_bhtk.dtype}, {k_bgsk.dtype} and {v_bgsk.dtype}: one format for all three"
        )
