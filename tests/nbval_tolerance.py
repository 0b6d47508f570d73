"""nbval with what a numeric course needs: a tolerance for decimals, and outputs as a reader is left seeing them.

A pytest plugin (loaded by the root conftest.py) on top of nbval, which it patches in five places:

1. decimals are compared with a tolerance (ini `nb_rtol`, `nb_atol`, or a cell tag `rtol-1e-2`), all else exactly;
2. a trailing `;` silences a cell again (nbval sends store_history=False: nbval #194, ipython #14162);
3. a dead kernel fails at once instead of after the cell's timeout;
4. clear_output, display updates and ipywidgets.Output captures end as they would in a browser;
5. pictures inside `<img src="data:…">` are not compared, their text alternative is.

At the end of a run it prints the seconds of each notebook.
"""

import atexit
import math
import os
import re
import shutil
import tempfile
import time
from collections import defaultdict
from queue import Empty

from nbval import kernel as nbval_kernel
from nbval import plugin as nbval

# a decimal or a number with an exponent; integers are left exact (shapes, counts, token ids)
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)(?!\d|\.\d)")
WHOLE = re.compile(r"[-+]?\d+\.")
PICTURE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+")
OUTPUT = ("stream", "display_data", "execute_result")
SECONDS: dict[str, float] = defaultdict(float)


def close(ref: str, got: str, rtol: float, atol: float) -> bool:
    """Whether two texts differ only in decimals that are close, and in the padding that goes with their width."""
    pairs = list(zip(NUMBER.findall(ref), NUMBER.findall(got), strict=False))
    if _frame(ref) != _frame(got):  # the frames hold one # per number, so they also compare how many there are
        return False
    return all(_close_numbers(a, b, rtol, atol) for a, b in pairs)


def _frame(text: str) -> str:
    return re.sub(r"[ \t]+", " ", re.sub(r"[ \t]*#", "#", NUMBER.sub("#", text.replace("#", "＃"))))


def _close_numbers(ref: str, got: str, rtol: float, atol: float) -> bool:
    if WHOLE.fullmatch(ref) and WHOLE.fullmatch(got):
        return ref == got  # `7.` may be a count at the end of a sentence: exact
    # with two decimals or more, never stricter than the last one: 0.50 against 0.49 is one unit of rounding
    digits = 0 if re.search("[eE]", ref) else len(ref.partition(".")[2])
    unit = 10.0**-digits if digits >= 2 else 0.0
    return math.isclose(float(ref), float(got), rel_tol=rtol, abs_tol=max(atol, 1.01 * unit))


def pytest_addoption(parser):
    parser.addini("nb_rtol", "relative tolerance for decimals in notebook outputs", default="1e-4")
    parser.addini("nb_atol", "absolute tolerance for decimals in notebook outputs", default="1e-6")


def pytest_configure(config):
    private = tempfile.mkdtemp(prefix="nbval-ipython-")
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    root = str(config.rootpath)
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != root]
    os.environ.update(
        IPYTHONDIR=private,  # history goes to a throw-away place, not to the reader's ~/.ipython
        PYTHONPATH=os.pathsep.join([root, *inherited]),  # kernels and commands import this checkout
        PYTHONHASHSEED="0",
        MPLBACKEND="module://matplotlib_inline.backend_inline",
        MINILLM_QUIET="1",
    )


def pytest_runtest_logreport(report):
    path = report.nodeid.partition("::")[0]
    if path.endswith(".ipynb"):
        SECONDS[path] += report.duration


def pytest_terminal_summary(terminalreporter):
    if not SECONDS:
        return
    terminalreporter.section("chapter seconds")
    for path, seconds in sorted(SECONDS.items()):
        terminalreporter.write_line(f"{seconds:7.1f} s  {path}")
    terminalreporter.write_line(f"{sum(SECONDS.values()):7.1f} s  all notebooks")


compare_exactly = nbval.IPyNbCell.compare_outputs


def compare_outputs(self, test, ref, skip_compare=None):
    rtol, atol = float(self.config.getini("nb_rtol")), float(self.config.getini("nb_atol"))
    for tag in self.cell.metadata.get("tags", []):
        if tag.startswith("rtol-"):
            rtol = float(tag.removeprefix("rtol-"))
    if len(test) == len(ref):
        for new, old in zip(test, ref, strict=True):
            if (
                new.output_type == old.output_type == "stream"
                and new.name == old.name
                and close(old.text, new.text, rtol, atol)
            ):
                new.text = old.text
            for key in set(new.get("data", {})) & set(old.get("data", {})):
                if key.startswith("text/") and close(_blind(old.data[key]), _blind(new.data[key]), rtol, atol):
                    new.data[key] = old.data[key]
    return compare_exactly(self, test, ref, skip_compare)


def _blind(text: str) -> str:
    """Text without the pixels in it."""
    return PICTURE.sub(r"data:image/\1", text)


def execute_cell_input(self, cell_input, allow_stdin=None):
    return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


def await_reply(self, msg_id, timeout=None):
    """nbval's own, but it looks every half second whether the kernel still lives."""
    end = time.monotonic() + (timeout if timeout is not None else 1e9)
    while True:
        try:
            message = self.kc.get_shell_msg(timeout=0.5)
        except Empty:
            if not self.km.is_alive():
                raise RuntimeError("the kernel died while it ran this cell (out of memory?)") from None
            if time.monotonic() > end:
                raise
            continue
        if message["parent_header"].get("msg_id") == msg_id:
            return


get_kernel_message = nbval.IPyNbFile.get_kernel_message


def settle(messages, held):
    """What a front end would be left showing: nbval knows nothing of clear_output, display updates, Output widgets."""
    kept, clear, shown = [], False, {}
    for message in messages:
        kind, content = message["msg_type"], message["content"]
        if kind == "comm_msg" and "msg_id" in content["data"].get("state", {}):
            # an Output widget starts or stops capturing; errors still come through, and fail the cell
            (held.add if content["data"]["state"]["msg_id"] else held.discard)(content["comm_id"])
        elif held and kind in (*OUTPUT, "clear_output", "update_display_data"):
            continue
        elif kind == "clear_output":
            clear = True
            if content.get("wait"):
                continue
        elif kind == "update_display_data":
            old = shown.get(content.get("transient", {}).get("display_id"))
            if old:
                old["content"].update(data=content["data"], metadata=content["metadata"])
            continue
        if clear and kind in (*OUTPUT, "clear_output"):
            kept, clear = [m for m in kept if m["msg_type"] not in OUTPUT], False
        if kind == "clear_output":
            continue
        if kind in OUTPUT and (display_id := content.get("transient", {}).get("display_id")):
            shown[display_id] = message
        kept.append(message)
    return kept


def get_settled_message(self, timeout=None, stream="iopub"):
    """Read ahead to the end of the cell (idle, or an error), then hand the settled messages out one by one."""
    queue = self.__dict__.setdefault("_queue", [])
    while not queue:
        raw = []
        while not raw or not _ends_cell(raw[-1]):
            raw.append(get_kernel_message(self, timeout=timeout, stream=stream))
        queue += settle(raw, self.__dict__.setdefault("_held", set()))
    return queue.pop(0)


def _ends_cell(message):
    if message["msg_type"] == "status":
        asked = message["parent_header"].get("msg_type") == "execute_request"
        return asked and message["content"]["execution_state"] == "idle"
    return message["msg_type"] == "error"


nbval.IPyNbCell.compare_outputs = compare_outputs
nbval.IPyNbFile.get_kernel_message = get_settled_message
nbval_kernel.RunningKernel.execute_cell_input = execute_cell_input
nbval_kernel.RunningKernel.await_reply = await_reply
