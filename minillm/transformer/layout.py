"""What a published checkpoint is, as data: the fields of its configuration, and which of its tensors is which of ours.

    their tensor  =  ours, stacked along the first axis where they keep several in one, turned where they keep it turned

A layout is read in both directions, so that what can be loaded can be saved.

Paper:   the names are those of the transformers package, Wolf et al. 2020, arXiv:1910.03771.
Next:    minillm/transformer/layouts_decoder.py
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a checkpoint: its name there, our parameters in it, and how it is kept."""

    theirs: str
    ours: tuple[str, ...]
    turned: bool = False  # inputs first, where ours has outputs first
    tied: bool = False  # another tensor holds it too: it may be left out, and must be equal when it is not
    needed: bool = True  # False: a checkpoint without it is whole, and our parameter stays as it was drawn
    written: bool = True  # False: the same model of theirs has no such tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How one kind of model keeps its configuration and its tensors."""

    model_type: str  # their name of the family
    architectures: tuple[str, ...] = ()  # their names of this kind of it; empty: any
    make: Callable[["Fields"], Callable[[], nn.Module]]  # from a configuration to what builds the model
    write: Callable[[Any], dict[str, Any]]  # from a model to its configuration; ValueError for what cannot be said
    entries: Callable[[Any], Iterator[Entry]]  # the tensors of a model
    prefix: str  # of the trunk's names; a checkpoint of the trunk alone leaves it out
    ignored: str  # a pattern of names that hold no parameters: masks, tables of angles
    renamed: tuple[tuple[str, str], ...] = ()  # endings of earlier years, and what they are now


class Fields:
    """The fields of a config.json, each asked for with the kind of value that it must have."""

    def __init__(self, fields: Mapping[str, Any], where: str) -> None:
        self.fields, self.where = fields, where

    def number(self, name: str, otherwise: float | None = None) -> float:
        """A number above 0."""
        value = self._get(name, otherwise)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"{self.where}: {name}={value!r} must be a number above 0")
        return float(value)

    def size(self, name: str, otherwise: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self._get(name, otherwise)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{self.where}: {name}={value!r} must be a whole number of at least 1")
        return value

    def one_of(self, name: str, known: Mapping[Any, Any], otherwise: Any = None) -> Any:
        """What one of the known values means to us."""
        value = self._get(name, otherwise)
        for theirs, ours in known.items():  # not `known[value]`: a hostile value need not be hashable
            if value == theirs and type(value) is type(theirs):
                return ours
        raise ValueError(f"{self.where}: {name}={value!r} is not supported here; known: {', '.join(map(repr, known))}")

    def inside(self, name: str) -> "Fields | None":
        """The fields of an inner object, or None when there is none."""
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ValueError(f"{self.where}: {name}={value!r} must be an object with fields of its own")
        return Fields(value, f"{self.where}, {name}")

    def _get(self, name: str, otherwise: Any) -> Any:
        value = self.fields.get(name)
        if value is None and otherwise is None:
            raise ValueError(f"{self.where}: the field {name!r} is missing")
        return otherwise if value is None else value
