"""Three ways to the experts and back give one sum, and one gradient; who is turned away is who came last."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from minillm.transformer.moe import MoE, MoEConfig
from minillm.transformer.moe_dispatch import DISPATCH, capacity_of, first_come, pick_dispatch

B, T, D, HIDDEN, E = 3, 7, 8, 16, 5
WAYS = [way for way in DISPATCH if way != "grouped_mm" or hasattr(F, "grouped_mm")]
KINDS = {
    "mixtral": MoEConfig(d_model=D, d_hidden=HIDDEN, n_expert=E, top_k=2),
    "three of five": MoEConfig(d_model=D, d_hidden=HIDDEN, n_expert=E, top_k=3, normalise=False),
    "biases": MoEConfig(d_model=D, d_hidden=HIDDEN, n_expert=E, top_k=2, mlp="gelu", bias=True),
    "gates with biases": MoEConfig(d_model=D, d_hidden=HIDDEN, n_expert=E, top_k=2, bias=True),
    "full": MoEConfig(d_model=D, d_hidden=HIDDEN, n_expert=E, top_k=1, mlp="relu", capacity=0.6),
    "second choices full": MoEConfig(d_model=D, d_hidden=HIDDEN, n_expert=E, top_k=2, bias=True, capacity=0.5),
    "shared": MoEConfig(d_model=D, d_hidden=HIDDEN, n_expert=E, top_k=2, n_shared=2, score="sigmoid"),
}


def layer_and_x(config, seed=0):
    torch.manual_seed(seed)
    return MoE(config), torch.randn(B, T, D)


def one_token_at_a_time(layer, x_btd):
    """The formula, from the record of who went where: nothing of the library's dispatch."""
    routing, rows = layer.routing, []
    for n, x in enumerate(x_btd.flatten(0, 1)):
        y = torch.zeros(D)
        for chosen, weight, kept in zip(routing.chosen_nk[n], routing.weight_nk[n], routing.kept_nk[n], strict=True):
            if kept:
                y = y + weight * layer.experts[int(chosen)](x[None, None])[0, 0]
        rows.append(y)
    y_btd = torch.stack(rows).view_as(x_btd)
    return y_btd if layer.shared is None else y_btd + layer.shared(x_btd)


def outcome(layer, x, way):
    """Output and all gradients; in training, so that capacity holds."""
    layer.dispatch, x = way, x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    (y * torch.arange(y.numel()).view_as(y).cos()).sum().backward()
    return {"y": y.detach(), "x": x.grad} | {name: p.grad for name, p in layer.named_parameters()}


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_the_formula(way, config):
    layer, x = layer_and_x(config)
    layer.dispatch = way
    y = layer(x)
    assert_close(y, one_token_at_a_time(layer, x), rtol=0, atol=1e-5)
    assert layer.ran.value == way
    assert (config.capacity is None) == (layer.routing.dropped == 0)


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("way", [way for way in WAYS if way != "loop"])
def test_outputs_and_gradients_are_the_loops(way, config):
    layer, x = layer_and_x(config)
    wanted, found = outcome(layer, x, "loop"), outcome(layer, x, way)
    assert all(gradient is not None and gradient.any() for gradient in wanted.values())
    for name, value in wanted.items():
        assert_close(found[name], value, rtol=0, atol=1e-5, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("way", WAYS)
def test_experts_that_nobody_chose_have_gradients_of_zero(way):
    layer, x = layer_and_x(KINDS["mixtral"])
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[1], layer.router.weight[3] = 5.0, 4.0
    found = outcome(layer, x.abs(), way)
    for name, gradient in found.items():
        if name.startswith("experts"):
            assert bool(gradient.any()) == (name.split(".")[1] in "13"), name


@pytest.mark.parametrize("way", WAYS)
def test_a_mixed_precision_region_is_close_to_float32(way):
    layer, x = layer_and_x(KINDS["mixtral"])
    layer.dispatch = way
    wanted = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, logits = layer(x), layer.router_logits(x.flatten(0, 1))
    assert_close(found.float(), wanted, rtol=0, atol=0.02)
    assert torch.equal(logits, layer.router_logits(x.flatten(0, 1)))  # the router chooses in float32


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_in_half_precision_stays_in_it(way):
    layer, x = layer_and_x(KINDS["mixtral"])
    layer.dispatch = way
    wanted, found = layer(x), layer.bfloat16()(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert_close(found.float(), wanted, rtol=0, atol=0.05)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 1000))
def test_first_come_is_a_queue(n, k, extra, capacity, seed):
    n_expert, generator = k + extra - 1, torch.Generator().manual_seed(seed)
    chosen_nk = torch.stack([torch.randperm(n_expert, generator=generator)[:k] for _ in range(n)])
    wanted, room = torch.zeros(n, k, dtype=torch.bool), [capacity] * n_expert
    for choice in range(k):
        for token in range(n):
            expert = int(chosen_nk[token, choice])
            wanted[token, choice], room[expert] = room[expert] > 0, room[expert] - 1
    assert torch.equal(first_come(chosen_nk, n_expert, capacity), wanted)


@pytest.mark.parametrize(
    ("n_token", "top_k", "n_expert", "factor", "wanted"),
    [(12, 1, 4, 1.0, 3), (12, 1, 4, 1.25, 4), (200, 1, 4, 1.1, 55), (40, 2, 4, 1.1, 22), (3, 1, 8, 1.0, 1)],
)
def test_capacity_is_the_even_share_times_the_factor_rounded_up(n_token, top_k, n_expert, factor, wanted):
    assert capacity_of(n_token, top_k, n_expert, factor) == wanted


class OtherLinear(nn.Linear):
    """As an adapter is: a map whose weight alone does not say what it does."""


def test_experts_that_were_changed_are_not_multiplied_by_their_weights_alone():
    layer, x = layer_and_x(KINDS["mixtral"])
    layer.experts[3].up = OtherLinear(D, HIDDEN, bias=False)
    layer.dispatch = "grouped_mm"
    with pytest.raises(ValueError, match=r"dispatch='grouped_mm' cannot be used: .*; dispatch='sorted' works"):
        layer(x)
    layer.dispatch = "auto"
    layer(x)
    assert layer.ran.value == "sorted"


def test_an_older_torch_is_said(monkeypatch):
    monkeypatch.delattr(F, "grouped_mm", raising=False)
    layer, x = layer_and_x(KINDS["mixtral"])
    layer.dispatch = "grouped_mm"
    with pytest.raises(ValueError, match=r"has no torch\.nn\.functional\.grouped_mm"):
        layer(x)


def test_the_choice_of_a_way_comes_with_its_reason():
    layer, x = layer_and_x(KINDS["mixtral"])
    assert str(pick_dispatch(layer.experts, x[0])).startswith("sorted (on a CPU ")
    layer(x)
    assert layer.ran == pick_dispatch(layer.experts, x[0])
    with pytest.raises(ValueError, match="dispatch='fast' must be 'auto' or one of loop, sorted, grouped_mm"):
        MoE(KINDS["mixtral"], "fast")
