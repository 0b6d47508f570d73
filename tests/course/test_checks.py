"""Checks as a learner meets them: one line when right, a short diagnosis when wrong, never a traceback of ours."""

import math
import sys
import types
import warnings

import numpy as np
import pytest

from minillm.course import checks
from minillm.course.checks import Wrong, check


@pytest.fixture
def chapter(monkeypatch):
    """A chapter 98 whose checks the test fills in."""
    module = types.ModuleType("minillm.course.checks_98")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def add(function):
        function.__module__ = module.__name__
        setattr(module, function.__name__, function)

    return add


def test_right_prints_one_line_and_returns_none(chapter, capsys):
    def double(answer):
        checks.expect_equal(checks.call(answer, 4), 8, "double(4)")

    chapter(double)
    assert check("98.double", lambda x: 2 * x) is None
    assert capsys.readouterr() == ("98.double: correct\n", "")


def test_nothing_reaches_stderr(chapter, capsys):
    """nbgrader gives 0 points to a cell with anything on stderr."""

    def noisy(answer):
        checks.call(answer)

    def answer():
        warnings.warn("careful", stacklevel=1)
        print("debug", file=sys.stderr)

    chapter(noisy)
    check("98.noisy", answer)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (lambda x: x + 1, Wrong, r"98\.double: double\(4\) gave 5, wanted 8"),
        (lambda: 8, Wrong, r"your <lambda>\(4\) raised TypeError"),
        (lambda x: {}[x], Wrong, "raised KeyError: 4"),
        (lambda x: sys.exit(0), Wrong, "raised SystemExit"),
        (lambda x: None, Wrong, r"(?s)which is a NoneType; wanted int.*is there a `return`"),
        (8, Wrong, "is not a function"),
        (lambda x: checks_stub(), checks.NotWrittenYet, "98.double is not written yet"),
    ],
)
def test_what_a_wrong_answer_is_told(chapter, answer, kind, said):
    def double(answer):
        checks.expect_equal(checks.call(answer, 4), 8, "double(4)")

    chapter(double)
    with pytest.raises(kind, match=said) as caught:
        check("98.double", answer)
    assert type(caught.value) is kind
    shown = "\n".join(caught.value._render_traceback_())
    assert "Traceback" not in shown and len(shown.splitlines()) <= 3


def checks_stub():
    raise NotImplementedError


def test_recursion_has_an_end(chapter):
    def loops(answer):
        checks.call(answer, 3)

    def forever(x):
        return forever(x)

    chapter(loops)
    with pytest.raises(Wrong, match="never stopped calling itself"):
        check("98.loops", forever)


def test_a_check_that_breaks_on_an_answer_still_says_something_useful(chapter):
    def fragile(answer):
        checks.call(answer).shape  # noqa: B018

    chapter(fragile)
    with pytest.raises(Wrong, match=r"cannot work with \(AttributeError.*(?s:.)*Hint: compare the type"):
        check("98.fragile", lambda: 3)


@pytest.mark.parametrize("name", ["double", "98.Double", "98.", "9.double", "98.double()", "77.double", "98.other", ""])
def test_a_name_that_no_check_has(chapter, name):
    chapter(test_recursion_has_an_end)
    with pytest.raises(ValueError, match="name="):
        check(name, len)


def test_a_check_of_another_module_is_not_one(chapter):
    with pytest.raises(ValueError, match="not a check"):
        sys.modules["minillm.course.checks_98"].call = checks.call
        check("98.call", len)


@pytest.mark.parametrize(
    "got", [float("nan"), [1.0, float("nan")], np.array([1.0, np.nan]), [1.0], "ab", None, object()]
)
def test_close_refuses_what_is_not_close(got):
    with pytest.raises(Wrong):
        checks.expect_close(got, [1.0, 2.0])


def test_close_takes_what_is_close():
    torch = pytest.importorskip("torch")
    checks.expect_close(torch.ones(2, 3), np.ones((2, 3)))
    checks.expect_close([1.0 + 1e-8, math.inf], [1.0, math.inf])
    checks.expect_close(1e6 + 0.5, 1e6)  # relative above 1
    with pytest.raises(Wrong, match=r"shape \(2,\), wanted \(2, 1\)"):
        checks.expect_close(np.ones(2), np.ones((2, 1)))
    with pytest.raises(Wrong, match=r"at position \(1, 2\)"):
        checks.expect_close([[0, 0, 0], [0, 0, 1]], np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("got", "wanted"), [(1, True), (True, 1), ([1, 2], [1, 3]), ("ab", "abc"), ((1,), [1]), (None, 0), ({1: 2}, {1: 3})]
)
def test_equal_is_strict(got, wanted):
    with pytest.raises(Wrong):
        checks.expect_equal(got, wanted)


def test_inputs_stay_the_authors_own():
    data = [3, 1, 2]
    assert checks.call(lambda x: x.sort() or x, data) == [1, 2, 3]
    assert data == [3, 1, 2]
    with pytest.raises(Wrong, match=r"changed its argument number 1 to \[1, 2, 3\]"):
        checks.expect_inputs_kept(lambda x: x.sort(), [3, 1, 2])
    assert checks.expect_inputs_kept(sorted, [3, 1, 2]) == [1, 2, 3]


def test_expected_exceptions():
    checks.expect_raises(ValueError, int, "x")
    with pytest.raises(Wrong, match=r"accepted its arguments and gave 3; it should raise ValueError"):
        checks.expect_raises(ValueError, int, "3")
    with pytest.raises(Wrong, match=r"raised TypeError.*should raise ValueError"):
        checks.expect_raises(ValueError, int, None)


def test_ipython_shows_the_message_alone(chapter):
    """In a real shell: no line of minillm's own code in what a learner sees."""
    from IPython.core.interactiveshell import InteractiveShell

    def double(answer):
        raise Wrong("it is odd", hint="double it")

    chapter(double)
    shell, shown = InteractiveShell(), []
    shell._showtraceback = lambda kind, value, lines: shown.extend(lines)
    shell.run_cell("from minillm.course.checks import check\ncheck('98.double', len)")
    assert shown == ["✗ Wrong: 98.double: it is odd", "  Hint: double it"]


# chapter 00 ---------------------------------------------------------------------------------------------------------


def guarded(formula):
    def bits(total_nats, characters):
        if characters < 1:
            raise ValueError
        return formula(total_nats, characters)

    return bits


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (guarded(lambda n, c: n / c), "still nats"),
        (guarded(lambda n, c: n * math.log(2) / c), "multiply by ln 2"),
        (guarded(lambda n, c: n / math.log(10) / c), "decimal digits"),
        (guarded(lambda n, c: n / math.log(2)), "divide by the number of characters"),
        (guarded(lambda n, c: n / math.log(2) * c), "divide by the number of characters"),
        (guarded(lambda n, c: round(n / math.log(2) / c, 2)), r"00\.bits: bits\("),
        (guarded(lambda n, c: print(n)), "is there a `return`"),
        (lambda n, c: n / math.log(2) / max(c, 1), "no mean: raise ValueError"),
        (lambda n, c: n / math.log(2) / c, "raised ZeroDivisionError.*should raise ValueError"),
    ],
)
def test_wrong_answers_of_00_bits(answer, said):
    with pytest.raises(Wrong, match=said):
        check("00.bits", answer)


def test_the_right_answer_of_00_bits(capsys):
    check("00.bits", guarded(lambda n, c: n / math.log(2) / c))
    assert capsys.readouterr().out == "00.bits: correct\n"
