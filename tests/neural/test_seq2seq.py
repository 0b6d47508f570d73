"""Seq2Seq: padding changes nothing, torch's packed cells agree, the loop of attention agrees with one written apart."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.testing import assert_close

from minillm.neural.pairs import PairBatch, pair_batches, pairs_in_order
from minillm.neural.seq2seq import Seq2Seq, Seq2SeqConfig, reversed_rows
from minillm.training.loop import evaluate, train
from minillm.training.optim import AdamW

BEGIN, END = 1, 2
PAIRS = [([5, 9, 3, 12], [4, 3]), ([7], [8, 6, 3, 4, 5]), ([4, 4, 10, 3, 6, 11, 8], []), ([3, 11], [3, 3, 7])]
VARIANTS = [
    {"cell": cell, "attention": attention, "bidirectional": both, "reverse_source": back}
    for cell, attention, both, back in [
        ("gru", None, False, False),
        ("lstm", None, False, True),
        ("gru", "additive", False, False),
        ("gru", "additive", True, True),
        ("lstm", "additive", True, False),
        ("gru", None, True, False),
    ]
]
variants = pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))


def make(**changes):
    """Every axis of another size: 13 source tokens, 9 target tokens, tables of 5, states of 6."""
    settings = {"source_vocabulary": 13, "target_vocabulary": 9, "d_embedding": 5, "d_hidden": 6, **changes}
    return Seq2Seq(Seq2SeqConfig(**settings)).double()


def batch_of(pairs=PAIRS, pad=0):
    return PairBatch.of(pairs, begin=BEGIN, end=END, pad=pad)


@variants
def test_padding_a_batch_changes_nothing(variant):
    model = make(**variant)
    together = model(batch_of())
    for i, pair in enumerate(PAIRS):
        alone = model(batch_of([pair]))
        assert_close(together[i, : len(pair[1]) + 1], alone[0])
        for pad in (3, 8):
            assert_close(model(batch_of(pad=pad))[i, : len(pair[1]) + 1], alone[0])


@variants
def test_the_loss_is_the_mean_over_all_tokens_of_all_pairs_and_padding_has_no_gradient(variant):
    model = make(**variant)
    alone = [(model.loss(batch_of([pair])), len(pair[1]) + 1) for pair in PAIRS]
    by_hand = sum(loss * count for loss, count in alone) / sum(count for _, count in alone)
    loss = model.loss(batch_of())
    assert_close(loss, by_hand)
    assert model.count(batch_of()) == sum(count for _, count in alone) == 14
    parameters = list(model.parameters())
    assert_close(torch.autograd.grad(loss, parameters), torch.autograd.grad(by_hand, parameters))
    padded = model.loss(batch_of(pad=8))  # a token that occurs nowhere else: its rows of the tables stay still
    gradients = torch.autograd.grad(padded, [model.source_embedding.weight, model.target_embedding.weight])
    clean = torch.autograd.grad(model.loss(batch_of()), [model.source_embedding.weight, model.target_embedding.weight])
    assert_close(gradients, clean)
    assert (clean[0][0] == 0).all() and (clean[1][0] == 0).all()  # token 0, the padding


@variants
def test_a_target_token_is_written_before_it_is_seen(variant):
    model, batch = make(**variant), batch_of(PAIRS[1:2])
    for cut in range(1, 7):
        changed = batch.target_bt.clone()
        changed[:, cut:] = (changed[:, cut:] + 1) % 9
        other = replace(batch, target_bt=changed)
        assert_close(model(other)[:, :cut], model(batch)[:, :cut])
        if cut < 6:
            assert (model(other)[:, cut] != model(batch)[:, cut]).any()


@variants
def test_every_source_token_is_read(variant):
    model, source = make(**variant), PAIRS[2][0]
    for place in range(len(source)):
        changed = [*source[:place], source[place] + 1, *source[place + 1 :]]
        assert (model(batch_of([(changed, [3])])) != model(batch_of([(source, [3])]))).any()


@variants
def test_step_by_step_is_the_training_pass(variant):
    """Teacher forcing in one pass and the steps of translation are one model."""
    model, batch = make(**variant), batch_of()
    state = model.start(batch.source_bs, batch.source_length_b)
    logits = []
    for token_b in batch.target_bt[:, :-1].unbind(dim=1):
        logits_bv, state = model.step(token_b, state)
        logits.append(logits_bv)
    assert_close(torch.stack(logits, dim=1), model(batch))


@variants
def test_selected_rows_go_on_as_they_would(variant):
    model, batch, rows = make(**variant), batch_of(), torch.tensor([2, 0, 0, 3, 1])
    _, state = model.step(torch.tensor([3, 4, 5, 6]), model.start(batch.source_bs, batch.source_length_b))
    token_b = torch.tensor([8, 7, 6, 5])
    chosen, _ = model.step(token_b[rows], model.select(state, rows))
    assert_close(chosen, model.step(token_b, state)[0][rows])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("both", [False, True])
def test_the_reader_is_torchs_cell_on_packed_rows(cell, both):
    model, batch = make(cell=cell, bidirectional=both), batch_of()
    twin = (nn.GRU if cell == "gru" else nn.LSTM)(5, 3 if both else 6, batch_first=True, bidirectional=both).double()
    twin.load_state_dict(model.encoder.state_dict())
    order = batch.source_length_b.argsort(descending=True)
    x = model.source_embedding(batch.source_bs[order])
    packed, last = twin(pack_padded_sequence(x, batch.source_length_b[order], batch_first=True))
    outputs, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    memory_bsf, state = model.encode(batch.source_bs, batch.source_length_b)
    assert_close(memory_bsf[order], outputs)
    for ours, theirs in zip(*((p if isinstance(p, tuple) else (p,)) for p in (state, last)), strict=True):
        assert_close(ours[0, order], torch.cat(list(theirs), dim=1))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_reading_backwards_is_reading_the_reversed_source(cell):
    plain, backwards = make(cell=cell), make(cell=cell, reverse_source=True)
    reversed_pairs = [(source[::-1], target) for source, target in PAIRS]
    assert_close(backwards(batch_of()), plain(batch_of(reversed_pairs)))
    batch = batch_of()
    memory_bsf, _ = backwards.encode(batch.source_bs, batch.source_length_b)
    other, _ = plain.encode(batch_of(reversed_pairs).source_bs, batch.source_length_b)
    for i, (source, _) in enumerate(PAIRS):  # the notes still lie where their tokens lie
        assert_close(memory_bsf[i, : len(source)], other[i, : len(source)].flip(0))


def test_reversing_twice_is_doing_nothing_and_padding_stays_where_it_is():
    x, length_b = torch.arange(24).reshape(3, 4, 2), torch.tensor([4, 1, 3])
    assert_close(reversed_rows(reversed_rows(x, length_b), length_b), x)
    assert reversed_rows(x, length_b)[2, :, 0].tolist() == [20, 18, 16, 22]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_writer_with_attention_agrees_with_a_loop_written_apart(cell):
    """One pair, torch's own single-step cells, the weights by softmax over a list, no batch anywhere."""
    model, (source, target) = make(cell=cell, attention="additive"), PAIRS[0]
    weights = model.decoder.cells.state_dict()
    step = (nn.GRUCell if cell == "gru" else nn.LSTMCell)(5 + 6, 6).double()
    step.load_state_dict({name.removesuffix("_l0"): value for name, value in weights.items()})
    attention = model.decoder.attention
    outputs, last = model.encoder(model.source_embedding(torch.tensor(source)))
    hidden = last.clone() if cell == "gru" else tuple(part.clone() for part in last)
    logits, looked = [], []
    for token in [BEGIN, *target]:
        s = (hidden if cell == "gru" else hidden[0])[0]
        e = [attention.score(torch.tanh(attention.query(s) + attention.key(m)))[0] for m in outputs]
        alpha = [x.exp() / sum(y.exp() for y in e) for x in e]
        c = sum(a * m for a, m in zip(alpha, outputs, strict=True))
        x = torch.cat([model.target_embedding.weight[token], c])[None]
        hidden = step(x, hidden)
        s = (hidden if cell == "gru" else hidden[0])[0]
        logits.append(model.score(torch.tanh(model.decoder.output(torch.cat([s, c])))))
        looked.append(torch.stack(alpha))
    assert_close(model(batch_of())[0, :3], torch.stack(logits))
    assert_close(model.alignment(batch_of())[0, :3, :4], torch.stack(looked).detach())


@pytest.mark.parametrize("variant", [{}, {"bidirectional": True}, {"reverse_source": True, "cell": "lstm"}])
def test_alignments_spend_one_unit_on_the_source_and_nothing_on_padding(variant):
    model, batch = make(attention="additive", **variant), batch_of()
    alignment_bts = model.alignment(batch)
    assert alignment_bts.shape == (4, 6, 7)
    assert_close(alignment_bts.sum(dim=2), batch.asked_bt.double())
    for i, (source, _) in enumerate(PAIRS):
        assert (alignment_bts[i, :, len(source) :] == 0).all()
    assert_close(model.alignment(batch_of([PAIRS[0]]))[0], alignment_bts[0, :3, :4])


def brute_force_best(model, source, max_tokens, penalty):
    """Every target over 6 tokens, scored by the training pass, which knows no search."""
    best, best_score = None, -math.inf
    bodies = [[]]
    for n in range(max_tokens):
        for body in bodies:
            nats = float(model.loss(batch_of([(source, body)]))) * (n + 1)
            if -nats / ((6 + n) / 6) ** penalty > best_score:
                best, best_score = body, -nats / ((6 + n) / 6) ** penalty
        bodies = [[*body, token] for body in bodies for token in (0, 3, 4)]
    return best, best_score


@pytest.mark.parametrize("attention", [None, "additive"])
@pytest.mark.parametrize("penalty", [0.0, 1.5])
def test_a_wide_beam_finds_the_best_of_all_targets(attention, penalty):
    model = make(attention=attention, target_vocabulary=5, seed=3)
    with torch.no_grad():  # tokens 1 and 2 are begin and end; begin is never written
        model.score.bias[BEGIN] = -1e4
        model.score.weight.mul_(6)
        found = model.hypotheses([PAIRS[0][0]], begin=BEGIN, end=END, max_tokens=4, beam=100, length_penalty=penalty)[0]
        best, score = brute_force_best(model, PAIRS[0][0], 4, penalty)
    assert found[0].tokens == best and found[0].score == pytest.approx(score, rel=1e-6)


@variants
def test_a_beam_of_1_is_greedy_and_many_sources_are_each_by_itself(variant):
    model = make(**variant, seed=2)
    with torch.no_grad():
        model.score.weight.mul_(8)
    sources = [source for source, _ in PAIRS] * 2
    settings = {"begin": BEGIN, "end": END, "max_tokens": 7}
    by_hand = []
    for source in sources:
        state, token, tokens = model.start(torch.tensor([source]), torch.tensor([len(source)])), BEGIN, []
        while len(tokens) < 7:
            logits_bv, state = model.step(torch.tensor([token]), state)
            if (token := int(logits_bv.argmax())) == END:
                break
            tokens.append(token)
        by_hand.append(tokens)
    assert model.translate(sources, **settings) == by_hand
    wide = model.translate(sources, **settings, beam=3)
    assert wide == [model.translate([source], **settings, beam=3)[0] for source in sources]


def test_more_sources_than_go_into_one_batch_come_back_in_their_order(monkeypatch):
    model, sources = make(attention="additive"), [source for source, _ in PAIRS] * 3
    at_once = model.hypotheses(sources, begin=BEGIN, end=END, max_tokens=5, beam=2)
    monkeypatch.setattr("minillm.neural.pair_model.SOURCES_AT_ONCE", 5)
    few = model.hypotheses(sources, begin=BEGIN, end=END, max_tokens=5, beam=2)
    assert [[one.tokens for one in row] for row in few] == [[one.tokens for one in row] for row in at_once]
    assert model.translate([], begin=BEGIN, end=END, max_tokens=5) == []


@pytest.mark.parametrize("training", [True, False])
def test_translation_is_without_dropout_and_leaves_the_mode_as_it_was(training, monkeypatch):
    model, modes = make(attention="additive").train(training), []
    step = model.step
    monkeypatch.setattr(model, "step", lambda *given: (modes.append(model.decoder.training), step(*given))[1])
    model.translate([[3, 4]], begin=BEGIN, end=END, max_tokens=3)
    assert modes and not any(modes)
    assert model.training is model.decoder.training is training


def test_the_first_loss_is_that_of_no_idea():
    model = make(target_vocabulary=90, attention="additive", d_hidden=64)
    assert model.loss(batch_of()).item() == pytest.approx(math.log(90), abs=0.4)


def test_the_seed_decides_the_start():
    assert_close(make(seed=1)(batch_of()), make(seed=1)(batch_of()), rtol=0, atol=0)
    assert not torch.allclose(make(seed=1)(batch_of()), make(seed=2)(batch_of()))


@pytest.mark.no_promises
@pytest.mark.parametrize("attention", [None, "additive"])
def test_it_learns_to_write_a_source_backwards(attention):
    g = torch.Generator().manual_seed(0)
    sources = [torch.randint(3, 8, (int(n),), generator=g).tolist() for n in torch.randint(1, 4, (300,), generator=g)]
    pairs = [(source, source[::-1]) for source in sources]
    model = Seq2Seq(Seq2SeqConfig(source_vocabulary=8, target_vocabulary=8, d_embedding=16, d_hidden=32,
                                  attention=attention))  # fmt: skip
    batches = pair_batches(pairs, 32, begin=BEGIN, end=END, generator=g)
    train(model, batches, steps=250, optimizer=AdamW(model.parameters(), learning_rate=0.01), clip=1.0)
    assert evaluate(model, pairs_in_order(pairs, 64, begin=BEGIN, end=END)) < 0.1
    written = model.translate(sources[:50], begin=BEGIN, end=END, max_tokens=6)
    assert sum(tokens == source[::-1] for tokens, source in zip(written, sources, strict=False)) >= 45


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source_vocabulary": 0}, "source_vocabulary=0 must be a whole number of at least 1"),
        ({"d_hidden": 2.5}, "d_hidden=2.5 must be a whole number"),
        ({"cell": "rnn"}, "cell='rnn' must be 'gru' or 'lstm'"),
        ({"attention": "dot"}, "attention='dot' must be None or 'additive'"),
        ({"bidirectional": True, "d_hidden": 7}, "d_hidden=7 cannot be halved for the two directions; d_hidden=8 can"),
    ],
)
def test_configurations_that_cannot_be_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        make(**changes)


def test_tokens_outside_the_vocabularies_are_refused():
    model, settings = make(attention="additive"), {"begin": BEGIN, "end": END, "max_tokens": 4}
    with pytest.raises(ValueError, match=r"source\[0, 1\]=13 is not in the vocabulary of 13; tokens go from 0 to 12"):
        model.loss(batch_of([([3, 13], [4])]))
    with pytest.raises(ValueError, match=r"target\[1, 2\]=9 is not in the vocabulary of 9"):
        model.alignment(batch_of([([3], [4]), ([3], [4, 9])]))
    with pytest.raises(ValueError, match=r"sources\[1\]\[0, 0\]=-1 is not in the vocabulary of 13"):
        model.translate([[3], [-1]], **settings)
    with pytest.raises(ValueError, match=r"sources\[1\]=\[\] has nothing to translate"):
        model.translate([[3], []], **settings)
    with pytest.raises(ValueError, match=r"end=9 is not in the target vocabulary of 9; tokens go from 0 to 8"):
        model.translate([[3]], begin=1, end=9, max_tokens=4)


def test_a_model_without_attention_has_no_alignment():
    with pytest.raises(ValueError, match="attention=None and looks nowhere"):
        make().alignment(batch_of())
