"""The layouts of published checkpoints: what they call a size, and which of their tensors is which of ours.

    their tensor  =  ours, stacked along the first axis where they keep several in one, turned where they keep it turned

GPT-2 keeps query, key and value in one matrix, and every matrix with the inputs first. Llama and Mistral keep each by
itself, outputs first, as we do. A layout is read in both directions, so what can be loaded can be saved.

Paper:   GPT-2: Radford et al. 2019; Llama: Touvron et al. 2023, arXiv:2302.13971; Mistral: Jiang et al. 2023,
         arXiv:2310.06825; the names are those of the transformers package, Wolf et al. 2020, arXiv:1910.03771.
Differs: settings that our models do not have (biases in Llama's attention, other ways to stretch RoPE) are errors.
Next:    minillm/transformer/hub.py
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from minillm.attention.positions import RopeScaling
from minillm.transformer.decoder import DecoderConfig


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a checkpoint: its name there, our parameters in it, and whether it is kept turned."""

    theirs: str
    ours: tuple[str, ...]
    turned: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How one family keeps its configuration and its tensors."""

    read_config: Callable[["Fields"], DecoderConfig]
    write_config: Callable[[DecoderConfig], dict[str, Any]]
    entries: Callable[[DecoderConfig], Iterator[Entry]]
    prefix: str  # of all names but the last matrix's; a checkpoint of the trunk alone leaves it out
    score: str  # their name of the last matrix, which a tied model need not have
    ignored: str  # a pattern of names that hold no parameters: masks, tables of angles


class Fields:
    """The fields of a config.json, each asked for with the kind of value that it must have."""

    def __init__(self, fields: Mapping[str, Any], where: str) -> None:
        self.fields, self.where = fields, where

    def number(self, name: str, otherwise: float | None = None) -> float:
        """A number above 0."""
        value = self._get(name, otherwise)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"{self.where}: {name}={value!r} must be a number above 0")
        return float(value)

    def size(self, name: str, otherwise: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self._get(name, otherwise)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{self.where}: {name}={value!r} must be a whole number of at least 1")
        return value

    def one_of(self, name: str, known: Mapping[Any, Any], otherwise: Any = None) -> Any:
        """What one of the known values means to us."""
        value = self._get(name, otherwise)
        for theirs, ours in known.items():  # not `known[value]`: a hostile value need not be hashable
            if value == theirs and type(value) is type(theirs):
                return ours
        raise ValueError(f"{self.where}: {name}={value!r} is not supported here; known: {', '.join(map(repr, known))}")

    def inside(self, name: str) -> "Fields | None":
        """The fields of an inner object, or None when there is none."""
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ValueError(f"{self.where}: {name}={value!r} must be an object with fields of its own")
        return Fields(value, f"{self.where}, {name}")

    def _get(self, name: str, otherwise: Any) -> Any:
        value = self.fields.get(name)
        if value is None and otherwise is None:
            raise ValueError(f"{self.where}: the field {name!r} is missing")
        return otherwise if value is None else value


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
        "layer_norm_epsilon": _eps(config),
        "tie_word_embeddings": config.tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _gpt2_entries(config: DecoderConfig) -> Iterator[Entry]:
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
    yield Entry("lm_head.weight", ("score.weight",))


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
        "rms_norm_eps": _eps(config),
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


def _llama_entries(config: DecoderConfig) -> Iterator[Entry]:
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
    yield Entry("lm_head.weight", ("score.weight",))


def _eps(config: DecoderConfig) -> float:
    """The small number in the norms, written out."""
    if config.norm_eps is not None:
        return config.norm_eps
    return 1e-6 if config.norm == "rms" else 1e-5


def _their(known: Mapping[str, str], ours: str) -> str:
    """Their name of one of our values; ours when they have none, which reading back then refuses."""
    return next((theirs for theirs, value in known.items() if value == ours), ours)


_GPT2 = Layout(
    read_config=_read_gpt2,
    write_config=_write_gpt2,
    entries=_gpt2_entries,
    prefix="transformer.",
    score="lm_head.weight",
    ignored=r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",
)
_LLAMA = Layout(
    read_config=_read_llama,
    write_config=_write_llama,
    entries=_llama_entries,
    prefix="model.",
    score="lm_head.weight",
    ignored=r"(model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
)
_MISTRAL = Layout(
    read_config=_read_llama,
    write_config=_write_mistral,
    entries=_llama_entries,
    prefix="model.",
    score="lm_head.weight",
    ignored=_LLAMA.ignored,
)
LAYOUTS: dict[str, Layout] = {"gpt2": _GPT2, "llama": _LLAMA, "mistral": _MISTRAL}
