"""Pairs in batches: nothing lost, nothing invented, padding outside the count."""

import pytest
import torch

from minillm.neural.pairs import PairBatch, pair_batches, pairs_in_order

BEGIN, END = 1, 2


def make_pairs(n=50, seed=0):
    """n pairs that differ from each other, of many lengths; targets may be empty."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda low: torch.randint(3, 90, (int(torch.randint(low, 9, (), generator=g)),), generator=g).tolist()
    return [([3 + i, *draw(0)], draw(0)) for i in range(n)]


def unpacked(batch):
    """The pairs of a batch, read back by its lengths."""
    rows = zip(
        batch.source_bs.tolist(),
        batch.source_length_b.tolist(),
        batch.target_bt.tolist(),
        batch.target_length_b.tolist(),
        strict=True,
    )
    return [(source[:s], target[:t]) for source, s, target, t in rows]


def framed(pairs):
    return sorted((source, [BEGIN, *target, END]) for source, target in pairs)


@pytest.mark.parametrize("pad", [0, 7])
def test_a_batch_holds_its_pairs_and_padding_beyond_them(pad):
    pairs = make_pairs(13)
    batch = PairBatch.of(pairs, begin=BEGIN, end=END, pad=pad)
    assert unpacked(batch) == [(source, [BEGIN, *target, END]) for source, target in pairs]
    assert batch.source_bs.shape[1] == max(len(source) for source, _ in pairs)
    assert batch.target_bt.shape[1] == max(len(target) for _, target in pairs) + 2
    for row, length in zip(batch.source_bs, batch.source_length_b, strict=True):
        assert (row[length:] == pad).all()


def test_what_is_asked_for_is_all_of_the_targets_but_begin():
    pairs = make_pairs(13)
    batch = PairBatch.of(pairs, begin=BEGIN, end=END)
    asked = [row[mask].tolist() for row, mask in zip(batch.target_bt[:, 1:], batch.asked_bt, strict=True)]
    assert asked == [[*target, END] for _, target in pairs]
    assert batch.count == sum(len(target) + 1 for _, target in pairs) == int(batch.asked_bt.sum())


@pytest.mark.parametrize("b", [1, 7, 50, 64])
def test_every_pass_has_every_pair_once_in_an_order_of_its_own(b):
    pairs = make_pairs()
    stream = pair_batches(pairs, b, begin=BEGIN, end=END, generator=torch.Generator().manual_seed(0))
    passes = [[pair for _ in range(-(-50 // b)) for pair in unpacked(next(stream))] for _ in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) == framed(pairs)
    if b < 50:
        assert passes[0] != passes[1]


def test_the_seed_decides_the_order():
    def first(seed):
        return unpacked(
            next(pair_batches(make_pairs(), 8, begin=1, end=2, generator=torch.Generator().manual_seed(seed)))
        )

    assert first(0) == first(0) != first(1)


def test_like_lengths_go_together():
    pairs = make_pairs(400)
    stream = pair_batches(pairs, 16, begin=BEGIN, end=END, generator=torch.Generator().manual_seed(0))
    batches = [next(stream) for _ in range(25)]
    used, room = sum(int(b.source_length_b.sum()) for b in batches), sum(b.source_bs.numel() for b in batches)
    assert used / room > 0.9  # in the order given it is about 0.6


def test_which_pairs_meet_and_which_batch_comes_first_are_drawn_for_every_pass():
    stream = pair_batches(make_pairs(400), 8, begin=BEGIN, end=END, generator=torch.Generator().manual_seed(0))
    passes = [[next(stream) for _ in range(50)] for _ in range(2)]
    first, second = ({frozenset(batch.source_bs[:, 0].tolist()) for batch in batches} for batches in passes)
    assert len(first & second) < 10  # the first token is the pair's own number
    one_pool = pair_batches(make_pairs(100), 8, begin=BEGIN, end=END, generator=torch.Generator().manual_seed(0))
    widths = [next(one_pool).source_bs.shape[1] for _ in range(13)]
    assert widths != sorted(widths)


def test_in_order_means_every_pair_once_and_the_short_first():
    pairs = make_pairs()
    batches = pairs_in_order(pairs, 8, begin=BEGIN, end=END)
    assert [len(batch) for batch in batches] == [8] * 6 + [2]
    assert sorted(pair for batch in batches for pair in unpacked(batch)) == framed(pairs)
    lengths = [length for batch in batches for length in batch.source_length_b.tolist()]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([], r"pairs=\[\] is no batch"),
        ([([3], [4]), ([], [4])], r"pairs\[1\] has an empty source"),
        ([([3], [4, END])], r"pairs\[0\] has end=2 in its target \[4, 2\]"),
        ([([3], [BEGIN, 4])], r"pairs\[0\] has begin=1 in its target"),
    ],
)
def test_pairs_that_cannot_be_are_refused(pairs, says):
    with pytest.raises(ValueError, match=says):
        PairBatch.of(pairs, begin=BEGIN, end=END)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="b=0 pairs in a batch"):
        next(pair_batches(make_pairs(), 0, begin=1, end=2, generator=torch.Generator()))
    with pytest.raises(ValueError, match="holds nothing to learn from"):
        pairs_in_order([], 4, begin=1, end=2)


@pytest.mark.no_promises  # the very names that are given break them
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source_length_b": torch.tensor([0, 2])}, r"source_length_b=\[0, 2\] must lie in 1 … 3"),
        ({"target_length_b": torch.tensor([1, 4])}, r"target_length_b=\[1, 4\] must lie in 2 … 4"),
        ({"target_length_b": torch.tensor([2, 5])}, "must lie in 2 … 4"),
        ({"source_length_b": torch.tensor([2])}, r"source has rows of shape \(2, 3\) and lengths of shape \(1,\)"),
        ({"target_bt": torch.ones(3, 4).long(), "target_length_b": torch.tensor([2, 3, 4])}, "one b ≥ 1"),
    ],
)
def test_lengths_that_cannot_be_are_refused(changes, says):
    good = {
        "source_bs": torch.ones(2, 3).long(),
        "source_length_b": torch.tensor([3, 2]),
        "target_bt": torch.ones(2, 4).long(),
        "target_length_b": torch.tensor([2, 4]),
    }
    PairBatch(**good)
    with pytest.raises(ValueError, match=says):
        PairBatch(**{**good, **changes})


def test_a_batch_on_another_device_holds_the_same_pairs():
    batch = PairBatch.of(make_pairs(3), begin=BEGIN, end=END)
    assert unpacked(batch.to("cpu")) == unpacked(batch)
