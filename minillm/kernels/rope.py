"""RoPE as one kernel: both halves of a query are read once, turned in registers, and written once.

    (u, v) → (u cos θ - v sin θ,  v cos θ + u sin θ)        u, v: the two halves of a query or key; θ = t · base^(-2i/k)

The way back is the same kernel with -sin: a turn is undone by turning back.

Paper:   Su et al. 2021, "RoFormer", §3.2.2 and §3.4.2, arXiv:2104.09864.
Names:   `cos` and `sin` hold one number for each position and pair: those of θ.
Differs: halves are paired, (i, i + k/2), as in `minillm.attention.positions`; the paper pairs neighbours.
Next:    minillm/kernels/cross_entropy.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minillm.kernels.launch import check, jit, power_of_2, tl


def rope(x_bhtk: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn queries or keys (b, h, t, k); `cos` and `sin` are (t, k/2), or (b, t, k/2) where rows differ.

    On a GPU, or anywhere with TRITON_INTERPRET=1; `rope_plain` is the same function in torch. No gradient flows to
    `cos` and `sin`. Raises ValueError for shapes that do not fit, RuntimeError where no kernel can run.
    """
    _check_shapes(x_bhtk, cos, sin)
    check("rope_plain", x=x_bhtk, cos=cos, sin=sin)
    return _Rope.apply(x_bhtk, cos, sin)  # type: ignore[return-value]


def rope_plain(x_bhtk: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The plain twin of `rope`: the formula, in float32 at least.

    >>> angle = torch.tensor([[torch.pi / 2]])
    >>> rope_plain(torch.tensor([[[[3.0, 4.0]]]]), angle.cos(), angle.sin()).round()  # a quarter turn
    tensor([[[[-4.,  3.]]]])
    """
    _check_shapes(x_bhtk, cos, sin)
    exact = torch.promote_types(x_bhtk.dtype, torch.float32)
    cos, sin = (each.to(exact) if each.ndim == 2 else each.to(exact)[:, None] for each in (cos, sin))
    first, second = x_bhtk.to(exact).chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x_bhtk.dtype)


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_bhtk: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x_bhtk, cos, sin, back=False)

    @staticmethod
    def backward(ctx: Any, *pulls: Tensor) -> tuple[Tensor, None, None]:
        return _turned(pulls[0], *ctx.saved_tensors, back=True), None, None


def _turned(x_bhtk: Tensor, cos: Tensor, sin: Tensor, back: bool) -> Tensor:
    b, h, t, k = x_bhtk.shape
    x_bhtk = x_bhtk if x_bhtk.stride(-1) == 1 else x_bhtk.contiguous()
    y_bhtk = torch.empty_like(x_bhtk)  # in memory as x, also where x is the transpose of (b, t, h, k)
    if cos.stride() != sin.stride() or cos.stride(-1) != 1:
        cos, sin = cos.contiguous(), sin.contiguous()
    rows, half = 32, power_of_2(k // 2)
    if x_bhtk.numel():
        same = cos.ndim == 2 or cos.shape[0] == 1  # for all rows of the batch
        strides = (*x_bhtk.stride()[:3], *y_bhtk.stride()[:3], 0 if same else cos.stride(0), cos.stride(-2))
        grid = (-(-t // rows), h, b)
        _turn[grid](x_bhtk, cos, sin, y_bhtk, *strides, t, k // 2, BACK=back, ROWS=rows, HALF=half)
    return y_bhtk


@jit
def _turn(
    x, cos, sin, y, xb, xh, xt, yb, yh, yt, ab, at, t, half,
    BACK: tl.constexpr, ROWS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    row, pair = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, HALF)
    there = (row < t)[:, None] & (pair < half)[None, :]
    angle = batch * ab + row[:, None] * at + pair[None, :]
    c = tl.load(cos + angle, mask=there, other=0.0).to(tl.float32)
    s = tl.load(sin + angle, mask=there, other=0.0).to(tl.float32)
    if BACK:
        s = -s
    place = x + batch * xb + head * xh + row[:, None] * xt + pair[None, :]
    u = tl.load(place, mask=there, other=0.0).to(tl.float32)
    v = tl.load(place + half, mask=there, other=0.0).to(tl.float32)
    place = y + batch * yb + head * yh + row[:, None] * yt + pair[None, :]
    tl.store(place, (u * c - v * s).to(y.dtype.element_ty), mask=there)
    tl.store(place + half, (v * c + u * s).to(y.dtype.element_ty), mask=there)


def _check_shapes(x_bhtk: Tensor, cos: Tensor, sin: Tensor) -> None:
    b, _, t, k = x_bhtk.shape
    if k % 2 or cos.shape != sin.shape or tuple(cos.shape) not in ((t, k // 2), (b, t, k // 2), (1, t, k // 2)):
        raise ValueError(
            f"x of shape {tuple(x_bhtk.shape)} with cos of shape {tuple(cos.shape)} and sin of {tuple(sin.shape)}: the "
            f"rule is an even width and both (t, width/2) or (b, t, width/2); {(t, k // 2)} works"
        )
