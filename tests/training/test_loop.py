"""The one training loop: however a step's batches are cut it is the same step, and a run can be repeated exactly."""

import copy
import math
import random

import pytest
import torch
from small_regression import Counted, Regression, cut, data, draws, parameters, sgd
from torch import nn
from torch.testing import assert_close

from minillm.training.loop import Step, evaluate, train
from minillm.training.optim import AdamW

# limits -------------------------------------------------------------------------------------------------------------


def test_one_step_by_hand():
    model, batch = Regression(), data()
    loss = model.loss(batch)
    slope = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    before = parameters(model)
    (row,) = train(model, [batch], steps=1, optimizer=sgd(model, 0.25))
    assert_close(parameters(model), before - 0.25 * slope)
    assert row == Step(
        step=1, steps=1, loss=loss.item(), learning_rate=0.25, gradient_norm=row.gradient_norm, seconds=9
    )
    assert math.isclose(row.gradient_norm, slope.norm().item(), rel_tol=1e-12) and row.seconds > 0


def test_the_schedule_is_set_before_the_step():
    """A factor of zero at the first step leaves the first step's parameters alone; each group keeps its own rate."""
    model = Regression()
    groups = [{"params": model.first.parameters(), "lr": 0.5}, {"params": model.second.parameters(), "lr": 0.125}]
    optimizer, rates, before = torch.optim.SGD(groups), [], parameters(model)

    def look(row):
        rates.append([group["lr"] for group in optimizer.param_groups])
        if row.step == 1:
            assert torch.equal(parameters(model), before)

    record = train(
        model, [data()], steps=3, optimizer=optimizer, schedule=lambda step: (step - 1) / 4, callbacks=[look]
    )
    assert rates == [[0, 0], [0.125, 0.03125], [0.25, 0.0625]]
    assert [row.learning_rate for row in record] == [0, 0.125, 0.25]
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.125], "and put back at the end"
    assert all("initial_lr" not in group for group in optimizer.param_groups)


def test_a_very_large_clip_is_no_clip():
    plain, clipped = Regression(), Regression()
    train(plain, [data()], steps=5, optimizer=sgd(plain))
    train(clipped, [data()], steps=5, optimizer=sgd(clipped), clip=1e9)
    assert torch.equal(parameters(plain), parameters(clipped))


def test_a_clipped_step_has_the_length_of_the_clip():
    model = Regression()
    before = parameters(model)
    (row,) = train(model, [data()], steps=1, optimizer=sgd(model, 1.0), clip=0.01)
    assert row.gradient_norm > 1, "the norm in the record is the one before clipping"
    assert math.isclose((parameters(model) - before).norm().item(), 0.01, rel_tol=1e-5)


# invariances --------------------------------------------------------------------------------------------------------

CUTS = [(6, 6), (4, 4, 4), (1, 11), (7, 2, 3), (5, 1, 1, 5), (1,) * 12]


@pytest.mark.parametrize("sizes", CUTS, ids=str)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_accumulation_is_the_large_batch(sizes, clip):
    """With items that do not count, in unequal parts; some parts of (1,) * 12 have no item at all."""
    whole, parts = Counted(), Counted()
    options = {"steps": 4, "clip": clip}
    one = train(whole, [data()], optimizer=AdamW(whole.parameters(), 0.1), **options)
    optimizer = AdamW(parts.parameters(), 0.1)
    many = train(parts, cut(data(), *sizes), optimizer=optimizer, accumulate=len(sizes), **options)
    assert_close(parameters(whole), parameters(parts), rtol=1e-9, atol=1e-11)
    for a, b in zip(one, many, strict=True):
        assert math.isclose(a.loss, b.loss, rel_tol=1e-10) and math.isclose(
            a.gradient_norm, b.gradient_norm, rel_tol=1e-10
        )


def test_equal_parts_need_no_count():
    whole, parts = Regression(), Regression()
    x, y, counts = data()
    batch = x, y, torch.ones_like(counts)
    train(whole, [batch], steps=3, optimizer=sgd(whole))
    train(parts, cut(batch, 4, 4, 4), steps=3, optimizer=sgd(parts), accumulate=3)
    assert_close(parameters(whole), parameters(parts), rtol=1e-12, atol=1e-13)


def test_unequal_parts_do_need_it():
    """What the counts are for: without them a short part pulls as hard as a long one."""
    whole, parts = Regression(), Regression()
    train(whole, [data()], steps=1, optimizer=sgd(whole))
    train(parts, cut(data(), 3, 9), steps=1, optimizer=sgd(parts), accumulate=2)
    assert (parameters(whole) - parameters(parts)).abs().max() > 1e-3


@pytest.mark.parametrize("make", [sgd, lambda model: AdamW(model.parameters(), 0.05)], ids=["SGD", "AdamW"])
def test_the_same_seed_gives_the_same_run_to_the_last_bit(make):
    runs = []
    for _ in range(2):
        model = Regression(seed=3).float()
        stream = ((x.float(), y.float(), counts) for x, y, counts in draws(5))
        runs.append((train(model, stream, steps=30, optimizer=make(model), clip=1.0), parameters(model)))
        torch.rand(7)  # what others draw in between does not matter
    assert runs[0][0] == runs[1][0] and torch.equal(runs[0][1], runs[1][1])
    other = Regression(seed=3).float()
    stream = ((x.float(), y.float(), counts) for x, y, counts in draws(6))
    assert train(other, stream, steps=30, optimizer=make(other), clip=1.0) != runs[0][0]


def test_the_loop_draws_nothing():
    model, global_state, python_state = Regression(), torch.get_rng_state(), random.getstate()
    train(model, draws(0), steps=3, optimizer=sgd(model), accumulate=2)
    evaluate(model, [data()])
    assert torch.equal(torch.get_rng_state(), global_state) and random.getstate() == python_state


def test_two_runs_are_one_run():
    schedule = lambda step: 1 / step
    whole, halves = Regression(), Regression()
    one = train(whole, draws(2), steps=9, optimizer=AdamW(whole.parameters()), schedule=schedule)
    stream, optimizer = draws(2), AdamW(halves.parameters())
    two = train(halves, stream, steps=4, optimizer=optimizer, schedule=schedule)
    two += train(halves, stream, steps=9, optimizer=optimizer, schedule=schedule, start=4)
    assert torch.equal(parameters(whole), parameters(halves))
    assert [(r.step, r.loss, r.learning_rate) for r in one] == [(r.step, r.loss, r.learning_rate) for r in two]


def test_a_run_goes_on_from_what_a_callback_saved():
    """A checkpoint from the middle of a run holds the groups' own rates, not those of the moment."""
    schedule, saved = lambda step: 1 / step, {}
    whole = Regression()
    optimizer = AdamW(whole.parameters())

    def save(row):
        if row.step == 4:
            saved.update(copy.deepcopy({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}))

    train(whole, draws(2), steps=9, optimizer=optimizer, schedule=schedule, callbacks=[save])
    model, stream = Regression(seed=8), draws(2)
    optimizer = AdamW(model.parameters(), learning_rate=7.0)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    for _ in range(4):
        next(stream)
    train(model, stream, steps=9, optimizer=optimizer, schedule=schedule, start=4)
    assert torch.equal(parameters(model), parameters(whole))


# agreement ----------------------------------------------------------------------------------------------------------


def test_the_loop_agrees_with_one_written_with_torch():
    ours, theirs, schedule = Regression(), Regression(), lambda step: min(1.0, step / 5)
    record = train(ours, draws(4), steps=20, optimizer=sgd(ours, 0.2), schedule=schedule, accumulate=2, clip=2.0)
    optimizer, stream, norms = sgd(theirs, 0.2), draws(4), []
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: schedule(done + 1))
    for _ in range(20):
        optimizer.zero_grad()
        for _ in range(2):
            (theirs.loss(next(stream)) / 2).backward()
        norms.append(nn.utils.clip_grad_norm_(theirs.parameters(), 2.0).item())
        optimizer.step()
        scheduler.step()
    assert_close(parameters(ours), parameters(theirs), rtol=1e-10, atol=1e-12)
    assert_close([row.gradient_norm for row in record], norms)
    assert min(norms) < 2.0 < max(norms), "some steps were clipped and some not"


# evaluate -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", CUTS, ids=str)
def test_evaluation_does_not_depend_on_the_cut(sizes):
    model = Counted()
    assert math.isclose(evaluate(model, cut(data(), *sizes)), model.loss(data()).item(), rel_tol=1e-12)


def test_evaluation_without_counts_weighs_every_batch_alike():
    model, parts = Regression(), cut(data(), 3, 9)
    assert math.isclose(evaluate(model, parts), sum(model.loss(p).item() for p in parts) / 2, rel_tol=1e-12)


def test_evaluation_leaves_no_trace():
    model = Regression(dropout=0.9)
    model.first.eval()  # somebody froze this one
    with torch.no_grad():
        steady = Regression().loss(data()).item()
    assert evaluate(model, [data()]) == steady, "no dropout while it measures"
    assert model.training and model.drop.training and not model.first.training
    assert all(p.grad is None for p in model.parameters()) and torch.is_grad_enabled()
    model.eval()
    train(model, [data()], steps=1, optimizer=sgd(model))
    assert not model.training and not model.drop.training


def test_training_trains_even_a_model_that_was_being_evaluated():
    seen = []
    model = Regression()
    model.first.register_forward_hook(lambda *_: seen.append((model.drop.training, torch.is_grad_enabled())))
    model.eval()
    train(model, [data()], steps=2, optimizer=sgd(model), callbacks=[lambda row: evaluate(model, [data()]) and None])
    assert seen == [(True, True), (False, False)] * 2, "evaluation keeps no graph"


def test_nothing_cannot_be_evaluated():
    with pytest.raises(ValueError, match="holds no items"):
        evaluate(Regression(), [])
