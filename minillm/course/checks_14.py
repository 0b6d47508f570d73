"""Checks of chapter 14: a router, sizes from a published configuration, who is turned away, a bias, a balance.

The answers take and give plain numbers, lists and dicts. The open exercise is judged by `mixed_reading`: a small reader
with experts is trained here, balanced as the learner says, and reads new text.

Next:    minillm/course/grading.py
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
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

Rows = Sequence[Sequence[float]]


def _return(got: object, otherwise: str = "") -> str:
    """The hint for an answer of the wrong kind."""
    return "is there a `return`?" if got is None else otherwise


def _pair(got: Any, what: str, names: str, n: int = 2) -> Any:
    good = isinstance(got, tuple | list) and len(got) == n
    expect(good, f"{what} gave {got!r:.80}", _return(got, f"return {n} things: {names}"))
    return got


def _softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    parts = [math.exp(logit - top) for logit in logits]
    return [part / sum(parts) for part in parts]


def _route(
    logits: Sequence[float], k: int, normalise: bool, *, least: bool = False, over: bool = False, flip: bool = False
) -> tuple[list[int], list[float]]:
    """The router; `least`, `over` (softmax over the chosen, always) and `flip` (`normalise` turned round) are slips."""
    chosen = sorted(range(len(logits)), key=lambda e: logits[e], reverse=not least)[:k]
    probability = _softmax(logits)
    weight = [probability[e] for e in chosen]
    if over or normalise != flip:
        weight = [w / sum(weight) for w in weight]
    return chosen, weight


def route(answer: Callable[..., tuple[list[int], list[float]]]) -> None:
    """`route(logits, k, normalise)`: the k experts of one token, the best first, and their weights."""
    chance = random.Random()
    cases: list[tuple[list[float], int, bool]] = [([0.0, math.log(2), math.log(5)], 2, True)]
    cases += [([0.0, math.log(2), math.log(5)], 2, False), ([3.0, -1.0, 2.0, 0.5], 1, False), ([3.0, -1.0], 1, True)]
    cases += [([chance.gauss(0, 2) for _ in range(n)], k, chance.random() < 0.5) for n, k in ((5, 3), (8, 2), (4, 4))]
    cases.append(([1000.0, -1000.0, 999.0], 2, False))
    for logits, k, normalise in cases:
        what = f"route({[round(logit, 2) for logit in logits]}, {k}, {normalise})"
        got = _pair(call(answer, logits, k, normalise), what, "the list of experts and the list of weights")
        for part in got:
            expect_type(
                part, (list, tuple), f"a part of {what}", "return 2 things: the list of experts and the list of weights"
            )
        (chosen, weight), found = _route(logits, k, normalise), list(got[0])
        expect_equal(found, chosen, f"the experts of {what}", _route_cause(found, logits, k))
        cause = "the weights stand in the order of the experts, and are their probabilities under the softmax of all"
        if len(got[1]) == k and np.allclose(got[1], _route(logits, k, normalise, over=True)[1]):
            cause = "normalise is False: the weights are the probabilities among all experts, and need not add up to 1"
        elif len(got[1]) == k and np.allclose(got[1], _route(logits, k, normalise, flip=True)[1]):
            cause = "normalise is True: the weights of the chosen must add up to 1; divide by their sum"
        elif len(got[1]) == k and np.allclose(got[1], [logits[e] for e in chosen]):
            cause = "these are the logits: weights are their softmax"
        elif k > 1 and len(got[1]) == k and np.allclose(sorted(got[1]), sorted(weight)):
            cause = "the right numbers in another order: weight i belongs to expert i of the list"
        expect_close(list(got[1]), weight, what=f"the weights of {what}", hint=cause)
    expect_inputs_kept(answer, [0.3, 0.1, 0.2], 2, True)


def _route_cause(found: list[Any], logits: Sequence[float], k: int) -> str:
    if found == _route(logits, k, True, least=True)[0]:
        return "these have the smallest logits: sort the other way round"
    if sorted(map(str, found)) == sorted(map(str, _route(logits, k, True)[0])):
        return "the right experts, but the best comes first"
    return "the numbers of the k experts with the largest logits, counted from 0"


_MIXTRAL = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}


def _sizes(
    config: dict[str, int],
    *,
    maps: int = 3,
    router: bool = True,
    norms: bool = True,
    shared: bool = True,
    tables: int = 2,
    layers: bool = True,
) -> tuple[int, int]:
    """Total and active parameters; each flag leaves something out that learners leave out."""
    d, inner = config["hidden_size"], config["intermediate_size"]
    width = (
        d
        // config["num_attention_heads"]
        * (config["num_key_value_heads"] if shared else config["num_attention_heads"])
    )
    fixed = 2 * d * d + 2 * d * width + 2 * d * norms + d * config["num_local_experts"] * router
    outside = tables * config["vocab_size"] * d + d * norms
    n_layer = config["num_hidden_layers"] if layers else 1
    total, active = (
        n_layer * (fixed + config[experts] * maps * d * inner) + outside
        for experts in ("num_local_experts", "num_experts_per_tok")
    )
    return total, active


_MISCOUNTS = (
    (partial(_sizes, maps=2), "an expert has three matrices: gate, up and down"),
    (
        partial(_sizes, router=False),
        "each layer has a router, hidden_size × num_local_experts, which every token passes",
    ),
    (partial(_sizes, norms=False), "two norms in each layer and one at the end, hidden_size numbers each"),
    (partial(_sizes, shared=False), "keys and values have num_key_value_heads heads of hidden_size / heads numbers"),
    (partial(_sizes, tables=1), "two tables: the embedding, and the scores of the next token"),
    (partial(_sizes, layers=False), "every layer has its own attention, router and experts"),
)


def sizes(answer: Callable[[dict[str, int]], tuple[int, int]]) -> None:
    """`sizes(config)`: parameters of a published mixture in total, and those that one token passes."""
    small = _MIXTRAL | {"vocab_size": 50, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 6}
    small |= {"num_key_value_heads": 2, "intermediate_size": 20, "num_local_experts": 5, "num_experts_per_tok": 3}
    cases = [("a small mixture", small), ("one expert", small | {"num_local_experts": 1, "num_experts_per_tok": 1})]
    for what, config in [*cases, ("Mixtral 8x7B", _MIXTRAL)]:
        got, wanted = _pair(call(answer, config), f"sizes({what})", "total and active"), _sizes(config)
        for i, name in enumerate(("total", "active")):
            if isinstance(got[i], bool) or not isinstance(got[i], int | float):
                expect_type(got[i], int, f"the {name} of sizes({what})")
            causes = "; or: ".join(text for slip, text in _MISCOUNTS if slip(config)[i] == got[i])
            if i and got[1] == got[0]:
                causes = "a token passes num_experts_per_tok experts of each layer, not all of them"
            if got[i] == config["num_local_experts"] * wanted[1]:
                causes = "the attention, the tables and the norms are there once, not once for each expert"
            cause = causes or "layers · (attention + router + norms + experts · 3 · d · f) + tables + last norm"
            expect(got[i] == wanted[i], f"the {name} of sizes({what}) is {got[i]:,}, wanted {wanted[i]:,}", cause)
    expect_inputs_kept(answer, dict(small))


def _first_come(
    chosen: Sequence[Sequence[int]],
    capacity: int,
    *,
    by_token: bool = False,
    last: bool = False,
    apart: bool = False,
) -> list[list[bool]]:
    """Who finds room; the flags are slips: token by token, from the end, a room for each place among the choices."""
    n, k = len(chosen), len(chosen[0])
    tokens = list(range(n))[::-1] if last else list(range(n))
    queue = [(t, c) for t in tokens for c in range(k)] if by_token else [(t, c) for c in range(k) for t in tokens]
    room: dict[Any, int] = {}
    kept = [[False] * k for _ in range(n)]
    for t, c in queue:
        key = (chosen[t][c], c) if apart else chosen[t][c]
        kept[t][c] = room.get(key, 0) < capacity
        room[key] = room.get(key, 0) + 1
    return kept


_QUEUES = (
    (partial(_first_come, by_token=True), "all first choices come before any second one; this goes token by token"),
    (partial(_first_come, last=True), "the earlier token is served first"),
    (partial(_first_come, apart=True), "an expert has one room for first and second choices together"),
    (lambda chosen, capacity: _first_come(chosen, capacity + 1), "one too many: an expert takes `capacity` choices"),
    (lambda chosen, capacity: _first_come(chosen, capacity - 1), "one too few: an expert takes `capacity` choices"),
    (
        lambda chosen, capacity: [[not x for x in r] for r in _first_come(chosen, capacity)],
        "True means: there was room",
    ),
)


def first_come(answer: Callable[[list[list[int]], int], list[list[bool]]]) -> None:
    """`first_come(chosen, capacity)`: which choices find room when an expert takes `capacity` of them."""
    chance = random.Random()
    cases = [([[0], [0], [1], [0]], 2), ([[0, 1], [1, 0], [0, 1]], 2), ([[0, 1], [1, 2]], 9)]
    cases += [
        ([chance.sample(range(e), k) for _ in range(n)], c) for n, k, e, c in ((7, 2, 3, 3), (9, 3, 4, 4), (6, 2, 5, 1))
    ]
    for chosen, capacity in cases:
        got, what = call(answer, chosen, capacity), f"first_come({chosen}, {capacity})"
        expect_type(got, list, what, _return(got))
        wanted = _first_come(chosen, capacity)
        found = [list(row) if isinstance(row, list | tuple) else row for row in got]
        causes = [text for slip, text in _QUEUES if slip(chosen, capacity) == found]
        cause = causes[0] if causes else "a list of True and False for each token, one for each of its choices"
        expect_equal(found, wanted, what, cause)
    expect_inputs_kept(answer, [[0, 1], [0, 1]], 1)


def _balance_step(
    scores: Rows,
    bias: Sequence[float],
    k: int,
    speed: float,
    *,
    sign: int = 1,
    weighed: bool = False,
    blind: bool = False,
    size: bool = False,
    share: float = 0.0,
    whole: bool = True,
) -> tuple[list[list[float]], list[float]]:
    """Weights of every token and the next bias; the flags are slips."""
    count, weights = [0] * len(bias), []
    for row in scores:
        wish = [score + (0 if blind else b) for score, b in zip(row, bias, strict=True)]
        chosen = sorted(range(len(row)), key=lambda e: -wish[e])[:k]
        own = [(wish if weighed else row)[e] for e in chosen]
        weights.append([w / (sum(own) if whole else 1) for w in own])
        for e in chosen:
            count[e] += 1
    even = share or len(scores) * k / len(bias)
    step = [sign * speed * ((even - c) if size else (even > c) - (even < c)) for c in count]
    return weights, [b + s for b, s in zip(bias, step, strict=True)]


def balance_step(answer: Callable[..., tuple[list[list[float]], list[float]]]) -> None:
    """`balance_step(scores, bias, k, speed)`: the weights of each token's k experts, and the bias for the next step."""
    chance = random.Random()
    cases = [([[0.9, 0.5, 0.1], [0.8, 0.3, 0.2]], [0.0, 0.0, 0.0], 1, 0.5)]
    cases += [
        ([[0.6, 0.5, 0.1], [0.7, 0.2, 0.5]], [-0.3, 0.0, 0.0], 2, 0.25),
        ([[0.9, 0.1], [0.1, 0.9]], [0.0, 0.0], 1, 0.5),
    ]
    for n, e, k in ((7, 4, 2), (9, 5, 3)):
        rows = [[chance.random() for _ in range(e)] for _ in range(n)]
        cases.append((rows, [chance.uniform(-0.4, 0.4) for _ in range(e)], k, 0.01))
    for scores, bias, k, speed in cases:
        what = f"balance_step({scores!r:.60}, {[round(b, 2) for b in bias]}, {k}, {speed})"
        got = _pair(call(answer, scores, bias, k, speed), what, "the weights and the new bias")
        weights, new = _balance_step(scores, bias, k, speed)
        causes = [text for slip, text in _SLIPS if _near(got, slip(scores, bias, k, speed))]
        cause = causes[0] if causes else ""
        expect_close(got[1], new, what=f"the new bias of {what}", hint=cause or "± speed, or 0 where the load is even")
        cause = cause or "choose by score + bias; weigh by score alone, over the sum of the chosen scores"
        expect_close(got[0], weights, what=f"the weights of {what}", hint=cause)
    expect_inputs_kept(answer, [[0.9, 0.5], [0.8, 0.3]], [0.0, 0.1], 1, 0.5)


def _near(got: Any, slip: tuple[list[list[float]], list[float]]) -> bool:
    try:
        return all(np.allclose(np.asarray(a, float), np.asarray(b, float)) for a, b in zip(got, slip, strict=True))
    except (TypeError, ValueError):
        return False


_SLIPS = (
    (partial(_balance_step, sign=-1), "an expert with too much must become *less* wanted: the sign is turned round"),
    (partial(_balance_step, weighed=True), "the bias has a say in the choice, and none in the weights"),
    (
        partial(_balance_step, blind=True),
        "the k experts with the largest score + bias are chosen; this looks at scores alone",
    ),
    (
        partial(_balance_step, size=True),
        "the step is `speed`, whatever the size of the difference: its sign alone counts",
    ),
    (partial(_balance_step, whole=False), "the weights of a token add up to 1: divide by the sum of its chosen scores"),
    (
        lambda scores, bias, k, speed: _balance_step(scores, bias, k, speed, share=len(scores) / len(bias)),
        "there are tokens · k choices: the even share of an expert is n · k / e",
    ),
    (
        partial(_balance_step, weighed=True, sign=-1),
        "two things are still wrong: the sign of the step, and what weighs",
    ),
)


GOAL_EVEN, GOAL_BITS = 7.8, 1.46  # of the open exercise


def recipe(answer: Callable[[], dict[str, Any]]) -> None:
    """`recipe()`: how eight experts are scored and balanced, so that all are used and the loss does not suffer."""
    from minillm.course.mixed_reading import CHOICES, TRIAL_STEPS, trial  # torch, only when it is needed
    from minillm.training.loop import Diverged

    all_choices = f"the choices are {', '.join(CHOICES)}"
    chosen: Any = call(answer)
    expect_type(chosen, dict, "recipe()", _return(chosen, "return a dict of choices"))
    unknown = sorted(map(str, set(chosen) - set(CHOICES)))
    expect(not unknown, f"recipe() has {', '.join(unknown)}, which is no choice here", all_choices)
    for name in set(chosen) - {"score"}:
        good = is_number(chosen[name]) and chosen[name] >= 0
        expect(good, f"recipe()[{name!r}] is {chosen[name]!r:.40}, wanted a number from 0", "0 turns it off")
    try:
        bits, even = trial(chosen)
    except (ValueError, TypeError) as error:
        raise Wrong(f"no mixture can be made of that: {error}") from None
    except Diverged:
        raise Wrong("the training diverged: the loss is not a number any more", "a smaller balance") from None
    found = f"after {TRIAL_STEPS} steps {even:.2f} effective experts of 8 and {bits:.2f} bits above the floor"
    if bits > GOAL_BITS:  # a balance that is far too strong may fail at both
        raise Wrong(f"{found}, wanted at most {GOAL_BITS} bits", "the balance drowns the loss: make it weaker")
    if not any(chosen.get(name) for name in ("balance_loss", "bias_speed")):
        hint = "nothing keeps the balance: give balance_loss or bias_speed"
    else:
        hint = "a run of 60 steps is short: make the balance stronger, ten times, say"
    expect(even >= GOAL_EVEN, f"{found}, wanted at least {GOAL_EVEN} experts", hint)
