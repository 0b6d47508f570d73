"""Forward chaining: limits, the fixpoint whatever the order, agreement with closures computed another way."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.rules.expert import forward_chain
from minillm.rules.rulebook import Rule, load_rules, parse_rules

FAMILY = [
    ("Ben", "mother", "Ada"),
    ("Ben", "father", "Gus"),
    ("Cleo", "mother", "Ada"),
    ("Ada", "lives by", "river"),
    ("Ada", "is a", "baker"),
    ("Gus", "is a", "teacher"),
    ("Cleo", "has", "goat"),
    ("Ben", "likes", "bread"),
    ("Dan", "likes", "bread"),
    ("Dan", "lives by", "bridge"),
    ("Eve", "is a", "baker"),
]
BEFORE = Rule(
    name="before", conditions=(("?x", "before", "?y"), ("?y", "before", "?z")), conclusion=("?x", "before", "?z")
)


# ---- limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["agenda", "naive"])
def test_without_facts_or_rules_nothing_follows(strategy):
    assert set(forward_chain([], load_rules(), strategy).given) == set(load_rules().facts)
    assert forward_chain([], [], strategy).facts == {}
    assert forward_chain(FAMILY, [], strategy).given == FAMILY
    assert forward_chain(FAMILY, [], strategy).derived == []


def test_a_variable_stands_for_the_same_thing_everywhere():
    rule = Rule(name="self", conditions=(("?x", "likes", "?x"),), conclusion=("?x", "is", "vain"))
    found = forward_chain([("a", "likes", "b"), ("c", "likes", "c")], [rule])
    assert found.derived == [("c", "is", "vain")]


def test_one_fact_may_meet_two_conditions():
    assert forward_chain([("a", "before", "a")], [BEFORE]).derived == []
    rule = Rule(name="r", conditions=(("?x", "p", "?y"), ("?x", "p", "?z")), conclusion=("?y", "q", "?z"))
    assert forward_chain([("a", "p", "b")], [rule]).derived == [("b", "q", "b")]


def test_is_not_means_different():
    rule = Rule(
        name="r", conditions=(("?x", "p", "?y"), ("?x", "is not", "?y")), conclusion=("?x", "differs from", "?y")
    )
    assert forward_chain([("a", "p", "a"), ("a", "p", "b")], [rule]).derived == [("a", "differs from", "b")]


# ---- invariances --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("strategy", ["agenda", "naive"])
def test_the_same_fixpoint_in_any_order(seed, strategy):
    rng, rules, facts = random.Random(seed), list(load_rules().rules), [*FAMILY, *load_rules().facts]
    rng.shuffle(rules)
    rng.shuffle(facts)
    assert set(forward_chain(facts, rules, strategy).facts) == set(forward_chain(FAMILY, load_rules()).facts)


def test_more_facts_never_take_a_conclusion_away():
    for cut in range(len(FAMILY)):
        assert set(forward_chain(FAMILY[:cut], load_rules()).facts) <= set(forward_chain(FAMILY, load_rules()).facts)


def test_the_fixpoint_is_fixed():
    once = forward_chain(FAMILY, load_rules())
    assert forward_chain(once.facts, load_rules()).derived == []


def test_a_fact_given_twice_is_one_fact():
    assert forward_chain(FAMILY * 3, load_rules()).facts.keys() == forward_chain(FAMILY, load_rules()).facts.keys()


def test_every_reason_was_known_before():
    found = forward_chain(FAMILY, load_rules())
    place = {fact: index for index, fact in enumerate(found.facts)}
    for fact in found.derived:
        rule, causes = found.facts[fact]
        assert len(causes) == len(rule.facts_needed) and all(place[cause] < place[fact] for cause in causes)
        assert all(c[1] == wanted[1] for c, wanted in zip(causes, rule.facts_needed, strict=True))


# ---- agreement ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=14))
def test_transitive_closure_agrees_with_warshall(edges):
    reach = {(a, b) for a, b in edges}
    for k, a, b in itertools.product(range(7), repeat=3):  # k outermost, as Warshall has it
        if (a, k) in reach and (k, b) in reach:
            reach.add((a, b))
    for strategy in ("agenda", "naive"):
        found = forward_chain([(str(a), "before", str(b)) for a, b in sorted(edges)], [BEFORE], strategy)
        assert {(int(a), int(b)) for a, _, b in found.facts} == reach


def test_the_agenda_is_cheaper_than_naive_rounds():
    chain = [(f"d{i:02}", "before", f"d{i + 1:02}") for i in range(30)]
    agenda, naive = (forward_chain(chain, [BEFORE], strategy) for strategy in ("agenda", "naive"))
    assert len(agenda.facts) == len(naive.facts) == 31 * 30 // 2
    assert agenda.attempts * 2 < naive.attempts


# ---- by hand ------------------------------------------------------------------------------------------------


def test_the_village_by_hand():
    found = forward_chain(FAMILY, load_rules())
    wanted = {
        "parent of": {("Ada", "Ben"), ("Gus", "Ben"), ("Ada", "Cleo")},
        "sibling of": {("Ben", "Cleo"), ("Cleo", "Ben")},
        "married to": {("Ada", "Gus"), ("Gus", "Ada")},
        "lives by": {("Ada", "river"), ("Ben", "river"), ("Cleo", "river"), ("Gus", "river"), ("Dan", "bridge")},
        "feeds": {("Ada", "goat")},
        "goes to": {("Ada", "bakery"), ("Eve", "bakery"), ("Gus", "school")},
        "colleague of": {("Ada", "Eve"), ("Eve", "Ada")},
        "pupil of": {("Ben", "Gus"), ("Cleo", "Gus")},
        "buys from": {("Ben", "Ada"), ("Ben", "Eve"), ("Dan", "Ada"), ("Dan", "Eve")},
        "friend of": {("Ben", "Dan"), ("Dan", "Ben")},
    }
    for relation, pairs in wanted.items():
        assert {(a, b) for a, r, b in found.facts if r == relation} == pairs, relation
    assert found.conflicts == []


def test_every_rule_of_the_village_can_fire():
    found = forward_chain(FAMILY, load_rules())
    assert {found.facts[fact][0].name for fact in found.derived} == {rule.name for rule in load_rules().rules}


def test_why_goes_down_to_what_was_given():
    assert forward_chain(FAMILY, load_rules()).why(("Cleo", "knows", "Ada")).startswith("Cleo knows Ada: not known")
    assert forward_chain(FAMILY, load_rules()).why(("Ben", "friend of", "Dan")) == "\n".join(
        [
            "Ben friend of Dan, by the rule friend",
            "  Ben neighbour of Dan, by the rule neighbour",
            "    Ben lives by river, by the rule children live with parents",
            "      Ada parent of Ben, by the rule parent",
            "        Ben child of Ada, by the rule child of a mother",
            "          Ben mother Ada, as given",
            "      Ada lives by river, as given",
            "    river is near bridge, as given",
            "    Dan lives by bridge, as given",
            "  Ben shares a taste with Dan, by the rule shared taste",
            "    Ben likes bread, as given",
            "    Dan likes bread, as given",
        ]
    )


def test_conflicts_are_named_in_pairs_and_spread():
    found = forward_chain([*FAMILY, ("Ben", "lives by", "sea")], load_rules())
    assert (("Ben", "lives by", "sea"), ("Ben", "lives by", "river")) in found.conflicts
    assert {first[0] for first, _ in found.conflicts} == {"Ada", "Ben", "Cleo", "Gus"}  # one lie, four false homes


def test_the_limit_names_the_rule():
    chain = [(str(i), "before", str(i + 1)) for i in range(50)]
    with pytest.raises(ValueError, match="rule before leads past limit=100"):
        forward_chain(chain, [BEFORE], limit=100)
    with pytest.raises(ValueError, match="50 facts were given and limit=10"):
        forward_chain(chain, [BEFORE], limit=10)


def test_a_long_chain_of_reasons_needs_no_recursion():
    step = Rule(
        name="step", conditions=(("?x", "reached", "yes"), ("?x", "next", "?y")), conclusion=("?y", "reached", "yes")
    )
    chain = [("0", "reached", "yes"), *((str(i), "next", str(i + 1)) for i in range(3000))]
    assert forward_chain(chain, [step]).why(("3000", "reached", "yes")).count("\n") == 6000


# ---- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("when ?x, p, ?y", "line 1: 'when' is not an instruction; a line starts with rule, if, then, fact or single"),
        ("rule", "rule needs more words"),
        ("if ?x, p, ?y", "if stands outside a rule; put a line such as 'rule child'"),
        ("rule r\nif ?x, p", r"line 2: '\?x, p' is not three parts with two commas; write: if \?x, parent of, \?y"),
        ("fact ?x, p, b", r"line 1: fact=.* is not three words without variables"),
        ("rule r\nif ?x, p, ?y\nfact a, p, b", r"line 3: rule r \(line 1\) has no conclusion yet"),
        ("rule r\nif ?x, p, ?y", "line 1: rule r has no conclusion"),
        ("rule r\nif ?x, p, ?y\nrule s", r"line 3: rule r \(line 1\) has no conclusion yet"),
        ("rule r\nthen ?x, p, ?y", "line 2: rule r: no condition asks for a fact"),
        (
            "rule r\nif ?x, p, ?y\nthen ?x, q, ?z",
            r"the conclusion uses \?z, which no condition binds; .* bind \?x, \?y",
        ),
        ("rule r\nif ?x, p, ?y\nif ?x, is not, ?z\nthen ?x, q, ?y", r"a condition uses \?z"),
        ("rule r\nif ?x, ?p, ?y\nthen ?x, q, ?y", "a relation is a fixed name"),
        ("rule r\nif ?x, p, ?y\nthen ?x, is not, ?y", "a relation is a fixed name other than 'is not'"),
        ("rule r\nif ?x, p, ?y\nthen ?x, q, ?y\nrule r", "line 4: rule r was given before"),
    ],
)
def test_a_bad_rule_names_the_line_and_what_works(text, said):
    with pytest.raises(ValueError, match=said):
        parse_rules(text)


@pytest.mark.parametrize("fact", [("a", "b"), "abc", ("a", "b", ""), ("?x", "likes", "b"), ("a", 1, "b"), None])
def test_a_bad_fact_is_named(fact):
    with pytest.raises(ValueError, match="is not three words without variables; write"):
        forward_chain([fact], [])


def test_a_bad_strategy_is_named():
    with pytest.raises(ValueError, match="use 'agenda' or 'naive'"):
        forward_chain([], [], strategy="magic")


def test_rule_files(tmp_path):
    assert len({rule.name for rule in load_rules().rules}) == 20
    with pytest.raises(ValueError, match="cannot be read"):
        load_rules(tmp_path / "missing.rules")
