"""The village: a little world that writes as much text as you like, and knows the probability of every text.

A model of language can be judged against other models, or against the truth. Here the truth is known: a text comes
from independent choices that can be read back from it, so its probability is their product, its entropy their sum.

    log p(text) = Σ log p(choice)        H = E[-log p(text)]        floor = H / (log 2 · E[characters]), in bits

What counts as what: H is over whole texts, so the decision to stop is part of it; characters are those of the text,
with no separator. To compare a model, add up its nats over held-out texts, each with its end; divide by log 2 and by
the characters of the texts alone. No model does better than the floor, other than by luck on a small sample.

Paper:   Shannon 1951, "Prediction and Entropy of Printed English".
Next:    minillm/text/village_world.py
"""

import math
import zlib
from functools import cache, cached_property
from pathlib import Path

from minillm.text.grammar import Derivation, Grammar, Kind
from minillm.text.grammar_templates import Source, read_source
from minillm.text.village_dirt import DirtyDocument, make_dirty
from minillm.text.village_kinds import kinds_of
from minillm.text.village_tags import tagged_sentences
from minillm.text.village_world import Fact, Person, World

KINDS = ("stories", "facts", "questions", "unknown", "news", "posts", "translations", "sums", "steps")
DIRTY_START = 10**12  # dirt falls on texts that nobody else reads: far down the endless list


class Village:
    """A world drawn from a seed, and its texts.

    Every method is a function of the seed and its arguments alone: text number i is always the same, `stories(10)`
    begins `stories(100)`, and `start` says where in the endless list to begin. Take training texts from 0 and held-out
    texts from a start that training never reaches.

    >>> village = Village(seed=0)
    >>> village.stories(3) == village.stories(5)[:3]
    True
    >>> village.stories(2, start=1) == village.stories(3)[1:]
    True
    >>> village.logprob("Once upon a time there was a dragon.")
    -inf
    """

    def __init__(self, seed: int = 0, *, families: int = 10) -> None:
        """`seed` names the world and its texts; `families` of four people live there (4 to 16)."""
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed={seed!r} must be a whole number from 0; 0 works")
        self.seed = seed
        self.world = World.draw(seed, families)
        self._grammars: dict[str, Grammar] = {}

    @property
    def people(self) -> dict[str, Person]:
        """Everybody, by name."""
        return self.world.people

    @property
    def truth(self) -> tuple[Fact, ...]:
        """All facts, with how often each is stated."""
        return self.world.facts

    def stories(self, n: int, language: str = "en", start: int = 0) -> list[str]:
        """Write n stories, in English ("en") or the same ones in Chinese ("zh")."""
        return self._write("stories", n, start, language)

    def tagged_stories(self, n: int, start: int = 0) -> list[list[tuple[str, str]]]:
        """Write the sentences of n stories as lists of (word, part of speech), for `minillm.statistical.hmm`."""
        return [sentence for story in self._write("stories", n, start, "tags") for sentence in tagged_sentences(story)]

    def facts(self, n: int, start: int = 0) -> list[str]:
        """State n facts, drawn with replacement: some come often, some once, some never."""
        return self._write("facts", n, start)

    def questions(self, n: int, known: bool = True, start: int = 0) -> list[str]:
        """Ask n questions, each with its answer on the next line.

        Of what is told, a question is as frequent as its fact. With `known=False` (kind "unknown") they are about what
        nobody ever tells, and the answer says so; the true answers are in `truth`.
        """
        return self._write("questions" if known else "unknown", n, start)

    def news(self, n: int, start: int = 0) -> list[str]:
        """Write n pieces of news. Some could as well be posts: `logprob` under both kinds gives the Bayes limit."""
        return self._write("news", n, start)

    def posts(self, n: int, start: int = 0) -> list[str]:
        """Write n posts of a diary that is read by neighbours."""
        return self._write("posts", n, start)

    def translations(self, n: int, start: int = 0) -> list[tuple[str, str]]:
        """Write n sentences in English, each with the same in Chinese."""
        english, chinese = (self._write("translations", n, start, language) for language in ("en", "zh"))
        return list(zip(english, chinese, strict=True))

    def sums(self, n: int, steps: bool = False, start: int = 0) -> list[str]:
        """Write n sums, such as "12 + 7 = 19."; with `steps` (kind "steps") the way comes before the answer."""
        return self._write("steps" if steps else "sums", n, start)

    def dirty(self, n: int) -> list[DirtyDocument]:
        """Make n documents as a crawler finds them: stories, news, posts with planted dirt, and the truth about it."""
        third = -(-n // 3)
        columns = []
        for kind, each in (("stories", 1), ("news", 3), ("posts", 3)):  # a page has one story, or three short texts
            texts = self._write(kind, third * each, DIRTY_START)
            columns.append(["\n".join(texts[i : i + each]) for i in range(0, len(texts), each)])
        pages = [page for pages in zip(*columns, strict=True) for page in pages]
        return make_dirty(pages[:n], list(self.people), (self.seed, zlib.crc32(b"dirty")))

    def logprob(self, text: str | tuple[str, str], kind: str = "stories", language: str = "en") -> float:
        """Exact log-probability in nats of a text among the texts of its kind; -inf if it cannot come about.

        A pair (English, Chinese) of the kind "translations" has the probability of its choices: either half tells them
        all, so given one language the other is certain.
        """
        if isinstance(text, tuple):
            ways = self.grammar(kind).derivations(text[0])
            return ways[0].logprob if ways and ways[0].script.spell(ways[0].row, "zh") == text[1] else -math.inf
        return self.grammar(kind).logprob(text, language)

    def entropy_per_character(self, kind: str = "stories", language: str = "en") -> float:
        """Bits per character that no model of this kind of text can beat, exact.

        Characters are those of one language; a text has the same nats in each of its languages.
        """
        nats, characters = self.grammar(kind).measure(language)
        return nats / characters / math.log(2)

    def explain(self, text: str, kind: str = "stories", language: str = "en") -> Derivation | None:
        """Say how a text came about, or None; `explain(story)["mood"]` is 0 for a happy end, 1 for a sad one."""
        ways = self.grammar(kind).derivations(text, language)
        return ways[0] if ways else None

    def grammar(self, kind: str) -> Grammar:
        """The grammar behind a kind of text, compiled when first asked for."""
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r} is not one of {', '.join(KINDS)}")
        if kind not in self._grammars:
            scripts = [script for script in _sources() if script.name.partition(".")[0] == kind]
            self._grammars[kind] = Grammar(scripts, self._kinds)
        return self._grammars[kind]

    @cached_property
    def _kinds(self) -> dict[str, Kind]:
        return kinds_of(self.world)

    def _write(self, kind: str, n: int, start: int, language: str = "en") -> list[str]:
        if not isinstance(n, int) or n < 0 or not isinstance(start, int) or start < 0:
            raise ValueError(f"n={n!r} and start={start!r} must be whole numbers from 0; n=10, start=0 works")
        grammar = self.grammar(kind)
        if language not in grammar.scripts[0].start:
            raise ValueError(f"language={language!r}: {kind} are written in {', '.join(grammar.scripts[0].start)}")
        return grammar.write(n, start, (self.seed, zlib.crc32(kind.encode())), language)


@cache
def _sources() -> tuple[Source, ...]:
    files = sorted(Path(__file__).parent.glob("village_*.txt"))
    return tuple(read_source("\n\n".join(file.read_text(encoding="utf-8") for file in files)))
