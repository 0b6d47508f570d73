"""A loss curve that grows while a model trains: a figure in notebooks, a tqdm bar in terminals, from one callback.

In a notebook one display is redrawn in place, at most as often as costs a tenth of the run, and ends as a still figure
without a clock. Where outputs are kept (MINILLM_QUIET: `minillm author run`, nbval) only that last figure is
shown. On a terminal a bar runs on stderr and ends as one plain line. Into a pipe or a file nothing is written.

    train(model, batches, …, callbacks=[LivePlot(floor=("entropy", 1.21))])

Next:    minillm/course/dashboard.py
"""

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from minillm.course.progress import QUIET, audience

if TYPE_CHECKING:
    from minillm.course.figures import Figure
    from minillm.training.loop import Step

_PERIOD = 0.5  # seconds between two frames, at least
_POINTS = 100  # how many points a curve has when `every` is not given


@dataclass
class LivePlot:
    """A callback for `train` that shows the loss; the same object may serve one run after the other.

    A point is the mean of `every` steps (by default a hundredth of the run), so that the noise of single
    batches does not hide the curve. The losses of `watch` are measured at each point; they take the time they take.

    >>> plot = LivePlot("A bigram", unit="bits per character", scale=1 / math.log(2), floor=("entropy", 1.2), every=2)
    >>> from types import SimpleNamespace as Row
    >>> for step, loss in [(1, 1.5), (2, 1.3), (3, 1.1), (4, 0.9)]:
    ...     plot(Row(step=step, steps=4, loss=loss))
    >>> plot.close()
    >>> [round(loss, 2) for loss in plot.series["training"]]
    [2.02, 1.44]
    >>> plot.figure
    Figure: A bigram. The training loss falls over 4 steps; entropy is a dashed line at 1.2 bits per character.
    """

    title: str = "Loss over training"
    _: KW_ONLY
    every: int | None = None  # steps per point
    unit: str = "nats per token"  # of the losses as shown
    scale: float = 1.0  # from the model's loss to that unit; 1 / ln 2 makes bits of nats
    floor: tuple[str, float] | None = None  # a named level in that unit, such as an entropy
    watch: Mapping[str, Callable[[], float]] = field(default_factory=dict)  # further losses, such as a held-out one
    alt: str | None = None  # says what the final figure shows; by default whether the losses fall

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"every={self.every} must be at least 1: the number of steps that make a point")
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise ValueError(f"scale={self.scale} must be above 0; for example 1 / math.log(2) for bits")
        if "training" in self.watch:
            raise ValueError("watch has a loss named 'training', which is the plot's own curve; try 'validation'")
        self._surface: Any = None
        self._start_over()

    def _start_over(self) -> None:
        self.x: list[int] = []
        self.series: dict[str, list[float]] = {name: [] for name in ("training", *self.watch)}
        self._waiting: list[float] = []
        self._last_step = 0

    def __call__(self, step: "Step") -> None:
        """Take in a row of the record."""
        if self._surface is None:
            self._start_over()
            self._surface = pick_surface(_Terminal)
        self._waiting.append(step.loss * self.scale)
        self._last_step = step.step
        if step.step % (self.every or max(1, step.steps // _POINTS)) == 0 or step.step == step.steps:
            self._add_point({name: loss() * self.scale for name, loss in self.watch.items()})
        self._surface.show(self, step)

    def _add_point(self, watched: Mapping[str, float]) -> None:
        self.x.append(self._last_step)
        self.series["training"].append(math.fsum(self._waiting) / len(self._waiting))
        for name in self.watch:
            self.series[name].append(watched.get(name, math.nan))
        self._waiting = []

    def close(self) -> None:
        """End the run: draw the last frame, which stays. `train` calls this, also after an error."""
        if self._surface is None:
            return
        if self._waiting:  # the run was cut off within a point
            self._add_point({})
        surface, self._surface = self._surface, None
        surface.finish(self)

    @property
    def figure(self) -> "Figure":
        """The curve so far, as a still figure."""
        from minillm.course.figures import line_chart

        return line_chart(
            self.series,
            x=self.x,
            floor=self.floor,
            title=self.title,
            x_label="training (steps)",
            y_label=f"loss ({self.unit})",
            alt=self.alt or self._what_is_seen(),
        )

    def _what_is_seen(self) -> str:
        """A sentence without measured numbers, so that it is the same on every machine."""
        seen = [f"the {name} loss {_direction(y)}" for name, y in self.series.items()]
        floor = f"; {self.floor[0]} is a dashed line at {self.floor[1]:.4g} {self.unit}" if self.floor else ""
        text = f"{' and '.join(seen)} over {self._last_step:,} steps{floor}."
        return text[0].upper() + text[1:]


def _direction(losses: list[float]) -> str:
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < 2 or abs(finite[-1] - finite[0]) <= 0.02 * abs(finite[0]):
        return "stays level"
    return "falls" if finite[-1] < finite[0] else "rises"


def pick_surface(terminal: Callable[[], Any]) -> Any:
    """Where a live picture is shown: `show(plot, step)` during the run, `finish(plot)` at its end.

    `plot` has `x`, its points so far, and `figure`. In a notebook it is redrawn in place; where a terminal watches,
    `terminal()` makes what writes there; elsewhere nothing is shown.
    """
    where, quiet = audience(), bool(os.environ.get(QUIET))
    if where == "notebook":
        return _Notebook(final_only=quiet)
    return terminal() if where == "terminal" and not quiet else _Nowhere()


class _Nowhere:
    def show(self, plot: LivePlot, step: "Step") -> None:
        pass

    def finish(self, plot: LivePlot) -> None:
        pass


class _Notebook:
    """One display, redrawn in place."""

    def __init__(self, *, final_only: bool) -> None:
        self.handle: Any = None
        self.next_frame = math.inf if final_only else 0.0

    def show(self, plot: LivePlot, step: "Step") -> None:
        if len(plot.x) < 2 or time.monotonic() < self.next_frame:
            return
        began = time.monotonic()
        self._draw(plot)
        ended = time.monotonic()
        self.next_frame = ended + max(_PERIOD, 9 * (ended - began))

    def finish(self, plot: LivePlot) -> None:
        self._draw(plot)

    def _draw(self, plot: LivePlot) -> None:
        from IPython.display import display

        bundle = plot.figure._repr_mimebundle_()
        if self.handle is None:
            self.handle = display(bundle, raw=True, display_id=True)
        else:
            self.handle.update(bundle, raw=True)


class _Terminal:
    """A tqdm bar on stderr; its last frame gives way to a line without a clock."""

    def __init__(self) -> None:
        self.bar: Any = None

    def show(self, plot: LivePlot, step: "Step") -> None:
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(
                total=step.steps, initial=step.step - 1, desc=plot.title, unit="step", leave=False, file=sys.stderr
            )
        if plot.x:
            self.bar.set_postfix_str(_losses(plot), refresh=False)
        self.bar.update(step.step - self.bar.n)

    def finish(self, plot: LivePlot) -> None:
        stopped = (
            f"stopped after {self.bar.n:,} of {self.bar.total:,}" if self.bar.n < self.bar.total else f"{self.bar.n:,}"
        )
        self.bar.close()
        sys.stderr.write(f"{plot.title}: {stopped} steps, {_losses(plot)} {plot.unit}\n")


def _losses(plot: LivePlot) -> str:
    return ", ".join(f"{name} loss {y[-1]:.3f}" for name, y in plot.series.items() if math.isfinite(y[-1]))
