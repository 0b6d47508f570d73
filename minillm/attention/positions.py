"""Positions: attention sees a set, so where a token stands must be told.

    sinusoidal   PE(t, 2i) = sin(t / 10000^(2i/d)),  PE(t, 2i+1) = cos(the same)            added to the embedding
    learned      a table row for each position                                              added to the embedding
    RoPE         (x_i, x_{i+k/2}) turned by the angle t · base^(-2i/k)                       on queries and keys
    ALiBi        score - slope_h · |t - s|                                                  on the scores

Paper:   Vaswani et al. 2017, §3.5, arXiv:1706.03762; Su et al. 2021, "RoFormer", §3.2–3.4, arXiv:2104.09864;
         Press et al. 2022, "Train Short, Test Long", §3, arXiv:2108.12409; scaling: Llama 3.1, whose
         code has the formula (the model: Grattafiori et al. 2024, arXiv:2407.21783).
Names:   `width` is the head width k; `frequency` is RoFormer's θ_i; `positions` are int64, (t,) or (b, t).
Differs: RoFormer turns neighbours (2i, 2i+1); we turn halves (i, i + k/2), as GPT-NeoX and Llama do: the same up to
         the order of the columns of the weights.
Next:    minillm/attention/cache.py
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeScaling:
    """Llama 3.1's way to a longer context: slow turns are slowed `factor` times, fast ones left, the middle blended."""

    factor: float = 8.0  # how many times longer the context becomes
    low_frequency: float = 1.0  # fewer turns than this within the original context: slowed by the whole factor
    high_frequency: float = 4.0  # more turns than this: left as they are
    original_context: int = 8192  # tokens that the model was first trained on

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"factor={self.factor!r} must be at least 1, which changes nothing; 8.0 works")
        if not 0 < self.low_frequency < self.high_frequency:
            raise ValueError(
                f"low_frequency={self.low_frequency!r} must be above 0 and below "
                f"high_frequency={self.high_frequency!r}; 1.0 and 4.0 work"
            )
        if self.original_context < 1:
            raise ValueError(f"original_context={self.original_context!r} must be at least 1 token; 8192 works")

    def slowed(self, frequency: Tensor) -> Tensor:
        """The frequencies after scaling, in radians per token."""
        turns = self.original_context * frequency / (2 * math.pi)
        kept = ((turns - self.low_frequency) / (self.high_frequency - self.low_frequency)).clamp(0, 1)
        return frequency * (kept + (1 - kept) / self.factor)


class Rotation:
    """The turn that belongs to some positions, ready for every layer: made once by `RoPE.at`, used by each."""

    __slots__ = ("cos", "half", "sin")

    def __init__(self, angle: Tensor, dtype: torch.dtype = torch.float32) -> None:
        angle = angle if angle.ndim == 2 else angle[:, None]  # (t, k/2), or (b, 1, t, k/2): the same for all heads
        cos, sin, self.half = angle.cos().to(dtype), angle.sin().to(dtype), angle.shape[-1]
        self.cos, self.sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)

    def rotate(self, x_bhtk: Tensor) -> Tensor:
        """Turn queries or keys (b, h, t, k) that stand at the positions of this rotation."""
        b, _, t, k = x_bhtk.shape
        if self.cos.shape[-2:] != (t, k) or (self.cos.ndim == 4 and self.cos.shape[0] not in (1, b)):
            raise ValueError(
                f"the rotation was made for shape {tuple(self.cos.squeeze(1).shape)} = (t, width) or (b, t, width) and "
                f"does not fit b={b}, t={t}, width={k}: positions of shape ({t},) or ({b}, {t}) and RoPE({k}) work"
            )
        # Halves (u, v) become (u cos - v sin, v cos + u sin): rolled by half, x is (v, u).
        swapped_bhtk = x_bhtk.roll(self.half, dims=-1)
        return torch.addcmul(x_bhtk * self.cos.to(x_bhtk.dtype), swapped_bhtk, self.sin.to(x_bhtk.dtype))


class RoPE(nn.Module):
    """Rotary positions: a pair of numbers is turned by an angle that grows with the position.

    The product of a turned query and a turned key depends on their distance alone. Nothing is learned or stored.

    >>> rope, one = RoPE(width=2), torch.tensor([[[[1.0, 0.0]]]])
    >>> rope.rotate(one, torch.tensor([1]))  # by one radian
    tensor([[[[0.5403, 0.8415]]]])
    >>> here, there = rope.rotate(one, torch.tensor([7])), rope.rotate(one, torch.tensor([9]))
    >>> bool(torch.isclose((here * there).sum(), torch.tensor(2.0).cos()))  # two positions apart
    True
    """

    def __init__(self, width: int, base: float = 10000.0, scaling: RopeScaling | None = None) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(
                f"width={width} cannot be split into pairs to turn; width={max(2, width + width % 2)} works"
            )
        frequency = 1 / base ** (torch.arange(0, width, 2, dtype=torch.float32, device="cpu") / width)
        # No buffer: `model.bfloat16()` would round it, and at position 1000 that is an error of radians.
        self.frequency = frequency if scaling is None else scaling.slowed(frequency)

    def at(self, positions: Tensor, dtype: torch.dtype = torch.float32) -> Rotation:
        """The rotation for `positions`, int64 (t,) or (b, t): made once, used by all layers."""
        check_positions(positions)
        if self.frequency.device != positions.device:
            self.frequency = self.frequency.to(positions.device)
        return Rotation(positions[..., None] * self.frequency, dtype)

    def rotate(self, x_bhtk: Tensor, positions: Tensor) -> Tensor:
        """Turn queries or keys (b, h, t, k) that stand at `positions`, (t,) or (b, t)."""
        return self.at(positions).rotate(x_bhtk)


def sinusoidal(t: int, d: int, base: float = 10000.0) -> Tensor:
    """The table (t, d) of 2017: sine and cosine in turn, from a wave of 2π tokens to one of nearly 2π · base.

    >>> sinusoidal(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    if d < 2 or d % 2:
        raise ValueError(f"d={d} cannot be split into pairs of sine and cosine; d={max(2, d + d % 2)} works")
    frequency = base ** -(torch.arange(0, d, 2, dtype=torch.float64) / d)
    angle = torch.arange(t, dtype=torch.float64)[:, None] * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).float()


class SinusoidalPositions(nn.Module):
    """The sinusoidal table for `context` positions: int64 positions (t,) or (b, t) in, rows of width d_model out.

    >>> SinusoidalPositions(context=9, d_model=4)(torch.tensor([[0, 1, 2], [0, 0, 1]])).shape
    torch.Size([2, 3, 4])
    """

    table: Tensor

    def __init__(self, context: int, d_model: int) -> None:
        super().__init__()
        self.context = context
        self.register_buffer("table", sinusoidal(context, d_model), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        check_positions(positions, self.context)
        return self.rows(positions)

    def rows(self, positions: Tensor) -> Tensor:
        """The same for positions that are known to be within the context: a look at them makes a GPU wait."""
        return self.table[positions]


class LearnedPositions(nn.Module):
    """A row to be learned for each of `context` positions: int64 positions (t,) or (b, t) in, rows of d_model out.

    Initialisation: normal with standard deviation 0.02, as in GPT-2.

    >>> LearnedPositions(context=9, d_model=4)(torch.arange(3)).shape
    torch.Size([3, 4])
    """

    def __init__(self, context: int, d_model: int) -> None:
        super().__init__()
        self.context = context
        self.weight = nn.Parameter(torch.randn(context, d_model) * 0.02)

    def forward(self, positions: Tensor) -> Tensor:
        check_positions(positions, self.context)
        return self.rows(positions)

    def rows(self, positions: Tensor) -> Tensor:
        """The same for positions that are known to be within the context: a look at them makes a GPU wait."""
        return F.embedding(positions, self.weight)


def alibi_slopes(n_head: int) -> Tensor:
    """How fast each head loses interest with distance: (n_head,), a geometric row from 2^(-8/n) to 2^(-8).

    >>> alibi_slopes(4)
    tensor([0.2500, 0.0625, 0.0156, 0.0039])
    """
    if n_head < 1:
        raise ValueError(f"n_head={n_head} must be at least 1 head; n_head=8 works")
    power = 2 ** int(math.log2(n_head))
    slope = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slope += [
        2 ** (-4 * (2 * i + 1) / power) for i in range(n_head - power)
    ]  # between the first ones, as the paper says
    return torch.tensor(slope)


def alibi_bias(n_head: int, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """-slope · distance: (h, t, s) from positions (t,) and (s,), or (b, h, t, s) from (b, t) and (b, s).

    >>> alibi_bias(1, torch.tensor([2]), torch.arange(3)) * 256
    tensor([[[-2., -1., -0.]]])
    """
    check_positions(query_positions)
    check_positions(key_positions)
    distance = (query_positions[..., :, None] - key_positions[..., None, :]).abs()
    slope = alibi_slopes(n_head).to(distance.device)
    return -slope[:, None, None] * distance.unsqueeze(-3)


def check_positions(positions: Tensor, context: int | None = None) -> None:
    """Raise ValueError unless positions are int64, (t,) or (b, t), and within the context when there is one."""
    if positions.ndim not in (1, 2) or positions.dtype != torch.int64:
        raise ValueError(
            f"positions has shape {tuple(positions.shape)} and dtype={positions.dtype}; the rule is int64, "
            "(t,) or (b, t): torch.arange(t) works"
        )
    if context is not None and positions.numel() and not torch.compiler.is_compiling():
        low, high = (int(extreme) for extreme in positions.aminmax())
        if low < 0 or high >= context:
            raise ValueError(
                f"positions has {low if low < 0 else high}, but there is a row for 0 to {context - 1} only: "
                f"give at most context={context} tokens, or make the model with a longer context"
            )
