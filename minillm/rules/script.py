"""A script for Eliza: the rules are text, so that a person who cannot program can write them.

    key my 2                        a keyword and its rank: the highest rank in a sentence speaks first
      match 0 your 0 /family 0      a pattern: 0 is any number of words, 3 is exactly three, /family is a class
        say Who else is in {4}?     a reply: {4} is the fourth part of what the pattern matched

Weizenbaum's point was that the program knows nothing: all that it seems to know stands in the script, and
another script makes another person. A line is one instruction; indentation is for the eye only.

Paper:   Weizenbaum 1966, "ELIZA: A Computer Program for the Study of Natural Language Communication Between
         Man and Machine", Communications of the ACM 9(1), pp. 36-45: the description of scripts.
Names:   key = keyword with its rank (precedence); match = decomposition rule; say = reassembly rule; goto = (=KEYWORD);
         next = NEWKEY; rewrite … => key = PRE; class = DLIST tag; swap = the substitution part of a keyword.
Differs: lines in place of nested lists; {4} in place of a bare 4; one table of swaps for all keywords; every error
         names the line, what stands there, and what works. The words of our script are our own.
Next:    minillm/rules/eliza.py
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Pattern = tuple[int | frozenset[str], ...]
"""Elements of a pattern: 0 = any number of words, n = exactly n words, a set = one word out of it."""

BUILT_IN = Path(__file__).parent / "data" / "listener.script"
MAX_BYTES = 1_000_000
COMMANDS = {
    "hello": "hello Come in and sit down.",
    "swap": "swap i -> you",
    "class": "class family: mother father",
    "key": "key remember 5",
    "match": "match 0 you remember 0",
    "say": "say Why do you think of {4}?",
    "goto": "goto remember",
    "next": "next",
    "rewrite": "rewrite you want {4} => want",
    "memory": "memory my",
    "none": "none",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """What a rule does once its pattern has matched: say something, or hand the sentence on."""

    kind: str  # "say", "goto", "next" or "rewrite"
    text: str = ""  # the words to say, or the rewritten sentence
    target: str = ""  # the keyword that goto and rewrite hand on to

    def __str__(self) -> str:
        return f"{self.kind} {' => '.join(filter(None, (self.text, self.target)))}".rstrip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A pattern and its actions; the actions take turns."""

    source: str  # the pattern as it stands in the script
    pattern: Pattern
    actions: tuple[Action, ...]
    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """Everything that Eliza knows.

    Raises `ValueError` from `parse_script` and `load_script`, never later: a script that loads can always answer.
    """

    hello: str
    swaps: Mapping[str, tuple[str, ...]]  # word -> the words that replace it
    ranks: Mapping[str, int]  # keyword -> rank
    rules: Mapping[str, tuple[Rule, ...]]  # keyword -> its rules, tried in order
    memory: Mapping[str, tuple[Rule, ...]]  # keyword -> rules whose replies are kept for later
    none: Rule  # what to say when nothing else applies

    @property
    def size(self) -> int:
        """How many patterns the script has: the number of rules that somebody had to write."""
        return sum(map(len, self.rules.values())) + sum(map(len, self.memory.values())) + 1


def load_script(path: str | Path = BUILT_IN) -> Script:
    """Read a script file (UTF-8, at most 1 MB); without a path, the village listener that minillm brings.

    >>> load_script().hello
    'Come in, the kettle is on. What happened today?'
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"path={str(path)!r} cannot be read ({error.strerror}); give the path of a text file"
        ) from None
    if len(raw) > MAX_BYTES:
        raise ValueError(f"path={str(path)!r} has {len(raw)} bytes; a script has at most {MAX_BYTES}")
    try:
        return parse_script(raw.decode("utf-8-sig"), name=path.name)
    except UnicodeDecodeError as error:
        raise ValueError(f"path={str(path)!r} is not UTF-8 at byte {error.start}; save it as UTF-8") from None


def parse_script(text: str, name: str = "script") -> Script:
    """Turn the text of a script into a `Script`, or raise a `ValueError` that names the line, the rule and what works.

    >>> script = parse_script('''
    ... key rain
    ...   match 0 rain 0
    ...     say Rain again?
    ... none
    ...   say Go on.
    ... ''')
    >>> script.ranks, script.size
    ({'rain': 0}, 2)
    """
    return _Parser(name=name).parse(text)


def parse_pattern(source: str, classes: Mapping[str, frozenset[str]] | None = None) -> Pattern:
    """Read a pattern such as `0 you (like love) 0`: a number, a word, a choice in brackets, or /class.

    >>> parse_pattern("0 you (hate loathe) 2") == (0, frozenset({"you"}), frozenset({"hate", "loathe"}), 2)
    True
    """
    classes = classes or {}
    elements: list[int | frozenset[str]] = []
    for element in re.findall(r"\([^()]*\)|[^\s()]+|[()]", source.casefold()):
        if element.isdecimal():
            elements.append(int(element))
        elif element.startswith("/"):
            if element[1:] not in classes:
                raise ValueError(f"{element} is not a class; classes are: {_some(classes)}")
            elements.append(classes[element[1:]])
        elif element.startswith("(") and element[1:-1].split():
            elements.append(frozenset(element[1:-1].split()))
        elif "(" in element or ")" in element:
            raise ValueError("its brackets do not close around at least one word; write (like love)")
        else:
            elements.append(frozenset({element}))
    if not elements:
        raise ValueError("it is empty; the pattern that fits every sentence is 0")
    return tuple(elements)


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:8]) or "none yet"


@dataclass(slots=True)
class _Parser:
    """One pass over the lines for the blocks, then one check that every name they mention exists."""

    name: str
    hello: str = "Hello."
    swaps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    classes: dict[str, frozenset[str]] = field(default_factory=dict)
    blocks: dict[tuple[str, str], list[tuple[int, str, list[tuple[int, str, str]]]]] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    first_line: dict[tuple[str, str], int] = field(default_factory=dict)
    line: int = 0
    at: str = ""  # which keyword and rule an error belongs to

    def parse(self, text: str) -> Script:
        block: tuple[str, str] | None = None
        for self.line, raw in enumerate(text.splitlines(), start=1):
            command, _, rest = raw.partition("#")[0].strip().partition(" ")
            rest = rest.strip()
            if not command:
                continue
            self.at = raw.strip()
            if command not in COMMANDS:
                raise self.wrong(f"{command!r} is not an instruction; a line starts with one of {', '.join(COMMANDS)}")
            if not rest and command not in ("none", "next"):
                raise self.wrong(f"{command} needs more words, for example: {COMMANDS[command]}")
            if command in ("key", "memory", "none"):
                block = self.open_block(command, rest)
            elif command in ("hello", "swap", "class"):
                self.declare(command, rest)
            elif block is None:
                raise self.wrong(f"{command} stands outside a block; put a line such as '{COMMANDS['key']}' before it")
            elif command == "match":
                self.blocks[block].append((self.line, rest, []))
            elif not self.blocks[block]:
                raise self.wrong(
                    f"{command} comes before any pattern; put a line such as '{COMMANDS['match']}' before it"
                )
            else:
                self.blocks[block][-1][2].append((self.line, command, rest))
        return self.finish()

    def declare(self, command: str, rest: str) -> None:
        if command == "hello":
            self.hello = rest
            return
        mark = "->" if command == "swap" else ":"
        left, _, right = (side.strip() for side in rest.partition(mark))
        left = left.casefold()
        if len(left.split()) != 1 or not right:
            raise self.wrong(f"{command} needs one word, {mark!r} and at least one word; write: {COMMANDS[command]}")
        if left in (self.swaps if command == "swap" else self.classes):
            raise self.wrong(f"{command} {left} was given before; keep one of the two lines")
        if command == "swap":
            self.swaps[left] = tuple(right.split())
        else:
            self.classes[left] = frozenset(right.casefold().split())

    def open_block(self, command: str, rest: str) -> tuple[str, str]:
        word, *rank = rest.casefold().split() or [""]
        if command == "none" and rest:
            raise self.wrong("none stands alone on its line")
        if rank and (command != "key" or len(rank) > 1 or not rank[0].isdecimal()):
            raise self.wrong(f"after {command} comes one word{' and a whole number' * (command == 'key')}; "
                             f"write: {COMMANDS[command]}")  # fmt: skip
        block = (command, word)
        if block in self.blocks:
            raise self.wrong(f"{command} {word} was opened on line {self.first_line[block]}; put its rules there")
        self.blocks[block], self.first_line[block] = [], self.line
        if command == "key":
            self.ranks[word] = int(rank[0]) if rank else 0
        elif command == "none":
            self.blocks[block].append((self.line, "0", []))  # it fits every sentence
        return block

    def finish(self) -> Script:
        rules = {block: tuple(self.rule(block, *parts) for parts in found) for block, found in self.blocks.items()}
        for block, found in rules.items():
            if not found:
                self.line, self.at = self.first_line[block], " ".join(block)
                raise self.wrong(f"it has no pattern; add a line such as '{COMMANDS['match']}'")
        for word in [word for command, word in rules if command == "memory" and word not in self.ranks]:
            self.line, self.at = self.first_line["memory", word], f"memory {word}"
            raise self.wrong(f"memory needs a keyword of the same name; keywords are: {_some(self.ranks)}")
        if ("none", "") not in rules:
            self.at = "the end of the script"
            raise self.wrong("there is no 'none' block for sentences that fit no rule; add: none, then: say Go on.")
        kinds = {kind: {word: found for (command, word), found in rules.items() if command == kind}
                 for kind in ("key", "memory")}  # fmt: skip
        return Script(hello=self.hello, swaps=self.swaps, ranks=self.ranks, rules=kinds["key"],
                      memory=kinds["memory"], none=rules["none", ""][0])  # fmt: skip

    def rule(self, block: tuple[str, str], line: int, source: str, actions: list[tuple[int, str, str]]) -> Rule:
        self.line, self.at = line, f"{' '.join(block).strip()}, match {source}"
        try:
            pattern = parse_pattern(source, self.classes)
        except ValueError as error:
            raise self.wrong(f"the pattern {source!r} cannot be read: {error}") from None
        if not actions:
            raise self.wrong(f"it has no reply; add a line such as '{COMMANDS['say']}'")
        return Rule(source=source, pattern=pattern, line=line,
                    actions=tuple(self.action(block, len(pattern), *parts) for parts in actions))  # fmt: skip

    def action(self, block: tuple[str, str], parts: int, line: int, kind: str, rest: str) -> Action:
        self.line = line
        if block[0] != "key" and kind != "say":
            raise self.wrong(f"a {block[0]} block can only say, not {kind}; write: {COMMANDS['say']}")
        text, _, target = rest.partition("=>") if kind == "rewrite" else (rest, "", rest)
        target = target.strip().casefold()
        if kind in ("goto", "rewrite") and target not in self.ranks:
            raise self.wrong(f"{kind} leads to {target!r}, which is not a keyword; keywords are: {_some(self.ranks)}")
        for number in part_numbers(text) if kind in ("say", "rewrite") else ():
            if not 1 <= number <= parts:
                raise self.wrong(
                    f"{kind} uses {{{number}}}, but the pattern has {parts} parts; use {{1}} to {{{parts}}}"
                )
        return Action(kind=kind, text=text.strip() if kind in ("say", "rewrite") else "",
                      target=target if kind in ("goto", "rewrite") else "")  # fmt: skip

    def wrong(self, why: str) -> ValueError:
        return ValueError(f"{self.name}, line {self.line} ({self.at}): {why}")


def part_numbers(reply: str) -> Iterator[int]:
    """The numbers of the parts that a reply uses.

    >>> list(part_numbers("Does {4} know {2}?"))
    [4, 2]
    """
    return (int(number) for number in re.findall(r"\{([0-9]+)\}", reply))
