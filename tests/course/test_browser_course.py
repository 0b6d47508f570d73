"""The course as a learner meets it in JupyterLab: whole chapters run, their pictures and widgets are there, exercises.

Two chapters run from the first cell to the last: 00, and one that trains. The others run in nbval, and their widgets
in `test_browser_widgets.py`.
"""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from lab_browser import (
    browser,
    chromium,
    lab,
    open_notebook,
    run_all,
    screenshot,
    settled,
    show_cell,
    type_into_cell,
)

COURSE = Path(__file__).resolve().parents[2]
CHAPTERS = ("00-start-here", "04-word-vectors")
TOPICS = ("00-start-here", "02-counting-words")
pytestmark = [
    pytest.mark.no_promises,
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no chromium here: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # playwright's own event loop
]
CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets.map((cell, number) => ({
  number, kind: cell.model.type, count: cell.model.executionCount ?? null,
  outputs: cell.model.type === 'code' ? cell.model.outputs.toJSON() : []}))"""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """JupyterLab on a copy of some of the course, and a page."""
    folder = tmp_path_factory.mktemp("course")
    for name in CHAPTERS:
        (folder / "notebooks").mkdir(exist_ok=True)
        shutil.copy(COURSE / "notebooks" / f"{name}.ipynb", folder / "notebooks")
    shutil.copytree(COURSE / "notebooks/results", folder / "notebooks/results")
    for name in TOPICS:
        shutil.copytree(COURSE / "exercises" / name, folder / "exercises" / name)
    with lab(folder) as (url, token), browser() as page:
        yield url, token, page


@pytest.fixture
def opened(course):
    """Opens a notebook of the course; afterwards no script of the page has failed."""
    url, token, page = course

    def open_it(path):
        open_notebook(page, url, token, path)
        return page

    yield open_it
    problems, page.problems[:] = list(page.problems), []
    assert problems == []


def widget_of(cells):
    """The number of the first cell whose stored picture belongs to a widget."""
    said = [(c["number"], "".join(o["data"].get("text/plain", ""))) for c in cells for o in c["outputs"] if "data" in o]
    return next(number for number, text in said if text.partition(":")[0].endswith("Explorer"))


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_whole_chapter(opened, name):
    page = opened(f"notebooks/{name}.ipynb")
    before = page.evaluate(CELLS)
    # nothing has run and nothing is trusted: the still twin is there, with its words
    number = widget_of(before)
    show_cell(page, number)
    still = page.locator(f".jp-Cell[data-windowed-list-index='{number}'] .jp-OutputArea img")
    assert still.evaluate("i => i.decode().then(() => i.naturalWidth)") >= 600 and len(still.get_attribute("alt")) > 20
    assert page.locator(".widget-vbox").count() == 0
    run_all(page)
    cells = [cell for cell in page.evaluate(CELLS) if cell["kind"] == "code"]
    assert [cell["count"] for cell in cells] == [*range(1, len(cells) + 1)]
    wrong = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert not wrong, wrong[0]
    assert not [output for cell in cells for output in cell["outputs"] if output.get("name") == "stderr"]
    # the widget has come to life in the place of its twin
    show_cell(page, number)
    page.locator(".minillm-assisted img.widget-image").wait_for()
    page.wait_for_function("document.querySelector('.minillm-assisted img.widget-image').alt.length > 20")
    screenshot(page, f"chapters/{name}-widget")
    for cell in cells:
        if any("image/png" in output.get("data", {}) for output in cell["outputs"]) and cell["number"] != number:
            show_cell(page, cell["number"])
            picture = page.locator(f".jp-Cell[data-windowed-list-index='{cell['number']}'] .jp-OutputArea img").first
            assert picture.evaluate("i => i.decode().then(() => i.naturalWidth)") >= 400
            assert len(picture.get_attribute("alt")) > 20


ANSWERS = [
    (
        "exercises/00-start-here/start-here.ipynb",
        2,
        "00.bits",
        "import math\n\n\ndef bits(total_nats, characters):\nreturn total_nats / math.log(2)",
        "divide by the number of characters, so that texts compare",
        "import math\n\n\ndef bits(total_nats, characters):\nif characters < 1:\nraise ValueError('no characters')\n"
        "\breturn total_nats / math.log(2) / characters",
    ),
    (
        "exercises/02-counting-words/counting-words.ipynb",
        2,
        "02.mle",
        "from collections import Counter\nfrom itertools import pairwise\n\n\ndef mle(sentences):\n"
        "pairs = Counter(pair for s in sentences for pair in pairwise(s))\n"
        "return {pair: n / pairs.total() for pair, n in pairs.items()}",
        'put "<s>" before the first word of each sentence',
        "from collections import Counter\nfrom itertools import pairwise\n\n\ndef mle(sentences):\n"
        "pairs = Counter(pair for s in sentences for pair in pairwise(['<s>', *s, '</s>']))\n"
        "firsts = Counter()\nfor pair, n in pairs.items():\nfirsts[pair[0]] += n\n"
        "\breturn {pair: n / firsts[pair[0]] for pair, n in pairs.items()}",
    ),
]


@pytest.mark.parametrize(
    ("path", "number", "check", "wrong", "diagnosis", "right"), ANSWERS, ids=[answer[2] for answer in ANSWERS]
)
def test_an_exercise(opened, path, number, check, wrong, diagnosis, right):
    page = opened(path)
    said = page.locator(f".jp-Cell[data-windowed-list-index='{number + 1}'] .jp-OutputArea-output")

    def answer(text):
        """As a learner does: type, Shift+Enter, and Shift+Enter once more in the cell of the check."""
        if text:
            type_into_cell(page, number, text)
        else:
            show_cell(page, number)
            page.locator(f".jp-Cell[data-windowed-list-index='{number}'] .cm-content").click()
        page.keyboard.press("Shift+Enter")
        page.keyboard.press("Shift+Enter")
        settled(page)

    answer("")
    said.filter(has_text=f"{check} is not written yet").wait_for()
    answer(wrong)
    said.filter(has_text=diagnosis).wait_for()
    seen = said.inner_text()
    assert "Traceback" not in seen and "minillm/course" not in seen and "correct" not in seen
    screenshot(page, f"exercises/{check}-wrong")
    answer(right)
    said.filter(has_text=f"{check}: correct").wait_for()
    assert said.count() == 1 and said.inner_text().strip() == f"{check}: correct"
    screenshot(page, f"exercises/{check}-right")
