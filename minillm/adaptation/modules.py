"""Modules by the pattern of their names: find them, exchange them, freeze all but what is to learn.

    "*.attention.query"     every block's queries            ["*.query", "*.value"]     either

Fine-tuning with few parameters always has the same three steps: freeze the model, put something new at certain
places, and let only that learn.

Paper:   Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP", §2, arXiv:1902.00751, who set this frame.
Names:   a module's name is its path in the model, such as "blocks.0.mlp.up"; * stands for any characters, dots too.
Next:    minillm/adaptation/lora.py
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def matching(model: nn.Module, pattern: str | Sequence[str], *kinds: type[Kind]) -> dict[str, Kind]:
    """The modules of these kinds whose names match the pattern, or one of several; each pattern must match something.

    >>> model = nn.ModuleDict({"up": nn.Linear(2, 3), "norm": nn.LayerNorm(3), "down": nn.Linear(3, 2)})
    >>> list(matching(model, "*", nn.Linear))
    ['up', 'down']
    >>> matching(model, "left", nn.Linear)
    Traceback (most recent call last):
    ValueError: pattern='left' matches no module of kind Linear; there are: up, down
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    there = {name: module for name, module in model.named_modules() if name and isinstance(module, kinds)}
    wanted = " or ".join(kind.__name__ for kind in kinds)
    if not patterns:
        raise ValueError(f"pattern=[] names nothing to adapt; there are: {_families(there)}")
    for each in patterns:
        if not any(fnmatchcase(name, each) for name in there):
            raise ValueError(f"pattern={each!r} matches no module of kind {wanted}; there are: {_families(there)}")
    return {name: module for name, module in there.items() if any(fnmatchcase(name, each) for each in patterns)}


def exchange(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` in the place of the module called `name`, and wherever else the model uses that same module.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> exchange(model, "1", nn.Tanh())
    >>> model[1]
    Tanh()
    """
    old = model.get_submodule(name)
    places = [(parent, key) for parent in model.modules() for key, child in parent._modules.items() if child is old]
    for parent, key in places:
        setattr(parent, key, new)


def freeze(model: nn.Module, learning: Iterable[nn.Parameter] = ()) -> None:
    """Let only the parameters in `learning` get gradients; what gradients there were is forgotten.

    >>> model = nn.Linear(2, 3)
    >>> freeze(model, [model.bias])
    >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    ['bias']
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    for parameter in learning:
        parameter.requires_grad_(True)


def _families(names: Iterable[str]) -> str:
    """Names with the numbers of layers as *, each once: what a pattern may look like.

    >>> _families(["blocks.0.up", "blocks.1.up", "score"])
    'blocks.*.up, score'
    """
    return ", ".join(dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names)) or "none"
