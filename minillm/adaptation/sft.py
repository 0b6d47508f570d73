"""Supervised fine-tuning: the next-token loss as before, but only the answer counts.

    loss = -(1 / Σ a) Σ a_t log p(token_t | tokens before it)         a_t = 1 where token t belongs to the answer

Examples are short and unequal. Side by side, the shorter ones are filled up; packed, several stand one behind the
other in a row. A packed example must not notice: it sees no other example, and its positions begin at 0.

Paper:   Wei et al. 2022, "Finetuned Language Models Are Zero-Shot Learners" (FLAN), §2, arXiv:2109.01652; Ouyang et
         al. 2022, "InstructGPT", §3.5, arXiv:2203.02155; packing without looking across: Krell et al. 2021,
         "Efficient Sequence Packing without Cross-contamination", arXiv:2107.02027.
Names:   `answer` marks the tokens to be learned; `row` b of a batch holds one or more examples.
Differs: rows are filled first-fit, longest first, where Krell et al. solve for a histogram of lengths. FLAN packs too,
         with a loss on the answers alone; some later work counts the loss of the instruction as well.
Next:    minillm/adaptation/ask.py
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.adaptation.chat_template import Example
from minillm.attention.masks import both, sliding_window
from minillm.neural.pairs import padded, shuffled

FILLING = -1  # the number of no example
POOL = 16  # batches that are sorted or packed together: more is less filling, and less chance in which examples meet


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTBatch:
    """Rows of examples: what is read, what is to come next, and where that counts.

    >>> one = Example(tokens=[5, 6, 7], answer=[False, False, True])
    >>> two = Example(tokens=[8, 9], answer=[False, True])
    >>> batch = SFTBatch.of([[one, two]])
    >>> batch.token_bt.tolist(), batch.target_bt.tolist(), batch.scored_bt.int().tolist()
    ([[5, 6, 8]], [[6, 7, 9]], [[0, 1, 1]])
    >>> batch.position_bt.tolist(), batch.example_bt.tolist()
    ([[0, 1, 0]], [[0, 0, 1]])
    """

    token_bt: Tensor  # what the model reads, int64
    target_bt: Tensor  # what comes next in the same example, int64
    scored_bt: Tensor  # True where that is part of an answer
    example_bt: Tensor  # which example of its row a token belongs to; FILLING: none
    position_bt: Tensor  # its place in that example

    @classmethod
    def of(cls, rows: Sequence[Sequence[Example]], pad: int = 0) -> "SFTBatch":
        """Put the examples of each row one behind the other, and rows side by side, filled up with `pad` at the end."""
        if not rows or not all(rows):
            raise ValueError("rows must hold at least one example each; [[example]] works")
        for example in (example for row in rows for example in row):
            check_example(example)
        return cls(
            token_bt=padded([[token for e in row for token in e.tokens[:-1]] for row in rows], pad),
            target_bt=padded([[token for e in row for token in e.tokens[1:]] for row in rows], pad),
            scored_bt=padded([[int(counts) for e in row for counts in e.answer[1:]] for row in rows]).bool(),
            example_bt=padded([[i for i, e in enumerate(row) for _ in e.tokens[1:]] for row in rows], FILLING),
            position_bt=padded([[i for e in row for i in range(len(e.tokens) - 1)] for row in rows]),
        )

    @property
    def count(self) -> int:
        """How many tokens the loss is over."""
        return int(self.scored_bt.sum())

    @property
    def is_packed(self) -> bool:
        """Whether some row holds more than one example."""
        return int(self.example_bt.max()) > 0

    @property
    def filling(self) -> float:
        """The share of places that hold no token."""
        return float((self.example_bt == FILLING).float().mean())

    @property
    def may_look(self) -> Tensor | None:
        """The mask (b, 1, t, s): its own example, up to itself. None, the causal mask, where no row is packed."""
        if not self.is_packed:
            return None  # the filling stands behind all tokens, so none of them looks at it
        same = self.example_bt[:, :, None] == self.example_bt[:, None, :]
        t = self.example_bt.shape[1]
        return torch.ones(t, t, dtype=torch.bool, device=same.device).tril() & same[:, None]

    def to(self, device: torch.device | str) -> "SFTBatch":
        """The same rows on another device."""
        return SFTBatch(
            token_bt=self.token_bt.to(device),
            target_bt=self.target_bt.to(device),
            scored_bt=self.scored_bt.to(device),
            example_bt=self.example_bt.to(device),
            position_bt=self.position_bt.to(device),
        )


class SFT(nn.Module):
    """A model with the loss of fine-tuning, for `train` and `evaluate`.

    `model` is a `Decoder`, or anything else with its `hidden` and `score`.

    >>> from minillm.training.loop import train
    >>> from minillm.training.optim import AdamW
    >>> from minillm.transformer.decoder import Decoder, gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=8, n_layer=1, n_head=2, d_model=16))
    >>> examples = [Example(tokens=[n, 7, n, 8], answer=[False, False, True, True]) for n in range(7)]
    >>> batches = list(packed_in_order(examples, b=4, t=8))
    >>> record = train(SFT(model), batches, steps=60, optimizer=AdamW(model.parameters(), learning_rate=0.01))
    >>> record[0].loss > 2 and record[-1].loss < 0.1
    True
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def loss(self, batch: SFTBatch) -> Tensor:
        """Mean nats per token of the answers."""
        if not batch.count:
            raise ValueError("batch has no token of an answer, so its loss is the mean of nothing; leave it out")
        hidden_btd = self.hidden(batch)
        logits_nv = self.model.score(hidden_btd[batch.scored_bt])  # the others are never scored: that saves most
        return F.cross_entropy(logits_nv.float(), batch.target_bt[batch.scored_bt])

    def count(self, batch: SFTBatch) -> int:
        """What a batch weighs among others: the tokens of its answers."""
        return batch.count

    def hidden(self, batch: SFTBatch) -> Tensor:
        """What the model makes of each token in sight of its own example alone: (b, t, d)."""
        may_look = batch.may_look
        if may_look is None:
            return self.model.hidden(batch.token_bt)
        t, window = batch.token_bt.shape[1], self.model.config.window
        if window is not None and t > window:
            may_look = both(may_look, sliding_window(t, t, window, batch.token_bt.device))
        return self.model.hidden(batch.token_bt, may_look=may_look, positions=batch.position_bt)


def pack(examples: Sequence[Example], t: int) -> list[list[Example]]:
    """Put examples into rows of at most t tokens read, the longest first, each into the first row that has room.

    >>> four, three, two = (Example(tokens=[1] * (n + 1), answer=[True] * (n + 1)) for n in (4, 3, 2))
    >>> [[len(example.tokens) - 1 for example in row] for row in pack([two, three, four, two], t=6)]
    [[4, 2], [3, 2]]
    """
    rows: list[list[Example]] = []
    room: list[int] = []
    for example in sorted(examples, key=_length, reverse=True):
        check_example(example, t)
        n = _length(example)
        place = next((place for place, free in enumerate(room) if free >= n), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(t)
        rows[place].append(example)
        room[place] -= n
    return rows


def padded_batches(
    examples: Sequence[Example], b: int, *, generator: torch.Generator, pad: int = 0
) -> Iterator[SFTBatch]:
    """Batches of b examples of like length without end: pass after pass over all, each in an order of its own."""
    return _again_and_again(examples, b, generator, lambda pool: padded_in_order(pool, b, pad))


def packed_batches(
    examples: Sequence[Example], b: int, t: int, *, generator: torch.Generator, pad: int = 0
) -> Iterator[SFTBatch]:
    """Batches of b packed rows of at most t tokens without end; examples meet by chance."""
    return _again_and_again(examples, b, generator, lambda pool: packed_in_order(pool, b, t, pad))


def padded_in_order(examples: Sequence[Example], b: int, pad: int = 0) -> list[SFTBatch]:
    """Every example once, the short ones first, b to a batch: what `evaluate` measures on."""
    _check_sizes(examples, b)
    rows = [[example] for example in sorted(examples, key=_length)]
    return [SFTBatch.of(rows[i : i + b], pad) for i in range(0, len(rows), b)]


def packed_in_order(examples: Sequence[Example], b: int, t: int, pad: int = 0) -> list[SFTBatch]:
    """Every example once, packed into rows of at most t tokens, b rows to a batch."""
    _check_sizes(examples, b)
    rows = pack(examples, t)
    return [SFTBatch.of(rows[i : i + b], pad) for i in range(0, len(rows), b)]


def check_example(example: Example, t: int | None = None) -> None:
    """Raise ValueError unless an example has a token to read and one of the answer to write, and fits into t."""
    if len(example.tokens) < 2 or not any(example.answer[1:]):
        raise ValueError(
            f"example with tokens={example.tokens[:8]} and answer={example.answer[:8]} teaches nothing: it needs a "
            "token of the answer after the first token, as in tokens=[5, 6], answer=[False, True]"
        )
    if t is not None and _length(example) > t:
        raise ValueError(
            f"example has {_length(example)} tokens to read, and a row has room for t={t}: shorten it, or t="
            f"{_length(example)} where the model's context allows that"
        )


def _length(example: Example) -> int:
    """Tokens that are read: the last one is only written."""
    return len(example.tokens) - 1


def _again_and_again(examples: Sequence[Example], b: int, generator: torch.Generator, cut: Any) -> Iterator[SFTBatch]:
    _check_sizes(examples, b)
    while True:
        order = shuffled(len(examples), generator)
        pools = [[examples[i] for i in order[start : start + POOL * b]] for start in range(0, len(order), POOL * b)]
        batches = [batch for pool in pools for batch in cut(pool)]
        for place in shuffled(len(batches), generator):
            yield batches[place]


def _check_sizes(examples: Sequence[Example], b: int) -> None:
    if b < 1 or not examples:
        raise ValueError(f"b={b!r} and {len(examples)} examples: both must be at least 1; b=16 works")
