"""Where no scripts run (a mail, GitHub, a printed page): every widget's still twin is there, with its words."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from lab_browser import browser, chromium, screenshot
from widget_cases import CASES

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
pytestmark = [
    pytest.mark.no_promises,
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no chromium here: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # playwright's own event loop
]


def twin_of(case):
    """The stored output of a widget's cell."""
    for cell in json.loads((NOTEBOOKS / f"{case.notebook}.ipynb").read_text("utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if "".join(output.get("data", {}).get("text/plain", "")).startswith(f"{case.cell}: "):
                return output["data"]
    raise AssertionError(f"{case.notebook} holds no output of {case.cell}")


def test_twins_without_scripts(tmp_path):
    parts = [f"<section id='{c.notebook}'>{''.join(twin_of(c)['text/html'])}</section>" for c in CASES]
    page_file = tmp_path / "twins.html"
    page_file.write_text(
        f"<!doctype html><meta charset='utf-8'>{''.join(parts)}<script>document.body.remove()</script>"
    )
    with browser(java_script_enabled=False) as page:
        page.goto(page_file.as_uri())
        for case in CASES:
            section = page.locator(f"[id='{case.notebook}']")
            picture, words = section.get_by_role("img"), section.locator("p")
            size = picture.bounding_box()
            assert size["width"] >= 600 and size["height"] >= 150, case.notebook
            assert picture.count() == 1 and len(picture.get_attribute("alt")) >= 20, case.notebook
            said = "".join(twin_of(case)["text/plain"]).partition(": ")[2]
            assert words.inner_text().split() == said.split(), case.notebook
        screenshot(page, "twins/all")
        screenshot(page.locator("section").nth(3), "twins/03")


class Pictures(HTMLParser):
    """The text alternatives of all pictures of a page."""

    def __init__(self):
        super().__init__()
        self.words = []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.words.append(dict(attributes).get("alt") or "")


def test_a_chapter_as_a_page(tmp_path):
    """nbconvert, which is what many sites use: the twin and every figure, each with its words, and no script needed."""
    nbconvert = pytest.importorskip("nbconvert")
    text, _ = nbconvert.HTMLExporter(template_name="basic").from_filename(str(NOTEBOOKS / "00-start-here.ipynb"))
    pictures = Pictures()
    pictures.feed(text)
    assert len(pictures.words) >= 3 and all(len(words) >= 20 for words in pictures.words)
    assert "44 events" in text and "widget-view" not in text
