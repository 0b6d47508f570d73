"""The explorer of chapter 08: what is hidden cannot be seen, weights are shares, the sentence follows the controls."""

import pytest
import torch

from minillm.course.widgets_08 import MaskExplorer, guesses_for
from minillm.text.tokenizer import WordTokenizer
from minillm.transformer.encoder import EncoderConfig, MaskedLM
from minillm.transformer.encoder_batches import NAMES

TOKENIZER = WordTokenizer.train("The mill by the river is open . Anna", special_tokens=NAMES)
CONFIG = EncoderConfig(vocabulary=len(TOKENIZER.vocab), context=12, n_layer=3, n_head=2, d_model=8)


@pytest.fixture(scope="module")
def model():
    made = MaskedLM(CONFIG)
    with torch.no_grad():  # a fresh network scores all words nearly alike: spread them, so that a leak would show
        for parameter in made.parameters():
            parameter.mul_(5)
    return made


def test_what_is_hidden_cannot_change_the_guess(model):
    first = guesses_for(model, TOKENIZER, "The mill is open.", 2)
    assert first == guesses_for(model, TOKENIZER, "The river is open.", 2)
    assert first[1] != guesses_for(model, TOKENIZER, "The mill is Anna.", 2)[1]
    assert first[0] == ["[CLS]", "The", "[MASK]", "is", "open", ".", "[SEP]"]


def test_guesses_fall_and_weights_are_shares(model):
    tokens, guesses, rows = guesses_for(model, TOKENIZER, "Anna is open.", 1, n=4)
    shares = [share for _, share in guesses]
    assert len(guesses) == 4 and shares == sorted(shares, reverse=True) and 0 < sum(shares) < 1
    assert len(rows) == 3 * 2 and all(len(row) == len(tokens) for row in rows)
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in rows)


def test_guesses_and_rows_are_the_hidden_places_own(model):
    tokens, guesses, rows = guesses_for(model, TOKENIZER, "The mill is open.", 3)
    tokens_bt = torch.tensor([[TOKENIZER.special_ids.get(t, TOKENIZER.encode(t)[0]) for t in tokens]])
    assert guesses[0][0] == TOKENIZER.vocab[int(model.logits(tokens_bt)[0, 3].argmax())]
    second_layer = model.encoder.attention_weights(tokens_bt)[1]
    assert torch.allclose(torch.tensor(rows[2:4]), second_layer[0, :, 3])


@pytest.mark.parametrize("place", [0, 6])
def test_a_place_outside_is_refused(model, place):
    with pytest.raises(ValueError, match="place="):
        guesses_for(model, TOKENIZER, "The mill is open.", place)


def test_the_sentence_follows_the_controls(model):
    explorer = MaskExplorer(model, TOKENIZER, "The mill by the river is open.", 5)
    assert "Hidden: 'river', word 5." in explorer.sentence
    explorer.place.value = 2
    assert "Hidden: 'mill', word 2." in explorer.sentence
    explorer.place.value = 30
    assert "Hidden: '.', word 8." in explorer.sentence
    explorer.text.value = "Anna is"
    assert "Hidden: 'is', word 2." in explorer.sentence
    explorer.text.value = ""
    assert "Hidden: '.', word 1." in explorer.sentence
    explorer.text.value = "the " * 40
    assert "word 10." in explorer.sentence
    assert "image/png" in explorer._repr_mimebundle_()
