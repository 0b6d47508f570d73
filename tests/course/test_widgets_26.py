"""The explorer of chapter 26: its sentence follows the sliders, and says what theory says at the ends."""

import re

import pytest

from minillm.course.abstaining import landing
from minillm.course.widgets_26 import SIXTY, DecisionExplorer


def numbers(explorer):
    found = re.search(
        r"surer than (\S+), and less below\. Of (\d+) questions (\S+) → (\S+) are.*wrong, "
        r"(\S+) → (\S+) right, for (\S+) nats",
        explorer.sentence,
    )
    return tuple(map(float, found.groups()))


def test_its_numbers_are_those_of_the_landing():
    explorer = DecisionExplorer()
    for wrong, beta in ((-1.0, 0.2), (-4.0, 0.5), (0.5, 0.1)):
        explorer.wrong.value, explorer.beta.value = wrong, beta
        edge, n, _, invented, _, right, kl = numbers(explorer)
        found = landing(SIXTY, wrong, beta)
        assert (invented, right, kl) == pytest.approx((found["invented"], found["right"], found["kl"]), abs=0.00501)
        assert n == 60 and edge == pytest.approx(max(0.0, -wrong / (1 - wrong)), abs=0.00501)


def test_a_dear_mistake_silences_and_pay_for_any_claim_makes_it_invent():
    explorer = DecisionExplorer(beta=0.1)
    invented = []
    for wrong in (0.8, -0.2, -3.0, -9.0):
        explorer.wrong.value = wrong
        invented.append(numbers(explorer)[3])
    before = numbers(explorer)[2]
    assert invented == sorted(invented, reverse=True) and invented[0] > before > invented[2]


def test_at_a_high_price_little_moves():
    explorer = DecisionExplorer(beta=2.0)
    _, _, before, invented, *_ = numbers(explorer)
    assert abs(before - invented) < 0.1 and numbers(explorer)[-1] < 0.05


def test_other_questions_and_none():
    sure = DecisionExplorer([(1.0, 0.1)], wrong=-9.0, beta=0.05)
    assert numbers(sure)[5] == 1.0 and numbers(sure)[3] == 0.0
    with pytest.raises(ValueError, match="questions is empty"):
        DecisionExplorer([])
    assert "image/png" in sure._repr_mimebundle_()
