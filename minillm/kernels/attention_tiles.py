"""What the kernels of attention have in common: tiles of a matrix, who sees whom, and how large a tile is.

A tile is a few rows of queries, keys or values. Sizes are powers of 2; what lies outside the matrix is read as zero and
never written. Of the keys that pass by, most are seen by every query of a program; only the tiles at the edge, where a
query's future begins or the keys end, need a mask. The kernels walk through these two parts one after the other.

Paper:   Dao 2023, "FlashAttention-2", §3.1 (causal masks) and §3.3 (sizes), arXiv:2307.08691.
Names:   `held` rows stay with a program, `passing` rows go by.
Next:    minillm/kernels/flash_attention.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from minillm.kernels.launch import INTERPRETED, jit, tl


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiles:
    """How the work is cut. A choice of speed, not of the result; `tiles_for` has one for every format."""

    held: int  # rows that a program keeps: queries on the way there, a power of 2 of at least 16
    passing: int  # rows that pass by at a time: keys on the way there, a power of 2 of at least 16
    warps: int = 4  # groups of 32 threads that share a program's work
    stages: int = 3  # tiles that are on their way from memory at the same time

    def __post_init__(self) -> None:
        for name in ("held", "passing"):
            if (n := getattr(self, name)) < 16 or n & (n - 1):
                raise ValueError(
                    f"{name}={n!r} must be a power of 2 of at least 16, which matrix units ask for; 64 works"
                )


def tiles_for(k: int, dtype: torch.dtype, back: bool = False) -> Tiles:
    """Tiles for heads of width k that in 16 bits keep all they hold in the registers of an H100, there and back.

    The compiler reports what does not fit; `tests/kernels/test_compiled.py` reads that report, without a GPU. Heads of
    float32 numbers wider than 64 put a few of them aside.

    >>> tiles_for(64, torch.bfloat16).held, tiles_for(128, torch.bfloat16, back=True).held
    (128, 64)
    """
    if dtype == torch.float32:
        small, held = Tiles(held=32, passing=16, warps=4, stages=2), 64 if k <= 64 else 32
        return small if back else Tiles(held=held, passing=32, warps=8, stages=2)
    if k <= 64:
        return Tiles(held=128, passing=32, warps=8) if back else Tiles(held=128, passing=64, warps=4)
    return Tiles(held=64, passing=32, warps=8, stages=2) if back else Tiles(held=128, passing=64, warps=8)


def precision_of(dtype: torch.dtype) -> str:
    """How products are taken. Those of float32 stay exact unless torch may round its own too.

    >>> precision_of(torch.float32) in ("ieee", "interpreted")
    True
    """
    if INTERPRETED:
        return "interpreted"
    rounded = dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    return "tf32" if rounded else "ieee"


@jit
def tile(start, row, row_stride, end, K: tl.constexpr, WIDTH: tl.constexpr):
    """Load rows of a matrix: (rows, WIDTH), zeros below its end and right of its width."""
    column = tl.arange(0, WIDTH)
    there = (row < end)[:, None]
    if WIDTH != K:
        there = there & (column < K)[None, :]
    return tl.load(start + row[:, None] * row_stride + column[None, :], mask=there, other=0.0)


@jit
def put(start, row, row_stride, end, value, K: tl.constexpr, WIDTH: tl.constexpr):
    """Store rows of a matrix, those that it has."""
    column = tl.arange(0, WIDTH)
    there = (row < end)[:, None] & (column < K)[None, :]
    tl.store(start + row[:, None] * row_stride + column[None, :], value.to(start.dtype.element_ty), mask=there)


@jit
def unseen(score, query, key, t, s, CAUSAL: tl.constexpr):
    """-inf for keys that do not exist or lie in the query's future; `query` and `key` broadcast to the scores."""
    seen = (key < s) & (query < t)
    if CAUSAL:
        seen = seen & (key <= query + (s - t))
    return tl.where(seen, score, -float("inf"))


@jit
def keys_seen(first_query, t, s, CAUSAL: tl.constexpr, HELD: tl.constexpr, PASSING: tl.constexpr):
    """Up to which key every query of a program sees all, in whole tiles, and after which key none sees any."""
    whole, end = s // PASSING * PASSING, s
    if CAUSAL:
        seen_by_first = tl.maximum(first_query + 1 + s - t, 0)
        whole = tl.minimum(whole, seen_by_first // PASSING * PASSING)
        end = tl.minimum(s, tl.maximum(first_query + HELD + s - t, 0))
    return whole, end


@jit
def product(a, b, total, PRECISION: tl.constexpr):
    """total + a b, on the matrix units of a GPU; `total` None is zero."""
    if PRECISION == "interpreted":  # Triton 3.9's interpreter multiplies the bits of bfloat16 as if they were integers
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee" if PRECISION == "interpreted" else PRECISION)
