"""A grammar of texts that can write, read and measure: one object, three uses.

A script is a list of templates. `{X.he}` is a word that goes with the member X of the cast, `[red|blue]` is a choice,
and `[n:one|three]` is a choice with a name: where `[n:was|were]` comes again, it agrees with what was chosen. A
derivation is the row of all choices, a text is what the row spells. When no two rows spell the same text
(minillm/text/unambiguous.py decides that), the probability of a text is the product of those of its choices:

    log p(text) = Σ log p(choice)        H = Σ p(choice is made) · H(choice)        in nats

so *writing* draws a row, *reading* finds the row that spells a text, and *measuring* walks over the choices.

Paper:   Shannon 1951, "Prediction and Entropy of Printed English", for entropy per character; Chi 1999, "Statistical
         Properties of Probabilistic Context-Free Grammars", for entropy as a sum over choices.
Differs: choices with names reach beyond context-free rules; there is no recursion, so the language is finite.
Next:    minillm/text/grammar_nodes.py
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from minillm.text.dice import uniform_numbers
from minillm.text.grammar_nodes import Node, Pick, Say, Word, reachable, words_of
from minillm.text.grammar_templates import Choice, Piece, Slot, Source, choices_in

CHUNK = 4096  # rows drawn at once: keeps memory flat for any n


@dataclass(frozen=True, slots=True)
class Kind:
    """Words that can take the same place: `forms["en"]["he"][i]` is how value i is spelled in that form.

    Without `weights` all values are equally likely, and members of one cast that share a kind are all different.

    >>> Kind({"en": {"": ["cat", "dog"], "s": ["cats", "dogs"]}}).size
    2
    """

    forms: dict[str, dict[str, Sequence[str]]]
    weights: tuple[float, ...] | None = None

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(next(iter(next(iter(self.forms.values())).values())))


@dataclass(frozen=True, slots=True)
class Column:
    """One place in a row of choices: its probabilities, and the columns whose values it may not repeat."""

    name: str
    probability_v: np.ndarray
    threshold_v: np.ndarray
    rivals: tuple[int, ...] = ()

    def log_probability(self, value: int, row: Sequence[int]) -> float:
        """Nats of this value; drawing without repetition leaves fewer values to draw from."""
        if not self.rivals:
            return math.log(self.probability_v[value])
        return -math.log(len(self.probability_v) - sum(row[rival] >= 0 for rival in self.rivals))


class Script:
    """One way to make a text: a cast, and templates in one or two languages that share every choice."""

    def __init__(self, source: Source, kinds: dict[str, Kind]) -> None:
        """Compile `source`; `kinds` are the words that its cast may name."""
        self.name, self.weight, self.templates = source.name, source.weight, source.templates
        self.cast = {variable: kinds[kind] for variable, kind in source.cast.items()}
        places = list(source.cast.items())
        self.columns: list[Column] = []
        for variable, kind in places:
            rivals = tuple(i for i, (other, same) in enumerate(places) if same == kind and other != variable)
            weights = self.cast[variable].weights
            if rivals and weights:
                raise ValueError(f"script={self.name!r} has two of kind {kind!r}, but a kind with weights allows one")
            self.columns.append(_column(variable, weights or (1.0,) * self.cast[variable].size, rivals))
        self.named: set[str] = set()
        self.index = {column.name: i for i, column in enumerate(self.columns)}
        for choice in choices_in(self.templates["en"]):
            if choice.label not in self.index:
                self.index[choice.label] = len(self.columns)
                self.columns.append(_column(choice.label, choice.weights))
                if choice.named:
                    self.named.add(choice.label)
        for pieces in self.templates.values():
            for choice in choices_in(pieces):
                self._check(choice)
        self.start = {language: self._link(pieces, None, language) for language, pieces in self.templates.items()}

    def _check(self, choice: Choice) -> None:
        size = len(self.columns[self.index[choice.label]].probability_v) if choice.label in self.index else "no"
        if len(choice.options) != size:
            here = " / ".join(str(option) for option in choice.options)
            raise ValueError(
                f"script={self.name!r}: choice {choice.label!r} has {size} options where it comes first, in English, "
                f"but {len(choice.options)} here: {here}"
            )

    def _link(self, pieces: Sequence[Piece], after: Node | None, language: str) -> Node | None:
        """Turn templates into nodes, each of which knows what comes after it."""
        for piece in reversed(pieces):
            if isinstance(piece, str):
                after = Say(piece, after)
            elif isinstance(piece, Slot):
                column = self.index[piece.variable]
                after = Word(column, self.columns[column], self.cast[piece.variable].forms[language][piece.form], after)
            else:
                column = self.index[piece.label]
                spelling = [option[0] for option in piece.options if len(option) == 1 and isinstance(option[0], str)]
                if len(spelling) == len(piece.options):
                    after = Word(column, self.columns[column], spelling, after)
                else:
                    options = [self._link(option, after, language) for option in piece.options]
                    after = Pick(column, self.columns[column], options)
        return after

    def draw(self, uniform_nd: np.ndarray) -> np.ndarray:
        """Turn uniform numbers, one per column, into a row of choices per text."""
        row_nd = np.empty(uniform_nd.shape, dtype=np.int64)
        for i, column in enumerate(self.columns):
            size = len(column.probability_v)
            if column.rivals:  # draw without repetition: skip over the values that are taken
                earlier = [rival for rival in column.rivals if rival < i]
                value_n = (uniform_nd[:, i] * (size - len(earlier))).astype(np.int64)
                for taken_n in np.sort(row_nd[:, earlier], axis=1).T:
                    value_n += value_n >= taken_n
            else:
                value_n = np.searchsorted(column.threshold_v[:-1], uniform_nd[:, i], side="right")
            row_nd[:, i] = value_n
        return row_nd

    def spell(self, row: Sequence[int], language: str = "en") -> str:
        """Write the text of a row."""
        node, said = self.start[language], []
        while node is not None:
            words, node = node.spell(row)
            said.append(words)
        return "".join(said)

    def measure(self, language: str = "en") -> tuple[float, float]:
        """Entropy in nats and expected number of characters, exactly."""
        nats = sum(_entropy(self.columns[self.index[label]]) for label in self.named)
        for i, column in enumerate(self.columns[: len(self.cast)]):
            left = len(column.probability_v) - sum(rival < i for rival in column.rivals)
            nats += math.log(left) if column.rivals else _entropy(column)
        inner_nats, characters = self._measure(self.templates[language], language)
        return nats + inner_nats, characters

    def _measure(self, pieces: Iterable[Piece], language: str) -> tuple[float, float]:
        nats = characters = 0.0
        for piece in pieces:
            if isinstance(piece, str):
                characters += len(piece)
            elif isinstance(piece, Slot):
                lengths = [len(word) for word in self.cast[piece.variable].forms[language][piece.form]]
                characters += float(self.columns[self.index[piece.variable]].probability_v @ lengths)
            else:
                column = self.columns[self.index[piece.label]]
                nats += 0.0 if piece.named else _entropy(column)  # a named choice is counted once, for the whole text
                for p, option in zip(column.probability_v.tolist(), piece.options, strict=True):
                    option_nats, option_characters = self._measure(option, language)
                    nats, characters = nats + p * option_nats, characters + p * option_characters
        return nats, characters

    def count(self) -> int:
        """How many rows there are, and so how many texts, exactly."""
        sizes = {label: len(self.columns[self.index[label]].probability_v) for label in self.named}
        named = [choice for choice in choices_in(self.templates["en"]) if choice.named]
        splits = sorted({choice.label for choice in named if any(choices_in(sum(choice.options, ())))})
        common = math.prod(size for label, size in sizes.items() if label not in splits)
        for i, column in enumerate(self.columns[: len(self.cast)]):
            common *= int((column.probability_v > 0).sum()) - sum(rival < i for rival in column.rivals)
        cases = product(*(range(sizes[label]) for label in splits))
        return common * sum(self._count(self.templates["en"], dict(zip(splits, case, strict=True))) for case in cases)

    def _count(self, pieces: Iterable[Piece], case: dict[str, int]) -> int:
        total = 1
        for choice in (piece for piece in pieces if isinstance(piece, Choice)):
            if choice.label in case:
                total *= self._count(choice.options[case[choice.label]], case)
            elif not choice.named:
                total *= sum(self._count(option, case) for option in choice.options)
        return total


def _column(name: str, weights: Sequence[float], rivals: tuple[int, ...] = ()) -> Column:
    probability_v = np.asarray(weights, dtype=float) / sum(weights)
    return Column(name, probability_v, np.cumsum(probability_v), rivals)


def _entropy(column: Column) -> float:
    used_v = column.probability_v[column.probability_v > 0]
    return float(-(used_v * np.log(used_v)).sum())


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a text came about: the script, the row of choices, and its log-probability in nats."""

    script: Script
    row: tuple[int, ...]
    logprob: float

    def __getitem__(self, name: str) -> int:
        """The value of a cast member or named choice; -1 where the text did not need it."""
        return self.row[self.script.index[name]]


class Grammar:
    """A mixture of scripts: the whole distribution of one kind of text.

    >>> from minillm.text.grammar_templates import read_source
    >>> grammar = Grammar(read_source("= greet\\n[Good|Bad] [n:day|days] [n:is|are] here."), {})
    >>> grammar.count(), round(math.exp(grammar.logprob("Good days are here.")), 3)
    (4, 0.25)
    >>> grammar.logprob("Good days is here.")
    -inf
    """

    def __init__(self, sources: Iterable[Source], kinds: dict[str, Kind]) -> None:
        """Compile every source; see `minillm.text.grammar_templates.read_source` for the notation."""
        self.scripts = [Script(source, kinds) for source in sources]
        weight_n = np.array([script.weight for script in self.scripts], dtype=float)
        self.probability_n = weight_n / weight_n.sum()
        self.width = 1 + max(len(script.columns) for script in self.scripts)

    def rows(self, n: int, start: int, seeds: Sequence[int]) -> Iterator[tuple[Script, list[int]]]:
        """Draw rows number `start` to `start + n - 1` of the endless list that `seeds` (whole numbers) name."""
        threshold = np.cumsum(self.probability_n)[:-1]
        for first in range(0, n, CHUNK):
            size = min(CHUNK, n - first)
            uniform = uniform_numbers(seeds, size * self.width, (start + first) * self.width)
            uniform_nd = uniform.reshape(size, self.width)
            which_n = np.searchsorted(threshold, uniform_nd[:, 0], side="right")
            made: list[tuple[Script, list[int]]] = [(self.scripts[0], [])] * size
            for k, script in enumerate(self.scripts):
                places = np.flatnonzero(which_n == k)
                drawn = script.draw(uniform_nd[places, 1 : 1 + len(script.columns)])
                for i, row in zip(places.tolist(), drawn.tolist(), strict=True):
                    made[i] = (script, row)
            yield from made

    def write(self, n: int, start: int, seeds: Sequence[int], language: str = "en") -> list[str]:
        """Write n texts."""
        return [script.spell(row, language) for script, row in self.rows(n, start, seeds)]

    def derivations(self, text: str, language: str = "en") -> list[Derivation]:
        """Find every derivation of a text, left to right; in an unambiguous grammar there is at most one."""
        found, end = [], len(text)
        for script, p in zip(self.scripts, self.probability_n, strict=True):
            stack = [(script.start[language], 0, (-1,) * len(script.columns), math.log(p))]
            while stack:
                node, at, row, logprob = stack.pop()
                while node is not None:
                    if isinstance(node, Say):  # the common case, kept out of the call
                        if not text.startswith(node.text, at):
                            break
                        at, node = at + len(node.text), node.after
                        continue
                    ways = node.read(text, at, row)
                    if not ways:
                        break
                    stack.extend((way[0], way[1], way[2], logprob + way[3]) for way in ways[1:])
                    node, at, row, cost = ways[0]
                    logprob += cost
                else:
                    if at == end:
                        found.append(Derivation(script, row, logprob))
        return found

    def logprob(self, text: str, language: str = "en") -> float:
        """Exact log-probability of a text in nats, -inf for a text that cannot come about."""
        ways = self.derivations(text, language)
        if len(ways) == 1:
            return ways[0].logprob
        return float(np.logaddexp.reduce([way.logprob for way in ways])) if ways else -math.inf

    def measure(self, language: str = "en") -> tuple[float, float]:
        """Entropy of a text in nats, and expected number of characters, both exact."""
        nats = float(-(self.probability_n * np.log(self.probability_n)).sum())
        characters = 0.0
        for p, script in zip(self.probability_n.tolist(), self.scripts, strict=True):
            script_nats, script_characters = script.measure(language)
            nats, characters = nats + p * script_nats, characters + p * script_characters
        return nats, characters

    def count(self) -> int:
        """How many different texts there are."""
        return sum(script.count() for script in self.scripts)

    def vocabulary(self, language: str = "en") -> set[str]:
        """Every word that can occur, in lower case."""
        said = (text for script in self.scripts for node in reachable(script.start[language]) for text in node.texts())
        return {word for text in said for word in words_of(text)}
