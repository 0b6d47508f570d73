"""PPOConfig: what a run of PPO may decide, each number with the row of the checklist that it belongs to.

    fixed β:      J(π) = E[score] - β KL(π ‖ reference),   largest for π* ∝ reference · exp(score / β)
    adaptive β:   β ← β (1 + clip(KL / target - 1, ±0.2) · n / horizon)

Paper:   Ziegler et al. 2019, arXiv:1909.08593, §2.2 (adaptive β); Ouyang et al. 2022, arXiv:2203.02155, appendix C.4.
Names:   β is `beta`, λ `lam`, γ `gamma`, ε of the clip `clip`; a rollout is what is sampled for one update.
Differs: β is fixed unless a target is given: only then is there one optimum, and a distance to it.
Next:    minillm/alignment/ppo.py
"""

import math
from dataclasses import dataclass

from minillm.core.settings import check_seed, check_whole_numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class PPOConfig:
    """The settings of `PPO`. More fields than is our habit: each is a detail that published trainers disagree about.

    >>> PPOConfig(beta=0.5, learning_rate=1e-3, rollout=256, max_new_tokens=4, updates=100, eos=0).clip
    0.2
    """

    beta: float  # nats of divergence from the reference that a point of score is worth; row 1
    learning_rate: float  # of the policy at the first update
    rollout: int  # responses sampled for an update
    max_new_tokens: int  # tokens of a response at most
    updates: int  # the length of the run: the learning rate falls to 0 over it; row 23
    eos: int  # the token that ends a response: an action like any other; row 17
    allowed_tokens: tuple[int, ...] | None = None  # what may be written, eos included; None: every token
    seed: int = 0  # of the prompts' order, the samples and the minibatches
    temperature: float = 1.0  # divides the logits of policy and reference, when sampling and when scoring; row 15
    epochs: int = 2  # how often each response is learned from; row 21
    minibatches: int = 4  # steps in an epoch; row 21
    clip: float = 0.2  # how far from 1 a probability ratio still pays; row 13
    value_clip: float | None = 0.2  # how far a value may move from that of the rollout; None: freely; row 9
    gamma: float = 1.0  # no discount: a word early in a sentence matters as much; row 11
    lam: float = 0.95  # λ of the advantages; row 11
    whiten_advantages: bool = True  # row 12
    whiten_rewards: bool = False  # divides token rewards by their standard deviation, and β with them; row 5
    score_clip: float | None = None  # limits the score to ± this, which changes the objective; row 6
    truncation_penalty: float = 0.0  # taken off the score of a response without end token; row 18
    kl_target: float | None = None  # nats a response; given: β adapts to it; row 20
    kl_horizon: int = 10_000  # responses over which β adapts; row 20
    kl_stop: float | None = None  # ends the update before a step beyond so many nats a token; row 22
    critic_learning_rate: float | None = None  # None: as the policy's
    gradient_clip: float | None = 1.0  # the largest norm of each network's gradient
    adam_eps: float = 1e-5  # row 23

    def __post_init__(self) -> None:
        if self.allowed_tokens is not None:
            object.__setattr__(self, "allowed_tokens", tuple(self.allowed_tokens))
        whole = "rollout", "max_new_tokens", "updates", "epochs", "minibatches", "kl_horizon"
        check_whole_numbers({name: (getattr(self, name), 4) for name in whole})
        check_whole_numbers({"eos": (self.eos, 0)}, least=0)
        check_seed(self.seed)
        for name in ("learning_rate", "temperature", "clip", "adam_eps"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name}={value!r} must be a finite number above 0; {name}=0.2 works")
        optional = "value_clip", "score_clip", "kl_target", "kl_stop", "critic_learning_rate", "gradient_clip"
        for name in optional:
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name}={value!r} must be above 0, or None to leave it out; {name}=0.2 works")
        for name in ("beta", "truncation_penalty"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name}={getattr(self, name)!r} must be a finite number of at least 0; 0.5 works")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must lie in 0 … 1; {name}=1.0 works")
        if self.minibatches > self.rollout:
            raise ValueError(
                f"minibatches={self.minibatches} of a rollout={self.rollout} would leave some empty; "
                f"minibatches={self.rollout} works"
            )
        if self.allowed_tokens is not None and self.eos not in self.allowed_tokens:
            raise ValueError(
                f"allowed_tokens={self.allowed_tokens!r} leaves out eos={self.eos}, so no response could end; "
                f"allowed_tokens={(*self.allowed_tokens, self.eos)!r} works"
            )
        if self.kl_target is not None and self.beta == 0:
            raise ValueError(f"beta=0 with kl_target={self.kl_target}: β is multiplied and stays 0; beta=0.1 works")
