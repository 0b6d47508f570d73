"""The step that the benchmark times is the teaching loop's: the same losses and the same parameters, step by step."""

import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.benchmarks import nanogpt, training_step

SMALL = nanogpt.Settings(vocabulary=11, block=12, n_layer=2, n_head=2, width=16, bias=True, batch=3)
STEPS = 8


@pytest.fixture
def both(monkeypatch):
    monkeypatch.setitem(training_step.SIZES, "small", SMALL)
    return training_step.pair("small")


@pytest.mark.parametrize("means", ["nothing", "fused optimiser"])
def test_steps_are_the_same(both, means):
    theirs, ours, batch = both
    assert sum(p.numel() for p in theirs.parameters()) == ours.n_parameters
    wanted = training_step.their_steps(theirs, batch, STEPS)()
    found = [row.loss for row in training_step.our_steps(ours, batch, training_step.MEANS[means], STEPS)()]
    assert_close(found, wanted, rtol=1e-4, atol=0)
    assert wanted[-1] < wanted[0] - 0.05, "and they lead somewhere"
    with torch.no_grad():
        assert_close(ours(batch[:, :-1]), theirs.logits(batch[:, :-1]), rtol=1e-3, atol=1e-3)


def test_in_bfloat16_they_are_nearly(both):
    theirs, ours, batch = both
    wanted = training_step.their_steps(theirs, batch, STEPS)()
    found = [row.loss for row in training_step.our_steps(ours, batch, training_step.MEANS["bf16"], STEPS)()]
    assert_close(found, wanted, rtol=2e-2, atol=0)
