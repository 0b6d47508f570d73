"""The writer of endings and the recorded judgements of chapter 19: what is stored is what the simulated reader says."""

from pathlib import Path

import pytest

from minillm.alignment.preferences import read_comparisons
from minillm.course.preference_desk import Desk, clicks
from minillm.course.progress import QUIET
from minillm.course.story_endings import JOY, READER, SORROW, Writer, cut, mood, record, simulated_reader
from minillm.text.village import Village

RECORDED = Path(__file__).resolve().parents[2] / "notebooks/results/19-clicks.jsonl"


def test_a_story_is_cut_and_nothing_is_lost():
    for story in Village(seed=1).stories(300):
        prompt, answer = cut(story)
        assert story.endswith(f"{prompt} {answer}") and prompt[-1] in '.?!"' and len(answer.split()) > 10
    with pytest.raises(ValueError, match="has 1 sentences"):
        cut("It rained.")


def test_mood_is_that_of_the_ending():
    """Its sign tells the true mood of most stories: it is a utility that has something to do with the text."""
    village = Village(seed=0)
    stories = village.stories(300)
    right = [(mood(*cut(s)) > 0) == (village.explain(s)["mood"] == 0) for s in stories if mood(*cut(s))]
    assert len(right) > 200 and sum(right) > 0.9 * len(right)
    assert mood("joy joy", "They smiled; nobody cried.") == -1, "the prompt does not count"
    assert not JOY & SORROW


def test_the_recorded_judgements_are_those_of_the_simulated_reader():
    """They are repeated from the texts alone; `python -m minillm.course.story_endings` makes texts too."""
    stored = read_comparisons(RECORDED)
    assert len(stored) == 50 and {one.who for one in stored} == {READER}
    assert simulated_reader().compare([(one.prompt, one.answers) for one in stored]) == stored
    sadder = [
        mood("", one.better) < mood("", one.worse) for one in stored if mood("", one.better) != mood("", one.worse)
    ]
    assert sum(sadder) > 0.6 * len(sadder)


def test_a_short_run_writes_questions_and_records(tmp_path):
    village = Village(seed=0)
    writer = Writer.train(village, stories=60, steps=3)
    asked = writer.questions(village, 7)
    assert len(asked) == 7 and all(first != second for _, (first, second) in asked)
    assert asked == writer.questions(village, 7) != writer.questions(village, 7, seed=1)
    record(tmp_path / "new.jsonl", n=4, steps=2)
    assert len(read_comparisons(tmp_path / "new.jsonl")) == 4
    with pytest.raises(ValueError, match="never written over"):
        record(tmp_path / "new.jsonl", n=4, steps=2)


def test_the_reader_counts_once_every_question_is_judged(tmp_path, monkeypatch):
    monkeypatch.delenv(QUIET, raising=False)
    desk = Desk([("p", ("a", "b")), ("q", ("a", "b"))], tmp_path / "mine.jsonl")
    desk.choose("left")
    assert {one.who for one in clicks(desk, RECORDED)} == {READER}
    desk.choose("left")
    assert clicks(desk, RECORDED) == desk.mine and len(desk.mine) == 2
    monkeypatch.setenv(QUIET, "1")
    assert {one.who for one in clicks(desk, RECORDED)} == {READER}, "stored outputs are the same for everybody"
