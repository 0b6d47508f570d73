"""Bottlenecks, prefixes, prompts and biases: limits, invariances, and what each of them trains."""

from dataclasses import replace

import pytest
import torch
from decoder_kinds import GPT2, KINDS, LLAMA, B, T, V, lively, some_tokens
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from minillm.adaptation.adapter_sizes import counted, table
from minillm.adaptation.adapters import (
    MadePrefix,
    PrefixAttention,
    PromptTuned,
    add_bottlenecks,
    add_prefix,
    settle_prefix,
    start_prefix,
    tune_biases,
)
from minillm.adaptation.chat_template import Example
from minillm.adaptation.lora import add_lora
from minillm.adaptation.sft import SFT, packed_in_order
from minillm.attention.masks import prefix
from minillm.training.loop import train
from minillm.training.optim import AdamW
from minillm.transformer.costs import parameters
from minillm.transformer.generate import generate
from minillm.transformer.packed import pack

M = 5  # length of prefixes and prompts
METHODS = {
    "LoRA": lambda model: add_lora(model, ["*.query", "*.value"], rank=3),
    "bottleneck": lambda model: add_bottlenecks(model, width=7),
    "prefix tuning, while it learns": lambda model: add_prefix(model, M, d_hidden=11),
    "prefix tuning, settled": lambda model: (add_prefix(model, M, d_hidden=11), settle_prefix(model)),
    "P-Tuning v2": lambda model: add_prefix(model, M),
    "BitFit": tune_biases,
}


def shaken(model, seed=2):
    """Every parameter that learns drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3, generator=generator)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_counts_what_learns(kind):
    config = KINDS[kind]
    rows = {row.name: row for row in table(config, rank=3, width=7, length=M, d_hidden=11)}
    total = sum(parameters(config).values())
    assert set(rows) == {"full", "prompt tuning", *METHODS}
    assert counted("full", lively(config), total) == rows["full"] and rows["full"].share == 1
    assert counted("prompt tuning", PromptTuned(lively(config), M), total) == rows["prompt tuning"]
    for name, change in METHODS.items():
        model = lively(config)
        if name == "BitFit" and not config.bias:
            assert rows[name].trainable == 0
            continue
        change(model)
        assert counted(name, model, total) == rows[name]


@pytest.mark.parametrize("places", [["out"], ["key"], ["up", "down"], ["gate", "query"]])
def test_the_table_knows_every_place_of_lora(places):
    config = KINDS["mqa"]
    model = lively(config)
    add_lora(model, [f"*.{place}" for place in places], rank=2)
    rows = {row.name: row.trainable for row in table(config, rank=2, places=places)}
    assert rows["LoRA"] == counted("LoRA", model, 1).trainable
    with pytest.raises(ValueError, match="'qery' is no map of a block; there are query, key"):
        table(config, places=["qery"])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("config", [GPT2, replace(LLAMA, bias=True)], ids=["gpt2", "llama"])
def test_what_learns_gets_gradients_and_moves_and_nothing_else(name, config):
    model, x = lively(config), some_tokens(B, T)
    METHODS[name](model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    learning = [n for n, p in model.named_parameters() if p.requires_grad]
    shaken(model).loss(x).backward()
    assert [n for n, p in model.named_parameters() if p.grad is not None] == learning
    assert all(p.grad.abs().max() > 0 for n, p in model.named_parameters() if n in learning and "key.bias" not in n)
    record = train(model, [x], steps=30, optimizer=AdamW([p for p in model.parameters() if p.requires_grad], 0.02))
    assert record[-1].loss < record[0].loss
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if n not in learning)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_bottleneck_changes_no_bit(kind):
    model, x = lively(KINDS[kind]), some_tokens(B, T)
    before, names = model(x), dict(model.named_parameters())
    places = add_bottlenecks(model, width=3)
    assert torch.equal(model(x), before) and len(places) == 2 * model.config.n_layer
    assert all(model.get_parameter(name) is parameter for name, parameter in names.items())
    assert (shaken(model)(x) - before).abs().max() > 0.01


def test_a_bottleneck_by_its_formula():
    model, x = nn.Sequential(nn.Linear(4, 6)), torch.randn(3, 4)
    y = model(x)
    add_bottlenecks(model, width=2, pattern="0", norms=False)
    layer = shaken(model)[0]
    inner = F.gelu(y @ layer.down_rf.T + layer.down_r)
    assert_close(model(x), y + inner @ layer.up_fr.T + layer.up_f)


def test_norms_learn_beside_bottlenecks_only_if_asked():
    with_norms, without = lively(GPT2), lively(GPT2)
    add_bottlenecks(with_norms, width=3)
    add_bottlenecks(without, width=3, norms=False)
    assert with_norms.n_parameters - without.n_parameters == parameters(GPT2)["norms"]


PLACELESS = ["llama", "mqa", "no positions", "llama 3"]  # where only distances count, or not even they


@pytest.mark.parametrize("kind", PLACELESS)
def test_a_prefix_from_real_tokens_is_having_read_them(kind):
    """Agreement with an independent way: the decoder that reads the tokens themselves."""
    model, x, words = lively(KINDS[kind]), some_tokens(B, T), [3, 1, 4, 1, 5]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    both = model(torch.cat((torch.tensor([words]).expand(B, -1), x), dim=1))[:, M:]
    without = model(x)
    add_prefix(model, M)
    start_prefix(model, words)
    assert_close(model(x), both, rtol=1e-4, atol=1e-4)
    assert (without - both).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_under_every_kind_of_decoder(kind):
    model, x = lively(KINDS[kind]), some_tokens(B, T)
    before = model(x)
    add_prefix(model, M, generator=torch.Generator().manual_seed(0))
    y = model(x)
    assert (y - before).abs().amin(dim=-1).max() > 1e-4, "every token sees it"
    assert ((y - before).abs().amax(dim=-1) > 1e-4).all()
    model.fused = False
    assert_close(model(x), y, rtol=1e-4, atol=1e-5)
    model.fused = True
    for cut in range(1, T):  # the future still cannot change the past
        other = x.clone()
        other[:, cut:] = (other[:, cut:] + 1) % V
        assert_close(model(other)[:, :cut], y[:, :cut])
    assert model(some_tokens(1, model.config.context)).shape[1] == model.config.context, "it takes no room"
    cache = model.new_cache()
    steps = torch.stack([model.read(x[:, t : t + 1], cache) for t in range(T)], dim=1)
    assert_close(steps, y, rtol=1e-4, atol=1e-5)
    rows = [[1, 2, 3], [4], [5, 6]]
    assert generate(model, rows, 4, temperature=0) == generate(model, rows, 4, temperature=0, cached=False)


def test_a_prefix_is_part_of_the_picture():
    model, x = lively(LLAMA), some_tokens(B, T)
    add_prefix(model, M)
    weight_bhts = model.attention_maps(x)[1]
    assert weight_bhts.shape[-2:] == (T, M + T)
    assert_close(weight_bhts.sum(dim=-1), torch.ones(B, 4, T))
    assert (weight_bhts[..., :M] > 0).all() and (weight_bhts[..., 0, M + 1 :] == 0).all()


def test_the_mlp_of_a_prefix_can_go_when_all_is_learned():
    model, x = lively(LLAMA), some_tokens(B, T)
    add_prefix(model, M, d_hidden=11)
    shaken(model)
    before, made = model(x), [m for m in model.modules() if isinstance(m, MadePrefix)]
    assert len(made) == 3 and len({id(m.short) for m in made}) == 1, "one for all layers, but for the last map"
    settle_prefix(model)
    assert torch.equal(model(x), before)
    assert model.n_parameters == 3 * 2 * M * 2 * 6 and not any(isinstance(m, MadePrefix) for m in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_of_real_tokens_is_reading_them(kind):
    model, x, words = lively(KINDS[kind]), some_tokens(B, T), [3, 1, 4, 1, 5]
    both = model(torch.cat((torch.tensor([words]).expand(B, -1), x), dim=1))[:, M:]
    tuned = PromptTuned(model, start=words)
    assert_close(tuned(x), both, rtol=1e-5, atol=1e-5)
    state, steps = None, []
    for t in range(T):
        logits_bv, state = tuned.step(x[:, t], state)
        steps.append(logits_bv)
    assert_close(torch.stack(steps, dim=1), both, rtol=1e-4, atol=1e-5)


def test_a_prompt_learns_and_only_it():
    model, x = lively(GPT2), some_tokens(B, T)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tuned = PromptTuned(model, M, generator=torch.Generator().manual_seed(0))
    again = PromptTuned(lively(GPT2), M, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tuned.prompt, again.prompt)
    record = train(tuned, [x], steps=30, optimizer=AdamW([tuned.prompt], 0.05))
    assert record[-1].loss < record[0].loss
    assert_close(model.state_dict(), before, rtol=0, atol=0)
    rows = generate(tuned, x, 3, temperature=0)
    assert rows.shape == (B, T + 3) and torch.equal(rows[:, T], tuned(x)[:, -1].argmax(dim=-1))


@pytest.mark.parametrize("config", [GPT2, LLAMA, KINDS["window"]], ids=["gpt2", "llama", "window"])
@pytest.mark.parametrize("method", ["LoRA", "bottleneck", "prefix", "prompt"])
def test_packed_examples_stay_apart_under_every_method(config, method):
    model = lively(config)
    if method == "prompt":
        model = PromptTuned(lively(config), 3)  # two of them are in the window of 4 of the second token
    elif method == "prefix":
        add_prefix(model, M)
    else:
        METHODS[method](model)
    shaken(model)
    lengths = (7, 4, 6, 3)
    examples = [Example(tokens=some_tokens(n, seed=n).tolist(), answer=[False] + [True] * (n - 1)) for n in lengths]
    (batch,) = packed_in_order(examples, b=9, t=11)
    assert batch.is_packed
    single = [model.loss(torch.tensor([example.tokens])) * (len(example.tokens) - 1) for example in examples]
    assert_close(SFT(model).loss(batch), sum(single) / (sum(lengths) - 4), rtol=1e-4, atol=1e-5)


def test_a_mask_of_the_tokens_is_kept_behind_a_prompt():
    model, x, words = lively(LLAMA), some_tokens(B, T), [3, 1, 4, 1, 5]
    tuned = PromptTuned(model, start=words)
    whole = torch.cat((torch.tensor([words]).expand(B, -1), x), dim=1)
    may_look = torch.ones(M + T, M + T, dtype=torch.bool).tril()
    may_look[M:, M:] = prefix(T, T, 4)
    expected = model(whole, may_look=may_look)[:, M:]
    assert_close(tuned(x, may_look=prefix(T, T, 4)), expected, rtol=1e-4, atol=1e-5)


def test_biases_are_all_and_only_biases():
    model = lively(GPT2)
    names = tune_biases(model)
    assert "blocks.0.attention.query.bias" in names and "norm.bias" in names
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(names)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda m: tune_biases(lively(LLAMA)), "model has no biases"),
        (lambda m: add_bottlenecks(m, 0), "width=0 must be"),
        (lambda m: add_bottlenecks(m, pattern="*.upp"), r"pattern='\*\.upp' matches no module"),
        (lambda m: (add_lora(m, "*.down"), add_bottlenecks(m)), "is a LoRALinear: something was added there already"),
        (lambda m: (add_bottlenecks(m), add_bottlenecks(m)), "is a BottleneckLinear"),
        (lambda m: (add_bottlenecks(m), add_lora(m, "*.down")), "is a BottleneckLinear"),
        (lambda m: (add_prefix(m), add_prefix(m)), "is a PrefixAttention"),
        (lambda m: add_prefix(m, 0), "length=0 must be"),
        (lambda m: add_prefix(m, 2, d_hidden=0), "d_hidden=0 must be"),
        (lambda m: add_prefix(nn.Linear(2, 2)), "matches no module of kind Block; there are: none"),
        (lambda m: settle_prefix(m), "no module of kind PrefixAttention"),
        (lambda m: (add_prefix(m, 2), start_prefix(m, [1, 2, 3])), r"add_prefix\(model, length=3\) works"),
        (lambda m: (add_prefix(m, 2, d_hidden=3), start_prefix(m, [1, 2])), "without an MLP"),
        (lambda m: (add_prefix(m, 2), pack(m)), "layers with adapters"),
        (lambda m: PromptTuned(m, 0), "length=0 must be"),
        (lambda m: PromptTuned(m, start=[V]), r"start\[0, 0\]=13 is not in the vocabulary"),
        (lambda m: PromptTuned(m, start=[]), "start has shape"),
        (lambda m: PromptTuned(m, M)(some_tokens(1, 20)), "context=24 is the most"),
        (lambda m: PromptTuned(m, M).hidden(some_tokens(1, 3), m.new_cache(pad_b=torch.tensor([1]))), "pad_b is set"),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(lively(GPT2))


def test_a_failed_start_leaves_the_prefix():
    model = lively(GPT2)
    add_prefix(model, 2)
    before = [m.prefix for m in model.modules() if isinstance(m, PrefixAttention)]
    with pytest.raises(ValueError):
        start_prefix(model, [1, V])
    assert [m.prefix for m in model.modules() if isinstance(m, PrefixAttention)] == before
