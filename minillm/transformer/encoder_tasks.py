"""What an encoder is for: a label for a text, a tag for each token, by one small map on top of it.

    class     softmax(W pooled + b), from [CLS] alone              tag     softmax(W x_t + b), for each token

All weights are trained on, not only the new ones: a few labelled texts turn what was learned about language towards the
task. An encoder that was never pretrained can be given in the same way; that is the comparison to make.

Paper:   Devlin et al. 2019, "BERT", §3.2 and §4, arXiv:1810.04805; the mean over tokens instead of [CLS]: Reimers and
         Gurevych 2019, "Sentence-BERT", §3, arXiv:1908.10084.
Names:   `label` of a `TextBatch` is (b,) here for classes, (b, t) for tags, IGNORE where no tag is asked.
Differs: the encoder is copied, so that one pretrained encoder serves several tasks and stays what it is.
Next:    minillm/transformer/objectives.py
"""

import copy
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.transformer.encoder import Encoder, reset
from minillm.transformer.encoder_batches import IGNORE, TextBatch


class TextClassifier(nn.Module):
    """A class for each text: logits (b, classes).

    `pool` is "cls", BERT's way, which needs a pooler that was pretrained or enough labels, or "mean" of all tokens.

    >>> from minillm.transformer.encoder import EncoderConfig
    >>> from minillm.transformer.encoder_batches import SpecialTokens
    >>> encoder = Encoder(EncoderConfig(vocabulary=11, context=8, n_head=2, d_model=6))
    >>> batch = TextBatch.of([[5, 6, 7], [8]], SpecialTokens(cls=1, sep=2, mask=3))
    >>> TextClassifier(encoder, classes=3).logits(batch).shape
    torch.Size([2, 3])
    """

    def __init__(self, encoder: Encoder, classes: int, pool: Literal["cls", "mean"] = "cls", seed: int = 0) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes={classes!r} must be at least 2, or there is nothing to tell apart")
        if pool not in ("cls", "mean"):
            raise ValueError(f"pool={pool!r} must be 'cls' or 'mean'")
        self.encoder, self.pool = copy.deepcopy(encoder), pool
        self.dropout = nn.Dropout(encoder.config.dropout)
        self.score = nn.Linear(encoder.config.d_model, classes)
        reset(self.score, seed)

    def logits(self, batch: TextBatch) -> Tensor:
        """Logits (b, classes)."""
        x_btd = self.encoder(batch.tokens_bt, batch.length_b, batch.segment_bt)
        pooled_bd = self.encoder.pool(x_btd) if self.pool == "cls" else mean_of_text(x_btd, batch.length_b)
        return self.score(self.dropout(pooled_bd))

    def loss(self, batch: TextBatch) -> Tensor:
        """Mean nats per text."""
        return F.cross_entropy(self.logits(batch), _label_of(batch, axes=1))

    def count(self, batch: TextBatch) -> int:
        """How many texts the mean of `loss` is over."""
        return len(batch)

    @torch.no_grad()
    def predict(self, batches: Iterable[TextBatch]) -> list[int]:
        """The likeliest class of every text, in order; see `texts_in_order`."""
        return [int(answer) for batch in batches for answer in self.logits(batch).argmax(dim=-1)]


class Tagger(nn.Module):
    """A tag for each token: logits (b, t, tags).

    >>> from minillm.transformer.encoder import EncoderConfig
    >>> from minillm.transformer.encoder_batches import SpecialTokens
    >>> encoder = Encoder(EncoderConfig(vocabulary=11, context=8, n_head=2, d_model=6))
    >>> batch = TextBatch.of([[5, 6, 7], [8]], SpecialTokens(cls=1, sep=2, mask=3), labels=[[0, 1, 1], [0]])
    >>> tagger = Tagger(encoder, tags=2)
    >>> [len(tags) for tags in tagger.predict([batch])], tagger.count(batch)
    ([3, 1], 4)
    """

    def __init__(self, encoder: Encoder, tags: int, seed: int = 0) -> None:
        super().__init__()
        if tags < 2:
            raise ValueError(f"tags={tags!r} must be at least 2, or there is nothing to tell apart")
        self.encoder = copy.deepcopy(encoder)
        self.dropout = nn.Dropout(encoder.config.dropout)
        self.score = nn.Linear(encoder.config.d_model, tags)
        reset(self.score, seed)

    def logits(self, batch: TextBatch) -> Tensor:
        """Logits (b, t, tags), of the special tokens too."""
        return self.score(self.dropout(self.encoder(batch.tokens_bt, batch.length_b, batch.segment_bt)))

    def loss(self, batch: TextBatch) -> Tensor:
        """Mean nats per token that has a tag."""
        return F.cross_entropy(self.logits(batch).transpose(1, 2), _label_of(batch, axes=2), ignore_index=IGNORE)

    def count(self, batch: TextBatch) -> int:
        """How many tokens the mean of `loss` is over."""
        return int((_label_of(batch, axes=2) != IGNORE).sum())

    @torch.no_grad()
    def predict(self, batches: Iterable[TextBatch]) -> list[list[int]]:
        """The likeliest tag of every token of every text, in order, without [CLS] and the last [SEP]."""
        tagged: list[list[int]] = []
        for batch in batches:
            rows = self.logits(batch).argmax(dim=-1).tolist()
            tagged.extend(row[1 : length - 1] for row, length in zip(rows, batch.length_b.tolist(), strict=True))
        return tagged


def mean_of_text(x_btd: Tensor, length_b: Tensor) -> Tensor:
    """The mean of each row's vectors, padding left out: (b, d)."""
    inside_bt = torch.arange(x_btd.shape[1], device=x_btd.device) < length_b[:, None]
    return (x_btd * inside_bt[..., None]).sum(dim=1) / length_b[:, None]


def _label_of(batch: TextBatch, axes: int) -> Tensor:
    if batch.label is None or batch.label.ndim != axes:
        what = "a class for each text, (b,)" if axes == 1 else "a tag for each token, (b, t)"
        given = None if batch.label is None else tuple(batch.label.shape)
        raise ValueError(f"label has shape {given}; the rule is {what}: give labels to TextBatch.of")
    return batch.label
