"""The block and its parts: agreement with torch's layers under copied weights, and what each part is for."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from minillm.attention import masks
from minillm.attention.cache import KVCache
from minillm.attention.multihead import AttentionConfig
from minillm.attention.positions import RoPE
from minillm.transformer.block import (
    ACTIVATIONS,
    MLP,
    Block,
    BlockConfig,
    LayerNorm,
    RMSNorm,
    SwiGLU,
    gelu,
    relu2,
)

B, T, S, D, H, HIDDEN = 2, 5, 7, 12, 3, 20


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def block(attention=None, **changes):
    torch.manual_seed(0)
    config = AttentionConfig(**{"d_model": D, "n_head": H} | (attention or {}))
    made = Block(BlockConfig(**{"attention": config, "d_hidden": HIDDEN} | changes))
    for name, parameter in made.named_parameters():  # biases and norms too: what starts at 0 or 1 hides mistakes
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=1.0 if "norm" in name and "weight" in name else 0.0)
    return made


# norms


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_torchs(bias):
    ours, theirs, x = LayerNorm(D, bias=bias), nn.LayerNorm(D, bias=bias), 3 + 5 * random(B, T, D)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    assert_close(ours(x), theirs(x))
    assert_close(ours.plain(x), theirs(x))


def test_rms_norm_is_torchs():
    ours, theirs, x = RMSNorm(D, eps=1e-3), nn.RMSNorm(D, eps=1e-3), 3 + 5 * random(B, T, D)
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    assert_close(ours(x), theirs(x))
    assert_close(ours.plain(x), theirs(x))


def test_what_the_norms_do_not_see():
    """Neither sees the size of a token's numbers; LayerNorm does not see their mean either, RMSNorm does."""
    x = random(B, T, D)
    layer, rms = LayerNorm(D), RMSNorm(D)
    assert_close(layer(7 * x), layer(x), rtol=1e-3, atol=1e-4)
    assert_close(rms(7 * x), rms(x), rtol=1e-3, atol=1e-4)
    assert_close(layer(x + 3), layer(x), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(rms(x + 3), rms(x), atol=1e-2)
    centred = x - x.mean(dim=-1, keepdim=True)
    assert_close(layer(x), rms(centred), rtol=1e-3, atol=1e-4)
    assert_close(layer(x).mean(dim=-1), torch.zeros(B, T), rtol=0, atol=1e-6)
    assert_close(rms(x).square().mean(dim=-1), torch.ones(B, T), rtol=1e-4, atol=1e-4)


def test_a_token_of_zeros_stays_finite():
    x = torch.zeros(1, 1, D, requires_grad=True)
    for norm in (LayerNorm(D), RMSNorm(D)):
        for result in (norm(x), norm.plain(x)):
            assert result.isfinite().all()
            assert torch.autograd.grad(result.sum(), x)[0].isfinite().all()


# MLPs


def test_gelu_is_torchs():
    x = torch.linspace(-6, 6, 401)
    assert_close(gelu(x), F.gelu(x))
    assert_close(gelu(x, tanh=True), F.gelu(x, approximate="tanh"))
    assert 1e-4 < (gelu(x) - gelu(x, tanh=True)).abs().max() < 5e-4  # two formulas, not one
    assert_close(ACTIVATIONS["gelu"](x), gelu(x))
    assert_close(ACTIVATIONS["gelu_tanh"](x), gelu(x, tanh=True))


def test_gelu_is_a_gate_that_opens():
    assert_close(gelu(torch.tensor([-9.0, 0.0, 9.0])), torch.tensor([0.0, 0.0, 9.0]))
    x = random(50)
    assert_close(gelu(x) - gelu(-x), x)  # P(x) + P(-x) = 1


def test_relu2():
    assert relu2(torch.tensor([-3.0, 0.0, 3.0])).tolist() == [0, 0, 9]


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("bias", [True, False])
def test_the_mlp_by_its_formula(activation, bias):
    ours, x = MLP(D, HIDDEN, activation, bias), random(B, T, D)
    inside = x @ ours.up.weight.T + (ours.up.bias if bias else 0)
    bent = {
        "relu": inside.clamp(min=0),
        "gelu": gelu(inside),
        "gelu_tanh": gelu(inside, tanh=True),
        "relu2": inside.clamp(min=0) ** 2,
        "silu": inside * inside.sigmoid(),
    }[activation]
    assert_close(ours(x), bent @ ours.down.weight.T + (ours.down.bias if bias else 0))


def test_swiglu_by_its_formula():
    ours, x = SwiGLU(D, HIDDEN), random(B, T, D)
    gate, up = x @ ours.gate.weight.T, x @ ours.up.weight.T
    assert_close(ours(x), (gate * gate.sigmoid() * up) @ ours.down.weight.T)
    assert {name: tuple(p.shape) for name, p in ours.named_parameters()} == {
        "gate.weight": (HIDDEN, D),
        "up.weight": (HIDDEN, D),
        "down.weight": (D, HIDDEN),
    }


# the block


def copy_attention(ours, theirs):
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())


@torch.no_grad()
def torchs_twin(ours, activation):
    """TransformerEncoderLayer, or TransformerDecoderLayer when the block looks at a source, with our weights."""
    kind = nn.TransformerDecoderLayer if ours.config.cross_attention else nn.TransformerEncoderLayer
    theirs = kind(D, H, HIDDEN, 0.0, activation, batch_first=True, norm_first=ours.config.norm_first)
    copy_attention(ours.attention, theirs.self_attn)
    if ours.cross_attention is not None:
        copy_attention(ours.cross_attention, theirs.multihead_attn)
    norms = [norm for norm in (ours.attention_norm, ours.cross_norm, ours.mlp_norm) if norm is not None]
    for i, norm in enumerate(norms, 1):
        getattr(theirs, f"norm{i}").load_state_dict(norm.state_dict())
    theirs.linear1.load_state_dict(ours.mlp.up.state_dict())
    theirs.linear2.load_state_dict(ours.mlp.down.state_dict())
    return theirs


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("fused", [True, False])
def test_it_is_torchs_encoder_layer_under_copied_weights(norm_first, activation, fused):
    ours, x = block(norm_first=norm_first, mlp=activation), random(B, T, D)
    theirs, padding = torchs_twin(ours, activation), masks.padding([3, T], T)
    got, want = ours(x, may_look=padding, fused=fused), theirs(x, src_key_padding_mask=~padding[:, 0, 0])
    assert_close(got, want)
    assert_close(ours(x, causal=True, fused=fused), theirs(x, src_mask=~masks.causal(T)))
    pull = torch.randn_like(got)
    (got * pull).sum().backward()
    (want * pull).sum().backward()
    assert_close(ours.attention_norm.weight.grad, theirs.norm1.weight.grad, rtol=1e-4, atol=1e-5)
    assert_close(ours.mlp.up.weight.grad, theirs.linear1.weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("fused", [True, False])
def test_it_is_torchs_decoder_layer_under_copied_weights(norm_first, activation, fused):
    ours = block(norm_first=norm_first, mlp=activation, cross_attention=True)
    x, source, padding = random(B, T, D), random(B, S, D, seed=1), masks.padding([4, S], S)
    theirs = torchs_twin(ours, activation)
    got = ours(x, source, source_may_look=padding, causal=True, fused=fused)
    want = theirs(x, source, tgt_mask=~masks.causal(T), memory_key_padding_mask=~padding[:, 0, 0])
    assert_close(got, want)


def test_pre_norm_leaves_the_stream_alone():
    """When no part says anything, pre-norm gives back what came in; post-norm gives its norm."""
    x = 5 * random(B, T, D)
    for norm_first in (True, False):
        ours = block(norm_first=norm_first)
        with torch.no_grad():
            for last in (ours.attention.out, ours.mlp.down):
                last.weight.zero_()
                last.bias.zero_()
        assert_close(ours(x), x if norm_first else ours.mlp_norm(ours.attention_norm(x)))


@pytest.mark.parametrize("cut", range(1, T))
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_the_future_cannot_change_the_past(cut, norm):
    ours, x = block(norm=norm, mlp="swiglu"), random(B, T, D)
    other = x.clone()
    other[:, cut:] = random(B, T - cut, D, seed=1)
    assert_close(ours(x, causal=True)[:, :cut], ours(other, causal=True)[:, :cut])
    assert not torch.allclose(ours(x)[:, :cut], ours(other)[:, :cut])


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("sizes", [[1] * T, [2, 1, 2]])
def test_a_cache_equals_reading_all_again(norm_first, sizes):
    ours = block({"n_kv_head": 1}, norm_first=norm_first, norm="rms", mlp="swiglu", cross_attention=True)
    x, source, rope = random(B, T, D), random(B, S, D, seed=1), RoPE(D // H)
    source_mask = masks.padding([4, S], S)
    whole = ours(x, source, source_may_look=source_mask, rope=rope, causal=True)
    cache, source_cache, parts, end = KVCache(T), KVCache(S), [], 0
    for size in sizes:
        part, end = x[:, end : end + size], end + size
        how = {"cache": cache, "source_cache": source_cache, "source_may_look": source_mask}
        parts.append(ours(part, source, rope=rope, causal=True, **how))
    assert_close(torch.cat(parts, dim=1), whole)


def test_dropout_is_for_training():
    ours, x = block(dropout=0.5), random(B, T, D)
    torch.manual_seed(0)
    assert not torch.allclose(ours(x), ours(x))
    ours.eval()
    assert_close(ours(x), block()(x))


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_half_precision_is_close_and_warns_of_nothing(norm, norm_first, fused):
    ours = block({"qk_norm": True, "n_kv_head": 1}, norm=norm, norm_first=norm_first, mlp="swiglu")
    x, rope = random(B, T, D), RoPE(D // H)
    whole = ours(x, rope=rope, causal=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        automatic = ours(x, rope=rope, causal=True, fused=fused)
    half = ours.bfloat16()(x.bfloat16(), rope=rope, causal=True, fused=fused)
    assert half.dtype == torch.bfloat16
    for result in (automatic, half):
        assert_close(result.float(), whole, rtol=0.05, atol=0.1)


@pytest.mark.no_promises
@pytest.mark.parametrize("cross", [True, False])
def test_it_compiles_as_one_graph(cross):
    """With the eager backend: what is tested is that nothing in it stops the tracer."""
    ours, rope = block({"qk_norm": True}, norm="rms", cross_attention=cross), RoPE(D // H)
    x, source = random(B, T, D), random(B, S, D, seed=1) if cross else None
    compiled = torch.compile(ours, backend="eager", fullgraph=True)
    assert_close(compiled(x, source, rope=rope, causal=True), ours(x, source, rope=rope, causal=True))


def test_each_configuration_has_its_parts():
    for norm, mlp, bias in itertools.product(["layer", "rms"], ["gelu", "swiglu"], [True, False]):
        ours = block({"bias": bias}, norm=norm, mlp=mlp, bias=bias)
        assert isinstance(ours.attention_norm, LayerNorm if norm == "layer" else RMSNorm)
        assert isinstance(ours.mlp, SwiGLU if mlp == "swiglu" else MLP)
        assert any(name.endswith("bias") for name, _ in ours.named_parameters()) == bias
        assert ours(random(B, T, D)).shape == (B, T, D)
    assert (block().attention_norm.eps, block(norm="rms").mlp_norm.eps) == (1e-5, 1e-6)
    assert block(norm="rms", norm_eps=1e-3).mlp_norm.eps == 1e-3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"d_hidden": 0}, r"d_hidden=0 must be a whole number of at least 1; d_hidden=64 works"),
        ({"mlp": "tanh"}, r"mlp='tanh' must be 'swiglu' or one of relu.*'gelu' works"),
        ({"norm": "batch"}, r"norm='batch' must be 'layer' or 'rms'"),
        ({"dropout": -0.1}, r"dropout=-0.1 is a share"),
    ],
)
def test_bad_configurations_are_named(changes, says):
    with pytest.raises(ValueError, match=says):
        block(**changes)


def test_bad_calls_are_named():
    with pytest.raises(ValueError, match=r"activation='tanh' must be one of relu.*'gelu' works"):
        MLP(D, HIDDEN, "tanh")
    with pytest.raises(ValueError, match=r"source_bsd=None, but this block looks at a source: give one \(b, s, 12\)"):
        block(cross_attention=True)(random(B, T, D))
    with pytest.raises(
        ValueError, match=r"source_bsd of shape \(2, 7, 12\) was given, but this block has no cross-attention"
    ):
        block()(random(B, T, D), random(B, S, D))
