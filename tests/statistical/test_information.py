"""Entropy and its kin: their limits, what leaves them unchanged, and scipy's opinion."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from minillm.statistical.information import (
    bits_per_character,
    conditional_entropy,
    cross_entropy,
    entropy,
    kl_divergence,
    mutual_information,
    perplexity,
)

weights = st.lists(st.integers(0, 9), min_size=5, max_size=5).filter(any).map(lambda w: np.array(w) / sum(w))
joints = st.lists(st.integers(0, 9), min_size=12, max_size=12).filter(any).map(lambda w: np.reshape(w, (3, 4)) / sum(w))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_certainty_is_nothing_and_the_uniform_is_the_most(n):
    assert entropy([1.0] + [0.0] * n) == 0
    assert entropy([1 / n] * n) == pytest.approx(math.log(n))
    assert perplexity(entropy([1 / n] * n)) == pytest.approx(n)


@settings(deadline=None)
@given(weights, weights)
def test_scipy_agrees(p, q):
    assert entropy(p) == pytest.approx(scipy_entropy(p), abs=1e-12)
    assert entropy(p, base=2) == pytest.approx(scipy_entropy(p, base=2), abs=1e-12)
    assert kl_divergence(p, q) == pytest.approx(scipy_entropy(p, q), abs=1e-9)


@settings(deadline=None)
@given(weights, weights)
def test_how_they_hang_together(p, q):
    assert 0 <= entropy(p) <= math.log(5) + 1e-12
    assert kl_divergence(p, q) >= 0
    assert kl_divergence(p, p) == 0
    assert cross_entropy(p, p) == pytest.approx(entropy(p))
    assert cross_entropy(p, q) == pytest.approx(entropy(p) + kl_divergence(p, q))
    assert math.isinf(cross_entropy(p, q)) == bool(((q == 0) & (p > 0)).any())
    back = np.array([3, 0, 4, 1, 2])
    assert cross_entropy(p[back], q[back]) == pytest.approx(cross_entropy(p, q))
    assert cross_entropy([*p, 0.0], [*q, 0.0]) == pytest.approx(cross_entropy(p, q))
    assert kl_divergence(p, q, base=2) == pytest.approx(kl_divergence(p, q) / math.log(2))


def test_kl_is_not_symmetric():
    assert kl_divergence([0.9, 0.1], [0.5, 0.5]) != pytest.approx(kl_divergence([0.5, 0.5], [0.9, 0.1]))
    assert math.isfinite(kl_divergence([0.5, 0.5], [1 - 1e-310, 1e-310]))


@settings(deadline=None)
@given(joints)
def test_what_one_variable_tells_about_the_other(joint):
    of_x, of_y, of_both = entropy(joint.sum(1)), entropy(joint.sum(0)), entropy(joint.reshape(-1))
    assert conditional_entropy(joint) == pytest.approx(of_both - of_x, abs=1e-9)
    assert mutual_information(joint) == pytest.approx(of_x + of_y - of_both, abs=1e-9)
    assert mutual_information(joint) == pytest.approx(mutual_information(joint.T), abs=1e-9)
    rows = sum(row.sum() * entropy(row / row.sum()) for row in joint if row.sum())
    assert conditional_entropy(joint) == pytest.approx(rows, abs=1e-9)


def test_independence_tells_nothing():
    joint = np.outer([0.2, 0.8], [0.5, 0.3, 0.2])
    assert mutual_information(joint) == pytest.approx(0, abs=1e-12)
    assert conditional_entropy(joint) == pytest.approx(entropy([0.5, 0.3, 0.2]))


def test_perplexity_and_bits_per_character():
    assert perplexity(0) == 1
    assert perplexity(math.inf) == perplexity(1e6) == math.inf
    assert bits_per_character(math.log(2) * 30, 10) == pytest.approx(3)
    assert bits_per_character(math.inf, 10) == math.inf
    # the same text under a model of two-character tokens, each of 4 equally likely ones: 2 bits for 2 characters
    assert bits_per_character(5 * math.log(4), characters=10) == pytest.approx(1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "shape"),
        ([[0.5, 0.5]], "shape"),
        ([0.5, 0.6], "sums to 1.1"),
        ([0.0, 0.0], "sums to 0"),
        ([1.5, -0.5], "-0.5"),
        ([math.nan, 1.0], "nan"),
        ([math.inf, 0.0], "inf"),
    ],
)
def test_what_is_no_distribution_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        entropy(wrong)
    with pytest.raises(ValueError, match=rf"q_v .*{message}"):
        kl_divergence([0.5, 0.5], wrong)


def test_other_mistakes_are_named():
    with pytest.raises(ValueError, match="2 outcomes and q_v 3"):
        cross_entropy([0.5, 0.5], [0.5, 0.25, 0.25])
    with pytest.raises(ValueError, match="2 axis"):
        mutual_information([0.5, 0.5])
    with pytest.raises(ValueError, match="base="):
        entropy([1.0], base=1)
    for nats in (-0.1, math.nan):
        with pytest.raises(ValueError, match="nats"):
            perplexity(nats)
        with pytest.raises(ValueError, match="nats"):
            bits_per_character(nats, 3)
    with pytest.raises(ValueError, match="characters=0"):
        bits_per_character(1.0, 0)
