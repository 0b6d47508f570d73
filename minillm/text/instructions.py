"""Tasks of the village as instructions: what is asked in words, and the one right answer to each.

    instruction = task × phrasing × material          "What comes first: goat, hen, cat"  →  "goat"

A model that solves what it was trained on may have learned it by heart. So each of the three is held out by itself:
one phrasing of every task, some material of every task (a fact, a sum, a colour with a thing, an operation on a kind
of word), and three whole tasks. `told` writes the texts from which a model can know all that is asked in training,
without one question in them. What is asked under "unknown" stands in no text at all.

Paper:   Wei et al. 2022, "Finetuned Language Models Are Zero-Shot Learners" (FLAN), §2.1 and §2.2: each task phrased
         in several ways, whole kinds of task held out, arXiv:2109.01652; new combinations of known parts: Keysers et
         al. 2020, arXiv:1912.09713.
Names:   our phrasing is FLAN's template.
Differs: FLAN holds out whole clusters of related tasks. Here `father` has a twin in training, `mother`; `second` has
         two neighbours; "recolour and french" is two known tasks at once: three distances, on purpose.
Next:    minillm/adaptation/ask.py
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

from minillm.text.dice import Dice
from minillm.text.gift_lists import COLOURS, THINGS, in_french
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village
from minillm.text.village_words import ANIMALS, FOODS, JOBS

T = TypeVar("T")
Gift = tuple[str, str]  # a colour and a thing
End = tuple[str, str]  # of a story, and whether it is happy or sad
Split = Literal["seen", "phrasing", "combination", "unknown"]
SPLITS: tuple[Split, ...] = ("seen", "phrasing", "combination", "unknown")
RELATIONS = {
    "home": "lives by",
    "food": "likes",
    "job": "is a",
    "animal": "has",
    "mother": "mother",
    "father": "father",
}
LISTS: dict[str, Callable[[list[str]], list[str]]] = {
    "first": lambda words: words[:1],
    "last": lambda words: words[-1:],
    "repeat": lambda words: words,
    "backwards": lambda words: words[::-1],
    "second": lambda words: words[1:2],
}
PHRASINGS = {  # {0} is the material, {1} a colour; the last phrasing of each task is never in training
    "home": ("Where does {0} live?", "By what does {0} live?", "Tell me the home of {0}.", "Where is the home of {0}?"),
    "food": ("What does {0} like?", "Which food does {0} like?", "Tell me what {0} likes.", "Tell me the food of {0}."),
    "job": ("What is the work of {0}?", "What does {0} work as?", "Tell me the work of {0}.",
            "Which work does {0} have?"),
    "animal": ("What animal does {0} have?", "Which animal does {0} have?", "Tell me the animal of {0}.",
               "What is the animal of {0}?"),
    "mother": ("Who is the mother of {0}?", "Which mother does {0} have?", "Tell me the mother of {0}.",
               "Tell me who is the mother of {0}."),
    "sum": ("What is {0}?", "Add: {0}", "Tell me what {0} is.", "Tell me: {0}"),
    "mood": ("Happy or sad: {0}", "Is this happy or sad? {0}", "{0} Is that happy or sad?",
             "Tell me, happy or sad: {0}"),
    "french": ("Say in French: {0}", "{0}, in French", "Tell me the French of {0}.", "What is {0} in French?"),
    "recolour": ("Make all {1}: {0}", "Paint {1}: {0}", "Now all {1}: {0}", "Make this {1}: {0}"),
    "first": ("What comes first: {0}", "Say the first: {0}", "Which comes first: {0}", "Tell me the first: {0}"),
    "last": ("What comes last: {0}", "Say the last: {0}", "Which comes last: {0}", "Tell me the last: {0}"),
    "repeat": ("Say after me: {0}", "Repeat: {0}", "Say again: {0}", "Say this again: {0}"),
    "backwards": ("Say backwards: {0}", "Turn round: {0}", "Now backwards: {0}", "Say this backwards: {0}"),
    "father": ("Who is the father of {0}?", "Tell me the father of {0}."),
    "second": ("What comes second: {0}", "Say the second: {0}"),
    "recolour and french": ("Make all {1} and say in French: {0}", "Paint {1}, in French: {0}"),
}  # fmt: skip
NEW_TASKS = ("father", "second", "recolour and french")  # nothing of them is in training
TASKS = tuple(task for task in PHRASINGS if task not in NEW_TASKS)
SHARE = 0.3  # of the material of a task is held out
ENDS = 300  # stories whose ends are in training, and as many from which new ends are taken


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """What a user asks for, and what the assistant must answer, word for word."""

    task: str  # one of PHRASINGS
    prompt: str
    answer: str
    person: str = ""  # whom a question of knowledge is about


class Instructions:
    """The instructions of one village. What is held out is a function of the two seeds alone.

    >>> one = Instructions(Village(seed=0)).draw("first", 1)[0]
    >>> one.prompt, one.answer
    ('What comes first: Fatima, Leo, Lucy', 'Fatima')
    """

    def __init__(self, village: Village, seed: int = 0) -> None:
        self.village, self.seed = village, seed
        dice = Dice(seed, village.seed, zlib.crc32(b"instructions"))
        facts = {task: [fact for fact in village.truth if fact.relation == name] for task, name in RELATIONS.items()}
        self._unknown = {task: [fact for fact in facts[task] if not fact.probability] for task in facts}
        asked, silent = _cut(village.world.known, dice)  # of those held out, nothing at all is asked in training
        self._facts = {
            task: tuple(
                [f for f in facts[task] if f.probability and f.subject in {p.name for p in people}]
                for people in (asked, silent)
            )
            for task in facts
        }
        self._sums = _cut([(a, b) for a in range(1, 10) for b in range(1, 10)], dice)
        self._gifts = _cut([(colour, thing) for colour in COLOURS for thing in THINGS], dice)
        self.words = {"animals": [*ANIMALS], "food": [*FOODS], "things": [*THINGS], "jobs": [*JOBS]}
        self.words["names"] = [*village.people]
        kinds = dice.shuffled(list(self.words))
        self._missing = {task: kinds[i % len(kinds)] for i, task in enumerate(LISTS)}  # no two neighbours the same

    def draw(self, task: str, n: int, split: Split = "seen", start: int = 0) -> list[Instruction]:
        """Instructions `start` to `start + n - 1` of the endless list of one task and split, drawn with replacement.

        "seen" has the phrasings and the material of training, "phrasing" the held-out phrasing, "combination" the
        held-out material, "unknown" facts that nobody tells. All of NEW_TASKS is held out: their "seen" is new too.
        ValueError for what does not exist. `list(dict.fromkeys(…))` leaves each instruction once.
        """
        if split not in (allowed := splits(task)):
            raise ValueError(f"split={split!r} is not there for task={task!r}, which has {', '.join(allowed)}")
        seeds = self.seed, self.village.seed, zlib.crc32(f"{task}/{split}".encode())
        return [self._make(task, split, Dice(*seeds, number)) for number in range(start, start + n)]

    def training(self, n: int, start: int = 0) -> list[Instruction]:
        """Instructions `start` to `start + n - 1` of the training set: TASKS by turns, all "seen"."""
        t = len(TASKS)
        return [self.draw(TASKS[i % t], 1, start=i // t)[0] for i in range(start, start + n)]

    def told(self, n: int, start: int = 0) -> list[str]:
        """Texts `start` to `start + n - 1` for pretraining, with no question in them.

        Every second one is a fact, as often as the village tells it; the others are sums and gifts in French, those
        of training alone, ends of stories, and lists of words, in which strangers are named too.
        """
        facts = self.village.facts(n // 2 + 1, start // 2)
        seeds = self.seed, self.village.seed, zlib.crc32(b"told")
        return [facts[i // 2 - start // 2] if i % 2 else self._tell(Dice(*seeds, i)) for i in range(start, start + n)]

    def _tell(self, dice: Dice) -> str:
        match dice.pick(("sum", "gift", "end", "list")):
            case "sum":
                return _sum(dice.pick(self._sums[False]))
            case "gift":
                gift = " and ".join(_gift(dice.pick(self._gifts[False])) for _ in range(1 + dice.below(2)))
                return f"{gift} is {_french(gift)} in French."
            case "end":
                return dice.pick(self._ends[False])[0]
            case _:
                words = ", ".join(dice.shuffled(dice.pick(list(self.words.values())))[:3])
                return f"{words}, and again {words}."

    def _make(self, task: str, split: Split, dice: Dice) -> Instruction:
        """Draw a phrasing, then the material, and work out the answer."""
        phrasings, held_out, colour, person = PHRASINGS[task], split == "combination", "", ""
        if task not in NEW_TASKS:
            phrasings = phrasings[-1:] if split == "phrasing" else phrasings[:-1]
        phrasing = dice.pick(phrasings)
        if task in RELATIONS:
            fact = dice.pick(self._unknown[task] if split == "unknown" else self._facts[task][held_out])
            material, answer, person = fact.subject, fact.statements[0], fact.subject
        elif task == "sum":
            answer = _sum(dice.pick(self._sums[held_out]))
            material = answer.partition(" =")[0]
        elif task == "mood":
            material, answer = dice.pick(self._ends[held_out])
        elif task == "french":
            material = _gift(dice.pick(self._gifts[held_out]))
            answer = _french(material)
        elif task in LISTS:
            kind = self._missing[task] if held_out else dice.pick([k for k in self.words if k != self._missing[task]])
            words = dice.shuffled(self.words[kind])[:3]
            material, answer = ", ".join(words), ", ".join(LISTS[task](words))
        else:
            material, colour, answer = self._recolour(dice, held_out)
            answer = _french(answer) if task == "recolour and french" else answer
        return Instruction(task=task, prompt=phrasing.format(material, colour), answer=answer, person=person)

    def _recolour(self, dice: Dice, held_out: bool) -> tuple[str, str, str]:
        """One or two gifts, the colour that all shall have, and the gifts in it; those are of the pool."""
        colour, thing = dice.pick(self._gifts[held_out])
        things = [thing, *dice.shuffled([t for c, t in self._gifts[held_out] if c == colour and t != thing])]
        things = things[: 1 + dice.below(2)]
        source = [_gift((dice.pick([c for c in COLOURS if c != colour]), thing)) for thing in things]
        return " and ".join(source), colour, " and ".join(_gift((colour, thing)) for thing in things)

    @cached_property
    def _ends(self) -> tuple[list[End], list[End]]:
        """The last two sentences of stories, and how each ends: in training, and held out."""
        told, other = self._read_ends(ENDS, 0), self._read_ends(ENDS, ENDS)
        return told, [end for end in other if end not in told]  # some stories end alike

    def _read_ends(self, n: int, start: int) -> list[End]:
        ends: dict[End, None] = {}
        for story in self.village.stories(n, start=start):
            sentences = [WordTokenizer.join(words) for words in WordTokenizer.sentences(story)[-2:]]
            derivation = self.village.explain(story)
            assert derivation is not None  # the village wrote it
            ends[" ".join(sentences), ("happy", "sad")[derivation["mood"]]] = None
        return list(ends)


def splits(task: str) -> tuple[Split, ...]:
    """The splits that a task has. ValueError for a task that does not exist.

    >>> splits("sum"), splits("second")
    (('seen', 'phrasing', 'combination'), ('seen',))
    """
    if task not in PHRASINGS:
        raise ValueError(f"task={task!r} must be one of {', '.join(PHRASINGS)}")
    unknown: tuple[Split, ...] = ("unknown",) if task in RELATIONS else ()
    return ("seen", *unknown) if task in NEW_TASKS else ("seen", "phrasing", "combination", *unknown)


def _cut(material: Sequence[T], dice: Dice) -> tuple[list[T], list[T]]:
    """The material of training (at False), and what is held out (at True)."""
    mixed = dice.shuffled(material)
    n = round(len(mixed) * SHARE)
    return mixed[n:], mixed[:n]


def _sum(numbers: tuple[int, int]) -> str:
    a, b = numbers
    return f"{a} + {b} = {a + b}."


def _gift(gift: Gift) -> str:
    return f"a {gift[0]} {gift[1]}"


def _french(gifts: str) -> str:
    return " ".join(in_french(gifts.split()))
