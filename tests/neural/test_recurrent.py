"""The recurrent language model: fused equals plain, state carried and cut, training by chunks."""

import math

import pytest
import torch
from torch.testing import assert_close

from minillm.neural.recurrent import RecurrentConfig, RecurrentLM, TruncatedBPTT, detach, parts, plain_twin

B, T, V, D, F = 2, 12, 11, 3, 5
CELLS = ("rnn", "lstm", "gru")


def make(cell="lstm", **changes):
    return RecurrentLM(
        RecurrentConfig(**{"vocabulary": V, "d_model": D, "hidden": F, "cell": cell, **changes})
    ).double()


def tokens(t=T, seed=0, b=B):
    return torch.randint(V, (b, t), generator=torch.Generator().manual_seed(seed))


def gradients(loss, model):
    return torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_fused_and_plain_are_one_model(cell, layers):
    fused, plain = make(cell, layers=layers), make(cell, layers=layers, fused=False)
    assert_close(fused(tokens()), plain(tokens()))  # from the same seed
    other = make(cell, layers=layers, seed=1)
    plain.load_state_dict(other.state_dict())  # and under swapped weights, both ways
    assert_close(plain(tokens()), other(tokens()))
    fused.load_state_dict(plain.state_dict())
    assert_close(fused.loss(tokens()), plain.loss(tokens()))
    assert_close(gradients(fused.loss(tokens()), fused), gradients(plain.loss(tokens()), plain))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("cut", [1, 5, T - 1])
def test_the_future_cannot_change_the_past_and_the_past_is_never_out_of_view(cell, cut):
    model, other = make(cell), tokens()
    other[:, cut:] = (tokens()[:, cut:] + 1) % V
    assert_close(model(other)[:, :cut], model(tokens())[:, :cut])
    other = tokens()
    other[:, 0] = (other[:, 0] + 1) % V
    assert (model(other)[:, -1] != model(tokens())[:, -1]).any()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_reading_goes_on_from_a_state(cell, fused):
    model = make(cell, layers=2, fused=fused)
    first, state = model.read(tokens()[:, :4])
    second, after = model.read(tokens()[:, 4:], state)
    whole, end = model.read(tokens())
    assert_close(torch.cat([first, second], dim=1), whole)
    assert_close(parts(after), parts(end))


@pytest.mark.parametrize("cell", CELLS)
def test_one_chunk_that_is_everything_is_full_back_propagation(cell):
    model, batch = make(cell), tokens(T + 1)
    carried = TruncatedBPTT(model)
    assert_close(gradients(carried.loss(batch), model), gradients(model.loss(batch), model), rtol=0, atol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_chunks_have_the_loss_of_the_whole_and_the_gradient_up_to_the_border(cell):
    model, batch = make(cell), tokens(T + 1)
    carried, loss = TruncatedBPTT(model), torch.tensor(0.0).double()
    for start in range(0, T, 4):
        loss = loss + carried.loss(batch[:, start : start + 5]) / 3
    assert_close(loss, model.loss(batch))
    # the same by hand: one walk along the text in single steps, the state let go at every fourth
    state, by_hand = None, torch.tensor(0.0).double()
    for position in range(T):
        if position % 4 == 0 and state is not None:
            state = detach(state)
        logits_bv, state = model.step(batch[:, position], state)
        by_hand = by_hand + torch.nn.functional.cross_entropy(logits_bv, batch[:, position + 1]) / T
    truncated, full = gradients(loss, model), gradients(model.loss(batch), model)
    assert_close(truncated, gradients(by_hand, model))
    assert not torch.allclose(truncated[0], full[0])


def test_without_the_carried_state_chunks_are_another_model():
    model, batch = make(), tokens(T + 1)
    carried = TruncatedBPTT(model)
    carried.loss(batch[:, :7])
    kept = carried.loss(batch[:, 6:])
    carried.restart()
    assert_close(carried.loss(batch[:, 6:]), model.loss(batch[:, 6:]))
    assert not torch.allclose(kept, model.loss(batch[:, 6:]))


def test_the_state_is_forgotten_when_rows_change_and_untouched_by_evaluation():
    model = make()
    carried = TruncatedBPTT(model)
    carried.loss(tokens())
    assert_close(carried.loss(tokens(b=3)), model.loss(tokens(b=3)))
    before = carried.state
    carried.eval()
    assert_close(carried.loss(tokens(b=4)), model.loss(tokens(b=4)))
    assert carried.state is before
    assert_close(carried.logits(tokens()), model.logits(tokens()))
    assert carried.n_parameters == model.n_parameters


def test_the_plain_twin_follows_its_model():
    model = make("gru")
    twin = plain_twin(model)
    with torch.no_grad():
        model.embedding.weight.mul_(2)
        model.cells.weight_hh_l0.mul_(2)
    assert_close(twin(tokens()), model(tokens()))
    assert twin.config.fused is False and model.config.fused is True


def test_the_first_loss_is_that_of_no_idea():
    model = RecurrentLM(RecurrentConfig(vocabulary=100, d_model=8, hidden=64))
    text = torch.randint(100, (8, 40), generator=torch.Generator().manual_seed(0))
    assert model.loss(text).item() == pytest.approx(math.log(100), abs=0.1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vocabulary": 0}, "vocabulary=0 must be a whole number of at least 1; vocabulary=8 works"),
        ({"layers": 1.5}, "layers=1.5 must be"),
        ({"cell": "qrnn"}, "cell='qrnn' must be 'rnn', 'lstm' or 'gru'"),
        ({"cell": "lstm", "nonlinearity": "relu"}, "nonlinearity='relu' is for cell='rnn'"),
        ({"cell": "rnn", "nonlinearity": "linear"}, "fused=False takes ours"),
        ({"cell": "rnn", "nonlinearity": "sine"}, "nonlinearity='sine' must be"),
    ],
)
def test_configurations_that_cannot_be_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        RecurrentConfig(**{"vocabulary": V, **changes})
