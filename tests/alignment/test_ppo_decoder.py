"""PPO on networks: what a table cannot show. Runs with the promises of shape suffixes checked."""

import copy

import pytest
import torch
from small_laboratory import settings
from torch.testing import assert_close

from minillm.alignment.critic import Critic
from minillm.alignment.laboratory import Laboratory
from minillm.alignment.ppo import PPO, PPOConfig
from minillm.alignment.tabular import TabularPolicy
from minillm.neural.recurrent import RecurrentConfig, RecurrentLM
from minillm.training.checkpoint import load_checkpoint, save_checkpoint
from minillm.transformer.decoder import Decoder, gpt2


@pytest.fixture
def lab():
    return Laboratory.small(1)


def decoder(lab, dropout=0.0, seed=0):
    config = gpt2(
        vocabulary=lab.vocabulary, context=lab.context, n_layer=2, n_head=2, d_model=8, dropout=dropout, seed=seed
    )
    return Decoder(config)


def ppo_of(lab, model, **options):
    usual = {"learning_rate": 3e-3, "rollout": 30, "updates": 4}
    return PPO(model, copy.deepcopy(model), lab.reward, settings(lab, **(usual | options)))


def test_the_trunk_of_the_critic_is_that_of_the_model(lab):
    """Row 8: the same hidden states, normed once; and afterwards each goes its own way."""
    model = decoder(lab)
    critic = Critic(model)
    tokens = torch.tensor([[0, 1, lab.start, 2]])
    assert torch.equal(critic.trunk.hidden(tokens), model.hidden(tokens))
    assert not critic(tokens).any()
    assert {id(p) for p in model.parameters()}.isdisjoint(id(p) for p in critic.parameters())


def test_a_model_without_hidden_states_needs_a_critic_of_its_own(lab):
    model = RecurrentLM(RecurrentConfig(vocabulary=lab.vocabulary, d_model=4, hidden=6))
    with pytest.raises(ValueError, match="hidden"):
        ppo_of(lab, model)
    critic = Critic(decoder(lab))
    ppo = PPO(model, copy.deepcopy(model), lab.reward, settings(lab, rollout=20, updates=1), critic=critic)
    assert ppo.update(lab.prompts).ratio_error < 1e-5


def test_before_the_first_step_of_every_update_the_ratio_is_1(lab):
    """Row 14, in spite of dropout (row 24), prompts of three lengths and a temperature."""
    ppo = ppo_of(lab, decoder(lab, dropout=0.3).train(), temperature=0.8)
    rows = [ppo.update(lab.prompts) for _ in range(3)]
    assert max(row.ratio_error for row in rows) < 1e-6
    assert rows[0].kl == 0 and rows[2].kl != 0
    assert ppo.policy.training  # the mode it was given in


@pytest.mark.no_promises
def test_minibatches_add_up_to_the_rollout(lab):
    """Row 27: the gradient of four quarters is that of the whole."""
    ppo = ppo_of(lab, decoder(lab))
    dealt = ppo.deal(lab.prompts)
    e = ppo.experience(dealt, ppo.sample(dealt))
    gradients = []
    for parts in (1, 4):
        ppo.policy.zero_grad()
        for index in torch.arange(30).tensor_split(parts):
            (ppo.policy_loss(e.rows(index, parts))[0] / parts).backward()
        gradients.append([p.grad.clone() for p in ppo.policy.parameters()])
    for whole, pieces in zip(*gradients, strict=True):
        assert_close(whole, pieces, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("rate", "critic_rate"), [(1e-12, 1e-2), (1e-2, 1e-12)])
def test_policy_and_critic_move_each_at_its_own_rate(lab, rate, critic_rate):
    """A step of Adam is about as long as its rate, so that each network tells by how far it went whose rate it had."""
    ppo = ppo_of(lab, decoder(lab), learning_rate=rate, critic_learning_rate=critic_rate)
    torch.nn.init.constant_(ppo.critic.head.weight, 0.1)  # at 0 nothing of the loss would reach its trunk
    before = [[p.clone() for p in model.parameters()] for model in (ppo.policy, ppo.critic)]
    row = ppo.update(lab.prompts)
    for model, old, own in ((ppo.policy, before[0], rate), (ppo.critic, before[1], critic_rate)):
        far = max(float((p - q).detach().abs().max()) for p, q in zip(model.parameters(), old, strict=True))
        assert 0.3 * own < far < 20 * own if own > 1e-6 else far < 1e-9
    assert row.critic_norm > 0 and row.critic_norm != row.policy_norm
    assert (ppo.rate, ppo.critic_rate) == pytest.approx((0.75 * rate, 0.75 * critic_rate)), "one update of four"
    ppo.updates = 4
    assert ppo.rate == ppo.critic_rate == 0
    alike = ppo_of(lab, decoder(lab), learning_rate=rate)
    assert alike.critic_rate == alike.rate == rate


def test_a_frozen_part_of_a_network_stays_frozen(lab):
    model = decoder(lab)
    model.embedding.weight.requires_grad_(False)
    ppo = ppo_of(lab, model)
    before = [model.embedding.weight.clone(), model.blocks[0].mlp.up.weight.detach().clone()]
    ppo.update(lab.prompts)
    assert torch.equal(model.embedding.weight, before[0]) and not torch.equal(model.blocks[0].mlp.up.weight, before[1])


def test_a_run_goes_on_from_a_checkpoint_on_disk_to_the_last_bit(lab, tmp_path):
    """Row 30."""
    whole, resumed = ppo_of(lab, decoder(lab), kl_target=1.0), ppo_of(lab, decoder(lab), kl_target=1.0)
    for _ in range(2):
        whole.update(lab.prompts)
    save_checkpoint(tmp_path, whole.state_dict(), step=whole.updates)
    step, state = load_checkpoint(tmp_path)
    resumed.load_state_dict(state)
    assert step == resumed.updates == 2
    for _ in range(2):
        assert whole.update(lab.prompts) == resumed.update(lab.prompts)
    for a, b in zip((whole.policy, whole.critic), (resumed.policy, resumed.critic), strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_another_reference_is_refused(lab):
    first, other = ppo_of(lab, decoder(lab)), ppo_of(lab, decoder(lab, seed=1))
    with pytest.raises(ValueError, match="fingerprint"):
        other.load_state_dict(first.state_dict())


def test_prompts_are_dealt_evenly_and_in_any_number(lab):
    ppo = ppo_of(lab, decoder(lab), rollout=8)
    for prompts in ([[1]], lab.prompts, [[i % 3, lab.start] for i in range(20)]):
        dealt = ppo.deal(prompts)
        counts = [dealt.count(list(prompt)) for prompt in map(list, {tuple(p) for p in prompts})]
        assert len(dealt) == 8 and (len(prompts) > 8 or max(counts) - min(counts) <= 1)
    with pytest.raises(ValueError, match="prompts="):
        ppo.deal([])


def test_frozen_parameters_stay(lab):
    model = decoder(lab)
    model.embedding.weight.requires_grad_(False)
    before, norm = model.embedding.weight.clone(), model.norm.weight.clone()
    ppo_of(lab, model).update(lab.prompts)
    assert torch.equal(before, model.embedding.weight) and not torch.equal(norm, model.norm.weight)


@pytest.mark.parametrize("scores", [lambda p, r: [float("nan")] * len(r), lambda p, r: [0.0]])
def test_scores_that_are_no_scores_are_named(lab, scores):
    model = decoder(lab)
    ppo = PPO(model, model, scores, settings(lab, rollout=6, updates=1))
    with pytest.raises(ValueError, match="finite numbers"):
        ppo.update(lab.prompts)


def test_no_step_is_taken_on_what_is_no_number(lab):
    ppo = ppo_of(lab, decoder(lab))
    before = [p.clone() for p in ppo.policy.parameters()]
    with pytest.raises(FloatingPointError, match="no step"):
        ppo.step(ppo.policy_optimizer, ppo.policy.embedding.weight.sum() * float("nan"), 0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, ppo.policy.parameters(), strict=True))


def test_the_small_interface_of_the_course(lab):
    """Names that others rely on: DESIGN §9."""
    policy = TabularPolicy(lab)
    config = PPOConfig(beta=0.1, learning_rate=0.1, rollout=12, max_new_tokens=3, updates=2, eos=lab.eos)
    row = PPO(policy, policy, lambda prompts, responses: torch.zeros(len(responses)), config).update([[0, lab.start]])
    assert row.score == 0 and row.update == 1
