"""JupyterLab in a real browser, for tests: `with lab(root) as (url, token), page_of(url, token, "a.ipynb") as page:`.

Debian's chromium driven by PyPI's playwright (no browser download). What was learned: run-all moves the focus after its
promise resolves, and keys pressed before that are lost, so wait with `settled`; wait for the text that you expect, not
for "something changed"; drag the handle of a slider, not its bar. Starting costs most: one `lab` and one page serve a
whole file of tests with `open_notebook`. Set MINILLM_SCREENSHOTS to a folder to keep what `screenshot` sees.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from minillm.course.lab import lab_command, lab_environment

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
PATIENCE = 90_000  # milliseconds: a crowded machine is slow, and a wait that succeeds costs nothing
READY = """async () => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = app.shell.currentWidget;
  await panel.context.ready; await panel.sessionContext.ready; await panel.revealed;
}"""
RUN = """async (numbers) => {
  const app = window.jupyterapp, notebook = app.shell.currentWidget.content;
  if (numbers === null) return await app.commands.execute('notebook:run-all-cells');
  for (const number of numbers) {
    notebook.activeCellIndex = number; notebook.deselectAll();
    await notebook.scrollToItem(number);
    await app.commands.execute('notebook:run-cell');
  }
}"""


def chromium():
    """The path of a browser, or None."""
    return next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)


@contextlib.contextmanager
def lab(root, theme="JupyterLab Light"):
    """The JupyterLab that `minillm lab` starts, with settings and state of its own; gives url and token."""
    with tempfile.TemporaryDirectory(prefix="lab-", ignore_cleanup_errors=True) as private:
        home = Path(private)
        # no news toast, no update check: both cover the page
        settings = home / "user-settings/@jupyterlab/apputils-extension"
        settings.mkdir(parents=True)
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
        (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
        token = secrets.token_hex(16)  # so that only our own server answers
        places = {"CONFIG_DIR": "config", "RUNTIME_DIR": "runtime", "DATA_DIR": "data"}
        environment = {**lab_environment(), **{f"JUPYTER_{k}": str(home / v) for k, v in places.items()}}
        environment |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "user-settings"), "IPYTHONDIR": str(home / "ipython")}
        environment |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "JUPYTER_TOKEN": token}
        environment.setdefault("MINILLM_FOLDER", str(home / "my"))  # what a learner makes is thrown away too
        process, url = _started(Path(root), environment, token, home / "lab.log")
        try:
            yield url, token
        finally:
            _stop(process)


def _started(root, environment, token, log):
    """A server that answers, and its url. One whose port was taken in between ends by itself: then another port."""
    for _ in range(5):
        with socket.socket() as probe:  # the system gives two processes that ask at once two ports
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [*lab_command(root, port, browser=False), "--expose-app-in-browser"]
        with log.open("w") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + 300
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/api/status?token={token}", timeout=5).close()
                return process, url
            time.sleep(0.1)
        _stop(process)
    raise RuntimeError(f"JupyterLab does not start: {log.read_text()[-2000:]}")


def _stop(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ask_server(url, token, path, body=None):
    """What the server's REST interface answers, as plain data."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/api/{path}", data, {"Authorization": f"token {token}"})
    with urllib.request.urlopen(request, timeout=PATIENCE / 1000) as answer:
        return json.loads(answer.read() or "null")


@contextlib.contextmanager
def browser(**options):
    """An empty page; `page.problems` collects errors of the page's own scripts."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p, tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as data:
        options = {"viewport": {"width": 1200, "height": 1400}, "env": {**os.environ, "HOME": data}, **options}
        context = p.chromium.launch_persistent_context(
            data, executable_path=chromium(), headless=True, args=FLAGS, **options
        )
        try:
            page = context.pages[0]
            page.set_default_timeout(PATIENCE)
            page.problems = []
            page.on("pageerror", lambda error: page.problems.append(str(error)))
            yield page
        finally:
            context.close()


@contextlib.contextmanager
def page_of(url, token, notebook):
    """A page with one notebook open."""
    with browser() as page:
        open_notebook(page, url, token, notebook)
        yield page


def open_notebook(page, url, token, notebook):
    """Open a notebook in the page and wait until its kernel is there."""
    # doc/tree = single-document mode: no file browser, no restored layout
    page.goto(f"{url}/doc/tree/{notebook}?token={token}&reset")
    page.wait_for_selector(".jp-Notebook")
    page.evaluate(READY)


def write_notebook(path, sources):
    """A notebook file of code cells."""
    cells = [{"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": source} for i, source in enumerate(sources)]
    whole = {"cells": [cell | {"outputs": [], "execution_count": None} for cell in cells], "metadata": {}}
    whole["metadata"]["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path.write_text(json.dumps(whole | {"nbformat": 4, "nbformat_minor": 5}))


def run_all(page):
    """Run all cells and wait until the kernel is idle and the focus has settled."""
    page.evaluate(READY)
    page.evaluate(RUN, None)
    settled(page)


def run_cells(page, *numbers):
    """Run some cells, numbered from 0 in the order of all cells, texts too; then as `run_all`."""
    page.evaluate(READY)
    page.evaluate(RUN, list(numbers))
    settled(page)


def settled(page):
    """Wait until the kernel is idle and keys reach what they are meant for."""
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached")
    page.evaluate("() => document.fonts.ready")
    page.wait_for_timeout(300)


def show_cell(page, number):
    """Scroll until a cell is there: JupyterLab takes cells that are far away out of the page."""
    page.evaluate("number => window.jupyterapp.shell.currentWidget.content.scrollToItem(number)", number)
    page.locator(f".jp-Cell[data-windowed-list-index='{number}']").scroll_into_view_if_needed()


def type_into_cell(page, number, text):
    """Replace the source of a cell as a learner does: click into it, mark all, type; the editor indents lines itself.

    In `text` a line that follows a colon needs no spaces, and a backspace ends a block.
    """
    show_cell(page, number)
    page.locator(f".jp-Cell[data-windowed-list-index='{number}'] .cm-content").click()
    page.keyboard.press("Control+A")
    for i, line in enumerate(text.split("\n")):
        if i:
            page.keyboard.press("Enter")
        while line.startswith("\b"):
            page.keyboard.press("Backspace")
            line = line[1:]
        page.keyboard.insert_text(line)


def set_slider(page, index, value):
    """Type into a read-out and press Enter: the same message as a drag, and no pixel arithmetic."""
    page.locator(".widget-readout").nth(index).click()
    page.keyboard.press("Control+A")
    page.keyboard.type(value)
    page.keyboard.press("Enter")
    ready = "([i, v]) => document.querySelectorAll('.widget-readout')[i].innerText.trim() === v"
    page.wait_for_function(ready, arg=[index, value])


def drag_slider(page, handle, to):
    """Drag a handle, named by its number or its locator, to a fraction of its track."""
    handle = page.locator(".noUi-handle").nth(handle) if isinstance(handle, int) else handle
    handle.scroll_into_view_if_needed()
    knob, track = (
        handle.bounding_box(),
        handle.locator("xpath=ancestor::*[contains(@class, 'noUi-target')]").bounding_box(),
    )
    y = knob["y"] + knob["height"] / 2
    page.mouse.move(knob["x"] + knob["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * to, y, steps=10)
    page.mouse.up()


def set_theme(page, theme):
    """Change JupyterLab's theme, "JupyterLab Light" or "JupyterLab Dark", and wait until it is seen."""
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    page.wait_for_selector(f"body[data-jp-theme-name='{theme}']", state="attached")
    page.wait_for_timeout(300)


def screenshot(seen, name):
    """Keep a picture of a page or of a part of it, where MINILLM_SCREENSHOTS names a folder; else do nothing."""
    if folder := os.environ.get("MINILLM_SCREENSHOTS"):
        path = Path(folder) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        seen.screenshot(path=path)
