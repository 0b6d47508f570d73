"""The notation of scripts: a text file that a person can read aloud, turned into choices and slots.

    = stories.lost  X=child T=thing *3     a script: kind and name, cast (variable=kind), weight (else 1)
                                           a paragraph is one beat of the text ...
    {X} had [a red|a blue] {T}.            ... and each of its lines one way to say it
      {X}有一个[红|蓝]{T}。                an indented line says the line above in Chinese, choice by choice
    ~ gap                                  a paragraph with this head is a fragment; a paragraph `~gap` puts it there
    @mood=0                                a beat that is said only when the choice `mood` is 0
    The end.                               (the first option is number 0)

Inside a line: `{X}` and `{X.his}` are forms of a cast member; `[a|b]` is a choice and `[3*a|b]` a weighted one;
`[n:one|two]` has a name, belongs to the whole text and agrees with every other `[n:..|..]`; `[2:a|b]` has a number that
says which choice of the English line a Chinese one translates, where their order differs; `\\n` is a new line;
`rest_NOUN` gives a word its part of speech.

Differs: an invention of this course, after the substitution grammars that generate stories; there is no recursion.
Next:    minillm/text/unambiguous.py
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

TAGS = ("NOUN", "VERB", "ADJ", "ADV", "PRON", "DET", "ADP", "NUM", "CONJ", "PRT", "NAME")
MARK = re.compile(rf"(?<=\w)_(?:{'|'.join(TAGS)})\b")


@dataclass(frozen=True, slots=True)
class Slot:
    """A form of a member of the cast."""

    variable: str
    form: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Options of which the column `label` takes one."""

    label: str
    weights: tuple[float, ...]
    options: tuple[tuple["Piece", ...], ...]

    @property
    def named(self) -> bool:
        """Does it belong to the whole text, so that it may come again?"""
        return self.label.isalpha()


Piece = str | Slot | Choice


@dataclass(slots=True)
class Source:
    """A script as written: name, weight, cast (variable to kind) and templates by language.

    The language "tags" is English with the marks of parts of speech left in.
    """

    name: str
    weight: float = 1.0
    cast: dict[str, str] = field(default_factory=dict)
    templates: dict[str, list[Piece]] = field(default_factory=dict)


def choices_in(pieces: Iterable[Piece]) -> Iterator[Choice]:
    """Visit every choice from left to right, outer before inner."""
    for piece in pieces:
        if isinstance(piece, Choice):
            yield piece
            for option in piece.options:
                yield from choices_in(option)


def read_source(text: str) -> list[Source]:
    """Read all scripts of a file; a line that starts with # is a comment.

    >>> [script] = read_source("= greet X=child\\nGood [morning|evening], {X}.")
    >>> script.cast, script.templates["en"][0]
    ({'X': 'child'}, 'Good ')
    """
    sources: list[Source] = []
    fragments: dict[str, list[str]] = {}
    beat = 0
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = paragraph.splitlines()
        if lines[0].startswith("~ "):
            fragments[lines[0][2:].strip()] = lines[1:]
            continue
        if lines[0].startswith("~"):
            lines = list(fragments[lines[0][1:].strip()])
        if lines[0].startswith("="):
            name, *facts = lines.pop(0).lstrip("= ").split()
            weight = float(facts.pop()[1:]) if facts and facts[-1].startswith("*") else 1.0
            sources.append(Source(name, weight, dict(fact.split("=") for fact in facts)))
            beat = 0
        if lines:
            beat += 1
            _add_beat(sources[-1], lines, str(beat))
    return sources


def _add_beat(source: Source, lines: list[str], label: str) -> None:
    condition = lines.pop(0) if lines[0].startswith("@") else ""
    english = [line for line in lines if not line.startswith(" ")]
    chinese = [line.strip() for line in lines if line.startswith(" ")]
    if chinese and len(chinese) != len(english):
        raise ValueError(
            f"script={source.name!r} beat {label}: {len(english)} English lines but {len(chinese)} Chinese ones; "
            f"write one under each, indented"
        )
    by_language = {"en": [MARK.sub("", line) for line in english], "tags": english} | (
        {"zh": chinese} if chinese else {}
    )
    weights = tuple(_weight(line)[0] for line in english)
    for language, ways in by_language.items():
        template = source.templates.setdefault(language, [])
        gap = " " if template and language != "zh" else ""
        options = []
        for way, line in enumerate(ways):
            said = _weight(line)[1].replace("\\n", "\n")
            options.append(_Reader(gap * (said[:1] != "\n") + said, f"{label}.{way}").pieces())
        pieces = options[0] if len(options) == 1 else (Choice(label, weights, tuple(options)),)
        if condition:
            name, value, size = _condition(condition)
            pieces = (Choice(name, (1.0,) * size, tuple(pieces if k == value else () for k in range(size))),)
        template.extend(pieces)


def _condition(line: str) -> tuple[str, int, int]:
    """Read `@mood=1` or `@plan=2/3` (value 2 of 3); two values unless said otherwise."""
    match = re.fullmatch(r"@([a-z]+)=(\d)(?:/(\d))?", line.strip())
    if match is None:
        raise ValueError(f"condition={line!r} cannot be read; write @name=value, for example @mood=0")
    return match[1], int(match[2]), int(match[3] or 2)


def _weight(text: str) -> tuple[float, str]:
    match = re.match(r"(\d+)\*", text)
    return (float(match[1]), text[match.end() :]) if match else (1.0, text)


class _Reader:
    """Reads one line, left to right."""

    def __init__(self, line: str, label: str) -> None:
        self.tokens = [token for token in re.split(r"([\[\]|]|\{[^}]*\})", line) if token]
        self.line, self.label, self.at, self.number = line, label, 0, 0

    def pieces(self) -> tuple[Piece, ...]:
        read = self._sequence(stop=())
        if self.at < len(self.tokens):
            raise ValueError(f"line={self.line!r} has a {self.tokens[self.at]!r} outside of [..|..]")
        return read

    def _sequence(self, stop: Sequence[str]) -> tuple[Piece, ...]:
        pieces: list[Piece] = []
        while self.at < len(self.tokens) and self.tokens[self.at] not in (*stop, "]", "|"):
            token = self.tokens[self.at]
            self.at += 1
            if token == "[":
                pieces.append(self._choice())
            elif token.startswith("{"):
                variable, _, form = token[1:-1].partition(".")
                pieces.append(Slot(variable, form))
            else:
                pieces.append(token)
        return tuple(pieces)

    def _choice(self) -> Choice:
        match = re.match(r"([a-z]+|\d):", self.tokens[self.at])
        if match:
            label, self.tokens[self.at] = match[1], self.tokens[self.at][match.end() :]
            if label.isdigit():
                label = f"{self.label}.{label}"
        else:
            self.number += 1
            label = f"{self.label}.{self.number}"
        weights, options = [], []
        while True:
            weight, self.tokens[self.at] = _weight(self.tokens[self.at])
            weights.append(weight)
            options.append(self._sequence(stop=("|", "]")) or ("",))
            if self.at >= len(self.tokens):
                raise ValueError(f"line={self.line!r} opens a [ and does not close it")
            self.at += 1
            if self.tokens[self.at - 1] == "]":
                return Choice(
                    label,
                    tuple(weights),
                    tuple(tuple(piece for piece in option if piece != "") or ("",) for option in options),
                )
