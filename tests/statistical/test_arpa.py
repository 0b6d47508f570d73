"""ARPA files: KenLM reads ours and agrees, we read them back, and a broken one is refused by line."""

import math

import kenlm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minillm.statistical.ngram import NGramModel

words = st.sampled_from(["a", "b", "c", "dd", "é", "村子", "<unk>"])
corpora = st.lists(st.lists(words, max_size=7), min_size=1, max_size=9)
texts = st.lists(st.lists(st.one_of(words, st.just("never")), max_size=8), max_size=5)

SMALL = """\
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.3
-0.5\t</s>
-0.4\ta\t-0.2

\\2-grams:
-0.1\t<s> a
-0.2\ta </s>

\\end\\
"""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpora, texts, st.integers(1, 6), st.sampled_from(["kneser-ney", "interpolated"]), st.integers(1, 2))
def test_kenlm_gives_the_same_score(tmp_path, corpus, texts, order, smoothing, min_count):
    model = NGramModel(order, smoothing, min_count=min_count).fit(corpus)
    model.to_arpa(tmp_path / "model.arpa")
    reader = kenlm.Model(str(tmp_path / "model.arpa"))
    assert reader.order == max(2, order)
    for sentence in [*corpus, *texts, []]:
        theirs = reader.score(" ".join(sentence), bos=True, eos=True)
        assert theirs == pytest.approx(model.sentence_logprob(sentence) / math.log(10), abs=1e-4)
    for sentence in texts:
        each = [score for score, _, _ in reader.full_scores(" ".join(sentence))]
        assert each == pytest.approx(list(model.word_logprobs(sentence) / math.log(10)), abs=1e-5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpora, texts, st.integers(1, 6), st.sampled_from(["kneser-ney", "interpolated", "mle"]))
def test_what_is_written_is_read_back(tmp_path, corpus, texts, order, smoothing):
    model = NGramModel(order, smoothing).fit(corpus)
    model.to_arpa(tmp_path / "one.arpa")
    again = NGramModel.from_arpa(tmp_path / "one.arpa")
    assert (again.order, again.vocabulary, again.sizes) == (model.order, model.vocabulary, model.sizes)
    for sentence in [*corpus, *texts]:
        np.testing.assert_allclose(again.word_logprobs(sentence), model.word_logprobs(sentence), rtol=1e-7, atol=1e-9)
    again.to_arpa(tmp_path / "two.arpa")
    assert NGramModel.from_arpa(tmp_path / "two.arpa").sizes == model.sizes
    assert not list(tmp_path.glob("*.part"))


def test_a_model_read_from_a_file_says_what_it_is(tmp_path):
    (tmp_path / "small.arpa").write_text("made by hand\n" + SMALL)
    model = NGramModel.from_arpa(tmp_path / "small.arpa")
    assert model.smoothing == "arpa"
    assert model.logprob("a", ["<s>"]) == pytest.approx(-0.1 * math.log(10))
    assert model.logprob("a", ["a"]) == pytest.approx(-0.6 * math.log(10))
    assert model.logprob("x", ["<s>"]) == pytest.approx(-1.3 * math.log(10))
    assert model.logprob("<s>", ["a"]) == -math.inf
    with pytest.raises(RuntimeError, match="no counts"):
        model.count(["a"])


def test_windows_line_ends_and_a_missing_unknown_word(tmp_path):
    text = SMALL.replace("ngram 1=4", "ngram 1=3").replace("-1.0\t<unk>\n", "").replace("\n", "\r\n")
    (tmp_path / "small.arpa").write_bytes(text.encode())
    model = NGramModel.from_arpa(tmp_path / "small.arpa")
    assert model.logprob("x") == -math.inf
    assert model.logprob("a", ["<s>"]) == pytest.approx(-0.1 * math.log(10))


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("\\data\\", "\\dat\\", 16, "ends early"),
        ("ngram 2=2", "ngram 3=2", 3, "ngram 2="),
        ("ngram 2=2\n", "ngram 2=2\nnonsense\n", 4, "empty line"),
        ("ngram 1=4\nngram 2=2\n", "", 2, "orders"),
        ("ngram 1=4", "ngram 1=5", 11, "the section ends after 4"),
        ("ngram 1=4", "ngram 1=3", 9, "expected .*2-grams:, found"),
        ("ngram 2=2", "ngram 2=3", 15, "the section ends after 2"),
        ("-0.4\ta", "-0,4\ta", 9, "'-0,4' is not a log10 number"),
        ("-0.4\ta", "nan\ta", 9, "'nan'"),
        ("-0.4\ta", "0.4\ta", 9, "above 0"),
        ("-0.2\ta </s>", "-0.2\ta", 13, "2 fields"),
        ("-0.2\ta </s>", "-0.2\ta </s>\t-0.1", 13, "4 fields"),
        ("-0.2\ta </s>", "-0.2\tb </s>", 13, "not among the unigrams"),
        ("-0.2\ta </s>", "-0.2\ta <s>", 13, "follows nothing"),
        ("-0.2\ta </s>", "-0.2\t<s> a", 13, "twice"),
        ("-1.0\t<unk>", "-1.0\ta", 9, "twice"),
        ("\\end\\", "\\2-grams:", 15, r"\\end"),
        ("\\end\\\n", "", 15, "ends early"),
        ("-0.5\t</s>", "-0.5\tb", 9, "no unigram </s>"),
    ],
)
def test_a_malformed_file_is_refused_with_the_line(tmp_path, old, new, line, message):
    (tmp_path / "small.arpa").write_text(SMALL.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"small\.arpa line {line}: .*{message}"):
        NGramModel.from_arpa(tmp_path / "small.arpa")


def test_bytes_and_prefixes_that_do_not_belong(tmp_path):
    (tmp_path / "bytes.arpa").write_bytes(SMALL.encode().replace(b"\ta\t", b"\t\xff\t", 1))
    with pytest.raises(ValueError, match=r"line 9: byte 0 of the word is not UTF-8"):
        NGramModel.from_arpa(tmp_path / "bytes.arpa")
    text = SMALL.replace("ngram 2=2\n", "ngram 2=2\nngram 3=1\n").replace("\\end", "\\3-grams:\n-0.1\ta a a\n\n\\end")
    (tmp_path / "prefix.arpa").write_text(text)
    with pytest.raises(ValueError, match=r"line 17: its first 2 words are not among the 2-grams"):
        NGramModel.from_arpa(tmp_path / "prefix.arpa")
    with pytest.raises(FileNotFoundError):
        NGramModel.from_arpa(tmp_path / "nowhere.arpa")


@pytest.mark.parametrize("word", ["two words", "tab\t", "", "new\nline", "<UNK>"])
def test_words_that_the_format_cannot_hold_leave_the_old_file_alone(tmp_path, word):
    path = tmp_path / "model.arpa"
    path.write_text("old")
    with pytest.raises(ValueError, match="ARPA"):
        NGramModel(2).fit([["a", word]]).to_arpa(path)
    assert path.read_text() == "old"


def test_an_interrupted_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "model.arpa"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        NGramModel(2).fit([["a", "\ud800"]]).to_arpa(path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.arpa"]
    assert path.read_text() == "old"


def test_add_k_is_no_backoff_model(tmp_path):
    with pytest.raises(ValueError, match="add-k"):
        NGramModel(2, "add-k").fit([["a"]]).to_arpa(tmp_path / "model.arpa")
    NGramModel(1, "add-k").fit([["a", "b"]]).to_arpa(tmp_path / "model.arpa")
    reader = kenlm.Model(str(tmp_path / "model.arpa"))
    assert reader.score("a", bos=True, eos=True) == pytest.approx(2 * math.log10(2 / 7), abs=1e-5)
