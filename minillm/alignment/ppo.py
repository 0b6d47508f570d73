"""PPO: sample from the policy, see what was better than expected, make it likelier, but not by much at a time.

    r_t = score · [t last] - β (log π_old - log π_ref)(y_t)                         what a token earns
    L   = -mean_t min(ρ_t A_t, clip(ρ_t, 1 ± ε) A_t),   ρ_t = π(y_t) / π_old(y_t)    A from r by GAE

The objective is J(π) = E[score] - β KL(π ‖ π_ref), and its optimum π* ∝ π_ref · exp(score / β). The details by which
implementations differ are numbered as rows 1 to 30; each stands as "row n" where it is done, here or in a neighbour,
and `tests/alignment/test_checklist.py` names the test of each.

Paper:   Schulman et al. 2017, arXiv:1707.06347, equation 7; on language: Ziegler et al. 2019, arXiv:1909.08593, and
         Ouyang et al. 2022, arXiv:2203.02155, §3.5; the details: Huang et al. 2022, "The 37 Implementation Details of
         PPO" (ICLR blog track); Huang et al. 2024, arXiv:2403.17031.
Names:   ε is `clip`, ρ `ratio_bt`, π_old the policy that wrote the rollout, a step of the episode a token.
Differs: policy and critic are two networks with an optimiser each, so no coefficient weighs their losses. No entropy
         bonus and no pretraining gradient: both would move the optimum. The penalty is the log-ratio itself (k1), as
         part of the reward: other estimators of the KL, or k1 in the loss, have another optimum.
Next:    minillm/alignment/laboratory.py
"""

import copy
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from minillm.alignment.advantage import gae, whiten
from minillm.alignment.critic import Critic
from minillm.alignment.experience import Experience
from minillm.alignment.ppo_config import PPOConfig
from minillm.alignment.ppo_record import PPORecord, Steps, record_of
from minillm.alignment.responses import (
    Responses,
    chosen_log_probabilities,
    divergences,
    entropies,
    mask_of,
    next_log_probabilities,
    sample_responses,
    side_by_side,
)
from minillm.core.modes import switched
from minillm.neural.language_model import LanguageModel
from minillm.training.optim import AdamW

Reward = Callable[[list[list[int]], list[list[int]]], Any]  # (prompts, responses) -> scores_n


class PPO:
    """Moves `policy` towards what `reward` likes, while every nat of divergence from `reference` costs β.

    `reward(prompts, responses)` gives a score for each pair of token lists; the response holds its end token if it has
    one. A policy is any `LanguageModel`, changed in place; the `critic` is a `Critic` of it unless another is given.
    `update` is one rollout and what is learned from it. `last` is that rollout, for pictures.

    >>> from minillm.transformer.decoder import Decoder, gpt2
    >>> policy = Decoder(gpt2(vocabulary=5, context=9, n_layer=1, n_head=2, d_model=4))
    >>> config = PPOConfig(beta=0.1, learning_rate=1e-2, rollout=64, max_new_tokens=3, updates=20, eos=0)
    >>> ppo = PPO(policy, policy, lambda prompts, responses: [float(4 in text) for text in responses], config)
    >>> rows = [ppo.update([[1], [2, 3]]) for _ in range(20)]
    >>> rows[0].kl == 0, rows[0].score < 0.6, rows[-1].score > 0.9
    (True, True, True)
    """

    def __init__(
        self,
        policy: LanguageModel,
        reference: LanguageModel,
        reward: Reward,
        config: PPOConfig,
        critic: nn.Module | None = None,
    ) -> None:
        own = {id(p) for p in policy.parameters()}
        shared = any(id(p) in own for p in reference.parameters())
        self.policy, self.reward, self.config = policy, reward, config
        self.reference = copy.deepcopy(reference) if shared else reference  # row 2: it must not move with the policy
        self.critic = Critic(policy) if critic is None else critic
        self.device = next(policy.parameters()).device
        self.allowed_v = mask_of(config.allowed_tokens, policy.vocabulary, self.device)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.beta, self.updates, self.steps = config.beta, 0, 0
        self.policy_optimizer = self._adam(policy)
        self.critic_optimizer = self._adam(self.critic) if any(True for _ in self.critic.parameters()) else None
        self.last: Experience | None = None

    def update(self, prompts: Sequence[Sequence[int]]) -> PPORecord:
        """Sample a rollout, learn from it, and say what happened. Raises ValueError when the run is over."""
        if self.updates >= self.config.updates:
            raise ValueError(f"updates={self.config.updates} are done and the learning rate is 0; give a longer run")
        began = time.process_time()
        dealt = self.deal(prompts)
        with switched(self.policy, training=False), switched(self.critic, training=False):  # row 24
            self.last = self.experience(dealt, self.sample(dealt))
            steps = self.learn(self.last)
        row = record_of(self.last, steps, self.config, self.updates + 1, self.beta, self.rate)
        self.updates += 1
        self.beta = self.next_beta(row.kl)
        return replace(row, seconds=time.process_time() - began)

    # The rollout

    def deal(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """`rollout` prompts: all of them shuffled, again from the first when they are fewer."""
        if not prompts:
            raise ValueError("prompts=[] holds nothing to answer; [[7]] works, with a token that starts a response")
        order = torch.randperm(len(prompts), generator=self.generator).tolist()
        return [list(prompts[order[i % len(order)]]) for i in range(self.config.rollout)]

    def sample(self, prompts: list[list[int]]) -> list[list[int]]:
        """What the policy writes: rows 15 and 16, and prompts of any length side by side (row 25)."""
        c = self.config
        return sample_responses(self.policy, prompts, c.max_new_tokens, c.eos, temperature=c.temperature,
                                allowed_v=self.allowed_v, generator=self.generator)  # fmt: skip

    @torch.no_grad()
    def experience(self, prompts: list[list[int]], texts: list[list[int]]) -> Experience:
        """Score what was written, before anything moves; every sample is kept, also a bad one (row 19)."""
        responses = side_by_side(prompts, texts, self.device)
        return self.judged(responses, prompts, texts, self.scores(prompts, texts))

    @torch.no_grad()
    def judged(
        self, responses: Responses, prompts: list[list[int]], texts: list[list[int]], score_b: Tensor
    ) -> Experience:
        """The experience of rows that have their scores."""
        log_p_btv, log_q_btv = (self.log_probabilities(m, responses) for m in (self.policy, self.reference))
        logp_bt, reference_logp_bt = (chosen_log_probabilities(x, responses) for x in (log_p_btv, log_q_btv))
        reward_bt = self.token_rewards(responses, score_b, logp_bt, reference_logp_bt)
        value_bt = self.values(responses)
        advantage_bt = self.advantages(reward_bt, value_bt, responses.real_bt)
        whitened_bt = whiten(advantage_bt, responses.real_bt) if self.config.whiten_advantages else advantage_bt
        return Experience(
            prompts=prompts,
            texts=texts,
            responses=responses,
            score_b=score_b,
            logp_bt=logp_bt,
            reference_logp_bt=reference_logp_bt,
            entropy_bt=entropies(log_p_btv, responses),
            kl_bt=divergences(log_p_btv, log_q_btv, responses),
            reward_bt=reward_bt,
            value_bt=value_bt,
            advantage_bt=whitened_bt,
            return_bt=advantage_bt + value_bt,
            tokens=float(responses.real_bt.sum()),
        )

    def scores(self, prompts: list[list[int]], texts: list[list[int]]) -> Tensor:
        """The score of each response: the reward's, limited (row 6), less a penalty for having no end (row 18)."""
        score_b = torch.as_tensor(self.reward(prompts, texts), dtype=torch.float32, device=self.device).detach()
        if score_b.shape != (len(texts),) or not bool(score_b.isfinite().all()):
            raise ValueError(f"reward gave {score_b}, but {len(texts)} finite numbers are wanted, one a response")
        if self.config.score_clip is not None:
            score_b = score_b.clamp(-self.config.score_clip, self.config.score_clip)
        cut_b = torch.tensor([text[-1] != self.config.eos for text in texts], device=self.device)
        return score_b - self.config.truncation_penalty * cut_b

    def log_probabilities(self, model: LanguageModel, responses: Responses) -> Tensor:
        """The one path by which policy and reference are read (rows 2, 14, 15, 24)."""
        return next_log_probabilities(model, responses, self.config.temperature, self.allowed_v)

    def values(self, responses: Responses) -> Tensor:
        """What the critic expects before each token is written, (b, t): row 10; 0 after the end: row 11."""
        with switched(self.critic, training=False) if self.critic.training else nullcontext():
            value_bs = self.critic(responses.tokens_bs[:, :-1])
        return torch.where(responses.real_bt, value_bs.gather(1, responses.before_bt), 0.0)

    def penalty(self, logp_bt: Tensor, reference_logp_bt: Tensor) -> Tensor:
        """What each token's divergence costs, before β: k1, whose sum over a response is its log-ratio (row 1)."""
        return logp_bt - reference_logp_bt

    def token_rewards(
        self, responses: Responses, score_b: Tensor, logp_bt: Tensor, reference_logp_bt: Tensor
    ) -> Tensor:
        """The reward (b, t): a price on every token, and the score on the last real one (rows 1, 3, 17)."""
        reward_bt = -self.beta * self.penalty(logp_bt, reference_logp_bt)
        reward_bt = reward_bt.scatter_add(1, responses.last_b[:, None], score_b[:, None])
        if self.config.whiten_rewards:  # row 5: the scale alone; a shift would pay or punish length
            reward_bt = whiten(reward_bt, responses.real_bt, shift=False)
        return reward_bt

    def advantages(self, reward_bt: Tensor, value_bt: Tensor, real_bt: Tensor) -> Tensor:
        """GAE over the response alone: row 11."""
        return gae(reward_bt, value_bt, real_bt, self.config.gamma, self.config.lam)

    # What is learned from it

    def learn(self, experience: Experience) -> Steps:
        """A few epochs of minibatches, reshuffled for each, whole responses at a time (row 21)."""
        steps, n, parts = Steps(), len(experience.texts), self.config.minibatches
        for _ in range(self.config.epochs):
            for index in torch.randperm(n, generator=self.generator).tensor_split(parts):
                batch = experience.rows(index.to(self.device), parts)
                loss, log_ratio_bt = self.policy_loss(batch)
                steps.see(log_ratio_bt, batch.real_bt, self.config.clip)
                if self.config.kl_stop is not None and steps.approx_kl[-1] > self.config.kl_stop:
                    return steps  # row 22: no step at all, since Adam moves on its memory even when the loss is 0
                value_loss = self.value_loss(batch)
                self.steps += 1
                steps.policy_norm.append(self.step(self.policy_optimizer, loss, self.rate))
                if self.critic_optimizer is not None:
                    steps.critic_norm.append(self.step(self.critic_optimizer, value_loss, self.critic_rate))
                steps.took(loss.item(), value_loss.item())
        return steps

    def policy_loss(self, batch: Experience) -> tuple[Tensor, Tensor]:
        """The clipped loss, pessimistic (row 13), and log π - log π_old (b, t) of the tokens."""
        logp_bt = chosen_log_probabilities(self.log_probabilities(self.policy, batch.responses), batch.responses)
        log_ratio_bt = logp_bt - batch.logp_bt
        ratio_bt, clip = log_ratio_bt.exp(), self.config.clip
        gain_bt = torch.minimum(ratio_bt * batch.advantage_bt, ratio_bt.clamp(1 - clip, 1 + clip) * batch.advantage_bt)
        return -self.token_mean(gain_bt, batch), log_ratio_bt.detach()

    def value_loss(self, batch: Experience) -> Tensor:
        """Half the squared error; where a value moved too far from that of the rollout, the larger of two (row 9)."""
        value_bt = self.values(batch.responses)
        error_bt = (value_bt - batch.return_bt).square()
        if (clip := self.config.value_clip) is not None:
            near_bt = batch.value_bt + (value_bt - batch.value_bt).clamp(-clip, clip)
            error_bt = torch.maximum(error_bt, (near_bt - batch.return_bt).square())
        return 0.5 * self.token_mean(error_bt, batch)

    def token_mean(self, x_bt: Tensor, batch: Experience) -> Tensor:
        """Each token weighs the same, in whatever response and minibatch it stands (row 27)."""
        return torch.where(batch.real_bt, x_bt, 0.0).sum() / batch.tokens

    def step(self, optimizer: AdamW, loss: Tensor, rate: float) -> float:
        """One step of Adam; the norm of the gradient before it was clipped. Raises FloatingPointError for no number."""
        optimizer.zero_grad()
        loss.backward()
        parameters = [p for p in optimizer.parameters() if p.grad is not None]
        limit = math.inf if self.config.gradient_clip is None else self.config.gradient_clip
        norm = float(nn.utils.clip_grad_norm_(parameters, limit))
        if not (math.isfinite(norm) and math.isfinite(loss.item())):
            raise FloatingPointError(
                f"update {self.updates + 1}: the loss is {loss.item():.4g} and its gradient {norm:.4g} long; no step "
                f"was taken. Try learning_rate={self.config.learning_rate / 10:.1g}, and look at the scores"
            )
        for group in optimizer.param_groups:
            group["lr"] = rate
            # Row 23: ε beside √v before its correction, as the first RLHF code had it (Kingma & Ba 2015, end of §2).
            group["eps"] = self.config.adam_eps / math.sqrt(1 - group["betas"][1] ** self.steps)
        optimizer.step()
        return norm

    @property
    def rate(self) -> float:
        """The policy's learning rate in this update: from its first value in a straight line to 0 (row 23)."""
        return self.config.learning_rate * self._left()

    @property
    def critic_rate(self) -> float:
        """The critic's."""
        rate = self.config.critic_learning_rate
        return (self.config.learning_rate if rate is None else rate) * self._left()

    def next_beta(self, kl: float) -> float:
        """β after a rollout: as it was, or nearer to what holds the KL at its target (row 20)."""
        if self.config.kl_target is None:
            return self.beta
        error = min(max(kl / self.config.kl_target - 1, -0.2), 0.2)
        return self.beta * (1 + error * self.config.rollout / self.config.kl_horizon)

    # Stop and go on

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on as if it had not stopped, at full precision (row 30); not the reference."""
        return {
            "policy": self.policy.state_dict(),
            "critic": self.critic.state_dict(),
            "policy_optimizer": self.policy_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict() if self.critic_optimizer else {},
            "generator": self.generator.get_state(),
            "beta": self.beta,
            "updates": self.updates,
            "steps": self.steps,
            "reference": fingerprint(self.reference),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there. Raises ValueError when the reference is another than that of the run that was saved."""
        if state["reference"] != (ours := fingerprint(self.reference)):
            raise ValueError(
                f"reference has fingerprint {ours[:12]}…, the saved run's {state['reference'][:12]}…: the divergence "
                "would be measured from somewhere else; give PPO the model that the run began from"
            )
        self.policy.load_state_dict(state["policy"])
        self.critic.load_state_dict(state["critic"])
        self.policy_optimizer.load_state_dict(state["policy_optimizer"])
        if self.critic_optimizer is not None:
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.beta, self.updates, self.steps = state["beta"], state["updates"], state["steps"]

    def _left(self) -> float:
        return 1 - min(self.updates, self.config.updates) / self.config.updates

    def _adam(self, model: nn.Module) -> AdamW:
        chosen = [p for p in model.parameters() if p.requires_grad]
        return AdamW(chosen, self.config.learning_rate, eps=self.config.adam_eps, weight_decay=0.0)  # row 23


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of a model's numbers, to know it again."""
    digest = hashlib.sha256()
    for name, x in sorted(model.state_dict().items()):
        digest.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
