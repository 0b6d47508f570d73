"""The laboratory: what it calls exact, found again by other ways."""

import copy

import pytest
import torch
from small_laboratory import BETA, random_plan
from torch.testing import assert_close

from minillm.alignment.laboratory import Laboratory
from minillm.alignment.tabular import TabularPolicy, taught_decoder


@pytest.fixture(params=[0, 1, 2])
def lab(request):
    return Laboratory.small(request.param)


def test_it_lists_everything_once(lab):
    assert len(lab.responses) == len(set(map(tuple, lab.responses))) == 40
    assert len(set(map(tuple, lab.prompts))) == 3 and {len(prompt) for prompt in lab.prompts} == {1, 2, 3}
    assert all((text[-1] == lab.eos) != (len(text) == lab.length and lab.eos not in text) for text in lab.responses)
    big = Laboratory.big()
    assert len(big.responses) == 2801 and len(big.prompts) == 6


def test_probabilities_of_all_responses_sum_to_1(lab):
    for plan in (lab.reference, random_plan(lab, 1), lab.optimum(BETA)):
        assert_close(lab.log_probabilities(plan).exp().sum(1), torch.ones(3, dtype=torch.float64))


def test_a_plan_is_what_the_policy_says_token_by_token(lab):
    policy = taught_decoder(lab, d_model=8, n_layer=1, steps=2)
    logp = lab.log_probabilities(lab.plan(policy, temperature=0.7))
    for i, j in ((0, 0), (1, 5), (2, 39), (2, 17)):
        total, text = 0.0, lab.responses[j]
        for t, token in enumerate(text):
            logits = policy(torch.tensor([lab.prompts[i] + text[:t]]))[0, -1, : lab.letters + 1] / 0.7
            total += float(logits.log_softmax(-1)[token].detach())
        assert logp[i, j].item() == pytest.approx(total, abs=1e-5)


def test_folds_are_sums_over_the_list(lab):
    plan = random_plan(lab, 2)
    logp, logq = lab.log_probabilities(plan), lab.log_probabilities(lab.reference)
    p, found = logp.exp(), lab.measure(plan, BETA)
    assert found.score == pytest.approx(float((p * lab.scores).sum(1).mean()))
    assert found.kl == pytest.approx(float((p * (logp - logq)).sum(1).mean()))
    assert found.entropy == pytest.approx(-float((p * logp).sum(1).mean()))
    assert found.objective == pytest.approx(found.score - BETA * found.kl)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_the_optimum_by_induction_is_the_optimum_by_definition(lab, beta):
    best = lab.log_probabilities(lab.optimum(beta))
    assert_close(best, lab.optimum_by_enumeration(beta), atol=1e-9, rtol=0)
    log_z = (lab.log_probabilities(lab.reference) + lab.scores / beta).logsumexp(1)
    assert_close(lab.optimal_values(beta)[0][:, 0], beta * log_z)
    assert lab.measure(lab.optimum(beta), beta).optimum == pytest.approx(beta * float(log_z.mean()))


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_what_is_missing_is_beta_times_the_divergence_from_the_optimum(lab, beta):
    for seed in range(4):
        found = lab.measure(random_plan(lab, seed), beta)
        assert found.optimum - found.objective == pytest.approx(beta * found.kl_to_optimum, abs=1e-9)
        assert found.gap > 0
    assert lab.measure(lab.reference, beta).gap == pytest.approx(1)
    assert lab.measure(lab.optimum(beta), beta).gap == pytest.approx(0, abs=1e-12)


def test_scores_are_scaled_under_the_reference(lab):
    """Row 4."""
    for world in (lab, lab.with_reference(random_plan(lab, 3))):
        p = world.log_probabilities(world.reference).exp()
        assert (p * world.scores).sum(1).mean().item() == pytest.approx(0, abs=1e-9)
        assert (p * world.scores.square()).sum(1).mean().item() == pytest.approx(1)


def test_the_objective_can_be_climbed(lab):
    policy = TabularPolicy(lab)
    before = lab.measure(policy, BETA).objective
    lab.objective(lab.plan(policy), BETA).backward()
    with torch.no_grad():
        policy.score.weight += 0.5 * policy.score.weight.grad
    assert lab.measure(policy, BETA).objective > before


def test_the_reward_looks_up_and_refuses(lab):
    prompts, texts = [lab.prompts[2], lab.prompts[0]], [lab.responses[7], lab.responses[39]]
    assert_close(
        lab.reward(prompts, texts).double(), torch.stack([lab.scores[2, 7], lab.scores[0, 39]]), atol=1e-6, rtol=0
    )
    with pytest.raises(ValueError, match="neither"):
        lab.reward([lab.prompts[0]], [[lab.eos, 0]])
    with pytest.raises(ValueError, match="neither"):
        lab.reward([[0, 0, 0]], [[lab.eos]])


@pytest.mark.parametrize("wrong", [{"letters": 0}, {"length": 0}, {"prompts": 0}, {"prompts": 99}])
def test_impossible_worlds_are_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        Laboratory(**({"letters": 3, "length": 3, "prompts": 3} | wrong))


def test_a_table_is_any_policy_and_its_trunk_says_where_it_is(lab):
    plan = random_plan(lab, 5)
    policy = TabularPolicy(lab, plan)
    for p, q in zip(lab.plan(policy), plan, strict=True):
        assert_close(p, q, atol=1e-6, rtol=0)
    tokens = torch.tensor([[*lab.prompts[1], 0, 2, 1]])
    assert_close(policy.score(policy.hidden(tokens)), policy(tokens))
    assert int(policy.hidden(tokens).sum()) == tokens.shape[1]
    nonsense = torch.tensor([[lab.eos, lab.eos, 0, lab.start]])
    assert torch.equal(policy.states(nonsense), torch.full((1, 4), policy.score.in_features - 1))


def test_a_taught_decoder_knows_the_source_and_teaching_is_repeatable():
    lab = Laboratory.small(1)
    first, second = (taught_decoder(lab, d_model=16, n_layer=1, steps=60) for _ in range(2))
    assert lab.measure(first, BETA).kl < 0.1
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = copy.deepcopy(lab).with_reference(first)
    assert other.measure(first, BETA).kl == pytest.approx(0, abs=1e-9)
