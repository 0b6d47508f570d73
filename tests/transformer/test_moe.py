"""A mixture of experts: the papers' formulas, what it must equal at its limits, and how it is kept in balance."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from minillm.transformer.moe import (
    MoE,
    MoEConfig,
    auxiliary_loss,
    balance_loss,
    deepseek_v3,
    router_z_loss,
    shares,
    switch,
)

B, T, D, HIDDEN, E = 3, 7, 4, 9, 5
MIXTRAL = MoEConfig(d_model=D, d_hidden=HIDDEN, n_expert=E, top_k=2)
SWITCH = switch(d_model=D, d_hidden=HIDDEN, n_expert=E, capacity=0.7)
DEEPSEEK = deepseek_v3(d_model=D, d_hidden=HIDDEN, n_expert=E, top_k=3)


@pytest.fixture(autouse=True)
def same_start():
    torch.manual_seed(0)


def x_btd():
    return torch.randn(B, T, D)


def all_equal(layer):
    for expert in layer.experts[1:]:
        expert.load_state_dict(layer.experts[0].state_dict())
    return layer


@pytest.mark.parametrize("config", [MIXTRAL, replace(DEEPSEEK, n_shared=0), replace(MIXTRAL, top_k=1, normalise=True)])
def test_with_all_experts_equal_it_is_one_mlp(config):
    layer, x = all_equal(MoE(config)), x_btd()
    assert_close(layer(x), layer.experts[0](x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", [MIXTRAL, replace(DEEPSEEK, n_shared=0)])
def test_with_all_experts_chosen_it_is_the_weighted_sum(config):
    layer, x = MoE(replace(config, top_k=E)), x_btd()
    logits = x @ layer.router.weight.T
    score = logits.softmax(-1) if config.score == "softmax" else logits.sigmoid()
    weight = score / score.sum(-1, keepdim=True)
    wanted = sum(weight[..., i, None] * expert(x) for i, expert in enumerate(layer.experts))
    assert_close(layer(x), wanted, rtol=0, atol=1e-6)


def test_mixtral_takes_the_softmax_over_the_chosen():
    layer, x = MoE(MIXTRAL), x_btd()
    layer(x)
    best = (x.flatten(0, 1) @ layer.router.weight.T).topk(2)
    assert torch.equal(layer.routing.chosen_nk, best.indices)
    assert_close(layer.routing.weight_nk, best.values.softmax(-1))


def test_switch_weights_by_the_probability_so_that_the_router_learns():
    layer, x = MoE(SWITCH).eval(), x_btd()
    layer(x).sum().backward()
    best = (x.flatten(0, 1) @ layer.router.weight.T).softmax(-1).max(-1)
    assert_close(layer.routing.weight_nk[:, 0], best.values)
    assert torch.equal(layer.routing.chosen_nk[:, 0], best.indices)
    assert layer.router.weight.grad.abs().max() > 1e-4


def test_the_bias_of_deepseek_has_a_say_in_the_choice_and_none_in_the_weights():
    layer, x = MoE(DEEPSEEK).eval(), x_btd()
    layer.bias_e[2] = 10.0
    layer(x)
    score = (x.flatten(0, 1) @ layer.router.weight.T).sigmoid()
    chosen = layer.routing.chosen_nk
    assert (chosen[:, 0] == 2).all()
    assert torch.equal(chosen[:, 1:], score.index_fill(1, torch.tensor([2]), 0.0).topk(2).indices)
    picked = score.gather(1, chosen)
    assert_close(layer.routing.weight_nk, picked / picked.sum(-1, keepdim=True))


def test_a_bias_beside_softmax_is_compared_with_probabilities():
    layer, x = MoE(replace(MIXTRAL, bias_speed=0.1)).eval(), x_btd()
    layer.bias_e.copy_(torch.tensor([0.1, -0.2, 0.0, 0.15, -0.1]))
    layer(x)
    probability = (x.flatten(0, 1) @ layer.router.weight.T).softmax(-1)
    assert torch.equal(layer.routing.chosen_nk, (probability + layer.bias_e).topk(2).indices)


def test_extreme_logits_give_weights_that_add_up():
    for config in (replace(MIXTRAL, bias_speed=1.0), DEEPSEEK):
        layer = MoE(config).eval()
        with torch.no_grad():
            layer.router.weight.mul_(1000)
            layer.bias_e.copy_(torch.arange(5.0) * 3)
        assert layer(x_btd()).isfinite().all()
        assert_close(layer.routing.weight_nk.sum(-1), torch.ones(B * T))


def test_shared_experts_are_passed_by_every_token():
    layer, x = MoE(replace(DEEPSEEK, n_shared=2)).eval(), x_btd()
    assert layer.shared.up.weight.shape == (2 * HIDDEN, D)
    with_them, shared, layer.shared = layer(x), layer.shared, None
    assert_close(with_them - layer(x), shared(x), rtol=0, atol=1e-6)


def test_tokens_do_not_meet():
    layer, x, order = MoE(MIXTRAL), x_btd(), torch.randperm(T)
    assert_close(layer(x)[:, order], layer(x[:, order]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", [MIXTRAL, replace(SWITCH, jitter=0.0), DEEPSEEK])
def test_the_order_of_the_experts_means_nothing(config):
    layer, x, order = MoE(config).eval(), x_btd(), torch.randperm(E)
    other = copy.deepcopy(layer)
    other.router.weight.data = layer.router.weight.data[order]
    other.experts = torch.nn.ModuleList([layer.experts[i] for i in order.tolist()])
    assert_close(other(x), layer(x), rtol=0, atol=1e-6)


def test_the_balance_loss_by_hand():
    """Three tokens, two experts: f = (2/3, 1/3), P = (0.5, 0.5) and (0.7, 0.3)."""
    chosen = torch.tensor([[0], [0], [1]])
    assert_close(balance_loss(torch.full((3, 2), 0.5), chosen), torch.tensor(1.0))
    tilted = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7]])
    assert_close(balance_loss(tilted, chosen), torch.tensor(2 * (2 / 3 * 0.7 + 1 / 3 * 0.3)))


def test_the_balance_loss_is_between_even_and_collapsed():
    collapsed = F.one_hot(torch.zeros(6, dtype=torch.int64), E).float()
    assert_close(balance_loss(collapsed, torch.zeros(6, 1, dtype=torch.int64)), torch.tensor(float(E)))
    even = F.one_hot(torch.arange(2 * E) % E, E).float()
    assert_close(balance_loss(even, (torch.arange(2 * E) % E)[:, None]), torch.tensor(1.0))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_balance_loss_is_that_of_transformers(k):
    logits = torch.randn(20, E)
    probability = logits.softmax(-1)
    ours = balance_loss(probability, probability.topk(k).indices)
    assert_close(load_balancing_loss_func((logits,), E, k), k * ours)  # theirs counts each choice as a whole


def test_the_z_loss_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), math.log(4)]])
    assert_close(router_z_loss(logits), torch.tensor((math.log(2) ** 2 + math.log(7) ** 2) / 2))


def test_what_is_added_to_the_loss():
    config = replace(MIXTRAL, balance_loss=0.3, z_loss=0.2)
    layer, x = MoE(config), x_btd()
    layer(x)
    logits = x.flatten(0, 1) @ layer.router.weight.T
    wanted = 0.3 * balance_loss(logits.softmax(-1), logits.topk(2).indices) + 0.2 * router_z_loss(logits)
    pair = torch.nn.ModuleList([layer, MoE(config)])
    pair[1](x)
    second = pair[1].auxiliary
    assert_close(layer.auxiliary, wanted)
    assert_close(auxiliary_loss(pair), wanted + second)
    assert auxiliary_loss(pair) == 0.0  # once
    layer(x)
    layer.eval()(x)
    assert layer.auxiliary is None
    free = MoE(replace(config, balance_loss=0.0, z_loss=0.0))
    free(x)
    assert free.auxiliary is None


def test_the_balance_loss_of_sigmoid_scores_takes_each_over_their_sum():
    layer, x = MoE(replace(DEEPSEEK, balance_loss=1.0)), x_btd()
    layer(x)
    score = (x.flatten(0, 1) @ layer.router.weight.T).sigmoid()
    wanted = balance_loss(score / score.sum(-1, keepdim=True), score.topk(3).indices)
    assert_close(layer.auxiliary, wanted)


@pytest.mark.parametrize(
    "config", [replace(MIXTRAL, balance_loss=1.0), replace(DEEPSEEK, top_k=2, bias_speed=0.02)], ids=["loss", "bias"]
)
def test_a_collapsed_router_is_brought_back(config):
    """All tokens share a large part, which two experts like. The loss, or the bias, spreads them again."""
    layer, x = MoE(config), torch.randn(B, 40, D) + torch.tensor([2.0, 0, 0, 0])
    with torch.no_grad():
        layer.router.weight[:, 0] = torch.tensor([1.5, 1.5, 0, 0, 0])
    optimizer = torch.optim.SGD(layer.router.parameters(), lr=0.1)
    layer(x)
    before = layer.routing.load_entropy
    for _ in range(100):
        layer(x)
        if isinstance(asked := auxiliary_loss(layer), torch.Tensor):
            optimizer.zero_grad()
            asked.backward()
            optimizer.step()
    layer(x)
    assert before < math.log(3)
    assert layer.routing.load_entropy > math.log(4.5)


def test_one_step_of_the_bias():
    layer, x = MoE(replace(DEEPSEEK, bias_speed=0.25)), x_btd()
    layer(x)
    load = torch.bincount(layer.routing.chosen_nk.flatten(), minlength=E)
    mean = B * T * 3 / E
    wanted = torch.tensor([0.25 if n < mean else -0.25 if n > mean else 0.0 for n in load.tolist()])
    assert wanted.any()
    assert_close(layer.bias_e, wanted)
    layer.eval()(x)
    assert_close(layer.bias_e, wanted)
    assert not layer.bias_e.requires_grad
    assert "bias_e" in layer.state_dict()
    assert "bias_e" not in MoE(MIXTRAL).state_dict()


def test_experts_with_exactly_their_share_stay_as_they_are():
    layer = MoE(replace(DEEPSEEK, d_model=E, top_k=1, bias_speed=0.25))
    with torch.no_grad():
        layer.router.weight.copy_(torch.eye(E))
    layer(torch.eye(E)[[0, 1, 2, 3, 3, 3, 4, 0, 1, 2]][None])  # twice each, but 3 three times and 4 once
    assert_close(layer.bias_e, torch.tensor([0, 0, 0, -0.25, 0.25]))


def test_who_is_turned_away_costs_nothing():
    layer, x = MoE(replace(SWITCH, jitter=0.0)), x_btd()
    for way in ("loop", "sorted"):
        layer.dispatch = way
        with FlopCounterMode(display=False) as counter:
            layer(x)
        kept = int(layer.routing.kept_nk.sum())
        assert kept < B * T
        assert counter.get_total_flops() == 2 * (B * T * D * E + kept * 2 * D * HIDDEN)


def test_who_finds_it_full_passes_no_expert_in_training_alone():
    layer, x = MoE(replace(SWITCH, jitter=0.0)), x_btd()
    y, kept = layer(x).flatten(0, 1), layer.routing.kept_nk[:, 0]
    room = math.ceil(0.7 * B * T / E)
    chosen = layer.routing.chosen_nk[:, 0]
    for expert in range(E):
        assert kept[chosen == expert].tolist() == [i < room for i in range(int((chosen == expert).sum()))]
    assert not y[~kept].any()
    assert y[kept].any(dim=-1).all()
    assert layer.routing.dropped == pytest.approx(float((~kept).float().mean()))
    assert layer.routing.dropped > 0
    whole = layer.eval()(x).flatten(0, 1)
    assert layer.routing.dropped == 0
    assert_close(whole[kept], y[kept])


def test_weights_of_those_who_stay_are_not_shared_out_again():
    layer, x = MoE(replace(MIXTRAL, capacity=0.6)), x_btd()
    layer(x)
    kept, weight = layer.routing.kept_nk, layer.routing.weight_nk
    layer.eval()(x)
    assert not kept.all()
    assert_close(weight, layer.routing.weight_nk * kept)


def test_jitter_moves_the_router_in_training_and_not_the_experts():
    layer, x = MoE(replace(MIXTRAL, jitter=0.5)), x_btd().flatten(0, 1)
    first, second = layer.router_logits(x), layer.router_logits(x)
    assert (first != second).any()
    assert_close(all_equal(layer)(x[None]), layer.experts[0](x[None]), rtol=0, atol=1e-6)
    layer.eval()
    assert_close(layer.router_logits(x), x @ layer.router.weight.T)
    layer.train()
    with torch.no_grad():
        layer.router.weight.copy_(torch.eye(E, D))
    factor = torch.cat([layer.router_logits(x)[:, :D] / x for _ in range(20)])
    assert 0.5 - 1e-5 <= factor.min() < 0.52
    assert 1.48 < factor.max() <= 1.5 + 1e-5


def test_the_statistics_of_a_pass():
    layer = MoE(replace(MIXTRAL, n_expert=3)).eval()
    with torch.no_grad():
        layer.router.weight.copy_(torch.eye(3, D) * 50)
    layer(torch.tensor([[[9.0, 8, 0, 0], [0, 9, 8, 0], [8, 9, 0, 0], [9, 8, 0, 0]]]))
    routing = layer.routing
    assert_close(routing.load_e, torch.tensor([3.0, 4.0, 1.0]) / 8)
    assert routing.load_entropy == pytest.approx(-sum(p * math.log(p) for p in (3 / 8, 4 / 8, 1 / 8)))
    assert routing.router_entropy == pytest.approx(0, abs=1e-6)
    assert_close(shares(routing.chosen_nk, 3), routing.load_e)
    with torch.no_grad():
        layer.router.weight.zero_()
    layer(torch.randn(2, 5, D))
    assert layer.routing.router_entropy == pytest.approx(math.log(3))


def test_a_layer_that_was_trained_can_be_copied():
    layer, x = MoE(MIXTRAL), x_btd()
    wanted = layer(x)
    other = copy.deepcopy(layer)
    assert other.routing is None
    assert other.auxiliary is None
    assert torch.equal(other(x), wanted)
    assert layer.auxiliary is not None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"d_model": 0}, "d_model=0 must be a whole number of at least 1"),
        ({"d_hidden": 2.0}, "d_hidden=2.0 must be a whole number"),
        ({"n_expert": True}, "n_expert=True must be a whole number"),
        ({"top_k": 0}, "top_k=0 must be a whole number of at least 1"),
        ({"top_k": 6}, "top_k=6 of n_expert=5 cannot be chosen; top_k=5 is all of them"),
        ({"n_shared": -1}, "n_shared=-1 must be a whole number of at least 0"),
        ({"mlp": "tanh"}, "mlp='tanh' must be 'swiglu' or one of relu"),
        ({"score": "relu"}, "score='relu' must be 'softmax' or 'sigmoid'"),
        ({"capacity": 0.0}, "capacity=0.0 must be above 0, or None"),
        ({"balance_loss": -0.1}, "balance_loss=-0.1 must be 0 (off) or above"),
        ({"z_loss": math.nan}, "z_loss=nan must be 0 (off) or above"),
        ({"bias_speed": -1}, "bias_speed=-1 must be 0 (off) or above"),
        ({"jitter": 1.0}, "jitter=1.0 is a share from 0 to below 1"),
    ],
)
def test_a_wrong_setting_is_named(fields, said):
    with pytest.raises(ValueError) as error:
        replace(MIXTRAL, **fields)
    assert said in str(error.value)


@pytest.mark.no_promises
@pytest.mark.parametrize("shape", [(B, T, D + 1), (T, D)])
def test_an_input_of_another_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"x has shape \(.*\); the rule is \(b, t, 4\)"):
        MoE(MIXTRAL)(torch.zeros(shape))
