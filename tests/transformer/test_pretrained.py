"""Published checkpoints: the transformers package and we give the same logits, in both directions; damage is named."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import transformers
from small_checkpoints import rewrite, shake
from torch.testing import assert_close

from minillm.attention.positions import RopeScaling
from minillm.core.tensor_files import INDEX, WHOLE, StoredTensors
from minillm.transformer.decoder import Decoder, DecoderConfig, gpt2, llama
from minillm.transformer.pretrained import CONFIG, load_pretrained, save_pretrained

# Imported here and not in a test: under the hook that checks promised shapes it would take twenty seconds.
GPT2_MODEL, LLAMA_MODEL, MISTRAL_MODEL = (
    transformers.GPT2LMHeadModel, transformers.LlamaForCausalLM, transformers.MistralForCausalLM
)  # fmt: skip
VOCABULARY, CONTEXT = 37, 21
pytestmark = pytest.mark.no_promises  # the decoder's own tests hold them; here they would slow the other package down
SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 16}  # fmt: skip
GPT2 = {"vocab_size": VOCABULARY, "n_positions": CONTEXT, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_inner": 50,
        "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip
LLAMA = {"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "hidden_size": 24, "intermediate_size": 40,
         "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}  # fmt: skip
THEIRS = {
    "gpt2": lambda: GPT2_MODEL(transformers.GPT2Config(**GPT2)),
    "gpt2 with the exact gelu": lambda: GPT2_MODEL(
        transformers.GPT2Config(**GPT2, activation_function="gelu", layer_norm_epsilon=1e-3)
    ),
    "llama": lambda: LLAMA_MODEL(transformers.LlamaConfig(**LLAMA)),
    "llama 3": lambda: LLAMA_MODEL(
        transformers.LlamaConfig(**LLAMA, rope_theta=5000.0, rope_scaling=SCALING, tie_word_embeddings=True)
    ),
    "llama with wide heads": lambda: LLAMA_MODEL(transformers.LlamaConfig(**LLAMA, head_dim=10)),
    "mistral": lambda: MISTRAL_MODEL(transformers.MistralConfig(**LLAMA, sliding_window=5)),
}
OURS = {
    "gpt2": gpt2(vocabulary=VOCABULARY, context=CONTEXT, n_layer=3, n_head=4, d_model=24),
    "llama": llama(vocabulary=VOCABULARY, context=CONTEXT, n_layer=3, n_head=6, d_model=24, n_kv_head=2, d_hidden=40,
                   rope_base=5000.0, rope_scaling=RopeScaling(original_context=16)),
    "mistral": DecoderConfig(vocabulary=VOCABULARY, context=CONTEXT, n_layer=3, n_head=6, d_model=24, n_kv_head=2,
                             d_hidden=40, norm="rms", mlp="swiglu", positions="rope", bias=False, tied=False, window=5),
}  # fmt: skip


@pytest.fixture(autouse=True)
def loud():
    """Weights far from their start, biases and norms too, so that no wrong map or lost tensor can hide."""
    torch.manual_seed(3)


def folder_of(name, tmp_path, **saving):
    theirs = shake(THEIRS[name]())
    theirs.save_pretrained(tmp_path, **saving)
    return theirs


def edit(tmp_path, **fields):
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | fields))


def tokens(b=5, t=CONTEXT):
    return torch.randint(VOCABULARY, (b, t))


@pytest.mark.parametrize("name", THEIRS)
@torch.no_grad()
def test_theirs_read_by_us(name, tmp_path):
    theirs, tokens_bt = folder_of(name, tmp_path), tokens()
    ours = load_pretrained(tmp_path)
    assert_close(ours(tokens_bt), theirs(tokens_bt).logits, rtol=0, atol=1e-5)
    assert not ours.training


@pytest.mark.parametrize("name", OURS)
@torch.no_grad()
def test_ours_read_by_them(name, tmp_path):
    ours, tokens_bt = shake(Decoder(OURS[name])), tokens()
    save_pretrained(ours, tmp_path, layout=name)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert_close(theirs.eval()(tokens_bt).logits, ours(tokens_bt), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OURS)
@torch.no_grad()
def test_there_and_back_changes_nothing(name, tmp_path):
    ours = shake(Decoder(OURS[name]))
    save_pretrained(ours, tmp_path, layout=name, largest=3000)
    assert (tmp_path / INDEX).exists()
    again = load_pretrained(tmp_path)
    for own, read in zip(ours.parameters(), again.parameters(), strict=True):
        assert torch.equal(own, read)
    assert torch.equal(ours(tokens_bt := tokens()), again(tokens_bt))


@pytest.mark.parametrize("name", ["gpt2", "llama 3", "mistral"])
@torch.no_grad()
def test_padded_on_the_left_as_they_do_it(name, tmp_path):
    theirs = folder_of(name, tmp_path)
    ours, lengths, t = load_pretrained(tmp_path), [3, 9, 7], 9
    tokens_bt, pad_b = tokens(3, t), torch.tensor([t - n for n in lengths])
    sees_bt = torch.arange(t) >= pad_b[:, None]
    places_bt = (torch.arange(t) - pad_b[:, None]).clamp(min=0)
    wanted = theirs(tokens_bt, attention_mask=sees_bt.long(), position_ids=places_bt).logits
    got = ours.score(ours.hidden(tokens_bt, ours.new_cache(pad_b=pad_b)))
    assert_close(got[sees_bt], wanted[sees_bt], rtol=0, atol=1e-5)
    for row, n in enumerate(lengths):  # and neither differs from the row by itself
        assert_close(got[row, -n:], ours(tokens_bt[row : row + 1, -n:])[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_their_shards_are_read(tmp_path):
    theirs = folder_of("llama", tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_close(load_pretrained(tmp_path)(tokens_bt := tokens()), theirs(tokens_bt).logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_hubs_gpt2_has_no_prefix_but_masks(tmp_path):
    theirs = folder_of("gpt2", tmp_path)

    def as_of_2019(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for layer in range(3):
            tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, CONTEXT, CONTEXT).tril()

    rewrite(tmp_path, as_of_2019)
    assert_close(load_pretrained(tmp_path)(tokens_bt := tokens()), theirs(tokens_bt).logits, rtol=0, atol=1e-5)


def test_half_precision_files_become_float32_or_what_is_asked_for(tmp_path):
    shake(THEIRS["llama"]()).bfloat16().save_pretrained(tmp_path)
    assert load_pretrained(tmp_path).embedding.weight.dtype == torch.float32
    model = load_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.embedding.weight.dtype == torch.bfloat16
    save_pretrained(model, tmp_path / "again")
    assert StoredTensors(tmp_path / "again").read("model.norm.weight").dtype == torch.bfloat16


def test_a_tied_matrix_that_is_stored_too_must_agree(tmp_path):
    folder_of("gpt2", tmp_path)
    rewrite(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors["transformer.wte.weight"].clone()}))
    load_pretrained(tmp_path)
    rewrite(tmp_path, lambda tensors: tensors["lm_head.weight"].add_(1))
    with pytest.raises(ValueError, match=r"'lm_head\.weight' differs from the one that it is tied to"):
        load_pretrained(tmp_path)


def drop(name):
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("model.layers.1.mlp.up_proj.weight"), "lacks 'model.layers.1.mlp.up_proj.weight', which"),
        (drop("lm_head.weight"), "lacks 'lm_head.weight'"),
        (lambda x: x.update(rogue=torch.ones(3)), "holds 'rogue', for which the model of config.json has no place"),
        (lambda x: x.update({"model.norm.weight": torch.ones(25)}),
         "'model.norm.weight' has shape (25,), but config.json asks for (24,)"),
        (lambda x: x.update({"model.layers.0.self_attn.k_proj.weight": torch.ones(24, 8)}),
         "'model.layers.0.self_attn.k_proj.weight' has shape (24, 8), but config.json asks for (8, 24)"),
        (lambda x: x.update({"model.norm.weight": torch.ones(24, dtype=torch.int64)}),
         "'model.norm.weight' has dtype=torch.int64"),
        (lambda x: [x.pop(name) for name in list(x)[1:]], "num_hidden_layers=3, but there are only 1 tensors"),
    ],
)  # fmt: skip
def test_wrong_tensors_are_named(tmp_path, change, said):
    folder_of("llama", tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(ValueError) as error:
        load_pretrained(tmp_path)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "bloom"}, "model_type='bloom' is not supported here; known: 'gpt2', 'llama'"),
        ({"model_type": None}, "the field 'model_type' is missing"),
        ({"model_type": ["llama"]}, "model_type=['llama'] is not supported"),
        ({"hidden_size": None}, "the field 'hidden_size' is missing"),
        ({"hidden_size": "24"}, "hidden_size='24' must be a whole number"),
        ({"hidden_size": -24}, "hidden_size=-24 must be a whole number"),
        ({"hidden_size": True}, "hidden_size=True must be a whole number"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000, but there are only 30 tensors"),
        ({"num_hidden_layers": 4}, "lacks 'model.layers.3."),
        ({"num_hidden_layers": 2}, "for which the model of config.json has no place"),
        ({"vocab_size": 10**12}, "config.json asks for (1000000000000, 24)"),
        ({"num_key_value_heads": 4}, "n_kv_head=4 does not divide n_head=6"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' is not supported"),
        ({"attention_bias": True}, "attention_bias=True is not supported"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps=nan must be a number above 0"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type='yarn' is not supported"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "the field 'low_freq_factor' is missing"),
        ({"rope_parameters": [1]}, "rope_parameters=[1] must be an object"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path, fields, said):
    folder_of("llama", tmp_path)
    edit(tmp_path, **fields)
    with pytest.raises(ValueError) as error:
        load_pretrained(tmp_path)
    assert said in str(error.value)
    assert CONFIG in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "\xff"])
def test_a_configuration_that_is_no_object(tmp_path, text):
    folder_of("llama", tmp_path)
    (tmp_path / CONFIG).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json.* (is not JSON|must hold an object)"):
        load_pretrained(tmp_path)


def test_a_folder_without_a_configuration_or_weights(tmp_path):
    with pytest.raises(ValueError, match=r"a model's folder holds config\.json"):
        load_pretrained(tmp_path)
    folder_of("llama", tmp_path)
    (tmp_path / WHOLE).unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(ValueError, match="is a pickle, which is a program"):
        load_pretrained(tmp_path)


def test_a_truncated_download_is_named(tmp_path):
    folder_of("gpt2", tmp_path)
    shutil.copy(tmp_path / WHOLE, whole := tmp_path / "copy")
    (tmp_path / WHOLE).write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"tensor 'transformer\..*' ends at byte"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "layout", "said"),
    [
        (OURS["llama"], "gpt2", "activation_function='swiglu' is not supported"),
        (OURS["gpt2"], "llama", "positions='learned' (it would be read as 'rope')"),
        (OURS["mistral"], "llama", "window=5 (it would be read as None)"),
        (OURS["gpt2"], "mistral", "norm='layer'"),
        (DecoderConfig(vocabulary=9, context=5, n_layer=1, n_head=1, d_model=4, mlp="relu2"), "gpt2", "'relu2' is not"),
        (DecoderConfig(vocabulary=9, context=5, n_layer=1, n_head=1, d_model=4, qk_norm=True), "gpt2", "qk_norm=True"),
        (OURS["llama"], "bloom", "layout='bloom' is not known"),
    ],
)
def test_what_a_layout_cannot_say_is_named_before_anything_is_written(tmp_path, config, layout, said):
    with pytest.raises(ValueError) as error:
        save_pretrained(Decoder(config), tmp_path / "model", layout=layout)
    assert said in str(error.value)
    assert not (tmp_path / "model").exists()


def test_how_a_model_began_does_not_matter_once_it_was_trained_and_what_it_computes_does(tmp_path):
    """Blocks that began at zero or large are saved as any others; a share of the embedding before has no word."""
    sizes = {"vocabulary": 11, "context": 9, "n_layer": 2, "n_head": 2, "d_model": 8}
    model = shake(Decoder(replace(llama(**sizes), zero_out=True, first_scale=2.0, first_mlp_scale=3.0)))
    save_pretrained(model, tmp_path / "began-at-zero", layout="llama")
    tokens_bt = torch.tensor([[1, 7, 3, 10]])
    assert_close(load_pretrained(tmp_path / "began-at-zero")(tokens_bt), model(tokens_bt))
    with pytest.raises(ValueError, match="no words for smear=True"):
        save_pretrained(Decoder(replace(llama(**sizes), smear=True)), tmp_path / "smeared", layout="llama")
