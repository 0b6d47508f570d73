"""Checks of chapter 02: counting, continuation, discounting, and a next-word model of the learner's own.

The stories that the checks count are small and made on the spot; the open exercise is judged on the village, with a
perplexity between that of add-one counts and that of the library's Kneser–Ney.

Next:    minillm/course/grading.py
"""

import math
import random
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from minillm.course.checks import Wrong, call, expect, expect_close, expect_inputs_kept, expect_type
from minillm.statistical.ngram import NGramModel
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village

Sentences = list[list[str]]
TOY: Sentences = [["the", "cat", "sat"], ["the", "dog", "sat"], ["the", "cat", "ran"]]


def _sentences(seed: int, sentences: int = 9, vocabulary: int = 5) -> Sentences:
    chance = random.Random(seed)
    return [[f"w{chance.randrange(vocabulary)}" for _ in range(chance.randint(1, 6))] for _ in range(sentences)]


def _pairs(sentences: Sentences) -> Counter[tuple[str, str]]:
    rows = (["<s>", *sentence, "</s>"] for sentence in sentences)
    return Counter(pair for row in rows for pair in pairwise(row))


def _return(got: object, what: str) -> str:
    return "is there a `return`?" if got is None else f"return {what}"


def mle(answer: Callable[[Sentences], dict]) -> None:
    """`mle(sentences)`: the relative frequency of each pair (previous, word), with "<s>" and "</s>"."""
    table = call(answer, TOY)
    expect_type(table, dict, "mle(three sentences)", _return(table, "a dict from (previous, word) to a probability"))
    _expect_pair_keys(table)
    expect(
        ("<s>", "the") in table,
        'the pair ("<s>", "the") is missing: every sentence begins with "the", so its probability is 1',
        'put "<s>" before the first word of each sentence',
    )
    expect(
        ("sat", "</s>") in table,
        'the pair ("sat", "</s>") is missing: a sentence that ends with "sat" says that the end may follow it',
        'put "</s>" after the last word of each sentence',
    )
    expect(
        not table.get(("sat", "the")) and not table.get(("</s>", "<s>")),
        "the last word of one sentence and the first of the next were counted as a pair",
        "count inside each sentence; do not join the sentences first",
    )
    got = table.get(("the", "cat"))
    expect_close(got, 2 / 3, what='mle(...)["the", "cat"]', hint=_mle_cause(got))
    seed = random.randrange(10**6)
    for extra in range(4):
        sentences = _sentences(seed + extra)
        got_table, pairs = call(answer, sentences), _pairs(sentences)
        before: Counter[str] = Counter()
        for (previous, _), n in pairs.items():
            before[previous] += n
        for pair, n in pairs.items():
            cause = "the total of a context is the number of times that it comes *before* something"
            expect_close(got_table.get(pair), n / before[pair[0]], what=f"the probability of {pair}", hint=cause)
        extra_pairs = sorted(pair for pair, p in got_table.items() if pair not in pairs and p != 0)
        expect(not extra_pairs, f"{extra_pairs[:1]} has a probability above 0 and was never seen")
    expect_inputs_kept(answer, _sentences(seed))


def _expect_pair_keys(table: dict) -> None:
    for key in table:
        if not (isinstance(key, tuple) and len(key) == 2):
            raise Wrong(f"the key {key!r} is not a pair", 'keys are tuples (previous, word), such as ("the", "cat")')


def _mle_cause(got: object) -> str:
    causes = {
        2.0: "this is a count; divide by how often the previous word came",
        2 / 12: "you divided by the number of all pairs; divide by how often the *previous* word came before something",
        1.0: "you divided by the count of the second word; the condition is the *first* one",
        0.5: "was something added to the counts? Maximum likelihood adds nothing",
    }
    near = [cause for value, cause in causes.items() if isinstance(got, float | int) and math.isclose(got, value)]
    return near[0] if near else '"the" comes before something 3 times, 2 of them before "cat"'


def continuation(answer: Callable[[Sentences], dict]) -> None:
    """`continuation(sentences)`: the share of different pairs that each word completes."""
    sentences = [["san", "francisco"]] * 5 + [["red", "soup"], ["hot", "soup"], ["cold", "soup"]]
    shares = call(answer, sentences)
    expect_type(shares, dict, "continuation(...)", _return(shares, "a dict from word to share"))
    expect("<s>" not in shares, '"<s>" has a share, but it is never the second word of a pair')
    # ten pairs: <s> san, san francisco, francisco </s>, soup </s>, and <s> … soup by way of red, hot and cold
    francisco, soup = shares.get("francisco"), shares.get("soup")
    expect_close(soup, 3 / 10, what='continuation(...)["soup"]', hint=_continuation_cause(soup))
    expect_close(francisco, 1 / 10, what='continuation(...)["francisco"]', hint=_continuation_cause(francisco))
    expect_close(
        shares.get("</s>", 0.0), 2 / 10, what='continuation(...)["</s>"]', hint='"</s>" is an event like any word'
    )
    seed = random.randrange(10**6)
    for extra in range(4):
        texts = _sentences(seed + extra, vocabulary=7)
        got, pairs = call(answer, texts), _pairs(texts)
        total = sum(got.values())
        expect_close(float(total), 1.0, what="the sum of all shares", hint="divide by the number of different pairs")
        wanted = Counter(word for _, word in pairs)
        for word, n in wanted.items():
            expect_close(got.get(word), n / len(pairs), what=f"the share of {word!r}")
        expect(set(got) <= set(wanted), f"{sorted(set(got) - set(wanted))[:1]} completes no pair and has a share")
    twice = _sentences(seed)
    cause = "saying everything twice adds no new pair; count each different pair once"
    once, doubled = call(answer, twice), call(answer, twice + twice)
    expect(once == doubled, "the shares change when every sentence is said twice", cause)


def _continuation_cause(got: object) -> str:
    if not isinstance(got, float | int):
        return "every word that follows something needs a share"
    causes = {
        5 / 24: "you counted how often; count in how many *different* places",
        3 / 24: "you counted how often; count in how many *different* places",
        3 / 4: 'the marks are missing: "<s>" before the first word, "</s>" after the last',
        3 / 8: 'the end of a sentence is an event too: put "</s>" after the last word',
        3 / 7: "divide by the number of different *pairs*, not of different words",
        3.0: "this is a number of places; divide by the number of all different pairs",
        1 / 10: "you counted the words that stand after it; count those *before* it",
    }
    near = [cause for value, cause in causes.items() if math.isclose(got, value)]
    return near[0] if near else "how many different words stand before it, over the number of different pairs"


def discounted(answer: Callable[[dict, dict, float], dict]) -> None:
    """`discounted(counts, lower, d)`: one context's counts, less d each, and what that frees spread by `lower`."""
    counts = {"soup": 4, "nuts": 1}
    lower = {"soup": 0.5, "nuts": 0.25, "fish": 0.125, "bread": 0.0625, "cake": 0.03125, "</s>": 0.03125}
    got = call(answer, counts, lower, 0.75)
    expect_type(got, dict, "discounted(...)", _return(got, "a dict from word to probability"))
    expect(
        set(got) == set(lower),
        f"the answer speaks of {sorted(got)}, `lower` of {sorted(lower)}",
        "every word of `lower` gets a probability, the unseen ones too",
    )
    _expect_one(got, counts, lower, 0.75)
    # total 5, freed 1.5: γ = 0.3
    only_unseen = math.isclose(got["fish"], 0.3 * 0.125 / 0.25)
    cause = (
        "this sums to one, but it is *backoff*: only unseen words ask `lower`; here every word asks it, seen or not"
        if only_unseen
        else "γ · lower, with γ = d · (different words) / total"
    )
    expect_close(got["fish"], 0.3 / 8, what="the probability of the unseen 'fish'", hint=cause)
    expect_close(got["soup"], 3.25 / 5 + 0.3 / 2, what="the probability of 'soup'", hint="(4 - d) / 5 + γ · lower")
    chance = random.Random()
    for _ in range(6):
        names = [f"w{i}" for i in range(chance.randint(3, 8))]
        weights = [chance.random() + 0.05 for _ in names]
        lower = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
        counts = {name: chance.randint(1, 9) for name in names[: chance.randint(1, len(names) - 1)]}
        d = round(chance.uniform(0.1, 0.9), 2)
        got = call(answer, counts, lower, d)
        _expect_one(got, counts, lower, d)
        total = sum(counts.values())
        for name in names:
            wanted = max(counts.get(name, 0) - d, 0) / total + d * len(counts) / total * lower[name]
            expect_close(got[name], wanted, what=f"d={d}, {name!r} with count {counts.get(name, 0)}")
    unseen = call(answer, {}, {"a": 0.75, "b": 0.25}, 0.5)
    cause = "a context that was never seen has nothing to say: give back the lower distribution"
    expect(unseen == {"a": 0.75, "b": 0.25}, f"without any counts the answer is {unseen}, not `lower`", cause)
    expect_inputs_kept(answer, {"soup": 3, "nuts": 1}, {"soup": 0.5, "nuts": 0.25, "fish": 0.25}, 0.5)


def _expect_one(got: dict, counts: dict, lower: dict, d: float) -> None:
    """The probabilities must sum to one; where they do not, the sum itself betrays the slip."""
    total, kept = sum(got.values()), sum(counts.values())
    if math.isclose(total, 1.0, abs_tol=1e-9):
        return
    free = d * len(counts) / kept
    unseen = sum(p for word, p in lower.items() if word not in counts)
    slips = {
        1 - free: "d was taken from the counts, and nobody got it",
        1 + free: "the freed mass was added, and the counts kept theirs",
        1 - free + d / kept: "what is freed is d for each *different* word of the context; you gave back one d only",
        1 - free + d: "γ is d · (different words) / total; yours is d",
        1 - free + free * unseen: "`lower` adds up to one over *all* words, so the seen words get their part of it too",
        1 - free + d * len(counts): "γ must be divided by the total of the context",
        1 - free + d * len(lower) / kept: "γ counts the words that were *seen* here, not the whole vocabulary",
    }
    cause = next((text for value, text in slips.items() if math.isclose(total, value, abs_tol=1e-9)), "")
    raise Wrong(
        f"counts {counts}, d={d}: the probabilities sum to {total:.4f}, not to 1",
        cause or "what is taken from the counts must be exactly what is given to `lower`",
    )


CONTEXT_WORDS = 2
_TRAIN, _HELD_OUT = 150, 20


@lru_cache(maxsize=4)
def _village(seed: int) -> tuple[Sentences, list[list[str]], list[str], list[str]]:
    """Training stories, the contexts of held-out words, those words, and the events of the vocabulary."""
    world = Village(seed=seed)
    train = [WordTokenizer.split(story) for story in world.stories(_TRAIN)]
    held_out = [WordTokenizer.split(story) for story in world.stories(_HELD_OUT, start=50_000)]
    vocabulary = sorted({"</s>"} | {word for story in train + held_out for word in story})
    contexts, words = [], []
    for story in held_out:
        row = ["<s>", *story, "</s>"]
        contexts += [row[max(0, i - CONTEXT_WORDS) : i] for i in range(1, len(row))]
        words += row[1:]
    return train, contexts, words, vocabulary


def _perplexity(p_nv: np.ndarray, words: list[str], vocabulary: list[str]) -> float:
    place = {word: i for i, word in enumerate(vocabulary)}
    with np.errstate(divide="ignore"):
        return float(np.exp(-np.log(p_nv[np.arange(len(words)), [place[word] for word in words]]).mean()))


def held_out_perplexity(answer: Callable[..., Any], seed: int = 0) -> float:
    """The score of the open exercise: perplexity of `next_word` on held-out stories of a village; lower is better."""
    train, contexts, words, vocabulary = _village(seed)
    p_nv = np.asarray(call(answer, train, contexts, vocabulary), dtype=float)
    if p_nv.shape != (len(contexts), len(vocabulary)):
        wanted = f"({len(contexts)}, {len(vocabulary)}), a row for each context and a column for each word"
        raise Wrong(f"next_word(...) has shape {p_nv.shape}, wanted {wanted}")
    return _perplexity(p_nv, words, vocabulary)


@lru_cache(maxsize=4)
def landmarks(seed: int = 0) -> dict[str, float]:
    """What library models of order 3 reach on the same stories: the scale on which `held_out_perplexity` is read.

    >>> marks = landmarks()
    >>> marks["kneser-ney"] < marks["interpolated"] < marks["add-k"]
    True
    """
    train, contexts, words, vocabulary = _village(seed)
    found = {}
    for smoothing in ("add-k", "interpolated", "kneser-ney"):
        model = NGramModel(order=3, smoothing=smoothing, vocabulary=vocabulary).fit(train)
        nats = [-model.logprob(word, context) for word, context in zip(words, contexts, strict=True)]
        found[smoothing] = math.exp(sum(nats) / len(nats))
    return found


def next_word(answer: Callable[..., Any]) -> None:
    """`next_word(train, contexts, vocabulary)`: the learner's own model, judged by held-out perplexity."""
    toy = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 5
    events = ["</s>", "bird", "cat", "dog", "sat", "the"]
    contexts = [["<s>"], ["<s>", "the"], ["the", "cat"], ["bird", "bird"]]
    got = call(answer, toy, contexts, events)
    if got is None:
        expect_type(got, np.ndarray, "next_word(...)")
    p_nv = np.asarray(got, dtype=float)
    expect(
        p_nv.shape == (4, 6),
        f"for 4 contexts and 6 words the answer has shape {p_nv.shape}, wanted (4, 6)",
        "a row for each context, a column for each word of `vocabulary`, in its order",
    )
    _expect_rows(p_nv, contexts, events)
    likely = events[int(p_nv[1].argmax())]
    expect(
        likely in ("cat", "dog"),
        f'after ["<s>", "the"] your most probable word is {likely!r}; only "cat" and "dog" ever followed "the"',
        "is column i the word vocabulary[i], and is the last word of the context used?",
    )
    expect(
        np.allclose(call(answer, toy, contexts[::-1], events), p_nv[::-1]),
        "the answer for a context changes with the order in which the contexts are asked",
        "each row depends on its own context and on the training sentences, on nothing else",
    )
    seed = 0
    train, held_contexts, words, vocabulary = _village(seed)
    table = np.asarray(call(answer, train, held_contexts, vocabulary), dtype=float)
    _expect_rows(table, held_contexts, vocabulary)
    score, marks = _perplexity(table, words, vocabulary), landmarks(seed)
    scale = ", ".join(f"{name} {value:.1f}" for name, value in marks.items())
    expect(
        score < len(vocabulary),
        f"your held-out perplexity is {score:.1f}: worse than giving each of the {len(vocabulary)} words the same",
        "is column i the word vocabulary[i], and is the last word of the context used?",
    )
    expect(
        score < 0.95 * marks["add-k"],
        f"your held-out perplexity is {score:.1f}, no better than adding one to trigram counts ({scale})",
        "mix long and short contexts: λ₃ p(w | two words) + λ₂ p(w | one word) + λ₁ p(w) + λ₀ / V",
    )
    goal = 1.1 * marks["interpolated"]
    expect(
        score < goal,
        f"your held-out perplexity is {score:.1f}; the goal is below {goal:.1f} ({scale})",
        "are two words of context used, and is most of the weight on the longest context that was seen?",
    )


def _expect_rows(p_nv: np.ndarray, contexts: list[list[str]], vocabulary: list[str]) -> None:
    """Each row must be a distribution that excludes nothing."""
    if p_nv.shape != (len(contexts), len(vocabulary)):
        raise Wrong(f"the answer has shape {p_nv.shape}, wanted {(len(contexts), len(vocabulary))}")
    if not np.isfinite(p_nv).all():
        n, v = np.argwhere(~np.isfinite(p_nv))[0]
        cause = "a context that was never seen has total 0: what should it answer?"
        raise Wrong(f"after {contexts[n]} the word {vocabulary[v]!r} has probability {p_nv[n, v]}", cause)
    sums = p_nv.sum(axis=1)
    if len(bad := np.flatnonzero(np.abs(sums - 1) > 1e-6)):
        n = int(bad[0])
        cause = "logarithms? wanted are probabilities" if sums[n] < 0 else "every row is a distribution over all words"
        raise Wrong(f"after {contexts[n]} the probabilities sum to {sums[n]:.4f}, not to 1", cause)
    if (p_nv < 0).any():
        raise Wrong("a probability is below 0")
    if (p_nv == 0).any():
        n, v = np.argwhere(p_nv == 0)[0]
        cause = "held-out text holds what training never saw: one zero makes the perplexity infinite"
        raise Wrong(f"after {contexts[n]} the word {vocabulary[v]!r} has probability 0", cause)
