"""Streams and chunks: nothing is lost, nothing is repeated, rows go on where they ended."""

from itertools import pairwise

import pytest
import torch

from minillm.neural.batches import InTurn, consecutive_chunks, random_chunks, token_stream
from minillm.text.tokenizer import CharTokenizer


def test_the_stream_puts_the_end_around_every_document():
    tokenizer = CharTokenizer.train("abc", special_tokens=["|"])
    stream_n = token_stream(["ab", "", "c"], tokenizer, tokenizer.special_ids["|"])
    assert tokenizer.decode(stream_n.tolist()) == "|ab||c|" and stream_n.dtype == torch.int64


@pytest.mark.parametrize(("n", "b", "t"), [(23, 3, 2), (22, 3, 7), (50, 1, 7), (8, 7, 1)])
def test_rows_go_on_where_they_ended(n, b, t):
    chunks = list(consecutive_chunks(torch.arange(n), b, t))
    assert len(chunks) == (n - 1) // b // t
    assert all(chunk.shape == (b, t + 1) for chunk in chunks)
    for before, after in pairwise(chunks):
        assert before[:, -1].tolist() == after[:, 0].tolist()
    targets = torch.cat([chunk[:, 1:] for chunk in chunks], dim=1)
    assert (targets.diff(dim=1) == 1).all()  # in order
    assert len(set(targets.flatten().tolist())) == targets.numel()  # no target twice


def test_random_chunks_reach_every_place_and_follow_the_seed():
    def draw(seed):
        return torch.cat(list(random_chunks(torch.arange(9), 4, 2, torch.Generator().manual_seed(seed), batches=50)))

    starts = draw(0)[:, 0]
    assert starts.bincount().tolist() == pytest.approx([200 / 7] * 7, rel=0.6)  # 9 tokens have 7 chunks of 3
    assert torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))


def test_random_chunks_are_endless_unless_told():
    endless = random_chunks(torch.arange(4), 1, 3, torch.Generator().manual_seed(0))
    assert [next(endless).tolist() for _ in range(9)] == [[[0, 1, 2, 3]]] * 9


@pytest.mark.parametrize(("n", "b", "t"), [(9, 0, 3), (9, 3, 0), (3, 1, 3), (0, 1, 1)])
def test_what_cannot_be_cut_is_refused(n, b, t):
    for cut in (consecutive_chunks, lambda s, b, t: random_chunks(s, b, t, torch.Generator())):
        with pytest.raises(ValueError, match=r"b=0|t=0|stream_n has shape"):
            next(cut(torch.arange(n), b, t))


def test_batches_in_turn_go_on_from_any_place():
    batches = InTurn(["a", "b", "c"])
    for taken in range(7):
        again = InTurn(["a", "b", "c"])
        again.load_state_dict(batches.state_dict())
        assert "".join(next(again) for _ in range(4)) == "abcabcabc"[taken % 3 :][:4]
        next(batches)
    with pytest.raises(ValueError, match="none in these 2 batches"):
        InTurn(["a", "b"]).load_state_dict(batches.state_dict())
    with pytest.raises(ValueError, match="is none in these"):
        batches.load_state_dict({"position": 3, "batches": 3})
    with pytest.raises(ValueError, match="holds nothing to give"):
        InTurn([])
