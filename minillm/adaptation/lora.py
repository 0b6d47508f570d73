"""LoRA: the matrix stays as it is, and beside it two thin ones learn the change.

    h = W x + γ B A x           A: (r, d) random, B: (f, r) zero, γ = α / r, or α / √r for rsLoRA

At the start B = 0, so the model is the old one, bit for bit. Only A and B learn: r · (d + f) numbers in the place of
d · f. Afterwards γ B A may be added to W ("merged"), and the model costs what it cost before.

Paper:   Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", §4.1, arXiv:2106.09685; the scale
         α / √r: Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", arXiv:2312.03732.
Names:   `a_rd` and `b_fr` are A and B, `scale` is γ, `rank` r, `alpha` α; for an embedding A has a column for each
         token.
Differs: A is uniform in ±1/√d, as in the code of the paper, where the text says Gaussian. W is not taken apart: no SVD
         of it is computed anywhere, B A is learned.
Next:    minillm/adaptation/lora_files.py
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.adaptation.modules import exchange, freeze, matching
from minillm.core.settings import check_whole_numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class LoRAConfig:
    """The sizes of an adapter at one place."""

    rank: int = 8  # r: columns of B and rows of A
    alpha: float = 16.0  # α: how strongly the change counts
    dropout: float = 0.0  # share of what A reads that is dropped in training
    rslora: bool = False  # γ = α / √r, which keeps the gradient's size at any rank; else α / r

    def __post_init__(self) -> None:
        check_whole_numbers({"rank": (self.rank, 8)})
        if not (isinstance(self.alpha, int | float) and math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha={self.alpha!r} must be a number above 0; alpha=16.0 works")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout!r} is a share from 0 to below 1; 0.1 works")

    @property
    def scale(self) -> float:
        """γ.

        >>> LoRAConfig(rank=4, alpha=8).scale, LoRAConfig(rank=4, alpha=8, rslora=True).scale
        (2.0, 4.0)
        """
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class Change(nn.Module):
    """γ B A: a matrix (f, d) of rank r, kept as its two factors. A starts random and B at zero, or the reverse."""

    def __init__(self, config: LoRAConfig, a_rd: Tensor, b_fr: Tensor) -> None:
        super().__init__()
        self.config = config
        self.a_rd, self.b_fr = nn.Parameter(a_rd), nn.Parameter(b_fr)

    def forward(self, x: Tensor) -> Tensor:
        """γ B A x: (…, d) in, (…, f) out, without ever making the product B A."""
        if self.config.dropout and self.training:
            x = F.dropout(x, self.config.dropout)
        return F.linear(F.linear(x, self.a_rd), self.b_fr) * self.config.scale

    def rows(self, tokens: Tensor) -> Tensor:
        """The same for a table: the change of the rows of these tokens, (…) in, (…, f) out."""
        return F.linear(F.embedding(tokens, self.a_rd.T), self.b_fr) * self.config.scale

    def matrix(self) -> Tensor:
        """γ B A written out: (f, d)."""
        return self.config.scale * self.b_fr @ self.a_rd


class Adapted:
    """What `LoRALinear` and `LoRAEmbedding` share: several named changes, of which at most one is in use."""

    weight: Tensor
    changes: nn.ModuleDict
    training: bool
    active: str | None
    merged: str | None  # the change that was added to the weight

    def start(self, config: LoRAConfig, generator: torch.Generator | None) -> Change:
        """A new change that changes nothing yet."""
        raise NotImplementedError

    def whole(self, change: Change) -> Tensor:
        """A change of the weight, in the weight's own shape."""
        raise NotImplementedError

    def plain(self) -> nn.Module:
        """The layer without its changes, with the very same parameters."""
        raise NotImplementedError

    @property
    def change(self) -> Change | None:
        """The change to be added to what the layer says: none when none is in use, or it is in the weight already."""
        return None if self.active is None or self.merged is not None else self.named(self.active)

    def put(self, name: str, change: Change) -> None:
        """Take a change in, in the mode of the layer: one that came in training mode would drop in evaluation."""
        self.changes[name] = change.train(self.training)

    def named(self, name: str) -> Change:
        """The change of this name."""
        change = self.changes[name]
        assert isinstance(change, Change)
        return change


class LoRALinear(nn.Linear, Adapted):
    """A linear map with changes beside it. Its weight and bias are those of the map that it was made from.

    >>> layer = LoRALinear(nn.Linear(5, 3))
    >>> layer.put("mine", layer.start(LoRAConfig(rank=2), None))
    >>> sum(p.numel() for p in layer.changes.parameters())  # 2 · (5 + 3)
    16
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.changes, self.active, self.merged = nn.ModuleDict(), None, None
        self.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        said = F.linear(input, self.weight, self.bias)
        return said if self.change is None else said + self.change(input)

    def start(self, config: LoRAConfig, generator: torch.Generator | None) -> Change:
        """A random, B zero."""
        d = self.in_features
        a_rd = (2 * torch.rand(config.rank, d, generator=generator) - 1) / math.sqrt(d)
        return Change(config, a_rd.to(self.weight), self.weight.new_zeros(self.out_features, config.rank))

    def whole(self, change: Change) -> Tensor:
        """γ B A."""
        return change.matrix()

    def plain(self) -> nn.Linear:
        """The linear map alone."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)


class LoRAEmbedding(nn.Embedding, Adapted):
    """A table of embeddings with changes beside it: A has a column for each token, and is what starts at zero."""

    def __init__(self, table: nn.Embedding) -> None:
        nn.Module.__init__(self)
        if table.max_norm is not None or table.padding_idx is not None or table.sparse or table.scale_grad_by_freq:
            raise ValueError(
                f"{table!r} cannot be adapted: only tables without padding_idx, max_norm, sparse and "
                "scale_grad_by_freq are; nn.Embedding(tokens, width) works"
            )
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = None, None, table.norm_type
        self.scale_grad_by_freq, self.sparse = False, False
        self.weight = table.weight
        self.changes, self.active, self.merged = nn.ModuleDict(), None, None
        self.train(table.training)

    def forward(self, input: Tensor) -> Tensor:
        found = F.embedding(input, self.weight)
        return found if self.change is None else found + self.change.rows(input)

    def start(self, config: LoRAConfig, generator: torch.Generator | None) -> Change:
        """A zero, B random: uniform in ±√3, so of variance 1."""
        b_fr = (2 * torch.rand(self.embedding_dim, config.rank, generator=generator) - 1) * math.sqrt(3)
        return Change(config, self.weight.new_zeros(config.rank, self.num_embeddings), b_fr.to(self.weight))

    def whole(self, change: Change) -> Tensor:
        """γ (B A)ᵀ: a row for each token."""
        return change.matrix().T

    def plain(self) -> nn.Embedding:
        """The table alone."""
        table = nn.Embedding(self.num_embeddings, self.embedding_dim, device="meta")
        table.weight = self.weight
        return table.train(self.training)


def add_lora(
    model: nn.Module,
    pattern: str | Sequence[str],
    rank: int = 8,
    alpha: float = 16.0,
    *,
    dropout: float = 0.0,
    rslora: bool = False,
    name: str = "default",
    generator: torch.Generator | None = None,
) -> list[str]:
    """Put a change beside every linear map and table whose name matches; freeze all else. Returns the names.

    `pattern` is that of `minillm.adaptation.modules`. Call it again with another `name` for a second adapter on the
    same base: the new one is then in use, and learns. A first adapter may be widened by further patterns under its own
    name. `generator` draws the start. Raises ValueError for a pattern that matches nothing, with the names there are.

    >>> model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> add_lora(model, "2", rank=2)
    ['2']
    >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    ['2.changes.default.a_rd', '2.changes.default.b_fr']
    """
    config = LoRAConfig(rank=rank, alpha=alpha, dropout=dropout, rslora=rslora)
    check_name(name)
    places = matching(model, pattern, nn.Linear, nn.Embedding)
    for place, module in places.items():
        if isinstance(module, Adapted) and name in module.changes:
            raise ValueError(
                f"{place!r} has an adapter called {name!r} already; take another name, or remove_lora first"
            )
        if not isinstance(module, Adapted) and type(module) not in (nn.Linear, nn.Embedding):
            raise ValueError(
                f"{place!r} is a {type(module).__name__}, which is more than its weight says; adapt others"
            )
    refuse_merged(model)
    for place in places:
        layer = adapted_layer(model, place)
        layer.put(name, layer.start(config, generator))
    use_lora(model, name)
    return list(places)


def use_lora(model: nn.Module, name: str | None) -> None:
    """Switch to the adapter of this name, which alone then learns; None: the model as it was, with nothing that learns.

    >>> model, x = nn.Sequential(nn.Linear(5, 3)), torch.ones(1, 5)
    >>> before = model(x)
    >>> _ = add_lora(model, "0")
    >>> _ = nn.init.ones_(model[0].changes["default"].b_fr)
    >>> changed = model(x)
    >>> use_lora(model, None)
    >>> bool((model(x) == before).all()), bool((changed == before).all())
    (True, False)
    """
    layers = lora_layers(model)
    names = adapter_names(model)
    if name is not None and name not in names:
        raise ValueError(f"name={name!r} is no adapter of this model; it has {', '.join(names) or 'none'}")
    refuse_merged(model)
    for layer in layers.values():
        layer.active = name if name is not None and name in layer.changes else None
    freeze(model, [p for layer in layers.values() if layer.change for p in layer.change.parameters()])


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add the adapter in use to the weights, so that it costs nothing more; a second call changes nothing.

    Raises ValueError for a weight that another module shares, such as tied embeddings: it would change there too.
    """
    layers = {place: layer for place, layer in lora_layers(model).items() if layer.change is not None}
    for place, layer in layers.items():
        others = [f"{n}.weight" for n, m in model.named_modules() if getattr(m, "weight", None) is layer.weight]
        if len(others) > 1:
            raise ValueError(
                f"{place!r} cannot be merged: {' and '.join(others)} are one matrix, and both would change; leave the "
                "adapter beside it, or make the model with tied=False"
            )
    for layer in layers.values():
        if layer.change is not None:
            layer.weight += layer.whole(layer.change)
            layer.merged = layer.active


@torch.no_grad()
def unmerge_lora(model: nn.Module) -> None:
    """Take the adapter out of the weights again, up to rounding; without a merge before, nothing changes."""
    for layer in lora_layers(model).values():
        if layer.merged is not None:
            layer.weight -= layer.whole(layer.named(layer.merged))
            layer.merged = None


def remove_lora(model: nn.Module, name: str | None = None) -> None:
    """Drop one adapter, or all with their layers; what is merged stays in the weights. Nothing learns afterwards.

    >>> model = nn.Sequential(nn.Linear(5, 3))
    >>> _ = add_lora(model, "0")
    >>> merge_lora(model)
    >>> remove_lora(model)
    >>> model
    Sequential(
      (0): Linear(in_features=5, out_features=3, bias=True)
    )
    """
    if name is not None:
        use_lora(model, name)  # checks that it is there and nothing is merged
        use_lora(model, None)
    for place, layer in lora_layers(model).items():
        if name is not None and name in layer.changes:
            del layer.changes[name]
        if name is None or not layer.changes:
            exchange(model, place, layer.plain())
    freeze(model)


def lora_layers(model: nn.Module) -> dict[str, Adapted]:
    """The adapted layers by name."""
    return {place: module for place, module in model.named_modules() if isinstance(module, Adapted)}


def adapter_names(model: nn.Module) -> list[str]:
    """The adapters that some layer has."""
    return list(dict.fromkeys(name for layer in lora_layers(model).values() for name in layer.changes))


def adapted_layer(model: nn.Module, place: str) -> Adapted:
    """The layer at this place, made ready for changes if it was not."""
    module = model.get_submodule(place)
    if not isinstance(module, Adapted):
        module = LoRAEmbedding(module) if isinstance(module, nn.Embedding) else LoRALinear(module)  # type: ignore[arg-type]
        exchange(model, place, module)
    return module


def check_name(name: str) -> None:
    """Raise ValueError unless `name` can be that of a module."""
    if not name or "." in name or hasattr(nn.ModuleDict, name):
        raise ValueError(f"name={name!r} must be a text without dots that is no method of a dict; 'default' works")


def refuse_merged(model: nn.Module) -> None:
    """Raise ValueError while an adapter is merged: what came now would stand beside weights that are not the base's."""
    merged = [layer.merged for layer in lora_layers(model).values() if layer.merged is not None]
    if merged:
        raise ValueError(f"the adapter {merged[0]!r} is merged into the weights; unmerge_lora(model) first")
