"""The conversation page: ask, watch the answer come, stop it, ask for another, say which is better.

    welcome · three questions to begin with · the conversation · a line to write in · conversations of before

What a model or a user wrote is shown as text, whatever it is: no markup of it comes alive, no character steers the
page. The answer comes in a thread of its own, so the kernel is free meanwhile. Everything is on the disk as it happens;
a page that is made again, in another tab or after the kernel was killed, goes on where the last one was.

Next:    minillm/course/kernel.py
"""

import html
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipywidgets as W

from minillm.alignment.preferences import read_comparisons
from minillm.conversation import TEMPERATURE, Conversation
from minillm.course.places import learner_folder
from minillm.course.progress import QUIET
from minillm.course.widgets import ASSISTED, assist, slider
from minillm.history import Answer, Turn, earlier, new_path
from minillm.speaker import Speaker
from minillm.text.inert import inert

REDRAW = 0.05  # seconds between two pictures of an answer that is coming
_STYLE = """<style>
.minillm-chat { max-width: 760px; padding: 14px 18px; border: 1px solid var(--jp-border-color2); border-radius: 8px }
.minillm-chat .widget-html-content { line-height: 1.5 }
.minillm-chat .jupyter-button { border-radius: 6px; padding: 0 12px; width: auto }
.minillm-chat .minillm-suggested .jupyter-button { border-radius: 16px; border: 1px solid var(--jp-border-color1);
  background: transparent; text-align: left }
.minillm-chat .minillm-judge .jupyter-button { font-size: 12px; height: 24px; line-height: 24px;
  background: transparent; color: var(--jp-ui-font-color2); padding: 0 8px }
.minillm-chat .minillm-judge .jupyter-button.minillm-chosen { color: var(--jp-brand-color1); font-weight: 600 }
.minillm-chat .jupyter-button:focus-visible { outline: 2px solid var(--jp-brand-color1); outline-offset: 1px }
</style>"""
_TEXT = "white-space:pre-wrap; overflow-wrap:anywhere; unicode-bidi:isolate"
_MINE = (
    "display:inline-block; max-width:80%; padding:6px 14px; border-radius:14px 14px 2px 14px; "
    "background:var(--jp-layout-color2,#eee); color:var(--jp-ui-font-color1,#111); text-align:left"
)
_THEIRS = "padding:2px 0 2px 12px; border-left:3px solid var(--jp-brand-color1,#1976d2)"
_TITLE = "font-size:20px; margin-bottom:4px"
_SMALL = "font-size:12px; color:var(--jp-ui-font-color2,#666)"


class ChatPage(W.VBox):
    """A page for a conversation with one speaker.

    `folder` and `likes` are where conversations and comparisons are kept, by default the learner's own places. With
    `reopen` the newest conversation with this speaker is shown again.

    >>> import tempfile
    >>> from minillm.speakers import ElizaSpeaker
    >>> with tempfile.TemporaryDirectory() as name:
    ...     page = ChatPage(ElizaSpeaker(), folder=Path(name), likes=Path(name) / "likes.jsonl")
    ...     page.ask("I remember the old mill.")
    ...     page.wait()
    ...     page.talk.turns[-1].standing.text
    'What made you think of the old mill today?'
    """

    def __init__(
        self,
        speaker: Speaker,
        *,
        folder: Path | None = None,
        likes: Path | None = None,
        temperature: float = TEMPERATURE,
        reopen: bool = True,
        seed: int | None = None,
    ) -> None:
        self.speaker, self.seed = speaker, seed
        self.folder = learner_folder() / "conversations" if folder is None else folder
        self.likes = learner_folder() / "likes.jsonl" if likes is None else likes
        self.name = inert(speaker.name)
        self.live: str | None = None  # what was said so far, while an answer is coming
        self.sentence = ""
        self._stop, self._thread = threading.Event(), threading.Thread()
        self._make_parts(temperature)
        self.talk = self._new()
        found = earlier(self.folder, speaker.name) if reopen and not os.environ.get(QUIET) else []
        super().__init__([self.head, self.suggested, self.paper, self.status, self.line, self.tools, assist()])
        self.add_class("minillm-chat")
        self.add_class(ASSISTED)
        if found and found[0].mark == speaker.mark:  # else another model of this name spoke last: it begins anew
            self.reopen(found[0].path)
        self._list_earlier()
        self.redraw()

    def _make_parts(self, temperature: float) -> None:
        about = f"<div>{_escaped(self.speaker.about)}</div>"
        title = f'<div role="heading" aria-level="3" style="{_TITLE}">Talk with {_escaped(self.name)}</div>'
        self.head = W.HTML(f"{_STYLE}{title}{about}")
        self.suggestions = [_button(inert(text), "ask this") for text in self.speaker.suggestions[:3]]
        for button, text in zip(self.suggestions, self.speaker.suggestions, strict=False):
            button.on_click(lambda _, text=text: self.ask(text))
        self.suggested = W.HBox(self.suggestions, layout=W.Layout(flex_flow="row wrap", margin="6px 0 0 0"))
        self.suggested.add_class("minillm-suggested")
        self.past, self.question, self.coming = W.HTML(), W.HTML(), W.HTML()
        self.rows = [_AnswerRow(place, self.judge) for place in range(4)]
        inside = W.VBox([self.past, self.question, *self.rows, self.coming], layout=W.Layout(flex="0 0 auto"))
        # the other way round, so that the end of it stays in sight while it grows
        layout = W.Layout(flex_flow="column-reverse", overflow="hidden auto", max_height="460px", margin="4px 0")
        self.paper = W.Box([inside], layout=layout)
        self.entry = W.Text(
            description="You", placeholder="Write, and press Enter", layout=W.Layout(flex="1 1 auto", width="auto"),
            style={"description_width": "initial"},
        )  # fmt: skip
        self.entry.continuous_update = False  # the browser says Enter first, and what was written after it
        self.entry.on_msg(lambda _, content, __: self._entered() if content.get("event") == "submit" else None)
        self.entry.observe(lambda _: self._ask_entered(), "value")
        self._enter = False
        self.go = _button("Ask", "send what you wrote (Enter)", "paper-plane")
        self.stop = _button("Stop", "stop the answer; what was said is kept", "stop")
        self.again = _button("Regenerate", "answer the last question again", "refresh")
        self.fresh = _button("New conversation", "begin again; this one stays on the disk", "plus")
        self.go.on_click(lambda _: self._ask_written())
        self.stop.on_click(lambda _: self._stop.set())
        self.again.on_click(lambda _: self.regenerate())
        self.fresh.on_click(lambda _: self.new())
        self.line = W.HBox([self.entry, self.go, self.stop, self.again])
        self.temperature = slider("temperature", temperature, low=0.0, high=2.0, step=0.1)
        self.temperature.layout.width = "260px"
        self.temperature.observe(lambda change: setattr(self.talk, "temperature", change["new"]), "value")
        self.earlier = W.Dropdown(
            description="earlier", layout=W.Layout(width="230px"), style={"description_width": "initial"}
        )
        self.earlier.observe(lambda change: change["new"] and self.reopen(Path(change["new"])), "value")
        self.tools = W.HBox(
            [self.fresh, self.earlier, self.temperature], layout=W.Layout(flex_flow="row wrap", margin="4px 0 0 0")
        )
        self.status = W.HTML()

    @property
    def busy(self) -> bool:
        """Whether an answer is coming."""
        return self.live is not None

    def ask(self, text: str) -> None:
        """Say something; returns at once, while the answer comes."""
        self._run(lambda: self.talk.ask(text))

    def regenerate(self) -> None:
        """Answer the last question again."""
        self._run(self.talk.regenerate)

    def judge(self, place: int, liked: bool) -> None:
        """Like or dislike an answer to the last question; the same click again takes it back.

        After a dislike, where nothing better is there yet, another answer comes by itself.
        """
        if self.busy or not self.talk.turns:
            return
        turn = self.talk.turns[-1]
        value = None if turn.answers[place].liked is liked else liked
        made = self.talk.judge(value, answer=place)
        if made:
            self.sentence = f"Kept: this answer is better than the other one. {self._number_of_likes()}"
        elif value is False and place == len(turn.answers) - 1 and not any(a.liked for a in turn.answers):
            self._run(self.talk.another, "Here is another answer. If you like it better, say so: that is a comparison.")
            return
        elif value:
            self.sentence = "Noted. A comparison needs a second answer: regenerate, and dislike the worse one."
        else:
            self.sentence = "Noted." if value is False else "Taken back."
        self.redraw()

    def new(self) -> None:
        """Begin a new conversation; the present one stays on the disk."""
        if not self.busy:
            self.talk, self.sentence = self._new(), ""
            self._list_earlier()
            self.redraw()

    def reopen(self, path: Path) -> None:
        """Go on with a conversation of before."""
        if self.busy:
            return
        try:
            self.talk = Conversation.reopen(path, self.speaker, **self._how())
            self.sentence = "This is where you were."
        except (OSError, ValueError) as error:
            self.sentence = f"This conversation cannot be read, and stays as it is: {error}"
        self.redraw()

    def wait(self, seconds: float = 60.0) -> None:
        """Wait until the answer has come; for tests and scripts."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def redraw(self) -> None:
        """Bring all parts in line with the conversation."""
        self.sentence = " ".join([*([self.sentence] if self.sentence else []), *self.talk.news()])
        turns = self.talk.turns
        last = turns[-1] if turns else None
        self.past.value = "".join(_turn(turn, self.name) for turn in turns[:-1])
        self.question.value = "" if last is None else _question(last.prompt)
        answers = last.answers[-len(self.rows) :] if last else []
        first = 0 if last is None else len(last.answers) - len(answers)
        for place, row in enumerate(self.rows):
            row.show(answers[place] if place < len(answers) else None, first + place, self.busy)
        self.coming.value = "" if self.live is None else _answer(self.live, "▍")
        self.suggested.layout.display = "none" if turns else ""
        for part in (self.go, self.again, self.fresh, self.earlier, *self.suggestions):
            part.disabled = self.busy
        self.again.disabled = self.busy or not turns
        self.stop.disabled = not self.busy
        self.status.value = f'<span role="status" style="{_SMALL}">{_escaped(self.sentence)}</span>'

    def _entered(self) -> None:
        """Enter was pressed: what was written follows at once, unless it is the same as before."""
        self._enter = True
        threading.Timer(0.5, self._ask_entered).start()

    def _ask_entered(self) -> None:
        if self._enter:
            self._enter = False
            self._ask_written()

    def _ask_written(self) -> None:
        if not self.busy and (text := self.entry.value.strip()):
            self.entry.value = ""
            self.ask(text)

    def _run(self, begin: Callable[[], Iterator[str]], sentence: str = "") -> None:
        """Let an answer come in a thread of its own."""
        if self.busy:
            return
        self._stop.clear()
        self.live, self.sentence = "", f"{self.name} is answering …"
        self._thread = threading.Thread(target=self._come, args=(begin, sentence), daemon=True)
        self._thread.start()

    def _come(self, begin: Callable[[], Iterator[str]], sentence: str) -> None:
        try:
            pieces = begin()
            self.redraw()
            drawn = time.monotonic()
            for piece in pieces:
                self.live = (self.live or "") + piece
                if time.monotonic() - drawn > REDRAW:
                    self.coming.value = _answer(self.live, "▍")
                    drawn = time.monotonic()
                if self._stop.is_set():
                    getattr(pieces, "close", lambda: None)()  # only now is the answer kept
                    sentence = "Stopped. What was said is kept."
                    break
        except Exception as error:  # whatever a speaker or a disk does, the page goes on
            said = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
            sentence = said[:1].upper() + said[1:]
        self.live, self.sentence = None, sentence
        self.redraw()

    def _new(self) -> Conversation:
        return Conversation(self.speaker, new_path(self.folder), **self._how())

    def _how(self) -> dict[str, Any]:
        return {"likes": self.likes, "temperature": self.temperature.value, "seed": self.seed}

    def _list_earlier(self) -> None:
        found = [one for one in earlier(self.folder, self.speaker.name) if one.path != self.talk.path]
        labels = [(f"{one.when[:10]} {one.when[11:16]}  {inert(one.question[:40])}", str(one.path)) for one in found]
        self.earlier.options = [("conversations …", ""), *labels[:50]]
        self.earlier.value = ""

    def _number_of_likes(self) -> str:
        try:
            count = len(read_comparisons(self.likes))
        except (OSError, ValueError):
            return ""
        return f"Comparison {count} in {self.likes.name}, from which chapter 19 and the tour can learn."

    def _repr_mimebundle_(self, **kinds: Any) -> Any:
        bundle: Any = super()._repr_mimebundle_(**kinds)
        data: Any = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:
            said = [(who, text) for turn in self.talk.turns for who, text in self.talk.lines(turn)]
            said = said or [
                (self.name, self.speaker.about),
                *(("you could ask", s) for s in self.speaker.suggestions[:3]),
            ]
            # <code>, because formulas are set everywhere else
            lines = (f'<p><b>{_escaped(who)}</b> <code style="{_TEXT}; font-family:inherit; background:none">'
                     f"{_escaped(text)}</code></p>" for who, text in said)  # fmt: skip
            data["text/html"] = "".join(lines)
            data["text/plain"] = f"{type(self).__name__}: " + inert("\n".join(f"{who}: {text}" for who, text in said))
        return bundle


class _AnswerRow(W.VBox):
    """An answer to the last question, and two buttons to judge it."""

    def __init__(self, place: int, judge: Callable[[int, bool], None]) -> None:
        self.text, self.place = W.HTML(), place
        self.like = _button("Like", "this answer is good", "thumbs-up")
        self.dislike = _button("Dislike", "this answer is not good; another one comes", "thumbs-down")
        self.like.on_click(lambda _: judge(self.place, True))
        self.dislike.on_click(lambda _: judge(self.place, False))
        buttons = W.HBox([self.like, self.dislike], layout=W.Layout(margin="0 0 0 10px"))
        buttons.add_class("minillm-judge")
        super().__init__([self.text, buttons])

    def show(self, answer: Answer | None, place: int, busy: bool) -> None:
        """Show an answer, or nothing."""
        self.place = place
        self.layout.display = "none" if answer is None else ""
        if answer is None:
            return
        self.text.value = _answer(answer.text, "" if answer.whole else " …")
        for button, liked, words in ((self.like, True, "Like"), (self.dislike, False, "Dislike")):
            chosen = answer.liked is liked
            button.description, button.disabled = f"{words}d" if chosen else words, busy
            (button.add_class if chosen else button.remove_class)("minillm-chosen")


def _turn(turn: Turn, name: str) -> str:
    """An earlier turn as HTML: the question, and the answer that stands."""
    if (answer := turn.standing) is None:
        return _question(turn.prompt)
    more = [f"{len(turn.answers)} answers"] if len(turn.answers) > 1 else []
    more += {True: ["liked"], False: ["disliked"], None: []}[answer.liked]
    note = f'<div style="{_SMALL}; padding-left:15px">{", ".join(more)}</div>' if more else ""
    return _question(turn.prompt) + _answer(answer.text, "" if answer.whole else " …") + note


def _question(text: str) -> str:
    said = f'<span style="{_MINE}; {_TEXT}">{_escaped(text)}</span>'
    return f'<div style="text-align:right; margin:10px 2px 6px 0">{said}</div>'


def _answer(text: str, end: str) -> str:
    return f'<div style="{_THEIRS}; {_TEXT}">{_escaped(text)}{html.escape(end)}</div>'


def _escaped(text: str) -> str:
    """HTML that shows exactly this text; what would steer a screen is shown as a sign."""
    return html.escape(inert(text))


def _button(words: str, tooltip: str, icon: str = "") -> W.Button:
    return W.Button(description=words, tooltip=tooltip, icon=icon, layout=W.Layout(width="auto"))
