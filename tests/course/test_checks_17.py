"""Plausible wrong answers to the exercises of chapter 17, and the diagnosis that each must get."""

import math
import random

import numpy as np
import pytest
from refusals import refuse, stub

from minillm.course import checks_17
from minillm.course.checks import NotWrittenYet, check

NAMES = ("lora", "gradients", "merge", "with_prefix", "ranks")


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_written_yet(name):
    with pytest.raises(NotWrittenYet):
        check(f"17.{name}", stub)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_without_return_is_told_so(name):
    refuse(f"17.{name}", lambda *_: None, "return")


# 17.lora


def lora(x, weight, a, b, alpha, *, scale=None, old=1.0):
    """One of `scale`'s functions takes alpha, r, d to another factor."""
    factor = scale(alpha, len(a), len(x)) if scale else alpha / len(a)
    return (old * np.array(weight) @ x + factor * np.array(b) @ (np.array(a) @ x)).tolist()


def lora_merged_in_place(x, weight, a, b, alpha):
    for i, row in enumerate(weight):
        for k in range(len(row)):
            row[k] += alpha / len(a) * sum(b[i][j] * a[j][k] for j in range(len(a)))
    return [sum(w * n for w, n in zip(row, x, strict=True)) for row in weight]


def test_right_layers_pass():
    check("17.lora", lora)
    check("17.lora", lambda *given: tuple(lora(*given)))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda *given: lora(*given, old=0.0), "it is W x"),
        (lambda *given: lora(*given, scale=lambda alpha, r, d: 1.0), "not scaled"),
        (lambda *given: lora(*given, scale=lambda alpha, r, d: alpha), "alpha is divided by r"),
        (lambda *given: lora(*given, scale=lambda alpha, r, d: alpha / math.sqrt(r)), "rsLoRA"),
        (lambda *given: lora(*given, scale=lambda alpha, r, d: alpha / d), "not by its columns"),
        (lambda *given: lora(*given, scale=lambda alpha, r, d: r / alpha), "upside down"),
        (lambda x, weight, a, b, alpha: lora(x, weight, a, [row[::-1] for row in b], alpha), "first A x"),
        (lambda *given: lora(*given)[:1], "shape"),
        (lora_merged_in_place, "changed its argument number 2"),
    ],
)
def test_wrong_layers_are_told_why(answer, says):
    refuse("17.lora", answer, says)


# 17.gradients


def gradients(x, delta, a, b, scale, *, factor=1, swap=False, turn=False, sign=1):
    a, b, delta = np.array(a), np.array(b), np.array(delta)
    of_a = sign * scale**factor * np.outer(b.T @ delta, x)
    of_b = sign * scale**factor * np.outer(delta, a @ np.array(x))
    found = (of_a.T.tolist(), of_b.T.tolist()) if turn else (of_a.tolist(), of_b.tolist())
    return found[::-1] if swap else found


def gradient_of_a_as_if_b_were_one(x, delta, a, b, scale):
    of_a = [[scale * sum(delta) * n for n in x] for _ in a]
    return of_a, gradients(x, delta, a, b, scale)[1]


def gradient_of_the_product(x, delta, a, b, scale):
    of_w = (scale * np.outer(delta, x)).tolist()
    return of_w, of_w


def test_right_gradients_pass():
    check("17.gradients", gradients)
    check("17.gradients", lambda *given: list(gradients(*given)))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda *given: gradients(*given, factor=0), "scale is missing"),
        (lambda *given: gradients(*given, factor=2), "twice"),
        (lambda *given: gradients(*given, sign=-1), "sign"),
        (lambda *given: gradients(*given, swap=True), "wrong order"),
        (lambda *given: gradients(*given, turn=True), "shape"),
        (gradient_of_a_as_if_b_were_one, "its gradient is zero"),
        (gradient_of_the_product, "B = 0"),
        (lambda *given: gradients(*given)[0], "return two matrices"),
    ],
)
def test_wrong_gradients_are_told_why(answer, says):
    refuse("17.gradients", answer, says)


# 17.merge


def merge(weight, adapters, *, scaled=True, shared=True, mean=False, first=False, last=False, base=1.0):
    total = base * np.array(weight)
    for a, b, alpha, share in adapters[-1:] if last else adapters:
        rank = len(adapters[0][0]) if first else len(a)
        factor = (alpha / rank if scaled else 1) * (share if shared else 1) / (len(adapters) if mean else 1)
        total = total + factor * np.array(b) @ np.array(a)
    return total.tolist()


def merge_in_place(weight, adapters):
    for i, row in enumerate(merge(weight, adapters)):
        weight[i][:] = row
    return weight


def test_right_mergers_pass():
    check("17.merge", merge)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda *given: merge(*given, scaled=False), "scaled by its alpha / r"),
        (lambda *given: merge(*given, shared=False), "share of each adapter is missing"),
        (lambda *given: merge(*given, scaled=False, shared=False), "both missing"),
        (lambda *given: merge(*given, mean=True), "not averaged"),
        (lambda *given: merge(*given, first=True), "its own rank"),
        (lambda *given: merge(*given, last=True), "only the last adapter"),
        (lambda *given: merge(*given, base=0.0), "W stays as it is"),
        (merge_in_place, "changed its argument number 1"),
    ],
)
def test_wrong_mergers_are_told_why(answer, says):
    refuse("17.merge", answer, says)


# 17.with_prefix


def with_prefix(query, prefix_keys, prefix_values, keys, values, place, *, cut=0, swapped=False, scaled=True, last=0):
    n = max(0, place + 1 + (cut(len(prefix_keys), len(keys)) if cut else 0))
    seen, rows = prefix_keys + keys[:n], prefix_values + values[:n]
    if swapped:
        rows = values[:n] + prefix_values
    scores = np.array(seen) @ np.array(query) / (math.sqrt(len(query)) if scaled else 1)
    weights = np.exp(scores - scores.max())
    return (weights / weights.sum() @ np.array(rows)).tolist()


def as_published_in_the_exercise(query, prefix_keys, prefix_values, keys, values, place):
    seen = (prefix_keys + keys)[: place + 1]
    scores = np.array(seen) @ np.array(query) / math.sqrt(len(query))
    weights = np.exp(scores - scores.max())
    rows = (values + prefix_values)[: len(weights)]
    return (weights / weights.sum() @ np.array(rows)).tolist()


def only_the_cut_mended(query, prefix_keys, prefix_values, keys, values, place):
    return with_prefix(query, prefix_keys, prefix_values, keys, values, place, swapped=True)


def only_the_order_mended(query, prefix_keys, prefix_values, keys, values, place):
    seen, rows = ((first + then)[: place + 1] for first, then in ((prefix_keys, keys), (prefix_values, values)))
    weights = np.exp(np.array(seen) @ np.array(query) / math.sqrt(len(query)))
    return (weights / weights.sum() @ np.array(rows)).tolist()


def two_softmaxes(query, prefix_keys, prefix_values, keys, values, place):
    own = np.array(with_prefix(query, [], [], keys, values, place))
    if not prefix_keys:
        return own.tolist()
    return (own + with_prefix(query, [], [], prefix_keys, prefix_values, len(prefix_keys))).tolist()


def prefix_ignored(query, prefix_keys, prefix_values, keys, values, place):
    return with_prefix(query, [], [], keys, values, place)


def test_right_prefixes_pass():
    check("17.with_prefix", with_prefix)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (as_published_in_the_exercise, "beside the wrong key"),
        (only_the_cut_mended, "different orders"),
        (only_the_order_mended, "cut off"),
        (lambda *given: with_prefix(*given, cut=lambda m, s: s), "future"),
        (lambda *given: with_prefix(*given, scaled=False), "root of the query's width"),
        (two_softmaxes, "one softmax"),
        (prefix_ignored, "prefix is not seen"),
    ],
)
def test_wrong_prefixes_are_told_why(answer, says):
    refuse("17.with_prefix", answer, says)


# 17.ranks


def buy(spectra, costs, budget, worth):
    chosen, left = [0] * len(spectra), budget
    while can := [i for i, cost in enumerate(costs) if cost <= left and chosen[i] < len(spectra[i])]:
        i = max(can, key=lambda i: worth(spectra[i][chosen[i]], costs[i]))
        chosen[i], left = chosen[i] + 1, left - costs[i]
    return chosen


def by_price(spectra, costs, budget):
    return buy(spectra, costs, budget, lambda value, cost: value**2 / cost)


def equal(spectra, costs, budget):
    return [min(budget // sum(costs), *map(len, spectra))] * len(spectra)


def in_turn(spectra, costs, budget):
    chosen, left = [], budget
    for values, cost in zip(spectra, costs, strict=True):
        chosen.append(min(len(values), left // cost))
        left -= chosen[-1] * cost
    return chosen


def spends_half(spectra, costs, budget):
    return by_price(spectra, costs, budget if budget < 1000 else budget // 3)


def takes_what_it_bought(spectra, costs, budget):
    chosen = by_price(spectra, costs, budget)
    for values, rank in zip(spectra, chosen, strict=True):
        del values[:rank]
    return chosen


@pytest.mark.parametrize("turn", range(5))
def test_buying_by_price_passes(turn):
    check("17.ranks", by_price)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda *given: buy(*given, worth=lambda value, cost: value), "for each number that it costs"),
        (lambda *given: buy(*given, worth=lambda value, cost: -cost), "ranks gave"),
        (equal, "look at what"),
        (in_turn, "squares count"),
        (spends_half, "are left"),
        (lambda spectra, costs, budget: [len(values) for values in spectra], "takes 40 numbers of 20"),
        (lambda *given: [float(rank) for rank in by_price(*given)], "is no rank"),
        (lambda *given: by_price(*given)[:-1], "a rank for each"),
        (takes_what_it_bought, "changed its argument number 1"),
    ],
)
def test_wrong_spendings_are_told_why(answer, says):
    refuse("17.ranks", answer, says)


def test_the_best_spending_is_the_best():
    """Against all ways, where they can be gone through."""
    chance = random.Random(3)
    spectra, costs = [sorted((chance.random() for _ in range(3)), reverse=True) for _ in range(3)], [2, 4, 6]
    ways = [(i, j, k) for i in range(4) for j in range(4) for k in range(4)]
    for budget in (0, 2, 10, 16, 36):
        kept = [
            sum(v**2 for values, r in zip(spectra, way, strict=True) for v in values[:r])
            for way in ways
            if np.dot(way, costs) <= budget
        ]
        assert checks_17._best(spectra, costs, budget) == pytest.approx(max(kept))
