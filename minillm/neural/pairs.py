"""Pairs of sequences in batches: a source to read and a target to write, both padded, with their lengths.

    source   x₁ … x_S · ·              target   begin y₁ … y_T end · ·          · is padding, never read, never scored

The network reads all of the target but its last token and is asked for all but the first. Pairs of like length go into
one batch, so that little of it is padding; which pairs meet, and in which order the batches come, is drawn again for
every pass.

Paper:   Sutskever, Vinyals & Le 2014, "Sequence to Sequence Learning with Neural Networks", §3.4, arXiv:1409.3215.
Names:   s counts source tokens, t target tokens; begin and end are two of the target's.
Differs: batches hold a number of pairs, not of tokens.
Next:    minillm/neural/seq2seq.py
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Pair = tuple[Sequence[int], Sequence[int]]  # token ids of a source and of its target, without begin and end
POOL = 16  # batches that are sorted together: more is less padding, and less chance in which pairs meet


@dataclass(frozen=True, kw_only=True, slots=True)
class PairBatch:
    """b pairs side by side, all int64. Beyond a row's length stands padding: some token, whose number does not matter.

    >>> batch = PairBatch.of([([5, 6, 7], [3]), ([8], [3, 4])], begin=1, end=2)
    >>> batch.source_bs.tolist(), batch.source_length_b.tolist()
    ([[5, 6, 7], [8, 0, 0]], [3, 1])
    >>> batch.target_bt.tolist(), batch.target_length_b.tolist()
    ([[1, 3, 2, 0], [1, 3, 4, 2]], [3, 4])
    >>> batch.count
    5
    """

    source_bs: Tensor
    source_length_b: Tensor  # at least 1
    target_bt: Tensor  # each row starts with begin and, where its length says, stops with end
    target_length_b: Tensor  # begin and end counted: at least 2

    def __post_init__(self) -> None:
        for name, rows, length, least in (
            ("source", self.source_bs, self.source_length_b, 1),
            ("target", self.target_bt, self.target_length_b, 2),
        ):
            if rows.ndim != 2 or length.shape != rows.shape[:1] or len(rows) != len(self.source_bs) or not len(rows):
                raise ValueError(
                    f"{name} has rows of shape {tuple(rows.shape)} and lengths of shape {tuple(length.shape)}; the "
                    f"rule is (b, …) and (b,) with one b ≥ 1 for source and target, such as (3, 7) and (3,)"
                )
            shortest, longest = (int(extreme) for extreme in length.aminmax())
            if shortest < least or longest > rows.shape[1]:
                raise ValueError(
                    f"{name}_length_b={length.tolist()} must lie in {least} … {rows.shape[1]}, the number of columns"
                )

    @classmethod
    def of(cls, pairs: Sequence[Pair], *, begin: int, end: int, pad: int = 0) -> "PairBatch":
        """Put pairs side by side. ValueError for an empty source, or a target with begin or end in it."""
        _check_pairs(pairs, begin, end)
        sources = [list(source) for source, _ in pairs]
        targets = [[begin, *target, end] for _, target in pairs]
        return cls(
            source_bs=padded(sources, pad),
            source_length_b=torch.tensor([len(row) for row in sources]),
            target_bt=padded(targets, pad),
            target_length_b=torch.tensor([len(row) for row in targets]),
        )

    @property
    def count(self) -> int:
        """How many tokens the network is asked for: all of the targets but begin."""
        return int((self.target_length_b - 1).sum())

    @property
    def asked_bt(self) -> Tensor:
        """True where `target_bt[:, 1:]` is a token to be written, False where it is padding; (b, t - 1)."""
        place_t = torch.arange(1, self.target_bt.shape[1], device=self.target_bt.device)
        return place_t < self.target_length_b[:, None]

    def __len__(self) -> int:
        return len(self.source_bs)

    def to(self, device: torch.device | str) -> "PairBatch":
        """The same pairs on another device."""
        return PairBatch(
            source_bs=self.source_bs.to(device),
            source_length_b=self.source_length_b.to(device),
            target_bt=self.target_bt.to(device),
            target_length_b=self.target_length_b.to(device),
        )


def pair_batches(
    pairs: Sequence[Pair], b: int, *, begin: int, end: int, generator: torch.Generator, pad: int = 0
) -> Iterator[PairBatch]:
    """Batches of b pairs without end: pass after pass over all pairs, each in an order of its own.

    >>> pairs = [([4] * n, [5] * n) for n in range(1, 8)]
    >>> stream = pair_batches(pairs, 3, begin=1, end=2, generator=torch.Generator().manual_seed(0))
    >>> first_pass = [next(stream) for _ in range(3)]
    >>> sorted(len(batch) for batch in first_pass), sum(batch.count for batch in first_pass)  # 1 + … + 7, and 7 ends
    ([1, 3, 3], 35)
    """
    _check_sizes(pairs, b)
    while True:
        order = shuffled(len(pairs), generator)
        batches: list[list[Pair]] = []
        for start in range(0, len(order), POOL * b):
            pool = sorted((pairs[place] for place in order[start : start + POOL * b]), key=_lengths)
            batches.extend(pool[first : first + b] for first in range(0, len(pool), b))
        for place in shuffled(len(batches), generator):
            yield PairBatch.of(batches[place], begin=begin, end=end, pad=pad)


def pairs_in_order(pairs: Sequence[Pair], b: int, *, begin: int, end: int, pad: int = 0) -> list[PairBatch]:
    """Every pair once, the short ones first, in batches of b: what `evaluate` measures on.

    >>> [len(batch) for batch in pairs_in_order([([4], [5])] * 7, 3, begin=1, end=2)]
    [3, 3, 1]
    """
    _check_sizes(pairs, b)
    pairs = sorted(pairs, key=_lengths)
    return [PairBatch.of(pairs[i : i + b], begin=begin, end=end, pad=pad) for i in range(0, len(pairs), b)]


def padded(rows: Sequence[Sequence[int]], pad: int = 0) -> Tensor:
    """Rows of token ids as one int64 tensor, the shorter ones filled up with `pad` at their end.

    >>> padded([[3, 4], [5]]).tolist()
    [[3, 4], [5, 0]]
    """
    longest = max(map(len, rows))
    return torch.tensor([[*row] + [pad] * (longest - len(row)) for row in rows], dtype=torch.int64)


def shuffled(n: int, generator: torch.Generator) -> list[int]:
    """The numbers below n in an order drawn with `torch.rand`, which is the same on every machine."""
    return torch.rand(n, generator=generator, dtype=torch.float64).argsort(stable=True).tolist()


def _lengths(pair: Pair) -> tuple[int, int]:
    return len(pair[0]), len(pair[1])


def _check_sizes(pairs: Sequence[Pair], b: int) -> None:
    if b < 1:
        raise ValueError(f"b={b!r} pairs in a batch; it must be at least 1, such as b=64")
    if not pairs:
        raise ValueError("pairs=[] holds nothing to learn from; give at least one, such as [([3, 4], [5])]")


def _check_pairs(pairs: Sequence[Pair], begin: int, end: int) -> None:
    if not pairs:
        raise ValueError("pairs=[] is no batch; give at least one pair, such as [([3, 4], [5])]")
    for place, (source, target) in enumerate(pairs):
        if not len(source):
            raise ValueError(f"pairs[{place}] has an empty source: there is nothing to read; leave the pair out")
        for name, token in (("begin", begin), ("end", end)):
            if token in target:
                raise ValueError(
                    f"pairs[{place}] has {name}={token} in its target {list(target)}; begin and end are put around it "
                    "here, so give the target without them"
                )
