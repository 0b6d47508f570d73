"""Texts as they come from the web: markup, boilerplate, noise, copies, personal data, and the truth of it all.

A cleaner can be judged only where the dirt is known. Each document says what was planted where, what it looked like
before, and of which document it is a copy. Every address, telephone number and identity number is invented: the
addresses end in .example or example.org (RFC 2606), the numbers come from ranges that are never given out.

    precision = planted and found / found        recall = planted and found / planted

Differs: decoys (years, prices, `3 < 5`) look like dirt and must stay, so that precision can fall.
Next:    minillm/text/cleaning.py
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from minillm.text.dice import Dice

Line = list[tuple[str, str]]  # the parts of a line: (string, kind of dirt, or "" for text)
PERSONAL = ("email", "phone", "id")

BOILERPLATE: tuple[Callable[[Dice], str], ...] = (
    lambda dice: "Home | News | Stories | Contact",
    lambda dice: "Click here to subscribe to our newsletter!",
    lambda dice: f"Copyright © {1990 + dice.below(35)} The Village Paper. All rights reserved.",
    lambda dice: "We use cookies. Accept all | Settings",
    lambda dice: f"Share this page: Mail | Print ({dice.below(90)})",
    lambda dice: "Read more >>",
    lambda dice: f"Page {1 + dice.below(9)} of {10 + dice.below(9)}",
    lambda dice: "Terms of use | Privacy policy | Sitemap",
)
NOISE: tuple[Callable[[Dice], str], ...] = (
    lambda dice: "".join(dice.pick("#@~*=%$^&|\\/") for _ in range(12 + dice.below(30))),
    lambda dice: dice.pick("xzqk") * (15 + dice.below(20)),
    lambda dice: "".join(dice.pick("ÃÂ¤¶¼Å¸â€™") for _ in range(10 + dice.below(20))),
    lambda dice: (
        "".join(dice.pick("ABCDEFGHKLMNPQRSTUVWXYZabcdefghkmnpqrstuvwxyz23456789+/") for _ in range(60)) + "=="
    ),
    lambda dice: " ".join(
        dice.pick("0123456789abcdef") + dice.pick("0123456789abcdef") for _ in range(16 + dice.below(8))
    ),
)
CONTACT = {
    "email": (
        "Please write to {}.",
        "Her address is {}, if you want to help.",
        "Send your answer to {} before Sunday.",
    ),
    "phone": ("Call {} after nine.", "The number of the shop is {}.", "You can also ring {} at any time."),
    "id": ("The card with the number {} was found.", "My customer number is {}.", "The papers of the owner say {}."),
}
DECOYS = (
    "In 1987 the harvest was 12,500 baskets.",
    "Every child knows that 3 < 5 and 7 > 2.",
    "The bakery sells 2 cakes @ 3 coins each.",
    "The ship left at 12:45 on 2024-05-17.",
    "The team from the lake won 3-0 and then 21-19.",
    "The old clock has the number 4711 on its back.",
    "Sum of the year: 1,200 + 4,550 = 5,750.",
    "He kept the shop in the years 1999-2004.",
)


@dataclass(frozen=True, slots=True)
class Planted:
    """One piece of dirt: `text[start:end] == string` in the dirty document."""

    kind: str  # "markup", "boilerplate", "noise", "email", "phone" or "id"
    string: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DirtyDocument:
    """A document and the truth about it.

    text:     as it was found
    clean:    as it was written: without markup, boilerplate and noise, with personal data still in it; "" for junk
    planted:  every piece of dirt, in order of place
    decoys:   sentences of `clean` that look like dirt and are not
    copy:     "exact" (the same text as the earlier one), "near" (a few words differ), or ""
    copy_of:  the number of the earlier document in the list
    junk:     nothing in it is worth keeping
    """

    text: str
    clean: str
    planted: tuple[Planted, ...] = ()
    decoys: tuple[str, ...] = ()
    copy: str = ""
    copy_of: int | None = None
    junk: bool = False

    def masked(self, mask: str = "<{}>") -> str:
        """Return `clean` with each piece of personal data replaced by `mask`, its kind filled in: <email>."""
        said = self.clean
        for item in self.planted:
            if item.kind in PERSONAL:
                said = said.replace(item.string, mask.format(item.kind))
        return said


def email(dice: Dice, names: Sequence[str]) -> str:
    """Invent an address that no mail can reach."""
    first, last = dice.pick(names).lower(), dice.pick(names).lower()
    user = dice.pick((f"{first}.{last}", f"{first}_{10 + dice.below(90)}", f"{first}+news", f"{first[0]}{last}"))
    return f"{user}@{dice.pick(('example.org', 'mail.example.com', 'example.net', 'village.example'))}"


def phone(dice: Dice) -> str:
    """Invent a telephone number out of the ranges kept for stories and films."""
    end = f"{100 + dice.below(100):04d}"
    return dice.pick((f"555-{end}", f"(555) 555-{end}", f"+1 555-555-{end}", f"020 7946 {end}", f"+44 20 7946 {end}"))


def identity(dice: Dice) -> str:
    """Invent a number of the kind that identifies a person: three shapes, none of which was ever given out."""
    four = lambda: f"{dice.below(10_000):04d}"
    date = f"{1950 + dice.below(60)}{1 + dice.below(12):02d}{1 + dice.below(28):02d}"
    return dice.pick((f"987-65-{four()}", f"000000{date}{four()}", f"0000 {four()} {four()} {four()}"))


def make_dirty(originals: Sequence[str], names: Sequence[str], seeds: Sequence[int]) -> list[DirtyDocument]:
    """Dirty each original; about one in five becomes a copy of an earlier one instead, and one in twenty junk.

    Document i depends on the seeds and on the originals up to i alone.
    """
    documents: list[DirtyDocument] = []
    written: list[list[Line]] = []  # the lines of each document before the dirt
    for i, original in enumerate(originals):
        dice = Dice(*seeds, i)
        fate = dice.uniform()
        firsts = [k for k, document in enumerate(documents) if not document.copy and not document.junk]
        earlier = dice.pick(firsts) if firsts else None
        lines: list[Line] = []
        if fate < 0.05:
            documents.append(_junk(dice))
        elif fate < 0.15 and earlier is not None:
            lines = written[earlier]
            documents.append(replace(documents[earlier], copy="exact", copy_of=earlier))
        elif fate < 0.25 and earlier is not None:
            lines = _reworded(written[earlier], dice)
            near = _soil(lines, documents[earlier].decoys, dice)
            documents.append(replace(near, copy="near", copy_of=earlier))
        else:
            decoys = (dice.pick(DECOYS),) if dice.chance(0.5) else ()
            lines = [[(line, "")] for line in (*original.split("\n"), *decoys)]
            lines += [_contact(kind, dice, names) for kind in PERSONAL if dice.chance(0.4)]
            documents.append(_soil(lines, decoys, dice))
        written.append(lines)
    return documents


def _contact(kind: str, dice: Dice, names: Sequence[str]) -> Line:
    """Write a sentence that gives personal data away."""
    before, after = dice.pick(CONTACT[kind]).split("{}")
    secret = email(dice, names) if kind == "email" else phone(dice) if kind == "phone" else identity(dice)
    return [(before, ""), (secret, kind), (after, "")]


def _reworded(lines: Sequence[Line], dice: Dice) -> list[Line]:
    """Change one or two words in the longest line: a near copy."""
    longest = max(range(len(lines)), key=lambda k: len(lines[k][0][0]))
    words = lines[longest][0][0].split(" ")
    for _ in range(1 + dice.below(2)):
        words[len(words) // 4 + dice.below(len(words) // 2)] = dice.pick(("really", "then", "almost", "quite"))
    return [[(" ".join(words), "")] if k == longest else line for k, line in enumerate(lines)]


def _junk(dice: Dice) -> DirtyDocument:
    """Lines of noise and nothing else."""
    parts = [(dice.pick(NOISE)(dice), "noise") for _ in range(4 + dice.below(6))]
    return replace(_assemble([part for pair in parts for part in (pair, ("\n", ""))][:-1], ""), junk=True)


def _soil(lines: Sequence[Line], decoys: tuple[str, ...], dice: Dice) -> DirtyDocument:
    """Plant dirt between and inside of the lines."""
    parts: Line = []
    markup = dice.chance(0.6)
    for line in lines:
        if dice.chance(0.3):
            parts += [(dice.pick(BOILERPLATE)(dice), "boilerplate"), ("\n", "")]
        if dice.chance(0.1):
            parts += [(dice.pick(NOISE)(dice), "noise"), ("\n", "")]
        parts += [*(_marked(line[0][0], dice) if markup and len(line) == 1 else line), ("\n", "")]
    if dice.chance(0.5):
        parts += [(dice.pick(BOILERPLATE)(dice), "boilerplate"), ("\n", "")]
    clean = "\n".join("".join(string for string, _ in line) for line in lines)
    return _assemble(parts[:-1], clean, decoys)


def _marked(line: str, dice: Dice) -> Line:
    """Put a line into tags, and one of its words too."""
    open_, close = dice.pick((("<p>", "</p>"), ('<div class="text">', "</div>"), ("<li>", "</li>"), ("", "<br />")))
    words = line.split(" ")
    at = dice.below(len(words))
    before, word, after = " ".join([*words[:at], ""]), words[at], " ".join(["", *words[at + 1 :]])
    inner = dice.pick((("<b>", "</b>"), ("<em>", "</em>"), ('<a href="/page">', "</a>"), ("<!-- here -->", "")))
    return [
        (open_, "markup"),
        (before, ""),
        (inner[0], "markup"),
        (word, ""),
        (inner[1], "markup"),
        (after, ""),
        (close, "markup"),
    ]


def _assemble(parts: Line, clean: str, decoys: tuple[str, ...] = ()) -> DirtyDocument:
    planted, at = [], 0
    for string, kind in parts:
        if kind and string:
            planted.append(Planted(kind, string, at, at + len(string)))
        at += len(string)
    text = "".join(string for string, _ in parts)
    return DirtyDocument(text=text, clean=clean, planted=tuple(planted), decoys=decoys)
