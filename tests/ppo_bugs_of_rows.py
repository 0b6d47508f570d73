"""Bugs of the checklist beyond those of the table of published trainers."""

from dataclasses import replace

import torch
from ppo_bug_list import bug

from minillm.alignment.advantage import whiten
from minillm.alignment.ppo import PPO
from minillm.alignment.responses import Responses, chosen_log_probabilities

# Others of the checklist


@bug("the price with the wrong sign")
class WrongSign(PPO):
    def penalty(self, logp_bt, reference_logp_bt):
        return reference_logp_bt - logp_bt


@bug("the reference is the policy itself")
class MovingReference(PPO):
    def __init__(self, policy, reference, *rest):
        super().__init__(policy, reference, *rest)
        self.reference = reference


@bug("values of the place after each token")
class LateValues(PPO):
    def values(self, responses):
        shifted = replace(responses, start_b=responses.start_b + 1)
        return super().values(shifted)


@bug("the optimistic clip: max for min")
class Optimistic(PPO):
    def policy_loss(self, batch):
        logp_bt = chosen_log_probabilities(self.log_probabilities(self.policy, batch.responses), batch.responses)
        ratio_bt, clip = (logp_bt - batch.logp_bt).exp(), self.config.clip
        clipped_bt = ratio_bt.clamp(1 - clip, 1 + clip)
        gain_bt = torch.maximum(ratio_bt * batch.advantage_bt, clipped_bt * batch.advantage_bt)
        return -self.token_mean(gain_bt, batch), ratio_bt.log().detach()


@bug("an early stop that multiplies the loss by 0 and steps (minimind)")
class SteppingStop(PPO):
    def learn(self, experience):
        limit = self.config.kl_stop
        object.__setattr__(self.config, "kl_stop", None)
        steps = super().learn(experience)
        object.__setattr__(self.config, "kl_stop", limit)
        return steps

    def step(self, optimizer, loss, rate):
        return super().step(optimizer, loss * 0.0 if self.steps > 8 else loss, rate)


@bug("what looks like the filling is masked")
class MaskByToken(PPO):
    def judged(self, responses, prompts, texts, score_b):
        class ByToken(Responses):
            @property
            def real_bt(self):
                return Responses.real_bt.fget(self) & (self.chosen_bt != 0)

        fields = {name: getattr(responses, name) for name in ("tokens_bs", "start_b", "length_b", "steps")}
        return super().judged(ByToken(**fields), prompts, texts, score_b)


@bug("token rewards whitened with their mean shifted")
class ShiftedRewards(PPO):
    def token_rewards(self, responses, score_b, logp_bt, reference_logp_bt):
        reward_bt = super().token_rewards(responses, score_b, logp_bt, reference_logp_bt)
        return whiten(reward_bt, responses.real_bt) if self.config.whiten_rewards else reward_bt


@bug("π_old taken after the first step")
class LateBehaviour(PPO):
    def experience(self, prompts, texts):
        e = super().experience(prompts, texts)
        return replace(e, logp_bt=e.logp_bt + 1e-3 * e.real_bt)


@bug("bad samples are dropped")
class Dropping(PPO):
    def learn(self, experience):
        good = (experience.score_b > -100).nonzero()[:, 0]
        return super().learn(experience.rows(good))


@bug("the checkpoint keeps half the bits (minimind)")
class HalfCheckpoint(PPO):
    def state_dict(self):
        state = super().state_dict()
        return state | {"policy": {name: x.half().to(x.dtype) for name, x in state["policy"].items()}}


@bug("the checkpoint forgets the optimiser")
class ForgetfulCheckpoint(PPO):
    def load_state_dict(self, state):
        fresh = self.policy_optimizer.state_dict()
        super().load_state_dict({**state, "policy_optimizer": fresh})


@bug("cut texts go unpunished")
class NoPenalty(PPO):
    def scores(self, prompts, texts):
        cut_b = torch.tensor([text[-1] != self.config.eos for text in texts])
        return super().scores(prompts, texts) + self.config.truncation_penalty * cut_b


@bug("a learning rate that does not fall")
class ConstantRate(PPO):
    def _left(self):
        return 1.0


@bug("ε after the correction of √v")
class TorchEpsilon(PPO):
    def step(self, optimizer, loss, rate):
        steps, self.steps = self.steps, 10**6
        norm = super().step(optimizer, loss, rate)
        self.steps = steps
        return norm


@bug("weight decay")
class Decay(PPO):
    def _adam(self, model):
        optimizer = super()._adam(model)
        optimizer.param_groups[0]["weight_decay"] = 0.01
        return optimizer


@bug("an adaptive β without its limit")
class UnlimitedBeta(PPO):
    def next_beta(self, kl):
        if self.config.kl_target is None:
            return self.beta
        return self.beta * (1 + (kl / self.config.kl_target - 1) * self.config.rollout / self.config.kl_horizon)
