"""Metrics against scikit-learn and sacrebleu."""

from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from sklearn.metrics import confusion_matrix as sklearn_confusion

from minillm.statistical.metrics import accuracy, confusion_matrix, corpus_bleu, precision_recall_f1, wilson

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


@pytest.mark.parametrize(("right", "n"), [(0, 1), (0, 7), (3, 7), (7, 7), (1, 40), (39, 40), (500, 1000)])
@pytest.mark.parametrize("z", [1.0, 1.96, 2.58])
def test_wilson_ends_where_the_share_is_z_errors_away(right, n, z):
    for limit, end in zip(wilson(right, n, z), (0, n), strict=True):
        if right == end:
            assert limit == end / n
        else:
            assert abs(right / n - limit) == pytest.approx(z * (limit * (1 - limit) / n) ** 0.5)
    low, high = wilson(right, n, z)
    assert 0 <= low <= right / n <= high <= 1 and high - low > 0


def test_wilson_is_a_mirror_and_holds_what_it_promises():
    assert wilson(3, 20) == pytest.approx([1 - limit for limit in reversed(wilson(17, 20))])
    chance = [comb(30, k) * 0.2**k * 0.8 ** (30 - k) for k in range(31)]  # of k right, where a fifth is
    held = sum(p for k, p in enumerate(chance) if wilson(k, 30)[0] <= 0.2 <= wilson(k, 30)[1])
    assert 0.93 < held < 0.97
    wald = lambda k: abs(k / 30 - 0.2) <= 1.96 * (k / 30 * (1 - k / 30) / 30) ** 0.5
    assert sum(p for k, p in enumerate(chance) if wald(k)) < held


@pytest.mark.parametrize(("right", "n", "z"), [(-1, 3, 1.96), (4, 3, 1.96), (0, 0, 1.96), (1, 2, 0.0), (1, 2, -1.0)])
def test_wilson_refuses_what_cannot_be(right, n, z):
    with pytest.raises(ValueError, match=r"wilson\(9, 10\) works"):
        wilson(right, n, z)
