"""CharTokenizer and WordTokenizer: the two obvious ways to number text, and what each of them cannot do.

    characters: few ids, long sequences, nothing between a letter and a text
    words:      short sequences, many ids, and every word that was never seen is one and the same "<unk>"

BPE (`minillm.text.bpe`) lies between the two and has no unknown text.

Paper:   Mielke et al. 2021, "Between words and characters: A Brief History of Open-Vocabulary Modeling and
         Tokenization in NLP", §2–§3, arXiv:2112.10508.
Names:   `vocab` maps an id to its text, as in `BPETokenizer` it maps an id to its bytes.
Differs: words and marks are cut by one pattern, not by the rules of a treebank; a Chinese or Japanese character
         counts as a word, because their writing puts no spaces between words.
Next:    minillm/text/bpe_training.py
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

import regex

from minillm.core.files import write_atomically
from minillm.text.pretokens import checked_special_tokens, checked_text, special_pattern, split_at_special
from minillm.text.token_files import read_saved

REPLACEMENT = "\ufffd"  # the character that Unicode keeps for "something that could not be read"
UNKNOWN = "<unk>"


class _Listed:
    """What both share: a list of texts whose places are the ids, special tokens last."""

    FORMAT = ""

    def __init__(self, entries: Iterable[str], special_tokens: Sequence[str] = ()) -> None:
        self.special_tokens = checked_special_tokens(special_tokens)
        entries = [checked_text(entry) for entry in entries]
        entries += [token for token in self.special_tokens if token not in entries]
        self._id_of = {entry: token for token, entry in enumerate(entries)}
        if len(self._id_of) < len(entries):
            twice = next(entry for entry, times in Counter(entries).items() if times > 1)
            raise ValueError(f"{twice!r} stands twice in the vocabulary; give each entry once")
        self.vocab: dict[int, str] = dict(enumerate(entries))
        self.special_ids = {token: self._id_of[token] for token in self.special_tokens}
        # what plain text can become: no special token, also when that is a single character or a word
        self._plain_ids = {entry: token for entry, token in self._id_of.items() if entry not in self.special_ids}
        self._pattern = special_pattern(self.special_tokens)

    def _pieces(self, text: str, allow_special: bool) -> Iterator[tuple[int, str]]:
        """The plain pieces with their offsets, and each special token with the offset -1."""
        offset = 0
        for place, piece in enumerate(split_at_special(text, self._pattern if allow_special else None)):
            yield (-1 if place % 2 else offset), piece
            offset += len(piece)

    def _texts(self, ids: Iterable[int]) -> list[str]:
        texts: list[str] = []
        for place, token in enumerate(ids):
            if token not in self.vocab:
                raise ValueError(
                    f"ids[{place}]={token!r} is not in the vocabulary; ids go from 0 to {len(self.vocab) - 1}"
                )
            texts.append(self.vocab[token])
        return texts

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary to one JSON file, all or nothing."""
        saved = {"format": self.FORMAT, "special_tokens": self.special_tokens, "vocab": list(self.vocab.values())}
        write_atomically(path, json.dumps(saved, ensure_ascii=False))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Anything else is a ValueError that names the file and what is wrong with it."""
        saved = read_saved(path, cls.FORMAT, lists=("special_tokens", "vocab"))
        if not all(isinstance(entry, str) for entry in saved["vocab"]):
            raise ValueError(f"{os.fspath(path)} has something in its vocab that is no text; save the tokenizer again")
        try:
            return cls(saved["vocab"], saved["special_tokens"])
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None


class CharTokenizer(_Listed):
    """One id for each character that the training text has.

    A character without an id is a ValueError that says where it stands, or, when U+FFFD "\\ufffd" is in the vocabulary
    (`unknown=True`), becomes that.

    >>> tokenizer = CharTokenizer.train("hello")
    >>> tokenizer.vocab
    {0: 'e', 1: 'h', 2: 'l', 3: 'o'}
    >>> tokenizer.decode(tokenizer.encode("hole"))
    'hole'
    """

    FORMAT = "minillm-characters-1"

    def __init__(self, characters: Iterable[str], special_tokens: Sequence[str] = ()) -> None:
        characters = list(characters)
        for character in characters:
            if len(character) != 1 and character not in special_tokens:
                raise ValueError(
                    f"characters holds {character!r}, which is not one character; name it in special_tokens"
                )
        super().__init__(characters, special_tokens)

    @classmethod
    def train(cls, text: str, special_tokens: Sequence[str] = (), *, unknown: bool = False) -> "CharTokenizer":
        """Number the characters of `text` in the order of their code points; `unknown` adds U+FFFD for all others."""
        pieces = split_at_special(text, special_pattern(checked_special_tokens(special_tokens)))
        characters = set("".join(pieces[::2])) | ({REPLACEMENT} if unknown else set())
        return cls(sorted(characters), special_tokens)

    def encode(self, text: str, *, allow_special: bool = True) -> list[int]:
        """One id a character, and one a special token; with `allow_special=False` a special token is characters."""
        unknown = self._id_of.get(REPLACEMENT)
        ids: list[int] = []
        for offset, piece in self._pieces(text, allow_special):
            if offset < 0:
                ids.append(self.special_ids[piece])
                continue
            found = [self._plain_ids.get(character, unknown) for character in piece]
            if unknown is None and None in found:
                place = found.index(None)
                raise ValueError(
                    f"text[{offset + place}]={piece[place]!r} is not among the {len(self.vocab)} entries of the "
                    "vocabulary; train on text that has it, or with unknown=True"
                )
            ids.extend(token for token in found if token is not None)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`. Exactly what was encoded, apart from characters that had no id.

        >>> tokenizer = CharTokenizer.train("ab", unknown=True)
        >>> tokenizer.decode(tokenizer.encode("abc"))
        'ab\ufffd'
        """
        return "".join(self._texts(ids))


# Contractions are cut where BPE's pattern cuts them: "don't" is "don" + "'t".
_ENDING = r"['’](?i:s|t|d|m|ll|ve|re)(?!\p{L})"
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}"  # written without spaces between words
_LETTER = rf"[[\p{{L}}\p{{M}}]--[{_UNSPACED}]]"
_WORD = regex.compile(
    r"(?:Mr|Mrs|Ms|Dr|Prof|St)\."  # the full stop belongs to the title and ends no sentence
    rf"|(?<=\p{{L}}){_ENDING}"
    rf"|[{_UNSPACED}]"
    rf"|{_LETTER}+(?:(?!{_ENDING})['’-]{_LETTER}+)*"  # o'clock and well-known are one word
    r"|\p{N}+(?:[.,:]\p{N}+)*"  # 1,000 and 3.5 and 12:30
    r"|\.\.\.|--+|\S",
    regex.VERSION1,
)
_CLOSES = frozenset(".,;:!?%)]}…”’。，、；：！？）】》」』") | {"..."}
_OPENS = frozenset("([{“‘¿¡$£€（【《「『")
_STRAIGHT = frozenset("\"'")  # opens or closes, in turn
_ENDS = frozenset(".!?…。！？") | {"..."}
_ENDS_AFTER = frozenset(")]}”’）】》」』")  # may follow the mark that ends a sentence
_GLUED = regex.compile(rf"[{_UNSPACED}\p{{InCJK_Symbols_And_Punctuation}}\p{{InHalfwidth_And_Fullwidth_Forms}}—]")


class WordTokenizer(_Listed):
    """One id for each word and each mark; id 0 is "<unk>", which stands for every word without an id.

    >>> tokenizer = WordTokenizer.train("The cat sat. The dog sat.")
    >>> tokenizer.vocab
    {0: '<unk>', 1: '.', 2: 'The', 3: 'sat', 4: 'cat', 5: 'dog'}
    >>> tokenizer.decode(tokenizer.encode("The fox sat."))
    'The <unk> sat.'
    """

    FORMAT = "minillm-words-1"

    def __init__(self, words: Iterable[str], special_tokens: Sequence[str] = ()) -> None:
        words = list(words)
        super().__init__(words if UNKNOWN in words else [UNKNOWN, *words], special_tokens)
        self.unknown_id = self._id_of[UNKNOWN]

    @classmethod
    def train(cls, text: str, min_count: int = 1, special_tokens: Sequence[str] = ()) -> "WordTokenizer":
        """Number the words that occur at least `min_count` times, the most frequent first, equal ones by spelling."""
        if min_count < 1:
            raise ValueError(f"min_count={min_count!r} must be at least 1, which keeps every word of the text")
        pieces = split_at_special(text, special_pattern(checked_special_tokens(special_tokens)))
        counts = Counter(word for piece in pieces[::2] for word in cls.split(piece))
        kept = [word for word in counts if counts[word] >= min_count]
        return cls(sorted(kept, key=lambda word: (-counts[word], word)), special_tokens)

    def encode(self, text: str, *, allow_special: bool = True) -> list[int]:
        """One id a word, a mark or a special token. How words were spaced is not kept.

        With `allow_special=False` the text of a special token is words and marks as any other text, and a special
        token that is itself a word is unknown there.
        """
        ids: list[int] = []
        for offset, piece in self._pieces(text, allow_special):
            if offset < 0:
                ids.append(self.special_ids[piece])
                continue
            ids.extend(self._plain_ids.get(word, self.unknown_id) for word in self.split(piece))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The words of `ids` as `join` spaces them."""
        return self.join(self._texts(ids))

    @staticmethod
    def split(text: str) -> list[str]:
        """Cut `text` into words and marks. Everything but white space is kept, in order.

        >>> WordTokenizer.split("Mr. Lee doesn't pay 3.50, at 5 o'clock: 他不付。")
        ['Mr.', 'Lee', 'doesn', "'t", 'pay', '3.50', ',', 'at', '5', "o'clock", ':', '他', '不', '付', '。']
        """
        return _WORD.findall(text)

    @staticmethod
    def join(words: Iterable[str]) -> str:
        """Put words together with the spaces of ordinary English and Chinese typography.

        `join(split(text))` is `text` when that was spaced so. Straight quotation marks open and close in turn.

        >>> WordTokenizer.join(['"', 'Well', ',', '"', 'said', 'Ann', ',', 'who', "'d", '(', 'not', ')', 'left', '.'])
        '"Well," said Ann, who\\'d (not) left.'
        """
        text: list[str] = []
        is_open = dict.fromkeys(_STRAIGHT, False)
        space = False  # what the word before asks for
        for word in words:
            closes = word in _CLOSES or is_open.get(word, False) or regex.fullmatch(_ENDING, word) is not None
            glued = _GLUED.match(word) is not None
            if text and space and not closes and not glued:
                text.append(" ")
            text.append(word)
            if word in _STRAIGHT:
                is_open[word] = not is_open[word]
            space = not (glued or word in _OPENS or is_open.get(word, False))
        return "".join(text)

    @classmethod
    def sentences(cls, text: str) -> list[list[str]]:
        """Cut `text` into sentences of words and marks: at . ! ? … 。 ！ ？ and at empty lines.

        Closing marks stay with the sentence before them. Direct speech that goes on in lower case does not end one.

        >>> WordTokenizer.sentences('"Go!" said Mr. Lee. She went.')
        [['"', 'Go', '!', '"', 'said', 'Mr.', 'Lee', '.'], ['She', 'went', '.']]
        """
        found: list[list[str]] = []
        for paragraph in regex.split(r"\n\s*\n", text):
            words = cls.split(paragraph)
            sentence: list[str] = []
            ended, quotes = False, 0
            for word in words:
                after_quote = bool(sentence) and sentence[-1] in {'"', "”", "’", "」", "』"}
                closing = word in _ENDS or word in _ENDS_AFTER or (word == '"' and quotes % 2 == 1)
                if ended and not closing and not (after_quote and word[0].islower()):
                    found.append(sentence)
                    sentence = []
                ended = word in _ENDS or (ended and closing)
                quotes += word == '"'
                sentence.append(word)
            if sentence:
                found.append(sentence)
        return found
