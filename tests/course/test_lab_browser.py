"""JupyterLab as `minillm lab` starts it, in Chromium: cells run, a widget answers, a check speaks to the learner."""

import json
import sys

import pytest

import minillm

pytest.importorskip("playwright")
from lab_browser import chromium, drag_slider, lab, page_of, run_all, set_slider

pytestmark = [
    pytest.mark.no_promises,
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no chromium here: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # playwright's own event loop
]
WIDGET = """from minillm.course.figures import bar_chart
from minillm.course.widgets import Explorer, slider

class Powers(Explorer):
    def __init__(self):
        self.base = slider("base", 2, low=1, high=5)
        super().__init__(self.base)

    def draw(self):
        values = {str(i): self.base.value ** i for i in range(4)}
        alt = "Each bar is a power of the base."
        figure = bar_chart(values, title="Powers", value_label="value (no unit)", alt=alt)
        return figure, f"the largest is {values['3']}"

Powers()"""
FIGURE = """from minillm.course.figures import line_chart
line_chart({"a": [1, 2]}, title="t", x_label="i (no unit)", y_label="y (no unit)", alt="The line rises from 1 to 2.")"""
STUB = """from minillm.course.checks import check
def bits(total_nats, characters):
    raise NotImplementedError
check("00.bits", bits)"""
PROGRESS = """from minillm.course.progress import progress
for _ in progress(range(5), "counting"): pass"""


@pytest.fixture
def notebook(tmp_path):
    where = "import sys, minillm\nprint(sys.executable, minillm.__version__)"
    cells = []
    for i, source in enumerate([where, WIDGET, FIGURE, PROGRESS, STUB]):
        cell = {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": source}
        cells.append(cell | {"outputs": [], "execution_count": None})
    whole = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    whole["metadata"]["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    (tmp_path / "tiny.ipynb").write_text(json.dumps(whole))
    return tmp_path


def test_a_tiny_notebook(notebook, monkeypatch):
    monkeypatch.delenv("MINILLM_QUIET", raising=False)  # the suite's own silence
    with lab(notebook, theme="JupyterLab Dark") as (url, token), page_of(url, token, "tiny.ipynb") as page:
        run_all(page)
        page.get_by_text(f"{sys.executable} {minillm.__version__}").wait_for()
        # the live widget, not its still twin, and it answers
        status = page.locator("[role=status]", has_text="the largest is")
        assert "the largest is 8" in status.first.inner_text()
        before = page.locator("img.widget-image").first.get_attribute("src")
        set_slider(page, 0, "3")
        page.locator("[role=status]", has_text="the largest is 27").wait_for()
        changed = "s => document.querySelector('img.widget-image').src !== s"
        page.wait_for_function(changed, arg=before)
        drag_slider(page, 0, 1.0)
        page.locator("[role=status]", has_text="the largest is 125").wait_for()
        # the figure has its text alternative
        picture = page.locator("img[alt='The line rises from 1 to 2.']")
        assert picture.count() == 1 and picture.evaluate("i => i.naturalWidth") == 800
        page.get_by_text("counting: 5 steps").wait_for()
        # the check says one thing, without a traceback
        said = page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").last.inner_text()
        assert "00.bits is not written yet" in said and "Traceback" not in said and "minillm/course" not in said
        assert page.problems == []
