"""What a step of training holds in memory, in bytes: counted, not estimated.

    peak = parameters + optimiser + most that is alive at once of what the step makes (activations, gradients, …)

AdamW keeps two numbers for every number that learns, and each of those has a gradient besides: at 4 bytes a number that
is 4 for the parameter, 4 for the gradient and 8 for the optimiser. A frozen parameter costs the first 4 alone. What
the layers must remember for the way back comes on top, and freezing hardly changes it.

Paper:   Rajbhandari et al. 2019, "ZeRO", §3, arXiv:1910.02054, who divide the memory of training in the same way.
Names:   `gradients` and `optimizer` are ZeRO's model states, `made` holds its residual states.
Differs: rounding by the allocator, its free pieces, and the scratch of single kernels are not counted, so that the
         number is the same on every machine; `torch.cuda.max_memory_allocated` says what a GPU really gave.
Next:    minillm/adaptation/adapter_sizes.py
"""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMemory:
    """Bytes of one step of training."""

    parameters: int  # all of them, learning or not, and buffers
    gradients: int  # of what learns
    optimizer: int  # what it remembers from step to step
    made: int  # the most that was alive at once of all that the step made: activations, gradients, scratch

    @property
    def peak(self) -> int:
        """The most that is held at any moment."""
        return self.parameters + self.optimizer + self.made


def step_memory(model: nn.Module, optimizer: Any, loss: Callable[[], Tensor]) -> StepMemory:
    """Take two steps on `loss()` and count the second, in which the optimiser has its memory already.

    >>> import torch
    >>> from minillm.training.optim import AdamW
    >>> model, x = nn.Linear(100, 10, bias=False), torch.ones(1, 100)
    >>> memory = step_memory(model, AdamW(model.parameters()), lambda: model(x).sum())
    >>> memory.parameters, memory.gradients, memory.optimizer
    (4000, 4000, 8000)
    """

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    step()
    optimizer.zero_grad()  # the old gradients are gone before the count begins
    with Alive() as alive:
        step()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return StepMemory(
        parameters=bytes_of([*model.parameters(), *model.buffers()]),
        gradients=bytes_of(gradients),
        optimizer=bytes_of(tensors_in(list(optimizer.state.values()))),
        made=alive.peak,
    )


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes behind these tensors, each piece of memory once: a tied matrix or a view costs nothing more.

    >>> import torch
    >>> x = torch.zeros(3, 5)
    >>> bytes_of([x, x[:, :2], torch.zeros(2, dtype=torch.int64)])
    76
    """
    return sum({s._cdata: s.nbytes() for s in (tensor.untyped_storage() for tensor in tensors)}.values())


def tensors_in(state: Any) -> list[Tensor]:
    """All tensors in nested dicts, lists and tuples."""
    return [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]


class Alive(TorchDispatchMode):
    """Looks over torch's shoulder: how many bytes of what was made inside `with` are alive, and the most at once.

    >>> import torch
    >>> with Alive() as alive:
    ...     x = torch.ones(1000) + 1  # two tensors for a moment
    ...     y = x * 2
    >>> alive.now, alive.peak
    (8000, 8000)
    >>> del x, y
    >>> alive.now
    0
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, weakref.ref[UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {tensor.untyped_storage()._cdata for tensor in tensors_in((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for tensor in tensors_in(out):
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in self._seen and key not in given:  # a view, or a change in place, makes nothing
                self._seen[key] = weakref.ref(storage, lambda _, key=key, size=size: self._gone(key, size))
                self.now += size
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, key: int, size: int) -> None:
        self._seen.pop(key, None)
        self.now -= size
