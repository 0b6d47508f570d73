"""GloVe, and the counts that it learns from."""

import random

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from minillm.vectors.cooccurrence import Cooccurrence, count_pairs
from minillm.vectors.glove import GloVe, weighted_squares
from minillm.vectors.vocabulary import number_words

TEXT = [["a", "b", "c", "a"], ["b"], [], ["c", "c", "a", "b", "b", "a"]] * 2


@pytest.mark.parametrize(
    ("weighting", "weight"),
    [("flat", lambda d: 1.0), ("harmonic", lambda d: 1 / d), ("linear", lambda d: (4 - d) / 3)],
)
def test_counts_are_those_of_plain_loops(weighting, weight):
    got = count_pairs(TEXT, window=3, weighting=weighting)
    want = np.zeros((3, 3))
    for sentence in TEXT:
        for i, word in enumerate(sentence):
            for j, other in enumerate(sentence):
                if i != j and abs(i - j) <= 3:
                    want[got.words.index(word), got.words.index(other)] += weight(abs(i - j))
    np.testing.assert_allclose(got.dense(), want)
    assert (got.count_n > 0).all() and len(set(zip(got.row_n, got.column_n, strict=True))) == len(got.row_n)


def test_counts_of_nobody_and_of_rare_words():
    assert len(count_pairs([["a"], ["b"]]).count_n) == 0
    assert len(count_pairs([["a"]], window=9).count_n) == 0
    without = count_pairs([["a", "x", "b"], ["a", "b"]], window=1, min_count=2)
    assert without.words == ["a", "b"] and without.dense().tolist() == [[0, 2], [2, 0]], "x is out, so a stands by b"


def test_numbers_of_words():
    text = number_words([["b", "a"], [], ["a", "c", "b"]], min_count=2)
    assert (text.words, text.id_n.tolist(), text.sentence_n.tolist()) == (["a", "b"], [1, 0, 0, 1], [0, 0, 2, 2])
    assert text.count_v.tolist() == [2, 2]


def test_the_gradient_by_hand_is_autograds():
    dice = torch.Generator().manual_seed(0)
    word, context = (torch.randn(4, 6, generator=dice, dtype=torch.float64, requires_grad=True) for _ in range(2))
    log_count, weight = (torch.rand(4, generator=dice, dtype=torch.float64) for _ in range(2))
    loss, *by_hand = weighted_squares(word.detach(), context.detach(), log_count, weight)
    product = (word[:, :5] * context[:, :5]).sum(1) + word[:, 5] + context[:, 5]
    reference = 0.5 * (weight * (product - log_count) ** 2).sum()
    reference.backward()
    assert_close(loss, reference.detach())
    assert_close(by_hand, [word.grad, context.grad])


def test_adagrad_is_the_plain_recurrence():
    pair = Cooccurrence(words=["a", "b"], row_n=np.array([0]), column_n=np.array([1]), count_n=np.array([200.0]))
    start = GloVe(dimensions=3, epochs=1, learning_rate=1e-12).fit_counts(pair).losses[0]
    dice = torch.Generator().manual_seed(0)
    word, context = ((torch.rand(2, 4, generator=dice) - 0.5)[i] / 4 for i in (0, 1))
    squares, losses = [torch.ones(4), torch.ones(4)], []
    for _ in range(4):
        loss, *gradients = weighted_squares(word[None], context[None], torch.tensor([200.0]).log(), torch.ones(1))
        losses.append(float(loss))
        for x, square, gradient in zip((word, context), squares, gradients, strict=True):
            x -= 0.5 * gradient[0] / square.sqrt()
            square += gradient[0] ** 2
    np.testing.assert_allclose(
        GloVe(dimensions=3, epochs=4, learning_rate=0.5).fit_counts(pair).losses, losses, rtol=1e-4
    )
    np.testing.assert_allclose(start, losses[0], rtol=1e-5)


def test_with_dimensions_to_spare_the_counts_are_met():
    dice = np.random.default_rng(0)
    counts = dice.uniform(1, 50, size=(6, 6))
    row, column = (index.ravel() for index in np.indices((6, 6)))
    pairs = Cooccurrence(words=list("uvwxyz"), row_n=row, column_n=column, count_n=(counts + counts.T).ravel())
    model = GloVe(dimensions=12, epochs=3000, learning_rate=0.1).fit_counts(pairs)
    assert model.losses[-1] < 1e-3 < model.losses[0]
    assert model.vectors.shape == (6, 12)


def test_words_with_the_same_neighbours_become_neighbours():
    dice = random.Random(0)
    text = [["the", w, dice.choice(["ran", "slept"]), "outside"] for w in ["cat", "dog"] * 100]
    text += [["some", w, dice.choice(["tasted", "smelled"]), "good"] for w in ["bread", "soup"] * 100]
    model = GloVe(dimensions=9, window=3, epochs=60).fit(text)
    assert model.similarity("cat", "dog") > max(model.similarity("cat", w) for w in ("bread", "soup", "good", "some"))
    again = GloVe(dimensions=9, window=3, epochs=60).fit(text)
    np.testing.assert_array_equal(again.vectors, model.vectors)


@pytest.mark.parametrize(
    "given",
    [
        {"dimensions": 0},
        {"window": 0},
        {"epochs": 0},
        {"min_count": 0},
        {"seed": -1},
        {"x_max": 0.0},
        {"learning_rate": float("inf")},
        {"count_power": 2.0},
    ],
)
def test_bad_settings_are_refused(given):
    (name, value), *_ = given.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        GloVe(**given)


def test_bad_text_is_refused():
    with pytest.raises(ValueError, match="empty vocabulary"):
        GloVe().fit([])
    with pytest.raises(ValueError, match="no two words ever meet"):
        GloVe().fit([["a"], ["a"]])
    with pytest.raises(ValueError, match="window=0"):
        count_pairs(TEXT, window=0)
    with pytest.raises(ValueError, match="weighting='log' is not known; use one of flat"):
        count_pairs(TEXT, weighting="log")
