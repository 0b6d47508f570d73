"""Learning BPE: again and again, make one new token of the two neighbours that stand together most often.

    merge = argmax over pairs of (Σ_words count(word) · occurrences of the pair in the word, pair)

`learn_merges_plain` says it in a few lines and counts everything again for each merge. `learn_merges` gives the same
merges and touches, for each merge, only the places where the pair stands.

Paper:   Sennrich, Haddow & Birch 2016, "Neural Machine Translation of Rare Words with Subword Units", §3.2,
         arXiv:1508.07909. After Gage 1994, "A New Algorithm for Data Compression".
Names:   a word here is a pre-token (`minillm.text.pretokens`), a pair is two neighbouring tokens in a word.
Differs: tokens start as bytes, not characters, and no end-of-word mark is added. A tie between equally frequent
         pairs goes to the lexicographically greater pair of byte strings; the paper leaves it open.
Next:    minillm/text/bpe.py
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

Pair = tuple[bytes, bytes]


def merge_pair(parts: tuple[bytes, ...], pair: Pair) -> tuple[bytes, ...]:
    """Join every occurrence of `pair` in `parts`, from left to right.

    >>> merge_pair((b"a", b"b", b"a", b"b", b"c"), (b"a", b"b"))
    (b'ab', b'ab', b'c')
    >>> merge_pair((b"a", b"a", b"a"), (b"a", b"a"))
    (b'aa', b'a')
    """
    merged: list[bytes] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:  # a part that was just joined is longer than pair[0]: no match
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)


def learn_merges_plain(word_counts: Mapping[str, int], n_merges: int) -> list[Pair]:
    """The plain twin of `learn_merges`: count all pairs, merge the best everywhere, repeat.

    >>> learn_merges_plain({"low": 5, "lower": 2, "newest": 6, "widest": 3}, 4)
    [(b's', b't'), (b'e', b'st'), (b'o', b'w'), (b'l', b'ow')]
    """
    words = {tuple(bytes([byte]) for byte in word.encode()): count for word, count in word_counts.items()}
    merges: list[Pair] = []
    while len(merges) < n_merges:
        pair_counts: Counter[Pair] = Counter()
        for parts, count in words.items():
            for pair in pairwise(parts):
                pair_counts[pair] += count
        if not pair_counts:
            break  # every word is one token
        best = max(pair_counts, key=lambda pair: (pair_counts[pair], pair))
        merges.append(best)
        words = {merge_pair(parts, best): count for parts, count in words.items()}
    return merges


def learn_merges(word_counts: Mapping[str, int], n_merges: int) -> list[Pair]:
    """Learn up to `n_merges` merges from words and how often each occurs; fewer when every word has become one token.

    >>> learn_merges({"low": 5, "lower": 2, "newest": 6, "widest": 3}, 4)
    [(b's', b't'), (b'e', b'st'), (b'o', b'w'), (b'l', b'ow')]
    """
    index = _PairIndex(word_counts)
    merges: list[Pair] = []
    while len(merges) < n_merges and (pair := index.pop_best()):
        left, right = pair
        merges.append((index.tokens[left], index.tokens[right]))
        index.merge(left, right)
    return merges


class _PairIndex:
    """All distinct words as one chain of symbols, with the count and the places of every pair.

    What makes it short: merging makes a new symbol z, and every pair with z arises in that one step. So the count of a
    pair only falls after its birth. A heap entry is therefore never too low, and one that is too high is corrected when
    it comes up. And the places of a pair are one sorted array, made at birth; places that have changed since are
    dropped when it is read.
    """

    END, GONE = -1, -2  # between words; a place whose symbol was joined to the one before

    def __init__(self, word_counts: Mapping[str, int]) -> None:
        words = [word.encode() for word in word_counts]
        chain = b"\xff".join([b"", *words, b""])  # 0xff occurs in no UTF-8 text
        self.symbol_n = np.frombuffer(chain, dtype=np.uint8).astype(np.int32)
        self.symbol_n[self.symbol_n == 0xFF] = self.END
        place_n = np.arange(len(chain))
        self.next_n, self.previous_n = place_n + 1, place_n - 1
        lengths = np.fromiter((len(word) + 1 for word in words), dtype=np.int64, count=len(words))
        counts = np.fromiter(word_counts.values(), dtype=np.int64, count=len(words))
        self.weight_n = np.concatenate([[0], np.repeat(counts, lengths)])[: len(chain)]
        self.tokens = [bytes([byte]) for byte in range(256)]
        self.falling = [_falling(token) for token in self.tokens]
        self.count: dict[tuple[int, int], int] = {}
        self.places: dict[tuple[int, int], np.ndarray] = {}
        self.heap: list[tuple[int, str, str, int, int]] = []
        inside = np.flatnonzero((self.symbol_n[:-1] >= 0) & (self.symbol_n[1:] >= 0))
        keys = self.symbol_n[inside] * 256 + self.symbol_n[inside + 1]
        for key, total, places in self._grouped(keys, inside):
            self._add(divmod(key, 256), total, places)

    def pop_best(self) -> tuple[int, int] | None:
        """Take out the pair with the greatest (count, bytes), as two symbols."""
        while self.heap:
            negative, _, _, left, right = heapq.heappop(self.heap)
            count = self.count.get((left, right), 0)
            if count == -negative:
                return left, right
            if count:
                self._push((left, right), count)
        return None

    def merge(self, left: int, right: int) -> None:
        """Join every occurrence of the pair into one new symbol, and bring counts and places up to date."""
        pair, new = (left, right), len(self.tokens)
        self.tokens.append(self.tokens[left] + self.tokens[right])
        self.falling.append(_falling(self.tokens[new]))
        at, second = self._occurrences(left, right)
        del self.count[pair], self.places[pair]
        before, after = self.previous_n[at], self.next_n[second]
        touches = np.append(after[:-1] == at[1:], False)  # "abab": the next occurrence follows at once
        self.symbol_n[at], self.symbol_n[second] = new, self.GONE
        self.next_n[at], self.previous_n[after] = after, at

        if touches.any():
            places = at[touches]
            total = int(self.weight_n[places].sum())
            self._take((right, left), total)
            self._add((new, new), total, places)
        # Where the occurrence before touches, the place before is GONE now, and `_grouped` leaves it out.
        for x, total, places in self._grouped(self.symbol_n[before], before):
            self._take((x, left), total)
            self._add((x, new), total, places)
        after, at = after[~touches], at[~touches]
        for x, total, places in self._grouped(self.symbol_n[after], at):
            self._take((right, x), total)
            self._add((new, x), total, places)

    def _occurrences(self, left: int, right: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the pair stands now, first and second place; of overlapping ones ("aaa") those from the left."""
        at = self.places[left, right]
        at = at[self.symbol_n[at] == left]
        second = self.next_n[at]
        kept = self.symbol_n[second] == right
        at, second = at[kept], second[kept]
        if left == right:
            rank = np.arange(len(at))
            starts_run = np.append(True, second[:-1] != at[1:])[: len(at)]
            kept = (rank - np.maximum.accumulate(np.where(starts_run, rank, 0))) % 2 == 0
            at, second = at[kept], second[kept]
        return at, second

    def _grouped(self, keys: np.ndarray, places: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
        """For each key ≥ 0: (key, the summed weight of its places, its places in rising order)."""
        inside = keys >= 0
        keys, places = keys[inside], places[inside]
        if not len(keys):
            return
        order = np.argsort(keys, kind="stable")
        keys, places = keys[order], places[order]
        starts = np.append(0, np.flatnonzero(keys[1:] != keys[:-1]) + 1)
        totals = np.add.reduceat(self.weight_n[places], starts).tolist()
        bounds = [*starts.tolist(), len(keys)]
        for key, total, (start, stop) in zip(keys[starts].tolist(), totals, pairwise(bounds), strict=True):
            yield key, total, places[start:stop]

    def _add(self, pair: tuple[int, int], count: int, places: np.ndarray) -> None:
        self.count[pair], self.places[pair] = count, places
        self._push(pair, count)

    def _push(self, pair: tuple[int, int], count: int) -> None:
        left, right = pair
        heapq.heappush(self.heap, (-count, self.falling[left], self.falling[right], left, right))

    def _take(self, pair: tuple[int, int], count: int) -> None:
        if pair not in self.count:
            return  # the pair that is being merged, which overlaps itself in "aaa"
        self.count[pair] -= count
        if not self.count[pair]:
            del self.count[pair], self.places[pair]


def _falling(token: bytes) -> str:
    """A key whose order is the reverse of the order of byte strings, because a heap gives the least first.

    The end mark is above every byte's letter, so that "ab" comes before its prefix "a".
    """
    return "".join(chr(255 - byte) for byte in token) + "\u0100"
