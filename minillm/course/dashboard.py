"""A run of PPO as it runs: twelve small panels that answer "is it working?", or the same record as a table.

    with Dashboard(optimum={"objective": best.objective, "kl": best.kl}) as board:
        for _ in range(config.updates):
            board(ppo.update(prompts))

What to look at, in this order. The first ratio must be 1: above 1e-3, in red, the rollout was not scored by the policy
that wrote it, and nothing else means anything. J, not the score, must rise, towards its dotted optimum where that is
known. The divergence is bought with it; k1 and k3 are two meters of one number and must agree. The critic explains more
and more, and what surprises it goes to 0. A score that rises while entropy, length or the share of unique answers
collapses is a reward that has been found out.

Paper:   Huang et al. 2024, arXiv:2403.17031, §4: which curves of a healthy run look how.
Names:   as in `PPORecord`; k1 and k3 are explained there.
Next:    minillm/course/places.py
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from minillm.course.live import pick_surface

if TYPE_CHECKING:
    from minillm.alignment.ppo_record import PPORecord
    from minillm.course.figures import Figure

MOST_RATIO_ERROR = 1e-3  # rounding stays far below, a bug far above
_RED = "#C00000"
_HEADER_EVERY = 20  # lines of a table
_POINTS = 60  # of a line at most
_ZERO = 1e-9  # stands for 0 on a logarithmic axis


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One pair of axes: fields of a record that have a unit in common."""

    title: str  # with the unit
    lines: Mapping[str, str]  # field: what the line is called
    limits: tuple[float, float] | None = None  # of the vertical axis
    most: float | None = None  # values above are red; such an axis is logarithmic


PANELS = (
    Panel(title="Score, J = score - β KL (points)", lines={"score": "score", "objective": "J"}),
    Panel(title="KL to the reference (nats)", lines={"kl": "k1", "kl_k3": "k3"}),
    Panel(title="Entropy (nats per token)", lines={"entropy_per_token": "entropy"}),
    Panel(title="Answers (share)", lines={"unique": "unique", "eos_rate": "ended"}, limits=(-0.03, 1.03)),
    Panel(title="Largest first |ratio - 1|", lines={"ratio_error": "error"}, most=MOST_RATIO_ERROR),
    Panel(title="Move, KL (nats per token)", lines={"approx_kl": "KL"}),
    Panel(title="Clipped tokens (share)", lines={"clip_fraction": "clipped"}),
    Panel(title="Explained by critic (share)", lines={"explained_variance": "explained"}),
    Panel(title="Advantage, sd (points)", lines={"advantage_sd": "sd"}),
    Panel(title="Gradients (norm)", lines={"policy_norm": "policy", "critic_norm": "critic"}),
    Panel(title="Learning rate", lines={"learning_rate": "rate"}),
    Panel(title="Length (tokens)", lines={"length": "length"}),
)
FIELDS = tuple(name for panel in PANELS for name in panel.lines)
COLUMNS = {  # field: title, width, format
    "update": ("update", 6, "d"),
    "score": ("score", 6, ".3f"),
    "objective": ("J", 6, ".3f"),
    "kl": ("k1", 6, ".3f"),
    "kl_k3": ("k3", 6, ".3f"),
    "entropy_per_token": ("H/token", 7, ".3f"),
    "unique": ("unique", 6, ".2f"),
    "eos_rate": ("ended", 6, ".2f"),
    "length": ("length", 6, ".1f"),
    "ratio_error": ("|ratio-1|", 9, ".0e"),
    "approx_kl": ("move", 6, ".4f"),
    "clip_fraction": ("clipped", 7, ".3f"),
    "explained_variance": ("explained", 9, ".2f"),
    "advantage_sd": ("adv sd", 6, ".3f"),
    "policy_norm": ("grad", 6, ".3f"),
    "learning_rate": ("rate", 7, ".1e"),
}


@dataclass
class Dashboard:
    """The panels of a run: of `records` that are there, or of rows that come one by one.

    `optimum` gives the level of a field at the optimum, where it is known: a dotted line. In a notebook the panels are
    redrawn in place while rows come, and `close` leaves the last picture; where outputs are kept only that is shown. On
    a terminal the rows are printed as a table. As the last line of a cell it is the picture of what is there.

    >>> from minillm.alignment.laboratory import Laboratory
    >>> from minillm.alignment.ppo import PPO, PPOConfig
    >>> from minillm.alignment.tabular import TabularPolicy
    >>> lab = Laboratory(letters=2, length=2, prompts=1)
    >>> policy = TabularPolicy(lab)
    >>> config = PPOConfig(beta=0.5, learning_rate=0.1, rollout=64, max_new_tokens=2, updates=9, eos=lab.eos,
    ...                    allowed_tokens=lab.allowed)
    >>> ppo = PPO(policy, policy, lab.reward, config)
    >>> with Dashboard(optimum={"objective": lab.measure(lab.optimum(0.5), 0.5).objective}) as board:
    ...     for _ in range(9):
    ...         board(ppo.update(lab.prompts))
    >>> len(board.table.splitlines())
    10
    """

    records: "list[PPORecord]" = field(default_factory=list)
    _: KW_ONLY
    optimum: Mapping[str, float] = field(default_factory=dict)
    gold: list[float] = field(default_factory=list)  # what the answers of each row are really worth, where known
    title: str = "A run of PPO"
    every: int = 1  # rows of the record to a line of the table

    def __post_init__(self) -> None:
        self.records, self.gold = list(self.records), list(self.gold)
        if unknown := sorted(set(self.optimum) - set(FIELDS)):
            raise ValueError(f"optimum has a level for {unknown[0]!r}, which no panel shows; it may name {FIELDS}")
        if self.gold and len(self.gold) != len(self.records):
            raise ValueError(f"gold has {len(self.gold)} values for {len(self.records)} records; give one for each")
        if self.every < 1:
            raise ValueError(f"every={self.every} must be at least 1: the number of updates to a line of the table")
        self._surface: Any = None

    def __call__(self, row: "PPORecord", gold: float = math.nan) -> None:
        """Take in an update, and what its answers are really worth, where that is known."""
        if self._surface is None:
            self._surface = pick_surface(_Terminal)
        self.gold = [*(self.gold or [math.nan] * len(self.records)), gold]
        self.records.append(row)
        self._surface.show(self, row)

    def close(self) -> None:
        """End the run: draw the last frame, which stays."""
        if self._surface is not None:
            surface, self._surface = self._surface, None
            surface.finish(self)

    def __enter__(self) -> "Dashboard":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def x(self) -> list[int]:
        """The updates so far."""
        return [row.update for row in self.records]

    @property
    def figure(self) -> "Figure":
        """All panels, as one still figure."""
        from minillm.course.figures import Drawing

        if not self.records:
            raise ValueError("records=[] holds no update to draw; board(ppo.update(prompts)) adds one")
        with Drawing(title=self.title, alt=self._what_is_seen(), x_label="update", panels=(3, 4), width=11,
                     height=6.4) as drawing:  # fmt: skip
            for axes, panel in zip(drawing.panels, PANELS, strict=True):
                self._draw(axes, panel)
        return drawing.figure

    @property
    def table(self) -> str:
        """The same record as lines of text."""
        return "\n".join([header(), *(line(row) for row in _thinned(self.records, self.every))])

    def _draw(self, axes: Any, panel: Panel) -> None:
        late = [row for row in self.records if panel.most is not None and row.ratio_error > panel.most]
        axes.set_title(panel.title, fontsize=10, color=_RED if late else "black")
        axes.tick_params(labelsize=8)
        axes.margins(x=0.02)
        marker = "o" if len(self.records) <= 20 else ""
        for (name, label), dash in zip(panel.lines.items(), ("-", "--", "-."), strict=False):
            y = [float(getattr(row, name)) for row in self.records]
            if panel.most is not None:
                y = [max(value, _ZERO) for value in y]
            x, y = _blocks(self.x, y, fmean if panel.most is None else max)
            (drawn,) = axes.plot(x, y, dash, marker=marker, markersize=3, label=label)
            if name in self.optimum:
                axes.axhline(self.optimum[name], color=drawn.get_color(), linestyle=":", label=f"{label} at best")
        if "score" in panel.lines and any(math.isfinite(value) for value in self.gold):
            axes.plot(*_blocks(self.x, self.gold, fmean), "-.", marker=marker, markersize=3, label="gold")
        if panel.most is not None:
            axes.set_yscale("log")
            axes.axhline(panel.most, color=_RED, linestyle="--")
            axes.plot([row.update for row in late], [row.ratio_error for row in late], "x", color=_RED)
        if panel.limits is not None:
            axes.set_ylim(panel.limits)
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(fontsize=8, frameon=True, edgecolor="none", framealpha=0.8)

    def _what_is_seen(self) -> str:
        """Sentences without measured numbers, so that they are the same on every machine."""
        first, last = self.records[0].objective, self.records[-1].objective
        moved = "rises" if last > first else "falls" if last < first else "is where it was"
        best = f" Dotted lines are the optimum of {', '.join(self.optimum)}." if self.optimum else ""
        wrong = any(row.ratio_error > MOST_RATIO_ERROR for row in self.records)
        ratio = "is NOT 1: the rollouts were not scored by the policy that wrote them" if wrong else "is 1 throughout"
        return f"Over {len(self.records)} updates J {moved}; the first ratio {ratio}.{best}"

    def __repr__(self) -> str:
        return f"{self.title}\n{self.table}"

    def _repr_mimebundle_(self, **kinds: Any) -> dict[str, str]:
        return self.figure._repr_mimebundle_(**kinds) if self.records else {"text/plain": repr(self)}


def _blocks(x: list[int], y: list[float], of: Callable[[list[float]], float]) -> tuple[list[int], list[float]]:
    """At most so many points: those of a long run stand for a few updates each, at the last of them."""
    n = math.ceil(len(x) / _POINTS)
    starts = range(0, len(x), n)
    return [x[min(i + n, len(x)) - 1] for i in starts], [of(y[i : i + n]) for i in starts]


def header() -> str:
    """The names of the columns."""
    return " ".join(f"{title:>{width}}" for title, width, _ in COLUMNS.values())


def line(row: "PPORecord") -> str:
    """An update as a line below `header`; a first ratio that is not 1 has a `!`."""
    cells = [f"{getattr(row, name):>{width}{form}}" for name, (_, width, form) in COLUMNS.items()]
    return " ".join(cells) + (" !" if row.ratio_error > MOST_RATIO_ERROR else "")


def _thinned(records: "Sequence[PPORecord]", every: int) -> "list[PPORecord]":
    """Every so many, and the last."""
    return [row for i, row in enumerate(records, start=1) if i % every == 0 or i == len(records)]


class _Terminal:
    """A table on stderr, with its head repeated so that it stays in sight."""

    def __init__(self) -> None:
        self.lines, self.last = 0, 0

    def show(self, board: Dashboard, row: "PPORecord") -> None:
        if len(board.records) % board.every == 0:
            self._write(row)

    def finish(self, board: Dashboard) -> None:
        if board.records[-1].update != self.last:
            self._write(board.records[-1])

    def _write(self, row: "PPORecord") -> None:
        if self.lines % _HEADER_EVERY == 0:
            sys.stderr.write(header() + "\n")
        sys.stderr.write(line(row) + "\n")
        self.lines, self.last = self.lines + 1, row.update
