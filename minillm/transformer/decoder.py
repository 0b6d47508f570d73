"""The decoder: read from left to right, and say at every place what comes next. GPT-2 or Llama is a configuration.

    x = E[token] + position                                  (RoPE and ALiBi act inside the attention instead)
    for each block:   x = x + attention(norm(x)),   x = x + MLP(norm(x))
    logits = U norm(x)                                       tied: U = E

Paper:   Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", §2.3; Touvron et al. 2023, "LLaMA",
         §2.2, arXiv:2302.13971; Llama 3: Grattafiori et al. 2024, arXiv:2407.21783; window: Jiang et al. 2023,
         arXiv:2310.06825; tied embeddings: Press and Wolf 2017, arXiv:1608.05859.
Names:   `embedding` is E (GPT-2's wte), `positions` its wpe, `score` is U (the lm_head), `norm` the last norm (ln_f).
Differs: dropout is 0 unless asked for. Sinusoidal positions are added to E · √d_model, as in 2017. `context` is a limit
         for every kind of positions; `with_context` lifts it where no table of positions was learned.
Next:    minillm/transformer/costs.py
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from minillm.attention.cache import DecoderCache, KVCache
from minillm.attention.masks import both, padding, sliding_window
from minillm.attention.multihead import AttentionConfig
from minillm.attention.positions import LearnedPositions, RoPE, RopeScaling, SinusoidalPositions, alibi_bias
from minillm.core.settings import check_whole_numbers
from minillm.neural.language_model import LanguageModel, check_tokens
from minillm.transformer.block import Block, BlockConfig, MLPName, NormName, before, make_norm
from minillm.transformer.moe import MoE, MoEConfig, auxiliary_loss

PositionName = Literal["learned", "sinusoidal", "rope", "alibi", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderConfig:
    """What a `Decoder` is made of. The defaults are GPT-2's; `gpt2` and `llama` below name whole families.

    It has more fields than is our habit: each is one that some published checkpoint sets or some
    chapter tries.
    """

    vocabulary: int  # tokens, numbered from 0
    context: int  # the most tokens that it reads
    n_layer: int  # blocks above each other
    n_head: int  # heads that ask, in each block
    d_model: int  # width of the stream
    n_kv_head: int | None = None  # heads that answer; None: n_head (MHA), 1: MQA, between: GQA
    head_width: int | None = None  # numbers in a head's query; None: d_model / n_head
    d_hidden: int | None = None  # inside the MLP; None: 4 · d_model, for SwiGLU two thirds of it, up to a multiple of 8
    norm: NormName = "layer"  # LayerNorm or RMSNorm
    norm_eps: float | None = None  # None: 1e-5 for LayerNorm, 1e-6 for RMSNorm
    mlp: MLPName = "gelu_tanh"  # the bend of the MLP, or "swiglu"
    moe: MoEConfig | None = None  # experts in the place of every MLP: `mlp` and `d_hidden` are then theirs
    positions: PositionName = "learned"  # how it knows what stands where
    rope_base: float = 10000.0  # of RoPE; Llama 3 has 500000
    rope_scaling: RopeScaling | None = None  # Llama 3.1's longer context
    window: int | None = None  # each token looks at itself and the window - 1 before it; None: at all
    qk_norm: bool = False  # RMSNorm of every query and key
    smear: bool = False  # each embedding takes a learned share of the one before it
    zero_out: bool = False  # what blocks add begins at 0: at first the stream runs through untouched
    first_scale: float = 1.0  # of all first matrices, times GPT-2's: a stream narrower than its 768 wants larger ones
    first_mlp_scale: float = 1.0  # of those inside the MLPs and experts, besides
    bias: bool = True  # of all linear maps but the last, and of LayerNorm
    tied: bool = True  # the scores use the table of embeddings
    dropout: float = 0.0  # of embeddings, attention weights and what each part adds, in training
    seed: int = 0  # of the first parameters

    def __post_init__(self) -> None:
        names = ("vocabulary", "context", "n_layer") + ("window",) * (self.window is not None)
        check_whole_numbers({name: (getattr(self, name), 8) for name in names})
        for name in ("first_scale", "first_mlp_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} must be a number above 0; {name}=1.0 is GPT-2's")
        if self.positions not in PositionName.__args__:
            raise ValueError(f"positions={self.positions!r} must be one of {', '.join(PositionName.__args__)}")
        if self.moe is not None and (self.moe.d_model != self.d_model or self.d_hidden is not None):
            raise ValueError(
                f"d_model={self.d_model} and d_hidden={self.d_hidden} beside moe with d_model={self.moe.d_model}: "
                "the widths must be the same, and the hidden width is moe's to say; d_hidden=None works"
            )
        width = self.block.attention.width  # makes the block's configuration, which checks its own part
        if self.positions == "rope" and width % 2:
            raise ValueError(
                f"d_model={self.d_model} over n_head={self.n_head} gives heads of {width}, but positions='rope' turns "
                f"pairs of numbers; head_width={width + 1} works"
            )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"d_model={self.d_model} must be even for positions='sinusoidal'; d_model=8 works")
        if self.rope_scaling is not None and self.positions != "rope":
            raise ValueError(f"rope_scaling is for positions='rope'; positions={self.positions!r} has no use for it")

    @property
    def block(self) -> BlockConfig:
        """The configuration of every block."""
        attention = AttentionConfig(
            d_model=self.d_model,
            n_head=self.n_head,
            n_kv_head=self.n_kv_head,
            head_width=self.head_width,
            bias=self.bias,
            qk_norm=self.qk_norm,
            dropout=self.dropout,
        )
        d_hidden = self.d_hidden
        if d_hidden is None:  # two matrices of 4d cost as much as three of 8d/3
            d_hidden = 8 * -(-self.d_model // 3) if self.mlp == "swiglu" else 4 * self.d_model
        return BlockConfig(
            attention=attention,
            d_hidden=d_hidden,
            mlp=self.mlp,
            norm=self.norm,
            norm_eps=self.norm_eps,
            bias=self.bias,
            dropout=self.dropout,
        )


def gpt2(
    *,
    vocabulary: int = 50257,
    context: int = 1024,
    n_layer: int = 12,
    n_head: int = 12,
    d_model: int = 768,
    dropout: float = 0.0,
    first_scale: float = 1.0,
    seed: int = 0,
) -> DecoderConfig:
    """GPT-2: LayerNorm, GELU by the tanh formula, learned positions, biases, tied. The defaults are the small one.

    >>> gpt2(n_layer=2, n_head=2, d_model=8, vocabulary=50, context=16).mlp
    'gelu_tanh'
    """
    return DecoderConfig(vocabulary=vocabulary, context=context, n_layer=n_layer, n_head=n_head, d_model=d_model,
                         norm="layer", mlp="gelu_tanh", positions="learned", bias=True, tied=True, dropout=dropout,
                         first_scale=first_scale, seed=seed)  # fmt: skip


def llama(
    *,
    vocabulary: int,
    context: int,
    n_layer: int,
    n_head: int,
    d_model: int,
    n_kv_head: int | None = None,
    d_hidden: int | None = None,
    rope_base: float = 10000.0,
    rope_scaling: RopeScaling | None = None,
    norm_eps: float = 1e-5,
    tied: bool = False,
    first_scale: float = 1.0,
    seed: int = 0,
) -> DecoderConfig:
    """Llama: RMSNorm, SwiGLU, RoPE, no biases; from Llama 2's large ones on with fewer heads that answer.

    >>> llama(vocabulary=50, context=16, n_layer=2, n_head=4, d_model=8, n_kv_head=2).positions
    'rope'
    """
    return DecoderConfig(vocabulary=vocabulary, context=context, n_layer=n_layer, n_head=n_head, d_model=d_model,
                         n_kv_head=n_kv_head, d_hidden=d_hidden, norm="rms", norm_eps=norm_eps, mlp="swiglu",
                         positions="rope", rope_base=rope_base, rope_scaling=rope_scaling, bias=False, tied=tied,
                         first_scale=first_scale, seed=seed)  # fmt: skip


class Decoder(LanguageModel):
    """Tokens (b, t) in, logits (b, t, v) of each next token out.

    Initialisation, from the seed of the configuration, is GPT-2's: every matrix normal with standard deviation 0.02,
    those that add to the stream 0.02 / √(2 · n_layer), all times `first_scale`; biases 0, norms 1. `fused=False` takes
    the attention that is written out.

    >>> model = Decoder(llama(vocabulary=11, context=8, n_layer=2, n_head=2, d_model=4))
    >>> model(torch.tensor([[1, 2, 3, 4, 5]])).shape
    torch.Size([1, 5, 11])
    """

    kernel: Callable[..., Tensor] | None = None  # of the scores and their loss; set by transformer/with_kernels.py

    def __init__(self, config: DecoderConfig, *, fused: bool = True) -> None:
        super().__init__(config.vocabulary)
        self.config, self.fused = config, fused
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.smear = nn.Parameter(torch.empty(config.d_model)) if config.smear else None
        self.positions = added_positions(config)
        is_rope, width = config.positions == "rope", config.block.attention.width
        self.rope = RoPE(width, config.rope_base, config.rope_scaling) if is_rope else None
        self.dropout = nn.Dropout(config.dropout)
        mixtures = (None if config.moe is None else MoE(config.moe) for _ in range(config.n_layer))
        self.blocks = nn.ModuleList(Block(config.block, mixture) for mixture in mixtures)
        self.norm = make_norm(config.block)
        self.score = nn.Linear(config.d_model, config.vocabulary, bias=False)
        if config.tied:
            self.score.weight = self.embedding.weight
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters again, from the seed of the configuration."""
        generator = torch.Generator().manual_seed(self.config.seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                adds = name.endswith(("attention.out.weight", ".down.weight"))
                small = 0.0 if self.config.zero_out else 0.02 * (2 * self.config.n_layer) ** -0.5
                parameter.normal_(std=small if adds else 0.02, generator=generator).mul_(self.config.first_scale)
                if name.endswith(("gate.weight", "up.weight", "down.weight")):
                    parameter.mul_(self.config.first_mlp_scale)
            else:
                parameter.fill_(0.0 if name.endswith("bias") or name == "smear" else 1.0)

    def forward(self, tokens_bt: Tensor, may_look: Tensor | None = None) -> Tensor:
        return self.score(self.hidden(tokens_bt, may_look=may_look))

    def loss(self, batch: Tensor) -> Tensor:
        """Mean nats per token of a batch (b, t + 1); in training also what its mixtures of experts add."""
        nats = super().loss(batch) if self.kernel is None else self._loss_by_kernel(batch, self.kernel)
        return nats + auxiliary_loss(self) if self.training and self.config.moe is not None else nats

    def _loss_by_kernel(self, batch: Tensor, kernel: Callable[..., Tensor]) -> Tensor:
        check_tokens(batch, self.vocabulary, columns=2)
        x_btd = self.hidden(batch[:, :-1])
        return kernel(x_btd.flatten(0, 1), self.score.weight, batch[:, 1:].flatten())

    def hidden(
        self,
        tokens_bt: Tensor,
        cache: DecoderCache | None = None,
        may_look: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """What the scores are made from, (b, t, d), after the last norm.

        With a cache, the tokens follow those that it has seen, and are added to it. `may_look` (boolean, as in
        `minillm.attention.masks`) replaces the causal mask, and the window with it: a prefix that sees itself whole,
        say. `positions`, int64 (t,) or (b, t), are where the tokens stand, if not one behind the other; ALiBi
        measures its distances in the row all the same.
        """
        check_tokens(tokens_bt, self.vocabulary)
        return self.hidden_from(self.embedding(tokens_bt), cache, may_look, positions)

    def hidden_from(
        self,
        x_btd: Tensor,
        cache: DecoderCache | None = None,
        may_look: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """`hidden` from vectors (b, t, d) in the place of embedded tokens: a learned prompt, a picture."""
        x_btd, how = self._start(x_btd, cache, may_look, positions)
        for layer, block in enumerate(self.blocks):
            x_btd = block(x_btd, **how, cache=None if cache is None else cache.layers[layer], fused=self.fused)
        return self.norm(x_btd)

    def attention_maps(self, tokens_bt: Tensor) -> list[Tensor]:
        """Who looks at whom: for each block the weights (b, h, t, s)."""
        check_tokens(tokens_bt, self.vocabulary)
        x_btd, how = self._start(self.embedding(tokens_bt))
        maps = []
        for block in self.blocks:
            assert isinstance(block, Block)
            maps.append(block.attention.weights(block.attention_norm(x_btd), **how))
            x_btd = block(x_btd, **how)
        return maps

    def read(self, tokens_bt: Tensor, cache: DecoderCache) -> Tensor:
        """Read more tokens of each row into the cache: the logits (b, v) of what follows the last of them."""
        return self.score(self.hidden(tokens_bt, cache)[:, -1])

    def step(self, token_b: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Read one more token of each row; the state is a `DecoderCache`, which is changed in place."""
        cache = self.new_cache() if state is None else state
        return self.read(token_b[:, None], cache), cache

    def new_cache(self, capacity: int | None = None, pad_b: Tensor | None = None) -> DecoderCache:
        """An empty cache for `capacity` tokens (None: the context), the first `pad_b` of each row only filling."""
        room = self.config.context if capacity is None else min(capacity, self.config.context)
        seen = None if self.smear is None else KVCache(room)
        return DecoderCache([KVCache(room) for _ in range(self.config.n_layer)], pad_b, seen)

    def with_context(self, context: int) -> "Decoder":
        """The same model, its parameters shared, for another context. Learned positions end where they end."""
        if self.config.positions == "learned":
            raise ValueError(
                f"context={context}: positions='learned' has rows for context={self.config.context} places and none "
                "beyond; 'rope', 'alibi', 'sinusoidal' and 'none' can go on"
            )
        other = copy.deepcopy(self, {id(p): p for p in self.parameters()})
        other.config = replace(self.config, context=context)
        other.positions = added_positions(other.config)
        return other.to(self.embedding.weight.device)

    def _start(
        self,
        x_btd: Tensor,
        cache: DecoderCache | None = None,
        may_look: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """The stream before the first block, and what every block must know of positions and masks."""
        past, t, device = 0 if cache is None else cache.length, x_btd.shape[1], x_btd.device
        if past + t > (context := self.config.context):
            raise ValueError(
                f"tokens has t={t}" + (f" after {past} in the cache" if past else "") + f", but context={context} is "
                f"the most that this model reads; {context - past} would fit, or take a model with context={past + t}"
            )
        place = torch.arange(past, past + t, device=device)
        given, pad_b = positions, None if cache is None else cache.pad_b
        if positions is None:
            positions = place if pad_b is None else (place - pad_b[:, None]).clamp(min=0)
        if self.smear is not None:
            follows = 1 if given is None else (given > 0)[..., None]  # not the first of a text in a packed row
            x_btd = x_btd + self.smear * before(x_btd, cache) * follows
        if self.config.positions == "sinusoidal":
            x_btd = x_btd * self.config.d_model**0.5
        if self.positions is not None:  # our own positions lie within the context: to look would make a GPU wait
            x_btd = x_btd + (self.positions.rows(positions) if given is None else self.positions(positions))
        causal = may_look is None
        if may_look is None and self.config.window is not None and past + t > self.config.window:
            may_look = sliding_window(t, past + t, self.config.window, device)
        if pad_b is not None:
            may_look = both(may_look, padding(past + t - pad_b, past + t, left=True))
        is_alibi = self.config.positions == "alibi"
        bias = alibi_bias(self.config.n_head, place, torch.arange(past + t, device=device)) if is_alibi else None
        rope = None if self.rope is None else self.rope.at(positions, x_btd.dtype)
        how = {"may_look": may_look, "bias": bias, "rope": rope, "positions": positions, "causal": causal}
        return self.dropout(x_btd), how


def added_positions(config: DecoderConfig) -> LearnedPositions | SinusoidalPositions | None:
    """What is added to the embeddings, if anything is."""
    if config.positions == "learned":
        return LearnedPositions(config.context, config.d_model)
    return SinusoidalPositions(config.context, config.d_model) if config.positions == "sinusoidal" else None
