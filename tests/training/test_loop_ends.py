"""How a run ends: at its last step, by a callback, by an error that says what to try."""

import copy
import math

import pytest
import torch
from small_regression import Counted, Regression, data, parameters, sgd

from minillm.training.loop import Diverged, train

# callbacks ----------------------------------------------------------------------------------------------------------


class Listener:
    def __init__(self, answer=None):
        self.rows, self.closed, self.answer = [], 0, answer

    def __call__(self, row):
        self.rows.append(row)
        return self.answer(row) if self.answer else None

    def close(self):
        self.closed += 1


def test_callbacks_hear_every_row_and_may_stop():
    first, last = Listener(lambda row: row.step == 3), Listener()
    model = Regression()
    record = train(model, [data()], steps=9, optimizer=sgd(model), callbacks=[first, last])
    assert [row.step for row in record] == [1, 2, 3] and record == first.rows == last.rows
    assert first.closed == last.closed == 1
    assert {row.steps for row in record} == {9}


def test_only_true_stops():
    model = Regression()
    assert len(train(model, [data()], steps=3, optimizer=sgd(model), callbacks=[lambda row: row.loss])) == 3


def test_callbacks_are_closed_when_the_run_breaks():
    def interrupt(row):
        if row.step == 2:
            raise KeyboardInterrupt

    model, listener = Regression(), Listener()
    optimizer = sgd(model)
    with pytest.raises(KeyboardInterrupt):
        train(model, [data()], steps=9, optimizer=optimizer, schedule=lambda _: 0.5, callbacks=[listener, interrupt])
    assert listener.closed == 1 and len(listener.rows) == 2 and optimizer.param_groups[0]["lr"] == 0.1


# what goes wrong ----------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_the_run():
    x, y, counts = data()
    model, listener, bad = Regression(), Listener(), (x * math.nan, y, counts)
    start = copy.deepcopy(model)
    with pytest.raises(Diverged) as caught:
        train(model, [data(), data(), bad], steps=9, optimizer=sgd(model, 0.02), callbacks=[listener])
    said = str(caught.value)
    assert "step 3: the loss is nan at learning rate 0.02" in said and "first.weight (in 4 parameters)" in said
    assert f"the step before had loss {listener.rows[-1].loss:.4g}" in said
    assert "Try a learning rate of 0.002, clip=1.0 or a longer warm-up" in said
    assert listener.closed == 1 and caught.value.record == listener.rows
    train(start, [data()], steps=2, optimizer=sgd(start, 0.02))
    assert torch.equal(parameters(start), parameters(model)), "the parameters are those of the step before"


def test_a_gradient_that_is_no_number_stops_the_run():
    class Root(Regression):
        def loss(self, batch):
            return (self.second.bias * 0).sum().sqrt() + 1.5  # the slope of √ at 0 is not finite

    model = Root()
    with pytest.raises(
        Diverged, match=r"step 1: the loss is 1.5, but the gradient is not finite .*second.bias \(in 1 "
    ):
        train(model, [data()], steps=9, optimizer=sgd(model), clip=1.0)
    assert parameters(model).isfinite().all()


def test_a_learning_rate_that_is_too_large_is_caught():
    model = Regression()
    with pytest.raises(Diverged, match="or a longer warm-up"):
        train(model, [data()], steps=500, optimizer=sgd(model, 1e3))
    assert parameters(model).isfinite().all()


def test_batches_that_end():
    model = Regression()
    assert len(train(model, [data()] * 2, steps=5, optimizer=sgd(model))) == 5, "a list starts again"
    with pytest.raises(ValueError, match="at its end"):
        train(model, iter([data()] * 2), steps=5, optimizer=sgd(model))
    with pytest.raises(ValueError, match="at its end"):
        train(model, [], steps=5, optimizer=sgd(model))


def test_an_optimiser_of_another_model():
    model, other = Regression(), Regression()
    with pytest.raises(ValueError, match="make the optimiser from this very model"):
        train(model, [data()], steps=1, optimizer=sgd(other))


def test_a_step_without_items():
    x, y, counts = data()
    model = Counted()
    with pytest.raises(ValueError, match=r"hold no items \(counts \[0.0, 0.0\]\)"):
        train(model, [(x, y, counts & False)], steps=1, optimizer=sgd(model), accumulate=2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps=0 must be"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"start": 6}, "start=6 must lie in 0 … steps=5"),
        ({"clip": 0.0}, "clip=0.0 must"),
        ({"clip": math.nan}, "clip=nan must"),
    ],
    ids=str,
)
def test_wrong_settings(wrong, message):
    model = Regression()
    with pytest.raises(ValueError, match=message):
        train(model, [data()], optimizer=sgd(model), **{"steps": 5, **wrong})
