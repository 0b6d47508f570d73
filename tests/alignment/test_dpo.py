"""DPO in the laboratory, where π* is known: the reward inside it, the end of training, and what length does to that."""

import math

import pytest
import torch
from small_laboratory import BETA, all_responses, flat_gradient, random_plan
from torch.testing import assert_close

from minillm.alignment.dpo import DPO, PairBatch
from minillm.alignment.laboratory import Laboratory
from minillm.alignment.responses import Responses, side_by_side
from minillm.alignment.reward import Preferred
from minillm.alignment.tabular import TabularPolicy
from minillm.training.loop import train
from minillm.training.optim import AdamW, linear_warmup_cosine
from minillm.transformer.decoder import Decoder, gpt2

pytestmark = pytest.mark.no_promises  # most time goes into loops; the decoder's tests keep the promises


@pytest.fixture(scope="module")
def lab():
    return Laboratory.small(2)


def dpo_of(lab, plan=None, **options):
    return DPO(TabularPolicy(lab, plan), TabularPolicy(lab), BETA, allowed_tokens=lab.allowed, **options)


def comparisons(lab, every):
    """Each response against those `every` places further on, and how often it is preferred under Bradley–Terry."""
    pairs, first_wins, n = [], [], len(lab.responses)
    for prompt, score in zip(lab.prompts, lab.scores.tolist(), strict=True):
        for i in range(n):
            for j in range(i + 1, n, every):
                pairs.append(Preferred(prompt, lab.responses[i], lab.responses[j]))
                first_wins.append(1 / (1 + math.exp(score[j] - score[i])))
    return PairBatch.of(pairs, first_wins)


def trained(lab, steps=120, **options):
    dpo, batch = dpo_of(lab, **options), comparisons(lab, every=7)
    schedule = lambda step: linear_warmup_cosine(step, steps=steps, warmup=5, final=0.0)
    optimizer = AdamW(dpo.policy.parameters(), 0.4, weight_decay=0.0)
    return dpo, train(dpo, [batch], steps=steps, optimizer=optimizer, schedule=schedule)


def rewards(dpo, lab):
    with torch.no_grad():
        return dpo.implicit_rewards(side_by_side(*all_responses(lab))).double().view_as(lab.scores)


# Where the policy is known


def test_in_the_best_policy_differences_of_implicit_reward_are_those_of_the_score(lab):
    """ALIGNMENT 2.5: equation 5 of the paper. The constant is β log Z of each prompt."""
    implicit = rewards(dpo_of(lab, lab.optimum(BETA)), lab)
    assert_close(lab.scores - implicit, lab.optimal_values(BETA)[0].expand_as(implicit), atol=2e-6, rtol=0)
    batch = comparisons(lab, every=4)
    dpo = dpo_of(lab, lab.optimum(BETA))
    assert_close(dpo.margins(batch), torch.logit(batch.first_wins_b), atol=2e-5, rtol=0)


def test_the_best_policy_is_where_the_gradient_is_0(lab):
    dpo = dpo_of(lab, lab.optimum(BETA))
    loss = dpo.loss(batch := comparisons(lab, every=2))
    loss.backward()
    assert flat_gradient(dpo.policy).abs().max() < 1e-6
    p_b = batch.first_wins_b
    assert_close(loss, (torch.special.entr(p_b) + torch.special.entr(1 - p_b)).mean())  # no less is possible


def test_the_gradient_is_that_of_the_formula(lab):
    """Equation 7 written out over the tree in float64, beside the class."""
    dpo, batch = dpo_of(lab, random_plan(lab, 3)), comparisons(lab, every=5)
    dpo.loss(batch).backward()
    ours = flat_gradient(dpo.policy)

    dpo.policy.zero_grad()
    log_ratio = lab.log_probabilities(lab.plan(dpo.policy)) - lab.log_probabilities(lab.reference)
    total, pairs = 0.0, 0
    for x, score in enumerate(lab.scores):
        for i in range(40):
            for j in range(i + 1, 40, 5):
                z, p = BETA * (log_ratio[x, i] - log_ratio[x, j]), torch.sigmoid(score[i] - score[j])
                total, pairs = (
                    total - p * torch.log(torch.sigmoid(z)) - (1 - p) * torch.log(torch.sigmoid(-z)),
                    pairs + 1,
                )
    (total / pairs).backward()
    assert_close(ours, flat_gradient(dpo.policy), atol=1e-7, rtol=1e-4)


def test_hard_labels_pull_by_how_wrong_it_is(lab):
    """The paper's gradient: -β σ(-z) (∇ log π(y_w) - ∇ log π(y_l))."""
    dpo, (a, b) = dpo_of(lab, random_plan(lab, 4)), (lab.responses[7], lab.responses[30])
    batch = PairBatch.of([Preferred(lab.prompts[1], a, b)])
    dpo.loss(batch).backward()
    ours, z = flat_gradient(dpo.policy), dpo.margins(batch).item()
    slopes = []
    for k in (7, 30):
        dpo.policy.zero_grad()
        lab.log_probabilities(lab.plan(dpo.policy))[1, k].backward()
        slopes.append(flat_gradient(dpo.policy))
    assert_close(ours, -BETA / (1 + math.exp(z)) * (slopes[0] - slopes[1]), atol=1e-6, rtol=1e-4)


# Where training ends


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_ends_at_the_optimum_of_ppo(seed):
    """Soft labels of 387 pairs: gap below 1 %, and the implicit reward is the score, slope 1."""
    lab = Laboratory.small(seed)
    dpo, rows = trained(lab)
    assert lab.measure(dpo.policy, BETA).gap <= 0.01
    x, y = (r - r.mean(1, keepdim=True) for r in (lab.scores, rewards(dpo, lab)))
    assert float((x * y).sum() / x.square().sum()) == pytest.approx(1, abs=0.02)
    assert rows[-1].loss < rows[0].loss == pytest.approx(math.log(2))


def test_divided_by_length_it_ends_somewhere_else():
    """At π_ref · exp(|y| (score + c) / β): found here by bisection for c, and far from the optimum."""
    lab = Laboratory.small(1)
    dpo, _ = trained(lab, per_token=True)
    length = torch.tensor([len(response) for response in lab.responses], dtype=torch.float64)
    low, high = torch.full((3, 1), -20.0, dtype=torch.float64), torch.full((3, 1), 20.0, dtype=torch.float64)
    for _ in range(60):
        c = (low + high) / 2
        log_p = lab.log_probabilities(lab.reference) + length * (lab.scores + c) / BETA
        too_much = log_p.logsumexp(1, keepdim=True) > 0
        low, high = torch.where(too_much, low, c), torch.where(too_much, c, high)
    found = lab.log_probabilities(lab.plan(dpo.policy)).detach()
    assert float((found.exp() * (found - log_p)).sum(1).mean()) < 0.02 < 0.2 < lab.measure(dpo.policy, BETA).gap


# What must not matter


def test_answers_may_change_places(lab):
    dpo, batch = dpo_of(lab, random_plan(lab, 3)), comparisons(lab, every=7)
    rows, b = batch.responses, len(batch.first_wins_b)
    turned = PairBatch(responses=rows.rows(torch.arange(2 * b).roll(b)), first_wins_b=1 - batch.first_wins_b)
    assert_close(dpo.margins(turned), -dpo.margins(batch))
    assert_close(dpo.loss(turned), dpo.loss(batch))


def test_filling_cannot_be_seen(lab):
    """Alone or beside longer ones, narrow or wide, on a network."""
    policy, reference = (network(lab, seed) for seed in (0, 1))
    dpo = DPO(policy, reference, BETA)
    prompts, texts = all_responses(lab)
    rows = side_by_side(prompts, texts)
    wide = torch.cat([rows.tokens_bs, torch.ones(len(rows), 2, dtype=torch.int64)], dim=1)
    wider = Responses(tokens_bs=wide, start_b=rows.start_b, length_b=rows.length_b, steps=rows.steps + 2)
    together_n = dpo.implicit_rewards(rows)
    assert_close(dpo.implicit_rewards(wider), together_n, atol=1e-6, rtol=0)
    for i in range(0, len(texts), 11):
        alone_n = dpo.implicit_rewards(side_by_side([prompts[i]], [texts[i]]))
        assert_close(alone_n[0], together_n[i], atol=1e-6, rtol=0)


def network(lab, seed, dropout=0.0):
    config = gpt2(vocabulary=lab.vocabulary, context=9, n_layer=1, n_head=2, d_model=8, seed=seed, dropout=dropout)
    return Decoder(config)


def test_only_the_policy_moves_and_its_dropout_is_off(lab):
    policy = network(lab, 0, dropout=0.5)
    dpo, batch = DPO(policy, policy, BETA), comparisons(lab, every=9)
    before = [p.clone() for p in dpo.reference.parameters()]
    assert not dpo.margins(batch).any()  # the same network, read without noise
    assert dpo.reference is not policy and dpo.count(batch) == len(batch.responses) / 2
    train(dpo, [batch], steps=3, optimizer=AdamW(policy.parameters(), 1e-2))
    assert all(torch.equal(a, b) for a, b in zip(before, dpo.reference.parameters(), strict=True))
    assert not any(p.grad is not None for p in dpo.reference.parameters())
    assert dpo.margins(batch).any()
    other = network(lab, 1)
    assert DPO(policy, other, BETA).reference is other


def test_the_end_token_is_learned(lab):
    """nanochat's and others' omission: here an answer that ends is told from the same one that goes on."""
    dpo = dpo_of(lab)
    dpo.loss(PairBatch.of([Preferred(lab.prompts[0], [0, lab.eos], [0, 1, lab.eos])])).backward()
    state = int(dpo.policy.states(torch.tensor([[*lab.prompts[0], 0]]))[0, -1])
    gradient_v = dpo.policy.score.weight.grad[:, state]
    assert gradient_v[lab.eos] < 0 < gradient_v[1]


@pytest.mark.parametrize("first_wins", [[0.5], [1.0, 1.2], [0.5, -0.1], [0.5, math.nan]])
def test_shares_that_are_none(first_wins):
    with pytest.raises(ValueError, match="one number from 0 to 1 for each of 2 pairs"):
        PairBatch.of([Preferred([1], [2], [3])] * 2, first_wins)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
def test_a_beta_that_is_none(lab, beta):
    with pytest.raises(ValueError, match="beta="):
        DPO(TabularPolicy(lab), TabularPolicy(lab), beta)


def test_no_comparisons():
    with pytest.raises(ValueError, match="0 prompts"):
        PairBatch.of([])
