"""Chat in a terminal: the answer comes word by word, and nothing that was said is lost.

    you> Where does Olga live?
    sft> Olga lives by the hill.

Ctrl-C while it answers stops the answer; at the prompt it leaves, as Ctrl-D does. Whatever a model or a file says is
shown as text: no character of it steers the terminal, and a line that looks like a prompt stands indented.

Paper:   the read-eval-print loop of LISP; the first program to talk in one: Weizenbaum 1966, "ELIZA".
Next:    minillm/course/partners.py
"""

import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TextIO

from minillm.conversation import TEMPERATURE, Conversation
from minillm.history import earlier, new_path
from minillm.speaker import Speaker
from minillm.text.inert import inert

HELP = """\
/1 /2 /3          ask one of the suggested questions
/regenerate       answer the last question again
/dislike          and here is another answer
/like             of two answers one liked, one disliked: a comparison
/temperature X    0: the likeliest word each time; 1: as learned
/new              begin a new conversation
/history [N]      list the conversations of before; go on with the Nth
/save FILE        write this one as plain text
/quit             leave, as Ctrl-D does
Ctrl-C stops an answer. To begin a message with a slash, write two."""


class TerminalChat:
    """A conversation with a speaker through two text streams.

    `folder` keeps the conversations, `likes` the comparisons; None keeps nothing. `ask` reads a line, as `input` does:
    it raises EOFError at the end.

    >>> from minillm.speakers import ElizaSpeaker
    >>> said = iter(["I remember the old mill.", "/quit"])
    >>> chat = TerminalChat(ElizaSpeaker(), ask=lambda prompt: print(prompt, end="") or next(said), out=sys.stdout)
    >>> chat.run()  # doctest: +ELLIPSIS
    eliza: Eliza, after the program of 1966...
      you> eliza> What made you think of the old mill today?
      you>        Good-bye.
    """

    def __init__(
        self,
        speaker: Speaker,
        *,
        folder: Path | None = None,
        likes: Path | None = None,
        temperature: float = TEMPERATURE,
        seed: int | None = None,
        ask: Callable[[str], str] = input,
        out: TextIO | None = None,
    ) -> None:
        self.speaker, self.folder, self.likes, self.seed, self.ask = speaker, folder, likes, seed, ask
        self.out = sys.stdout if out is None else out
        self.name = inert(speaker.name)
        self.width = max(len(self.name), 3)
        self.talk = self._new(temperature)
        self.commands: dict[str, Callable[[str], object]] = {
            "help": lambda _: self._note(HELP),
            "new": lambda _: self._begin(self._new(self.talk.temperature), "A new conversation."),
            "regenerate": lambda _: self._answer(self.talk.regenerate()),
            "like": lambda _: self._judge(True),
            "dislike": lambda _: self._judge(False),
            "temperature": self._temperature,
            "history": self._earlier,
            "save": self._save,
        }

    def run(self) -> None:
        """Talk until the user leaves."""
        self._welcome()
        while True:
            try:
                line = self.ask(f"{'you':>{self.width}}> ")
            except (EOFError, KeyboardInterrupt, StopIteration):
                self._say("\n")
                break
            if line.strip() == "/quit":
                break
            try:
                self._obey(line.strip()) if line.startswith("/") and not line.startswith("//") else self._ask(line)
            except KeyboardInterrupt:
                self._say("\n")
            except Exception as error:  # whatever a speaker or a disk does, the chat goes on
                known = isinstance(error, ValueError | OSError)
                said = str(error) if known else f"that went wrong: {type(error).__name__}: {error}"
                self._note(said[:1].upper() + said[1:])
            self._news()
        where = f" Kept in {self.talk.path}." if self.talk.is_kept and self.talk.turns else ""
        self._note(f"Good-bye.{where}")

    def _welcome(self) -> None:
        self._say(self._wrapped(f"{self.name}: {inert(self.speaker.about)}", 0) + "\n")
        if some := self.speaker.suggestions[:3]:
            self._say("\n" + "".join(f"  /{i}  {inert(text)}\n" for i, text in enumerate(some, start=1)))
        self._say("\n")
        self._note("/help lists what else you can do; Ctrl-D leaves.")

    def _ask(self, line: str) -> None:
        self._answer(self.talk.ask(line[line.startswith("//") :]))

    def _answer(self, pieces: Iterator[str]) -> None:
        """Show an answer as it comes; Ctrl-C stops it, and what was said stays said."""
        self._say(f"{self.name:>{self.width}}> ")
        paper = _Paper(self._say, self.width + 2, self._columns)
        try:
            for piece in pieces:
                paper.write(inert(piece))
        except KeyboardInterrupt:
            getattr(pieces, "close", lambda: None)()  # only now is the answer kept
            paper.write(" …")
            paper.end()
            self._note("Stopped. /regenerate asks again.")
            return
        except BaseException:
            paper.end()
            raise
        paper.end()

    def _obey(self, line: str) -> None:
        word, _, rest = line[1:].partition(" ")
        if word in ("1", "2", "3") and int(word) <= len(self.speaker.suggestions):
            question = self.speaker.suggestions[int(word) - 1]
            self._say(f"{'you':>{self.width}}> {inert(question)}\n")
            self._answer(self.talk.ask(question))
        elif word in self.commands:
            self.commands[word](rest.strip())
        else:
            self._note(f"/{inert(word)} is not known; /help lists what is. To say it, write //{inert(word)}")

    def _judge(self, liked: bool) -> None:
        made = self.talk.judge(liked)
        if not liked:
            more = self.talk.another()
            try:
                first = next(more, "")  # it is drawn before it is shown, or there is none
            except ValueError as error:
                raise ValueError(f"Disliked. There is no other answer: {error}.") from None
            self._note("Disliked. Here is another answer: /like or /dislike it.")
            self._answer(chain([first], more))
        elif made:
            where = f" in {self.likes}" if self.likes is not None else ""
            self._note(f"Liked, and better than what you disliked: {_comparisons(len(made))} kept{where}.")
        else:
            self._note("Liked. A comparison needs a second answer: /regenerate, and /dislike the worse one.")

    def _temperature(self, text: str) -> None:
        if text:
            try:
                value = float(text)
            except ValueError:
                value = -1.0
            if not 0 <= value <= 10:
                raise ValueError(f"/temperature {inert(text)}: a number from 0 to 10 works, such as /temperature 0.7")
            self.talk.temperature = value
        self._note(f"The temperature is {self.talk.temperature:g}.")

    def _save(self, name: str) -> None:
        if not name:
            raise ValueError("/save needs the name of a file: /save talk.txt")
        self.talk.save(name)
        self._note(f"Written to {name}.")

    def _earlier(self, number: str) -> None:
        found = [] if self.folder is None else earlier(self.folder, self.speaker.name)
        if number:
            if not number.isdecimal() or not 1 <= int(number) <= len(found):
                raise ValueError(f"/history {inert(number)}: there are {len(found)}; /history lists them")
            path = found[int(number) - 1].path
            self._begin(Conversation.reopen(path, self.speaker, **self._how(self.talk.temperature)), "Where you were:")
            for turn in self.talk.turns:
                self._say(f"{'you':>{self.width}}> {self._wrapped(inert(turn.prompt), self.width + 2)}\n")
                if (answer := turn.standing) is not None:
                    text = inert(answer.text) + ("" if answer.whole else " …")
                    self._say(f"{self.name:>{self.width}}> {self._wrapped(text, self.width + 2)}\n")
        elif found:
            lines = [f"{one.when[:10]} {one.when[11:16]}  {one.question[:60]}" for one in found[:20]]
            self._note("\n".join(f"{i:3}  {line}" for i, line in enumerate(lines, 1)))
        else:
            self._note(f"There is no conversation with {self.name} on disk yet.")

    def _new(self, temperature: float) -> Conversation:
        path = None if self.folder is None else new_path(self.folder)
        return Conversation(self.speaker, path, **self._how(temperature))

    def _how(self, temperature: float) -> dict:
        return {"likes": self.likes, "temperature": temperature, "seed": self.seed}

    def _begin(self, talk: Conversation, words: str) -> None:
        self.talk = talk
        self._note(words)

    def _news(self) -> None:
        for sentence in self.talk.news():
            self._note(sentence)

    def _note(self, text: str) -> None:
        """Something that the program says, not the speaker."""
        indent = " " * (self.width + 2)
        self._say("".join(f"{indent}{self._wrapped(inert(line), len(indent))}\n" for line in text.split("\n")))

    def _wrapped(self, text: str, indent: int) -> str:
        lines: list[str] = []
        paper = _Paper(lines.append, indent, self._columns)
        paper.write(text)
        paper.end("")
        return "".join(lines)

    @property
    def _columns(self) -> int | None:
        """The width of the terminal; None: this is none, so nothing is broken into lines."""
        return shutil.get_terminal_size().columns if self.out.isatty() else None

    def _say(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


def _comparisons(count: int) -> str:
    return f"{count} comparison{'s' * (count != 1)}"


class _Paper:
    """Text in pieces, broken between words at the right edge; lines after the first begin under it."""

    def __init__(self, write: Callable[[str], object], indent: int, columns: int | None) -> None:
        self._write, self.indent, self.columns = write, indent, columns
        self.place, self.word, self.space = indent, "", ""

    def write(self, piece: str) -> None:
        """Add a piece. A word is shown when it is whole."""
        for character in piece:
            if character not in " \n\t":
                self.word += character
                continue
            self._flush()
            if character == "\n":
                self._write("\n" + " " * self.indent)
                self.place, self.space = self.indent, ""
            else:
                self.space += " "
        if self.columns is None:
            self._flush()

    def end(self, line_end: str = "\n") -> None:
        """Show what is left, and end the line."""
        self._flush()
        self._write(line_end)

    def _flush(self) -> None:
        if not self.word:
            return
        width = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in self.word)
        if (
            self.columns is not None
            and self.place > self.indent
            and self.place + len(self.space) + width > self.columns
        ):
            self._write("\n" + " " * self.indent)
            self.place, self.space = self.indent, ""
        self._write(self.space + self.word)
        self.place += len(self.space) + width
        self.word = self.space = ""
