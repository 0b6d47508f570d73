"""PPO with one bug each, as they were found in published trainers or suspected there: what our checks must see.

`python tests/ppo_bugs.py` prints which check sees which bug, as `tests/alignment/ppo_bugs.md` holds it; with `--gap`
also how far from the optimum each bug leads, in the small laboratory (minutes).
"""

import sys
import warnings
from dataclasses import replace

import torch
from ppo_bug_list import BUGS, bug
from ppo_checks import CHECKS, run_all
from small_laboratory import BETA, trainer

from minillm.alignment.advantage import gae, whiten
from minillm.alignment.laboratory import Laboratory
from minillm.alignment.ppo import PPO
from minillm.alignment.responses import chosen_log_probabilities
from minillm.transformer.generate import generate


def k1(p, q):
    return p - q


def k2(p, q):
    return 0.5 * (p - q).square()


def k3(p, q):
    return (q - p).exp() - 1 - (q - p)


class FreeReward(PPO):
    """No price in the reward; a subclass may put `estimator` into the loss."""

    estimator = None

    def token_rewards(self, responses, score_b, logp_bt, reference_logp_bt):
        return super().token_rewards(responses, score_b, logp_bt, logp_bt)

    def policy_loss(self, batch):
        loss, log_ratio_bt = super().policy_loss(batch)
        if self.estimator is None:
            return loss, log_ratio_bt
        logp_bt = chosen_log_probabilities(self.log_probabilities(self.policy, batch.responses), batch.responses)
        price_bt = type(self).estimator(logp_bt, batch.reference_logp_bt)
        return loss + self.beta * self.token_mean(price_bt, batch), log_ratio_bt


def cut_sample(ppo, prompts, **how):
    """Rollouts whose distribution is cut or bent."""
    c = ppo.config
    forbid = lambda logits_bv, rows: logits_bv.masked_fill(~ppo.allowed_v, -torch.inf)
    how = {"temperature": c.temperature} | how
    texts = generate(ppo.policy, prompts, c.max_new_tokens, generator=ppo.generator, stop_tokens=(c.eos,),
                     adjust=forbid, **how)  # fmt: skip
    return [text[len(p) :] for text, p in zip(texts, prompts, strict=True)]


def group_of(experience):
    """For each response the number of its prompt."""
    kinds = sorted(set(map(tuple, experience.prompts)))
    return torch.tensor([kinds.index(tuple(prompt)) for prompt in experience.prompts])


def without_std(e, divide):
    """GRPO's advantages: the response's whole reward less the mean of its prompt's, `divide`d by their spread."""
    total_b, group_b = e.reward_bt.sum(1), group_of(e)
    advantage_b = torch.zeros_like(total_b)
    for group in group_b.unique():
        some = group_b == group
        advantage_b[some] = total_b[some] - total_b[some].mean()
        if divide and int(some.sum()) > 1:
            advantage_b[some] /= total_b[some].std() + 1e-6
    return replace(e, advantage_bt=advantage_b[:, None] * e.real_bt)


# The table of ALIGNMENT 2.3


@bug("no price on divergence")
class NoKL(FreeReward):
    pass


@bug("k1 in the loss")
class K1Loss(FreeReward):
    estimator = k1


@bug("k2 in the loss")
class K2Loss(FreeReward):
    estimator = k2


@bug("k3 in the loss (minimind, GRPO)")
class K3Loss(FreeReward):
    estimator = k3


@bug("k2 in the reward")
class K2Reward(PPO):
    def penalty(self, logp_bt, reference_logp_bt):
        return k2(logp_bt, reference_logp_bt)


@bug("k3 in the reward (TRL's option)")
class K3Reward(PPO):
    def penalty(self, logp_bt, reference_logp_bt):
        return k3(logp_bt, reference_logp_bt)


@bug("rollouts cut at top-p 0.85")
class TopP(PPO):
    def sample(self, prompts):
        return cut_sample(self, prompts, top_p=0.85)


@bug("rollouts at temperature 0.8, scored at 1")
class Cold(PPO):
    def sample(self, prompts):
        return cut_sample(self, prompts, temperature=0.8)


@bug("temperature 0.8, top-p 0.85 and k3 in the loss (minimind's three)")
class Three(K3Loss):
    def sample(self, prompts):
        return cut_sample(self, prompts, temperature=0.8, top_p=0.85)


@bug("the end token is free")
class FreeEnd(PPO):
    def token_rewards(self, responses, score_b, logp_bt, reference_logp_bt):
        price = torch.where(responses.chosen_bt == self.config.eos, logp_bt, reference_logp_bt)
        return super().token_rewards(responses, score_b, logp_bt, price)


@bug("the end token is not trained (nanochat)")
class UntrainedEnd(PPO):
    def policy_loss(self, batch):
        is_end = batch.responses.chosen_bt == self.config.eos
        return super().policy_loss(replace(batch, advantage_bt=batch.advantage_bt.masked_fill(is_end, 0.0)))


@bug("the score one token early")
class Early(PPO):
    def token_rewards(self, responses, score_b, logp_bt, reference_logp_bt):
        early = replace(responses, length_b=(responses.length_b - 1).clamp(min=1))
        return super().token_rewards(early, score_b, logp_bt, reference_logp_bt)


@bug("the score one token late, where the text was cut")
class Late(PPO):
    def token_rewards(self, responses, score_b, logp_bt, reference_logp_bt):
        late = replace(responses, length_b=(responses.length_b + 1).clamp(max=responses.steps))
        return super().token_rewards(late, score_b, logp_bt, reference_logp_bt)


@bug("values after the end are used")
class ValuesAfterEnd(PPO):
    def values(self, responses):
        return self.critic(responses.tokens_bs[:, :-1]).gather(1, responses.before_bt)

    def advantages(self, reward_bt, value_bt, real_bt):
        everywhere = torch.ones_like(real_bt)
        return gae(reward_bt, value_bt, everywhere, self.config.gamma, self.config.lam) * real_bt


@bug("filling counts in whitening and loss")
class Filling(PPO):
    def judged(self, responses, prompts, texts, score_b):
        e = super().judged(responses, prompts, texts, score_b)
        raw_bt = gae(e.reward_bt, e.value_bt, everywhere := torch.ones_like(e.real_bt), 1.0, self.config.lam)
        if self.config.whiten_advantages:
            raw_bt = whiten(raw_bt, everywhere)
        return replace(e, advantage_bt=raw_bt, logp_bt=self.all_chosen(responses), tokens=float(everywhere.sum()))

    def all_chosen(self, responses):
        log_p_btv = self.log_probabilities(self.policy, responses)
        return log_p_btv.gather(-1, responses.chosen_bt[..., None])[..., 0]

    def policy_loss(self, batch):
        log_ratio_bt = self.all_chosen(batch.responses) - batch.logp_bt
        return -(log_ratio_bt.exp() * batch.advantage_bt).sum() / batch.tokens, log_ratio_bt.detach()


class Discounted(PPO):
    """A discount that nobody asked for."""

    discount = 1.0

    def advantages(self, reward_bt, value_bt, real_bt):
        return gae(reward_bt, value_bt, real_bt, self.discount, self.config.lam)


@bug("γ = 0.95")
class Gamma95(Discounted):
    discount = 0.95


@bug("γ = 0.99")
class Gamma99(Discounted):
    discount = 0.99


@bug("each response weighs the same: 1 / length")
class PerResponse(PPO):
    def token_mean(self, x_bt, batch):
        return (torch.where(batch.real_bt, x_bt, 0.0).sum(1) / batch.responses.length_b).mean()


@bug("advantages divided by their group's standard deviation (GRPO)")
class GroupStd(PPO):
    def judged(self, responses, prompts, texts, score_b):
        return without_std(super().judged(responses, prompts, texts, score_b), divide=True)


@bug("GRPO as printed: that, k3 in the loss, 1 / length")
class PaperGRPO(GroupStd, PerResponse, K3Loss):
    pass


import ppo_bugs_of_rows  # noqa: E402, F401  after those of the table: the order of the list


def table():
    """Bug and checks that see it, in Markdown, as `tests/alignment/ppo_bugs.md` holds it."""
    lines = ["| bug | seen by |", "|---|---|"]
    for description, kind in BUGS.items():
        lines.append(f"| {description} | {', '.join(run_all(kind)) or '**nothing**'} |")
    return "\n".join(lines) + "\n"


def gap(kind, seed=0):
    """How far from the optimum 100 updates in the small laboratory lead, in percent of the way (A)."""
    lab = Laboratory.small(1)
    ppo = trainer(kind, lab, seed=seed, learning_rate=0.05)
    for _ in range(100):
        ppo.update(lab.prompts)
    return 100 * lab.measure(ppo.policy, BETA).gap


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if "--gap" in sys.argv:
        for description, kind in {"none": PPO, **BUGS}.items():
            print(f"{gap(kind):8.2f} %   {description}", flush=True)
    else:
        print(f"{len(BUGS)} bugs, {len(CHECKS)} checks\n\n{table()}", end="")
