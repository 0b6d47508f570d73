"""The explorer of chapter 03: what is cut, and that nothing is lost."""

import pytest

from minillm.course.widgets_03 import BPEExplorer, boxes, readable
from minillm.text.bpe_training import learn_merges

pytestmark = pytest.mark.no_promises
ENGLISH = learn_merges({" the": 9, " cat": 7, " sat": 6, " on": 3}, 12)
CHINESE = learn_merges({"猫": 9, "坐着": 7}, 5)


@pytest.fixture
def explorer():
    return BPEExplorer({"English": ENGLISH, "Chinese": CHINESE}, "the cat 猫", number=12)


@pytest.mark.parametrize("number", range(13))
def test_tokens_put_together_are_the_sentence(explorer, number):
    explorer.number.value = number
    assert b"".join(explorer.tokens).decode() == "the cat 猫"


def test_no_merges_are_bytes_and_more_merges_never_make_more_tokens(explorer):
    counts = []
    for number in range(13):
        explorer.number.value = number
        counts.append(len(explorer.tokens))
    assert counts[0] == len("the cat 猫".encode()) and counts == sorted(counts, reverse=True) and counts[-1] < counts[0]


def test_the_other_language_is_joined_by_its_own_merges(explorer):
    assert "猫".encode() not in explorer.tokens
    explorer.trained_on.value = "Chinese"
    assert "猫".encode() in explorer.tokens and b"cat" not in explorer.tokens
    assert "5 merges learned from Chinese" in explorer.figure.title  # the slider may stand higher


def test_the_sentence_says_what_the_picture_shows(explorer):
    explorer.line.value = "cat"
    n = len(explorer.tokens)
    assert explorer.sentence.startswith(f"{n} tokens for 3 characters, {3 / n:.2f}")
    assert f"{n} tokens" in explorer.figure.alt
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "image/png" in data and explorer.sentence[:20] in data["text/html"]


@pytest.mark.parametrize("text", ["", "   ", "\ud800", "x" * 5000, "𠮷\n\t\x00"])
def test_any_line_can_be_typed(explorer, text):
    explorer.line.value = text
    assert explorer.picture.value[1:4] == b"PNG"


def test_readable_marks_spaces_and_bytes():
    assert [readable(t) for t in (b" a", b"\xe7\x8c", b"\n", "猫".encode())] == ["␣a", "E7·8C", "0A", "猫"]


def test_long_rows_are_counted_not_drawn():
    assert boxes(["word"] * 400, title="Many", alt="Four hundred boxes, most of them only counted.").png
