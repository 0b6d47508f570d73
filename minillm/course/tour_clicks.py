"""Your own comparisons: read from a file that the chat page or chapter 19 writes, part to learn from, part to check.

    learned   four of five            checked   every fifth, when there are five or more

The file is only read. Half of a last line, of a program that was stopped, is left out and told; so is a comparison
whose two answers are the same in the words of this village, and one that is too long to read.

Paper:   the file's format is that of minillm/alignment/preferences.py.
Next:    minillm/course/tour_ppo.py
"""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from minillm.adaptation.chat_template import ChatTemplate
from minillm.alignment.chats import encode_chats
from minillm.alignment.preferences import Comparison, mend, read_comparisons
from minillm.alignment.reward import Preferred, RewardModel

HELD = 5  # every so many comparisons are held back


@dataclass(frozen=True, kw_only=True, slots=True)
class Clicks:
    """Comparisons of a person, as tokens."""

    learned: list[Preferred] = field(default_factory=list)
    checked: list[Preferred] = field(default_factory=list)
    left_out: tuple[str, ...] = ()  # why some were, in sentences

    @property
    def count(self) -> int:
        """How many can be used."""
        return len(self.learned) + len(self.checked)

    def __str__(self) -> str:
        return " ".join(
            [f"{self.count} of your own comparisons, {len(self.checked)} of them held back.", *self.left_out]
        )

    @classmethod
    def read(cls, path: Path | None, template: ChatTemplate, context: int) -> "Clicks":
        """The usable comparisons of a file; none without a file. ValueError for a file that is none of comparisons."""
        if path is None:
            return cls()
        judged, left_out = standing(path)
        usable: list[Preferred] = []
        for one in judged:
            reason = _unusable(one, template, context)
            if reason:
                left_out.append(f"Left out: {one.prompt[:40]!r}, {reason}.")
            else:
                usable += encode_chats([one], template)
        checked = usable[HELD - 1 :: HELD]
        return cls(
            learned=[pair for i, pair in enumerate(usable) if i % HELD != HELD - 1],
            checked=checked,
            left_out=tuple(left_out),
        )

    def measured(self, reward: RewardModel) -> dict[str, float]:
        """How many there were, and how often the model guesses those that were held back."""
        if not self.count:
            return {}
        found = {"clicks": float(self.count), "clicks held back": float(len(self.checked))}
        if self.checked:
            found["clicks guessed"] = reward.accuracy(self.checked) * len(self.checked)
        return found


def standing(path: Path) -> tuple[list[Comparison], list[str]]:
    """The comparisons of a file, and what is to be said about half a line at its end; the file stays as it is."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"clicks={str(path)!r} is not there; the chat page writes my/likes.jsonl when you judge answers"
        )
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        torn = mend(copy)
        try:
            judged = read_comparisons(copy)
        except ValueError as error:
            raise ValueError(str(error).replace(str(copy), str(path))) from None
    return judged, [] if torn is None else [f"Half a line at the end is left out: {torn.strip()[:40]!r}."]


def _unusable(one: Comparison, template: ChatTemplate, context: int) -> str:
    """Why nothing can be learned from a comparison; "" if something can."""
    try:
        (pair,) = encode_chats([one], template)
    except ValueError as error:
        return str(error)
    if pair.better == pair.worse:
        return "whose two answers are the same in the words that the model knows"
    longest = len(pair.prompt) + max(len(pair.better), len(pair.worse))
    return f"which is {longest} tokens long, and {context} can be read" if longest > context else ""
