"""A grammar of texts that can write, read and measure: one object, three uses.

A script is a list of templates. `{X.he}` is a word that goes with the member X of the cast, `[red|blue]` is a choice, and
`[n:one|three]` is a choice with a name: where `[n:was|were]` comes again, it agrees with what was chosen. A derivation is
the row of all choices, a text is what the row spells. When no two rows spell the same text (minillm/text/unambiguous.py
decides that), the probability of a text is the product of the probabilities of its choices:

    log p(text) = Σ log p(choice)        H = Σ p(choice is made) · H(choice)        in nats

so *writing* draws a row, *reading* finds the row that spells a text, and *measuring* walks over the choices.

Paper:   Shannon 1951, "Prediction and Entropy of Printed English", for entropy per character; Chi 1999, "Statistical
         Properties of Probabilistic Context-Free Grammars", for entropy as a sum over choices.
Differs: choices with names make the grammar more than context-free, and there is no recursion, so the language is finite.
Next:    minillm/text/grammar_nodes.py
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
        self.columns: list[Column] = []
        self.index: dict[str, int] = {}
        for variable, kind in source.cast.items():
            rivals = tuple(
                self.index[other]
                for other, same in source.cast.items()
                if same == kind and other != variable and other in self.index
            )
            self._add_column(variable, self.cast[variable].weights or (1.0,) * self.cast[variable].size, rivals)
        self.draw_rivals = [column.rivals for column in self.columns]
        for i, (variable, kind) in enumerate(source.cast.items()):
            rivals = tuple(
                self.index[other] for other, same in source.cast.items() if same == kind and other != variable
            )
            if rivals and self.cast[variable].weights:
                raise ValueError(
                    f"script={self.name!r} draws {kind} twice, but only kinds without weights can be drawn twice"
                )
            self.columns[i] = replace(self.columns[i], rivals=rivals)
        self.named: set[str] = set()
        for choice in choices_in(self.templates["en"]):
            if choice.label not in self.index:
                self._add_column(choice.label, choice.weights, ())
                if choice.named:
                    self.named.add(choice.label)
        for choice in (choice for pieces in self.templates.values() for choice in choices_in(pieces)):
            self._check(choice)
        self.start = {language: self._link(pieces, None, language) for language, pieces in self.templates.items()}

    def _add_column(self, name: str, weights: Sequence[float], rivals: tuple[int, ...]) -> None:
        self.index[name] = len(self.columns)
        probability_v = np.asarray(weights, dtype=float) / sum(weights)
        self.columns.append(Column(name, probability_v, np.cumsum(probability_v), rivals))

    def _check(self, choice: Choice) -> None:
        size = len(self.columns[self.index[choice.label]].probability_v) if choice.label in self.index else None
        if len(choice.options) != size:
            here = " / ".join(str(option) for option in choice.options)
            raise ValueError(
                f"script={self.name!r}: choice {choice.label!r} has {len(choice.options)} options in one place and {size} in another: {here}"
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
                if all(len(option) == 1 and isinstance(option[0], str) for option in piece.options):
                    after = Word(column, self.columns[column], [str(option[0]) for option in piece.options], after)
                else:
                    after = Pick(
                        column, self.columns[column], [self._link(option, after, language) for option in piece.options]
                    )
        return after

    def draw(self, uniform_nv: np.ndarray) -> np.ndarray:
        """Turn uniform numbers, one per column, into a row of choices per text."""
        row_nv = np.empty(uniform_nv.shape, dtype=np.int64)
        for i, column in enumerate(self.columns):
            size = len(column.probability_v)
            if column.rivals:
                earlier = self.draw_rivals[i]
                value_n = (uniform_nv[:, i] * (size - len(earlier))).astype(np.int64)
                for taken_n in np.sort(row_nv[:, earlier], axis=1).T:
                    value_n += value_n >= taken_n
            else:
                value_n = np.searchsorted(column.threshold_v[:-1], uniform_nv[:, i], side="right")
            row_nv[:, i] = value_n
        return row_nv

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
        for column, rivals in zip(self.columns[: len(self.cast)], self.draw_rivals, strict=False):
            nats += math.log(len(column.probability_v) - len(rivals)) if column.rivals else _entropy(column)
        inner_nats, characters = self._measure(self.templates[language], language)
        return nats + inner_nats, characters

    def _measure(self, pieces: Iterable[Piece], language: str) -> tuple[float, float]:
        nats = characters = 0.0
        for piece in pieces:
            if isinstance(piece, str):
                characters += len(piece)
            elif isinstance(piece, Slot):
                probability_v = self.columns[self.index[piece.variable]].probability_v
                characters += probability_v @ [
                    len(word) for word in self.cast[piece.variable].forms[language][piece.form]
                ]
            else:
                column = self.columns[self.index[piece.label]]
                nats += 0.0 if piece.named else _entropy(column)  # a named choice is counted once, for the whole text
                for p, option in zip(column.probability_v, piece.options, strict=True):
                    option_nats, option_characters = self._measure(option, language)
                    nats, characters = nats + p * option_nats, characters + p * option_characters
        return nats, characters

    def count(self) -> int:
        """How many rows there are, and so how many texts, exactly."""
        sizes = {label: len(self.columns[self.index[label]].probability_v) for label in self.named}
        splits = sorted(
            {
                choice.label
                for choice in choices_in(self.templates["en"])
                if choice.named and any(choices_in(sum(choice.options, ())))
            }
        )
        common = math.prod(size for label, size in sizes.items() if label not in splits)
        for column, rivals in zip(self.columns[: len(self.cast)], self.draw_rivals, strict=False):
            common *= int((column.probability_v > 0).sum()) - len(rivals)
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
    >>> grammar.count(), round(math.exp(grammar.logprob("Good days are here.")), 3), grammar.logprob("Good days is here.")
    (4, 0.25, -inf)
    """

    def __init__(self, sources: Iterable[Source], kinds: dict[str, Kind]) -> None:
        """Compile every source; see `minillm.text.grammar_templates.read_source` for the notation."""
        self.scripts = [Script(source, kinds) for source in sources]
        weight_n = np.array([script.weight for script in self.scripts], dtype=float)
        self.probability_n = weight_n / weight_n.sum()
        self.width = 1 + max(len(script.columns) for script in self.scripts)

    def rows(self, n: int, start: int, seeds: Sequence[int]) -> Iterator[tuple[Script, list[int]]]:
        """Draw rows number `start` to `start + n - 1` of the endless list that `seeds` (whole numbers) name."""
        threshold_n = np.cumsum(self.probability_n)[:-1]
        for first in range(0, n, CHUNK):
            size = min(CHUNK, n - first)
            uniform_nv = uniform_numbers(seeds, size * self.width, (start + first) * self.width).reshape(
                size, self.width
            )
            which_n = np.searchsorted(threshold_n, uniform_nv[:, 0], side="right")
            made: list[tuple[Script, list[int]] | None] = [None] * size
            for k, script in enumerate(self.scripts):
                place_n = np.flatnonzero(which_n == k)
                for i, row in zip(
                    place_n.tolist(),
                    script.draw(uniform_nv[place_n, 1 : 1 + len(script.columns)]).tolist(),
                    strict=True,
                ):
                    made[i] = (script, row)
            yield from made  # type: ignore[misc]

    def write(self, n: int, start: int, seeds: Sequence[int], language: str = "en") -> list[str]:
        """Write n texts."""
        return [script.spell(row, language) for script, row in self.rows(n, start, seeds)]

    def derivations(self, text: str, language: str = "en") -> list[Derivation]:
        """Find every derivation of a text by trying, left to right, whatever fits; an unambiguous grammar has at most one."""
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
        for p, script in zip(self.probability_n, self.scripts, strict=True):
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
