"""Classes and tags: agreement with the transformers package, padding, and what is learned from a few examples."""

import pytest
import torch
import transformers
from bert_weights import CONTEXT, OURS, D, F, H, V, bert_config, copy_weights, shaken
from torch.testing import assert_close

from minillm.training.loop import train
from minillm.training.optim import AdamW
from minillm.transformer.encoder import Encoder, EncoderConfig
from minillm.transformer.encoder_batches import IGNORE, SpecialTokens, TextBatch, texts_in_order
from minillm.transformer.encoder_tasks import Tagger, TextClassifier, mean_of_text

B, T, CLASSES = 3, 9, 5
SPECIAL = SpecialTokens(cls=1, sep=2, mask=3)
LENGTH = torch.tensor([9, 4, 7])


def encoder(**changes):
    sizes = {"vocabulary": V, "context": CONTEXT, "n_layer": 2, "n_head": H, "d_model": D, "d_hidden": F}
    return Encoder(EncoderConfig(**sizes | changes))


def batch_of(label=None):
    generator = torch.Generator().manual_seed(0)
    tokens, segment = (torch.randint(high, (B, T), generator=generator) for high in (V, 2))
    return TextBatch(tokens_bt=tokens, length_b=LENGTH, segment_bt=segment, label=label)


def asked_of_theirs(batch):
    attention = (torch.arange(T) < LENGTH[:, None]).long()
    return {"input_ids": batch.tokens_bt, "attention_mask": attention, "token_type_ids": batch.segment_bt}


def names(pooler=True):
    theirs = {f"encoder.{o}": f"bert.{t}" for o, t in OURS.items() if pooler or o != "pooler"}
    return theirs | {"score": "classifier"}


def test_bert_for_sequence_classification_agrees():
    theirs = shaken(transformers.BertForSequenceClassification(bert_config(num_labels=CLASSES)))
    ours = copy_weights(TextClassifier(encoder(), CLASSES), theirs, names())
    label = torch.tensor([4, 0, 2])
    batch = batch_of(label)
    expected = theirs(**asked_of_theirs(batch), labels=label)
    assert_close(ours.logits(batch), expected.logits, atol=1e-5, rtol=1e-5)
    assert_close(ours.loss(batch), expected.loss)
    assert ours.predict([batch, batch]) == expected.logits.argmax(1).tolist() * 2
    assert ours.count(batch) == B


def test_bert_for_token_classification_agrees():
    theirs = shaken(transformers.BertForTokenClassification(bert_config(num_labels=CLASSES)))
    ours = Tagger(encoder(), CLASSES)
    theirs.bert.pooler = transformers.models.bert.modeling_bert.BertPooler(bert_config())  # ours has one, unused here
    ours = copy_weights(ours, theirs, names())
    label = torch.randint(CLASSES, (B, T), generator=torch.Generator().manual_seed(1))
    label[torch.arange(T) >= LENGTH[:, None] - 1] = IGNORE
    label[:, 0] = IGNORE
    batch = batch_of(label)
    theirs.bert.pooler = None
    expected = theirs(**asked_of_theirs(batch), labels=label)
    inside = torch.arange(T) < LENGTH[:, None]
    assert_close(ours.logits(batch)[inside], expected.logits[inside], atol=1e-5, rtol=1e-5)
    assert_close(ours.loss(batch), expected.loss)
    best = expected.logits.argmax(2).tolist()
    assert ours.predict([batch]) == [row[1 : n - 1] for row, n in zip(best, LENGTH.tolist(), strict=True)]
    assert ours.count(batch) == 7 + 2 + 5


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_padding_and_company_change_no_answer(pool):
    model = shaken(TextClassifier(encoder().double(), CLASSES, pool=pool).double())
    texts = [[5] * n for n in (1, 9, 4)]
    together = model.logits(TextBatch.of(texts, SPECIAL))
    alone = torch.cat([model.logits(TextBatch.of([text], SPECIAL)) for text in texts])
    assert_close(together, alone)


def test_the_mean_is_over_the_text_alone():
    x = torch.arange(24.0).view(2, 4, 3)
    assert_close(mean_of_text(x, torch.tensor([2, 4])), torch.stack([x[0, :2].mean(0), x[1].mean(0)]))


def test_the_encoder_is_copied():
    pretrained = encoder()
    before = {name: value.clone() for name, value in pretrained.state_dict().items()}
    model = TextClassifier(pretrained, 2)
    batch = TextBatch.of([[5, 6], [7]], SPECIAL, labels=[0, 1])
    train(model, [batch], steps=3, optimizer=AdamW(model.parameters(), learning_rate=0.1))
    assert_close(pretrained.state_dict(), before)
    assert (model.encoder.token.weight != before["token.weight"]).any()


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_a_class_is_learned(pool):
    """Class 1: token 9 is among them, anywhere."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(4, 9, (60, 5), generator=generator)
    for i in range(0, 60, 2):
        rows[i, i % 5] = 9
    labels = [1, 0] * 30
    model = TextClassifier(encoder(d_hidden=48), 2, pool=pool)
    batch = TextBatch.of(rows[:40].tolist(), SPECIAL, labels=labels[:40])
    train(model, [batch], steps=120, optimizer=AdamW(model.parameters(), learning_rate=3e-3))
    assert model.predict(texts_in_order(rows[40:].tolist(), 7, SPECIAL)) == labels[40:]


def test_tags_are_learned_and_need_both_sides():
    """A token's tag is 1 when the token behind it is 9: no left-to-right reader could know."""
    rows = torch.randint(4, 10, (80, 6), generator=torch.Generator().manual_seed(0))
    tags = torch.cat([rows[:, 1:] == 9, torch.zeros(80, 1, dtype=torch.bool)], dim=1).long()
    model = Tagger(encoder(d_hidden=48), 2)
    batch = TextBatch.of(rows[:60].tolist(), SPECIAL, labels=tags[:60].tolist())
    train(model, [batch], steps=300, optimizer=AdamW(model.parameters(), learning_rate=5e-3))
    answers = torch.tensor(model.predict(texts_in_order(rows[60:].tolist(), 7, SPECIAL)))
    assert (answers == tags[60:]).double().mean() > 0.95 > 0.9 > (tags[60:] == 0).double().mean()


@pytest.mark.parametrize("say", [
    (lambda: TextClassifier(encoder(), 1), "classes=1"),
    (lambda: Tagger(encoder(), 0), "tags=0"),
    (lambda: TextClassifier(encoder(), 2, pool="max"), "pool='max'"),
    (lambda: TextClassifier(encoder(), 2).loss(batch_of()), "a class for each text"),
    (lambda: Tagger(encoder(), 2).loss(batch_of(torch.zeros(B, dtype=torch.int64))), "a tag for each token"),
])  # fmt: skip
def test_what_cannot_be_used_is_refused(say):
    act, words = say
    with pytest.raises(ValueError, match=words):
        act()
