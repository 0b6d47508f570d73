"""One loop that trains every model of the course: read, measure, follow the slope, again.

    g  = Σ_i (c_i / C) ∇ L_i(θ),   C = Σ_i c_i        the gradient of one step, gathered over micro-batches i
    θ ← optimiser(θ, g · min(1, clip / ‖g‖), rate · schedule(step))

The model supplies `loss(batch)`, the mean L_i over the c_i items (tokens, pairs, …) of a batch. Where batches differ in
their number of items it also supplies `count(batch)`, which is c_i; without it every batch weighs the same. The sum
above is then the gradient of one large batch, however it was cut. Printing, plots, evaluation and checkpoints are
callbacks. Nothing here draws random numbers: a run is a function of the model's start, the batches and the settings.

Paper:   Goodfellow, Bengio & Courville 2016, "Deep Learning", §8.1.3 (batches) and §8.3.1 (the loop);
         Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", §3.2 (clipping).
Differs: clipping divides by ‖g‖ + 1e-6, as torch does, so that a zero gradient stays zero.
Next:    minillm/training/optim.py
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from minillm.core.modes import switched


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What one step of training did: a row of the record. Two rows are equal when all but their seconds are."""

    step: int  # its number: the first is 1
    steps: int  # the number of the last step that was asked for
    loss: float  # mean loss over the items of this step's batches, before the step
    learning_rate: float  # of the first parameter group, as used in this step
    gradient_norm: float  # before clipping
    seconds: float = field(compare=False)  # since the run began


class Trainable(Protocol):
    """What `train` asks of a model: any `torch.nn.Module` with a method `loss`, and perhaps `count(batch) -> int`."""

    def loss(self, batch: Any, /) -> Tensor:
        """The mean loss over the items of a batch, as a tensor without axes."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """As in `torch.nn.Module`."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As in `torch.nn.Module`."""
        ...


class Optimizing(Protocol):
    """What `train` asks of an optimiser: `minillm.training.optim` and `torch.optim` both have it."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameters in groups, each with its options; one is the rate, `lr`."""
        ...

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        ...

    def step(self) -> Any:
        """Move the parameters once."""
        ...


class Diverged(FloatingPointError):
    """The loss or the gradient is no longer a number. The step was not taken; `record` holds those before it."""

    def __init__(self, message: str, record: list[Step]) -> None:
        super().__init__(message)
        self.record = record


def train(
    model: Trainable,
    batches: Iterable[Any],
    *,
    steps: int,
    optimizer: Optimizing,
    schedule: Callable[[int], float] | None = None,
    accumulate: int = 1,
    clip: float | None = None,
    callbacks: Iterable[Callable[[Step], object]] = (),
    start: int = 0,
) -> list[Step]:
    """Take the steps `start + 1 … steps`, each on the next `accumulate` batches, and return a row for each.

    `batches` is started again when it ends, so a list may be shorter than the run. `schedule(step)` is a factor on
    every group's own learning rate, set before the step. `clip` is the largest norm of the whole gradient.
    Each callback is called with the row after the step, and stops the run by returning True. One that has a method
    `close` is closed when the run ends, in whatever way. `start` is how many steps an earlier run has taken: the
    same optimiser and the batches that come next then go on as if there had been one run.

    >>> from minillm.training.optim import AdamW
    >>> class Mean(nn.Linear):
    ...     def loss(self, x_n):
    ...         return (self.bias - x_n).square().mean()
    >>> model = Mean(1, 1)
    >>> record = train(model, [torch.tensor([1.0, 3.0])], steps=300, optimizer=AdamW([model.bias], weight_decay=0.0,
    ...                learning_rate=0.1))
    >>> f"{model.bias.item():.2f} {record[-1].loss:.2f}"
    '2.00 1.00'
    """
    _check(steps=steps, accumulate=accumulate, start=start, clip=clip)
    stream, record, callbacks, began = _again_and_again(batches), [], list(callbacks), time.perf_counter()
    with switched(model, training=True), _base_rates(optimizer), _closing(callbacks):
        for step in range(start + 1, steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * (schedule(step) if schedule else 1.0)
            rate = float(optimizer.param_groups[0]["lr"])

            optimizer.zero_grad()
            loss = 0.0
            for batch, weight in _weigh(model, [next(stream) for _ in range(accumulate)]):
                part = model.loss(batch) * weight
                part.backward()
                loss += part.item()

            norm = _norm(model, _gradients(optimizer))
            if not (math.isfinite(loss) and math.isfinite(norm)):  # stop before the step: nothing is spoilt yet
                raise Diverged(_advice(model, record, step, loss, rate, clip), record)
            if clip is not None:
                clip_grads_with_norm_(_parameters(optimizer), clip, norm)
            optimizer.step()

            row = Step(step=step, steps=steps, loss=loss, learning_rate=rate, gradient_norm=float(norm),
                       seconds=time.perf_counter() - began)  # fmt: skip
            record.append(row)
            if any([callback(row) is True for callback in callbacks]):
                break
    return record


@torch.no_grad()
def evaluate(model: Trainable, batches: Iterable[Any]) -> float:
    """The mean loss over all items of `batches`, with the model in evaluation mode; the mode is restored.

    >>> class Mean(nn.Linear):
    ...     def loss(self, x_n):
    ...         return x_n.mean()
    ...     def count(self, x_n):
    ...         return len(x_n)
    >>> evaluate(Mean(1, 1), [torch.tensor([1.0, 2.0]), torch.tensor([6.0])])
    3.0
    """
    total, items = 0.0, 0.0
    with switched(model, training=False):
        for batch in batches:
            if count := _count(model, batch):  # the mean of no items is not a number, and weighs nothing
                total, items = total + model.loss(batch).item() * count, items + count
    if not items:
        raise ValueError("batches holds no items: the mean loss of nothing is not defined; give at least one batch")
    return total / items


def _count(model: Any, batch: Any) -> float:
    return float(model.count(batch)) if hasattr(model, "count") else 1.0


def _weigh(model: Trainable, parts: list[Any]) -> list[tuple[Any, float]]:
    """Each micro-batch with its share of the step's items; those without items are left out."""
    counts = [_count(model, part) for part in parts]
    total = sum(counts)
    if not total:
        raise ValueError(f"the batches of this step hold no items (counts {counts}): leave such batches out")
    return [(part, count / total) for part, count in zip(parts, counts, strict=True) if count]


def _again_and_again(batches: Iterable[Any]) -> Iterator[Any]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ValueError("batches is at its end and cannot be read again: give a list, or a generator that goes on")


def _parameters(optimizer: Optimizing) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _gradients(optimizer: Optimizing) -> list[Tensor]:
    gradients = [parameter.grad for parameter in _parameters(optimizer) if parameter.grad is not None]
    if not gradients:
        raise ValueError(
            "the loss depends on none of the optimiser's parameters: make the optimiser from this very model, "
            "such as AdamW(model.parameters())"
        )
    return gradients


def _norm(model: Any, gradients: list[Tensor]) -> Tensor:
    """Of the whole gradient; a model that is spread over processes knows of the parts that are elsewhere."""
    return model.gradient_norm(gradients) if hasattr(model, "gradient_norm") else get_total_norm(gradients)


def _advice(model: Trainable, record: list[Step], step: int, loss: float, rate: float, clip: float | None) -> str:
    """What went wrong in this step, and what to try."""
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    what = (
        f"the loss is {loss}" if not math.isfinite(loss) else f"the loss is {loss:.4g}, but the gradient is not finite"
    )
    where = f"; first in the gradient of {bad[0]} (in {len(bad)} parameters)" if bad else ""
    before = (
        f"; the step before had loss {(r := record[-1]).loss:.4g} and gradient norm {r.gradient_norm:.4g}"
        if record
        else ""
    )
    clipping = "a smaller clip" if clip is not None else "clip=1.0"
    return (
        f"step {step}: {what} at learning rate {rate:.3g}{where}{before}. The parameters are as they "
        f"were before this step. Try a learning rate of {rate / 10:.1g}, {clipping} or a longer warm-up; at the very "
        "first step look in loss() for log(0), 0/0 or a row with every position masked"
    )


@contextmanager
def _base_rates(optimizer: Optimizing) -> Iterator[None]:
    """Keep each group's own rate as `initial_lr` during the run (a checkpoint then holds it), and put it back."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    try:
        yield
    finally:
        for group in optimizer.param_groups:
            group["lr"] = group.pop("initial_lr")


@contextmanager
def _closing(callbacks: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for callback in callbacks:
            if hasattr(callback, "close"):
                callback.close()


def _check(*, steps: int, accumulate: int, start: int, clip: float | None) -> None:
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1; for example 1000")
    if accumulate < 1:
        raise ValueError(f"accumulate={accumulate} must be at least 1: the number of batches that make one step")
    if not 0 <= start <= steps:
        raise ValueError(f"start={start} must lie in 0 … steps={steps}: the number of steps already taken")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip={clip} must be above 0; for example 1.0, or None for no clipping")
