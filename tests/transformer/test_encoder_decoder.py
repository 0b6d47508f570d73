"""The 2017 machine: torch's Transformer under copied weights, what may be seen, label smoothing, learning."""

import math

import pytest
import torch
from small_transformer import BEGIN, BOTH, END, F_, PAIRS, D, H, N, V, batch, make, positions, torch_twin
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from minillm.training.loop import evaluate, train
from minillm.training.optim import AdamW, linear_warmup_cosine
from minillm.transformer.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, base_2017


@BOTH
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
def test_it_is_torchs_transformer_with_the_same_weights(norm_first, fused):
    model = make(norm_first=norm_first, fused=fused)
    twin, pairs = torch_twin(model), batch()
    source_bs, target_bt = pairs.source_bs, pairs.target_bt[:, :-1]
    embed = lambda tokens: math.sqrt(D) * F.embedding(tokens, model.embedding.weight) + positions(tokens.shape[1])
    padded = torch.tensor([[s >= len(source) for s in range(5)] for source, _ in PAIRS])
    target_padded = torch.tensor([[t >= len(target) + 1 for t in range(7)] for _, target in PAIRS])
    hidden = twin(
        embed(source_bs),
        embed(target_bt),
        tgt_mask=torch.ones(7, 7, dtype=torch.bool).triu(1),
        src_key_padding_mask=padded,
        memory_key_padding_mask=padded,
        tgt_key_padding_mask=target_padded,
    )
    expected = hidden @ model.embedding.weight.T
    asked = pairs.asked_bt
    assert_close(model(pairs)[asked], expected[asked])
    gradient = lambda logits: torch.autograd.grad(logits[asked].square().sum(), model.embedding.weight)[0]
    assert_close(gradient(model(pairs)), gradient(expected))  # all three uses of the one table


def test_the_base_model_has_the_parameters_that_the_paper_describes():
    config = base_2017()
    with torch.device("meta"):
        layers = [nn.TransformerEncoderLayer(512, 8, 2048), nn.TransformerDecoderLayer(512, 8, 2048)]
    each = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    small = make(norm_first=False)
    by_hand = V * D + N * sum(
        sum(p.numel() for p in layer.parameters())
        for layer in (nn.TransformerEncoderLayer(D, H, F_), nn.TransformerDecoderLayer(D, H, F_))
    )
    assert small.n_parameters == by_hand
    total = config.vocabulary * config.d_model + config.n_layer * sum(each)
    assert 62e6 < total < 66e6  # Table 3 says 65 million
    assert (config.n_head, config.d_hidden or 4 * config.d_model, config.norm_first) == (8, 2048, False)


# invariances


@BOTH
def test_the_future_of_the_target_cannot_change_the_past(norm_first):
    model, pairs, other = make(norm_first=norm_first), batch(), batch()
    for cut in range(1, 7):
        other.target_bt.copy_(pairs.target_bt)
        other.target_bt[:, cut:] = (pairs.target_bt[:, cut:] + 1) % V
        assert_close(model(other)[:, :cut], model(pairs)[:, :cut])
        assert (model(other)[:, cut:] != model(pairs)[:, cut:]).any()


@BOTH
def test_every_source_token_is_in_view_and_padding_is_not(norm_first):
    model, pairs = make(norm_first=norm_first), batch()
    for place in range(5):
        other = batch()
        other.source_bs[:, place] = (pairs.source_bs[:, place] + 1) % V
        seen = (model(other) != model(pairs)).any(dim=2).all(dim=1)
        assert seen.tolist() == [place < len(source) for source, _ in PAIRS]


@BOTH
def test_a_pair_has_the_same_loss_alone_and_beside_longer_ones(norm_first):
    model = make(norm_first=norm_first)
    alone = torch.stack([model.loss(batch([pair])) for pair in PAIRS])
    count = torch.tensor([model.count(batch([pair])) for pair in PAIRS])
    assert count.tolist() == [4, 7, 2, 3]
    assert_close(model.loss(batch()), (alone * count).sum() / count.sum())
    assert_close(model.loss(batch(pad=9)), model.loss(batch(pad=0)))


def test_the_order_of_words_matters():
    model = make()
    assert not torch.allclose(model(batch([([5, 6], [3])])), model(batch([([6, 5], [3])])))


# label smoothing


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_smoothed_loss_is_the_cross_entropy_of_the_smoothed_truth_and_only_while_training(smoothing):
    model, pairs = make(smoothing=smoothing), batch()
    by_hand = 0.0
    for row, (_, target) in enumerate(PAIRS):
        logprob = model(pairs)[row].log_softmax(dim=-1)
        for place, token in enumerate([*target, END]):
            truth = torch.full((V,), smoothing / V, dtype=torch.float64)
            truth[token] += 1 - smoothing
            by_hand -= (truth * logprob[place]).sum()
    assert_close(model.train().loss(pairs), by_hand / pairs.count)
    assert_close(model.eval().loss(pairs), make(smoothing=0.0).loss(pairs))


def test_padding_is_never_scored_nor_smoothed():
    model, pairs, other = make(smoothing=0.3), batch(), batch()
    other.target_bt[~torch.cat([torch.ones(4, 1, dtype=torch.bool), pairs.asked_bt], dim=1)] = 12
    table = lambda one: torch.autograd.grad(model.loss(one), list(model.parameters()))
    assert_close(model.loss(other), model.loss(pairs), rtol=0, atol=0)
    assert_close(table(other), table(pairs), rtol=0, atol=0)


# training


@BOTH
@pytest.mark.no_promises
def test_it_learns_to_turn_a_sequence_round(norm_first):
    generator = torch.Generator().manual_seed(0)
    rows = [(torch.rand(4, generator=generator) * 8 + 3).long().tolist() for _ in range(1050)]
    pairs = [(row[: 2 + i % 3], row[: 2 + i % 3][::-1]) for i, row in enumerate(rows)]
    model = EncoderDecoder(
        EncoderDecoderConfig(vocabulary=11, context=8, n_layer=1, d_model=32, norm_first=norm_first, smoothing=0.05)
    )
    batches, held_out = [batch(pairs[i : i + 25]) for i in range(0, 1000, 25)], [batch(pairs[1000:])]
    before = evaluate(model, held_out)
    schedule = lambda step: linear_warmup_cosine(step, steps=200, warmup=20)
    train(model, batches, steps=200, optimizer=AdamW(model.parameters(), learning_rate=0.01), schedule=schedule)
    assert evaluate(model, held_out) < 0.15 * before
    sources = [source for source, _ in pairs[1000:]]
    found = model.translate(sources, begin=BEGIN, end=END, max_tokens=8)
    assert sum(got == source[::-1] for got, source in zip(found, sources, strict=True)) >= 35  # of 50; chance is 0


def test_the_same_seed_is_the_same_model():
    one, same, other = (EncoderDecoder(EncoderDecoderConfig(vocabulary=V, seed=seed)) for seed in (3, 3, 4))
    assert_close(one.state_dict(), same.state_dict(), rtol=0, atol=0)
    assert (one.embedding.weight != other.embedding.weight).any()
    assert one.embedding.weight.std().item() == pytest.approx(64**-0.5, rel=0.1)
    vectors = {name: p for name, p in one.named_parameters() if p.ndim == 1}
    assert all((p == float("norm.weight" in name)).all() for name, p in vectors.items())  # gains 1, biases 0
    assert "positions.table" not in one.state_dict()


def test_dropout_is_there_in_training_alone():
    model, pairs = make(dropout=0.5, smoothing=0.0), batch()
    assert model.train().loss(pairs) != model.loss(pairs)
    assert_close(model.eval().loss(pairs), make(smoothing=0.0).loss(pairs))


# bad input


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vocabulary": 0}, "vocabulary=0 must be a whole number"),
        ({"n_layer": 1.5}, "n_layer=1.5"),
        ({"context": -1}, "context=-1"),
        ({"n_head": 5}, "d_model=12 cannot be split over n_head=5"),
        ({"d_model": 9}, "d_model=9 cannot be split into pairs of sine and cosine; 10 can"),
        ({"smoothing": 1.0}, "smoothing=1.0 is a share"),
        ({"dropout": 1.0}, "dropout=1.0 is a share"),
        ({"d_hidden": 0}, "d_hidden=0"),
    ],
)
def test_bad_sizes_are_named(changes, says):
    with pytest.raises(ValueError, match=says):
        make(**changes)


def test_bad_tokens_lengths_and_layers_are_named():
    model = make(context=5)
    with pytest.raises(ValueError, match=r"source\[0, 1\]=13 is not in the vocabulary of 13"):
        model.loss(batch([([3, 13], [4])]))
    with pytest.raises(ValueError, match=r"target\[0, 1\]=-1"):
        model.loss(batch([([3], [-1])]))
    with pytest.raises(ValueError, match=r"a sequence of 6 tokens does not fit into context=5.*context=6"):
        model.loss(batch([([3] * 6, [4])]))
    with pytest.raises(ValueError, match="a sequence of 6 tokens"):
        model.loss(batch([([3], [4] * 5)]))
    with pytest.raises(ValueError, match="a sequence of 6 tokens"):
        model.hypotheses([[3]], begin=BEGIN, end=V - 1, max_tokens=9)
    with pytest.raises(ValueError, match=r"kind='self', layer=-1"):
        model.weights(batch([([3], [4])]), kind="self")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"layer=2: .* from 0 to 1"):
        model.weights(batch([([3], [4])]), layer=2)
