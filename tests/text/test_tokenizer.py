"""CharTokenizer and WordTokenizer: round trips, unknown text, how words are cut and put together."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from minillm.text.tokenizer import CharTokenizer, WordTokenizer

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises

END = "<|endoftext|>"
TYPESET = [
    "The cat sat on the mat.",
    "Mr. Lee paid $3.50 for 1,000 well-known books at 12:30; it's cheap, isn't it?",
    'She said, "Go home!" and left (at once)... Then he wrote: "No."',
    "O'Brien's dog doesn't bark — it sings.".replace(" — ", "—"),
    "他说：“你好！”她走了，没有回来。",
    "“Well,” said Ann, “that’s it.” [Exit]",
    "100% of the café’s guests, or 5 o’clock?",
]


# characters


@given(st.text(), st.text())
def test_characters_come_back(text, more):
    tokenizer = CharTokenizer.train(text + more)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len(text)


def test_characters_are_numbered_by_code_point_and_special_tokens_come_last():
    tokenizer = CharTokenizer.train(f"cab猫{END}c", special_tokens=[END])
    assert tokenizer.vocab == {0: "a", 1: "b", 2: "c", 3: "猫", 4: END}
    assert tokenizer.encode(f"c{END}猫") == [2, 4, 3]
    assert tokenizer.decode([2, 4, 3]) == f"c{END}猫"


def test_a_character_without_an_id_is_refused_with_its_place():
    tokenizer = CharTokenizer.train("ab", special_tokens=[END])
    with pytest.raises(ValueError, match=r"text\[16\]='z' is not among the 3 entries.*unknown=True"):
        tokenizer.encode(f"aba{END}z")


def test_with_unknown_a_character_without_an_id_becomes_the_replacement_character():
    tokenizer = CharTokenizer.train("ab", unknown=True)
    assert tokenizer.vocab == {0: "a", 1: "b", 2: "\ufffd"}
    assert tokenizer.decode(tokenizer.encode("azb")) == "a\ufffdb"


@pytest.mark.parametrize(
    ("characters", "message"), [(["a", "a"], "'a' stands twice"), (["ab"], "'ab', which is not one character")]
)
def test_a_list_that_is_not_one_of_characters_is_refused(characters, message):
    with pytest.raises(ValueError, match=message):
        CharTokenizer(characters)


# words


def test_words_are_numbered_by_frequency_and_then_by_spelling():
    tokenizer = WordTokenizer.train("b a c b. c b", special_tokens=[END])
    assert tokenizer.vocab == {0: "<unk>", 1: "b", 2: "c", 3: ".", 4: "a", 5: END}
    assert tokenizer.encode(f"a b{END}") == [4, 1, 5]


@pytest.mark.parametrize(("min_count", "known"), [(1, {"a", "b", "c"}), (2, {"b", "c"}), (3, {"b"}), (4, set())])
def test_rare_words_are_unknown(min_count, known):
    tokenizer = WordTokenizer.train("b a c b c b", min_count=min_count)
    assert set(tokenizer.vocab.values()) == {"<unk>"} | known
    assert (tokenizer.encode("a c b") == [tokenizer.unknown_id] * 3) == (not known)
    assert tokenizer.decode(tokenizer.encode("zebra")) == "<unk>"


def test_a_min_count_below_one_is_refused():
    with pytest.raises(ValueError, match="min_count=0 must be at least 1"):
        WordTokenizer.train("a", min_count=0)


@pytest.mark.parametrize("text", TYPESET)
def test_text_with_ordinary_spacing_comes_back(text):
    assert WordTokenizer.join(WordTokenizer.split(text)) == text
    tokenizer = WordTokenizer.train("\n".join(TYPESET))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
def test_split_loses_nothing_but_white_space(text):
    words = WordTokenizer.split(text)
    assert "".join(words) == regex.sub(r"\s", "", text)  # white space as Unicode defines it; str.split differs on \x1f
    assert all(words)


@given(
    st.lists(
        st.sampled_from(["the", "cat", "'s", "Mr.", "3.5", ",", ".", "?", "(", ")", "猫", "。", "well-known", "—"])
    )
)
def test_words_of_the_vocabulary_survive_a_round_trip_through_text(words):
    # Except where two of them, put together, spell another: that is what spaces are for.
    text = WordTokenizer.join(words)
    if WordTokenizer.split(text) == words:
        tokenizer = WordTokenizer(sorted(set(words)))
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't won’t O'Brien's 'tis", ["don", "'t", "won", "’t", "O'Brien", "'s", "'", "tis"]),
        ("3.14, 1,000. 12:30", ["3.14", ",", "1,000", ".", "12:30"]),
        ("well-known -- yes...", ["well-known", "--", "yes", "..."]),
        ("Dr. Wu, e.g.", ["Dr.", "Wu", ",", "e", ".", "g", "."]),
        ("我有2只猫。", ["我", "有", "2", "只", "猫", "。"]),
        (" \n\t", []),
    ],
)
def test_cuts_by_hand(text, words):
    assert WordTokenizer.split(text) == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("A title\n\nA line\nthat goes on.", ["A title", "A line that goes on."]),
        ('He said, "Go. Now!" She left... Then 3.5 km.', ['He said, "Go.', 'Now!"', "She left...", "Then 3.5 km."]),
        ("“Stop!” cried Mrs. Wu. (He did.)", ["“Stop!” cried Mrs. Wu.", "(He did.)"]),
        ("他说：“你好！”她走了。再见！", ["他说：“你好！”", "她走了。", "再见！"]),
        ("What?! Yes", ["What?!", "Yes"]),
        ("", []),
    ],
)
def test_sentences(text, sentences):
    found = WordTokenizer.sentences(text)
    assert found == [WordTokenizer.split(sentence) for sentence in sentences]
    assert [word for sentence in found for word in sentence] == WordTokenizer.split(text)


# both


@pytest.mark.parametrize("kind", [CharTokenizer, WordTokenizer])
def test_saved_and_loaded_is_the_same(kind, tmp_path):
    tokenizer = kind.train(f"The cat, the 猫{END}\n", special_tokens=[END])
    tokenizer.save(tmp_path / "a.json")
    loaded = kind.load(tmp_path / "a.json")
    assert type(loaded) is kind
    assert (loaded.vocab, loaded.special_ids) == (tokenizer.vocab, tokenizer.special_ids)
    assert loaded.encode(f"The{END}cat") == tokenizer.encode(f"The{END}cat")


@pytest.mark.parametrize("kind", [CharTokenizer, WordTokenizer])
def test_bad_ids_and_files_are_refused(kind, tmp_path):
    tokenizer = kind.train("a b")
    size = len(tokenizer.vocab)
    with pytest.raises(ValueError, match=rf"ids\[1\]={size} is not in the vocabulary; ids go from 0 to {size - 1}"):
        tokenizer.decode([0, size])
    tokenizer.save(tmp_path / "a.json")
    other = {CharTokenizer: WordTokenizer, WordTokenizer: CharTokenizer}[kind]
    with pytest.raises(ValueError, match="load it with the class that saved it"):
        other.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text().replace('["', '[3, "', 1))
    with pytest.raises(ValueError, match=r"a\.json has something in its vocab that is no text"):
        kind.load(tmp_path / "a.json")
