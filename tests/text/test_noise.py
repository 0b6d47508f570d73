"""Lines that no one wrote go; lines that people write, however odd, stay."""

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.text.noise import remove_noise, why_noise
from minillm.text.stories import load_stories


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("~~~~~~~~", "signs"),
        ("<<<>>> ||| <<<>>> |||", "signs"),
        ("§§¶¶§§¶¶±±±", "broken encoding"),
        ("Ã¤Ã¶Ã¼ÃŸ â€œâ€", "broken encoding"),
        ("aaaaaaaaaaaaaaaaaaa", "one letter"),
        ("Nooooooooooooooooooooooo", "one letter"),
        (base64.b64encode(bytes(range(40, 100))).decode(), "encoded data"),
        ("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "encoded data"),
        ("de ad be ef 00 ff 12 34 56 78 9a bc", "memory dump"),
        ("0x00ff 0x12ab 0x34cd 0x56ef 0x789a 0xbcde 0xf012 0x3456", "memory dump"),
        ("qxz wvk jjq zzx kqv xwz qqp vvz gkw pxj", "random letters"),
    ],
)
def test_what_is_noise_and_why(line, rule):
    assert why_noise(line) == rule
    assert remove_noise(f"Before.\n{line}\nAfter.") == "Before.\nAfter."


@pytest.mark.parametrize(
    "line",
    [
        "",
        "***",
        "* * *",
        "Yes!",
        "Ha ha ha ha ha ha ha!",
        "12 34 56 78 90 11 22 33 44",
        "3.14 + 2.72 = 5.86",
        "12:30, 12:45, 13:00, 13:15",
        "+44 20 7946 0958",
        "https://harbour.example/stories/the-old-ferry?id=12&lang=en",
        "Élève, où êtes-vous né? À Évian.",
        "åäö är tre bokstäver på svenska",
        "Nguyễn Văn A ở Hà Nội",
        "渡船今天又晚点了。",
        "哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈",
        "（……）",
        "Mississippi, Llanfairpwllgwyngyll, bookkeeper",
        "Chapter XVIII: Of the tides",
        "def f(x): return x ** 2",
        "SHA-256, UTF-8, ISO 8601, RFC 2606",
        "a b c d e f g h i j k l m n o p",
        "Ahhhhh, said the sea.",
        "Przybyszewski, Szczecin, Grzegorz",
        "<email> or <phone>",
        "Sie fährt über die Brücke.",
    ],
)
def test_what_people_write_stays(line):
    assert why_noise(line) is None


def test_every_sentence_of_the_stories_stays():
    for story in load_stories():
        for line in story.sentences + story.sentences_zh:
            assert why_noise(line) is None, line


def test_random_letters_and_bytes_are_found():
    chance = random.Random(1)
    for _ in range(100):
        words = ("".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(4, 9))) for _ in range(12))
        assert why_noise(" ".join(words)) == "random letters"
        assert why_noise(base64.b64encode(chance.randbytes(45)).decode()) in ("encoded data", "random letters")


@given(st.text(max_size=60))
def test_any_text_is_survived_and_twice_is_once(text):
    once = remove_noise(text)
    assert remove_noise(once).strip("\n") == once.strip("\n")
