"""The grammar engine: probabilities that sum to one, agreement, and the proof that derivations are unambiguous."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from minillm.text.grammar import Grammar, Kind
from minillm.text.grammar_templates import read_source
from minillm.text.unambiguous import ambiguity

KINDS = {
    "pet": Kind(
        {
            "en": {"": ["cat", "dog", "hen"], "s": ["cats", "dogs", "hens"]},
            "zh": {"": ["猫", "狗", "母鸡"], "s": ["猫", "狗", "母鸡"]},
            "tags": {"": ["cat", "dog", "hen"], "s": ["cats", "dogs", "hens"]},
        }
    ),
    "rare": Kind({"en": {"": ["often", "once"]}, "tags": {"": ["often", "once"]}}, (3.0, 1.0)),
}
SMALL = """
= one X=pet Y=pet *2
[n:A|Two|Nine] [n:{X}|{X.s}|{X.s}] [3*ran|swam [away|off|on]|] and [n:was|were|were] seen by a [big |]{Y}.
  [n:一|两|九]只{X}[跑了|游[走|开|来]了|来了]，被一只[大|小]{Y}看见了。

@mood=0
All were [happy|glad].
  大家都很[高兴|快活]。

@mood=1
Nobody [laughed|sang|came].
  谁也没[笑|唱|来]。

= two F=rare X=pet *1
The {X} came {F}[.|, and stayed.]
"""


def english(text=SMALL):
    return Grammar(read_source(text), KINDS)


def chinese():
    return Grammar(read_source(SMALL)[:1], KINDS)


def every_row(script):
    """All rows, without regard to which columns a text uses: the texts are what counts."""
    sizes = [range(len(column.probability_v)) for column in script.columns]
    for row in itertools.product(*sizes):
        if all(row[i] != row[rival] for i, column in enumerate(script.columns) for rival in column.rivals):
            yield row


def every_text(grammar, language="en"):
    return {script.spell(row, language) for script in grammar.scripts for row in every_row(script)}


@pytest.mark.parametrize(("grammar", "language"), [(english(), "en"), (chinese(), "en"), (chinese(), "zh")])
def test_probabilities_sum_to_one_and_texts_are_counted(grammar, language):
    texts = every_text(grammar, language)
    logprobs = np.array([grammar.logprob(text, language) for text in sorted(texts)])
    assert abs(np.exp(logprobs).sum() - 1) < 1e-9
    assert len(texts) == grammar.count()
    nats, characters = grammar.measure(language)
    assert math.isclose(nats, -(np.exp(logprobs) * logprobs).sum(), rel_tol=1e-12)
    lengths = np.array([len(text) for text in sorted(texts)])
    assert math.isclose(characters, (np.exp(logprobs) * lengths).sum(), rel_tol=1e-12)


def test_what_is_written_comes_as_often_as_its_probability_says():
    grammar = english()
    n = 40_000
    counted = Counter(grammar.write(n, 0, [7]))
    texts = sorted(every_text(grammar))
    expected = n * np.exp([grammar.logprob(text) for text in texts])
    assert expected.sum() == pytest.approx(n)
    observed = np.array([counted[text] for text in texts])
    chi_square = ((observed - expected) ** 2 / expected).sum()
    assert abs(chi_square - len(texts)) < 4 * math.sqrt(2 * len(texts))


def test_both_languages_have_the_same_choices():
    grammar = chinese()
    pairs = zip(grammar.write(50, 0, [3]), grammar.write(50, 0, [3], "zh"), strict=True)
    for text, translation in pairs:
        one, two = grammar.derivations(text)[0], grammar.derivations(translation, "zh")[0]
        assert one.row == two.row
        assert one.logprob == pytest.approx(two.logprob)


def test_agreement_and_different_members_hold():
    grammar = english()
    assert grammar.logprob("Two cats ran and were seen by a big dog. All were glad.") > -math.inf
    assert grammar.logprob("Two cats ran and was seen by a big dog. All were glad.") == -math.inf
    assert grammar.logprob("Two cats ran and were seen by a big cat. All were glad.") == -math.inf
    assert grammar.logprob("A cat  and was seen by a dog. Nobody came.") > -math.inf


def test_rows_do_not_depend_on_how_they_are_asked_for():
    grammar = english()
    long = grammar.write(5000, 0, [1, 2])  # more than one chunk
    assert grammar.write(7, 0, [1, 2]) == long[:7]
    assert grammar.write(11, 4090, [1, 2]) == long[4090:4101]
    assert grammar.write(7, 0, [1, 3]) != long[:7]


AMBIGUOUS = {
    "the same option twice": "= a\n[Go|Stay|Go].",
    "a border that can move": "= a\n[Go|Go on][ on|].",
    "a border two words on": "= a\n[The old|The] [old |]man sat.",
    "two scripts": "= a X=pet\nA {X}.\n\n= b X=pet\nA {X}.",
    "a member never named": "= a X=pet Y=pet\nThe {X} came.",
    "a member not named in one way": "= a X=pet Y=pet\nThe {X} came.\nThe {X} and the {Y} came.",
    "a member named in one branch": "= a X=pet Y=pet\nThe {X} came [mood:early|late].\n\n@mood=0\nThe {Y} too.",
    "a name that agrees with nothing": "= a\nThe end[n:.|.]",
    "two members of one kind, order lost": "= a X=pet Y=rare\n[{X} {Y}|cat once].",
}
UNAMBIGUOUS = {
    "one is the beginning of the other": "= a\n[Go|Go on].",
    "agreement keeps them apart": "= a\n[n:A|A big] dog [n:runs|ran].",
    "told apart at the end": "= a\n[A|The|][ big|] dog[.|!]",
    "different members": "= a X=pet Y=pet\nThe {X} saw the {Y}, and [the {X}|the {Y}] ran.",
    "a choice that comes late": "= a\nIt rained [mood:here|there].\n\n@mood=0\nGood.\n\n@mood=1\nBad.",
    "scripts that differ in the last letter": "= a X=pet\nA {X}.\n\n= b X=pet\nA {X}!",
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_ambiguity_is_found(case):
    assert ambiguity(english(AMBIGUOUS[case]))


@pytest.mark.parametrize("case", UNAMBIGUOUS)
def test_no_ambiguity_is_imagined(case):
    grammar = english(UNAMBIGUOUS[case])
    assert not ambiguity(grammar)
    texts = [script.spell(row) for script in grammar.scripts for row in every_row(script)]
    assert all(len(grammar.derivations(text)) == 1 for text in texts)


@pytest.mark.parametrize("seed", range(40))
def test_the_proof_agrees_with_trying_every_text(seed):
    """Random little grammars over few letters, most of them ambiguous: brute force must say the same."""
    draw = np.random.default_rng(seed)
    piece = lambda: "".join(draw.choice(["a", "b", "a b"], size=draw.integers(0, 3)))
    option = lambda: "|".join(piece() for _ in range(draw.integers(2, 4)))
    text = "= t X=pet\n" + "".join(
        [f"[{option()}]", "{X}", f"[n:{piece()}|{piece()}x]", f"[{option()}]", f"[n:c|{piece()}]", f"[{option()}]"]
    )
    grammar = english(text)
    by_brute_force = any(len(grammar.derivations(text)) > 1 for text in every_text(grammar))
    assert bool(ambiguity(grammar)) == by_brute_force


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("= a\n[Go|Stay.", "opens a \\["),
        ("= a\nGo|Stay.", "outside of"),
        ("= a\n[n:one|two] [n:is|are|am].", "'n' has 2 options"),
        ("= a\n[One|Two].\n  [一|二|三]。", "has 2 options"),
        ("= a\nOne.\nTwo.\n  一。", "2 English lines but 1 Chinese"),
        ("= a\n@mood\nOne.", "write @name=value"),
        ("= a F=rare G=rare\n{F} {G}", "a kind with weights allows one"),
    ],
)
def test_slips_in_a_template_are_named(text, says):
    with pytest.raises(ValueError, match=says):
        english(text)
