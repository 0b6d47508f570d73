"""LoRA's relatives: the model is frozen, and something small beside it learns.

    bottleneck      y + up(gelu(down(y)))                 after every attention and every MLP
    prefix          keys and values that nobody wrote     before those of every attention
    prompt          vectors that are no token's           before the embedded tokens
    BitFit          nothing new: the biases learn, the matrices do not

Paper:   Houlsby et al. 2019, §2.1, arXiv:1902.00751 (bottleneck); Li and Liang 2021, "Prefix-Tuning", §4,
         arXiv:2101.00190; Liu et al. 2021, "P-Tuning v2", §3, arXiv:2110.07602; Lester et al. 2021, "The Power of
         Scale for Parameter-Efficient Prompt Tuning", §2, arXiv:2104.08691; Ben Zaken et al. 2021, "BitFit",
         arXiv:2106.10199.
Names:   `length` is Lester's p and Li and Liang's |P_idx|; `width` is Houlsby's m; `d_hidden` the width of the MLP
         that makes a prefix while it learns.
Differs: `up` starts at zero where Houlsby draws small numbers: the model starts as it was. The prefix has no positions
         and takes none from the tokens; as published it stands in the cache and moves them. P-Tuning v2 is the prefix
         without the MLP; its other half, a head for classes, is `transformer.encoder_tasks`.
Next:    minillm/adaptation/adapter_sizes.py
"""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.adaptation.modules import exchange, freeze, matching
from minillm.attention import masks
from minillm.attention.cache import DecoderCache
from minillm.attention.multihead import MultiHeadAttention
from minillm.core.settings import check_whole_numbers
from minillm.neural.language_model import LanguageModel, check_tokens
from minillm.transformer.block import Block, LayerNorm, RMSNorm
from minillm.transformer.decoder import Decoder, DecoderConfig

LAST_MAPS = ("*attention.out", "*mlp.down")  # what an attention and an MLP end with


class BottleneckLinear(nn.Linear):
    """A linear map and a narrow detour behind it: y + up(gelu(down(y))) for y = W x + b."""

    def __init__(self, linear: nn.Linear, width: int, generator: torch.Generator | None = None) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        f = linear.out_features
        down_rf = (2 * torch.rand(width, f, generator=generator) - 1) / f**0.5
        self.down_rf, self.down_r = nn.Parameter(down_rf.to(self.weight)), nn.Parameter(self.weight.new_zeros(width))
        self.up_fr = nn.Parameter(self.weight.new_zeros(f, width))
        self.up_f = nn.Parameter(self.weight.new_zeros(f))

    def forward(self, input: Tensor) -> Tensor:
        said = F.linear(input, self.weight, self.bias)
        return said + F.linear(F.gelu(F.linear(said, self.down_rf, self.down_r)), self.up_fr, self.up_f)

    def added(self) -> list[nn.Parameter]:
        """What learns."""
        return [self.down_rf, self.down_r, self.up_fr, self.up_f]


def add_bottlenecks(
    model: nn.Module,
    width: int = 16,
    *,
    norms: bool = True,
    pattern: str | Sequence[str] = LAST_MAPS,
    generator: torch.Generator | None = None,
) -> list[str]:
    """Put a bottleneck of `width` behind every map that matches; these and, with `norms`, the norms learn.

    >>> from minillm.transformer.decoder import gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=8, n_layer=1, n_head=2, d_model=4))
    >>> add_bottlenecks(model, width=2)
    ['blocks.0.attention.out', 'blocks.0.mlp.down']
    """
    check_whole_numbers({"width": (width, 16)})
    places = matching(model, pattern, nn.Linear)
    _check_plain(places, nn.Linear)
    learning: list[nn.Parameter] = []
    for place, linear in places.items():
        new = BottleneckLinear(linear, width, generator)
        exchange(model, place, new.train(linear.training))
        learning += new.added()
    if norms:
        learning += [p for m in model.modules() if isinstance(m, LayerNorm | RMSNorm) for p in m.parameters()]
    freeze(model, learning)
    return list(places)


class Prefix(nn.Module):
    """The keys and values of one attention's prefix, themselves the parameters: () to (2, length, g, k)."""

    def __init__(self, pair: Tensor) -> None:
        super().__init__()
        self.pair = nn.Parameter(pair)

    def forward(self) -> Tensor:
        return self.pair


class MadePrefix(nn.Module):
    """The same, made by an MLP from short vectors: outer(tanh(inner(short))). All but `outer` is one for all layers."""

    def __init__(self, short: nn.Module, outer: nn.Linear, heads: int) -> None:
        super().__init__()
        self.short, self.outer, self.heads = short, outer, heads

    def forward(self) -> Tensor:
        return rearrange(self.outer(self.short()), "m (two g k) -> two m g k", two=2, g=self.heads)


class _Short(nn.Module):
    """What all layers' prefixes are made from: tanh(inner(short)), (length, d_hidden)."""

    def __init__(self, length: int, d_model: int, d_hidden: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.short = nn.Parameter(_uniform((length, d_model), 1.0, generator))
        self.inner = _linear(d_model, d_hidden, generator)

    def forward(self) -> Tensor:
        return torch.tanh(self.inner(self.short))


class PrefixAttention(MultiHeadAttention):
    """An attention whose queries also look at a prefix, at whatever else they may look. Same arguments as before."""

    def __init__(self, layer: MultiHeadAttention, prefix: nn.Module) -> None:
        nn.Module.__init__(self)
        self.config, self.query_norm, self.key_norm = layer.config, layer.query_norm, layer.key_norm
        self.query, self.key, self.value, self.out = layer.query, layer.key, layer.value, layer.out
        self.prefix = prefix

    def looked_at(
        self, key: Tensor, value: Tensor, may_look: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """The prefix, then what there was; a cache never holds the prefix."""
        b, s, pair = key.shape[0], key.shape[2], self.prefix().to(key.dtype)
        own_key, own_value = (part.transpose(0, 1).expand(b, -1, -1, -1) for part in pair)
        length = pair.shape[1]
        if may_look is not None:
            may_look = F.pad(may_look.expand(*may_look.shape[:-1], s), (length, 0), value=True)
        if bias is not None:
            bias = F.pad(bias.expand(*bias.shape[:-1], s), (length, 0))
        return torch.cat((own_key, key), dim=2), torch.cat((own_value, value), dim=2), may_look, bias


def add_prefix(
    model: nn.Module,
    length: int = 16,
    *,
    d_hidden: int | None = None,
    generator: torch.Generator | None = None,
) -> list[str]:
    """Put a prefix of `length` before every self-attention; it alone learns. Returns the names of the attentions.

    Without `d_hidden` the keys and values are the parameters: P-Tuning v2. With it an MLP of that width makes them, as
    Li and Liang found steadier; `settle_prefix` drops the MLP when all is learned.

    >>> from minillm.transformer.decoder import gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=8, n_layer=2, n_head=2, d_model=4))
    >>> add_prefix(model, length=3)
    ['blocks.0.attention', 'blocks.1.attention']
    >>> model.n_parameters  # of each block 3 keys and 3 values, 4 numbers each
    48
    """
    check_whole_numbers({"length": (length, 16)})
    if d_hidden is not None:
        check_whole_numbers({"d_hidden": (d_hidden, 16)})
    blocks = matching(model, "*", Block)
    places = {f"{name}.attention": block.attention for name, block in blocks.items()}
    _check_plain(places, MultiHeadAttention)
    short: _Short | None = None
    for place, layer in places.items():
        g, k, like = layer.config.kv_heads, layer.config.width, layer.key.weight
        if d_hidden is None:
            prefix = Prefix(_uniform((2, length, g, k), 1.0, generator))
        else:
            short = short or _Short(length, layer.config.d_model, d_hidden, generator)
            prefix = MadePrefix(short, _linear(d_hidden, 2 * g * k, generator), g)
        exchange(model, place, PrefixAttention(layer, prefix.to(like)).train(layer.training))
    freeze(model, _prefix_parameters(model))
    return list(places)


@torch.no_grad()
def settle_prefix(model: nn.Module) -> None:
    """Keep the prefixes and drop the MLP that made them: the same model, and what is left is to be stored."""
    for layer in matching(model, "*", PrefixAttention).values():
        layer.prefix = Prefix(layer.prefix().clone())
    freeze(model, _prefix_parameters(model))


@torch.no_grad()
def start_prefix(model: Decoder, tokens: Sequence[int]) -> None:
    """Let a prefix start as what the model makes of a text: as if it had just read these `length` tokens.

    Li and Liang (§7.5) found that real words are the better start where there is little data.
    """
    layers = list(matching(model, "*", PrefixAttention).values())
    plain = [
        layer for layer in layers if isinstance(layer.prefix, Prefix) and layer.prefix.pair.shape[1] == len(tokens)
    ]
    if len(plain) < len(layers):
        raise ValueError(
            f"{len(tokens)} tokens can start prefixes of that length alone, and only those without an MLP: "
            f"add_prefix(model, length={len(tokens)}) works"
        )
    before = [layer.prefix for layer in plain]
    for layer in layers:
        layer.prefix = Prefix(layer.key.weight.new_zeros(2, 0, layer.config.kv_heads, layer.config.width))
    cache = model.new_cache()
    try:
        model.hidden(torch.tensor([list(tokens)], device=model.embedding.weight.device), cache)
    finally:
        for layer, prefix in zip(layers, before, strict=True):
            layer.prefix = prefix
    for prefix, read in zip(before, cache.layers, strict=True):
        key, value = read.contents()
        if model.rope is not None:  # the tokens that follow begin at 0, so these stood before it
            key = model.rope.rotate(key, torch.full((len(tokens),), -len(tokens), device=key.device))
        assert isinstance(prefix, Prefix)
        prefix.pair.copy_(torch.stack((key[0], value[0])).transpose(1, 2))


class PromptTuned(LanguageModel):
    """A decoder that reads `length` learned vectors before the tokens; they alone learn.

    Tokens (b, t) in, logits (b, t, v) out; the context has room for `length` tokens less. The vectors start as the
    embeddings of `start`, or else of tokens drawn by chance. It trains with `train` and `SFT`, and `generate` reads it.

    >>> from minillm.transformer.decoder import gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=8, n_layer=1, n_head=2, d_model=4))
    >>> tuned, tokens_bt = PromptTuned(model, start=[3, 1, 4]), torch.tensor([[1, 5, 8]])
    >>> torch.allclose(tuned(tokens_bt), model(torch.tensor([[3, 1, 4, 1, 5, 8]]))[:, 3:], atol=1e-6)
    True
    """

    def __init__(
        self,
        model: Decoder,
        length: int = 16,
        *,
        start: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model.vocabulary)
        if start is None:
            check_whole_numbers({"length": (length, 16)})
            start = (torch.rand(length, generator=generator) * model.vocabulary).long().tolist()
        device = model.embedding.weight.device
        start_bt = torch.tensor([list(start)], dtype=torch.int64, device=device)
        check_tokens(start_bt, model.vocabulary, name="start")
        self.model = model
        self.prompt = nn.Parameter(model.embedding(start_bt)[0].detach().clone())
        freeze(self, [self.prompt])

    @property
    def config(self) -> DecoderConfig:
        """Of the decoder."""
        return self.model.config

    @property
    def score(self) -> nn.Module:
        """The decoder's last map."""
        return self.model.score

    def forward(self, tokens_bt: Tensor, may_look: Tensor | None = None) -> Tensor:
        return self.score(self.hidden(tokens_bt, may_look=may_look))

    def hidden(
        self,
        tokens_bt: Tensor,
        cache: DecoderCache | None = None,
        may_look: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """As `Decoder.hidden`, for the tokens alone: masks and positions are theirs, and the prompt stands before them.

        All look at the prompt as far as the window reaches, if there is one.
        """
        if cache is not None and cache.length:
            return self.model.hidden(tokens_bt, cache, may_look, positions)
        if cache is not None and cache.pad_b is not None:
            raise ValueError("cache.pad_b is set: filling would stand before the prompt; rows of one length work")
        check_tokens(tokens_bt, self.vocabulary)
        (b, t), m, device = tokens_bt.shape, len(self.prompt), tokens_bt.device
        x_bsd = torch.cat((self.prompt.expand(b, -1, -1), self.model.embedding(tokens_bt)), dim=1)
        if may_look is not None:
            may_look = self._behind_prompt(may_look.expand(*may_look.shape[:-2], t, t), positions)
        if positions is not None:
            own = torch.arange(m, device=device).expand(*positions.shape[:-1], m)
            positions = torch.cat((own, positions + m), dim=-1)
        return self.model.hidden_from(x_bsd, cache, may_look, positions)[:, m:]

    def _behind_prompt(self, may_look: Tensor, positions: Tensor | None) -> Tensor:
        """The mask (…, t, t) of the tokens, with the prompt before them: (…, length + t, length + t)."""
        t, m, device = may_look.shape[-1], len(self.prompt), may_look.device
        window = self.config.window or m + self.config.context
        place = torch.arange(t, device=device) if positions is None else positions
        sees = (place[..., None] + m - torch.arange(m, device=device) < window).unsqueeze(-3)
        b = torch.broadcast_shapes(may_look.shape[:-2], sees.shape[:-2])
        theirs = torch.cat((sees.expand(*b, t, m), may_look.expand(*b, t, t)), dim=-1)
        own = F.pad(masks.sliding_window(m, m, window, device), (0, t), value=False).expand(*b, m, m + t)
        return torch.cat((own, theirs), dim=-2)

    def step(self, token_b: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Read one more token of each row; the state is a `DecoderCache`."""
        cache = self.model.new_cache() if state is None else state
        return self.score(self.hidden(token_b[:, None], cache)[:, -1]), cache


def tune_biases(model: nn.Module) -> list[str]:
    """BitFit: let every bias learn, and nothing else. Raises ValueError for a model that has none, such as Llama.

    >>> tune_biases(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)))
    ['0.bias', '1.bias']
    """
    biases = {name: p for name, p in model.named_parameters() if name.rpartition(".")[2] == "bias"}
    if not biases:
        raise ValueError("model has no biases, so BitFit has nothing to train; DecoderConfig(bias=True) has them")
    freeze(model, biases.values())
    return list(biases)


def _prefix_parameters(model: nn.Module) -> list[nn.Parameter]:
    return [p for m in model.modules() if isinstance(m, PrefixAttention) for p in m.prefix.parameters()]


def _uniform(shape: tuple[int, ...], variance: float, generator: torch.Generator | None) -> Tensor:
    return (2 * torch.rand(shape, generator=generator) - 1) * (3 * variance) ** 0.5


def _linear(d: int, f: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear map whose outputs vary as its inputs, drawn from the generator."""
    linear = nn.Linear(d, f, device="meta")
    linear.weight, linear.bias = nn.Parameter(_uniform((f, d), 1 / d, generator)), nn.Parameter(torch.zeros(f))
    return linear


def _check_plain(places: dict[str, Any], kind: type[nn.Module]) -> None:
    for place, module in places.items():
        if type(module) is not kind:
            raise ValueError(f"{place!r} is a {type(module).__name__}: something was added there already; "
                             "begin with the model as it was")  # fmt: skip
