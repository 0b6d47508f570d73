"""Masked language modelling: hide some tokens, ask for them, and look at both sides to answer.

    share 15 % of a text's tokens are asked for; of these 80 % are replaced by [MASK], 10 % by any token, 10 % stay
    loss = mean of -log p(token that was there) over the tokens that are asked for

Why not always [MASK]: it never occurs when the network is used. A token that is asked for and yet stands there, true
or false, forces a good vector for every token, not only for masks. What is hidden together makes the family:

    "token"   each by itself                                                 BERT
    "word"    all tokens of a word, or of a name when units are names        BERT's whole words, ERNIE
    "span"    stretches of geometric length, at most 10, 3.8 in the mean     SpanBERT

Paper:   Devlin et al. 2019, "BERT", §3.1, arXiv:1810.04805; drawn anew at every visit: Liu et al. 2019, "RoBERTa",
         §4.1, arXiv:1907.11692; Sun et al. 2019, "ERNIE", §3.2, arXiv:1904.09223; Joshi et al. 2020, "SpanBERT",
         §3.1, arXiv:1907.10529.
Names:   SpanBERT's p and ℓmax are `span_p` and `longest_span`.
Differs: the number that is asked for is exact in every row (the share, rounded, at least 1; a last span is cut to fit,
         a word that does not fit is left), so no batch asks for nothing. Random tokens are never special ones. SpanBERT
         replaces a whole span in one way, as here; its spans begin with a word, ours with any token, and it has
         a second objective, to tell a span from its borders.
Next:    minillm/transformer/encoder.py
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from minillm.transformer.encoder_batches import IGNORE, SpecialTokens, TextBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Masking:
    """What is hidden, how much of it, and what stands there instead."""

    vocabulary: int  # random tokens come from here
    special: SpecialTokens  # never hidden, never drawn
    kind: Literal["token", "word", "span"] = "token"
    share: float = 0.15  # of the tokens that are not special
    masked: float = 0.8  # of those: [MASK]
    random: float = 0.1  # of those: a random token; the rest stay what they are
    span_p: float = 0.2  # a span ends after each token with this probability
    longest_span: int = 10  # lengths beyond are drawn again

    def __post_init__(self) -> None:
        if self.kind not in ("token", "word", "span"):
            raise ValueError(f"kind={self.kind!r} must be 'token', 'word' or 'span'")
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share!r} must be above 0 and at most 1; 0.15 is BERT's")
        if not (self.masked >= 0 and self.random >= 0 and self.masked + self.random <= 1 + 1e-12):
            raise ValueError(
                f"masked={self.masked!r} and random={self.random!r} are shares of one whole; 0.8, 0.1 works"
            )
        if not (0 < self.span_p <= 1 and self.longest_span >= 1):
            raise ValueError(
                f"span_p={self.span_p!r} must be above 0 and at most 1, longest_span={self.longest_span!r} at least 1; "
                "0.2 and 10 are SpanBERT's"
            )
        if max(self.special.ids) >= self.vocabulary or len(set(self.special.ids)) >= self.vocabulary:
            raise ValueError(
                f"vocabulary={self.vocabulary!r} must hold the special tokens {self.special.ids} and one more; "
                f"vocabulary={max(self.special.ids) + 2} works"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedBatch:
    """What the network sees, and what it is asked: `target_bt` is IGNORE wherever nothing is asked.

    The last three fields are for tasks beside or beyond BERT's: see `objectives.glm_batch`.
    """

    tokens_bt: Tensor  # with the replacements
    target_bt: Tensor  # the token that was there
    length_b: Tensor
    segment_bt: Tensor | None = None
    label_b: Tensor | None = None  # 0: the second text follows the first, 1: it does not; None: not asked
    position_bt: Tensor | None = None  # None: 0, 1, 2, …
    prefix_length_b: Tensor | None = None  # None: all see all; else tokens from here on see only what is before them

    def to(self, device: torch.device | str) -> "MaskedBatch":
        """The same batch on another device."""
        fields = (name for name in self.__dataclass_fields__ if getattr(self, name) is not None)
        return replace(self, **{name: getattr(self, name).to(device) for name in fields})


def mask(batch: TextBatch, masking: Masking, generator: torch.Generator, unit_bt: Tensor | None = None) -> MaskedBatch:
    """Hide tokens of a batch, drawn from `generator`: masked anew at every call, as in RoBERTa.

    `unit_bt`, for kind "word", numbers the unit that each token belongs to: neighbours with one number are hidden
    together; see `word_units`. A label (b,) of the batch is taken along as the next-sentence question.

    >>> special = SpecialTokens(cls=1, sep=2, mask=3)
    >>> masking = Masking(vocabulary=20, special=special, share=0.5)
    >>> batch = TextBatch.of([[11, 12, 13, 14]], special)
    >>> masked = mask(batch, masking, torch.Generator().manual_seed(0))
    >>> int((masked.target_bt != IGNORE).sum())
    2
    """
    if (unit_bt is None) == (masking.kind == "word"):
        raise ValueError(
            f"kind={masking.kind!r} with unit_bt={'None' if unit_bt is None else '…'}: units and 'word' go together"
        )
    candidate_bt = candidates(batch, masking.special)
    if masking.kind == "token":
        chosen_bt = _single_tokens(candidate_bt, masking.share, generator)
        group_bt = torch.arange(chosen_bt.numel()).view_as(chosen_bt)  # each token's replacement is its own draw
    else:
        chosen_bt, group_bt = _grouped(candidate_bt, masking, generator, unit_bt)
    return MaskedBatch(
        tokens_bt=_replaced(batch.tokens_bt, chosen_bt, group_bt, masking, generator),
        target_bt=batch.tokens_bt.masked_fill(~chosen_bt, IGNORE),
        length_b=batch.length_b,
        segment_bt=batch.segment_bt,
        label_b=batch.label if batch.label is not None and batch.label.ndim == 1 else None,
    )


def candidates(batch: TextBatch, special: SpecialTokens) -> Tensor:
    """True where a token may be hidden: it is no padding and not special; (b, t)."""
    inside_bt = torch.arange(batch.tokens_bt.shape[1]) < batch.length_b[:, None]
    return inside_bt & ~torch.isin(batch.tokens_bt, torch.tensor(special.ids))


def word_units(batch: TextBatch, begins_word: Sequence[bool] | Tensor) -> Tensor:
    """Number the words of a batch for kind "word": `begins_word[token]` is True where a token can only begin a word.

    For byte pair encoding in GPT-2's manner these are the tokens with a space in front.

    >>> batch = TextBatch.of([[4, 5, 5, 4]], SpecialTokens(cls=1, sep=2, mask=3))
    >>> word_units(batch, [True, True, True, True, True, False]).tolist()
    [[0, 1, 1, 1, 2, 3]]
    """
    begins = torch.as_tensor(begins_word)[batch.tokens_bt]
    begins[:, :2] = True  # [CLS], and whatever comes first
    return begins.cumsum(dim=1) - 1


def span_lengths(n: int, masking: Masking, generator: torch.Generator) -> list[int]:
    """Draw n lengths, 1 … longest_span, with probability ∝ (1 - p)^(length - 1)."""
    share = (1 - masking.span_p) ** torch.arange(masking.longest_span, dtype=torch.float64)
    steps = share.cumsum(dim=0) / share.sum()
    u_n = torch.rand(n, generator=generator, dtype=torch.float64)
    return (torch.searchsorted(steps, u_n, right=True).clamp(max=masking.longest_span - 1) + 1).tolist()


def _wanted(candidate_bt: Tensor, share: float) -> Tensor:
    """How many tokens of each row to ask for: the share, rounded, at least one where there is any; (b,)."""
    count_b = candidate_bt.sum(dim=1)
    return (count_b * share).add(0.5).floor().long().clamp(min=1).minimum(count_b)


def _single_tokens(candidate_bt: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Each row's tokens in a random order, the candidates first; the first of them are chosen."""
    u_bt = torch.rand(candidate_bt.shape, generator=generator, dtype=torch.float64)
    rank_bt = u_bt.masked_fill(~candidate_bt, 2.0).argsort(dim=1, stable=True).argsort(dim=1)
    return rank_bt < _wanted(candidate_bt, share)[:, None]


def _grouped(
    candidate_bt: Tensor, masking: Masking, generator: torch.Generator, unit_bt: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Chosen tokens, and which tokens share one draw of their replacement; row by row."""
    chosen_bt = torch.zeros_like(candidate_bt)
    group_bt = torch.arange(candidate_bt.numel()).view_as(candidate_bt).clone()
    for row, wanted in enumerate(_wanted(candidate_bt, masking.share).tolist()):
        runs = _runs(candidate_bt[row].tolist(), None if unit_bt is None else unit_bt[row].tolist())
        pieces = _spans(runs, wanted, masking, generator) if unit_bt is None else _words(runs, wanted, generator)
        for start, stop in pieces:
            chosen_bt[row, start:stop] = True
            if unit_bt is None:  # SpanBERT replaces a span in one way; the tokens of a word go each its own
                group_bt[row, start:stop] = group_bt[row, start].item()
    return chosen_bt, group_bt


def _runs(candidate: list[bool], units: list[int] | None) -> list[tuple[int, int]]:
    """Stretches (start, stop) of candidates; with units, cut where the unit changes."""
    runs: list[tuple[int, int]] = []
    for place, allowed in enumerate(candidate):
        if not allowed:
            continue
        goes_on = runs and runs[-1][1] == place and (units is None or units[place] == units[place - 1])
        start = runs.pop()[0] if goes_on else place
        runs.append((start, place + 1))
    return runs


def _words(runs: list[tuple[int, int]], wanted: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Whole units in random order, each that still fits; if none fits, the shortest."""
    order = torch.rand(len(runs), generator=generator, dtype=torch.float64).argsort().tolist()
    chosen: list[tuple[int, int]] = []
    for start, stop in (runs[i] for i in order):
        if stop - start <= wanted:
            chosen.append((start, stop))
            wanted -= stop - start
    return chosen or ([min(runs, key=lambda run: run[1] - run[0])] if runs else [])


def _spans(
    runs: list[tuple[int, int]], wanted: int, masking: Masking, generator: torch.Generator
) -> list[tuple[int, int]]:
    """Spans that begin at any token not yet hidden, until enough are; cut where they meet a border or each other."""
    free = [place for run in runs for place in range(*run)]
    stop_of = {place: run[1] for run in runs for place in range(*run)}
    chosen: list[tuple[int, int]] = []
    while wanted:
        length = min(wanted, span_lengths(1, masking, generator)[0])
        start = free[int(torch.rand((), generator=generator, dtype=torch.float64) * len(free))]
        taken = {place for span in chosen for place in range(*span)}
        stop = start + 1
        while stop < min(start + length, stop_of[start]) and stop not in taken:
            stop += 1
        chosen.append((start, stop))
        free = [place for place in free if not start <= place < stop]
        wanted -= stop - start
    return chosen


def _replaced(
    tokens_bt: Tensor, chosen_bt: Tensor, group_bt: Tensor, masking: Masking, generator: torch.Generator
) -> Tensor:
    """The tokens, with [MASK] or a random token for most of the chosen ones."""
    u_n = torch.rand(tokens_bt.numel(), generator=generator, dtype=torch.float64)
    u_bt = u_n[group_bt]
    ordinary = torch.tensor(sorted(set(range(masking.vocabulary)) - set(masking.special.ids)))
    draw_bt = torch.rand(tokens_bt.shape, generator=generator, dtype=torch.float64)
    random_bt = ordinary[(draw_bt * len(ordinary)).long()]
    to_mask_bt = chosen_bt & (u_bt < masking.masked)
    to_random_bt = chosen_bt & ~to_mask_bt & (u_bt < masking.masked + masking.random)
    return tokens_bt.masked_fill(to_mask_bt, masking.special.mask).where(~to_random_bt, random_bt)
