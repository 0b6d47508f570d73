"""Asking a model: one prompt at a time or all at once, and where an answer begins and ends."""

import pytest
import torch

from minillm.adaptation import ask as module
from minillm.adaptation.ask import answers, ask
from minillm.adaptation.chat_template import SPECIAL_TOKENS, ChatTemplate, conversation
from minillm.adaptation.sft import SFT, packed_in_order
from minillm.text.tokenizer import WordTokenizer
from minillm.training.loop import train
from minillm.training.optim import AdamW
from minillm.transformer.decoder import Decoder, llama

WORDS = "one two three four five"
LESSONS = {"one": "two", "two three": "four five one", "four": "", "five one two": "three"}


@pytest.fixture(scope="module")
def template():
    return ChatTemplate(WordTokenizer.train(WORDS, special_tokens=SPECIAL_TOKENS))


@pytest.fixture(scope="module")
def pupil(template):
    """A model that has learned LESSONS by heart."""
    model = Decoder(llama(vocabulary=10, context=24, n_layer=1, n_head=2, d_model=24))
    batches = packed_in_order([template.encode(conversation(*lesson)) for lesson in LESSONS.items()], b=4, t=20)
    train(SFT(model), batches, steps=120, optimizer=AdamW(model.parameters(), learning_rate=0.02))
    return model


def test_it_says_what_it_learned_and_stops(pupil, template):
    assert ask(pupil, template, list(LESSONS)) == list(LESSONS.values())


def test_prompts_side_by_side_are_prompts_alone(pupil, template, monkeypatch):
    prompts = ["three", *LESSONS, "five four three two"]
    alone = [ask(pupil, template, [prompt], 7)[0] for prompt in prompts]
    assert ask(pupil, template, prompts, 7) == alone
    monkeypatch.setattr(module, "AT_ONCE", 4)
    assert ask(pupil, template, prompts, 7) == alone


def test_an_answer_is_cut_at_the_most_tokens(pupil, template):
    assert ask(pupil, template, ["two three"], 2) == ["four five"]


def test_answers_go_on_from_any_row(pupil, template):
    row = template.encode(conversation("two three"), reply=True).tokens
    assert answers(pupil, template, [row]) == ["four five one"]
    more = [*row, *template.text_ids("four five")]
    assert answers(pupil, template, [more, row]) == ["one", "four five one"]
    assert torch.is_grad_enabled() and answers(pupil, template, []) == []
