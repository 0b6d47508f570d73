"""The explorer of chapter 07: its picture is the model's attention, and its words are the model's own."""

import pytest
import torch
from torch.testing import assert_close

from minillm.course import widgets_07
from minillm.course.widgets_07 import KINDS, TranslationExplorer, guesses_by_layer
from minillm.text.tokenizer import WordTokenizer
from minillm.transformer.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

SENTENCES = ["Tom reads a red book.", "Mei and Tom sleep."]


@pytest.fixture(scope="module")
def tokenizer():
    return WordTokenizer.train(
        " ".join([*SENTENCES, "汤姆看一本红书。小梅睡觉和"]), special_tokens=["<begin>", "<end>"]
    )


@pytest.fixture
def model(tokenizer):
    config = EncoderDecoderConfig(vocabulary=len(tokenizer.vocab), d_model=10, n_head=5, n_layer=3, d_hidden=14)
    return EncoderDecoder(config)


@pytest.fixture
def explorer(model, tokenizer):
    return TranslationExplorer(model, tokenizer, SENTENCES, max_tokens=7)


def test_the_last_guess_is_what_the_machine_writes(explorer, model):
    batch = explorer.batch(SENTENCES[0])
    guesses = guesses_by_layer(model, batch)
    assert len(guesses) == 4
    assert_close(guesses[-1], model(batch).argmax(-1))
    assert [guess.shape for guess in guesses] == [batch.target_bt[:, 1:].shape] * 4


def test_a_greedy_translation_agrees_with_its_own_guesses(explorer, model):
    batch = explorer.batch(SENTENCES[1])
    written = batch.target_bt[0, 1:-1]  # the end was put there by the batch, perhaps not by the model
    assert_close(guesses_by_layer(model, batch)[-1][0, : len(written)], written)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_picture_is_the_weights_of_that_layer_and_head(explorer, model, kind, monkeypatch):
    drawn, real = {}, widgets_07.heat_map

    def listen(values, **named):
        drawn.update(named, values=values)
        return real(values, **named)

    monkeypatch.setattr(widgets_07, "heat_map", listen)
    explorer.layer.value, explorer.head.value, explorer.kind.value = 2, 4, kind
    batch = explorer.batch(SENTENCES[0])
    wanted = model.weights(batch, layer=1, kind=KINDS[kind])[0, 3]
    assert_close(torch.tensor(drawn["values"]), wanted)
    assert (len(drawn["row_names"]), len(drawn["column_names"])) == tuple(wanted.shape)
    assert drawn["title"] == f"Layer 2, head 4: {kind}"
    asks = batch.source_bs[0] if kind == "source reads source" else batch.target_bt[0, 1:]  # a place is what it writes
    assert drawn["row_names"] == [explorer.tokenizer.vocab[int(token)] for token in asks]


def test_the_words_after_a_layer_are_that_layers_guess(explorer, model):
    guesses = guesses_by_layer(model, explorer.batch(SENTENCES[0]))
    said = []
    for layer in (1, 2, 3):
        explorer.layer.value = layer
        said.append(explorer.sentence.split("it would write: ")[1])
        assert said[-1] == WordTokenizer.join(explorer.tokenizer.vocab[int(token)] for token in guesses[layer][0])
    assert len(set(said)) == 3, "else this test could not fail"


def test_the_sentence_follows_the_controls(explorer):
    assert explorer.sentence.startswith("Layer 3 of 3, head 1 of 5. Most: ")
    assert "If it stopped after layer 3" in explorer.sentence
    explorer.layer.value, explorer.head.value = 1, 5
    assert explorer.sentence.startswith("Layer 1 of 3, head 5 of 5.") and "after layer 1" in explorer.sentence
    explorer.words.value = SENTENCES[1]
    assert "Mei" in explorer.sentence or "Tom" in explorer.sentence or "sleep" in explorer.sentence
    explorer.kind.value = "source reads source"
    assert "Mei ← " in explorer.sentence and "stopped" not in explorer.sentence
    assert "image/png" in explorer._repr_mimebundle_()


def test_the_first_target_row_can_read_only_begin(explorer):
    explorer.kind.value = "target"
    assert explorer.sentence.split("Most: ")[1].split(",")[0].endswith("← <begin>")


def test_no_sentence_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="nothing to choose from"):
        TranslationExplorer(model, tokenizer, [])
