"""One spelling: what is folded, what must not be, and that twice is once."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.text.normalise import _WORDS, normalise, split_words

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises

STRANGE = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from(" \n\r\t\u00a0\u200b\ufeff“”‘’…ﬁＡe\u0301，你\u2028"))
)


@given(STRANGE)
def test_twice_is_once(text):
    assert normalise(normalise(text)) == normalise(text)


@given(STRANGE)
def test_what_comes_out_is_nfc_visible_and_tidy(text):
    out = normalise(text)
    assert out == unicodedata.normalize("NFC", out)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\ufeff\u00ad\u202e]| {2}| \n|\n |\n{3}|^\s|\s$", out)


@given(st.text(alphabet="abc ABC019,.;:!?()\n你好，。", max_size=40))
def test_words_survive(text):
    assert split_words(normalise(text)) == split_words(text)


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("cafe\u0301", "café"),
        ("\ufb01ne \ufb02ow", "fine flow"),
        ("Ｖｅｒ．３", "Ver．3"),  # letters and digits, not marks
        ("a\u00a0b\u2003c\u3000d\te", "a b c d e"),
        ("one\r\ntwo\rthree\u2028four\x0bfive", "one\ntwo\nthree\nfour\nfive"),
        ("ze\u200bro wi\u00addth \ufeffmark \u202edirection", "zero width mark direction"),
        ("a\x00b\x07c\x1b[0m", "abc[0m"),
        ("“Yes,” she said, ‘no’ … ″5″", '"Yes," she said, \'no\' ... "5"'),
        ("well\u2011known", "well-known"),
        ("one\n\n\n\n\ntwo  \n three ", "one\n\ntwo\nthree"),
    ],
)
def test_what_is_folded(raw, wanted):
    assert normalise(raw) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "x² + y² = ½",
        "H₂O at 5 °C",
        "“你好，”他说……",
        "naïve Ångström",
        "— a dash – and another",
        "नमस्ते",
        "می\u200cخواهم",
        "👩\u200d🚀",
    ],
)
def test_what_must_stay(text):
    assert normalise(text) == text


def test_quotes_go_by_the_line():
    assert normalise("“English”\n“中文”") == '"English"\n“中文”'


@given(st.text(alphabet="ab'z09_-. \n", max_size=30))
def test_the_fast_way_to_words_is_the_slow_way(text):
    assert split_words(text) == _WORDS.findall(text.lower())


def test_words():
    assert split_words("Don't 'quote' rock'n'roll snake_case 3.14 Été 他们。") == [
        *("don't", "quote", "rock'n'roll", "snake", "case", "3", "14", "été", "他", "们")
    ]
