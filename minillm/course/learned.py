"""What a learner has solved: `check` writes it down, notebook 00 and `minillm progress` show it.

    my/progress.json     {"version": 1, "solved": {"05.window": "2026-11-22T20:50:00+00:00"}}

A chapter is done when all of its exercises are solved: reading leaves no trace, and solving does. Only a notebook that
a person opened (in JupyterLab or VS Code) is a learner's: graders, nbclient, tests and `solutions/` write nothing down.
A file that is damaged is kept beside the new one; two notebooks that write at once wait for each other; and whatever
goes wrong here, a full disk say, is told in a sentence and never makes a solved exercise fail.

Next:    minillm/course/places.py
"""

import html
import json
import os
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from minillm.core.files import write_atomically
from minillm.core.locks import alone
from minillm.course.notebooks import cell_source, read_notebook
from minillm.course.places import NoCourse, find_course, learner_folder
from minillm.course.progress import QUIET, audience

FILE, LOCK, VERSION = "progress.json", ".progress.lock", 1
PATIENCE = 5.0  # seconds that one notebook waits for another
BUSY = "another notebook holds the file"
_NAME = re.compile(r"\d\d\.[a-z][a-z0-9_]*")
_CHECK = re.compile(r'\bcheck\("(\d\d\.[a-z][a-z0-9_]*)"')
_TITLE = re.compile(r"# (\d\d) · ([^:\n]+)")


def is_learner() -> bool:
    """Whether a person opened the notebook that this runs in, and it is none of `solutions/`.

    >>> is_learner()  # a doctest is no notebook
    False
    """
    if os.environ.get(QUIET) or audience() != "notebook":
        return False
    # JupyterLab tells its kernels which notebook they belong to, VS Code leaves a name; who only executes does neither
    names: dict[str, Any] = sys.modules["IPython"].get_ipython().user_ns
    opened = os.environ.get("JPY_SESSION_NAME") or names.get("__vsc_ipynb_file__") or ""
    topic = PurePosixPath(str(opened).replace("\\", "/")).parent  # as in solutions/05-topic/topic.ipynb
    return bool(opened) and topic.parent.name != "solutions"


def note_solved(name: str) -> str:
    """Write down that an exercise is solved; gives what the learner should be told, often nothing. Never raises."""
    folder = learner_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder / LOCK, PATIENCE, BUSY):
            solved, notice = _read(folder)
            if name in solved:
                return notice
            solved[name] = datetime.now(UTC).isoformat(timespec="seconds")
            data = {"version": VERSION, "solved": dict(sorted(solved.items()))}
            write_atomically(folder / FILE, json.dumps(data, indent=1) + "\n")
        return " ".join(part for part in (notice, _tally(name[:2], solved)) if part)
    except Exception as error:  # the exercise is solved, whatever becomes of the note
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return f"(It could not be noted in {folder.name}/{FILE}: {reason}.)"


def read_solved() -> tuple[dict[str, str], str]:
    """Which exercises are solved, with the time of each, and a sentence when something was wrong with the file.

    Where outputs are kept (MINILLM_QUIET) nothing is solved, so that a stored notebook is the same everywhere.
    """
    folder = learner_folder()
    if os.environ.get(QUIET) or not folder.is_dir():
        return {}, ""
    try:
        try:
            return _parsed((folder / FILE).read_bytes()), ""
        except (ValueError, RecursionError):
            with alone(folder / LOCK, PATIENCE, BUSY):
                return _read(folder)
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"{folder.name}/{FILE} cannot be read ({error.strerror or error})."


@dataclass(frozen=True, kw_only=True, slots=True)
class ChapterState:
    """A chapter and how much of it is solved."""

    number: str
    title: str
    notebook: str  # the file's name
    solved: int
    exercises: int

    @property
    def is_done(self) -> bool:
        """Whether every exercise is solved."""
        return self.solved == self.exercises > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """All chapters, as a table in a notebook and as text elsewhere.

    >>> one = ChapterState(number="05", title="Neural", notebook="05-neural.ipynb", solved=3, exercises=4)
    >>> print(Overview(chapters=(one,), notice=""))
    05  Neural  ###.  3 of 4
    3 of 4 exercises solved, 0 of 1 chapters done. A chapter is done when all of its exercises are solved.
    """

    chapters: tuple[ChapterState, ...]
    notice: str

    @property
    def sentence(self) -> str:
        """The sums."""
        solved, exercises = (sum(getattr(one, name) for one in self.chapters) for name in ("solved", "exercises"))
        done = sum(one.is_done for one in self.chapters)
        sums = f"{solved} of {exercises} exercises solved, {done} of {len(self.chapters)} chapters done."
        rule = "A chapter is done when all of its exercises are solved."
        return " ".join(part for part in (self.notice, sums, rule) if part)

    def __str__(self) -> str:
        wide = max((len(one.title) for one in self.chapters), default=0)
        most = max((one.exercises for one in self.chapters), default=0)
        rows = [f"{one.number}  {one.title:{wide}}  {_bar(one, '#.'):{most}}  {_count(one)}" for one in self.chapters]
        return "\n".join([*rows, self.sentence])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        rows = [
            f'<tr><td {left}><a href="{html.escape(one.notebook)}">{one.number} · {html.escape(one.title)}</a></td>'
            f'<td {left}><span aria-hidden="true">{_bar(one, "●○")}</span></td><td {left}>{_count(one)}</td></tr>'
            for one in self.chapters
        ]
        head = f"<tr><th {left}>chapter</th><th></th><th {left}>exercises</th></tr>"
        return f"<table>{head}{''.join(rows)}</table><p>{html.escape(self.sentence)}</p>"


def overview() -> Overview:
    """Where the learner stands; raises `NoCourse` where there are no notebooks."""
    course = find_course()
    solved, notice = read_solved()
    rows = []
    for path in sorted(course.glob("notebooks/[0-9][0-9]-*.ipynb")):
        number, title = _heading(path)
        names = _exercises(course, number)
        rows.append(
            ChapterState(number=number, title=title, notebook=path.name, solved=len(names & set(solved)),
                         exercises=len(names))
        )  # fmt: skip
    return Overview(chapters=tuple(rows), notice=notice)


def _count(one: ChapterState) -> str:
    return f"{one.solved} of {one.exercises}{', done' if one.is_done else ''}" if one.exercises else "no exercises"


def _bar(one: ChapterState, signs: str) -> str:
    return signs[0] * one.solved + signs[1] * (one.exercises - one.solved)


def _heading(path: Path) -> tuple[str, str]:
    """Number and short title of a chapter; from the file's name where its first cell does not say."""
    try:
        if found := _TITLE.match(cell_source(read_notebook(path)["cells"][0])):
            return found[1], found[2].strip()
    except (ValueError, IndexError):
        pass  # a learner may have broken or half-saved it
    return path.stem[:2], path.stem[3:].replace("-", " ").capitalize()


def _exercises(course: Path, number: str) -> set[str]:
    """The names of a chapter's exercises."""
    found: set[str] = set()
    for path in course.glob(f"exercises/{number}-*/*.ipynb"):
        try:
            sources = [cell_source(cell) for cell in read_notebook(path)["cells"]]
        except ValueError:
            continue
        found |= {name for source in sources for name in _CHECK.findall(source) if name.startswith(number)}
    return found


def _tally(number: str, solved: dict[str, str]) -> str:
    try:
        names = _exercises(find_course(), number)
    except NoCourse:
        return ""
    done = len(names & set(solved))
    if not done:
        return ""
    if done < len(names):
        return f"Chapter {number}: {done} of {len(names)} exercises solved."
    return f"Chapter {number} is done: {f'all {done} exercises are' if done > 1 else 'its exercise is'} solved."


def _read(folder: Path) -> tuple[dict[str, str], str]:
    """What the file says; one that is damaged is kept under another name. The caller holds the lock."""
    path = folder / FILE
    try:
        return _parsed(path.read_bytes()), ""
    except FileNotFoundError:
        return {}, ""
    except (ValueError, RecursionError):
        number = next(n for n in range(1, sys.maxsize) if not (folder / f"{FILE}.damaged-{n}").exists())
        kept = path.rename(folder / f"{FILE}.damaged-{number}")
        where = folder.name
        return {}, f"{where}/{FILE} was damaged: a new one was begun, the old one is kept as {where}/{kept.name}."


def _parsed(data: bytes) -> dict[str, str]:
    """The solved exercises in a file's bytes; ValueError for anything but what `note_solved` writes."""
    found = json.loads(data.decode("utf-8"))
    solved = found.get("solved") if isinstance(found, dict) and found.get("version") == VERSION else None
    if not isinstance(solved, dict):
        raise ValueError(f"{FILE} must be an object with version {VERSION} and the solved exercises")
    for name, when in solved.items():
        if not _NAME.fullmatch(name) or not isinstance(when, str):
            raise ValueError(f"solved[{name!r:.40}]={when!r:.40} must be a time under a name such as '05.window'")
    return solved
