"""Neighbours, analogies, and word2vec's text format: with gensim, there and back."""

import numpy as np
import pytest
from gensim.models import KeyedVectors

from minillm.vectors.word_vectors import WordVectors

WORDS = ["king", "queen", "man", "woman", "straße", "树"]


@pytest.fixture
def table():
    return WordVectors(WORDS, np.random.default_rng(0).normal(size=(6, 4)))


@pytest.fixture
def theirs(table):
    keyed = KeyedVectors(4)
    keyed.add_vectors(table.words, table.vectors)
    return keyed


def test_answers_are_gensims(table, theirs):
    for word in WORDS:
        for (ours, cosine), (other, other_cosine) in zip(
            table.most_similar(word, 4), theirs.most_similar(word, topn=4), strict=True
        ):
            assert ours == other and abs(cosine - other_cosine) < 1e-6
    for a, b, c in [("man", "king", "woman"), ("树", "queen", "straße")]:
        ours, other = table.analogy(a, b, c, 3), theirs.most_similar(positive=[b, c], negative=[a], topn=3)
        assert [word for word, _ in ours] == [word for word, _ in other]
        np.testing.assert_allclose([x for _, x in ours], [x for _, x in other], atol=1e-6)
    np.testing.assert_allclose(table.similarity("man", "woman"), theirs.similarity("man", "woman"), atol=1e-6)


def test_scale_and_rotation_change_no_neighbour(table):
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    turned = WordVectors(WORDS, table.vectors @ rotation * 3)
    for word in WORDS:
        assert [w for w, _ in turned.most_similar(word)] == [w for w, _ in table.most_similar(word)]


def test_a_word_is_as_near_to_itself_as_can_be_and_no_answer(table):
    assert table.similarity("king", "king") == pytest.approx(1)
    assert len(table.most_similar("king", 100)) == 5 and "king" not in dict(table.most_similar("king", 100))
    assert not {"man", "king", "woman"} & set(dict(table.analogy("man", "king", "woman", 100)))


def test_a_vector_of_zeros_is_near_to_nothing():
    table = WordVectors(["a", "b", "c"], np.array([[0, 0], [1, 0], [1, 1]]))
    assert table.similarity("a", "b") == 0
    assert table.most_similar("b")[0][0] == "c"


def test_what_is_saved_is_read_back_exactly(table, tmp_path):
    table.save(tmp_path / "table.txt")
    again = WordVectors.load(tmp_path / "table.txt")
    assert again.words == WORDS
    np.testing.assert_array_equal(again.vectors, table.vectors)


def test_gensim_reads_ours_and_we_read_gensims(table, theirs, tmp_path):
    table.save(tmp_path / "ours.txt")
    read = KeyedVectors.load_word2vec_format(tmp_path / "ours.txt", binary=False)
    assert read.index_to_key == WORDS
    np.testing.assert_array_equal(read.vectors, table.vectors)
    theirs.save_word2vec_format(str(tmp_path / "theirs.txt"), binary=False)
    back = WordVectors.load(tmp_path / "theirs.txt")
    assert back.words == WORDS
    np.testing.assert_allclose(back.vectors, table.vectors, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "line 1 must be two numbers"),
        ("king 1 2\n", "line 1 must be two numbers"),
        ("2 3\nking 1 2 3\n", "promises 2 words, but 1 follow"),
        ("1 3\nking 1 2\n", "line 2 must be a word and 3 numbers"),
        ("2 1\nking 1\nqueen x\n", "line 3 must be a word and 1 numbers"),
        ("2 1\nking 1\nking 2\n", "'king' twice"),
        ("1 1\nking nan\n", "NaN"),
        ("0 3\n", "must be"),
    ],
)
def test_damaged_files_are_refused(content, says, tmp_path):
    (tmp_path / "bad.txt").write_text(content)
    with pytest.raises(ValueError, match=says):
        WordVectors.load(tmp_path / "bad.txt")


def test_the_trailing_space_of_the_original_program_is_no_number(tmp_path):
    (tmp_path / "c.txt").write_text("2 2\n</s> 0.5 1 \nking 2 3 \n")
    assert WordVectors.load(tmp_path / "c.txt")["king"].tolist() == [2, 3]


def test_an_unknown_word_lists_the_nearest_spellings(table):
    with pytest.raises(ValueError, match=r"word='quen' has no vector; .*: queen"):
        table.most_similar("quen")
    with pytest.raises(ValueError, match="woman"):
        table.analogy("man", "king", "wonan")
    with pytest.raises(ValueError, match="6 known words"):
        table["zzzzz"]


def test_other_bad_input(table, tmp_path):
    with pytest.raises(ValueError, match="n=0"):
        table.most_similar("king", 0)
    with pytest.raises(ValueError, match="has no vectors yet"):
        WordVectors().most_similar("king")
    with pytest.raises(ValueError, match="has no vectors yet"):
        WordVectors().save(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="shape"):
        WordVectors(["a"], np.zeros((2, 3)))
    with pytest.raises(ValueError, match="new_york"):
        WordVectors(["new york"], np.ones((1, 2))).save(tmp_path / "space.txt")
    assert list(tmp_path.iterdir()) == []
    assert "king" in table and "kong" not in table and "king" not in WordVectors() and len(table) == 6
