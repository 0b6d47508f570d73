"""A decoder with experts in the place of every MLP: its loss, its costs, and Mixtral's weights in and out."""

import copy
import json
from dataclasses import replace

import pytest
import torch
import transformers
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from minillm.neural.language_model import mean_nats
from minillm.transformer.costs import forward_flops, parameters, training_flops
from minillm.transformer.decoder import Decoder, gpt2, llama
from minillm.transformer.generate import generate
from minillm.transformer.moe import MoE, MoEConfig, deepseek_v3, switch
from minillm.transformer.packed import pack
from minillm.transformer.pretrained import CONFIG, load_pretrained, save_pretrained

# Imported here and not in a test: under the hook that checks promised shapes it would take long.
MIXTRAL_MODEL = transformers.MixtralForCausalLM
B, T, V, CONTEXT, D, E = 3, 9, 13, 21, 24, 5
LLAMA = llama(vocabulary=V, context=CONTEXT, n_layer=2, n_head=6, d_model=D, n_kv_head=2)
GPT2 = gpt2(vocabulary=V, context=CONTEXT, n_layer=2, n_head=4, d_model=D)
KINDS = {
    "mixtral": replace(LLAMA, moe=MoEConfig(d_model=D, d_hidden=40, n_expert=E, top_k=2)),
    "mixtral with a window": replace(LLAMA, window=4, moe=MoEConfig(d_model=D, d_hidden=16, n_expert=3, top_k=1)),
    "switch": replace(GPT2, moe=switch(d_model=D, d_hidden=50, n_expert=E, capacity=0.8)),
    "deepseek": replace(LLAMA, moe=deepseek_v3(d_model=D, d_hidden=10, n_expert=7, top_k=3, n_shared=2)),
    "biases": replace(
        GPT2, moe=MoEConfig(d_model=D, d_hidden=9, n_expert=4, top_k=4, mlp="gelu", bias=True, n_shared=1)
    ),
    "gates with biases": replace(LLAMA, moe=MoEConfig(d_model=D, d_hidden=11, n_expert=4, bias=True)),
}  # fmt: skip
THEIRS = {"vocab_size": V, "max_position_embeddings": CONTEXT, "hidden_size": D, "intermediate_size": 40,
          "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "num_local_experts": E,
          "num_experts_per_tok": 2}  # fmt: skip
every_kind = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)


def lively(config):
    """A model whose parameters are large enough that every part of it matters."""
    return shake(Decoder(config))


def shake(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def tokens(*shape, seed=0):
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))


@every_kind
def test_training_adds_what_the_mixtures_ask_for_and_evaluation_does_not(config):
    moe = replace(config.moe, balance_loss=0.5, z_loss=0.25, jitter=0.0, bias_speed=0.0)  # two passes are the same
    model, batch = lively(replace(config, moe=moe)), tokens(B, T)
    pure = model.loss(batch)
    assert torch.equal(pure, mean_nats(model(batch[:, :-1]), batch[:, 1:]))
    layers = [block.mlp for block in model.train().blocks]
    logits = model(batch[:, :-1])
    asked = [layer.auxiliary.detach() for layer in layers]
    assert_close(model.loss(batch), mean_nats(logits, batch[:, 1:]) + sum(asked))
    assert min(asked) > 0
    assert all(layer.auxiliary is None for layer in layers)
    assert model.count(batch) == B * (T - 1)


def test_without_a_mixture_the_loss_is_what_it_was():
    model, batch = lively(LLAMA).train(), tokens(B, T)
    assert torch.equal(model.loss(batch), model.eval().loss(batch))


def test_the_gradient_of_the_balance_reaches_every_router():
    model = lively(KINDS["deepseek"]).train()
    for block in model.blocks:
        block.mlp.config = replace(block.mlp.config, balance_loss=1.0)
    model(tokens(B, T))
    sum(block.mlp.auxiliary for block in model.blocks).backward()
    assert all(block.mlp.router.weight.grad.abs().max() > 1e-5 for block in model.blocks)
    assert all(p.grad is None for p in model.blocks[-1].mlp.experts.parameters())


@every_kind
@torch.no_grad()
def test_the_future_cannot_change_the_past(config):
    model, first, second = lively(config), tokens(B, T), tokens(B, T, seed=1)
    for cut in (1, 5):
        mixed = torch.cat([first[:, :cut], second[:, cut:]], dim=1)
        assert_close(model(mixed)[:, :cut], model(first)[:, :cut], rtol=0, atol=1e-5)


@every_kind
@torch.no_grad()
def test_token_by_token_is_all_at_once(config):
    model, tokens_bt, state, steps = lively(config), tokens(B, T), None, []
    for t in range(T):
        logits_bv, state = model.step(tokens_bt[:, t], state)
        steps.append(logits_bv)
    assert_close(torch.stack(steps, dim=1), model(tokens_bt), rtol=0, atol=1e-5)


@every_kind
def test_generation_takes_the_best_token_of_the_whole_text(config):
    model, prompt = lively(config), tokens(B, 4)
    wanted = prompt
    for _ in range(6):
        with torch.no_grad():
            wanted = torch.cat([wanted, model(wanted)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(generate(model, prompt, 6, temperature=0.0), wanted)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@torch.no_grad()
def test_packed_weights_give_the_same_scores():
    model = lively(KINDS["deepseek"])
    assert_close(pack(model)(tokens(B, T)), model(tokens(B, T)), rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_expert_is_the_decoder_without_a_mixture():
    plain = lively(replace(LLAMA, d_hidden=40))
    model = Decoder(replace(LLAMA, moe=MoEConfig(d_model=D, d_hidden=40, n_expert=1, top_k=1, normalise=True)))
    ours = {name.replace(".mlp.", ".mlp.experts.0."): value for name, value in plain.state_dict().items()}
    assert not model.load_state_dict(ours, strict=False).unexpected_keys
    assert_close(model(tokens(B, T)), plain(tokens(B, T)), rtol=0, atol=1e-5)


def test_the_first_parameters_are_those_of_gpt2_for_experts_too():
    model = Decoder(replace(KINDS["deepseek"], d_model=96, n_layer=8, moe=replace(KINDS["deepseek"].moe, d_model=96)))
    layer = model.blocks[3].mlp
    assert isinstance(layer, MoE)
    for parameter in (layer.router.weight, layer.experts[2].up.weight, layer.shared.gate.weight):
        assert 0.015 < parameter.std() < 0.025
    for parameter in (layer.experts[2].down.weight, layer.shared.down.weight):
        assert 0.015 / 4 < parameter.std() < 0.025 / 4


def test_a_model_that_was_trained_can_be_copied():
    model = lively(KINDS["mixtral"]).train()
    model(tokens(B, T))
    longer = model.with_context(2 * CONTEXT)
    assert longer.blocks[0].mlp.experts[1].up.weight is model.blocks[0].mlp.experts[1].up.weight
    assert torch.equal(copy.deepcopy(model)(tokens(B, T)), model(tokens(B, T)))


def test_a_mixture_must_fit_the_decoder():
    with pytest.raises(ValueError, match="d_model=24 and d_hidden=None beside moe with d_model=8: the widths"):
        replace(LLAMA, moe=MoEConfig(d_model=8, d_hidden=9))
    with pytest.raises(ValueError, match=r"d_model=24 and d_hidden=40 beside moe .*; d_hidden=None works"):
        replace(LLAMA, moe=MoEConfig(d_model=D, d_hidden=40), d_hidden=40)


@every_kind
def test_parameters_are_those_of_the_model(config):
    model = Decoder(config)
    assert sum(parameters(config).values()) == model.n_parameters
    for block in model.blocks:  # what a token does not pass is taken away
        block.mlp.experts = block.mlp.experts[: config.moe.top_k]
    assert sum(parameters(config, active=True).values()) == model.n_parameters


@every_kind
@torch.no_grad()
def test_operations_are_those_that_torch_counts(config):
    model, cache = Decoder(config, fused=False).eval(), None
    with FlopCounterMode(display=False) as counter:
        model(tokens(B, T))
    assert counter.get_total_flops() == forward_flops(config, T, batch=B)
    cache = model.new_cache()
    model.hidden(tokens(B, 4), cache)
    with FlopCounterMode(display=False) as counter:
        model.score(model.hidden(tokens(B, 2), cache))
    assert counter.get_total_flops() == forward_flops(config, 2, 4, B)


def test_a_training_step_costs_three_times_the_forward_pass():
    model = Decoder(KINDS["mixtral"], fused=False)
    with FlopCounterMode(display=False) as counter:
        model.loss(tokens(B, T)).backward()
    assert counter.get_total_flops() == training_flops(KINDS["mixtral"], T - 1, B)


def test_the_published_sizes_of_mixtral():
    moe = MoEConfig(d_model=4096, d_hidden=14336)
    sizes = {"vocabulary": 32000, "context": 32768, "n_layer": 32, "n_head": 32, "d_model": 4096, "n_kv_head": 8}
    config = replace(llama(**sizes), moe=moe)
    assert sum(parameters(config).values()) == 46_702_792_704  # "47B parameters, uses 13B"
    assert round(sum(parameters(config, active=True).values()) / 1e9, 1) == 12.9


def theirs(**fields):
    torch.manual_seed(0)
    return shake(MIXTRAL_MODEL(transformers.MixtralConfig(**THEIRS | fields)))


@pytest.mark.no_promises  # it would slow the other package down
@pytest.mark.parametrize(
    "fields",
    [{}, {"num_experts_per_tok": 3, "sliding_window": 4, "rope_theta": 5000.0}, {"num_experts_per_tok": 1}],
    ids=["as it is", "other sizes", "one choice"],
)
@torch.no_grad()
def test_theirs_read_by_us(fields, tmp_path):
    model = theirs(**fields)
    model.save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path)
    assert_close(ours(tokens(B, CONTEXT)), model(tokens(B, CONTEXT)).logits, rtol=0, atol=1e-5)
    assert (ours.config.moe.n_expert, ours.config.moe.top_k) == (E, fields.get("num_experts_per_tok", 2))


@pytest.mark.no_promises
@pytest.mark.parametrize("name", ["mixtral", "mixtral with a window"])
@torch.no_grad()
def test_ours_read_by_them_and_by_us(name, tmp_path):
    config = replace(KINDS[name], moe=replace(KINDS[name].moe, normalise=True, capacity=1.25, jitter=0.1, z_loss=0.1))
    ours = lively(config)
    save_pretrained(ours, tmp_path, layout="mixtral", largest=3000)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert_close(model.eval()(tokens(B, CONTEXT)).logits, ours(tokens(B, CONTEXT)), rtol=0, atol=1e-5)
    again = load_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), again.parameters(), strict=True))


@pytest.mark.no_promises
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_local_experts": 10**9}, "num_local_experts=1000000000, but there are only"),
        ({"num_local_experts": 30}, "num_local_experts=30, but there are only 47 tensors"),  # in each of two layers
        ({"num_local_experts": 4}, "has shape (5, 24), but config.json asks for (4, 24)"),
        ({"num_experts_per_tok": 6}, "top_k=6 of n_expert=5 cannot be chosen"),
        ({"num_experts_per_tok": 0}, "num_experts_per_tok=0 must be a whole number of at least 1"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' is not supported"),
    ],
)
def test_a_wrong_checkpoint_is_named(fields, said, tmp_path):
    theirs().save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | fields))
    with pytest.raises(ValueError) as error:
        load_pretrained(tmp_path)
    assert said in str(error.value)
    assert CONFIG in str(error.value)


@pytest.mark.parametrize(
    ("config", "layout", "said"),
    [
        (LLAMA, "mixtral", "moe=None is no mixture of experts"),
        (KINDS["mixtral"], "llama", "moe=MoEConfig("),
        (KINDS["mixtral"], "mistral", "moe=MoEConfig("),
        (KINDS["switch"], "mixtral", "norm='layer'"),
        (KINDS["deepseek"], "mixtral", "score='sigmoid'"),
        (replace(KINDS["mixtral"], moe=replace(KINDS["mixtral"].moe, n_shared=1)), "mixtral", "n_shared=1"),
        (replace(KINDS["mixtral"], moe=replace(KINDS["mixtral"].moe, normalise=False)), "mixtral", "normalise=False"),
        (replace(KINDS["mixtral"], moe=replace(KINDS["mixtral"].moe, bias_speed=0.1)), "mixtral", "bias_speed=0.1"),
    ],
)
def test_what_a_layout_cannot_say_is_named(config, layout, said, tmp_path):
    with pytest.raises(ValueError) as error:
        save_pretrained(Decoder(config), tmp_path / "model", layout=layout)
    assert said in str(error.value)
    assert not (tmp_path / "model").exists()
