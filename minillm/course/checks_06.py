"""Checks of chapter 06: masked attention, a window of looks, rotated positions, heads, and short cuts.

Answers take and give plain lists, numbers and numpy arrays. Where an answer is wrong, the check recomputes it with each
slip that it knows; the slip that gives the very same numbers is named. The open exercise is judged by how few pairs
may look at each other while every word still hears of all words before it within two layers.

Paper:   two layers over a sparse pattern: Child et al. 2019, "Generating Long Sequences with Sparse Transformers",
         §4.2, arXiv:1904.10509.
Next:    minillm/course/grading.py
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minillm.course.checks import Wrong, call, expect, expect_close, expect_equal, expect_inputs_kept, expect_type

WORDS, GOAL = 64, 640  # of the open exercise: words, and the most pairs that may look
Rows = list[list[float]]
Mask = list[list[bool]]
Slip = tuple[Callable[..., Any], str]


def _return(got: object, what: str) -> str:
    return "is there a `return`?" if got is None else f"return {what}"


def _named(got: Any, slips: Iterable[Slip], arguments: tuple[Any, ...], otherwise: str) -> str:
    """The cause of a wrong answer: the first slip that gives these very numbers."""
    if got is None:
        return "is there a `return`?"
    try:
        numbers = np.asarray(got, float)
    except (TypeError, ValueError):
        return otherwise
    for slip, cause in slips:
        with np.errstate(all="ignore"):
            wanted = np.asarray(slip(*arguments), float)
        if wanted.shape == numbers.shape and np.allclose(numbers, wanted, atol=1e-6, equal_nan=True):
            return cause
    return otherwise


def _attention(
    query: Rows,
    key: Rows,
    value: Rows,
    may_look: Mask,
    *,
    scale: float = -0.5,
    keys: bool = True,
    turned: bool = False,
    late: bool = False,
) -> np.ndarray:
    """Attention in numpy; the flags make the slips that the check can name."""
    q_tk, k_sk, v_sn = (np.asarray(rows, float) for rows in (query, key, value))
    look_ts = np.asarray(may_look, bool) ^ turned
    score_ts = q_tk @ k_sk.T * q_tk.shape[1] ** scale
    if not late:
        score_ts = np.where(look_ts, score_ts, -np.inf)
    axis = 1 if keys else 0
    top = score_ts.max(axis, keepdims=True)
    weight_ts = np.exp(score_ts - np.where(np.isfinite(top), top, 0.0))
    weight_ts = weight_ts / np.maximum(weight_ts.sum(axis, keepdims=True), 1e-300)
    return np.where(look_ts, weight_ts, 0.0) @ v_sn


def _slip(function: Callable[..., Any], **flags: Any) -> Callable[..., Any]:
    return lambda *arguments: function(*arguments, **flags)


_ATTENTION_SLIPS: tuple[Slip, ...] = (
    (_slip(_attention, scale=0.0), "the scores are not divided by the root of the width of a query"),
    (_slip(_attention, scale=-1.0), "divide the scores by the *root* of the width, not by the width"),
    (_slip(_attention, keys=False), "the softmax runs over the queries; each *query* spends one unit over the keys"),
    (_slip(_attention, turned=True), "the mask is upside down: True means that the query may look"),
    (
        _slip(_attention, late=True),
        "the mask comes after the softmax, so rows add up to less than one: mask the scores",
    ),
    (lambda q, k, v, look: _attention(q, k, v, [[True] * len(k)] * len(q)), "the mask is not used"),
)


def attention(answer: Callable[[Rows, Rows, Rows, Mask], Rows]) -> None:
    """`attention(query, key, value, may_look)`: rows of mixed values; a query that may look nowhere gets zeros."""
    chance = np.random.default_rng()

    def compare(case: tuple[Any, ...], what: str, otherwise: str) -> None:
        got = call(answer, *case)
        expect_close(got, _attention(*case), what=what, hint=_named(got, _ATTENTION_SLIPS, case, otherwise))

    key, value = [[1.0, 2.0], [0.5, -1.0]], [[0.0, 3.0, 6.0], [2.0, 1.0, 0.0]]
    every = [[True, True]]
    compare(([[0.0, 0.0]], key, value, every), "a query of zeros", "equal scores give the mean of the values")
    compare(
        ([[1.0, 1.0]], key, value, [[False, True]]),
        "a query that may look at the second key only",
        "a forbidden key gets no weight: its score counts as -inf, not as 0",
    )
    got = call(answer, [[1.0, 0.0]], key, value, [[False, False]])
    cause = "0/0: a row that may look nowhere needs a case of its own"
    mean = ((lambda: np.mean(value, axis=0, keepdims=True), "equally low scores give the mean: this row needs zeros"),)
    expect_close(got, [[0.0] * 3], what="a query that may look nowhere", hint=_named(got, mean, (), cause))
    huge = ([[800.0, 0.0]], [[9.0, 0.0], [-9.0, 0.0]], value, every)
    compare(huge, "scores in the thousands", "take the largest score of the row away before exp, or it overflows")
    for _ in range(6):
        t, s, k, n = 3, 5, 4, 2
        q_tk, k_sk, v_sn = (2 * chance.standard_normal(size) for size in ((t, k), (s, k), (s, n)))
        look_ts = chance.random((t, s)) < 0.7
        look_ts[np.arange(t), np.arange(t)] = True
        case = (q_tk.tolist(), k_sk.tolist(), v_sn.tolist(), look_ts.tolist())
        compare(case, "3 queries, 5 keys, width 4", "softmax(q · k / √width) over the keys that may be looked at")
    expect_inputs_kept(answer, [[0.3, 0.1]], key, value, [[True, False]])


def _window(t: int, s: int, window: int, *, first: bool = False, more: int = 0, ahead: bool = False) -> Mask:
    start = 0 if first else s - t
    return [
        [(ahead or j <= i + start) and j > i + start - window - more and (not ahead or j < i + start + window)
         for j in range(s)] for i in range(t)
    ]  # fmt: skip


_WINDOW_SLIPS: tuple[Slip, ...] = (
    (_slip(_window, first=True), "with more keys than queries, the *last* query stands at the last key"),
    (_slip(_window, more=1), "one key too many: the query's own key counts, so a window of 1 is that alone"),
    (_slip(_window, more=-1), "one key too few: the query's own key and the window - 1 before it"),
    (_slip(_window, ahead=True), "the future can be seen: a query looks at its own key and at earlier ones"),
    (lambda t, s, w: ~np.asarray(_window(t, s, w)), "the mask is upside down: True means that the query may look"),
    (lambda t, s, w: _window(t, s, s + t), "the past is not cut off: `window` keys, the query's own among them"),
    (lambda t, s, w: _window(t, s, w)[::-1], "the rows stand in reverse: the first row belongs to the earliest query"),
)


def window(answer: Callable[[int, int, int], Mask]) -> None:
    """`window(t, s, window)`: rows of bool; the last query stands at the last key, each sees `window` keys."""
    for t, s, width in ((3, 3, 1), (4, 4, 2), (2, 5, 2), (3, 7, 4), (1, 6, 3), (5, 6, 9)):
        got: Any = call(answer, t, s, width)
        what = f"window({t}, {s}, {width})"
        expect_type(got, list, what, _return(got, "a list of lists of True / False"))
        expect(len(got) == t, f"{what} has {len(got)} rows, wanted {t}", "one row for each of the t queries")
        for row in got:
            size = len(row) if isinstance(row, list | tuple) else None
            expect(size == s, f"{what} has the row {row!r:.60}, wanted {s} entries", "one entry for each of the s keys")
        rows = [[bool(may) for may in row] for row in got]
        cause = _named(rows, _WINDOW_SLIPS, (t, s, width), "query i stands at key s - t + i")
        expect_equal(rows, _window(t, s, width), what, cause)


def _rope(
    x: list[float],
    position: float,
    base: float,
    *,
    sign: float = 1.0,
    neighbours: bool = False,
    power: float = 2.0,
    degrees: bool = False,
    added: bool = False,
    one: bool = False,
) -> list[float]:
    """The rotation; the flags make the slips that the check can name."""
    k, out = len(x), list(x)
    for i in range(k // 2):
        a, b = (2 * i, 2 * i + 1) if neighbours else (i, i + k // 2)
        angle = sign * position * (1.0 if one else base ** (-power * i / k))
        cos, sin = (
            math.cos(math.radians(angle) if degrees else angle),
            math.sin(math.radians(angle) if degrees else angle),
        )
        out[a], out[b] = (x[a] + cos, x[b] + sin) if added else (x[a] * cos - x[b] * sin, x[a] * sin + x[b] * cos)
    return out


_ROPE_SLIPS: tuple[Slip, ...] = (
    (_slip(_rope, neighbours=True), "the pairs are neighbours; here entry i goes with entry i + k/2"),
    (_slip(_rope, sign=-1.0), "turned the wrong way round: the first of a pair becomes a cos - b sin"),
    (_slip(_rope, power=1.0), "the exponent is -2i/k: with -i/k the pairs slow down only half as much"),
    (_slip(_rope, power=-2.0), "the exponent is -2i/k, with a minus: later pairs turn more slowly"),
    (_slip(_rope, power=4.0), "the exponent is -2i/k, where k is the whole width, not the half"),
    (_slip(_rope, degrees=True), "the angle is in radians"),
    (_slip(_rope, added=True), "sine and cosine are added; RoPE *turns* the pair"),
    (_slip(_rope, one=True), "all pairs turn at the same speed: pair i turns by position · base^(-2i/k)"),
    (lambda x, p, base: _rope(x, p, 10000.0), "the base is the third argument; it is not always 10000"),
)


def rope(answer: Callable[[list[float], int, float], list[float]]) -> None:
    """`rope(x, position, base)`: the pairs (x[i], x[i + k/2]) turned by position · base^(-2i/k)."""
    chance = np.random.default_rng()

    def turned(x: list[float], position: int, base: float) -> Any:
        got = call(answer, x, position, base)
        cause = _named(
            got,
            _ROPE_SLIPS,
            (x, position, base),
            "pair i: (a cos - b sin, a sin + b cos), angle position · base^(-2i/k)",
        )
        rounded = ", ".join(f"{value:.3g}" for value in x)
        expect_close(got, _rope(x, position, base), what=f"rope([{rounded}], {position}, {base:g})", hint=cause)
        return got

    x = [1.0, 2.0, 3.0, 4.0]
    got = call(answer, x, 0, 10000.0)
    expect_close(
        got,
        x,
        what="rope([1.0, 2.0, 3.0, 4.0], 0, 10000)",
        hint=_named(got, _ROPE_SLIPS, (x, 0, 10000.0), "at position 0 nothing is turned"),
    )
    turned(x, 1, 10000.0)
    turned([1.0, 0.0], 3, 10000.0)
    for k, base in ((6, 10000.0), (8, 500.0)):
        q, key = chance.standard_normal(k).tolist(), chance.standard_normal(k).tolist()
        at, offset = int(chance.integers(1, 20)), int(chance.integers(1, 9))
        near = np.dot(turned(q, at + offset, base), turned(key, at, base))
        far = np.dot(turned(q, at + offset + 50, base), turned(key, at + 50, base))
        expect_close(far, near, tolerance=1e-5, what=f"the product at a distance of {offset}, 50 words further on")
    expect_inputs_kept(answer, [0.5, -1.0, 0.2, 2.0], 7, 10000.0)


def _multi_head(
    x: np.ndarray,
    maps: Sequence[np.ndarray] | np.ndarray,
    n_head: int,
    *,
    cut: bool = True,
    merge: bool = True,
    root: bool = True,
) -> np.ndarray:
    """Multi-head self-attention; the flags put the bugs of the exercise back in."""
    t, d = x.shape
    k = d // n_head

    def heads(y: np.ndarray) -> np.ndarray:
        return y.reshape(t, n_head, k).transpose(1, 0, 2) if cut else y.reshape(n_head, t, k)

    q, key, value = (heads(x @ m) for m in maps[:3])
    score = q @ key.transpose(0, 2, 1) / math.sqrt(k if root else d)
    weight = np.exp(score - score.max(-1, keepdims=True))
    mixed = weight / weight.sum(-1, keepdims=True) @ value
    return (mixed.transpose(1, 0, 2) if merge else mixed).reshape(t, d) @ maps[3]


_HEAD_SLIPS: tuple[Slip, ...] = (
    (_slip(_multi_head, root=False), "divide by the root of the width of one *head*, k = d / n_head, not of d"),
    (
        _slip(_multi_head, merge=False),
        "the heads are merged in the wrong order: each word gets back its own rows, so turn (h, t, k) to (t, h, k)",
    ),
    (
        _slip(_multi_head, cut=False),
        "the heads are cut across words: reshape (t, d) to (t, h, k) first, then turn it to (h, t, k)",
    ),
    (
        _slip(_multi_head, cut=False, merge=False),
        "heads are still cut, and merged, across words: turn the axes both times",
    ),
    (_slip(_multi_head, cut=False, merge=False, root=False), "this still is the function with its three bugs"),
    (_slip(_multi_head, merge=False, root=False), "two bugs are left: the order of the merge, and the root"),
    (_slip(_multi_head, cut=False, root=False), "two bugs are left: the cut, and the root"),
    (lambda x, maps, h: _multi_head(x, [*maps[:3], np.eye(len(maps[3]))], h), "the last of the four maps is missing"),
    (
        lambda x, maps, h: _multi_head(x, [*maps[:3], maps[3].T], h),
        "the maps stand on the right: x @ map, not transposed",
    ),
)


def multi_head(answer: Callable[[np.ndarray, np.ndarray, int], np.ndarray]) -> None:
    """`multi_head(x, maps, n_head)`: x (t, d), maps (4, d, d) for query, key, value and output; gives (t, d)."""
    chance = np.random.default_rng()
    for t, k, n_head in ((4, 3, 1), (3, 2, 2), (5, 2, 3), (2, 4, 3)):
        d = n_head * k
        x, maps = chance.standard_normal((t, d)), chance.standard_normal((4, d, d)) * d**-0.5
        case = (x, maps, n_head)
        got = call(answer, *case)
        cause = _named(
            got, _HEAD_SLIPS, case, "with one head compare with plain attention; then look at the two reshapes"
        )
        what = f"{t} words, {n_head} head{'s' * (n_head > 1)} of width {k}"
        expect_close(got, _multi_head(*case), what=what, hint=cause)
        order = chance.permutation(t)
        moved = call(answer, x[order], maps, n_head)
        expect_close(moved, np.asarray(got)[order], what=f"{what}, shuffled", hint="words of one head got mixed")
    expect_inputs_kept(answer, chance.standard_normal((3, 4)), chance.standard_normal((4, 4, 4)), 2)


def pairs_that_look(may_look: Mask) -> int:
    """The score of the open exercise: how many pairs of words may look, the fewer the better.

    >>> pairs_that_look([[True, False], [True, True]])
    3
    """
    return sum(bool(may) for row in may_look for may in row)


def unheard(may_look: Mask) -> tuple[int, int] | None:
    """The first pair (t, s), s ≤ t, where word t hears nothing of word s after two layers; None when there is none.

    >>> unheard([[True, False, False], [True, True, False], [False, False, True]])
    (2, 0)
    """
    look = np.asarray(may_look, dtype=int)
    heard = look @ look > 0
    return next(((t, s) for t in range(len(look)) for s in range(t + 1) if not heard[t, s]), None)


def short_cuts(answer: Callable[[int], Mask]) -> None:
    """`short_cuts(n)`: a causal mask for n words with few pairs, through which two layers carry everything."""
    for n in (1, 2, 5, 16, 37, WORDS):
        got: Any = call(answer, n)
        what = f"short_cuts({n})"
        expect_type(got, list, what, _return(got, "a list of n rows of True / False"))
        sizes = {len(row) if isinstance(row, list | tuple) else -1 for row in got}
        expect(
            len(got) == n and sizes == {n},
            f"{what} must have {n} rows of {n} entries",
            "row t, entry s: may t look at s?",
        )
        ahead = next(((t, s) for t in range(n) for s in range(t + 1, n) if got[t][s]), None)
        if ahead is not None:
            raise Wrong(
                f"{what}: word {ahead[0]} looks at word {ahead[1]}, which comes later", "only s ≤ t may be True"
            )
        if (lost := unheard(got)) is not None:
            raise Wrong(
                f"{what}: after two layers word {lost[0]} has heard nothing of word {lost[1]}", _lost_cause(got, *lost)
            )
        if n == WORDS and (used := pairs_that_look(got)) > GOAL:
            cause = "all pairs: any word could go through a few hubs instead" if used == n * (n + 1) // 2 else ""
            cause = cause or "blocks of about √n words, and the last word of each block as a hub for all later ones"
            raise Wrong(f"{what} uses {used} pairs, wanted at most {GOAL}", cause)


def _lost_cause(may_look: Mask, t: int, s: int) -> str:
    if not may_look[t][t]:
        return f"word {t} does not look at itself, so it cannot keep what it heard in the first layer"
    first = [u for u in range(len(may_look)) if may_look[t][u]]
    return f"word {t} looks at {first[:8]}, and none of these looks at {s}: somebody must stand between"
