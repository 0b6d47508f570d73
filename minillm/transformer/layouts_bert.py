"""BERT as published: the trunk, the two questions of its pretraining, and its two kinds of labels.

Names ending in gamma and beta are of 2018, when the norms were TensorFlow's; bert-base-uncased still has them.

Paper:   Devlin et al. 2019, "BERT", arXiv:1810.04805.
Differs: a checkpoint of masked language modelling alone has neither pooler nor the second question: ours then stay as
         they were drawn. ALBERT's shared layers and narrow table have no words here, and other norms than 1e-12 none
         with us.
Next:    minillm/transformer/hub.py
"""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from minillm.transformer.encoder import EPS, Encoder, EncoderConfig, MaskedLM
from minillm.transformer.encoder_tasks import Tagger, TextClassifier
from minillm.transformer.layout import Entry, Fields, Layout

_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu", "silu": "silu"}


def _read(fields: Fields) -> EncoderConfig:
    fields.one_of("layer_norm_eps", {EPS: EPS}, EPS)
    fields.one_of("position_embedding_type", {"absolute": "absolute"}, "absolute")
    fields.one_of("is_decoder", {False: False}, False)
    fields.one_of("tie_word_embeddings", {True: True}, True)
    return EncoderConfig(
        vocabulary=fields.size("vocab_size"),
        context=fields.size("max_position_embeddings"),
        n_layer=fields.size("num_hidden_layers"),
        n_head=fields.size("num_attention_heads"),
        d_model=fields.size("hidden_size"),
        d_hidden=fields.size("intermediate_size"),
        segments=fields.size("type_vocab_size", 2),
        activation=fields.one_of("hidden_act", _ACTIVATIONS, "gelu"),
    )


def _labels(fields: Fields) -> int:
    """How many classes: the package leaves the field out where there are two."""
    names = fields.inside("id2label")
    return 2 if names is None else len(names.fields)


def _write(config: EncoderConfig, architecture: str, labels: int | None = None) -> dict[str, Any]:
    if config.d_embedding is not None or config.shared_layers:
        raise ValueError(
            f"d_embedding={config.d_embedding} and shared_layers={config.shared_layers} are ALBERT's; there are no "
            "words for them: None and False can be saved"
        )
    known = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
    if config.activation not in known:
        raise ValueError(f"activation={config.activation!r} has no words there; known: {', '.join(known)}")
    names = {} if labels is None else {"id2label": {str(i): f"LABEL_{i}" for i in range(labels)}}
    names |= {} if labels is None else {"label2id": {f"LABEL_{i}": i for i in range(labels)}}
    return names | {
        "model_type": "bert",
        "architectures": [architecture],
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "hidden_size": config.d_model,
        "intermediate_size": config.block.d_hidden,
        "type_vocab_size": config.segments,
        "hidden_act": known[config.activation],
        "layer_norm_eps": EPS,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
    }


def _trunk(encoder: Encoder, ours: str = "encoder.", pooler: bool = True) -> Iterator[Entry]:
    for name, part in (("word", "token"), ("position", "position"), ("token_type", "segment")):
        yield Entry(f"bert.embeddings.{name}_embeddings.weight", (f"{ours}{part}.weight",))
    yield from _both("bert.embeddings.LayerNorm", f"{ours}embedding_norm")
    for layer in range(encoder.config.n_layer):
        theirs, own = f"bert.encoder.layer.{layer}", f"{ours}blocks.{layer}"
        for part in ("query", "key", "value"):
            yield from _both(f"{theirs}.attention.self.{part}", f"{own}.attention.{part}")
        yield from _both(f"{theirs}.attention.output.dense", f"{own}.attention.out")
        yield from _both(f"{theirs}.attention.output.LayerNorm", f"{own}.attention_norm")
        yield from _both(f"{theirs}.intermediate.dense", f"{own}.mlp.up")
        yield from _both(f"{theirs}.output.dense", f"{own}.mlp.down")
        yield from _both(f"{theirs}.output.LayerNorm", f"{own}.mlp_norm")
    yield from _both("bert.pooler.dense", f"{ours}pooler", needed=False, written=pooler)


def _both(theirs: str, ours: str, needed: bool = True, written: bool = True) -> Iterator[Entry]:
    """The weight and the bias of one map or norm."""
    for kind in ("weight", "bias"):
        yield Entry(f"{theirs}.{kind}", (f"{ours}.{kind}",), needed=needed, written=written)


def _masked_entries(model: MaskedLM) -> Iterator[Entry]:
    yield from _trunk(model.encoder)
    yield from _both("cls.predictions.transform.dense", "transform")
    yield from _both("cls.predictions.transform.LayerNorm", "transform_norm")
    yield Entry("cls.predictions.bias", ("token_bias",))
    yield Entry("cls.predictions.decoder.weight", ("encoder.token.weight",), tied=True)
    yield Entry("cls.predictions.decoder.bias", ("token_bias",), tied=True)
    yield from _both("cls.seq_relationship", "next_sentence", needed=False)


def _classifier_entries(model: TextClassifier) -> Iterator[Entry]:
    yield from _trunk(model.encoder)
    yield from _both("classifier", "score")


def _tagger_entries(model: Tagger) -> Iterator[Entry]:
    yield from _trunk(model.encoder, pooler=False)
    yield from _both("classifier", "score")


def _write_classifier(model: TextClassifier) -> dict[str, Any]:
    if model.pool != "cls":
        raise ValueError(f"pool={model.pool!r} has no words there; 'cls' can be saved")
    return _write(model.encoder.config, "BertForSequenceClassification", model.score.out_features)


def _make(model: Callable[[EncoderConfig, int], nn.Module]) -> Callable[[Fields], Callable[[], nn.Module]]:
    def make(fields: Fields) -> Callable[[], nn.Module]:
        config, labels = _read(fields), _labels(fields)
        return lambda: model(config, labels)

    return make


def _layout(architectures: tuple[str, ...], make: Any, write: Any, entries: Any) -> Layout:
    return Layout(
        model_type="bert",
        architectures=architectures,
        make=_make(make),
        write=write,
        entries=entries,
        prefix="bert.",
        ignored=r"(bert\.)?embeddings\.position_ids",
        renamed=((".gamma", ".weight"), (".beta", ".bias")),
    )


BERT_LAYOUTS: dict[str, Layout] = {
    "bert": _layout(
        ("BertForPreTraining", "BertForMaskedLM"),
        lambda config, labels: MaskedLM(config),
        lambda model: _write(model.encoder.config, "BertForPreTraining"),
        _masked_entries,
    ),
    "bert-trunk": _layout(
        ("BertModel",),
        lambda config, labels: Encoder(config),
        lambda model: _write(model.config, "BertModel"),
        lambda model: _trunk(model, ours=""),
    ),
    "bert-classifier": _layout(
        ("BertForSequenceClassification",),
        lambda config, labels: TextClassifier(Encoder(config), labels),
        _write_classifier,
        _classifier_entries,
    ),
    "bert-tagger": _layout(
        ("BertForTokenClassification",),
        lambda config, labels: Tagger(Encoder(config), labels),
        lambda model: _write(model.encoder.config, "BertForTokenClassification", model.score.out_features),
        _tagger_entries,
    ),
}
