"""Chapter 09's checks: right answers pass in more than one form, wrong ones get the diagnosis that they deserve."""

import math

import numpy as np
import pytest
import torch
from refusals import refuse, stub

from minillm.course import checks_09
from minillm.course.checks import NotWrittenYet, check
from minillm.statistical.sampling import next_distribution


@pytest.mark.parametrize("name", ["targets", "top_p", "cached_reads", "causal_weights", "budget"])
def test_a_stub_is_not_written_yet(name):
    with pytest.raises(NotWrittenYet, match="not written yet"):
        check(f"09.{name}", stub)


# 09.targets


def targets(tokens, t, shift=1, step=None, least=1):
    starts = range(0, len(tokens) - t - least + 1, step or t)
    return [(tokens[i : i + t], tokens[i + shift : i + t + shift]) for i in starts]


def targets_by_torch(tokens, t):
    n = (len(tokens) - 1) // t
    x, y = (torch.tensor(part[: n * t]).view(n, t).tolist() for part in (tokens, tokens[1:]))
    return list(zip(x, y, strict=True))


def targets_in_place(tokens, t):
    pieces = targets(tokens, t)
    tokens.clear()
    return pieces


@pytest.mark.parametrize("answer", [targets, targets_by_torch, lambda *a: [list(pair) for pair in targets(*a)]])
def test_targets_accepts(answer, capsys):
    check("09.targets", answer)
    assert capsys.readouterr().out == "09.targets: correct\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x, t: targets(x, t, shift=0), "nothing is predicted"),
        (
            lambda x, t: [(x[i : i + t], x[i + t : i + 2 * t]) for i in range(0, len(x) - 2 * t + 1, t)],
            "not the next piece",
        ),
        (lambda x, t: [pair[::-1] for pair in targets(x, t)], "exchanged"),
        (lambda x, t: targets(x, t, step=1), "the pieces overlap"),
        (lambda x, t: targets(x, t, step=t + 1), "the last piece is missing"),
        (lambda x, t: targets(x, t, least=2), "the last piece is missing"),
        (
            lambda x, t: [(x[i : i + t], x[i + 1 : i + t + 1]) for i in range(0, len(x) - 1, t)],
            "a shorter rest is left out",
        ),
        (lambda x, t: targets(x, 2), "a piece needs t inputs"),
        (targets_in_place, "changed its argument"),
        (lambda x, t: None, "is there a `return`?"),
    ],
)
def test_targets_refuses(answer, says):
    refuse("09.targets", answer, says)


# 09.top_p


def top_p(p, mass, *, crossing=True, scale=True, sort=-1):
    kept, total = [0.0] * len(p), 0.0
    for i in sorted(range(len(p)), key=lambda i: sort * p[i]):
        if total >= mass - 1e-12 or (not crossing and total + p[i] > mass + 1e-12 and total):
            break
        kept[i], total = p[i], total + p[i]
    return [x / total for x in kept] if scale else kept


def top_p_by_library(p, mass):
    return next_distribution(np.log(p), top_p=mass).tolist()


def top_p_in_place(p, mass):
    p[:] = top_p(p, mass)
    return p


@pytest.mark.parametrize("answer", [top_p, top_p_by_library])
def test_top_p_accepts(answer):
    check("09.top_p", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda p, m: top_p(p, m, crossing=False), "the token that crosses the mark"),
        (lambda p, m: top_p(p, m, scale=False), "must sum to one again"),
        (lambda p, m: sorted(top_p(p, m), reverse=True), "the order of the tokens is lost"),
        (lambda p, m: top_p(p, m, sort=1), "begin with the likeliest"),
        (lambda p, m: p, "stop once the mass is reached"),
        (lambda p, m: top_p(p, 0.6), "with mass 1 every token"),
        (lambda p, m: [x / max(1e-9, sum(y for y in p if y > m)) * (x > m) for x in p], "until their mass *reaches*"),
        (lambda p, m: top_p(p, m + 1e-6), "a set that reaches the mass exactly"),
        (top_p_in_place, "changed its argument"),
        (lambda p, m: None, "is there a `return`?"),
    ],
)
def test_top_p_refuses(answer, says):
    refuse("09.top_p", answer, says)


# 09.cached_reads


def cached_reads(prompt, new, *, last=0, place=0, keys=1):
    if new == 0:
        return []
    rest = [(prompt + i + place, 1, prompt + i + keys) for i in range(new - 1 + last)]
    return [(0, prompt, prompt), *rest]


@pytest.mark.parametrize("answer", [cached_reads, lambda p, n: [list(row) for row in cached_reads(p, n)]])
def test_cached_reads_accepts(answer):
    check("09.cached_reads", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda p, n: cached_reads(p, n, last=1), "drawn but never read"),
        (lambda p, n: [(0, p + i, p + i) for i in range(n)], "*without* a cache"),
        (lambda p, n: [(0, *row[1:]) for row in cached_reads(p, n)], "positions start again at 0"),
        (lambda p, n: [(0, p, p)] + [(p + i, 1, 1) for i in range(n - 1)], "not at itself alone"),
        (lambda p, n: cached_reads(p, n, keys=0), "also looks at itself"),
        (lambda p, n: cached_reads(p, n, place=1), "the next stands at position 5"),
        (lambda p, n: [(row[0] + 1, *row[1:]) for row in cached_reads(p, n)], "begins at position 0"),
        (lambda p, n: cached_reads(p, max(n, 1)), "with nothing to draw"),
        (lambda p, n: cached_reads(5, n), "one pass for each token"),
        (lambda p, n: None, "is there a `return`?"),
    ],
)
def test_cached_reads_refuses(answer, says):
    refuse("09.cached_reads", answer, says)


# 09.causal_weights


def causal(score, *, ahead=0, first=False, turned=False, top="seen"):
    rows = []
    for t, row in enumerate(score):
        seen = [s >= t if turned else s <= t + ahead for s in range(len(row))]
        largest = {"seen": max(x for x, ok in zip(row, seen, strict=True) if ok), "all": max(row), "none": 0.0}[top]
        e = [math.exp(x - largest) if ok or first else 0.0 for x, ok in zip(row, seen, strict=True)]
        total = sum(e) if first else sum(x for x, ok in zip(e, seen, strict=True) if ok)
        rows.append([x / total if ok else 0.0 for x, ok in zip(e, seen, strict=True)])
    return rows


def causal_by_torch(score):
    x_ts = torch.tensor(score, dtype=torch.float64)
    return x_ts.masked_fill(torch.ones_like(x_ts).triu(1).bool(), -math.inf).softmax(-1).tolist()


def only_before(score):
    rows = causal_by_torch(score)
    return [
        [0.0] * len(row) if t == 0 else [*causal([row[:t]] * t)[-1], *[0.0] * (len(row) - t)]
        for t, row in enumerate(rows)
    ]


@pytest.mark.parametrize("answer", [causal, causal_by_torch])
def test_causal_weights_accepts(answer):
    check("09.causal_weights", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: causal(x, ahead=1), "the loss looks too good"),
        (lambda x: causal(x, ahead=9), "the loss looks too good"),
        (lambda x: causal(x, first=True), "*before* the softmax"),
        (lambda x: causal(x, turned=True), "row 0 puts weight"),
        (only_before, "a place may look at itself"),
        (lambda x: causal(x, top="none"), "OverflowError"),
        (lambda x: causal(x, top="all"), "ZeroDivisionError"),
        (lambda x: causal([[0.0] * len(row) for row in x]), "each row is softmax(score)"),
        (lambda x: causal([[2 * v for v in row] for row in x]), "each row is softmax(score)"),
        (lambda x: causal(x)[0], "three rows of three weights"),
        (lambda x: None, "is there a `return`?"),
    ],
)
def test_causal_weights_refuses(answer, says):
    refuse("09.causal_weights", answer, says)


# 09.budget

GOOD = {"d_model": 64, "n_layer": 1, "n_head": 8, "d_hidden": 96, "positions": "alibi", "learning_rate": 0.01}


def changed(**fields):
    return lambda: GOOD | fields


@pytest.fixture
def few_steps(monkeypatch):
    """The form of an answer is judged before its training: four steps are enough to see that."""
    monkeypatch.setattr(checks_09, "STEPS", 10)


def test_budget_accepts():
    check("09.budget", changed())


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (changed(d_model=128), "at most 60,000"),
        (changed(d_model=1024, d_hidden=1024, n_layer=1024), "at most 60,000"),
        (changed(positions="learned", d_model=64), "at most 60,000"),
        (changed(n_head=5), "no decoder has these sizes"),
        (changed(n_layer=0), "a whole number from 1"),
        (changed(positions="rotary"), "no decoder has these sizes"),
        (changed(learning_rate=-1.0), "above 0"),
        (changed(learning_rate=1e-3), "the learning rate may be larger"),
        (changed(learning_rate=0.5), "the learning rate is"),
        (changed(positions="none"), "hardly their order"),
        (changed(d_model=16), "the stream is narrow"),
        (lambda: {"d_model": 64}, "has the keys"),
        (lambda: None, "is there a `return`?"),
    ],
)
def test_budget_refuses(answer, says):
    refuse("09.budget", answer, says)


def test_more_steps_help(monkeypatch):
    monkeypatch.setattr(checks_09, "STEPS", 12)
    short = checks_09.budget_score(GOOD)
    monkeypatch.setattr(checks_09, "STEPS", 40)
    assert checks_09.budget_score(GOOD)[1] < short[1] - 0.1 and short[0] <= checks_09.MOST_PARAMETERS


def test_the_references_are_the_librarys():
    p = [0.4, 0.1, 0.3, 0.2]
    for mass in (0.05, 0.4, 0.4001, 0.6999, 0.7, 0.7001, 0.9, 0.95, 1.0):
        assert checks_09._nucleus(p, mass) == pytest.approx(next_distribution(np.log(p), top_p=mass).tolist())
    score = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    assert np.allclose(checks_09._causal(score), causal_by_torch(score))
