"""Figures for colour-blind readers and for those who hear them: colours, marks, and a text for every stored picture.

Paper:   Machado, Oliveira & Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
         table 1, severity 1.0; distances in CIE L*a*b* (1976), where about 2 is the least that one can see.
"""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from minillm.course import dashboard, figures
from minillm.course.figures import PALETTE, line_chart, scatter_chart
from minillm.course.notebooks import read_notebook

EYES = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
WORDS = {
    "title": "A title",
    "alt": "Lines rise from left to right.",
    "x_label": "x (no unit)",
    "y_label": "y (no unit)",
}


def seen(colour, eyes):
    """A colour "#RRGGBB" in L*a*b*, as such eyes see it."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.asarray(EYES[eyes]) @ linear, 0, 1) / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colours, eyes):
    """The smallest distance between two of the colours."""
    return min(np.linalg.norm(seen(a, eyes) - seen(b, eyes)) for a, b in itertools.combinations(colours, 2))


def test_the_eyes():
    assert np.allclose(seen("#FFFFFF", "all cones"), [100, 0, 0], atol=0.1)
    assert np.allclose(seen("#808080", "deuteranopia"), seen("#808080", "all cones"), atol=0.1), "a grey stays a grey"
    # the classic mistake: a red and a green of the same lightness
    assert nearest(["#C0392B", "#4E7D1E"], "all cones") > 80 > 25 > nearest(["#C0392B", "#4E7D1E"], "deuteranopia")


@pytest.mark.parametrize("eyes", EYES)
def test_colours_of_series_stay_apart(eyes):
    assert nearest(PALETTE, eyes) >= 15
    assert nearest(PALETTE[:3], eyes) >= 16 and nearest(PALETTE[:2], eyes) >= 50


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("scale", ["_SEQUENTIAL", "_DIVERGING"])
def test_colours_of_a_heat_map_keep_their_order(eyes, scale):
    colour = lambda x: "#" + "".join(f"{round(255 * part):02X}" for part in getattr(figures, scale)(x)[:3])
    light = [seen(colour(x), eyes)[0] for x in np.linspace(0, 1, 11)]
    if scale == "_SEQUENTIAL":
        assert all(a - b > 2 for a, b in itertools.pairwise(light)), "darker with every step"
    else:
        assert all(b - a > 2 for a, b in itertools.pairwise(light[:6]))
        assert all(a - b > 2 for a, b in itertools.pairwise(light[5:]))
        assert np.linalg.norm(seen(colour(0.0), eyes) - seen(colour(1.0), eyes)) > 50, "the two ends differ"


@pytest.fixture
def drawn(monkeypatch):
    """The axes of each figure, as it was finished."""
    axes = []

    class Kept(figures.Drawing):
        def __exit__(self, *error):
            axes.append(self.axes)
            super().__exit__(*error)

    monkeypatch.setattr(figures, "Drawing", Kept)
    return axes


@pytest.mark.parametrize("n", [5, 60, 1000])
def test_lines_differ_by_more_than_colour(drawn, n):
    line_chart({f"line {i}": list(range(n)) for i in range(len(PALETTE))}, **WORDS)
    lines = drawn[0].get_lines()
    assert len({line.get_color() for line in lines}) == len(lines) == len(PALETTE)
    assert len({line.get_marker() for line in lines}) == len(lines), "each has a mark of its own"
    first = [np.arange(n)[slice(line.get_markevery()[0], None, line.get_markevery()[1])] for line in lines]
    assert all(5 <= len(places) <= 40 for places in first)


def test_marks_of_long_lines_stand_beside_each_other(drawn):
    line_chart({"a": [1] * 60, "b": [1] * 60, "c": [1] * 60}, **WORDS)
    starts, steps = zip(*[line.get_markevery() for line in drawn[0].get_lines()], strict=True)
    assert len(set(starts)) == 3 and max(starts) < steps[0] and len(set(steps)) == 1


def test_points_differ_by_more_than_colour(drawn):
    scatter_chart({f"group {i}": [(i, i)] for i in range(len(PALETTE))}, **WORDS)
    shapes = {group.get_paths()[0].vertices.tobytes() for group in drawn[0].collections}
    assert len(shapes) == len(PALETTE)


def test_lines_of_a_dashboard_differ_by_more_than_colour():
    assert max(len(panel.lines) for panel in dashboard.PANELS) <= 3, "as many dashes as there are"


def pictures_without_words(notebook):
    """The cells of a notebook that hold a stored picture without a text alternative, or with another picture."""
    wrong = []
    for number, cell in enumerate(notebook["cells"]):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            html = "".join(data.get("text/html", ""))
            words = [re.search(r'\balt="([^"]*)"', image) for image in re.findall(r"<img\b[^>]*>", html)]
            silent = any(not found or len(found[1]) < 20 for found in words)
            stored = "".join(data.get("image/png", "")).strip()
            if silent or (stored and not (words and stored in html)):
                wrong.append(number)
    return wrong


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_stored_picture_has_words(path):
    assert pictures_without_words(read_notebook(path)) == []


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (
            {
                "image/png": "AAAA",
                "text/html": '<img alt="The line falls from 3 to 1." src="data:image/png;base64,AAAA">',
            },
            [],
        ),
        ({"image/png": "AAAA"}, [0]),
        ({"image/png": "AAAA", "text/html": '<img src="data:image/png;base64,AAAA">'}, [0]),
        ({"image/png": "AAAA", "text/html": '<img alt="" src="data:image/png;base64,AAAA">'}, [0]),
        ({"image/png": "AAAA", "text/html": '<img alt="The line falls from 3 to 1." src="data:,BBBB">'}, [0]),
        ({"text/plain": "1"}, []),
    ],
)
def test_a_picture_without_words_is_found(data, wrong):
    notebook = {
        "cells": [{"cell_type": "code", "source": "", "outputs": [{"output_type": "display_data", "data": data}]}]
    }
    assert pictures_without_words(notebook) == wrong
