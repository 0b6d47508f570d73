"""HMM against the sum over all ways of tagging, and Baum–Welch's promise."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.core.notation import promise_checker
from minillm.statistical.hmm import HMM

pairs = st.tuples(st.sampled_from(["a", "b", "c", "rare"]), st.sampled_from(["X", "Y", "Z"]))
tagged_corpora = st.lists(st.lists(pairs, max_size=5), min_size=1, max_size=6).filter(any)
sentences = st.lists(st.sampled_from(["a", "b", "c", "never"]), min_size=1, max_size=5)


def all_taggings(model, sentence):
    """Return log p(sentence, tags) of every way of tagging, by multiplying out."""
    column = [model.vocabulary.index(w) if w in model.vocabulary else 0 for w in sentence]
    table = {}
    for tags in product(range(len(model.tags)), repeat=len(sentence)):
        p = model.log_start[tags[0]] + sum(model.log_emission[s, w] for s, w in zip(tags, column, strict=True))
        table[tags] = p + sum(model.log_transition[i, j] for i, j in pairwise(tags))
    return table


@settings(max_examples=80, deadline=None)
@given(tagged_corpora, sentences, st.sampled_from([0.1, 1.0]), st.integers(1, 2))
def test_it_agrees_with_the_sum_over_all_taggings(tagged, sentence, k, min_count):
    model = HMM(k=k, min_count=min_count).fit_supervised(tagged)
    table = all_taggings(model, sentence)
    total = np.logaddexp.reduce(list(table.values()))
    assert model.logprob(sentence) == pytest.approx(total)
    decoded = tuple(model.tags.index(tag) for tag in model.decode(sentence))
    assert table[decoded] == pytest.approx(max(table.values()))
    expected = np.zeros((len(sentence), len(model.tags)))
    for tags, log_p in table.items():
        expected[np.arange(len(sentence)), tags] += math.exp(log_p - total)
    np.testing.assert_allclose(model.posteriors(sentence), expected, atol=1e-10)


def test_all_sentences_of_one_length_sum_to_one():
    model = HMM(k=0.3).fit_supervised([[("a", "X"), ("b", "Y"), ("a", "Y")], [("b", "X")]])
    total = sum(math.exp(model.logprob(words)) for words in product(model.vocabulary, repeat=4))
    assert total == pytest.approx(1)


def test_the_counts_of_a_worked_example():
    model = HMM(k=1).fit_supervised([[("a", "X"), ("b", "Y"), ("a", "X")], [("a", "Y")], []])
    assert model.tags == ["X", "Y"]
    assert model.vocabulary == ["<unk>", "a", "b"]
    np.testing.assert_allclose(np.exp(model.log_start), [2 / 4, 2 / 4])
    np.testing.assert_allclose(np.exp(model.log_transition), [[1 / 3, 2 / 3], [2 / 3, 1 / 3]])
    np.testing.assert_allclose(np.exp(model.log_emission), [[1 / 5, 3 / 5, 1 / 5], [1 / 5, 2 / 5, 2 / 5]])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=7), min_size=1, max_size=8).filter(any), st.integers(1, 4))
def test_baum_welch_never_lowers_the_likelihood(sequences, states):
    model = HMM(states, seed=states)
    history = model.fit_unsupervised(sequences, iterations=12)
    assert len(history) == 13
    assert all(after >= before - 1e-8 for before, after in pairwise(history))
    assert history[-1] == pytest.approx(sum(model.logprob(sequence) for sequence in sequences))
    for table in (model.log_start, model.log_transition, model.log_emission):
        np.testing.assert_allclose(np.exp(table).sum(-1), 1)


def test_one_step_of_baum_welch_is_counting_all_taggings_by_their_weight():
    sequences = [["a", "b", "c"], ["b"], ["a", "b", "c"], ["c", "c"]]
    model = HMM(2, seed=3)
    model.fit_unsupervised(sequences, iterations=0)
    start, transition, emission = np.zeros(2), np.zeros((2, 2)), np.zeros((2, len(model.vocabulary)))
    for sequence in sequences:
        table = all_taggings(model, sequence)
        total = np.logaddexp.reduce(list(table.values()))
        for tags, log_p in table.items():
            weight = math.exp(log_p - total)
            start[tags[0]] += weight
            for i, j in pairwise(tags):
                transition[i, j] += weight
            for state, word in zip(tags, sequence, strict=True):
                emission[state, model.vocabulary.index(word)] += weight
    model.fit_unsupervised(sequences, iterations=1)
    np.testing.assert_allclose(np.exp(model.log_start), start / start.sum())
    np.testing.assert_allclose(np.exp(model.log_transition), transition / transition.sum(1, keepdims=True))
    np.testing.assert_allclose(np.exp(model.log_emission), emission / emission.sum(1, keepdims=True))


def test_baum_welch_finds_two_kinds_of_words_that_alternate():
    generator = np.random.default_rng(0)
    sequences = [[str(generator.choice(["p", "q"] if t % 2 else ["x", "y", "z"])) for t in range(8)] for _ in range(60)]
    model = HMM(2, seed=1)
    model.fit_unsupervised(sequences, iterations=40)
    tags = model.decode(["x", "p", "z", "q", "y"])
    assert tags[0] == tags[2] == tags[4] != tags[1] == tags[3]


def test_baum_welch_goes_on_from_tags():
    tagged = [[("a", "X"), ("b", "Y")], [("b", "Y"), ("a", "X")]]
    model = HMM(k=0.5).fit_supervised(tagged)
    history = model.fit_unsupervised([["a", "b"], ["new"]], iterations=3)
    assert model.tags == ["X", "Y"]
    assert history[-1] >= history[0]


def test_a_long_sentence_does_not_underflow():
    model = HMM(k=0.1).fit_supervised([[("a", "X"), ("b", "Y")] * 3])
    long = ["a", "b"] * 2000
    assert -1e5 < model.logprob(long) < 0
    assert model.decode(long)[:4] == ["X", "Y", "X", "Y"]
    np.testing.assert_allclose(model.posteriors(long).sum(1), 1)


def test_unknown_words():
    tagged = [[("a", "X"), ("b", "Y")], [("a", "X"), ("b", "Y")]]
    smoothed, exact = HMM(k=0.1).fit_supervised(tagged), HMM(k=0).fit_supervised(tagged)
    assert math.isfinite(smoothed.logprob(["never"]))
    assert exact.logprob(["a", "never"]) == -math.inf
    assert exact.decode(["a", "never"]) == ["X", "Y"]
    np.testing.assert_allclose(exact.posteriors(["a", "never"]), [[1, 0], [0, 1]])
    with pytest.raises(ValueError, match="probability 0"):
        exact.posteriors(["b", "b"])
    with pytest.raises(ValueError, match="probability 0"):
        exact.fit_unsupervised([["b", "b"]])
    rare = HMM(k=0, min_count=2).fit_supervised([*tagged, [("once", "X")]])
    assert rare.vocabulary == ["<unk>", "a", "b"]
    assert rare.logprob(["never"]) == pytest.approx(math.log(1 / 3))


def test_empty_sentences_and_mistakes():
    model = HMM(k=1).fit_supervised([[("a", "X")]])
    assert model.logprob([]) == 0
    assert model.decode([]) == []
    assert model.posteriors([]).shape == (0, 1)
    for mistake, message in (
        (lambda: HMM(0), "states=0"),
        (lambda: HMM(2, k=-1), "k=-1"),
        (lambda: HMM(2, min_count=0), "min_count=0"),
        (lambda: HMM().fit_supervised([[]]), "no .word, tag. pair"),
        (lambda: HMM(2).fit_unsupervised([[]]), "no word"),
        (lambda: HMM(2).fit_unsupervised([["a"]], iterations=-1), "iterations=-1"),
        (lambda: HMM(2).fit_unsupervised(["a b"]), "is the string"),
        (lambda: HMM().fit_unsupervised([["a"]]), "how many states"),
        (lambda: model.decode("a b"), "is the string"),
    ):
        with pytest.raises(ValueError, match=message):
            mistake()
    with pytest.raises(RuntimeError, match="fit_supervised"):
        HMM(2).decode(["a"])


def test_names_keep_their_promises():
    with promise_checker("minillm.statistical") as broken:
        model = HMM(3).fit_supervised([[("a", "X"), ("b", "Y")], [("c", "X"), ("b", "Y"), ("a", "Z"), ("a", "Z")]])
        model.fit_unsupervised([["a", "b", "a"], ["c"]], iterations=2)
        model.logprob(["a", "b"])
        model.decode(["a", "b"])
        model.posteriors(["a", "b"])
    assert broken == []
