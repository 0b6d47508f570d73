"""Every door of `load_corpus`: what comes in, what is refused, and a split that stays where it is."""

import hashlib
import random

import pytest

from minillm.text import corpus as corpus_module
from minillm.text.corpus import Corpus, load_corpus, load_stories, read_text, split
from minillm.text.village import Village

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises


def test_the_stories_come_in_two_languages_story_by_story():
    english, chinese, stories = load_corpus("stories"), load_corpus("stories-zh"), load_stories()
    assert len(english.documents) == len(chinese.documents) == len(stories)
    assert english.documents[7] == " ".join(stories[7].sentences)
    assert chinese.documents[7] == "".join(stories[7].sentences_zh)
    assert english.licence == chinese.licence == "MIT"


def test_python_is_the_manual_that_comes_with_it():
    corpus = load_corpus("python")
    assert len(corpus.text) > 100_000 and len(corpus.documents) > 50
    assert any("assert_stmt" in document for document in corpus.documents)


@pytest.mark.parametrize("name", ["village", "stories", "stories-zh", "python"])
def test_what_every_corpus_promises(name):
    corpus = load_corpus(name)
    assert corpus.name == name
    assert corpus.sha256 == hashlib.sha256(corpus.text.encode()).hexdigest()
    assert sorted(corpus.train + corpus.validation) == sorted(corpus.documents)
    assert corpus.train and corpus.validation
    assert all(document.strip() and document in corpus.text for document in corpus.documents)
    assert name in repr(corpus) and corpus.licence in repr(corpus)


def test_the_village_is_about_a_megabyte_of_its_own_stories():
    corpus = load_corpus("village")
    assert 0.8e6 < len(corpus.text) < 2e6
    assert corpus.documents[:3] == Village(seed=0).stories(3)


# The split


def test_adding_and_reordering_documents_moves_none():
    old, new = [f"old {i}" for i in range(300)], [f"new {i}" for i in range(70)]
    train, validation = split(old)
    mixed = old + new
    random.Random(3).shuffle(mixed)
    train_later, validation_later = split(mixed)
    assert set(train) <= set(train_later) and set(validation) <= set(validation_later)


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.35])
def test_the_share_is_the_fraction_within_four_standard_errors(fraction):
    n = 5000
    _, validation = split([f"document number {i}" for i in range(n)], fraction)
    assert abs(len(validation) / n - fraction) < 4 * (fraction * (1 - fraction) / n) ** 0.5


def test_copies_stay_together_and_order_is_kept():
    documents = [f"text {i % 40}" for i in range(200)]
    train, validation = split(documents)
    assert not set(train) & set(validation)
    assert train == [d for d in documents if d in set(train)]


def test_two_documents_give_both_sides_and_one_gives_no_validation():
    for trial in range(60):
        train, validation = split([f"a {trial}", f"b {trial}"])
        assert len(train) == len(validation) == 1
    assert split(["alone"]) == (["alone"], [])
    assert split(["twice", "twice"])[0] in (["twice", "twice"], [])  # never torn apart
    assert split(["a", "b", "c"], 0.0) == (["a", "b", "c"], [])


def test_a_fraction_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"fraction=1.5.*for example 0.1"):
        Corpus(name="x", text="x", documents=["x"], licence="MIT", fraction=1.5)


# Files and folders


def test_a_file_is_cut_at_empty_lines_and_its_text_is_kept(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes("First part,\nsecond line.\n\n \nSecond part: 你好.\n".encode())
    corpus = load_corpus(path)
    assert corpus.documents == ["First part,\nsecond line.", "Second part: 你好."]
    assert corpus.text == "First part,\nsecond line.\n\n \nSecond part: 你好.\n"
    assert corpus.name == "mine.txt" and load_corpus(str(path)).documents == corpus.documents


def test_a_file_without_empty_lines_is_cut_at_line_ends(tmp_path):
    (tmp_path / "lines.txt").write_text("one\ntwo\nthree")
    assert load_corpus(tmp_path / "lines.txt").documents == ["one", "two", "three"]


def test_mark_and_line_ends_are_defined(tmp_path):
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\rfour")
    (tmp_path / "unix.txt").write_bytes(b"one\ntwo\n\nthree\nfour")
    windows, unix = load_corpus(tmp_path / "windows.txt"), load_corpus(tmp_path / "unix.txt")
    assert windows.text == unix.text and windows.sha256 == unix.sha256


def test_a_folder_has_one_document_per_text_file_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name, text in (("b/2.md", "two"), ("a.txt", "one\n\nmore"), ("b/10.txt", "ten"), ("empty.txt", " \n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\x00\x00")
    (tmp_path / ".hidden" / "no.txt").write_text("secret")
    corpus = load_corpus(tmp_path)
    assert corpus.documents == ["one\n\nmore", "ten", "two"]
    assert corpus.text == "one\n\nmore\n\nten\n\ntwo"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"byte 0.*give a file with text"),
        (b" \n\t\n", r"byte 0.*\(4 bytes\)"),
        (b"caf\xe9 au lait", r"byte 3 \(0xe9\) is not UTF-8.*iconv"),
        (b"\xef\xbb\xbfcaf\xe9", r"byte 6 \(0xe9\)"),
        (b"half of \xe4\xbd", r"byte 8 \(0xe4\) is not UTF-8"),
        (b"\xff\xfeh\x00i\x00", r"byte 0 begins a UTF-16"),
        (b"\x89PNG\r\n\x1a\n\x00", r"byte 0 \(0x89\)|byte 6 is 0x1a"),
        (b"some text\x00more", r"byte 9 is 0x00.*binary"),
        (b"a" * 101, r"goes on after byte 100.*max_bytes"),
    ],
)
def test_what_is_refused_names_file_byte_and_remedy(tmp_path, data, says):
    path = tmp_path / "strange-name.txt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=says) as error:
        load_corpus(path, max_bytes=100)
    assert "strange-name.txt" in str(error.value)
    (tmp_path / "good.txt").write_text("good")
    if data.strip():  # in a folder an empty file is passed over, everything else is refused by its own name
        with pytest.raises(ValueError, match=r"strange-name\.txt"):
            load_corpus(tmp_path, max_bytes=100)


def test_the_limit_of_a_folder_is_for_all_its_files(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text("x" * 40)
    assert len(load_corpus(tmp_path, max_bytes=120).documents) == 3
    with pytest.raises(ValueError, match=r"2\.txt goes on after byte"):
        load_corpus(tmp_path, max_bytes=119)


def test_a_folder_without_text_says_which_suffixes_count(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\x00")
    with pytest.raises(ValueError, match=r"among 1 others.*\.txt"):
        load_corpus(tmp_path)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path):
    with pytest.raises(ValueError, match="not a regular file"):
        read_text(tmp_path)


def test_an_unknown_name_gets_the_list_and_the_nearest():
    with pytest.raises(ValueError, match=r"villag.*did you mean 'village'"):
        load_corpus("villag")


def test_a_name_comes_before_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stories").mkdir()
    (tmp_path / "stories" / "a.txt").write_text("mine")
    assert len(load_corpus("stories").documents) > 100
    assert load_corpus("./stories").documents == ["mine"]


def test_a_python_without_its_manual_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    with pytest.raises(ValueError, match=r"pydoc_data/topics\.py.*full installation"):
        corpus_module.load_corpus("python")
