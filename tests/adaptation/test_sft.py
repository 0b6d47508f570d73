"""Fine-tuning on answers: what counts, and that packed examples do not notice each other."""

from dataclasses import replace

import pytest
import torch
from decoder_kinds import CONTEXT, GPT2, KINDS, LLAMA, V, lively
from torch.nn import functional as F
from torch.testing import assert_close

from minillm.adaptation.chat_template import Example
from minillm.adaptation.sft import (
    FILLING,
    SFT,
    SFTBatch,
    pack,
    packed_batches,
    packed_in_order,
    padded_batches,
    padded_in_order,
)
from minillm.training.loop import evaluate, train
from minillm.training.optim import AdamW


def some_examples(n=7, seed=0, longest=11):
    """Examples of unequal lengths, each with its own answer somewhere in it."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda high: int(torch.rand(1, generator=generator) * high)
    examples = []
    for _ in range(n):
        length = 2 + draw(longest - 1)
        begin = 1 + draw(length - 1)
        answer = [begin <= place <= begin + 2 for place in range(length)]
        examples.append(Example(tokens=[draw(V) for _ in range(length)], answer=answer))
    return examples


def alone(model, example):
    """Total nats of the answer of one example, with nothing of `sft` in it."""
    tokens_bt = torch.tensor([example.tokens])
    nats_t = F.cross_entropy(model(tokens_bt[:, :-1])[0], tokens_bt[0, 1:], reduction="none")
    return nats_t[torch.tensor(example.answer[1:])].sum(), sum(example.answer[1:])


def mean_alone(model, examples):
    totals = [alone(model, example) for example in examples]
    return sum(nats for nats, _ in totals) / sum(n for _, n in totals)


def packed_batch(examples, t=CONTEXT - 3):
    (batch,) = packed_in_order(examples, b=99, t=t)
    assert batch.is_packed and len(batch.token_bt) > 1
    return batch


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_batch_is_the_weighted_sum_of_its_examples(kind):
    model, examples = lively(KINDS[kind]), some_examples()
    batch = packed_batch(examples)
    assert_close(SFT(model).loss(batch), mean_alone(model, examples), rtol=1e-5, atol=1e-5)
    assert SFT(model).count(batch) == sum(sum(example.answer[1:]) for example in examples)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["learned", "rope"])
def test_gradients_of_a_packed_batch_too(config, fused):
    examples, model, twin = some_examples(), lively(config), lively(config)
    model.fused = fused
    SFT(model).loss(packed_batch(examples)).backward()
    mean_alone(twin, examples).backward()
    for (name, parameter), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("kind", ["gpt2", "llama", "window"])
def test_a_padded_batch_is_the_weighted_sum_of_its_examples(kind):
    model, examples = lively(KINDS[kind]), some_examples()
    (batch,) = padded_in_order(examples, b=99, pad=3)
    assert not batch.is_packed and batch.filling > 0
    assert_close(SFT(model).loss(batch), mean_alone(model, examples), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["learned", "rope"])
def test_a_packed_example_cannot_see_its_neighbours(config):
    model = SFT(lively(config))
    one, two, other, three = some_examples(4, seed=5)
    other = Example(tokens=[(token + 1) % V for token in two.tokens], answer=two.answer)
    n, m = len(one.tokens) - 1, len(two.tokens) - 1
    h, g = model.hidden(SFTBatch.of([[one, two, three]])), model.hidden(SFTBatch.of([[one, other, three]]))
    assert_close(h[:, :n], g[:, :n])
    assert_close(h[:, n + m :], g[:, n + m :])
    assert (h[:, n : n + m] - g[:, n : n + m]).abs().min() > 1e-6
    moved = model.hidden(SFTBatch.of([[three, one]]))
    assert_close(moved[:, len(three.tokens) - 1 :], h[:, :n], rtol=1e-4, atol=1e-5)  # nor its place in the row


def test_without_the_mask_or_the_positions_it_would_notice():
    """The tests above can fail: packing naively is another loss."""
    examples = some_examples()
    batch = packed_batch(examples)
    for config in (GPT2, LLAMA):
        model = lively(config)
        right = SFT(model).loss(batch)
        naive = model.score(model.hidden(batch.token_bt)[batch.scored_bt])
        assert (F.cross_entropy(naive, batch.target_bt[batch.scored_bt]) - right).abs() > 1e-3
    model = lively(GPT2)  # with RoPE only distances count, so the positions of an example may begin anywhere
    unplaced = model.score(model.hidden(batch.token_bt, may_look=batch.may_look)[batch.scored_bt])
    assert (F.cross_entropy(unplaced, batch.target_bt[batch.scored_bt]) - SFT(model).loss(batch)).abs() > 1e-3


def test_what_fills_a_row_does_not_matter():
    model, examples = SFT(lively(GPT2)), some_examples()
    for in_order in (padded_in_order, lambda e, b, pad: packed_in_order(e, b, CONTEXT, pad)):
        (zeros,), (ones,) = in_order(examples, 99, pad=0), in_order(examples, 99, pad=1)
        assert not torch.equal(zeros.token_bt, ones.token_bt)
        assert torch.equal(model.loss(zeros), model.loss(ones))


def test_only_answers_count():
    model, example = SFT(lively(LLAMA)), Example(tokens=[3, 1, 4, 1, 5], answer=[False, False, True, True, False])
    batch = SFTBatch.of([[example]])
    assert batch.count == 2 and batch.scored_bt.tolist() == [[False, True, True, False]]
    other = SFTBatch.of([[replace(example, tokens=[3, 1, 4, 1, 9])]])  # the last token is no answer
    assert torch.equal(model.loss(batch), model.loss(other))
    whole = SFTBatch.of([[replace(example, answer=[True] * 5)]])
    assert_close(model.loss(whole), model.model.loss(torch.tensor([example.tokens])))  # a mask of ones: pretraining


def test_rows_of_a_batch():
    one, two = Example(tokens=[5, 6, 7], answer=[False, True, True]), Example(tokens=[8, 9], answer=[True, True])
    batch = SFTBatch.of([[one, two], [two]], pad=4)
    assert batch.token_bt.tolist() == [[5, 6, 8], [8, 4, 4]] and batch.target_bt.tolist() == [[6, 7, 9], [9, 4, 4]]
    assert batch.example_bt.tolist() == [[0, 0, 1], [0, FILLING, FILLING]] and batch.filling == pytest.approx(2 / 6)
    assert batch.position_bt.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert batch.may_look[:, 0].int().tolist() == [[[1, 0, 0], [1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 1, 1]]]


def test_packing_keeps_all_fills_rows_and_saves_room():
    examples = some_examples(60)
    rows = pack(examples, t=20)
    assert sorted(map(id, (e for row in rows for e in row))) == sorted(map(id, examples))
    lengths = [sum(len(e.tokens) - 1 for e in row) for row in rows]
    assert max(lengths) <= 20
    assert len(rows) <= 11 / 9 * -(-sum(lengths) // 20) + 6 / 9  # the bound of first-fit decreasing (Dósa 2007)
    (packed,), (padded,) = packed_in_order(examples, 99, 20), padded_in_order(examples, 99)
    assert packed.count == padded.count and packed.filling < 0.1 < padded.filling


def test_streams_show_every_example_once_in_each_pass():
    examples = [Example(tokens=[n, *[1] * (n % 5 + 1)], answer=[False] + [True] * (n % 5 + 1)) for n in range(40)]
    padded = padded_batches(examples, 4, generator=torch.Generator().manual_seed(0))
    passes = [[next(padded) for _ in range(10)] for _ in range(2)]
    orders = [[token for batch in batches for token in batch.token_bt[:, 0].tolist()] for batches in passes]
    assert all(sorted(order) == list(range(40)) for order in orders) and orders[0] != orders[1]
    packed, seen = packed_batches(examples, 4, 9, generator=torch.Generator().manual_seed(0)), []
    while len(seen) < 40:
        batch = next(packed)
        seen += batch.token_bt[(batch.position_bt == 0) & (batch.example_bt != FILLING)].tolist()
    assert sorted(seen) == list(range(40))


def test_train_and_evaluate_weigh_batches_by_their_answers():
    model, examples = lively(GPT2), some_examples()
    for batches in (padded_in_order(examples, 2), packed_in_order(examples, 1, CONTEXT)):
        assert evaluate(SFT(model), batches) == pytest.approx(mean_alone(model, examples).item(), rel=1e-5)
    record = train(SFT(model), padded_in_order(examples, 2), steps=3, accumulate=4, optimizer=AdamW(model.parameters()))
    assert record[0].loss == pytest.approx(mean_alone(lively(GPT2), examples).item(), rel=1e-5)
    assert record[2].loss < record[0].loss


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda e: SFTBatch.of([]), "rows must hold"),
        (lambda e: SFTBatch.of([[e], []]), "rows must hold"),
        (lambda e: SFTBatch.of([[Example(tokens=[1], answer=[True])]]), "teaches nothing"),
        (lambda e: SFTBatch.of([[Example(tokens=[1, 2], answer=[True, False])]]), "teaches nothing"),
        (lambda e: pack([e], t=2), "has 3 tokens to read, and a row has room for t=2"),
        (lambda e: padded_in_order([e], b=0), "b=0"),
        (lambda e: packed_in_order([], b=2, t=9), "0 examples"),
        (lambda e: next(padded_batches([], 2, generator=torch.Generator())), "0 examples"),
        (lambda e: SFT(lively(GPT2)).loss(replace(b := SFTBatch.of([[e]]), scored_bt=b.scored_bt & False)), "no token"),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(Example(tokens=[1, 2, 3, 4], answer=[False, False, True, True]))
