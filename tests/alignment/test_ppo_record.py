"""The record's meters against exact numbers, and the estimators of a divergence against each other (2.7)."""

import math
from dataclasses import asdict

import pytest
import torch
from small_laboratory import random_plan, trainer

from minillm.alignment.laboratory import Laboratory


def test_k1_and_k3_meet_the_divergence_and_k2_does_not():
    """2.7: k1 and k3 have the right mean, k3 with less noise; k2 is off. As a reward k1 is right all the same (2.1)."""
    lab = Laboratory.small(1)
    plan = random_plan(lab, 8, spread=0.5)
    logp, logq = lab.log_probabilities(plan), lab.log_probabilities(lab.reference)
    p, log_ratio = logp.exp(), logq - logp
    exact = float((p * -log_ratio).sum(1).mean())
    kinds = {"k1": -log_ratio, "k2": log_ratio.square() / 2, "k3": log_ratio.exp() - 1 - log_ratio}
    mean = {name: float((p * x).sum(1).mean()) for name, x in kinds.items()}  # over all responses, not a sample
    spread = {name: float((p * (x - mean[name]).square()).sum(1).mean()) ** 0.5 for name, x in kinds.items()}
    assert mean["k1"] == pytest.approx(exact) and mean["k3"] == pytest.approx(exact)
    assert abs(mean["k2"] / exact - 1) > 0.01
    assert spread["k3"] < 0.7 * spread["k1"]

    drawn = torch.multinomial(p, 20_000, replacement=True, generator=torch.Generator().manual_seed(0))
    for name in ("k1", "k3"):
        seen = kinds[name].gather(1, drawn)
        assert abs(float(seen.mean()) - exact) < 4 * float(seen.std()) / math.sqrt(seen.numel())


def test_a_row_is_plain_numbers_and_equal_to_itself_run_again():
    lab = Laboratory.small(1)
    first, second = (trainer(lab=lab, updates=2).update(lab.prompts) for _ in range(2))
    assert first == second and first.seconds > 0
    assert all(type(value) in (int, float) for value in asdict(first).values())
    assert first.update == 1 and first.samples == 256


@pytest.mark.no_promises
def test_a_critic_that_says_nothing_explains_nothing_and_the_best_everything():
    lab = Laboratory.small(1)
    ppo = trainer(lab=lab, updates=40, lam=0.8)
    rows = [ppo.update(lab.prompts) for _ in range(40)]
    assert rows[0].explained_variance == pytest.approx(0, abs=1e-4) and rows[0].value == 0
    assert rows[-1].explained_variance > 0.9
    assert rows[-1].value == pytest.approx(rows[-1].value_return, abs=0.1)
