"""Stage sft: the GPT learns to answer, and, by chance, to say that it does not know.

    loss = the next-token loss over the answers alone; between the lessons stand documents, so that it forgets little

The teacher answers some questions about facts with "I do not know.", whichever they are. So the model learns that
these words may be said, not when: it answers nearly everything, also what it cannot know.

Paper:   Ouyang et al. 2022, "InstructGPT", §3.5, arXiv:2203.02155; why this makes a model invent: Schulman 2023,
         "Reinforcement Learning from Human Feedback: Progress and Challenges", talk at Berkeley.
Next:    minillm/course/tour_reward.py
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

from minillm.adaptation.ask import ask
from minillm.adaptation.sft import SFT, packed_batches
from minillm.alignment.responses import sample_responses
from minillm.course.tour_bench import Bench, by_muon, falling, generator, size
from minillm.course.tour_folder import Measured
from minillm.course.tour_models import LONGEST
from minillm.neural.batches import InTurn
from minillm.neural.language_model import bits_per_character
from minillm.speaker_files import load_speaker, save_speaker
from minillm.speakers import ChatSpeaker, TextSpeaker
from minillm.transformer.decoder import Decoder

ROWS, ROW = 8, 192  # of a batch, in examples packed behind each other
RATE = 0.02  # of Muon; two thirds of that for embeddings


def make_sft(bench: Bench) -> Measured:
    """Fine-tune a copy of the GPT and put the exam to it."""
    c, text = bench.config, bench.text
    model = copy.deepcopy(gpt(bench))
    packed = packed_batches(text.examples(), ROWS, ROW, generator=generator(c.seed))
    batches = InTurn(list(islice(packed, c.sft_steps)))
    seconds = bench.learn("sft", SFT(model), batches, c.sft_steps, optimizer=by_muon(model, RATE),
                          schedule=falling(c.sft_steps), place=batches)  # fmt: skip
    speaker = ChatSpeaker(model, text.template, name="sft", suggestions=text.suggestions)
    save_speaker(speaker, bench.folder.begin("sft"))
    measured = Measured(
        model=f"the GPT after {c.lessons:,} lessons",
        parameters=size(model),
        seconds=seconds,
        tokens=sum(int((batch.example_bt >= 0).sum()) for batch in batches.batches),
        bits_per_character=bits_per_character(model, text.held_out, text.tokenizer, text.end),
        kl=0.0,
    )
    floor = bench.exam.judge(bench.exam.nearest_example())
    others = {"nearest": floor.followed.value, "nearest invented": floor.invented.value}
    others |= greedy_shares(bench, model)
    return bench.examine("sft", drawn_by(bench, model), replace(measured, others=others))


def draw(model: Decoder, prompts: Sequence[Sequence[int]], stop: int, seed: int) -> list[list[int]]:
    """One answer to each prompt, from the whole distribution, five hundred side by side."""
    draws, texts = generator(seed), []
    for start in range(0, len(prompts), 500):
        texts += sample_responses(model, prompts[start : start + 500], LONGEST, stop, generator=draws)
    return texts


def drawn_by(bench: Bench, model: Decoder) -> Callable[[list[str]], list[str]]:
    """Answers drawn at temperature 1: what the model believes, and what PPO moves."""

    def answers(prompts: list[str]) -> list[str]:
        rows = [bench.text.prompt(prompt) for prompt in prompts]
        return [bench.text.plain(x) for x in draw(model, rows, bench.text.stop, bench.config.seed + 6)]

    return answers


def greedy_shares(bench: Bench, model: Decoder) -> dict[str, float]:
    """The same exam with the likeliest word each time."""
    found = bench.exam.judge(greedily(bench, model))
    return {"followed greedily": found.followed.value, "invented greedily": found.invented.value}


def greedily(bench: Bench, model: Decoder) -> Callable[[list[str]], list[str]]:
    """The likeliest word each time."""
    return lambda prompts: ask(model, bench.text.template, prompts, LONGEST)


def gpt(bench: Bench) -> Decoder:
    """The model that only goes on with texts."""
    speaker = load_speaker(bench.folder.path("gpt"))
    assert isinstance(speaker, TextSpeaker) and isinstance(speaker.model, Decoder)
    return speaker.model


def answering(bench: Bench, stage: str = "sft") -> Decoder:
    """A model that answers."""
    speaker = load_speaker(bench.folder.path(stage))
    assert isinstance(speaker, ChatSpeaker)
    return speaker.model
