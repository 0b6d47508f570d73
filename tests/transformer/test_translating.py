"""The 2017 machine at work: cached steps are recomputed logits, beams find the best, pictures show what was used."""

import math

import pytest
import torch
from small_transformer import BEGIN, BOTH, END, PAIRS, D, H, N, batch, make, positions, torch_twin
from torch.nn import functional as F
from torch.testing import assert_close


@BOTH
def test_cached_steps_are_the_recomputed_logits(norm_first):
    model, pairs = make(norm_first=norm_first), batch()
    state, whole = model.start(pairs.source_bs, pairs.source_length_b), model(pairs)
    for t in range(7):
        logits_bv, state = model.step(pairs.target_bt[:, t], state)
        assert_close(logits_bv, whole[:, t])


@BOTH
def test_a_state_can_lose_repeat_and_reorder_rows(norm_first):
    model, pairs, rows = make(norm_first=norm_first), batch(), torch.tensor([3, 0, 0, 1, 3])
    whole = model(pairs)[rows]
    for cut in (0, 2):
        state = model.start(pairs.source_bs, pairs.source_length_b)
        for t in range(cut):
            _, state = model.step(pairs.target_bt[:, t], state)
        state = model.select(state, rows)
        for t in range(cut, 7):
            logits_bv, state = model.step(pairs.target_bt[rows, t], state)
            assert_close(logits_bv, whole[:, t])


@BOTH
def test_greedy_translation_without_a_cache_is_the_same(norm_first):
    for seed in range(3):
        model = make(norm_first=norm_first, seed=seed)
        found = model.translate([source for source, _ in PAIRS], begin=BEGIN, end=END, max_tokens=6)
        for (source, _), got in zip(PAIRS, found, strict=True):
            tokens = []
            while len(tokens) < 6 and (token := int(greedy(model, source, tokens))) != END:
                tokens.append(token)
            assert got == tokens


def greedy(model, source, tokens):
    with torch.no_grad():
        target_bt = torch.tensor([[BEGIN, *tokens]])
        source_bsd = model.encode(torch.tensor([source]))
        return (model.decode(target_bt, source_bsd)[0, -1] @ model.embedding.weight.T).argmax()


@pytest.mark.no_promises
def test_a_wide_beam_finds_the_best_of_all_translations():
    """Every sequence over a vocabulary of 4, end among it, of up to 3 tokens: 3 + 9 + 27 beginnings and their ends."""
    model = make(vocabulary=4, seed=2)
    source, end = [3, 1, 0], 2
    best, stack = (-math.inf, []), [([], 0.0)]
    while stack:
        tokens, logprob = stack.pop()
        target_bt = torch.tensor([[1, *tokens]])
        with torch.no_grad():
            hidden = model.decode(target_bt, model.encode(torch.tensor([source])))
        next_v = (hidden[0, -1] @ model.embedding.weight.T).log_softmax(dim=-1).tolist()
        best = max(best, ((logprob + next_v[end]) / ((5 + len(tokens) + 1) / 6) ** 0.6, tokens))
        if len(tokens) < 3:
            stack += [([*tokens, v], logprob + next_v[v]) for v in (0, 1, 3)]
    first = model.hypotheses([source], begin=1, end=end, max_tokens=4, beam=64, length_penalty=0.6)[0][0]
    assert (first.tokens, first.ended) == (best[1], True)
    assert first.score == pytest.approx(best[0])


# what pictures show


@BOTH
def test_weights_are_those_that_made_the_output(norm_first):
    model, pairs = make(norm_first=norm_first), batch()
    source_stream, target_stream = model.streams(pairs)
    for layer in range(N):
        for kind, axes in (("source", (5, 5)), ("target", (7, 7)), ("cross", (7, 5))):
            weight_bhts = model.weights(pairs, layer=layer, kind=kind)
            assert weight_bhts.shape == (4, H, *axes)
            assert_close(weight_bhts.sum(dim=-1), torch.ones(4, H, axes[0]).double())
            if kind == "target":
                assert (weight_bhts.triu(1) == 0).all()
            else:
                for row, (source, _) in enumerate(PAIRS):
                    assert (weight_bhts[row, :, :, len(source) :] == 0).all()
        # the output of a block, put together again from its weights
        encoder, weight_bhts = model.encoder[layer], model.weights(pairs, layer=layer, kind="source")
        x = source_stream[layer]
        y = encoder.attention_norm(x) if norm_first else x
        value = encoder.attention.value(y).unflatten(-1, (H, -1)).transpose(1, 2)
        x = x + encoder.attention.out((weight_bhts @ value).transpose(1, 2).flatten(2))
        x = x if norm_first else encoder.attention_norm(x)
        x = x + encoder.mlp(encoder.mlp_norm(x)) if norm_first else encoder.mlp_norm(x + encoder.mlp(x))
        assert_close(x, source_stream[layer + 1])
    assert_close(model.target_norm(target_stream[-1]) @ model.embedding.weight.T, model(pairs))
    assert len(source_stream) == len(target_stream) == N + 1


def test_cross_weights_against_torchs_own():
    model, pairs = make(), batch()
    twin, seen = torch_twin(model), {}
    layer = twin.decoder.layers[1].multihead_attn
    layer.register_forward_pre_hook(lambda _, args, named: seen.update(args=args, **named), with_kwargs=True)
    embed = lambda tokens: math.sqrt(D) * F.embedding(tokens, model.embedding.weight) + positions(tokens.shape[1])
    padded = torch.tensor([[s >= len(source) for s in range(5)] for source, _ in PAIRS])
    masks = {"src_key_padding_mask": padded, "memory_key_padding_mask": padded}
    causal = torch.ones(7, 7, dtype=torch.bool).triu(1)
    twin(embed(pairs.source_bs), embed(pairs.target_bt[:, :-1]), tgt_mask=causal, **masks)
    _, expected = layer(*seen["args"], key_padding_mask=padded, need_weights=True, average_attn_weights=False)
    assert_close(model.weights(pairs, layer=1, kind="cross"), expected)


def test_the_stream_starts_with_the_scaled_table_and_the_waves():
    model, pairs = make(), batch()
    source_stream, target_stream = model.streams(pairs)
    assert_close(source_stream[0], math.sqrt(D) * model.embedding.weight[pairs.source_bs] + positions(5))
    assert_close(target_stream[0], math.sqrt(D) * model.embedding.weight[pairs.target_bt[:, :-1]] + positions(7))
