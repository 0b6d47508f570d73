"""What all stages of the tour read and are asked: one village, its stories, what is told there, and an exam.

    the reading   stories, and beside each six short texts (facts, sums, gifts in French, lists): for every model
    the yardstick stories that nobody has read, in bits per character; their exact entropy is the floor
    the lessons   instructions with answers, where some questions get "I do not know." instead
    the exam      new phrasings, new combinations, and questions that no text answers

Half of the people are asked about in practice, when answers are compared and rewarded: what is told of them and what is
not, some of whom no lesson named. So practice meets a model that has only read the answer, as the exam will, and not
one that was shown it. The exam asks about the other half, and about facts that were told and never asked for before.

Paper:   the splits are those of minillm/text/instructions.py; unanswerable questions in an exam: Rajpurkar et al. 2018,
         "Know What You Don't Know" (SQuAD 2.0), arXiv:1806.03822.
Names:   a question is `unknown` when its answer stands in no text; `SHRUG` is the honest answer to it.
Next:    minillm/course/tour_exam.py
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from minillm.adaptation.chat_template import END, SPECIAL_TOKENS, ChatTemplate, conversation
from minillm.adaptation.sft import Example
from minillm.course.tour_config import TourConfig
from minillm.text.dice import Dice
from minillm.text.instructions import RELATIONS, TASKS, Instruction, Instructions
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village

SHRUG = "I do not know."
TOLD = 6  # short texts beside each story
WORDS_FROM = 1000  # stories and lessons whose words are known in any case
HELD_FROM = 100_000  # where the stories begin that nobody reads
PRACTICE = 5200  # instructions from which most of the prompts of practice are taken
EXAM_FROM = 10_000  # where the instructions begin that nobody trains on
FACTS = tuple(task for task in TASKS if task in RELATIONS)  # the tasks that ask for what was told


class TourText:
    """All texts of a tour, as functions of its settings.

    >>> text = TourText(TourConfig.quick())
    >>> len(text.documents) == 7 * 800, text.tokenizer.vocab[text.end]
    (True, '</s>')
    """

    def __init__(self, config: TourConfig) -> None:
        self.config = config
        self.village = Village(config.seed, families=config.families)
        self.instructions = Instructions(self.village, config.seed)

    @cached_property
    def documents(self) -> list[str]:
        """What every language model reads: each story, then what is told beside it."""
        n = self.config.stories
        stories, told = self.village.stories(n), self.instructions.told(TOLD * n)
        return [text for i in range(n) for text in (stories[i], *told[TOLD * i : TOLD * (i + 1)])]

    @cached_property
    def held_out(self) -> list[str]:
        """Stories that nobody reads."""
        return self.village.stories(self.config.held_out, start=HELD_FROM)

    @cached_property
    def floor(self) -> float:
        """Bits per character of stories that no model can beat."""
        return self.village.entropy_per_character("stories")

    @cached_property
    def tokenizer(self) -> WordTokenizer:
        """The village's words, every name, and the marks of a conversation; hardly a word hangs on how much is read."""
        lessons = [f"{one.prompt} {one.answer}" for one in self.instructions.training(WORDS_FROM)]
        stories = self.village.stories(WORDS_FROM)
        every = [*self.documents, *stories, *lessons, *self.village.people, SHRUG, "system < | > user end"]
        return WordTokenizer.train("\n".join(every), special_tokens=["</s>", *SPECIAL_TOKENS])

    @property
    def end(self) -> int:
        """The token before, between and after documents."""
        return self.tokenizer.special_ids["</s>"]

    @cached_property
    def template(self) -> ChatTemplate:
        """How a conversation becomes tokens."""
        return ChatTemplate(self.tokenizer)

    @property
    def stop(self) -> int:
        """The token that ends an answer."""
        return self.tokenizer.special_ids[END]

    def prompt(self, text: str) -> list[int]:
        """A question as the tokens that an answer follows."""
        return self.template.encode(conversation(text), reply=True).tokens

    def answer(self, text: str) -> list[int]:
        """An answer as tokens, with the one that ends it."""
        return [*self.template.text_ids(text), self.stop]

    def plain(self, response: Sequence[int]) -> str:
        """A response as text, without the token that ends it."""
        return self.tokenizer.decode([token for token in response if token != self.stop])

    def lessons(self) -> list[Instruction]:
        """What the teacher shows: the instructions of training, some questions about facts answered with a shrug.

        Which ones has nothing to do with what is known: a model learns from them that one may say so, not when.
        """
        dice = Dice(self.config.seed, 1)
        return [
            replace(one, answer=SHRUG) if one.task in FACTS and dice.chance(self.config.shrugs) else one
            for one in self.instructions.training(self.config.lessons)
        ]

    @property
    def suggestions(self) -> tuple[str, ...]:
        """Questions to begin a chat with: a fact that is told, another task, and what no text answers."""
        exam = self.exam()
        kinds = [[one for one in exam if one.task in FACTS], [one for one in exam if one.task not in FACTS]]
        return tuple(some[0].prompt for some in (*kinds, self.exam_unknown()) if some)

    @property
    def beginnings(self) -> tuple[str, ...]:
        """Beginnings of new stories, for a model that goes on with a text."""
        return tuple(" ".join(story.split(" ")[:6]) for story in self.held_out[:3])

    def examples(self) -> list[Example]:
        """The lessons as rows of tokens, and between them documents, so that little of the reading is forgotten.

        One in five is a conversation of two questions: else the model would never have seen a second one.
        """
        turns = [(one.prompt, one.answer) for one in self.lessons()]
        joined = [one + turns[i + 1] if i % 5 == 0 and i + 1 < len(turns) else one for i, one in enumerate(turns)]
        lessons = [self.template.encode(conversation(*texts)) for texts in joined]
        stories, told = self.documents[:: TOLD + 1], [t for i, t in enumerate(self.documents) if i % (TOLD + 1)]
        again = [*told[: len(lessons) // 3], *stories[: len(lessons) // 20]]  # somewhat more tokens than all answers
        rows = [[self.end, *self.tokenizer.encode(text), self.end] for text in again]
        return lessons + [Example(tokens=row, answer=[True] * len(row)) for row in rows]

    def practice(self, n: int) -> list[Instruction]:
        """n prompts for the labeller and for PPO: of five one that no text answers, one about somebody of whom the
        lessons asked nothing, one about a fact that was taught, and two other tasks."""
        unasked, taught, others = self._practised
        pools = [pool for pool in (self.practice_unknown(), unasked, taught, others, others) if pool]
        turns = [pools[i % len(pools)] for i in range(n)]  # in the smallest villages one of them may be empty
        return [pool[(i // len(pools) * 2 + i % 2) % len(pool)] for i, pool in enumerate(turns)]

    def all_practice(self) -> list[Instruction]:
        """All from which practice is taken, what no text answers aside."""
        return [one for pool in self._practised for one in pool]

    @cached_property
    def _practised(self) -> tuple[list[Instruction], list[Instruction], list[Instruction]]:
        """Facts that were told and never asked for, facts of the lessons, other tasks."""
        lessons = self.instructions.training(PRACTICE, start=self.config.lessons)
        drawn = [one for task in FACTS for one in dict.fromkeys(self.instructions.draw(task, 200, "combination"))]
        unasked = [one for one in Dice(self.config.seed, 5).shuffled(drawn) if one.person not in self._for_exam]
        taught, others = ([one for one in lessons if (one.task in FACTS) == fact] for fact in (True, False))
        return unasked, taught, others

    def practice_unknown(self) -> list[Instruction]:
        """Questions that no text answers, about the people of whom practice asks."""
        return self._unknown[0]

    def exam_unknown(self) -> list[Instruction]:
        """The same, about the others."""
        return self._unknown[1][: 5 * self.config.exam]

    def exam(self) -> list[Instruction]:
        """New phrasings and new combinations of every task, in equal parts where there are enough."""
        n, drawn = self.config.exam, []
        for task in TASKS:
            for split in ("phrasing", "combination"):
                found = dict.fromkeys(self.instructions.draw(task, 6 * n, split, start=EXAM_FROM))
                held = task in FACTS and split == "combination"
                drawn += [one for one in found if not held or one.person in self._for_exam][:n]
        return drawn

    @cached_property
    def _for_exam(self) -> frozenset[str]:
        """The people about whom only the exam asks, unless they are asked about in the lessons."""
        return frozenset(Dice(self.config.seed, 2).shuffled(list(self.village.people))[::2])

    @cached_property
    def _unknown(self) -> tuple[list[Instruction], list[Instruction]]:
        """For practice, and for the exam."""
        drawn = [one for task in FACTS for one in dict.fromkeys(self.instructions.draw(task, 200, "unknown"))]
        mixed = Dice(self.config.seed, 4).shuffled(drawn)
        held = [one for one in mixed if one.person in self._for_exam]
        return [one for one in mixed if one.person not in self._for_exam], held
