"""The explorer of chapter 20: what its sentence says is what the laboratory computes another way."""

import re

import pytest

from minillm.alignment.laboratory import Laboratory
from minillm.course.widgets_20 import OptimumExplorer

LAB = Laboratory(letters=2, length=3, prompts=2, seed=4)


def numbers(explorer):
    found = re.search(r"from (.+) to (.+) for (.+) nats of div.*from (.+) to (.+) nats\.", explorer.sentence)
    return tuple(map(float, found.groups()))


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_its_numbers_are_those_of_the_laboratory(beta):
    lab = Laboratory(letters=3, length=2, prompts=1, seed=1)
    best, reference = lab.measure(lab.optimum(beta), beta), lab.measure(lab.reference, beta)
    wanted = reference.score, best.score, best.kl, reference.entropy, best.entropy
    assert numbers(OptimumExplorer(lab, beta=beta)) == pytest.approx(wanted, abs=0.00501)


def test_cheap_divergence_is_bought_and_dear_is_not():
    explorer = OptimumExplorer(LAB, prompt=1)
    gained = []
    for beta in (2.0, 1.0, 0.5, 0.2, 0.05):
        explorer.beta.value = beta
        gained.append(numbers(explorer))
    scores, kls, entropies = ([row[i] for row in gained] for i in (1, 2, 4))
    assert scores == sorted(scores) and kls == sorted(kls) and entropies[-1] < entropies[0]
    assert "image/png" in explorer._repr_mimebundle_()


def test_other_scores_can_be_given_and_other_prompts_cannot():
    flat = OptimumExplorer(LAB, scores=[1.0] * len(LAB.responses))
    assert numbers(flat)[:3] == (1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="none of the 2"):
        OptimumExplorer(LAB, prompt=2)
