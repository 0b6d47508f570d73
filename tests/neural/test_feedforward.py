"""The window network: equal to the plain loop, blind to the future and to what lies before its window."""

import math

import pytest
import torch
from torch.testing import assert_close

from minillm.neural.feedforward import FeedForwardConfig, FeedForwardLM

B, T, V, WINDOW, D, F = 2, 11, 13, 3, 4, 5


@pytest.fixture(params=[True, False], ids=["direct", "no direct"])
def model(request):
    made = FeedForwardLM(FeedForwardConfig(vocabulary=V, window=WINDOW, d_model=D, hidden=F, direct=request.param))
    if made.direct is not None:
        torch.nn.init.normal_(made.direct.weight, generator=torch.Generator().manual_seed(1))
    return made


def tokens(seed=0, t=T):
    return torch.randint(V, (B, t), generator=torch.Generator().manual_seed(seed))


def plain_loop(model, tokens_bt):
    """Equation 1 of the paper, one word at a time."""
    rows = []
    for row in tokens_bt.tolist():
        history, logits = [V] * WINDOW, []
        for token in row:
            history = [*history[1:], token]
            x = torch.cat([model.embedding.weight[word] for word in history])
            y = model.score.bias + model.score.weight @ torch.tanh(model.mix.bias + model.mix.weight @ x)
            logits.append(y if model.direct is None else y + model.direct.weight @ x)
        rows.append(torch.stack(logits))
    return torch.stack(rows)


@pytest.mark.no_promises
@pytest.mark.parametrize("t", [1, 2, 3, 11])
def test_all_positions_at_once_are_the_loop(model, t):
    assert_close(model(tokens(t=t)), plain_loop(model, tokens(t=t)))


def test_gradients_are_those_of_the_loop(model):
    cotangent = torch.randn(B, T, V, generator=torch.Generator().manual_seed(4))
    ours = torch.autograd.grad((model(tokens()) * cotangent).sum(), list(model.parameters()))
    loop = torch.autograd.grad((plain_loop(model, tokens()) * cotangent).sum(), list(model.parameters()))
    assert_close(ours, loop)


@pytest.mark.parametrize("cut", range(1, T))
def test_the_future_cannot_change_the_past(model, cut):
    other = tokens()
    other[:, cut:] = tokens(seed=1)[:, cut:]
    assert_close(model(other)[:, :cut], model(tokens())[:, :cut], rtol=0, atol=0)


@pytest.mark.parametrize("cut", range(1, T - WINDOW))
def test_what_lies_before_the_window_cannot_matter(model, cut):
    other = tokens()
    other[:, :cut] = tokens(seed=1)[:, :cut]
    seen, differs = model(tokens()), model(other)
    assert_close(differs[:, cut + WINDOW - 1 :], seen[:, cut + WINDOW - 1 :])
    assert not torch.allclose(differs[:, cut + WINDOW - 2], seen[:, cut + WINDOW - 2])  # the last that still sees it


def test_the_window_moves_with_the_text(model):
    text = tokens()
    assert_close(model(text[:, 4:])[:, WINDOW - 1 :], model(text)[:, 4 + WINDOW - 1 :])


def test_the_state_of_a_step_is_the_window(model):
    state = None
    for position in range(T):
        _, state = model.step(tokens()[:, position], state)
    assert torch.equal(state, tokens()[:, -WINDOW:])


def test_direct_connections_of_zero_are_none():
    sizes = {"vocabulary": V, "window": WINDOW, "d_model": D, "hidden": F}
    with_direct, without = (FeedForwardLM(FeedForwardConfig(**sizes, direct=direct)) for direct in (True, False))
    assert_close(with_direct(tokens()), without(tokens()), rtol=0, atol=0)
    assert with_direct.n_parameters - without.n_parameters == V * WINDOW * D


def test_the_seed_decides_the_start_and_the_start_knows_nothing():
    sizes = {"vocabulary": 100, "window": WINDOW, "d_model": D, "hidden": 64}
    first, again, other = (FeedForwardLM(FeedForwardConfig(**sizes, seed=seed)) for seed in (0, 0, 1))
    text = torch.randint(100, (8, 50), generator=torch.Generator().manual_seed(0))
    assert torch.equal(first(text), again(text)) and not torch.equal(first(text), other(text))
    assert first.loss(text).item() == pytest.approx(math.log(100), abs=0.2)


def test_it_learns_what_its_window_holds():
    """The next token is the one from WINDOW - 1 steps before: inside the window, so a few steps of training find it."""
    period = torch.randint(V, (20, WINDOW), generator=torch.Generator().manual_seed(0)).repeat(1, 4)
    model = FeedForwardLM(FeedForwardConfig(vocabulary=V, window=WINDOW, d_model=8, hidden=16))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.03)
    for _ in range(60):
        optimiser.zero_grad()
        model.loss(period).backward()
        optimiser.step()
    nats_bt = torch.nn.functional.cross_entropy(model(period[:, :-1]).mT, period[:, 1:], reduction="none")
    assert nats_bt[:, WINDOW - 1 :].mean().item() < 0.2 < math.log(V)


@pytest.mark.parametrize("wrong", [{"window": 0}, {"vocabulary": -1}, {"hidden": 0}, {"d_model": 2.5}])
def test_sizes_that_cannot_be_are_refused(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value} must be a whole number of at least 1; {name}=8 works"):
        FeedForwardConfig(**{"vocabulary": V, **wrong})
