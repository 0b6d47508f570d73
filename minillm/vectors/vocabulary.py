"""Sentences as numbers: the words that occur often enough, the most frequent first, and the text as their numbers.

Rare words are taken out before anything else, so the words on both sides of a rare one become neighbours.

Paper:   Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their Compositionality"; the order
         of steps is that of the authors' program, and gensim's.
Next:    minillm/vectors/cooccurrence.py
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from minillm.core.settings import check_whole_numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberedText:
    """A text as numbers: word `words[id_n[i]]` stands in sentence `sentence_n[i]`, and occurs `count_v[id]` times."""

    words: list[str]
    count_v: np.ndarray
    id_n: np.ndarray
    sentence_n: np.ndarray


def number_words(sentences: Iterable[Sequence[str]], min_count: int = 1) -> NumberedText:
    """Number the words that occur at least `min_count` times, by frequency and then by alphabet.

    >>> text = number_words([["the", "cat", "saw", "the", "dog"], ["the", "dog"]], min_count=2)
    >>> text.words, text.id_n.tolist(), text.sentence_n.tolist()
    (['the', 'dog'], [0, 0, 1, 0, 1], [0, 0, 0, 1, 1])
    """
    check_whole_numbers({"min_count": (min_count, 2)})
    if isinstance(sentences, str):
        raise ValueError("sentences is one string; give lists of words, such as [text.lower().split()]")
    sentences = list(sentences)
    if wrong := next((s for s in sentences if isinstance(s, str)), None):
        raise ValueError(
            f"sentences holds the string {wrong[:40]!r}; each sentence is a list of words, as .split() gives"
        )
    counts = Counter(chain.from_iterable(sentences))
    if strange := next((word for word in counts if not isinstance(word, str)), None):
        raise ValueError(f"sentences holds {strange!r}, which is not a string; words are strings, such as 'cat'")
    words = sorted((word for word, n in counts.items() if n >= min_count), key=lambda word: (-counts[word], word))
    if not words:
        raise ValueError(
            f"min_count={min_count} leaves an empty vocabulary: there are {len(sentences)} sentences, and of "
            f"{len(counts)} different words the most frequent occurs {max(counts.values(), default=0)} times; "
            "give more text, or min_count=1"
        )
    index = {word: i for i, word in enumerate(words)} | {word: -1 for word, n in counts.items() if n < min_count}
    id_n = np.fromiter(map(index.__getitem__, chain.from_iterable(sentences)), dtype=np.int64)
    sentence_n = np.repeat(np.arange(len(sentences)), np.fromiter(map(len, sentences), dtype=np.int64))
    known_n = id_n >= 0
    count_v = np.array([counts[word] for word in words], dtype=np.int64)
    return NumberedText(words=words, count_v=count_v, id_n=id_n[known_n], sentence_n=sentence_n[known_n])
