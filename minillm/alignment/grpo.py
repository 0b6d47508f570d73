"""GRPO and RLOO: no critic. Several answers to one prompt, and each is judged by what the others earned.

    R_i = score_i - β log π_old/π_ref(y_i)                  what answer i of a group of G earns, k1 in the reward
    A_i = R_i - mean_{j ≠ i} R_j = G/(G-1) (R_i - mean R)   for every token of answer i: RLOO
    A_i = (R_i - mean R) / sd R                             with `divide_by_sd`: GRPO's

The mean of the *others* knows nothing of answer i, so taking it away leaves the gradient of J as it is, on average.
Dividing by the spread of the group does not: each prompt then weighs 1 / sd, the clear and the hopeless ones most, and
how far apart two answers are no longer counts, since with G = 2 every pair gives ±0.707. For a reward of 0 or 1, with p
the chance of 1, it climbs 2 arcsin √p in place of p.

Paper:   Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!" (ICLR workshop); Ahmadian et al. 2024,
         "Back to Basics", arXiv:2402.14740, §3.3 (RLOO); Shao et al. 2024, "DeepSeekMath", arXiv:2402.03300, §4.1
         (GRPO); what its divisions do: Liu et al. 2025, "Understanding R1-Zero-Like Training", arXiv:2503.20783.
Names:   G is `group`, A_i the same number at all tokens of `advantage_bt`.
Differs: the rest is PPO as it stands: sampling, the clipped loss, k1 in the reward. GRPO as printed divides by the
         length of each answer, and puts the estimator k3 of the divergence into the loss: that has another optimum.
Next:    minillm/alignment/laboratory.py
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from minillm.alignment.experience import Experience
from minillm.alignment.ppo import PPO, Reward
from minillm.alignment.ppo_config import PPOConfig
from minillm.alignment.responses import Responses
from minillm.neural.language_model import LanguageModel

_OF_THE_CRITIC = "value_clip", "gamma", "lam", "critic_learning_rate"


@dataclass(frozen=True, kw_only=True, slots=True)
class GRPOConfig(PPOConfig):
    """A `PPOConfig` for groups of answers; what belongs to the critic must stay as it is, since there is none.

    >>> GRPOConfig(beta=0.5, learning_rate=1e-3, rollout=256, max_new_tokens=4, updates=100, eos=0, group=8).prompts
    32
    """

    group: int = 8  # answers to each prompt; `rollout` holds whole groups
    divide_by_sd: bool = False  # GRPO's division, which weighs prompts anew
    whiten_advantages: bool = False  # as in PPO; here it would take away a mean that is 0 on average

    def __post_init__(self) -> None:
        PPOConfig.__post_init__(self)  # super() does not work in a dataclass with slots
        if type(self.group) is not int or self.group < 2:
            raise ValueError(f"group={self.group!r} must be at least 2: an answer needs another to be compared with")
        if self.rollout % self.group:
            raise ValueError(
                f"rollout={self.rollout} does not hold whole groups of {self.group} answers; "
                f"rollout={self.group * (self.rollout // self.group + 1)} works"
            )
        usual = {field.name: field.default for field in fields(PPOConfig)}
        for name in _OF_THE_CRITIC:
            if getattr(self, name) != usual[name]:
                raise ValueError(f"{name}={getattr(self, name)!r} belongs to a critic, and GRPO has none; leave it out")

    @property
    def prompts(self) -> int:
        """How many prompts, or repetitions of one, are answered in an update."""
        return self.rollout // self.group


class GRPO(PPO):
    """PPO whose critic is the group. What a record says of a critic says nothing here.

    With `divide_by_sd` the advantages keep the deviation 1 to the end, so that they no longer show when it is reached.

    >>> from minillm.transformer.decoder import Decoder, gpt2
    >>> policy = Decoder(gpt2(vocabulary=5, context=9, n_layer=1, n_head=2, d_model=4))
    >>> config = GRPOConfig(beta=0.1, learning_rate=1e-2, rollout=64, max_new_tokens=3, updates=20, eos=0)
    >>> grpo = GRPO(policy, policy, lambda prompts, responses: [float(4 in text) for text in responses], config)
    >>> rows = [grpo.update([[1], [2, 3]]) for _ in range(20)]
    >>> rows[0].score < 0.6, rows[-1].score > 0.9
    (True, True)
    """

    config: GRPOConfig

    def __init__(self, policy: LanguageModel, reference: LanguageModel, reward: Reward, config: GRPOConfig) -> None:
        super().__init__(policy, reference, reward, config, critic=nn.Identity())

    def deal(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Prompts in turn, each `group` times in a row."""
        some = super().deal(prompts)[: self.config.prompts]
        return [list(prompt) for prompt in some for _ in range(self.config.group)]

    def values(self, responses: Responses) -> Tensor:
        """Nothing is expected: the baseline is in the advantages."""
        return torch.zeros(responses.real_bt.shape, device=responses.length_b.device)

    def value_loss(self, batch: Experience) -> Tensor:
        """Nobody guesses, so nobody is wrong."""
        return torch.zeros(())

    def advantages(self, reward_bt: Tensor, value_bt: Tensor, real_bt: Tensor) -> Tensor:
        """What each answer earned beyond the others of its group, at each of its tokens."""
        return_b = torch.where(real_bt, reward_bt, 0.0).sum(1)
        advantage_b = group_advantages(return_b, self.config.group, divide_by_sd=self.config.divide_by_sd)
        return torch.where(real_bt, advantage_b[:, None], 0.0)


def group_advantages(return_b: Tensor, group: int, *, divide_by_sd: bool = False) -> Tensor:
    """The advantages (b,) of answers that stand group by group: beyond the mean of the others, or in units of the sd.

    Raises ValueError when the rows are not whole groups.

    >>> group_advantages(torch.tensor([1.0, 3.0, 8.0, 5.0, 5.0, 5.0]), group=3)
    tensor([-4.5000, -1.5000,  6.0000,  0.0000,  0.0000,  0.0000])
    >>> group_advantages(torch.tensor([0.0, 0.1]), group=2, divide_by_sd=True)
    tensor([-0.7071,  0.7071])
    """
    if group < 2 or len(return_b) % group:
        raise ValueError(f"{len(return_b)} rows are not whole groups of group={group} answers, at least 2 in each")
    earned = return_b.unflatten(0, (-1, group))
    earned = earned - earned[:, :1]  # equal answers become 0 here, not what rounding leaves of a mean
    beyond = earned - earned.mean(1, keepdim=True)
    if not divide_by_sd:
        return (beyond * (group / (group - 1))).flatten()
    sd = earned.std(1, keepdim=True)  # n - 1 below
    return torch.where(sd > 0, beyond / sd, 0.0).flatten()
