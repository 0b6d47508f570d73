"""What an encoder reads: frames, segments, labels in their places, and pairs of which half are neighbours."""

from collections import Counter

import pytest
import torch

from minillm.text.bpe import BPETokenizer
from minillm.transformer.encoder_batches import (
    IGNORE,
    NAMES,
    SpecialTokens,
    TextBatch,
    next_sentence_pairs,
    text_batches,
    texts_in_order,
)

SPECIAL = SpecialTokens(cls=1, sep=2, mask=3)


def rows(batch):
    return [row[:n] for row, n in zip(batch.tokens_bt.tolist(), batch.length_b.tolist(), strict=True)]


def test_one_text_and_two_texts():
    batch = TextBatch.of([[5], ([6, 7], [8, 9, 9]), ([4], [])], SPECIAL)
    assert rows(batch) == [[1, 5, 2], [1, 6, 7, 2, 8, 9, 9, 2], [1, 4, 2]]
    assert batch.segment_bt.tolist()[1] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert batch.tokens_bt[0, 3:].unique().tolist() == [0] and batch.label is None and len(batch) == 3


def test_classes_and_tags_stand_where_they_belong():
    assert TextBatch.of([[5], [6, 7]], SPECIAL, labels=[2, 0]).label.tolist() == [2, 0]
    tags = TextBatch.of([[5], [6, 7]], SPECIAL, labels=[[8], [9, 4]]).label
    assert tags.tolist() == [[IGNORE, 8, IGNORE, IGNORE], [IGNORE, 9, 4, IGNORE]]


def test_special_tokens_of_a_tokenizer():
    tokenizer = BPETokenizer.train("low lower", vocab_size=270, special_tokens=NAMES)
    special = SpecialTokens.of(tokenizer)
    assert tokenizer.decode(list(special.ids)) == "[CLS][SEP][MASK][PAD]"
    with pytest.raises(ValueError, match=r"no \[CLS\], \[SEP\]"):
        SpecialTokens.of(BPETokenizer.train("low", vocab_size=260, special_tokens=["[MASK]", "[PAD]"]))


def test_every_pass_has_every_text_once_with_its_own_label():
    texts = [[10 + n] * (1 + n % 5) for n in range(23)]
    stream = text_batches(texts, 4, SPECIAL, torch.Generator().manual_seed(0), labels=list(range(23)))
    passes = [[next(stream) for _ in range(6)] for _ in range(2)]
    orders = []
    for batches in passes:
        found = [
            (row[1], label) for batch in batches for row, label in zip(rows(batch), batch.label.tolist(), strict=True)
        ]
        assert sorted(found) == [(10 + n, n) for n in range(23)]
        orders.append(found)
    assert orders[0] != orders[1]
    in_order = texts_in_order(texts, 4, SPECIAL, labels=list(range(23)))
    assert [label for batch in in_order for label in batch.label.tolist()] == list(range(23))


def test_texts_of_like_length_share_a_batch():
    texts = [[9] * (1 + (7 * n) % 31) for n in range(31)]
    stream = text_batches(texts, 4, SPECIAL, torch.Generator().manual_seed(0))
    batches = [next(stream) for _ in range(8)]
    assert sum(batch.tokens_bt.numel() for batch in batches) < 1.2 * sum(len(text) + 2 for text in texts)


DOCUMENTS = [[[10 * d + s] for s in range(n)] for d, n in enumerate((5, 2, 7, 1, 3), start=1)]


def test_half_of_the_pairs_follow_each_other():
    pairs, labels = next_sentence_pairs(DOCUMENTS, torch.Generator().manual_seed(0))
    assert sorted(a[0] for a, _ in pairs) == [10, 11, 12, 13, 20, 30, 31, 32, 33, 34, 35, 50, 51]
    assert Counter(labels) == {0: 6, 1: 7}
    for (a, b), label in zip(pairs, labels, strict=True):
        assert (b[0] == a[0] + 1) if label == 0 else (a[0] // 10 != b[0] // 10 and b[0] % 10 > 0)


def test_strangers_come_evenly_from_the_other_documents():
    """3,000 draws for the first document: the strangers of each other one are a third, within five deviations."""
    counts: Counter[int] = Counter()
    for seed in range(1500):
        pairs, labels = next_sentence_pairs(DOCUMENTS, torch.Generator().manual_seed(seed))
        counts.update(b[0] // 10 for (a, b), label in zip(pairs, labels, strict=True) if label and a[0] // 10 == 1)
    n = sum(counts.values())
    assert set(counts) == {2, 3, 5} and abs(n - 1500 * 4 * 7 / 13) < 5 * (6000 / 4) ** 0.5
    assert all(abs(count / n - 1 / 3) < 5 * (2 / 9 / n) ** 0.5 for count in counts.values())


@pytest.mark.parametrize("say", [
    (lambda: TextBatch.of([], SPECIAL), r"texts=\[\]"),
    (lambda: TextBatch.of([[5], []], SPECIAL), r"texts\[1\] is empty"),
    (lambda: TextBatch.of([[5], [6]], SPECIAL, labels=[1]), "2 texts and 1 labels"),
    (lambda: TextBatch.of([[5, 6]], SPECIAL, labels=[[1]]), "2 tokens and 1 tags"),
    (lambda: TextBatch.of([([5], [6])], SPECIAL, labels=[[1]]), "single texts only"),
    (lambda: texts_in_order([[5]], 0, SPECIAL), "b=0"),
    (lambda: next(text_batches([], 3, SPECIAL, torch.Generator())), r"texts=\[\]"),
    (lambda: next_sentence_pairs([[[5], [6]]], torch.Generator()), "at least 2 such documents"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused(say):
    act, words = say
    with pytest.raises(ValueError, match=words):
        act()
