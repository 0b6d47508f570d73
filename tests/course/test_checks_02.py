"""Chapter 02's checks: right answers pass in more than one form, wrong ones get the diagnosis that they deserve."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from refusals import refuse, stub

from minillm.course.checks import NotWrittenYet, check
from minillm.course.checks_02 import held_out_perplexity, landmarks


def rows_of(sentences):
    return [["<s>", *sentence, "</s>"] for sentence in sentences]


def pairs_of(sentences):
    return [pair for row in rows_of(sentences) for pair in pairwise(row)]


@pytest.mark.parametrize("name", ["mle", "continuation", "discounted", "next_word"])
def test_a_stub_is_not_written_yet(name):
    with pytest.raises(NotWrittenYet, match="not written yet"):
        check(f"02.{name}", stub)


# 02.mle


def mle(sentences):
    pairs = Counter(pairs_of(sentences))
    firsts = Counter(first for first, _ in pairs_of(sentences))
    return {pair: n / firsts[pair[0]] for pair, n in pairs.items()}


def mle_with_zeros(sentences):
    table, words = mle(sentences), {word for _, word in pairs_of(sentences)}
    return {(a, b): table.get((a, b), 0.0) for a, _ in table for b in words}


def mle_counts(sentences):
    return dict(Counter(pairs_of(sentences)))


def mle_joint(sentences):
    pairs = Counter(pairs_of(sentences))
    return {pair: n / pairs.total() for pair, n in pairs.items()}


def mle_backwards(sentences):
    pairs = Counter(pairs_of(sentences))
    seconds = Counter(second for _, second in pairs_of(sentences))
    return {pair: n / seconds[pair[1]] for pair, n in pairs.items()}


def mle_without(mark):
    return lambda sentences: {pair: p for pair, p in mle(sentences).items() if mark not in pair}


def mle_joined(sentences):
    row = ["<s>", *(word for sentence in sentences for word in sentence), "</s>"]
    pairs = Counter(pairwise(row)) + Counter(pairs_of(sentences))
    firsts = Counter(row[:-1]) + Counter(first for first, _ in pairs_of(sentences))
    return {pair: n / firsts[pair[0]] for pair, n in pairs.items()}


def mle_strings(sentences):
    return {" ".join(pair): p for pair, p in mle(sentences).items()}


def mle_in_place(sentences):
    for sentence in sentences:
        sentence.insert(0, "<s>")
        sentence.append("</s>")
    pairs = Counter(pair for row in sentences for pair in pairwise(row))
    firsts = Counter(word for row in sentences for word in row[:-1])
    return {pair: n / firsts[pair[0]] for pair, n in pairs.items()}


def mle_all_occurrences(sentences):
    pairs = Counter(pairs_of(sentences))
    words = Counter(word for sentence in sentences for word in sentence) + Counter({"<s>": len(sentences)})
    return {(a, b): n / (words[a] + (b == "</s>") * 0.5) for (a, b), n in pairs.items()}


@pytest.mark.parametrize("answer", [mle, mle_with_zeros])
def test_mle_accepts(answer, capsys):
    check("02.mle", answer)
    assert capsys.readouterr().out == "02.mle: correct\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (mle_counts, "this is a count"),
        (mle_joint, "number of all pairs"),
        (mle_backwards, "count of the second word"),
        (mle_without("<s>"), 'put "<s>" before'),
        (mle_without("</s>"), 'put "</s>" after'),
        (mle_joined, "inside each sentence"),
        (mle_strings, "is not a pair"),
        (mle_in_place, "changed its argument"),
        (mle_all_occurrences, "comes *before* something"),
        (lambda sentences: None, "is there a `return`?"),
    ],
)
def test_mle_refuses(answer, says):
    refuse("02.mle", answer, says)


def continuation(sentences):
    pairs = set(pairs_of(sentences))
    return {word: n / len(pairs) for word, n in Counter(word for _, word in pairs).items()}


def continuation_frequency(sentences):
    words = Counter(word for _, word in pairs_of(sentences))
    return {word: n / words.total() for word, n in words.items()}


def continuation_counts(sentences):
    return dict(Counter(word for _, word in set(pairs_of(sentences))))


def continuation_followers(sentences):
    pairs = set(pairs_of(sentences))
    after = Counter(first for first, _ in pairs)
    return {word: after[word] / len(pairs) for _, word in pairs}


def continuation_no_marks(sentences):
    pairs = {pair for row in sentences for pair in pairwise(row)}
    return {word: n / max(len(pairs), 1) for word, n in Counter(word for _, word in pairs).items()}


def continuation_over_vocabulary(sentences):
    counts = Counter(word for _, word in set(pairs_of(sentences)))
    return {word: n / len(counts) for word, n in counts.items()}


def continuation_with_start(sentences):
    return {"<s>": 0.0, **continuation(sentences)}


def continuation_no_end(sentences):
    pairs = {pair for pair in pairs_of(sentences) if pair[1] != "</s>"}
    return {word: n / len(pairs) for word, n in Counter(word for _, word in pairs).items()}


def continuation_end_forgotten(sentences):
    return {word: share for word, share in continuation(sentences).items() if word != "</s>"}


def test_continuation_accepts():
    check("02.continuation", continuation)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (continuation_frequency, "you counted how often"),
        (continuation_counts, "divide by the number of all different pairs"),
        (continuation_followers, "count those *before* it"),
        (continuation_no_marks, "the marks are missing"),
        (continuation_over_vocabulary, "different *pairs*"),
        (continuation_with_start, "never the second word"),
        (continuation_no_end, 'put "</s>" after'),
        (continuation_end_forgotten, '"</s>" is an event'),
        (list, "return a dict"),
    ],
)
def test_continuation_refuses(answer, says):
    refuse("02.continuation", answer, says)


# 02.discounted


def discounted(counts, lower, d, *, gamma=None):
    total = sum(counts.values())
    if not total:
        return dict(lower)
    free = d * len(counts) / total if gamma is None else gamma(counts, lower, d, total)
    kept = {word: max(counts.get(word, 0) - d, 0) / total for word in lower}
    return {w: kept[w] + free * p for w, p in lower.items()}


def as_given(counts, lower, d):
    total = sum(counts.values())
    gamma = d * len(counts) / total
    return {word: (counts[word] - d) / total if word in counts else gamma * lower[word] for word in lower}


def backoff(counts, lower, d):
    total, unseen = sum(counts.values()), sum(p for word, p in lower.items() if word not in counts)
    if not total:
        return dict(lower)
    gamma = d * len(counts) / total
    return {w: (counts[w] - d) / total if w in counts else gamma * p / unseen for w, p in lower.items()}


def keeps_counts(counts, lower, d):
    total = sum(counts.values())
    if not total:
        return dict(lower)
    return {w: counts.get(w, 0) / total + d * len(counts) / total * p for w, p in lower.items()}


def only_seen(counts, lower, d):
    return {word: p for word, p in discounted(counts, lower, d).items() if word in counts}


def no_empty_context(counts, lower, d):
    total = sum(counts.values())
    gamma = d * len(counts) / total
    return {word: max(counts.get(word, 0) - d, 0) / total + gamma * p for word, p in lower.items()}


def normalised_at_the_end(counts, lower, d):
    broken = as_given(counts, lower, d)
    return {word: p / sum(broken.values()) for word, p in broken.items()}


def with_gamma(gamma):
    return lambda counts, lower, d: discounted(counts, lower, d, gamma=gamma)


def test_discounted_accepts():
    check("02.discounted", discounted)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (as_given, "the seen words get their part of it too"),
        (backoff, "*backoff*"),
        (keeps_counts, "the counts kept theirs"),
        (only_seen, "the unseen ones too"),
        (no_empty_context, "raised ZeroDivisionError"),
        (normalised_at_the_end, "the probability of the unseen 'fish'"),
        (with_gamma(lambda counts, lower, d, total: d / total), "you gave back one d only"),
        (with_gamma(lambda counts, lower, d, total: d), "yours is d"),
        (with_gamma(lambda counts, lower, d, total: 0), "nobody got it"),
        (with_gamma(lambda counts, lower, d, total: d * len(counts)), "divided by the total"),
        (with_gamma(lambda counts, lower, d, total: d * len(lower) / total), "*seen* here"),
    ],
)
def test_discounted_refuses(answer, says):
    refuse("02.discounted", answer, says)


# 02.next_word


def after_of(train, longest=2):
    after = defaultdict(Counter)
    for row in rows_of(train):
        for i in range(1, len(row)):
            for length in range(min(longest, i) + 1):
                after[tuple(row[i - length : i])][row[i]] += 1
    return after


def share(counts, vocabulary):
    p_v = np.array([counts[word] for word in vocabulary], float)
    return p_v / p_v.sum() if p_v.sum() else p_v


def mixed(train, contexts, vocabulary, weights=(0.01, 0.04, 0.15, 0.8)):
    after, rows = after_of(train), {}
    for context in set(map(tuple, contexts)):
        p_v, left = np.zeros(len(vocabulary)), 1.0
        for length in (2, 1, 0):
            tail = context[len(context) - length :]
            if length <= len(context) and after[tail]:
                part = left * weights[length + 1] / sum(weights[: length + 2])
                p_v, left = p_v + part * share(after[tail], vocabulary), left - part
        rows[context] = p_v + left / len(vocabulary)
    return np.array([rows[tuple(context)] for context in contexts])


def add_one(train, contexts, vocabulary):
    after = after_of(train)
    counts = np.array([[after[tuple(context)][word] for word in vocabulary] for context in contexts]) + 1.0
    return counts / counts.sum(1, keepdims=True)


def frequencies_only(train, contexts, vocabulary):
    p_v = share(after_of(train, 0)[()], vocabulary) + 1e-3
    return np.tile(p_v / p_v.sum(), (len(contexts), 1))


def bigrams_only(train, contexts, vocabulary):
    return mixed(train, [context[-1:] for context in contexts], vocabulary)


def with_zeros(train, contexts, vocabulary):
    after = after_of(train)
    return np.array([share(after[tuple(context[-1:])] or after[()], vocabulary) for context in contexts])


def zero_over_zero(train, contexts, vocabulary):
    after = after_of(train)
    rows = np.array([[after[tuple(context[-1:])][word] for word in vocabulary] for context in contexts], float)
    return rows / rows.sum(1, keepdims=True)


def cheating_with_batch(train, contexts, vocabulary):
    p_nv = mixed(train, contexts, vocabulary)
    weight_n = np.linspace(0.1, 0.3, len(contexts))
    return p_nv + weight_n[:, None] * (1 / len(vocabulary) - p_nv)


@pytest.mark.parametrize("answer", [mixed, lambda *given: mixed(*given).tolist()])
def test_next_word_accepts(answer):
    check("02.next_word", answer)
    assert landmarks()["kneser-ney"] / 2 < held_out_perplexity(answer) < landmarks()["add-k"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda train, contexts, vocabulary: mixed(train, contexts, vocabulary).T, "has shape (6, 4), wanted (4, 6)"),
        (lambda *given: np.log(mixed(*given)), "logarithms?"),
        (lambda *given: mixed(*given) * 0.9, "the probabilities sum to 0.9000"),
        (with_zeros, "has probability 0"),
        (zero_over_zero, "never seen has total 0"),
        (frequencies_only, "is the last word of the context used?"),
        (cheating_with_batch, "the order in which the contexts are asked"),
        (lambda *given: np.roll(mixed(*given), 1, axis=1), "is column i the word vocabulary[i]"),
        (add_one, "no better than adding one"),
        (bigrams_only, "are two words of context used"),
        (lambda *given: None, "is there a `return`?"),
    ],
)
def test_next_word_refuses(answer, says):
    refuse("02.next_word", answer, says)
