"""The same weights in the transformers package and here give the same logits, for GPT-2 and for Llama."""

import pytest
import torch
from decoder_kinds import some_tokens
from torch.testing import assert_close
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from minillm.attention.positions import RopeScaling
from minillm.transformer.decoder import Decoder, gpt2, llama
from minillm.transformer.generate import generate

V, CONTEXT = 13, 32


def loud(theirs):
    """Weights, biases and norms that all matter."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.4)
    return theirs.eval()


@torch.no_grad()
def gpt2_pair():
    sizes = {"n_layer": 3, "n_head": 4}
    theirs = loud(GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=CONTEXT, n_embd=24, **sizes)))
    ours = Decoder(gpt2(vocabulary=V, context=CONTEXT, d_model=24, **sizes))
    ours.embedding.weight.copy_(theirs.transformer.wte.weight)
    ours.positions.weight.copy_(theirs.transformer.wpe.weight)
    pairs = [(ours.norm, theirs.transformer.ln_f)]
    for mine, block in zip(ours.blocks, theirs.transformer.h, strict=True):
        pairs += [(mine.attention_norm, block.ln_1), (mine.mlp_norm, block.ln_2)]
        weights, biases = block.attn.c_attn.weight.T.chunk(3), block.attn.c_attn.bias.chunk(3)
        maps = (mine.attention.query, mine.attention.key, mine.attention.value)
        for linear, weight, bias in zip(maps, weights, biases, strict=True):
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        for linear, conv in (
            (mine.attention.out, block.attn.c_proj),
            (mine.mlp.up, block.mlp.c_fc),
            (mine.mlp.down, block.mlp.c_proj),
        ):
            linear.weight.copy_(conv.weight.T)
            linear.bias.copy_(conv.bias)
    for norm, other in pairs:
        norm.weight.copy_(other.weight)
        norm.bias.copy_(other.bias)
    return ours, theirs


@torch.no_grad()
def llama_pair(scaled):
    rope = {"rope_theta": 5000.0}
    if scaled:
        rope |= {
            "rope_type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 3.0,
            "original_max_position_embeddings": 16,
        }
    else:
        rope |= {"rope_type": "default"}
    their_config = LlamaConfig(
        vocab_size=V,
        max_position_embeddings=CONTEXT,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-3,
        rope_parameters=rope,
    )
    theirs = loud(LlamaForCausalLM(their_config))
    scaling = RopeScaling(factor=4.0, low_frequency=1.0, high_frequency=3.0, original_context=16) if scaled else None
    ours = Decoder(
        llama(
            vocabulary=V,
            context=CONTEXT,
            n_layer=3,
            n_head=4,
            d_model=24,
            n_kv_head=2,
            d_hidden=40,
            norm_eps=1e-3,
            rope_base=5000.0,
            rope_scaling=scaling,
        )
    )
    pairs = [(ours.embedding, theirs.model.embed_tokens), (ours.norm, theirs.model.norm), (ours.score, theirs.lm_head)]
    for mine, block in zip(ours.blocks, theirs.model.layers, strict=True):
        attention, mlp = block.self_attn, block.mlp
        pairs += [(mine.attention_norm, block.input_layernorm), (mine.mlp_norm, block.post_attention_layernorm)]
        pairs += [(mine.attention.query, attention.q_proj), (mine.attention.key, attention.k_proj)]
        pairs += [(mine.attention.value, attention.v_proj), (mine.attention.out, attention.o_proj)]
        pairs += [(mine.mlp.gate, mlp.gate_proj), (mine.mlp.up, mlp.up_proj), (mine.mlp.down, mlp.down_proj)]
    for mine, other in pairs:
        mine.weight.copy_(other.weight)
    return ours, theirs


PAIRS = {"gpt2": gpt2_pair, "llama": lambda: llama_pair(False), "llama 3.1": lambda: llama_pair(True)}


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]()


@torch.no_grad()
def test_logits_agree_at_every_position(pair):
    ours, theirs = pair
    x = some_tokens(5, CONTEXT)
    assert_close(ours(x), theirs(x).logits, atol=2e-5, rtol=1e-5)
    assert ours(x).std() > 0.5, "the comparison is of something"


def test_losses_and_gradients_agree(pair):
    ours, theirs = pair
    x = some_tokens(3, 12)
    mine, other = ours.loss(x), theirs(x, labels=x).loss
    assert_close(mine, other)
    mine.backward()
    other.backward()
    their_table = theirs.get_input_embeddings().weight.grad
    assert_close(ours.embedding.weight.grad, their_table, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_padded_batches_agree(pair):
    ours, theirs = pair
    rows = [some_tokens(length, seed=length).tolist() for length in (9, 4, 1)]
    longest, cache = 9, ours.new_cache(pad_b=torch.tensor([0, 5, 8]))
    x = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    real = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    places = (real.cumsum(-1) - 1).clamp(min=0)
    wanted = theirs(x, attention_mask=real, position_ids=places).logits[:, -1]
    assert_close(ours.read(x, cache), wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("penalty", [1.0, 1.7])
def test_greedy_continuations_agree(pair, penalty):
    ours, theirs = pair
    x = some_tokens(3, 5)
    how = {"do_sample": False, "max_new_tokens": 20, "min_new_tokens": 20, "repetition_penalty": penalty}
    wanted = theirs.generate(x, attention_mask=torch.ones_like(x), pad_token_id=0, eos_token_id=None, **how)
    assert torch.equal(generate(ours, x, 20, 0.0, repetition_penalty=penalty), wanted)
