"""The title figure: bits per character against the year, with the floor that no model can pass.

    python -m minillm.course.tour_figure          draws notebooks/images/tour.png from notebooks/results/tour.json

One line across history, and nothing else in the picture: each point has its name, the dashed line is the exact entropy.
The picture carries the mark of the numbers it was drawn from, so that a test can say when it is out of step.

Paper:   Tufte 1983, "The Visual Display of Quantitative Information", chapter 4: ink that says something.
Next:    minillm/course/tour.py
"""

import hashlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, PngImagePlugin

from minillm.core.files import write_atomically
from minillm.course.figures_base import PALETTE, Drawing, Figure
from minillm.course.places import find_course
from minillm.course.tour_table import StageRow, load

STORED, PICTURE, MARK = "notebooks/results/tour.json", "notebooks/images/tour.png", "drawn from"
NAMES = {"ngram": "n-grams", "window": "window", "lstm": "LSTM", "gpt": "GPT"}
_LINE, _FLOOR = PALETTE[0], "#555555"


def results_figure(rows: Sequence[StageRow]) -> Figure:
    """Draw the language models of a tour; ValueError when there are fewer than two.

    >>> from minillm.course.tour_table import of_numbers
    >>> results_figure(of_numbers({"ngram": 0.3, "gpt": 0.2}, floor=0.1)).title
    'One line across history'
    """
    line = [row for row in rows if row.name in NAMES and row.bits_per_character is not None]
    if len(line) < 2:
        raise ValueError(f"rows hold {len(line)} language models; a line needs two, such as those of run_tour()")
    bits, years = [row.bits_per_character or 0.0 for row in line], [row.year for row in line]
    floor = bits[0] - (line[0].above_floor or 0.0)
    with Drawing(title="One line across history", alt=_seen(line, bits, floor), x_label="year",
                 y_label="new stories (bits per character)", height=4.4) as drawing:  # fmt: skip
        axes = drawing.axes
        axes.grid(False)
        axes.plot(years, bits, "-o", color=_LINE, linewidth=2.5, markersize=9, clip_on=False, zorder=3)
        axes.axhline(floor, color=_FLOOR, linestyle=(0, (6, 4)), linewidth=1.5)
        axes.fill_between([1900, 2100], 0, floor, color="#F1F1F1", zorder=0)
        axes.text(years[0], floor * 0.88, f"{floor:.3f} is the entropy of these texts: no model can pass it", va="top",
                  color=_FLOOR)  # fmt: skip
        for row, y in zip(line, bits, strict=True):
            axes.annotate(NAMES[row.name], (row.year, y), xytext=(0, 25), textcoords="offset points", ha="center",
                          fontsize=12, fontweight="bold", color="#222222")  # fmt: skip
            axes.annotate(f"{y:.3f}", (row.year, y), xytext=(0, 11), textcoords="offset points", ha="center",
                          color="#222222")  # fmt: skip
        axes.set_xticks(years)
        axes.set_ylim(0, max(bits) * 1.28)
        axes.set_xlim(years[0] - 2.5, years[-1] + 2)
    return drawing.figure


def _seen(line: Sequence[StageRow], bits: Sequence[float], floor: float) -> str:
    """The picture in words."""
    steps = ", ".join(f"{NAMES[row.name]} of {row.year} {y:.3f}" for row, y in zip(line, bits, strict=True))
    return (
        f"Bits per character on new stories, year by year: {steps}; the exact entropy is a dashed line at {floor:.3f}."
    )


def mark_of(rows: Sequence[StageRow]) -> str:
    """What the picture is drawn from, as a few letters."""
    numbers = [(row.name, row.year, row.bits_per_character, row.above_floor) for row in rows]
    return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()[:16]


def draw_stored(course: Path) -> None:
    """Draw the picture of the stored table again."""
    rows, _ = load(course / STORED)
    mark, marked = PngImagePlugin.PngInfo(), io.BytesIO()
    mark.add_text(MARK, mark_of(rows))
    Image.open(io.BytesIO(results_figure(rows).png)).convert("RGB").save(marked, "png", pnginfo=mark, optimize=True)
    write_atomically(course / PICTURE, marked.getvalue())


def main() -> int:
    """`python -m minillm.course.tour_figure`."""
    draw_stored(find_course(Path.cwd()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
