"""Checks of chapter 07: brevity, smoothing without padding, a count, a stack with bugs, rules that translate.

All answers take and give plain numbers, strings and lists. The open exercise is judged by BLEU on fresh sentences of
the village.

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
from minillm.course.dictionary import RULES_START, bleu_of_characters, measure_words, village_dictionary
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village

GOAL = 80.0  # BLEU of the rules
EPS = 1e-5  # of the norm
Matrix = list[list[float]]
KINDS = {  # a word that marks each kind of sentence
    "know": "X does not know …",
    "than": "The … that X … is … than …",
    "by": "X bought … by the …",
    "On": "On Monday X gave Y …",
    "If": "If it rains …",
    "because": "X the baker sings …",
    "There": "There are two …",
    "": "The cats of X like …",
}


def _closest(length: int, choices: Sequence[int]) -> int:
    return min(choices, key=lambda r: (abs(r - length), r))


def _penalty(c: float, r: float) -> float:
    return (1.0 if c >= r else math.exp(1 - r / c)) if c else 0.0


def brevity(answer: Callable[[list[int], list[list[int]]], float]) -> None:
    """`brevity(lengths, choices)`: BLEU's penalty for a corpus; choices[i] are the reference lengths of text i."""
    got: Any = call(answer, [4], [[5]])
    what = "brevity([4], [[5]])"
    expect(is_number(got), f"{what} gave {got!r:.80}, wanted a number", "is there a `return`?")
    causes = {
        math.exp(1 - 4 / 5): "r / c is turned round: the penalty is exp(1 - r / c), with r of the references",
        math.exp(5 / 4 - 1): "the sign is turned round: exp(1 - r / c) is below 1 for a short text",
        4 / 5: "the penalty is exp(1 - r / c), not c / r",
        100 * math.exp(-0.25): "the penalty is a factor from 0 to 1, not out of 100",
    }
    expect_close(got, math.exp(-0.25), what=what, hint=_likely(got, causes, "the penalty is exp(1 - r / c)"))
    got = call(answer, [6], [[5]])
    cause = "a text that is longer than its reference is not rewarded: the penalty is at most 1"
    expect_close(got, 1.0, what="brevity([6], [[5]])", hint=cause)
    got = call(answer, [2, 6], [[4], [4]])
    cause = "the lengths of the whole corpus are added up first: 8 words against 8 have no penalty"
    expect_close(got, 1.0, what="brevity([2, 6], [[4], [4]])", hint=cause)
    got = call(answer, [4], [[9, 5]])
    r9, r7 = _penalty(4, 9), _penalty(4, 7)
    cause = "r is the reference *closest* in length, here 5, not the first or the longest"
    causes = {r9: cause, r7: "r is the closest reference, not their mean"}
    expect_close(got, math.exp(-0.25), what="brevity([4], [[9, 5]])", hint=_likely(got, causes, "take the closest"))
    got = call(answer, [4], [[2, 5]])
    cause = "r is the reference *closest* in length, here 5, not the shortest or the first"
    expect_close(got, math.exp(-0.25), what="brevity([4], [[2, 5]])", hint=cause)
    got = call(answer, [4], [[5, 3]])
    expect_close(got, 1.0, what="brevity([4], [[5, 3]])", hint="of two references equally close the shorter counts")
    got = call(answer, [0], [[3]])
    expect_close(got, 0.0, what="brevity([0], [[3]])", hint="a corpus without a word has the penalty 0")
    chance = random.Random()
    for _ in range(8):
        n = chance.randint(2, 6)
        lengths = [chance.randint(1, 9) for _ in range(n)]
        choices = [[chance.randint(1, 12) for _ in range(chance.randint(1, 3))] for _ in range(n)]
        r = sum(_closest(length, choice) for length, choice in zip(lengths, choices, strict=True))
        cause = "choose the closest reference for each text, add up both sides, then one penalty"
        got = call(answer, lengths, choices)
        expect_close(got, _penalty(sum(lengths), r), what=f"brevity({lengths}, {choices})", hint=cause)
    expect_inputs_kept(answer, [4, 5], [[5, 3], [7]])


def _likely(got: float, causes: dict[float, str], otherwise: str) -> str:
    return next((text for value, text in causes.items() if math.isclose(got, value, abs_tol=1e-6)), otherwise)


def _smoothed(logits: Any, targets: list[int], padding: int, epsilon: float) -> float:
    log_p = np.asarray(logits, float)
    log_p = log_p - log_p.max(-1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
    costs = [-(1 - epsilon) * log_p[i, y] - epsilon * log_p[i].mean() for i, y in enumerate(targets) if y != padding]
    return float(np.mean(costs))


def smoothed_loss(answer: Callable[[Matrix, list[int], int, float], float]) -> None:
    """`smoothed_loss(logits, targets, padding, epsilon)`: mean cross-entropy with label smoothing, padding left out."""
    got: Any = call(answer, [[0.0, 0.0, 0.0, 0.0]], [2], 0, 0.0)
    what = "smoothed_loss([[0, 0, 0, 0]], [2], padding=0, epsilon=0)"
    expect(is_number(got), f"{what} gave {got!r:.80}, wanted a number", "is there a `return`?")
    causes = {
        2.0: "the loss is in nats: the natural logarithm",
        -math.log(4): "the sign is missing: the loss is -log p",
        0.0: "the scores are not probabilities yet: softmax first",
        0.25: "the loss is the logarithm of the probability",
    }
    expect_close(got, math.log(4), what=what, hint=_likely(got, causes, "four equal scores cost log 4"))
    logits = [[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]]
    got = call(answer, logits, [1, 2], 0, 0.0)
    causes = {_smoothed(logits, [1, 2], 0, 1.0): "epsilon is the part that is *spread*; the target keeps 1 - epsilon"}
    cause = _likely(got, causes, "without smoothing this is the mean of -log softmax(logits)[target]")
    expect_close(got, _smoothed(logits, [1, 2], 0, 0.0), what="two tokens, epsilon=0", hint=cause)
    got = call(answer, logits, [1, 2], 0, 0.3)
    causes = {
        _others(logits, [1, 2], 0.3): "the smoothed part is spread over *all* words, the target among them",
        _smoothed(logits, [1, 2], 0, 0.0): "epsilon changes nothing: the part ε goes to the mean of -log p",
    }
    cause = _likely(got, causes, "(1 - ε) · (-log p of the target) + ε · the mean of -log p over all words")
    expect_close(got, _smoothed(logits, [1, 2], 0, 0.3), what="two tokens, epsilon=0.3", hint=cause)
    padded, targets = [*logits, [9.0, -9.0, 0.0]], [1, 2, 0]
    got = call(answer, padded, targets, 0, 0.3)
    right = _smoothed(logits, [1, 2], 0, 0.3)
    causes = {
        _smoothed(padded, targets, -1, 0.3): "the padding is counted: leave out the places whose target is padding",
        right * 2 / 3: "divide by the number of real targets, not by the length of the row",
        _smooth_on_padding(padded, targets, 0.3): "smoothing still counts at the padding: leave out *both* parts there",
        _smooth_on_padding(padded, targets, 0.3) * 1.5: "smoothing still counts at the padding: leave out *both* parts",
    }
    cause = _likely(got, causes, "the scores at a place with padding must not matter at all")
    expect_close(got, right, what="the same two tokens and one place of padding, epsilon=0.3", hint=cause)
    cause = "subtract the largest score of the row first: exp(1000) is too large for a number"
    large = [[1000.0, 990.0, 0.0]]
    expect_close(call(answer, large, [1], 0, 0.0), 10.0, what="scores near 1000", hint=cause, tolerance=1e-4)
    chance = np.random.default_rng()
    for turn in range(6):
        n, v = int(chance.integers(3, 7)), int(chance.integers(3, 8))
        padding, epsilon = int(chance.integers(0, v)) if turn else v - 1, float(chance.uniform(0.0, 0.5))
        rows = chance.normal(size=(n, v)).tolist()
        targets = [1 if padding != 1 else 2, padding, 0, *(int(y) for y in chance.integers(0, v, size=n - 3))]
        cause = f"here the padding is {padding}: it is the third argument"
        what = f"random scores, targets={targets}, padding={padding}, epsilon={epsilon:.2f}"
        expect_close(
            call(answer, rows, targets, padding, epsilon), _smoothed(rows, targets, padding, epsilon), 1e-5, what, cause
        )
    expect_inputs_kept(answer, [[0.1, 0.2, 0.3], [1.0, 0.0, 0.0]], [1, 0], 0, 0.1)


def _others(logits: Matrix, targets: list[int], epsilon: float) -> float:
    """Smoothing over all words but the target."""
    v = len(logits[0])
    spread = epsilon * v / (v - 1)  # the target's own share of the mean goes elsewhere
    plain, smooth = _smoothed(logits, targets, -1, 0.0), _smoothed(logits, targets, -1, 1.0)
    return plain * (1 - spread) + smooth * spread


def _smooth_on_padding(logits: Matrix, targets: list[int], epsilon: float) -> float:
    """The target's part without the padding, the smoothed part with it, over the length of the row."""
    n, real = len(targets), [i for i, y in enumerate(targets) if y]
    plain = _smoothed([logits[i] for i in real], [targets[i] for i in real], -1, 0.0) * len(real)
    return ((1 - epsilon) * plain + epsilon * n * _smoothed(logits, targets, -1, 1.0)) / n


def _norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + EPS)


def _stack(
    x: Any, layers: list[tuple[Any, Any]], *, overwrite: bool = False, last: bool = True, post: bool = False,
    residual: bool = True, outer: bool = False,
) -> np.ndarray:  # fmt: skip
    """The pre-norm stack; the flags make the slips that the check can name."""
    x = np.asarray(x, float)
    for up, down in layers:
        x = _norm(x) if overwrite else x
        change = np.asarray(down) @ np.maximum(0.0, np.asarray(up) @ (x if post else _norm(x)))
        change = np.maximum(0.0, change) if outer else change
        x = (x if residual else 0.0) + change
        x = _norm(x) if post else x
    return _norm(x) if last and not post else x


_SLIPS: tuple[tuple[dict[str, bool], str], ...] = (
    ({"overwrite": True}, "the norm is written *onto the stream*: norm(x) goes into the layer, x itself goes on"),
    ({"last": False}, "the last norm is missing: a pre-norm stack ends with one"),
    ({"overwrite": True, "last": False}, "both bugs are still there"),
    ({"post": True}, "this is post-norm, the paper's form: here the norm stands *before* each layer"),
    ({"residual": False}, "the residual is missing: the layer's result is *added* to x"),
    ({"outer": True}, "no relu after the second matrix: a layer must be able to subtract"),
)


def pre_norm(answer: Callable[[list[float], list[tuple[Matrix, Matrix]]], list[float]]) -> None:
    """`pre_norm(x, layers)`: x + down · relu(up · norm(x)) for each layer, and a norm at the end."""
    got: Any = call(answer, [1.0, 3.0], [])
    expect_type(got, list, "pre_norm([1.0, 3.0], [])", "is there a `return`?" if got is None else "return a list")
    cause = "without a layer only the last norm is left" if _same(got, [1.0, 3.0]) else "norm: mean 0, variance 1"
    expect_close(got, _norm(np.array([1.0, 3.0])), what="pre_norm([1.0, 3.0], [])", hint=cause)
    chance = np.random.default_rng()
    for n in (2, 1, 3):  # with one layer some slips look alike
        d, f = int(chance.integers(3, 6)), int(chance.integers(6, 9))
        x: Any = chance.normal(1.0, 3.0, size=d).tolist()
        layers: Any = [(chance.normal(size=(f, d)).tolist(), chance.normal(size=(d, f)).tolist()) for _ in range(n)]
        got = call(answer, x, layers)
        cause = next((text for slip, text in _SLIPS if _same(got, _stack(x, layers, **slip))), "")
        cause = cause or "for each layer: x + down · relu(up · norm(x)); at the end norm(x)"
        what = f"pre_norm of {d} numbers and {n} layer{'s' * (n > 1)}"
        expect_close(got, _stack(x, layers), what=what, hint=cause, tolerance=1e-5)
    expect_inputs_kept(answer, [1.0, 2.0, 4.0], [([[1.0, 0.0, 0.0]], [[1.0], [0.0], [2.0]])])


def _same(got: Any, wanted: Any) -> bool:
    try:
        return bool(np.allclose(np.asarray(got, float), wanted, atol=1e-3))
    except (TypeError, ValueError):
        return False


def _parts(v: int, d: int, f: int, layers: int) -> dict[str, int]:
    return {
        "table": v * d,
        "attention": 3 * layers * 4 * (d * d + d),
        "feed-forward": 2 * layers * (2 * d * f + f + d),
        "norms": 5 * layers * 2 * d,
    }


def parameters(answer: Callable[[int, int, int, int], dict[str, int]]) -> None:
    """`parameters(vocabulary, d, f, layers)`: the numbers in the machine of 2017, in four parts."""
    v, d, f, n = 11, 4, 7, 3
    got: Any = call(answer, v, d, f, n)
    what = f"parameters({v}, {d}, {f}, {n})"
    expect_type(got, dict, what)
    right = _parts(v, d, f, n)
    expect(set(got) == set(right), f"{what} has the keys {list(got)}", f"the keys are {', '.join(right)}")
    causes: dict[str, dict[float, str]] = {
        "table": {
            2 * v * d: "one table serves source, target and output",
            3 * v * d: "one table serves source, target and output",
            v * d + v: "the output layer has no bias: it is the table itself",
        },
        "attention": {
            3 * n * 4 * d * d: "each of the four maps has a bias of d numbers too",
            3 * n * 3 * (d * d + d): "there are four maps: query, key, value and the one that mixes the heads",
            2 * n * 4 * (d * d + d): "a decoder layer has *two* attentions: to itself and to the source",
            2 * n * 4 * d * d: "a decoder layer has two attentions, and each map has a bias",
            4 * (d * d + d): "that is one attention; how many are there in all layers?",
        },
        "feed-forward": {
            2 * n * 2 * d * f: "both maps have biases: f numbers and d numbers",
            n * (2 * d * f + f + d): "encoder *and* decoder layers have one each",
            2 * n * (d * f + f): "there are two maps: up to f, and down to d",
            3 * n * (2 * d * f + f + d): "a decoder layer has two attentions, but only one feed-forward network",
        },
        "norms": {
            5 * n * d: "a norm has a gain *and* a shift for each of the d numbers",
            4 * n * 2 * d: "a decoder layer has three sublayers, so three norms",
            2 * n * 2 * d: "each sublayer has a norm: two in an encoder layer, three in a decoder layer",
            5 * n * 2: "a norm's gain and shift are one for each of the d numbers",
            (5 * n + 2) * 2 * d: "this is the post-norm machine of the paper: no norm at the ends",
        },
    }
    otherwise = {
        "table": "one row of d numbers for each word",
        "attention": "4 maps of d² + d numbers; one attention in an encoder layer, two in a decoder layer",
        "feed-forward": "d · f + f up, f · d + d down; one in every layer of both sides",
        "norms": "2 d for each sublayer: two in an encoder layer, three in a decoder layer",
    }
    for name, wanted in right.items():
        expect(is_number(got[name]), f"{what}[{name!r}] is {got[name]!r:.40}, wanted a number")
        expect_equal(got[name], wanted, f"{what}[{name!r}]", _likely(got[name], causes[name], otherwise[name]))
    chance = random.Random()
    for _ in range(5):
        case = chance.randint(20, 99), chance.randint(3, 19), chance.randint(20, 60), chance.randint(1, 6)
        expect_equal(call(answer, *case), _parts(*case), f"parameters{case}", "the four arguments are v, d, f, layers")


def _translated(answer: Callable[..., Any], english: str) -> str:
    got: Any = call(answer, WordTokenizer.split(english), village_dictionary(), measure_words())
    what = f"the translation of {english!r}"
    hint = "is there a `return`, also after the last `if`?" if got is None else 'join the pieces: "".join(…)'
    expect_type(got, str, what, hint)
    return str(got)


def rules(answer: Callable[[list[str], dict[str, str], dict[str, str]], str]) -> None:
    """`rules(words, dictionary, measures)`: Chinese by rules; BLEU on 200 sentences of the village must reach 80."""
    pairs = Village(seed=0).translations(200, start=RULES_START)
    got = [_translated(answer, english) for english, _ in pairs]
    if (score := bleu_of_characters(got, [chinese for _, chinese in pairs])) >= GOAL:
        expect_inputs_kept(answer, WordTokenizer.split(pairs[0][0]), village_dictionary(), measure_words())
        return
    losses: dict[str, list[int]] = {mark: [] for mark in KINDS}
    for i, (english, _) in enumerate(pairs):
        losses[next(mark for mark in KINDS if not mark or mark in WordTokenizer.split(english))].append(i)
    scores = {
        mark: bleu_of_characters([got[i] for i in rows], [pairs[i][1] for i in rows])
        for mark, rows in losses.items()
        if rows
    }
    worst = max(scores, key=lambda mark: (100 - scores[mark]) * len(losses[mark]))
    example = min(losses[worst], key=lambda i: bleu_of_characters([got[i]], [pairs[i][1]]))
    english, chinese = pairs[example]
    raise Wrong(
        f"BLEU {score:.1f}, wanted {GOAL:.0f}; most is lost at sentences of the kind {KINDS[worst]!r}",
        f"{english!r} became {got[example]!r}, wanted {chinese!r}",
    )
