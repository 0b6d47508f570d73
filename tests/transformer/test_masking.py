"""Masking: exact shares where they are exact, statistics with bounds where they are drawn, units that stay whole."""

import pytest
import torch
from torch.testing import assert_close

from minillm.transformer.encoder_batches import IGNORE, SpecialTokens, TextBatch
from minillm.transformer.masking import Masking, candidates, mask, span_lengths, word_units

SPECIAL = SpecialTokens(cls=1, sep=2, mask=3)
V, ORDINARY = 30, 26
KINDS = ("token", "word", "span")


def texts(lengths=(20, 7, 1, 40, 13)):
    """Ordinary tokens 4 … V - 1, each text another stretch of them."""
    return TextBatch.of([[4 + (7 * n + i) % ORDINARY for i in range(n)] for n in lengths], SPECIAL)


def masked(kind="token", seed=0, batch=None, **changes):
    batch = texts() if batch is None else batch
    units = word_units(batch, [True] * V) if kind == "word" else None
    masking = Masking(vocabulary=V, special=SPECIAL, kind=kind, **changes)
    return mask(batch, masking, torch.Generator().manual_seed(seed), units)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.15, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_share_is_exact_and_special_tokens_are_left_alone(kind, share, seed):
    batch = texts()
    got = masked(kind, seed, share=share)
    asked = got.target_bt != IGNORE
    sizes = (20, 7, 1, 40, 13)
    assert asked.sum(dim=1).tolist() == [max(1, int(n * share + 0.5)) for n in sizes]
    assert_close(got.target_bt[asked], batch.tokens_bt[asked])  # what is asked for is what was there
    assert_close(got.tokens_bt[~asked], batch.tokens_bt[~asked])  # nothing else is touched
    may = candidates(batch, SPECIAL)
    assert not (asked & ~may).any()
    assert may.sum(dim=1).tolist() == list(sizes)
    assert_close(got.length_b, batch.length_b)


@pytest.mark.parametrize("kind", KINDS)
def test_eighty_ten_ten(kind):
    """Over 30,000 tokens each share lies within five standard deviations of 80, 10 and 10 %.

    A random token is the old one once in 26 times, so a tenth of that counts as kept. With spans the draws are
    fewer than the tokens: a span goes one way as a whole, so the bound is wider by the root of its mean length of a
    square over that length, at most 10.
    """
    batch = texts([40] * 150)
    kept = to_mask = n = 0
    for seed in range(5):
        got = masked(kind, seed, batch, share=1.0)
        asked = got.target_bt != IGNORE
        n += int(asked.sum())
        to_mask += int((got.tokens_bt == SPECIAL.mask)[asked].sum())
        kept += int((got.tokens_bt == batch.tokens_bt)[asked].sum())
        assert not torch.isin(got.tokens_bt[asked], torch.tensor([SPECIAL.cls, SPECIAL.sep, SPECIAL.pad])).any()
    draws = n if kind != "span" else n / 10
    for share, expected in ((to_mask / n, 0.8), (kept / n, 0.1 + 0.1 / ORDINARY)):
        assert abs(share - expected) < 5 * (expected * (1 - expected) / draws) ** 0.5
    if kind != "span":
        assert n == 30_000


def test_shares_of_zero_and_one_are_exact():
    asked = masked().target_bt != IGNORE
    assert (masked(masked=1.0, random=0.0).tokens_bt[asked] == SPECIAL.mask).all()
    assert_close(masked(masked=0.0, random=0.0).tokens_bt, texts().tokens_bt)
    changed = masked(masked=0.0, random=1.0, share=1.0)
    drawn = changed.tokens_bt[changed.target_bt != IGNORE]
    assert drawn.min() >= 4 and len(set(drawn.tolist())) > 15


def test_every_token_is_hidden_equally_often():
    """20 tokens, 3 of them a time, 2,000 times: each 300 times, within five standard deviations."""
    batch = texts([20] * 500)
    counts = sum((masked("token", seed, batch).target_bt != IGNORE).sum(dim=0) for seed in range(4))[1:21]
    assert int(counts.sum()) == 6000
    assert (counts - 300).abs().max() < 5 * (2000 * 0.15 * 0.85) ** 0.5


def test_masking_is_dynamic_and_a_function_of_the_generator():
    batch, masking = texts(), Masking(vocabulary=V, special=SPECIAL)
    generator = torch.Generator().manual_seed(0)
    first, second = mask(batch, masking, generator), mask(batch, masking, generator)
    assert (first.target_bt != second.target_bt).any()
    assert_close(mask(batch, masking, torch.Generator().manual_seed(0)).tokens_bt, first.tokens_bt)


def test_words_are_hidden_whole():
    """Words of three tokens, the first of each divisible by 3."""
    batch = TextBatch.of([[6, 4, 5] * 10, [9, 7, 8] * 4], SPECIAL)
    begins = [token % 3 == 0 for token in range(V)]
    units = word_units(batch, begins)
    assert units[0, :8].tolist() == [0, 1, 1, 1, 2, 2, 2, 3]
    ways = set()
    for seed in range(20):
        masking = Masking(vocabulary=V, special=SPECIAL, kind="word", share=0.25)
        got = mask(batch, masking, torch.Generator().manual_seed(seed), units)
        asked = got.target_bt != IGNORE
        for row, words in ((0, 10), (1, 4)):
            thirds = asked[row, 1 : 1 + 3 * words].view(words, 3)
            assert (thirds.all(dim=1) == thirds.any(dim=1)).all()
            assert thirds.any(dim=1).sum() == {0: 2, 1: 1}[row]  # 7.5 → 8 and 3 tokens: as many words as fit
            ways |= {
                tuple(w) for w in (got.tokens_bt == 3)[row, 1 : 1 + 3 * words].view(words, 3)[thirds.any(1)].tolist()
            }
    assert len(ways) > 2  # a word's tokens are replaced each by itself


def test_one_word_that_is_too_long_is_hidden_all_the_same():
    batch = TextBatch.of([[6, 4, 5, 4, 5]], SPECIAL)
    masking = Masking(vocabulary=V, special=SPECIAL, kind="word")
    got = mask(batch, masking, torch.Generator(), word_units(batch, [token == 6 for token in range(V)]))
    assert (got.target_bt != IGNORE).sum() == 5


def test_names_of_several_words_are_units_too():
    """ERNIE: the units are phrases and names, whatever numbers they are given."""
    batch = TextBatch.of([[5, 6, 7, 8]], SPECIAL)
    units = torch.tensor([[0, 1, 2, 2, 3, 4]])  # [CLS] 5 6·7 8 [SEP]
    seen = set()
    for seed in range(30):
        got = mask(batch, Masking(vocabulary=V, special=SPECIAL, kind="word", share=0.5),
                   torch.Generator().manual_seed(seed), units)  # fmt: skip
        seen.add(tuple((got.target_bt[0] != IGNORE).nonzero().flatten().tolist()))
    assert seen == {(2, 3), (1, 4)}


def test_spans_have_geometric_lengths():
    masking = Masking(vocabulary=V, special=SPECIAL, kind="span")
    lengths = torch.tensor(span_lengths(20_000, masking, torch.Generator().manual_seed(0)))
    weight = 0.8 ** torch.arange(10, dtype=torch.float64)
    expected = 20_000 * weight / weight.sum()
    counts = lengths.bincount(minlength=11)[1:]
    assert len(counts) == 10 and float(((counts - expected) ** 2 / expected).sum()) < 9 + 5 * 18**0.5
    assert float(expected @ torch.arange(1.0, 11.0, dtype=torch.float64)) / 20_000 == pytest.approx(
        3.8, abs=0.01
    )  # the paper's mean


def test_spans_are_stretches_and_go_one_way():
    """With [MASK] at half of the chances: within a stretch that stands alone all is replaced, or nothing."""
    batch = texts([40] * 60)
    runs = []
    for seed in range(3):
        got = masked("span", seed, batch, masked=0.5, random=0.0)
        for asked, now in zip((got.target_bt != IGNORE).tolist(), (got.tokens_bt == 3).tolist(), strict=True):
            start = None
            for place, each in enumerate([*asked, False]):
                if each and start is None:
                    start = place
                elif not each and start is not None:
                    runs.append(now[start:place])
                    start = None
    mean = sum(map(len, runs)) / len(runs)
    assert mean > 2  # single tokens would have 1.2
    uniform = sum(len(set(run)) == 1 for run in runs if len(run) > 1) / sum(len(run) > 1 for run in runs)
    assert uniform > 0.7  # two spans that touch may differ; independent tokens would agree in fewer than 4 of 10
    assert {len(run) for run in runs} >= {1, 2, 3, 4, 5, 6}


def test_the_next_sentence_label_is_taken_along_and_tags_are_not():
    pairs = TextBatch.of([([5, 6], [7]), ([8], [9, 9])], SPECIAL, labels=[0, 1])
    assert masked(batch=pairs).label_b.tolist() == [0, 1]
    assert_close(masked(batch=pairs).segment_bt, pairs.segment_bt)
    tagged = TextBatch.of([[5, 6]], SPECIAL, labels=[[0, 1]])
    assert masked(batch=tagged).label_b is None


@pytest.mark.parametrize(("changes", "words"), [
    ({"kind": "phrase"}, "kind='phrase'"), ({"share": 0.0}, "share=0.0"), ({"share": 1.1}, "share=1.1"),
    ({"masked": 0.9, "random": 0.2}, "random=0.2"), ({"random": -0.1}, "random=-0.1"), ({"span_p": 0.0}, "span_p=0.0"),
    ({"longest_span": 0}, "longest_span=0"), ({"vocabulary": 3}, "vocabulary=3"), ({"vocabulary": 4}, "vocabulary=4"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        Masking(**{"vocabulary": V, "special": SPECIAL} | changes)


def test_units_and_words_go_together():
    batch, generator = texts(), torch.Generator()
    with pytest.raises(ValueError, match="go together"):
        mask(batch, Masking(vocabulary=V, special=SPECIAL, kind="word"), generator)
    with pytest.raises(ValueError, match="go together"):
        mask(batch, Masking(vocabulary=V, special=SPECIAL), generator, word_units(batch, [True] * V))
