"""Metrics against scikit-learn and sacrebleu."""

from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from sklearn.metrics import confusion_matrix as sklearn_confusion

from minillm.statistical.metrics import accuracy, confusion_matrix, corpus_bleu, precision_recall_f1, share_interval

cases = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20)
sentence = st.lists(st.sampled_from(list("abcde")), max_size=9)


@settings(deadline=None)
@given(cases)
def test_scikit_learn_agrees(pairs):
    truth, answers = zip(*pairs, strict=True)
    assert accuracy(truth, answers) == pytest.approx(accuracy_score(truth, answers))
    assert (
        confusion_matrix(truth, answers, range(4)).tolist()
        == sklearn_confusion(truth, answers, labels=range(4)).tolist()
    )
    for average in ("macro", "micro"):
        theirs = precision_recall_fscore_support(truth, answers, average=average, zero_division=0)
        assert precision_recall_f1(truth, answers, average=average) == pytest.approx(theirs[:3])
    for positive in range(4):
        binary = [[int(x == positive) for x in labels] for labels in (truth, answers)]
        theirs = precision_recall_fscore_support(*binary, average="binary", zero_division=0)
        assert precision_recall_f1(truth, answers, positive=positive) == pytest.approx(theirs[:3])


def test_precision_and_recall_are_not_swapped():
    scores = precision_recall_f1([1, 1, 1, 0], [1, 0, 0, 0])
    assert scores == (1.0, 1 / 3, 0.5)
    assert confusion_matrix(["a", "a", "b"], ["a", "b", "b"]).tolist() == [[1, 1], [0, 1]]


def test_nothing_claimed_is_zero():
    assert precision_recall_f1([1, 1], [0, 0]) == (0, 0, 0)


@st.composite
def corpora(draw):
    size, references = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    hypotheses = draw(st.lists(sentence, min_size=size, max_size=size))
    one = st.lists(sentence.filter(bool), min_size=references, max_size=references)
    return hypotheses, draw(st.lists(one, min_size=size, max_size=size))


@settings(max_examples=300, deadline=None)
@given(corpora(), st.sampled_from(["none", "exp", "floor"]))
def test_sacrebleu_agrees(corpus, smoothing):
    hypotheses, references = corpus
    streams = [[" ".join(words) for words in stream] for stream in zip(*references, strict=True)]
    metric = BLEU(tokenize="none", smooth_method=smoothing, force=True)
    theirs = metric.corpus_score([" ".join(words) for words in hypotheses], streams)
    assert corpus_bleu(hypotheses, references, smoothing=smoothing) == pytest.approx(theirs.score, abs=1e-9)


def test_bleu_limits():
    text = [list("abcde"), list("badc")]
    assert corpus_bleu(text, [[words] for words in text]) == pytest.approx(100)
    assert corpus_bleu(text, [[["x"]], [["y"]]]) == 0
    assert corpus_bleu([[], []], [[words] for words in text]) == 0
    padded = [[words, ["x", "y"]] for words in text]  # one more reference never lowers the matches
    assert corpus_bleu(text, padded) == pytest.approx(100)
    repeated = corpus_bleu([["a"] * 7], [[list("abcdefg")]], longest=1)
    assert repeated == pytest.approx(100 / 7)  # clipped: "a" is right once


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy([1], [1, 2]), "1 labels and answers 2"),
        (lambda: accuracy([], []), "no label"),
        (lambda: confusion_matrix([1], [2], [1]), "label 2"),
        (lambda: precision_recall_f1([1], [1], average="weighted"), "average="),
        (lambda: corpus_bleu([["a"]], []), "1 hypotheses and 0"),
        (lambda: corpus_bleu(["a b"], [[["a"]]]), "case 0"),
        (lambda: corpus_bleu([["a"]], [["a b"]]), "case 0"),
        (lambda: corpus_bleu([["a"]], [[]]), "case 0"),
        (lambda: corpus_bleu([["a"]], [[["a"]]], smoothing="add-k"), "smoothing="),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (7, 10), (0, 10), (10, 10), (431, 1000)])
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_the_interval_of_a_share_is_that_of_scipy(right, n, confidence):
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    other = binomtest(right, n).proportion_ci(confidence, method="wilson")
    assert share_interval(right, n, z) == pytest.approx((other.low, other.high), abs=1e-9)


@pytest.mark.parametrize(("right", "n", "z"), [(1, 0, 1.96), (-1, 3, 1.96), (4, 3, 1.96), (1, 3, 0.0)])
def test_no_interval_of_no_share(right, n, z):
    with pytest.raises(ValueError, match="the rule is 0 ≤ right ≤ n"):
        share_interval(right, n, z)
