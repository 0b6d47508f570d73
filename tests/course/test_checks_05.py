"""Chapter 05's checks: right answers pass in more than one form, wrong ones get the diagnosis that they deserve."""

import math

import numpy as np
import pytest
import torch
from refusals import refuse, stub

from minillm.course.checks import NotWrittenYet, check
from minillm.course.checks_05 import GAPS, longest_gap, recall_share


@pytest.mark.parametrize("name", ["windows", "through_time", "lstm_step", "gates"])
def test_a_stub_is_not_written_yet(name):
    with pytest.raises(NotWrittenYet, match="not written yet"):
        check(f"05.{name}", stub)


# 05.windows


def windows(tokens, n, padding):
    padded = [padding] * (n - 1) + tokens
    return [padded[i : i + n] for i in range(len(tokens))]


def windows_by_unfold(tokens, n, padding):
    return torch.tensor([padding] * (n - 1) + tokens).unfold(0, n, 1).tolist()


def windows_in_place(tokens, n, padding):
    tokens[:0] = [padding] * (n - 1)
    return [tokens[i : i + n] for i in range(len(tokens) - n + 1)]


@pytest.mark.parametrize("answer", [windows, windows_by_unfold])
def test_windows_accepts(answer, capsys):
    check("05.windows", answer)
    assert capsys.readouterr().out == "05.windows: correct\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x, n, p: windows(x, n, p)[n - 1 :], "the first places are missing"),
        (lambda x, n, p: [row[::-1] for row in windows(x, n, p)], "the order is turned round"),
        (lambda x, n, p: windows([p, *x], n, p)[:-1], "the window ends one too early"),
        (lambda x, n, p: [x[max(0, i - n + 1) : i + 1] for i in range(len(x))], "too short"),
        (lambda x, n, p: [(x + [p] * n)[i : i + n] for i in range(len(x))], "looks ahead"),
        (lambda x, n, p: [(x[max(0, i - n + 1) : i + 1] + [p] * n)[:n] for i in range(len(x))], "on the wrong side"),
        (lambda x, n, p: windows(x, n, 0), "the third argument stands before the text"),
        (lambda x, n, p: windows([p, *x], n, p), "one window too many"),
        (lambda x, n, p: x, "each window is a list of n tokens"),
        (lambda x, n, p: windows(x, 2, p), "n is larger than the text"),
        (windows_in_place, "changed its argument"),
        (lambda x, n, p: None, "is there a `return`?"),
        (lambda x, n, p: np.array(windows(x, n, p)), "list of lists"),
    ],
)
def test_windows_refuses(answer, says):
    refuse("05.windows", answer, says)


# 05.through_time


def through_time(x, w, u, *, slope=True, matrix=True, steps=None, now=False, order=1):
    h = [0.0]
    for value in x:
        h.append(math.tanh(w * h[-1] + u * value))
    g, of_w, of_u = 1.0, 0.0, 0.0
    for t in list(range(len(x), 0, -1))[:steps]:
        g *= 1 - h[t] ** 2 if slope else 1
        of_w, of_u = of_w + g * h[t if now else t - 1], of_u + g * x[t - 1]
        g *= w if matrix else 1
    return (of_w, of_u)[::order]


def through_time_by_autograd(x, w, u):
    w, u = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (w, u))
    h = torch.zeros((), dtype=torch.float64)
    for value in x:
        h = torch.tanh(w * h + u * value)
    h.backward()
    return w.grad.item(), u.grad.item()


def with_slip(**slip):
    return lambda x, w, u: through_time(x, w, u, **slip)


@pytest.mark.parametrize("answer", [through_time, through_time_by_autograd, lambda *a: list(through_time(*a))])
def test_through_time_accepts(answer):
    check("05.through_time", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (with_slip(slope=False), "the slope of tanh is missing"),
        (with_slip(matrix=False), "multiplies by w, which is missing"),
        (with_slip(steps=1), "only the last step is counted"),
        (with_slip(now=True), "the state *before* the step"),
        (with_slip(order=-1), "the two are swapped"),
        (lambda x, w, u: tuple(part / len(x) for part in through_time(x, w, u)), "do not take the mean"),
        (lambda x, w, u: through_time(x, w, u)[0], "return two numbers"),
        (
            lambda x, w, u: np.sum([through_time(x[: t + 1], w, u) for t in range(len(x))], axis=0),
            "only the last state counts",
        ),
        (lambda x, w, u: None, "is there a `return`?"),
        (lambda x, w, u: through_time(x[-3:], w, u), "walk back from the last step"),
        (with_slip(steps=4), "walk back from the last step"),
    ],
)
def test_through_time_refuses(answer, says):
    refuse("05.through_time", answer, says)


# 05.lstm_step


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def lstm_step(x, h, c, gates, *, names="ifgo", keep=float, squash=math.tanh, show=math.tanh, old=False, order=1):
    i, f, g, o = (w * x + v * h + b for w, v, b in (gates[name] for name in names))
    new_c = keep(sigmoid(f) * c + sigmoid(i) * squash(g))
    return (sigmoid(o) * show(c if old else new_c), new_c)[::order]


def lstm_by_torch(x, h, c, gates):
    rows = torch.tensor([gates[name] for name in "ifgo"], dtype=torch.float64)
    i, f, g, o = rows @ torch.tensor([x, h, 1.0], dtype=torch.float64)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return float(o.sigmoid() * c.tanh()), float(c)


def as_given(x, h, c, gates):
    i, f, g, o = (sigmoid(w * x + v * h + b) for w, v, b in (gates[name] for name in "ifgo"))
    c = math.tanh(f * c + i * g)
    return o * c, c


def no_state(x, h, c, gates):
    return lstm_step(x, 0.0, c, gates)


def step_with(**slip):
    return lambda x, h, c, gates: lstm_step(x, h, c, gates, **slip)


@pytest.mark.parametrize("answer", [lstm_step, lstm_by_torch, lambda *a: list(lstm_step(*a))])
def test_lstm_step_accepts(answer):
    check("05.lstm_step", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (as_given, "the memory went through tanh"),
        (step_with(keep=math.tanh, show=float), "the memory went through tanh"),
        (step_with(squash=sigmoid), "it may be negative"),
        (step_with(squash=float), "the candidate g goes through tanh"),
        (step_with(show=float), "what is shown goes through tanh"),
        (step_with(names="figo"), "exchanged"),
        (step_with(order=-1), "exchanged"),
        (step_with(names="ofgi"), "the memory after a step with f = 1"),
        (step_with(old=True), "the *new* memory"),
        (no_state, "its own three numbers"),
        (lambda *a: lstm_step(*a)[0], "wanted a pair"),
        (lambda *a: None, "is there a `return`?"),
    ],
)
def test_lstm_step_refuses(answer, says):
    refuse("05.lstm_step", answer, says)


# 05.gates

GOOD = {"i": (0, 40, 0, -20), "f": (0, -40, 0, 20), "g": (3, 0, 0, 0), "o": (0, 0, 0, 20)}


def changed(**rows):
    return lambda: GOOD | rows


@pytest.mark.parametrize("answer", [changed(), changed(f=(0, 0, 0, 20)), changed(g=(1.0, 0, 0, 0), o=[0, 0, 0, 0])])
def test_gates_accepts(answer):
    check("05.gates", answer)


def test_the_reference_keeps_a_sign_over_every_gap():
    assert longest_gap(GOOD) == GAPS[-1]


def test_guessing_is_a_coin():
    only_noise = GOOD | {"f": (0, 0, 0, -20), "i": (0, 0, 0, 20)}
    assert 0.4 < recall_share(only_noise, gap=10, rows=1000) < 0.6


def test_an_earlier_slip_ends_the_score_earlier():
    leaks = [longest_gap(GOOD | {"f": (0, 0, 0, bias)}) for bias in (-1, 2, 5, 9)]
    assert leaks == sorted(leaks) and leaks[0] < leaks[-1]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (changed(i=(0, 0, 0, -20)), "the fact is never written"),
        (changed(g=(3, 0, 0, 5)), "drown the value"),
        (changed(i=(0, 0, 0, 20)), "noise is written at every step"),
        (changed(i=(0, 0, 0, 0)), "noise is written at every step"),
        (changed(i=(0, -40, 0, 20)), "shut when the flag is 1"),
        (changed(f=(0, 0, 0, 1)), "the forget gate stands at 0.731"),
        (changed(f=(0, 40, 0, -20)), "the forget gate stands at"),
        (changed(g=(0, 3, 0, 0)), "does not look at the value"),
        (changed(g=(-3, 0, 0, 0)), "the wrong sign"),
        (changed(o=(0, 40, 0, -20)), "nothing is shown"),
        (changed(f=(-60, 0, 0, 20)), "should look at the flag alone"),
        (changed(f=(0, 0, 20)), "four finite numbers"),
        (changed(f=(0, 0, 0, 5000)), "within ± 100"),
        (lambda: {name: GOOD[name] for name in "ifo"}, "has the keys"),
        (lambda: None, "is there a `return`?"),
    ],
)
def test_gates_refuses(answer, says):
    refuse("05.gates", answer, says)
