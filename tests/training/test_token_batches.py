"""Batches from shards: the shares of several processes are the rows of one, and any of them is a place for all."""

import pytest
import torch

from minillm.text.token_shards import ShuffledWindows, write_shards
from minillm.training.token_batches import TokenBatches

T = 5


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "s", [range(1, 90), range(2, 60)], vocabulary=90, end=0)


def batches(shards, b=6, **options):
    return TokenBatches(ShuffledWindows(shards, b=b, t=T, seed=1), **options)


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_the_shares_are_the_whole(shards, parts):
    whole = batches(shards)
    shares = [batches(shards, part=part, parts=parts) for part in range(parts)]
    for _ in range(9):  # more than an epoch
        tokens = next(whole)
        assert tokens.shape == (6, T + 1) and tokens.dtype == torch.int64
        assert torch.equal(torch.cat([next(share) for share in shares]), tokens)


def test_the_place_of_one_is_the_place_of_all(shards):
    first, whole = batches(shards, part=0, parts=2), batches(shards)
    for _ in range(3):
        next(first)
        next(whole)
    last = batches(shards, part=2, parts=3)
    last.load_state_dict(first.state_dict())
    assert first.state_dict() == whole.state_dict() and torch.equal(next(last), next(whole)[4:])


@pytest.mark.parametrize(("part", "parts"), [(0, 4), (2, 2), (-1, 2), (0, 0)])
def test_shares_that_are_none(shards, part, parts):
    with pytest.raises(
        ValueError, match=rf"part={part} of parts={parts} takes no equal share of b=6 rows; b=\d+ works"
    ):
        batches(shards, part=part, parts=parts)
