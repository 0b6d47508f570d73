"""The nodes of a compiled grammar: literal text, a word of the cast, and a fork.

A node can *spell* itself for a row of choices, and *read* itself from a text, filling the row in as it goes. A value
that is not chosen yet is -1 in the row; the first place that spells it fixes it, and every later place must agree.

Differs: nodes are linked forward, so reading needs no stack of open rules (a recursive-descent parser would).
Next:    minillm/text/grammar_templates.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minillm.text.grammar import Column

Way = tuple[
    "Node | None", int, tuple[int, ...], float
]  # node to go on with, position, row, nats of the choice made here


class Say:
    """Text that is always the same."""

    __slots__ = ("after", "text")

    def __init__(self, text: str, after: Node | None) -> None:
        """`after` is the node that follows, None at the end of the text."""
        self.text, self.after = text, after

    def spell(self, row: Sequence[int]) -> tuple[str, Node | None]:
        """Return the text and the node that follows."""
        return self.text, self.after

    def read(self, text: str, at: int, row: tuple[int, ...]) -> list[Way]:
        """Return how reading can go on: one way, or none."""
        return [(self.after, at + len(self.text), row, 0.0)] if text.startswith(self.text, at) else []

    def texts(self) -> Sequence[str]:
        """Everything this node can spell."""
        return (self.text,)

    def followers(self) -> Sequence[Node | None]:
        """Every node that can come next."""
        return (self.after,)


class Word:
    """A place whose text depends on one column of the row."""

    __slots__ = ("after", "column", "index", "lengths", "place", "spelling")

    def __init__(self, place: int, column: Column, spelling: Sequence[str], after: Node | None) -> None:
        """`place` is the number of `column` in the row; `spelling[v]` is the text for its value v."""
        self.place, self.column, self.spelling, self.after = place, column, list(spelling), after
        self.index: dict[str, list[int]] = {}
        for value, text in enumerate(self.spelling):
            if column.probability_v[value] > 0:
                self.index.setdefault(text, []).append(value)
        self.lengths = sorted({len(text) for text in self.index})

    def spell(self, row: Sequence[int]) -> tuple[str, Node | None]:
        """Return the text and the node that follows."""
        return self.spelling[row[self.place]], self.after

    def read(self, text: str, at: int, row: tuple[int, ...]) -> list[Way]:
        """Return how reading can go on: one way for each value that fits."""
        place = self.place
        if row[place] >= 0:
            word = self.spelling[row[place]]
            return [(self.after, at + len(word), row, 0.0)] if text.startswith(word, at) else []
        ways = []
        for length in self.lengths:
            for value in self.index.get(text[at : at + length], ()):
                if all(row[rival] != value for rival in self.column.rivals):
                    nats = self.column.log_probability(value, row)
                    ways.append((self.after, at + length, (*row[:place], value, *row[place + 1 :]), nats))
        return ways

    def texts(self) -> Sequence[str]:
        """Everything this node can spell."""
        return list(self.index)

    def followers(self) -> Sequence[Node | None]:
        """Every node that can come next."""
        return (self.after,)


class Pick:
    """A fork: one column of the row says which way to go."""

    __slots__ = ("column", "options", "place")

    def __init__(self, place: int, column: Column, options: Sequence[Node | None]) -> None:
        """`options[v]` is the first node for value v of the column number `place`."""
        self.place, self.column, self.options = place, column, list(options)

    def spell(self, row: Sequence[int]) -> tuple[str, Node | None]:
        """Return no text, and the node that was picked."""
        return "", self.options[row[self.place]]

    def read(self, text: str, at: int, row: tuple[int, ...]) -> list[Way]:
        """Return how reading can go on: the way picked before, or all of them."""
        place = self.place
        if row[place] >= 0:
            return [(self.options[row[place]], at, row, 0.0)]
        ways = []
        for value, option in enumerate(self.options):
            if isinstance(option, Say) and not text.startswith(option.text, at):
                continue  # not needed for the answer: a look ahead that saves copying the row
            nats = self.column.log_probability(value, row)
            ways.append((option, at, (*row[:place], value, *row[place + 1 :]), nats))
        return ways

    def texts(self) -> Sequence[str]:
        """A fork spells nothing itself."""
        return ()

    def followers(self) -> Sequence[Node | None]:
        """Every node that can come next."""
        return self.options


Node = Say | Word | Pick


def reachable(start: Node | None) -> Iterator[Node]:
    """Visit every node from `start` on, each once."""
    seen: set[int] = set()
    todo = [start]
    while todo:
        node = todo.pop()
        if node is not None and id(node) not in seen:
            seen.add(id(node))
            yield node
            todo.extend(node.followers())


def words_of(text: str) -> list[str]:
    """Split off the words of a text, in lower case: letters, with an apostrophe inside.

    >>> words_of("Don't go, said Anna's cat.")
    ["don't", 'go', 'said', "anna's", 'cat']
    """
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text.lower())
