"""The desk at which a person judges: one question at a time, every judgement on the disk before the next is shown.

The desk knows nothing of browsers: `widgets_preferences.py` puts buttons on it. Which answer stands on the left is
drawn at random for each question, always the same way for the same question, and kept with the judgement. Open it
again on the same file, after a killed kernel say, and it goes on where it was.

Next:    minillm/course/widgets_preferences.py
"""

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from minillm.alignment.labellers import Question
from minillm.alignment.preferences import (
    Agreement,
    Comparison,
    agreement,
    append_comparison,
    mend,
    read_comparisons,
    take_back,
)
from minillm.course.progress import QUIET
from minillm.text.dice import uniform_numbers

SIDES = ("left", "right")


@dataclass(frozen=True, slots=True)
class Shown:
    """A question as it lies on the desk."""

    prompt: str
    answers: tuple[str, str]
    left: int  # which of the answers stands on the left

    @property
    def sides(self) -> tuple[str, str]:
        """The answers as seen, from left to right."""
        return self.answers[self.left], self.answers[1 - self.left]


class Desk:
    """Questions, a file, and the name of who judges.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     desk = Desk([("Once", ("He smiled.", "He cried."))], Path(folder) / "clicks.jsonl", who="ada")
    ...     _ = desk.choose("left")
    ...     desk.progress, desk.current
    ('1 of 1 judged', None)
    """

    def __init__(
        self,
        questions: Sequence[Question],
        path: str | os.PathLike[str],
        who: str = "me",
        *,
        seed: int = 0,
        clock: Callable[[], str] = lambda: datetime.now(UTC).isoformat(timespec="seconds"),
    ) -> None:
        """`seed` draws the sides. A half-written last line of the file is kept aside, and `notice` says so."""
        self.questions = [(prompt, (first, second)) for prompt, (first, second) in questions]
        if not self.questions or len({_key(*question) for question in self.questions}) < len(self.questions):
            raise ValueError(f"questions holds {len(self.questions)}; the rule is one or more, and none of them twice")
        self.path, self.who, self.seed, self.clock = Path(path), who, seed, clock
        for prompt, answers in self.questions:  # what cannot be written is refused now, not after a click
            Comparison(prompt=prompt, answers=answers, choice=0, who=who)
        self.notice = ""
        self._mend()
        self._judged = {_key(one.prompt, one.answers) for one in self.comparisons if one.who == who}

    @property
    def comparisons(self) -> list[Comparison]:
        """All judgements that stand in the file, of every rater."""
        return read_comparisons(self.path) if self.path.exists() else []

    @property
    def mine(self) -> list[Comparison]:
        """Those of this rater about the questions of this desk."""
        asked = {_key(*question) for question in self.questions}
        return [one for one in self.comparisons if one.who == self.who and _key(one.prompt, one.answers) in asked]

    @property
    def current(self) -> Shown | None:
        """The first question that this rater has not judged; None when all are."""
        for prompt, answers in self.questions:
            if _key(prompt, answers) not in self._judged:
                names = [zlib.crc32(text.encode()) for text in (prompt, *sorted(answers))]
                (u,) = uniform_numbers([self.seed, *names], 1)
                alphabetical = u < 0.5
                return Shown(prompt, answers, left=int((answers[0] < answers[1]) != alphabetical))
        return None

    @property
    def progress(self) -> str:
        """How far the rater is."""
        done = sum(_key(*question) in self._judged for question in self.questions)
        return f"{done} of {len(self.questions)} judged"

    def choose(self, side: str) -> Comparison:
        """Prefer the answer on one side, "left" or "right", of the current question; written when this returns."""
        shown = self.current
        if side not in SIDES or shown is None:
            raise ValueError(f"side={side!r} must be 'left' or 'right', and a question open ({self.progress})")
        choice = shown.left if side == "left" else 1 - shown.left
        one = Comparison(
            prompt=shown.prompt, answers=shown.answers, choice=choice, who=self.who, left=shown.left, when=self.clock()
        )
        self._mend()
        append_comparison(self.path, one)
        self._judged.add(_key(shown.prompt, shown.answers))
        return one

    def undo(self) -> Comparison | None:
        """Take back the rater's last judgement, so that its question is open again; None when there is none."""
        if not any(one.who == self.who for one in self.comparisons):
            return None
        taken = take_back(self.path, self.who)
        self._judged = {_key(one.prompt, one.answers) for one in self.comparisons if one.who == self.who}
        return taken

    def agreement(self) -> Agreement | None:
        """How far the raters of the file agree; None where no two judged the same, or all said the same."""
        try:
            return agreement(self.comparisons)
        except ValueError:
            return None

    def _mend(self) -> None:
        if torn := mend(self.path):
            self.notice = f"A half-written line was found and kept aside: {torn[:40]}…"


def clicks(desk: Desk, stand_in: str | os.PathLike[str]) -> list[Comparison]:
    """The rater's judgements if every question is judged; else, and where outputs are checked, those of a file.

    Each judgement says in `who` whose it is.
    """
    own = desk.current is None and not os.environ.get(QUIET)
    return desk.mine if own else read_comparisons(stand_in)


def _key(prompt: str, answers: Sequence[str]) -> tuple[str, ...]:
    return prompt, *sorted(answers)
