"""The encoder: who sees whom, sharing, and agreement with the transformers package under copied weights."""

import pytest
import torch
import transformers
from bert_weights import CONTEXT, HEAD, OURS, D, F, H, V, bert_config, copy_weights, shaken
from bert_weights import N_LAYER as LAYERS
from torch.testing import assert_close

from minillm.transformer.encoder import Encoder, EncoderConfig, MaskedLM, albert, bert
from minillm.transformer.encoder_batches import IGNORE, SpecialTokens, TextBatch
from minillm.transformer.masking import MaskedBatch, Masking, mask
from minillm.transformer.objectives import glm_batch

B, T = 3, 9
LENGTH = torch.tensor([9, 4, 7])


def make(kind=Encoder, **changes):
    sizes = {"vocabulary": V, "context": CONTEXT, "n_layer": LAYERS, "n_head": H, "d_model": D, "d_hidden": F}
    return kind(EncoderConfig(**sizes | changes))


def ids(high=V, seed=0, b=B, t=T):
    return torch.randint(high, (b, t), generator=torch.Generator().manual_seed(seed))


def batch_of():
    tokens, segment = ids(), ids(high=2, seed=1)
    attention = (torch.arange(T) < LENGTH[:, None]).long()
    return tokens, segment, attention


@pytest.fixture(scope="module")
def pretraining():
    theirs = shaken(transformers.BertForPreTraining(bert_config()))
    names = {f"encoder.{o}": f"bert.{t}" for o, t in OURS.items()} | HEAD
    return copy_weights(make(MaskedLM), theirs, names), theirs


@pytest.mark.parametrize("fused", [True, False])
def test_bert_of_the_transformers_package_agrees(pretraining, fused):
    ours, theirs = pretraining
    tokens, segment, attention = batch_of()
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=attention, token_type_ids=segment, output_hidden_states=True)
        x = ours.encoder(tokens, LENGTH, segment, fused=fused)
        logits = ours.logits(tokens, LENGTH, segment, fused=fused)
        answer = ours.next_sentence(ours.encoder.pool(x))
    real = attention.bool()
    assert_close(x[real], expected.hidden_states[-1][real], atol=1e-5, rtol=1e-5)
    assert_close(logits[real], expected.prediction_logits[real], atol=1e-5, rtol=1e-5)
    assert_close(answer, expected.seq_relationship_logits, atol=1e-5, rtol=1e-5)


def test_the_loss_and_its_gradient_agree(pretraining):
    ours, theirs = pretraining
    tokens, segment, attention = batch_of()
    target = ids(seed=2).masked_fill(ids(high=3, seed=3) > 0, IGNORE).masked_fill(attention == 0, IGNORE)
    label = torch.tensor([0, 1, 1])
    expected = theirs(tokens, attention_mask=attention, token_type_ids=segment, labels=target,
                      next_sentence_label=label).loss  # fmt: skip
    batch = MaskedBatch(tokens_bt=tokens, target_bt=target, length_b=LENGTH, segment_bt=segment, label_b=label)
    assert_close(ours.loss(batch), expected)
    assert ours.count(batch) == int((target != IGNORE).sum())
    mine = torch.autograd.grad(ours.loss(batch), [ours.encoder.token.weight, ours.encoder.blocks[0].mlp.up.weight])
    embeddings, layer = theirs.bert.embeddings.word_embeddings, theirs.bert.encoder.layer[0]
    other = torch.autograd.grad(expected, [embeddings.weight, layer.intermediate.dense.weight])
    assert_close((mine[0][1:], mine[1]), (other[0][1:], other[1]))  # theirs holds row 0, its padding, still
    only_masks = MaskedBatch(tokens_bt=tokens, target_bt=target, length_b=LENGTH, segment_bt=segment)
    assert ours.loss(only_masks).item() < expected.item()


@pytest.mark.parametrize("shared_groups", [1, LAYERS])
def test_albert_of_the_transformers_package_agrees(shared_groups):
    config = transformers.AlbertConfig(
        vocab_size=V, embedding_size=5, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=H,
        intermediate_size=F, max_position_embeddings=CONTEXT, num_hidden_groups=shared_groups,
    )  # fmt: skip
    theirs = shaken(transformers.AlbertForPreTraining(config))
    theirs_of = {
        "attention.query": "attention.query", "attention.key": "attention.key", "attention.value": "attention.value",
        "attention.out": "attention.dense", "attention_norm": "attention.LayerNorm", "mlp.up": "ffn",
        "mlp.down": "ffn_output", "mlp_norm": "full_layer_layer_norm",
    }  # fmt: skip
    names = {
        "token": "embeddings.word_embeddings", "position": "embeddings.position_embeddings", "pooler": "pooler",
        "segment": "embeddings.token_type_embeddings", "embedding_norm": "embeddings.LayerNorm",
        "widen": "encoder.embedding_hidden_mapping_in",
    } | {f"blocks.{i}.{o}": f"encoder.albert_layer_groups.{i}.albert_layers.0.{t}"
         for i in range(shared_groups) for o, t in theirs_of.items()}  # fmt: skip
    names = {f"encoder.{o}": f"albert.{t}" for o, t in names.items()}
    names |= {"transform": "predictions.dense", "transform_norm": "predictions.LayerNorm",
              "next_sentence": "sop_classifier.classifier"}  # fmt: skip
    model = make(MaskedLM, shared_layers=shared_groups == 1, d_embedding=5, activation="gelu_tanh")
    ours = copy_weights(model, theirs, names)
    tokens, segment, attention = batch_of()
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=attention, token_type_ids=segment)
        logits = ours.logits(tokens, LENGTH, segment)
        answer = ours.next_sentence(ours.encoder.pool(ours.encoder(tokens, LENGTH, segment)))
    assert_close(logits[attention.bool()], expected.prediction_logits[attention.bool()], atol=1e-5, rtol=1e-5)
    assert_close(answer, expected.sop_logits, atol=1e-5, rtol=1e-5)


def test_everybody_sees_everybody_but_padding():
    encoder, tokens = shaken(make().double()), ids()
    x = encoder(tokens, LENGTH)
    for row, length in enumerate(LENGTH.tolist()):
        alone = encoder(tokens[row : row + 1, :length])
        assert_close(x[row, :length], alone[0])  # in a batch or alone, padded or not
        for place in range(length):
            other = tokens.clone()
            other[row, place] = (other[row, place] + 1) % V
            moved = (encoder(other, LENGTH)[row, :length] - x[row, :length]).abs().amax(dim=1)
            assert (moved > 1e-9).all()  # each token reaches each, before and behind it


def test_place_and_segment_are_told():
    encoder, tokens = shaken(make().double()), ids()
    same = torch.full_like(tokens, 7)
    x = encoder(same)
    assert (x[:, 0] - x[:, 1]).abs().max() > 1e-3
    assert (encoder(tokens, segment_bt=torch.ones_like(tokens)) - encoder(tokens)).abs().max() > 1e-3
    order = torch.arange(T).flip(0)
    turned = encoder(tokens[:, order], position_bt=order.expand(B, T))
    assert_close(turned, encoder(tokens)[:, order])  # with its places, the order of columns is nothing


def test_shared_layers_have_the_parameters_of_one_and_act_as_copies():
    one, many = make(shared_layers=True, n_layer=3), make(n_layer=3)
    per_block = sum(p.numel() for p in make(n_layer=1).blocks.parameters())
    assert many.n_parameters - one.n_parameters == 2 * per_block
    for block in many.blocks:
        block.load_state_dict(one.blocks[0].state_dict())
    rest = {name: value for name, value in one.state_dict().items() if not name.startswith("blocks")}
    many.load_state_dict(rest, strict=False)
    assert_close(many(ids(), LENGTH), one(ids(), LENGTH))


def test_sizes_of_the_papers():
    """Counted without making them: BERT-base has 110M parameters, BERT-large 335M (the paper says 340M), ALBERT 12M."""
    with torch.device("meta"):
        count = {name: _meta(config) for name, config in [("base", bert()), ("large", bert(large=True)),
                                                          ("albert", albert())]}  # fmt: skip
    assert count["base"] == 109_482_240
    assert count["large"] == 335_141_888
    assert count["albert"] == 11_683_584


def _meta(config):
    import minillm.transformer.encoder as file

    before, file.reset = file.reset, lambda model, seed: None  # no numbers to draw on the meta device
    try:
        return Encoder(config).n_parameters
    finally:
        file.reset = before


def test_the_seed_says_how_it_begins():
    a, b, c = make(MaskedLM), make(MaskedLM), make(MaskedLM, seed=1)
    assert_close(a.state_dict(), b.state_dict())
    assert (a.transform.weight != c.transform.weight).any()
    big = make(d_model=64, vocabulary=999)
    assert big.token.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert big.pooler.bias.abs().max() == 0


def test_weights_for_pictures_are_those_of_the_network():
    encoder, tokens = shaken(make()), ids()
    weights = encoder.attention_weights(tokens, LENGTH)
    assert [w.shape for w in weights] == [(B, H, T, T)] * LAYERS
    assert_close(weights[1].sum(-1), torch.ones(B, H, T))
    assert weights[0][1, :, :, 4:].abs().max() == 0
    block = encoder.blocks[0]
    value = block.attention.value(encoder.embed(tokens)).view(B, T, H, -1).transpose(1, 2)
    mixed = block.attention.out((weights[0] @ value).transpose(1, 2).flatten(2))
    stream = block.attention_norm(encoder.embed(tokens) + mixed)
    first = block.mlp_norm(stream + block.mlp(stream))
    assert_close(encoder.blocks[1](first, may_look=(torch.arange(T) < LENGTH[:, None])[:, None, None]),
                 encoder(tokens, LENGTH))  # fmt: skip


def test_glm_sees_the_prefix_from_both_sides_and_its_fillings_from_one():
    special = {"mask": 3, "start": 1, "end": 2}
    texts = [list(range(5, 15)), list(range(15, 20))]
    batch = glm_batch(texts, generator=torch.Generator().manual_seed(0), share=0.4, longest=4, **special)
    model = shaken(make(MaskedLM, segments=6, context=30).double())
    x = model.read(batch)
    for place in range(int(batch.length_b[0])):
        changed = batch.tokens_bt.clone()
        changed[0, place] = 25
        other = MaskedBatch(**{f: getattr(batch, f) for f in batch.__dataclass_fields__} | {"tokens_bt": changed})
        moved = (model.read(other)[0] - x[0]).abs().amax(dim=1)[: int(batch.length_b[0])] > 1e-9
        prefix = int(batch.prefix_length_b[0])
        if place < prefix:
            assert moved.all()
        else:
            assert moved.tolist() == [at >= place for at in range(len(moved))]
    model.loss(batch).backward()


def test_a_few_steps_learn_what_is_hidden():
    """Every text is n, n+1, n+2, … so a hidden token follows from its neighbours; the best constant is right 1 in 6."""
    from minillm.training.loop import train
    from minillm.training.optim import AdamW

    special = SpecialTokens(cls=0, sep=1, mask=2, pad=3)
    masking = Masking(vocabulary=20, special=special, masked=1.0, random=0.0, share=0.4)
    generator = torch.Generator().manual_seed(0)
    texts = TextBatch.of([list(range(n, n + 6)) for n in range(4, 14)], special)
    model = make(MaskedLM, vocabulary=20, d_model=32, d_hidden=64)
    batches = [mask(texts, masking, generator) for _ in range(99)]
    before = float(model.loss(batches[0]).detach())
    train(model, batches, steps=200, optimizer=AdamW(model.parameters(), learning_rate=3e-3))
    guesses = [model.guesses(mask(texts, masking, generator)) for _ in range(9)]
    right = torch.cat([guess == truth for guess, truth in guesses])
    assert before > 2.9 and len(right) == 180 and right.double().mean() > 0.5


@pytest.mark.parametrize("say", [
    (lambda: make(n_head=5), "n_head=5"),
    (lambda: make(activation="swish"), "activation='swish'"),
    (lambda: make(vocabulary=0), "vocabulary=0"),
    (lambda: make(dropout=1.0), "dropout=1.0"),
    (lambda: make()(ids(t=CONTEXT + 1)), "context=15"),
    (lambda: make()(ids() + V), "not in the vocabulary"),
    (lambda: make(MaskedLM).loss(MaskedBatch(tokens_bt=ids(), target_bt=torch.full((B, T), IGNORE), length_b=LENGTH)),
     "hides no token"),
])  # fmt: skip
def test_what_cannot_be_used_is_refused(say):
    act, words = say
    with pytest.raises(ValueError, match=words):
        act()
