"""An expert system: facts, rules that make new facts, and an answer to "why?".

    facts, rules -> match every rule with every fact -> new facts -> again, until nothing new follows: the fixpoint

Rules only add, so the order of rules and facts changes nothing in the end, only the way there. Rules cannot invent
names, so the end always comes.

Paper:   Buchanan & Shortliffe (eds.) 1984, "Rule-Based Expert Systems: The MYCIN Experiments" (rules and explanations);
         Bancilhon & Ramakrishnan 1986, "An Amateur's Introduction to Recursive Query Processing Strategies",
         SIGMOD (naive and semi-naive evaluation).
Names:   naive = all rules on all facts in every round; agenda = each new fact is joined once with what came before it.
Differs: MYCIN reasons backwards from a question and weighs rules with certainty factors; ours are plain and forward.
         No negation: with "not", a conclusion could be taken back and the order of rules would matter.
Next:    minillm/statistical/information.py
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from minillm.rules.rulebook import Rule, Rulebook, Triple, check_fact, is_variable


@dataclass(slots=True)
class Conclusions:
    """All facts, and for each derived one the rule and the facts that it came from first."""

    facts: dict[Triple, tuple[Rule, tuple[Triple, ...]] | None] = field(default_factory=dict)  # None: it was given
    single: frozenset[str] = frozenset()
    attempts: int = 0  # how often a condition was compared with a fact: the cost

    @property
    def given(self) -> list[Triple]:
        """The facts that were put in."""
        return [fact for fact, reason in self.facts.items() if reason is None]

    @property
    def derived(self) -> list[Triple]:
        """The facts that rules added."""
        return [fact for fact, reason in self.facts.items() if reason is not None]

    @property
    def conflicts(self) -> list[tuple[Triple, Triple]]:
        """Pairs of facts that cannot both be true, because the relation allows one object for a subject."""
        first: dict[tuple[str, str], Triple] = {}
        pairs = []
        for fact in self.facts:
            if fact[1] in self.single and (earlier := first.setdefault(fact[:2], fact)) != fact:
                pairs.append((earlier, fact))
        return pairs

    def why(self, fact: Triple) -> str:
        """The explanation of a fact down to what was given, as indented text.

        >>> rule = Rule(name="child", conditions=(("?x", "parent of", "?y"),), conclusion=("?y", "child of", "?x"))
        >>> print(forward_chain([("Anna", "parent of", "Ben")], [rule]).why(("Ben", "child of", "Anna")))
        Ben child of Anna, by the rule child
          Anna parent of Ben, as given
        """
        if fact not in self.facts:
            return f"{' '.join(fact)}: not known, and no rule leads to it"
        lines: list[str] = []
        todo = [(fact, 0)]
        while todo:  # a stack, not recursion: a chain of reasons may be long
            fact, depth = todo.pop()
            reason = self.facts[fact]
            lines.append(
                "  " * depth + " ".join(fact) + (f", by the rule {reason[0].name}" if reason else ", as given")
            )
            todo += [(cause, depth + 1) for cause in reversed(reason[1])] if reason else []
        return "\n".join(lines)


def forward_chain(
    facts: Iterable[Triple], rules: Rulebook | Iterable[Rule], strategy: str = "agenda", limit: int = 200_000
) -> Conclusions:
    """Apply the rules until nothing new follows.

    Rules cannot invent names, so this always ends; `limit` stops it (with a `ValueError` that names the rule) when
    the facts become too many to be useful. `strategy` is "agenda" or "naive": the same facts, another cost.

    >>> rule = Rule(name="before", conditions=(("?x", "before", "?y"), ("?y", "before", "?z")),
    ...             conclusion=("?x", "before", "?z"))
    >>> days = ["Mon", "Tue", "Wed", "Thu"]
    >>> week = forward_chain([(a, "before", b) for a, b in zip(days, days[1:])], [rule])
    >>> week.derived
    [('Mon', 'before', 'Wed'), ('Tue', 'before', 'Thu'), ('Mon', 'before', 'Thu')]
    """
    if strategy not in ("agenda", "naive"):
        raise ValueError(f"strategy={strategy!r} is unknown; use 'agenda' or 'naive'")
    book = rules if isinstance(rules, Rulebook) else Rulebook(rules=tuple(rules))
    known = Conclusions(single=book.single)
    for fact in (*facts, *book.facts):
        known.facts[check_fact(fact)] = None
    if len(known.facts) > limit:
        raise ValueError(f"{len(known.facts)} facts were given and limit={limit}; give fewer facts or a higher limit")

    def add(rule: Rule, binding: Mapping[str, str], causes: tuple[Triple, ...]) -> Triple | None:
        fact = _fill(rule.conclusion, binding)
        if fact in known.facts:
            return None  # the guard against loops: a fact is added once
        if len(known.facts) >= limit:
            raise ValueError(f"rule {rule.name} leads past limit={limit} facts (here {' '.join(fact)}); "
                             f"narrow its conditions or raise the limit")  # fmt: skip
        known.facts[fact] = (rule, causes)
        return fact

    (_naive if strategy == "naive" else _agenda)(book.rules, known, add)
    return known


class _Shelf:
    """Facts in the order of arrival, found by relation, or by relation and subject or object."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, str, str], list[Triple]] = defaultdict(list)

    def put(self, fact: Triple) -> None:
        subject, relation, other = fact
        for key in ((relation, "", ""), (relation, "subject", subject), (relation, "object", other)):
            self.places[key].append(fact)

    def candidates(self, condition: Triple, binding: Mapping[str, str]) -> list[Triple]:
        """The shortest list that holds every fact that could meet the condition."""
        subject, relation, other = _fill(condition, binding)
        keys = [(relation, "", "")]
        keys += [(relation, "subject", subject)] * (not is_variable(subject))
        keys += [(relation, "object", other)] * (not is_variable(other))
        return min((self.places.get(key, []) for key in keys), key=len)


Add = Callable[[Rule, Mapping[str, str], tuple[Triple, ...]], Triple | None]


def _naive(rules: tuple[Rule, ...], known: Conclusions, add: Add) -> None:
    """Round after round over everything, until a round adds nothing."""
    grew = True
    while grew:
        shelf = _Shelf()
        for fact in known.facts:
            shelf.put(fact)
        found = [(rule, *match) for rule in rules for match in _join(rule.facts_needed, rule, {}, shelf, known)]
        grew = any([add(*match) is not None for match in found])  # a list: every match must be added


def _agenda(rules: tuple[Rule, ...], known: Conclusions, add: Add) -> None:
    """Take one fact after another; join it, in each place where it fits, with the facts taken before it."""
    shelf = _Shelf()
    agenda = deque(known.facts)
    wanting: dict[str, list[tuple[Rule, int]]] = defaultdict(list)
    for rule in rules:
        for place, condition in enumerate(rule.facts_needed):
            wanting[condition[1]].append((rule, place))
    while agenda:
        fact = agenda.popleft()
        shelf.put(fact)
        for rule, place in wanting[fact[1]]:
            known.attempts += 1
            binding = _unify(rule.facts_needed[place], fact, {})
            if binding is None:
                continue
            rest = rule.facts_needed[:place] + rule.facts_needed[place + 1 :]
            for full, others in _join(rest, rule, binding, shelf, known):
                new = add(rule, full, (*others[:place], fact, *others[place:]))
                if new is not None:
                    agenda.append(new)


def _join(
    conditions: tuple[Triple, ...],
    rule: Rule,
    binding: dict[str, str],
    shelf: _Shelf,
    known: Conclusions,
) -> Iterator[tuple[dict[str, str], tuple[Triple, ...]]]:
    """Every way to meet the conditions: (what the variables stand for, the facts used)."""
    if not conditions:
        if all(_fill(test, binding)[0] != _fill(test, binding)[2] for test in rule.tests):
            yield binding, ()
        return
    for fact in shelf.candidates(conditions[0], binding):
        known.attempts += 1
        bound = _unify(conditions[0], fact, binding)
        if bound is not None:
            for full, others in _join(conditions[1:], rule, bound, shelf, known):
                yield full, (fact, *others)


def _unify(condition: Triple, fact: Triple, binding: Mapping[str, str]) -> dict[str, str] | None:
    """The binding that makes the condition equal to the fact, or None."""
    bound = dict(binding)
    for wanted, there in zip(condition, fact, strict=True):
        if (bound.setdefault(wanted, there) if is_variable(wanted) else wanted) != there:
            return None
    return bound


def _fill(triple: Triple, binding: Mapping[str, str]) -> Triple:
    first, relation, second = triple
    return binding.get(first, first), relation, binding.get(second, second)
