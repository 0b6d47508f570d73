"""The title figure: bits per character against the year, with the floor that no model can pass.

    python -m minillm.course.tour_figure          draws notebooks/images/tour.png from notebooks/results/tour.json

One line across history, and nothing else in the picture: each point has its name, the dashed line is the exact entropy.

Paper:   Tufte 1983, "The Visual Display of Quantitative Information", chapter 4: ink that says something.
Next:    minillm/course/places.py
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from minillm.course.figures_base import PALETTE, Drawing, Figure
from minillm.course.places import find_course
from minillm.course.tour_table import StageRow, load

STORED, PICTURE = "notebooks/results/tour.json", "notebooks/images/tour.png"
NAMES = {"ngram": "n-grams", "window": "window network", "lstm": "LSTM", "gpt": "GPT"}


def results_figure(rows: Sequence[StageRow]) -> Figure:
    """Draw the language models of a tour; ValueError when there are fewer than two."""
    line = [row for row in rows if row.name in NAMES and row.bits_per_character is not None]
    if len(line) < 2:
        raise ValueError(f"rows hold {len(line)} language models; a line needs two, such as those of run_tour()")
    bits = [row.bits_per_character or 0.0 for row in line]
    floor = bits[0] - (line[0].above_floor or 0.0)
    best = line[bits.index(min(bits))]
    alt = (
        f"Bits per character on new stories fall from {bits[0]:.2f} for {NAMES[line[0].name]} of {line[0].year} "
        f"to {min(bits):.2f} for {NAMES[best.name]} of {best.year}; the exact entropy is a dashed line at {floor:.2f}."
    )
    with Drawing(title="Seventy years on one text", alt=alt, x_label="year (of the idea)",
                 y_label="bits per character (new stories)") as drawing:  # fmt: skip
        axes = drawing.axes
        years = [row.year for row in line]
        axes.plot(years, bits, "-", color=PALETTE[0], linewidth=2.5, zorder=2)
        axes.plot(years, bits, "o", color=PALETTE[0], markersize=9, zorder=3)
        axes.axhline(floor, color="#444444", linestyle="--", linewidth=1.4)
        axes.text(years[0], floor, f"entropy: no model can pass {floor:.3f}", va="bottom", ha="left", color="#444444")
        for row, y in zip(line, bits, strict=True):
            axes.annotate(f"{NAMES[row.name]}\n{y:.3f}", (row.year, y), xytext=(0, 11), textcoords="offset points",
                          ha="center", fontsize=11)  # fmt: skip
        axes.set_ylim(0, max(bits) * 1.25)
        axes.set_xlim(years[0] - 3, years[-1] + 3)
    return drawing.figure


def main() -> int:
    """Draw the stored table's figure again."""
    course = find_course(Path.cwd())
    rows, _ = load(course / STORED)
    results_figure(rows).save(course / PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
