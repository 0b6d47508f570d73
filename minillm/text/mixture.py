"""Mixing sources: how often does a model see each text, when good text is small and plain text is plenty?

    passes(source) = weight(source) · tokens trained / tokens(source)

GPT-3 sampled its five sources by weight and not by size, so that it read Wikipedia about three times and less than
half of Common Crawl. `gpt3_mixture()` holds the published table, and `passes` recomputes its last column: 0.44, 3.47,
2.00, 0.44, 3.00 where the paper prints 0.44, 2.9, 1.9, 0.43, 3.4. Rounded weights cannot explain 3.47 against 2.9:
even the tables of primary sources deserve a recount.

Paper:   Brown et al. 2020, "Language Models are Few-Shot Learners", table 2.2, arXiv:2005.14165.
Names:   "epochs elapsed when training for 300B tokens" is our passes.
Differs: `sample` draws without chance between sources: the source that is furthest behind its share comes next. The
         order of documents within each pass is shuffled.
Next:    minillm/text/cleaning.py
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One source of a mixture: its size in tokens, and its share of what is trained on."""

    name: str
    tokens: float
    weight: float

    def __post_init__(self) -> None:
        if self.tokens <= 0:
            raise ValueError(
                f"tokens={self.tokens} of source {self.name!r} must be positive; leave an empty source out"
            )
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight={self.weight} of source {self.name!r} must be a share, 0 … 1; 22 % is 0.22")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Sources and their weights. The weights may miss 1 by rounding, at most 0.03: GPT-3's printed ones add to 1.01.

    >>> web, books = Source(name="web", tokens=800, weight=0.6), Source(name="books", tokens=100, weight=0.4)
    >>> Mixture(sources=(web, books)).passes(500)
    {'web': 0.375, 'books': 2.0}
    """

    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"sources={names} must be at least one, each with a name of its own")
        if abs((total := sum(source.weight for source in self.sources)) - 1) > 0.03:
            raise ValueError(f"the weights add to {total:.3f} and must add to 1; divide each by {total:.3f}")

    def passes(self, trained: float) -> dict[str, float]:
        """How often each source is read when `trained` tokens are drawn; the weights as they are printed."""
        if trained < 0:
            raise ValueError(f"trained={trained} tokens must not be negative; GPT-3 has 300e9")
        return {source.name: source.weight * trained / source.tokens for source in self.sources}

    def weights_from(self, passes: Mapping[str, float], trained: float) -> dict[str, float]:
        """The other way round: which weights would have given these passes.

        >>> published = dict(zip((s.name for s in gpt3_mixture().sources), GPT3_PUBLISHED_PASSES))
        >>> implied = gpt3_mixture().weights_from(published, 300e9)
        >>> [round(100 * weight, 1) for weight in implied.values()], round(100 * sum(implied.values()), 1)
        ([60.1, 18.4, 7.6, 7.9, 3.4], 97.4)
        """
        return {source.name: passes[source.name] * source.tokens / trained for source in self.sources}

    def sample(
        self,
        documents: Mapping[str, Sequence[str]],
        trained: float,
        *,
        seed: int = 0,
        length: Callable[[str], int] = len,
    ) -> Iterator[tuple[str, int, str]]:
        """Draw documents until `trained` tokens are drawn: (source, pass from 0, document) one by one.

        `length(document)` counts tokens, by default characters. Within a source no document comes back before all
        have been there. At every moment each source is within a few documents of its (normalised) share.

        >>> mixture = Mixture(sources=(Source(name="a", tokens=4, weight=0.5), Source(name="b", tokens=2, weight=0.5)))
        >>> drawn = list(mixture.sample({"a": ["aa", "AA"], "b": ["bb"]}, trained=8))
        >>> [(name, number) for name, number, _ in drawn]
        [('a', 0), ('b', 0), ('a', 0), ('b', 1)]
        """
        for source in self.sources:
            if source.weight and not any(length(document) for document in documents.get(source.name, ())):
                raise ValueError(f"documents[{source.name!r}] has no text, but the source has weight {source.weight}")
        chance = np.random.default_rng(seed)
        streams = {s.name: _endless(documents[s.name], chance.spawn(1)[0]) for s in self.sources if s.weight}
        share = {s.name: s.weight / sum(x.weight for x in self.sources) for s in self.sources if s.weight}
        drawn = dict.fromkeys(streams, 0)
        while (total := sum(drawn.values())) < trained:
            name = max(streams, key=lambda name: share[name] * total - drawn[name] + 1e-9 * share[name])
            number, document = next(streams[name])
            drawn[name] += length(document)
            yield name, number, document


def gpt3_mixture() -> Mixture:
    """The five sources of GPT-3 with the sizes and weights that the paper prints.

    >>> [round(n, 2) for n in gpt3_mixture().passes(300e9).values()]
    [0.44, 3.47, 2.0, 0.44, 3.0]
    """
    table = (
        ("Common Crawl (filtered)", 410e9, 0.60),
        ("WebText2", 19e9, 0.22),
        ("Books1", 12e9, 0.08),
        ("Books2", 55e9, 0.08),
        ("Wikipedia", 3e9, 0.03),
    )
    return Mixture(sources=tuple(Source(name=name, tokens=tokens, weight=weight) for name, tokens, weight in table))


GPT3_PUBLISHED_PASSES = (0.44, 2.9, 1.9, 0.43, 3.4)  # the table's last column, in the same order


def _endless(documents: Sequence[str], chance: np.random.Generator) -> Iterator[tuple[int, str]]:
    number = 0
    while True:
        for i in chance.permutation(len(documents)):
            yield number, documents[int(i)]
        number += 1
