"""Experience: a rollout, and all that was known of it when it was written. The past, which no learning changes.

    x, y, score, log π_old(y_t), log π_ref(y_t), r_t, V_t, A_t, R_t          one row for each response

Paper:   Schulman et al. 2017, arXiv:1707.06347, Algorithm 1: what the first half of its loop leaves for the second.
Names:   `texts` are the responses y as lists, `responses` the same as tensors; R is `return_bt`.
Differs: `tokens`, what a loss is divided by, belongs to the whole rollout, so that minibatches add up to it.
Next:    minillm/alignment/ppo.py
"""

from dataclasses import dataclass, fields, replace

from torch import Tensor

from minillm.alignment.responses import Responses


@dataclass(frozen=True, kw_only=True, slots=True)
class Experience:
    """A rollout with all that is known of it before the policy moves. Each tensor is 0 where no token stands."""

    prompts: list[list[int]]
    texts: list[list[int]]  # the responses
    responses: Responses  # both, as tensors
    score_b: Tensor  # what `reward` said
    logp_bt: Tensor  # of each token, under the policy that wrote it
    reference_logp_bt: Tensor
    entropy_bt: Tensor  # of the policy at each step, over all tokens
    kl_bt: Tensor  # KL(policy ‖ reference) at each step, over all tokens
    reward_bt: Tensor
    value_bt: Tensor
    advantage_bt: Tensor
    return_bt: Tensor
    tokens: float  # the number of real tokens that a loss is the mean over

    @property
    def real_bt(self) -> Tensor:
        """Which places hold a token."""
        return self.responses.real_bt

    def rows(self, index: Tensor, parts: int = 1) -> "Experience":
        """A minibatch; its loss stays a share of the whole rollout's mean over tokens (row 27)."""
        some = {f.name: x[index] for f in fields(self) if isinstance(x := getattr(self, f.name), Tensor)}
        picked = index.tolist()
        return replace(
            self,
            prompts=[self.prompts[i] for i in picked],
            texts=[self.texts[i] for i in picked],
            responses=self.responses.rows(index),
            tokens=self.tokens / parts,
            **some,
        )
