"""Decide whether a grammar is unambiguous: do two different rows of choices ever spell the same text?

Two readers start together and must say the same letters. While they make the same choices they are one; where a choice is
made they may part, and from then on every pair of positions that the same letters can lead to is followed. A pair that can
say nothing in common is dropped. If no pair ever reaches the end, no text has two derivations: this is a proof, because the
grammar is finite and every pair is tried.

Paper:   Even 1965, "On information lossless automata of finite order": the test on pairs of states.
Differs: letters come in pieces (words), and a pair remembers which words it has fixed, so agreement counts.
Next:    minillm/text/village.py
"""

from dataclasses import dataclass

from minillm.text.grammar import Grammar, Script
from minillm.text.grammar_nodes import Node, Pick, Say, Word

Values = tuple[tuple[int, int], ...]  # (column, value), sorted


@dataclass(frozen=True, slots=True)
class _Reader:
    """Where one of the two is: the letters that it has still to say, the node after them, and what it has fixed."""

    script: Script
    rest: str
    node: Node | None
    values: Values
    shared: frozenset[int]  # columns that were fixed before the two parted: the other has the same value there

    def steps(self) -> list[tuple["_Reader", tuple[int, int] | None]]:
        """Go on to the next letters, in every possible way; with each way, what it fixes."""
        if isinstance(self.node, Say):
            return [(_Reader(self.script, self.node.text, self.node.after, self.values, self.shared), None)]
        assert isinstance(self.node, Word | Pick)
        known, column = dict(self.values), self.node.column
        ways = []
        for value, p in enumerate(column.probability_v):
            if p == 0 or known.get(self.node.place, value) != value or any(known.get(rival) == value for rival in column.rivals):
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
        key = (id(one.script), one.rest, id(one.node), one.values, id(two.script), two.rest, id(two.node), two.values, one.shared)
        if key in seen:
            continue
        seen.add(key)
        if one.done and two.done:
            return f"script {one.script.name!r}: two derivations can meet after {said[-40:]!r}"
        if one.rest and two.rest:
            common = min(len(one.rest), len(two.rest))
            if one.rest[:common] == two.rest[:common]:
                cut = [_Reader(each.script, each.rest[common:], each.node, each.values, each.shared) for each in (one, two)]
                pairs.append((cut[0], cut[1], said + one.rest[:common]))
            continue
        slow, fast = (one, two) if not one.rest and one.node is not None else (two, one)
        if slow.rest or slow.node is None:
            continue  # one has ended and the other has something to say
        for stepped, fixed in slow.steps():
            knows = fast if fixed is None or fixed[0] not in slow.shared else fast.told(*fixed)
            if knows is not None:
                pairs.append((stepped, knows, said))
    return ""


def _part(script: Script, language: str, pairs: list[tuple[_Reader, _Reader, str]]) -> str:
    """Collect the pairs that part at each choice of a script; say so when a text leaves a choice open."""
    needed = {script.index[name] for name in (*script.cast, *script.named)}
    seen = set()
    todo: list[tuple[Node | None, frozenset[int]]] = [(script.start[language], frozenset())]
    while todo:
        node, fixed = todo.pop()
        if (id(node), fixed) in seen:
            continue
        seen.add((id(node), fixed))
        if node is None:
            if missing := needed - fixed:
                names = sorted(script.columns[place].name for place in missing)
                return f"script {script.name!r}: a text can leave {', '.join(names)} unsaid"
            continue
        if isinstance(node, Word | Pick) and node.place not in fixed:
            ways = [way for way, _ in _Reader(script, "", node, (), fixed).steps()]
            for i, way in enumerate(ways):
                pairs.extend((way, other, "") for other in ways[:i] if _alike(way.rest, other.rest))
            fixed |= {node.place}
        todo.extend((follower, fixed) for follower in node.followers())
    return ""


def _alike(one: str, two: str) -> bool:
    common = min(len(one), len(two))
    return one[:common] == two[:common]
