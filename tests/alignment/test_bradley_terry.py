"""Scores from comparisons: Newton against another road, the Fisher error against the truth, and when there are none."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression

from minillm.alignment.bradley_terry import (
    Separable,
    count_wins,
    fit_bradley_terry,
    fit_linear,
    sigmoid,
    unbeaten,
)


def drawn(n, comparisons, seed):
    """True scores, and comparisons of random pairs."""
    chance = np.random.default_rng(seed)
    truth = chance.normal(size=n)
    i = chance.integers(n, size=comparisons)
    j = (i + chance.integers(1, n, size=comparisons)) % n
    first = chance.random(comparisons) < sigmoid(truth[i] - truth[j])
    return truth - truth.mean(), np.where(first, i, j), np.where(first, j, i)


def test_two_items_by_hand():
    fit = fit_bradley_terry([0] * 6 + [1] * 2, [1] * 6 + [0] * 2, n=2)
    assert fit.score_n == pytest.approx([math.log(3) / 2, -math.log(3) / 2])
    assert fit.probability(0, 1) == pytest.approx(0.75)
    # the gap has information 8 · 3/4 · 1/4 = 3/2; each score is half of it
    assert fit.error_n == pytest.approx([math.sqrt(2 / 3) / 2] * 2)
    assert fit.nats == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


@pytest.mark.parametrize("prior", [0.0, 0.3])
def test_newton_finds_what_another_method_finds(prior):
    n, (_, winners, losers) = 11, drawn(11, 700, seed=1)

    def loss(score):
        gap = score[winners] - score[losers]
        slope = np.zeros(n)
        np.add.at(slope, winners, -sigmoid(-gap))
        np.add.at(slope, losers, sigmoid(-gap))
        return np.logaddexp(0, -gap).sum() + prior / 2 * score @ score, slope + prior * score

    other = minimize(loss, np.zeros(n), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 1000}).x
    fit = fit_bradley_terry(winners, losers, n, prior=prior)
    np.testing.assert_allclose(fit.score_n, other - other.mean(), atol=1e-6)
    assert abs(fit.score_n.sum()) < 1e-9
    assert fit.nats == pytest.approx((loss(fit.score_n)[0] - prior / 2 * fit.score_n @ fit.score_n) / 700)


def test_the_score_is_balanced_for_every_item():
    _, winners, losers = drawn(9, 500, seed=2)
    fit, wins = fit_bradley_terry(winners, losers, 9), count_wins(winners, losers, 9)
    p = sigmoid(fit.score_n[:, None] - fit.score_n)
    np.testing.assert_allclose(((wins + wins.T) * p).sum(1), wins.sum(1), atol=1e-8)  # expected wins are the wins


@pytest.mark.parametrize("comparisons", [2000, 8000, 32000])
def test_errors_are_what_fisher_predicts(comparisons):
    """ALIGNMENT 2.4: the rms error over the predicted one lies in 0.8 … 1.25."""
    ratios = []
    for seed in range(3):
        truth, winners, losers = drawn(60, comparisons, seed)
        fit = fit_bradley_terry(winners, losers, 60)
        rms = math.sqrt(((fit.score_n - truth) ** 2).mean())
        ratios.append(rms / math.sqrt((fit.error_n**2).mean()))
        assert 0.8 <= ratios[-1] <= 1.25, ratios
    assert abs(np.mean(ratios) - 1) < 0.12


def test_covariance_is_that_of_many_repetitions():
    chance, truth = np.random.default_rng(0), np.array([0.8, 0.1, -0.9])
    i, j = np.repeat([0, 0, 1], [200, 150, 100]), np.repeat([1, 2, 2], [200, 150, 100])
    found, told = [], []
    for _ in range(400):
        first = chance.random(450) < sigmoid(truth[i] - truth[j])
        fit = fit_bradley_terry(np.where(first, i, j), np.where(first, j, i), 3)
        found.append(fit.score_n)
        told.append(fit.covariance)
    np.testing.assert_allclose(np.cov(np.array(found).T), np.mean(told, axis=0), atol=0.004)
    np.testing.assert_allclose(np.mean(told, axis=0).sum(axis=1), 0, atol=1e-9)


def test_renaming_items_renames_scores():
    _, winners, losers = drawn(7, 300, seed=3)
    order = np.random.default_rng(4).permutation(7)
    fit, other = fit_bradley_terry(winners, losers, 7), fit_bradley_terry(order[winners], order[losers], 7)
    np.testing.assert_allclose(other.score_n[order], fit.score_n, atol=1e-9)
    turned = fit_bradley_terry(losers, winners, 7)
    np.testing.assert_allclose(turned.score_n, -fit.score_n, atol=1e-9)
    np.testing.assert_allclose(turned.error_n, fit.error_n, atol=1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_there_are_scores_exactly_when_everybody_lost_to_everybody_by_some_way(seed):
    chance = np.random.default_rng(seed)
    n = int(chance.integers(2, 9))
    i = chance.integers(n, size=int(chance.integers(n, 4 * n)))
    j = (i + chance.integers(1, n, size=len(i))) % n
    wins = count_wins(i, j, n)
    strong = connected_components(wins, directed=True, connection="strong")[0] == 1
    ahead = unbeaten(wins)
    assert bool(ahead) != strong
    if strong:
        fit = fit_bradley_terry(i, j, n)
        assert np.isfinite(fit.score_n).all() and np.isfinite(fit.error_n).all()
    else:
        behind = sorted(set(range(n)) - set(ahead))
        assert behind and wins[np.ix_(behind, ahead)].sum() == 0
        with pytest.raises(Separable, match=rf"never\s+lost.*prior=0\.1|items {ahead[0]}"):
            fit_bradley_terry(i, j, n)
        assert np.isfinite(fit_bradley_terry(i, j, n, prior=0.1).score_n).all()


def test_five_hundred_comparisons_of_sixty_items_are_too_few():
    _, winners, losers = drawn(60, 500, seed=0)
    with pytest.raises(Separable, match="500 comparisons of 60 items have no best scores"):
        fit_bradley_terry(winners, losers, 60)


def test_a_linear_score_of_one_hot_features_is_the_table():
    _, winners, losers = drawn(6, 400, seed=5)
    one_hot = np.eye(6)
    w, nats = fit_linear(one_hot[winners] - one_hot[losers], prior=1e-8)
    fit = fit_bradley_terry(winners, losers, 6)
    np.testing.assert_allclose(w - w.mean(), fit.score_n, atol=1e-6)
    assert nats == pytest.approx(fit.nats)


def test_a_linear_score_is_logistic_regression_on_differences():
    """The documents' classifier of two texts: the same weights, when its features are differences."""
    chance = np.random.default_rng(6)
    x_nd = chance.normal(size=(80, 5))
    y_n = chance.random(80) < sigmoid(x_nd @ np.array([1.0, -2.0, 0.5, 0.0, 0.3]))
    sklearn = LogisticRegression(C=1 / 0.7, fit_intercept=False, tol=1e-10, max_iter=1000).fit(x_nd, y_n)
    w, _ = fit_linear(np.where(y_n[:, None], x_nd, -x_nd), prior=0.7)
    np.testing.assert_allclose(w, sklearn.coef_[0], atol=1e-5)


def test_more_features_than_comparisons():
    x_nd = np.random.default_rng(7).normal(size=(5, 40))
    w, nats = fit_linear(x_nd, prior=1.0)
    assert np.isfinite(w).all() and (x_nd @ w > 0).all() and nats < math.log(2)
    assert np.abs(fit_linear(x_nd, prior=1e6)[0]).max() < 1e-4, "a strong belief in nothing"


@pytest.mark.parametrize(
    ("winners", "losers", "n", "says"),
    [
        ([], [], 3, "as many of each"),
        ([0, 1], [1], 3, "as many of each"),
        ([0], [0], 3, "two different items"),
        ([0], [3], 3, "items of 0 … 2"),
        ([-1], [0], 3, "items of 0 … 2"),
    ],
)
def test_comparisons_that_are_none(winners, losers, n, says):
    with pytest.raises(ValueError, match=says):
        fit_bradley_terry(winners, losers, n)


def test_priors_that_are_none():
    with pytest.raises(ValueError, match="prior=-1"):
        fit_bradley_terry([0], [1], 2, prior=-1)
    with pytest.raises(ValueError, match="above 0"):
        fit_linear(np.ones((2, 2)), prior=0.0)
