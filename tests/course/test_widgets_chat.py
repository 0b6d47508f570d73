"""The conversation page without a browser: the answer comes in a thread, everything shown is text, nothing is lost."""

import html
import re
import threading
import time

import pytest

from minillm.alignment.preferences import read_comparisons
from minillm.course.progress import QUIET
from minillm.course.widgets_chat import ChatPage
from minillm.history import earlier, read_turns
from minillm.speaker import Speaker
from minillm.speakers import ElizaSpeaker

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> $x^2$ & \"'</div> \x1b[31m \u202etxt"


@pytest.fixture(autouse=True)
def not_quiet(monkeypatch):
    monkeypatch.delenv(QUIET, raising=False)  # the suite's own silence


class Held(Speaker):
    """Says pieces one at a time, each when `go` is released; a new text each time it is asked."""

    name, about, suggestions = "held", "It waits.", ("One?", "Two?", "Three?", "Four?")

    def __init__(self, pieces=3):
        self.go, self.asked, self.pieces = threading.Semaphore(0), 0, pieces

    def reply(self, messages, *, temperature, generator):
        self.asked += 1
        for n in range(self.pieces):
            assert self.go.acquire(timeout=20)
            yield f"piece {n} of {self.asked}; "


class Parrot(Speaker):
    """Repeats what it is told; each time with one sign more, so that no two answers are the same."""

    name = about = EVIL
    suggestions = (EVIL,)
    asked = 0

    def reply(self, messages, *, temperature, generator):
        self.asked += 1
        yield messages[-1].text + "." * self.asked


def page_of(folder, speaker=None, **how):
    return ChatPage(speaker or Parrot(), folder=folder / "talks", likes=folder / "likes.jsonl", seed=0, **how)


def said(page, text):
    page.ask(text)
    page.wait()
    assert not page.busy
    return page.talk.turns[-1].answers[-1].text


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_answer_comes_in_pieces_while_the_program_goes_on(tmp_path):
    page = page_of(tmp_path, Held())
    page.suggestions[1].click()
    assert page.busy, "it returns at once"
    until(lambda: "is answering" in page.status.value)
    assert "Two?" in page.question.value
    assert page.stop.disabled is False and page.go.disabled and page.again.disabled and page.fresh.disabled
    assert page.suggested.layout.display == "none"
    page.ask("not now"), page.regenerate(), page.new(), page.judge(0, True)
    assert len(page.talk.turns) == 1, "one thing at a time"
    page.speaker.go.release()
    time.sleep(0.06)
    page.speaker.go.release()
    until(lambda: "piece 1 of 1" in page.coming.value)
    assert page.talk.turns[0].answers == [] and "piece 0 of 1; piece 1" in read_turns(page.talk.path)[0].answers[0].text
    page.speaker.go.release()
    page.wait()
    assert page.rows[0].text.value.count("piece 2 of 1") == 1 and page.coming.value == ""
    assert page.stop.disabled and not page.go.disabled and not page.again.disabled


def test_stop_keeps_what_was_said(tmp_path):
    page = page_of(tmp_path, Held(100))
    page.ask("Who?")
    page.speaker.go.release()
    until(lambda: page.live)
    page.stop.click()
    page.speaker.go.release(2)
    page.wait()
    (answer,) = page.talk.turns[0].answers
    assert answer.text.startswith("piece 0 of 1; ") and not answer.whole and "piece 5" not in answer.text
    assert (
        read_turns(page.talk.path) == page.talk.turns
        and "Stopped" in page.status.value
        and " …" in page.rows[0].text.value
    )
    page.speaker.go.release(200)
    page.regenerate()
    page.wait()
    assert len(page.talk.turns[0].answers) == 2


def test_enter_sends_and_leaving_the_line_does_not(tmp_path):
    page = page_of(tmp_path)
    page.entry.value = "half a quest"
    assert page.talk.turns == []
    page.entry._handle_custom_msg({"event": "submit"}, None)
    page.entry.value = "half a question"  # what was written comes after the key
    page.wait()
    assert page.talk.turns[0].prompt == "half a question" and page.entry.value == ""
    page.entry._handle_custom_msg({"event": "submit"}, None)
    page.entry.value = "  "
    page.go.click()
    assert len(page.talk.turns) == 1, "nothing is nothing to send"
    page.entry.value = "with the button"
    page.go.click()
    page.wait()
    assert len(page.talk.turns) == 2


def test_two_clicks_make_a_comparison(tmp_path):
    page = page_of(tmp_path)
    said(page, "Who?")
    page.rows[0].dislike.click()
    page.wait()
    assert [answer.liked for answer in page.talk.turns[0].answers] == [False, None], "another answer came by itself"
    assert page.rows[0].dislike.description == "Disliked" and page.rows[1].layout.display == ""
    page.rows[1].like.click()
    (one,) = read_comparisons(tmp_path / "likes.jsonl")
    assert (one.prompt, one.better, one.worse) == ("Who?", "Who?..", "Who?.")
    assert "Comparison 1 in likes.jsonl" in page.status.value
    page.rows[1].like.click()
    assert read_comparisons(tmp_path / "likes.jsonl") == [] and page.rows[1].like.description == "Like"
    page.rows[1].dislike.click()
    page.wait()
    page.rows[0].like.click()
    assert len(read_comparisons(tmp_path / "likes.jsonl")) == 1 and len(page.talk.turns[0].answers) == 3


def test_a_like_alone_waits_for_a_second_answer(tmp_path):
    page = page_of(tmp_path)
    said(page, "Who?")
    page.rows[0].like.click()
    assert "needs a second answer" in page.status.value and not (tmp_path / "likes.jsonl").exists()
    page.regenerate()
    page.wait()
    page.rows[1].dislike.click()
    assert len(read_comparisons(tmp_path / "likes.jsonl")) == 1 and len(page.talk.turns[0].answers) == 2


def test_more_answers_than_rows(tmp_path):
    page = page_of(tmp_path)
    said(page, "Who?")
    for _ in range(6):
        page.regenerate()
        page.wait()
    assert [row.place for row in page.rows] == [3, 4, 5, 6] and "Who?" + "." * 7 in page.rows[3].text.value
    page.rows[2].like.click()
    assert [n for n, answer in enumerate(page.talk.turns[0].answers) if answer.liked] == [5]


def test_a_page_that_is_made_again_goes_on(tmp_path):
    page = page_of(tmp_path)
    said(page, "first"), page.rows[0].like.click(), said(page, "second")
    again = page_of(tmp_path)
    assert again.talk.path == page.talk.path and "first" in again.past.value and "liked" in again.past.value
    assert "second" in again.question.value and "where you were" in again.status.value
    again.new()
    said(again, "third")
    again.new()
    labels = [label for label, _ in again.earlier.options]
    assert len(labels) == 3 and labels[1].endswith("third") and labels[2].endswith("first")
    again.earlier.value = again.earlier.options[2][1]
    assert [turn.prompt for turn in again.talk.turns] == ["first", "second"]
    fresh = page_of(tmp_path, reopen=False)
    assert fresh.talk.turns == [] and "third" not in fresh.past.value
    assert page_of(tmp_path, ElizaSpeaker()).talk.turns == [], "another speaker's are not shown"


def test_another_model_of_the_same_name_begins_anew(tmp_path):
    first, second = Parrot(), Parrot()
    first.mark, second.mark = "parts-1", "parts-2"
    said(page_of(tmp_path, first), "To the first.")
    page = page_of(tmp_path, second)
    assert page.talk.turns == [] and page.suggested.layout.display == ""
    assert any("To the first." in str(option) for option in page.earlier.options)  # and can still be gone on with
    assert page_of(tmp_path, first).talk.turns[0].prompt == "To the first."
    said(page, "To the second.")
    assert page_of(tmp_path, second).talk.turns[0].prompt == "To the second."
    assert page_of(tmp_path, first).talk.turns == []  # who spoke last is another


def test_where_outputs_are_checked_nothing_is_reopened(tmp_path, monkeypatch):
    said(page_of(tmp_path), "first")
    monkeypatch.setenv(QUIET, "1")
    assert page_of(tmp_path).talk.turns == []


def test_a_conversation_that_cannot_be_read_is_told_and_left_alone(tmp_path):
    page = page_of(tmp_path)
    said(page, "first")
    with page.talk.path.open("a") as stream:
        stream.write('{"kind": "<b>song</b>"}\n')
    before = page.talk.path.read_bytes()
    again = page_of(tmp_path)
    assert "cannot be read" in again.status.value and "<b>" not in again.status.value and again.talk.turns == []
    assert said(again, "second") and page.talk.path.read_bytes() == before


def test_trouble_is_told_and_the_page_goes_on(tmp_path):
    class Trouble(Speaker):
        name = about = "trouble"

        def reply(self, messages, *, temperature, generator):
            if "bad" in messages[-1].text:
                raise RuntimeError("out of <memory>")
            yield "fine"

    page = page_of(tmp_path, Trouble())
    page.ask("bad")
    page.wait()
    assert "RuntimeError: out of &lt;memory&gt;" in page.status.value and not page.busy
    assert said(page, "good") == "fine"
    page.rows[0].dislike.click()
    page.wait()
    assert "says the same each time" in page.status.value
    assert page_of(tmp_path / "none", Trouble()).talk.turns == [] and not (tmp_path / "none").exists()


def test_the_temperature_is_the_sliders(tmp_path):
    page = page_of(tmp_path)
    page.temperature.value = 0.3
    said(page, "Who?")
    page.new()
    said(page, "Who?")
    assert {turn.answers[0].temperature for one in earlier(tmp_path / "talks") for turn in read_turns(one.path)} == {
        0.3
    }


def every_html(page):
    bundle = page._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    rows = [row.text.value for row in page.rows]
    parts = [page.head.value, page.past.value, page.question.value, page.coming.value, page.status.value, *rows]
    return [*parts, data["text/html"]], data["text/plain"]


def test_whatever_is_said_is_text(tmp_path):
    page = page_of(tmp_path)
    welcome, plain = every_html(page)
    said(page, EVIL), page.rows[0].dislike.click(), page.wait(), said(page, "more")
    talked, more_plain = every_html(page)
    for shown in [*welcome, *talked]:
        assert set(re.findall(r"<(\w+)", shown)) <= {"style", "div", "span", "p", "b", "code"}, shown
        assert "\x1b" not in shown and "\u202e" not in shown
    assert html.unescape("".join(talked)).count("<script>alert(1)</script><img src=x onerror=alert(2)> $x^2$") >= 4
    assert "\x1b" not in plain + more_plain and "\u202e" not in plain + more_plain
    for button in (*page.suggestions, *page.rows[0].children[1].children):
        assert "\x1b" not in button.description and "\u202e" not in button.description
    assert all("\u202e" not in label for label, _ in page_of(tmp_path).earlier.options)


def test_words_for_who_cannot_see(tmp_path):
    page = page_of(tmp_path, Held())
    assert len(page.suggestions) == 3 and all(s.description for s in page.suggestions)
    assert 'role="heading"' in page.head.value and 'role="status"' in page.status.value
    for part in (page.entry, page.earlier, page.temperature):
        assert part.description
    for button in (page.go, page.stop, page.again, page.fresh, page.rows[0].like, page.rows[0].dislike):
        assert button.description and button.tooltip
    page.ask("Who?")
    until(lambda: "is answering" in page.status.value)
    page.speaker.go.release(3)
    page.wait()


def test_the_still_twin_holds_the_conversation(tmp_path):
    page = page_of(tmp_path, ElizaSpeaker())
    shown, plain = every_html(page)
    assert "Tell her how you are" in shown[-1] and "you could ask" in plain
    answer = said(page, "I remember the mill.")
    shown, plain = every_html(page)
    assert html.escape(answer) in shown[-1] and "I remember the mill." in plain
