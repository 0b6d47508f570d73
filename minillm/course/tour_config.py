"""TourConfig: every decision of the tour that a reader may change, and which stages a change reaches.

    key(stage) = hash(version, what the stage reads of the settings, key(parent) …)

A stage is kept in a folder that is named after its key. So a changed decision trains those stages again that depend on
it, and only those: other comparisons for the reward model leave the GPT as it is, and a larger GPT is a new beginning
for all that is made of it.

Paper:   content-addressed results: Dolstra 2006, "The Purely Functional Software Deployment Model", §2.
Names:   a stage's parents are those whose model it begins from.
Next:    minillm/course/tour_text.py
"""

import hashlib
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from minillm.core.settings import check_seed, check_whole_numbers

VERSION = 4  # of the stages: a higher one trains all of them again
STAGES = ("eliza", "ngram", "window", "lstm", "gpt", "sft", "rm", "ppo")
PARENTS: dict[str, tuple[str, ...]] = {"sft": ("gpt",), "rm": ("sft",), "ppo": ("sft", "rm")}
_TEXT = ("seed", "families", "stories", "held_out", "threads")
_EXAM = ("exam",)
READS: dict[str, tuple[str, ...]] = {
    "eliza": ("seed", "families", "exam"),
    "ngram": (*_TEXT, "order"),
    "window": (*_TEXT, "window", "window_steps"),
    "lstm": (*_TEXT, "state", "lstm_steps"),
    "gpt": (*_TEXT, *_EXAM, "batch", "n_layer", "d_model", "gpt_steps"),
    "sft": (*_EXAM, "lessons", "shrugs", "sft_steps"),
    "rm": (*_EXAM, "comparisons", "wrong", "sharpness", "prior", "best_of", "click_weight"),
    "ppo": (*_EXAM, "beta", "rollout", "ppo_updates"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TourConfig:
    """The decisions of one tour. More fields than is our habit: each is one that a reader may want to change.

    >>> from dataclasses import replace
    >>> config = TourConfig.quick()
    >>> bolder = replace(config, beta=0.01)
    >>> [name for name in STAGES if bolder.key(name) != config.key(name)]
    ['ppo']
    """

    # The text
    seed: int = 0  # of the village and of every draw
    families: int = 16  # of four people each
    stories: int = 4000  # that are read, each with six short texts beside it
    held_out: int = 60  # stories on which all are measured
    # The language models
    order: int = 6  # of the n-grams: words, the predicted one included
    batch: int = 8  # rows of 224 tokens in a step of the GPT
    window: int = 8  # words that the window network sees
    window_steps: int = 5000
    state: int = 256  # numbers in the LSTM's memory
    lstm_steps: int = 3000
    n_layer: int = 3  # blocks of the GPT
    d_model: int = 96  # width of the GPT
    gpt_steps: int = 1200
    # Instructions
    lessons: int = 3900  # instructions with their answers
    shrugs: float = 0.15  # the share of questions about facts that the teacher answers with "I do not know."
    sft_steps: int = 400
    exam: int = 20  # questions of each task and kind of novelty
    # Taste
    comparisons: int = 4000  # of two answers, by the simulated labeller, at most; who always says the same gives none
    wrong: float = -1.0  # what a wrong answer is worth, where a right one is 1 and "I do not know." is 0
    sharpness: float = 3.0  # of the labeller; 1 is hesitant, infinity never errs
    prior: float = 100.0  # of the reward model: the larger, the less it trusts the comparisons
    best_of: int = 8  # answers from which the reward model chooses
    clicks: Path | None = None  # a file of your own comparisons, for the reward model
    click_weight: int = 8  # how many simulated comparisons one of yours counts as
    # Alignment
    beta: float = 0.05  # the price of a nat of divergence, in points of reward
    rollout: int = 256  # answers in an update of PPO
    ppo_updates: int = 40
    # The machine
    threads: int = 1  # another number of threads gives other last digits

    def __post_init__(self) -> None:
        if isinstance(self.clicks, str):
            object.__setattr__(self, "clicks", Path(self.clicks))
        check_seed(self.seed)
        defaults = {field.name: field.default for field in fields(self)}
        whole = {name: value for name, value in defaults.items() if type(value) is int and name != "seed"}
        check_whole_numbers({name: (getattr(self, name), value) for name, value in whole.items()})
        if not 0 < self.shrugs < 1:
            raise ValueError(f"shrugs={self.shrugs!r} is a share between 0 and 1: without any, a model never finds "
                             "that it may say so; shrugs=0.15 works")  # fmt: skip
        if not (math.isfinite(self.wrong) and self.wrong < 1):
            raise ValueError(f"wrong={self.wrong!r} must be below 1, the worth of a right answer; wrong=-1.0 works")
        for name in ("sharpness", "prior", "beta"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name}={getattr(self, name)!r} must be a finite number above 0; "
                                 f"{name}={defaults[name]} works")  # fmt: skip

    @classmethod
    def full(cls) -> Self:
        """The tour of the course: some minutes on two cores."""
        return cls()

    @classmethod
    def quick(cls) -> Self:
        """All stages in well under a minute: every model is worse, and the order of most is the same."""
        return cls(
            stories=800, held_out=20, batch=4, window_steps=250, state=96, lstm_steps=500, n_layer=2, d_model=64,
            gpt_steps=220, lessons=1300, sft_steps=200, exam=6, comparisons=600, best_of=4, rollout=64,
            ppo_updates=10,
        )  # fmt: skip

    def key(self, stage: str) -> str:
        """Twelve letters that change with anything that the stage depends on. ValueError for an unknown stage."""
        if stage not in STAGES:
            raise ValueError(f"stage={stage!r} must be one of {', '.join(STAGES)}")
        read = {name: getattr(self, name) for name in READS[stage]}
        parts = [VERSION, stage, read, [self.key(parent) for parent in PARENTS.get(stage, ())]]
        if stage == "rm" and self.clicks is not None:
            parts.append(hashlib.sha256(self.clicks.read_bytes()).hexdigest())
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
