"""The chat in a terminal: text and only text, whatever a speaker, a disk or a pair of keys does."""

import io
import os
import subprocess
import sys
import unicodedata

import pytest
from small_speakers import KINDS, Counter

from minillm.alignment.preferences import read_comparisons
from minillm.chat import HELP, TerminalChat, _Paper
from minillm.history import read_turns
from minillm.speaker import Speaker
from minillm.text.inert import inert

pytestmark = pytest.mark.no_promises

HOSTILE = (
    "\x1b]0;mine\x07\x1b[2J\x1b[31mred\r\x08 \u202egnp.exe\u2066 \u200b \x9b31m \x7f \ud800 \u2028 \U000e0041 <script>"
)


def test_text_from_strangers_steers_nothing():
    shown = inert(HOSTILE)
    steering = ("Cc", "Cf", "Cs", "Zl", "Zp")
    assert not [c for c in shown if unicodedata.category(c) in steering]
    assert "red" in shown and "gnp.exe" in shown and "⟨U+202E⟩" in shown and "␛" in shown and "<script>" in shown
    shown.encode()
    assert "".join(inert(c) for c in HOSTILE) == shown == inert(shown), "in pieces, and twice, the same"
    harmless = "plain text\n\twith é 你好 ½ “quotes” نص \u200d\u200c 👩\u200d🌾"
    assert inert(harmless) == harmless
    everything = "".join(map(chr, range(0x110000)))
    left = {c for c in inert(everything) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}
    assert left == {"\n", "\t"}
    assert all(unicodedata.bidirectional(c) not in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
               for c in inert(everything))  # fmt: skip


def in_terminal(speaker, *lines, folder=None, **how):
    out, said = io.StringIO(), iter(lines)

    def ask(prompt):
        out.write(prompt)
        try:
            line = next(said)
        except StopIteration:
            raise EOFError from None
        if isinstance(line, BaseException):
            raise line
        out.write(line + "\n")
        return line

    likes = None if folder is None else folder / "likes.jsonl"
    chat = TerminalChat(speaker, folder=folder, likes=likes, ask=ask, out=out, seed=0, **how)
    chat.run()
    return out.getvalue(), chat


def test_a_chat_from_welcome_to_good_bye(tmp_path):
    said, chat = in_terminal(Counter(), "/2", "Who?", "", "/dislike", "/like", "/quit", folder=tmp_path)
    for words in ("counter: It counts.", "/3  Three?", "you> Two?", "counter> answer number 1\n",
                  "counter> answer number 2\n", "Disliked. Here is another", "counter> answer number 3\n",
                  "1 comparison kept", "There is nothing to answer", "Good-bye. Kept in "):  # fmt: skip
        assert words in said, words
    assert "/4" not in said and len(read_comparisons(tmp_path / "likes.jsonl")) == 1
    assert read_turns(chat.talk.path) == chat.talk.turns


class Stubborn(Speaker):
    name, about, suggestions = "mule", "It says one thing.", ()

    def reply(self, messages, *, temperature, generator):
        yield "No."


def test_a_dislike_where_there_is_no_other_answer():
    said, _ = in_terminal(Stubborn(), "Yes?", "/dislike", "/quit")
    assert "Disliked. There is no other answer: it says the same each time" in said
    assert said.count("mule> ") == 1 and "Here is another" not in said, "no promise of what does not come"


def test_each_command(tmp_path):
    file = tmp_path / "said.txt"
    said, chat = in_terminal(
        Counter(),
        *("/help", "/like", "Who?", "/regenerate", "/like", "/temperature", "/temperature 0", "/temperature hot"),
        *("/temperature 11", "/temperature nan", f"/save {file}", f"/save {file}", "/save", "/sing", "//sing", "/9"),
        *("/new", "Again?", "/history", "/history 2", "/history 7", "More?"),
        folder=tmp_path,
    )
    for words in ("Ask something first", "Liked. A comparison needs a second answer", "The temperature is 0.7.",
                  "The temperature is 0.", "hot: a number from 0 to 10 works", "11: a number from", "nan: a number",
                  "Written to", "is there already", "/save talk.txt", "/sing is not known", "/9 is not known",
                  "A new conversation.", "  2  20", "Where you were:", "there are 2"):  # fmt: skip
        assert words.lower() in said.lower().replace("\n                  ", " "), words
    assert file.read_text() == "you: Who?\n\ncounter: answer number 2\n"
    assert [turn.prompt for turn in chat.talk.turns] == ["Who?", "/sing", "More?"]
    assert all(line.split()[0] in said for line in HELP.splitlines() if line.startswith("/"))


def test_a_speaker_in_trouble_does_not_end_the_chat():
    said, _ = in_terminal(Counter(RuntimeError("out of memory")), "Who?", "Who?")
    assert said.count("That went wrong: RuntimeError: out of memory") == 2 and "Good-bye" in said
    said, _ = in_terminal(KINDS["characters"](), "Olgé", "Olga has")
    assert "'é' is not among" in said and said.count("text> ") == 2
    said, _ = in_terminal(KINDS["chat"](), "Olga in Berlin?", "Where is Berlin?")
    assert said.count("does not know the word") == 2


def test_leaving():
    for last in (EOFError(), KeyboardInterrupt()):
        said, _ = in_terminal(Counter(), "Who?", last)
        assert said.endswith("you> \n         Good-bye.\n")


class Echo(Speaker):
    name, about, suggestions = "echo\x1b[5m", "It \x1b[1mrepeats\u202e.", ("\x07bell",)

    def reply(self, messages, *, temperature, generator):
        yield from messages[-1].text


def test_a_hostile_speaker_and_a_hostile_history_are_inert(tmp_path):
    hostile = HOSTILE.replace("\ud800", "") + "\nyou> /quit"
    said, _ = in_terminal(
        Echo(), hostile, "/dislike", "/history", "/history 1", "/1", f"/{HOSTILE[:9]}", folder=tmp_path
    )
    typed = said.replace(hostile, "").replace(HOSTILE[:9], "")  # what the test itself put there, as a terminal would
    assert not [c for c in typed if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    forged = [line for line in typed.split("\n") if line.startswith("you> /quit")]
    assert forged == [], "what looks like a prompt stands indented"


def paper(text, columns, indent=4):
    shown = []
    sheet = _Paper(shown.append, indent, columns)
    for start in range(0, len(text), 3):
        sheet.write(text[start : start + 3])
    sheet.end("")
    return "".join(shown)


def test_lines_are_broken_between_words():
    text = "Olga lives by the hill and keeps a goat. " * 5 + "Unbelievablylongwordthatfitsnowhere 你好 end"
    shown = paper(text, 24)
    assert shown.replace("\n    ", " ") == text
    widths = [len(line) + (0 if place else 4) for place, line in enumerate(shown.split("\n"))]
    assert all(w <= 24 for w, line in zip(widths, shown.split("\n"), strict=True) if "Unbelievably" not in line)
    assert max(widths[:-2]) > 16, "and not too early"
    assert paper(text, None) == text, "no terminal, no lines"
    assert paper("一二三四五六七八", 12) == "一二三四五六七八", "one word of wide signs is not torn"
    assert paper("a\nb", 30) == "a\n    b"


# in a real terminal

SLOW = """
import fcntl, sys, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C of this terminal reaches us
from pathlib import Path
from minillm.chat import TerminalChat
from minillm.speaker import Speaker

class Slow(Speaker):
    name, about = "slow", "It takes its time."
    def reply(self, messages, *, temperature, generator):
        for n in range(100 if "long" in messages[-1].text else 3):
            yield f"word{n} "
            time.sleep(0.02)

folder = Path(sys.argv[1])
if len(sys.argv) > 2:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
TerminalChat(Slow(), folder=folder, likes=folder / "likes.jsonl").run()
"""


class Terminal:
    """A program in a pseudo-terminal of 80 columns: what it shows, and keys for it."""

    def __init__(self, *arguments):
        pty = pytest.importorskip("pty")
        self.main, side = pty.openpty()
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "80", "LINES": "24"}
        self.process = subprocess.Popen(arguments, stdin=side, stdout=side, stderr=side, env=environment,
                                        start_new_session=True)  # fmt: skip
        os.close(side)
        self.shown = ""

    def wait_for(self, words, seconds=60):
        import select
        import time

        end = time.monotonic() + seconds
        while words not in self.shown:
            assert time.monotonic() < end, f"{words!r} did not come; so far: {self.shown!r}"
            if select.select([self.main], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.main, 4096).decode("utf-8", "replace").replace("\r\n", "\n")
                except OSError:  # the program has left
                    assert words in self.shown, f"it left; {words!r} did not come: {self.shown!r}"
        before, _, self.shown = self.shown.partition(words)
        return before

    def type(self, keys):
        os.write(self.main, keys.encode())

    def leave(self):
        """Ctrl-C at the prompt; again where it came between the prompt and the reading of the line, which loses it."""
        self.type("\x03")
        try:
            self.wait_for("Good-bye. Kept in", seconds=15)
        except AssertionError:
            self.type("\x03")
            self.wait_for("Good-bye. Kept in")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self.main)


@pytest.fixture
def terminal(request, tmp_path):
    pytest.importorskip("termios")
    program = tmp_path / "slow.py"
    program.write_text(SLOW)
    folder = tmp_path / "talks"
    one = Terminal(sys.executable, str(program), str(folder), *getattr(request, "param", []))
    one.folder = folder
    yield one
    one.close()


def turns_in(folder):
    (path,) = folder.glob("*.jsonl")
    return read_turns(path)


def test_ctrl_c_stops_the_answer_and_then_leaves(terminal):
    terminal.wait_for("you> ")
    terminal.type("something long\n")
    terminal.wait_for("word3 ")
    assert "word99" not in terminal.shown, "it comes word by word"
    terminal.type("\x03")
    terminal.wait_for("Stopped.")
    terminal.wait_for("you> ")
    (answer,) = turns_in(terminal.folder)[0].answers
    assert answer.text.startswith("word0 word1 word2 word3 ") and not answer.whole and "word99" not in answer.text
    terminal.type("short\n")
    terminal.wait_for("word2")
    terminal.wait_for("you> ")
    terminal.type("/regenerate\n")
    terminal.wait_for("That is the answer of before.")
    terminal.wait_for("you> ")
    terminal.leave()
    assert terminal.process.wait(20) == 0 and [len(turn.answers) for turn in turns_in(terminal.folder)] == [1, 1]


@pytest.mark.parametrize("terminal", [["700"]], indirect=True)
def test_a_full_disk_in_a_terminal(terminal):
    """The system refuses every byte beyond 700 of a file, as a disk without room would."""
    terminal.wait_for("you> ")
    for n in range(4):
        terminal.type(f"short {n}\n")
        terminal.wait_for("word2")
        before = terminal.wait_for("you> ")
        if "cannot be kept on disk" in before:
            break
    else:
        pytest.fail("700 bytes were never full")
    terminal.type("one more\n")
    terminal.wait_for("word2")
    assert "cannot be kept" not in terminal.wait_for("you> "), "it is said once"
    whole = turns_in(terminal.folder)
    assert [turn.prompt for turn in whole] == [f"short {i}" for i in range(len(whole))] and whole[0].answers[0].whole
    terminal.type("\x04")
    terminal.wait_for("Good-bye.")
