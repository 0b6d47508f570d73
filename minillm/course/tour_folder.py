"""Stages on disk: whole, or not there, or on their way; killed at any moment, the tour goes on where it was.

    <folder>/gpt-3f19c2a8b07d/          named after what the stage depends on
        run/                            checkpoints while it trains
        exam.json, speaker files …      what it is when it is trained
        stage.json                      written last: what was measured, and the hash of every other file

A stage without `stage.json` is on its way: it goes on from its newest checkpoint. One whose files are not those that
were written is put aside under another name, told, and trained again.

Paper:   the order of writing is that of minillm/training/checkpoint.py: content first, the name that promises it last.
Names:   `Measured` is what a stage found out about its model; verdicts come later, when all stages are there.
Next:    minillm/course/tour_bench.py
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minillm.core.files import write_atomically
from minillm.course.places import learner_folder
from minillm.course.tour_config import STAGES, TourConfig
from minillm.course.tour_exam import Share

DONE, RUN, NEWEST, FORMAT = "stage.json", "run", "newest.json", "minillm-tour-stage-1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What was measured of one stage's model, as plain numbers; None where a number has no meaning."""

    model: str  # what it is, in a few words
    parameters: int | None = None
    seconds: float = field(default=0.0, compare=False)  # of the processor, while it learned
    tokens: int | None = None  # read while it learned
    bits_per_character: float | None = None
    followed: Share | None = None
    invented: Share | None = None
    silent: Share | None = None  # shrugs at questions whose answer was told
    reward: float | None = None
    kl: float | None = None  # nats an answer, against the fine-tuned model
    others: dict[str, float] = field(default_factory=dict)  # what only this stage has

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, fields: dict[str, Any]) -> "Measured":
        """What `as_plain` gave. ValueError or TypeError for anything else."""
        shares = {
            name: None if (v := fields[name]) is None else Share(**v) for name in ("followed", "invented", "silent")
        }
        return cls(**{**fields, **shares})


class Damaged(ValueError):
    """A finished stage whose files are not those that were written."""


class TourFolder:
    """Where the stages of one tour are kept.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = TourFolder(TourConfig.quick(), Path(name))
    ...     before = folder.read("eliza")
    ...     folder.finish("eliza", Measured(model="rules"))
    ...     before, folder.read("eliza").model
    (None, 'rules')
    """

    def __init__(self, config: TourConfig, folder: Path | None = None) -> None:
        self.config = config
        self.folder = learner_folder() / "tour" if folder is None else Path(folder)
        self._verified: set[str] = set()

    def path(self, stage: str) -> Path:
        """The folder of a stage; it may not exist yet."""
        return self.folder / f"{stage}-{self.config.key(stage)}"

    def begin(self, stage: str) -> Path:
        """The folder of a stage that is about to be trained, made if it is missing."""
        path = self.path(stage)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def read(self, stage: str) -> Measured | None:
        """What was measured of a finished stage; None if it is not finished. Raises `Damaged` if it no longer is."""
        path = self.path(stage)
        if not (path / DONE).exists():
            return None
        try:
            saved = json.loads((path / DONE).read_text(encoding="utf-8"))
            if saved["format"] != FORMAT:
                raise ValueError(f"format={saved['format']!r}, and this program reads {FORMAT!r}")
            measured, files = Measured.from_plain(saved["measured"]), dict(saved["files"])
            if stage not in self._verified:
                for name, digest in files.items():
                    if _sha256(path / name) != digest:
                        raise ValueError(f"{name} is not as it was written")
                self._verified.add(stage)
            return measured
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
            raise Damaged(f"{path} is damaged ({reason})") from None

    def finish(self, stage: str, measured: Measured) -> None:
        """Say that a stage is whole: only now does it count. What was needed to train it goes."""
        path = self.begin(stage)
        files = {f.relative_to(path).as_posix(): _sha256(f) for f in sorted(path.rglob("*")) if _belongs(f, path)}
        saved = {"format": FORMAT, "stage": stage, "measured": measured.as_plain(), "files": files}
        write_atomically(path / DONE, json.dumps(saved, indent=1))
        self._verified.add(stage)
        shutil.rmtree(path / RUN, ignore_errors=True)
        self.point_here()

    def finished(self) -> list[str]:
        """The stages of these settings that are trained, in order; their files are not looked into."""
        return [stage for stage in STAGES if (self.path(stage) / DONE).exists()]

    def point_here(self) -> None:
        """Note which folders hold the stages of this tour: the newest one, with which `minillm chat` talks."""
        done = {stage: self.path(stage).name for stage in self.finished()}
        write_atomically(self.folder / NEWEST, json.dumps({"stages": done}, indent=1))

    def put_aside(self, path: Path) -> Path:
        """Rename a damaged folder, so that it is in nobody's way and can still be looked at."""
        number = 1
        while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
            number += 1
        os.replace(path, aside)
        return aside

    def forget(self) -> None:
        """Remove the stages of exactly these settings; those of others stay."""
        for stage in STAGES:
            shutil.rmtree(self.path(stage), ignore_errors=True)
        self._verified.clear()

    def read_or_put_aside(self, stage: str, say: Callable[[str], object]) -> Measured | None:
        """`read`; a damaged stage is told, kept aside, and then counts as not finished."""
        try:
            return self.read(stage)
        except Damaged as error:
            aside = self.put_aside(self.path(stage))
            say(f"{error}; it is kept as {aside.name}, and the stage is trained again")
            return None


def _belongs(file: Path, stage: Path) -> bool:
    """Whether a file is part of a finished stage: not a checkpoint on the way, nor half of a file."""
    inside = file.relative_to(stage)
    return file.is_file() and inside.parts[0] != RUN and file.name != DONE and not file.name.endswith(".part")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
