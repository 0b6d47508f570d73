"""Counting n-grams with arrays: an n-gram is its first n-1 words, already counted, and one word more.

    key(w₁ … wₙ) = node(w₁ … wₙ₋₁) · V + wₙ,      node(w₁ … wₙ) = the rank of that key among the sorted keys

So an n-gram of any length is one integer, counting is sorting, and looking one up is a binary search; a whole
text goes through each step at once.

Paper:   the sorted-array trie of language models: Pauls and Klein 2011, "Faster and Smaller N-Gram Language
         Models", §3; the markers are those of KenLM: Heafield et al. 2013, "Scalable Modified Kneser-Ney".
Names:   V counts the events: the words, "<unk>" and "</s>". "<s>" is never an event, so its id is V, past the others.
Differs: 64-bit integers instead of packed bits: simplicity over memory.
Next:    minillm/statistical/smoothing.py
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat

import numpy as np

UNKNOWN, END, START = "<unk>", "</s>", "<s>"
UNKNOWN_ID, END_ID = 0, 1
MARKERS_ARE_OURS = f"a sentence contains {START!r} or {END!r}; give words only, the markers are added here"


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderCounts:
    """The distinct n-grams of one order, sorted by key.

    For order 1 there is one entry for each id, "<s>" last, with context 0 (the empty one) and suffix 0.
    """

    key_n: np.ndarray  # context · V + last word
    count_n: np.ndarray  # how often it was seen
    context_n: np.ndarray  # node, one order down, of the n-gram without its last word
    suffix_n: np.ndarray  # node, one order down, of the n-gram without its first word
    at_start_n: np.ndarray  # whether its first word is "<s>"


def learn_ids(
    sentences: Sequence[Sequence[str]], min_count: int = 1, given: Iterable[str] | None = None
) -> tuple[dict[str, int], np.ndarray]:
    """Return the id of each event and, last, of "<s>"; and the sentences as ids (see `encode`).

    The events are "<unk>", "</s>", then the words: those `given`, or else those seen at least `min_count` times, in
    the order in which they first appear. Raises ValueError for a sentence that is a bare string, and for a word that
    is not a string or is "<s>" or "</s>", which are ours to add.

    >>> learn_ids([["b", "a", "b"]], min_count=2)
    ({'<unk>': 0, '</s>': 1, 'b': 2, '<s>': 3}, array([3, 2, 0, 2, 1]))
    """
    refuse_strings(sentences)
    ids: defaultdict[str, int] = defaultdict(count(2).__next__, {UNKNOWN: UNKNOWN_ID, END: END_ID})
    words = np.fromiter(map(ids.__getitem__, chain.from_iterable(sentences)), np.int64)
    if START in ids or (words == END_ID).any():
        raise ValueError(MARKERS_ARE_OURS)
    final = dict(ids)
    if given is not None or min_count > 1:
        times = np.bincount(words, minlength=len(ids)).tolist()
        kept = given if given is not None else (word for word, n in zip(ids, times, strict=True) if n >= min_count)
        events = [word for word in dict.fromkeys(chain((UNKNOWN, END), kept)) if word != START]
        final = {word: i for i, word in enumerate(events)}
        words = np.array([final.get(word, UNKNOWN_ID) for word in ids], np.int64)[words]
    if any(not issubclass(kind, str) for kind in set(map(type, chain(ids, final)))):
        strange = next(word for word in chain(ids, final) if not isinstance(word, str))
        raise ValueError(f"word {strange!r} is not a string; map ids to strings first, e.g. str(id)")
    final[START] = len(final)
    return final, _frame(words, sentences, final[START])


def encode(sentences: Sequence[Sequence[str]], ids: dict[str, int]) -> np.ndarray:
    """Return one array of ids: each sentence between "<s>" and "</s>"; unknown words are "<unk>".

    `ids` holds the events and, last, "<s>". Raises ValueError for a bare string or a marker inside a sentence.

    >>> encode([["a"], []], {"<unk>": 0, "</s>": 1, "a": 2, "<s>": 3}).tolist()
    [3, 2, 1, 3, 1]
    """
    refuse_strings(sentences)
    words = np.fromiter(map(ids.get, chain.from_iterable(sentences), repeat(UNKNOWN_ID)), np.int64)
    if ((words == END_ID) | (words == len(ids) - 1)).any():
        raise ValueError(MARKERS_ARE_OURS)
    return _frame(words, sentences, len(ids) - 1)


def refuse_strings(sentences: Sequence[Sequence[str]]) -> None:
    """Raise ValueError where a sentence is a bare string: its characters would be taken for words.

    >>> refuse_strings([["a", "list"]])
    """
    if any(issubclass(kind, str) for kind in set(map(type, sentences))):
        i, text = next((i, sentence) for i, sentence in enumerate(sentences) if isinstance(sentence, str))
        raise ValueError(f"sentence {i} is the string {text[:30]!r}; give a list of words, e.g. text.split()")


def _frame(words: np.ndarray, sentences: Sequence[Sequence[str]], start_id: int) -> np.ndarray:
    """Put the ids of all words in a row between the markers of their sentences."""
    length_n = np.fromiter(map(len, sentences), np.int64, len(sentences))
    id_t = np.full(len(words) + 2 * len(sentences), END_ID, np.int64)
    id_t[np.cumsum(length_n + 2) - length_n - 2] = start_id
    id_t[np.arange(len(words)) + np.repeat(2 * np.arange(len(sentences)) + 1, length_n)] = words
    return id_t


def count_ngrams(id_t: np.ndarray, order: int, events: int) -> list[OrderCounts]:
    """Count every n-gram of 1 to `order` words that lies within a sentence; `events` is V, the id of "<s>".

    Returns one `OrderCounts` for each order; those longer than any sentence are empty.

    >>> [len(counts.key_n) for counts in count_ngrams(np.array([3, 2, 2, 1]), order=3, events=3)]
    [4, 3, 2]
    """
    nothing = np.zeros(events + 1, np.int64)
    is_start = np.arange(events + 1) == events
    unigrams = np.bincount(id_t, minlength=events + 1)
    found = [
        OrderCounts(
            key_n=np.arange(events + 1), count_n=unigrams, context_n=nothing, suffix_n=nothing, at_start_n=is_start
        )
    ]
    node_t, at = id_t, np.arange(len(id_t))  # node_t: of the n-gram that begins at each position; at: where one does
    for n in range(2, order + 1):
        at = at[: np.searchsorted(at, len(id_t) - n + 1)]
        last = id_t[at + n - 1]
        inside = last != events  # an n-gram does not run into the next sentence
        at = at[inside]
        key = node_t[at] * events + last[inside]
        rank = _order_of(key)
        ordered, place = key[rank], at[rank]
        is_new = np.ones(len(ordered), bool)
        is_new[1:] = ordered[1:] != ordered[:-1]
        first = np.flatnonzero(is_new)
        key_n = ordered[first]
        context_n = key_n // events
        found.append(
            OrderCounts(
                key_n=key_n,
                count_n=np.diff(first, append=len(ordered)),
                context_n=context_n,
                suffix_n=node_t[place[first] + 1],
                at_start_n=found[-1].at_start_n[context_n],
            )
        )
        if n < order:
            node_t = np.full(len(id_t), -1, np.int64)
            node_t[place] = np.cumsum(is_new) - 1
    return found


def _order_of(key: np.ndarray) -> np.ndarray:
    """Return the stable order that sorts non-negative keys: a faster `argsort`.

    numpy sorts 16-bit numbers by radix, in linear time; so sort by the last 16 bits, then by those before, and so on.
    """
    rank = np.argsort(key.astype(np.uint16), kind="stable")
    for shift in range(16, int(key.max(initial=0)).bit_length(), 16):
        rank = rank[np.argsort((key >> shift).astype(np.uint16)[rank], kind="stable")]
    return rank


def continuation_counts(counts: list[OrderCounts]) -> list[np.ndarray]:
    """Return Kneser–Ney's counts for each order: in how many different places, rather than how often.

    The highest order keeps its counts; below it, an n-gram counts the different words seen before it. An n-gram
    that begins with "<s>" has nothing before it and keeps its count. "<s>" alone is never an event: 0.

    >>> [c.tolist() for c in continuation_counts(count_ngrams(np.array([3, 2, 2, 2, 1]), order=2, events=3))]
    [[0, 1, 2, 0], [1, 2, 1]]
    """
    adjusted = [counts[-1].count_n]
    for lower, upper in zip(counts[-2::-1], counts[:0:-1], strict=True):
        places = np.bincount(upper.suffix_n, minlength=len(lower.key_n))
        adjusted.insert(0, np.where(lower.at_start_n, lower.count_n, places))
    adjusted[0] = np.where(counts[0].at_start_n, 0, adjusted[0])
    return adjusted


def find(key_n: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the rank of each wanted key among the sorted keys, or -1.

    >>> find(np.array([2, 5, 9]), np.array([9, 3, 2])).tolist()
    [2, -1, 0]
    """
    if not len(key_n):
        return np.full(len(wanted), -1, np.int64)
    rank = np.minimum(np.searchsorted(key_n, wanted), len(key_n) - 1)
    return np.where(key_n[rank] == wanted, rank, -1)


def walk(keys: Sequence[np.ndarray], id_t: np.ndarray, events: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For n = 2, 3, … yield, at each position, the node of the context of n-1 words before it, and of the n-gram.

    `keys` are the sorted keys of orders 1, 2, …; -1 marks what is not among them. `id_t` may hold many sentences.

    >>> keys = [counts.key_n for counts in count_ngrams(np.array([3, 2, 2, 1]), order=2, events=3)]
    >>> [(context.tolist(), node.tolist()) for context, node in walk(keys, np.array([3, 2, 0]), events=3)]
    [([-1, 3, 2], [-1, 2, -1])]
    """
    node_t = id_t
    for key_n in keys[1:]:
        context_t = np.full(len(id_t), -1, np.int64)
        context_t[1:] = node_t[:-1]
        here = np.flatnonzero((context_t >= 0) & (id_t < events))  # "<s>" continues nothing
        node_t = np.full(len(id_t), -1, np.int64)
        node_t[here] = find(key_n, context_t[here] * events + id_t[here])
        yield context_t, node_t
