"""Names that promise shapes: `score_bhts` is a tensor with the axes b, h, t, s, in that order.

The suffix of a name is a promise in two parts: the tensor has that many axes, and within one function
a letter always means one size. The legend is the same for the library, the notebooks and the exercises, and for
the patterns of einops.

Names:   the habit of naming axes is Noam Shazeer's ("Shape suffixes", 2024).
Differs: lower case, so that the suffix reads the same as an einops pattern.
Next:    minillm/core/runtime.py
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

LEGEND: dict[str, str] = {
    "b": "batch",
    "t": "query time",
    "s": "key time",
    "d": "model width",
    "h": "heads",
    "k": "width of one head",
    "f": "hidden width",
    "e": "experts",
    "v": "vocabulary",
    "r": "rank",
    "n": "items",
}


def broken_promises(local_names: Mapping[str, Any]) -> list[str]:
    """Say which names in a function's locals do not keep the promise of their suffix.

    A name takes part when it ends in an underscore and letters of `LEGEND`, and its value has a `shape`
    (a torch tensor or a numpy array).

    >>> import numpy as np
    >>> broken_promises({"x_bt": np.zeros((2, 3)), "y_bt": np.zeros((2, 4))})
    ['y_bt: axis t is 4, but x_bt has t=3']
    >>> broken_promises({"x_btd": np.zeros((2, 3))})
    ['x_btd promises 3 axes but has shape (2, 3)']
    """
    size: dict[str, tuple[int, str]] = {}
    wrong: list[str] = []
    for name, value in local_names.items():
        suffix, shape = _axes(name), getattr(value, "shape", None)
        if not suffix or not isinstance(shape, tuple):
            continue
        if len(shape) != len(suffix):
            wrong.append(f"{name} promises {len(suffix)} axes but has shape {tuple(shape)}")
            continue
        for axis, n in zip(suffix, shape, strict=True):
            first_n, first_name = size.setdefault(axis, (n, name))
            if first_n != n:
                wrong.append(f"{name}: axis {axis} is {n}, but {first_name} has {axis}={first_n}")
    return wrong


def _axes(name: str) -> str:
    """The axes that a name promises, such as "btd" for "x_btd"; empty when it promises none."""
    stem, _, suffix = name.rpartition("_")
    return suffix if stem and suffix and set(suffix) <= set(LEGEND) else ""


@contextmanager
def promise_checker(package: str = "minillm") -> Iterator[list[str]]:
    """Check the locals of every function of `package` as it returns, and collect what is broken.

    Uses `sys.setprofile`, so it is for tests: it slows Python code several times over.
    """
    found: list[str] = []
    promising: dict[CodeType, bool] = {}  # most functions promise nothing: look at their names once, not at each call

    def on_event(frame: FrameType, event: str, argument: object) -> None:
        if event != "return":
            return
        code = frame.f_code
        if code not in promising:
            ours = str(frame.f_globals.get("__name__", "")).startswith(package)
            names = (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
            promising[code] = ours and any(_axes(name) for name in names)
        if not promising[code]:
            return
        for promise in broken_promises(frame.f_locals):
            found.append(f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}: {promise}")

    previous = sys.getprofile()
    sys.setprofile(on_event)
    try:
        yield found
    finally:
        sys.setprofile(previous)
