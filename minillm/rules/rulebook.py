"""A rule book: rules about facts, as text that anybody can read, write and check.

    rule grandparent
      if   ?x, parent of, ?y
      if   ?y, parent of, ?z
      then ?x, grandparent of, ?z

A fact is a triple (subject, relation, object); ?x stands for anything, the same thing everywhere in a rule. A line
`fact` gives background facts; a line `single` names a relation of which a subject has one object at most.

Paper:   Buchanan & Shortliffe (eds.) 1984, "Rule-Based Expert Systems: The MYCIN Experiments".
Next:    minillm/rules/expert.py
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

Triple = tuple[str, str, str]

BUILT_IN = Path(__file__).parent / "data" / "village.rules"
DIFFERS = "is not"
"""The one built-in relation: `?x, is not, ?y` holds when both are known and different."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """If all conditions hold, the conclusion holds. Variables begin with a question mark.

    >>> Rule(name="child", conditions=(("?x", "parent of", "?y"),), conclusion=("?y", "child of", "?z"))
    Traceback (most recent call last):
        ...
    ValueError: rule child: the conclusion uses ?z, which no condition binds; conditions bind ?x, ?y
    """

    name: str
    conditions: tuple[Triple, ...]
    conclusion: Triple

    def __post_init__(self) -> None:
        bound = {word for triple in self.facts_needed for word in variables(triple)}
        if not self.facts_needed:
            raise ValueError(f"rule {self.name}: no condition asks for a fact; add one such as ?x, parent of, ?y")
        for where, triple in [*(("a condition", triple) for triple in self.tests), ("the conclusion", self.conclusion)]:
            for variable in variables(triple):
                if variable not in bound:
                    known = ", ".join(sorted(bound)) or "nothing"
                    raise ValueError(f"rule {self.name}: {where} uses {variable}, which no condition binds; "
                                     f"conditions bind {known}")  # fmt: skip
        if self.conclusion[1] == DIFFERS or any(
            is_variable(triple[1]) for triple in (*self.conditions, self.conclusion)
        ):
            raise ValueError(f"rule {self.name}: a relation is a fixed name other than {DIFFERS!r} in the conclusion; "
                             f"write for example: then ?y, child of, ?x")  # fmt: skip

    @property
    def facts_needed(self) -> tuple[Triple, ...]:
        """The conditions that facts must meet, without the tests for difference."""
        return tuple(triple for triple in self.conditions if triple[1] != DIFFERS)

    @property
    def tests(self) -> tuple[Triple, ...]:
        """The conditions `?x, is not, ?y`."""
        return tuple(triple for triple in self.conditions if triple[1] == DIFFERS)

    def __str__(self) -> str:
        return f"{self.name}: if {' and '.join(map(' '.join, self.conditions))} then {' '.join(self.conclusion)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rulebook:
    """Rules, the facts that come with them, and the relations of which a subject has one at most (a home)."""

    rules: tuple[Rule, ...]
    facts: tuple[Triple, ...] = ()
    single: frozenset[str] = frozenset()


def load_rules(path: str | Path = BUILT_IN) -> Rulebook:
    """Read a rule file (UTF-8); without a path, the twenty rules about the village that minillm brings.

    >>> len(load_rules().rules), len(load_rules().facts)
    (20, 25)
    """
    path = Path(path)
    try:
        return parse_rules(path.read_text("utf-8"), name=path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"path={str(path)!r} cannot be read ({error}); give a UTF-8 text file") from None


def parse_rules(text: str, name: str = "rules") -> Rulebook:
    """Turn the text of a rule file into rules, or raise a `ValueError` that names the line and what works.

    >>> book = parse_rules('''
    ... single lives in
    ... rule neighbour
    ...   if ?x, lives in, ?place
    ...   if ?y, lives in, ?place
    ...   if ?x, is not, ?y
    ...   then ?x, neighbour of, ?y
    ... ''')
    >>> print(book.rules[0])
    neighbour: if ?x lives in ?place and ?y lives in ?place and ?x is not ?y then ?x neighbour of ?y
    """
    rules: dict[str, Rule] = {}
    facts: list[Triple] = []
    single: set[str] = set()
    title, opened, conditions = "", 0, []

    def wrong(line: int, why: str) -> ValueError:
        return ValueError(f"{name}, line {line}: {why}")

    for line, raw in enumerate(text.splitlines(), start=1):
        command, _, rest = raw.partition("#")[0].strip().partition(" ")
        rest = rest.strip()
        if not command:
            continue
        if command not in ("rule", "if", "then", "fact", "single"):
            raise wrong(line, f"{command!r} is not an instruction; a line starts with rule, if, then, fact or single")
        if not rest:
            raise wrong(line, f"{command} needs more words, for example: then ?y, child of, ?x")
        if command in ("rule", "fact", "single") and title:
            raise wrong(line, f"rule {title} (line {opened}) has no conclusion yet; end it with: then ?y, child of, ?x")
        if command == "single":
            single.add(rest)
        elif command == "rule":
            if rest in rules:
                raise wrong(line, f"rule {rest} was given before; give this one another name")
            title, opened, conditions = rest, line, []
        elif command != "fact" and not title:
            raise wrong(line, f"{command} stands outside a rule; put a line such as 'rule child' before it")
        else:
            words = [word.strip() for word in rest.split(",")]
            if len(words) != 3 or not all(words):
                raise wrong(line, f"{rest!r} is not three parts with two commas; write: {command} ?x, parent of, ?y")
            triple = (words[0], words[1], words[2])
            if command == "if":
                conditions.append(triple)
                continue
            try:
                if command == "fact":
                    facts.append(check_fact(triple))
                    continue
                rules[title] = Rule(name=title, conditions=tuple(conditions), conclusion=triple)
            except ValueError as error:
                raise wrong(line, str(error)) from None
            title = ""
    if title:
        raise wrong(opened, f"rule {title} has no conclusion; end it with: then ?y, child of, ?x")
    return Rulebook(rules=tuple(rules.values()), facts=tuple(facts), single=frozenset(single))


def is_variable(word: str) -> bool:
    """Whether a word stands for anything: it begins with a question mark."""
    return word.startswith("?")


def variables(triple: Iterable[str]) -> list[str]:
    """The variables of a triple, in order."""
    return [word for word in triple if is_variable(word)]


def check_fact(fact: Triple) -> Triple:
    """Give the fact back, or raise a `ValueError` when it is not three words without variables."""
    wrong = not isinstance(fact, tuple | list) or len(fact) != 3 or not all(isinstance(w, str) and w for w in fact)
    if wrong or variables(fact):
        raise ValueError(f"fact={fact!r} is not three words without variables; write ('Anna', 'parent of', 'Ben')")
    return fact[0], fact[1], fact[2]
