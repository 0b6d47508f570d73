"""Checks of chapter 09: targets shifted by one, the nucleus, what a cache saves, a mask that leaks, a small budget.

The answers take and give plain numbers and lists. The open exercise is judged by training the decoder that the
learner chose for a minute amount of time: bits per character on village stories that it never saw.

Next:    minillm/course/grading.py
"""

import math
import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from minillm.course.checks import Wrong, call, expect, expect_close, expect_equal, expect_inputs_kept, expect_type

MOST_PARAMETERS, STEPS, ROWS, TOKENS, GOAL = 60_000, 120, 4, 96, 1.05
FIELDS = ("d_model", "n_layer", "n_head", "d_hidden", "positions", "learning_rate")
Score = list[list[float]]


def _return(got: object, what: str) -> str:
    return "is there a `return`?" if got is None else f"return {what}"


def targets(answer: Callable[[list[int], int], list[tuple[list[int], list[int]]]]) -> None:
    """`targets(tokens, t)`: the pieces (inputs, targets) of a stream, t tokens each, targets one place later."""
    got: Any = call(answer, [1, 2, 3, 4, 5], 2)
    what = "targets([1, 2, 3, 4, 5], 2)"
    expect_type(got, list, what, _return(got, "a list of pairs"))
    pairs = [tuple(list(part) for part in pair) for pair in got]
    expect_equal(pairs, [([1, 2], [2, 3]), ([3, 4], [4, 5])], what, _targets_cause(pairs))
    chance = random.Random()
    for length, t in ((6, 2), (7, 3), (3, 3), (4, 3), (chance.randint(8, 20), chance.randint(1, 5))):
        tokens = [chance.randrange(10, 90) for _ in range(length)]
        starts = range(0, length - t, t)
        wanted = [(tokens[i : i + t], tokens[i + 1 : i + t + 1]) for i in starts]
        pairs = [tuple(list(part) for part in pair) for pair in call(answer, tokens, t) or []]
        cause = "a piece needs t inputs and one token more; a shorter rest is left out"
        expect_equal(pairs, wanted, f"targets({tokens}, {t})", cause)
    expect_inputs_kept(answer, [3, 1, 4, 1, 5, 9], 2)


def _targets_cause(pairs: list[Any]) -> str:
    causes: list[tuple[list[Any], str]] = [
        (
            [([1, 2], [1, 2]), ([3, 4], [3, 4])],
            "the targets are the inputs: nothing is predicted, the loss goes to zero",
        ),
        ([([1, 2], [3, 4])], "the target of a token is the *next* token, not the next piece"),
        ([([2, 3], [1, 2]), ([4, 5], [3, 4])], "inputs and targets are exchanged: it would learn to read backwards"),
        ([([1, 2], [2, 3]), ([2, 3], [3, 4]), ([3, 4], [4, 5])], "the pieces overlap: go on t tokens later"),
        ([([1, 2], [3, 4]), ([3, 4], [5])], "the targets are shifted by two or more, and the last piece is short"),
        ([([1, 2], [2, 3]), ([4, 5], [5])], "the last token of a piece is also the first of the next: no gap"),
        ([([1, 2], [2, 3])], "the last piece is missing: tokens 3, 4 have the targets 4, 5"),
    ]
    return next((text for value, text in causes if value == pairs), "targets are the inputs, shifted by one place")


def top_p(answer: Callable[[list[float], float], list[float]]) -> None:
    """`top_p(p, mass)`: the smallest set of likeliest tokens with at least this mass, renormalised, the rest 0."""
    p, what = [0.2, 0.5, 0.3], "top_p([0.2, 0.5, 0.3], 0.6)"
    got: Any = call(answer, p, 0.6)
    expect_type(got, list, what, _return(got, "a list of probabilities"))
    cause = "keep tokens from the likeliest on until their mass *reaches* 0.6: 0.5 is short, 0.5 + 0.3 reaches it"
    for value, text in (
        ([0.0, 1.0, 0.0], "the token that crosses the mark belongs to the set: one token too few is kept"),
        ([0.0, 0.5, 0.3], "what is kept must sum to one again: divide by its mass"),
        ([0.625, 0.375, 0.0], "the order of the tokens is lost: put each probability back in its own place"),
        ([0.2, 0.5, 0.3], "nothing was cut: begin with the likeliest token, and stop once the mass is reached"),
    ):
        cause = text if _near(got, value) else cause
    expect_close(got, [0.0, 0.625, 0.375], what=what, hint=cause)
    cause = "with mass 1 every token with a probability stays"
    expect_close(call(answer, p, 1.0), p, what="top_p([0.2, 0.5, 0.3], 1.0)", hint=cause)
    cause = "at least one token stays, whatever the mass"
    expect_close(call(answer, p, 0.01), [0.0, 1.0, 0.0], what="top_p([0.2, 0.5, 0.3], 0.01)", hint=cause)
    cause = "0.5 reaches 0.5: a set that reaches the mass exactly is large enough"
    expect_close(
        call(answer, [0.25, 0.5, 0.25], 0.5), [0.0, 1.0, 0.0], what="top_p([0.25, 0.5, 0.25], 0.5)", hint=cause
    )
    chance = random.Random()
    for n in (2, 4, 7):
        weight = [chance.random() + 0.01 for _ in range(n)]
        p, mass = [w / sum(weight) for w in weight], chance.uniform(0.2, 0.95)
        what = f"top_p({[round(x, 3) for x in p]}, {mass:.3f})"
        expect_close(
            call(answer, p, mass), _nucleus(p, mass), what=what, hint="compare with the definition, token by token"
        )
    expect_inputs_kept(answer, [0.1, 0.6, 0.3], 0.7)


def _near(got: Any, wanted: list[float]) -> bool:
    try:
        return len(got) == len(wanted) and all(
            math.isclose(a, b, abs_tol=1e-9) for a, b in zip(got, wanted, strict=True)
        )
    except TypeError:
        return False


def _nucleus(p: list[float], mass: float) -> list[float]:
    kept, total = [0.0] * len(p), 0.0
    for i in sorted(range(len(p)), key=lambda i: -p[i]):
        if total >= mass - 1e-12:
            break
        kept[i], total = p[i], total + p[i]
    return [x / total for x in kept]


def cached_reads(answer: Callable[[int, int], list[tuple[int, int, int]]]) -> None:
    """`cached_reads(prompt, new)`: for each pass (first position, tokens read, keys in the cache)."""
    what = "cached_reads(5, 3)"
    got: Any = call(answer, 5, 3)
    expect_type(got, list, what, _return(got, "a list of triples"))
    rows = [tuple(row) for row in got]
    cause = "the prompt in one pass, then every new token but the last in a pass of its own"
    causes: list[tuple[list[Any], str]] = [
        ([(0, 5, 5), (5, 1, 6), (6, 1, 7), (7, 1, 8)], "the last token is drawn but never read: nothing follows it"),
        ([(0, 5, 5), (0, 6, 6), (0, 7, 7)], "everything is read again: that is generation *without* a cache"),
        ([(0, 5, 5), (0, 1, 6), (0, 1, 7)], "positions start again at 0: a new token stands behind all that were read"),
        ([(0, 5, 5), (5, 1, 1), (6, 1, 1)], "a new token looks at all keys in the cache, not at itself alone"),
        ([(0, 5, 5), (5, 1, 5), (6, 1, 6)], "a token also looks at itself: its own key is added before it looks"),
        ([(0, 5, 5), (6, 1, 6), (7, 1, 7)], "positions count from 0: after five tokens the next stands at position 5"),
        ([(1, 5, 5), (6, 1, 6), (7, 1, 7)], "positions count from 0: the prompt begins at position 0"),
    ]
    cause = next((text for value, text in causes if value == rows), cause)
    expect_equal(rows, [(0, 5, 5), (5, 1, 6), (6, 1, 7)], what, cause)
    chance = random.Random()
    for prompt, new in ((1, 1), (4, 1), (3, 0), (chance.randint(2, 9), chance.randint(2, 6))):
        wanted = [(0, prompt, prompt)] + [(prompt + i, 1, prompt + i + 1) for i in range(new - 1)]
        rows = [tuple(row) for row in call(answer, prompt, new) or []]
        cause = "with nothing to draw nothing is read" if new == 0 else "one pass for each token that is drawn"
        expect_equal(rows, wanted if new else [], f"cached_reads({prompt}, {new})", cause)


def causal_weights(answer: Callable[[Score], Score]) -> None:
    """`causal_weights(score)`: softmax of each row over itself and the places before it; later places get 0."""
    got: Any = call(answer, [[0.0, 0.0, 0.0]] * 3)
    what = "causal_weights of equal scores"
    expect_type(got, list, what, _return(got, "a list of rows"))
    expect(
        len(got) == 3 and all(isinstance(row, list | tuple) and len(row) == 3 for row in got),
        f"{what} gave {got!r:.80}",
        "return three rows of three weights for three rows of three scores",
    )
    for t, row in enumerate(got):
        for s, weight in enumerate(row):
            if s > t and abs(weight) > 1e-9:
                cause = (
                    "the answer stands at t + 1, so the loss looks too good" if s == t + 1 else "the mask is missing"
                )
                cause = "the mask is upside down" if t == 0 and abs(row[0]) < 1e-9 else cause
                raise Wrong(
                    f"{what}: row {t} puts weight {weight:.3g} on position {s}, which lies in its future", cause
                )
        cause = "the mask comes *before* the softmax: put -inf where it may not look"
        if abs(row[t]) < 1e-9:
            cause = "a place may look at itself: its own token is the newest that it knows"
        expect_close(sum(row), 1.0, what=f"the sum of row {t} of {what}", hint=cause)
        expect(abs(row[t]) > 1e-9, f"{what}: row {t} puts no weight on itself", cause)
    expect_close(got, [[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3] * 3], what=what, hint="equal scores give equal weights")
    chance = random.Random()
    scores = [[[chance.uniform(-size, size) for _ in range(n)] for _ in range(n)] for n, size in ((2, 1.0), (5, 3.0))]
    for score in scores:
        what, cause = f"causal_weights of {len(score)} random rows", "each row is softmax(score) over s ≤ t"
        expect_close(call(answer, score), _causal(score), what=what, hint=cause)
    for score in ([[800.0, 0.0], [799.0, 801.0]], [[-800.0, 800.0], [1.0, 2.0]]):
        cause = "large scores: subtract the largest score *among those it may look at* before exp"
        expect_close(call(answer, score), _causal(score), what=f"causal_weights({score})", hint=cause)
    expect_inputs_kept(answer, [[0.1, 0.2], [0.3, 0.4]])


def _causal(score: Score) -> Score:
    rows = []
    for t, row in enumerate(score):
        top = max(row[: t + 1])
        seen = [math.exp(x - top) for x in row[: t + 1]]
        rows.append([x / sum(seen) for x in seen] + [0.0] * (len(row) - t - 1))
    return rows


@lru_cache(maxsize=1)
def _village() -> tuple[list[str], list[str], Any, int]:
    """Stories to learn from, stories to be judged by, a tokenizer for both, and its end token."""
    from minillm.text.tokenizer import WordTokenizer
    from minillm.text.village import Village

    village = Village(seed=0)
    tales = village.stories(1000)
    tokenizer = WordTokenizer.train("\n".join(tales), special_tokens=["</s>"])
    return tales[:300], village.stories(10, start=100_000), tokenizer, tokenizer.special_ids["</s>"]


def budget_score(choice: dict[str, Any], seed: int = 0) -> tuple[int, float]:
    """Parameters of the decoder that the learner chose, and its bits per character after 120 small steps."""
    import torch

    from minillm.neural.batches import random_chunks, token_stream
    from minillm.neural.language_model import bits_per_character
    from minillm.training.loop import train
    from minillm.training.optim import AdamW, linear_warmup_cosine
    from minillm.transformer.costs import parameters
    from minillm.transformer.decoder import Decoder, DecoderConfig

    tales, held_out, tokenizer, end = _village()
    sizes = {name: value for name, value in choice.items() if name != "learning_rate"}
    config = DecoderConfig(vocabulary=len(tokenizer.vocab), context=256, seed=seed, **sizes)
    if (size := sum(parameters(config).values())) > MOST_PARAMETERS:  # counted, not built: it may be enormous
        return size, math.inf
    model = Decoder(config)
    stream = token_stream(tales, tokenizer, end)
    train(
        model,
        random_chunks(stream, ROWS, TOKENS, torch.Generator().manual_seed(seed)),
        steps=STEPS,
        optimizer=AdamW(model.parameters(), learning_rate=choice["learning_rate"], weight_decay=0.0),
        schedule=lambda step: linear_warmup_cosine(step, steps=STEPS, warmup=10, final=0.02),
        clip=1.0,
    )
    return size, bits_per_character(model, held_out, tokenizer, end)


def budget(answer: Callable[[], dict[str, Any]]) -> None:
    """`budget()`: sizes and learning rate of a decoder of at most 60,000 parameters that learns fast."""
    choice: Any = call(answer)
    hint = _return(choice, "a dict with the keys " + ", ".join(FIELDS))
    expect_type(choice, dict, "budget()", hint)
    expect(set(choice) == set(FIELDS), f"budget() has the keys {sorted(map(str, choice))}", hint)
    for name in FIELDS[:4]:
        good = isinstance(choice[name], int) and not isinstance(choice[name], bool) and 1 <= choice[name] <= 1024
        expect(good, f"budget()[{name!r}] is {choice[name]!r:.40}", "a whole number from 1 to 1024")
    rate = choice["learning_rate"]
    good = isinstance(rate, int | float) and 0 < rate <= 1
    expect(good, f"budget()['learning_rate'] is {rate!r:.40}", "a number above 0 and at most 1; 0.01 is a start")
    try:
        size, bits = budget_score(choice)
    except ValueError as error:
        raise Wrong(f"no decoder has these sizes: {error}", "d_model is split over n_head equal heads") from None
    except FloatingPointError:
        raise Wrong("the loss is no longer a number", "the learning rate is too large") from None
    cause = "the table of embeddings costs 438 numbers for each unit of d_model; positions 'learned' cost 256 more"
    expect(size <= MOST_PARAMETERS, f"the decoder has {size:,} parameters, at most {MOST_PARAMETERS:,}", cause)
    cause = "which positions learn fastest, and how large may the learning rate be?"
    if choice["positions"] == "none":
        cause = "without positions it sees the words before, but hardly their order"
    elif rate < 5e-3:
        cause = "120 steps are few: the learning rate may be larger"
    elif rate > 5e-2:
        cause = "the learning rate is so large that it jumps over what it looks for"
    elif choice["d_model"] < 24:
        cause = "the stream is narrow: spend the budget on d_model rather than on layers"
    expect(bits <= GOAL, f"{bits:.2f} bits per character with {size:,} parameters, wanted at most {GOAL}", cause)
