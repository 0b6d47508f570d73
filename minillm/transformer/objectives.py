"""Holes in a text, to be filled by a network that writes: three ways to make a task from plain text.

    text      a b c d e f g          holes at  b c  and  f
    T5        a <1> d e <2> g   →   <1> b c <2> f <3>            write what is missing, in order
    BART      a _ d e _ g       →   a b c d e f g                write it all again
    GLM       a _ d e _ g  | <s> f | <s> b c    asked: f <e>, b c <e>        fill each hole, holes in any order

T5's and BART's are pairs for an encoder–decoder. GLM is one stack of blocks with two kinds of sight: the text with
holes is seen from both sides, as in BERT; what is written sees that text and what was written before, as in GPT. So an
`Encoder` with the mask `prefix` does both. Two positions say where a hole is, and which token of its filling this is.

Paper:   Raffel et al. 2020, "T5", §3.1.4 and §3.3.4, arXiv:1910.10683; Lewis et al. 2020, "BART", §2.2,
         arXiv:1910.13461; Du et al. 2022, "GLM", §2.1, arXiv:2103.10360.
Names:   `sentinels` are T5's <X>, <Y>, …; `position_bt` and `segment_bt` are GLM's two positions.
Differs: the number of tokens that are taken out is exact (the share, rounded, at least 1). With T5's released code
         every text ends in a hole; here a hole may lie anywhere. So may BART's and GLM's, and two of them may touch; of
         BART's other noises only the order of sentences is here.
Next:    minillm/transformer/decoder.py
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch

from minillm.neural.pairs import PairBatch, padded, pair_batches, shuffled
from minillm.transformer.encoder_batches import IGNORE
from minillm.transformer.masking import MaskedBatch

Ids = list[int]


def corrupt_spans(
    tokens: Sequence[int],
    sentinels: Sequence[int],
    generator: torch.Generator,
    share: float = 0.15,
    mean_length: float = 3.0,
) -> tuple[Ids, Ids]:
    """T5's source and target: each hole is a sentinel in both, and one more sentinel closes the target.

    Holes do not touch, and all ways of cutting are equally likely. ValueError when the text is shorter than 2 tokens,
    holds a sentinel, or would have as many holes as there are sentinels.

    >>> source, target = corrupt_spans([5, 6, 7, 8, 9], [20, 21], torch.Generator().manual_seed(0), share=0.4)
    >>> sorted(source + target)
    [5, 6, 7, 8, 9, 20, 20, 21]
    """
    _check(tokens, share, mean_length, least=2)
    hidden = min(_count(len(tokens), share), len(tokens) - 1)
    spans = min(max(1, math.floor(hidden / mean_length + 0.5)), hidden, len(tokens) - hidden + 1)
    if spans + 1 > len(sentinels) or set(sentinels) & set(tokens):
        raise ValueError(
            f"{len(sentinels)} sentinels for {spans} holes and the end, none of them in the text: {spans + 1} other ids"
        )
    kept_parts = _parts(len(tokens) - hidden + 2, spans + 1, generator)
    kept_parts[0] -= 1  # before the first hole and behind the last there may be nothing
    source, target, place = [], [], 0
    for sentinel, kept, length in zip(sentinels, kept_parts, _parts(hidden, spans, generator), strict=False):
        source += [*tokens[place : place + kept], sentinel]
        target += [sentinel, *tokens[place + kept : place + kept + length]]
        place += kept + length
    source += tokens[place:]
    return source, [*target, sentinels[spans]]


def restore_spans(source: Sequence[int], target: Sequence[int], sentinels: Sequence[int]) -> Ids:
    """Put T5's target back into the holes of its source; ValueError when the two do not fit together.

    >>> restore_spans([5, 20, 8, 21], [20, 6, 7, 21, 9, 22], sentinels=[20, 21, 22])
    [5, 6, 7, 8, 9]
    """
    at = [place for place, token in enumerate(target) if token in sentinels]
    filling = {target[start]: target[start + 1 : stop] for start, stop in pairwise(at)}
    holes = [token for token in source if token in sentinels]
    if not at or at[0] != 0 or at[-1] != len(target) - 1 or list(filling) != holes or len(filling) != len(at) - 1:
        raise ValueError(f"the holes {holes} of the source are not those of the target {list(filling)}, in order")
    return [token for each in source for token in filling.get(each, [each])]


def infill(
    tokens: Sequence[int], mask: int, generator: torch.Generator, share: float = 0.3, mean_length: float = 3.0
) -> tuple[Ids, Ids]:
    """BART's source and target: spans of Poisson length become one mask each, and the target is the whole text.

    A span may have length 0: a mask where nothing is missing. So the network must find out how much is.

    >>> source, target = infill([5, 6, 7, 8], 3, torch.Generator().manual_seed(0), share=0.5)
    >>> target, len([token for token in source if token != 3])
    ([5, 6, 7, 8], 2)
    """
    _check(tokens, share, mean_length)
    hidden = _count(len(tokens), share)
    source, place = [], 0
    for start, stop in _holes(len(tokens), _lengths(hidden, mean_length, 0, hidden, generator), generator):
        source += [*tokens[place:start], mask]
        place = stop
    return [*source, *tokens[place:]], list(tokens)


def shuffle_sentences(sentences: Sequence[Sequence[int]], generator: torch.Generator) -> tuple[Ids, Ids]:
    """BART's other task: the sentences of a text in any order, and the text itself.

    >>> source, target = shuffle_sentences([[5, 6], [7], [8, 9]], torch.Generator().manual_seed(1))
    >>> sorted(source), target
    ([5, 6, 7, 8, 9], [5, 6, 7, 8, 9])
    """
    order = shuffled(len(sentences), generator)
    return [t for i in order for t in sentences[i]], [t for sentence in sentences for t in sentence]


def corrupted_batches(
    texts: Sequence[Sequence[int]],
    b: int,
    corrupt: Callable[[Sequence[int]], tuple[Ids, Ids]],
    *,
    begin: int,
    end: int,
    generator: torch.Generator,
    pad: int = 0,
) -> Iterator[PairBatch]:
    """Batches of b pairs for an encoder–decoder, without end; every pass over the texts makes its holes anew.

    >>> generator = torch.Generator().manual_seed(0)
    >>> corrupt = lambda text: infill(text, 3, generator)
    >>> batches = corrupted_batches([[5, 6], [7, 8, 9]], 2, corrupt, begin=1, end=2, generator=generator)
    >>> next(batches).target_bt.tolist()
    [[1, 5, 6, 2, 0], [1, 7, 8, 9, 2]]
    """
    while True:
        stream = pair_batches([corrupt(text) for text in texts], b, begin=begin, end=end, generator=generator, pad=pad)
        for _ in range(math.ceil(len(texts) / b)):
            yield next(stream)


def glm_batch(
    texts: Sequence[Sequence[int]],
    *,
    mask: int,
    start: int,
    end: int,
    generator: torch.Generator,
    share: float = 0.15,
    mean_length: float = 3.0,
    longest: int = 10,
    pad: int = 0,
) -> MaskedBatch:
    """GLM's blanks, for `MaskedLM.loss`: the text with holes, then what was in them, hole by hole in random order.

    `position_bt` is where a token stands in the text with holes; a filling stands where its hole is. `segment_bt`
    counts the tokens of a filling from 1, and is 0 in the text: the encoder needs `segments=longest + 2`.

    >>> batch = glm_batch([[5, 6, 7, 8]], mask=3, start=1, end=2, generator=torch.Generator().manual_seed(0), share=0.5)
    >>> batch.tokens_bt.tolist(), batch.prefix_length_b.tolist()
    ([[5, 3, 8, 1, 6, 7]], [3])
    >>> batch.target_bt[0, 3:].tolist(), batch.position_bt.tolist(), batch.segment_bt.tolist()
    ([6, 7, 2], [[0, 1, 2, 1, 1, 1]], [[0, 0, 0, 1, 2, 3]])
    """
    rows: list[tuple[Ids, Ids, Ids, Ids]] = []
    prefix: list[int] = []
    for tokens in texts:
        _check(tokens, share, mean_length)
        lengths = _lengths(_count(len(tokens), share), mean_length, 1, longest, generator)
        holes, place = _holes(len(tokens), lengths, generator), 0
        seen: Ids = []
        at: list[int] = []  # where each hole is, in the text with holes
        for first, last in holes:
            seen += [*tokens[place:first], mask]
            at.append(len(seen) - 1)
            place = last
        seen += tokens[place:]
        written, asked, position, within = [*seen], [IGNORE] * len(seen), [*range(len(seen))], [0] * len(seen)
        for hole in shuffled(len(holes), generator):
            filling = [*tokens[slice(*holes[hole])]]
            written += [start, *filling]
            asked += [*filling, end]
            position += [at[hole]] * (len(filling) + 1)
            within += range(1, len(filling) + 2)
        rows.append((written, asked, position, within))
        prefix.append(len(seen))
    return MaskedBatch(
        tokens_bt=padded([row[0] for row in rows], pad),
        target_bt=padded([row[1] for row in rows], IGNORE),
        position_bt=padded([row[2] for row in rows]),
        segment_bt=padded([row[3] for row in rows]),
        length_b=torch.tensor([len(row[0]) for row in rows]),
        prefix_length_b=torch.tensor(prefix),
    )


def _count(n: int, share: float) -> int:
    """How many of n tokens to take out: the share, rounded, at least one."""
    return max(1, math.floor(n * share + 0.5))


def _parts(total: int, parts: int, generator: torch.Generator) -> list[int]:
    """Cut a total into parts of at least 1, every way equally likely."""
    cuts = sorted(place + 1 for place in shuffled(total - 1, generator)[: parts - 1])
    return [stop - start for start, stop in pairwise([0, *cuts, total])]


def _lengths(total: int, mean: float, least: int, longest: int, generator: torch.Generator) -> list[int]:
    """Poisson lengths in `least` … `longest`, others drawn again, until they add up to `total`; the last is cut."""
    weight = [math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(least, max(longest, 1) + 1)]
    share = torch.tensor(weight, dtype=torch.float64).cumsum(dim=0) / math.fsum(weight)
    lengths: list[int] = []
    while (missing := total - sum(lengths)) > 0:
        u = torch.rand((), generator=generator, dtype=torch.float64)
        drawn = least + min(int(torch.searchsorted(share, u, right=True)), len(weight) - 1)
        lengths.append(min(drawn, missing))
    return lengths


def _holes(n: int, lengths: list[int], generator: torch.Generator) -> list[tuple[int, int]]:
    """Where the spans lie: the kept tokens and the holes in a row, every order of the two kinds equally likely."""
    row = len(lengths) + n - sum(lengths)
    slots = sorted(shuffled(row, generator)[: len(lengths)])
    holes: list[tuple[int, int]] = []
    taken = 0  # tokens inside the holes so far
    for number, (slot, length) in enumerate(zip(slots, lengths, strict=True)):
        begin = slot - number + taken
        holes.append((begin, begin + length))
        taken += length
    return holes


def _check(tokens: Sequence[int], share: float, mean_length: float, least: int = 1) -> None:
    if len(tokens) < least:
        raise ValueError(f"tokens={list(tokens)!r} is too short to have a hole; give at least {least}")
    if not (0 < share < 1 and mean_length > 0):
        raise ValueError(
            f"share={share!r} must be between 0 and 1, mean_length={mean_length!r} above 0; 0.15 and 3 work"
        )
