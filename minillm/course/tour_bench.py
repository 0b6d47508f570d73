"""The bench on which every stage is made: the text, the folder, the stages before it, and training that can be killed.

    seconds = Σ over all lives of the process           (processor seconds; what was lost with a kill is not in it)

Everything that a step depends on is in a checkpoint: parameters, the optimiser's memory, the place in the data, the
random generators, the seconds so far. So a stage that was killed ends with the numbers of one that was not.

Paper:   see minillm/training/checkpoint.py.
Names:   a `Bench` is one tour at work; `learn` is `train` with its checkpoints and a line that shows how far it is.
Next:    minillm/course/tour_models.py
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from minillm.core.files import write_atomically
from minillm.course.progress import progress
from minillm.course.tour_exam import Exam
from minillm.course.tour_folder import RUN, Measured, TourFolder
from minillm.course.tour_text import TourText
from minillm.neural.batches import token_stream
from minillm.training.checkpoint import Checkpoints
from minillm.training.loop import Optimizing, Step, Trainable, train
from minillm.training.muon import Together, muon_with_adamw, polar_express

SAVES = 20  # checkpoints in a stage: what a kill can cost is a twentieth of it
REPLIES = "exam.json"


class Clock:
    """Processor seconds of a stage, over all lives of the process.

    >>> clock = Clock()
    >>> clock.load_state_dict({"seconds": 7.0})
    >>> 7 <= clock.seconds < 8
    True
    """

    def __init__(self) -> None:
        self.before, self.began = 0.0, time.process_time()

    @property
    def seconds(self) -> float:
        """So far."""
        return self.before + time.process_time() - self.began

    def state_dict(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, saved: Mapping[str, float]) -> None:
        """Go on counting from there."""
        self.before, self.began = saved["seconds"], time.process_time()


class Bar:
    """One line that shows how far a stage is; a callback of `train`, which closes it."""

    def __init__(self, label: str, steps: int, start: int = 0, unit: str = "steps") -> None:
        self._line = progress(range(start, steps), label, unit=unit, before=start)
        next(self._line, None)

    def __call__(self, row: Step | None = None) -> None:
        """One more step is done."""
        next(self._line, None)

    def close(self) -> None:
        """End the line, wherever it is."""
        self._line.close()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Bench:
    """A tour at work: what its stages share."""

    def __init__(self, folder: TourFolder, say: Callable[[str], object]) -> None:
        self.folder, self.config, self.say = folder, folder.config, say

    @cached_property
    def text(self) -> TourText:
        """The village and its texts."""
        return TourText(self.config)

    @cached_property
    def stream_n(self) -> Tensor:
        """All that is read, as one row of tokens."""
        return token_stream(self.text.documents, self.text.tokenizer, self.text.end)

    @cached_property
    def exam(self) -> Exam:
        """The questions, the same for all."""
        return Exam(self.text)

    def learn(
        self,
        stage: str,
        model: Trainable,
        batches: Any,
        steps: int,
        *,
        optimizer: Optimizing,
        schedule: Callable[[int], float],
        place: Any,
    ) -> float:
        """Train to the end, from wherever an earlier life left it; the seconds that it took.

        `place` is what knows where the batches stand: their generator, or the batches themselves.
        """
        clock = Clock()
        parts = {"model": model, "optimizer": optimizer, "place": place, "clock": clock}
        checkpoints = self.checkpoints(stage, parts, steps)
        start = self.resume(checkpoints)
        train(model, batches, steps=steps, optimizer=optimizer, schedule=schedule, clip=1.0, start=start,
              callbacks=[Bar(stage, steps, start), checkpoints])  # fmt: skip
        return clock.seconds

    def checkpoints(self, stage: str, parts: Mapping[str, Any], steps: int, saves: int = SAVES) -> Checkpoints:
        """Where a stage that is on its way is kept."""
        return Checkpoints(self.folder.begin(stage) / RUN, parts, every=max(1, steps // saves))

    def resume(self, checkpoints: Checkpoints) -> int:
        """How many steps are done; damaged checkpoints are told and put aside, and the stage begins again."""
        try:
            return checkpoints.resume()
        except ValueError as error:
            aside = self.folder.put_aside(checkpoints.folder)
            self.say(f"{error} It is kept as {aside.name}; the stage begins again.")
            return checkpoints.resume()

    def examine(self, stage: str, answers: Callable[[list[str]], list[str]], measured: Measured) -> Measured:
        """Put the exam to a model, keep what it said, and add the shares to what was measured."""
        found = self.exam.judge(answers)
        rows = [
            {"task": one.task, "prompt": one.prompt, "right": one.answer, "said": said}
            for one, said in zip(self.exam.questions, found.replies, strict=True)
        ]
        write_atomically(self.folder.begin(stage) / REPLIES, json.dumps(rows, ensure_ascii=False, indent=1))
        return replace(measured, followed=found.followed, invented=found.invented, silent=found.silent)

    def replies(self, stage: str) -> list[str]:
        """What an earlier stage said in the exam."""
        rows = json.loads((self.folder.path(stage) / REPLIES).read_text(encoding="utf-8"))
        return [row["said"] for row in rows]


def size(model: nn.Module) -> int:
    """How many numbers a model has.

    >>> size(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters())


def by_muon(model: nn.Module, rate: float) -> Together:
    """The recipe's optimiser in float32, which is the same on every machine: Muon, and AdamW for what is no matrix."""
    return muon_with_adamw(model, learning_rate=rate, adamw_learning_rate=2 / 3 * rate, momentum=0.9,
                           polynomials=polar_express(4), in_bfloat16=False)  # fmt: skip


def falling(steps: int) -> Callable[[int], float]:
    """The factor on the learning rate: from 1 in a line to nearly 0.

    >>> [falling(4)(step) for step in (1, 2, 4)]
    [1.0, 0.75, 0.25]
    """
    return lambda step: 1.0 - min(1.0, (step - 1) / steps)


def generator(seed: int) -> torch.Generator:
    """A generator of random numbers of its own."""
    return torch.Generator().manual_seed(seed)
