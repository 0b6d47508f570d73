"""Chapter 01's checks: right answers pass, and plausible wrong ones get the diagnosis that helps."""

import re

import pytest

from minillm.course.checks import NotWrittenYet, Wrong, check
from minillm.rules import eliza


def split(pattern, words, lengths=None, elements=None):
    """A right answer with a place to put mistakes."""
    elements = pattern.split() if elements is None else elements
    if not elements:
        return [] if not words else None
    first, rest = elements[0], elements[1:]
    sizes = range(len(words) + 1) if first == "0" else [int(first) if first.isdigit() else 1]
    for n in lengths(sizes, len(words)) if lengths else sizes:
        if n <= len(words) and (first.isdigit() or words[:n] == [first]):
            parts = split(pattern, words[n:], lengths, rest)
            if parts is not None:
                return [words[:n], *parts]
    return None


def prefix_only(pattern, words):
    """Forgets the end."""
    for end in range(len(words), -1, -1):
        parts = split(pattern, words[:end])
        if parts is not None:
            return parts
    return None


def short_slice(pattern, words):
    parts, at = [], 0
    if "0" in pattern.split():
        return split(pattern, words)
    for element in pattern.split():
        n = int(element) if element.isdigit() else 1
        part = words[at : at + n]
        if not element.isdigit() and part != [element]:
            return None
        parts.append(part)
        at += n
    return parts if at >= len(words) else None


def with_regex(pattern, words):
    one = {"0": r"((?:\S+ )*?)"}
    source = "".join(one.get(e, rf"((?:\S+ ){{{e}}})" if e.isdigit() else f"({e} )") for e in pattern.split())
    found = re.fullmatch(source, "".join(w + " " for w in words))
    return [part.split() for part in found.groups()] if found else None


def no_way_back(pattern, words):
    """A 0 stops at the first place where the next element fits, and never tries again."""
    parts, elements, at = [], pattern.split(), 0
    for i, element in enumerate(elements):
        if element == "0":
            end = at
            rest = elements[i + 1 :]
            while rest and end < len(words) and not (rest[0].isdigit() or words[end] == rest[0]):
                end += 1
            end = end if rest else len(words)
        else:
            end = at + (int(element) if element.isdigit() else 1)
            if end > len(words) or (not element.isdigit() and words[at] != element):
                return None
        parts.append(words[at:end])
        at = end
    return parts if at == len(words) else None


def eats_words(pattern, words):
    parts = split(pattern, list(words))
    words.clear()
    return parts


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda pattern, words: split(pattern, words, lambda sizes, n: list(sizes)[::-1]), "as few words as it can"),
        (
            lambda pattern, words: split(pattern, words, lambda s, n: [k for k in s if k] if len(s) > 1 else s),
            "no word",
        ),
        (prefix_only, "left over at the end"),
        (short_slice, "a slice of a list can be shorter"),
        (with_regex, r"regular expression"),
        (no_way_back, "try the next one|one word more"),
        (eats_words, "changed its argument number 2"),
        (
            lambda p, w: (parts := split(p, w)) and [" ".join(part) for part in parts],
            "each part must be a list of words",
        ),
        (
            lambda p, w: eliza.decompose(" ".join(c for e in p.split() for c in (e if e.isdigit() else [e])), w),
            "two digits",
        ),
        (lambda p, w: None, "0 stands for any number of words"),
        (lambda p, w: split(p, w) or False, "None|False"),
    ],
    ids=[
        "greedy",
        "one or more",
        "prefix",
        "slice",
        "regex",
        "no way back",
        "in place",
        "strings",
        "digits",
        "none",
        "false",
    ],
)
def test_decompose(answer, diagnosis):
    with pytest.raises(Wrong, match=diagnosis):
        check("01.decompose", answer)


def buggy(text, table):
    for old, new in table.items():
        text = text.replace(old, new)
    return text


def chained(text, table):
    for old, new in table.items():
        text = re.sub(rf"\b{old}\b", new, text)
    return text


def letters_once(text, table):
    return re.sub("|".join(sorted(table, key=len, reverse=True)), lambda m: table[m[0]], text) if text else ""


def only_first(text, table):
    words = text.split()
    for i, word in enumerate(words):
        if word in table:
            words[i] = table[word]
            break
    return " ".join(words)


def popping(text, table):
    return " ".join(table.pop(word) if word in table else word for word in text.split())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (buggy, "no word may be replaced twice"),
        (chained, "no word may be replaced twice"),
        (letters_once, "whole words, not letters"),
        (only_first, "every word, not only the first"),
        (lambda text, table: " ".join(table[word] for word in text.split()), "KeyError"),
        (lambda text, table: [table.get(word, word) for word in text.split()], "join the words"),
        (lambda text, table: " ".join({v: k for k, v in table.items()}.get(w, w) for w in text.split()), "are"),
        (popping, "KeyError|every word|changed its argument"),
        (lambda text, table: " ".join(table.get(w, w) for w in text.split()) + " ", "first difference|length"),
        (lambda text, table: print(text), "gave None"),
    ],
    ids=["replace", "chained", "letters", "first", "unknown", "list", "reversed", "pop", "blank", "print"],
)
def test_swap(answer, diagnosis):
    with pytest.raises(Wrong, match=diagnosis):
        check("01.swap", answer)


RULES = {
    "sibling": "if ?p, parent of, ?x\nif ?p, parent of, ?y\nif ?x, is not, ?y\nthen ?x, sibling of, ?y",
    "grandparent": "if ?x, parent of, ?y\nif ?y, parent of, ?z\nthen ?x, grandparent of, ?z",
    "aunt": "if ?x, sibling of, ?y\nif ?y, parent of, ?z\nthen ?x, aunt or uncle of, ?z",
    "cousin": "if ?x, aunt or uncle of, ?z\nif ?x, parent of, ?y\nthen ?y, cousin of, ?z",
}


def rules(**changes):
    chosen = {**RULES, **changes}
    return lambda: "\n".join(f"rule {name}\n{text}" for name, text in chosen.items() if text)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (rules(sibling=RULES["sibling"].replace("if ?x, is not, ?y\n", "")), "sibling of .*\n.*a line with `is not`"),
        (rules(grandparent=RULES["grandparent"].replace("then ?x, grandparent of, ?z", "then ?z, grandparent of, ?x")),
         "wrong way round"),
        (rules(cousin=RULES["cousin"].replace("then ?y", "then ?x")), "child of a parent's sibling"),
        (rules(cousin=""), "no rule concludes 'cousin of'"),
        (rules(aunt=RULES["aunt"].replace("aunt or uncle", "aunt")), "no rule concludes 'aunt or uncle of'"),
        (rules(aunt=RULES["aunt"].replace("?z\nthen", "z\nthen")), r"the conclusion uses \?z"),
        (rules(aunt=RULES["aunt"].replace("sibling of", "siblings of")), "do not find .* aunt or uncle of"),
        (rules(grandparent=RULES["grandparent"].replace("parent of, ?y", "parent of ?y")), "three parts"),
        (rules(extra="if ?x, sibling of, ?y\nif ?p, parent of, ?x\nthen ?y, parent of, ?p"), "invent"),
        (rules(far="if ?x, grandparent of, ?y\nif ?y, parent of, ?z\nthen ?x, grandparent of, ?z"), "is not so"),
        (lambda: "fact Ada, grandparent of, Dan", "holds no rule"),
        (lambda: RULES, "wanted str"),
    ],
    ids=["self", "order", "variable", "missing", "name", "unbound", "typo", "comma", "invents", "far", "facts", "dict"],
)  # fmt: skip
def test_kinship(answer, diagnosis):
    with pytest.raises(Wrong, match=diagnosis):
        check("01.kinship", answer)


SCRIPT = """
swap i -> you
swap my -> your
key my 2
  match 0 your 1 0
    say Your {3}, you say?
    say And then, with the {3}?
key the 1
  match 0 the 1 0
    say Which {3}?
    say The {3}?
key a
  match 0 a 1 0
    say Why a {3}?
    say A {3}, today?
none
  say Go on.
"""
MANY = "".join(f"key k{i}\n match 0\n  say K.\n" for i in range(15))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda: "none\n  say Go on.\n  say I see.", "0 of 48 messages"),
        (
            lambda: SCRIPT.replace("swap my -> your\n", "").replace("your 1", "my 1").replace("Your {3}", "My {3}"),
            "swap my -> your",
        ),
        (lambda: re.sub(r"\n    say (And then|The|A) [^\n]*", "", SCRIPT), "say: they take turns"),
        (lambda: SCRIPT + MANY, "19 patterns and may have 15"),
        (lambda: SCRIPT.replace("{3}", "{5}"), "the pattern has 4 parts"),
        (lambda: SCRIPT.replace("key a\n", "kye a\n"), "'kye' is not an instruction"),
        (lambda: SCRIPT.replace("none\n  say Go on.", ""), "no 'none' block"),
        (lambda: SCRIPT.replace("Which {3}?", "?"), "empty reply"),
        (lambda: SCRIPT.replace("0 the 1 0", "the 1 0"), "of 48 messages"),
        (lambda: None, "gave None"),
    ],
    ids=["nothing", "no swap", "one reply", "too many", "part", "typo", "none", "empty", "anchored", "no return"],
)
def test_my_script(answer, diagnosis):
    with pytest.raises(Wrong, match=diagnosis):
        for _ in range(3):  # the messages are new each time
            check("01.my_script", answer)


def test_right_answers_pass(capsys):
    check("01.decompose", split)
    check("01.decompose", eliza.decompose)
    check("01.swap", lambda text, table: " ".join(table.get(word, word) for word in text.split()))
    check("01.kinship", rules())
    check("01.my_script", lambda: SCRIPT)
    names = ["decompose", "decompose", "swap", "kinship", "my_script"]
    assert capsys.readouterr().out.splitlines() == [f"01.{name}: correct" for name in names]


@pytest.mark.parametrize("name", ["decompose", "swap", "kinship", "my_script"])
def test_stubs_are_not_written_yet(name):
    def stub(*arguments):
        raise NotImplementedError

    with pytest.raises(NotWrittenYet):
        check(f"01.{name}", stub)
