"""Plausible wrong answers to the exercises of chapter 26, and the diagnosis that each must get."""

import math

import pytest
from refusals import refuse, stub

from minillm.course import checks_26
from minillm.course.abstaining import landing
from minillm.course.checks import NotWrittenYet, check
from minillm.course.checks_26 import SHRUG
from minillm.statistical.metrics import wilson

NAMES = ("verdict", "stale", "results_row", "decide")


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_written_yet(name):
    with pytest.raises(NotWrittenYet):
        check(f"26.{name}", stub)


def accept(name, answer, capsys):
    check(f"26.{name}", answer)
    assert capsys.readouterr().out == f"26.{name}: correct\n"


# 26.verdict


def judged(
    interval=wilson, *, direction=True, ends=lambda low, high, base_low, base_high: (low > base_high, high < base_low)
):
    def answer(hits, n, base_hits, base_n, more_is_better):
        above, below = ends(*interval(hits, n), *interval(base_hits, base_n))
        if not above and not below:
            return "not told apart"
        return "better" if above == (more_is_better if direction else True) else "worse"

    return answer


def wald(hits, n):
    p = hits / n
    return p - 1.96 * math.sqrt(p * (1 - p) / n), p + 1.96 * math.sqrt(p * (1 - p) / n)


def by_shares(hits, n, base_hits, base_n, more_is_better):
    if hits / n == base_hits / base_n:
        return "not told apart"
    return "better" if (hits / n > base_hits / base_n) == more_is_better else "worse"


def by_ten_points(hits, n, base_hits, base_n, more_is_better):
    difference = hits / n - base_hits / base_n
    if abs(difference) < 0.25:
        return "not told apart"
    return "better" if (difference > 0) == more_is_better else "worse"


def outside_the_baseline(hits, n, base_hits, base_n, more_is_better):
    low, high = wilson(base_hits, base_n)
    if low <= hits / n <= high:
        return "not told apart"
    return "better" if (hits / n > high) == more_is_better else "worse"


def test_verdict_accepts(capsys):
    accept("verdict", judged(), capsys)
    accept("verdict", checks_26._verdict, capsys)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (judged(direction=False), "read more_is_better"),
        (by_shares, "10 questions tell little"),
        (by_ten_points, "10,000 questions tell them apart"),
        (outside_the_baseline, "it has an interval of its own"),
        (judged(wald), "take Wilson's interval"),
        (lambda *a: judged()(*a) == "better", "wanted str"),
        (lambda *a: judged()(*a).upper(), "one of 'better'"),
        (lambda *a: None, "is there a `return`"),
        (lambda *a: "better", "the row's lies below"),
        (lambda *a: {"worse": "not told apart"}.get(judged()(*a), judged()(*a)), "the row's lies below"),
    ],
)
def test_verdict_refuses(answer, says):
    refuse("26.verdict", answer, says)


# 26.stale


def stale(reads, parents, changed):
    old = [stage for stage in reads if set(reads[stage]) & set(changed)]
    while more := [s for s in reads if s not in old and set(parents.get(s, [])) & set(old)]:
        old += more
    return [stage for stage in reads if stage in old]


def directly(reads, parents, changed):
    return [stage for stage in reads if set(reads[stage]) & set(changed)]


def children_alone(reads, parents, changed):
    old = directly(reads, parents, changed)
    return [s for s in reads if s in old or set(parents.get(s, [])) & set(old)]


def everything_after(reads, parents, changed):
    old = directly(reads, parents, changed)
    return list(reads)[list(reads).index(old[0]) :] if old else []


def upwards(reads, parents, changed):
    old = directly(reads, parents, changed)
    for stage in reversed(list(reads)):
        if stage in old:
            old += parents.get(stage, [])
    return [s for s in reads if s in stale(reads, parents, changed) or s in old]


def first_change(reads, parents, changed):
    return stale(reads, parents, changed[:1])


def twice(reads, parents, changed):
    old = directly(reads, parents, changed)
    for stage in reads:
        if set(parents.get(stage, [])) & set(old):
            old.append(stage)
    return old


def in_place(reads, parents, changed):
    for stage, above in parents.items():
        above.sort()
        reads[stage].append("seen")
    return stale(reads, parents, changed)


@pytest.mark.parametrize("answer", [stale, checks_26._stale])
def test_stale_accepts(answer, capsys):
    accept("stale", answer, capsys)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (directly, "ppo is made of rm"),
        (children_alone, "their children too"),
        (everything_after, "is not made of it"),
        (upwards, "nothing is made of ppo"),
        (first_change, "two changes"),
        (twice, "stands in the list once"),
        (lambda *a: set(stale(*a)), "in the order of reads"),
        (lambda *a: stale(*a)[::-1], "in the order of reads"),
        (lambda *a: list(a[0]), "nothing changed"),
        (in_place, "changed its argument number 1"),
    ],
)
def test_stale_refuses(answer, says):
    refuse("26.stale", answer, says)


# 26.results_row


def row(*, bits=None, above=None, followed=None, invented=None, drop=()):
    def answer(nats, characters, floor, replies, answers):
        given = (nats, characters, floor, replies, answers)
        made = checks_26._results_row(*given)
        if bits:
            made["bits"] = bits(nats, characters)
            made["above floor"] = made["bits"] - floor
        for name, change in (("above floor", above), ("followed", followed), ("invented", invented)):
            if change:
                made[name] = change(made, *given)
        return {name: value for name, value in made.items() if name not in drop}

    return answer


def mean_of_means(nats, characters):
    return sum(n / math.log(2) / c for n, c in zip(nats, characters, strict=True)) / len(nats)


def of_all(made, nats, characters, floor, replies, answers):
    return sum(r == a for r, a in zip(replies, answers, strict=True)) / len(answers)


def claims_of_all(made, nats, characters, floor, replies, answers):
    return sum(r != SHRUG for r in replies) / len(replies)


def claims_over_all(made, nats, characters, floor, replies, answers):
    unknown = [r for r, a in zip(replies, answers, strict=True) if a is None]
    return sum(r != SHRUG for r in unknown) / len(replies)


def test_results_row_accepts(capsys):
    accept("results_row", row(), capsys)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (row(bits=mean_of_means, invented=claims_of_all), "every text counts alike"),
        (row(invented=claims_of_all), "only where no text answers"),
        (row(bits=mean_of_means), "every text counts alike"),
        (row(bits=lambda n, c: sum(n) / sum(c)), "these are nats"),
        (row(bits=lambda n, c: sum(n) / math.log(2) / len(n)), "divide by the characters"),
        (row(above=lambda made, n, c, floor, *_: made["bits"] / floor), "not a ratio"),
        (row(above=lambda made, n, c, floor, *_: floor - made["bits"]), "the sign is turned round"),
        (row(followed=of_all), "they are not counted here"),
        (row(invented=claims_over_all), "not out of all"),
        (row(invented=lambda made, *_: 1 - made["invented"]), "the share of shrugs"),
        (row(drop=["above floor"]), "has no number"),
        (lambda *a: list(row()(*a).values()), "wanted dict"),
    ],
)
def test_results_row_refuses(answer, says):
    refuse("26.results_row", answer, says)


# 26.decide


def by_grid(questions, most_kl, least_right, *, wrongs=None, kl=True, right=True):
    best = (math.inf, 0.0, 100.0)
    for wrong in wrongs or [-0.5 * 1.15**i for i in range(21)]:
        for beta in [0.05 * 1.1**i for i in range(60)]:
            one = landing(questions, wrong, beta)
            if (one["kl"] <= most_kl or not kl) and (one["right"] >= least_right or not right):
                best = min(best, (one["invented"], wrong, beta))
    return best[1:]


def test_decide_accepts(capsys):
    accept("decide", by_grid, capsys)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda *a: (-1.0, 0.05), "a higher price beta"),
        (lambda *a: (-1.0, 100.0), "nats are spent"),
        (lambda *a: (-10.0, 0.5), "a higher price beta"),
        (lambda *a: by_grid(*a, right=False), "silences the model where it knows"),
        (lambda *a: by_grid(*a, kl=False), "a higher price beta"),
        (lambda q, kl, right: by_grid(q, kl / 5, right), "nats are spent"),
        (lambda *a: by_grid(*a)[::-1], "gave"),
        (lambda *a: (1.0, 1.0), "below 1"),
        (lambda *a: (-1.0, 0.0), "a price from 0.01"),
        (lambda *a: None, "is there a `return`"),
        (lambda *a: (-1.0,), "two numbers"),
        (lambda q, *a: q.sort() or by_grid(q, *a), "changed its argument"),
    ],
)
def test_decide_refuses(answer, says):
    refuse("26.decide", answer, says)


def test_the_landing_is_what_ppo_walks_to():
    """π* over claim and silence, written out, and what the price does at both ends."""
    questions = [(0.7, 0.2), (0.1, 0.3)]
    wrong, beta = -2.0, 0.8
    right = invented = 0.0
    for p, silent in questions:
        claim, shrug = (1 - silent) * math.exp((p + (1 - p) * wrong) / beta), silent
        right += claim / (claim + shrug) * p / 2
        invented += claim / (claim + shrug) * (1 - p) / 2
    found = landing(questions, wrong, beta)
    assert math.isclose(found["right"], right) and math.isclose(found["invented"], invented)
    dear, cheap = landing(questions, wrong, 1e9), landing(questions, wrong, 1e-3)
    assert math.isclose(dear["invented"], (0.8 * 0.3 + 0.7 * 0.9) / 2, rel_tol=1e-6) and abs(dear["kl"]) < 1e-6
    assert math.isclose(cheap["invented"], 0.3 / 2) and math.isclose(cheap["right"], 0.7 / 2), "speaks where p > 2/3"
    assert cheap["kl"] > found["kl"] > 0
