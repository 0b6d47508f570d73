"""The explorer of chapter 02: what its pictures must say, whatever the controls, and the price of spelling."""

import math
import re

import pytest

from minillm.course.widgets_02 import SPELLING_BITS, CountingExplorer, held_out_bits
from minillm.statistical.ngram import NGramModel
from minillm.text.village import Village

MODEL = NGramModel(order=2, smoothing="mle").fit([["ab", "c"], ["ab", "d"]])


def test_bits_of_a_known_text_are_its_own():
    assert held_out_bits(MODEL, ["ab c"]) == pytest.approx(1 / 4)  # one coin, four characters
    assert held_out_bits(MODEL, ["ab c", "ab d"]) == pytest.approx(2 / 8)


def test_an_unknown_word_pays_for_its_letters():
    wide = NGramModel(order=1, smoothing="add-k").fit([["ab"]])
    longer, shorter = held_out_bits(wide, ["xyzxyz"]) * 6, held_out_bits(wide, ["xyz"]) * 3
    assert longer - shorter == pytest.approx(3 * SPELLING_BITS)
    assert shorter == pytest.approx(
        math.log2(5 / 1) + math.log2(5 / 2) + 4 * SPELLING_BITS
    )  # "<unk>", its end, letters


def test_an_impossible_word_costs_everything():
    assert held_out_bits(MODEL, ["c ab"]) == math.inf


def best(sentence):
    return float(re.search(r"with ([\d.]+) bits", sentence)[1])


def test_more_stories_help_and_nothing_beats_the_floor():
    explorer = CountingExplorer(stories="30", smoothing="kneser-ney")
    few = best(explorer.sentence)
    explorer.stories.value = "120"
    assert Village(seed=0).entropy_per_character("stories") < best(explorer.sentence) < few


def test_mle_says_where_it_is_infinite_and_still_draws():
    explorer = CountingExplorer(smoothing="mle", stories="30")
    assert "Infinite at order" in explorer.sentence
    assert explorer.picture.value[1:4] == b"PNG"


def test_prose_has_no_floor():
    explorer = CountingExplorer(text="prose", stories="30")
    assert "entropy" not in explorer.sentence
    explorer.text.value = "village"
    assert "entropy" in explorer.sentence
    assert "image/png" in explorer._repr_mimebundle_()
