"""A conversation on disk: a line for each thing that happens, as it happens, and the conversation again from them.

    {"kind": "ask", "text": "Who has a goat?"}
    {"kind": "piece", "text": "Olga"}  …  {"kind": "answer", "text": "Olga has a goat.", "whole": true, "seed": 7, …}
    {"kind": "judge", "turn": 0, "answer": 0, "liked": false}

The file only grows. A second answer to the same question is another answer line, and what was said before a program was
killed is there in pieces. A full disk ends nothing: what could not be written waits in memory until there is room.

Names:   a turn is a question with all the answers that it was given; `standing` is the one that counts.
Differs: two programs may not write into one conversation at the same time.
Next:    minillm/conversation.py
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from minillm.core.json_lines import append_line, mend_lines, object_of, whole_lines

FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer to a question."""

    text: str
    whole: bool = True  # False: it was stopped
    temperature: float | None = None
    seed: int | None = None  # with the same speaker and the same turns before, it gives this answer again
    liked: bool | None = None  # None: not judged


@dataclass(slots=True)
class Turn:
    """A question and the answers that it was given, the newest last."""

    prompt: str
    answers: list[Answer] = field(default_factory=list)

    @property
    def standing(self) -> Answer | None:
        """The answer with which the conversation goes on: the last liked one, else the last that is not disliked."""
        liked = [answer for answer in self.answers if answer.liked]
        unjudged = [answer for answer in self.answers if answer.liked is None]
        return (liked or unjudged or self.answers or [None])[-1]

    def add(self, answer: Answer) -> bool:
        """Add an answer, unless the very same was given before."""
        if known := any(answer.text == other.text for other in self.answers):
            return not known
        self.answers.append(answer)
        return True

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(better, worse): each liked answer with each disliked one."""
        told = [(a.text, b.text) for a in self.answers for b in self.answers if a.liked and b.liked is False]
        return [pair for pair in told if all(pair)]


class History:
    """The file of one conversation, to be written. Without a path nothing is kept.

    `say` takes sentences for the user: when the disk takes no more, and when it does again.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = History(Path(folder) / "talk.jsonl", print)
    ...     history.keep({"kind": "ask", "text": "Who?"})
    ...     history.keep_piece("Ol")
    ...     read_turns(history.path)
    [Turn(prompt='Who?', answers=[Answer(text='Ol', whole=False, temperature=None, seed=None, liked=None)])]
    """

    def __init__(self, path: str | os.PathLike[str] | None, say: Callable[[str], object]) -> None:
        self.path, self.say = None if path is None else Path(path), say
        self.waiting: list[dict[str, Any]] = []  # lines that the disk has not taken yet

    def keep(self, fields: dict[str, Any]) -> None:
        """Write a line, after those that are still waiting; what cannot be written waits, and the user is told once."""
        if self.path is None:
            return
        was_waiting = bool(self.waiting)
        self.waiting.append({name: _storable(value) for name, value in fields.items()})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            mend_lines(self.path)
            while self.waiting:
                append_line(self.path, self.waiting[0])
                self.waiting.pop(0)
        except OSError as error:
            if not was_waiting:
                self.say(f"This cannot be kept on disk any more ({error.strerror or error}). The conversation goes on "
                         f"in memory; what was kept before is still in {self.path}.")  # fmt: skip
        else:
            if was_waiting:
                self.say("The disk takes the conversation again: all of it is kept.")

    def keep_piece(self, piece: str) -> None:
        """Note a piece of an answer, in case that the program is killed before its end; not worth waiting for."""
        if self.path is not None and not self.waiting:
            try:
                append_line(self.path, {"kind": "piece", "text": _storable(piece)}, wait=False)
            except (OSError, ValueError):  # the whole answer follows, and says what is wrong
                return

    def mend(self) -> None:
        """Keep half of a last line aside, and say so."""
        if self.path is None:
            return
        try:
            if torn := mend_lines(self.path):
                self.say(f"A half-written line was found at the end and is kept in {self.path.name}.torn: {torn[:40]}…")
        except OSError as error:
            self.say(
                f"A half-written line at the end is left out, and cannot be put aside ({error.strerror or error})."
            )


def read_turns(path: str | os.PathLike[str]) -> list[Turn]:
    """The turns of a conversation's file. An answer of which there are only pieces was cut short: they are kept."""
    where = f"path={os.fspath(path)!r}"
    turns: list[Turn] = []
    pieces: list[str] = []
    lines, _ = whole_lines(path)  # half of a last line is no line
    for number, line in lines:
        try:
            _read(object_of(line), turns, pieces)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{where} line {number} is no line of a conversation: {error!s:.200}") from None
    _end(turns, pieces)
    return turns


def _read(fields: dict[str, Any], turns: list[Turn], pieces: list[str]) -> None:
    """Add one line to what was read so far."""
    kind = fields["kind"]
    if kind == "piece":
        pieces.append(_text(fields["text"]))
        return
    if kind != "answer":
        _end(turns, pieces)
    match kind:
        case "start":
            if fields["version"] != FORMAT:
                raise ValueError(
                    f"version={fields['version']!r}, and this minillm reads {FORMAT}: a newer one wrote it"
                )
        case "ask":
            turns.append(Turn(_text(fields["text"])))
        case "answer":
            pieces.clear()
            known = {name: fields.get(name) for name in ("temperature", "seed")}
            turns[-1].add(Answer(text=_text(fields["text"]), whole=bool(fields["whole"]), **known))
        case "judge":
            answers, place, liked = turns[fields["turn"]].answers, fields["answer"], fields["liked"]
            if liked not in (True, False, None):
                raise ValueError(f"liked={liked!r} must be true, false or null")
            answers[place] = replace(answers[place], liked=liked)
        case _:
            raise ValueError(f"kind={kind!r} is not known; known: start, ask, piece, answer, judge")


def _end(turns: list[Turn], pieces: list[str]) -> None:
    """Pieces after which no answer came: the program was stopped, and this is what had been said."""
    if pieces:
        turns[-1].add(Answer(text="".join(pieces), whole=False))
        pieces.clear()


@dataclass(frozen=True, kw_only=True, slots=True)
class Heading:
    """A conversation of before, for a list."""

    path: Path
    speaker: str
    mark: str  # of the speaker: two that were trained have the same name and another mark
    question: str  # the first one
    when: str


def earlier(folder: str | os.PathLike[str], speaker: str | None = None) -> list[Heading]:
    """The conversations of a folder in which something was asked, the newest first; with one speaker, if named."""
    found: list[Heading] = []
    for path in sorted(Path(folder).glob("*.jsonl"), reverse=True):
        try:
            with path.open("rb") as stream:
                start, ask = object_of(stream.readline(10_000)), object_of(stream.readline(1_000_000))
            speaks, mark, question = _text(start["speaker"]), _text(start.get("mark", "")), _text(ask["text"])
            one = Heading(path=path, speaker=speaks, mark=mark, question=question, when=start["when"])
        except (OSError, ValueError, KeyError):
            continue  # no conversation, or one of which nothing was said
        if speaker in (None, one.speaker):
            found.append(one)
    return found


def new_path(folder: str | os.PathLike[str]) -> Path:
    """A name for a conversation that begins now; names in order are conversations in order."""
    return Path(folder) / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S-%f}-{secrets.token_hex(2)}.jsonl"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.60} is not a text")
    return value


def _storable(value: Any) -> Any:
    """A text that UTF-8 can hold; a model's tokens may end in half a character."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def now() -> str:
    """Date and time as in ISO 8601, to the second.

    >>> now()[10]
    'T'
    """
    return datetime.now(UTC).isoformat(timespec="seconds")
