"""The filter says no to what is not language, and yes to language of many kinds."""

import random

import pytest

from minillm.text.quality import QualityConfig, letter_surprise, measure_quality, why_not
from minillm.text.stories import load_stories

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises

PLAIN = "The ferry was late again, so Mira sold the bread on the quay and walked home in the rain."


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "Where is the key? It is under the stone.",
        "3 + 4 = 7. Seven boats and two boats are nine boats.",
        "12 + 7 = 19",
        "Yes. No. Perhaps. We shall see tomorrow.",
        "渡船今天又晚点了，所以米拉在码头上卖面包。",
        "Le bac est en retard, et Mira vend le pain sur le quai avec sa sœur.",
        "def add(a, b): return a + b  # the sum of two numbers",
        "Ångström was born in Lögdö; his father was a chaplain and moved often.",
        "The EU and the UN met in NYC; the USA and the UK sent 3 people each.",
        "She said: <email> is better than <phone>.",
        "Tick, tick, tick, said the clock, and nobody in the room answered it.",
    ],
)
def test_language_is_kept(text):
    assert why_not(text) is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "words"),
        ("Read more", "words"),
        ("xkqzj vvwpt lrrd zzqk mbnv qqwx jjkd pwvz", "surprise of the letters"),
        ("asdkfj lkjwer qpwoeiru zmxncbv alskdjf ghty wqeoiu", "surprise of the letters"),
        ("~~~~ ^^^^ |||| \\\\\\\\ a b c d e f [[[[ ]]]] {{}}", "readable characters"),
        ("one * two - three : four ; five , six . ! ? * - / + = & %", "tokens with a letter"),
        ("buy now cheap " * 12, "words inside a repeated run"),
        ("I will not be late again. " * 10, "words inside a repeated run"),
        ("spam eggs spam ham spam beans spam toast spam tea spam", "share of one word"),
        ("aaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbb ccccccccccccccc ddddddddddddddd eeeeeeeeeeeeeeee", "mean word length"),
        ("BUY THIS BOAT TODAY BECAUSE THE PRICE WILL NEVER BE SO LOW AGAIN", "capitals"),
        (
            "shoes boots price cheap best sale shop brand leather size red black blue men women kids new top deal now",
            "function",
        ),
        ("The caf\ufffd\ufffd was \ufffd\ufffd\ufffd closed today \ufffd\ufffd", "readable characters"),
    ],
)
def test_what_is_no_language_is_refused_with_the_rule(text, rule):
    assert (why_not(text) or "kept").startswith(rule)


def test_shuffled_letters_are_told_from_words():
    chance = random.Random(2)
    for story in load_stories()[::10]:
        letters = [c for c in story.text.lower() if c.isalpha()]
        chance.shuffle(letters)
        nonsense = " ".join("".join(letters[i : i + 5]) for i in range(0, 200, 5))
        assert letter_surprise(nonsense) > letter_surprise(story.text) + 0.4


def test_every_feature_is_a_share_in_its_range():
    for text in ("", "?", PLAIN, "你好" * 20, "\ufffd" * 5, "A" * 400):
        q = measure_quality(text)
        for name in ("readable", "wordlike", "function_words", "one_word", "repeated", "capitals"):
            assert 0 <= getattr(q, name) <= 1, (text, name)


def test_a_limit_can_be_moved():
    assert why_not("Read more", QualityConfig(words=2)) is None
    assert why_not(PLAIN, QualityConfig(words=50)) == "words: 19 < 50"
    assert measure_quality("a b c d e a b c d x").repeated == 0.4
