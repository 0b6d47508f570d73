"""BPETokenizer: bytes are joined into tokens by a learned list of merges, so every text has tokens and none is unknown.

    encode: cut into pre-tokens → bytes → while any pair is in the list, join the one that was learned first
    decode: put the tokens' bytes together → UTF-8

Paper:   Sennrich, Haddow & Birch 2016, "Neural Machine Translation of Rare Words with Subword Units", §3.2,
         arXiv:1508.07909; on bytes: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", §2.2.
Names:   the rank of a merge is its place in the list: the lower, the earlier it was learned.
Differs: special tokens are found in the text by default; `allow_special=False` reads them as ordinary text, which is
         right for text from strangers. Bytes that are no UTF-8 are decoded to U+FFFD.
Next:    minillm/text/token_shards.py

The ids that `train` gives: 0–255 are the bytes, then one id a merge in the order learned, then the special tokens.
So a longer list of merges leaves all earlier ids as they were. The constructor accepts any ids.
"""

import heapq
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path

from minillm.core.files import write_atomically
from minillm.text.bpe_training import Pair, learn_merges
from minillm.text.pretokens import (
    checked_chunks,
    checked_special_tokens,
    checked_text,
    file_chunks,
    pre_tokens,
    pre_tokens_of_chunks,
    special_pattern,
    split_at_special,
)
from minillm.text.token_files import as_bytes, as_characters, read_gpt2, read_saved

FORMAT = "minillm-bpe-1"
LONG = 64  # bytes; from here on a heap finds the next merge faster than a look at all pairs


class BPETokenizer:
    """A byte-level BPE tokenizer.

    `vocab` maps each id to its bytes, `merges` lists the pairs in the order learned, `special_tokens` are texts that
    are never cut; those that `vocab` lacks get the next free ids. `special_ids` maps each special token to its id.
    Raises ValueError when a byte or the product of a merge has no id, or two ids have the same bytes.

    >>> tokenizer = BPETokenizer.train("low lower lowest low", vocab_size=261, special_tokens=["<|end|>"])
    >>> tokenizer.merges
    [(b'o', b'w'), (b'l', b'ow'), (b' ', b'low'), (b' low', b'e')]
    >>> tokenizer.encode("lower<|end|>")
    [257, 101, 114, 260]
    >>> tokenizer.decode([257, 101, 114, 260])
    'lower<|end|>'
    """

    def __init__(self, vocab: Mapping[int, bytes], merges: Sequence[Pair], special_tokens: Sequence[str] = ()) -> None:
        self.vocab: dict[int, bytes] = dict(vocab)
        self.merges: list[Pair] = [(bytes(left), bytes(right)) for left, right in merges]
        self.special_tokens = checked_special_tokens(special_tokens)
        id_of = _inverse(self.vocab)
        self.special_ids: dict[str, int] = {}
        for token in self.special_tokens:
            if (token_bytes := token.encode()) not in id_of:
                id_of[token_bytes] = max(self.vocab, default=-1) + 1
                self.vocab[id_of[token_bytes]] = token_bytes
            self.special_ids[token] = id_of[token_bytes]
        self._pattern = special_pattern(self.special_tokens)
        self._byte_ids = [_id_of(id_of, bytes([byte]), "every one of the 256 bytes") for byte in range(256)]
        # From two ids to (rank, id of the product). Of a pair that stands twice the last counts, as in GPT-2's code.
        self._merge_of: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right) in enumerate(self.merges):
            left_id = _id_of(id_of, left, f"merges[{rank}]'s left")
            right_id = _id_of(id_of, right, f"merges[{rank}]'s right")
            self._merge_of[left_id, right_id] = rank, _id_of(id_of, left + right, f"merges[{rank}]'s product")
        self._cache = _Cache(self._encode_bytes)

    @classmethod
    def train(
        cls, text_or_path: str | os.PathLike[str], vocab_size: int = 1024, special_tokens: Sequence[str] = ()
    ) -> "BPETokenizer":
        """Learn a tokenizer of `vocab_size` tokens from a text or a UTF-8 file; fewer when the text has no more pairs.

        A `Path`, or a string that names an existing file, is read in pieces, in memory that grows only with the
        number of different pre-tokens. Any other string is the text. Special tokens are left out of the counts.
        """
        special_tokens = checked_special_tokens(special_tokens)
        fixed = 256 + sum(len(token.encode()) > 1 for token in special_tokens)  # a special byte has an id already
        if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or vocab_size < fixed:
            raise ValueError(
                f"vocab_size={vocab_size!r} must be an integer with room for 256 bytes and {fixed - 256} special "
                f"tokens; the smallest that fits is {fixed}"
            )
        chunks = _text_chunks(text_or_path)
        counts: Counter[str] = Counter()
        for words, _ in pre_tokens_of_chunks(chunks, special_tokens):
            counts.update(words)
        merges = learn_merges(counts, vocab_size - fixed)
        tokens = [bytes([byte]) for byte in range(256)] + [left + right for left, right in merges]
        return cls(dict(enumerate(tokens)), merges, special_tokens)

    def encode(self, text: str, *, allow_special: bool = True) -> list[int]:
        """The ids of `text`. A lone surrogate is a ValueError with its offset.

        With `allow_special=False` the text of a special token is encoded as any other text, so that what a stranger
        wrote cannot end a document or open a turn of a conversation.
        """
        ids: list[int] = []
        pieces = split_at_special(checked_text(text), self._pattern if allow_special else None)
        for place, piece in enumerate(pieces):
            if place % 2:
                ids.append(self.special_ids[piece])
            else:
                ids.extend(self._encode_words(pre_tokens(piece)))
        return ids

    def encode_iterable(self, chunks: Iterable[str], *, allow_special: bool = True) -> Iterator[int]:
        """The ids of the chunks put together, one by one, in bounded memory; an open text file is such chunks.

        Same ids as `encode` of the whole, wherever the chunks were cut.

        >>> tokenizer = BPETokenizer.train("abab", vocab_size=258)
        >>> list(tokenizer.encode_iterable(["a", "bab"])) == tokenizer.encode("abab")
        True
        """
        special_tokens = self.special_tokens if allow_special else ()
        for words, special in pre_tokens_of_chunks(checked_chunks(chunks), special_tokens):
            yield from self._encode_words(words)
            if special is not None:
                yield self.special_ids[special]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8, as when a character was cut in two, become U+FFFD."""
        ids = list(ids)
        try:
            return b"".join(map(self.vocab.__getitem__, ids)).decode("utf-8", errors="replace")
        except KeyError:
            place = next(place for place, token in enumerate(ids) if token not in self.vocab)
            raise ValueError(
                f"ids[{place}]={ids[place]!r} is not in the vocabulary of {len(self.vocab)} tokens, "
                f"whose largest id is {max(self.vocab)}"
            ) from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one JSON file, all or nothing: a reader never sees half a file."""
        saved = {
            "format": FORMAT,
            "special_tokens": self.special_tokens,
            "vocab": [[token, as_characters(self.vocab[token])] for token in self.vocab],
            "merges": [[as_characters(left), as_characters(right)] for left, right in self.merges],
        }
        write_atomically(path, json.dumps(saved, ensure_ascii=False))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "BPETokenizer":
        """Read what `save` wrote. Anything else is a ValueError that names the file and what is wrong with it."""
        saved = read_saved(path, FORMAT, lists=("special_tokens", "vocab", "merges"))
        try:
            vocab = {}
            for token, characters in saved["vocab"]:
                if type(token) is not int or token < 0 or token in vocab:
                    raise ValueError(f"id {token!r} in its vocab must be an integer ≥ 0 that stands once")
                vocab[token] = as_bytes(characters)
            merges = [(as_bytes(left), as_bytes(right)) for left, right in saved["merges"]]
            return cls(vocab, merges, saved["special_tokens"])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)}: {error}; save the tokenizer again with BPETokenizer.save") from None

    @classmethod
    def from_gpt2(
        cls,
        vocab_path: str | os.PathLike[str],
        merges_path: str | os.PathLike[str],
        special_tokens: Sequence[str] | None = None,
    ) -> "BPETokenizer":
        """Read GPT-2's `vocab.json` and `merges.txt`, the format of many published byte-level tokenizers.

        Without `special_tokens`, every entry that is neither a byte nor made by a merge is one; in GPT-2's own files
        that is "<|endoftext|>".
        """
        return cls(*read_gpt2(vocab_path, merges_path, special_tokens))

    def save_gpt2(self, vocab_path: str | os.PathLike[str], merges_path: str | os.PathLike[str]) -> None:
        """Write GPT-2's two files, for other libraries. They do not say which tokens are special."""
        texts = {self.special_ids[token]: token for token in self.special_tokens}
        vocab = {texts.get(token, as_characters(token_bytes)): token for token, token_bytes in self.vocab.items()}
        lines = [f"{as_characters(left)} {as_characters(right)}\n" for left, right in self.merges]
        write_atomically(vocab_path, json.dumps(vocab, ensure_ascii=False))
        write_atomically(merges_path, "".join(["#version: 0.2\n", *lines]))

    def _encode_words(self, words: list[str]) -> Iterator[int]:
        return chain.from_iterable(map(self._cache.__getitem__, words))

    def _encode_bytes(self, word: bytes) -> list[int]:
        """Apply the merges to one pre-token: of all pairs the one learned first, of equal ones the leftmost."""
        ids = [self._byte_ids[byte] for byte in word]
        return self._merged_long(ids) if len(ids) >= LONG else self._merged(ids)

    def _merged(self, ids: list[int]) -> list[int]:
        while len(ids) > 1:
            found = [(merge, place) for place, pair in enumerate(pairwise(ids)) if (merge := self._merge_of.get(pair))]
            if not found:
                break
            (_, product), place = min(found)
            ids[place : place + 2] = [product]
        return ids

    def _merged_long(self, ids: list[int]) -> list[int]:
        """The same as `_merged`, in n log n steps: a heap of the pairs, and each place knows its neighbours."""
        end = len(ids)
        following, previous = list(range(1, end + 1)), list(range(-1, end - 1))
        heap = [(merge, place) for place, pair in enumerate(pairwise(ids)) if (merge := self._merge_of.get(pair))]
        heapq.heapify(heap)
        while heap:
            merge, place = heapq.heappop(heap)
            second = following[place]
            if second == end or self._merge_of.get((ids[place], ids[second])) != merge:
                continue  # something next to it was merged first
            after = following[place] = following[second]
            ids[place], ids[second] = merge[1], -1  # -1: gone
            if after != end:
                previous[after] = place
            for left, right in ((previous[place], place), (place, after)):
                if left >= 0 and right != end and (new := self._merge_of.get((ids[left], ids[right]))):
                    heapq.heappush(heap, (new, left))
        return [token for token in ids if token >= 0]


class _Cache(dict[str, tuple[int, ...]]):
    """The ids of words that were seen; a word that is missing is encoded when it is asked for."""

    LIMIT = 1 << 18  # words; then it starts afresh, so that memory stays bounded
    LONGEST = 256  # characters; a longer word hardly comes again

    def __init__(self, encode_bytes: Callable[[bytes], list[int]]) -> None:
        super().__init__()
        self._encode_bytes = encode_bytes

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = tuple(self._encode_bytes(word.encode()))
        if len(word) <= self.LONGEST:
            if len(self) >= self.LIMIT:
                self.clear()
            self[word] = ids
        return ids


def _text_chunks(text_or_path: str | os.PathLike[str]) -> Iterable[str]:
    if not isinstance(text_or_path, str):
        return file_chunks(Path(text_or_path))
    one_line = 0 < len(text_or_path) < 1024 and text_or_path.isprintable()
    if one_line and os.path.isfile(text_or_path):
        return file_chunks(Path(text_or_path))
    if one_line and text_or_path.endswith(".txt"):
        raise ValueError(
            f"text_or_path={text_or_path!r} ends like a file name, but there is no such file; "
            "give the path of an existing file, or a text"
        )
    return [checked_text(text_or_path)]


def _inverse(vocab: Mapping[int, bytes]) -> dict[bytes, int]:
    id_of: dict[bytes, int] = {}
    for token, token_bytes in vocab.items():
        if (first := id_of.setdefault(token_bytes, token)) != token:
            raise ValueError(f"vocab[{token}]={token_bytes!r} is vocab[{first}] too; give each byte string one id")
    return id_of


def _id_of(id_of: Mapping[bytes, int], token_bytes: bytes, what: str) -> int:
    if token_bytes not in id_of:
        raise ValueError(f"vocab has no id for {token_bytes!r}; {what} must have one, or some text has no ids")
    return id_of[token_bytes]
