"""The block: look around, then think, each added to a stream that runs through all layers.

    pre-norm     x + attention(norm(x)),   x + MLP(norm(x))
    post-norm    norm(x + attention(x)),   norm(x + MLP(x))

Paper:   Vaswani et al. 2017, §3.1 and §3.3, arXiv:1706.03762; pre-norm: Xiong et al. 2020, arXiv:2002.04745; LayerNorm:
         Ba et al. 2016, arXiv:1607.06450; RMSNorm: Zhang and Sennrich 2019, arXiv:1910.07467; GELU: Hendrycks and
         Gimpel 2016, arXiv:1606.08415; SwiGLU: Shazeer 2020, arXiv:2002.05202; ReLU²: So et al. 2021, arXiv:2109.08668.
Names:   `up` and `down` are the paper's W₁ and W₂; in SwiGLU `gate`, `up`, `down` are its W, V, W₂.
Differs: dropout on what each part adds, as in the paper; none on the embeddings here (a model does that).
Next:    minillm/transformer/encoder_decoder.py
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.attention.cache import DecoderCache, KVCache
from minillm.attention.multihead import AttentionConfig, MultiHeadAttention
from minillm.attention.positions import RoPE, Rotation
from minillm.core.settings import check_whole_numbers

NormName = Literal["layer", "rms"]
MLPName = Literal["relu", "gelu", "gelu_tanh", "relu2", "silu", "swiglu"]


class LayerNorm(nn.Module):
    """Each token's numbers moved to mean 0 and variance 1, then stretched and shifted by what was learned.

    >>> LayerNorm(4)(torch.tensor([[[1.0, 1.0, 3.0, 3.0]]])).detach()
    tensor([[[-1.0000, -1.0000,  1.0000,  1.0000]]])
    """

    def __init__(self, d_model: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias else None

    def forward(self, x_btd: Tensor) -> Tensor:
        return F.layer_norm(x_btd, self.weight.shape, self.weight, self.bias, self.eps)

    def plain(self, x: Tensor) -> Tensor:
        """The same, written out."""
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + self.eps).sqrt() * self.weight
        return scaled if self.bias is None else scaled + self.bias


class RMSNorm(nn.Module):
    """Each token's numbers brought to a mean square of 1, then stretched: LayerNorm without the mean.

    >>> RMSNorm(2)(torch.tensor([[[1.0, 7.0]]])).detach()  # a mean square of 25
    tensor([[[0.2000, 1.4000]]])
    """

    def __init__(self, d_model: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x_btd: Tensor) -> Tensor:
        # in the format of x, which under autocast may not be that of the weight
        return F.rms_norm(x_btd, self.weight.shape, self.weight.to(x_btd.dtype), self.eps)

    def plain(self, x: Tensor) -> Tensor:
        """The same, written out."""
        return x / (x.square().mean(dim=-1, keepdim=True) + self.eps).sqrt() * self.weight


def gelu(x: Tensor, tanh: bool = False) -> Tensor:
    """x · P(a normal number < x), exact or by the tanh formula of GPT-2 (which differs by less than 0.0005).

    >>> gelu(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1587,  0.0000,  0.8413])
    """
    if tanh:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def relu2(x: Tensor) -> Tensor:
    """The square of what is above zero.

    >>> relu2(torch.tensor([-3.0, 3.0]))
    tensor([0., 9.])
    """
    return F.relu(x).square()


# The plain `gelu` above is the twin of torch's kernel.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu2": relu2,
    "silu": F.silu,
}


class MLP(nn.Module):
    """Two maps with a bend between them, the same for every token: down(activation(up(x))).

    >>> MLP(d_model=4, d_hidden=16, activation="relu")(torch.randn(2, 3, 4)).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, d_model: int, d_hidden: int, activation: str = "gelu", bias: bool = True) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} must be one of {', '.join(ACTIVATIONS)}; 'gelu' works")
        self.activation = ACTIVATIONS[activation]
        self.up = nn.Linear(d_model, d_hidden, bias=bias)
        self.down = nn.Linear(d_hidden, d_model, bias=bias)

    def forward(self, x_btd: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x_btd)))


class SwiGLU(nn.Module):
    """An MLP with a gate: down(silu(gate(x)) · up(x)); it has three matrices where `MLP` has two.

    >>> sum(p.numel() for p in SwiGLU(d_model=4, d_hidden=16).parameters())
    192
    """

    def __init__(self, d_model: int, d_hidden: int, bias: bool = False) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_hidden, bias=bias)
        self.up = nn.Linear(d_model, d_hidden, bias=bias)
        self.down = nn.Linear(d_hidden, d_model, bias=bias)

    def forward(self, x_btd: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x_btd)) * self.up(x_btd))


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockConfig:
    """What a `Block` is made of."""

    attention: AttentionConfig  # of the self-attention, and of the cross-attention when there is one
    d_hidden: int  # inside the MLP; 4 · d_model in 2017
    mlp: MLPName = "gelu"  # the bend of the MLP, or "swiglu"
    norm: NormName = "layer"  # LayerNorm or RMSNorm
    norm_first: bool = True  # pre-norm; False: post-norm, as in 2017
    norm_eps: float | None = None  # None: 1e-5 for LayerNorm, 1e-6 for RMSNorm
    cross_attention: bool = False  # a second attention, to a source
    bias: bool = True  # of the MLP and of LayerNorm
    dropout: float = 0.0  # of what each part adds, in training

    def __post_init__(self) -> None:
        check_whole_numbers({"d_hidden": (self.d_hidden, 64)})
        if self.mlp != "swiglu" and self.mlp not in ACTIVATIONS:
            raise ValueError(f"mlp={self.mlp!r} must be 'swiglu' or one of {', '.join(ACTIVATIONS)}; 'gelu' works")
        if self.norm not in ("layer", "rms"):
            raise ValueError(f"norm={self.norm!r} must be 'layer' or 'rms'")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout!r} is a share from 0 to below 1; 0.1 works")

    @property
    def eps(self) -> float:
        """The small number in the norms, written out."""
        if self.norm_eps is not None:
            return self.norm_eps
        return 1e-6 if self.norm == "rms" else 1e-5


class Block(nn.Module):
    """Self-attention, cross-attention if asked for, MLP: (b, t, d) in, (b, t, d) out.

    The arguments of a call are those of `MultiHeadAttention`; `source_may_look`, (b, 1, 1, s), say, and `source_cache`
    are for the cross-attention to `source_bsd`, and the others for the self-attention. `mlp`, (b, t, d) in and out,
    stands in the place of the MLP that the configuration names: a mixture of experts, say.

    >>> block = Block(BlockConfig(attention=AttentionConfig(d_model=6, n_head=2), d_hidden=24))
    >>> block(torch.randn(2, 5, 6), causal=True).shape
    torch.Size([2, 5, 6])
    """

    def __init__(self, config: BlockConfig, mlp: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.attention = MultiHeadAttention(config.attention)
        self.attention_norm = make_norm(config)
        self.cross_attention = MultiHeadAttention(config.attention) if config.cross_attention else None
        self.cross_norm = make_norm(config) if config.cross_attention else None
        self.mlp = make_mlp(config) if mlp is None else mlp
        self.mlp_norm = make_norm(config)

    def forward(
        self,
        x_btd: Tensor,
        source_bsd: Tensor | None = None,
        may_look: Tensor | None = None,
        source_may_look: Tensor | None = None,
        bias: Tensor | None = None,
        rope: RoPE | Rotation | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        source_cache: KVCache | None = None,
        fused: bool = True,
        causal: bool = False,
    ) -> Tensor:
        if (source_bsd is None) != (self.cross_attention is None):
            raise ValueError(self._source_rule(source_bsd))
        look = partial(
            self.attention,
            may_look=may_look,
            bias=bias,
            rope=rope,
            positions=positions,
            cache=cache,
            fused=fused,
            causal=causal,
        )
        x_btd = self._add(x_btd, look, self.attention_norm)
        if self.cross_attention is not None and self.cross_norm is not None:
            look_away = partial(
                self.cross_attention, source_bsd=source_bsd, may_look=source_may_look, cache=source_cache, fused=fused
            )
            x_btd = self._add(x_btd, look_away, self.cross_norm)
        return self._add(x_btd, self.mlp, self.mlp_norm)

    def _source_rule(self, source_bsd: Tensor | None) -> str:
        if source_bsd is None:
            d = self.config.attention.d_model
            return f"source_bsd=None, but this block looks at a source: give one (b, s, {d})"
        return (
            f"source_bsd of shape {tuple(source_bsd.shape)} was given, but this block has no cross-attention: "
            "BlockConfig(cross_attention=True) has it"
        )

    def _add(self, x_btd: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        """One residual step: the stream, and what `part` makes of it."""
        change_btd = part(norm(x_btd) if self.config.norm_first else x_btd)
        if self.config.dropout and self.training:
            change_btd = F.dropout(change_btd, self.config.dropout)
        return x_btd + change_btd if self.config.norm_first else norm(x_btd + change_btd)


def make_norm(config: BlockConfig) -> LayerNorm | RMSNorm:
    """The norm that a configuration asks for."""
    d_model = config.attention.d_model
    if config.norm == "rms":
        return RMSNorm(d_model, config.eps)
    return LayerNorm(d_model, config.eps, config.bias)


def make_mlp(config: BlockConfig) -> MLP | SwiGLU:
    """The MLP that a configuration asks for."""
    d_model = config.attention.d_model
    if config.mlp == "swiglu":
        return SwiGLU(d_model, config.d_hidden, config.bias)
    return MLP(d_model, config.d_hidden, config.mlp, config.bias)


def before(x_btd: Tensor, cache: DecoderCache | None = None) -> Tensor:
    """The vector before each one, zeros before the first; with a cache, what was read before counts.

    >>> before(torch.tensor([[[1.0], [2.0], [3.0]]])).flatten()
    tensor([0., 1., 2.])
    """
    if cache is None or cache.seen is None:
        return F.pad(x_btd, (0, 0, 1, -1))
    if cache.pad_b is not None:  # filling says nothing
        place_t = torch.arange(cache.length, cache.length + x_btd.shape[1], device=x_btd.device)
        x_btd = x_btd * (place_t >= cache.pad_b[:, None])[..., None]
    t, (seen, _) = x_btd.shape[1], cache.seen.append(x_btd[:, None], x_btd[:, None])
    return F.pad(seen[:, 0], (0, 0, 1, 0))[:, -t - 1 : -1]
