"""DPO: the policy is its own reward model, so comparisons train it directly: no reward model, no sampling.

    r(x, y) = β log π(y | x) / π_ref(y | x)                                              the implicit reward
    L = -mean p log σ(z) + (1 - p) log σ(-z),    z = r(x, y₁) - r(x, y₂)                  p: y₁ was chosen

The optimum of PPO's objective is π* ∝ π_ref · exp(score / β). Solve it for the score: β log π*/π_ref, and a constant
that depends on x alone and drops out of every difference. Put that into Bradley–Terry, and the loss of a reward model
has become a loss of the policy. Where the comparisons follow Bradley–Terry, both roads end at π*.

Paper:   Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
         arXiv:2305.18290, equations 5 to 7; p other than 0 and 1: Mitchell 2023, "A note on DPO with noisy
         preferences & relationship to IPO"; dividing by length: Meng et al. 2024, "SimPO", arXiv:2405.14734, §2.2.
Names:   y₁ is "the first answer", with p = 1 the paper's y_w; z is `margin_b`.
Differs: p may be any share. With `per_token` r is divided by the length |y| of the answer. That is no longer DPO: the
         policy goes to π_ref · exp(|y| (score + c(x)) / β), where c(x) makes it sum to 1, and no β brings it back.
Next:    minillm/alignment/grpo.py
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.alignment.responses import (
    Responses,
    chosen_log_probabilities,
    mask_of,
    next_log_probabilities,
    side_by_side,
)
from minillm.alignment.reward import Preferred
from minillm.neural.language_model import LanguageModel


@dataclass(frozen=True, kw_only=True, slots=True)
class PairBatch:
    """b comparisons as 2b rows: the first answers, then the second ones, each behind its prompt.

    An answer holds its end token: a model that is not asked about the end cannot learn when to stop.

    >>> batch = PairBatch.of([Preferred([7], [1, 0], [2, 3, 0])])
    >>> batch.responses.chosen_bt.tolist(), batch.first_wins_b.tolist()
    ([[1, 0, 0], [2, 3, 0]], [1.0])
    """

    responses: Responses
    first_wins_b: Tensor  # how likely, or how often, the first answer is preferred

    @classmethod
    def of(
        cls,
        pairs: Sequence[Preferred],
        first_wins: Sequence[float] | None = None,
        device: torch.device | str = "cpu",
    ) -> "PairBatch":
        """The better answers as the first ones, which win always, or as often as `first_wins` says.

        Raises ValueError for a prompt or an answer without a token, and for shares outside 0 … 1.
        """
        share_b = torch.ones(len(pairs)) if first_wins is None else torch.tensor([float(p) for p in first_wins])
        if len(share_b) != len(pairs) or not bool(((share_b >= 0) & (share_b <= 1)).all()):
            raise ValueError(
                f"first_wins={first_wins!r:.60} must hold one number from 0 to 1 for each of {len(pairs)} pairs; "
                "0.9 trusts a label nine times out of ten"
            )
        answers = [pair.better for pair in pairs] + [pair.worse for pair in pairs]
        rows = side_by_side([pair.prompt for pair in pairs] * 2, answers, device)
        return cls(responses=rows, first_wins_b=share_b.to(device))


class DPO:
    """What `train` needs to make `policy` prefer what was preferred, at a price of β a nat away from `reference`.

    `policy` is changed in place by an optimiser of its parameters. The reference is only read; when it is the policy
    itself, or shares parameters with it, it becomes a copy. `allowed_tokens` is as in `PPOConfig`.

    >>> from minillm.training.loop import train
    >>> from minillm.training.optim import AdamW
    >>> from minillm.transformer.decoder import Decoder, gpt2
    >>> policy = Decoder(gpt2(vocabulary=5, context=9, n_layer=1, n_head=2, d_model=4))
    >>> dpo = DPO(policy, policy, beta=0.1)
    >>> batch = PairBatch.of([Preferred([1], [2, 0], [3, 3, 0])])
    >>> dpo.loss(batch).item()  # nothing to tell them apart yet: log 2
    0.6931471824645996
    >>> rows = train(dpo, [batch], steps=50, optimizer=AdamW(policy.parameters(), 1e-2))
    >>> rows[-1].loss < 0.6, bool(dpo.margins(batch) > 0)
    (True, True)
    """

    def __init__(
        self,
        policy: LanguageModel,
        reference: LanguageModel,
        beta: float,
        *,
        per_token: bool = False,
        allowed_tokens: Sequence[int] | None = None,
    ) -> None:
        if not (beta > 0 and math.isfinite(beta)):
            raise ValueError(f"beta={beta!r} must be a finite number above 0; beta=0.1 works")
        own = {id(p) for p in policy.parameters()}
        shared = any(id(p) in own for p in reference.parameters())
        self.policy, self.beta, self.per_token = policy, beta, per_token
        self.reference = copy.deepcopy(reference) if shared else reference
        self.allowed_v = mask_of(allowed_tokens, policy.vocabulary, next(policy.parameters()).device)

    def loss(self, batch: PairBatch) -> Tensor:
        """Mean nats of the choices, one number to differentiate."""
        margin_b = self.margins(batch)
        return F.binary_cross_entropy_with_logits(margin_b, batch.first_wins_b.to(margin_b))

    def count(self, batch: PairBatch) -> int:
        """What a batch weighs among others: its comparisons."""
        return len(batch.first_wins_b)

    def margins(self, batch: PairBatch) -> Tensor:
        """z (b,): how much more the policy's implicit reward gives the first answer; above 0 it would choose it."""
        first_b, second_b = self.implicit_rewards(batch.responses).chunk(2)
        return first_b - second_b

    def implicit_rewards(self, responses: Responses) -> Tensor:
        """r (n,): β log π/π_ref of whole answers, or with `per_token` of their tokens on average."""
        with torch.no_grad():
            reference_n = self.log_probabilities(self.reference, responses)
        log_ratio_n = self.log_probabilities(self.policy, responses) - reference_n
        return self.beta * (log_ratio_n / responses.length_b if self.per_token else log_ratio_n)

    def log_probabilities(self, model: LanguageModel, responses: Responses) -> Tensor:
        """log p(y | x) (n,): a sum over the tokens of the answer, the end included; the prompt is given, not scored."""
        log_p_btv = next_log_probabilities(model, responses, allowed_v=self.allowed_v)
        return chosen_log_probabilities(log_p_btv, responses).sum(1)

    def modules(self) -> Iterator[nn.Module]:
        """Those of the policy: `train` has no business with the reference."""
        return self.policy.modules()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of the policy."""
        return self.policy.named_parameters()
