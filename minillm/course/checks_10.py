"""Checks of chapter 10: two halves of a softmax, a turn, a cache counted, shared keys, and the best tiny decoder.

The answers take and give plain numbers, lists and dicts. The open exercise is judged by `tiny_decoder.held_out_bits`: a
decoder is trained here, by the learner's recipe, and read new stories.

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
    expect_inputs_kept,
    expect_type,
    is_number,
)

Part = tuple[float, float, list[float]]
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
MOST_PARAMETERS, GOAL = 60_000, 0.95  # of the open exercise


def _return(got: object, otherwise: str) -> str:
    """The hint for an answer of the wrong kind."""
    return "is there a `return`?" if got is None else otherwise


def _part(scores: Sequence[float], values: Sequence[Sequence[float]], width: int) -> Part:
    """Top, total and mixed of some keys; of none: -inf, 0 and zeros."""
    top = max(scores, default=-math.inf)
    weights = [math.exp(score - top) for score in scores]
    mixed = [sum(w * value[i] for w, value in zip(weights, values, strict=True)) for i in range(width)]
    return top, sum(weights), mixed


def merge(answer: Callable[[Part, Part], Part]) -> None:
    """`merge(first, second)`: the (top, total, mixed) of all keys, from those of two parts of them."""
    first, second = _part([0.0, 2.0], [[4.0], [0.0]], 1), _part([1.0], [[2.0]], 1)
    got = _expect_part(call(answer, first, second), 1)
    wanted = _part([0.0, 2.0, 1.0], [[4.0], [0.0], [2.0]], 1)
    what = "after merging scores (0, 2) with score (1)"
    _compare(got, wanted, what, _merge_cause(got, first, second, wanted))
    got = _expect_part(call(answer, second, first), 1)
    _compare(got, wanted, "after merging score (1) with scores (0, 2)", "the higher top may stand in either part")
    chance = random.Random()
    for _ in range(6):
        width, n, cut = chance.randint(1, 4), 5, chance.randint(1, 4)
        scores = [chance.uniform(-3, 3) for _ in range(n)]
        values = [[chance.uniform(-1, 1) for _ in range(width)] for _ in range(n)]
        parts = _part(scores[:cut], values[:cut], width), _part(scores[cut:], values[cut:], width)
        got = _expect_part(call(answer, *parts), width)
        _compare(got, _part(scores, values, width), f"for {n} random keys, cut after {cut}", "all of `mixed` is scaled")
    large = _part([1000.0], [[1.0]], 1), _part([-1000.0, 999.0], [[5.0], [3.0]], 1)
    cause = "never take e^score itself: e^(top - new top) is at most 1"
    _compare(
        _expect_part(call(answer, *large), 1),
        _part([1000.0, -1000.0, 999.0], [[1.0], [5.0], [3.0]], 1),
        "for scores near 1000",
        cause,
    )
    none = _part([], [], 1)
    cause = "a part without keys has top -inf and adds nothing; where both are empty, -inf - (-inf) is not a number"
    _compare(_expect_part(call(answer, none, second), 1), second, "after merging no key with one", cause)
    _compare(_expect_part(call(answer, none, none), 1), none, "after merging no key with no key", cause)
    expect_inputs_kept(answer, first, second)


def _expect_part(got: Any, width: int) -> Part:
    good = isinstance(got, tuple | list) and len(got) == 3 and isinstance(got[2], list | tuple)
    hint = _return(got, "return three things: top, total and the list mixed")
    expect(good, f"merge(...) gave {got!r:.80}", hint)
    expect(len(got[2]) == width, f"merge(...) gave a list mixed of {len(got[2])} numbers, wanted {width}", hint)
    return got[0], got[1], list(got[2])


def _compare(got: Part, wanted: Part, what: str, hint: str) -> None:
    expect_close(got[0], wanted[0], what=f"the top {what}", hint=hint)
    expect_close(got[1], wanted[1], what=f"the total {what}", hint=hint)
    expect_close(got[2], wanted[2], what=f"the list mixed {what}", hint=hint)


def _merge_cause(got: Part, first: Part, second: Part, wanted: Part) -> str:
    near = partial(math.isclose, rel_tol=1e-6)
    up, down = math.exp(1.0), math.exp(-1.0)  # the tops are 2 and 1
    if not near(got[0], wanted[0]):
        return "the new top is the larger of the two tops"
    if near(got[1], first[1] + second[1]):
        return "the parts were measured from different tops: scale each by e^(its top - new top) before adding"
    if near(got[1], first[1] + up * second[1]):
        return "the sign is turned round: e^(old top - new top), which is at most 1"
    if near(got[1], wanted[1]) and near(got[2][0], first[2][0] + second[2][0]):
        return "the total is scaled, and mixed is not: both were measured from the old top"
    if near(got[2][0], wanted[2][0] / wanted[1]) or near(got[1], 1.0):
        return "do not divide yet: mixed / total is taken once, after the last part"
    if near(got[1], down * (first[1] + second[1])):
        return "each part has its own factor: the one with the higher top is kept as it is"
    return "top = max of both; total and mixed are sums, each part scaled by e^(its top - top)"


def _rope(
    x: Sequence[float],
    position: float,
    base: float,
    *,
    sign: int = 1,
    step: int = 2,
    neighbours: bool = False,
    backwards: bool = False,
) -> list[float]:
    half = len(x) // 2
    turned = list(x)
    for i in range(half):
        a, b = (2 * i, 2 * i + 1) if neighbours else (i, i + half)
        angle = sign * position * base ** (-step * (half - 1 - i if backwards else i) / len(x))
        turned[a] = x[a] * math.cos(angle) - x[b] * math.sin(angle)
        turned[b] = x[b] * math.cos(angle) + x[a] * math.sin(angle)
    return turned


_TURNS = (
    (partial(_rope, neighbours=True), "this turns neighbours (2i, 2i + 1); we turn halves: number i with i + k/2"),
    (partial(_rope, sign=-1), "the turn goes the wrong way: (u cos - v sin, v cos + u sin)"),
    (partial(_rope, step=1), "the exponent is -2i/k, with i counting pairs"),
    (partial(_rope, step=-2), "the frequencies grow instead of falling: base ** (-2i/k)"),
    (partial(_rope, step=0), "every pair has its own frequency, base ** (-2i/k)"),
    (partial(_rope, backwards=True), "the frequencies are in the wrong order: pair 0 is the fastest"),
    (lambda x, position, base: _rope(x, math.radians(position), base), "angles are in radians: one per token at i = 0"),
    (lambda x, position, base: _rope(x, position + 1, base), "the first place is 0 and is not turned at all"),
)


def rope(answer: Callable[[list[float], int, float], list[float]]) -> None:
    """`rope(x, position, base)`: x turned as Llama does, number i together with number i + k/2."""
    x = [1.0, 2.0, 3.0, 4.0]
    got = call(answer, x, 0, 10000.0)
    expect_type(got, (list, tuple), f"rope({x}, 0, 10000.0)", _return(got, ""))
    cause = "at place 0 every angle is 0, and nothing turns; adding a code to x is something else"
    if len(got) == 4 and np.allclose(got, _rope(x, 1, 10000.0)):
        cause = "the first place is 0 and is not turned at all"
    expect_close(got, x, what=f"rope({x}, 0, 10000.0)", hint=cause)
    got = call(answer, x, 1, 100.0)
    expect_close(got, _rope(x, 1, 100.0), what=f"rope({x}, 1, 100.0)", hint=_rope_cause(got, x, 1, 100.0))
    chance = random.Random()
    for width in (2, 6, 10):
        x = [chance.uniform(-1, 1) for _ in range(width)]
        position, base = chance.randint(2, 60), chance.choice([50.0, 10000.0])
        got = call(answer, x, position, base)
        cause = _rope_cause(got, x, position, base)
        what = f"rope(x, {position}, {base:g}) of {width} random numbers"
        expect_close(got, _rope(x, position, base), tolerance=1e-5, what=what, hint=cause)
    expect_inputs_kept(answer, [0.5, -0.2, 0.1, 0.9], 3, 100.0)


def _rope_cause(got: Any, x: list[float], position: int, base: float) -> str:
    for slip, cause in _TURNS:
        try:
            if np.allclose(np.asarray(got, float), slip(x, position, base), atol=1e-6):
                return cause
        except (TypeError, ValueError):
            return "return a list of as many numbers as x has"
    return "pair i is (x[i], x[i + k/2]), its angle position · base ** (-2i/k)"


# As their makers published them, all fields that do not matter left out; `torch_dtype` is how the weights are kept.
_LLAMA = {"num_hidden_layers": 80, "num_attention_heads": 64, "hidden_size": 8192, "torch_dtype": "float16"}
_MISTRAL = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
}


def _cache_bytes(
    config: dict[str, Any],
    tokens: int,
    batch: int = 1,
    *,
    both: int = 2,
    shared: bool = True,
    window: bool = True,
    head_dim: bool = True,
    number: int | None = None,
    rows: bool = True,
    layers: bool = True,
) -> int:
    heads = config["num_attention_heads"]
    groups = config.get("num_key_value_heads", heads) if shared else heads
    width = config.get("head_dim", config["hidden_size"] // heads) if head_dim else config["hidden_size"] // heads
    kept = min(tokens, config.get("sliding_window") or tokens) if window else tokens
    per_number = number or BYTES[config["torch_dtype"]]
    return (
        both
        * (config["num_hidden_layers"] if layers else 1)
        * groups
        * width
        * kept
        * (batch if rows else 1)
        * per_number
    )


_MISCOUNTS = (
    (partial(_cache_bytes, both=1), "keys *and* values are kept: twice that"),
    (
        partial(_cache_bytes, shared=False),
        "only num_key_value_heads are kept; where it is missing, all heads have keys",
    ),
    (partial(_cache_bytes, layers=False), "every layer has a cache of its own"),
    (partial(_cache_bytes, number=4), "a number takes as many bytes as torch_dtype says: 2 for the 16-bit formats"),
    (partial(_cache_bytes, number=2), "a number takes as many bytes as torch_dtype says: 4 for float32"),
    (partial(_cache_bytes, number=1), "this counts numbers; torch_dtype says how many bytes one takes"),
    (partial(_cache_bytes, rows=False), "every row of the batch has keys of its own"),
    (
        partial(_cache_bytes, window=False),
        "with a sliding window only the last tokens are kept, window of them at most",
    ),
    (partial(_cache_bytes, head_dim=False), "where there is a head_dim it is the width, not hidden_size / heads"),
)


def cache_bytes(answer: Callable[..., int]) -> None:
    """`cache_bytes(config, tokens, batch)`: bytes of the key-value cache of a published model."""
    grouped = _LLAMA | {"num_key_value_heads": 8}
    wide = {"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "hidden_size": 1024}
    wide |= {"head_dim": 128, "torch_dtype": "bfloat16"}
    cases = [
        ("64 heads, 80 layers, width 8192, float16", _LLAMA, 4096, 1),
        ("the same with 8 key heads", grouped, 4096, 1),
        ("the same for a batch", grouped, 1000, 3),
        ("float32", grouped | {"torch_dtype": "float32"}, 10, 1),
        ("a head_dim of 128 at hidden_size 1024", wide, 2048, 1),
        ("a window of 4096, 1000 tokens", _MISTRAL, 1000, 1),
        ("a window of 4096, 32768 tokens", _MISTRAL, 32768, 2),
        ("sliding_window: None", _MISTRAL | {"sliding_window": None}, 32768, 1),
    ]
    for what, config, tokens, batch in cases:
        got, wanted = call(answer, config, tokens, batch), _cache_bytes(config, tokens, batch)
        what = f"cache_bytes({what}; {tokens} tokens, batch {batch})"
        if isinstance(got, bool) or not isinstance(got, int | float):
            expect_type(got, int, what, _return(got, "return a whole number of bytes"))
        causes = "; or: ".join(text for slip, text in _MISCOUNTS if slip(config, tokens, batch) == got)
        expect(got == wanted, f"{what} gave {got:,}, wanted {wanted:,}", causes or _OVER_ALL)
    expect_inputs_kept(answer, dict(grouped), 100, 1)


_OVER_ALL = "2 · layers · key heads · head width · tokens kept · batch · bytes of a number"


def _grouped(
    queries: Sequence[Sequence[float]],
    keys: Sequence[Sequence[Sequence[float]]],
    *,
    modulo: bool = False,
    wide: int = 0,
) -> list[list[float]]:
    """Scores (h, s); the flags make the slips of the exercise."""
    share, width = len(queries) // len(keys), len(queries[0])
    scale = 1 / math.sqrt(width * (len(queries) if wide else 1))
    scores = []
    for i, query in enumerate(queries):
        group = keys[i % len(keys) if modulo else i // share]
        scores.append([scale * sum(a * b for a, b in zip(query, key, strict=True)) for key in group])
    return scores


def grouped_scores(answer: Callable[..., list[list[float]]]) -> None:
    """`grouped_scores(queries, keys)`: scores (h, s) of h queries against g < h heads of keys, neighbours sharing."""
    queries, keys = [[1.0], [1.0], [1.0], [1.0]], [[[10.0]], [[20.0]]]
    got = call(answer, queries, keys)
    hint = _return(got, "return a list for each query, with a score for each key")
    expect_type(got, list, "grouped_scores(...)", hint)
    whose: list[Any] = [row[0] if isinstance(row, list | tuple) and row else row for row in got]
    cause = "queries 0 and 1 share the keys of head 0, queries 2 and 3 those of head 1"
    if len(whose) == 4 and all(map(is_number, whose)) and whose[0] == whose[2] != whose[1]:
        cause = "i % g deals the keys out in turn (0, 1, 0, 1); neighbours share: i // (h // g) gives 0, 0, 1, 1"
    if len(whose) == 4 and all(map(is_number, whose)) and math.isclose(whose[0], 5.0):
        cause = "the scale is 1/√(width of one head), not of all heads together"
    wanted = _grouped(queries, keys)
    expect_close(got, wanted, what="with four queries (1), and key heads (10) and (20), the scores", hint=cause)
    chance = random.Random()
    for h, g, s, width in ((6, 2, 3, 5), (6, 3, 4, 2), (4, 1, 2, 3), (3, 3, 5, 4)):
        queries = [[chance.uniform(-1, 1) for _ in range(width)] for _ in range(h)]
        keys = [[[chance.uniform(-1, 1) for _ in range(width)] for _ in range(s)] for _ in range(g)]
        got = call(answer, queries, keys)
        cause = "h/g neighbours share a head of keys, and a score is q · k / √width"
        if g == h:
            cause = "with as many key heads as queries each query has its own: plain multi-head attention"
        expect_close(got, _grouped(queries, keys), what=f"the scores of h={h}, g={g}, s={s}, width {width}", hint=cause)
    expect_inputs_kept(answer, queries, keys)


def recipe(answer: Callable[[], dict[str, Any]]) -> None:
    """`recipe()`: choices for a decoder of at most 60,000 parameters that learns most in 120 steps."""
    from minillm.course.tiny_decoder import CHOICES, STEPS, config_of, held_out_bits  # torch, only when it is needed
    from minillm.training.loop import Diverged
    from minillm.transformer.costs import parameters

    all_choices = f"the choices are {', '.join(CHOICES)} and learning_rate; {', '.join(NEEDED)} must be there"
    chosen: Any = call(answer)
    expect_type(chosen, dict, "recipe()", _return(chosen, "return a dict of choices"))
    unknown = sorted(map(str, set(chosen) - {*CHOICES, "learning_rate"}))
    expect(not unknown, f"recipe() has {', '.join(unknown)}, which is no choice here", all_choices)
    missing = [name for name in NEEDED if name not in chosen]
    expect(not missing, f"recipe() lacks {', '.join(missing)}", all_choices)
    rate = chosen["learning_rate"]
    good = is_number(rate) and 0 < rate <= 1
    expect(good, f"recipe()['learning_rate'] is {rate!r:.40}, wanted a number above 0 and at most 1")
    try:
        size = sum(parameters(config_of(chosen)).values())
    except (ValueError, TypeError) as error:
        raise Wrong(f"no decoder can be made of that: {error}") from None
    cause = "the table of words costs d_model for each word, and a block about 12 · d_model²"
    expect(size <= MOST_PARAMETERS, f"that decoder has {size:,} parameters, at most {MOST_PARAMETERS:,}", cause)
    try:
        bits = held_out_bits(chosen)
    except Diverged:
        raise Wrong("the training diverged: the loss is not a number any more", "a smaller learning rate") from None
    expect(bits <= GOAL, f"{bits:.2f} bits per character after {STEPS} steps, wanted {GOAL} or less", _advice(chosen))


NEEDED = ("d_model", "n_layer", "n_head", "learning_rate")


def _advice(chosen: dict[str, Any]) -> str:
    """What to try first."""
    if chosen["learning_rate"] < 5e-3:
        return "120 steps are few: a model this small bears a larger learning rate, 0.01 or 0.02"
    if chosen.get("positions", "learned") in ("learned", "sinusoidal", "none"):
        return "which switch of the chapter was the one large step?"
    if chosen.get("mlp") == "swiglu":
        return "at this width the gate begins almost shut (the chapter's last comparison): try another bend"
    if chosen["learning_rate"] > 5e-2:
        return "the steps are too large: try a learning rate of 0.02"
    return "a few layers too many, or too narrow? One or two layers learn fastest in so few steps"
