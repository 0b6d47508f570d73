"""Lists of gifts: one right answer each, the same lists from any start, and words that are in the vocabularies."""

import collections

import pytest

from minillm.text.gift_lists import COLOURS, ENGLISH, FEMININE, FRENCH, THINGS, gift_lists, in_french


@pytest.mark.parametrize("gifts", [1, 2, 5])
def test_both_languages_have_as_many_words(gifts):
    for english, french in gift_lists(20, gifts):
        assert len(english) == len(french) == 4 * gifts - 1
        assert set(english) <= set(ENGLISH) and set(french) <= set(FRENCH)
        assert french == in_french(english)


def test_article_and_colour_agree_with_the_thing():
    written = in_french(["a", "white", "lamp", "and", "a", "white", "hat"])
    assert " ".join(written) == "une lampe blanche et un chapeau blanc"
    for thing, name in THINGS.items():
        for colour, (masculine, feminine) in COLOURS.items():
            wanted = ["une", name, feminine] if thing in FEMININE else ["un", name, masculine]
            assert in_french(["a", colour, thing]) == wanted


def test_a_list_is_the_same_from_any_start():
    assert gift_lists(10, 3)[4:7] == gift_lists(3, 3, start=4)
    assert gift_lists(5, 3) != gift_lists(5, 3, seed=1)


def test_colours_and_things_are_equally_likely_and_independent():
    counts = collections.Counter((english[1], english[2]) for english, _ in gift_lists(48 * 100, 1))
    assert len(counts) == 48 and all(60 < count < 145 for count in counts.values())


def test_no_word_stands_twice_in_a_vocabulary():
    assert len(set(ENGLISH)) == len(ENGLISH) and len(set(FRENCH)) == len(FRENCH)


@pytest.mark.parametrize("text", ["a red", "the red hat", "a hat red", "a pink hat", "a red hat and"])
def test_what_is_no_list_is_refused(text):
    with pytest.raises(ValueError, match="'a red hat'"):
        in_french(text.split())


def test_no_gift_is_no_list():
    with pytest.raises(ValueError, match="gifts=0 must be at least 1"):
        gift_lists(1, 0)
