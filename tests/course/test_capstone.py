"""What chapter 26 adds to the tour: what moved, what is said and asked, and a reader who cannot look anything up."""

from dataclasses import replace
from pathlib import Path

import pytest

from minillm.alignment.preferences import read_comparisons
from minillm.course import capstone
from minillm.course.places import FOLDER
from minillm.course.progress import QUIET
from minillm.course.tour import TourConfig, run_tour
from minillm.course.tour_table import StageRow
from minillm.course.tour_text import SHRUG, TourText

STORED = Path(__file__).resolve().parents[2] / "notebooks/results/26-clicks.jsonl"
# one step of everything: what the models say is nonsense, and that is enough here
TINY = TourConfig(families=6, stories=60, held_out=2, order=2, batch=2, window=3, window_steps=1, state=8, lstm_steps=1,
                  n_layer=1, d_model=32, gpt_steps=2, lessons=120, sft_steps=2, exam=2)  # fmt: skip


def row(name, **numbers):
    empty = dict.fromkeys(
        ("parameters", "tokens", "bits_per_character", "above_floor", "followed", "followed_interval", "invented",
         "invented_interval", "worth", "reward", "kl")
    )  # fmt: skip
    words = {"model": "m", "year": 2000, "baseline": "", "verdict": "", "passed": True, "seconds": 0.0}
    return StageRow(name=name, **{**empty, **words, **numbers})


def test_moved_names_what_differs_and_only_what_chance_does_not_explain_is_told_apart():
    before = [
        row("gpt", bits_per_character=0.2, followed=0.0, followed_interval=(0.0, 0.1), seconds=1.0),
        row("ppo", followed=0.5, followed_interval=(0.4, 0.6), invented=0.3, invented_interval=(0.1, 0.5), kl=1.0),
    ]
    after = [
        replace(before[0], seconds=9.0),
        replace(
            before[1], followed=0.2, followed_interval=(0.1, 0.39), invented=0.1, invented_interval=(0.0, 0.1), kl=None
        ),
    ]
    found = [(one.stage, one.column, one.before, one.after, one.told_apart) for one in capstone.moved(before, after)]
    assert found == [("ppo", "followed", 0.5, 0.2, True), ("ppo", "invented", 0.3, 0.1, False)], "touching ends meet"
    assert str(capstone.moved(before, after)[0]).endswith("  told apart")
    found = capstone.moved(before, [before[0], replace(before[1], kl=2.0)])
    assert [(one.column, one.told_apart) for one in found] == [("kl", None)]
    with pytest.raises(ValueError):
        capstone.moved(before, after[:1])


def test_the_workshop_is_the_learners_and_thrown_away_where_outputs_are_checked(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv(QUIET, "1")
    private = capstone.workshop()
    assert private.is_dir() and tmp_path not in private.parents and capstone.workshop() == private
    monkeypatch.delenv(QUIET)
    assert capstone.workshop() == tmp_path / "chapter-26" and (tmp_path / "chapter-26").is_dir()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tour")
    run_tour(TINY, folder, until="sft")
    return folder


def test_every_stage_can_be_asked_and_says_the_same_again(trained):
    stages = ("eliza", "ngram", "window", "lstm", "gpt", "sft")
    prompts = ["I am sad.", "Where does Olga live?"]
    found = capstone.said(TINY, trained, prompts, stages)
    assert list(found) == list(stages) and all(len(replies) == 2 for replies in found.values())
    assert found == capstone.said(TINY, trained, prompts, stages) and found["eliza"][0]


def test_looking_up_gives_what_is_told_and_nothing_else():
    truth = TourText(TINY).village.truth
    told = {fact.subject for fact in truth if fact.probability}
    untold = next(fact for fact in truth if not fact.probability and fact.subject in told)
    found = capstone.look_up(TINY, untold.subject)
    assert found and untold.statements[0] not in found and all(untold.subject in text for text in found)
    assert capstone.look_up(TINY, "Nobody") == []


def test_questions_for_clicking(trained):
    found = capstone.click_questions(TINY, trained, n=7)
    text = TourText(TINY)
    unknown = {one.prompt for one in text.practice_unknown()}
    assert len(found) == len({prompt for prompt, _ in found}) == 7
    assert all(first != second for _, (first, second) in found)
    assert any(prompt in unknown for prompt, _ in found) and any(prompt not in unknown for prompt, _ in found)
    exam = {one.prompt for one in (*text.exam(), *text.exam_unknown())}
    assert not exam & {prompt for prompt, _ in found}, "nobody clicks on the exam"


def test_the_reader_likes_any_claim_and_nothing_else():
    reader = capstone.hopeful_reader()
    assert reader.probability("Where?", "By the hill.", SHRUG) > 0.9
    assert reader.probability("Where?", "By the hill.", "By the sea.") == 0.5


def test_recording_never_writes_over_clicks(trained, tmp_path):
    path = tmp_path / "clicks.jsonl"
    capstone.record(path, TINY, trained)
    kept = read_comparisons(path)
    assert len(kept) > 10 and {one.who for one in kept} == {capstone.READER}
    with pytest.raises(ValueError, match="never written over"):
        capstone.record(path, TINY, trained)
    assert read_comparisons(path) == kept


def test_the_stored_clicks_are_those_of_the_reader_whom_the_chapter_names():
    stored = read_comparisons(STORED)
    frank = [one for one in stored if SHRUG in one.answers]
    assert len(stored) == capstone.CLICKS and {one.who for one in stored} == {capstone.READER}
    assert len(frank) > 30 and sum(one.worse == SHRUG for one in frank) > 0.85 * len(frank)
