"""Beam search: carry on the few best beginnings of a sequence at once, instead of the single best one.

    score(y) = log P(y) / lp(|y|),     lp(n) = ((5 + n) / 6)^α

At every step each beginning is tried with every token, and the best `beam` of all those stay. One that ends leaves the
beam and takes its place with it, so the search is over when `beam` sequences have ended. A beam of 1 is greedy search.
Every further token makes log P smaller, so without lp (α = 0) short sequences win; α = 1 is nearly the mean per token.

Paper:   Sutskever, Vinyals & Le 2014, §3.2, arXiv:1409.3215 (ended ones leave the beam); Wu et al. 2016, "Google's
         Neural Machine Translation System", §7, equation 14, arXiv:1609.08144 (lp).
Names:   α is `length_penalty`; |y| counts the token end, as log P does.
Differs: no coverage penalty, and no pruning of candidates far below the best. lp ranks what has ended; within the beam
         all beginnings have one length, and log P ranks them.
Next:    minillm/neural/seq2seq.py
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minillm.core.settings import check_whole_numbers

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]  # tokens (rows,) and their state: logits (rows, v) and the new state
Select = Callable[[Any, Tensor], Any]  # a state, and int64 numbers of rows: the state of those rows, in that order


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypothesis:
    """A sequence that a search has found."""

    tokens: list[int]  # without begin and end
    logprob: float  # in nats, of the tokens and, if it was written, of end
    score: float  # what it is ranked by
    ended: bool  # False: it was cut off at max_tokens


def length_normaliser(n: int, length_penalty: float) -> float:
    """What log P of n tokens (end counted) is divided by.

    >>> length_normaliser(7, 1.0), length_normaliser(7, 0.0)
    (2.0, 1.0)
    """
    return ((5 + n) / 6) ** length_penalty


@torch.no_grad()
def beam_search(
    step: Step,
    select: Select,
    state: Any,
    rows: int,
    *,
    begin: int,
    end: int,
    max_tokens: int,
    beam: int = 4,
    length_penalty: float = 0.6,
    device: torch.device | str = "cpu",
) -> list[list[Hypothesis]]:
    """Up to `beam` sequences for each of the `rows` of `state`, the best first; those cut off come after all others.

    `state` belongs to `rows` sequences that have not begun; `step` is asked for the tokens after `begin`. `select` both
    multiplies rows (each becomes `beam` neighbours) and picks those that stay, so it must take a row more than once.
    No sequence gets more than `max_tokens` tokens, end counted.

    >>> def step(token_b, state):                # a chain of two tokens and the end, 2: what follows 0, and what 1
    ...     table = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.0, 0.9]]).log()
    ...     return table[token_b.clamp(max=1)], state
    >>> def found(beam):
    ...     best = beam_search(step, lambda state, rows: state, None, 1, begin=0, end=2, max_tokens=3, beam=beam)[0][0]
    ...     return best.tokens, round(math.exp(best.logprob), 3), best.ended
    >>> found(1), found(2)
    (([0, 0, 0], 0.125, False), ([1], 0.27, True))
    """
    _check(rows, max_tokens, beam, length_penalty)
    found: list[list[Hypothesis]] = [[] for _ in range(rows)]
    searching = list(range(rows))  # the rows that still have beginnings; the state holds `beam` neighbours for each
    state = select(state, torch.arange(rows, device=device).repeat_interleave(beam))
    tokens_bnt = torch.full((rows, beam, 1), begin, device=device)
    logprob_bn = torch.full((rows, beam), -math.inf, device=device)  # -inf: an empty place in the beam
    logprob_bn[:, 0] = 0.0  # one beginning each

    for length in range(1, max_tokens + 1):
        logits, state = step(tokens_bnt[:, :, -1].flatten(), state)
        free_b = torch.tensor([beam - len(found[row]) for row in searching], device=device)
        parent, tokens, logprob = best_candidates(logits, tokens_bnt, logprob_bn, free_b)

        stops = (tokens[:, :, -1] == end) | (length == max_tokens)
        for b, n in (stops & (logprob > -math.inf)).nonzero().tolist():
            nats, ids = float(logprob[b, n]), tokens[b, n, 1:].tolist()
            ended = ids[-1] == end
            score = nats / length_normaliser(length, length_penalty)
            found[searching[b]].append(
                Hypothesis(tokens=ids[:-1] if ended else ids, logprob=nats, score=score, ended=ended)
            )

        logprob = logprob.masked_fill(stops, -math.inf)
        go_on = (logprob > -math.inf).any(dim=1)
        searching = [row for row, goes_on in zip(searching, go_on.tolist(), strict=True) if goes_on]
        if not searching:
            break
        rows_before = torch.arange(len(parent), device=device)[:, None] * beam + parent  # whose state each continues
        state = select(state, rows_before[go_on].flatten())
        tokens_bnt, logprob_bn, free_b = tokens[go_on], logprob[go_on], free_b[go_on]
    return [sorted(row, key=lambda one: (one.ended, one.score), reverse=True) for row in found]


def best_candidates(
    logits: Tensor, tokens_bnt: Tensor, logprob_bn: Tensor, free_b: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each row's n beginnings, as many as places are `free_b`, in order.

    `logits` are (b · n, v). Returns which beginning each continues (b, n), its tokens (b, n, t + 1), and its log P
    (b, n), -inf where no place is free or no candidate is left.
    """
    beam, v = logprob_bn.shape[1], logits.shape[-1]
    if bool(logits.isnan().any()):
        raise ValueError("logits has NaN in it, so no token is the best; look for a model that has diverged")
    candidate_bnv = logprob_bn[:, :, None] + _wide(logits).log_softmax(dim=-1).unflatten(0, (-1, beam))
    best_bn, place_bn = candidate_bnv.flatten(1).topk(beam)
    parent_bn, token_bn = place_bn // v, place_bn % v
    history_bnt = tokens_bnt.gather(1, parent_bn[:, :, None].expand_as(tokens_bnt))
    free_bn = torch.arange(beam, device=logits.device) < free_b[:, None]
    return parent_bn, torch.cat([history_bnt, token_bn[:, :, None]], dim=2), best_bn.masked_fill(~free_bn, -math.inf)


def _wide(logits: Tensor) -> Tensor:
    """At least 32 bits: sums of log P in 16 bits would not tell candidates apart."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _check(rows: int, max_tokens: int, beam: int, length_penalty: float) -> None:
    check_whole_numbers({"rows": (rows, 1), "max_tokens": (max_tokens, 50), "beam": (beam, 4)})
    if not 0 <= length_penalty < math.inf:
        raise ValueError(
            f"length_penalty={length_penalty!r} must be 0 (none) or above; 0.6 is Wu et al.'s kind of value"
        )
