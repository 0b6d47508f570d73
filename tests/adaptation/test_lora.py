"""LoRA by its limits and invariances; agreement with the peft package is in test_lora_files.py."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from decoder_kinds import GPT2, LLAMA, B, T, lively, some_tokens
from torch import nn
from torch.testing import assert_close

from minillm.adaptation.lora import (
    LoRAConfig,
    LoRALinear,
    add_lora,
    lora_layers,
    merge_lora,
    remove_lora,
    unmerge_lora,
    use_lora,
)
from minillm.training.loop import train
from minillm.training.optim import AdamW
from minillm.transformer.decoder import Decoder
from minillm.transformer.generate import generate
from minillm.transformer.packed import is_worth_packing, pack
from minillm.transformer.pretrained import load_pretrained, save_pretrained

EVERYWHERE = ["*.query", "*.value", "*.out", "*.up", "*.down", "embedding"]


def grown(model, name="default", seed=3):
    """The adapter as if it had learned something: both factors random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            if name in layer.changes:
                for factor in layer.changes[name].parameters():
                    factor.normal_(std=0.3, generator=generator)
    return model


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("rank", [1, 3, 40])
def test_a_new_adapter_changes_no_bit(config, rank):
    model, x = lively(config), some_tokens(B, T)
    before, names = model(x), dict(model.named_parameters())
    places = add_lora(model, EVERYWHERE, rank=rank)
    assert torch.equal(model(x), before)
    assert len(places) == 1 + 5 * config.n_layer
    for name, parameter in names.items():
        assert model.get_parameter(name) is parameter, "the base keeps its parameters and their names"


def test_the_formula_by_hand():
    layer = nn.Linear(2, 3)
    model = nn.Sequential(layer)
    add_lora(model, "0", rank=1, alpha=3.0)
    change = model[0].changes["default"]
    with torch.no_grad():
        change.a_rd.copy_(torch.tensor([[1.0, 2.0]]))
        change.b_fr.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
    x = torch.tensor([[10.0, 1.0]])
    assert_close(model(x) - layer(x), torch.tensor([[36.0, 0.0, -36.0]]))  # 3/1 · (1 · 10 + 2 · 1) = 36


def test_scales_of_lora_and_rslora():
    assert LoRAConfig(rank=16, alpha=8).scale == 0.5
    assert LoRAConfig(rank=16, alpha=8, rslora=True).scale == 2.0


@pytest.mark.parametrize("rslora", [False, True])
def test_rslora_keeps_the_size_of_the_output_at_any_rank(rslora):
    """With A and B of fixed variances, B A x grows as √r: α/√r holds it, α/r lets it shrink."""
    size = {}
    for rank in (4, 256):
        config, generator = LoRAConfig(rank=rank, alpha=1.0, rslora=rslora), torch.Generator().manual_seed(0)
        change = LoRALinear(nn.Linear(50, 40)).start(config, generator)
        nn.init.normal_(change.b_fr, generator=generator)
        size[rank] = change(torch.randn(30, 50, generator=generator)).std().item()
    assert size[256] / size[4] == pytest.approx(1.0 if rslora else math.sqrt(4 / 256), rel=0.1)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("config", [replace(GPT2, tied=False), LLAMA], ids=["gpt2", "llama"])
def test_merged_equals_unmerged(config, rslora):
    model, x = lively(config), some_tokens(B, T)
    with torch.no_grad():
        for parameter in model.parameters():  # logits of ordinary size
            parameter.mul_(0.3)
    base = model(x)
    add_lora(model, EVERYWHERE, rank=3, alpha=4.0, rslora=rslora)
    grown(model)
    weights, beside = state(model), model(x)
    assert (beside - base).abs().max() > 0.1
    merge_lora(model)
    assert_close(model(x), beside, atol=1e-5, rtol=1e-5)
    once = state(model)
    assert any(not torch.equal(once[name], weights[name]) for name in weights if name.endswith("weight"))
    merge_lora(model)
    assert_close(state(model), once, rtol=0, atol=0)  # merging twice is merging once
    unmerge_lora(model)
    assert_close(state(model), weights, rtol=0, atol=1e-6)
    again = state(model)
    unmerge_lora(model)
    assert_close(state(model), again, rtol=0, atol=0)
    assert_close(model(x), beside, atol=1e-5, rtol=1e-5)


def test_a_merged_model_without_its_layers_is_the_same_and_plain():
    model, x = lively(replace(GPT2, tied=False)), some_tokens(B, T)
    kinds = {name: type(module) for name, module in model.named_modules()}
    names = set(model.state_dict())
    add_lora(model, EVERYWHERE, rank=2, alpha=2)
    grown(model)
    merge_lora(model)
    merged = model(x)
    remove_lora(model)
    assert torch.equal(model(x), merged)
    assert {name: type(module) for name, module in model.named_modules()} == kinds
    assert set(model.state_dict()) == names


def test_only_the_adapter_learns():
    model, x = lively(GPT2), some_tokens(B, T)
    add_lora(model, ["*.query", "*.up"], rank=2)
    model.loss(x).backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learning == {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning and all(name.endswith(("changes.default.a_rd", "changes.default.b_fr")) for name in learning)
    before = state(model)
    train(model, [x], steps=3, optimizer=AdamW([p for p in model.parameters() if p.requires_grad]))
    changed = {name for name, tensor in state(model).items() if not torch.equal(tensor, before[name])}
    assert changed == learning


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_those_of_the_merged_matrix(tied):
    """By the chain rule, of W + γ B A: γ Bᵀ G for A and γ G Aᵀ for B, with G the gradient of the whole matrix."""
    config = replace(GPT2, tied=tied)
    model, x = lively(config), some_tokens(B, T)
    place = "blocks.1.mlp.up"
    add_lora(model, place, rank=3, alpha=2.0)
    grown(model)
    change = model.get_submodule(place).changes["default"]
    model.loss(x).backward()
    whole = lively(config)
    with torch.no_grad():
        whole.get_submodule(place).weight += change.matrix()
    whole.loss(x).backward()
    slope = whole.get_submodule(place).weight.grad
    scale = change.config.scale
    assert_close(change.a_rd.grad, scale * change.b_fr.T @ slope, rtol=1e-4, atol=1e-5)
    assert_close(change.b_fr.grad, scale * slope @ change.a_rd.T, rtol=1e-4, atol=1e-5)


def test_a_fused_map_and_a_table():
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.qkv = nn.Embedding(11, 6), nn.Linear(6, 18, bias=False)

        def forward(self, x):
            return self.qkv(self.table(x)).split(6, dim=-1)

    model, x = Fused(), torch.tensor([[1, 10, 3]])
    before = model(x)
    assert add_lora(model, ["qkv", "table"], rank=2) == ["table", "qkv"]
    assert all(torch.equal(new, old) for new, old in zip(model(x), before, strict=True))
    grown(model)
    beside = model(x)
    assert all((new - old).abs().max() > 0.01 for new, old in zip(beside, before, strict=True)), "all three parts"
    merge_lora(model)
    assert_close(model(x), beside, atol=1e-5, rtol=1e-5)


def test_two_adapters_on_one_base():
    model, x = lively(GPT2), some_tokens(B, T)
    base = model(x)
    add_lora(model, "*.query", rank=2, name="one")
    one = grown(model, "one")(x)
    add_lora(model, ["*.query", "*.down"], rank=4, name="two")
    assert torch.equal(model(x), base), "the new one is in use, and starts at nothing"
    two = grown(model, "two", seed=5)(x)
    use_lora(model, "one")
    assert torch.equal(model(x), one) and not torch.equal(one, two)
    assert all(".one." in name for name, p in model.named_parameters() if p.requires_grad)
    use_lora(model, "two")
    assert torch.equal(model(x), two)
    use_lora(model, None)
    assert torch.equal(model(x), base) and not any(p.requires_grad for p in model.parameters())
    remove_lora(model, "two")
    use_lora(model, "one")
    assert torch.equal(model(x), one)
    assert type(model.get_submodule("blocks.0.mlp.down")) is nn.Linear
    remove_lora(model)
    assert torch.equal(model(x), base)


def test_dropout_acts_in_training_alone():
    model, x = nn.Sequential(nn.Linear(40, 3)), torch.ones(2, 40)
    add_lora(model, "0", rank=2, dropout=0.5)
    grown(model)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    beside = model(x)
    merge_lora(model)
    assert_close(model(x), beside, atol=1e-5, rtol=1e-5)


def test_a_model_in_evaluation_mode_stays_there():
    model, x = nn.Sequential(nn.Linear(40, 3)).eval(), torch.ones(2, 40)
    add_lora(model, "0", rank=2, dropout=0.5)
    grown(model)
    assert torch.equal(model(x), model(x)) and not any(module.training for module in model.modules())


def test_the_start_is_drawn_from_the_generator():
    factors = []
    for seed in (1, 1, 2):
        model = nn.Sequential(nn.Linear(100, 3), nn.Embedding(7, 100))
        add_lora(model, "*", rank=50, generator=torch.Generator().manual_seed(seed))
        factors.append((model[0].changes["default"].a_rd, model[1].changes["default"].b_fr))
    assert torch.equal(factors[0][0], factors[1][0]) and not torch.equal(factors[0][0], factors[2][0])
    assert factors[0][0].abs().max() <= 0.1 and factors[0][0].std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)
    assert factors[0][1].std().item() == pytest.approx(1.0, rel=0.05)


def test_the_cache_and_generate_see_the_adapter():
    model, x = lively(GPT2), some_tokens(B, 5)
    add_lora(model, "*.value", rank=2)
    grown(model)
    plain = generate(model, x, 6, temperature=0, cached=False)
    assert torch.equal(generate(model, x, 6, temperature=0), plain)
    use_lora(model, None)
    assert not torch.equal(generate(model, x, 6, temperature=0), plain)


def test_packing_leaves_adapted_models_alone():
    model = Decoder(replace(GPT2, d_model=512, n_layer=1))
    assert is_worth_packing(model, 100)
    add_lora(model, "*.value", rank=2)
    assert not is_worth_packing(model, 100)
    with pytest.raises(ValueError, match="merge"):
        pack(model)
    remove_lora(model)
    assert is_worth_packing(model, 100)


def test_a_shared_layer_is_adapted_wherever_it_is_used():
    layer = nn.Linear(4, 4)
    model, x = nn.Sequential(layer, nn.Tanh(), layer), torch.randn(2, 4)
    add_lora(model, "0", rank=2)
    grown(model)
    assert model[0] is model[2]
    beside = model(x)
    merge_lora(model)
    assert_close(model(x), beside, atol=1e-5, rtol=1e-5)


def test_a_checkpoint_never_leaves_an_adapter_out(tmp_path):
    model, x = lively(replace(GPT2, tied=True)), some_tokens(B, T)
    add_lora(model, "*.query", rank=2)
    grown(model)
    beside = model(x)
    with pytest.raises(ValueError, match=r"no word for 'blocks.0.attention.query.changes.default.a_rd'"):
        save_pretrained(model, tmp_path, layout="gpt2")
    merge_lora(model)
    remove_lora(model)
    save_pretrained(model, tmp_path, layout="gpt2")
    assert_close(load_pretrained(tmp_path)(x), beside, atol=1e-4, rtol=1e-4)


def test_copies_do_not_share_adapters():
    model, x = lively(GPT2), some_tokens(B, T)
    add_lora(model, "*.query", rank=2)
    twin = copy.deepcopy(model)
    before = model(x)
    grown(twin)
    assert torch.equal(model(x), before) and not torch.equal(twin(x), before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda m: add_lora(m, "*.qery"),
            r"pattern='\*\.qery' .* there are: embedding, blocks\.\*\.attention\.query, ",
        ),
        (lambda m: add_lora(m, ["*.query", "norm"]), "pattern='norm' matches no module of kind Linear or Embedding"),
        (lambda m: add_lora(m, []), "names nothing"),
        (lambda m: add_lora(m, "*.query", rank=0), "rank=0 must be .* rank=8 works"),
        (lambda m: add_lora(m, "*.query", rank=True), "rank=True"),
        (lambda m: add_lora(m, "*.query", alpha=0), "alpha=0 must"),
        (lambda m: add_lora(m, "*.query", alpha=math.nan), "alpha=nan must"),
        (lambda m: add_lora(m, "*.query", dropout=1.0), r"dropout=1\.0"),
        (lambda m: add_lora(m, "*.query", name="a.b"), r"name='a\.b'"),
        (lambda m: add_lora(m, "*.query", name="keys"), "name='keys'"),
        (lambda m: add_lora(m, "*.value"), "has an adapter called 'default' already"),
        (lambda m: use_lora(m, "other"), "name='other' is no adapter of this model; it has default"),
        (lambda m: remove_lora(m, "other"), "name='other'"),
        (lambda m: (merge_lora(m), use_lora(m, None)), "merged into the weights; unmerge_lora"),
        (lambda m: (merge_lora(m), add_lora(m, "*.query")), "merged into the weights; unmerge_lora"),
        (lambda m: (add_lora(m, "embedding", name="t"), merge_lora(m)), r"embedding.weight and score.weight are one"),
    ],
)
def test_refusals(wrong, message):
    model = lively(GPT2)
    add_lora(model, "*.value", rank=2)
    with pytest.raises(ValueError, match=message):
        wrong(model)


def test_a_refusal_leaves_everything_as_it_was():
    model = lively(GPT2)
    before = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(ValueError):
        add_lora(model, ["*.query", "nothing"])
    assert {name: type(module) for name, module in model.named_modules()} == before
    assert all(p.requires_grad for p in model.parameters())
