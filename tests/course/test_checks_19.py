"""Plausible wrong answers to the exercises of chapter 19, and the diagnosis that each must get."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from refusals import refuse, stub
from torch.nn import functional as F

from minillm.alignment.bradley_terry import fit_bradley_terry
from minillm.alignment.labellers import Labeller, bayes_accuracy
from minillm.course.checks import NotWrittenYet, check

NAMES = ("bt_loss", "ranking_pairs", "ceiling", "margins", "fair_scores")


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_written_yet(name):
    with pytest.raises(NotWrittenYet):
        check(f"19.{name}", stub)


def accept(name, answer, capsys):
    check(f"19.{name}", answer)
    assert capsys.readouterr().out == f"19.{name}: correct\n"


# 19.bt_loss


def bt_loss(better, worse, *, sign=1, unit=1.0, mean=True):
    nats = [max(sign * (w - b), 0) + math.log1p(math.exp(-abs(w - b))) for b, w in zip(better, worse, strict=True)]
    return unit * sum(nats) / (len(nats) if mean else 1)


def bt_loss_by_torch(better, worse):
    gap = torch.tensor(better, dtype=torch.float64) - torch.tensor(worse, dtype=torch.float64)
    return float(F.binary_cross_entropy_with_logits(gap, torch.ones_like(gap)))


def loss_of_naive(function):
    return lambda better, worse: sum(function(b - w) for b, w in zip(better, worse, strict=True)) / len(better)


def bt_loss_in_place(better, worse):
    better[:] = [b - w for b, w in zip(better, worse, strict=True)]
    return bt_loss(better, [0.0] * len(better))


@pytest.mark.parametrize("answer", [bt_loss, bt_loss_by_torch])
def test_bt_loss_accepts(answer, capsys):
    accept("bt_loss", answer, capsys)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (loss_of_naive(lambda x: -math.log(1 / (1 + math.exp(x)))), "the sign is turned round"),
        (lambda b, w: bt_loss(b, w, unit=1 / math.log(2)), "nats, not bits"),
        (lambda b, w: bt_loss(b, w, mean=False), "the mean over the comparisons"),
        (loss_of_naive(lambda x: 1 / (1 + math.exp(-x))), "that is the probability"),
        (loss_of_naive(lambda x: -x), "the difference of the scores alone"),
        (loss_of_naive(lambda x: math.log(1 / (1 + math.exp(-x)))), "above 0"),
        (loss_of_naive(lambda x: -math.log(1 / (1 + math.exp(-x)))), "never take e to a large number"),
        (loss_of_naive(lambda x: -math.log(1 / (1 + np.exp(-x)) + 1e-12)), "never take e to a large number"),
        (bt_loss_in_place, "changed its argument number 1"),
        (lambda b, w: None, "is there a `return`"),
    ],
)
def test_bt_loss_refuses(answer, says):
    refuse("19.bt_loss", answer, says)


# 19.ranking_pairs


def ranking_pairs(groups):
    return [(b, w) for i, group in enumerate(groups) for b in group for later in groups[i + 1 :] for w in later]


def ranking_pairs_as_set(groups):
    return [list(pair) for pair in reversed(ranking_pairs(groups))]


def flat(groups):
    names = [name for group in groups for name in group]
    return [(b, w) for i, b in enumerate(names) for w in names[i + 1 :]]


def popping(groups):
    pairs = []
    while groups:
        first = groups.pop(0)
        pairs += [(b, w) for b in first for later in groups for w in later]
    return pairs


@pytest.mark.parametrize("answer", [ranking_pairs, ranking_pairs_as_set])
def test_ranking_pairs_accepts(answer, capsys):
    accept("ranking_pairs", answer, capsys)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (flat, "but these are equals"),
        (lambda groups: [(w, b) for b, w in ranking_pairs(groups)], "the better one first"),
        (
            lambda groups: [(b, w) for g, h in pairwise(groups) for b in g for w in h],
            "not only neighbours",
        ),
        (lambda groups: [(g[0], h[0]) for i, g in enumerate(groups) for h in groups[i + 1 :]], "every member"),
        (lambda groups: ranking_pairs(groups) * 2, "each pair once"),
        (lambda groups: [b + w for b, w in ranking_pairs(groups)] and [("ab",)], "a list of pairs"),
        (lambda groups: [("x", "y")], "not in the ranking"),
        (popping, "changed its argument"),
    ],
)
def test_ranking_pairs_refuses(answer, says):
    refuse("19.ranking_pairs", answer, says)


# 19.ceiling


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def ceiling_by_library(gaps, slip):
    rater = Labeller(who="r", utility=lambda _, gap: float(gap), slip=slip)
    return bayes_accuracy([rater.probability("", str(gap), "0") for gap in gaps])


def ceiling(gaps, slip, *, clicked=lambda p, s: (1 - s) * p + s * (1 - p), best=lambda p: max(p, 1 - p)):
    return sum(best(clicked(sigmoid(gap), slip)) for gap in gaps) / len(gaps)


def ceiling_of_the_mean(gaps, slip):
    p = ceiling(gaps, slip, best=lambda p: p)
    return max(p, 1 - p)


@pytest.mark.parametrize("answer", [ceiling, ceiling_by_library])
def test_ceiling_accepts(answer, capsys):
    accept("ceiling", answer, capsys)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda gaps, slip: ceiling(gaps, slip, best=lambda p: p), "max(p, 1 - p)"),
        (lambda gaps, slip: ceiling(gaps, 0.0), "the slips are missing"),
        (lambda gaps, slip: (1 - slip) * ceiling(gaps, 0.0), "in 1/4 of the cases"),
        (lambda gaps, slip: ceiling(gaps, slip, clicked=lambda p, s: (1 - s) * p + s / 2), "not a coin"),
        (lambda gaps, slip: ceiling(gaps, 0.0) - slip, "do not take a tenth off"),
        (ceiling_of_the_mean, "the maximum first, the mean last"),
        (lambda gaps, slip: ceiling(gaps, slip) * len(gaps), "the maximum first, the mean last"),
        (lambda gaps, slip: gaps.sort() or ceiling(gaps, slip), "changed its argument"),
    ],
)
def test_ceiling_refuses(answer, says):
    refuse("19.ceiling", answer, says)


# 19.margins


def margins(scores, tokens, lengths, *, last=lambda row, ids, n: row[n - 1], neighbours=False, sign=1):
    ends = [last(row, ids, n) for row, ids, n in zip(scores, tokens, lengths, strict=True)]
    b = len(ends) // 2
    pairs = [(2 * i, 2 * i + 1) if neighbours else (i, b + i) for i in range(b)]
    return [sign * (ends[i] - ends[j]) for i, j in pairs]


def margins_by_array(scores, tokens, lengths):
    last = np.array(scores)[np.arange(len(lengths)), np.array(lengths) - 1]
    better, worse = np.split(last, 2)
    return (better - worse).tolist()


by_token = lambda row, ids, n: row[sum(token != 0 for token in ids) - 1]


def margins_in_place(scores, tokens, lengths):
    for i, n in enumerate(lengths):
        lengths[i] = n - 1
    return margins(scores, tokens, [n + 1 for n in lengths])


@pytest.mark.parametrize("answer", [margins, margins_by_array])
def test_margins_accepts(answer, capsys):
    accept("margins", answer, capsys)


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        ({"last": by_token, "neighbours": True}, "both bugs are still there"),
        ({"last": by_token}, "token 0 may be written"),
        ({"neighbours": True}, "row i belongs to row b + i"),
        ({"last": lambda row, ids, n: row[-1]}, "the last column is filling"),
        ({"last": lambda row, ids, n: row[min(n, len(row) - 1)]}, "ends at place n - 1"),
        ({"sign": -1}, "not the other way round"),
    ],
)
def test_margins_refuses(slip, says):
    refuse("19.margins", lambda s, t, n: margins(s, t, n, **slip), says)


def test_margins_refuses_more():
    refuse("19.margins", lambda s, t, n: [abs(x) for x in margins(s, t, n)], "no absolute value")
    refuse("19.margins", lambda s, t, n: margins(s, t, n)[:1], "2b rows are b comparisons")
    refuse("19.margins", margins_in_place, "changed its argument number 3")


# 19.fair_scores


def plain(winners, losers, words):
    return fit_bradley_terry(winners, losers, len(words), prior=0.01).score_n.tolist()


def fair_scores(winners, losers, words, *, factor=1.0, sign=1):
    scores, x = np.array(plain(winners, losers, words)), np.array(words) - np.mean(words)
    return (sign * (scores - factor * x * (scores @ x) / (x @ x))).tolist()


def by_logistic_regression(winners, losers, words):
    """Another road: shares of wins, straightened out."""
    n = len(words)
    won, met = np.bincount(winners, minlength=n), np.bincount([*winners, *losers], minlength=n)
    logit = np.log((won + 1) / (met - won + 1))
    slope, level = np.polyfit(words, logit, 1)
    return (logit - slope * np.array(words) - level).tolist()


@pytest.mark.parametrize("answer", [fair_scores, by_logistic_regression])
def test_fair_scores_accepts(answer, capsys):
    accept("fair_scores", answer, capsys)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (plain, "they still follow the length"),
        (lambda won, lost, n: fair_scores(won, lost, n, sign=-1), "the sign is turned round"),
        (lambda won, lost, n: fair_scores(won, lost, n, factor=2.0), "they punish length"),
        (lambda won, lost, n: [float(-x) for x in n], "they punish length"),
        (lambda won, lost, n: [0.0] * len(n), "the same score to all"),
        (lambda won, lost, n: fair_scores(won, lost, n)[:-1], "for each of the 16 items"),
        (lambda won, lost, n: [math.nan] * len(n), "a finite number"),
        (lambda won, lost, n: None, "is there a `return`"),
    ],
)
def test_fair_scores_refuses(answer, says):
    refuse("19.fair_scores", answer, says)


def test_what_the_card_says_of_plain_scores_is_so():
    """The card of the exercise says that they reach about 0.6."""
    with pytest.raises(Exception, match=r"worth is 0\.[567]"):
        check("19.fair_scores", plain)
