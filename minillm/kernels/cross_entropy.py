"""Softmax cross-entropy whose gradient never takes memory of its own: it is written over the logits.

    nats_i = log Σ_v e^(z_iv) - z_i,target        loss = mean over the targets that count
    ∂z_iv = (e^(z_iv - log Σ) - [v = target_i]) / count

The logits are the largest tensor of a small model's step: 16 rows of 1,024 tokens with GPT-2's vocabulary are 0.8
billion numbers, and operations of torch hold two or three tensors of that size at a time. Here there is one. The way
there reads the logits once, tile by tile, with a softmax that is mended as more is seen; it keeps log Σ, one number a
row. The way back reads them once more and writes each gradient into the place of its logit: they are spent then.

`linear_cross_entropy` goes further: it multiplies by the last matrix for some rows at a time, so not even the logits
exist as a whole; the gradients of these rows are taken at once, and their memory serves the next.

Paper:   Milakov and Gimelshein 2018, algorithm 3, arXiv:1805.02867 (the sum in one reading); Hsu et al. 2024, "Liger
         Kernel", §3.2, arXiv:2410.10989 (gradients in place, the head in chunks).
Names:   `nats` are the losses of the rows, `log_total` is log Σ, `pull` the gradient that arrives, `slope` what leaves.
Differs: written over the logits on the way back, not on the way there, so a loss without a backward leaves them whole.
         A target outside the vocabulary makes the loss NaN: to raise, a GPU would have to be waited for.
Next:    minillm/kernels/attention_tiles.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minillm.kernels.launch import check, jit, power_of_2, tl

TILE = 4096  # logits that one program looks at together
LOWEST = -3e38  # a first guess for the largest logit: finite, so that a logit of -inf gives 0 and not 0/0


def cross_entropy(logits_nv: Tensor, target_n: Tensor, ignore: int = -100) -> Tensor:
    """Mean nats of the targets, int64 (n,), under logits (n, v), which hold their own gradient after `backward`.

    Targets equal to `ignore` do not count. Whoever else needs the logits for a gradient gets torch's error about a
    tensor that was changed in place, and so does a second `backward`. On a GPU, or anywhere with TRITON_INTERPRET=1;
    `cross_entropy_plain` is the same function in torch.
    """
    _check_shapes(logits_nv, target_n)
    check("cross_entropy_plain", logits=logits_nv, target=target_n)
    if not logits_nv.is_contiguous():
        raise ValueError(
            f"logits has strides {logits_nv.stride()}: the gradient is written over them, row by row without gaps; "
            "logits.contiguous() works"
        )
    nats_n: Any = _CrossEntropy.apply(logits_nv, target_n, ignore)
    return nats_n.sum() / (target_n != ignore).sum()


def cross_entropy_plain(logits_nv: Tensor, target_n: Tensor, ignore: int = -100) -> Tensor:
    """The plain twin of `cross_entropy`: the formula, in float32 at least; the logits stay as they are.

    >>> cross_entropy_plain(torch.zeros(2, 4), torch.tensor([3, -100]))  # no idea: log 4
    tensor(1.3863)
    """
    _check_shapes(logits_nv, target_n)
    wide = logits_nv.to(torch.promote_types(logits_nv.dtype, torch.float32))
    counts = target_n != ignore
    own_n = wide.gather(1, target_n.where(counts, 0)[:, None])[:, 0]
    return ((wide.logsumexp(dim=1) - own_n) * counts).sum() / counts.sum()


def linear_cross_entropy(
    x_nd: Tensor, weight_vd: Tensor, target_n: Tensor, ignore: int = -100, rows: int = 4096
) -> Tensor:
    """`cross_entropy(x_nd @ weight_vd.T, target_n)` with at most `rows` rows of logits in memory at a time.

    Where autocast is on, the product is taken in its format. The gradient of the weight is added up in float32.
    `linear_cross_entropy_plain` is the same function in torch.
    """
    _check_head(x_nd, weight_vd, target_n, rows)
    check("linear_cross_entropy_plain", x=x_nd, weight=weight_vd, target=target_n)
    if torch.is_autocast_enabled(x_nd.device.type):
        low = torch.get_autocast_dtype(x_nd.device.type)
        x_nd, weight_vd = x_nd.to(low), weight_vd.to(low)
    learns = torch.is_grad_enabled() and (x_nd.requires_grad or weight_vd.requires_grad)
    return _Head.apply(x_nd, weight_vd, target_n, ignore, rows, learns)  # type: ignore[return-value]


def linear_cross_entropy_plain(
    x_nd: Tensor, weight_vd: Tensor, target_n: Tensor, ignore: int = -100, rows: int = 4096
) -> Tensor:
    """The plain twin of `linear_cross_entropy`: all logits at once; `rows` changes nothing.

    >>> linear_cross_entropy_plain(torch.zeros(2, 3), torch.ones(4, 3), torch.tensor([3, 0]))
    tensor(1.3863)
    """
    _check_head(x_nd, weight_vd, target_n, rows)
    return cross_entropy_plain(F.linear(x_nd, weight_vd), target_n, ignore)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_nv: Tensor, target_n: Tensor, ignore: int) -> Tensor:
        nats_n, log_total_n = _read(logits_nv, target_n, ignore)
        ctx.save_for_backward(logits_nv, target_n, log_total_n)
        ctx.ignore = ignore
        return nats_n

    @staticmethod
    def backward(ctx: Any, *pulls: Tensor) -> tuple[Tensor, None, None]:
        logits_nv, target_n, log_total_n = ctx.saved_tensors
        _write_over(logits_nv, target_n, log_total_n, pulls[0].contiguous(), ctx.ignore)
        if not torch.compiler.is_compiling():
            torch.autograd.graph.increment_version(logits_nv)  # whoever still needs them must not use them unawares
        return logits_nv, None, None


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_nd: Tensor, weight_vd: Tensor, target_n: Tensor, ignore: int, rows: int, learns: bool
    ) -> Tensor:
        count = (target_n != ignore).sum()
        slope_nd = torch.empty_like(x_nd) if learns else None
        slope_vd = torch.zeros_like(weight_vd, dtype=torch.float32) if learns else None
        total = torch.zeros((), dtype=torch.float32, device=x_nd.device)
        for first in range(0, len(x_nd), rows):
            some = slice(first, first + rows)
            logits = F.linear(x_nd[some], weight_vd)
            nats, log_total = _read(logits, target_n[some], ignore)
            total += nats.sum()
            if slope_nd is not None and slope_vd is not None:
                _write_over(logits, target_n[some], log_total, (1 / count).expand(len(logits)).contiguous(), ignore)
                slope_nd[some] = logits @ weight_vd
                slope_vd += logits.T @ x_nd[some]
        if slope_nd is not None and slope_vd is not None:
            ctx.save_for_backward(slope_nd, slope_vd.to(weight_vd.dtype))
        return total / count

    @staticmethod
    def backward(ctx: Any, *pulls: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        slope_nd, slope_vd = ctx.saved_tensors
        pull = pulls[0].to(slope_nd.dtype)
        return slope_nd * pull, slope_vd * pull, None, None, None, None


def _read(logits_nv: Tensor, target_n: Tensor, ignore: int) -> tuple[Tensor, Tensor]:
    """The loss of every row, and the logarithm of its sum: (n,) each, float32."""
    n, v = logits_nv.shape
    nats_n, log_total_n = torch.empty(2, n, dtype=torch.float32, device=logits_nv.device)
    if n:
        _nats[(n,)](logits_nv, target_n, nats_n, log_total_n, v, ignore, LOWEST, WIDTH=min(TILE, power_of_2(v)))
    return nats_n, log_total_n


def _write_over(logits_nv: Tensor, target_n: Tensor, log_total_n: Tensor, pull_n: Tensor, ignore: int) -> None:
    """Put the gradient of Σ pull · nats into the place of the logits."""
    n, v = logits_nv.shape
    if n:
        _slope[(n,)](logits_nv, target_n, log_total_n, pull_n, v, ignore, WIDTH=min(TILE, power_of_2(v)))


@jit
def _nats(logits, target, nats, log_total, v, ignore, lowest, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    own = tl.load(target + row)
    top, total = lowest, 0.0
    for first in range(0, v, WIDTH):
        column = first + tl.arange(0, WIDTH)
        z = tl.load(logits + row * v + column, mask=column < v, other=-float("inf")).to(tl.float32)
        higher = tl.maximum(top, tl.max(z, axis=0))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(z - higher), axis=0)
        top = higher
    whole = tl.log(total) + top
    known = (own >= 0) & (own < v)
    z_own = tl.load(logits + row * v + own, mask=known, other=float("nan")).to(tl.float32)
    tl.store(nats + row, tl.where(own == ignore, 0.0, whole - z_own))
    tl.store(log_total + row, whole)


@jit
def _slope(logits, target, log_total, pull, v, ignore, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    own, whole, g = tl.load(target + row), tl.load(log_total + row), tl.load(pull + row).to(tl.float32)
    counts = own != ignore
    for first in range(0, v, WIDTH):
        column = first + tl.arange(0, WIDTH)
        z = tl.load(logits + row * v + column, mask=column < v, other=0.0).to(tl.float32)
        slope = tl.where(counts, (tl.exp(z - whole) - tl.where(column == own, 1.0, 0.0)) * g, 0.0)
        tl.store(logits + row * v + column, slope.to(logits.dtype.element_ty), mask=column < v)


def _check_shapes(logits_nv: Tensor, target_n: Tensor) -> None:
    if logits_nv.ndim != 2 or target_n.shape != logits_nv.shape[:1] or target_n.dtype != torch.int64:
        raise ValueError(
            f"logits of shape {tuple(logits_nv.shape)} and target of shape {tuple(target_n.shape)} with dtype="
            f"{target_n.dtype}: the rule is (n, v) and int64 (n,); logits.flatten(0, -2) and target.flatten() work"
        )


def _check_head(x_nd: Tensor, weight_vd: Tensor, target_n: Tensor, rows: int) -> None:
    if x_nd.ndim != 2 or weight_vd.ndim != 2 or x_nd.shape[1] != weight_vd.shape[1] or rows < 1:
        raise ValueError(
            f"x of shape {tuple(x_nd.shape)}, weight of shape {tuple(weight_vd.shape)}, rows={rows}: the rule is "
            "(n, d), (v, d) and at least 1 row; x.flatten(0, -2) and rows=4096 work"
        )
    if target_n.shape != x_nd.shape[:1] or target_n.dtype != torch.int64:
        raise ValueError(
            f"target of shape {tuple(target_n.shape)} with dtype={target_n.dtype} for x of shape {tuple(x_nd.shape)}: "
            "int64, one for each row; target.flatten() works"
        )
