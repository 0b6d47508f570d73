"""Plausible wrong answers to the exercises of chapter 20, and the diagnosis that each must get."""

import math

import numpy as np
import pytest
import torch
from refusals import refuse, stub

from minillm.alignment.advantage import gae_loop
from minillm.course import checks_20
from minillm.course.checks import NotWrittenYet, check

NAMES = ("optimum", "gae", "threshold", "token_rewards", "settings")


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_written_yet(name):
    with pytest.raises(NotWrittenYet):
        check(f"20.{name}", stub)


def accept(name, answer, capsys):
    check(f"20.{name}", answer)
    assert capsys.readouterr().out == f"20.{name}: correct\n"


# 20.optimum


def optimum(reference, scores, beta, *, weigh=lambda q, s, b: q * math.exp(s / b), share=True):
    top = max(scores)
    weights = [weigh(q, s - top, beta) for q, s in zip(reference, scores, strict=True)]
    return [w / sum(weights) for w in weights] if share else weights


def optimum_by_torch(reference, scores, beta):
    return (
        (torch.tensor(reference, dtype=torch.float64).log() + torch.tensor(scores).double() / beta).softmax(0).tolist()
    )


def naive(weigh, share=True):
    def answer(reference, scores, beta):
        weights = [weigh(q, s, beta) for q, s in zip(reference, scores, strict=True)]
        return [w / sum(weights) for w in weights] if share else weights

    return answer


def optimum_in_place(reference, scores, beta):
    for i, s in enumerate(scores):
        scores[i] = s - max(scores)
    return optimum(reference, scores, beta)


def best_alone(reference, scores, beta):
    return [float(s == max(scores)) for s in scores]


@pytest.mark.parametrize("answer", [optimum, optimum_by_torch])
def test_optimum_accepts(answer, capsys):
    accept("optimum", answer, capsys)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (naive(lambda q, s, b: q * math.exp(s / b), share=False), "divide by the sum"),
        (naive(lambda q, s, b: math.exp(s / b)), "the reference is missing"),
        (naive(lambda q, s, b: q * math.exp(s * b)), "divide the score by β"),
        (naive(lambda q, s, b: q * math.exp(-s / b)), "the sign is turned round"),
        (best_alone, "the limit of β = 0"),
        (naive(lambda q, s, b: q * math.exp(s / b)), "subtract the largest score"),
        (naive(lambda q, s, b: math.exp(math.log(q) + s / b)), "stays at 0"),
        (lambda q, s, b: q.sort() or optimum(q, s, b), "optimum"),
        (lambda q, s, b: None, "is there a `return`"),
        (lambda q, s, b: optimum(q, s, b)[:-1], "3 finite numbers"),
    ],
)
def test_optimum_refuses(answer, says):
    refuse("20.optimum", answer, says)


# 20.gae


def surprises(rewards, values, last=0.0):
    return [r + (values[i + 1] if i + 1 < len(values) else last) - values[i] for i, r in enumerate(rewards)]


def gae(rewards, values, lam, *, last=0.0):
    found, later = [], 0.0
    for delta in reversed(surprises(rewards, values, last)):
        later = delta + lam * later
        found.insert(0, later)
    return found


def forwards(rewards, values, lam):
    found, before = [], 0.0
    for delta in surprises(rewards, values):
        before = delta + lam * before
        found.append(before)
    return found


def popping(rewards, values, lam):
    found, later, next_value = [], 0.0, 0.0
    while rewards:
        value = values.pop()
        later = rewards.pop() + next_value - value + lam * later
        next_value = value
        found.insert(0, later)
    return found


@pytest.mark.parametrize("answer", [gae, lambda r, v, lam: gae_loop(r, v, lam=lam)])
def test_gae_accepts(answer, capsys):
    accept("gae", answer, capsys)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (forwards, "not by those before"),
        (lambda r, v, lam: gae(r, v, lam, last=v[-1]), "after the last token nothing is expected"),
        (lambda r, v, lam: [x - y for x, y in zip(r, v, strict=True)], "the next value is missing"),
        (lambda r, v, lam: surprises(r, v), "these are the surprises alone"),
        (lambda r, v, lam: gae(r, v, 1.0), "weighs λ times less"),
        (lambda r, v, lam: [a + b for a, b in zip(gae(r, v, lam), v, strict=True)], "what the critic should have said"),
        (lambda r, v, lam: [-a for a in gae(r, v, lam)], "the sign is turned round"),
        (lambda r, v, lam: gae(r, [0.0] * len(v), lam), "the values are missing"),
        (popping, "changed its argument"),
        (lambda r, v, lam: sum(gae(r, v, lam)), "list"),
    ],
)
def test_gae_refuses(answer, says):
    refuse("20.gae", answer, says)


# 20.threshold


def threshold(right, silent, wrong):
    return min(1.0, max(0.0, (silent - wrong) / (right - wrong)))


def threshold_by_search(right, silent, wrong):
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        low, high = (low, p) if p * right + (1 - p) * wrong >= silent else (p, high)
    return high if silent > wrong else 0.0


@pytest.mark.parametrize("answer", [threshold, threshold_by_search])
def test_threshold_accepts(answer, capsys):
    accept("threshold", answer, capsys)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda r, s, w: 0.5, "one half belongs to"),
        (lambda r, s, w: 1 - threshold(r, s, w), "how *unsure* one may be"),
        (lambda r, s, w: min(1.0, max(0.0, -w / (r - w))), "silence is paid too"),
        (lambda r, s, w: (s - w) / (r - w), "always answer, a threshold of 0"),
        (lambda r, s, w: max(0.0, (s - w) / (r - w)), "a threshold of 1"),
        (lambda r, s, w: min(1.0, max(0.0, (s - w) / (1 - w))), "solve p"),
        (lambda r, s, w: None, "is there a `return`"),
    ],
)
def test_threshold_refuses(answer, says):
    refuse("20.threshold", answer, says)


# 20.token_rewards


def token_rewards(scores, logp, reference, lengths, beta, *, price=lambda a, b: a - b, at=lambda n: n - 1, sign=-1):
    rewards = [
        [sign * beta * price(a, b) for a, b in zip(p, q, strict=True)] for p, q in zip(logp, reference, strict=True)
    ]
    for row, score, n in zip(rewards, scores, lengths, strict=True):
        row[at(n)] += score
    return rewards


def token_rewards_by_array(scores, logp, reference, lengths, beta):
    reward = -beta * (np.array(logp) - np.array(reference))
    reward[np.arange(len(scores)), np.array(lengths) - 1] += scores
    return reward.tolist()


def everywhere(scores, logp, reference, lengths, beta):
    rows = zip(scores, logp, reference, strict=True)
    return [[s - beta * (a - b) for a, b in zip(p, q, strict=True)] for s, p, q in rows]


def in_place(scores, logp, reference, lengths, beta):
    for i, row in enumerate(token_rewards(scores, logp, reference, lengths, beta)):
        logp[i] = row
    return logp


k3 = lambda a, b: math.exp(b - a) - 1 - (b - a)


@pytest.mark.parametrize("answer", [token_rewards, token_rewards_by_array])
def test_token_rewards_accepts(answer, capsys):
    accept("token_rewards", answer, capsys)


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        ({"price": k3, "at": lambda n: -1}, "both bugs are still there"),
        ({"at": lambda n: -1}, "the last column"),
        ({"price": k3}, "the price is still k3"),
        ({"at": lambda n: max(n - 2, 0)}, "one token early"),
        ({"sign": 1}, "taken off, not added"),
        ({"price": lambda a, b: abs(a - b)}, "without the absolute value"),
    ],
)
def test_token_rewards_refuses(slip, says):
    refuse("20.token_rewards", lambda *given: token_rewards(*given, **slip), says)


def test_token_rewards_refuses_more():
    refuse("20.token_rewards", lambda s, p, q, n, beta: token_rewards(s, p, q, n, 1.0), "β is missing")
    refuse("20.token_rewards", everywhere, "once, at the last token")
    refuse("20.token_rewards", lambda *given: token_rewards(*given)[:1], "one row for each text")
    refuse("20.token_rewards", in_place, "changed its argument number 2")


# 20.settings


def test_settings_accepts(capsys):
    accept("settings", lambda: {"learning_rate": 0.1, "rollout": 128, "epochs": 4, "lam": 0.8}, capsys)


def test_settings_refuses_what_leaves_a_real_gap():
    refuse("20.settings", lambda: {"learning_rate": 0.01}, "smaller rollouts make more")


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"rollout": 512}, "8 updates are few"),
        ({"rollout": 64, "learning_rate": 1e-3}, "too small to arrive"),
        ({"rollout": 64, "learning_rate": 2.0}, "learned too"),
        ({"rollout": 64}, "vary one at a time"),
        ({"rollout": 5000}, "above the budget"),
        ({"rollout": 64.5}, "a whole number"),
        ({"epochs": 100}, "at most 16"),
        ({"beta": 0.01}, "only these are yours"),
        ({"lam": math.nan}, "a number for each name"),
        ([0.05, 256], "dict"),
        (None, "is there a `return`"),
    ],
)
def test_settings_refuses(chosen, says, monkeypatch):
    monkeypatch.setattr(checks_20, "_gap", lambda *_: 0.2)
    refuse("20.settings", lambda: chosen, says)


def test_settings_that_ppo_refuses_are_named():
    refuse("20.settings", lambda: {"lam": 1.5, "rollout": 2048}, "settings() cannot be")
