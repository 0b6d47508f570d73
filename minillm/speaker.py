"""A speaker: whatever can be talked to, from Eliza to a model aligned by clicks, answers in one and the same way.

    reply(conversation so far)  ->  pieces of text, as they come

What a speaker cannot read, a word that it does not know or turns beyond its context, it says in words; the conversation
goes on.

Paper:   the turn as the unit of talk between a person and a program: Weizenbaum 1966, "ELIZA", Communications of the
         ACM 9(1), pp. 36-45.
Next:    minillm/speakers.py
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch

from minillm.adaptation.chat_template import ChatTokenizer, Message
from minillm.text.tokenizer import REPLACEMENT, UNKNOWN, CharTokenizer, WordTokenizer


class Speaker(Protocol):
    """Anything that can be talked to. A class that inherits from this one needs `reply` and the three texts."""

    name: str  # a word: "eliza"
    about: str  # a sentence or two for who has never met it: what it is, and what it cannot do
    suggestions: tuple[str, ...] = ()  # what is worth saying to it first; a page shows three
    mark: str = ""  # which of those with this name: `load_speaker` sets it to what names the parts on disk

    def reply(self, messages: Sequence[Message], *, temperature: float, generator: torch.Generator) -> Iterator[str]:
        """The answer to a conversation that ends with the user, in pieces, each as soon as it is there.

        `temperature` and `generator` are those of `sample_next`. What cannot be answered at all is a ValueError in
        words that the user can act on.
        """
        ...

    def unread(self, messages: Sequence[Message]) -> list[str]:
        """What it cannot read in this conversation, in sentences: words that it does not know, turns too far back.

        Raises what `reply` would.
        """
        return []


def texts_of(tokens: Iterable[int], tokenizer: ChatTokenizer) -> Iterator[str]:
    """The text of tokens as they come; together the pieces are `tokenizer.decode` of all.

    A token may end in the middle of a character; that one waits until its other bytes are there.

    >>> from minillm.text.bpe import BPETokenizer
    >>> list(texts_of([104, 0xC3, 0xA9], BPETokenizer.train("", vocab_size=256)))
    ['h', 'é']
    """
    ids: list[int] = []
    said = ""
    for token in tokens:
        ids.append(token)
        sure = tokenizer.decode(ids).rstrip(REPLACEMENT)
        if len(sure) > len(said):
            yield sure[len(said) :]
            said = sure
    if rest := tokenizer.decode(ids)[len(said) :]:
        yield rest


def unknown_words(text: str, tokenizer: ChatTokenizer) -> list[str]:
    """A sentence about the words, or the characters, of a text that a tokenizer has no id for; none: no sentence.

    >>> unknown_words("The dog, the cow", WordTokenizer.train("The cat, the"))
    ['It does not know the words “dog”, “cow”, and reads <unk> there.']
    """
    if isinstance(tokenizer, WordTokenizer):
        unknown = [tokenizer.unknown_id]
        return in_a_sentence(
            [w for w in tokenizer.split(text) if tokenizer.encode(w, allow_special=False) == unknown], UNKNOWN
        )
    if isinstance(tokenizer, CharTokenizer) and REPLACEMENT in tokenizer.vocab.values():
        known = set(tokenizer.vocab.values())
        return in_a_sentence([character for character in text if character not in known], REPLACEMENT)
    return []


def in_a_sentence(words: Sequence[str], instead: str) -> list[str]:
    """A sentence that names words which are read as something else; none when there are none, or only marks.

    >>> in_a_sentence(["cow"], "<unk>")
    ['It does not know the word “cow”, and reads <unk> there.']
    """
    words = [word for word in dict.fromkeys(words) if any(map(str.isalnum, word))]
    some = ", ".join(f"“{word}”" for word in words[:5]) + (", …" if len(words) > 5 else "")
    return [f"It does not know the word{'s' * (len(words) > 1)} {some}, and reads {instead} there."] if words else []


def question_of(messages: Sequence[Message]) -> str:
    """What the user said last; ValueError for a conversation that does not end with it."""
    if not messages or messages[-1].role != "user":
        raise ValueError("messages must end with what the user says; conversation('hello') works")
    return messages[-1].text
