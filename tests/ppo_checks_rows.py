"""Row by row: what must be true of a PPO's rollouts and rewards, and of what it learns from them."""

import copy
import math

import torch
from ppo_check_list import check, parameters_of, same
from small_laboratory import (
    BETA,
    all_responses,
    flat_gradient,
    in_proportion,
    random_critic,
    random_plan,
    settings,
    trainer,
)
from torch.testing import assert_close

from minillm.alignment.advantage import gae_loop, masked_mean, masked_variance
from minillm.alignment.laboratory import Laboratory
from minillm.alignment.tabular import TabularPolicy

# Row by row


@check
def price_of_a_response(kind):
    """Rows 1, 17: all token rewards of a response are its score less β times its log-ratio, the end token's too."""
    lab = Laboratory.small(1)
    plan = random_plan(lab, 4)
    prompts, texts = all_responses(lab)
    e = trainer(kind, lab, plan).experience(prompts, texts)
    log_ratio = (lab.log_probabilities(plan) - lab.log_probabilities(lab.reference)).flatten().float()
    assert_close(e.reward_bt.sum(1), lab.scores.flatten().float() - BETA * log_ratio, atol=1e-5, rtol=0)


@check
def score_at_the_last_token(kind):
    """Row 3: where divergence is free, one token of a response earns, and it is the last real one."""
    lab = Laboratory.small(0)
    e = trainer(kind, lab, random_plan(lab, 4), beta=0.0).experience(*all_responses(lab))
    last_b = e.responses.length_b - 1
    assert torch.equal(e.reward_bt.gather(1, last_b[:, None])[:, 0], e.score_b)
    assert int((e.reward_bt != 0).sum()) == len(e.texts)


@check
def reference_is_frozen(kind):
    """Row 2: a policy that is its own reference has KL 0 exactly at first; later the reference is as it was."""
    lab = Laboratory.small(0)
    policy = TabularPolicy(lab)
    ppo = kind(policy, policy, lab.reward, settings(lab, updates=3))
    before = copy.deepcopy(ppo.reference.state_dict())
    rows = [ppo.update(lab.prompts) for _ in range(3)]
    assert rows[0].kl == rows[0].kl_k3 == rows[0].kl_exact == 0 and rows[2].kl > 0.05
    assert same(before.values(), ppo.reference.state_dict().values())
    assert not same(before.values(), ppo.policy.state_dict().values())


@check
def samples_follow_the_policy(kind):
    """Rows 15, 16: what is drawn is distributed as the policy says, at a temperature other than 1 as well."""
    for temperature in (1.0, 0.7, 1.3):
        lab, n = Laboratory.small(2), 4000
        ppo = trainer(kind, lab, random_plan(lab, 6), temperature=temperature)
        texts = ppo.sample([lab.prompts[1]] * n)
        p_n = lab.log_probabilities(lab.plan(ppo.policy, temperature))[1].exp().detach()
        counts = {tuple(text): 0 for text in lab.responses}
        for text in texts:
            counts[tuple(text)] += 1
        seen_n = torch.tensor(list(counts.values()), dtype=torch.float64)
        often = n * p_n > 5  # the usual rule for a χ² test; the rest is one cell
        expected = torch.cat([n * p_n[often], n * p_n[~often].sum()[None]])
        found = torch.cat([seen_n[often], seen_n[~often].sum()[None]])
        chi2, free = float(((found - expected).square() / expected).sum()), len(expected) - 1
        assert chi2 < free + 4 * math.sqrt(2 * free), f"χ²={chi2:.0f} of {free} at temperature {temperature}"


@check
def temperature(kind):
    """Row 15: rollouts are scored at the temperature at which they were drawn, under policy and reference alike."""
    lab = Laboratory.small(1)
    prompts, texts = all_responses(lab)
    ppo = trainer(kind, lab, random_plan(lab, 4), temperature=1.3)
    e = ppo.experience(prompts, texts)
    for model, logp_bt in ((ppo.policy, e.logp_bt), (ppo.reference, e.reference_logp_bt)):
        exact = lab.log_probabilities(lab.plan(model, 1.3)).detach().flatten().float()
        assert_close(logp_bt.sum(1), exact, atol=1e-5, rtol=0)


@check
def behaviour_policy(kind):
    """Row 14: before the first step of every update the ratio is 1 and the policies are the same."""
    lab = Laboratory.small(1)
    ppo = trainer(kind, lab, updates=4)
    for _ in range(4):
        row = ppo.update(lab.prompts)
        assert row.ratio_error < 1e-6 and row.steps == 8
    rows = ppo.last.rows(torch.arange(9))
    assert not ppo.policy_loss(rows)[1].eq(0).all()  # afterwards it has moved


@check
def advantages_by_hand(kind):
    """Row 11: λ=1 is all that follows less the value, λ=0 the next step's surprise, between them the plain sum."""
    lab = Laboratory.small(3)
    for lam in (0.0, 0.95, 1.0):
        ppo = random_critic(trainer(kind, lab, random_plan(lab, 1), lam=lam, whiten_advantages=False), lab)
        e = ppo.experience(*all_responses(lab))
        for i, text in enumerate(e.texts):
            n = len(text)
            r, v = e.reward_bt[i, :n].tolist(), e.value_bt[i, :n].tolist()
            wanted = gae_loop(r, v, 1.0, lam)
            if lam == 1:
                wanted = [sum(r[t:]) - v[t] for t in range(n)]
            if lam == 0:
                wanted = [r[t] + (v[t + 1] if t + 1 < n else 0.0) - v[t] for t in range(n)]
            assert_close(e.advantage_bt[i, :n], torch.tensor(wanted), atol=1e-5, rtol=1e-5)
            assert_close(e.return_bt[i, :n], torch.tensor(wanted) + torch.tensor(v), atol=1e-5, rtol=1e-5)


@check
def whitened_advantages(kind):
    """Row 12: mean 0 and variance 1 over the real tokens of the rollout; raw, they differ by shift and scale alone."""
    lab = Laboratory.small(2)
    prompts, texts = in_proportion(lab, lab.reference, 50)
    e = trainer(kind, lab).experience(prompts, texts)
    raw = trainer(kind, lab, whiten_advantages=False).experience(prompts, texts).advantage_bt[e.real_bt]
    assert abs(float(masked_mean(e.advantage_bt, e.real_bt))) < 1e-5
    assert abs(float(masked_variance(e.advantage_bt, e.real_bt)) - 1) < 1e-4
    assert_close(e.advantage_bt[e.real_bt] * raw.std(correction=0) + raw.mean(), raw, atol=1e-4, rtol=1e-4)


@check
def whitened_rewards(kind):
    """Row 5: scaled to variance 1, not shifted: a shift would pay or punish each further token."""
    lab = Laboratory.small(2)
    plan, rows = random_plan(lab, 2), all_responses(lab)
    e = trainer(kind, lab, plan, whiten_rewards=True).experience(*rows)
    raw = trainer(kind, lab, plan).experience(*rows).reward_bt
    factor = e.reward_bt[e.real_bt] / raw[e.real_bt]
    assert_close(factor, torch.full_like(factor, float(factor[0])), atol=1e-4, rtol=1e-4)
    assert abs(float(masked_variance(e.reward_bt, e.real_bt)) - 1) < 1e-4


@check
def clipping(kind):
    """Row 13: no gradient where the ratio is beyond the clip on the side of gain; on the other it stays."""
    lab = Laboratory.small(1)
    ppo = trainer(kind, lab, random_plan(lab, 1), whiten_advantages=False)
    e = ppo.experience([lab.prompts[1]] * 2, [[0, 1, 2], [2, lab.eos]])
    one = torch.ones_like(e.advantage_bt) * e.real_bt
    cases = ((1.3, 1, False), (1.3, -1, True), (0.7, 1, True), (0.7, -1, False), (1.1, 1, True), (0.9, -1, True))
    for ratio, sign, has_gradient in cases:
        moved = {"logp_bt": e.logp_bt - math.log(ratio) * one, "advantage_bt": sign * one}
        batch = type(e)(**({name: getattr(e, name) for name in e.__dataclass_fields__} | moved))
        ppo.policy.zero_grad()
        loss, log_ratio_bt = ppo.policy_loss(batch)
        loss.backward()
        bounded = min(sign * ratio, sign * min(max(ratio, 0.8), 1.2))
        assert_close(loss, torch.tensor(-bounded), atol=1e-6, rtol=0)
        assert bool(flat_gradient(ppo.policy).any()) == has_gradient, (ratio, sign)
        assert_close(log_ratio_bt.exp()[e.real_bt], torch.full((5,), ratio))


@check
def token_mean(kind):
    """Row 27: two tokens of one response weigh as much as two of two; minibatches add up to the rollout."""
    lab = Laboratory.small(1)
    ppo = random_critic(trainer(kind, lab, random_plan(lab, 1)), lab)
    e = ppo.experience([lab.prompts[0]] * 4, [[lab.eos], [0, 1, 2], [1, lab.eos], [2, 2, lab.eos]])
    mean = -(e.advantage_bt.sum() / 9)
    assert_close(ppo.policy_loss(e)[0], mean, atol=1e-6, rtol=0)
    parts = [e.rows(torch.tensor(index), 2) for index in ([0, 1], [2, 3])]
    assert_close(sum(ppo.policy_loss(part)[0] for part in parts) / 2, mean, atol=1e-6, rtol=0)


@check
def value_clipping(kind):
    """Row 9: by hand, the larger of two squares; without a limit the mean squared error."""
    lab = Laboratory.small(1)
    for clip in (0.2, None):
        ppo = trainer(kind, lab, value_clip=clip, whiten_advantages=False)
        e = ppo.experience([lab.prompts[0]] * 2, [[0, 1, 2], [1, lab.eos]])
        with torch.no_grad():
            ppo.critic.head.bias.fill_(0.5)  # every value moves from 0 to 0.5
        error = (0.5 - e.return_bt[e.real_bt]).square()
        near = (0.2 - e.return_bt[e.real_bt]).square()
        wanted = error if clip is None else torch.maximum(error, near)
        assert_close(ppo.value_loss(e), 0.5 * wanted.mean())


@check
def new_critic(kind):
    """Rows 7, 8: it says 0 at first, so that the first returns are the rewards to come; its trunk is a copy."""
    lab = Laboratory.small(1)
    ppo = trainer(kind, lab, random_plan(lab, 1), lam=1.0, whiten_advantages=False)
    e = ppo.experience(*all_responses(lab))
    assert not e.value_bt.any()
    assert_close(e.advantage_bt, e.reward_bt.flip(1).cumsum(1).flip(1) * e.real_bt)
    shared = {id(p) for p in ppo.policy.parameters()} & {id(p) for p in ppo.critic.parameters()}
    assert not shared


@check
def values_before_tokens(kind):
    """Row 10: V of a token knows what stands before it, and neither it nor what follows."""
    lab = Laboratory.small(1)
    ppo = random_critic(trainer(kind, lab), lab)
    first, second = ([0, 1, 2], [0, 2, 1])
    a, b = (ppo.experience([lab.prompts[2]], [text]).value_bt[0] for text in (first, second))
    assert torch.equal(a[:2], b[:2]) and a[2] != b[2]


@check
def truncation(kind):
    """Rows 6, 18: a response without its end loses the penalty, after the limit on scores; others do not."""
    lab = Laboratory.small(1)
    prompts, texts = all_responses(lab)
    plain = trainer(kind, lab).scores(prompts, texts)
    score_b = trainer(kind, lab, truncation_penalty=0.7, score_clip=1.0).scores(prompts, texts)
    cut_b = torch.tensor([text[-1] != lab.eos for text in texts])
    assert_close(score_b, plain.clamp(-1, 1) - 0.7 * cut_b)
    assert int(cut_b.sum()) == 3 * 27


@check
def every_sample_is_kept(kind):
    """Rows 19, 21: each response of the rollout is learned from once an epoch, bad ones too."""
    seen = []

    class Watched(kind):
        def policy_loss(self, batch):
            seen.extend(batch.texts)
            return super().policy_loss(batch)

    lab = Laboratory.small(1)
    ppo = trainer(Watched, lab, reward=lambda p, r: [-1e3 * (len(x) > 2) for x in r], rollout=50, epochs=3)
    row = ppo.update(lab.prompts)
    assert sorted(map(tuple, seen)) == sorted(map(tuple, ppo.last.texts * 3))
    assert row.steps == 12 and seen[:50] != seen[50:100]


@check
def early_stop(kind):
    """Row 22: beyond the limit no parameter moves any more, not even on Adam's memory."""
    lab = Laboratory.small(1)
    ppo = trainer(kind, lab, updates=9)
    ppo.update(lab.prompts)
    e = ppo.last
    with torch.no_grad():
        ppo.policy.score.weight += 0.5 * torch.randn(ppo.policy.score.weight.shape, generator=ppo.generator)
    before = parameters_of(ppo)
    object.__setattr__(ppo.config, "kl_stop", 1e-3)
    steps = ppo.learn(e)
    assert same(before, parameters_of(ppo)) and steps.policy_loss == [] and steps.approx_kl[0] > 1e-3


@check
def learning_rate(kind):
    """Row 23: a straight line to 0 over the run, and a clear word when it is over."""
    lab = Laboratory.small(1)
    ppo = trainer(kind, lab, updates=4, rollout=8, learning_rate=0.2)
    rates = [ppo.update(lab.prompts).learning_rate for _ in range(4)]
    assert_close(torch.tensor(rates), torch.tensor([0.2, 0.15, 0.1, 0.05]))
    try:
        ppo.update(lab.prompts)
    except ValueError as error:
        assert "updates=4" in str(error)
    else:
        raise AssertionError("a fifth update of four")


@check
def adam(kind):
    """Row 23: three steps as TensorFlow's Adam takes them, ε = 1e-5 beside the uncorrected √v, no decay."""
    lab = Laboratory.small(1)
    ppo = trainer(kind, lab, gradient_clip=None)
    weight = ppo.policy.score.weight
    wanted, m, v = weight.detach().clone(), torch.zeros_like(weight), torch.zeros_like(weight)
    slope = 1e-4 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    for t in (1, 2, 3):
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        wanted -= 0.3 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (v.sqrt() + 1e-5)
        ppo.steps += 1
        ppo.step(ppo.policy_optimizer, (ppo.policy.score.weight * slope).sum(), 0.3)
    assert_close(weight.detach(), wanted)


@check
def metrics(kind):
    """Row 29: divergence by three meters, entropy, length and score agree with the exact ones."""
    lab = Laboratory.small(3)
    plan = random_plan(lab, 7)
    exact = lab.measure(plan, BETA)
    ppo = trainer(kind, lab, plan, rollout=6000, updates=1, minibatches=1, epochs=1)
    row = ppo.update(lab.prompts)
    e = ppo.last
    for value, wanted, x_b in (
        (row.kl, exact.kl, (e.logp_bt - e.reference_logp_bt).sum(1)),
        (row.kl_exact, exact.kl, e.kl_bt.sum(1)),
        (row.kl_k3, exact.kl, ((r := e.reference_logp_bt - e.logp_bt).exp() - 1 - r).sum(1)),
        (row.entropy, exact.entropy, e.entropy_bt.sum(1)),
        (row.score, exact.score, e.score_b),
    ):
        assert abs(value - wanted) < 3.5 * float(x_b.std()) / math.sqrt(len(x_b)), (value, wanted)
    assert math.isclose(row.objective, row.score - BETA * row.kl, rel_tol=1e-5)
    assert math.isclose(row.entropy_per_token * row.length, row.entropy, rel_tol=1e-4)
    assert math.isclose(row.length, sum(map(len, e.texts)) / len(e.texts), rel_tol=1e-5)
    assert math.isclose(row.eos_rate, sum(text[-1] == lab.eos for text in e.texts) / len(e.texts))


@check
def adaptive_price(kind):
    """Row 20: at the target β stays, beside it it moves by at most a fifth of n / horizon; or stays for good."""
    lab = Laboratory.small(1)
    assert trainer(kind, lab).next_beta(9.0) == BETA
    ppo = trainer(kind, lab, kl_target=2.0, kl_horizon=1000)
    for kl, error in ((2.0, 0.0), (2.2, 0.1), (9.0, 0.2), (0.1, -0.2)):
        assert_close(ppo.next_beta(kl), BETA * (1 + error * 256 / 1000))


@check
def exact_resume(kind):
    """Row 30: a run that stops in the middle and goes on elsewhere gives the same bits as one that does not."""
    lab = Laboratory.small(1)
    make = lambda: trainer(kind, lab, updates=6, rollout=64, kl_target=1.0)
    whole = make()
    for _ in range(3):
        whole.update(lab.prompts)
    saved = copy.deepcopy(whole.state_dict())
    resumed = make()
    resumed.load_state_dict(saved)
    rows = [(whole.update(lab.prompts), resumed.update(lab.prompts)) for _ in range(3)]
    assert all(a == b for a, b in rows) and whole.beta == resumed.beta
    assert same(parameters_of(whole), parameters_of(resumed))


@check
def allowed_tokens(kind):
    """What may not be written never is, and has no part in any probability."""
    lab = Laboratory.small(1)
    ppo = trainer(kind, lab, rollout=200)
    with torch.no_grad():
        ppo.policy.score.weight[lab.start] = 3.0  # the policy longs for it
    prompts = ppo.deal(lab.prompts)
    texts = ppo.sample(prompts)
    assert not any(lab.start in text for text in texts)
    assert_close(ppo.experience(*all_responses(lab)).logp_bt.sum(1).exp().sum(), torch.tensor(3.0))
