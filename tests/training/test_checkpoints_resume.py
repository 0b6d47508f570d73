"""A run that goes on from its checkpoint: in parts it is the run in one piece, and what does not fit is named."""

import random

import numpy as np
import pytest
import torch
from small_regression import Regression, draws, parameters

from minillm.neural.batches import InTurn
from minillm.training.checkpoint import Checkpoints, GlobalRandomness, save_checkpoint, saved_steps
from minillm.training.loop import train
from minillm.training.optim import AdamW


def begin(folder, **options):
    model = Regression(dropout=0.3, seed=4)
    optimizer = AdamW(model.parameters(), 0.05)
    generator = torch.Generator().manual_seed(9)
    batches = InTurn([batch for batch, _ in zip(draws(5), range(7), strict=False)])
    parts = {"model": model, "optimizer": optimizer, "batches": batches, "draws": generator}
    return model, optimizer, batches, Checkpoints(folder, parts, **options)


def go(folder, steps, stop=None, **options):
    model, optimizer, batches, checkpoints = begin(folder, **options)
    start = checkpoints.resume()
    callbacks = [checkpoints, lambda row: row.step == stop]
    schedule = lambda step: 1 / step
    options = {"start": start, "clip": 1.0, "schedule": schedule, "callbacks": callbacks}
    return train(model, batches, steps=steps, optimizer=optimizer, **options), model


def test_a_run_in_three_parts_is_one_run(tmp_path):
    torch.manual_seed(3)
    whole, one = go(tmp_path / "whole", 20)
    torch.manual_seed(3)
    parts = go(tmp_path / "parts", 20, stop=6, every=3)[0]
    torch.manual_seed(77)
    more = go(tmp_path / "parts", 20, stop=14, every=3)[0]
    assert [row.step for row in more] == list(range(7, 15))
    last, other = go(tmp_path / "parts", 20, every=3)
    assert last[0].step == 13, "from the checkpoint of step 12"
    assert parts + more[:6] + last == whole and torch.equal(parameters(one), parameters(other))
    assert saved_steps(tmp_path / "parts") == [18, 20], "every third, and the last of all"


def test_a_run_that_forgets_to_resume_is_stopped_at_once(tmp_path):
    go(tmp_path, 4)
    model, optimizer, batches, checkpoints = begin(tmp_path)
    with pytest.raises(
        ValueError, match=r"holds a checkpoint of step 4: go on from it with start=checkpoints.resume\(\)"
    ):
        train(model, batches, steps=9, optimizer=optimizer, callbacks=[checkpoints])
    assert saved_steps(tmp_path) == [4]


def test_other_settings_other_parts_and_another_model_are_named(tmp_path):
    *_, checkpoints = begin(tmp_path, settings={"width": 7, "betas": (0.9, 0.95)})
    checkpoints.save(5)
    assert begin(tmp_path, settings={"width": 7, "betas": (0.9, 0.95)})[-1].resume() == 5
    with pytest.raises(ValueError, match=r"is of a run with width=7, this one has width=8; use those settings again"):
        begin(tmp_path, settings={"width": 8})[-1].resume()
    with pytest.raises(
        ValueError, match=r"holds the parts \['batches', 'draws'.*this run has \['global generators', 'model'\]"
    ):
        Checkpoints(tmp_path, {"model": Regression()}).resume()
    save_checkpoint(tmp_path, {"model": {}}, step=6)
    with pytest.raises(ValueError, match="was not made by Checkpoints"):
        begin(tmp_path)[-1].resume()


@pytest.mark.parametrize("parts", [{}, {"batches": iter([1])}, {"draws": 3}], ids=["none", "batches", "draws"])
def test_parts_that_have_no_state(tmp_path, parts):
    with pytest.raises(ValueError, match=r"parts={} must name something|cannot tell where it stands"):
        Checkpoints(tmp_path, parts)


def test_only_the_process_that_writes_writes(tmp_path):
    model, optimizer, batches, checkpoints = begin(tmp_path / "a", write=False)
    train(model, batches, steps=2, optimizer=optimizer, callbacks=[checkpoints])
    assert not (tmp_path / "a").exists()


def test_the_global_generators_go_on_where_they_were():
    before = GlobalRandomness().state_dict()
    drawn = torch.rand(3), np.random.rand(3), random.random(), torch.randn(1), np.random.randn(1), random.gauss(0, 1)
    GlobalRandomness().load_state_dict(before)
    again = torch.rand(3), np.random.rand(3), random.random(), torch.randn(1), np.random.randn(1), random.gauss(0, 1)
    assert str(drawn) == str(again)


def test_torchs_own_optimiser_and_scheduler_are_parts_too(tmp_path):
    def run(folder, steps):
        model = Regression(seed=2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
        batches = InTurn([batch for batch, _ in zip(draws(5), range(5), strict=False)])
        parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "batches": batches}
        checkpoints = Checkpoints(folder, parts, every=2)
        start = checkpoints.resume()
        train(model, batches, steps=steps, optimizer=optimizer, start=start, callbacks=[checkpoints])
        return parameters(model)

    whole = run(tmp_path / "a", 8)
    run(tmp_path / "b", 4)
    assert torch.equal(run(tmp_path / "b", 8), whole)
