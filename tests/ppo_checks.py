"""What must be true of a PPO, as functions of its class: `tests/alignment/test_ppo.py` runs them on ours, and
`test_ppo_bugs.py` on ours with a bug, to see which of them turns red. Each takes well below a second.
"""

import ppo_checks_rows  # noqa: F401  puts its checks on the list
import torch
from ppo_check_list import CHECKS, check, run_all
from small_laboratory import (
    BETA,
    all_responses,
    exact_gradient,
    first_gradient,
    flat_gradient,
    in_proportion,
    random_critic,
    random_plan,
    set_critic,
    trainer,
    values_of,
)
from torch.testing import assert_close

from minillm.alignment.laboratory import Laboratory

__all__ = ["CHECKS", "run_all"]

# A proof each: 2.1, B and C


@check
def soft_bellman(kind):
    """2.1: under π* every response earns V*(x) = β log Z(x), and with V* as critic nothing is a surprise, at any λ."""
    lab = Laboratory.small(2)
    values = lab.optimal_values(BETA)
    for lam in (0.0, 0.5, 0.95, 1.0):
        ppo = set_critic(trainer(kind, lab, lab.optimum(BETA), lam=lam, whiten_advantages=False), lab, values)
        e = ppo.experience(*all_responses(lab))
        assert e.score_b.std() > 0.5
        assert_close(e.reward_bt.sum(1), values[0][:, 0].repeat_interleave(40).float(), atol=1e-5, rtol=0)
        assert e.advantage_bt.abs().max() < 1e-5


@check
def gradient(kind):
    """B: the first gradient is that of the exact J, whatever the critic says (λ = 1)."""
    for seed in (0, 1, 2):
        lab = Laboratory.small(seed)
        plan = random_plan(lab, seed)
        ppo = random_critic(trainer(kind, lab, plan, lam=1.0, whiten_advantages=False), lab)
        _assert_same_gradient(first_gradient(ppo, *in_proportion(lab, plan, 4000)), exact_gradient(ppo, lab))


@check
def gradient_with_exact_critic(kind):
    """B again, at λ = 0.95, which is only right if the critic is."""
    lab = Laboratory.small(1)
    plan = random_plan(lab, 1)
    ppo = set_critic(trainer(kind, lab, plan, whiten_advantages=False), lab, values_of(lab, plan))
    _assert_same_gradient(first_gradient(ppo, *in_proportion(lab, plan, 4000)), exact_gradient(ppo, lab))


@check
def gradient_when_whitened(kind):
    """Whitening (row 12) changes the length of the gradient and not its direction."""
    lab = Laboratory.small(2)
    plan = random_plan(lab, 2)
    ppo = random_critic(trainer(kind, lab, plan, lam=1.0), lab)
    g, exact = first_gradient(ppo, *in_proportion(lab, plan, 4000)), exact_gradient(ppo, lab)
    assert torch.cosine_similarity(g, exact, dim=0) > 0.9999


def _assert_same_gradient(g, exact):
    assert (g - exact).norm() / exact.norm() < 0.008, f"relative error {float((g - exact).norm() / exact.norm()):.4f}"
    assert torch.cosine_similarity(g, exact, dim=0) > 0.9999


@check
def padding(kind):
    """C: a response is worth the same alone and beside longer ones; wider filling, full of tokens, changes no bit."""
    lab = Laboratory.small(3)
    ppo = random_critic(trainer(kind, lab, random_plan(lab, 3), whiten_advantages=False), lab)
    prompts, texts = all_responses(lab)
    together = ppo.experience(prompts, texts)
    for i in range(0, len(texts), 7):
        alone, length = ppo.experience([prompts[i]], [texts[i]]), len(texts[i])
        for name in ("logp_bt", "reward_bt", "value_bt", "advantage_bt", "return_bt", "entropy_bt", "kl_bt"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[i, :length]), name
            assert not getattr(together, name)[i, length:].any(), name

    whitening = random_critic(trainer(kind, lab, random_plan(lab, 3)), lab)
    seen = [whitening.judged(rows, prompts, texts, together.score_b) for rows in widths(together.responses)]
    results = []
    for e in seen:
        whitening.policy.zero_grad()
        batch = e.rows(torch.arange(0, len(texts), 2))
        loss = whitening.policy_loss(batch)[0]
        loss.backward()
        results.append((loss, whitening.value_loss(batch), flat_gradient(whitening.policy), e.advantage_bt[:, :3]))
    for narrow, wide in zip(*results, strict=True):
        assert_close(narrow, wide, rtol=0, atol=1e-6)  # sums in another order


def widths(rows):
    """The same responses as they are, and with two columns more of filling that looks like letters."""
    wide = torch.cat([rows.tokens_bs, torch.ones(len(rows), 2, dtype=torch.int64)], dim=1)
    return rows, type(rows)(tokens_bs=wide, start_b=rows.start_b, length_b=rows.length_b, steps=rows.steps + 2)
