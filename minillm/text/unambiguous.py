"""Decide whether a grammar is unambiguous: do two different rows of choices ever spell the same text?

Two readers start together and must say the same letters. While they make the same choices they are one; where a choice
is made they may part, and from then on every pair of positions that the same letters can lead to is followed. A pair
that can say nothing in common is dropped. If no pair ever reaches the end, no text has two derivations: that is proof,
because the grammar is finite and every pair is tried.

Paper:   Even 1965, "On information lossless automata of finite order": the test on pairs of states.
Differs: letters come in pieces (words), and a pair remembers which words it has fixed, so agreement counts.
Next:    minillm/text/village.py
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from minillm.text.grammar import Grammar, Script
from minillm.text.grammar_nodes import Node, Pick, Say, Word, reachable

Values = tuple[tuple[int, int], ...]  # (column, value), sorted


@dataclass(frozen=True, slots=True)
class _Reader:
    """Where one of the two is: the letters that it has still to say, the node after them, and what it has fixed."""

    script: Script
    rest: str
    node: Node | None
    values: Values
    shared: frozenset[int]  # columns that were fixed before the two parted: the other has the same value there

    def steps(self, heard: str = "") -> list[tuple["_Reader", tuple[int, int] | None]]:
        """Go on to the next letters, in every way that fits what was `heard`; with each way, what it fixes."""
        if isinstance(self.node, Say):
            return [(_Reader(self.script, self.node.text, self.node.after, self.values, self.shared), None)]
        assert isinstance(self.node, Word | Pick)
        known, column = dict(self.values), self.node.column
        ways = []
        if self.node.place in known:
            values = [known[self.node.place]]
        else:
            values = (
                _fitting(self.node, heard)
                if heard and isinstance(self.node, Word)
                else range(len(column.probability_v))
            )
        for value in values:
            if column.probability_v[value] == 0 or any(known.get(rival) == value for rival in column.rivals):
                continue
            rest = self.node.spelling[value] if isinstance(self.node, Word) else ""
            after = self.node.after if isinstance(self.node, Word) else self.node.options[value]
            fixed = tuple(sorted((known | {self.node.place: value}).items()))
            ways.append((_Reader(self.script, rest, after, fixed, self.shared), (self.node.place, value)))
        return ways

    def told(self, place: int, value: int) -> "_Reader | None":
        """Learn what the other fixed in a column that both share; None if that cannot be."""
        known = dict(self.values)
        rivals = self.script.columns[place].rivals
        if known.get(place, value) != value or any(known.get(rival) == value for rival in rivals):
            return None
        return _Reader(self.script, self.rest, self.node, tuple(sorted((known | {place: value}).items())), self.shared)

    @property
    def done(self) -> bool:
        """Has everything been said?"""
        return not self.rest and self.node is None


def ambiguity(grammar: Grammar, language: str = "en") -> str:
    """Describe a way in which two derivations spell the same text, or return "" when there is none.

    >>> from minillm.text.grammar_templates import read_source
    >>> ambiguity(Grammar(read_source("= a\\n[Go|Go on][.| on.]"), {}))
    "script 'a': two derivations can meet after 'Go on.'"
    >>> ambiguity(Grammar(read_source("= a\\n[Go|Go on][.|!]"), {}))
    ''
    """
    pairs: list[tuple[_Reader, _Reader, str]] = []
    for i, script in enumerate(grammar.scripts):
        for other in grammar.scripts[:i]:
            start = [_Reader(each, "", each.start[language], (), frozenset()) for each in (script, other)]
            pairs.append((start[0], start[1], ""))
        found = _part(script, language, pairs)
        if found:
            return found
    seen = set()
    while pairs:
        one, two, said = pairs.pop()
        key = (
            id(one.script),
            one.rest,
            id(one.node),
            one.values,
            id(two.script),
            two.rest,
            id(two.node),
            two.values,
            one.shared,
        )
        if key in seen:
            continue
        seen.add(key)
        if one.done and two.done:
            return f"script {one.script.name!r}: two derivations can meet after {said[-40:]!r}"
        if one.rest and two.rest:
            common = min(len(one.rest), len(two.rest))
            if one.rest[:common] == two.rest[:common]:
                cut = [
                    _Reader(each.script, each.rest[common:], each.node, each.values, each.shared) for each in (one, two)
                ]
                pairs.append((cut[0], cut[1], said + one.rest[:common]))
            continue
        slow, fast = (one, two) if not one.rest and one.node is not None else (two, one)
        if slow.rest or slow.node is None:
            continue  # one has ended and the other has something to say
        for stepped, fixed in slow.steps(fast.rest):
            knows = fast if fixed is None or fixed[0] not in slow.shared else fast.told(*fixed)
            if knows is not None:
                pairs.append((stepped, knows, said))
    return ""


def _part(script: Script, language: str, pairs: list[tuple[_Reader, _Reader, str]]) -> str:
    """Collect the pairs that part at each choice of a script; say so when a text leaves a choice open."""
    needed = {script.index[name] for name in (*script.cast, *script.named)}
    deciding = {node.place for node in reachable(script.start[language]) if isinstance(node, Pick)}
    deciding &= {script.index[name] for name in script.named}
    seen = set()
    todo: list[tuple[Node | None, frozenset[int], Values]] = [(script.start[language], frozenset(), ())]
    while todo:
        node, fixed, forks = todo.pop()  # forks: the values of the choices that decide which way the nodes go
        if (id(node), fixed, forks) in seen:
            continue
        seen.add((id(node), fixed, forks))
        if node is None:
            if missing := needed - fixed:
                names = sorted(script.columns[place].name for place in missing)
                return f"script {script.name!r}: a text can leave {', '.join(names)} unsaid"
        elif isinstance(node, Say):
            todo.append((node.after, fixed, forks))
        else:
            ways = [way for way, _ in _Reader(script, "", node, forks, fixed).steps()]
            if node.place not in fixed:
                pairs.extend((*both, "") for both in _alike(ways))
            after = fixed | {node.place}
            todo.extend((way.node, after, way.values if node.place in deciding else forks) for way in ways)
    return ""


def _alike(ways: list[_Reader]) -> Iterator[tuple[_Reader, _Reader]]:
    """Pair the ways of which one begins with all that the other says; by a table, as there can be thousands."""
    by_text: dict[str, list[_Reader]] = {}
    for way in ways:
        for other in by_text.setdefault(way.rest, []):
            yield way, other
        by_text[way.rest].append(way)
    for way in ways:
        for length in range(len(way.rest)):
            for other in by_text.get(way.rest[:length], ()):
                yield way, other


def _fitting(word: Word, heard: str) -> list[int]:
    """Return the values that begin with what was heard, or with which it begins."""
    longer = _beginnings(word).get(heard, [])
    return longer + [
        value for length in word.lengths if length < len(heard) for value in word.index.get(heard[:length], ())
    ]


@lru_cache(maxsize=256)
def _beginnings(word: Word) -> dict[str, list[int]]:
    table: dict[str, list[int]] = {}
    for text, values in word.index.items():
        for length in range(1, len(text) + 1):
            table.setdefault(text[:length], []).extend(values)
    return table
