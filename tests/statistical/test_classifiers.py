"""Naive Bayes and logistic regression: by hand, by what cannot matter, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression as TheirRegression
from sklearn.naive_bayes import MultinomialNB

from minillm.statistical.classifiers import BagOfWords, LogisticRegression, NaiveBayes

TEXTS = [text.split() for text in ("to be or not to be", "that is the question", "to die to sleep", "no more")]


def counted(classes, n=23, v=7, seed=0):
    """Counts (n, v) of random texts, and a label for each; every class occurs."""
    rng = np.random.default_rng(seed)
    label = np.r_[np.arange(classes), rng.integers(classes, size=n - classes)]
    rate = rng.gamma(1.0, size=(classes, v))
    return rng.poisson(rate[label]).astype(float), [f"class {i}" for i in label]


def test_words_are_counted_as_scikit_learn_counts_them():
    theirs = CountVectorizer(tokenizer=str.split, token_pattern=None)
    expected = theirs.fit_transform([" ".join(text) for text in TEXTS]).toarray()
    bag = BagOfWords.learn(TEXTS)
    assert bag.words == theirs.get_feature_names_out().tolist()
    assert_allclose(bag.counts(TEXTS), expected)
    assert BagOfWords.learn(TEXTS, min_count=2).words == ["be", "to"]
    assert bag.counts([["never", "seen"], []]).sum() == 0


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 4), st.sampled_from([0.1, 1.0, 5.0]), st.integers(0, 99))
def test_naive_bayes_is_scikit_learns(classes, k, seed):
    (x, labels), (fresh, _) = counted(classes, seed=seed), counted(classes, n=11, seed=seed + 1000)
    ours, theirs = NaiveBayes(k=k).fit(x, labels), MultinomialNB(alpha=k).fit(x, labels)
    assert_allclose(ours.log_probabilities(fresh), theirs.predict_log_proba(fresh), atol=1e-10)
    assert ours.predict(fresh) == theirs.predict(fresh).tolist()


def test_naive_bayes_by_hand():
    """Two texts of class a with the words 2 + 1 and 0 + 1, one of class b with 0 and 4; k = 1."""
    model = NaiveBayes(k=1).fit(np.array([[2, 1], [0, 1], [0, 4]]), ["a", "a", "b"])
    joint = np.array([2 / 3 * (3 / 6) * (3 / 6) ** 2, 1 / 3 * (1 / 6) * (5 / 6) ** 2])
    assert_allclose(np.exp(model.log_probabilities(np.array([[1, 2]])))[0], joint / joint.sum())


def test_naive_bayes_counts_a_repeated_word_as_two_witnesses_and_regression_does_not():
    """A copy of a feature doubles the evidence of naive Bayes; an unregularised plane stays where it was."""
    x, labels = counted(2, n=200, v=3)
    doubled = np.column_stack([x, x[:, :1]])
    evidence = lambda x: np.diff(NaiveBayes().fit(x, labels).weight)
    assert evidence(doubled)[3] == pytest.approx(evidence(doubled)[0])
    plane = [LogisticRegression(l2=1e-8).fit(each, labels).log_probabilities(each) for each in (x, doubled)]
    assert_allclose(plane[0], plane[1], atol=1e-5)
    assert np.abs(NaiveBayes().fit(doubled, labels).log_probabilities(doubled) - NaiveBayes().fit(x, labels)
                  .log_probabilities(x)).max() > 0.05  # fmt: skip


@pytest.mark.parametrize("l2", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_regression_is_scikit_learns(classes, l2):
    (x, labels), (fresh, _) = counted(classes, n=60), counted(classes, n=11, seed=1)
    ours = LogisticRegression(l2=l2).fit(x, labels)
    theirs = TheirRegression(C=1 / l2, solver="newton-cg", tol=1e-12, max_iter=1000).fit(x, labels)
    free = slice(1, None) if classes == 2 else slice(None)
    assert_allclose(ours.weight.T[free], theirs.coef_, atol=1e-5)
    assert_allclose(np.exp(ours.log_probabilities(fresh)), theirs.predict_proba(fresh), atol=1e-6)
    assert classes == 2 or abs(ours.bias.sum()) < 1e-9 * max(1, np.abs(ours.bias).max())  # the freedom is removed
    assert ours.predict(fresh) == theirs.predict(fresh).tolist()


@pytest.mark.parametrize("classes", [2, 4])
def test_the_optimum_is_flat(classes):
    """Far-out features, where a whole Newton step overshoots: no small change makes the loss less."""
    x, labels = counted(classes, n=40)
    x = 50 * x
    model = LogisticRegression(l2=1e-3).fit(x, labels)
    one_hot = np.array([[label == each for each in model.classes] for label in labels], float)
    free = slice(1, None) if classes == 2 else slice(None)
    error = np.exp(model.log_probabilities(x)) - one_hot
    assert_allclose((x.T @ error)[:, free] + 1e-3 * model.weight[:, free], 0, atol=1e-5)
    assert_allclose(error.sum(axis=0), 0, atol=1e-7)  # the biases are not drawn to zero: shares come out right


@pytest.mark.parametrize("seed", range(60))
def test_far_outliers_are_no_trouble(seed):
    """Heavy tails: on some of these sets whole Newton steps run away. The shares come out right on all."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(0.5, (40, 2))
    labels = (np.tanh(x) @ rng.normal(size=(2, 3)) + rng.gumbel(size=(40, 3))).argmax(axis=1).tolist()
    model = LogisticRegression(l2=1e-6).fit(x, labels)
    shares = np.exp(model.log_probabilities(x)).mean(axis=0)
    assert_allclose(shares, [labels.count(each) / 40 for each in model.classes], atol=1e-5)


def test_separated_classes_are_no_trouble_and_more_decay_means_less_weight():
    x = np.array([[-3.0, 1], [-2, 0], [2, 1], [3, 0]])
    norms = [np.abs(LogisticRegression(l2=l2).fit(x, [0, 0, 1, 1]).weight).sum() for l2 in (1e-6, 1e-3, 1.0, 1e6)]
    assert norms == sorted(norms, reverse=True) and norms[-1] < 1e-3
    assert LogisticRegression(l2=1e-6).fit(x, [0, 0, 1, 1]).predict(x) == [0, 0, 1, 1]


@pytest.mark.parametrize("model", [NaiveBayes(), LogisticRegression()], ids=["bayes", "regression"])
def test_the_order_of_cases_and_the_names_of_classes_do_not_matter(model):
    x, labels = counted(3, n=30)
    before = model.fit(x, labels).log_probabilities(x)
    assert_allclose(np.exp(before).sum(axis=1), 1)
    order = np.random.default_rng(1).permutation(30)
    after = model.fit(x[order], [labels[i] for i in order]).log_probabilities(x)
    assert_allclose(after, before, atol=1e-6)
    renamed = model.fit(x, [{"class 0": "z", "class 1": "a", "class 2": "m"}[label] for label in labels])
    assert renamed.classes == ["a", "m", "z"]
    assert_allclose(renamed.log_probabilities(x)[:, [2, 0, 1]], before, atol=1e-6)


@pytest.mark.parametrize("say", [
    (lambda: NaiveBayes(k=0), "k=0"),
    (lambda: LogisticRegression(l2=0.0), "l2=0.0"),
    (lambda: LogisticRegression(max_steps=0), "max_steps=0"),
    (lambda: NaiveBayes().fit(np.ones((2, 3)), ["a"]), "there are 1 labels"),
    (lambda: NaiveBayes().fit(np.ones((2, 3)), ["a", "a"]), "all labels are 'a'"),
    (lambda: NaiveBayes().fit(-np.ones((2, 3)), ["a", "b"]), "LogisticRegression takes any"),
    (lambda: LogisticRegression().fit(np.full((2, 3), np.nan), ["a", "b"]), "not a finite number"),
    (lambda: LogisticRegression().predict(np.ones((2, 3))), "learned nothing yet"),
    (lambda: NaiveBayes().fit(np.eye(2), ["a", "b"]).predict(np.ones((2, 3))), "the rule is"),
    (lambda: BagOfWords.learn(["a bare string"]), "give a list of words"),
    (lambda: BagOfWords.learn([["a", "b"]], min_count=2), "min_count=2"),
    (lambda: BagOfWords(["a", "a"]), "each once"),
])  # fmt: skip
def test_what_cannot_be_used_is_refused(say):
    act, words = say
    with pytest.raises(ValueError, match=words):
        act()
