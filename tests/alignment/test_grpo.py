"""GRPO and RLOO: what the group's mean takes away and leaves, what its spread changes, and the optimum of PPO again."""

import itertools
import math

import pytest
import torch
from small_laboratory import (
    BETA,
    all_responses,
    exact_gradient,
    first_gradient,
    flat_gradient,
    in_proportion,
    random_plan,
    settings,
)
from torch.testing import assert_close

from minillm.alignment.grpo import GRPO, GRPOConfig, group_advantages
from minillm.alignment.laboratory import Laboratory
from minillm.alignment.tabular import TabularPolicy, taught_decoder
from minillm.training.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.no_promises  # loops; the network below keeps the promises


def config(lab, **options):
    return settings(lab, GRPOConfig, **options)


def trainer(lab, plan=None, reward=None, **options):
    policy, reference = TabularPolicy(lab, plan), TabularPolicy(lab)
    return GRPO(policy, reference, lab.reward if reward is None else reward, config(lab, **options))


# The advantages


@pytest.mark.parametrize("group", [2, 3])
def test_the_mean_of_the_others_leaves_the_gradient_as_it_is(group):
    """RLOO is unbiased: over all groups, each as often as its probability says, it is the gradient of J to rounding."""
    lab = Laboratory(letters=2, length=2, prompts=1, seed=3)
    plan = [log_p.requires_grad_() for log_p in random_plan(lab, 1)]
    (exact,) = torch.autograd.grad(lab.objective([x.log_softmax(-1) for x in plan], BETA), plan[0])
    logp = lab.log_probabilities([x.log_softmax(-1) for x in plan])[0]
    earned = (lab.scores[0] - BETA * (logp - lab.log_probabilities(lab.reference)[0])).detach()
    rows = torch.tensor(list(itertools.product(range(len(logp)), repeat=group)))  # 7 ** group groups
    chance = logp.detach()[rows].sum(1).exp()

    def slope(advantages):
        loss = (chance[:, None] * advantages.view_as(rows) * logp[rows]).sum() / group
        return torch.autograd.grad(loss, plan[0], retain_graph=True)[0]

    assert_close(slope(group_advantages(earned[rows].flatten(), group)), exact, atol=1e-12, rtol=1e-9)
    biased = slope(group_advantages(earned[rows].flatten(), group, divide_by_sd=True))
    assert (biased - exact).norm() > 0.1 * exact.norm()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_first_gradient_of_a_trainer_is_that_of_the_objective(seed):
    """B: a group for each prompt, every response as often as its probability says."""
    lab = Laboratory.small(seed)
    plan = random_plan(lab, seed)
    grpo = trainer(lab, plan, group=4000, rollout=4000)
    g, exact = first_gradient(grpo, *in_proportion(lab, plan, 4000)), exact_gradient(grpo, lab)
    assert (g - exact).norm() / exact.norm() < 0.008
    assert torch.cosine_similarity(g, exact, dim=0) > 0.9999


def test_divided_by_its_spread_a_binary_reward_climbs_an_arcsine():
    """ALIGNMENT 2.6, for one group without end: ∇ 2 arcsin √p in place of ∇ p."""
    lab = Laboratory.small(1)
    plan = random_plan(lab, 2)
    good = lab.scores > 0.3
    liked = {(tuple(p), tuple(r)) for p, row in zip(lab.prompts, good, strict=True)
             for r, yes in zip(lab.responses, row, strict=True) if yes}  # fmt: skip
    reward = lambda prompts, texts: [float((tuple(p), tuple(r)) in liked) for p, r in zip(prompts, texts, strict=True)]
    grpo = trainer(lab, plan, reward, beta=0.0, group=20_000, rollout=20_000, divide_by_sd=True)
    g = first_gradient(grpo, *in_proportion(lab, plan, 20_000))
    grpo.policy.zero_grad()
    p = (lab.log_probabilities(lab.plan(grpo.policy)).exp() * good).sum(1)
    (2 * p.sqrt().asin()).mean().backward()
    exact = flat_gradient(grpo.policy)
    assert (g - exact).norm() / exact.norm() < 0.005
    grpo.policy.zero_grad()
    (lab.log_probabilities(lab.plan(grpo.policy)).exp() * good).sum(1).mean().backward()
    assert (g - flat_gradient(grpo.policy)).norm() / exact.norm() > 0.1


@pytest.mark.parametrize("divide_by_sd", [False, True])
@pytest.mark.parametrize("value", [0.1, 1 / 3, -7.7, 0.0])
def test_answers_that_earn_the_same_teach_exactly_nothing(value, divide_by_sd):
    assert not group_advantages(torch.full((21,), value), 7, divide_by_sd=divide_by_sd).any()


@pytest.mark.parametrize("apart", [1e-3, 0.4, 50.0])
def test_of_two_the_spread_forgets_how_far_they_are_apart(apart):
    half = math.sqrt(0.5)
    assert_close(group_advantages(torch.tensor([0.0, apart]), 2, divide_by_sd=True), torch.tensor([-half, half]))
    assert_close(group_advantages(torch.tensor([0.0, apart]), 2), torch.tensor([-apart, apart]))


def test_each_is_compared_with_the_others_of_its_own_group():
    return_b = torch.randn(5 * 4, generator=torch.Generator().manual_seed(0))
    found = group_advantages(return_b, 5)
    for i in range(20):
        others = [j for j in range(20) if j // 5 == i // 5 and j != i]
        assert_close(found[i], return_b[i] - return_b[others].mean(), atol=1e-6, rtol=1e-5)
    assert_close(group_advantages(return_b + 3, 5), found, atol=1e-5, rtol=0)
    assert_close(group_advantages(3 * return_b, 5, divide_by_sd=True), group_advantages(return_b, 5, divide_by_sd=True))


@pytest.mark.parametrize(("rows", "group"), [(7, 3), (4, 1)])
def test_rows_that_are_no_groups(rows, group):
    with pytest.raises(ValueError, match="whole groups"):
        group_advantages(torch.zeros(rows), group)


# The trainer


def test_every_token_of_an_answer_has_what_the_answer_earned():
    lab = Laboratory.small(2)
    plan = random_plan(lab, 2)
    e = trainer(lab, plan, group=40, rollout=120).experience(*all_responses(lab))
    log_ratio = lab.log_probabilities(plan) - lab.log_probabilities(lab.reference)
    earned = lab.scores - BETA * log_ratio
    wanted = (earned - earned.mean(1, keepdim=True)) * 40 / 39
    for t in range(lab.length):
        assert_close(e.advantage_bt[:, t], wanted.flatten().float() * e.real_bt[:, t], atol=1e-5, rtol=0)


def test_a_group_is_one_prompt_many_times():
    lab = Laboratory.small(0)
    dealt = trainer(lab, group=6, rollout=24).deal(lab.prompts)
    assert [dealt[i] for i in range(24)] == [dealt[6 * (i // 6)] for i in range(24)]
    assert {tuple(p) for p in dealt} == {tuple(p) for p in lab.prompts}
    assert dealt[0] is not dealt[1]
    even = trainer(lab, group=6, rollout=6 * len(lab.prompts))
    for _ in range(5):
        assert sorted(even.deal(lab.prompts)[::6]) == sorted(map(list, lab.prompts)), "each as often as any other"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_table_reaches_the_optimum_of_ppo(seed):
    lab = Laboratory.small(seed)
    grpo = trainer(lab, seed=seed, group=16, updates=60)
    rows = [grpo.update(lab.prompts) for _ in range(60)]
    found = lab.measure(grpo.policy, BETA)
    assert found.gap <= 0.01, found
    assert rows[-1].advantage_sd < 0.2 * rows[0].advantage_sd
    assert rows[-1].value == rows[-1].critic_norm == 0


def test_on_a_network_it_goes_on_from_a_checkpoint(tmp_path):
    lab = Laboratory(letters=3, length=3, prompts=3, seed=1)
    reference = taught_decoder(lab, d_model=8, n_layer=1, steps=5)

    def start():
        import copy

        options = {"learning_rate": 3e-3, "rollout": 30, "updates": 4, "group": 5, "minibatches": 3}
        return GRPO(copy.deepcopy(reference), reference, lab.reward, config(lab, **options))

    whole, resumed = start(), start()
    for _ in range(2):
        whole.update(lab.prompts)
    save_checkpoint(tmp_path, whole.state_dict(), step=2)
    resumed.load_state_dict(load_checkpoint(tmp_path)[1])
    for _ in range(2):
        assert (row := whole.update(lab.prompts)) == resumed.update(lab.prompts)
    assert row.ratio_error < 1e-5 and row.update == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"group": 1}, "group=1 must be at least 2"),
        ({"group": 2.0}, "group=2.0"),
        ({"group": 7, "rollout": 16}, "rollout=21 works"),
        ({"lam": 0.5}, "lam=0.5 belongs to a critic"),
        ({"value_clip": None}, "value_clip=None belongs to a critic"),
        ({"beta": -1.0}, "beta=-1"),
    ],
    ids=str,
)
def test_wrong_settings(options, says):
    with pytest.raises(ValueError, match=says):
        config(Laboratory.small(0), **options)
