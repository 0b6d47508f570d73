"""Conversations: nothing said is lost, likes make comparisons, and a terminal shows text and only text."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import unicodedata

import pytest
import torch
from small_speakers import KINDS, best_of_speaker

from minillm import conversation as conversation_file
from minillm import history as history_file
from minillm.adaptation.chat_template import conversation
from minillm.alignment.chats import as_prompt, encode_chats
from minillm.alignment.preferences import read_comparisons
from minillm.alignment.reward import ComparisonBatch, RewardModel
from minillm.chat import HELP, TerminalChat, _Paper
from minillm.conversation import Conversation
from minillm.history import Turn, earlier, new_path, read_turns
from minillm.speaker import Speaker
from minillm.speakers import ElizaSpeaker
from minillm.text.inert import inert

pytestmark = pytest.mark.no_promises


class Counter(Speaker):
    """Says how often it was asked, in pieces; in `trouble` it fails after the second."""

    name, about, suggestions = "counter", "It counts.", ("One?", "Two?", "Three?", "Four?")

    def __init__(self, trouble=None):
        self.asked, self.trouble, self.heard = 0, trouble, []

    def reply(self, messages, *, temperature, generator):
        self.asked += 1
        self.heard.append([message.text for message in messages])
        for place, piece in enumerate(["answer", " number", f" {self.asked}"]):
            if self.trouble and place == 2:
                raise self.trouble
            yield piece


class Drawn(Speaker):
    """Says one of the first n numbers, the same at temperatures below 1."""

    name, about = "drawn", "It draws."

    def __init__(self, n=4):
        self.n, self.temperatures = n, []

    def reply(self, messages, *, temperature, generator):
        self.temperatures.append(temperature)
        number = int(torch.randint(self.n, (), generator=generator))
        yield str(number if temperature >= 1 else 0)


def talk_on(folder, speaker=None, **how):
    return Conversation(speaker or Counter(), folder / "talk.jsonl", likes=folder / "likes.jsonl", seed=0, **how)


def kinds(path):
    return [json.loads(line)["kind"] for line in path.read_text().splitlines()]


# on disk


def test_everything_is_on_the_disk_as_it_happens(tmp_path):
    talk = talk_on(tmp_path)
    path = talk.path
    pieces = talk.ask("Who?")
    assert kinds(path) == ["start", "ask"], "the question is kept before anything is answered"
    assert next(pieces) == "answer" and kinds(path)[2:] == ["piece"]
    assert read_turns(path)[0].answers[0].text == "answer" and not read_turns(path)[0].answers[0].whole
    assert "".join(pieces) == " number 1"
    assert kinds(path)[2:] == ["piece"] * 3 + ["answer"] and read_turns(path) == talk.turns
    talk.judge(True)
    assert read_turns(path)[0].answers[0].liked is True and talk.is_kept
    assert list(tmp_path.iterdir()) == [path], "a like alone is no comparison"


def test_an_answer_that_is_stopped_keeps_what_was_said(tmp_path):
    talk = talk_on(tmp_path)
    pieces = talk.ask("Who?")
    next(pieces), next(pieces)
    pieces.close()
    (answer,) = talk.turns[0].answers
    assert answer.text == "answer number" and not answer.whole and read_turns(talk.path) == talk.turns
    list(talk.ask("And?"))
    assert talk.speaker.heard[-1] == ["Who?", "answer number", "And?"]


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), RuntimeError("out of memory"), ValueError("too long")])
def test_whatever_stops_an_answer_it_is_kept(tmp_path, trouble):
    talk = talk_on(tmp_path, Counter(trouble))
    with pytest.raises(type(trouble)):
        list(talk.ask("Who?"))
    assert read_turns(talk.path)[0].answers[0].text == "answer number"


def test_a_refused_question_stands_without_an_answer_and_the_talk_goes_on(tmp_path):
    talk = talk_on(tmp_path, KINDS["chat"]())
    with pytest.raises(ValueError, match="fewer words"):
        list(talk.ask("Olga " * 100))
    list(talk.ask("Olga has a goat"))
    assert [len(turn.answers) for turn in talk.turns] == [0, 1] and read_turns(talk.path) == talk.turns
    with pytest.raises(ValueError, match="nothing to answer"):
        talk.ask("  \n ")
    assert len(talk.turns) == 2


def test_going_on_tomorrow(tmp_path):
    talk = talk_on(tmp_path)
    list(talk.ask("Who?")), list(talk.regenerate()), talk.judge(True, answer=0), list(talk.ask("Où\ud800?"))
    again = Conversation.reopen(talk.path, Counter())
    assert again.turns == talk.turns and again.turns[1].prompt == "Où??" and again.news() == []
    list(again.ask("Then?"))
    assert again.speaker.heard[-1] == ["Who?", "answer number 1", "Où??", "answer number 3", "Then?"], "the liked one"
    assert kinds(talk.path).count("start") == 1


def test_a_seed_that_is_kept_gives_the_answer_again(tmp_path):
    talk = Conversation(KINDS["gpt"](), tmp_path / "a", temperature=1.0)
    list(talk.ask("Olga")), list(talk.ask("Leo"))
    answer = read_turns(tmp_path / "a")[1].answers[0]
    generator = torch.Generator().manual_seed(answer.seed)
    messages = conversation("Olga", talk.turns[0].standing.text, "Leo")
    said = talk.speaker.reply(messages, temperature=answer.temperature, generator=generator)
    assert "".join(said) == answer.text != ""


@pytest.mark.parametrize("cut", [1, 30, -1])
def test_half_a_line_is_kept_aside_and_told(tmp_path, cut):
    talk = talk_on(tmp_path)
    list(talk.ask("Who?")), list(talk.ask("And?"))
    whole = talk.path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    talk.path.write_bytes(whole + last[:cut])
    again = Conversation.reopen(talk.path, Counter())
    assert again.turns == talk.turns
    if cut == -1:  # whole but for its end: a line
        assert again.news() == []
    else:
        assert "half-written line" in " ".join(again.news())
        assert (tmp_path / "talk.jsonl.torn").read_bytes() == last[:cut] + b"\n"
    list(again.ask("Then?"))
    assert read_turns(talk.path) == again.turns


def test_half_a_line_that_comes_while_one_talks(tmp_path):
    talk = talk_on(tmp_path)
    list(talk.ask("Who?"))
    with talk.path.open("a") as stream:
        stream.write('{"kind": "as')
    list(talk.ask("And?"))
    assert read_turns(talk.path) == talk.turns and (tmp_path / "talk.jsonl.torn").exists() and talk.is_kept


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"kind": "judge", "turn": 9, "answer": 0, "liked": true}', "index"),
        ('{"kind": "judge", "turn": 0, "answer": 0, "liked": 3}', "liked=3"),
        ('{"kind": "song"}', "kind='song'"),
        ('{"kind": "start", "version": 2}', "a newer one wrote it"),
        ('{"kind": "ask", "text": 7}', "not a text"),
        ("[]", "must be an object"),
        ("{}", "kind"),
    ],
)
def test_a_line_that_is_none_is_named_and_nothing_is_changed(tmp_path, line, says):
    talk = talk_on(tmp_path)
    list(talk.ask("Who?"))
    with talk.path.open("a") as stream:
        stream.write(line + "\n")
    before = talk.path.read_bytes()
    with pytest.raises(ValueError, match=r"talk\.jsonl' line 7.*") as caught:
        Conversation.reopen(talk.path, Counter())
    assert says in str(caught.value) and talk.path.read_bytes() == before


def test_a_full_disk_ends_nothing_and_what_waits_is_written_later(tmp_path, monkeypatch):
    talk = talk_on(tmp_path)
    list(talk.ask("Who?"))
    before = talk.path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(history_file, "append_line", full)
        patch.setattr(conversation_file, "append_comparison", full)
        said = "".join(talk.ask("And?"))
        (note,) = talk.news()
        assert said == "answer number 2" and "No space left" in note and "goes on in memory" in note
        list(talk.regenerate())
        talk.judge(False, answer=0)
        assert len(talk.judge(True, answer=1)) == 1
        (note,) = talk.news()
        assert "judgement is kept with the conversation" in note, "and the full disk is told once"
        assert talk.path.read_bytes() == before and not talk.is_kept
        talk.save(tmp_path / "elsewhere.txt")
    list(talk.ask("Then?"))
    assert "all of it is kept" in " ".join(talk.news()) and talk.is_kept and read_turns(talk.path) == talk.turns
    list(talk.regenerate()), talk.judge(True, answer=0)
    assert len(read_comparisons(tmp_path / "likes.jsonl")) == 1, "the comparison that waited"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    talk = Conversation(Counter(), tmp_path / "file" / "talk.jsonl", likes=tmp_path / "file" / "likes", seed=0)
    assert "".join(talk.ask("Who?")) == "answer number 1" and "cannot be kept" in talk.news()[0]
    list(talk.regenerate()), talk.judge(False, answer=0), talk.judge(True)
    assert "not yet in" in talk.news()[0]


def test_the_list_of_conversations(tmp_path):
    paths = [new_path(tmp_path) for _ in range(3)]
    assert paths == sorted(paths) and len(set(paths)) == 3
    for path, text in zip(paths, ["one", "two", "three"], strict=True):
        list(Conversation(Counter(), path).ask(text))
    list(Conversation(ElizaSpeaker(), new_path(tmp_path)).ask("four"))
    (tmp_path / "0.jsonl").write_text("nonsense")
    (tmp_path / "z.jsonl").write_bytes(b"\xff\xfe")
    assert [one.question for one in earlier(tmp_path, "counter")] == ["three", "two", "one"]
    assert next(one.speaker for one in earlier(tmp_path)) == "eliza" and earlier(tmp_path / "none") == []


WRITER = """
    import sys, time
    from minillm.conversation import Conversation
    from minillm.speaker import Speaker
    class Endless(Speaker):
        name = about = "endless"
        def reply(self, messages, **how):
            for n in range(100_000):
                print(n, flush=True)
                yield f"{n} "
    talk = Conversation(Endless(), sys.argv[1])
    for piece in talk.ask("Count"): pass
"""


def test_a_killed_program_loses_nothing_that_was_shown(tmp_path):
    path = tmp_path / "talk.jsonl"
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), path], stdout=subprocess.PIPE) as process:
        shown = [process.stdout.readline() for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        shown += [line for line in process.stdout if line.endswith(b"\n")]
    again = Conversation.reopen(path, Counter())
    (answer,) = again.turns[0].answers
    kept = answer.text.split()
    assert kept == [str(n) for n in range(len(kept))] and len(kept) >= len(shown) - 1 and not answer.whole


# what a like means


def test_a_liked_and_a_disliked_answer_are_a_comparison(tmp_path):
    talk = talk_on(tmp_path)
    list(talk.ask("First?")), list(talk.ask("Who?")), talk.judge(False), list(talk.regenerate())
    (made,) = talk.judge(True)
    assert (made.better, made.worse, made.who) == ("answer number 3", "answer number 2", "me")
    assert made.prompt == "First?\n\nanswer number 1\n\nWho?"
    assert read_comparisons(tmp_path / "likes.jsonl") == [made]
    list(talk.regenerate())
    more = talk.judge(False)
    assert [(one.better, one.worse) for one in more] == [("answer number 3", "answer number 4")]
    assert len(read_comparisons(tmp_path / "likes.jsonl")) == 2


def test_a_change_of_mind_is_a_change_in_the_file(tmp_path):
    talk, other = talk_on(tmp_path), Conversation(Counter(), likes=tmp_path / "likes.jsonl", who="bob", seed=0)
    for one in (talk, other):
        list(one.ask("Who?")), list(one.regenerate()), one.judge(False, answer=0), one.judge(True, answer=1)
    list(talk.ask("And?")), list(talk.regenerate()), talk.judge(True, answer=0), talk.judge(False)
    talk.judge(None, answer=0, turn=0)
    assert [one.prompt for one in read_comparisons(tmp_path / "likes.jsonl")] == ["Who?", as_prompt(
        conversation("Who?", "answer number 2", "And?"))], "bob's and the other one stand"  # fmt: skip
    talk.judge(True, answer=0, turn=0), talk.judge(False, answer=1, turn=0)
    mine = [one for one in read_comparisons(tmp_path / "likes.jsonl") if one.who == "me" and one.prompt == "Who?"]
    assert [(one.better, one.worse) for one in mine] == [("answer number 1", "answer number 2")]


def test_judging_what_is_not_there():
    talk = Conversation(Counter())
    for wrong in (lambda: talk.judge(True), talk.regenerate, lambda: list(talk.another())):
        with pytest.raises(ValueError, match="ask something first"):
            wrong()


def test_another_answer_differs_and_gets_warmer_only_as_needed(tmp_path):
    speaker = Drawn()
    talk = talk_on(tmp_path, speaker)
    list(talk.ask("Who?"))
    assert [list(talk.another()) for _ in range(2)] and len({a.text for a in talk.turns[0].answers}) == 3
    assert speaker.temperatures[1:4] == [0.7, 0.7, pytest.approx(1.05)] and read_turns(talk.path) == talk.turns
    stubborn = talk_on(tmp_path, Drawn(1))
    list(stubborn.ask("Who?"))
    with pytest.raises(ValueError, match="the same each time"):
        list(stubborn.another())
    list(stubborn.regenerate())
    assert len(stubborn.turns[0].answers) == 1 and "higher temperature" in " ".join(stubborn.news())


def test_the_answer_that_stands():
    turn = Turn("?", [history_file.Answer(text=text) for text in "abc"])
    assert turn.standing.text == "c"
    turn.answers[2] = history_file.Answer(text="c", liked=False)
    assert turn.standing.text == "b"
    turn.answers[0] = history_file.Answer(text="a", liked=True)
    assert turn.standing.text == "a" and turn.pairs == [("a", "c")] and Turn("?").standing is None


def test_a_reward_model_trains_on_likes(tmp_path):
    """From clicks to a step of chapter 19, and the answer that was liked scores higher after it."""
    speaker = best_of_speaker()
    talk = Conversation(speaker.speaker, likes=tmp_path / "likes.jsonl", seed=0, temperature=1.5)
    list(talk.ask("Where does Leo live?")), talk.judge(False), list(talk.another()), talk.judge(True)
    pairs = encode_chats(read_comparisons(tmp_path / "likes.jsonl"), speaker.speaker.template)
    reward, batch = RewardModel(speaker.speaker.model), ComparisonBatch.of(pairs)
    before = reward.margins(pairs)
    optimizer = torch.optim.SGD(reward.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        reward.loss(batch).backward()
        optimizer.step()
    assert float(reward.margins(pairs) - before) > 0


# what is shown

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
                  "1 comparison(s) kept", "There is nothing to answer", "Good-bye. Kept in "):  # fmt: skip
        assert words in said, words
    assert "/4" not in said and len(read_comparisons(tmp_path / "likes.jsonl")) == 1
    assert read_turns(chat.talk.path) == chat.talk.turns


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
    terminal.type("\x03")
    terminal.wait_for("Good-bye. Kept in")
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
