"""Multi-head attention: several small attentions side by side, each free to look for something else.

    head_i = attention(x W_i^Q, y W_i^K, y W_i^V)          output = [head_1 … head_h] W^O

Self-attention has y = x; cross-attention reads keys and values from another sequence, `source`.

Paper:   Vaswani et al. 2017, §3.2.2, arXiv:1706.03762; n_kv_head=1: Shazeer 2019, arXiv:1911.02150; between:
         Ainslie et al. 2023, arXiv:2305.13245; norms of queries and keys: Henry et al. 2020, arXiv:2010.04245.
Names:   `query`, `key`, `value`, `out` hold W^Q, W^K, W^V, W^O; head i owns rows i·k to (i+1)·k - 1 of the first three.
Differs: biases by default, as in GPT-2 and torch. The norm of queries and keys is an RMSNorm with learned weights, as
         in Qwen3, where Henry et al. divide by the length and learn one scale.
Next:    minillm/transformer/block.py
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.attention.cache import KVCache
from minillm.attention.dot_product import attend, attend_fused, attention_weights
from minillm.attention.positions import RoPE, Rotation
from minillm.core.settings import check_whole_numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionConfig:
    """The sizes of a `MultiHeadAttention`, and what it has."""

    d_model: int  # width of what comes in and goes out
    n_head: int  # heads that ask
    n_kv_head: int | None = None  # heads that answer, each shared by n_head / n_kv_head; None: n_head (MHA), 1: MQA
    head_width: int | None = None  # numbers in a head's query; None: d_model / n_head
    bias: bool = True  # of query, key and value
    out_bias: bool | None = None  # of the last map; None: as bias
    qk_norm: bool = False  # RMSNorm of every query and key, before they are turned
    norm_eps: float = 1e-6  # of that norm
    scale: float | None = None  # of the scores; None: 1/√head_width
    dropout: float = 0.0  # share of the weights that is dropped in training

    def __post_init__(self) -> None:
        names = ("d_model", "n_head", "n_kv_head", "head_width")
        check_whole_numbers({name: (getattr(self, name), 8) for name in names if getattr(self, name) is not None})
        if self.head_width is None and (remainder := self.d_model % self.n_head):
            raise ValueError(
                f"d_model={self.d_model} cannot be split over n_head={self.n_head} equal heads "
                f"(remainder {remainder}); the next d_model that fits is {self.d_model + self.n_head - remainder}"
            )
        if self.n_head % self.kv_heads:
            fits = max(g for g in range(1, self.kv_heads) if self.n_head % g == 0)
            raise ValueError(
                f"n_kv_head={self.n_kv_head} does not divide n_head={self.n_head}, so no equal groups of queries share "
                f"a key; n_kv_head={fits} works"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout!r} is a share from 0 to below 1; 0.1 works")

    @property
    def kv_heads(self) -> int:
        """How many heads the keys and values have."""
        return self.n_head if self.n_kv_head is None else self.n_kv_head

    @property
    def width(self) -> int:
        """The numbers in one head's query, key or value."""
        return self.d_model // self.n_head if self.head_width is None else self.head_width


class MultiHeadAttention(nn.Module):
    """Attention with `n_head` heads: (b, t, d) in, (b, t, d) out.

    In a call, `source_bsd` makes it cross-attention; `may_look`, `bias` and `causal` are those of `attend`. `rope`
    turns queries and keys that stand at `positions`, int64 (t,) or (b, t), or else at those that follow the cache; a
    `Rotation`, made once with `rope.at(positions)`, serves all layers. A `cache` gets the new keys and values and
    answers with all; together with a source it is filled once and then read. `fused=False` takes the plain twin.

    >>> layer = MultiHeadAttention(AttentionConfig(d_model=6, n_head=3))
    >>> layer(torch.randn(2, 5, 6), causal=True).shape
    torch.Size([2, 5, 6])
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.config = config
        inside, shared = config.n_head * config.width, config.kv_heads * config.width
        self.query = nn.Linear(config.d_model, inside, bias=config.bias)
        self.key = nn.Linear(config.d_model, shared, bias=config.bias)
        self.value = nn.Linear(config.d_model, shared, bias=config.bias)
        self.out = nn.Linear(inside, config.d_model, bias=config.bias if config.out_bias is None else config.out_bias)
        # torch's norm, because ours lives one layer up, in transformer/block.py
        self.query_norm = nn.RMSNorm(config.width, eps=config.norm_eps) if config.qk_norm else None
        self.key_norm = nn.RMSNorm(config.width, eps=config.norm_eps) if config.qk_norm else None

    def forward(
        self,
        x_btd: Tensor,
        source_bsd: Tensor | None = None,
        may_look: Tensor | None = None,
        bias: Tensor | None = None,
        rope: RoPE | Rotation | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        fused: bool = True,
        causal: bool = False,
    ) -> Tensor:
        attention = attend_fused if fused else attend
        rotation = _rotation(x_btd, source_bsd, rope, positions, cache)
        q_bhtk = self.queries(x_btd, rotation)
        if source_bsd is not None and cache is not None and cache.length:
            key, value = cache.contents()  # the source stays as it was when the cache was filled
        else:
            key, value = self.keys_and_values(x_btd if source_bsd is None else source_bsd, rotation)
            key, value = (key, value) if cache is None else cache.append(key, value)
        key, value, may_look, bias = self.looked_at(key, value, may_look, bias)
        dropout = self.config.dropout if self.training else 0.0
        mixed_bhtk = attention(q_bhtk, key, value, may_look, bias, self.config.scale, causal, dropout)
        return self.out(mixed_bhtk.transpose(1, 2).flatten(2))

    def weights(
        self,
        x_btd: Tensor,
        source_bsd: Tensor | None = None,
        may_look: Tensor | None = None,
        bias: Tensor | None = None,
        rope: RoPE | Rotation | None = None,
        positions: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Who looks at whom: (b, h, t, s), for pictures. The arguments are those of the call."""
        rotation = _rotation(x_btd, source_bsd, rope, positions)
        q_bhtk = self.queries(x_btd, rotation)
        key, value = self.keys_and_values(x_btd if source_bsd is None else source_bsd, rotation)
        key, _, may_look, bias = self.looked_at(key, value, may_look, bias)
        return attention_weights(q_bhtk, key, may_look, bias, self.config.scale, causal)

    def queries(self, x_btd: Tensor, rotation: Rotation | None = None) -> Tensor:
        """What each token asks: (b, h, t, k), normalised and turned where the layer does that."""
        return self._heads(self.query(x_btd), self.query_norm, rotation)

    def keys_and_values(self, x_bsd: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor]:
        """What each token answers to, and what it then says: (b, g, s, k) each, g the number of key heads."""
        return self._heads(self.key(x_bsd), self.key_norm, rotation), self._heads(self.value(x_bsd))

    def looked_at(
        self, key: Tensor, value: Tensor, may_look: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """All that the queries choose from: here what it was given; a subclass may add keys and values of its own."""
        return key, value, may_look, bias

    def _heads(self, x: Tensor, norm: nn.RMSNorm | None = None, rotation: Rotation | None = None) -> Tensor:
        """Cut the width into heads: (b, t, h · k) to (b, h, t, k).

        Not with `rearrange`, which takes three times as long: a model that writes one token at a time would feel it.
        """
        x = x.view(x.shape[0], x.shape[1], -1, self.config.width)
        if norm is not None:  # in the format of x, which under autocast is not that of the weight
            x = F.rms_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.eps)
        x_bhtk = x.transpose(1, 2)
        return x_bhtk if rotation is None else rotation.rotate(x_bhtk)


def _rotation(
    x_btd: Tensor,
    source_bsd: Tensor | None,
    rope: RoPE | Rotation | None,
    positions: Tensor | None,
    cache: KVCache | None = None,
) -> Rotation | None:
    """The turn of these tokens: at the positions given, or at those that follow what the cache has read."""
    if rope is None:
        return None
    if source_bsd is not None:
        raise ValueError("rope turns by distances within one sequence, and source_bsd is another; rope=None works")
    if isinstance(rope, Rotation):
        return rope
    if positions is None:
        start = 0 if cache is None else cache.length
        positions = torch.arange(start, start + x_btd.shape[1], device=x_btd.device)
    return rope.at(positions, x_btd.dtype)
