"""Adapters on disk: peft reads ours, we read peft's, and nothing hostile or damaged gets in."""

import copy
import json
import re
from dataclasses import replace

import peft
import pytest
import torch
from decoder_kinds import GPT2, LLAMA, B, T, lively, some_tokens
from torch import nn
from torch.testing import assert_close

from minillm.adaptation.lora import add_lora, lora_layers, merge_lora, use_lora
from minillm.adaptation.lora_files import CONFIG, PREFIX, WEIGHTS, load_lora, save_lora
from minillm.core.tensor_files import StoredTensors, write_tensors

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
    pytest.mark.no_promises,
]  # peft is slow under them
PLACES = ["*.query", "*.down", "embedding"]
QUERY = "blocks.0.attention.query"


def adapted(config=GPT2, places=PLACES, seed=3, **how):
    model = lively(config)
    add_lora(model, places, **how)
    return with_random_factors(model, "changes", seed)


def with_random_factors(model, part, seed=3):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part in name:
                parameter.normal_(std=0.3, generator=generator)
    return model


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("config", [GPT2, replace(LLAMA, tied=False)], ids=["gpt2", "llama"])
def test_peft_reads_ours(config, rslora, tmp_path):
    model, x = adapted(config, rank=3, alpha=5.0, rslora=rslora), some_tokens(B, T)
    save_lora(model, tmp_path)
    theirs = peft.PeftModel.from_pretrained(lively(config), tmp_path)
    assert (model(x) - lively(config)(x)).abs().max() > 0.1
    assert_close(theirs(x), model(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("config", [GPT2, replace(LLAMA, tied=False)], ids=["gpt2", "llama"])
def test_we_read_pefts(config, rslora, tmp_path):
    how = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["query", "down", "embedding"], use_rslora=rslora)
    theirs, x = peft.get_peft_model(lively(config), how), some_tokens(B, T)
    with_random_factors(theirs, "lora_")
    theirs.save_pretrained(tmp_path)
    model = lively(config)
    places = load_lora(model, tmp_path)
    assert len(places) == 1 + 2 * config.n_layer
    assert (model(x) - lively(config)(x)).abs().max() > 0.1
    assert_close(model(x), theirs(x), atol=1e-4, rtol=1e-4)


def test_pefts_merge_is_ours(tmp_path):
    config = replace(LLAMA, tied=False)
    model = adapted(config, rank=2)
    save_lora(model, tmp_path)
    theirs = peft.PeftModel.from_pretrained(lively(config), tmp_path).merge_and_unload()
    merge_lora(model)
    assert_close(model.blocks[1].mlp.down.weight, theirs.blocks[1].mlp.down.weight)
    assert_close(model.embedding.weight, theirs.embedding.weight)


def test_ranks_and_alphas_of_single_places(tmp_path):
    model, x = lively(GPT2), some_tokens(B, T)
    add_lora(model, "*.query", rank=2, alpha=4.0)
    add_lora(model, "*.1.mlp.up", rank=5, alpha=3.0)
    with_random_factors(model, "changes")
    save_lora(model, tmp_path)
    fields = json.loads((tmp_path / CONFIG).read_text())
    assert (fields["rank_pattern"], fields["alpha_pattern"]) == ({"^blocks.1.mlp.up": 5}, {"^blocks.1.mlp.up": 3.0})
    theirs = peft.PeftModel.from_pretrained(lively(GPT2), tmp_path)
    assert_close(theirs(x), model(x), atol=1e-4, rtol=1e-4)
    again = lively(GPT2)
    load_lora(again, tmp_path)
    assert torch.equal(again(x), model(x))


def test_pefts_patterns_are_endings(tmp_path):
    how = peft.LoraConfig(
        r=2, lora_alpha=2, target_modules=["query", "up"], alpha_pattern={"mlp.up": 7, "0.attention.query": 9}
    )
    theirs, x = with_random_factors(peft.get_peft_model(lively(GPT2), how), "lora_"), some_tokens(B, T)
    theirs.save_pretrained(tmp_path)
    model = lively(GPT2)
    load_lora(model, tmp_path)
    alphas = {place: layer.changes["default"].config.alpha for place, layer in lora_layers(model).items()}
    assert alphas["blocks.0.mlp.up"] == 7 and alphas[QUERY] == 9 and alphas["blocks.1.attention.query"] == 2
    assert_close(model(x), theirs(x), atol=1e-4, rtol=1e-4)


def test_out_and_in_is_the_same_adapter_and_only_it(tmp_path):
    model, x = adapted(rank=3, alpha=5.0, dropout=0.25), some_tokens(B, T)
    model.eval()
    save_lora(model, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {CONFIG, WEIGHTS}
    layers = lora_layers(model)
    numbers = sum(p.numel() for layer in layers.values() for p in layer.changes.parameters())
    assert (tmp_path / WEIGHTS).stat().st_size < 4 * numbers + 4000
    again = lively(GPT2).eval()
    assert load_lora(again, tmp_path, name="mine") == sorted(layers)
    assert torch.equal(again(x), model(x))
    assert lora_layers(again)[QUERY].changes["mine"].config == layers[QUERY].changes["default"].config
    assert all(".mine." in name for name, p in again.named_parameters() if p.requires_grad)


def test_one_of_several_is_saved(tmp_path):
    model, x = adapted(rank=2, name="one"), some_tokens(B, T)
    one = model(x)
    add_lora(model, "*.up", rank=3, name="two")
    save_lora(model, tmp_path, "one")
    again = lively(GPT2)
    load_lora(again, tmp_path)
    assert torch.equal(again(x), one)
    load_lora(again, tmp_path, name="second")
    use_lora(again, "default")
    assert torch.equal(again(x), one)


def test_a_model_with_no_name_in_common_with_ours(tmp_path):
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3))
    twin, x = copy.deepcopy(model), torch.tensor([1, 6])
    add_lora(model, "*", rank=2)
    with_random_factors(model, "changes")
    save_lora(model, tmp_path)
    assert_close(peft.PeftModel.from_pretrained(twin, tmp_path)(x), model(x), atol=1e-5, rtol=1e-5)


@pytest.fixture
def folder(tmp_path):
    save_lora(adapted(places=["*.query", "*.down"], rank=3), tmp_path)
    return tmp_path


def rewrite(folder, **fields):
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def retensor(folder, change):
    stored = StoredTensors(folder / WEIGHTS)
    write_tensors(folder / WEIGHTS, change({name: stored.read(name) for name in stored.names}))


A, B_ = f"{PREFIX}{QUERY}.lora_A.weight", f"{PREFIX}{QUERY}.lora_B.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / CONFIG).unlink(), "cannot be read"),
        (lambda f: (f / CONFIG).write_text("{"), "is not JSON"),
        (lambda f: (f / CONFIG).write_text("[1]"), "peft_type='list'"),
        (lambda f: (f / CONFIG).write_text("[" * 100_000), "is not JSON"),
        (lambda f: rewrite(f, peft_type="IA3"), "peft_type='IA3'; only 'LORA'"),
        (lambda f: rewrite(f, use_dora=True), "use_dora=True, which our layers cannot do"),
        (lambda f: rewrite(f, bias="all"), "bias='all'"),
        (lambda f: rewrite(f, modules_to_save=["score"]), "modules_to_save="),
        (lambda f: rewrite(f, invented_next_year=3), "invented_next_year=3"),
        (lambda f: rewrite(f, init_lora_weights="pissa"), "init_lora_weights='pissa', which changed the base"),
        (lambda f: rewrite(f, lora_alpha="2"), "alpha='2' must be a number"),
        (lambda f: rewrite(f, lora_alpha=-1), "alpha=-1 must"),
        (lambda f: rewrite(f, lora_dropout=2), "dropout=2 is a share"),
        (lambda f: rewrite(f, alpha_pattern={"(a+)+$": 3}), r"'\(a\+\)\+\$' in alpha_pattern; names are read"),
        (lambda f: rewrite(f, alpha_pattern=[1]), r"alpha_pattern=\[1\]"),
        (lambda f: (f / WEIGHTS).unlink(), "is not there"),
        (lambda f: (f / WEIGHTS).write_bytes(b"PK\x03\x04 pickles"), "is a pickle"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-9]), "damaged"),
        (lambda f: retensor(f, lambda t: t | {"extra": torch.ones(2)}), "holds 'extra', which is no part"),
        (
            lambda f: retensor(f, lambda t: {n: x for n, x in t.items() if n != A}),
            f"not '{re.escape(A)}'; it needs both",
        ),
        (lambda f: retensor(f, lambda t: t | {A: torch.ones(3, 25)}), r"has shape \(3, 25\), but .* takes \(3, 24\)"),
        (lambda f: retensor(f, lambda t: t | {B_: torch.ones(24, 4)}), r"has shape \(24, 4\), but .* takes \(24, 3\)"),
        (lambda f: retensor(f, lambda t: t | {A: torch.ones(3)}), r"has shape \(3,\); the rule is \(rank, width\)"),
        (lambda f: retensor(f, lambda t: t | {A: torch.ones(3, 24).long()}), "dtype=torch.int64"),
        (
            lambda f: retensor(f, lambda t: {n.replace("query", "qury"): x for n, x in t.items()}),
            "changes 'blocks.0.attention.qury', which this model lacks",
        ),
        (
            lambda f: retensor(f, lambda t: {n.replace("attention.query", "attention_norm"): x for n, x in t.items()}),
            "is neither nn.Linear nor nn.Embedding",
        ),
    ],
)
def test_a_spoilt_folder_is_refused_and_the_model_left_alone(spoil, message, folder):
    spoil(folder)
    model = lively(GPT2)
    with pytest.raises(ValueError, match=message):
        load_lora(model, folder)
    assert not lora_layers(model) and all(p.requires_grad for p in model.parameters())


def test_refusals_of_names(folder):
    model = lively(GPT2)
    load_lora(model, folder)
    with pytest.raises(ValueError, match="has an adapter called 'default' already"):
        load_lora(model, folder)
    with pytest.raises(ValueError, match="name='x' is no adapter"):
        save_lora(model, folder, "x")
    add_lora(model, "*.up", name="two", rslora=True)
    add_lora(model, "*.value", name="two")
    with pytest.raises(ValueError, match="differ in dropout or rslora"):
        save_lora(model, folder, "two")
    merge_lora(model)
    with pytest.raises(ValueError, match="unmerge_lora"):
        load_lora(model, folder, name="three")
