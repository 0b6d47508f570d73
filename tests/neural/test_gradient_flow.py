"""How much gradient survives: against autograd, against the linear RNN's formula, within the tanh RNN's bound."""

import pytest
import torch
from torch.testing import assert_close

from minillm.neural.gradient_flow import gradient_norms_over_time
from minillm.neural.recurrent import RecurrentConfig, RecurrentLM

B, T, V, D, F = 3, 8, 11, 4, 6


def make(cell, **changes):
    sizes = {"vocabulary": V, "d_model": D, "hidden": F, "cell": cell}
    return RecurrentLM(RecurrentConfig(**{**sizes, **changes})).double()


def tokens(t=T):
    return torch.randint(V, (B, t + 1), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_it_is_the_derivative_by_a_small_push_of_the_state(cell):
    """Go to step t, push h there by ε along each axis, go on: the loss changes by ε times the gradient."""
    model, batch, epsilon = make(cell, fused=False), tokens(), 1e-6
    want = torch.zeros(T, dtype=torch.float64)
    with torch.no_grad():
        for t in range(T):
            _, state = model.read(batch[:, : t + 1])
            gradient_bf = torch.zeros(B, F, dtype=torch.float64)
            for unit in range(F):
                for sign in (1, -1):
                    h = state[0] if cell == "lstm" else state
                    pushed = h.clone()
                    pushed[-1, :, unit] += sign * epsilon
                    if t == T - 1:
                        logits = model.score(pushed[-1])
                    else:
                        logits = model.read(batch[:, t + 1 : -1], (pushed, state[1]) if cell == "lstm" else pushed)[0]
                        logits = logits[:, -1]
                    nats_b = torch.nn.functional.cross_entropy(logits, batch[:, -1], reduction="none")
                    gradient_bf[:, unit] += sign * nats_b / (2 * epsilon)
            want[t] = gradient_bf.norm(dim=1).mean()
    assert_close(gradient_norms_over_time(model, batch), want, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("part", ["hidden", "memory"])
@pytest.mark.parametrize("layer", [0, 1])
def test_every_layer_and_part_of_an_lstm_against_torchs_single_cells(part, layer):
    model, batch = make("lstm", layers=2), tokens()
    cells = []
    for number, width in enumerate((D, F)):
        cells.append(torch.nn.LSTMCell(width, F).double())
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cells[-1].load_state_dict({name: getattr(model.cells, f"{name}_l{number}").detach() for name in names})
    states, kept = [(torch.zeros(B, F).double(),) * 2] * 2, []
    for token_b in batch[:, :-1].unbind(1):
        x = model.embedding(token_b)
        for number, cell in enumerate(cells):
            states[number] = cell(x, states[number])
            x = states[number][0]
        kept.append(states[layer][part == "memory"])
        kept[-1].retain_grad()
    torch.nn.functional.cross_entropy(model.score(x), batch[:, -1], reduction="sum").backward()
    want = torch.stack([tensor.grad.norm(dim=1).mean() for tensor in kept])
    assert_close(gradient_norms_over_time(model, batch, part=part, layer=layer), want)


def test_a_linear_rnn_has_the_gradient_of_the_formula():
    model, batch = make("rnn", nonlinearity="linear", fused=False), tokens()
    probability_bv = model(batch[:, :-1])[:, -1].softmax(-1)
    probability_bv[torch.arange(B), batch[:, -1]] -= 1
    gradient_bf = probability_bv @ model.score.weight
    want = []
    for _ in range(T):
        want.append(gradient_bf.norm(dim=1).mean())
        gradient_bf = gradient_bf @ model.cells.weight_hh_l0
    assert_close(gradient_norms_over_time(model, batch), torch.stack(want[::-1]).detach())


@pytest.mark.parametrize("singular", [0.5, 0.9, 1.0])
def test_it_never_exceeds_the_bound(singular):
    for nonlinearity in ("tanh", "linear"):
        model, batch = make("rnn", nonlinearity=nonlinearity, fused=False), tokens(40)
        with torch.no_grad():  # an orthogonal V times σ: all its singular values are σ
            model.cells.weight_hh_l0.copy_(singular * torch.linalg.qr(model.cells.weight_hh_l0)[0])
        norm_t = gradient_norms_over_time(model, batch)
        bound_t = norm_t[-1] * singular ** torch.arange(39, -1, -1).double()
        assert (norm_t <= bound_t * (1 + 1e-9)).all()
        if nonlinearity == "linear":
            assert_close(norm_t, bound_t)  # with an orthogonal V the bound is reached
        else:
            assert norm_t[0] < 0.1 * bound_t[0]


def test_a_linear_rnn_with_large_singular_values_explodes():
    model = make("rnn", nonlinearity="linear", fused=False)
    with torch.no_grad():
        model.cells.weight_hh_l0.copy_(1.5 * torch.linalg.qr(model.cells.weight_hh_l0)[0])
    norm_t = gradient_norms_over_time(model, tokens(20))
    assert_close(norm_t[0] / norm_t[-1], torch.tensor(1.5**19, dtype=torch.float64))


def test_an_lstm_that_forgets_nothing_loses_nothing_of_its_memory():
    """Forget gates open for good, and gates that do not look at h: ∂c_T/∂c_t is the identity."""
    model = make("lstm", forget_bias=1e3)
    with torch.no_grad():
        model.cells.weight_hh_l0.zero_()
        model.cells.weight_ih_l0[F : 2 * F] = 0
    norm_t = gradient_norms_over_time(model, tokens(30), part="memory")
    assert_close(norm_t, norm_t[-1].expand(30))


@pytest.mark.parametrize("fused", [True, False])
def test_the_model_stays_as_it_was(fused):
    model = make("lstm", fused=fused).float()
    model.loss(tokens()).backward()
    before = [(p.clone(), p.grad.clone()) for p in model.parameters()]
    gradient_norms_over_time(model, tokens())
    for (value, gradient), parameter in zip(before, model.parameters(), strict=True):
        assert parameter.dtype == torch.float32 and torch.equal(parameter, value)
        assert torch.equal(parameter.grad, gradient)


def test_frozen_models_can_be_measured_and_rows_do_not_mix():
    model = make("gru").requires_grad_(False)
    each = torch.stack([gradient_norms_over_time(model, row[None]) for row in tokens()])
    assert_close(gradient_norms_over_time(model, tokens()), each.mean(0))


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"part='memory' of cell='gru'; 'hidden' works for all"):
        gradient_norms_over_time(make("gru"), tokens(), part="memory")
    with pytest.raises(ValueError, match=r"layer=1, but there are layers=1"):
        gradient_norms_over_time(make("gru"), tokens(), layer=1)
    with pytest.raises(ValueError, match=r"tokens has shape"):
        gradient_norms_over_time(make("gru"), tokens()[:, :1])
