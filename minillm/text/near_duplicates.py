"""Finding texts that are almost the same, among many, without comparing every pair.

    s(A, B) = |A ∩ B| / |A ∪ B|                       Jaccard similarity of the two texts' sets of word shingles
    P[min h(A) = min h(B)] = s                        so the share of k agreeing minima estimates s,
    standard error = √(s (1 − s) / k) ≤ 1 / (2 √k)    and this is how well
    P[candidate] = 1 − (1 − s^r)^b                    b bands of r minima; one equal band makes a candidate

A pair of candidates whose estimate is not far below the threshold is then compared exactly, so nothing below the
threshold is ever reported. What can go wrong is a miss, and its chance at similarity s ≥ threshold is at most

    (1 − s^r)^b + exp(−2 k margin²)                   margin = 2/√k, so the second term is e⁻⁸ = 0.0003

which is 0.0003 at the threshold with the default settings (Hoeffding's inequality for the second term).

The threshold is a choice, 0.8 by default (as Lee et al.): in a text of eighty words, two changed ones. In a text of ten
words one changed word is below it, which is right: "the inn is open" and "the inn is closed" are no copies.

Paper:   Broder 1997, "On the resemblance and containment of documents", Compression and Complexity of Sequences;
         bands: Indyk and Motwani 1998, "Approximate nearest neighbors", STOC; the same use on web text: Lee et al.
         2022, "Deduplicating Training Data Makes Language Models Better", §4.2, arXiv:2107.06499.
Names:   r rows and b bands as in the textbooks; k = r · b hash functions; Broder's "resemblance" is our s.
Differs: the k functions are multiply-shift hashes of well-mixed 64-bit shingles, not true random permutations; a
         test measures that estimate and band probability keep to the formulas.
Next:    minillm/text/quality.py
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from minillm.text.normalise import split_words

_NO_SHINGLES = np.uint32(2**32 - 1)
_BATCH_SHINGLES = 1 << 16  # hashed together: large enough for numpy, small enough for the cache


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicateConfig:
    """What counts as near, and how hard to look.

    >>> round(NearDuplicateConfig().candidate_probability(0.5), 4)
    0.8732
    >>> round(NearDuplicateConfig().miss_bound(0.8), 4)
    0.0003
    """

    threshold: float = 0.8  # Jaccard similarity from which two texts are near-duplicates
    shingle: int = 3  # words in a shingle
    bands: int = 32  # b
    rows: int = 4  # r
    seed: int = 0  # of the hash functions

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold} is no similarity to ask for: 0 < threshold ≤ 1, e.g. 0.8")
        for name in ("shingle", "bands", "rows"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value} must be at least 1; the default is {getattr(type(self)(), name)}")

    @property
    def hashes(self) -> int:
        """k, the number of hash functions."""
        return self.bands * self.rows

    @property
    def margin(self) -> float:
        """How far below the threshold an estimate may lie and still be compared exactly."""
        return 2 / math.sqrt(self.hashes)

    def candidate_probability(self, similarity: float) -> float:
        """1 − (1 − s^r)^b: the chance that a pair of this similarity shares a band."""
        return 1 - (1 - similarity**self.rows) ** self.bands

    def standard_error(self, similarity: float) -> float:
        """√(s (1 − s) / k): of the estimate of a similarity from k minima."""
        return math.sqrt(similarity * (1 - similarity) / self.hashes)

    def miss_bound(self, similarity: float) -> float:
        """An upper bound on the chance that a pair of this similarity (≥ threshold) is not found."""
        return min(1.0, 1 - self.candidate_probability(similarity) + math.exp(-2 * self.hashes * self.margin**2))


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicates:
    """Which texts to keep, and for each text that goes, the kept one that it repeats."""

    kept: list[int]
    copy_of: dict[int, int]
    similarity: dict[int, float]  # of a removed text to the one it repeats, exact
    candidates: int  # pairs that shared a band
    compared: int  # pairs compared exactly


class _WordHashes(dict[str, int]):
    """A 64-bit number for each word, the same on every machine, worked out once per word."""

    def __missing__(self, word: str) -> int:
        self[word] = number = int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")
        return number


def _mixed(x_n: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014): every input bit moves about half of the output bits."""
    x_n = (x_n ^ (x_n >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x_n = (x_n ^ (x_n >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x_n ^ (x_n >> np.uint64(31))


def shingles(text: str, size: int = 3, table: dict[str, int] | None = None) -> NDArray[np.uint64]:
    """The set of a text's runs of `size` words, each as a 64-bit number, sorted; shape (number of different runs,).

    A text with fewer words is one shingle; a text without words has none. `table` remembers words between calls.

    >>> len(shingles("the cat sat on the mat"))
    4
    >>> len(shingles("hello")), len(shingles(" ?! "))
    (1, 0)
    """
    hashes = _WordHashes() if table is None else table
    word_n = np.fromiter(map(hashes.__getitem__, split_words(text)), dtype=np.uint64)
    if not word_n.size:
        return word_n
    size = min(size, word_n.size)
    run = np.zeros(word_n.size - size + 1, dtype=np.uint64)
    for offset in range(size):
        run = _mixed(run * np.uint64(0x9E3779B97F4A7C15) + word_n[offset : word_n.size - size + 1 + offset])
    return np.unique(run)


def jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    """|A ∩ B| / |A ∪ B| of two sorted sets; two empty sets count as different (0).

    >>> jaccard(np.array([1, 2, 3], dtype=np.uint64), np.array([2, 3, 4], dtype=np.uint64))
    0.5
    """
    both = np.intersect1d(a, b, assume_unique=True).size
    return both / union if (union := a.size + b.size - both) else 0.0


def minhash(sets: Sequence[NDArray[np.uint64]], config: NearDuplicateConfig | None = None) -> NDArray[np.uint32]:
    """The k smallest hash values of each set, one per hash function: shape (sets, k).

    The share of equal entries of two rows estimates the Jaccard similarity of their sets.

    >>> a, b = shingles("a b c d e f g h i j"), shingles("a b c d e f g h i k")
    >>> signature = minhash([a, b])
    >>> signature.shape, abs(float(np.mean(signature[0] == signature[1])) - jaccard(a, b)) < 0.2
    ((2, 128), True)
    """
    config = config or NearDuplicateConfig()
    chance = np.random.default_rng(config.seed)
    odd = chance.integers(0, 2**63, config.hashes, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    plus = chance.integers(0, 2**63, config.hashes, dtype=np.uint64) * np.uint64(2)
    signature = np.full((len(sets), config.hashes), _NO_SHINGLES, dtype=np.uint32)
    filled = [i for i, members in enumerate(sets) if members.size]
    for batch in _batches(filled, sets):
        member_n = np.concatenate([sets[i] for i in batch])
        starts = np.cumsum([0] + [sets[i].size for i in batch[:-1]])
        smallest = np.empty((config.hashes, len(batch)), dtype=np.uint32)
        for j in range(config.hashes):
            smallest[j] = np.minimum.reduceat(member_n * odd[j] + plus[j], starts) >> np.uint64(32)
        signature[batch] = smallest.T
    return signature


def _batches(filled: Iterable[int], sets: Sequence[NDArray[np.uint64]]) -> Iterable[list[int]]:
    batch: list[int] = []
    total = 0
    for i in filled:
        batch.append(i)
        total += sets[i].size
        if total >= _BATCH_SHINGLES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def candidate_pairs(signature: NDArray[np.uint32], config: NearDuplicateConfig) -> NDArray[np.int64]:
    """The pairs (i, j), i < j, whose signatures agree in at least one band of r entries: shape (pairs, 2)."""
    signature = signature[(filled := np.flatnonzero((signature != _NO_SHINGLES).any(axis=1)))]
    n = len(signature)
    found: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    for band in range(config.bands):
        part = np.ascontiguousarray(signature[:, band * config.rows : (band + 1) * config.rows])
        key_n = np.zeros(n, dtype=np.uint64)
        for row in range(config.rows):
            key_n = _mixed(key_n * np.uint64(0x9E3779B97F4A7C15) + part[:, row].astype(np.uint64))
        order = np.argsort(key_n, kind="stable")
        edge = np.concatenate([[0], np.flatnonzero(np.diff(key_n[order])) + 1, [n]])
        sizes = np.diff(edge)
        twos = edge[:-1][sizes == 2]  # most buckets with company hold two
        found.append(order[twos] * n + order[twos + 1])  # the stable sort keeps i < j
        for b in np.flatnonzero(sizes > 2):
            bucket = order[edge[b] : edge[b + 1]]
            first, second = np.triu_indices(bucket.size, 1)
            found.append(bucket[first] * n + bucket[second])
    code = np.unique(np.concatenate(found))
    return filled[np.stack([code // max(n, 1), code % max(n, 1)], axis=1)]


def near_duplicates(texts: Sequence[str], config: NearDuplicateConfig | None = None) -> NearDuplicates:
    """Walk through the texts in order and drop each that is nearly the same as one already kept.

    So every dropped text has a kept one with similarity ≥ threshold, and two kept texts have similarity below it
    but for the misses bounded above. Texts without words are never dropped here.

    >>> a = "The old ferry leaves the harbour at six, and returns before the lamps are lit on the quay."
    >>> near_duplicates([a, "Something else entirely happens here.", a + " Always."]).copy_of
    {2: 0}
    """
    config = config or NearDuplicateConfig()
    table = _WordHashes()
    all_sets = [shingles(text, config.shingle, table) for text in texts]
    kept: list[int] = []
    copy_of: dict[int, int] = {}
    similarity: dict[int, float] = {}

    first_with: dict[bytes, int] = {}  # equal sets first: a page copied a thousand times is no million of pairs
    same_as: dict[int, int] = {}
    for i, members in enumerate(all_sets):
        if members.size and (first := first_with.setdefault(members.tobytes(), i)) != i:
            same_as[i] = first
    different = [i for i in range(len(texts)) if i not in same_as]

    signature = minhash([all_sets[i] for i in different], config)
    pairs = candidate_pairs(signature, config)
    near: dict[int, list[int]] = {}
    for start in range(0, len(pairs), 4096):
        chunk = pairs[start : start + 4096]
        estimate_n = np.mean(signature[chunk[:, 0]] == signature[chunk[:, 1]], axis=1)
        for i, j in chunk[estimate_n >= config.threshold - config.margin]:
            near.setdefault(different[j], []).append(different[i])

    compared = 0
    for i in range(len(texts)):
        if i in same_as:
            original = same_as[i]
            copy_of[i], similarity[i] = copy_of.get(original, original), similarity.get(original, 1.0)
            continue
        for earlier in near.get(i, []):
            if earlier in copy_of:
                continue
            compared += 1
            if (s := jaccard(all_sets[earlier], all_sets[i])) >= config.threshold:
                copy_of[i], similarity[i] = earlier, s
                break
        else:
            kept.append(i)
    return NearDuplicates(
        kept=kept, copy_of=copy_of, similarity=similarity, candidates=len(pairs), compared=compared + len(same_as)
    )
