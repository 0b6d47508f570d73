"""NGramModel against a second, slow implementation with dictionaries and fractions, and its limits."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.core.notation import promise_checker
from minillm.statistical.ngram import NGramModel
from minillm.statistical.smoothing import estimate_discounts, held_out_weights

SMOOTHINGS = ("mle", "add-k", "interpolated", "kneser-ney")
words = st.sampled_from(["a", "b", "c", "dd", "é", "<unk>"])
corpora = st.lists(st.lists(words, max_size=7), min_size=1, max_size=9)


class Slow:
    """The textbook's recursion, written with Counters and exact fractions."""

    def __init__(self, sentences, order, *, vocabulary, k=1, weights=None):
        self.order, self.events, self.k, self.weights = order, sorted({"<unk>", "</s>", *vocabulary}), k, weights
        self.raw = [Counter() for _ in range(order + 1)]
        for sentence in sentences:
            text = ("<s>", *(w if w in self.events else "<unk>" for w in sentence), "</s>")
            for n in range(1, order + 1):
                self.raw[n].update(text[i : i + n] for i in range(len(text) - n + 1))
        del self.raw[1][("<s>",)]
        self.adjusted = [Counter() for _ in range(order + 1)]
        for n in range(1, order + 1):
            self.adjusted[n].update({g: c for g, c in self.raw[n].items() if n == order or g[0] == "<s>"})
            if n < order:
                self.adjusted[n].update(g[1:] for g in self.raw[n + 1] if g[1:] != ("<s>",))

    def mle(self, word, context, table=None):
        table = self.raw if table is None else table
        n = len(context) + 1
        total = sum(c for g, c in table[n].items() if g[:-1] == context)
        return (Fraction(table[n][(*context, word)], total) if total else None), total

    def add_k(self, word, context):
        count = self.raw[len(context) + 1][(*context, word)]
        total = sum(c for g, c in self.raw[len(context) + 1].items() if g[:-1] == context)
        return Fraction(count + self.k, total + self.k * len(self.events))

    def relative(self, word, context):
        p, _ = self.mle(word, context)
        return p if p is not None else self.relative(word, context[1:])

    def interpolated(self, word, context):
        lower = self.interpolated(word, context[1:]) if context else Fraction(1, len(self.events))
        p, total = self.mle(word, context)
        weight = self.weights[len(context)] if total else 0
        return weight * (p or 0) + (1 - weight) * lower

    def kneser_ney(self, word, context):
        lower = self.kneser_ney(word, context[1:]) if context else Fraction(1, len(self.events))
        n = len(context) + 1
        _, total = self.mle(word, context, self.adjusted)
        if not total:
            return lower
        sizes = Counter(self.adjusted[n].values())
        n1, n2, n3, n4 = (sizes[j] for j in (1, 2, 3, 4))
        discount = [0, Fraction(1, 2), Fraction(1), Fraction(3, 2)]
        if n1 and n2 and n3:
            y = Fraction(n1, n1 + 2 * n2)
            found = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            if all(0 < found[j] <= j for j in (1, 2, 3)):
                discount = found
        follow = [c for g, c in self.adjusted[n].items() if g[:-1] == context]
        count = self.adjusted[n][(*context, word)]
        spared = sum(discount[min(c, 3)] for c in follow)
        return (count - discount[min(count, 3)]) / total + spared / total * lower


@settings(max_examples=120, deadline=None)
@given(corpora, st.integers(1, 6), st.sampled_from(SMOOTHINGS), st.lists(words, max_size=6), st.integers(1, 2))
def test_it_agrees_with_the_textbook_recursion(corpus, order, smoothing, context, min_count):
    weights = [Fraction(i + 1, 8) for i in range(order)]
    model = NGramModel(order, smoothing, k=2, weights=[float(w) for w in weights], min_count=min_count).fit(corpus)
    slow = Slow(corpus, order, vocabulary=model.vocabulary, k=2, weights=weights)
    recursion = {"mle": slow.relative, "add-k": slow.add_k, "interpolated": slow.interpolated}
    truth = recursion.get(smoothing, slow.kneser_ney)
    for start in ([], ["<s>"]):
        full = [*start, *context]
        history = tuple(w if w in model.vocabulary or w == "<s>" else "<unk>" for w in full)[
            max(0, len(full) - order + 1) :
        ]
        expected = [float(truth(word, history)) for word in model.vocabulary]
        np.testing.assert_allclose(np.exp(model.logprobs(full)), expected, rtol=1e-9, atol=1e-12)
        one_by_one = [math.exp(model.logprob(word, full)) for word in model.vocabulary]
        np.testing.assert_allclose(one_by_one, expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(
    corpora,
    st.integers(1, 6),
    st.sampled_from(SMOOTHINGS),
    st.lists(st.sampled_from(["<s>", "a", "zz", "</s>"]), max_size=7),
)
def test_probabilities_sum_to_one_for_every_context(corpus, order, smoothing, context):
    model = NGramModel(order, smoothing).fit(corpus)
    assert np.exp(model.logprobs(context)).sum() == pytest.approx(1, abs=1e-9)
    assert "<s>" not in model.vocabulary
    assert {"<unk>", "</s>"} <= set(model.vocabulary)


@settings(max_examples=60, deadline=None)
@given(
    corpora,
    st.integers(1, 6),
    st.sampled_from(SMOOTHINGS),
    st.lists(st.lists(words, max_size=5), min_size=1, max_size=4),
)
def test_a_text_scored_at_once_is_its_words_scored_one_by_one(corpus, order, smoothing, text):
    model = NGramModel(order, smoothing).fit(corpus)
    single = [[model.logprob(w, ["<s>", *s[:i]]) for i, w in enumerate([*s, "</s>"])] for s in text]
    for sentence, expected in zip(text, single, strict=True):
        np.testing.assert_allclose(model.word_logprobs(sentence), expected, rtol=1e-12)
        assert model.sentence_logprob(sentence) == pytest.approx(sum(expected))
    everything = [p for sentence in single for p in sentence]
    assert model.perplexity(text) == pytest.approx(math.exp(-sum(everything) / len(everything)))


def test_the_order_of_the_sentences_does_not_matter():
    corpus = [["a", "b", "a"], ["b"], [], ["a", "b", "c", "a"]]
    one, other = NGramModel(4).fit(corpus), NGramModel(4).fit(corpus[::-1])
    for context in (["<s>"], ["a"], ["a", "b"], ["b", "c", "a"]):
        for word in one.vocabulary:
            assert one.logprob(word, context) == pytest.approx(other.logprob(word, context), rel=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_what_stands_before_a_sentence_does_not_matter(smoothing):
    model = NGramModel(3, smoothing).fit([["a", "b"], ["b", "b"]])
    for context in (["a", "<s>"], ["never", "<s>", "b"], ["<s>", "<s>"]):
        alone = context[len(context) - 1 - context[::-1].index("<s>") :]
        np.testing.assert_array_equal(model.logprobs(context), model.logprobs(alone))
        assert [model.logprob(word, context) for word in model.vocabulary] == list(model.logprobs(alone))


def test_words_further_back_than_the_order_do_not_matter():
    model = NGramModel(3).fit([["a", "b", "c", "d"], ["b", "b", "c", "a"]])
    assert model.logprob("d", ["a", "b", "c"]) == model.logprob("d", ["x", "<s>", "y", "b", "c"])


def test_the_mle_of_an_unseen_word_is_zero_and_its_perplexity_infinite():
    model = NGramModel(2, "mle").fit([["a", "b"]])
    assert model.logprob("a", ["a"]) == -math.inf
    assert model.logprob("never") == -math.inf
    assert model.perplexity([["a", "a"]]) == math.inf
    assert model.perplexity([["a", "b"]]) == 1.0


def test_add_k_goes_from_relative_frequency_to_uniform():
    corpus = [["a", "a", "b"], ["a"]]
    tiny, huge = NGramModel(2, "add-k", k=1e-12).fit(corpus), NGramModel(2, "add-k", k=1e12).fit(corpus)
    seen = np.exp(NGramModel(2, "mle").fit(corpus).logprobs(["a"]))
    np.testing.assert_allclose(np.exp(tiny.logprobs(["a"])), seen, atol=1e-9)
    np.testing.assert_allclose(np.exp(huge.logprobs(["a"])), 1 / 4, atol=1e-9)


def test_weights_of_one_are_relative_frequency_and_of_zero_the_uniform():
    corpus = [["a", "a", "b"], ["a"]]
    ones, zeros = (NGramModel(3, "interpolated", weights=[w] * 3).fit(corpus) for w in (1.0, 0.0))
    np.testing.assert_allclose(ones.logprobs(["a"]), NGramModel(3, "mle").fit(corpus).logprobs(["a"]))
    np.testing.assert_allclose(np.exp(zeros.logprobs(["a"])), 1 / 4)


def test_held_out_weights_trust_long_contexts_only_where_they_repeat():
    generator = np.random.default_rng(0)
    names = np.array([f"w{i}" for i in range(60)])
    repeating = [list("abcdefgh")] * 200
    chance = [names[generator.integers(0, 60, 8)].tolist() for _ in range(200)]
    for corpus, low, high in ((repeating, 0.99, 1.0), (chance, 0.0, 0.2)):
        assert low <= free_weights(NGramModel(2, "interpolated").fit(corpus), corpus)[1] <= high


def free_weights(model, corpus):
    from minillm.statistical.ngram_counts import encode

    ids = {word: i for i, word in enumerate([*model.vocabulary, "<s>"])}
    return held_out_weights(encode(corpus, ids), model.order, len(model.vocabulary))


def test_held_out_weights_are_the_best_there_are():
    generator = np.random.default_rng(1)
    letters = np.array(list("abcd"))
    corpus = [letters[np.minimum(generator.geometric(0.5, 9) - 1, 3)].tolist() for _ in range(100)]
    held, kept = corpus[9::10], [s for i, s in enumerate(corpus) if i % 10 != 9]
    vocabulary = list("abcd")
    model = NGramModel(2, "interpolated", vocabulary=vocabulary).fit(corpus)
    best = free_weights(model, corpus)
    grid = [[x, y] for x in np.linspace(0, 1, 21) for y in np.linspace(0, 1, 21)]
    scores = [
        NGramModel(2, "interpolated", weights=w, vocabulary=vocabulary).fit(kept).perplexity(held)
        for w in [best, *grid]
    ]
    assert scores[0] <= min(scores[1:]) + 1e-3


def test_the_discounts_of_a_worked_example_and_where_they_cannot_be_estimated():
    # n1..n4 = 10, 4, 2, 1: Y = 10/18; D = 1 - 8Y/10, 2 - 6Y/4, 3 - 4Y/2
    assert estimate_discounts(np.repeat([1, 2, 3, 4], [10, 4, 2, 1])) == pytest.approx((5 / 9, 7 / 6, 17 / 9))
    for counts in ([], [1, 1, 2], [2, 2, 3], [1, 3, 4], [1] + [2] * 2 + [3] * 60):
        assert estimate_discounts(np.array(counts, dtype=np.int64)) == (0.5, 1.0, 1.5)


def test_rare_words_and_words_outside_a_vocabulary_are_unknown():
    corpus = [["a", "b", "a"], ["b", "rare"]]
    by_count, by_list = NGramModel(2, min_count=2).fit(corpus), NGramModel(2, vocabulary=["a", "b"]).fit(corpus)
    assert by_count.vocabulary == by_list.vocabulary == ["<unk>", "</s>", "a", "b"]
    for model in (by_count, by_list):
        assert model.logprob("rare", ["b"]) == model.logprob("<unk>", ["b"]) == model.logprob("other", ["b"])
        assert model.count(["b", "<unk>"]) == model.count(["b", "nowhere"]) == 1
    listed = NGramModel(2, vocabulary=["a", "b", "c"]).fit(corpus)
    assert listed.logprob("c") > -math.inf
    marked = NGramModel(2, vocabulary=["<s>", "a", "</s>", "b", "a"]).fit(corpus)
    assert marked.vocabulary == by_list.vocabulary


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_empty_sentences_and_orders_longer_than_any_sentence(smoothing):
    only_empty = NGramModel(3, smoothing).fit([[], []])
    assert only_empty.vocabulary == ["<unk>", "</s>"]
    assert only_empty.logprob("</s>", ["<s>"]) > only_empty.logprob("<unk>", ["<s>"])
    long = NGramModel(6, smoothing).fit([["a"], ["b"], []])
    assert long.sizes == [5, 5, 2, 0, 0, 0]
    assert math.isfinite(long.perplexity([["a"], []]))
    assert long.sentence_logprob([]) == long.logprob("</s>", ["<s>"])


def test_start_is_never_predicted():
    for smoothing in SMOOTHINGS:
        assert NGramModel(2, smoothing).fit([["a"]]).logprob("<s>", ["a"]) == -math.inf


def test_samples_follow_the_model():
    corpus = [["a", "b"], ["a", "c", "c"], ["b"]]
    model = NGramModel(2, "mle").fit(corpus)
    generator = torch.Generator().manual_seed(0)
    drawn = Counter(tuple(model.sample(generator)) for _ in range(3000))
    for sentence, times in drawn.items():
        p = math.exp(model.sentence_logprob(list(sentence)))
        assert abs(times - 3000 * p) < 5 * math.sqrt(3000 * p * (1 - p)) + 1
    assert model.sample(temperature=0) == model.sample(temperature=0)
    assert len(NGramModel(1, "mle").fit([["a"] * 50]).sample(generator, max_words=3)) <= 3
    same = [model.sample(torch.Generator().manual_seed(7), max_words=20) for _ in range(2)]
    assert same[0] == same[1]


@pytest.mark.parametrize("order", [0, 7, -1, 2.0])
def test_orders_outside_one_to_six_are_refused(order):
    with pytest.raises(ValueError, match="order="):
        NGramModel(order)


@pytest.mark.parametrize(
    "arguments",
    [
        {"smoothing": "good-turing"},
        {"k": 0},
        {"weights": [0.5]},
        {"weights": [0.5, 0.5, 1.5]},
        {"discount": 1.5},
        {"discount": [0.5, 0.5]},
        {"vocabulary": "abc"},
        {"min_count": 0},
    ],
)
def test_arguments_that_make_no_sense_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments)) + "="):
        NGramModel(3, **arguments)


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ([], "no sentence"),
        ("a text", "no sentence"),
        (["a text"], "sentence 0 is the string"),
        ([["a", "</s>"]], "</s>"),
        ([["<s>", "a"]], "<s>"),
        ([["a", 3]], "3 is not a string"),
    ],
)
def test_sentences_that_make_no_sense_are_named(corpus, message):
    with pytest.raises(ValueError, match=message):
        NGramModel(2).fit(corpus)
    fitted = NGramModel(2).fit([["a"]])
    if "3" not in message:
        with pytest.raises(ValueError, match=r"no sentence|string|<s>"):
            fitted.perplexity(corpus)


def test_a_model_that_has_counted_nothing_says_so():
    for use in (
        lambda m: m.logprob("a"),
        lambda m: m.logprobs([]),
        lambda m: m.perplexity([["a"]]),
        lambda m: m.count(["a"]),
    ):
        with pytest.raises(RuntimeError, match="fit"):
            use(NGramModel(2))
    with pytest.raises(ValueError, match="list of words"):
        NGramModel(2).fit([["a"]]).logprob("a", "a b")
    with pytest.raises(ValueError, match="1 to 2"):
        NGramModel(2).fit([["a"]]).count(["a", "a", "a"])


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_names_keep_their_promises(smoothing):
    with promise_checker("minillm.statistical") as broken:
        model = NGramModel(3, smoothing).fit([["a", "b", "a"], ["c"]])
        model.perplexity([["a", "b"], []])
        model.logprobs(["a", "b"])
        model.sample(torch.Generator().manual_seed(0), top_k=2, top_p=0.9)
    assert broken == []
