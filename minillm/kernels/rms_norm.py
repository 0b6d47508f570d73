"""RMSNorm as one kernel: a row is read once, measured while it is in registers, and written once.

    y = r w ⊙ x,     r = 1 / √(mean(x²) + ε)                        over the numbers of one row
    ∂x = r (w ⊙ ∂y - x̂ · mean(x̂ ⊙ w ⊙ ∂y)),   ∂w = Σ_rows x̂ ⊙ ∂y,   x̂ = r x

Operations of torch, one after the other, read and write the rows five times; memory is what a norm waits for, so one
reading is most of what can be gained. Only r, one number a row, is kept for the way back.

Paper:   Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4, arXiv:1910.07467.
Names:   `inverse` is r; `pull` is ∂y, `slope` what the way back is after.
Differs: computed in float32 whatever the format of x; y has the format of x. Each program of the way back adds up ∂w
         for its own rows, and torch adds those sums in a fixed order: no atomics, the same bits every time.
Next:    minillm/kernels/rope.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minillm.kernels.launch import check, jit, power_of_2, processors, tl

TILE = 4096  # numbers that one program holds at a time


def rms_norm(x: Tensor, weight_d: Tensor, eps: float = 1e-6) -> Tensor:
    """Bring every row of x, (..., d), to a mean square of 1, times `weight_d`: the shape and format of x.

    On a GPU, or anywhere with TRITON_INTERPRET=1; `rms_norm_plain` is the same function in torch. Raises ValueError for
    shapes that do not fit, RuntimeError where no kernel can run.
    """
    _check_shapes(x, weight_d)
    check("rms_norm_plain", x=x, weight=weight_d)
    return _RMSNorm.apply(x, weight_d, eps)  # type: ignore[return-value]


def rms_norm_plain(x: Tensor, weight_d: Tensor, eps: float = 1e-6) -> Tensor:
    """The plain twin of `rms_norm`: the formula, in float32 at least.

    >>> rms_norm_plain(torch.tensor([[1.0, 7.0]]), torch.ones(2))  # a mean square of 25
    tensor([[0.2000, 1.4000]])
    """
    _check_shapes(x, weight_d)
    exact = torch.promote_types(x.dtype, torch.float32)
    wide = x.to(exact)
    return (wide * (wide.square().mean(dim=-1, keepdim=True) + eps).rsqrt() * weight_d.to(exact)).to(x.dtype)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_d: Tensor, eps: float) -> Tensor:
        x_nd, weight_d = x.reshape(-1, x.shape[-1]).contiguous(), weight_d.contiguous()
        (n, d), (rows, width) = x_nd.shape, _tile(x.shape[-1])
        y_nd, inverse_n = torch.empty_like(x_nd), torch.empty(n, dtype=torch.float32, device=x.device)
        if n:
            _forward[(-(-n // rows),)](x_nd, weight_d, y_nd, inverse_n, n, d, eps, ROWS=rows, WIDTH=width)
        ctx.save_for_backward(x_nd, weight_d, inverse_n)
        return y_nd.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *pulls: Tensor) -> tuple[Tensor, Tensor, None]:
        x_nd, weight_d, inverse_n = ctx.saved_tensors
        pull_nd = pulls[0].reshape(x_nd.shape).contiguous()
        (n, d), (rows, width) = x_nd.shape, _tile(x_nd.shape[1])
        programs = max(1, min(-(-n // rows), 2 * processors(x_nd.device)))
        slope_nd = torch.empty_like(x_nd)
        part = torch.zeros(programs, d, dtype=torch.float32, device=x_nd.device)
        if n:
            _backward[(programs,)](x_nd, weight_d, inverse_n, pull_nd, slope_nd, part, n, d, ROWS=rows, WIDTH=width)
        return slope_nd.view(pulls[0].shape), part.sum(dim=0).to(weight_d.dtype), None


@jit
def _forward(x, weight, y, inverse, n, d, eps, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    place = row[:, None].to(tl.int64) * d + column[None, :]
    there = (row < n)[:, None] & (column < d)[None, :]
    number = tl.load(x + place, mask=there, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < d, other=0.0).to(tl.float32)
    r = tl.rsqrt(tl.sum(number * number, axis=1) / d + eps)
    tl.store(y + place, (number * r[:, None] * w[None, :]).to(y.dtype.element_ty), mask=there)
    tl.store(inverse + row, r, mask=row < n)


@jit
def _backward(x, weight, inverse, pull, slope, part, n, d, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    column = tl.arange(0, WIDTH)
    w = tl.load(weight + column, mask=column < d, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    for first in range(tl.program_id(0) * ROWS, n, tl.num_programs(0) * ROWS):
        row = first + tl.arange(0, ROWS)
        place = row[:, None].to(tl.int64) * d + column[None, :]
        there = (row < n)[:, None] & (column < d)[None, :]
        r = tl.load(inverse + row, mask=row < n, other=0.0)[:, None]
        normed = tl.load(x + place, mask=there, other=0.0).to(tl.float32) * r
        g = tl.load(pull + place, mask=there, other=0.0).to(tl.float32)
        along = tl.sum(normed * g * w[None, :], axis=1) / d  # the part of the pull that only changes the length
        change = r * (g * w[None, :] - normed * along[:, None])
        tl.store(slope + place, change.to(slope.dtype.element_ty), mask=there)
        total += normed * g
    tl.store(part + tl.program_id(0) * d + column, tl.sum(total, axis=0), mask=column < d)


def _tile(d: int) -> tuple[int, int]:
    """Rows and columns that one program holds: whole rows, and several where they are short."""
    width = power_of_2(d)
    return max(1, min(16, TILE // width)), width


def _check_shapes(x: Tensor, weight_d: Tensor) -> None:
    if x.ndim < 1 or weight_d.shape != x.shape[-1:]:
        raise ValueError(
            f"weight of shape {tuple(weight_d.shape)} for x of shape {tuple(x.shape)}: a number for each of a row's is "
            f"the rule; a weight of shape {tuple(x.shape[-1:])} works"
        )
