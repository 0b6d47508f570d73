"""Pre-tokens: GPT-2's cuts by hand and against the Rust library, streams, and what the checks of input say."""

import itertools

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from minillm.text.pretokens import (
    ASCII_PATTERN,
    GPT2_PATTERN,
    checked_chunks,
    checked_special_tokens,
    file_chunks,
    pre_tokens,
    pre_tokens_of_chunks,
)
from minillm.text.token_files import as_characters

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises

# As it is printed in the code released with GPT-2, contractions first.
PUBLISHED = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
# Characters that Python knows: other libraries may not know what the newest Unicode calls a letter.
KNOWN = st.characters(exclude_categories=["Cs", "Cn"])
AWKWARD = st.text(st.sampled_from("a'sltrevmd' \n\t9!猫é\u0301\x1c\x85\u3000") | KNOWN)


def flat(stream):
    """All pieces in order; a special token as a list of one, to tell it from a pre-token."""
    return [piece for words, special in stream for piece in [*words, *([[special]] if special else [])]]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("it's we'll 'tis", ["it", "'s", " we", "'ll", " '", "tis"]),
        ("IT'S", ["IT", "'", "S"]),  # the pattern knows contractions in lower case only
        ("a  b\n\nc", ["a", " ", " b", "\n", "\n", "c"]),
        ("a \n", ["a", " \n"]),
        ("x=12345!!", ["x", "=", "12345", "!!"]),
        ("我有2只猫。", ["我有", "2", "只猫", "。"]),
    ],
)
def test_cuts_by_hand(text, pieces):
    assert pre_tokens(text) == pieces


@given(AWKWARD)
def test_the_order_of_the_alternatives_changes_nothing(text):
    assert pre_tokens(text) == GPT2_PATTERN.findall(text) == PUBLISHED.findall(text)


@given(st.text(st.characters(codec="ascii")) | st.text(st.sampled_from("a'sltrevmd' \n\x0b\x1f9!")))
def test_the_pattern_for_ascii_is_a_twin_of_the_other(text):
    assert pre_tokens(text) == ASCII_PATTERN.findall(text) == GPT2_PATTERN.findall(text)


def test_the_pattern_for_ascii_is_a_twin_of_the_other_on_all_short_texts():
    # One character of each kind that the pattern tells apart, in every order.
    for length in range(1, 6):
        for characters in itertools.product("sl' 9!\n", repeat=length):
            text = "".join(characters)
            assert ASCII_PATTERN.findall(text) == GPT2_PATTERN.findall(text), text
    for character in map(chr, range(128)):
        for text in (character, f"a{character}", f" {character}9", f"!{character} "):
            assert ASCII_PATTERN.findall(text) == GPT2_PATTERN.findall(text), text


@given(AWKWARD)
def test_the_pieces_put_together_are_the_text_and_the_cuts_are_those_of_the_rust_library(text):
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    assert "".join(pre_tokens(text)) == text
    assert [as_characters(piece.encode()) for piece in pre_tokens(text)] == [piece for piece, _ in theirs]


@given(AWKWARD, st.sampled_from([1, 3, 10]), st.sampled_from([(), ("'s",), ("a", "a'", " 9!")]))
def test_a_stream_is_cut_like_the_whole(text, scan, special_tokens):
    whole = flat(pre_tokens_of_chunks([text], special_tokens))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minillm.text.pretokens.SCAN", scan)
        assert flat(pre_tokens_of_chunks(text, special_tokens)) == whole


@pytest.mark.parametrize("special_tokens", [(), ("a'", "a"), ("ll", "'", "'ll b")])
@pytest.mark.parametrize("text", ["a'll b", "it're 'v e", "a  \n b   ", "aa'a'la''a", "猫'll bb'll"])
def test_a_stream_that_is_scanned_at_every_place_is_cut_like_the_whole(text, special_tokens, monkeypatch):
    whole = list(pre_tokens_of_chunks([text], special_tokens))
    monkeypatch.setattr("minillm.text.pretokens.SCAN", 1)
    for cut in range(len(text)):
        for second in range(cut, len(text)):
            chunks = [text[:cut], text[cut:second], text[second:]]
            assert flat(pre_tokens_of_chunks(chunks, special_tokens)) == flat(whole), chunks


def test_a_stream_holds_little_back(monkeypatch):
    monkeypatch.setattr("minillm.text.pretokens.SCAN", 100)
    read = given = 0

    def chunks():
        nonlocal read
        for _ in range(1000):
            read += 11
            yield " some words"

    for words, _ in pre_tokens_of_chunks(chunks(), ["<|endoftext|>"]):
        given += sum(map(len, words))
        assert read - given < 150
    assert read == given == 11_000


def test_one_very_long_pre_token_is_not_scanned_for_every_chunk(monkeypatch):
    scanned = []
    monkeypatch.setattr("minillm.text.pretokens.SCAN", 10)
    monkeypatch.setattr("minillm.text.pretokens.pre_tokens", lambda text: scanned.append(len(text)) or pre_tokens(text))
    assert [words for words, _ in pre_tokens_of_chunks("a" * 5000) if words] == [["a" * 5000]]
    assert sum(scanned) < 4 * 5000


def test_a_lone_surrogate_is_refused_with_its_offset_in_the_whole_stream():
    with pytest.raises(ValueError, match=r"text\[5\]='\\udc00' is a lone surrogate.*surrogatepass"):
        list(checked_chunks(["abc", "é", "\U0001f642"[:0] + "x\udc00"]))


def test_bad_utf8_is_refused_with_its_byte(tmp_path):
    path = tmp_path / "bad.txt"
    path.write_bytes("né".encode() * 3 + b"ab\xffcd")
    for size in (1, 2, 3, 100):
        with pytest.raises(ValueError, match=r"bad\.txt is not UTF-8 at byte 11 "):
            list(file_chunks(path, size))
    path.write_bytes("猫".encode()[:2])
    for size in (1, 2, 100):
        with pytest.raises(ValueError, match=r"bad\.txt is not UTF-8 at byte 0 "):
            list(file_chunks(path, size))


@pytest.mark.parametrize(
    ("special_tokens", "message"),
    [
        ("<s>", r"special_tokens='<s>' must be a sequence of texts, such as \['<s>'\]"),
        (["<s>", ""], r"special_tokens\[1\]='' must be a text that is not empty"),
        (["<s>", "<s>"], r"special_tokens\[1\]='<s>' must be .* stands only once"),
        ([b"<s>"], r"special_tokens\[0\]=b'<s>' must be a text"),
        (["\ud800"], "lone surrogate"),
    ],
)
def test_bad_special_tokens_are_refused(special_tokens, message):
    with pytest.raises(ValueError, match=message):
        checked_special_tokens(special_tokens)
