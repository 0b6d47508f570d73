"""Training or evaluation: a model is switched for a while, and every module goes back to what it was.

Names:   in evaluation mode nothing is dropped (dropout, jitter, capacity), so the same input gives the same output.
Next:    minillm/core/tensor_files.py
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import nn


class HasModules(Protocol):
    """Any `torch.nn.Module`, or what looks like one."""

    def modules(self) -> "Iterator[nn.Module]":
        """Itself and all inside it."""
        ...


@contextmanager
def switched(model: HasModules, *, training: bool) -> Iterator[None]:
    """Switch every module to training or evaluation, and back to what each was, also after an error.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with switched(model, training=False):
    ...     [part.training for part in model]
    [False, False]
    >>> [part.training for part in model]
    [True, False]
    """
    before = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in before:
            module.training = training
        yield
    finally:
        for module, was in before:
            module.training = was
