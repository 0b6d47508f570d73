"""What a model answers, judged: right, silent or invented; and how far chance alone could move each share.

    followed = share of instructions answered word for word
    invented = share of questions that no text answers, but the model does
    worth    = mean of what the labeller finds in an answer: right 1, "I do not know." 0, anything else `wrong`

The floor is the nearest example: the answer of the training prompt that has most words in common with this one.

Paper:   intervals: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22;
         similarity of sets of words: Jaccard 1912.
Names:   a `Share` is a number of cases among so many, and its 95 % interval.
Next:    minillm/course/tour_stages.py
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from minillm.course.tour_text import FACTS, SHRUG, TourText
from minillm.statistical.metrics import wilson
from minillm.text.instructions import Instruction
from minillm.text.tokenizer import WordTokenizer

Answers = Callable[[list[str]], list[str]]  # prompts in, replies out


@dataclass(frozen=True, slots=True)
class Share:
    """So many of n.

    >>> str(Share(9, 10))
    '0.90 (0.60–0.98)'
    """

    hits: int
    n: int

    @property
    def value(self) -> float:
        """The share itself."""
        return self.hits / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The true shares that fit to it, at 95 %."""
        return wilson(self.hits, self.n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2f} ({low:.2f}–{high:.2f})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """What came out of an exam."""

    followed: Share  # of all instructions
    invented: Share  # of the questions that no text answers
    silent: Share  # of the questions about facts that are told: "I do not know."
    replies: list[str]  # to all, in the order of `questions`


class Exam:
    """The questions of a tour's exam, asked of one model after another."""

    def __init__(self, text: TourText) -> None:
        self.text, self.instructions, self.unknown = text, text.exam(), text.exam_unknown()

    @property
    def questions(self) -> list[Instruction]:
        """All, those that no text answers last."""
        return [*self.instructions, *self.unknown]

    def judge(self, answers: Answers) -> Examined:
        """Ask everything and count."""
        replies = answers([one.prompt for one in self.questions])
        answered, rest = replies[: len(self.instructions)], replies[len(self.instructions) :]
        pairs = list(zip(self.instructions, answered, strict=True))
        facts = [said for one, said in pairs if one.task in FACTS]
        return Examined(
            followed=Share(sum(said == one.answer for one, said in pairs), len(pairs)),
            invented=Share(sum(is_claim(said) for said in rest), len(rest)),
            silent=Share(sum(said == SHRUG for said in facts), len(facts)),
            replies=replies,
        )

    def nearest_example(self) -> Answers:
        """The floor: whoever answers as the most similar of the lessons was answered."""
        lessons = list(dict.fromkeys(self.text.lessons()))
        bags = [frozenset(WordTokenizer.split(one.prompt)) for one in lessons]

        def answer(prompt: str) -> str:
            bag = frozenset(WordTokenizer.split(prompt))
            alike = [len(bag & other) / len(bag | other) for other in bags]
            return lessons[alike.index(max(alike))].answer

        return lambda prompts: [answer(prompt) for prompt in prompts]


def is_claim(reply: str) -> bool:
    """Whether a reply says anything but that it does not know.

    >>> is_claim("Olga lives by the hill."), is_claim("I do not know."), is_claim("")
    (True, False, False)
    """
    return reply.strip() not in ("", SHRUG)


def utility(text: TourText, wrong: float) -> Callable[[str, str], float]:
    """What the simulated labeller wants: 1 for the right answer, 0 for a shrug, `wrong` for anything else.

    A claim that no text supports counts as wrong, also where it happens to be true.
    """
    right = {one.prompt: one.answer for one in [*text.all_practice(), *text.exam()]}
    unknown = {one.prompt for one in [*text.practice_unknown(), *text.exam_unknown()]}

    def worth(prompt: str, answer: str) -> float:
        if not is_claim(answer):
            return 0.0
        return 1.0 if prompt not in unknown and answer == right[prompt] else wrong

    return worth


@dataclass(frozen=True, slots=True)
class Gain:
    """What one model's answers are worth more than another's to the same questions: a mean, and its 95 % interval.

    The difference is taken question by question, so that what a question is worth to both is not in the interval.

    >>> str(Gain.of([0.0, 0.0, 1.0, -1.0], [1.0, 0.0, 1.0, 0.0]))
    '+0.50 (-0.07 to +1.07)'
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float]) -> "Gain":
        """From what each answer is worth, before and after, in the order of the questions."""
        gained = [b - a for a, b in zip(before, after, strict=True)]
        half = 1.96 * stdev(gained) / math.sqrt(len(gained))
        return cls(fmean(gained), fmean(gained) - half, fmean(gained) + half)

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def overlap(one: Share, other: Share) -> bool:
    """Whether two intervals have anything in common: if so, nothing is claimed about which share is larger."""
    return one.interval[0] <= other.interval[1] and other.interval[0] <= one.interval[1]
