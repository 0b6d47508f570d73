"""A: PPO ends at the exact optimum of the small laboratory, as a table and as a GPT; the reference is 100 % away."""

import copy

import pytest
import torch
from small_laboratory import BETA, settings, trainer

from minillm.alignment.laboratory import Laboratory
from minillm.alignment.ppo import PPO
from minillm.alignment.tabular import taught_decoder

pytestmark = pytest.mark.no_promises


def run(ppo, lab):
    return [ppo.update(lab.prompts) for _ in range(ppo.config.updates)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_table_reaches_the_optimum(seed):
    lab = Laboratory.small(seed)
    ppo = trainer(lab=lab, seed=seed, learning_rate=0.05, lam=0.8)
    rows = run(ppo, lab)
    found = lab.measure(ppo.policy, BETA)
    assert found.gap <= 0.01, found
    assert rows[-1].advantage_sd < 0.2 * rows[0].advantage_sd  # at the optimum nothing is a surprise
    assert rows[-1].explained_variance > 0.9


@pytest.mark.parametrize(
    "options", [{"temperature": 0.7}, {"whiten_rewards": True}, {"lam": 1.0, "value_clip": None}], ids=str
)
def test_the_optimum_stays_where_it_is(options):
    """Rows 5, 9, 11, 15: at another temperature the tempered policy ends there."""
    lab = Laboratory.small(2)
    t = options.get("temperature", 1.0)
    ppo = trainer(lab=lab, updates=80, learning_rate=0.05, **options)
    world = lab.with_reference(lab.plan(ppo.reference, t))
    ppo.reward = world.reward
    run(ppo, lab)
    assert world.measure(ppo.policy, BETA, t).gap <= 0.01


@pytest.fixture(scope="module")
def taught():
    lab = Laboratory.small(1)
    reference = taught_decoder(lab, d_model=32, n_layer=1)
    return lab.with_reference(reference), reference


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_gpt_reaches_the_optimum(taught, seed):
    lab, reference = taught
    policy = copy.deepcopy(reference)
    ppo = PPO(policy, reference, lab.reward, settings(lab, learning_rate=3e-3, updates=60, seed=seed, lam=0.8))
    rows = run(ppo, lab)
    found = lab.measure(policy, BETA)
    assert found.gap <= 0.01, found
    assert rows[0].kl == 0 and max(row.ratio_error for row in rows) < 1e-5
    assert rows[-1].kl_exact == pytest.approx(found.kl, rel=0.1)


def test_the_first_gradient_of_a_gpt_is_that_of_the_exact_objective(taught):
    """B for a network."""
    from small_laboratory import exact_gradient, first_gradient, in_proportion

    lab, reference = taught
    policy = copy.deepcopy(reference)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    ppo = PPO(policy, reference, lab.reward, settings(lab, lam=1.0, whiten_advantages=False))
    torch.nn.init.constant_(ppo.critic.head.weight, 0.05)  # any critic will do
    g = first_gradient(ppo, *in_proportion(lab, [p.detach() for p in lab.plan(policy)], 3000))
    exact = exact_gradient(ppo, lab)
    assert (g - exact).norm() / exact.norm() < 0.02
    assert torch.cosine_similarity(g, exact, dim=0) > 0.999
