"""The Transformer of 2017: an encoder that reads with attention, a decoder that writes with attention to what was read.

    source stream   x ← √d · E[source] + PE;   n times: look at the source, think
    target stream   y ← √d · E[target] + PE;   n times: look at the target so far, look at x, think
    log P(next)     = log softmax(y Eᵀ)

One table E gives the vectors of source and target and, turned round, scores the next token. Label smoothing teaches
(1 - ε) of the true token and ε of all alike, so that no logit has a reason to grow for ever.

Paper:   Vaswani et al. 2017, "Attention Is All You Need", §3 and §5.4, arXiv:1706.03762; pre-norm: Xiong et al. 2020,
         arXiv:2002.04745; label smoothing: Szegedy et al. 2016, §7, arXiv:1512.00567.
Names:   `n_layer`, `n_head`, `d_hidden`, `smoothing` are the paper's N, h, d_ff, ε_ls; E is `embedding`.
Differs: pre-norm by default, and then a last norm on either stream. All matrices start Xavier-uniform, E with standard
         deviation 1/√d (the paper says neither). In evaluation the loss is not smoothed: nats per token, as elsewhere.
Next:    minillm/transformer/encoder.py
"""

import inspect
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.attention.cache import KVCache
from minillm.attention.masks import padding
from minillm.attention.multihead import AttentionConfig
from minillm.attention.positions import SinusoidalPositions
from minillm.core.settings import check_whole_numbers
from minillm.neural.pair_model import PairModel
from minillm.neural.pairs import PairBatch
from minillm.transformer.block import Block, BlockConfig, LayerNorm

Looking = Literal["source", "target", "cross"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderDecoderConfig:
    """The sizes of an `EncoderDecoder`, and where its norms stand."""

    vocabulary: int  # tokens of both languages together, numbered from 0
    context: int = 64  # the longest source, and the longest target (begin counted)
    n_layer: int = 2  # blocks of the encoder, and as many of the decoder
    n_head: int = 4
    d_model: int = 64  # numbers in either stream for each token
    d_hidden: int | None = None  # inside the MLP; None: 4 · d_model
    norm_first: bool = True  # pre-norm; False: post-norm, as in 2017
    smoothing: float = 0.1  # the share of each target that is spread over the whole vocabulary, in training
    dropout: float = 0.0  # of embeddings and of what each part adds, in training; 0.1 in 2017
    fused: bool = True  # attention as one kernel; False: written out, the same numbers
    seed: int = 0  # of the first parameters

    def __post_init__(self) -> None:
        names = ("vocabulary", "context", "n_layer")
        check_whole_numbers({name: (getattr(self, name), 8) for name in names})
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing={self.smoothing!r} is a share from 0 (none) to below 1; 0.1 works")
        self.block(cross_attention=False)  # checks the other fields
        if self.d_model % 2:
            raise ValueError(
                f"d_model={self.d_model} cannot be split into pairs of sine and cosine; {self.d_model + 1} can"
            )

    def block(self, *, cross_attention: bool) -> BlockConfig:
        """What each block of the encoder, or of the decoder, is made of."""
        return BlockConfig(
            attention=AttentionConfig(d_model=self.d_model, n_head=self.n_head),
            d_hidden=4 * self.d_model if self.d_hidden is None else self.d_hidden,
            mlp="relu",
            norm_first=self.norm_first,
            cross_attention=cross_attention,
            dropout=self.dropout,
        )


def base_2017(vocabulary: int = 37_000) -> EncoderDecoderConfig:
    """The base model of the paper's Table 3, for its shared English and German vocabulary."""
    return EncoderDecoderConfig(
        vocabulary=vocabulary, context=512, n_layer=6, n_head=8, d_model=512, norm_first=False, dropout=0.1
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """Translations under way: what was read, and the keys and values of what is written so far, layer by layer."""

    source_bsd: Tensor  # the encoder's output
    may_look: Tensor  # (b, 1, 1, s): where the source is no padding
    written: list[KVCache]  # of self-attention; it grows by a token at each step
    read: list[KVCache]  # of cross-attention; it is filled once


class EncoderDecoder(PairModel):
    """The 2017 machine over one vocabulary: `loss`, `count`, `translate` and `hypotheses` are those of `PairModel`.

    >>> model = EncoderDecoder(EncoderDecoderConfig(vocabulary=11, d_model=6, n_head=3))
    >>> batch = PairBatch.of([([5, 6, 7], [3]), ([8], [3, 4])], begin=1, end=2)
    >>> model(batch).shape  # of the tokens after begin
    torch.Size([2, 3, 11])
    >>> model.weights(batch, layer=0, kind="cross").shape  # who looks at which of three source tokens
    torch.Size([2, 3, 3, 3])
    """

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__(config.vocabulary, config.vocabulary)
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.positions = SinusoidalPositions(config.context, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.ModuleList(Block(config.block(cross_attention=False)) for _ in range(config.n_layer))
        self.decoder = nn.ModuleList(Block(config.block(cross_attention=True)) for _ in range(config.n_layer))
        # post-norm blocks end in a norm already
        self.source_norm = LayerNorm(config.d_model) if config.norm_first else nn.Identity()
        self.target_norm = LayerNorm(config.d_model) if config.norm_first else nn.Identity()
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters again, from the seed of the configuration."""
        generator = torch.Generator().manual_seed(self.config.seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:  # biases, and the gains of norms
                parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        self.embedding.weight.normal_(std=self.config.d_model**-0.5, generator=generator)

    def forward(self, batch: PairBatch) -> Tensor:
        may_look = padding(batch.source_length_b, batch.source_bs.shape[1])
        source_bsd = self.encode(batch.source_bs, may_look)
        target_btd = self.decode(batch.target_bt[:, :-1], source_bsd, may_look)
        return F.linear(target_btd, self.embedding.weight)

    def encode(self, source_bs: Tensor, may_look: Tensor | None = None) -> Tensor:
        """Read sources: (b, s) to (b, s, d). `may_look` (b, 1, 1, s) is False where there is padding."""
        return self.source_norm(self._source_stream(source_bs, may_look)[-1])

    def decode(self, target_bt: Tensor, source_bsd: Tensor, may_look: Tensor | None = None) -> Tensor:
        """Read the targets so far: (b, t) to (b, t, d), each place about the token after it."""
        return self.target_norm(self._target_stream(target_bt, source_bsd, may_look)[-1])

    def loss(self, batch: PairBatch) -> Tensor:
        """Mean nats per target token, against smoothed targets while training; padding has no part in it."""
        logits_btv, asked = self(self.checked(batch)), batch.asked_bt
        smoothing = self.config.smoothing if self.training else 0.0
        return F.cross_entropy(logits_btv[asked], batch.target_bt[:, 1:][asked], label_smoothing=smoothing)

    def start(self, source_bs: Tensor, source_length_b: Tensor) -> Draft:
        """Read the sources once; nothing is written yet."""
        may_look = padding(source_length_b, source_bs.shape[1])
        return Draft(
            source_bsd=self.encode(source_bs, may_look),
            may_look=may_look,
            written=[KVCache(self.config.context) for _ in self.decoder],
            read=[KVCache(source_bs.shape[1]) for _ in self.decoder],
        )

    def step(self, token_b: Tensor, state: Draft) -> tuple[Tensor, Draft]:
        """Score what follows one more token of each row: (b, v). The state given is used up: its caches grow."""
        y_btd = self._embed(token_b[:, None], start=state.written[0].length)
        for block, written, read in zip(self.decoder, state.written, state.read, strict=True):
            y_btd = block(
                y_btd,
                state.source_bsd,
                source_may_look=state.may_look,
                cache=written,
                source_cache=read,
                fused=self.config.fused,
            )
        return F.linear(self.target_norm(y_btd)[:, -1], self.embedding.weight), state

    def select(self, state: Draft, rows: Tensor) -> Draft:
        """The drafts of the numbered rows, in that order; a row may be taken more than once."""
        for cache in (*state.written, *state.read):
            if cache.length:  # before the first step there is nothing in it
                cache.select(rows)
        return Draft(
            source_bsd=state.source_bsd[rows], may_look=state.may_look[rows], written=state.written, read=state.read
        )

    @torch.no_grad()
    def weights(self, batch: PairBatch, *, layer: int = -1, kind: Looking = "cross") -> Tensor:
        """Who looks at whom, one layer's heads: (b, h, t, s), each row a share of 1. For pictures.

        "source": source tokens among themselves; "target": target tokens (begin first, end never read) at those before
        them; "cross": target tokens at source tokens. Row t of the last two decides about token t + 1.
        """
        blocks = self.encoder if kind == "source" else self.decoder
        if kind not in ("source", "target", "cross") or not -len(blocks) <= layer < len(blocks):
            raise ValueError(
                f"kind={kind!r}, layer={layer!r}: kind is 'source', 'target' or 'cross', and layer from 0 to "
                f"{len(blocks) - 1} (or -1 for the last)"
            )
        block: Any = blocks[layer]
        attention = block.cross_attention if kind == "cross" else block.attention
        asked: dict[str, Any] = {}

        def listen(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            asked.update(inspect.signature(attention.forward).bind(*args, **named).arguments)

        handle = attention.register_forward_pre_hook(listen, with_kwargs=True)
        try:
            self(self.checked(batch))
        finally:
            handle.remove()
        return attention.weights(**{name: asked.get(name) for name in ("x_btd", "source_bsd", "may_look")},
                                 causal=asked.get("causal", False))  # fmt: skip

    @torch.no_grad()
    def streams(self, batch: PairBatch) -> tuple[list[Tensor], list[Tensor]]:
        """What the two residual streams carry: after the embedding and after each block, n_layer + 1 tensors each.

        The source's are (b, s, d), the target's (b, t - 1, d); at padding they mean nothing.
        """
        self.checked(batch)
        may_look = padding(batch.source_length_b, batch.source_bs.shape[1])
        source = self._source_stream(batch.source_bs, may_look)
        return source, self._target_stream(batch.target_bt[:, :-1], self.source_norm(source[-1]), may_look)

    def _source_stream(self, source_bs: Tensor, may_look: Tensor | None) -> list[Tensor]:
        stream = [self._embed(source_bs)]
        for block in self.encoder:
            stream.append(block(stream[-1], may_look=may_look, fused=self.config.fused))
        return stream

    def _target_stream(self, target_bt: Tensor, source_bsd: Tensor, may_look: Tensor | None) -> list[Tensor]:
        """Padding needs no mask here: it stands at the end, and nobody looks ahead."""
        stream = [self._embed(target_bt)]
        for block in self.decoder:
            stream.append(block(stream[-1], source_bsd, source_may_look=may_look, causal=True, fused=self.config.fused))
        return stream

    def _embed(self, tokens_bt: Tensor, start: int = 0) -> Tensor:
        """√d · E[token] + PE, for tokens that stand from position `start` on."""
        stop = start + tokens_bt.shape[1]
        if stop > self.config.context:
            raise ValueError(
                f"a sequence of {stop} tokens does not fit into context={self.config.context}; "
                f"shorten it, or make the model with context={stop}"
            )
        place_t = torch.arange(start, stop, device=tokens_bt.device)
        return self.dropout(math.sqrt(self.config.d_model) * self.embedding(tokens_bt) + self.positions(place_t))
