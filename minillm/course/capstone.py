"""What chapter 26 adds to the tour: which numbers a decision moved, what every stage says, and whose clicks those are.

    moved = a number of one row that differs between two tours; told apart = the two 95 % intervals do not meet

A simulated reader stands in where nobody has clicked. He cannot look anything up, so a claim pleases him more than
"I do not know.", whatever is true: the rater of whom one has to think before one trains on clicks.

    python -m minillm.course.capstone FILE            records sixty of his clicks about answers of a quick tour

Paper:   raters who cannot check what they judge: Ouyang et al. 2022, "InstructGPT", §3.4 and §5.3, arXiv:2203.02155.
Next:    minillm/course/preference_desk.py
"""

import argparse
import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from minillm.adaptation.chat_template import Message
from minillm.alignment.labellers import Labeller, Question
from minillm.alignment.preferences import append_comparison
from minillm.course.places import learner_folder
from minillm.course.progress import QUIET
from minillm.course.tour import TourConfig, run_tour
from minillm.course.tour_bench import Bench
from minillm.course.tour_exam import is_claim
from minillm.course.tour_folder import TourFolder
from minillm.course.tour_reward import questions
from minillm.course.tour_sft import answering
from minillm.course.tour_table import StageRow
from minillm.course.tour_text import FACTS
from minillm.speaker_files import load_speaker
from minillm.text.instructions import Instruction

READER = "simulated reader who cannot look anything up"
CLICKS = 60
_COLUMNS = ("bits_per_character", "followed", "invented", "worth", "reward", "kl")


def workshop() -> Path:
    """Where the chapter trains: in the learner's folder, beside the tour and not in its way; made if it is missing.

    Where outputs are checked (MINILLM_QUIET) it is a folder that is empty at first and goes with the process.
    """
    if os.environ.get(QUIET):
        return _throw_away()
    folder = learner_folder() / "chapter-26"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def _throw_away() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="minillm-26-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """A number that a decision moved."""

    stage: str
    column: str
    before: float
    after: float
    told_apart: bool | None  # None for numbers that have no interval

    def __str__(self) -> str:
        sure = {None: "", True: "  told apart", False: "  not told apart"}[self.told_apart]
        return f"{self.stage:7}{self.column:20}{self.before:7.3f} → {self.after:7.3f}{sure}"


def moved(before: Sequence[StageRow], after: Sequence[StageRow]) -> list[Move]:
    """Every number that differs between two tours, stage by stage."""
    found = []
    for one, other in zip(before, after, strict=True):
        for column in _COLUMNS:
            old, new = getattr(one, column), getattr(other, column)
            if old is None or new is None or old == new:
                continue
            one_ends, other_ends = (getattr(row, f"{column}_interval", None) for row in (one, other))
            told = None if one_ends is None or other_ends is None else not _meet(one_ends, other_ends)
            found.append(Move(stage=one.name, column=column, before=old, after=new, told_apart=told))
    return found


def _meet(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def said(config: TourConfig, folder: Path, prompts: Sequence[str], stages: Sequence[str]) -> dict[str, list[str]]:
    """What each stage says to each prompt: its likeliest words."""
    found: dict[str, list[str]] = {}
    for stage in stages:
        speaker = load_speaker(TourFolder(config, folder).path(stage))
        found[stage] = [
            "".join(speaker.reply([Message(role="user", text=prompt)], temperature=0, generator=torch.Generator()))
            for prompt in prompts
        ]
    return found


def look_up(config: TourConfig, name: str) -> list[str]:
    """All that the texts of a tour tell of a person; what is true and told nowhere is not in it."""
    text = Bench(TourFolder(config, Path()), print).text
    return [fact.statements[0] for fact in text.village.truth if fact.probability and fact.subject == name]


def click_questions(config: TourConfig, folder: Path, n: int = CLICKS, seed: int = 26) -> list[Question]:
    """n questions about facts, half of them answered in no text, each with two answers of the fine-tuned model.

    Where the model says "I do not know." and something else, these two are shown: there is most to choose.
    """
    bench = Bench(TourFolder(config, folder), print)
    lessons = bench.text.instructions.training(4 * n, start=50_000)
    told = list(dict.fromkeys(one for one in lessons if one.task in FACTS))
    asked: list[Instruction] = [one for pair in zip(told, bench.text.practice_unknown(), strict=False) for one in pair]
    found = {prompt: answers for prompt, answers in questions(bench, answering(bench), asked, seed=seed)}
    frank = [prompt for prompt, answers in found.items() if not all(map(is_claim, answers))]
    others = [prompt for prompt in found if prompt not in set(frank)]
    return [(prompt, found[prompt]) for prompt in (frank + others)[:n]]


def hopeful_reader() -> Labeller:
    """Who stands in for a reader that has not clicked: any claim pleases him, and he mis-clicks one time in twenty."""
    return Labeller(who=READER, utility=lambda prompt, answer: float(is_claim(answer)), sharpness=4.0, slip=0.05)


def record(path: Path, config: TourConfig, folder: Path) -> None:
    """Write the clicks of `hopeful_reader` about a quick tour's answers to a new file."""
    if path.exists():
        raise ValueError(f"path={str(path)!r} exists; clicks are never written over: move it away first")
    run_tour(config, folder, print, until="sft")
    for one in hopeful_reader().compare(click_questions(config, folder)):
        append_comparison(path, one)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, help="a file that is not there yet")
    record(parser.parse_args().path, TourConfig.quick(), workshop())
