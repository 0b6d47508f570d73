"""The conversation page in Chromium: a newcomer asks, stops, judges, reloads; a hostile model is text."""

import json

import pytest

pytest.importorskip("playwright")
from lab_browser import chromium, lab, page_of, run_all
from small_speakers import chat_speaker

from minillm.alignment.chats import encode_chats
from minillm.alignment.preferences import read_comparisons
from minillm.alignment.reward import ComparisonBatch, RewardModel
from minillm.history import earlier, read_turns

pytestmark = [
    pytest.mark.no_promises,
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no chromium here: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # playwright's own event loop
]
TALK = '''import time
from pathlib import Path
from minillm.course.widgets_chat import ChatPage
from minillm.speaker import Speaker

class Slow(Speaker):
    """Long answers to what is long, word by word; another one each time."""
    name, about, suggestions = "slow", "It takes its time.", ("Tell me something long.", "Leo?", "Olga?", "Four?")
    asked = 0
    def reply(self, messages, *, temperature, generator):
        self.asked += 1
        words = ["word"] * 200 if "long" in messages[-1].text else ["Olga", "has", "goat", str(self.asked)]
        for n, word in enumerate(words):
            time.sleep(0.05)
            yield f"{word}{n} " if len(words) > 9 else word + " "

page = ChatPage(Slow(), folder=Path("talks"), likes=Path("likes.jsonl"))
page'''
FREE = "print('the kernel is', 'free' if page.busy else 'idle')"
EVIL = (
    "<script>window.hacked = 1</script> <img src=x onerror='window.hacked = 2'> <b id=made>bold</b> "
    "<style>body { display: none }</style> [a](javascript:window.hacked=3) $\\\\href{javascript:window.hacked=4}{x}$ "
    "\\x1b[31mred \\x00\\x07 \\u202egnp.exe\\u202c &lt;b&gt; </div></span>end"
)
HOSTILE = f'''from pathlib import Path
from minillm.course.widgets_chat import ChatPage
from minillm.speaker import Speaker
EVIL = """{EVIL}"""

class Hostile(Speaker):
    name, about, suggestions = "hostile " + EVIL, EVIL, ("Say it " + EVIL,)
    def reply(self, messages, *, temperature, generator):
        for character in EVIL:
            yield character

page = ChatPage(Hostile(), folder=Path("talks"), likes=Path("likes.jsonl"))
page'''


def write_notebook(folder, name, *sources):
    cells = [{"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": source, "outputs": [],
              "execution_count": None} for i, source in enumerate(sources)]  # fmt: skip
    whole = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    whole["metadata"]["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    (folder / name).write_text(json.dumps(whole))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MINILLM_QUIET", raising=False)  # the suite's own silence
        folder = tmp_path_factory.mktemp("chat")
        with lab(folder) as (url, token):
            yield folder, url, token


def words(page, part, text):
    return page.locator(f".minillm-chat {part}", has_text=text)


def test_a_newcomer_talks(place):
    folder, url, token = place
    write_notebook(folder, "talk.ipynb", TALK, FREE)
    with page_of(url, token, "talk.ipynb") as page:
        run_all(page)
        page.get_by_text("It takes its time.").first.wait_for()
        assert words(page, "button", "Four?").count() == 0, "three suggestions"
        # a click asks, and the answer streams while the kernel is free
        words(page, "button", "Tell me something long.").click()
        words(page, "div", "word3").first.wait_for()
        assert words(page, "div", "word150").count() == 0
        run_cell(page, 1)
        page.get_by_text("the kernel is free").wait_for()
        words(page, "button", "Stop").click()
        page.get_by_text("Stopped. What was said is kept.").wait_for()
        (one,) = earlier(folder / "talks")
        stopped = read_turns(one.path)[0].answers[0]
        assert "word3" in stopped.text and not stopped.whole
        # written, sent with Enter, and judged: the second answer comes by itself
        line = page.locator(".minillm-chat input[type=text]")
        line.click()
        page.keyboard.type("Leo?")
        page.keyboard.press("Enter")
        judge = page.locator(".minillm-judge:visible")
        words(page, "div", "goat 2").first.wait_for()
        judge.nth(0).locator("button", has_text="Dislike").click()
        words(page, "div", "goat 3").first.wait_for()
        words(page, "button", "Disliked").wait_for()
        better = judge.nth(1).locator("button").nth(0)
        better.focus()
        page.keyboard.press("Space")  # keys do what clicks do
        page.get_by_text("Comparison 1 in likes.jsonl").wait_for()
        # regenerate, a new conversation, and back by the list
        words(page, "button", "Regenerate").click()
        words(page, "div", "goat 4").first.wait_for()
        page.wait_for_function("() => !document.querySelector('.minillm-chat .fa-plus').closest('button').disabled")
        words(page, "button", "New conversation").click()
        words(page, "button", "Olga?").wait_for()
        page.locator(".minillm-chat select").select_option(index=1)
        words(page, "div", "goat 4").first.wait_for()
        # the tab is loaded again: the page comes back from the kernel as it is
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        page.reload()
        words(page, "div", "goat 4").first.wait_for()
        words(page, "button", "Regenerate").click()
        words(page, "div", "goat 5").first.wait_for()
        assert page.problems == []
    (made,) = read_comparisons(folder / "likes.jsonl")
    assert made.better.strip() == "Olga has goat 3" and made.worse.strip() == "Olga has goat 2"
    pairs = encode_chats([made], chat_speaker(context=400).template)
    loss = RewardModel(chat_speaker(context=400).model).loss(ComparisonBatch.of(pairs))
    loss.backward()
    assert float(loss.detach()) > 0, "chapter 19 can train on it"
    # another tab, the same cell again: the conversation is there
    with page_of(url, token, "talk.ipynb") as page:
        run_all(page)
        page.locator(".minillm-chosen").nth(1).wait_for()  # a disliked answer, and a liked one
        words(page, "span", "Leo?").first.wait_for()
        words(page, "div", "word3").first.wait_for()
        page.get_by_text("This is where you were.").wait_for()


def run_cell(page, index):
    page.locator(".jp-CodeCell").nth(index).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")


def test_a_hostile_model_is_text(place):
    folder, url, token = place
    write_notebook(folder, "hostile.ipynb", HOSTILE)
    with page_of(url, token, "hostile.ipynb") as page:
        page.evaluate("() => { window.hacked = 0 }")
        run_all(page)
        words(page, "button", "Say it").click()
        words(page, "button", "Dislike").first.wait_for()
        page.locator(".minillm-chat input[type=text]").fill("more <img src=x onerror='window.hacked = 5'>")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('.minillm-chat').innerText.includes('more <img')")
        page.wait_for_function("() => !document.querySelector('.minillm-chat .fa-plus').closest('button').disabled")
        page.wait_for_timeout(500)
        assert page.evaluate("() => window.hacked") == 0
        made = "() => document.querySelectorAll('.minillm-chat :is(script, img, #made, a, mjx-container)').length"
        assert page.evaluate(made) == 0 and page.evaluate("() => getComputedStyle(document.body).display") != "none"
        shown = page.locator(".minillm-chat").inner_text()
        for text in ("<script>window.hacked = 1</script>", "<img src=x", "<b id=made>bold</b>", "␛[31mred ␀␇",
                     "⟨U+202E⟩gnp.exe", "&lt;b&gt; </div></span>end", "more <img"):  # fmt: skip
            assert text in shown, text
        assert not {"\u202e", "\x1b", "\x00", "\x07"} & set(shown)
        assert page.problems == []
