"""Checks of chapter 01: patterns, the exchange of persons, rules of kinship, and a script of the learner's own.

Next:    minillm/course/widgets_02.py
"""

import random
import string
from collections.abc import Callable

from minillm.course.checks import Wrong, call, expect, expect_equal, expect_inputs_kept, expect_type
from minillm.rules import eliza
from minillm.rules.eliza import Eliza
from minillm.rules.expert import forward_chain
from minillm.rules.rulebook import parse_rules
from minillm.rules.script import parse_script

PARTS = 15  # how many patterns a learner's script may have
SHARE = 0.7  # of the messages whose reply must take something up


def decompose(answer: Callable[[str, list[str]], list[list[str]] | None]) -> None:
    """`decompose(pattern, words)`: one part for each element, or None; 0 takes as few words as it can."""
    cases = [
        ("0", "a b", [["a", "b"]], "0 stands for any number of words, and here it must take them all"),
        ("0", "", [[]], "0 may also stand for no word at all: one empty part"),
        ("you 2", "you like it", [["you"], ["like", "it"]], "2 stands for exactly two words, in one part"),
        ("you 1", "you like it", None, "words are left over at the end, so the pattern does not fit"),
        ("you 2", "you like", None, "2 needs two words; a slice of a list can be shorter than you asked for"),
        ("you like", "you hate", None, "a word in the pattern must stand there in the sentence"),
        ("0 you 0", "you go", [[], ["you"], ["go"]], "the first 0 takes no word here"),
        ("0 a 0", "x a y a", [["x"], ["a"], ["y", "a"]], "a 0 takes as few words as it can, from the left"),
        ("0 a", "x a y a", [["x", "a", "y"], ["a"]], "the first place for `a` is not the end: try the next one"),
        ("0 1 b", "a b b", [["a"], ["b"], ["b"]], "when the rest does not fit, the 0 must try one word more"),
        ("0 c++ 0", "i like c++ best", [["i", "like"], ["c++"], ["best"]], "a regular expression reads + as a sign"),
        ("0 . 0", "a b", None, "the word `.` in a pattern is a word; a regular expression would read it as any letter"),
        ("12", " ".join("abcdefghijkl"), [list("abcdefghijkl")], "a number may have two digits"),
    ]
    for pattern, text, wanted, hint in cases:
        got = call(answer, pattern, text.split())
        what = f"decompose({pattern!r}, {text.split()!r})"
        if isinstance(got, list) and any(isinstance(part, str) for part in got):
            raise Wrong(
                f"{what} gave {got}; each part must be a list of words", hint="also a part of one word: ['you']"
            )
        if (got is None) != (wanted is None):
            raise Wrong(f"{what} gave {got}, wanted {wanted}", hint)
        expect_equal(_plain(got), wanted, what, hint)
    expect_inputs_kept(answer, "0 you 1", ["i", "see", "you", "there"], hint="`pop` and `del` change the caller's list")
    chance = random.Random()
    for _ in range(300):
        pattern = " ".join(chance.choices(["0", "0", "1", "2", "a", "b"], k=chance.randint(1, 5)))
        words = chance.choices("abc", k=chance.randint(0, 7))
        hint = "go through the smallest cases by hand: which lengths does each 0 try, in which order?"
        got = _plain(call(answer, pattern, words))
        expect_equal(got, eliza.decompose(pattern, words), f"decompose({pattern!r}, {words!r})", hint)


def _plain(parts: object) -> object:
    return [list(part) for part in parts] if isinstance(parts, list | tuple) else parts


def swap(answer: Callable[[str, dict[str, str]], str]) -> None:
    """`swap(text, table)`: exchange whole words, each one once."""
    table = {"i": "you", "you": "i", "my": "your", "your": "my", "am": "are"}
    got = call(answer, "we go", table)
    expect_type(got, str, "swap('we go', …)", hint="" if got is None else "join the words to one text again")
    cases = [
        ("we go", "we go", "a word that is not in the table stays as it is"),
        ("so am we", "so are we", "the table leads from the word that is there to the word that replaces it"),
        ("am we or am they", "are we or are they", "every word, not only the first"),
        ("i see you", "you see i", "you becomes i, and i becomes you: no word may be replaced twice"),
        ("think", "think", "`i` also stands inside `think`: replace whole words, not letters"),
        ("i like his ship in my family", "you like his ship in your family", "replace whole words, not letters"),
        ("my dog and my cat", "your dog and your cat", "every word, not only the first"),
        ("i am", "you are", "all words of the table, not only the first that fits"),
        ("", "", "a text without words stays empty"),
    ]
    for text, wanted, hint in cases:
        expect_equal(call(answer, text, table), wanted, f"swap({text!r}, …)", hint)
    chance = random.Random()
    for _ in range(50):
        words = ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(1, 3))) for _ in range(12)]
        names = list(dict.fromkeys(words))
        pairs = dict(zip(names[0:6:2], names[1:6:2], strict=True))
        both = {**pairs, **{new: old for old, new in pairs.items()}}
        text = " ".join(chance.choices(words, k=9))
        once = call(answer, text, both)
        expect_equal(
            once, " ".join(both.get(w, w) for w in text.split()), f"swap({text!r}, {both})", "each word, looked up once"
        )
        expect_equal(
            call(answer, once, both), text, f"swapping {text!r} twice", "there and back must be where it began"
        )
        turned = dict(reversed(both.items()))
        expect_equal(call(answer, text, turned), once, "swap with the table turned round", "its order must not matter")
    expect_inputs_kept(answer, "i see you", table, hint="do not change the table")


KINSHIP = {
    "sibling of": "children of one parent, who are not the same person",
    "grandparent of": "the parent of a parent",
    "aunt or uncle of": "a sibling of a parent",
    "cousin of": "the child of a parent's sibling",
}


def kinship(answer: Callable[[], str]) -> None:
    """`kinship()`: the text of rules that find four relations from `parent of` alone."""
    text = call(answer)
    expect_type(text, str, "kinship()", hint="return the rules as one text in triple quotes")
    try:
        book = parse_rules(text, name="kinship()")
    except ValueError as error:
        raise Wrong(
            str(error), hint="write a line rule, lines if, one line then; each has three parts and two commas"
        ) from None
    expect(book.rules, "kinship() holds no rule", hint="begin with: rule grandparent")
    made = {rule.conclusion[1] for rule in book.rules}
    for relation, meaning in KINSHIP.items():
        expect(
            relation in made, f"no rule concludes {relation!r}", hint=f"it is {meaning}; spell the relation exactly so"
        )
    _compare(book, [("Ada", "Ben"), ("Ada", "Cleo"), ("Ben", "Dan"), ("Ben", "Dora"), ("Cleo", "Eve"), ("Eve", "Finn")])
    chance = random.Random()
    for _ in range(20):
        names = ["".join(chance.choices(string.ascii_uppercase, k=4)) for _ in range(14)]
        pairs = [(names[parent], names[child]) for child in range(3, 14) for parent in chance.sample(range(child), 2)]
        _compare(book, chance.sample(pairs, 12))


def _compare(book, pairs: list[tuple[str, str]]) -> None:
    facts = [(parent, "parent of", child) for parent, child in pairs]
    try:
        found = set(forward_chain(facts, book, limit=20_000).facts)
    except ValueError as error:
        raise Wrong(str(error), hint="a relation that follows from itself may run through everybody") from None
    told = f"with {', '.join(f'{a} parent of {b}' for a, b in pairs[:6])}{' …' * (len(pairs) > 6)}"
    invented = {(a, b) for a, r, b in found if r == "parent of"} - set(pairs)
    expect(not invented, f"{told}: your rules invent {next(iter(invented), '')} as parent and child",
           hint="no rule may conclude `parent of`")  # fmt: skip
    for relation, wanted in _relations(pairs).items():
        got = {(a, b) for a, r, b in found if r == relation}
        selves = sorted(a for a, b in got - wanted if a == b)
        if selves:
            raise Wrong(f"{told}: your rules find {selves[0]} {relation} {selves[0]}",
                        hint="two variables may stand for the same person: add a line with `is not`")  # fmt: skip
        for a, b in sorted(got - wanted):
            turned = (b, a) in wanted
            hint = "it is the wrong way round: look at the order in the line with then" if turned else KINSHIP[relation]
            raise Wrong(f"{told}: your rules find {a} {relation} {b}, which is not so", hint)
        for a, b in sorted(wanted - got):
            raise Wrong(f"{told}: your rules do not find {a} {relation} {b}", hint=f"it is {KINSHIP[relation]}")


def _relations(pairs: list[tuple[str, str]]) -> dict[str, set[tuple[str, str]]]:
    parent = set(pairs)
    sibling = {(a, b) for p, a in parent for q, b in parent if p == q and a != b}
    aunt = {(a, c) for a, b in sibling for p, c in parent if p == b}
    return {
        "sibling of": sibling,
        "grandparent of": {(a, d) for a, b in parent for c, d in parent if b == c},
        "aunt or uncle of": aunt,
        "cousin of": {(c, d) for a, d in aunt for p, c in parent if p == a},
    }


FRAMES = (
    "I lost my {}.", "My sister sold the {}.", "I am afraid of the {}.", "You never liked my {}.", "I remember the {}.",
    "I dream of a {}.", "Nobody wants my {}.", "Why did the {} break?", "I want a {}.", "I think that the {} is old.",
    "Everybody laughs at my {}.", "My {} is gone.",
)  # fmt: skip
THINGS = (
    "lamp",
    "boat",
    "wheel",
    "kettle",
    "ladder",
    "apron",
    "barrel",
    "violin",
    "window",
    "basket",
    "garden",
    "bell",
)


def my_script(answer: Callable[[], str]) -> None:
    """`my_script()`: a script that takes up a word of most messages, in the right person, without repeating itself."""
    text = call(answer)
    expect_type(text, str, "my_script()", hint="return the script as one text in triple quotes")
    try:
        script = parse_script(text, name="my_script()")
    except ValueError as error:
        raise Wrong(str(error), hint="the small script in the chapter shows the form of every line") from None
    expect(script.size <= PARTS, f"the script has {script.size} patterns and may have {PARTS}",
           hint="0 at both ends makes a pattern fit many sentences; none counts as one")  # fmt: skip
    chance = random.Random()
    messages = [(frame.format(thing), thing) for frame in FRAMES for thing in chance.sample(THINGS, 4)]
    taken, needed, missed = 0, round(SHARE * len(messages)), ""
    for message, thing in messages:
        reply = Eliza(script).reply(message)
        said = {word.casefold() for clause in eliza.clauses(reply) for word in clause}
        expect(said, f"{message!r} got an empty reply", hint="a reply needs words besides its parts")
        if "my" in message.casefold().split() and "my" in said:
            raise Wrong(f"{message!r} got {reply!r}, which speaks of the listener's own {thing}",
                        hint="add a line: swap my -> your")  # fmt: skip
        taken += thing in said
        missed = missed or (f"{message!r} got {reply!r}" if thing not in said else "")
    if taken < needed:
        problem = f"the replies take up the thing spoken of in {taken} of {len(messages)} messages, wanted {needed}"
        hint = "find the words that many messages share, make them keywords, and say a part back"
        raise Wrong(f"{problem}; for example {missed}", hint)
    same = sum(listener.reply(m) == listener.reply(m) for m, _ in messages for listener in [Eliza(script)])
    problem = f"sent twice, {same} of {len(messages)} messages get the same reply again"
    expect(same < len(messages) / 2, problem, hint="give each pattern two lines with say: they take turns")
