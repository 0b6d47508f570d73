"""The hook that every test of this repository runs under sees a name that breaks its promise."""

import numpy as np
import pytest

from minillm.core.notation import promise_checker

CODE = """
def outer(n):
    x_bt = zeros((2, 3))
    def inner():
        y_t = zeros(n)
        return y_t
    return inner(), x_bt
def plain(a_list):
    b = zeros((1, 1))
    return b
"""


@pytest.mark.no_promises
def test_a_broken_promise_is_seen_wherever_it_is():
    ours = {"__name__": "minillm.pretend", "zeros": np.zeros}
    exec(compile(CODE, "pretend", "exec"), ours)
    with promise_checker() as broken:
        ours["outer"](3)
        ours["plain"]([1])
    assert broken == []
    with promise_checker() as broken:
        ours["outer"]((3, 4))
        ours["outer"]((3, 4))
    assert broken == ["minillm.pretend.outer.<locals>.inner: y_t promises 1 axes but has shape (3, 4)"] * 2


@pytest.mark.no_promises
def test_other_peoples_functions_are_left_alone():
    theirs = {"__name__": "numpyish", "zeros": np.zeros}
    exec(compile(CODE, "pretend", "exec"), theirs)
    with promise_checker() as broken:
        theirs["outer"]((3, 4))
    assert broken == []


def test_every_test_runs_under_the_hook():
    import sys

    assert sys.getprofile() is not None
