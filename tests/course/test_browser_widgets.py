"""The widget of every chapter in a real browser: reached by Tab, worked by keys and mouse, and the picture follows.

One JupyterLab, one page and one kernel serve all of them: starting is what costs. Each notebook is the chapter's own
widget cell with what it stands on (`notebook_slices`), training left out or stood in for (`widget_cases`).
"""

import contextlib
import json
import os
import re
import time
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
    set_theme,
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
PICTURE_SECONDS = 60
BYTES = """async () => {
  for (;;) try {
    const bytes = await (await fetch(document.querySelector('img.widget-image').src)).arrayBuffer();
    return String(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)));
  } catch { await new Promise(again => setTimeout(again, 50)) }  // another picture came in between
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A folder, JupyterLab on it, a kernel for all, and a page."""
    folder = tmp_path_factory.mktemp("widgets")
    with lab(folder) as (url, token), browser() as page:
        yield folder, url, token, ask_server(url, token, "kernels", {"name": "python3"})["id"], page


@pytest.fixture
def opened(server):
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
    problems, page.problems[:] = list(page.problems), []
    assert problems == []


@contextlib.contextmanager
def picture_changes(page, wanted=True):
    """What happens inside changes the bytes of the picture."""
    before, end = page.evaluate(BYTES), time.monotonic() + PICTURE_SECONDS
    yield
    # not wait_for_function: it takes the promise of an answer for an answer
    while wanted and page.evaluate(BYTES) == before:
        assert time.monotonic() < end, "the picture stays as it was"
        page.wait_for_timeout(50)


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
        with picture_changes(page, bool(keys)):
            press(page, keys)
            status.filter(has_text=says).wait_for()
        assert is_reached(control), f"{label} loses the focus when it is used"
    label, how, says = case.mouse
    with picture_changes(page):
        work_by_mouse(page, explorer.get_by_label(label, exact=True), how)
        status.filter(has_text=says).wait_for()
    # the words of the picture are those of the state that is shown now
    assert picture.get_attribute("alt") == explorer.locator(".minillm-words").text_content()
    assert explorer.locator("[aria-live=polite] [role=status]").count() == 1
    seen = picture.evaluate("i => [i.naturalWidth, i.getBoundingClientRect().right <= innerWidth]")
    assert seen[0] >= 600 and seen[1]
    tracks = page.locator(".noUi-target").evaluate_all("all => all.map(e => e.getBoundingClientRect().width)")
    assert all(width > 100 for width in tracks), f"no room to drag on: {tracks}"
    keep_pictures(page, explorer, case.notebook[:2])


def keep_pictures(page, explorer, name):
    """With MINILLM_SCREENSHOTS: the widget in both themes, and as colour-blind readers see it."""
    screenshot(explorer, f"widgets/{name}-light")
    if not os.environ.get("MINILLM_SCREENSHOTS"):
        return
    eyes = page.context.new_cdp_session(page)
    for kind in ("deuteranopia", "protanopia", "tritanopia", "none"):
        eyes.send("Emulation.setEmulatedVisionDeficiency", {"type": kind})
        if kind != "none":
            screenshot(explorer, f"widgets/{name}-{kind}")
    set_theme(page, "JupyterLab Dark")
    screenshot(explorer, f"widgets/{name}-dark")
    set_theme(page, "JupyterLab Light")


def test_every_chapter_has_its_case():
    line = re.compile(r"(?m)^(\w+(?:Explorer|Desk))\(")
    there = set()
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        there |= {
            (path.stem, name) for c in cells if c["cell_type"] == "code" for name in line.findall("".join(c["source"]))
        }
    desks = {("19-reward-model", "PreferenceDesk"), ("26-capstone", "PreferenceDesk")}  # tested below
    assert there == {(case.notebook, case.cell) for case in CASES} | desks


DESK = """from minillm.course.preference_desk import Desk
from minillm.course.widgets_preferences import PreferenceDesk
asked = [("Once", ("<b>He</b> smiled.", "He cried.")), ("There was", ("a cat.", "a hat.")), ("So", ("a", "b"))]
PreferenceDesk(Desk(asked, {path!r}))"""


def test_the_desk_of_chapter_19(server, opened):
    clicks = server[0] / "clicks.jsonl"
    page = opened("desk", [DESK.replace("{path!r}", repr(str(clicks)))])
    desk = page.locator(".minillm-assisted")
    said, written = desk.locator("[role=status]"), lambda: clicks.read_text("utf-8").splitlines()
    said.filter(has_text="0 of 3 judged").wait_for()
    assert desk.locator("b").count() == 0, "what a model wrote came alive as markup"
    shown = desk.inner_text()
    assert "<b>He</b> smiled." in shown and "He cried." in shown
    keep_pictures(page, desk, "19-desk")
    # by mouse, by keys on the button, by a letter in the line; then back
    desk.get_by_role("button", name="left is better (1)").click()
    said.filter(has_text="1 of 3 judged").wait_for()
    assert len(written()) == 1 and "Once" in written()[0]
    right, back = (
        desk.get_by_role("button", name="right is better (2)"),
        desk.get_by_role("button", name="take back (u)"),
    )
    walk_to(page, right)
    page.keyboard.press("Enter")
    said.filter(has_text="2 of 3 judged").wait_for()
    assert is_reached(right), "Enter pressed the button and did not open the cell"
    walk_to(page, back)
    page.keyboard.press("Space")
    said.filter(has_text="1 of 3 judged").wait_for()
    walk_to(page, desk.get_by_label("or type 1, 2 or u:"))
    for key, count in (("1", 2), ("u", 1), ("2", 2), ("1", 3)):
        page.keyboard.press(key)
        said.filter(has_text=f"{count} of 3 judged").wait_for()
    assert right.is_disabled() and len(written()) >= 3


KINDS = """from minillm.course.figures import bar_chart, heat_map, line_chart, scatter_chart, timeline_chart
from minillm.course.figures import Drawing
words = dict(title="A title", alt="One of every kind of figure, with many series.")
axes = dict(x_label="time (s)", y_label="loss (nats)")
names = ["first", "second", "third", "fourth", "fifth", "sixth"]
lines = {name: [i + (k - 20) ** 2 / 99 for k in range(60)] for i, name in enumerate(names)}
figures = [line_chart(lines, floor=("entropy", 0.4), **axes, **words)]
parts = {name: i + 1 for i, name in enumerate(names[:4])}
figures += [bar_chart({x: parts for x in "abc"}, value_label="n (words)", **words)]
heat = dict(row_label="query", column_label="key", value_label="weight (no unit)")
table = [[i * j - 6 for j in range(6)] for i in range(4)]
figures += [heat_map(table, row_names="abcd", column_names="uvwxyz", numbers=".0f", two_sided=True, **heat, **words)]
figures += [scatter_chart({n: [(i, j), (j, i * j)] for j, n in enumerate(names) for i in [3]}, **axes, **words)]
figures += [timeline_chart([(1950 + 3 * i, names[i % 3], f"event {i}") for i in range(12)], **words)]
with Drawing(title="Panels", alt=words["alt"], x_label="update", panels=(2, 2)) as drawing:
    for panel in drawing.panels:
        panel.plot([1, 2, 3], [3, 1, 2], "-", label="a")
        panel.plot([1, 2, 3], [1, 2, 2], "--", label="b")
        panel.legend(fontsize=8)
figures += [drawing.figure]
for figure in figures:
    display(figure)"""
CORNERS = """image => {
  const canvas = document.createElement('canvas');
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);
  return [[1, 1], [image.naturalWidth - 2, image.naturalHeight - 2]].map(([x, y]) =>
    [...context.getImageData(x, y, 1, 1).data]);
}"""


def test_figures_of_every_kind_in_the_dark_theme(opened):
    page = opened("kinds", [KINDS])
    pictures = page.locator(".jp-OutputArea-output img")
    pictures.nth(5).wait_for()
    set_theme(page, "JupyterLab Dark")
    for picture in pictures.all():
        assert picture.get_attribute("alt") == "One of every kind of figure, with many series."
        # dark letters need the light ground that they were drawn on
        assert all(min(corner) >= 250 and corner[3] == 255 for corner in picture.evaluate(CORNERS))
    keep_pictures(page, page.locator(".jp-OutputArea").last, "kinds")
    set_theme(page, "JupyterLab Light")
