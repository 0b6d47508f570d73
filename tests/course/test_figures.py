"""Figures: complete, deterministic, small, the same whatever the reader's matplotlib is set to."""

import base64
import subprocess
import sys

import matplotlib as mpl
import pytest

from minillm.course import figures, figures_base
from minillm.course.figures import Drawing, bar_chart, heat_map, line_chart, scatter_chart, timeline_chart

WORDS = {"title": "A title", "alt": "The line rises from left to right."}
AXES = {"x_label": "time (s)", "y_label": "loss (nats)"}
MAP = {"row_label": "query", "column_label": "key", "value_label": "weight (no unit)"}
CHARTS = {
    "line": lambda **w: line_chart({"a": [1, 2], "b": [2, 1]}, x=[1, 10], floor=("H", 1.5), log_x=True, **AXES, **w),
    "bar": lambda **w: bar_chart({"x": {"p": 1, "q": 2}, "y": {"p": 3, "q": 1}}, value_label="n (words)", **w),
    "lying bars": lambda **w: bar_chart(
        {f"word {i}": i for i in range(20)}, value_label="n (words)", numbers=".0f", **w
    ),
    "heat": lambda **w: heat_map([[0, 1, 2]], row_names="a", column_names="xyz", numbers=".1f", **MAP, **w),
    "scatter": lambda **w: scatter_chart({"g": [(0, 1), (1, 2)]}, names={"g": ["u", "v"]}, **AXES, **w),
    "timeline": lambda **w: timeline_chart([(1950 + i // 3, "lane", f"event {i}") for i in range(9)], **w),
}


def size(png):
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart(name):
    figure = CHARTS[name](**WORDS)
    again = CHARTS[name](**WORDS)
    assert figure.png == again.png, "the same numbers give the same bytes"
    assert b"Software" not in figure.png and len(figure.png) < 60_000
    width, height = size(figure.png)
    assert width == 800 and 240 <= height <= 1000
    bundle = figure._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == figure.png
    assert 'alt="The line rises from left to right."' in bundle["text/html"]
    assert bundle["text/plain"] == "Figure: A title. The line rises from left to right."


def test_opaque_light_background():
    """JupyterLab's dark theme lies behind the picture; nothing of it may shine through."""
    image = mpl.image.imread(__import__("io").BytesIO(CHARTS["line"](**WORDS).png))
    assert (image[[0, 0, -1, -1], [0, -1, 0, -1], :3] == 1).all()
    assert image.shape[2] == 3 or (image[..., 3] == 1).all()


def test_a_readers_own_settings_change_nothing():
    before = CHARTS["line"](**WORDS).png
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 30, "lines.linewidth": 9}):
        kept = dict(mpl.rcParams)
        assert CHARTS["line"](**WORDS).png == before
        assert dict(mpl.rcParams) == kept, "and ours leave no trace"


def test_no_pyplot():
    code = "import sys; from minillm.course import figures; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize("alt", ["", "a plot", "A plot of the loss over training", "An image of a cat in a hat."])
def test_alt_text_says_what_is_to_be_seen(alt):
    with pytest.raises(ValueError, match="alt="):
        CHARTS["line"](title="t", alt=alt)


@pytest.mark.parametrize("label", ["", "loss", "loss ()", "(nats)", "loss nats"])
def test_axes_have_units(label):
    with pytest.raises(ValueError, match="y_label="):
        line_chart({"a": [1]}, x_label="step (no unit)", y_label=label, **WORDS)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="title="):
        CHARTS["bar"](title=" ", alt=WORDS["alt"])
    with pytest.raises(ValueError, match="'a' has 2 values and x has 3"):
        line_chart({"a": [1, 2]}, x=[1, 2, 3], **AXES, **WORDS)
    with pytest.raises(ValueError, match="nothing to draw"):
        line_chart({}, **AXES, **WORDS)
    with pytest.raises(ValueError, match=r"shape \(1, 2\); the names ask for \(2, 1\)"):
        heat_map([[1, 2]], row_names="ab", column_names="x", **MAP, **WORDS)
    with pytest.raises(ValueError, match="same parts"):
        bar_chart({"x": {"p": 1}, "y": {"q": 1}}, value_label="n (words)", **WORDS)
    with pytest.raises(ValueError, match="show fewer points"):
        figures_base.Figure(b"x" * 60_001, **WORDS)


def test_chinese_and_dollars(monkeypatch):
    monkeypatch.setattr(figures_base, "cjk_font", lambda: None)
    assert figures_base.drawable("猫 cat") == "\u25a1 cat"
    bar_chart({"猫": 1, "$x$": 2}, value_label="cost ($)", **WORDS)  # no missing-glyph warning, no mathtext
    monkeypatch.undo()
    assert figures.cjk_font() is None or figures.drawable("猫") == "猫"


def test_a_figure_is_saved_whole(tmp_path):
    figure = CHARTS["bar"](**WORDS)
    figure.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == figure.png and len(list(tmp_path.iterdir())) == 1


def test_a_drawing_that_fails_leaves_the_style_alone():
    kept = dict(mpl.rcParams)
    with pytest.raises(ZeroDivisionError), Drawing(**WORDS):
        raise ZeroDivisionError
    assert dict(mpl.rcParams) == kept
