"""What an update of PPO did, in plain numbers: a row for a table, a dashboard or a file.

    k1 = Σ_t log π/π_ref,   k3 = Σ_t (π_ref/π - 1 + log π/π_ref),   Σ_t KL(π ‖ π_ref | x, y_<t)

Three meters of the KL of a response, with one mean. The reward uses k1; the last is the steadiest and needs all logits.

Paper:   Schulman 2020, "Approximating KL Divergence" (joschu.net/blog/kl-approx.html): k1, k2, k3.
Names:   `kl` is the mean of k1, `kl_k3` of k3, `kl_exact` of the last.
Differs: every mean is over real tokens or whole responses, never over what fills up (row 29).
Next:    minillm/alignment/laboratory.py
"""

import math
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor

from minillm.alignment.advantage import explained_variance, masked_mean, masked_variance
from minillm.alignment.experience import Experience
from minillm.alignment.ppo_config import PPOConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PPORecord:
    """One update. What is said of the policy is said of the one that wrote the rollout, before it moved."""

    update: int  # its number: the first is 1
    samples: int  # responses so far
    beta: float  # as used in this update
    learning_rate: float  # of the policy, likewise
    score: float  # mean over responses, penalties and limits included
    objective: float  # score - beta · kl: an estimate of J
    kl: float  # nats a response, k1
    kl_k3: float  # the same by k3
    kl_exact: float  # the same from all logits at the states that were visited
    entropy: float  # nats a response, from all logits
    entropy_per_token: float  # nats a token
    length: float  # tokens a response, the end token included
    eos_rate: float  # share of responses that ended by themselves
    unique: float  # share of responses that are the first of their kind, after their prompt
    advantage_sd: float  # before whitening: towards 0 at the optimum, if the critic keeps up
    value: float  # mean over tokens of what the critic said
    value_return: float  # and of what it should have said
    explained_variance: float  # of the returns by the critic; 1 is all
    ratio_error: float  # largest |π / π_old - 1| before the first step: 0 but for rounding, or there is a bug
    approx_kl: float  # nats a token between π_old and the policy, mean over the steps
    clip_fraction: float  # share of tokens outside the clip, mean over the steps
    policy_loss: float  # mean over the steps
    value_loss: float
    policy_norm: float  # of the gradients before clipping, mean over the steps
    critic_norm: float
    steps: int  # steps taken; fewer than epochs · minibatches after an early stop
    seconds: float = field(default=0.0, compare=False)  # of the processor


@dataclass(slots=True)
class Steps:
    """Notes while learning from one rollout."""

    approx_kl: list[float] = field(default_factory=list)
    clip_fraction: list[float] = field(default_factory=list)
    policy_loss: list[float] = field(default_factory=list)
    value_loss: list[float] = field(default_factory=list)
    policy_norm: list[float] = field(default_factory=list)
    critic_norm: list[float] = field(default_factory=list)
    ratio_error: float | None = None

    @torch.no_grad()
    def see(self, log_ratio_bt: Tensor, real_bt: Tensor, clip: float) -> None:
        """Look at log π - log π_old before a step."""
        ratio_bt = log_ratio_bt.exp()
        if self.ratio_error is None:
            self.ratio_error = float(torch.where(real_bt, (ratio_bt - 1).abs(), 0.0).max())
        self.approx_kl.append(float(masked_mean(ratio_bt - 1 - log_ratio_bt, real_bt)))
        self.clip_fraction.append(float(masked_mean(((ratio_bt - 1).abs() > clip).float(), real_bt)))

    def took(self, policy_loss: float, value_loss: float) -> None:
        """Note the losses of a step that was taken."""
        self.policy_loss.append(policy_loss)
        self.value_loss.append(value_loss)


def record_of(
    experience: Experience, steps: Steps, config: PPOConfig, update: int, beta: float, learning_rate: float
) -> PPORecord:
    """The row of one update."""
    e, real_bt = experience, experience.real_bt
    log_ratio_bt = e.reference_logp_bt - e.logp_bt
    kl, score = float(-log_ratio_bt.sum(1).mean()), float(e.score_b.mean())
    kinds = {(*prompt, -1, *text) for prompt, text in zip(e.prompts, e.texts, strict=True)}
    return PPORecord(
        update=update,
        samples=update * config.rollout,
        beta=beta,
        learning_rate=learning_rate,
        score=score,
        objective=score - beta * kl,
        kl=kl,
        kl_k3=float((log_ratio_bt.exp() - 1 - log_ratio_bt).sum(1).mean()),
        kl_exact=float(e.kl_bt.sum(1).mean()),
        entropy=float(e.entropy_bt.sum(1).mean()),
        entropy_per_token=float(masked_mean(e.entropy_bt, real_bt)),
        length=float(real_bt.sum(1).float().mean()),
        eos_rate=fmean(text[-1] == config.eos for text in e.texts),
        unique=len(kinds) / len(e.texts),
        advantage_sd=math.sqrt(float(masked_variance(e.return_bt - e.value_bt, real_bt))),
        value=float(masked_mean(e.value_bt, real_bt)),
        value_return=float(masked_mean(e.return_bt, real_bt)),
        explained_variance=explained_variance(e.value_bt, e.return_bt, real_bt),
        ratio_error=steps.ratio_error or 0.0,
        approx_kl=_mean(steps.approx_kl),
        clip_fraction=_mean(steps.clip_fraction),
        policy_loss=_mean(steps.policy_loss),
        value_loss=_mean(steps.value_loss),
        policy_norm=_mean(steps.policy_norm),
        critic_norm=_mean(steps.critic_norm),
        steps=len(steps.policy_loss),
    )


def _mean(values: list[float]) -> float:
    return fmean(values) if values else 0.0
