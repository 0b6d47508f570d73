"""The dictionary knows every word that has a Chinese one, and what it says stands in the village's own translations."""

from minillm.course.dictionary import bleu_of_characters, measure_words, village_dictionary, word_by_word
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village

PAIRS = Village(seed=0).translations(1500, start=50_000)
WITHOUT = {"The", "the", "does", "it", "is", "are", "that", "On", "on", "in", "to", "away"}  # no partner of their own


def test_only_small_words_are_missing():
    words = {word for english, _ in PAIRS for word in WordTokenizer.split(english)}
    assert words - set(village_dictionary()) <= WITHOUT


def test_what_it_says_stands_in_the_translations():
    chinese, dictionary = "\n".join(text for _, text in PAIRS), village_dictionary()
    words = {word for english, _ in PAIRS for word in WordTokenizer.split(english)} & set(dictionary)
    assert [word for word in words if dictionary[word].removesuffix("了") not in chinese] == []


def test_measure_words_stand_before_their_things():
    chinese, dictionary = "\n".join(text for _, text in PAIRS), village_dictionary()
    assert all(dictionary[thing] in chinese and measure in chinese for thing, measure in measure_words().items())
    assert measure_words()["hat"] == measure_words()["hats"] == "顶"


def test_limits_of_the_score():
    references = [chinese for _, chinese in PAIRS[:20]]
    assert bleu_of_characters(references, references) == 100.0
    assert word_by_word(["the", "the"], village_dictionary()) == ""
