"""Figures: charts with a title, labelled axes, units and a text alternative, the same bytes on every run.

With `figures_base.py` the only file that imports matplotlib. Each function returns a `Figure`, which a notebook shows
as a PNG inside `<img alt="…">`, so that a screen reader, GitHub and JupyterLab in the dark theme all get it.

    line_chart({"bigram": [3.1, 2.6], "trigram": [3.0, 2.2]}, x=[1e4, 1e5], log_x=True, floor=("entropy", 1.9),
               title="…", x_label="training text (words)", y_label="loss (bits per character)", alt="…")

Rules that the functions hold: a title, an `alt` sentence that says what is to be seen (not "a plot of …"), and axis
labels that end in a unit in brackets; "(no unit)" is one. Keep labels in English; Chinese in a label is drawn when a
font for it is installed, otherwise as empty boxes (`minillm doctor` says what to install).
After each figure a chapter writes one static sentence that says what it shows.

Next:    minillm/course/widgets.py
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from minillm.course.figures_base import PALETTE, Drawing, Figure, cjk_font, drawable

__all__ = [
    "PALETTE",
    "Drawing",
    "Figure",
    "bar_chart",
    "cjk_font",
    "drawable",
    "heat_map",
    "line_chart",
    "scatter_chart",
    "timeline_chart",
]

MARKERS, DASHES = "osD^vPX*", ("-", "--", "-.", ":")  # a colour is never the only difference between two series
_MOST_MARKS = 40  # on a line; a longer one has about ten
_SEQUENTIAL = LinearSegmentedColormap.from_list("minillm", ["#FFFFFF", "#56B4E9", "#0072B2", "#002B45"])
_DIVERGING = LinearSegmentedColormap.from_list("minillm-two", ["#0072B2", "#FFFFFF", "#D55E00"])


def line_chart(
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    alt: str,
    x: Sequence[float] | None = None,
    floor: tuple[str, float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """Draw one line for each named series; `floor` is a named dashed level such as an entropy.

    `x` is shared by all series; without it they are drawn against 0, 1, 2 …

    >>> line_chart({"loss": [3.0, 2.0, 1.5]}, title="Training", x_label="step (no unit)", y_label="loss (nats)",
    ...            alt="The loss falls from 3.0 to 1.5 nats in two steps.")
    Figure: Training. The loss falls from 3.0 to 1.5 nats in two steps.
    """
    _need_units(x_label=x_label, y_label=y_label)
    _need_some(series)
    with Drawing(title=title, alt=alt, x_label=x_label, y_label=y_label) as drawing:
        for i, (name, y) in enumerate(series.items()):
            place = list(range(len(y))) if x is None else list(x)
            if len(place) != len(y):
                raise ValueError(f"series {name!r} has {len(y)} values and x has {len(place)}; give as many of each")
            every = 1 if len(y) <= _MOST_MARKS else len(y) // 10
            marks = (i * every // len(series), every)  # beside those of the other lines
            dash = DASHES[i // len(PALETTE) % len(DASHES)]
            marker = MARKERS[i % len(MARKERS)] if every == 1 or len(series) > 1 else ""
            drawing.axes.plot(place, y, dash, marker=marker, markevery=marks, markersize=5, label=drawable(name))
        if floor is not None:
            drawing.axes.axhline(floor[1], color="#555555", linestyle="--", linewidth=1.2, label=drawable(floor[0]))
        if log_x:
            drawing.axes.set_xscale("log")
            if x is not None and len(x) <= 8:  # few places: name each, instead of powers of ten
                drawing.axes.set_xticks(list(x), [f"{place:,g}" for place in x])
                drawing.axes.set_xticks([], minor=True)
        if log_y:
            drawing.axes.set_yscale("log")
        drawing.draw_key([*series, *([floor[0]] if floor else [])])
    return drawing.figure


def bar_chart(
    values: Mapping[str, float] | Mapping[str, Mapping[str, float]],
    *,
    title: str,
    value_label: str,
    alt: str,
    name_label: str = "",
    numbers: str = "",
) -> Figure:
    """Draw one bar for each name, from zero; a mapping of mappings draws groups: `{"bigram": {"train": 3, "test": 4}}`.

    `numbers` is a format such as ".2f" that writes the value beside each bar. Long names lie on the left.

    >>> bar_chart({"the": 7, "cat": 2}, title="Counts", value_label="count (words)", alt="the: 7 words, cat: 2 words.")
    Figure: Counts. the: 7 words, cat: 2 words.
    """
    _need_units(value_label=value_label)
    _need_some(values)
    grouped = {name: v if isinstance(v, Mapping) else {"": v} for name, v in values.items()}
    parts = list(next(iter(grouped.values())))
    if any(list(v) != parts for v in grouped.values()):
        raise ValueError(f"every group needs the same parts in the same order; the first has {parts}")
    names = [drawable(n) for n in grouped]
    lying = max(map(len, names)) * len(names) > 80 or len(names) > 16
    height = max(3.0, 0.32 * len(names) * max(1, len(parts) * 0.7) + 1.2) if lying else 4.2
    labels = (value_label, name_label) if lying else (name_label, value_label)
    with Drawing(title=title, alt=alt, x_label=labels[0], y_label=labels[1], height=min(height, 10.0)) as drawing:
        thick = 0.8 / len(parts)
        for i, part in enumerate(parts):
            place = np.arange(len(names)) + (i - (len(parts) - 1) / 2) * thick
            draw = drawing.axes.barh if lying else drawing.axes.bar
            bars = draw(place, [v[part] for v in grouped.values()], thick * 0.92, label=drawable(part))
            if numbers:
                drawing.axes.bar_label(bars, fmt=f"{{:{numbers}}}", padding=2, fontsize=9)
        if lying:
            drawing.axes.set_yticks(range(len(names)), names)
            drawing.axes.invert_yaxis()
            drawing.axes.grid(False, axis="y")
        else:
            drawing.axes.set_xticks(range(len(names)), names)
            drawing.axes.grid(False, axis="x")
        drawing.draw_key(parts, below=True)
    return drawing.figure


def heat_map(
    values: Any,
    *,
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str,
    row_label: str,
    column_label: str,
    value_label: str,
    alt: str,
    numbers: str = "",
    two_sided: bool = False,
) -> Figure:
    """Draw a table of numbers (rows × columns) as colours; `two_sided` puts white at zero; `numbers` writes them in.

    >>> heat_map([[1, 0], [0.5, 0.5]], row_names=["a", "b"], column_names=["a", "b"], title="Who looks at whom",
    ...          row_label="query", column_label="key", value_label="weight (no unit)", numbers=".1f",
    ...          alt="The first row looks at itself alone; the second row looks at both equally.")
    Figure: Who looks at whom. The first row looks at itself alone; the second row looks at both equally.
    """
    _need_units(value_label=value_label)
    table = np.asarray(values, dtype=float)
    if table.shape != (len(row_names), len(column_names)) or not table.size:
        raise ValueError(f"values has shape {table.shape}; the names ask for {(len(row_names), len(column_names))}")
    height = float(np.clip(0.3 * len(row_names) + 1.6, 2.6, 9.0))
    with Drawing(title=title, alt=alt, x_label=column_label, y_label=row_label, height=height) as drawing:
        top = float(np.nanmax(np.abs(table))) or 1.0
        low, high = (-top, top) if two_sided else (min(0.0, float(np.nanmin(table))), float(np.nanmax(table)) or 1.0)
        colours = _DIVERGING if two_sided else _SEQUENTIAL
        picture = drawing.axes.imshow(table, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
        drawing.axes.grid(False)
        turned = 90 if sum(map(len, column_names)) > 70 else 0
        drawing.axes.set_xticks(range(len(column_names)), [drawable(n) for n in column_names], rotation=turned)
        drawing.axes.set_yticks(range(len(row_names)), [drawable(n) for n in row_names])
        drawing.axes.figure.colorbar(picture, ax=drawing.axes, label=drawable(value_label))
        if numbers:
            for row, column in np.ndindex(table.shape):
                r, g, b, _ = picture.cmap(picture.norm(table[row, column]))
                ink = "black" if 0.299 * r + 0.587 * g + 0.114 * b > 0.5 else "white"
                text = format(table[row, column], numbers)
                drawing.axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
    return drawing.figure


def scatter_chart(
    points: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    alt: str,
    names: Mapping[str, Sequence[str]] | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """Draw each group of (x, y) points in its own colour and shape; `names` writes a word beside each point.

    >>> scatter_chart({"jobs": [(0, 1), (1, 1)]}, names={"jobs": ["baker", "smith"]}, title="Two words",
    ...               x_label="first axis (no unit)", y_label="second axis (no unit)", alt="baker lies left of smith.")
    Figure: Two words. baker lies left of smith.
    """
    _need_units(x_label=x_label, y_label=y_label)
    _need_some(points)
    with Drawing(title=title, alt=alt, x_label=x_label, y_label=y_label, height=5.0) as drawing:
        for i, (group, pairs) in enumerate(points.items()):
            x, y = zip(*pairs, strict=True)
            drawing.axes.scatter(x, y, marker=MARKERS[i % len(MARKERS)], s=30, label=drawable(group))
            for place, word in zip(pairs, (names or {}).get(group, ()), strict=names is not None and group in names):
                drawing.axes.annotate(drawable(word), place, xytext=(4, 3), textcoords="offset points", fontsize=9)
        if log_x:
            drawing.axes.set_xscale("log")
        if log_y:
            drawing.axes.set_yscale("log")
        drawing.draw_key(list(points))
    return drawing.figure


def timeline_chart(
    events: Sequence[tuple[float, str, str]], *, title: str, alt: str, x_label: str = "year (CE)", height: float = 0.0
) -> Figure:
    """Draw (year, lane, name) events as points on one line per lane, in the order in which the lanes first appear.

    >>> timeline_chart([(1966, "rules", "ELIZA"), (1948, "counting", "Shannon")], title="Two beginnings",
    ...                alt="Shannon's counting of 1948 is older than ELIZA of 1966.")
    Figure: Two beginnings. Shannon's counting of 1948 is older than ELIZA of 1966.
    """
    _need_units(x_label=x_label)
    _need_some(events)
    lanes = list(dict.fromkeys(lane for _, lane, _ in events))
    height = height or float(np.clip(1.0 * len(lanes) + 1.2, 2.6, 9.0))
    with Drawing(title=title, alt=alt, x_label=x_label, height=height) as drawing:
        years = [year for year, _, _ in events]
        width = (max(years) - min(years)) or 1.0
        for row, lane in enumerate(lanes):
            colour = PALETTE[row % (len(PALETTE) - 1)]
            inside = sorted((year, name) for year, of, name in events if of == lane)
            drawing.axes.plot(
                [y for y, _ in inside], [row] * len(inside), "o-", color=colour, linewidth=1, markersize=5
            )
            ends = [-np.inf] * 6  # where the last name on each of six levels stops
            for year, name in inside:
                level = next((k for k in range(6) if ends[k] <= year), int(np.argmin(ends)))
                ends[level] = year + (len(name) + 2) * width / 95
                shift = (6, -13, 16, -23, 26, -33)[level]
                drawing.axes.annotate(
                    drawable(name), (year, row), xytext=(-3, shift), textcoords="offset points", fontsize=8
                )
        drawing.axes.set_yticks(range(len(lanes)), [drawable(lane) for lane in lanes])
        drawing.axes.set_ylim(len(lanes) - 0.4, -0.6)
        drawing.axes.set_xlim(min(years) - width * 0.03, max(years) + width * 0.12)
        drawing.axes.grid(False, axis="y")
    return drawing.figure


def _need_units(**labels: str) -> None:
    for name, label in labels.items():
        if not re.fullmatch(r".*\S \([^()]+\)", label):
            raise ValueError(
                f"{name}={label!r} must end in a unit in brackets, such as 'loss (nats)' or 'rank (no unit)'"
            )


def _need_some(values: Any) -> None:
    if not values:
        raise ValueError("there is nothing to draw: give at least one named series, value or event")
