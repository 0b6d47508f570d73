"""Explorers without a browser: state in, picture and sentence out, and a still twin in the stored output."""

import io
import subprocess
import sys
import types

import pytest

from minillm.course import progress as progress_module
from minillm.course.figures import bar_chart
from minillm.course.progress import progress
from minillm.course.widgets import Explorer, choice, slider, tick, words


class Powers(Explorer):
    """Bars of powers."""

    def __init__(self):
        self.base = slider("base", 2, low=1, high=5)
        self.kind = choice("kind", ["up", "down"])
        super().__init__(self.base, self.kind)

    def draw(self):
        values = {str(i): self.base.value**i for i in (range(4) if self.kind.value == "up" else range(3, -1, -1))}
        figure = bar_chart(
            values, title="Powers", value_label="value (no unit)", alt="Each bar is a power of the base."
        )
        return figure, f"the largest is {max(values.values())} < {10**9}"


def test_controls_change_picture_and_sentence():
    w = Powers()
    before = w.picture.value
    assert 'role="status">the largest is 8 &lt; 1000000000<' in w.status.value
    w.base.value = 3
    assert w.picture.value != before and "largest is 27" in w.status.value
    w.base.value = 2
    assert w.picture.value == before, "the same state, the same picture: redraw has no memory"
    w.kind.value = "down"
    assert w.picture.value != before


def test_a_slider_keeps_its_bounds():
    w = Powers()
    w.base.value = 99
    assert w.base.value == 5 and "largest is 125" in w.sentence


def test_what_a_browser_sends():
    w = Powers()
    message = {"method": "update", "state": {"value": 4}, "buffer_paths": []}
    w.base._handle_msg({"content": {"data": message}, "buffers": []})
    assert "largest is 64" in w.sentence


def test_the_still_twin():
    w = Powers()
    bundle = w._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert {"application/vnd.jupyter.widget-view+json", "image/png", "text/html", "text/plain"} <= set(data)
    assert 'alt="Each bar is a power of the base."' in data["text/html"] and "&lt;" in data["text/html"]
    assert data["text/plain"] == "Powers: the largest is 8 < 1000000000"
    assert ">Each bar is a power of the base.</span>" in w.status.value


def test_draw_is_asked_for():
    with pytest.raises(TypeError, match="Explorer must define draw"):
        Explorer()


def test_controls():
    assert type(slider("a", 1.0, low=0, high=2).value) is float and type(slider("a", 1, low=0, high=2).value) is int
    with pytest.raises(ValueError, match="value=7 must lie in 0 … 2"):
        slider("a", 7, low=0, high=2)
    assert choice("a", ["x", "y"], "y").value == "y" and words("a", "b").value == "b" and tick("a").value is False
    for control in (slider("long label", 1, low=0, high=2), choice("long label", ["x"]), words("long label", "")):
        assert control.style.description_width == "initial"


# progress -----------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def loud(monkeypatch):
    monkeypatch.delenv("MINILLM_QUIET", raising=False)
    monkeypatch.setattr(progress_module, "_PERIOD", 0.0)
    terminal = Terminal()
    # not sys.stderr itself: pytest puts its own there between the fixture and the test
    monkeypatch.setattr(progress_module, "sys", types.SimpleNamespace(stderr=terminal, modules={}))
    return terminal


def test_on_a_terminal_one_line_is_redrawn(loud):
    assert list(progress("abc", "reading", unit="letters")) == list("abc")
    frames = loud.getvalue().split("\r")
    assert "reading: [######" in frames[2] and frames[-1].rstrip(" ").startswith("reading: 3 letters")
    assert loud.getvalue().count("\n") == 1 and loud.getvalue().endswith("\n")


def test_what_an_earlier_run_did_counts_as_done_and_not_in_the_time(loud, monkeypatch):
    seconds = iter(range(0, 100, 2))
    monkeypatch.setattr(progress_module, "time", types.SimpleNamespace(monotonic=lambda: next(seconds)))
    assert list(progress(range(3), "training", before=7)) == [0, 1, 2]
    frames = [frame.strip() for frame in loud.getvalue().split("\r")[1:]]
    assert frames[0] == "training: [##############......] 7 of 10 steps"
    assert frames[1].endswith("8 of 10 steps, about 4 s left") and frames[-1] == "training: 10 steps"


def test_a_loop_that_is_left_says_so(loud):
    for i in progress(range(10), "training"):
        if i == 2:
            break
    assert "training: stopped after 2 of 10 steps" in loud.getvalue()


def test_without_a_length(loud):
    assert sum(progress(iter([1, 2]))) == 3
    assert "2 steps" in loud.getvalue()
    assert list(progress([])) == []


def test_quiet_where_nobody_watches(loud, monkeypatch, capsys):
    monkeypatch.setenv("MINILLM_QUIET", "1")
    assert list(progress([1])) == [1] and loud.getvalue() == ""
    code = "from minillm.course.progress import progress\nfor _ in progress(range(9), 'x'): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=None)
    assert done.stdout == done.stderr == ""


def test_in_a_kernel_one_display_is_updated(monkeypatch):
    monkeypatch.delenv("MINILLM_QUIET", raising=False)
    monkeypatch.setattr(progress_module, "_PERIOD", 0.0)
    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    class Shell:
        kernel = object()

    import IPython

    monkeypatch.setattr(IPython, "get_ipython", Shell)
    monkeypatch.setattr(
        "IPython.display.display", lambda data, raw, display_id: shown.append(data["text/plain"]) or Handle()
    )
    assert list(progress([1, 2], "x")) == [1, 2]
    assert shown[0].startswith("x: [....") and shown[-1] == "x: 2 steps" and "left" not in shown[-1]
