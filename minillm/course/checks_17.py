"""Checks of chapter 17: a change beside a matrix, its gradients, merging, a prefix, ranks under a budget.

The answers take and give plain numbers and lists. The open exercise is judged against the best that its budget allows,
found here by going through all ways to spend it.

Paper:   Hu et al. 2021, arXiv:2106.09685; spending ranks unequally: Zhang et al. 2023, "AdaLoRA", arXiv:2303.10512.
Next:    minillm/course/grading.py
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minillm.course.checks import call, expect, expect_close, expect_inputs_kept, expect_type

Matrix = list[list[float]]
Adapter = tuple[Matrix, Matrix, float, float]
GOAL = 0.98  # of what the best spending keeps


def _return(got: object, otherwise: str) -> str:
    """The hint for an answer of the wrong kind."""
    return "is there a `return`?" if got is None else otherwise


def _matrix(chance: random.Random, rows: int, columns: int) -> Matrix:
    return [[chance.uniform(-1, 1) for _ in range(columns)] for _ in range(rows)]


def _same(got: object, wanted: Any) -> bool:
    try:
        found, wish = np.asarray(got, float), np.asarray(wanted, float)
    except (TypeError, ValueError):
        return False
    return found.shape == wish.shape and bool(np.allclose(found, wish, atol=1e-6))


def _cause(got: object, slips: Sequence[tuple[Callable[[], Any], str]], otherwise: str) -> str:
    """What is said about the first slip that gives just this answer."""
    return next((text for slip, text in slips if _same(got, slip())), otherwise)


def lora(answer: Callable[..., list[float]]) -> None:
    """`lora(x, weight, a, b, alpha)`: W x + α/r B A x, a list of f numbers."""
    x, weight, a, b = [1.0, 2.0], [[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[1.0, -1.0], [0.0, 1.0]], [[0.0, 1.0]] * 3
    zero = [[0.0, 0.0]] * 3
    got = call(answer, x, weight, a, zero, 4.0)
    expect_type(got, (list, tuple), "lora(x, W, A, B, 4.0) with B = 0", _return(got, "return a list of f numbers"))
    cause = "with B = 0 nothing is added: it is W x"
    expect_close(got, [2.0, 2.0, 3.0], what="with B = 0, lora(...)", hint=cause)
    got = call(answer, x, weight, a, b, 4.0)
    cause = _lora_cause(got, x, weight, a, b, 4.0)
    expect_close(got, _lora(x, weight, a, b, 4.0), what="for r = 2 and alpha = 4, lora(...)", hint=cause)
    chance = random.Random()
    for d, f, r in ((3, 5, 1), (5, 2, 4), (4, 4, 3)):
        x, alpha = [chance.uniform(-1, 1) for _ in range(d)], chance.uniform(1, 9)
        weight, a, b = _matrix(chance, f, d), _matrix(chance, r, d), _matrix(chance, f, r)
        got = call(answer, x, weight, a, b, alpha)
        cause = _lora_cause(got, x, weight, a, b, alpha)
        expect_close(
            got, _lora(x, weight, a, b, alpha), what=f"lora of random numbers, d={d}, f={f}, r={r},", hint=cause
        )
    expect_inputs_kept(answer, x, weight, a, b, 2.0)


def _lora(x: Any, weight: Any, a: Any, b: Any, alpha: float, scale: float | None = None, old: bool = True) -> Any:
    scale = alpha / len(a) if scale is None else scale
    return old * (np.array(weight) @ x) + scale * np.array(b) @ (np.array(a) @ x)


def _lora_cause(got: Any, x: Any, weight: Any, a: Any, b: Any, alpha: float) -> str:
    run = partial(_lora, x, weight, a, b, alpha)
    slips = [
        (lambda: run(old=False), "the old matrix is missing: W x comes first"),
        (lambda: run(scale=1.0), "the change is not scaled: alpha / r, r the rows of A"),
        (lambda: run(scale=alpha), "alpha is divided by r, the rows of A"),
        (lambda: run(scale=alpha / math.sqrt(len(a))), "this is rsLoRA's scale; here alpha is divided by r, not √r"),
        (lambda: run(scale=alpha / len(x)), "alpha is divided by the rows of A, not by its columns"),
        (lambda: run(scale=len(a) / alpha), "the scale is upside down: alpha / r"),
    ]
    return _cause(got, slips, "first A x, r numbers; then B times that, f numbers; times alpha / r; added to W x")


def gradients(answer: Callable[..., tuple[Matrix, Matrix]]) -> None:
    """`gradients(x, delta, a, b, scale)`: the gradients of A (r, d) and B (f, r), given that of the layer's output."""
    x, delta, a, zero = [1.0, 2.0, 0.0], [3.0, -1.0], [[1.0, 1.0, 5.0]], [[0.0], [0.0]]
    got = _pair(call(answer, x, delta, a, zero, 2.0))
    cause = "B = 0: nothing that A does can be seen, so its gradient is zero"
    _compare_gradients(got, x, delta, a, zero, 2.0, "at the start (B = 0)", cause)
    chance = random.Random()
    for d, f, r in ((2, 3, 4), (4, 2, 1), (3, 5, 2), (3, 3, 3)):
        x, delta = ([chance.uniform(-1, 1) for _ in range(n)] for n in (d, f))
        a, b, scale = _matrix(chance, r, d), _matrix(chance, f, r), chance.uniform(1.5, 3)
        got = _pair(call(answer, x, delta, a, b, scale))
        _compare_gradients(got, x, delta, a, b, scale, f"for random numbers, d={d}, f={f}, r={r}")
    expect_inputs_kept(answer, x, delta, a, b, 2.0)


def _pair(got: Any) -> tuple[Any, Any]:
    good = isinstance(got, tuple | list) and len(got) == 2
    expect(good, f"gradients(...) gave {got!r:.80}", _return(got, "return two matrices: of A, and of B"))
    return got[0], got[1]


def _gradients(x: Any, delta: Any, a: Any, b: Any, scale: float) -> tuple[Any, Any]:
    x, delta, a, b = (np.array(each, float) for each in (x, delta, a, b))
    return scale * np.outer(b.T @ delta, x), scale * np.outer(delta, a @ x)


def _compare_gradients(got: Any, x: Any, delta: Any, a: Any, b: Any, scale: float, where: str, rule: str = "") -> None:
    wanted = _gradients(x, delta, a, b, scale)
    if _same(got[0], wanted[1]) and _same(got[1], wanted[0]) and not _same(got[0], wanted[0]):
        expect(False, f"{where} the two gradients are in the wrong order", "return that of A first, then that of B")
    cases = (
        ("A", got[0], wanted[0], np.outer(np.array(b).T @ delta, x), rule or "scale · (Bᵀ delta) xᵀ, a matrix like A"),
        ("B", got[1], wanted[1], np.outer(delta, np.array(a) @ x), "scale · delta (A x)ᵀ, a matrix like B"),
    )
    for name, found, wish, plain, otherwise in cases:
        slips = [
            (lambda plain=plain: plain, "the scale is missing: the change is multiplied by it, so the gradient is too"),
            (lambda plain=plain: scale**2 * plain, "the scale is there twice"),
            (lambda wish=wish: -wish, "the sign is turned round: this is the gradient, not the step down"),
            (lambda wish=wish: wish.T, f"it is turned round: the gradient of {name} has the shape of {name}"),
        ]
        expect_close(found, wish, what=f"{where}, the gradient of {name}", hint=_cause(found, slips, otherwise))


def merge(answer: Callable[[Matrix, list[Adapter]], Matrix]) -> None:
    """`merge(weight, adapters)`: one matrix, W + Σ share · (α/r) B A over the adapters (a, b, alpha, share)."""
    weight = [[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]
    got = call(answer, weight, [])
    expect_type(got, (list, tuple), "merge(W, [])", _return(got, "return a matrix, a list of rows"))
    expect_close(got, weight, what="merge(W, [])", hint="without adapters W stays as it is")
    one: Adapter = ([[1.0, -1.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]], 8.0, 0.5)
    got = call(answer, weight, [one])
    expect_close(got, _merge(weight, [one]), what="with one adapter of rank 2, alpha 8, share 0.5, merge(...)",
                 hint=_merge_cause(got, weight, [one]))  # fmt: skip
    chance = random.Random()
    for d, f, sizes in ((3, 4, (1, 2)), (5, 2, (4, 1, 3))):
        weight = _matrix(chance, f, d)
        adapters = [
            (_matrix(chance, r, d), _matrix(chance, f, r), chance.uniform(1, 9), chance.random()) for r in sizes
        ]
        got = call(answer, weight, adapters)
        what = f"with {len(sizes)} adapters of the ranks {sizes}, merge(...)"
        expect_close(got, _merge(weight, adapters), what=what, hint=_merge_cause(got, weight, adapters))
    expect_inputs_kept(answer, weight, adapters, hint="W is the base of all other users: build a new matrix")


def _merge(weight: Any, adapters: Any, *, scaled: bool = True, shared: bool = True, mean: bool = False,
           first: bool = False, last: bool = False) -> Any:  # fmt: skip
    total, used = np.array(weight, float), adapters[-1:] if last else adapters
    for a, b, alpha, share in used:
        rank = len(adapters[0][0]) if first else len(a)
        factor = (alpha / rank if scaled else 1.0) * (share if shared else 1.0) / (len(adapters) if mean else 1)
        total = total + factor * np.array(b) @ np.array(a)
    return total


def _merge_cause(got: Any, weight: Any, adapters: Any) -> str:
    run = partial(_merge, weight, adapters)
    slips = [
        (lambda: run(scaled=False), "each change is scaled by its alpha / r"),
        (lambda: run(shared=False), "the share of each adapter is missing"),
        (lambda: run(scaled=False, shared=False), "alpha / r and the share are both missing"),
        (lambda: run(mean=True), "the changes are added, not averaged: the shares say how much of each"),
        (lambda: run(first=True), "every adapter has its own rank: the rows of its own A"),
        (lambda: run(last=True), "only the last adapter is in it: go on from the sum so far"),
        (lambda: run() - np.array(weight), "W itself is missing"),
    ]
    return _cause(got, slips, "W + the sum of share · (alpha / r) · B A, where B A is (f, d) like W")


def with_prefix(answer: Callable[..., list[float]]) -> None:
    """`with_prefix(query, prefix_keys, prefix_values, keys, values, place)`: what the query at `place` gets."""
    got = call(answer, [0.0], [[0.0]], [[6.0]], [[0.0], [0.0]], [[2.0], [99.0]], 0)
    hint = _return(got, "return a list, as long as a value")
    expect_type(got, (list, tuple), "with_prefix(...) of the first token", hint)
    cause = _cause(
        got,
        [
            (lambda: [6.0], "the own token is cut off: the prefix has moved it one place to the right"),
            (lambda: [2.0], "the prefix is not seen, or a value stands beside the wrong key"),
            (lambda: [8.0], "one softmax over prefix and tokens together: the weights sum to one, not to two"),
            (lambda: [107 / 3], "the token after it is seen too: the future stays hidden"),
        ],
        "keys and values in the same order, the prefix first",
    )
    expect_close(got, [4.0], what="the first token sees a prefix of value 6 and itself, of value 2: it", hint=cause)
    chance = random.Random()
    for m, s, width, out in ((2, 5, 3, 4), (3, 4, 2, 1), (0, 4, 3, 2), (1, 6, 4, 5)):
        place = chance.randrange(1, s)
        query = [chance.uniform(-2, 2) for _ in range(width)]
        parts = [_matrix(chance, n, size) for n, size in ((m, width), (m, out), (s, width), (s, out))]
        got = call(answer, query, *parts, place)
        cause = _prefix_cause(got, query, parts, place)
        what = f"for a prefix of {m}, {s} tokens, the query at place {place}, with_prefix(...)"
        expect_close(got, _prefix(query, parts, place), what=what, hint=cause)
    expect_inputs_kept(answer, query, *parts, place)


def _softmax(scores: Any) -> Any:
    weights = np.exp(scores - np.max(scores)) if len(scores) else np.zeros(0)
    return weights / weights.sum() if len(scores) else weights


def _prefix(
    query: list[float],
    parts: list[Matrix],
    place: int,
    *,
    cut: int = 0,
    swapped: bool = False,
    apart: bool = False,
    scaled: bool = True,
) -> Any:
    """What the query gets of (prefix keys, prefix values, keys, values); the flags make the slips of the exercise."""
    prefix_keys, prefix_values, keys, values = parts
    seen = max(0, place + 1 + cut)
    keys, values = keys[:seen], values[:seen]
    scale = math.sqrt(len(query)) if scaled else 1.0
    own, added = (np.array([np.dot(query, key) for key in each]) / scale for each in (keys, prefix_keys))
    if apart:
        return _softmax(own) @ np.array(values) + (_softmax(added) @ np.array(prefix_values) if len(added) else 0.0)
    weights = _softmax(np.concatenate((added, own)))
    return weights @ np.array([*values, *prefix_values] if swapped else [*prefix_values, *values])


def _prefix_cause(got: Any, query: Any, parts: list[Matrix], place: int) -> str:
    run, m, s = partial(_prefix, query, parts, place), len(parts[0]), len(parts[2])
    slips = [
        (lambda: run(swapped=True), "keys and values stand in different orders: the prefix comes first in both"),
        (lambda: run(cut=-m), "the prefix moves all tokens to the right: of the tokens, those up to `place` are seen"),
        (lambda: run(cut=-m, swapped=True), "two things are wrong: the cut, and the order of the values"),
        (lambda: run(cut=s), "the future is seen: only the tokens up to `place`"),
        (lambda: run(cut=-1), "a token sees itself too"),
        (lambda: run(apart=True), "one softmax over prefix and tokens together: the weights sum to one, not to two"),
        (lambda: run(scaled=False), "scores are divided by the root of the query's width"),
    ]
    return _cause(got, slips, "one softmax over the scores of the prefix and of the tokens 0 … place")


def ranks(answer: Callable[[list[list[float]], list[int], int], list[int]]) -> None:
    """`ranks(spectra, costs, budget)`: a rank for each matrix, so that most of all changes is kept for the numbers."""
    got = _spent(answer, [[3.0, 1.0], [2.0, 1.5]], [10, 10], 20, "two matrices, room for two directions")
    cause = "squares count: keep 3.0 (9) and 2.0 (4)"
    expect(got == [1, 1], f"for spectra (3, 1) and (2, 1.5) and room for two, ranks gave {got}, wanted [1, 1]", cause)
    got = _spent(answer, [[3.0, 1.0], [2.9, 2.8]], [40, 10], 40, "a dear matrix and a cheap one")
    cause = "look at what a direction keeps *for each number that it costs*"
    expect(got == [0, 2], f"a direction of 9 for 40 numbers, or 8.4 and 7.8 for 10 each: ranks gave {got}", cause)
    chance = random.Random()
    for matrices in (4, 7, 10):
        shapes = [chance.choice([(64, 64), (64, 256), (128, 128), (256, 64)]) for _ in range(matrices)]
        spectra = [_spectrum(chance, min(shape)) for shape in shapes]
        costs, budget = [d + f for d, f in shapes], 64 * chance.randint(12 * matrices, 20 * matrices)
        got = _spent(answer, spectra, costs, budget, f"{matrices} matrices")
        share = _kept(spectra, got) / _best(spectra, costs, budget)
        text = f"with {matrices} matrices and {budget:,} numbers, it keeps {share:.1%} of what the best spending keeps"
        expect(share >= GOAL, f"{text}, wanted {GOAL:.0%}", _ranks_cause(spectra, costs, budget, got))
    expect_inputs_kept(answer, [[3.0, 1.0], [2.0, 1.5]], [10, 20], 30)


def _spectrum(chance: random.Random, n: int) -> list[float]:
    """Singular values as training leaves them: some fall fast, some slowly, and their sizes differ much."""
    size, fall = math.exp(chance.uniform(-1.5, 1.5)), chance.uniform(0.6, 0.95)
    return [size * fall**i for i in range(n)]


def _spent(answer: Any, spectra: list[list[float]], costs: list[int], budget: int, where: str) -> list[int]:
    got: Any = call(answer, spectra, costs, budget)
    expect_type(got, (list, tuple), f"ranks(...) for {where}", _return(got, "return a list of ranks"))
    what = f"ranks(...) for {where} gave {got!r:.80}"
    expect(len(got) == len(spectra), f"{what}, wanted a rank for each of {len(spectra)} matrices")
    for rank, spectrum in zip(got, spectra, strict=True):
        good = isinstance(rank, int) and not isinstance(rank, bool) and 0 <= rank <= len(spectrum)
        expect(good, f"{what}: {rank!r} is no rank", "a rank is a whole number from 0 to the number of singular values")
    cost = sum(rank * each for rank, each in zip(got, costs, strict=True))
    expect(cost <= budget, f"{what}, which takes {cost:,} numbers of {budget:,}", "a rank costs `costs[i]` numbers")
    return list(got)


def _kept(spectra: list[list[float]], ranks: Sequence[int]) -> float:
    return sum(value**2 for values, rank in zip(spectra, ranks, strict=True) for value in values[:rank])


def _best(spectra: list[list[float]], costs: list[int], budget: int) -> float:
    """The most that any ranks keep: matrix by matrix, for every amount that may be spent so far."""
    unit = math.gcd(*costs)
    most = np.zeros(budget // unit + 1)
    for values, cost in zip(spectra, costs, strict=True):
        step, gain = cost // unit, np.cumsum(np.square([0.0, *values]))
        options = [np.concatenate((np.full(r * step, -np.inf), most[: len(most) - r * step] + gain[r]))
                   for r in range(min(len(values), (len(most) - 1) // step) + 1)]  # fmt: skip
        most = np.max(options, axis=0)
    return float(most[-1])


def _ranks_cause(spectra: list[list[float]], costs: list[int], budget: int, got: list[int]) -> str:
    spent = sum(rank * cost for rank, cost in zip(got, costs, strict=True))
    if len(set(got)) == 1:
        return "all have the same rank; matrices differ in how much they changed and how fast their values fall"
    if budget - spent > 2 * min(costs):
        return f"{budget - spent:,} numbers are left: they would keep more"
    return "take the directions one by one, each time the one that keeps most for each number that it costs"
