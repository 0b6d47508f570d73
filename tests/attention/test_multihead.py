"""Multi-head attention agrees with torch's and with Qwen3's under copied weights, and a cache changes nothing."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding

from minillm.attention import masks
from minillm.attention.cache import KVCache
from minillm.attention.multihead import AttentionConfig, MultiHeadAttention
from minillm.attention.positions import RoPE, alibi_bias

B, T, S, H, K = 2, 5, 7, 6, 4
D = H * K


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(**changes):
    torch.manual_seed(0)
    made = MultiHeadAttention(AttentionConfig(**{"d_model": D, "n_head": H} | changes))
    for name, parameter in made.named_parameters():  # biases and norms too: what starts at 0 or 1 hides mistakes
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0)
    return made


def torchs_twin(ours):
    theirs = nn.MultiheadAttention(D, H, batch_first=True)
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    return theirs


# agreement


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("masked", ["nothing", "causal", "padding"])
def test_it_is_torchs_attention_under_copied_weights(fused, cross, masked):
    ours, x, source = layer(), random(B, T, D), random(B, S, D, seed=1) if cross else None
    theirs, y = torchs_twin(ours), x if source is None else source
    may_look = {
        "nothing": None,
        "causal": masks.causal(T, y.shape[1]),
        "padding": masks.padding([2, y.shape[1]], y.shape[1]),
    }[masked]
    want, want_weight = theirs(
        x,
        y,
        y,
        attn_mask=~may_look if masked == "causal" else None,
        key_padding_mask=~may_look[:, 0, 0] if masked == "padding" else None,
        average_attn_weights=False,
    )
    got = ours(x, source, may_look, fused=fused)
    assert_close(got, want)
    assert_close(ours.weights(x, source, may_look), want_weight)
    pull = torch.randn_like(got)
    (got * pull).sum().backward()
    (want * pull).sum().backward()
    assert_close(torch.cat([m.weight.grad for m in (ours.query, ours.key, ours.value)]), theirs.in_proj_weight.grad)
    assert_close(ours.out.weight.grad, theirs.out_proj.weight.grad)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("n_kv_head", [1, 2, 3])
def test_shared_keys_are_repeated_keys(fused, n_kv_head):
    """MQA and GQA are MHA in which the rows of a key head stand several times."""
    few, many, x = layer(n_kv_head=n_kv_head), layer(), random(B, T, D)
    weights = few.state_dict()
    for name in ("key.weight", "key.bias", "value.weight", "value.bias"):
        heads = weights[name].unflatten(0, (n_kv_head, K))
        weights[name] = heads.repeat_interleave(H // n_kv_head, dim=0).flatten(0, 1)
    many.load_state_dict(weights)
    assert few.key.weight.shape == (n_kv_head * K, D)
    assert_close(few(x, causal=True, fused=fused), many(x, causal=True, fused=fused))
    assert_close(few.weights(x, causal=True), many.weights(x, causal=True))
    want, _ = torchs_twin(many)(x, x, x, attn_mask=~masks.causal(T), need_weights=False)
    assert_close(few(x, causal=True, fused=fused), want)


@pytest.mark.parametrize("fused", [True, False])
def test_it_is_qwens_attention_under_copied_weights(fused):
    """Fewer key heads, a head width of its own, norms of queries and keys, RoPE: all at once."""
    d, k = 20, 8
    config = Qwen3Config(
        hidden_size=d, num_attention_heads=H, num_key_value_heads=2, head_dim=k, rms_norm_eps=1e-5, vocab_size=9
    )
    config._attn_implementation = "eager"
    ours = layer(d_model=d, n_kv_head=2, head_width=k, bias=False, qk_norm=True, norm_eps=1e-5)
    theirs = Qwen3Attention(config, layer_idx=0)
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "out"}
    names |= {"q_norm": "query_norm", "k_norm": "key_norm"}
    for theirs_name, ours_name in names.items():
        getattr(theirs, theirs_name).load_state_dict(getattr(ours, ours_name).state_dict())
    x, place = random(B, T, d), torch.tensor([[0, 1, 2, 3, 4], [0, 0, 7, 8, 9]])
    forbidden = torch.zeros(T, T).masked_fill(~masks.causal(T), -torch.inf)
    want, _ = theirs(x, Qwen3RotaryEmbedding(config)(x, place), forbidden[None, None])
    got = ours(x, rope=RoPE(k, base=config.rope_parameters["rope_theta"]), positions=place, causal=True, fused=fused)
    assert_close(got, want)


# limits and invariances


def test_the_weights_are_those_of_the_output():
    ours, x = layer(n_kv_head=2), random(B, T, D)
    rope, bias = RoPE(K), random(H, T, T, seed=3)
    weight = ours.weights(x, rope=rope, bias=bias, causal=True)
    value = ours.keys_and_values(x)[1].repeat_interleave(3, dim=1)
    mixed = torch.cat([weight[:, h] @ value[:, h] for h in range(H)], dim=-1)  # heads side by side, in order
    assert_close(ours(x, rope=rope, bias=bias, causal=True), ours.out(mixed))


def test_each_head_is_an_attention_of_its_own():
    """With only head i's columns of `out`, the rows of the other heads do not matter."""
    ours, x, i = layer(), random(B, T, D), 4
    own = slice(i * K, (i + 1) * K)
    small = layer(n_head=1, head_width=K)
    with torch.no_grad():
        for name in ("query", "key", "value"):
            getattr(small, name).weight.copy_(getattr(ours, name).weight[own])
            getattr(small, name).bias.copy_(getattr(ours, name).bias[own])
        small.out.weight.copy_(ours.out.weight[:, own])
        small.out.bias.copy_(ours.out.bias)
        others = torch.ones(D, dtype=torch.bool)
        others[own] = False
        ours.out.weight[:, others] = 0
    assert_close(ours(x), small(x))


@pytest.mark.parametrize("fused", [True, False])
def test_without_positions_it_does_not_know_the_order(fused):
    ours, x = layer(), random(B, T, D)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert_close(ours(x, fused=fused)[:, order], ours(x[:, order], fused=fused))
    rope = RoPE(K)
    assert not torch.allclose(ours(x, rope=rope, fused=fused)[:, order], ours(x[:, order], rope=rope, fused=fused))


def test_with_rope_only_distances_count():
    ours, x, rope, place = layer(qk_norm=True), random(B, T, D), RoPE(K), torch.arange(T)
    assert_close(ours(x, rope=rope), ours(x, rope=rope, positions=place))
    assert_close(ours(x, rope=rope), ours(x, rope=rope, positions=place + 50), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours(x, rope=rope), ours(x, rope=rope, positions=2 * place))


def test_rope_turns_queries_and_keys_but_not_values():
    ours, x, rope = layer(), random(B, T, D), RoPE(K)
    own_key_only = torch.eye(T, dtype=torch.bool)
    assert_close(ours(x, may_look=own_key_only, rope=rope), ours(x, may_look=own_key_only))


@pytest.mark.parametrize("fused", [True, False])
def test_a_batch_is_its_rows(fused):
    """Filling at the left or right, hidden by the mask, changes nothing for the tokens that are there."""
    ours, rope = layer(n_kv_head=2), RoPE(K)
    for left in (False, True):
        x, length = random(B, T, D), [3, 5]
        together = ours(
            x,
            may_look=masks.padding(length, T, left=left),
            rope=rope,
            positions=torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]) if left else torch.arange(T),
            causal=True,
            fused=fused,
        )
        for row, n in enumerate(length):
            there = slice(T - n, T) if left else slice(0, n)
            alone = ours(x[row, None, there], rope=rope, causal=True, fused=fused)
            assert_close(together[row, None, there], alone)
        assert together.isfinite().all()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("n_kv_head", [6, 2, 1])
@pytest.mark.parametrize("sizes", [[7], [1] * 7, [3, 1, 2, 1]])
@pytest.mark.parametrize("place", ["rope", "alibi", "none"])
def test_a_cache_equals_reading_all_again(fused, n_kv_head, sizes, place):
    ours, x = layer(n_kv_head=n_kv_head, qk_norm=True), random(B, S, D)
    rope = RoPE(K) if place == "rope" else None
    bias = alibi_bias(H, torch.arange(S), torch.arange(S)) if place == "alibi" else None
    whole, cache, parts, end = ours(x, rope=rope, bias=bias, causal=True), KVCache(S), [], 0
    for size in sizes:
        end += size
        part = x[:, end - size : end]
        part_bias = None if bias is None else bias[:, end - size : end, :end]
        parts.append(ours(part, rope=rope, bias=part_bias, cache=cache, causal=True, fused=fused))
    assert_close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("sizes", [[1] * 7, [3, 1, 2, 1]])
def test_a_cache_with_a_window_equals_a_mask_with_a_window(window, sizes):
    ours, x, rope = layer(n_kv_head=2), random(B, S, D), RoPE(K)
    whole = ours(x, may_look=masks.sliding_window(S, S, window), rope=rope)
    cache, parts, end = KVCache(1, window), [], 0
    for size in sizes:
        end += size
        s = min(end - size, window - 1) + size
        mask = masks.sliding_window(size, s, window)
        parts.append(ours(x[:, end - size : end], may_look=mask, rope=rope, cache=cache))
    assert_close(torch.cat(parts, dim=1), whole)


def test_the_keys_of_a_source_are_made_once():
    ours, x, source = layer(), random(B, T, D), random(B, S, D, seed=1)
    whole, cache = ours(x, source), KVCache(S)
    steps = [ours(x[:, i : i + 1], source, cache=cache) for i in range(T)]
    assert_close(torch.cat(steps, dim=1), whole)
    assert cache.length == S
    cache.select(torch.tensor([1, 0, 1]))
    assert_close(ours(x[[1, 0, 1]], source[[1, 0, 1]], cache=cache), whole[[1, 0, 1]])


def test_dropout_is_for_training():
    ours, x = layer(dropout=0.5), random(B, T, D)
    torch.manual_seed(0)
    assert not torch.allclose(ours(x), ours(x))
    ours.eval()
    assert_close(ours(x), layer()(x))


def test_sizes():
    config = AttentionConfig(d_model=D, n_head=H, n_kv_head=2, head_width=10, bias=True, out_bias=False)
    made = MultiHeadAttention(config)
    assert (config.kv_heads, config.width) == (2, 10)
    shapes = {name: tuple(p.shape) for name, p in made.named_parameters()}
    assert shapes == {
        "query.weight": (60, D),
        "query.bias": (60,),
        "key.weight": (20, D),
        "key.bias": (20,),
        "value.weight": (20, D),
        "value.bias": (20,),
        "out.weight": (D, 60),
    }
    assert AttentionConfig(d_model=D, n_head=H).kv_heads == H


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"d_model": 25}, r"d_model=25 cannot be split over n_head=6 equal heads \(remainder 1\).*fits is 30"),
        ({"n_kv_head": 4}, r"n_kv_head=4 does not divide n_head=6.*n_kv_head=3 works"),
        ({"n_kv_head": 12}, r"n_kv_head=12 does not divide n_head=6.*n_kv_head=6 works"),
        ({"n_head": 0}, r"n_head=0 must be a whole number of at least 1"),
        ({"head_width": 2.5}, r"head_width=2.5 must be a whole number"),
        ({"dropout": 1.0}, r"dropout=1.0 is a share from 0 to below 1; 0.1 works"),
    ],
)
def test_bad_sizes_are_named(sizes, says):
    with pytest.raises(ValueError, match=says):
        AttentionConfig(**{"d_model": D, "n_head": H} | sizes)


@pytest.mark.no_promises  # wrong shapes break them before they are refused
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"may_look": torch.ones(T, S, dtype=torch.bool)}, r"may_look has shape \(5, 7\).*\(2, 6, 5, 5\)"),
        ({"bias": torch.ones(3, T, T)}, r"bias has shape \(3, 5, 5\)"),
        ({"rope": RoPE(K), "source_bsd": random(B, S, D)}, r"within one sequence.*rope=None works"),
        ({"rope": RoPE(8)}, r"RoPE\(4\) work"),
        ({"rope": RoPE(K), "positions": torch.arange(S)}, r"\(5,\) or \(2, 5\)"),
        ({"cache": KVCache(4)}, r"capacity=4 tokens: 0 are kept and 5 more do not fit; KVCache\(capacity=5\) works"),
    ],
)
def test_bad_arguments_are_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        layer()(random(B, T, D), **arguments)
