"""Decoders as published: GPT-2, Llama, Mistral and Mixtral, in the layout of the transformers package.

GPT-2 keeps query, key and value in one matrix, and every matrix with the inputs first. Llama and Mistral keep each by
itself, outputs first, as we do.

Paper:   GPT-2: Radford et al. 2019; Llama: Touvron et al. 2023, arXiv:2302.13971; Llama 3: Grattafiori et al. 2024,
         arXiv:2407.21783; Mistral: Jiang et al. 2023, arXiv:2310.06825; Mixtral: Jiang et al. 2024, arXiv:2401.04088.
Differs: what acts in training alone (dropout, a mixture's losses, capacity and jitter) is neither read nor written;
         settings that our decoder does not have (biases in Llama's attention, other ways to stretch RoPE) are errors.
Next:    minillm/transformer/layouts_bert.py
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from minillm.attention.positions import RopeScaling
from minillm.transformer.decoder import Decoder, DecoderConfig
from minillm.transformer.layout import Entry, Fields, Layout
from minillm.transformer.moe import MoEConfig

_TRAINING = {"capacity": None, "balance_loss": 0.0, "z_loss": 0.0, "jitter": 0.0}  # of a mixture, and what is off
# no part of what a trained model computes, so a layout need not say them
_UNSAID = ("seed", "zero_out", "first_scale", "first_mlp_scale", "dropout")
_NO, _YES = {False: False}, {True: True}
_GELUS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu", "silu": "silu"}


def _read_gpt2(fields: Fields) -> DecoderConfig:
    d_model = fields.size("n_embd")
    fields.one_of("scale_attn_weights", _YES, True)
    fields.one_of("scale_attn_by_inverse_layer_idx", _NO, False)
    fields.one_of("add_cross_attention", _NO, False)
    return DecoderConfig(
        vocabulary=fields.size("vocab_size"),
        context=fields.size("n_positions"),
        n_layer=fields.size("n_layer"),
        n_head=fields.size("n_head"),
        d_model=d_model,
        d_hidden=fields.size("n_inner", 4 * d_model),
        mlp=fields.one_of("activation_function", _GELUS, "gelu_new"),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        tied=fields.one_of("tie_word_embeddings", {True: True, False: False}, True),
    )


def _write_gpt2(config: DecoderConfig) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocabulary,
        "n_positions": config.context,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.d_model,
        "n_inner": config.block.d_hidden,
        "activation_function": _their(_GELUS, config.mlp),
        "layer_norm_epsilon": config.block.eps,
        "tie_word_embeddings": config.tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _gpt2_entries(model: Decoder) -> Iterator[Entry]:
    config = model.config
    yield Entry("transformer.wte.weight", ("embedding.weight",))
    yield Entry("transformer.wpe.weight", ("positions.weight",))
    for layer in range(config.n_layer):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        for kind in ("weight", "bias"):
            turned, attention = kind == "weight", f"{ours}.attention"
            yield Entry(f"{theirs}.ln_1.{kind}", (f"{ours}.attention_norm.{kind}",))
            qkv = tuple(f"{attention}.{part}.{kind}" for part in ("query", "key", "value"))
            yield Entry(f"{theirs}.attn.c_attn.{kind}", qkv, turned)
            yield Entry(f"{theirs}.attn.c_proj.{kind}", (f"{attention}.out.{kind}",), turned)
            yield Entry(f"{theirs}.ln_2.{kind}", (f"{ours}.mlp_norm.{kind}",))
            yield Entry(f"{theirs}.mlp.c_fc.{kind}", (f"{ours}.mlp.up.{kind}",), turned)
            yield Entry(f"{theirs}.mlp.c_proj.{kind}", (f"{ours}.mlp.down.{kind}",), turned)
    yield Entry("transformer.ln_f.weight", ("norm.weight",))
    yield Entry("transformer.ln_f.bias", ("norm.bias",))
    yield Entry("lm_head.weight", ("score.weight",), tied=config.tied)


def _read_llama(fields: Fields) -> DecoderConfig:
    n_head, d_model = fields.size("num_attention_heads"), fields.size("hidden_size")
    fields.one_of("hidden_act", {"silu": "silu"}, "silu")
    fields.one_of("attention_bias", _NO, False)
    fields.one_of("mlp_bias", _NO, False)
    # transformers 5 keeps base and scaling together, earlier versions in two places
    rope = fields.inside("rope_parameters") or fields.inside("rope_scaling")
    base = fields if fields.fields.get("rope_theta") is not None or rope is None else rope
    return DecoderConfig(
        vocabulary=fields.size("vocab_size"),
        context=fields.size("max_position_embeddings"),
        n_layer=fields.size("num_hidden_layers"),
        n_head=n_head,
        n_kv_head=fields.size("num_key_value_heads", n_head),
        head_width=fields.size("head_dim", max(1, d_model // n_head)),
        d_model=d_model,
        d_hidden=fields.size("intermediate_size"),
        norm="rms",
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        mlp="swiglu",
        positions="rope",
        rope_base=base.number("rope_theta", 10000.0),
        rope_scaling=None if rope is None else _read_scaling(rope),
        window=None if fields.fields.get("sliding_window") is None else fields.size("sliding_window"),
        bias=False,
        tied=fields.one_of("tie_word_embeddings", {True: True, False: False}, False),
    )


def _read_scaling(rope: Fields) -> RopeScaling | None:
    kind = "rope_type" if rope.fields.get("rope_type") is not None else "type"
    if not rope.one_of(kind, {"default": False, "llama3": True}, "default"):
        return None
    return RopeScaling(
        factor=rope.number("factor"),
        low_frequency=rope.number("low_freq_factor"),
        high_frequency=rope.number("high_freq_factor"),
        original_context=rope.size("original_max_position_embeddings"),
    )


def _write_llama(config: DecoderConfig, model_type: str = "llama") -> dict[str, Any]:
    scaling = config.rope_scaling
    return {
        "model_type": model_type,
        "architectures": [f"{model_type.capitalize()}ForCausalLM"],
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.block.attention.kv_heads,
        "head_dim": config.block.attention.width,
        "hidden_size": config.d_model,
        "intermediate_size": config.block.d_hidden,
        "hidden_act": "silu",
        "rms_norm_eps": config.block.eps,
        "rope_theta": config.rope_base,
        "rope_scaling": None
        if scaling is None
        else {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_frequency,
            "high_freq_factor": scaling.high_frequency,
            "original_max_position_embeddings": scaling.original_context,
        },
        "tie_word_embeddings": config.tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _write_mistral(config: DecoderConfig) -> dict[str, Any]:
    return _write_llama(config, "mistral") | {"sliding_window": config.window}


def _read_mixtral(fields: Fields) -> DecoderConfig:
    config = _read_llama(fields)
    moe = MoEConfig(
        d_model=config.d_model,
        d_hidden=config.block.d_hidden,
        n_expert=fields.size("num_local_experts", 8),
        top_k=fields.size("num_experts_per_tok", 2),
        normalise=True,
    )
    return dataclasses.replace(config, d_hidden=None, moe=moe)


def _write_mixtral(config: DecoderConfig) -> dict[str, Any]:
    if (moe := config.moe) is None:
        raise ValueError("moe=None is no mixture of experts; 'llama' and 'mistral' are for one MLP in each block")
    return _write_mistral(config) | {
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "intermediate_size": moe.d_hidden,
        "num_local_experts": moe.n_expert,
        "num_experts_per_tok": moe.top_k,
    }


def _mixtral_entries(model: Decoder) -> Iterator[Entry]:
    moe = model.config.moe
    yield from (entry for entry in _llama_entries(model) if ".mlp." not in entry.theirs)
    for layer in range(model.config.n_layer):
        ours, theirs = f"blocks.{layer}.mlp", f"model.layers.{layer}.block_sparse_moe"
        yield Entry(f"{theirs}.gate.weight", (f"{ours}.router.weight",))
        for expert in range(0 if moe is None else moe.n_expert):
            for name, part in (("w1", "gate"), ("w2", "down"), ("w3", "up")):
                yield Entry(f"{theirs}.experts.{expert}.{name}.weight", (f"{ours}.experts.{expert}.{part}.weight",))


def _llama_entries(model: Decoder) -> Iterator[Entry]:
    config = model.config
    yield Entry("model.embed_tokens.weight", ("embedding.weight",))
    for layer in range(config.n_layer):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        yield Entry(f"{theirs}.input_layernorm.weight", (f"{ours}.attention_norm.weight",))
        for name, part in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("o_proj", "out")):
            yield Entry(f"{theirs}.self_attn.{name}.weight", (f"{ours}.attention.{part}.weight",))
        yield Entry(f"{theirs}.post_attention_layernorm.weight", (f"{ours}.mlp_norm.weight",))
        for part in ("gate", "up", "down"):
            yield Entry(f"{theirs}.mlp.{part}_proj.weight", (f"{ours}.mlp.{part}.weight",))
    yield Entry("model.norm.weight", ("norm.weight",))
    yield Entry("lm_head.weight", ("score.weight",), tied=config.tied)


def _their(known: Mapping[str, str], ours: str) -> str:
    """Their name of one of our values; ours when they have none, which reading back then refuses."""
    return next((theirs for theirs, value in known.items() if value == ours), ours)


def _checked(
    read: Callable[[Fields], DecoderConfig], write: Callable[[DecoderConfig], dict[str, Any]]
) -> Callable[[Decoder], dict[str, Any]]:
    """Write a configuration and read it back: what did not survive, the layout has no words for."""

    def fields_of(model: Decoder) -> dict[str, Any]:
        fields = write(model.config)
        ours, theirs = _resolved(model.config), _resolved(read(Fields(fields, "written")))
        wrong = [f"{n}={ours[n]!r} (it would be read as {theirs[n]!r})" for n in ours if ours[n] != theirs[n]]
        if wrong:
            raise ValueError(f"there are no words for {', '.join(wrong)}")
        return fields

    return fields_of


def _resolved(config: DecoderConfig) -> dict[str, Any]:
    """The fields of a configuration with every None replaced by what it stands for."""
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    block = config.block
    fields |= {"n_kv_head": block.attention.kv_heads, "head_width": block.attention.width}
    fields |= {"d_hidden": block.d_hidden, "norm_eps": block.eps}
    if config.positions != "rope":
        fields["rope_base"] = None
    if (moe := config.moe) is not None:  # it says what the MLP is
        fields |= {"mlp": None, "d_hidden": None}
        fields["moe"] = dataclasses.replace(moe, normalise=moe.normalised, **_TRAINING)
    return {name: value for name, value in fields.items() if name not in _UNSAID}


def _maker(read: Callable[[Fields], DecoderConfig]) -> Callable[[Fields], Callable[[], Decoder]]:
    def make(fields: Fields) -> Callable[[], Decoder]:
        config = read(fields)
        return lambda: Decoder(config)

    return make


def _llama_like(
    model_type: str,
    read: Callable[[Fields], DecoderConfig],
    write: Callable[[DecoderConfig], dict[str, Any]],
    entries: Callable[[Decoder], Iterator[Entry]],
) -> Layout:
    return Layout(
        model_type=model_type,
        make=_maker(read),
        write=_checked(read, write),
        entries=entries,
        prefix="model.",
        ignored=r"(model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
    )


DECODER_LAYOUTS: dict[str, Layout] = {
    "gpt2": Layout(
        model_type="gpt2",
        make=_maker(_read_gpt2),
        write=_checked(_read_gpt2, _write_gpt2),
        entries=_gpt2_entries,
        prefix="transformer.",
        ignored=r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",
    ),
    "llama": _llama_like("llama", _read_llama, _write_llama, _llama_entries),
    "mistral": _llama_like("mistral", _read_llama, _write_mistral, _llama_entries),
    "mixtral": _llama_like("mixtral", _read_mixtral, _write_mixtral, _mixtral_entries),
}
