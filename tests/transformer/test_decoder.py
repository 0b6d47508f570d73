"""The decoder in all its kinds: what it must not see, what must not matter, and what it refuses."""

import math
from dataclasses import replace

import pytest
import torch
from decoder_kinds import CONTEXT, GPT2, KINDS, LLAMA, B, T, V, lively, some_tokens
from torch.testing import assert_close

from minillm.attention.masks import prefix
from minillm.transformer.decoder import Decoder, DecoderConfig, gpt2, llama
from minillm.transformer.moe import MoEConfig

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=KINDS)
def model(request):
    return lively(KINDS[request.param])


def test_a_fresh_model_has_nearly_no_idea():
    for config in (GPT2, LLAMA):
        assert Decoder(config).loss(some_tokens(5, T)).item() == pytest.approx(math.log(V), abs=0.05)


def test_initialisation_is_that_of_gpt2_and_repeats():
    config = gpt2(vocabulary=300, context=100, n_layer=8, n_head=4, d_model=64)
    model, again, other = Decoder(config), Decoder(config), Decoder(replace(config, seed=1))
    block = model.blocks[3]
    for weight in (model.embedding.weight, model.positions.weight, block.attention.query.weight, block.mlp.up.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    for weight in (block.attention.out.weight, block.mlp.down.weight):
        assert weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)  # two parts of eight blocks add: √16 = 4
    assert block.mlp.up.bias.abs().max() == 0 and block.mlp_norm.weight.min() == 1 and model.norm.bias.max() == 0
    assert_close(model.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert not torch.equal(model.embedding.weight, other.embedding.weight)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "moe"])
def test_larger_first_weights_are_the_same_draw_times_a_number(kind):
    """To the last bit: a chapter that scaled them by hand finds the numbers that it had."""
    moe = MoEConfig(d_model=24, d_hidden=8, n_expert=3, n_shared=1)
    config = {"gpt2": GPT2, "llama": LLAMA, "moe": replace(LLAMA, moe=moe, d_hidden=None)}[kind]
    plain = dict(Decoder(config).named_parameters())
    for name, x in Decoder(replace(config, first_scale=12**0.5)).named_parameters():
        assert torch.equal(x, plain[name] * (12**0.5 if x.ndim == 2 else 1.0)), name
    inside = []
    for name, x in Decoder(replace(config, first_mlp_scale=3.3)).named_parameters():
        is_inside = x.ndim == 2 and ".mlp." in name and "router" not in name
        assert torch.equal(x, plain[name] * (3.3 if is_inside else 1.0)), name
        inside += [name] * is_inside
    matrices = {"gpt2": 2, "llama": 3, "moe": 3 * 4}[kind]
    assert len(inside) == matrices * config.n_layer


@pytest.mark.parametrize("cut", range(1, T))
def test_the_future_cannot_change_the_past(model, cut):
    x = some_tokens(B, T)
    y = x.clone()
    y[:, cut:] = (y[:, cut:] + 1) % V
    assert_close(model(x)[:, :cut], model(y)[:, :cut])
    assert (model(x)[:, cut] - model(y)[:, cut]).abs().min() > 1e-4


def test_the_past_matters_up_to_the_window(model):
    x, config = some_tokens(1, T), model.config
    reach = T if config.window is None else config.n_layer * (config.window - 1) + 1  # a window for each layer
    for back in range(1, T):
        y = x.clone()
        y[:, -1 - back] = (y[:, -1 - back] + 1) % V
        changed = (model(x)[:, -1] - model(y)[:, -1]).abs().max().item()
        assert (changed > 1e-5) == (back < reach), back


def test_rows_of_a_batch_do_not_meet(model):
    x = some_tokens(4, T)
    assert_close(model(x)[2:3], model(x[2:3]))
    assert_close(model(x[[2, 0]]), model(x)[[2, 0]])


def test_both_ways_to_compute_attention_agree(model):
    x = some_tokens(B, T)
    fused = model(x)
    model.fused = False
    assert_close(model(x), fused)


def test_the_order_of_the_past_matters_only_with_positions():
    """One layer that is told nothing of positions sees its past as a set."""
    x = some_tokens(1, T)
    y = x.clone()
    y[:, [1, 5]] = y[:, [5, 1]]
    assert x[0, 1] != x[0, 5]
    for name in ("learned", "sinusoidal", "rope", "alibi", "none"):
        model = lively(replace(GPT2, n_layer=1, positions=name))
        assert torch.allclose(model(x)[:, -1], model(y)[:, -1], atol=1e-5) == (name == "none"), name


@pytest.mark.parametrize("chunks", [[1] * T, [T], [4, 1, 3, 1], [2, 7]], ids=str)
def test_a_cache_changes_nothing(model, chunks):
    x, cache = some_tokens(B, T), model.new_cache()
    wanted, start = model(x), 0
    for length in chunks:
        part = model.score(model.hidden(x[:, start : start + length], cache))
        assert_close(part, wanted[:, start : start + length])
        start += length
        assert cache.length == start


def test_step_by_step_is_all_at_once(model):
    x, state, found = some_tokens(B, T), None, []
    for token_b in x.T:
        logits_bv, state = model.step(token_b, state)
        found.append(logits_bv)
    assert_close(torch.stack(found, dim=1), model(x))


def test_filling_on_the_left_does_not_matter(model):
    x, pad_b = some_tokens(3, T), torch.tensor([0, 2, 5])
    filled = torch.stack(
        [torch.cat([torch.full((pad,), 7), row[: T - pad]]) for pad, row in zip(pad_b, x, strict=True)]
    )
    cache = model.new_cache(pad_b=pad_b)
    first, rest = model.hidden(filled[:, :6], cache), model.hidden(filled[:, 6:], cache)
    found = model.score(torch.cat([first, rest], dim=1))
    for row, pad in enumerate(pad_b.tolist()):
        assert_close(found[row, pad:], model(x[row : row + 1, : T - pad])[0])


def test_rewinding_and_selecting_rows(model):
    x, cache = some_tokens(3, T), model.new_cache(pad_b=torch.tensor([0, 1, 2]))
    model.hidden(x[:, :5], cache)
    model.hidden(some_tokens(3, 3, seed=9), cache)
    cache.rewind(5)
    cache.select(torch.tensor([2, 0, 2]))
    found = model.read(x[[2, 0, 2], 5:], cache)
    fresh = model.new_cache(pad_b=torch.tensor([2, 0, 2]))
    assert_close(found, model.read(x[[2, 0, 2]], fresh))


def test_a_prefix_that_sees_itself_whole():
    model, x = lively(GPT2), some_tokens(B, T)
    y = x.clone()
    y[:, 3] = (y[:, 3] + 1) % V
    mask = prefix(T, T, 4)
    assert (model(x, mask) - model(y, mask))[:, 0].abs().max() > 1e-4
    y = x.clone()
    y[:, 5] = (y[:, 5] + 1) % V
    assert_close(model(x, mask)[:, :5], model(y, mask)[:, :5])


def test_maps_are_the_attention_that_is_used(model):
    x = some_tokens(B, T)
    maps = model.attention_maps(x)
    assert len(maps) == 3
    for weight_bhts in maps:
        assert weight_bhts.shape == (B, 4, T, T)
        assert_close(weight_bhts.sum(-1), torch.ones(B, 4, T))
        assert weight_bhts.triu(1).max() == 0
    if model.config.window:
        assert maps[0].tril(-model.config.window).max() == 0


def test_a_longer_context_where_nothing_was_learned_for_places(model):
    long = some_tokens(1, CONTEXT + 5)
    if model.config.positions == "learned":
        with pytest.raises(ValueError, match="context=99: positions='learned' has rows for context=24"):
            model.with_context(99)
        return
    longer = model.with_context(CONTEXT + 5)
    assert longer(long).shape == (1, CONTEXT + 5, V) and model.config.context == CONTEXT
    assert_close(longer(long[:, :T]), model(long[:, :T]))
    assert {p.data_ptr() for p in longer.parameters()} == {p.data_ptr() for p in model.parameters()}


def test_it_learns_whatever_it_is_made_of(model):
    model.reset_parameters()
    batch, optimiser = some_tokens(B, T + 1), torch.optim.AdamW(model.parameters(), lr=0.01)
    before = model.loss(batch).item()
    for _ in range(8):
        optimiser.zero_grad()
        model.loss(batch).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimiser.step()
    assert model.loss(batch).item() < before - 0.5


def test_tied_scores_are_the_table_of_embeddings():
    tied, own = Decoder(GPT2), Decoder(replace(GPT2, tied=False))
    assert tied.score.weight is tied.embedding.weight
    assert own.n_parameters - tied.n_parameters == V * 24


def test_dropout_acts_in_training_only():
    model, x = lively(replace(GPT2, dropout=0.5)), some_tokens(B, T)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_too_many_tokens_are_refused_by_name():
    model = Decoder(GPT2)
    with pytest.raises(ValueError, match=r"tokens has t=25, but context=24 .* 24 would fit"):
        model(some_tokens(1, CONTEXT + 1))
    _, state = model.step(torch.tensor([1]))
    with pytest.raises(ValueError, match=r"t=24 after 1 in the cache, but context=24 .* 23 would fit.* context=25"):
        model.hidden(some_tokens(1, CONTEXT), state)
    with pytest.raises(ValueError, match=r"tokens\[0, 1\]=13 is not in the vocabulary of 13"):
        model(torch.tensor([[0, V]]))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"vocabulary": 0}, "vocabulary=0 must be a whole number of at least 1"),
        ({"context": 1.5}, "context=1.5 must be a whole number"),
        ({"n_layer": -1}, "n_layer=-1 must"),
        ({"window": 0}, "window=0 must"),
        ({"n_head": 5}, "d_model=24 cannot be split over n_head=5"),
        ({"n_kv_head": 3}, "n_kv_head=3 does not divide n_head=4"),
        ({"positions": "rotary"}, "positions='rotary' must be one of learned, sinusoidal, rope, alibi, none"),
        ({"positions": "rope", "n_head": 8}, "heads of 3, but positions='rope' turns pairs of numbers; head_width=4"),
        ({"positions": "sinusoidal", "d_model": 21, "n_head": 3}, "d_model=21 must be even"),
        ({"rope_scaling": KINDS["llama 3"].rope_scaling}, "rope_scaling is for positions='rope'; positions='learned'"),
        ({"norm": "batch"}, "norm='batch' must be"),
        ({"mlp": "tanh"}, "mlp='tanh' must be"),
        ({"dropout": 1.0}, "dropout=1.0 is a share"),
        ({"d_hidden": 0}, "d_hidden=0 must"),
        ({"first_scale": 0.0}, "first_scale=0.0 must be a number above 0; first_scale=1.0 is GPT-2's"),
        ({"first_mlp_scale": math.inf}, "first_mlp_scale=inf must"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_configurations_are_refused_by_name(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(GPT2, **changes)


def test_presets_are_the_published_models():
    assert isinstance(gpt2(), DecoderConfig)
    assert Decoder(GPT2).blocks[0].mlp.up.weight.shape == (96, 24)
    seven = llama(vocabulary=32000, context=4096, n_layer=32, n_head=32, d_model=4096, d_hidden=11008)
    assert (seven.norm, seven.mlp, seven.positions, seven.bias, seven.tied) == ("rms", "swiglu", "rope", False, False)
    # the rule for a gated MLP: as many numbers as without a gate, up to the rounding
    assert llama(vocabulary=9, context=9, n_layer=1, n_head=4, d_model=96).block.d_hidden == 256


def test_smear_adds_a_share_of_the_embedding_before():
    config = KINDS["smear"]
    model, without = lively(config), lively(replace(config, smear=False))
    without.load_state_dict({name: x for name, x in model.state_dict().items() if name != "smear"})
    x = some_tokens(2, 5)
    embedded = model.embedding(x)
    mixed = embedded.clone()
    mixed[:, 1:] += model.smear * embedded[:, :-1]
    assert_close(model.hidden(x), without.hidden_from(mixed))
    with torch.no_grad():
        model.smear.zero_()
    assert_close(model.hidden(x), without.hidden(x))


def test_blocks_that_begin_at_zero_leave_the_stream_as_it_is():
    model, x = Decoder(KINDS["smear"]), some_tokens(2, 5)
    assert_close(model.hidden(x), model.norm(model.embedding(x)))
    model.loss(x).backward()
    assert all(block.mlp.down.weight.grad.abs().max() > 0 for block in model.blocks), "and can learn all the same"
