"""Responses: prompts and what was written after them, side by side, with the log-probability of every token written.

    log π(y | x) = Σ_t log π(y_t | x, y_<t),      π = softmax(logits / T) over the tokens that are allowed

Responses are drawn with the prompts filled up on the left, so that all rows write at once, and read back with the
filling on the right, where no model that looks only back can see it. What is real is known from lengths alone: the
filling has no token of its own, and a token that looks like it counts like any other.

Paper:   Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences", arXiv:1909.08593, §2; padding and
         positions: Huang et al. 2024, "The N Implementation Details of RLHF with PPO", arXiv:2403.17031, details 3-6.
Names:   `tokens_bs` is prompt and response, `chosen_bt` the response alone; the end token is a token of the response.
Differs: "row 25" and the like are the details that `minillm/alignment/ppo.py` numbers; each has a test.
Next:    minillm/alignment/advantage.py
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minillm.core.modes import switched
from minillm.neural.language_model import LanguageModel
from minillm.transformer.generate import generate


@dataclass(frozen=True, kw_only=True, slots=True)
class Responses:
    """Rows of tokens, each a prompt and its response, and where the one ends and the other begins."""

    tokens_bs: Tensor  # int64: prompt, response, then filling
    start_b: Tensor  # the length of each prompt
    length_b: Tensor  # the length of each response, its end token included
    steps: int  # the width t of everything that has one column for each token of the response

    @property
    def real_bt(self) -> Tensor:
        """Which places of (b, t) hold a token of the response. Row 28: from lengths, never from a token's number."""
        return torch.arange(self.steps, device=self.length_b.device) < self.length_b[:, None]

    @property
    def before_bt(self) -> Tensor:
        """The place in `tokens_bs` from which each token is predicted: the one before it (row 10)."""
        step_t = torch.arange(self.steps, device=self.start_b.device)
        return (self.start_b[:, None] - 1 + step_t).clamp(max=self.tokens_bs.shape[1] - 2)

    @property
    def chosen_bt(self) -> Tensor:
        """The tokens of the responses."""
        return self.tokens_bs.gather(1, self.before_bt + 1)

    @property
    def last_b(self) -> Tensor:
        """The column of each response's last token."""
        return self.length_b - 1

    def __len__(self) -> int:
        return len(self.length_b)

    def rows(self, index: Tensor) -> "Responses":
        """Some of the rows, at the same width."""
        return replace(
            self, tokens_bs=self.tokens_bs[index], start_b=self.start_b[index], length_b=self.length_b[index]
        )


def side_by_side(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], device: torch.device | str = "cpu"
) -> Responses:
    """Put each prompt and its response into a row. Raises ValueError when one of them is empty.

    >>> rows = side_by_side([[7], [7, 8]], [[1, 2, 3], [4]])
    >>> rows.tokens_bs.tolist(), rows.chosen_bt[0].tolist(), rows.real_bt[1].tolist()
    ([[7, 1, 2, 3], [7, 8, 4, 0]], [1, 2, 3], [True, False, False])
    """
    if len(prompts) != len(responses) or not prompts:
        raise ValueError(f"{len(prompts)} prompts and {len(responses)} responses; each prompt needs one, and one works")
    for name, texts in (("prompts", prompts), ("responses", responses)):
        if not all(map(len, texts)):
            raise ValueError(f"{name}[{[len(x) for x in texts].index(0)}]=[] is empty; at least one token works")
    lines = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    longest = max(map(len, lines))
    return Responses(
        tokens_bs=torch.tensor([line + [0] * (longest - len(line)) for line in lines], device=device),
        start_b=torch.tensor([len(prompt) for prompt in prompts], device=device),
        length_b=torch.tensor([len(response) for response in responses], device=device),
        steps=max(map(len, responses)),
    )


def sample_responses(
    policy: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    eos: int,
    *,
    temperature: float = 1.0,
    allowed_v: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Draw a response to each prompt, up to and with the end token `eos`, or of `max_new_tokens` without it.

    From the whole distribution: no top-k, no top-p (row 16), since what is never drawn can never be put right. Nor is
    a prompt ever cut (row 26): one that leaves too little room raises ValueError, so that it ends as it was given.
    `allowed_v`, boolean (v,), is part of the policy itself: whoever scores these responses must give it too.

    >>> from minillm.transformer.decoder import Decoder, gpt2
    >>> policy = Decoder(gpt2(vocabulary=5, context=9, n_layer=1, n_head=2, d_model=4))
    >>> drawn = sample_responses(policy, [[1], [2, 3]], 4, eos=0, generator=torch.Generator().manual_seed(1))
    >>> [len(response) <= 4 and 0 not in response[:-1] for response in drawn]
    [True, True]
    """
    adjust = None if allowed_v is None else (lambda logits_bv, rows: only(logits_bv, allowed_v))
    rows = [list(prompt) for prompt in prompts]
    texts = generate(policy, rows, max_new_tokens, temperature, generator, stop_tokens=(eos,), adjust=adjust)
    return [text[len(row) :] for text, row in zip(texts, rows, strict=True)]


def next_log_probabilities(
    model: LanguageModel, responses: Responses, temperature: float = 1.0, allowed_v: Tensor | None = None
) -> Tensor:
    """The log-probability (b, t, v) of every token at every step of the responses, whether it was chosen or not.

    The one way in which policy and reference are read, when the rollout is scored and when it is learned from
    (rows 2, 14, 15): in float32, without dropout (row 24), at the temperature of the rollout.
    """
    first = int(responses.start_b.min()) - 1  # the places before it predict the prompts
    # Most often the model is switched already, and to look at every module of a small one takes as long as reading.
    with switched(model, training=False) if model.training else nullcontext():
        logits = model.logits(responses.tokens_bs[:, :-1])[:, first:]
    place_btv = (responses.before_bt - first)[..., None].expand(-1, -1, logits.shape[-1])
    logits_btv = logits.gather(1, place_btv).float()
    return only(logits_btv, allowed_v).div(temperature).log_softmax(-1)


def chosen_log_probabilities(log_p_btv: Tensor, responses: Responses) -> Tensor:
    """Of those, the log-probabilities (b, t) of the tokens that were written, 0 after the end.

    >>> rows = side_by_side([[7], [7]], [[1, 0], [2]])
    >>> chosen_log_probabilities(torch.log(torch.tensor([0.1, 0.3, 0.6])).expand(2, 2, 3), rows).exp()
    tensor([[0.3000, 0.1000],
            [0.6000, 1.0000]])
    """
    chosen_bt = log_p_btv.gather(-1, responses.chosen_bt[..., None])[..., 0]
    return torch.where(responses.real_bt, chosen_bt, 0.0)


def entropies(log_p_btv: Tensor, responses: Responses) -> Tensor:
    """How undecided the model was at each step, in nats (b, t), from all tokens and not only the chosen; 0 after."""
    return torch.where(responses.real_bt, torch.special.entr(log_p_btv.exp()).sum(-1), 0.0)


def divergences(log_p_btv: Tensor, log_q_btv: Tensor, responses: Responses) -> Tensor:
    """KL(p ‖ q) of the next token at each step, in nats (b, t), from all tokens; 0 after the end."""
    p_btv = log_p_btv.exp()
    nats_btv = torch.where(p_btv > 0, p_btv * (log_p_btv - log_q_btv), 0.0)  # what is forbidden would give 0 · nan
    return torch.where(responses.real_bt, nats_btv.sum(-1), 0.0)


def only(logits: Tensor, allowed_v: Tensor | None) -> Tensor:
    """The logits (…, v), with those of forbidden tokens at -inf."""
    return logits if allowed_v is None else logits.masked_fill(~allowed_v, -torch.inf)


def mask_of(allowed_tokens: Sequence[int] | None, vocabulary: int, device: torch.device | str = "cpu") -> Tensor | None:
    """Which tokens may be written, boolean (v,); None: all of them.

    >>> mask_of([0, 2], vocabulary=4)
    tensor([ True, False,  True, False])
    """
    if allowed_tokens is None:
        return None
    if unknown := [token for token in allowed_tokens if not 0 <= token < vocabulary]:
        raise ValueError(f"allowed_tokens holds {unknown[0]}, but tokens go from 0 to {vocabulary - 1}")
    allowed_v = torch.zeros(vocabulary, dtype=torch.bool, device=device)
    allowed_v[list(allowed_tokens)] = True
    return allowed_v
