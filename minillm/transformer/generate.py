"""Generate: read the prompts once, then draw a token, read it, draw the next.

    logits = model(prompt);   repeat:  token = sample_next(logits);  logits = model(token | cache of all before)

What was read stays in the cache as keys and values, so a token costs the same whether it is the second or the
thousandth, attention aside. The plain twin (`cached=False`) reads everything again each time and draws the same tokens.

Paper:   Vaswani et al. 2017, arXiv:1706.03762 (drawing from left to right); the cache: Shazeer 2019, arXiv:1911.02150,
         §2.4; repetition penalty: Keskar et al. 2019, "CTRL", §4.1, arXiv:1909.05858; cuts: see `sample_next`.
Names:   `repetition_penalty` is CTRL's θ.
Differs: CTRL divides the logits of tokens that came before by θ, which favours those below zero; as is usual now,
         those are multiplied by it.
Next:    minillm/transformer/packed.py
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from minillm.attention.cache import DecoderCache
from minillm.core.modes import switched
from minillm.neural.language_model import LanguageModel, check_tokens
from minillm.statistical.sampling import sample_next
from minillm.transformer.decoder import Decoder
from minillm.transformer.packed import is_worth_packing, pack

Adjust = Callable[[Tensor, list[list[int]]], Tensor]


@overload
def generate(
    model: LanguageModel,
    tokens_bt: Tensor,
    max_new_tokens: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_tokens: Sequence[int] = (),
    stop_sequences: Sequence[Sequence[int]] = (),
    adjust: Adjust | None = None,
    cached: bool = True,
) -> Tensor: ...
@overload
def generate(
    model: LanguageModel,
    tokens_bt: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_tokens: Sequence[int] = (),
    stop_sequences: Sequence[Sequence[int]] = (),
    adjust: Adjust | None = None,
    cached: bool = True,
) -> list[list[int]]: ...
def generate(
    model: LanguageModel,
    tokens_bt: Tensor | Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_tokens: Sequence[int] = (),
    stop_sequences: Sequence[Sequence[int]] = (),
    adjust: Adjust | None = None,
    cached: bool = True,
) -> Tensor | list[list[int]]:
    """Continue each prompt by up to `max_new_tokens` tokens; what comes back begins with the prompts.

    Prompts of one length are an int64 tensor (b, t) and give a tensor (b, t + new); of unequal length a list of
    lists, and give one. A row ends after one of `stop_tokens`, or as soon as what it drew ends with one of
    `stop_sequences`; both stay in the answer. In a tensor, rows that ended early are filled up with their last token.
    `temperature` (0 is greedy), `top_k` and `top_p` are those of `sample_next`. `repetition_penalty` above 1 makes
    tokens of the row, prompt included, less likely. `adjust(logits_bv, rows)` may change the logits before a draw:
    forbid tokens, force a form. Models without a key-value cache are read anew for each token.

    A step draws one uniform number for every row, also for rows that have ended: what row i draws depends on the
    generator, on i and on the number of rows, never on what the other rows hold. Raises ValueError when the longest
    prompt and `max_new_tokens` together exceed the context: no text is forgotten silently.

    >>> from minillm.transformer.decoder import gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=12, n_layer=1, n_head=2, d_model=4))
    >>> rows = generate(model, [[1, 2, 3], [4]], 5, generator=torch.Generator().manual_seed(0))
    >>> [len(row) for row in rows], [row[:3] for row in rows][0]
    ([8, 6], [1, 2, 3])
    """
    rows = [list(row) for row in (tokens_bt.tolist() if isinstance(tokens_bt, Tensor) else tokens_bt)]
    draw = _Draw(temperature, top_k, top_p, repetition_penalty, adjust, generator)
    stop = _Stop(frozenset(stop_tokens), tuple(map(tuple, stop_sequences)))
    for _ in _rounds(model, rows, max_new_tokens, draw, stop, cached):
        pass
    if not isinstance(tokens_bt, Tensor):
        return rows
    longest = max(map(len, rows))
    return torch.tensor([row + row[-1:] * (longest - len(row)) for row in rows], device=tokens_bt.device)


def stream(
    model: LanguageModel,
    prompt: Sequence[int],
    max_new_tokens: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_tokens: Sequence[int] = (),
    stop_sequences: Sequence[Sequence[int]] = (),
    adjust: Adjust | None = None,
    cached: bool = True,
) -> Iterator[int]:
    """Yield the tokens after one prompt as they are drawn: those that `generate(model, [prompt], …)` would add.

    Nothing is computed before the first token is asked for, nor more than is asked for.
    """
    draw = _Draw(temperature, top_k, top_p, repetition_penalty, adjust, generator)
    stop = _Stop(frozenset(stop_tokens), tuple(map(tuple, stop_sequences)))
    for new in _rounds(model, [list(prompt)], max_new_tokens, draw, stop, cached):
        yield new[0]


@dataclass(frozen=True, slots=True)
class _Draw:
    """How a token is drawn from logits."""

    temperature: float
    top_k: int | None
    top_p: float | None
    repetition_penalty: float
    adjust: Adjust | None
    generator: torch.Generator | None

    def __post_init__(self) -> None:
        if not self.repetition_penalty > 0:
            raise ValueError(f"repetition_penalty={self.repetition_penalty!r} must be above 0; 1.0 changes nothing")

    def __call__(self, logits_bv: Tensor, rows: list[list[int]]) -> list[int]:
        if self.repetition_penalty != 1:
            logits_bv = penalise(logits_bv, rows, self.repetition_penalty)
        if self.adjust is not None:
            logits_bv = self.adjust(logits_bv.clone(), rows)  # a copy that may be changed in place
        return sample_next(logits_bv, self.temperature, self.top_k, self.top_p, self.generator).tolist()


@dataclass(frozen=True, slots=True)
class _Stop:
    """When a row has ended."""

    tokens: frozenset[int]
    sequences: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if () in self.sequences:
            raise ValueError("stop_sequences holds an empty sequence, with which every text ends; leave it out")

    def __call__(self, drawn: list[int]) -> bool:
        return drawn[-1] in self.tokens or any(tuple(drawn[-len(ends) :]) == ends for ends in self.sequences)


def _rounds(
    model: LanguageModel, rows: list[list[int]], max_new_tokens: int, draw: _Draw, stop: _Stop, cached: bool
) -> Iterator[list[int]]:
    """Append a token to each row that has not ended, in place, round by round; yield what was drawn for every row."""
    if not rows or not all(rows):
        raise ValueError(f"tokens_bt={rows!r}: every prompt needs a token to start from; [[end]] starts a new document")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens={max_new_tokens!r} must be at least 0; 20 works")
    longest, context = max(map(len, rows)), getattr(getattr(model, "config", None), "context", None)
    if context is not None and longest + max_new_tokens > context:
        raise ValueError(
            f"max_new_tokens={max_new_tokens} after a prompt of {longest} is {longest + max_new_tokens} tokens, but "
            f"context={context} is the most that this model reads; max_new_tokens={max(0, context - longest)} works"
        )
    start, open_rows = [len(row) for row in rows], set(range(len(rows)))
    with switched(model, training=False):
        reader = CachedReader(model, max_new_tokens) if cached and isinstance(model, Decoder) else Reader(model)
        new: list[int] = []
        for _ in range(max_new_tokens):
            new = draw(reader.read(new, rows), rows)
            for i in sorted(open_rows):
                rows[i].append(new[i])
                if stop(rows[i][start[i] :]):
                    open_rows.remove(i)
            yield new
            if not open_rows:
                return


class Reader:
    """The plain twin: all rows are read from their beginning each time. For every model that looks only back."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.device = model, next(model.parameters()).device

    @torch.inference_mode()
    def read(self, new: list[int], rows: list[list[int]]) -> Tensor:
        """The logits (b, v) of what follows each row."""
        longest = max(map(len, rows))
        tokens_bt = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self.device)
        logits_btv = self.model.logits(tokens_bt)
        return logits_btv[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]


class CachedReader:
    """Reads the prompts once, then only what is new. Prompts of unequal length are filled up on the left."""

    def __init__(self, model: Decoder, max_new_tokens: int) -> None:
        self.device, self.max_new_tokens = model.embedding.weight.device, max_new_tokens
        self.model, self.cache = pack(model) if is_worth_packing(model, max_new_tokens) else model, None

    @torch.inference_mode()
    def read(self, new: list[int], rows: list[list[int]]) -> Tensor:
        """The logits (b, v) of what follows each row; `new` holds what was drawn since the last call."""
        if self.cache is not None:
            if max(new) >= self.model.vocabulary:  # looked at here, where it is a number already
                check_tokens(torch.tensor([new]), self.model.vocabulary)
            return self._read(torch.tensor(new, device=self.device)[:, None], self.cache)
        longest = max(map(len, rows))
        pad_b = torch.tensor([longest - len(row) for row in rows], device=self.device)
        tokens_bt = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=self.device)
        check_tokens(tokens_bt, self.model.vocabulary)
        self.cache = self.model.new_cache(longest + self.max_new_tokens, pad_b if bool(pad_b.any()) else None)
        return self._read(tokens_bt, self.cache)

    def _read(self, tokens_bt: Tensor, cache: DecoderCache) -> Tensor:
        """As `Decoder.read`, for tokens that were looked at already: to look at each anew makes a GPU wait."""
        return self.model.score(self.model.hidden_from(self.model.embedding(tokens_bt), cache)[:, -1])


def penalise(logits_bv: Tensor, rows: list[list[int]], penalty: float) -> Tensor:
    """Make the tokens of each row less likely: logits above 0 divided by the penalty, those below multiplied.

    >>> penalise(torch.tensor([[2.0, -2.0, 2.0]]), [[0, 1, 1]], 4.0)
    tensor([[ 0.5000, -8.0000,  2.0000]])
    """
    penalised = logits_bv.clone()
    for row_v, row in zip(penalised, rows, strict=True):
        seen = torch.tensor(sorted(set(row)), device=logits_bv.device)
        old = row_v[seen]
        row_v[seen] = torch.where(old > 0, old / penalty, old * penalty)
    return penalised
