"""The explorer of chapter 09: its sentence counts what the cut keeps, for every way of drawing."""

import numpy as np
import pytest

from minillm.course.widgets_09 import NextWordExplorer

WORDS = ["red", "blue", "grey", "cheese", "owl"]
PLACES = {"had a": list(np.log([0.5, 0.3, 0.15, 0.04, 0.01])), "there": list(np.log([0.96, 0.01, 0.01, 0.01, 0.01]))}


def explorer(**how):
    return NextWordExplorer(PLACES, WORDS, **how)


def test_nothing_is_cut_at_first():
    assert "5 of 5 words can be drawn" in explorer().sentence
    assert "100% of the model's belief" in explorer().sentence


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"top_k": 2}, "2 of 5 words can be drawn. They held 80%"),
        ({"top_p": 0.9}, "3 of 5 words can be drawn. They held 95%"),
        (
            {"temperature": 0.0},
            "1 of 5 words can be drawn. They held 50% of the model's belief; the choice is worth 0.0 bits",
        ),
        ({"top_k": 4, "top_p": 0.6}, "2 of 5"),
    ],
)
def test_the_sentence_says_what_is_kept(how, says):
    assert says in explorer(**how).sentence


def test_the_cut_follows_the_place_with_top_p_and_not_with_top_k():
    nucleus, fixed = explorer(top_p=0.9), explorer(top_k=3)
    nucleus.place.value = fixed.place.value = "there"
    assert "1 of 5" in nucleus.sentence and "3 of 5" in fixed.sentence


def test_a_higher_temperature_is_a_freer_choice():
    cold, hot = explorer(temperature=0.5), explorer(temperature=2.0)
    bits = [float(e.sentence.split("worth ")[1].split()[0]) for e in (cold, explorer(), hot)]
    assert bits == sorted(bits) and bits[0] < bits[2]
    assert "image/png" in hot._repr_mimebundle_()


def test_a_logit_for_every_word():
    with pytest.raises(ValueError, match="a logit for every word"):
        NextWordExplorer({"a": [0.0, 1.0]}, WORDS)
    with pytest.raises(ValueError, match="0 entries"):
        NextWordExplorer({}, WORDS)
