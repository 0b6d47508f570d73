"""Simulated raters: what they choose has the probability that they say it has."""

import math

import pytest

from minillm.alignment.labellers import (
    Labeller,
    bayes_accuracy,
    bayes_nats,
    expected_accuracy,
)
from minillm.alignment.preferences import agreement

N = 6000
PLAIN = dict(who="ada", utility=lambda prompt, answer: {"good one": 1.2, "a bad one here": 0.1}[answer])
QUESTIONS = [(str(i), ("good one", "a bad one here")) for i in range(N)]


@pytest.mark.parametrize(
    ("habit", "expected"),
    [
        ({}, 1 / (1 + math.exp(-1.1))),
        ({"sharpness": 0.0}, 0.5),
        ({"sharpness": math.inf}, 1.0),
        ({"sharpness": 2.0}, 1 / (1 + math.exp(-2.2))),
        ({"slip": 0.1}, 0.9 / (1 + math.exp(-1.1)) + 0.1 / (1 + math.exp(1.1))),
        ({"slip": 0.5}, 0.5),
        ({"sharpness": math.inf, "slip": 0.2}, 0.8),
        ({"per_word": 1.0}, 1 / (1 + math.exp(-1.1 + 2))),
        ({"left": 5.0}, (1 / (1 + math.exp(-6.1)) + 1 / (1 + math.exp(3.9))) / 2),
    ],
)
def test_choices_have_the_probability_that_is_told(habit, expected):
    rater = Labeller(**PLAIN, **habit)
    told = rater.probability("0", "good one", "a bad one here")
    assert told == pytest.approx(expected)
    chosen = sum(1 - c.choice for c in rater.compare(QUESTIONS)) / N
    assert abs(chosen - told) <= 4 * math.sqrt(told * (1 - told) / N)
    assert rater.probability("0", "a bad one here", "good one") == pytest.approx(1 - told), "swapped: the rest"


def test_sides_are_drawn_and_favoured_only_by_who_does():
    for habit, expected in (({}, 0.5), ({"left": 2.0, "sharpness": 0.0}, 1 / (1 + math.exp(-2)))):
        judged = Labeller(**PLAIN, **habit).compare(QUESTIONS)
        assert abs(sum(c.left for c in judged) / N - 0.5) < 0.03, "sides are drawn"
        on_left = sum(c.choice == c.left for c in judged) / N
        assert abs(on_left - expected) < 0.03
    assert Labeller(**PLAIN, left=2.0, sharpness=0.0).probability("0", "good one", "a bad one here", 1) < 0.2


def test_a_seed_is_a_set_of_judgements_and_raters_differ():
    ada, bob = Labeller(**PLAIN), Labeller(**PLAIN | {"who": "bob"})
    assert ada.compare(QUESTIONS[:99], seed=1) == ada.compare(QUESTIONS[:99], seed=1)
    choices = {
        name: [c.choice for c in judged]
        for name, judged in {
            "ada": ada.compare(QUESTIONS[:99]),
            "ada again": ada.compare(QUESTIONS[:99], seed=1),
            "bob": bob.compare(QUESTIONS[:99]),
        }.items()
    }
    assert len({tuple(c) for c in choices.values()}) == 3
    assert ada.compare(QUESTIONS[:50]) == ada.compare(QUESTIONS[:99])[:50], "more questions change no earlier choice"


def test_private_taste_is_fixed_and_makes_raters_disagree():
    texts = [(f"p{i}", (f"x{i}", f"y{i}")) for i in range(400)]
    raters = {}
    for private in (0.0, 3.0):
        pair = [
            Labeller(who=w, utility=lambda p, a: 2.0 * (a[0] == "x"), private=private, sharpness=math.inf)
            for w in ("ada", "bob")
        ]
        raters[private] = agreement([c for rater in pair for c in rater.compare(texts)] + _both_labels())
    assert raters[0.0].share > 0.99 > 0.8 > raters[3.0].share
    ada = Labeller(who="ada", utility=lambda p, a: 0.0, private=1.0)
    worth = [ada.worth("p", str(i)) for i in range(2000)]
    assert worth == [ada.worth("p", str(i)) for i in range(2000)], "the same answer is always worth the same"
    assert abs(sum(worth) / 2000) < 0.1 and abs(sum(w * w for w in worth) / 2000 - 1) < 0.1


def _both_labels():
    """A pair judged alike by both, the other way round, so that there are two labels in all."""
    rater = lambda who: Labeller(who=who, utility=lambda p, a: float(a == "z"), sharpness=math.inf)
    return [c for who in ("ada", "bob") for c in rater(who).compare([("q", ("y", "z"))])]


def test_limits_of_the_bayes_figures():
    assert bayes_accuracy([0.5]) == 0.5 and bayes_nats([0.5]) == pytest.approx(math.log(2))
    assert bayes_accuracy([0.0, 1.0]) == 1 and bayes_nats([0.0, 1.0]) == 0
    p = [0.9, 0.3, 0.6]
    assert expected_accuracy([1, -1, 1], p) == pytest.approx(bayes_accuracy(p))
    assert expected_accuracy([-1, 1, -1], p) == pytest.approx(1 - bayes_accuracy(p))


@pytest.mark.parametrize(
    "habit", [{"slip": 0.6}, {"slip": -0.1}, {"sharpness": -1.0}, {"sharpness": math.nan}, {"private": -1.0}]
)
def test_impossible_raters(habit):
    with pytest.raises(ValueError, match=next(iter(habit))):
        Labeller(**PLAIN, **habit)
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        bayes_accuracy([1.2])
    with pytest.raises(ValueError, match="one or more"):
        bayes_nats([])
