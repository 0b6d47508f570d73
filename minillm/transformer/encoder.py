"""The encoder: every token looks at all others, to the left and to the right, and becomes a vector that knows them.

    x = norm(token + position + segment)         x = block(x), n_layer times          pooled = tanh(W x[0] + b)
    p(token | the others) = softmax(norm(gelu(x W + b)) Eᵀ + c)          E is the table of token embeddings (tied)

An encoder writes nothing: it cannot be asked what comes next, because it has always seen it. It is asked what is hidden
(`MaskedLM`), and what it learned that way is then used to label texts and tokens (`encoder_tasks`).

Paper:   Devlin et al. 2019, "BERT", §3, arXiv:1810.04805; shared layers and a narrow table: Lan et al. 2020, "ALBERT",
         §3.1, arXiv:1909.11942.
Names:   `segments` are BERT's token types, `d_embedding` is ALBERT's E and d_model its H; `transform`, `transform_norm`
         and `token_bias` are BERT's head, `next_sentence` its NSP.
Differs: dropout is 0 by default; [CLS] and [SEP] are put there by `encoder_batches`, not here. The mean of the loss is
         over the hidden tokens of a batch, and only these are scored.
Next:    minillm/transformer/encoder_tasks.py
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.attention import masks
from minillm.attention.multihead import AttentionConfig
from minillm.core.settings import check_whole_numbers
from minillm.neural.language_model import check_tokens
from minillm.transformer.block import ACTIVATIONS, Block, BlockConfig, LayerNorm, MLPName
from minillm.transformer.encoder_batches import IGNORE
from minillm.transformer.masking import MaskedBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """The sizes of an `Encoder`. `bert(...)` and `albert(...)` are presets."""

    vocabulary: int  # tokens, numbered from 0
    context: int  # positions that are learned: no text may be longer
    n_layer: int = 2  # how often a block is applied
    n_head: int = 4  # heads of each attention
    d_model: int = 64  # numbers for each token
    d_hidden: int | None = None  # inside the MLP; None: 4 · d_model
    d_embedding: int | None = (
        None  # numbers for each token in the tables; None: d_model; less is ALBERT's factorisation
    )
    segments: int = 2  # kinds of text that are told apart
    shared_layers: bool = False  # one block, applied n_layer times, as in ALBERT
    activation: MLPName = "gelu"  # of the MLP and of the head; "gelu" is exact
    dropout: float = 0.0  # in training: of the embeddings, the attention weights and what each part adds
    seed: int = 0  # of the first parameters

    def __post_init__(self) -> None:
        names = ("vocabulary", "context", "n_layer", "n_head", "d_model", "d_hidden", "d_embedding", "segments")
        check_whole_numbers({name: (getattr(self, name), 8) for name in names if getattr(self, name) is not None})
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r} must be one of {', '.join(ACTIVATIONS)}; 'gelu' works")
        self.block  # noqa: B018  # its own checks: heads that divide the width, a dropout that is a share

    @property
    def table_width(self) -> int:
        """The numbers for each token in the tables."""
        return self.d_model if self.d_embedding is None else self.d_embedding

    @property
    def block(self) -> BlockConfig:
        """What a layer is made of: post-norm, as in 2017."""
        attention = AttentionConfig(d_model=self.d_model, n_head=self.n_head, dropout=self.dropout)
        d_hidden = 4 * self.d_model if self.d_hidden is None else self.d_hidden
        return BlockConfig(
            attention=attention,
            d_hidden=d_hidden,
            mlp=self.activation,
            norm_first=False,
            norm_eps=EPS,
            dropout=self.dropout,
        )


EPS = 1e-12  # BERT's, in every norm


class Encoder(nn.Module):
    """Tokens (b, t) in, a vector for each of them (b, t, d) out; `pool` makes one of them, (b, d).

    `length_b` tells where padding begins. Weights begin normal with standard deviation 0.02, biases at 0.

    >>> encoder = Encoder(EncoderConfig(vocabulary=11, context=8, n_layer=2, n_head=2, d_model=6))
    >>> x_btd = encoder(torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 0, 0]]), length_b=torch.tensor([5, 3]))
    >>> x_btd.shape, encoder.pool(x_btd).shape
    (torch.Size([2, 5, 6]), torch.Size([2, 6]))
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        width, d_model = config.table_width, config.d_model
        self.token = nn.Embedding(config.vocabulary, width)
        self.position = nn.Embedding(config.context, width)
        self.segment = nn.Embedding(config.segments, width)
        self.embedding_norm = LayerNorm(width, eps=EPS)
        self.widen = None if config.d_embedding is None else nn.Linear(width, d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config.block) for _ in range(1 if config.shared_layers else config.n_layer))
        self.pooler = nn.Linear(d_model, d_model)
        reset(self, config.seed)

    def forward(
        self,
        tokens_bt: Tensor,
        length_b: Tensor | None = None,
        segment_bt: Tensor | None = None,
        position_bt: Tensor | None = None,
        may_look: Tensor | None = None,
        fused: bool = True,
    ) -> Tensor:
        x_btd = self.embed(tokens_bt, segment_bt, position_bt)
        if length_b is not None:
            may_look = masks.both(may_look, masks.padding(length_b, tokens_bt.shape[1]))
        for layer in range(self.config.n_layer):
            x_btd = self.blocks[layer % len(self.blocks)](x_btd, may_look=may_look, fused=fused)
        return x_btd

    def embed(self, tokens_bt: Tensor, segment_bt: Tensor | None = None, position_bt: Tensor | None = None) -> Tensor:
        """What the first block reads: token, position and segment added, brought to one scale; (b, t, d)."""
        check_tokens(tokens_bt, self.config.vocabulary)
        t = tokens_bt.shape[1]
        if position_bt is None and t > self.config.context:
            raise ValueError(
                f"tokens has {t} columns; this encoder knows context={self.config.context} positions: cut it"
            )
        position = torch.arange(t, device=tokens_bt.device) if position_bt is None else position_bt
        segment_bt = torch.zeros_like(tokens_bt) if segment_bt is None else segment_bt
        x = self.token(tokens_bt) + self.position(position) + self.segment(segment_bt)
        x = self.dropout(self.embedding_norm(x))
        return x if self.widen is None else self.widen(x)

    def pool(self, x_btd: Tensor) -> Tensor:
        """One vector for a text: what its first token, [CLS], became, mapped once more; (b, d)."""
        return torch.tanh(self.pooler(x_btd[:, 0]))

    def attention_weights(self, tokens_bt: Tensor, length_b: Tensor | None = None) -> list[Tensor]:
        """Who looks at whom in each layer: (b, h, t, s) each, for pictures."""
        x_btd = self.embed(tokens_bt)
        may_look = None if length_b is None else masks.padding(length_b, tokens_bt.shape[1])
        weights: list[Tensor] = []
        for layer in range(self.config.n_layer):
            block = self.blocks[layer % len(self.blocks)]
            weights.append(block.attention.weights(x_btd, may_look=may_look))  # type: ignore[union-attr,operator]
            x_btd = block(x_btd, may_look=may_look)
        return weights

    @property
    def n_parameters(self) -> int:
        """How many numbers training may change; a shared layer counts once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


class MaskedLM(nn.Module):
    """An encoder and the two questions of its pretraining: what is hidden here, and does b follow a?

    `loss` takes a `MaskedBatch`: nats per hidden token, and the nats of the second question where it has labels.

    >>> model = MaskedLM(EncoderConfig(vocabulary=11, context=8, n_head=2, d_model=6))
    >>> model.logits(torch.tensor([[1, 2, 3, 4, 5]])).shape
    torch.Size([1, 5, 11])
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.transform = nn.Linear(config.d_model, config.table_width)
        self.transform_norm = LayerNorm(config.table_width, eps=EPS)
        self.token_bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.next_sentence = nn.Linear(config.d_model, 2)
        reset(self, config.seed)

    def score(self, x_btd: Tensor) -> Tensor:
        """Logits (b, t, v) over the vocabulary for vectors (b, t, d) of the encoder."""
        y = self.transform_norm(ACTIVATIONS[self.config.activation](self.transform(x_btd)))
        return F.linear(y, self.encoder.token.weight, self.token_bias)

    def logits(
        self, tokens_bt: Tensor, length_b: Tensor | None = None, segment_bt: Tensor | None = None, fused: bool = True
    ) -> Tensor:
        """Logits (b, t, v) of the token that belongs at each place, which has been seen unless it is [MASK]."""
        return self.score(self.encoder(tokens_bt, length_b, segment_bt, fused=fused))

    def loss(self, batch: MaskedBatch) -> Tensor:
        """Mean nats per hidden token, plus mean nats of "does b follow a?" where that is asked."""
        x_btd = self.read(batch)
        asked_bt = batch.target_bt != IGNORE
        if not bool(asked_bt.any()):
            raise ValueError("the batch hides no token, so nothing is asked; see minillm.transformer.masking.mask")
        nats = F.cross_entropy(self.score(x_btd[asked_bt][None])[0], batch.target_bt[asked_bt])
        if batch.label_b is None:
            return nats
        return nats + F.cross_entropy(self.next_sentence(self.encoder.pool(x_btd)), batch.label_b)

    def count(self, batch: MaskedBatch) -> int:
        """How many tokens the mean of `loss` is over."""
        return int((batch.target_bt != IGNORE).sum())

    def read(self, batch: MaskedBatch) -> Tensor:
        """The encoder's vectors (b, t, d) of a batch, with all that its fields say."""
        may_look, t = None, batch.tokens_bt.shape[1]
        if batch.prefix_length_b is not None:
            may_look = masks.prefix(t, t, batch.prefix_length_b, device=batch.tokens_bt.device)
        return self.encoder(batch.tokens_bt, batch.length_b, batch.segment_bt, batch.position_bt, may_look)

    @torch.no_grad()
    def guesses(self, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        """The likeliest tokens (n,) at the places that are asked for, and the tokens (n,) that were there."""
        asked_bt = batch.target_bt != IGNORE
        asked = self.read(batch)[asked_bt][None]
        return self.score(asked)[0].argmax(dim=-1), batch.target_bt[asked_bt]

    @property
    def n_parameters(self) -> int:
        """How many numbers training may change; tied and shared ones count once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def bert(vocabulary: int = 30522, *, large: bool = False) -> EncoderConfig:
    """BERT-base, or BERT-large: the sizes of §3 of the paper.

    >>> bert().d_model, bert(large=True).n_layer
    (768, 24)
    """
    n_layer, n_head, d_model = (24, 16, 1024) if large else (12, 12, 768)
    return EncoderConfig(
        vocabulary=vocabulary, context=512, n_layer=n_layer, n_head=n_head, d_model=d_model, dropout=0.1
    )


def albert(vocabulary: int = 30000) -> EncoderConfig:
    """ALBERT-base: BERT-base with one block for all layers and a table of width 128."""
    return EncoderConfig(
        vocabulary=vocabulary,
        context=512,
        n_layer=12,
        n_head=12,
        d_model=768,
        d_embedding=128,
        shared_layers=True,
        activation="gelu_tanh",
    )


@torch.no_grad()
def reset(model: nn.Module, seed: int) -> None:
    """Draw the weights of all maps and tables from a normal distribution (0, 0.02), as BERT does; biases are 0."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.normal_(std=0.02, generator=generator)
        if isinstance(module, nn.Linear):
            module.bias.zero_()
