"""Eliza: limits, invariances, agreement with a brute-force matcher and with regular expressions, hostile input."""

import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.rules.eliza import Eliza, clauses, decompose, reassemble, scan, swap
from minillm.rules.script import load_script, parse_script

SMALL = """
hello Well?
swap i -> you
swap you -> I
swap my -> your
class animal: dog cat
key dog 5
  match 0 /animal 0
    say A dog, {1}?
key my 2
  match 0 your 1
    say Your {3}.
    say Again your {3}.
    say The {3}, I know.
  match 0 your 0
    next
key i
  match 0 you 0
    say You {3}?
memory my
  match 0 your 0
    say Before, your {3}.
none
  say Go on.
  say Yes?
"""


@pytest.fixture
def eliza():
    return Eliza(parse_script(SMALL))


# ---- limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   ", "...", "?!?!", ",", "\n\n", "—", "«»", "()"])
def test_without_words_only_none_can_speak(eliza, text):
    assert [eliza.reply(text) for _ in range(3)] == ["Go on.", "Yes?", "Go on."]


def test_a_zero_alone_takes_everything_and_fixed_patterns_take_exactly():
    words = ["one", "two", "three"]
    assert decompose("0", words) == [words]
    assert decompose("0", []) == [[]]
    assert decompose("3", words) == [words]
    assert decompose("2", words) is None and decompose("4", words) is None
    assert decompose("1", []) is None
    assert decompose("one 1 three", words) == [["one"], ["two"], ["three"]]


def test_zeros_take_as_little_as_they_can_from_the_left():
    assert decompose("0 a 0", list("xaya")) == [["x"], ["a"], ["y", "a"]]
    assert decompose("0 a", list("xaya")) == [["x", "a", "y"], ["a"]]
    assert decompose("0 0", list("xa")) == [[], ["x", "a"]]
    assert decompose("0 a a", list("aa")) == [[], ["a"], ["a"]]
    assert decompose("a 0 a", ["a"]) is None  # one word cannot be both ends


# ---- invariances --------------------------------------------------------------------------------------------


def test_replies_take_turns_and_start_again(eliza):
    said = [eliza.reply("my house") for _ in range(4)]
    assert said == ["Your house.", "Again your house.", "The house, I know.", "Your house."]


def test_two_patterns_rotate_on_their_own(eliza):
    eliza.reply("my house")
    eliza.reply("nothing")
    eliza.reply("dog")
    assert eliza.reply("my house") == "Again your house."


@pytest.mark.parametrize("text", ["I saw my dog", "my dog saw I", "dog my I"])
def test_the_highest_rank_speaks_wherever_it_stands(eliza, text):
    assert eliza.respond(text).keyword == "dog"


def test_the_order_of_blocks_in_the_script_does_not_matter():
    head, *blocks = re.split(r"(?m)^(?=key|memory|none)", SMALL)
    texts = ["I saw my dog", "my house", "I see", "nothing", "my big house", "dog", "nothing", "nothing", "my house"]
    eliza = Eliza(parse_script(SMALL))
    wanted = [eliza.reply(text) for text in texts]
    for order in random.Random(0).sample(list(itertools.permutations(blocks)), 12):
        shuffled = Eliza(parse_script(head + "".join(order)))
        assert [shuffled.reply(text) for text in texts] == wanted


def test_equal_ranks_keep_the_order_of_the_sentence():
    ranks = {"a": 1, "b": 1, "c": 3, "d": 2}
    assert scan("a b", ranks)[1] == ["a", "b"]
    assert scan("b a", ranks)[1] == ["b", "a"]
    assert scan("a c d b", ranks)[1] == ["c", "a", "d", "b"]  # only the front is guarded, as in the paper
    assert scan("a a A b", ranks)[1] == ["a", "b"]


def test_next_gives_the_next_keyword_its_chance(eliza):
    reply = eliza.respond("I sold my old house")  # 'my' fits only its second pattern, which passes on
    assert reply.keyword == "i" and reply.text == "You sold your old house?"


def test_the_case_of_letters_changes_no_rule(eliza):
    lower, upper = Eliza(eliza.script), Eliza(eliza.script)
    for text in ["my dog", "i saw my house", "nothing"]:
        assert lower.respond(text).pattern == upper.respond(text.upper()).pattern


def test_what_follows_the_clause_with_the_keyword_cannot_change_the_reply(eliza):
    for tail in ["", ". The dog too.", ", my dog", "; nothing", "\nI!"]:
        assert Eliza(eliza.script).reply("my house" + tail) == "Your house."
        assert Eliza(eliza.script).reply("Well, my house" + tail) == "Your house."


def test_no_keyword_anywhere_leaves_the_last_clause():
    assert scan("one two, three", {}) == (["three"], [])


def test_memory_is_a_queue_and_speaks_only_without_keywords(eliza):
    eliza.reply("my house")
    eliza.reply("my garden")
    assert list(eliza.memory) == ["Before, your house.", "Before, your garden."]
    assert eliza.reply("I see") == "You see?"
    assert [eliza.reply("nothing") for _ in range(3)] == ["Before, your house.", "Before, your garden.", "Go on."]


def test_memory_needs_its_keyword_in_front(eliza):
    eliza.reply("my dog")  # dog outranks my
    assert not eliza.memory


def test_the_same_conversation_twice_is_the_same():
    texts = ["My brother sold the mill.", "I dreamed the sea", "Why?", "grey", "You hate me", "grey", "if it rains"]
    eliza = Eliza()
    first = [str(eliza.respond(text)) for text in texts]
    eliza.reset()
    assert [eliza.reply(text) for text in texts] == first == [Eliza().reply(texts[0]), *first[1:]]


def test_swap_happens_once_and_twice_is_back_again():
    table = {"i": ("you",), "you": ("i",), "my": ("your",), "your": ("my",)}
    words = ["i", "gave", "you", "my", "bread", "and", "your", "milk"]
    assert swap(words, table) == ["you", "gave", "i", "your", "bread", "and", "my", "milk"]
    assert swap(swap(words, table), table) == words


# ---- agreement ----------------------------------------------------------------------------------------------


def brute_force(pattern, words):
    """The first of all splits, shortest first from the left, that fits: no cleverness."""
    lengths = [
        range(len(words) + 1) if element == "0" else [int(element) if element.isdigit() else 1] for element in pattern
    ]
    for sizes in itertools.product(*lengths):
        if sum(sizes) != len(words):
            continue
        ends = list(itertools.accumulate(sizes))
        parts = [words[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        if all(element.isdigit() or part == [element] for element, part in zip(pattern, parts, strict=True)):
            return parts
    return None


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(["0", "1", "2", "a", "b", "0"]), min_size=1, max_size=5),
    st.lists(st.sampled_from("abc"), max_size=7),
)
def test_decompose_agrees_with_brute_force(pattern, words):
    assert decompose(" ".join(pattern), words) == brute_force(pattern, words)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["0", "1", "a", "b"]), min_size=1, max_size=5),
    st.lists(st.sampled_from("abc"), max_size=8),
)
def test_decompose_fits_when_a_regular_expression_does(pattern, words):
    expression = "".join({"0": r"(?:\w )*?", "1": r"\w "}.get(element, element + " ") for element in pattern)
    text = "".join(word + " " for word in words)
    assert (decompose(" ".join(pattern), words) is not None) == bool(re.fullmatch(expression, text))


@given(st.lists(st.sampled_from(["0", "1", "you"]), min_size=1, max_size=6), st.lists(st.text("yo u", min_size=1)))
def test_the_parts_are_the_sentence(pattern, words):
    parts = decompose(" ".join(pattern), words)
    assert parts is None or list(itertools.chain(*parts)) == words


# ---- by hand ------------------------------------------------------------------------------------------------


def test_a_sentence_worked_by_hand():
    reply = Eliza().respond("Well, I am very tired of my brother.")
    assert reply.keyword == "my" and reply.pattern == "0 your 0 /family 0"
    assert reply.parts == ("you are very tired of", "your", "", "brother", "")
    assert reply.text == "Tell me more about your brother."
    assert reply.trace[:3] == (
        "read      i am very tired of my brother",
        "keywords  my, i",
        "swapped   you are very tired of your brother",
    )


def test_goto_and_rewrite_are_followed():
    assert Eliza().respond("I dreamed the river").pattern == "0 you dream of 0"
    assert Eliza().respond("I forgot the song").keyword == "forget"


def test_a_circle_of_gotos_ends():
    text = "key a\n match 0\n  goto b\nkey b\n match 0\n  goto a\nkey c\n match 0\n  say C.\nnone\n say N."
    eliza = Eliza(parse_script(text))
    assert eliza.reply("a") == "N."
    assert eliza.reply("a c") == "C."


def test_reassemble():
    assert reassemble("Why {2}, {1}?", [["now"], []]) == "Why, now?"
    with pytest.raises(ValueError, match=r"uses \{3\}, but there are 2 parts"):
        reassemble("{3}", [[], []])


# ---- hostile input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [".*", "[a-z]+", "(?:(((", "\\", "{1}", "{99}", "%s %d", "a\0b", "0", "/animal", "$^|"]
)
def test_nothing_in_the_input_is_interpreted(eliza, text):
    assert eliza.respond(text).keyword is None
    assert Eliza(eliza.script).reply(f"my {text.split()[0]}").startswith(("Your", "Go on."))


def test_braces_from_the_reader_come_back_as_text(eliza):
    assert eliza.reply("I x{9}y") == "You x{9}y?"


@pytest.mark.parametrize(
    "text", ["我想念我的哥哥。", "Я помню мельницу", "héllo wörld", "👋🏽", "\u202eabc", "की", "a" * 100_000]
)
def test_any_unicode_gets_an_answer(text):
    assert Eliza().reply(text)


def test_accents_and_curly_apostrophes_are_read_as_words():
    assert clauses("I’m with Zoe\u0301.") == [["i'm", "with", "Zoé"]]
    assert Eliza().respond("I’m sad").pattern == "0 you (are feel) 0 /sad 0"


def test_a_very_long_message_is_answered():
    assert Eliza().reply("my dog " * 50_000)
    assert Eliza().reply("word " * 100_000 + "I remember")


def test_many_zeros_do_not_explode():
    words = ["a"] * 2_000
    assert decompose("0 a " * 12 + "0 b", words) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=5))
def test_every_string_is_answered(texts):
    eliza = Eliza(load_script())
    assert all(eliza.reply(text) for text in texts)
