"""The explorer of chapter 16: a conversation as the model reads it, which of its tokens count, and what is answered.

    orange: part of an answer, in the loss     white: read, not learned     dark: who speaks, where a turn ends

The explorer owns no model: it is given functions from a prompt to an answer, one for each model to be compared.

Paper:   Ouyang et al. 2022, "InstructGPT", §3.5, arXiv:2203.02155.
Next:    minillm/course/checks_16.py
"""

from collections.abc import Callable, Mapping, Sequence

from minillm.adaptation.chat_template import SPECIAL_TOKENS, ChatTemplate, conversation
from minillm.course.figures import Drawing, Figure
from minillm.course.widgets import Explorer, choice, slider, words
from minillm.text.instructions import PHRASINGS, Instructions, splits

ACROSS, COUNTED, ONLY_READ, SPEAKS = 88, "#E69F00", "#FFFFFF", "#2B4C66"  # characters in a line; colours
OWN = "my own words"


def lines_of(tokens: Sequence[str], across: int = ACROSS) -> list[tuple[int, int]]:
    """Where each token stands when lines hold `across` characters: (line, column), each token with a gap behind it.

    >>> lines_of(["one", "two", "three"], across=8)
    [(0, 0), (0, 5), (1, 0)]
    """
    places: list[tuple[int, int]] = []
    line = column = 0
    for token in tokens:
        if column and column + len(token) > across:
            line, column = line + 1, 0
        places.append((line, column))
        column += len(token) + 2
    return places


class InstructionExplorer(Explorer):
    """Choose a task and what is new about it, or write your own prompt; see what counts, and every model's answer."""

    def __init__(
        self,
        lessons: Instructions,
        template: ChatTemplate,
        models: Mapping[str, Callable[[str], str]],
        task: str = "sum",
        number: int = 0,
        prompt: str = "Say after me: cat, honey, cat",
    ) -> None:
        self.lessons, self.template, self.models = lessons, template, models
        self.task = choice("task", [*PHRASINGS, OWN], task)
        self.split = choice("what is new", ["seen", "phrasing", "combination", "unknown"])
        self.number = slider("number", number, low=0, high=39)
        self.prompt = words(OWN, prompt)
        super().__init__(self.task, self.split, self.number, self.prompt)

    def asked(self) -> tuple[str, str | None]:
        """The prompt, and its right answer where one is known. A split that the task has not is taken as "seen"."""
        task, split = str(self.task.value), str(self.split.value)
        if task == OWN:
            return str(self.prompt.value), None
        allowed = splits(task)  # "seen" is the first of them
        there = allowed[allowed.index(split) if split in allowed else 0]
        one = self.lessons.draw(task, 1, there, start=10_000 + int(self.number.value))[0]
        return one.prompt, one.answer

    def draw(self) -> tuple[Figure, str]:
        """The tokens of prompt and right answer; for one's own words, those of the last model's answer."""
        prompt, right = self.asked()
        said = {name: answer(prompt) for name, answer in self.models.items()}
        example = self.template.encode(conversation(prompt, right if right is not None else [*said.values()][-1]))
        tokens = [self.template.tokenizer.decode([token]) for token in example.tokens]
        counted = sum(example.answer)
        sentence = f"Prompt: {prompt}\n" + (f"Right: {right}\n" if right is not None else "")
        sentence += "\n".join(f"{name}: {text}" for name, text in said.items())
        sentence += f"\nOf {len(tokens) - 1} tokens to predict, {counted} count."
        places = lines_of(tokens)
        with Drawing(
            title="What the model reads, and what counts (orange)",
            alt=f"The conversation in {len(tokens)} tokens; the last {counted}, the answer and its end, are orange.",
            height=1.0 + 0.42 * (1 + places[-1][0]),
        ) as drawing:
            for token, (line, column), counts in zip(tokens, places, example.answer, strict=True):
                special = token in SPECIAL_TOKENS
                drawing.axes.text(
                    column,
                    -line,
                    token,
                    family="monospace",
                    size=10,
                    color="#FFFFFF" if special and not counts else "#000000",
                    bbox={"facecolor": COUNTED if counts else SPEAKS if special else ONLY_READ, "edgecolor": "#888888"},
                )
            drawing.axes.set_xlim(-1, ACROSS + 2)  # a unit is as wide as a letter of this size
            drawing.axes.set_ylim(-places[-1][0] - 0.7, 0.9)
            drawing.axes.set_axis_off()
        return drawing.figure, sentence
