"""The explorer of chapter 04: the sum, who may answer, and what cannot be asked."""

import numpy as np
import pytest

from minillm.course.widgets_04 import AnalogyExplorer, nearest
from minillm.vectors.word_vectors import WordVectors

WORDS = ["goat", "goats", "hen", "hens", "the"]
ROWS = np.array([[1.0, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1]])


@pytest.fixture
def explorer():
    scaled = WordVectors(WORDS, ROWS * np.array([[3.0], [1], [7], [2], [50]]))
    other = WordVectors([*WORDS[:3], "duck"], np.random.default_rng(0).normal(size=(4, 6)))
    return AnalogyExplorer({"ours": scaled, "other": other}, "goat goats hen")


def test_the_answer_is_that_of_the_vectors(explorer):
    table = explorer.table
    for question in ("goat goats hen", "hens hen goats", "goat hen goats"):
        explorer.question.value = question
        (best, cos), *_ = explorer.answers()
        assert (best, pytest.approx(cos)) == table.analogy(*question.split())[0]
        assert explorer.sentence.startswith("{} is to {} as {} is to ".format(*question.split()) + best)
        assert best in explorer.figure.alt


def test_the_words_of_the_question_answer_only_when_they_may(explorer):
    explorer.question.value = "goat the goat"
    assert not {"goat", "the"} & {word for word, _ in explorer.answers()}
    explorer.all_words.value = True
    assert explorer.answers()[0][0] in {"goat", "the"}


def test_lengths_do_not_matter(explorer):
    plain = WordVectors(WORDS, ROWS)
    for word in WORDS:
        query = plain[word] / np.linalg.norm(plain[word])
        assert [w for w, _ in nearest(plain, query, (word,))] == [w for w, _ in nearest(explorer.table, query, (word,))]


@pytest.mark.parametrize(
    ("question", "said"),
    [("goat goats", "Here are 2"), ("", "Here are 0"), ("goat goats wolf", "'wolf'"), ("a b c d", "Here are 4")],
)
def test_a_question_that_cannot_be_asked_says_why(explorer, question, said):
    explorer.question.value = question
    assert said in explorer.sentence and said in explorer.figure.alt


@pytest.mark.parametrize("question", ["goat goat goat", "goat goats goat", "goat goats goats", "hen hen goat"])
def test_words_may_stand_twice(explorer, question):
    explorer.question.value = question
    assert explorer.picture.value[1:4] == b"PNG"


def test_other_vectors_know_other_words(explorer):
    explorer.whose.value = "other"
    explorer.question.value = "goat goats hens"
    assert "'hens'" in explorer.sentence
    explorer.question.value = "goat goats hen"
    assert explorer.answers()[0][0] == "duck"


def test_the_still_twin_holds_picture_and_sentence(explorer):
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "image/png" in data and explorer.sentence[:20] in data["text/html"]


def test_no_tables_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        AnalogyExplorer({})
