"""The task of chapter 17: a base model that knows a village and does not answer, lessons, and an exam.

    base       read facts as statements, posts, and quiz sheets without answers
    lessons    questions with answers about one half of the families
    exam       questions about the other half: right is the right thing in the right sentence

Whoever passes has learned a form, and found in the frozen numbers what was never asked for before. `METHODS` names
the ways of fine-tuning and the learning rates that were tried for each, as many for one as for another:

    python -m minillm.course.village_exam       tries them all again and writes the stored result (some minutes)

Paper:   that fine-tuning brings out what pretraining stored: Allen-Zhu and Li 2023, "Physics of Language Models:
         Part 3.1", arXiv:2309.14316. There it needs questions in pretraining too, as our quiz sheets are.
Differs: he or she is not judged: the statements do not say it.
Next:    minillm/course/widgets_17.py
"""

import copy
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minillm.adaptation.adapters import PromptTuned, add_bottlenecks, add_prefix, tune_biases
from minillm.adaptation.chat_template import Example
from minillm.adaptation.lora import add_lora
from minillm.adaptation.modules import freeze
from minillm.adaptation.sft import SFT, SFTBatch, padded_batches
from minillm.core.files import write_atomically
from minillm.neural.batches import random_chunks, token_stream
from minillm.neural.pairs import shuffled
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village
from minillm.text.village_world import Fact
from minillm.training.loop import train
from minillm.training.optim import AdamW, decay_matrices_only, linear_warmup_cosine
from minillm.transformer.decoder import Decoder, DecoderConfig
from minillm.transformer.generate import generate

STEPS, ROWS = 100, 8  # of fine-tuning, the same for every method
CHOOSING, REPORTING = (0, 3), (1, 2)  # halvings of the families: those that choose a rate do not report
STORED = "village_exam_rates.json"

Make = Callable[[Decoder, torch.Generator], Any]
METHODS: dict[str, tuple[Make, tuple[float, ...]]] = {
    "full": (lambda model, g: None, (1e-4, 2e-4, 5e-4, 1e-3, 2e-3)),
    "full, blocks alone": (lambda model, g: freeze(model, model.blocks.parameters()), (2e-4, 5e-4, 1e-3, 2e-3, 5e-3)),
    "LoRA": (lambda model, g: add_lora(model, "blocks.*", 8, 16.0, generator=g), (1e-3, 2e-3, 5e-3, 1e-2, 2e-2)),
    "bottleneck": (lambda model, g: add_bottlenecks(model, 16, generator=g), (2e-3, 5e-3, 1e-2, 2e-2, 5e-2)),
    "prefix tuning": (lambda model, g: add_prefix(model, 16, d_hidden=64, generator=g), (2e-3, 5e-3, 1e-2, 2e-2, 5e-2)),
    "P-Tuning v2": (lambda model, g: add_prefix(model, 16, generator=g), (5e-2, 1e-1, 2e-1, 5e-1, 1.0)),
    "prompt tuning": (lambda model, g: PromptTuned(model, 16, generator=g), (2e-2, 5e-2, 1e-1, 2e-1, 5e-1)),
    "BitFit": (lambda model, g: tune_biases(model), (2e-2, 5e-2, 1e-1, 2e-1, 5e-1)),
}  # how a model is made ready, and the rates that were tried


class VillageExam:
    """What the base reads, the lessons and the exam; all drawn from one seed.

    >>> exam = VillageExam()
    >>> lessons, asked = exam.halves(0)
    >>> len(exam.told), len(lessons) + len(asked)
    (203, 203)
    """

    def __init__(self, seed: int = 0) -> None:
        self.village = Village(seed, families=16)
        self.told = [fact for fact in self.village.truth if fact.probability]
        self.new_posts = self.village.posts(60, start=100_000)
        self.generator = torch.Generator().manual_seed(seed)
        self.texts = 3 * [s for fact in self.told for s in fact.statements] + self.quizzes() + self.village.posts(120)
        words = "\n".join([*self.texts, *self.new_posts, *(fact.answer for fact in self.told)])
        self.tokenizer = WordTokenizer.train(words, special_tokens=["</s>"])
        self.end = self.tokenizer.special_ids["</s>"]

    def quizzes(self) -> list[str]:
        """Sheets of four questions without answers, every question on two of them."""
        order = [i for _ in range(2) for i in shuffled(len(self.village.truth), self.generator)]
        questions = [self.village.truth[i].question for i in order]
        return [" ".join(questions[i : i + 4]) for i in range(0, len(questions), 4)]

    @cached_property
    def base(self) -> Decoder:
        """The model that read all that, trained when first asked for (some seconds). Take copies."""
        model = Decoder(
            DecoderConfig(
                vocabulary=len(self.tokenizer.vocab),
                context=128,
                n_layer=2,
                n_head=4,
                d_model=64,
                positions="rope",
                first_scale=12**0.5,  # the usual 0.02 is for a stream twelve times as wide
            )
        )
        order = shuffled(len(self.texts), self.generator)
        stream_n = token_stream([self.texts[i] for i in order], self.tokenizer, self.end)
        batches = random_chunks(stream_n, b=16, t=48, generator=self.generator)
        optimizer = AdamW(decay_matrices_only(model, 0.1), learning_rate=1e-2, betas=(0.9, 0.95))
        train(model, batches, steps=350, optimizer=optimizer, clip=1.0,
              schedule=lambda step: linear_warmup_cosine(step, steps=350, warmup=20, final=0.02))  # fmt: skip
        return model

    def halves(self, seed: int) -> tuple[list[Fact], list[Fact]]:
        """The facts of one half of the families, and those of the other."""
        people = self.village.people
        families = sorted({people[fact.subject].family for fact in self.told})
        order = shuffled(len(families), torch.Generator().manual_seed(seed))
        chosen = {families[i] for i in order[: len(families) // 2]}
        sides: tuple[list[Fact], list[Fact]] = ([], [])
        for fact in self.told:
            sides[people[fact.subject].family not in chosen].append(fact)
        return sides

    def lessons(self, seed: int, answer: Callable[[Fact], str] = lambda fact: fact.answer) -> list[SFTBatch]:
        """Batches of questions with answers about one half: the same for every method."""
        examples = []
        for fact in self.halves(seed)[0]:
            asked, said = self.tokenizer.encode(fact.question), self.tokenizer.encode(answer(fact))
            counts = [False] * (1 + len(asked)) + [True] * (len(said) + 1)
            examples.append(Example(tokens=[self.end, *asked, *said, self.end], answer=counts))
        return list(islice(padded_batches(examples, ROWS, generator=torch.Generator().manual_seed(seed)), STEPS))

    def say(self, model: Any, texts: Sequence[str], words: int = 8) -> list[str]:
        """What the model writes after each text, always the likeliest word."""
        prompts = [[self.end, *self.tokenizer.encode(text)] for text in texts]
        rows = generate(model, prompts, words, temperature=0, stop_tokens=[self.end])
        written = [row[len(prompt) :] for row, prompt in zip(rows, prompts, strict=True)]
        return [self.tokenizer.decode([token for token in row if token != self.end]) for row in written]

    def right(self, model: Any, facts: Sequence[Fact]) -> list[bool]:
        """Which questions are answered with the right thing, in a whole sentence; its first word is not judged."""
        answers = self.say(model, [fact.question for fact in facts])
        return [said.split()[1:] == fact.answer.split()[1:] for said, fact in zip(answers, facts, strict=True)]

    def knows(self, model: Any, facts: Sequence[Fact]) -> float:
        """The share of facts whose statement is ended with the right word."""
        starts = [fact.statements[0].rpartition(f" {fact.object}")[0] for fact in facts]
        ends = self.say(model, starts, words=1)
        return sum(end == fact.object for end, fact in zip(ends, facts, strict=True)) / len(facts)

    def guessed(self, seed: int) -> list[bool]:
        """The exam of somebody who names, for each kind of question, what was most often right in the lessons."""
        learnt, asked = self.halves(seed)
        usual = {kind: Counter(f.object for f in learnt if f.relation == kind).most_common(1)[0][0]
                 for kind in {f.relation for f in learnt}}  # fmt: skip
        return [fact.object == usual.get(fact.relation) for fact in asked]


def adapted(base: Decoder, method: str, seed: int) -> Any:
    """A copy of the base, made ready for a method by its name."""
    model = copy.deepcopy(base)
    made = METHODS[method][0](model, torch.Generator().manual_seed(seed))
    return made if isinstance(made, PromptTuned) else model


def learn(model: nn.Module, lessons: Sequence[SFTBatch], rate: float) -> float:
    """Train what is not frozen on the lessons, each once; the processor seconds that it took are returned."""
    began = time.process_time()
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], learning_rate=rate, weight_decay=0.0)
    steps = len(lessons)
    train(SFT(model), lessons, steps=steps, optimizer=optimizer, clip=1.0,
          schedule=lambda step: linear_warmup_cosine(step, steps=steps, warmup=min(5, steps)))  # fmt: skip
    return time.process_time() - began


def tried(exam: VillageExam, method: str, rate: float) -> float:
    """The share of questions that is right after lessons at this rate, over the halvings that choose."""
    right: list[bool] = []
    for seed in CHOOSING:
        model = adapted(exam.base, method, seed)
        learn(model, exam.lessons(seed), rate)
        right += exam.right(model, exam.halves(seed)[1])
    return sum(right) / len(right)


def stored_rates() -> dict[str, dict[float, float]]:
    """For every method the rates that were tried, and the share of questions that was then right.

    >>> sorted(stored_rates()) == sorted(METHODS)
    True
    """
    text = (resources.files("minillm.course") / "data" / STORED).read_text("utf-8")
    return {method: {float(r): right for r, right in found.items()} for method, found in json.loads(text).items()}


def main() -> None:
    """Try all rates and write the result."""
    torch.set_num_threads(1)
    exam, found = VillageExam(), {}
    for method, (_, rates) in METHODS.items():
        found[method] = {str(rate): round(tried(exam, method, rate), 3) for rate in rates}
        print(method, found[method], flush=True)
    path = Path(str(resources.files("minillm.course") / "data" / STORED))
    write_atomically(path, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
