"""JupyterLab in a real browser, for tests: `with lab(root) as (url, token), page_of(url, token, "a.ipynb") as page:`.

Debian's chromium driven by PyPI's playwright (no browser download). What was learned: run-all moves the focus after its
promise resolves, and keys pressed before that are lost, so wait with `settled`; wait for the text that you expect, not
for "something changed"; drag the handle of a slider, not its bar.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from minillm.course.lab import choose_port, lab_command, lab_environment

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
RUN_ALL = """async () => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = app.shell.currentWidget;
  await panel.context.ready; await panel.sessionContext.ready; await panel.revealed;
  await app.commands.execute('notebook:run-all-cells');
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
        port, token = choose_port(None), "minillm"
        places = {"CONFIG_DIR": "config", "RUNTIME_DIR": "runtime", "DATA_DIR": "data"}
        environment = {**lab_environment(), **{f"JUPYTER_{k}": str(home / v) for k, v in places.items()}}
        environment |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "user-settings"), "IPYTHONDIR": str(home / "ipython")}
        environment |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "JUPYTER_TOKEN": token}
        environment.setdefault("MINILLM_FOLDER", str(home / "my"))  # what a learner makes is thrown away too
        command = [*lab_command(Path(root), port, browser=False), "--expose-app-in-browser"]
        log = home / "lab.log"
        with log.open("w") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(300):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{url}/api?token={token}", timeout=2).close()
                    break
                time.sleep(0.1)
            else:
                raise RuntimeError(log.read_text()[-2000:])
            yield url, token
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def page_of(url, token, notebook):
    """A page with one notebook open; `page.problems` collects errors of the page's own scripts."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p, tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as data:
        size = {"width": 1200, "height": 1400}
        context = p.chromium.launch_persistent_context(
            data, executable_path=chromium(), headless=True, args=FLAGS, viewport=size, env={**os.environ, "HOME": data}
        )
        try:
            page = context.pages[0]
            page.set_default_timeout(30_000)
            page.problems = []
            page.on("pageerror", lambda error: page.problems.append(str(error)))
            # doc/tree = single-document mode: no file browser, no restored layout
            page.goto(f"{url}/doc/tree/{notebook}?token={token}&reset")
            page.wait_for_selector(".jp-Notebook")
            yield page
        finally:
            context.close()


def run_all(page):
    """Run all cells and wait until the kernel is idle and the focus has settled."""
    page.evaluate(RUN_ALL)
    settled(page)


def settled(page):
    """Wait until the kernel is idle and keys reach what they are meant for."""
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached")
    page.evaluate("() => document.fonts.ready")
    page.wait_for_timeout(300)


def set_slider(page, index, value):
    """Type into a read-out and press Enter: the same message as a drag, and no pixel arithmetic."""
    page.locator(".widget-readout").nth(index).click()
    page.keyboard.press("Control+A")
    page.keyboard.type(value)
    page.keyboard.press("Enter")
    ready = "([i, v]) => document.querySelectorAll('.widget-readout')[i].innerText.trim() === v"
    page.wait_for_function(ready, arg=[index, value])


def drag_slider(page, index, to):
    """Drag the handle to a fraction of the track."""
    handle = page.locator(".noUi-handle").nth(index).bounding_box()
    track = page.locator(".noUi-target").nth(index).bounding_box()
    y = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * to, y, steps=10)
    page.mouse.up()
