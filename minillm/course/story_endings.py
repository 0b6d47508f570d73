"""How a story ends: a small GPT that writes endings, and raters whose taste in endings is known.

A village story is cut before its last four sentences. What stands before them, one sentence, is the prompt; what
follows is an answer. `mood` counts the words of joy and of sorrow in it: the utility of the simulated raters.

    python -m minillm.course.story_endings FILE            trains the writer, and records fifty simulated judgements

Next:    minillm/course/preference_desk.py
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from minillm.adaptation.chat_template import Example
from minillm.adaptation.sft import SFT, padded_batches
from minillm.alignment.labellers import Labeller, Question
from minillm.alignment.preferences import append_comparison
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village
from minillm.training.loop import train
from minillm.training.optim import AdamW, decay_matrices_only, linear_warmup_cosine
from minillm.transformer.decoder import Decoder, DecoderConfig
from minillm.transformer.generate import generate

_WORDS = re.compile(r"\w+")
JOY = set(_WORDS.findall("smiled laughed danced sang joy happy happiest together friend friends best loved safe well"))
SORROW = set(_WORDS.findall("cried sad gone never late broke ill empty nobody Nobody angry dark alone forgot afraid"))
HELD_OUT = 100_000  # the writer's prompts come from stories from here on; it learned from earlier ones
LONGEST = 70  # tokens of an ending
READER = "simulated reader"


def mood(prompt: str, answer: str) -> float:
    """Words of joy less words of sorrow in an answer.

    >>> mood("", "They danced together, and nobody cried.")
    0
    """
    said = _WORDS.findall(answer)
    return sum(word in JOY for word in said) - sum(word in SORROW for word in said)


def cut(story: str, sentences: int = 4) -> tuple[str, str]:
    """The sentence before the last `sentences` ones of a story, and those.

    >>> cut('It rained. "Come!" he said. She came. They sang. All was well. It was late.')
    ('"Come!" he said.', 'She came. They sang. All was well. It was late.')
    """
    found = [sentence.strip() for sentence in re.findall(r'.+?[.?!]+"?(?=\s+"?[A-Z]|$)', story)]
    if len(found) <= sentences:
        raise ValueError(f"story={story[:60]!r} has {len(found)} sentences; more than sentences={sentences} are needed")
    return found[-sentences - 1], " ".join(found[-sentences:])


class Writer:
    """A GPT of two layers that has read the ends of village stories, with its tokenizer."""

    def __init__(self, tokenizer: WordTokenizer, model: Decoder, sentences: int = 4) -> None:
        self.tokenizer, self.model, self.end = tokenizer, model, tokenizer.special_ids["</s>"]
        self.sentences = sentences  # of an ending

    @classmethod
    def train(
        cls, village: Village, *, stories: int = 2000, steps: int = 300, seed: int = 0, sentences: int = 4
    ) -> "Writer":
        """Train it on the ends of the village's first stories, by the loop and the optimiser of chapter 09."""
        ends = [" ".join(cut(story, sentences)) for story in village.stories(stories)]
        tokenizer = WordTokenizer.train("\n".join(ends), special_tokens=["</s>"])
        model = Decoder(
            DecoderConfig(
                vocabulary=len(tokenizer.vocab),
                context=128,
                n_layer=2,
                n_head=4,
                d_model=64,
                positions="alibi",
                first_scale=12**0.5,  # as in chapter 09: larger first weights for a narrow network
                seed=seed,
            )
        )
        writer = cls(tokenizer, model, sentences)
        rows = [[writer.end, *tokenizer.encode(text), writer.end] for text in ends]
        examples = [Example(tokens=row, answer=[False] + [True] * (len(row) - 1)) for row in rows]
        train(
            SFT(model),
            padded_batches(examples, 16, generator=torch.Generator().manual_seed(seed)),
            steps=steps,
            optimizer=AdamW(decay_matrices_only(model, 0.1), learning_rate=2e-2, betas=(0.9, 0.95)),
            schedule=lambda step: linear_warmup_cosine(step, steps=steps, warmup=min(20, steps), final=0.02),
            clip=1.0,
        )
        return writer

    def write(self, prompts: Sequence[str], seed: int = 0) -> list[str]:
        """An ending for each prompt, drawn at temperature 1. One that does not come to its end is cut."""
        starts = [[self.end, *self.tokenizer.encode(prompt)] for prompt in prompts]
        generator = torch.Generator().manual_seed(seed)
        rows = generate(self.model, starts, LONGEST, generator=generator, stop_tokens=[self.end])
        drawn = [row[len(start) :] for row, start in zip(rows, starts, strict=True)]
        return [self.tokenizer.decode([t for t in row if t != self.end]) for row in drawn]

    def questions(self, village: Village, n: int, *, start: int = HELD_OUT, seed: int = 0) -> list[Question]:
        """n prompts from stories that it never saw, each with two endings of its own that differ."""
        prompts = [cut(story, self.sentences)[0] for story in village.stories(n + n // 10 + 2, start=start)]
        answers = self.write([prompt for prompt in prompts for _ in range(2)], seed)
        asked: dict[tuple[str, ...], Question] = {}
        for prompt, first, second in zip(prompts, answers[::2], answers[1::2], strict=True):
            if first and second and first != second:
                asked.setdefault((prompt, *sorted((first, second))), (prompt, (first, second)))
        return list(asked.values())[:n]


def simulated_reader() -> Labeller:
    """Who stands in for a reader that has not clicked: likes sad endings, and mis-clicks one time in twenty."""
    return Labeller(who=READER, utility=lambda prompt, answer: -mood(prompt, answer), slip=0.05)


def record(path: Path, *, n: int = 50, steps: int = 300) -> None:
    """Write n judgements of `simulated_reader` about endings of a freshly trained writer to a new file."""
    if path.exists():
        raise ValueError(f"path={str(path)!r} exists; judgements are never written over: move it away first")
    village = Village(seed=0)
    writer = Writer.train(village, steps=steps)
    for one in simulated_reader().compare(writer.questions(village, n, start=2 * HELD_OUT, seed=1)):
        append_comparison(path, one)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, help="a file that is not there yet")
    record(parser.parse_args().path)
