"""From texts to what an encoder reads: framed by two special tokens, side by side, with their segments.

    one text     [CLS] a₁ … a_n [SEP]                      segments  0 0 … 0 0
    two texts    [CLS] a₁ … a_n [SEP] b₁ … b_m [SEP]       segments  0 0 … 0 0 1 … 1 1

[CLS] has no meaning of its own, so its vector is free to become a summary of the whole. For "does b follow a?", half of
the pairs are neighbours in a document and half are strangers from two documents.

Paper:   Devlin et al. 2019, "BERT", §3 (input) and §3.1, task 2, arXiv:1810.04805.
Names:   `is_next` is the paper's label IsNext; segments are its A and B.
Differs: a and b are single sentences, not stretches that fill 512 tokens; half of the pairs are strangers exactly, not
         in the mean. Texts of like length share a batch.
Next:    minillm/transformer/masking.py
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minillm.neural.pairs import POOL, padded, shuffled

IGNORE = -100  # a label that asks for nothing; torch's cross-entropy skips it
Pair = tuple[Sequence[int], Sequence[int]]  # two texts, lists of ids
NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # BERT's own, to give to a tokenizer as special_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialTokens:
    """The ids of the tokens that are no text.

    >>> from minillm.text.tokenizer import WordTokenizer
    >>> SpecialTokens.of(WordTokenizer.train("one two", special_tokens=NAMES))
    SpecialTokens(cls=5, sep=6, mask=7, pad=3)
    """

    cls: int  # before every text
    sep: int  # behind every text
    mask: int  # "which token was here?"
    pad: int = 0  # behind shorter texts of a batch; never looked at

    @classmethod
    def of(cls, tokenizer: Any) -> "SpecialTokens":
        """Find [CLS], [SEP], [MASK] and [PAD] among a tokenizer's `special_ids`."""
        ids = tokenizer.special_ids
        if missing := [name for name in NAMES if name not in ids and name != "[UNK]"]:
            raise ValueError(f"the tokenizer has no {', '.join(missing)}; train it with special_tokens={list(NAMES)}")
        return SpecialTokens(cls=ids["[CLS]"], sep=ids["[SEP]"], mask=ids["[MASK]"], pad=ids["[PAD]"])

    @property
    def ids(self) -> tuple[int, ...]:
        """All of them: what is never masked."""
        return self.cls, self.sep, self.mask, self.pad


@dataclass(frozen=True, kw_only=True, slots=True)
class TextBatch:
    """b texts (or pairs of texts) side by side; `label` is what a task wants to know of them, if there is a task.

    >>> special = SpecialTokens(cls=1, sep=2, mask=3)
    >>> batch = TextBatch.of([([7, 8], [9]), ([7], [])], special)
    >>> batch.tokens_bt.tolist(), batch.segment_bt.tolist(), batch.length_b.tolist()
    ([[1, 7, 8, 2, 9, 2], [1, 7, 2, 0, 0, 0]], [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]], [6, 3])
    """

    tokens_bt: Tensor  # int64
    length_b: Tensor  # tokens of each row, the special ones counted
    segment_bt: Tensor  # 0 for the first text, 1 for the second
    label: Tensor | None = None  # int64: (b,) a class for each row, or (b, t) a tag for each token, IGNORE for none

    @classmethod
    def of(
        cls,
        texts: Sequence[Sequence[int] | Pair],
        special: SpecialTokens,
        labels: Sequence[int] | Sequence[Sequence[int]] | None = None,
    ) -> "TextBatch":
        """Frame texts, lists of ids, or pairs of them (tuples; an empty second one is left out).

        `labels` are a class for each text, or a list with a tag for each token of it.
        """
        pairs = [_pair(text) for text in texts]
        _check(pairs, labels)
        rows = [[special.cls, *a, special.sep, *([*b, special.sep] if len(b) else ())] for a, b in pairs]
        segments = [[0] * (len(a) + 2) + [1] * (len(b) + 1 if len(b) else 0) for a, b in pairs]
        label = None
        if labels is not None and isinstance(labels[0], int):
            label = torch.tensor(labels)
        elif labels is not None:
            behind = [IGNORE]
            label = padded([behind + list(tags) + behind for tags in labels], IGNORE)  # type: ignore[arg-type]
        return cls(
            tokens_bt=padded(rows, special.pad),
            length_b=torch.tensor([len(row) for row in rows]),
            segment_bt=padded(segments),
            label=label,
        )

    def __len__(self) -> int:
        return len(self.tokens_bt)

    def to(self, device: torch.device | str) -> "TextBatch":
        """The same texts on another device."""
        label = None if self.label is None else self.label.to(device)
        return replace(
            self,
            tokens_bt=self.tokens_bt.to(device),
            length_b=self.length_b.to(device),
            segment_bt=self.segment_bt.to(device),
            label=label,
        )


def text_batches(
    texts: Sequence[Any],
    b: int,
    special: SpecialTokens,
    generator: torch.Generator,
    labels: Sequence[Any] | None = None,
) -> Iterator[TextBatch]:
    """Batches of b texts without end: pass after pass over all of them, each in an order of its own.

    >>> special, generator = SpecialTokens(cls=1, sep=2, mask=3), torch.Generator().manual_seed(0)
    >>> stream = text_batches([[5], [6, 7], [8]], 2, special, generator, labels=[0, 1, 0])
    >>> sorted(len(next(stream)) for _ in range(2))
    [1, 2]
    """
    _check_sizes(texts, b)
    while True:
        order = shuffled(len(texts), generator)
        batches: list[list[int]] = []
        for start in range(0, len(order), POOL * b):
            pool = sorted(order[start : start + POOL * b], key=lambda place: _length(texts[place]))
            batches.extend(pool[first : first + b] for first in range(0, len(pool), b))
        for place in shuffled(len(batches), generator):
            yield _chosen(texts, labels, batches[place], special)


def texts_in_order(
    texts: Sequence[Any], b: int, special: SpecialTokens, labels: Sequence[Any] | None = None
) -> list[TextBatch]:
    """Every text once, as they come, in batches of b: answers then stand in the order of the questions."""
    _check_sizes(texts, b)
    places = range(len(texts))
    return [_chosen(texts, labels, places[start : start + b], special) for start in range(0, len(texts), b)]


def next_sentence_pairs(
    documents: Sequence[Sequence[Sequence[int]]], generator: torch.Generator
) -> tuple[list[Pair], list[int]]:
    """Pairs of sentences and their labels: 0 where the second follows the first (BERT's IsNext), 1 where it does not.

    `documents` are lists of sentences, these lists of ids. Each sentence but a document's last is the first of one
    pair. Half of the pairs, rounded down, keep their neighbour; the others get a sentence, not the first,
    of another document, drawn evenly from the documents. ValueError when fewer than two documents have neighbours.

    >>> documents = [[[1], [2], [3]], [[4], [5]], [[6], [7]]]
    >>> pairs, labels = next_sentence_pairs(documents, torch.Generator().manual_seed(0))
    >>> sorted(first for first, _ in pairs), sorted(labels)
    ([[1], [2], [4], [6]], [0, 0, 1, 1])
    """
    usable = [document for document in documents if len(document) > 1]
    if len(usable) < 2:
        raise ValueError(f"{len(usable)} documents of two or more sentences; strangers need at least 2 such documents")
    places = [(i, j) for i, document in enumerate(usable) for j in range(len(document) - 1)]
    stranger = set(shuffled(len(places), generator)[: (len(places) + 1) // 2])
    draws = torch.rand(len(places), 2, generator=generator, dtype=torch.float64).tolist()
    pairs: list[Pair] = []
    for number, ((i, j), (which, where)) in enumerate(zip(places, draws, strict=True)):
        k, m = i, j + 1
        if number in stranger:
            k = int(which * (len(usable) - 1))
            k += k >= i  # any document but this one
            m = 1 + int(where * (len(usable[k]) - 1))
        pairs.append((usable[i][j], usable[k][m]))
    return pairs, [int(number in stranger) for number in range(len(places))]


def _pair(text: Any) -> Pair:
    return text if isinstance(text, tuple) else (text, ())


def _length(text: Any) -> int:
    return sum(map(len, text)) if isinstance(text, tuple) else len(text)


def _chosen(
    texts: Sequence[Any], labels: Sequence[Any] | None, places: Sequence[int], special: SpecialTokens
) -> TextBatch:
    return TextBatch.of([texts[i] for i in places], special, None if labels is None else [labels[i] for i in places])


def _check_sizes(texts: Sequence[Any], b: int) -> None:
    if b < 1:
        raise ValueError(f"b={b!r} texts in a batch; it must be at least 1, such as b=32")
    if not len(texts):
        raise ValueError("texts=[] holds nothing to read; give at least one list of token ids")


def _check(pairs: Sequence[Pair], labels: Any) -> None:
    if not pairs:
        raise ValueError("texts=[] is no batch; give at least one list of token ids")
    for place, (first, _) in enumerate(pairs):
        if not len(first):
            raise ValueError(f"texts[{place}] is empty: there is nothing to read; leave it out")
    if labels is None:
        return
    if len(labels) != len(pairs):
        raise ValueError(f"{len(pairs)} texts and {len(labels)} labels; give one label, or one list of tags, for each")
    for place, (label, (first, second)) in enumerate(zip(labels, pairs, strict=True)):
        if not isinstance(label, int) and (len(second) or len(label) != len(first)):
            raise ValueError(
                f"texts[{place}] has {len(first)} tokens and {len(label)} tags; give one tag for each token, and tags "
                "for single texts only"
            )
