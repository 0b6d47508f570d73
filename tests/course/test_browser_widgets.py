"""The widget of every chapter in a real browser: reached by Tab, worked by keys and mouse, and the picture follows.

One JupyterLab, one page and one kernel serve all of them: starting is what costs. Each notebook is the chapter's own
widget cell with what it stands on (`notebook_slices`), training left out or stood in for (`widget_cases`).
"""

import contextlib
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from lab_browser import (
    ask_server,
    browser,
    chromium,
    drag_slider,
    lab,
    open_notebook,
    run_all,
    screenshot,
    write_notebook,
)
from notebook_slices import slice_of
from widget_cases import CASES

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
pytestmark = [
    pytest.mark.no_promises,
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no chromium here: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # playwright's own event loop
]
CHANGED = "before => document.querySelector('img.widget-image').src !== before"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A folder, JupyterLab on it, a kernel for all, and a page."""
    folder = tmp_path_factory.mktemp("widgets")
    with lab(folder) as (url, token), browser() as page:
        yield folder, url, token, ask_server(url, token, "kernels", {"name": "python3"})["id"], page


@pytest.fixture
def opened(server, request):
    """Opens a notebook of these cells, in a fresh namespace, and runs it."""
    folder, url, token, kernel, page = server

    def run(name, cells):
        write_notebook(folder / f"{name}.ipynb", ["%reset -f", *cells])
        about = {"path": f"{name}.ipynb", "name": "", "type": "notebook", "kernel": {"id": kernel}}
        ask_server(url, token, "sessions", about)
        open_notebook(page, url, token, f"{name}.ipynb")
        run_all(page)
        return page

    yield run
    screenshot(page, f"widgets/{request.node.callspec.id}")
    problems, page.problems[:] = list(page.problems), []
    assert problems == []


@contextlib.contextmanager
def picture_changes(page, picture, wanted=True):
    """What happens inside changes the bytes of the picture."""
    before = picture.get_attribute("src")
    yield
    if wanted:
        page.wait_for_function(CHANGED, arg=before)


def is_reached(control):
    return control.evaluate("e => e === document.activeElement")


def walk_to(page, control):
    """Press Tab until a control has the focus; a slider has two stops, its handle and its read-out."""
    for _ in range(2):
        page.keyboard.press("Tab")
        if is_reached(control):
            return
    raise AssertionError(f"Tab does not lead to {control}")


def press(page, keys):
    """Keys for what has the focus: names with spaces between them, or "type" and a text."""
    if keys.startswith("type "):
        page.keyboard.press("Control+A")
        page.keyboard.type(keys.removeprefix("type "))
        keys = "Enter"
    for key in keys.split():
        page.keyboard.press(key)


def work_by_mouse(page, control, how):
    """Drag the handle of a slider to a fraction of its track, click, or choose an option."""
    if how == "click":
        control.click()
    elif isinstance(how, str):
        control.select_option(how)
    else:
        drag_slider(page, control, how)


def cells_of(case):
    """The cells that bring the widget of a case to life."""
    notebook = json.loads((NOTEBOOKS / f"{case.notebook}.ipynb").read_text("utf-8"))
    return [
        *([case.stand_in] if case.stand_in else []),
        *slice_of(notebook, number_of(notebook, case.cell), case.given),
    ]


def number_of(notebook, start):
    """The number of the cell that has a line with this beginning."""
    line = re.compile(rf"(?m)^{start}\(")
    return next(
        i for i, c in enumerate(notebook["cells"]) if c["cell_type"] == "code" and line.search("".join(c["source"]))
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.notebook[:2]}-{case.cell}")
def test_the_widget_of_a_chapter(opened, case):
    page = opened(case.notebook, cells_of(case))
    explorer = page.locator(".minillm-assisted")
    picture, status = explorer.locator("img.widget-image"), explorer.locator("[role=status]")
    status.wait_for()
    page.wait_for_function("document.querySelector('img.widget-image').alt")
    for place, (label, keys, says) in enumerate(case.keys):
        control = explorer.get_by_label(label, exact=True)
        if place == 0:
            control.focus()
        else:
            walk_to(page, control)
        with picture_changes(page, picture, bool(keys)):
            press(page, keys)
            status.filter(has_text=says).wait_for()
        assert is_reached(control), f"{label} loses the focus when it is used"
    label, how, says = case.mouse
    with picture_changes(page, picture):
        work_by_mouse(page, explorer.get_by_label(label, exact=True), how)
        status.filter(has_text=says).wait_for()
    # the words of the picture are those of the state that is shown now
    assert picture.get_attribute("alt") == explorer.locator(".minillm-words").text_content()
    seen = picture.evaluate("i => [i.naturalWidth, i.getBoundingClientRect().right <= innerWidth]")
    assert seen[0] >= 600 and seen[1]
