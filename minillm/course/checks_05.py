"""Checks of chapter 05: windows, back-propagation through time, a leaking memory, and gates without training.

All four answers take and give plain numbers and lists. The open exercise is judged by the longest gap over which an
LSTM of one unit, with the learner's weights, still knows the sign that it was told.

Next:    minillm/course/grading.py
"""

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minillm.course.checks import Wrong, call, expect, expect_close, expect_equal, expect_inputs_kept, expect_type

GAPS = (3, 10, 30, 100, 300, 1000)
GOAL = 300
VISIBLE = 0.01  # an answer smaller than this counts as none
Gates = dict[str, tuple[float, float, float, float]]


def _return(got: object, what: str) -> str:
    return "is there a `return`?" if got is None else f"return {what}"


def windows(answer: Callable[[list[int], int, int], list[list[int]]]) -> None:
    """`windows(tokens, n, padding)`: for each place the last n tokens up to and with it, padded at the left."""
    got: Any = call(answer, [7, 8, 9], 2, 0)
    hint = _return(got, "a list of lists, one for each token")
    expect_type(got, list, "windows([7, 8, 9], 2, 0)", hint)
    rows = all(isinstance(row, list | tuple) for row in got)
    expect(rows, f"windows([7, 8, 9], 2, 0) gave {got!r:.80}", "each window is a list of n tokens, one list a place")
    expect_equal(
        [list(row) for row in got], [[0, 7], [7, 8], [8, 9]], "windows([7, 8, 9], 2, 0)", _windows_cause([*got])
    )
    chance = random.Random()
    for _ in range(8):
        length, n, padding = chance.randint(1, 7), chance.randint(1, 5), chance.choice([-1, 0, 99])
        tokens = [chance.randrange(10, 50) for _ in range(length)]
        padded = [padding] * (n - 1) + tokens
        wanted = [padded[i : i + n] for i in range(length)]
        rows = [list(row) for row in call(answer, tokens, n, padding) or []]
        cause = "n - 1 times the third argument stands before the text, also where n is larger than the text"
        expect_equal(rows, wanted, f"windows({tokens}, {n}, {padding})", cause)
    expect_inputs_kept(answer, [3, 1, 4, 1, 5], 3, 0)


def _windows_cause(rows: list[Any]) -> str:
    rows = [list(row) if isinstance(row, list | tuple) else row for row in rows]
    causes: list[tuple[list[Any], str]] = [
        ([[7, 8], [8, 9]], "the first places are missing: stand n - 1 times the padding before the text"),
        ([[0, 0], [0, 7], [7, 8], [8, 9]], "one window too many: stand n - 1 times the padding before the text, not n"),
        ([[7, 0], [8, 7], [9, 8]], "the order is turned round: the oldest token comes first"),
        ([[0, 0], [0, 7], [7, 8]], "the window ends one too early: it ends *with* the token of its place"),
        ([[7], [7, 8], [8, 9]], "rows near the start are too short: fill them with the padding at the left"),
        ([[7, 0], [7, 8], [8, 9]], "the padding stands on the wrong side: what is missing is the *past*, at the left"),
        ([[7, 8], [8, 9], [9, 0]], "the window looks ahead: it may hold only tokens up to its place"),
    ]
    return next((text for value, text in causes if value == rows), "each row holds the last n tokens, its own the last")


def _forward(x: list[float], w: float, u: float) -> list[float]:
    states = [0.0]
    for now in x:
        states.append(math.tanh(w * states[-1] + u * now))
    return states


def _through_time(
    x: list[float],
    w: float,
    u: float,
    *,
    slope: Callable[[float], float] = lambda h: 1 - h**2,
    back: Callable[[float, float], float] = lambda w, u: w,
    only_last: bool = False,
    here: bool = False,
) -> tuple[float, float]:
    """The gradients (∂h_T/∂w, ∂h_T/∂u); the flags make the slips that the check can name."""
    states, g, of_w, of_u = _forward(x, w, u), 1.0, 0.0, 0.0
    for t in range(len(x), 0, -1):
        g *= slope(states[t])
        of_w, of_u = of_w + g * states[t if here else t - 1], of_u + g * x[t - 1]
        g *= back(w, u)
        if only_last:
            break
    return of_w, of_u


_SLIPS = (
    (partial(_through_time, only_last=True), "only the last step is counted: w and u were used at *every* step"),
    (partial(_through_time, slope=lambda h: 1.0), "the slope of tanh is missing: multiply by 1 - h² at every step"),
    (partial(_through_time, slope=lambda h: 1 - h), "the slope of tanh is 1 - h², not 1 - h"),
    (partial(_through_time, back=lambda w, u: 1.0), "going one step back multiplies by w, which is missing"),
    (partial(_through_time, back=lambda w, u: u), "going one step back multiplies by w, not by u"),
    (
        lambda x, w, u: np.sum([_through_time(x[: t + 1], w, u) for t in range(len(x))], axis=0),
        "only the last state counts: g is 1 there, and nothing is added to g on the way back",
    ),
    (partial(_through_time, here=True), "w multiplied the state *before* the step: h[t - 1], not h[t]"),
    (lambda x, w, u: _through_time(x, w, u)[::-1], "the two are swapped: first the gradient of w, then that of u"),
    (
        lambda x, w, u: tuple(part / len(x) for part in _through_time(x, w, u)),
        "the steps add up: sum them, do not take the mean",
    ),
)


def through_time(answer: Callable[[list[float], float, float], Any]) -> None:
    """`through_time(x, w, u)`: the pair (∂h_T/∂w, ∂h_T/∂u) for h_t = tanh(w h_(t-1) + u x_t), h_0 = 0."""
    chance = random.Random()
    cases = [([0.5], 0.8, 0.6), ([1.0, 0.0], 0.5, 0.7), ([0.5, -0.3, 0.8], 0.9, 0.7)]
    cases += [
        ([chance.uniform(-1, 1) for _ in range(length)], chance.uniform(0.4, 1.3), chance.uniform(0.3, 1.0))
        for length in (2, 4, 9)
    ]
    for x, w, u in cases:
        got = call(answer, x, w, u)
        if got is None:
            expect_type(got, tuple, f"through_time({x}, {w}, {u})", "is there a `return`?")
        what = f"through_time({_short(x)}, {w:.3g}, {u:.3g})"
        expect_close(got, _through_time(x, w, u), what=what, hint=_time_cause(got), tolerance=1e-5)
    x = [0.0] * 4
    expect_close(call(answer, x, 0.9, 0.5), (0.0, 0.0), what="through_time([0.0, 0.0, 0.0, 0.0], 0.9, 0.5)")
    expect_inputs_kept(answer, [0.5, -0.2, 0.1], 0.9, 0.4)


def _short(x: list[float]) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in x) + "]"


def _time_cause(got: Any) -> str:
    """Name a slip that gives this very answer on one of the fixed cases."""
    if np.shape(got) != (2,):
        return "return two numbers: the gradient of w and the gradient of u"
    for x, w, u in (([0.5, -0.3, 0.8], 0.9, 0.7), ([1.0, 0.0], 0.5, 0.7), ([0.5], 0.8, 0.6)):
        for slip, cause in _SLIPS:
            wanted = slip(x, w, u)
            try:
                if np.allclose(np.asarray(got, float), wanted, atol=1e-6):
                    return cause
            except (TypeError, ValueError):
                return "return two numbers: the gradient of w and the gradient of u"
    return "walk back from the last step: g = 1, then at each step g · (1 - h²), collect, and g · w"


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _lstm(x: float, h: float, c: float, gates: Gates) -> tuple[float, float]:
    i, f, g, o = (w * x + v * h + b for w, v, b in (gates[name] for name in "ifgo"))  # type: ignore[misc]
    c = _sigmoid(f) * c + _sigmoid(i) * math.tanh(g)
    return _sigmoid(o) * math.tanh(c), c


def lstm_step(answer: Callable[[float, float, float, dict], Any]) -> None:
    """`lstm_step(x, h, c, gates)`: the new (h, c) of an LSTM of one unit; gates maps i, f, g, o to (w, v, b)."""
    shut, wide = (0.0, 0.0, -50.0), (0.0, 0.0, 50.0)
    keep: Any = {"i": shut, "f": wide, "g": (1.0, 0.0, 0.0), "o": wide}
    got: Any = call(answer, 0.7, 0.2, 1.5, keep)
    _expect_pair(got)
    cause = "with f = 1 and i = 0 the memory stays as it is: c' = f · c + i · g"
    if math.isclose(got[1], math.tanh(1.5), abs_tol=1e-9):
        cause = "the memory went through tanh; only what is *shown* does: h' = o · tanh(c'), and c' stays as it is"
    if math.isclose(got[1], 0.0, abs_tol=1e-9) or math.isclose(got[1], math.tanh(0.7), abs_tol=1e-9):
        cause = "the memory is gone though f = 1: are f and i exchanged?"
    if math.isclose(got[0], 1.5, abs_tol=1e-9) and math.isclose(got[1], math.tanh(1.5), abs_tol=1e-9):
        cause = "h' and c' are exchanged: return (h', c')"
    expect_close(got[1], 1.5, what="the memory after a step with f = 1, i = 0, c = 1.5", hint=cause)
    cause = "h' = o · tanh(c'): what is shown goes through tanh"
    expect_close(got[0], math.tanh(1.5), what="h' after that step, with o = 1", hint=cause)
    write: Any = {"i": wide, "f": shut, "g": (1.0, 0.0, 0.0), "o": wide}
    got = call(answer, 0.7, 0.2, 1.5, write)
    cause = "with f = 0 and i = 1 the memory is the candidate alone, tanh(0.7)"
    if math.isclose(got[1], 0.7, abs_tol=1e-9):
        cause = "the candidate g goes through tanh"
    if math.isclose(got[1], math.tanh(0.2), abs_tol=1e-9):
        cause = "x and h are exchanged: w · x + v · h + b, in this order"
    if math.isclose(got[1], _sigmoid(0.7), abs_tol=1e-9):
        cause = "the candidate g goes through tanh, not through the logistic function: it may be negative"
    expect_close(got[1], math.tanh(0.7), what="the memory after a step with f = 0, i = 1, candidate 0.7", hint=cause)
    chance = random.Random()
    for _ in range(8):
        gates: Any = {name: tuple(chance.uniform(-2, 2) for _ in range(3)) for name in "ifgo"}
        x, h, c = (chance.uniform(-1, 1) for _ in range(3))
        new_h, new_c = _lstm(x, h, c, gates)
        got = call(answer, x, h, c, gates)
        cause = "each gate is w · x + v · h + b with its own three numbers, then the logistic function (g: tanh)"
        f, g = (w * x + v * h + b for w, v, b in (gates[name] for name in "fg"))
        if math.isclose(got[1], _sigmoid(f) * c + (1 - _sigmoid(f)) * math.tanh(g), abs_tol=1e-9):
            cause = "what is written is weighed by the input gate i, not by 1 - f: an LSTM may keep *and* write"
        expect_close(got[1], new_c, what="c' for random gates", hint=cause)
        cause = "h' shows the *new* memory: o · tanh(c'), and o looks at the old h"
        expect_close(got[0], new_h, what="h' for random gates", hint=cause)
    expect_inputs_kept(answer, 0.5, 0.1, -0.3, keep)


def _expect_pair(got: Any) -> None:
    if got is None:
        expect_type(got, tuple, "lstm_step(...)", "is there a `return`?")
    expect(
        isinstance(got, tuple | list) and len(got) == 2,
        f"lstm_step(...) gave {got!r:.80}, wanted a pair",
        "return both: the new state h and the new memory c",
    )


def recall_share(weights: Gates, gap: int, rows: int = 200, seed: int = 0) -> float:
    """Share of texts in which an LSTM of one unit still has the sign of the value that was flagged `gap` steps ago.

    At the first step the flag is 1 and the value is +1 or -1; then come `gap` steps with flag 0 and values between -1
    and 1. An answer h between -0.01 and 0.01 counts as none. `weights` maps i, f, g, o to (weight of the value,
    weight of the flag, weight of h, bias).

    >>> nothing = {name: (0.0, 0.0, 0.0, 0.0) for name in "ifgo"}
    >>> recall_share(nothing, gap=3)
    0.0
    """
    generator = np.random.default_rng(seed)
    fact_n = generator.choice([-1.0, 1.0], size=rows)
    h_n, c_n = np.zeros(rows), np.zeros(rows)
    with np.errstate(over="ignore"):
        for step in range(gap + 1):
            value_n, flag = (fact_n, 1.0) if step == 0 else (generator.uniform(-1, 1, size=rows), 0.0)
            a, d, v, b = (np.array([weights[name][k] for name in "ifgo"])[:, None] for k in range(4))
            i_n, f_n, g_n, o_n = a * value_n + d * flag + v * h_n + b
            i_n, f_n, o_n = (1 / (1 + np.exp(-gate)) for gate in (i_n, f_n, o_n))
            c_n = f_n * c_n + i_n * np.tanh(g_n)
            h_n = o_n * np.tanh(c_n)
    return float((h_n * fact_n > VISIBLE).mean())


def longest_gap(weights: Gates) -> int:
    """The score of the open exercise: the longest of `GAPS` over which at least 99 of 100 signs are kept, or 0.

    >>> longest_gap({"i": (0, 0, 0, 9), "f": (0, 0, 0, 9), "g": (2, 0, 0, 0), "o": (0, 0, 0, 9)})  # writes always
    0
    """
    longest = 0
    for gap in GAPS:
        if recall_share(weights, gap) < 0.99:
            break
        longest = gap
    return longest


def gates(answer: Callable[[], Gates]) -> None:
    """`gates()`: weights, chosen by thinking, with which one LSTM unit keeps a sign over 300 steps of noise."""
    weights: Any = call(answer)
    hint = _return(weights, '{"i": (…), "f": (…), "g": (…), "o": (…)}')
    expect_type(weights, dict, "gates()", hint)
    expect(set(weights) == set("ifgo"), f"gates() has the keys {sorted(weights)}, wanted f, g, i, o", hint)
    for name, row in weights.items():
        good = isinstance(row, tuple | list) and len(row) == 4
        good = good and all(isinstance(n, int | float) and math.isfinite(n) for n in row)
        cause = "each row is (weight of the value, weight of the flag, weight of h, bias), four finite numbers"
        expect(good, f"gates()[{name!r}] is {row!r:.80}", cause)
        large = max(abs(n) for n in row)
        cause = "at 20 the logistic function is open to eight digits"
        expect(large <= 100, f"gates()[{name!r}] holds {large:g}; keep all weights within ± 100", cause)
    if (reached := longest_gap(weights)) < GOAL:
        failed = GAPS[GAPS.index(reached) + 1] if reached else GAPS[0]
        share = recall_share(weights, failed)
        raise Wrong(
            f"right signs up to a gap of {reached}, wanted {GOAL}; at {failed} only {share:.0%} are right",
            _gates_cause(weights, failed),
        )


def _gates_cause(weights: Gates, gap: int) -> str:
    def level(name: str, flag: float) -> float:
        """The gate's value, before noise: value 0, h 0."""
        return _sigmoid(weights[name][1] * flag + weights[name][3])

    if level("i", 1.0) < 0.5:
        return "the input gate is shut when the flag is 1, so the fact is never written"
    if abs(weights["g"][0]) < 1e-9:
        return "the candidate g does not look at the value, so there is nothing to write"
    if weights["g"][0] < 0:
        return "the candidate g has the wrong sign: a negative weight of the value writes the opposite"
    if abs(weights["g"][1] + weights["g"][3]) > abs(weights["g"][0]):
        return "the bias and the flag drown the value in the candidate g: its sign must be the sign of the value"
    if level("o", 0.0) < 1e-3:
        return "the output gate is shut at the end, so nothing is shown"
    if level("i", 0.0) > 0.05:
        return f"the input gate stands at {level('i', 0.0):.2f} when the flag is 0, so noise is written at every step"
    kept = level("f", 0.0)
    if kept**gap < 0.2:
        return f"the forget gate stands at {kept:.3g} when the flag is 0; after {gap} steps {kept**gap:.0e} is left"
    return "noise still gets in: do the gates i and f look at the value or at h? They should look at the flag alone"
