"""Chapter 01's widget answers to its controls and to anything that is typed, and has a still twin."""

import base64

import pytest

from minillm.course.widgets_01 import ListenerExplorer, load_cards
from minillm.rules.eliza import Eliza


def test_the_sentence_says_what_the_picture_shows():
    widget = ListenerExplorer("I remember the mill.")
    assert "Pattern: 0 you remember 0" in widget.sentence
    before = widget.picture.value
    widget.message.value = "I dream of the sea."
    assert "Keyword that answers: dream" in widget.sentence and widget.picture.value != before
    assert 'role="status"' in widget.status.value


def test_taking_parts_away_shows():
    widget = ListenerExplorer("I am tired of my brother.")
    assert widget.sentence.endswith("Tell me more about your brother.")
    widget.with_ranks.value = False
    assert "Keyword that answers: i." in widget.sentence
    widget.with_swap.value = False
    assert "your brother" not in widget.sentence


def test_the_same_controls_give_the_same_picture():
    widget = ListenerExplorer()
    first = widget.picture.value
    widget.with_swap.value = False
    widget.with_swap.value = True
    assert widget.picture.value == first


@pytest.mark.parametrize(
    "text", ["", "...", "$x$ and \\frac", "我想念我的哥哥", "a" * 5000, "I " * 500, "<b>{1}</b>", "_^{}"]
)
def test_anything_may_be_typed(text):
    widget = ListenerExplorer()
    widget.message.value = text
    assert widget.picture.value[1:4] == b"PNG"


def test_the_still_twin():
    bundle = ListenerExplorer()._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert base64.b64decode(data["image/png"])[1:4] == b"PNG" and "alt=" in data["text/html"]
    assert "Tell me more about your brother" in data["text/plain"]


def test_the_cards_are_different_on_both_sides():
    cards = load_cards()
    assert len({card.message for card in cards}) == 16
    assert all(card.eliza == Eliza().reply(card.message) != card.written for card in cards)
    assert 4 <= sum(card.written.endswith("?") for card in cards) <= 8
