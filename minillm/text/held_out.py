"""Held-out combinations: test sentences put known words together in a way that training never showed.

    {a, b} ⊂ some held-out sentence      {a, b} ⊄ every training sentence      a, b ∈ training

A random split of a small language tests memory: nearly every test sentence has a twin in training that differs in
one word. Here pairs of words are drawn first, and every sentence in which such a pair meets is held out. A model that
scores well knows what each word does by itself, and how a sentence is built: compositional generalisation.

Paper:   Lake and Baroni 2018, "Generalization without Systematicity" (known words in new combinations),
         arXiv:1711.00350; Keysers et al. 2020, "Measuring Compositional Generalization", §2, arXiv:1912.09713.
Names:   our words are Keysers et al.'s atoms, our combinations compounds of two atoms.
Differs: pairs are drawn at random among those that meet often; they choose the split whose compounds differ most.
Next:    minillm/text/corpus.py
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from minillm.text.dice import Dice
from minillm.text.tokenizer import WordTokenizer

Pair = tuple[str, str]  # a sentence and its translation


class HeldOut(NamedTuple):
    """The two sides of a split, and why it is one."""

    train: list[Pair]
    held_out: list[Pair]
    combinations: list[tuple[str, str]]  # no training sentence has both words of any of these; each held-out one does


def hold_out_combinations(
    pairs: Sequence[Pair],
    share: float = 0.1,
    *,
    together: int = 5,
    common: float = 0.1,
    seed: int = 0,
    split: Callable[[str], list[str]] = WordTokenizer.split,
) -> HeldOut:
    """Split translation pairs so that each held-out source has two words that never meet in a training source.

    About `share` of the pairs are held out, never more. A combination is worth holding out if its words meet in
    `together` sources or more, and if neither belongs to the frame of the sentences: stands in more than `common` of
    all sources, as "the" does. Every word, of both languages as `split` cuts them, keeps half of its sentences or more.
    The choice is a function of the seed and of which pairs there are, not of their order.

    >>> pairs = [(f"{who} {does}", "") for who in "abcdef" for does in "uvwxyz"]
    >>> done = hold_out_combinations(pairs, share=0.1, together=1, common=0.2)
    >>> done.held_out, done.combinations
    ([('a w', ''), ('b z', ''), ('d z', '')], [('a', 'w'), ('b', 'z'), ('d', 'z')])
    >>> ("a z", "") in done.train and ("b w", "") in done.train  # the words themselves are known
    True
    """
    _check(pairs, share, together, common)
    sources = [set(split(source)) for source, _ in pairs]
    words = [
        source | {("target", word) for word in split(target)}
        for source, (_, target) in zip(sources, pairs, strict=True)
    ]
    meetings = _meetings(sources, common)
    candidates = sorted(two for two, rows in meetings.items() if len(rows) >= together)

    may_lose = {word: count // 2 for word, count in Counter(word for row in words for word in row).items()}
    held: set[int] = set()
    chosen: list[tuple[str, str]] = []
    for two in Dice(seed).shuffled(candidates):
        new = meetings[two] - held
        losses = Counter(word for row in new for word in words[row])
        fits = len(held) + len(new) <= share * len(pairs) and all(may_lose[word] >= n for word, n in losses.items())
        if new and fits:  # nothing new: the pair never meets outside sentences that are held out already
            chosen.append(two)
            held |= new
            for word, n in losses.items():
                may_lose[word] -= n
    if len(held) < share * len(pairs) / 2:
        raise ValueError(
            f"share={share} of {len(pairs)} pairs cannot be held out: {len(candidates)} combinations meet in "
            f"together={together} sentences, and those that leave half of each word hold {len(held)}; "
            "give more pairs, a smaller share, or together=1"
        )
    train = [pair for row, pair in enumerate(pairs) if row not in held]
    return HeldOut(train, [pairs[row] for row in sorted(held)], sorted(chosen))


def new_combinations(
    sentence: str, train: Iterable[str], split: Callable[[str], list[str]] = WordTokenizer.split
) -> list[tuple[str, str]]:
    """The pairs of words of a sentence that no sentence of `train` has both of, each pair and the list sorted.

    >>> new_combinations("the red cat", ["the red dog", "the black cat"])
    [('cat', 'red')]
    """
    found = set(combinations(sorted(set(split(sentence))), 2))
    for other in train:
        there = set(split(other))
        found = {(a, b) for a, b in found if not (a in there and b in there)}
    return sorted(found)


def _meetings(sources: list[set[str]], common: float) -> dict[tuple[str, str], set[int]]:
    """For each two words that are no frame words: the rows of the sentences where they meet."""
    count = Counter(word for source in sources for word in source)
    rare = {word for word, n in count.items() if n <= common * len(sources) and any(map(str.isalnum, word))}
    rows: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for row, source in enumerate(sources):
        for two in combinations(sorted(source & rare), 2):
            rows[two].add(row)
    return rows


def _check(pairs: Sequence[Pair], share: float, together: int, common: float) -> None:
    if not len(pairs):
        raise ValueError("pairs=[] holds nothing to split; Village(seed=0).translations(1000) works")
    for place, pair in enumerate(pairs):
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(side, str) for side in pair)):
            raise ValueError(f"pairs[{place}]={pair!r} must be a tuple of two texts, such as ('a cat', '一只猫')")
    for name, value in (("share", share), ("common", common)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value!r} must lie between 0 and 1; {name}=0.1 works")
    if together < 1:
        raise ValueError(f"together={together!r} must be at least 1, which takes every combination; 5 works")
