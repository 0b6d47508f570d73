"""Our cells against torch's under copied weights, and the limits of their gates."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from minillm.neural.cells import GRU, LSTM, RNN, RecurrentCells, reset_cells

B, T, D, F = 2, 7, 3, 5
PAIRS = {
    "rnn": (RNN, nn.RNN, {}),
    "relu": (RNN, nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (LSTM, nn.LSTM, {}),
    "gru": (GRU, nn.GRU, {}),
}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def as_parts(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.fixture(params=[(kind, layers) for kind in PAIRS for layers in (1, 3)], ids=lambda p: f"{p[0]}-{p[1]}")
def pair(request):
    """Ours and torch's with the same weights, both ways of copying tried."""
    kind, layers = request.param
    ours_of, theirs_of, extra = PAIRS[kind]
    ours = ours_of(D, F, layers, **extra).double()
    theirs = theirs_of(D, F, layers, batch_first=True, **extra).double()
    if layers == 1:
        ours.load_state_dict(theirs.state_dict())
    else:
        theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("carried", [False, True])
def test_outputs_states_and_gradients_are_torchs(pair, carried):
    results = []
    for cells in pair:
        x_btd = random(B, T, D).requires_grad_()
        layers = pair[0].layers
        state = tuple(random(layers, B, F, seed=s).requires_grad_() for s in range(1, pair[0].tensors_in_state + 1))
        output, after = cells(x_btd, (state if len(state) == 2 else state[0]) if carried else None)
        loss = (output * random(B, T, F, seed=5)).sum()
        loss = loss + sum((part * random(layers, B, F, seed=6 + i)).sum() for i, part in enumerate(as_parts(after)))
        given = (x_btd, *cells.parameters(), *(state if carried else ()))
        results.append((output, as_parts(after), torch.autograd.grad(loss, given)))
    assert_close(results[0], results[1], rtol=0, atol=1e-6)
    assert len(results[0][2]) == 1 + 4 * pair[0].layers + carried * pair[0].tensors_in_state


@pytest.mark.parametrize("cut", range(1, T))
def test_a_sequence_in_two_halves_is_the_sequence(pair, cut):
    cells, x_btd = pair[0], random(B, T, D)
    first, state = cells(x_btd[:, :cut])
    second, after = cells(x_btd[:, cut:], state)
    whole, end = cells(x_btd)
    assert_close(torch.cat([first, second], dim=1), whole)
    assert_close(as_parts(after), as_parts(end))


def set_gate(cells, gate, bias):
    """Open (+) or close (-) one gate for good."""
    with torch.no_grad():
        rows = slice(gate * cells.hidden, (gate + 1) * cells.hidden)
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_hh_l0"):
            getattr(cells, name)[rows] = 0
        cells.bias_ih_l0[rows] = bias


INPUT, FORGET, CANDIDATE, OUTPUT = range(4)  # torch's order of an LSTM's gates


def test_an_lstm_that_forgets_nothing_and_writes_nothing_keeps_its_memory():
    cells = LSTM(D, F).double()
    set_gate(cells, FORGET, 1e3)
    set_gate(cells, INPUT, -1e3)
    h, c = random(1, B, F, seed=1), random(1, B, F, seed=2)
    _, (_, after) = cells(10 * random(B, T, D), (h, c))
    assert_close(after, c, rtol=0, atol=0)


def test_an_lstm_that_forgets_all_has_no_past():
    cells = LSTM(D, F).double()
    set_gate(cells, FORGET, -1e3)
    with torch.no_grad():
        cells.weight_hh_l0.zero_()
    x_btd = random(B, T, D)
    whole, _ = cells(x_btd)
    alone, _ = cells(x_btd[:, -1:])
    assert_close(whole[:, -1], alone[:, 0])


def test_an_lstm_whose_output_is_shut_shows_nothing():
    cells = LSTM(D, F).double()
    set_gate(cells, OUTPUT, -1e3)
    output, (_, c) = cells(random(B, T, D))
    assert (output == 0).all() and (c != 0).all()


def test_an_lstm_can_count():
    """Gates open, candidate 1: the memory is the number of steps."""
    cells = LSTM(D, F).double()
    for gate in range(4):
        set_gate(cells, gate, 1e3)
    _, (_, c) = cells(random(B, T, D))
    assert_close(c, torch.full_like(c, T))


def test_a_gru_that_keeps_all_keeps_its_state_and_one_that_resets_has_no_past():
    keeps, resets = GRU(D, F).double(), GRU(D, F).double()
    set_gate(keeps, 1, 1e3)  # z = 1
    h = random(1, B, F)
    assert_close(keeps(random(B, T, D), h)[1], h, rtol=0, atol=0)
    set_gate(resets, 0, -1e3)  # r = 0 ...
    set_gate(resets, 1, -1e3)  # ... and z = 0
    x_btd = random(B, T, D)
    assert_close(resets(x_btd, h)[0][:, -1], resets(x_btd[:, -1:])[0][:, 0])


def test_a_linear_rnn_is_a_sum_of_powers():
    cells = RNN(D, F, nonlinearity="linear").double()
    with torch.no_grad():
        cells.bias_ih_l0.zero_(), cells.bias_hh_l0.zero_()
    x_btd = random(B, T, D)
    want = sum(
        x_btd[:, t] @ cells.weight_ih_l0.T @ torch.linalg.matrix_power(cells.weight_hh_l0.T, T - 1 - t)
        for t in range(T)
    )
    assert_close(cells(x_btd)[1][0], want)


@pytest.mark.parametrize("kind", [LSTM(D, F, 2), nn.LSTM(D, F, 2)], ids=["ours", "torch's"])
@pytest.mark.parametrize("forget_bias", [1.0, 0.0, -2.0])
def test_the_forget_gate_starts_where_it_is_told(kind, forget_bias):
    reset_cells(kind, forget_bias, torch.Generator().manual_seed(0))
    for layer in range(2):
        total = getattr(kind, f"bias_ih_l{layer}") + getattr(kind, f"bias_hh_l{layer}")
        assert (total[F : 2 * F] == forget_bias).all()
        assert (total[:F] != forget_bias).all() and (total[2 * F :] != forget_bias).all()


def test_other_parameters_start_uniform_as_torchs_do():
    cells = GRU(30, 25)
    for parameter in cells.parameters():
        assert parameter.abs().max() <= 1 / math.sqrt(25)
    assert cells.weight_ih_l0.std().item() == pytest.approx(0.2 / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("make", [lambda: LSTM(0, 4), lambda: GRU(3, 4, layers=0), lambda: RNN(3, -1)])
def test_sizes_that_cannot_be_are_refused(make):
    with pytest.raises(ValueError, match=r"(d_model|layers|hidden)=(0|-1) must be a whole number of at least 1"):
        make()


def test_states_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"LSTM carries 2 of shape \(layers, b, hidden\) = \(1, 2, 5\)"):
        LSTM(D, F)(torch.zeros(B, T, D), torch.zeros(1, B, F))
    with pytest.raises(ValueError, match=r"state has shapes \[\(1, 3, 5\)\]; GRU carries 1"):
        GRU(D, F)(torch.zeros(B, T, D), torch.zeros(1, 3, F))
    with pytest.raises(ValueError, match="nonlinearity='sine' must be"):
        RNN(D, F, nonlinearity="sine")
    with pytest.raises(NotImplementedError, match="does not say what its cell does"):
        RecurrentCells(D, F)(torch.zeros(B, T, D))
