"""A conversation: somebody asks, a speaker answers, an answer is liked or not.

    ask  →  answer  →  dislike  →  another answer  →  like     =  one comparison

What a like means: by itself it is kept, and that is all, for a reward model learns from comparisons. A liked and a
disliked answer to the same question are one. So after a dislike `another` finds a second answer, and a like of that
one makes a line in the file of comparisons that chapter 19 reads.

Paper:   Ouyang et al. 2022, "InstructGPT", §3.4, arXiv:2203.02155: comparisons of answers to one prompt.
Next:    minillm/chat.py
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from minillm.adaptation.chat_template import Message
from minillm.alignment.chats import as_prompt
from minillm.alignment.preferences import Comparison, append_comparison, mend, read_comparisons, take_back
from minillm.core.files import write_atomically
from minillm.history import FORMAT, Answer, History, Turn, now, read_turns
from minillm.speaker import Speaker

TEMPERATURE = 0.7
WARMER = (1.0, 1.0, 1.5, 2.0, 3.0)  # temperatures of `another`, as multiples


class Conversation:
    """Talk with a speaker, kept in `path`; without a path in memory only.

    `likes` is the file of comparisons. `seed` is that of the first answer, the next one has the next number; None draws
    it. `news()` gives, once each, the sentences that the user should read: what could not be written, what was found
    half-written, what the speaker cannot read.

    >>> from minillm.speakers import ElizaSpeaker
    >>> talk = Conversation(ElizaSpeaker(), seed=0)
    >>> "".join(talk.ask("I remember the old mill."))
    'What made you think of the old mill today?'
    >>> talk.judge(False)
    []
    >>> _ = list(talk.another())
    >>> [one.worse for one in talk.judge(True)]
    ['What made you think of the old mill today?']
    """

    def __init__(
        self,
        speaker: Speaker,
        path: str | os.PathLike[str] | None = None,
        *,
        likes: str | os.PathLike[str] | None = None,
        temperature: float = TEMPERATURE,
        seed: int | None = None,
        who: str = "me",
    ) -> None:
        self.speaker, self.temperature, self.who = speaker, temperature, who
        self.likes = None if likes is None else Path(likes)
        self.seed = secrets.randbelow(2**31) if seed is None else seed
        self.turns: list[Turn] = []
        self._drawn = 0  # answers so far
        self._owed: list[tuple[Comparison, bool]] = []  # comparisons likewise; True: to be written, False: taken back
        self._told: set[str] = set()
        self._news: list[str] = []
        self._history = History(path, self._news.append)
        self._started = False

    @classmethod
    def reopen(cls, path: str | os.PathLike[str], speaker: Speaker, **how: Any) -> "Conversation":
        """The conversation of a file, to be gone on with. `how` is as for a new one.

        Half of a last line is kept aside, and an answer that was cut short keeps what was said. ValueError with path
        and line for what is no conversation.
        """
        talk = cls(speaker, path, **how)
        talk._history.mend()
        talk.turns = read_turns(path)
        talk._drawn, talk._started = sum(len(turn.answers) for turn in talk.turns), True
        return talk

    def ask(self, text: str) -> Iterator[str]:
        """Say something; the answer comes in pieces. Close the iterator, or interrupt it, to stop the answer.

        Raises ValueError for an empty text, and, as the pieces are asked for, for what the speaker cannot answer.
        """
        text = text.encode("utf-8", "replace").decode().strip()  # half characters from a terminal have no place
        if not text:
            raise ValueError("there is nothing to answer: write something, or /help")
        if not self._started:
            who = {"speaker": self.speaker.name, "mark": self.speaker.mark}
            self._history.keep({"kind": "start", "version": FORMAT, **who, "when": now()})
            self._started = True
        self.turns.append(Turn(text))
        self._history.keep({"kind": "ask", "text": text, "when": now()})
        return self._stream(self.turns[-1])

    def regenerate(self) -> Iterator[str]:
        """Answer the last question again, at the present temperature. ValueError when there is none."""
        return self._stream(self._last)

    def another(self) -> Iterator[str]:
        """An answer to the last question that was not given yet, drawn a little warmer each time until it differs.

        It is drawn before it is shown. ValueError when the speaker says the same again and again.
        """
        turn = self._last
        for factor in WARMER:
            seed, temperature = self._next_seed(), max(self.temperature, 0.7) * factor
            pieces = list(self._reply(turn, seed, temperature))
            answer = Answer(text="".join(pieces), temperature=temperature, seed=seed)
            if turn.add(answer):
                self._keep_answer(answer)
                yield from pieces
                return
        raise ValueError("it says the same each time, however it is drawn")

    def judge(self, liked: bool | None, answer: int = -1, turn: int = -1) -> list[Comparison]:
        """Like or dislike an answer, the newest unless told; None takes it back. Gives the comparisons that this made.

        They are in the file `likes`; those that this judgement ended are taken back there.
        """
        judged = self._last if turn == -1 else self.turns[turn]
        if not judged.answers:
            raise ValueError("there is no answer yet that could be liked; ask something first")
        before, place = judged.pairs, range(len(judged.answers))[answer]
        judged.answers[place] = replace(judged.answers[place], liked=liked)
        number = next(i for i, one in enumerate(self.turns) if one is judged)
        self._history.keep({"kind": "judge", "turn": number, "answer": place, "liked": liked})
        prompt = as_prompt(self._messages(judged))
        made = [self._comparison(prompt, *pair) for pair in judged.pairs if pair not in before]
        ended = [self._comparison(prompt, *pair) for pair in before if pair not in judged.pairs]
        self._owed += [(one, False) for one in ended] + [(one, True) for one in made]
        self._write_likes()
        return made

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was said as plain text, into a file that is not there yet (else ValueError)."""
        path = Path(path).expanduser()
        if path.exists():
            raise ValueError(f"{path} is there already, and nothing is written over; choose another name")
        said = [(name, text) for turn in self.turns for name, text in self.lines(turn)]
        write_atomically(path, "\n\n".join(f"{name}: {text}" for name, text in said) + "\n")

    def news(self) -> list[str]:
        """Sentences for the user that were not given out yet."""
        news = self._news.copy()
        self._news.clear()
        return news

    @property
    def path(self) -> Path | None:
        """The file in which it is kept."""
        return self._history.path

    @property
    def is_kept(self) -> bool:
        """Whether all of it is on the disk."""
        return self.path is not None and not self._history.waiting

    @property
    def _last(self) -> Turn:
        if not self.turns:
            raise ValueError("nothing was asked yet; ask something first")
        return self.turns[-1]

    def lines(self, turn: Turn) -> list[tuple[str, str]]:
        """Who said what in a turn: the question, and the answer that stands."""
        answer = turn.standing
        return [("you", turn.prompt)] + ([] if answer is None else [(self.speaker.name, answer.text)])

    def _messages(self, turn: Turn) -> list[Message]:
        """What the speaker is given: the turns before, each with the answer that stands, and the question."""
        messages: list[Message] = []
        for before in self.turns:
            if before is turn:
                break
            if (answer := before.standing) is not None:
                messages += [Message(role="user", text=before.prompt), Message(role="assistant", text=answer.text)]
        return [*messages, Message(role="user", text=turn.prompt)]

    def _next_seed(self) -> int:
        self._drawn += 1
        return (self.seed + self._drawn - 1) % 2**63

    def _reply(self, turn: Turn, seed: int, temperature: float) -> Iterator[str]:
        messages = self._messages(turn)
        for sentence in self.speaker.unread(messages):
            self._say(sentence)
        generator = torch.Generator().manual_seed(seed)
        return self.speaker.reply(messages, temperature=temperature, generator=generator)

    def _stream(self, turn: Turn) -> Iterator[str]:
        seed, temperature = self._next_seed(), self.temperature
        pieces: list[str] = []
        whole = False
        try:
            for piece in self._reply(turn, seed, temperature):
                pieces.append(piece)
                self._history.keep_piece(piece)
                yield piece
            whole = True
        finally:  # also when the iterator is closed or interrupted: what was said is kept
            if pieces or whole:
                answer = Answer(text="".join(pieces), whole=whole, temperature=temperature, seed=seed)
                self._keep_answer(answer)
                if not turn.add(answer):
                    self._news.append("That is the answer of before. A higher temperature makes it differ more.")

    def _comparison(self, prompt: str, better: str, worse: str) -> Comparison:
        first, second = sorted((better, worse))
        choice = (first, second).index(better)
        return Comparison(prompt=prompt, answers=(first, second), choice=choice, who=self.who, when=now())

    def _say(self, sentence: str) -> None:
        """News that is told once in a conversation, however often it comes."""
        if sentence not in self._told:
            self._told.add(sentence)
            self._news.append(sentence)

    def _keep_answer(self, answer: Answer) -> None:
        fields = {"text": answer.text, "whole": answer.whole, "temperature": answer.temperature, "seed": answer.seed}
        self._history.keep({"kind": "answer", **fields})

    def _write_likes(self) -> None:
        """Bring the file of comparisons in line with what was judged; what it does not take is tried again later."""
        try:
            while self.likes is not None and self._owed:
                self.likes.parent.mkdir(parents=True, exist_ok=True)
                if torn := mend(self.likes):
                    self._news.append(f"Half a line was found in {self.likes.name} and kept aside: {torn[:40]}…")
                one, stands = self._owed[0]
                if stands:
                    append_comparison(self.likes, one)
                elif self.likes.exists() and any(_same(one, other) for other in read_comparisons(self.likes)):
                    take_back(self.likes, self.who, one)
                self._owed.pop(0)
        except (OSError, ValueError) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            self._say(f"Your judgement is kept with the conversation, but not yet in {self.likes}: {why}")


def _same(one: Comparison, other: Comparison) -> bool:
    told = [(c.who, c.prompt, c.better, c.worse) for c in (one, other)]
    return told[0] == told[1]
