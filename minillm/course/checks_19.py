"""Checks of chapter 19: a loss, a ranking with ties, a ceiling, the last real token, and scores without the length.

All answers take and give plain numbers, strings and lists. The open exercise is judged by the correlation of the scores
with true utilities, on raters who are drawn here.

Next:    minillm/course/grading.py
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minillm.course.checks import (
    Wrong,
    call,
    expect,
    expect_close,
    expect_equal,
    expect_inputs_kept,
    expect_type,
    is_number,
)

GOAL = 0.9  # of the open exercise: mean correlation with the true utilities
_PANELS = 3


def bt_loss(answer: Callable[[list[float], list[float]], float]) -> None:
    """`bt_loss(better, worse)`: the mean of -log σ(better - worse)."""
    got = call(answer, [math.log(3)], [0.0])
    expect_type(got, (int, float), "bt_loss([log 3], [0.0])")
    expect_close(got, math.log(4 / 3), what="bt_loss([log 3], [0.0])", hint=_loss_cause(float(got)))
    expect_close(call(answer, [2.0], [2.0]), math.log(2), what="bt_loss([2.0], [2.0])", hint="σ(0) is a half")
    expect_close(
        call(answer, [2.0, 2.0, 2.0], [2.0, 2.0, 2.0]),
        math.log(2),
        what="bt_loss of three equal pairs",
        hint="the mean over the comparisons, not the sum",
    )
    chance = random.Random()
    for _ in range(5):
        better, worse = ([chance.uniform(-4, 4) for _ in range(chance.randint(2, 6))] for _ in range(2))
        n = min(len(better), len(worse))
        better, worse = better[:n], worse[:n]
        wanted = sum(math.log1p(math.exp(w - b)) for b, w in zip(better, worse, strict=True)) / n
        expect_close(call(answer, better, worse), wanted, what=f"bt_loss of {n} random pairs")
    cause = "never take e to a large number: log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)"
    for gap, wanted in ((1000.0, 0.0), (-1000.0, 1000.0)):
        try:
            got = call(answer, [gap], [0.0])
        except Wrong as wrong:
            raise Wrong(wrong.problem, cause) from None
        expect_close(got, wanted, what=f"bt_loss([{gap}], [0.0])", hint=cause)
    expect_inputs_kept(answer, [1.0, 2.0], [0.5, 3.0])


def _loss_cause(got: float) -> str:
    near = lambda wanted: math.isclose(got, wanted, abs_tol=1e-9)
    if near(math.log(4)):
        return "the sign is turned round: this is small where the worse answer has the higher score"
    if near(math.log2(4 / 3)):
        return "natural logarithms, please: nats, not bits"
    if near(0.75):
        return "that is the probability; the loss is minus its logarithm"
    if near(math.log(3)) or near(-math.log(3)):
        return "that is the difference of the scores alone: σ and the logarithm are missing"
    if near(-math.log(4 / 3)):
        return "a loss is minus the logarithm of a probability, so it is above 0"
    return "P(better is chosen) = 1 / (1 + e^-(better - worse)), and the loss is minus its logarithm"


def ranking_pairs(answer: Callable[[list[list[str]]], list[tuple[str, str]]]) -> None:
    """`ranking_pairs(groups)`: all (better, worse) in a ranking whose groups hold equals, the best group first."""
    _compare_pairs(answer, [["a"], ["b"], ["c"]])
    _compare_pairs(answer, [["a", "b"], ["c"]])
    _compare_pairs(answer, [["c"], ["a", "b"]])
    _compare_pairs(answer, [["a", "b", "c"]])
    _compare_pairs(answer, [])
    chance = random.Random()
    for _ in range(4):
        names = [f"{chance.choice('pqrst')}{i}" for i in range(chance.randint(4, 8))]
        cuts = sorted(chance.sample(range(1, len(names)), 2))
        _compare_pairs(answer, [names[: cuts[0]], names[cuts[0] : cuts[1]], names[cuts[1] :]])
    expect_inputs_kept(answer, [["a", "b"], ["c"], ["d"]])


def _compare_pairs(answer: Callable[..., Any], groups: list[list[str]]) -> None:
    what = f"ranking_pairs({groups})"
    got = call(answer, groups)
    expect_type(got, (list, tuple), what)
    expect(
        all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in got),
        f"{what} gave {got!r:.80}",
        "a list of pairs (better, worse)",
    )
    pairs = [tuple(pair) for pair in got]
    group_of = {name: place for place, group in enumerate(groups) for name in group}
    wanted = {(b, w) for b in group_of for w in group_of if group_of[b] < group_of[w]}
    for pair in pairs:
        expect(set(pair) <= set(group_of), f"{what} holds {pair}, with a name that is not in the ranking")
        expect(
            group_of[pair[0]] != group_of[pair[1]],
            f"{what} holds {pair}, but these are equals",
            "two answers of one group were not told apart: no pair",
        )
        expect(pair in wanted, f"{what} holds {pair}", "the better one first: groups come from the best to the worst")
    doubled = [pair for pair in pairs if pairs.count(pair) > 1]
    expect(not doubled, f"{what} holds {doubled[:1]} twice", "each pair once")
    missing = sorted(wanted - set(pairs))
    if missing:
        far = group_of[missing[0][1]] - group_of[missing[0][0]] > 1
        hint = "not only neighbours: the best is better than the third too" if far else (
            "every member of a group with every member of each later group")  # fmt: skip
        raise Wrong(f"{what} lacks {missing[0]}", hint)
    expect_equal(len(pairs), len(wanted), f"the number of pairs in {what}")


def ceiling(answer: Callable[[list[float], float], float]) -> None:
    """`ceiling(gaps, slip)`: the best accuracy against a rater with utility gaps, who hits wrong with `slip`."""
    log3 = math.log(3)
    got = call(answer, [log3], 0.0)
    expect_type(got, (int, float), "ceiling([log 3], 0.0)")
    expect_close(got, 0.75, what="ceiling([log 3], 0.0)", hint="without slips, σ(log 3) = 3/4")
    got = call(answer, [-log3], 0.0)
    cause = "the best guess is the other answer then: max(p, 1 - p)"
    expect_close(got, 0.75, what="ceiling([-log 3], 0.0)", hint=cause)
    got = call(answer, [log3], 0.1)
    expect_close(got, 0.9 * 0.75 + 0.1 * 0.25, what="ceiling([log 3], 0.1)", hint=_ceiling_cause(float(got)))
    expect_close(
        call(answer, [log3, -log3, 0.0], 0.0),
        2 / 3,
        what="ceiling([log 3, -log 3, 0.0], 0.0)",
        hint="the best guess is made for each question: the maximum first, the mean last",
    )
    expect_close(call(answer, [2.0, -5.0], 0.5), 0.5, what="ceiling([2.0, -5.0], 0.5)", hint="half of it slips: a coin")
    chance = random.Random()
    for _ in range(5):
        gaps, slip = [chance.uniform(-3, 3) for _ in range(chance.randint(1, 5))], chance.uniform(0, 0.5)
        wanted = sum(0.5 + (1 - 2 * slip) * abs(1 / (1 + math.exp(-g)) - 0.5) for g in gaps) / len(gaps)
        expect_close(call(answer, gaps, slip), wanted, what=f"ceiling of {len(gaps)} random gaps at slip {slip:.2f}")
    expect_inputs_kept(answer, [1.0, -2.0], 0.1)


def _ceiling_cause(got: float) -> str:
    near = lambda wanted: math.isclose(got, wanted, abs_tol=1e-9)
    if near(0.75):
        return "the slips are missing"
    if near(0.9 * 0.75):
        return "a slip turns the choice round, and in 1/4 of the cases that makes your guess right"
    if near(0.9 * 0.75 + 0.05):
        return "a slip is not a coin: it hits the answer that was not meant"
    if near(0.65):
        return "slips do not take a tenth off: they turn p round, (1 - s) p + s (1 - p)"
    return "P(first chosen) = (1 - s) σ(gap) + s σ(-gap)"


def margins(answer: Callable[[list[list[float]], list[list[int]], list[int]], list[float]]) -> None:
    """`margins(scores, tokens, lengths)`: for each comparison the score of the better answer less that of the worse."""
    scores = [[1.0, 2.0, 9.0], [3.0, 5.0, 9.5], [1.0, 1.5, 4.0], [0.5, 8.0, 9.0]]
    tokens = [[5, 6, 0], [5, 0, 0], [5, 6, 7], [5, 0, 0]]
    _compare_margins(answer, scores, tokens, [2, 2, 3, 1], (2.0 - 4.0, 5.0 - 0.5))
    chance = random.Random()
    for _ in range(4):
        b, t = chance.randint(1, 4), chance.randint(2, 6)
        lengths = [chance.randint(1, t) for _ in range(2 * b)]
        tokens = [[chance.randint(0, 3) if i < n else 0 for i in range(t)] for n in lengths]
        scores = [[chance.uniform(-2, 2) for _ in range(t)] for _ in lengths]
        last = [row[n - 1] for row, n in zip(scores, lengths, strict=True)]
        wanted = tuple(last[i] - last[b + i] for i in range(b))
        _compare_margins(answer, scores, tokens, lengths, wanted)
    expect_inputs_kept(answer, [[1.0, 2.0], [3.0, 4.0]], [[5, 6], [5, 0]], [2, 1])


def _compare_margins(
    answer: Callable[..., Any], scores: list[list[float]], tokens: list[list[int]], lengths: list[int], wanted: Sequence
) -> None:
    got = call(answer, scores, tokens, lengths)
    expect_type(got, (list, tuple), "margins(...)")
    what = (
        f"margins({scores}, {tokens}, {lengths})" if len(str(scores)) < 90 else f"margins of {len(wanted)} random pairs"
    )
    b = len(wanted)
    expect(len(got) == b, f"{what} gave {len(got)} numbers, wanted {b}", "2b rows are b comparisons")
    t = len(scores[0])
    by_length = [row[n - 1] for row, n in zip(scores, lengths, strict=True)]
    by_token = [row[sum(x != 0 for x in ids) - 1] for row, ids in zip(scores, tokens, strict=True)]
    by_end = [row[-1] for row in scores]
    one_late = [row[min(n, t - 1)] for row, n in zip(scores, lengths, strict=True)]
    halves = lambda last: [last[i] - last[b + i] for i in range(b)]
    neighbours = lambda last: [last[2 * i] - last[2 * i + 1] for i in range(b)]
    causes = (
        (neighbours(by_length), "rows 0 … b-1 are the better answers, b … 2b-1 the worse: row i belongs to row b + i"),
        (neighbours(by_token), "both bugs are still there: where is the last token, and which rows belong together?"),
        (halves(by_token), "token 0 may be written by the model too: the lengths say where the text ends"),
        (halves(by_end), "the last column is filling for all but the longest row: use the lengths"),
        (halves(one_late), "a text of n tokens ends at place n - 1"),
        ([-x for x in wanted], "better less worse, not the other way round"),
        ([abs(x) for x in wanted], "the sign says who wins: no absolute value"),
    )
    near = lambda other: np.allclose(np.asarray(got, dtype=float), other)
    hint = next((cause for other, cause in causes if near(other) and not np.allclose(other, wanted)), "")
    expect_close(list(got), list(wanted), what=what, hint=hint or "the score at place length - 1, better less worse")


def fair_scores(answer: Callable[[list[int], list[int], list[int]], list[float]]) -> None:
    """`fair_scores(winners, losers, words)`: scores of items that follow their worth and not their length."""
    found = [_panel(answer, random.Random()) for _ in range(_PANELS)]
    worth, length = (float(np.mean(column)) for column in zip(*found, strict=True))
    problem = f"the mean correlation of your scores with the true worth is {worth:.2f}; the goal is {GOAL}"
    if worth >= GOAL:
        return
    if worth < -0.3:
        raise Wrong(problem, "the sign is turned round: winners should come out above losers")
    if length > 0.3:
        hint = f"they still follow the length (correlation {length:.2f}): which part of a score is a line in `words`?"
        raise Wrong(problem, hint)
    if length < -0.3:
        raise Wrong(problem, f"they punish length (correlation {length:.2f}): take off what length adds, and no more")
    raise Wrong(
        problem, "first scores from all comparisons (`fit_bradley_terry`), then what length explains of them off"
    )


def _panel(answer: Callable[..., Any], chance: random.Random) -> tuple[float, float]:
    """Correlations of the scores of sixteen items with their worth, and with their length."""
    n, count = 16, 2000
    words = chance.sample(range(20, 80), n)
    straight = np.array(words) - np.mean(words)
    worth = np.array([chance.gauss(0, 1) for _ in range(n)])
    worth -= worth.mean() + straight * (worth @ straight) / (straight @ straight)  # worth and length: unrelated
    worth /= worth.std()
    liked = worth + 1.2 * straight / straight.std()
    winners, losers = [], []
    for _ in range(count):
        i, j = chance.sample(range(n), 2)
        first = chance.random() < 1 / (1 + math.exp(liked[j] - liked[i]))
        winners.append(i if first else j)
        losers.append(j if first else i)
    got = call(answer, winners, losers, words)
    expect_type(got, (list, tuple), f"fair_scores of {count} comparisons")
    good = len(got) == n and all(is_number(x) for x in got)
    expect(good, f"fair_scores gave {got!r:.60}", f"a finite number for each of the {n} items in `words`")
    scores = np.array(got, dtype=float)
    expect(scores.std() > 1e-9, "fair_scores gave the same score to all", "is there a `return` of the scores?")
    return float(np.corrcoef(scores, worth)[0, 1]), float(np.corrcoef(scores, words)[0, 1])
