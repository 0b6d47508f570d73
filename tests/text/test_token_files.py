"""Vocabularies on disk: the visible bytes, and every way in which a file or a vocabulary can be wrong."""

import json

import pytest
from tokenizers import pre_tokenizers

from minillm.text.bpe import BPETokenizer
from minillm.text.token_files import as_bytes, as_characters
from minillm.text.tokenizer import CharTokenizer, WordTokenizer

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises

BYTES = {byte: bytes([byte]) for byte in range(256)}


def test_every_byte_has_its_own_visible_character_and_they_are_those_of_the_rust_library():
    characters = [as_characters(bytes([byte])) for byte in range(256)]
    assert set(characters) == set(pre_tokenizers.ByteLevel.alphabet()) and len(set(characters)) == 256
    assert as_bytes("".join(characters)) == bytes(range(256))
    assert all(character.isprintable() and not character.isspace() for character in characters)


@pytest.mark.parametrize(
    ("vocab", "merges", "special_tokens", "message"),
    [
        ({**BYTES, 300: b"a"}, [], (), r"vocab\[300\]=b'a' is vocab\[97\] too"),
        ({k: v for k, v in BYTES.items() if k != 65}, [], (), r"no id for b'A'; every one of the 256 bytes"),
        (BYTES, [(b"a", b"b")], (), r"no id for b'ab'; merges\[0\]'s product"),
        ({**BYTES, 256: b"xyz"}, [(b"xy", b"z")], (), r"no id for b'xy'; merges\[0\]'s left"),
        (BYTES, [], "<s>", "must be a sequence"),
    ],
)
def test_a_vocabulary_that_cannot_work_is_refused(vocab, merges, special_tokens, message):
    with pytest.raises(ValueError, match=message):
        BPETokenizer(vocab, merges, special_tokens)


@pytest.mark.parametrize("size", [255, 257, True, 300.0])
def test_a_vocabulary_too_small_for_bytes_and_special_tokens_is_refused(size):
    with pytest.raises(ValueError, match=r"vocab_size=.* 2 special tokens; the smallest that fits is 258"):
        BPETokenizer.train("abc", size, ["<s>", "</s>"])


def test_a_missing_file_is_not_taken_for_text(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        BPETokenizer.train(str(tmp_path / "missing.txt"))
    with pytest.raises(FileNotFoundError):
        BPETokenizer.train(tmp_path / "missing")


def test_ids_and_texts_that_do_not_exist_are_refused():
    tokenizer = BPETokenizer.train("abc", 258)
    with pytest.raises(
        ValueError, match=r"ids\[1\]=258 is not in the vocabulary of 258 tokens, whose largest id is 257"
    ):
        tokenizer.decode([0, 258])
    with pytest.raises(ValueError, match=r"text\[2\]='\\ud83d' is a lone surrogate"):
        tokenizer.encode("ab\ud83d")
    with pytest.raises(ValueError, match=r"text\[0\]"):
        BPETokenizer.train("\udfff")


def test_bytes_that_are_no_utf8_are_replaced():
    tokenizer = BPETokenizer.train("", 256)
    assert tokenizer.decode([0x61, 0xFF, 0x62, 0xE7, 0x8C]) == "a\ufffdb\ufffd"  # a byte that never occurs, half of 猫


@pytest.mark.parametrize("kind", [BPETokenizer, CharTokenizer, WordTokenizer])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not sound JSON"),
        (b'{"format": "mini', "is not sound JSON"),
        (b"\xff\xfe{}", "is not sound JSON"),
        (b"[" * 100_000, "is not sound JSON"),
        (b"[]", "holds a list, not a JSON object"),
        (b"{}", "has format=None, but 'minillm-"),
        (b'{"format": "other-1"}', "has format='other-1'"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(tmp_path, kind, content, message):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"tokenizer\.json {message}"):
        kind.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab": None}, "has no list 'vocab'"),
        ({"vocab": [[0]]}, "save the tokenizer again"),
        ({"vocab": [["0", "a"]]}, "id '0' in its vocab must be an integer"),
        ({"vocab": [[0, "a"], [0, "b"]]}, "id 0 in its vocab must be an integer ≥ 0 that stands once"),
        ({"vocab": [[-1, "a"]]}, "id -1 in its vocab"),
        ({"vocab": [[0, 7]]}, "save the tokenizer again"),
        ({"vocab": [[0, "猫"]]}, "character '猫' stands for no byte"),
        ({"merges": [["a"]]}, "save the tokenizer again"),
        ({"merges": [["a", "b"]]}, r"no id for b'ab'"),
        ({"special_tokens": [1]}, r"special_tokens\[0\]=1 must be a text"),
    ],
)
def test_a_file_of_ours_that_was_damaged_is_refused(tmp_path, change, message):
    path = tmp_path / "bpe.json"
    BPETokenizer(BYTES, []).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=rf"bpe\.json.*{message}"):
        BPETokenizer.load(path)


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ('{"a": 0, "a": 1}', "", "vocab.json is not sound JSON: 'a' stands twice"),
        ('{"a": "0"}', "", "vocab.json: 'a' has id '0'"),
        ('{"a": 0, "b": 0}', "", "vocab.json: 'b' has id 0"),
        ('{"a": 0}', "#version: 0.2\na b\nab\n", "merges.txt, line 3: 'ab' must be two tokens"),
        ('{"a": 0}', "a  b\n", "merges.txt, line 1: 'a  b' must be two tokens"),
        ('{"a": 0}', "猫 b\n", "merges.txt, line 1: token '猫'"),
        ('{"a": 0}', "a b\n", "no id for"),
    ],
)
def test_gpt2_files_that_are_wrong_are_refused(tmp_path, vocab, merges, message):
    files = tmp_path / "vocab.json", tmp_path / "merges.txt"
    files[0].write_text(vocab)
    files[1].write_text(merges)
    with pytest.raises(ValueError, match=message):
        BPETokenizer.from_gpt2(*files)


def test_gpt2_files_with_a_special_token_of_any_characters(tmp_path):
    files = tmp_path / "vocab.json", tmp_path / "merges.txt"
    ids = {as_characters(bytes([byte])): byte for byte in range(256)}
    files[0].write_text(json.dumps({**ids, "Ġa": 256, "<end of 猫>": 257}))
    files[1].write_bytes("#version: 0.2\r\nĠ a\r\n# #\r\n".replace("# #\r\n", "").encode())
    tokenizer = BPETokenizer.from_gpt2(*files)
    assert tokenizer.special_ids == {"<end of 猫>": 257}
    assert tokenizer.encode(" a<end of 猫>") == [256, 257]
    with pytest.raises(ValueError, match="name it in special_tokens"):
        BPETokenizer.from_gpt2(*files, special_tokens=())


def test_a_merge_of_number_signs_is_not_a_comment(tmp_path):
    files = tmp_path / "vocab.json", tmp_path / "merges.txt"
    BPETokenizer({**BYTES, 256: b"##"}, [(b"#", b"#")]).save_gpt2(*files)
    assert BPETokenizer.from_gpt2(*files).merges == [(b"#", b"#")]
