"""BERT's checkpoints: the transformers package and we agree, in both directions, for all four kinds of model."""

import json

import pytest
import torch
import transformers
from small_checkpoints import rewrite, shake
from torch.testing import assert_close

from minillm.core.tensor_files import StoredTensors
from minillm.transformer.encoder import Encoder, EncoderConfig, MaskedLM
from minillm.transformer.encoder_batches import TextBatch
from minillm.transformer.encoder_tasks import Tagger, TextClassifier
from minillm.transformer.pretrained import CONFIG, load_pretrained, save_pretrained

VOCABULARY, CONTEXT, T, LABELS = 37, 21, 13, 3
pytestmark = pytest.mark.no_promises
BERT = {"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "hidden_size": 24, "intermediate_size": 40,
        "num_hidden_layers": 3, "num_attention_heads": 4, "type_vocab_size": 2}  # fmt: skip
OURS = EncoderConfig(vocabulary=VOCABULARY, context=CONTEXT, n_layer=3, n_head=4, d_model=24, d_hidden=40)
KINDS = {  # layout: their class, our model
    "bert": (transformers.BertForPreTraining, lambda: MaskedLM(OURS)),
    "bert-trunk": (transformers.BertModel, lambda: Encoder(OURS)),
    "bert-classifier": (transformers.BertForSequenceClassification, lambda: TextClassifier(Encoder(OURS), LABELS)),
    "bert-tagger": (transformers.BertForTokenClassification, lambda: Tagger(Encoder(OURS), LABELS)),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(5)


def theirs_in(tmp_path, layout, **fields):
    labels = {"num_labels": LABELS} if layout in ("bert-classifier", "bert-tagger") else {}
    model = shake(KINDS[layout][0](transformers.BertConfig(**BERT, **labels, **fields)))
    model.save_pretrained(tmp_path)
    return model


def batch_of_unequal_texts():
    length_b = torch.tensor([T, 5, 9, 2])
    segment_bt = (torch.arange(T) > 3).long().expand(4, T).contiguous()
    return TextBatch(tokens_bt=torch.randint(VOCABULARY, (4, T)), length_b=length_b, segment_bt=segment_bt)


@torch.no_grad()
def compare(ours, theirs, batch):
    """The outputs of both at every real token, or for every text."""
    real_bt = torch.arange(T) < batch.length_b[:, None]
    said = theirs(batch.tokens_bt, attention_mask=real_bt.long(), token_type_ids=batch.segment_bt)
    if isinstance(ours, MaskedLM):
        mine = ours.logits(batch.tokens_bt, batch.length_b, batch.segment_bt)
        pooled_bd = ours.encoder.pool(ours.encoder(batch.tokens_bt, batch.length_b, batch.segment_bt))
        pairs = [(mine[real_bt], said.prediction_logits[real_bt]),
                 (ours.next_sentence(pooled_bd), said.seq_relationship_logits)]  # fmt: skip
    elif isinstance(ours, Encoder):
        x_btd = ours(batch.tokens_bt, batch.length_b, batch.segment_bt)
        pairs = [(x_btd[real_bt], said.last_hidden_state[real_bt]), (ours.pool(x_btd), said.pooler_output)]
    elif isinstance(ours, Tagger):
        pairs = [(ours.logits(batch)[real_bt], said.logits[real_bt])]
    else:
        pairs = [(ours.logits(batch), said.logits)]
    for mine, wanted in pairs:
        assert mine.std() > 0.05  # zeros would agree with zeros
        assert_close(mine, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", KINDS)
def test_theirs_read_by_us(layout, tmp_path):
    theirs = theirs_in(tmp_path, layout)
    ours = load_pretrained(tmp_path)
    assert type(ours) is type(KINDS[layout][1]())
    assert not ours.training
    compare(ours, theirs, batch_of_unequal_texts())


@pytest.mark.parametrize("layout", KINDS)
def test_ours_read_by_them(layout, tmp_path):
    ours = shake(KINDS[layout][1]())
    save_pretrained(ours, tmp_path, layout=layout)
    theirs, report = KINDS[layout][0].from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    compare(ours, theirs.eval(), batch_of_unequal_texts())


@pytest.mark.parametrize("layout", KINDS)
def test_there_and_back_changes_nothing(layout, tmp_path):
    ours = shake(KINDS[layout][1]())
    save_pretrained(ours, tmp_path, layout=layout, largest=5000)
    again = load_pretrained(tmp_path)
    own, read = dict(ours.named_parameters()), dict(again.named_parameters())
    assert own.keys() == read.keys()
    for name in own:
        if not (layout == "bert-tagger" and "pooler" in name):  # a tagger's pooler does nothing and is not kept
            assert torch.equal(own[name], read[name]), name


@torch.no_grad()
def test_masked_language_modelling_alone_and_the_names_of_2018(tmp_path):
    theirs = shake(transformers.BertForMaskedLM(transformers.BertConfig(**BERT)))
    theirs.save_pretrained(tmp_path)

    def as_of_2018(tensors):
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[old] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = torch.arange(CONTEXT)[None]
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]

    rewrite(tmp_path, as_of_2018)
    ours, tokens_bt = load_pretrained(tmp_path), torch.randint(VOCABULARY, (4, T))
    assert isinstance(ours, MaskedLM)
    assert_close(ours.logits(tokens_bt), theirs(tokens_bt).logits, rtol=0, atol=1e-5)


def test_a_trunk_without_its_prefix_or_pooler(tmp_path):
    theirs_in(tmp_path, "bert-trunk")
    assert not any(name.startswith("bert.") for name in StoredTensors(tmp_path).names)
    rewrite(tmp_path, lambda tensors: [tensors.pop(f"pooler.dense.{kind}") for kind in ("weight", "bias")])
    assert isinstance(load_pretrained(tmp_path), Encoder)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"architectures": ["BertForQuestionAnswering"]}, "architectures='BertForQuestionAnswering' is not supported"),
        ({"architectures": None}, "the field 'architectures' is missing"),
        ({"architectures": []}, "architectures=[] is not supported"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps=1e-05 is not supported here; known: 1e-12"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key' is not supported"),
        ({"is_decoder": True}, "is_decoder=True is not supported"),
        ({"num_attention_heads": 5}, "n_head=5"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000, but there are only"),
        ({"id2label": {"0": "a", "1": "b"}}, "'classifier.weight' has shape (3, 24), but config.json asks for (2, 24)"),
        ({"id2label": 5}, "id2label=5 must be an object"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path, fields, said):
    theirs_in(tmp_path, "bert-classifier")
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | fields))
    with pytest.raises(ValueError) as error:
        load_pretrained(tmp_path)
    assert said in str(error.value)


def test_a_missing_tensor_is_named(tmp_path):
    theirs_in(tmp_path, "bert")
    rewrite(tmp_path, lambda tensors: tensors.pop("cls.predictions.bias"))
    with pytest.raises(ValueError, match=r"lacks 'cls\.predictions\.bias'"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("model", "layout", "said"),
    [
        (lambda: MaskedLM(EncoderConfig(vocabulary=9, context=5, n_head=2, d_model=4, shared_layers=True)), "bert",
         "shared_layers=True"),
        (lambda: MaskedLM(EncoderConfig(vocabulary=9, context=5, n_head=2, d_model=4, d_embedding=3)), "bert",
         "d_embedding=3"),
        (lambda: MaskedLM(EncoderConfig(vocabulary=9, context=5, n_head=2, d_model=4, activation="relu2")), "bert",
         "activation='relu2'"),
        (lambda: TextClassifier(Encoder(OURS), 2, pool="mean"), "bert-classifier", "pool='mean'"),
        (lambda: Encoder(OURS), "bert", "cannot hold this Encoder"),
        (lambda: MaskedLM(OURS), "gpt2", "cannot hold this MaskedLM"),
    ],
)  # fmt: skip
def test_what_a_layout_cannot_say_is_named(tmp_path, model, layout, said):
    with pytest.raises(ValueError) as error:
        save_pretrained(model(), tmp_path / "model", layout=layout)
    assert said in str(error.value)
    assert not (tmp_path / "model").exists()
