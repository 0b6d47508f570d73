"""How many parameters each way of fine-tuning trains: by formula, and counted.

    LoRA  Σ r (d + f)    bottleneck  2 L (2 d m + d + m) + norms    prefix  2 L p g k    prompt  p d    BitFit  biases

L layers of width d, r rank, m width of the bottleneck, p length of prefix or prompt, g heads of k numbers for the keys.

Paper:   those of `minillm.adaptation.lora` and `minillm.adaptation.adapters`; a comparison of all: Lialin et al. 2023,
         "Scaling Down to Scale Up", arXiv:2303.15647.
Names:   `share` is of the parameters that the model had before.
Differs: papers count now the parameters that learn, now those that are stored; a prefix that is made by an MLP has
         both numbers here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from minillm.transformer.costs import parameters
from minillm.transformer.decoder import DecoderConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A row of the table."""

    name: str  # of the method
    trainable: int  # numbers that learn
    total: int  # numbers that the model has without the method

    @property
    def share(self) -> float:
        """What learns, for each number of the model."""
        return self.trainable / self.total


def counted(name: str, model: nn.Module, total: int) -> Trained:
    """The row of a model as it stands: what gets gradients, each parameter once.

    >>> counted("full", nn.Linear(3, 2), total=8)
    Trained(name='full', trainable=8, total=8)
    """
    return Trained(name=name, trainable=sum(p.numel() for p in model.parameters() if p.requires_grad), total=total)


def table(
    config: DecoderConfig,
    *,
    rank: int = 8,
    places: Sequence[str] = ("query", "value"),
    width: int = 16,
    length: int = 16,
    d_hidden: int = 64,
) -> list[Trained]:
    """A row for each method on a decoder of this configuration, by formula.

    `places` are the maps of each block that LoRA changes. `length` is that of prefix and prompt.

    >>> from minillm.transformer.decoder import gpt2
    >>> for row in table(gpt2()):
    ...     print(f"{row.name:32} {row.trainable:>11,} {row.share:8.3%}")
    full                             124,439,808 100.000%
    LoRA                                 294,912   0.237%
    bottleneck                           647,040   0.520%
    prefix tuning, while it learns     1,259,584   1.012%
    prefix tuning, settled               294,912   0.237%
    P-Tuning v2                          294,912   0.237%
    prompt tuning                         12,288   0.010%
    BitFit                               102,144   0.082%
    """
    d, layers, total = config.d_model, config.n_layer, sum(parameters(config).values())
    shapes = _shapes(config)
    unknown = [place for place in places if place not in shapes]
    if unknown:
        raise ValueError(f"places={list(places)!r}: {unknown[0]!r} is no map of a block; there are {', '.join(shapes)}")
    key = shapes["key"][1]
    prefix = layers * 2 * length * key
    rows = {
        "full": total,
        "LoRA": layers * sum(rank * sum(shapes[place]) for place in places),
        "bottleneck": layers * 2 * (2 * d * width + d + width) + parameters(config)["norms"],
        "prefix tuning, while it learns": length * d + (d + 1) * d_hidden + layers * (d_hidden + 1) * 2 * key,
        "prefix tuning, settled": prefix,
        "P-Tuning v2": prefix,
        "prompt tuning": length * d,
        "BitFit": _biases(config),
    }
    return [Trained(name=name, trainable=trainable, total=total) for name, trainable in rows.items()]


def _shapes(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """Width in and out of the maps of a block."""
    d, f, attention = config.d_model, config.block.d_hidden, config.block.attention
    inside, shared = attention.n_head * attention.width, attention.kv_heads * attention.width
    maps = {"query": (d, inside), "key": (d, shared), "value": (d, shared), "out": (inside, d)}
    gate = {"gate": (d, f)} if config.mlp == "swiglu" else {}
    return maps | gate | {"up": (d, f), "down": (f, d)}


def _biases(config: DecoderConfig) -> int:
    """One for each number that a map gives, and those of LayerNorm."""
    if not config.bias:
        return 0
    norms = (2 * config.n_layer + 1) * config.d_model if config.norm == "layer" else 0
    return config.n_layer * sum(out for _, out in _shapes(config).values()) + norms
