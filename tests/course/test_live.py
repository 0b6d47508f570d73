"""LivePlot: one display in a kernel, one line on a terminal, nothing where nobody watches."""

import io
import math
import subprocess
import sys
import types
from pathlib import Path

import nbformat
import pytest

from minillm.course import live, progress
from minillm.course.live import LivePlot
from minillm.course.notebooks import normalise, run_notebook, write_notebook

pytestmark = pytest.mark.no_promises  # no shapes here, and the hook slows matplotlib down
ROOT = Path(__file__).resolve().parents[2]


def rows(losses, steps=None):
    return [types.SimpleNamespace(step=i + 1, steps=steps or len(losses), loss=y) for i, y in enumerate(losses)]


def play(plot, losses, steps=None):
    for row in rows(losses, steps):
        assert plot(row) is None, "it never stops a run"
    plot.close()
    return plot


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.delenv("MINILLM_QUIET", raising=False)
    stream = Terminal()
    for module in (progress, live):
        monkeypatch.setattr(module, "sys", types.SimpleNamespace(stderr=stream, modules={}))
    return stream


@pytest.fixture
def kernel(monkeypatch):
    """A kernel that counts: each display and each update, as (how, bundle)."""
    import IPython
    import IPython.display

    monkeypatch.delenv("MINILLM_QUIET", raising=False)
    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(("update", data))

    def display(data, raw, display_id):
        shown.append(("display", data))
        return Handle()

    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=object()))
    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(live, "_PERIOD", 0.0)
    monkeypatch.setattr(live, "time", types.SimpleNamespace(monotonic=lambda: 0.0))  # drawing costs nothing
    return shown


# the curve ----------------------------------------------------------------------------------------------------------


def test_a_point_is_the_mean_of_its_steps():
    plot = play(LivePlot(every=3), [5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 7.0])
    assert plot.x == [3, 6, 7] and plot.series == {"training": [4.0, 1.0, 7.0]}


def test_a_hundred_points_by_default():
    assert len(play(LivePlot(), [1.0] * 1000).x) == 100
    assert len(play(LivePlot(), [1.0] * 7).x) == 7


def test_other_losses_are_measured_at_each_point():
    losses = iter([4.0, 3.0])
    plot = play(LivePlot(every=2, watch={"validation": lambda: next(losses)}, scale=0.5), [1.0] * 4)
    assert plot.series == {"training": [0.5, 0.5], "validation": [2.0, 1.5]}


def test_a_run_that_was_cut_off_keeps_what_it_had():
    plot = play(LivePlot(every=4, watch={"validation": lambda: 2.0}), [3.0] * 6, steps=20)
    assert plot.x == [4, 6] and plot.series["training"] == [3.0, 3.0]
    assert plot.series["validation"][0] == 2.0 and math.isnan(plot.series["validation"][1])
    assert "over 6 steps" in plot.figure.alt


def test_one_object_serves_run_after_run():
    plot = play(LivePlot(every=1), [3.0, 2.0])
    assert play(plot, [9.0]).series == {"training": [9.0]}


@pytest.mark.parametrize(
    ("losses", "says"), [([3, 2], "falls"), ([2, 3], "rises"), ([2, 2.01], "stays level"), ([1], "stays level")]
)
def test_the_text_says_what_is_seen_without_measured_numbers(losses, says):
    plot = play(LivePlot(floor=("entropy", 1.25), unit="bits per character"), losses)
    assert plot.figure.alt == (
        f"The training loss {says} over {len(losses)} steps; entropy is a dashed line at 1.25 bits per character."
    )
    assert (
        play(LivePlot(alt="The loss halves within ten steps."), losses).figure.alt
        == "The loss halves within ten steps."
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"every": 0}, "every=0"), ({"scale": 0}, "scale=0"), ({"watch": {"training": float}}, "named 'training'")],
    ids=str,
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ValueError, match=message):
        LivePlot(**wrong)


# where it is shown --------------------------------------------------------------------------------------------------


def test_on_a_terminal_a_bar_ends_as_one_line(terminal):
    play(LivePlot("A bigram", every=2, unit="nats"), [4.0, 3.0, 2.0, 1.0])
    frames = terminal.getvalue().split("\r")
    assert frames[1].startswith("A bigram:   0%") and frames[-2].isspace(), "the bar comes, and goes again"
    assert frames[-1] == "A bigram: 4 steps, training loss 1.500 nats\n"
    assert terminal.getvalue().count("\n") == 1


def test_a_terminal_says_that_a_run_stopped(terminal):
    play(LivePlot("A bigram"), [4.0, 3.0], steps=1000)
    assert terminal.getvalue().endswith(
        "A bigram: stopped after 2 of 1,000 steps, training loss 3.500 nats per token\n"
    )


def test_a_quiet_terminal(terminal, monkeypatch):
    monkeypatch.setenv("MINILLM_QUIET", "1")
    play(LivePlot(), [2.0, 1.0])
    assert terminal.getvalue() == ""


def test_a_kernel_shows_one_display_that_ends_with_the_final_figure(kernel, capsys):
    plot = play(LivePlot("A bigram"), [4.0, 3.0, 2.0, 1.0])
    assert [how for how, _ in kernel] == ["display", "update", "update", "update"]
    assert kernel[-1][1] == plot.figure._repr_mimebundle_()
    assert "over 2 steps" in kernel[0][1]["text/plain"] and "over 4 steps" in kernel[-1][1]["text/plain"]
    assert capsys.readouterr() == ("", "")


def test_drawing_costs_at_most_a_tenth(kernel, monkeypatch):
    """On a clock where a step takes 1 s and a drawing 1 s, a frame is due every ten seconds."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(live, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    draw = live._Notebook._draw

    def slow_draw(self, plot):
        draw(self, plot)
        clock.now += 1

    monkeypatch.setattr(live._Notebook, "_draw", slow_draw)
    plot = LivePlot(every=1)
    for row in rows([1.0] * 90):
        plot(row)
        clock.now += 1
    assert 8 <= len(kernel) <= 11


def test_a_kernel_whose_outputs_are_kept_shows_the_final_figure_only(kernel, monkeypatch):
    monkeypatch.setenv("MINILLM_QUIET", "1")
    plot = play(LivePlot("A bigram"), [4.0, 3.0, 2.0, 1.0])
    assert kernel == [("display", plot.figure._repr_mimebundle_())]


def test_nothing_to_show_shows_nothing(kernel):
    LivePlot().close()
    assert kernel == []


def test_into_a_pipe_nothing_is_written():
    code = "from types import SimpleNamespace as Row\nfrom minillm.course.live import LivePlot\nplot = LivePlot()\n"
    code += "for i in range(50): plot(Row(step=i + 1, steps=50, loss=1.0))\nplot.close()\n"
    code += "import sys; assert not {'matplotlib', 'tqdm', 'torch'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


CELL = """import torch
from minillm.course.live import LivePlot
from minillm.training.loop import train
from minillm.training.optim import AdamW
model = torch.nn.Linear(3, 1)
model.loss = lambda batch: model(batch).square().mean()
batch = torch.ones(4, 3)
record = train(model, [batch], steps=40, optimizer=AdamW(model.parameters(), 0.05),
               callbacks=[LivePlot("A line", unit="metres", floor=("best", 0.0))])"""


def test_in_a_real_kernel(tmp_path):
    """With outputs that are kept, and as a reader runs it: what is left is one figure, the same words, no noise."""
    cells = [nbformat.v4.new_code_cell(source) for source in (CELL, "import os; del os.environ['MINILLM_QUIET']", CELL)]
    write_notebook(tmp_path / "a.ipynb", normalise(nbformat.v4.new_notebook(cells=cells)))
    ran, _ = run_notebook(tmp_path / "a.ipynb", ROOT)
    for cell in (ran["cells"][0], ran["cells"][2]):
        (output,) = cell["outputs"]
        assert output["output_type"] == "display_data"
        assert set(output["data"]) == {"image/png", "text/html", "text/plain"}
        assert output["data"]["text/plain"] == [
            "Figure: A line. The training loss falls over 40 steps; best is a dashed line at 0 metres."
        ]
