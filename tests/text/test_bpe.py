"""BPETokenizer: round trips, streams, the tie rule, and agreement with an independent implementation in Rust."""

from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers

from minillm.text.bpe import BPETokenizer, _Cache
from minillm.text.bpe_training import learn_merges, learn_merges_plain, merge_pair
from minillm.text.pretokens import pre_tokens

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises

END = "<|endoftext|>"
CORPUS = """The cat sat on the mat, and the cat's friend didn't mind: they'd met in 1999.
def merge(pair, parts):\n    return [part for part in parts if part != pair]  # 中文注释\n
小猫坐在垫子上。小猫的朋友不介意，他们早就认识了。猫和狗都在家里。
The naïve café — "déjà vu" — costs €3.50;   the    dog\t\tsat on the cat. 🙂🙂 👩‍👩‍👧 the theatre then thanked them.
"""
ANY = st.text(max_size=3)
VARIED = [
    CORPUS,
    "Hello world!  It's the theatre's cat, isn't it? WE'LL see 'llama's 'S ''s",
    "他们在家里坐着，小猫不介意。２０２４年１２月",
    "for i in range(10):\n\n\n    print(f'{i:>3}', end='\\t')  \r\n\r\n  x += 1   ",
    "🙂👩‍👩‍👧🏳️‍🌈 a🙂b",
    "\x00\x1c\x1d\x85\xa0\u2028\u3000 ½ ² ⅷ ١٢٣ é e\u0301 Ｆ \ufeff",
    "",
    " ",
    "aaaaaaaaaaaa" * 40,
]


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(CORPUS * 2, vocab_size=420, special_tokens=[END, "<|end|>"])


@pytest.fixture(scope="module")
def rust_files(tmp_path_factory):
    """GPT-2's two files, written by the Rust library after its own training."""
    theirs = ByteLevelBPETokenizer()
    theirs.train_from_iterator([CORPUS * 2], vocab_size=450, min_frequency=1, show_progress=False)
    folder = tmp_path_factory.mktemp("rust")
    theirs.save_model(str(folder))
    return folder / "vocab.json", folder / "merges.txt"


def many_texts(between=ANY):
    """Pieces that meet in awkward ways, put together at random, and other text between them."""
    pieces = [
        END,
        "<|end|>",
        "<|end",
        "|>",
        "<",
        "'",
        "'ll",
        "l",
        "s",
        " ",
        "  ",
        "\n",
        "the",
        " cat",
        "9",
        "猫",
        "🙂",
        "!",
    ]
    return st.lists(st.sampled_from(pieces) | between, max_size=12).map("".join)


# limits


def test_without_merges_the_ids_are_the_bytes():
    plain = BPETokenizer.train("", vocab_size=256)
    assert plain.merges == [] and plain.vocab == {byte: bytes([byte]) for byte in range(256)}
    assert plain.encode("né猫") == list("né猫".encode())


def test_training_stops_when_every_word_is_one_token():
    full = BPETokenizer.train("abc abc", vocab_size=1024, special_tokens=[END])
    assert len(full.encode("abc abc")) == 2
    assert len(full.vocab) == 256 + 3 + 1  # bc, abc, and " abc"


def test_the_example_of_the_paper_by_hand():
    # low 5, lower 2, newest 6, widest 3. "es" and "st" stand 9 times each: the greater pair of byte strings is "st".
    words = Counter({"low": 5, "lower": 2, "newest": 6, "widest": 3})
    expected = [(b"s", b"t"), (b"e", b"st"), (b"o", b"w"), (b"l", b"ow"), (b"w", b"est"), (b"n", b"e")]
    assert learn_merges(words, 6) == learn_merges_plain(words, 6) == expected


@pytest.mark.parametrize(
    ("words", "best"),
    [
        (["ab", "ac"], (b"a", b"c")),  # equal first parts: the second decides
        (["az", "ba"], (b"b", b"a")),  # the first part decides before the second
        (["a\x7f", "aé"], (b"\xc3", b"\xa9")),  # bytes are compared as numbers, and é begins with 0xc3
    ],
)
def test_a_tie_goes_to_the_greater_pair(words, best):
    for order in (words, words[::-1]):
        assert learn_merges(Counter(order), 1) == learn_merges_plain(Counter(order), 1) == [best]


def test_in_a_tie_a_longer_token_is_greater_than_its_beginning():
    # After "ab" is merged (5 times), ("ab", "c") and ("a", "d") are equal; b"ab" > b"a".
    words = Counter({"ab": 2, "abc": 3, "ad": 3})
    assert learn_merges(words, 2) == learn_merges_plain(words, 2) == [(b"a", b"b"), (b"ab", b"c")]


def test_merges_never_join_two_pre_tokens():
    assert all(b" " not in right for _, right in BPETokenizer.train("of the " * 50, vocab_size=300).merges)


def test_a_pair_that_overlaps_itself_is_joined_from_the_left():
    assert merge_pair((b"a",) * 5, (b"a", b"a")) == (b"aa", b"aa", b"a")
    assert learn_merges({"a" * 5: 1}, 3) == [(b"a", b"a"), (b"aa", b"aa"), (b"aaaa", b"a")]


# invariances


@given(st.text())
def test_round_trip_of_any_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text, allow_special=False)) == text


@given(many_texts(), st.data())
def test_a_stream_gives_the_ids_of_the_whole_wherever_it_is_cut(tokenizer, text, data):
    scan = data.draw(st.sampled_from([1, 2, 7, 65536]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=len(text))))
    chunks = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minillm.text.pretokens.SCAN", scan)
        assert list(tokenizer.encode_iterable(chunks)) == tokenizer.encode(text)
        assert list(tokenizer.encode_iterable(text)) == tokenizer.encode(text)
        without = tokenizer.encode(text, allow_special=False)
        assert list(tokenizer.encode_iterable(chunks, allow_special=False)) == without


def test_a_stream_is_encoded_before_it_ends(tokenizer):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield "小猫坐在垫子上。the cat" * 100 + "猫"

    ids = tokenizer.encode_iterable(endless())
    for _ in range(100_000):
        next(ids)
    assert taken < 400  # 1,501 characters each: what was read is not far ahead of what was given


@given(st.lists(st.text("ab", max_size=9) | st.text("abcé", max_size=9), max_size=9), st.integers(0, 40))
def test_fast_and_plain_training_learn_the_same(words, n_merges):
    counts = Counter(words)
    assert learn_merges(counts, n_merges) == learn_merges_plain(counts, n_merges)


def test_fast_and_plain_training_learn_the_same_from_prose():
    counts = Counter(pre_tokens(CORPUS))
    assert learn_merges(counts, 2000) == learn_merges_plain(counts, 2000)


def test_more_merges_leave_the_earlier_ids_alone():
    small, large = (BPETokenizer.train(CORPUS, vocab_size=size) for size in (300, 333))
    assert large.merges[:44] == small.merges
    assert {token: large.vocab[token] for token in small.vocab} == small.vocab


@given(st.text("abc", max_size=200), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=40))
@example("abc", [(1, 2), (0, 1), (0, 3)])  # bc, ab, abc: what was noted for "ab" is stale once "bc" is joined
def test_long_and_short_words_are_merged_alike(text, pairs):
    # Any list of merges, also one that no training gives: the order of ranks need not be the order of lengths.
    tokens, merges = [b"a", b"b", b"c"], []
    for left, right in pairs:
        merges.append((tokens[left % len(tokens)], tokens[right % len(tokens)]))
        tokens.append(b"".join(merges[-1]))
    made = {256 + i: token for i, token in enumerate(dict.fromkeys(tokens[3:]))}
    tokenizer = BPETokenizer({byte: bytes([byte]) for byte in range(256)} | made, merges)
    ids = list(text.encode())
    assert tokenizer._merged_long(ids.copy()) == tokenizer._merged(ids.copy()) == tokenizer.encode(text)


def test_a_cache_that_is_full_starts_afresh(tokenizer, monkeypatch):
    expected = tokenizer.encode(CORPUS)
    monkeypatch.setattr(_Cache, "LIMIT", 3)
    fresh = BPETokenizer(tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens)
    assert fresh.encode(CORPUS) == fresh.encode(CORPUS) == expected
    assert len(fresh._cache) <= 3


# special tokens


def test_special_tokens_are_never_cut_and_the_longest_wins():
    both = ["<|a|>", "<|a|><|b|>"]
    for special_tokens in (both, both[::-1]):
        tokenizer = BPETokenizer.train("x", vocab_size=258, special_tokens=special_tokens)
        one, two = (tokenizer.special_ids[token] for token in both)
        assert tokenizer.encode("!<|a|><|b|><|a|>x") == [33, two, one, 120]
        assert tokenizer.encode("<|a|", allow_special=True) == list(b"<|a|")


def test_special_tokens_can_be_read_as_ordinary_text(tokenizer):
    ids = tokenizer.encode(f"hi{END}", allow_special=False)
    assert not set(ids) & set(tokenizer.special_ids.values())
    assert tokenizer.decode(ids) == f"hi{END}"


def test_special_tokens_are_not_learned_from():
    tokenizer = BPETokenizer.train(f"ab{END}" * 9, vocab_size=300, special_tokens=[END])
    assert tokenizer.merges == [(b"a", b"b")]
    assert tokenizer.special_ids == {END: 257} and tokenizer.vocab[257] == END.encode()


def test_a_special_token_of_one_byte_keeps_the_id_of_its_byte():
    tokenizer = BPETokenizer.train("bcabc", vocab_size=257, special_tokens=["a"])
    assert tokenizer.special_ids == {"a": 97} and tokenizer.merges == [(b"b", b"c")]
    assert tokenizer.encode("abc") == [97, 256]


def test_the_constructor_takes_ids_in_any_order_and_adds_special_tokens_that_lack_one():
    vocab = {0: b"<s>", 1: b"hi", **{byte + 10: bytes([byte]) for byte in range(256)}}
    tokenizer = BPETokenizer(vocab, [(b"h", b"i")], ["<s>", "</s>"])
    assert tokenizer.special_ids == {"<s>": 0, "</s>": 266}
    assert tokenizer.encode("<s>hi!</s>") == [0, 1, ord("!") + 10, 266]


# agreement


@pytest.mark.parametrize("text", VARIED)
def test_their_files_in_our_tokenizer_give_their_ids(rust_files, text):
    theirs = ByteLevelBPETokenizer(*map(str, rust_files))
    ours = BPETokenizer.from_gpt2(*rust_files)
    assert ours.encode(text) == theirs.encode(text).ids


@settings(max_examples=300)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cn"])) | many_texts(st.nothing()))
def test_their_files_in_our_tokenizer_give_their_ids_on_any_text(rust_files, text):
    theirs = ByteLevelBPETokenizer(*map(str, rust_files))
    assert BPETokenizer.from_gpt2(*rust_files).encode(text) == theirs.encode(text).ids


def test_our_files_in_their_tokenizer_give_our_ids(tokenizer, tmp_path):
    files = tmp_path / "vocab.json", tmp_path / "merges.txt"
    tokenizer.save_gpt2(*files)
    theirs = Tokenizer(models.BPE.from_file(*map(str, files)))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.add_special_tokens([END, "<|end|>"])
    for text in [*VARIED, f"a{END}the cat<|end|>{END}!!{END}"]:
        assert tokenizer.encode(text) == theirs.encode(text).ids
    back = BPETokenizer.from_gpt2(*files)
    assert (back.vocab, back.merges) == (tokenizer.vocab, tokenizer.merges)
    assert set(back.special_tokens) == {END, "<|end|>"}


def test_of_a_merge_that_stands_twice_the_last_counts_in_both(tmp_path):
    vocab = {byte: bytes([byte]) for byte in range(256)} | {256: b"ab", 257: b"bc"}
    ours = BPETokenizer(vocab, [(b"a", b"b"), (b"b", b"c"), (b"a", b"b")])
    files = tmp_path / "vocab.json", tmp_path / "merges.txt"
    ours.save_gpt2(*files)
    assert ours.encode("abc") == ByteLevelBPETokenizer(*map(str, files)).encode("abc").ids == [97, 257]


def test_counts_agree_with_theirs_where_no_tie_can_arise(tmp_path):
    # Every pair has another count: word i, of two letters of its own, stands 2**i times.
    text = "\n".join(chr(97 + 2 * i) + chr(98 + 2 * i) for i in range(9) for _ in range(2**i))
    theirs = ByteLevelBPETokenizer()
    theirs.train_from_iterator([text], vocab_size=265, min_frequency=1, show_progress=False)
    theirs.save_model(str(tmp_path))
    lines = (tmp_path / "merges.txt").read_text().splitlines()[1:]
    ours = BPETokenizer.train(text, vocab_size=265).merges
    assert [f"{left.decode()} {right.decode()}" for left, right in ours] == lines and len(lines) == 9


# files


def test_training_from_a_path_is_training_from_its_text(tmp_path, monkeypatch):
    path = tmp_path / "corpus.txt"
    text = CORPUS.replace("\n", "\r\n") + END + "猫" * 9
    path.write_bytes(text.encode())
    monkeypatch.setattr("minillm.text.pretokens.SCAN", 10)
    monkeypatch.setattr("minillm.text.pretokens.file_chunks.__defaults__", (7,))  # cuts characters in two
    expected = BPETokenizer(*_parts(BPETokenizer.train(text, 350, [END])))
    for given_path in (path, str(path)):
        assert _parts(BPETokenizer.train(given_path, 350, [END])) == _parts(expected)


def _parts(tokenizer):
    return tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens


def test_saved_and_loaded_is_the_same(tokenizer, tmp_path):
    path = tmp_path / "bpe.json"
    path.write_text("old")
    tokenizer.save(path)
    assert _parts(BPETokenizer.load(path)) == _parts(tokenizer)
    assert [found.name for found in tmp_path.iterdir()] == ["bpe.json"]  # nothing temporary is left


def test_a_save_that_fails_leaves_the_old_file(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "bpe.json"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        tokenizer.save(path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
