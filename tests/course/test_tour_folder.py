"""Stages on disk: keys that reach what depends on them, folders that are whole or not, damage told and put aside."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from minillm.course.tour_clicks import Clicks, standing
from minillm.course.tour_config import PARENTS, READS, STAGES, TourConfig
from minillm.course.tour_exam import Share
from minillm.course.tour_folder import DONE, Damaged, Measured, TourFolder

QUICK = TourConfig.quick()


def changed(**settings):
    """The stages whose keys change with these settings."""
    other = replace(QUICK, **settings)
    return [stage for stage in STAGES if other.key(stage) != QUICK.key(stage)]


def test_a_changed_decision_reaches_what_depends_on_it_and_nothing_else():
    assert changed(beta=0.3) == ["ppo"]
    assert changed(wrong=-2.0) == ["rm", "ppo"]
    assert changed(shrugs=0.3) == ["sft", "rm", "ppo"]
    assert changed(d_model=32) == ["gpt", "sft", "rm", "ppo"]
    assert changed(state=32) == ["lstm"]
    assert changed(stories=801) == ["ngram", "window", "lstm", "gpt", "sft", "rm", "ppo"]
    assert changed(seed=1) == list(STAGES)
    assert changed() == []


def test_every_decision_is_read_by_some_stage():
    read = {name for names in READS.values() for name in names}
    assert read | {"clicks"} == {field.name for field in fields(TourConfig)}
    assert all(STAGES.index(parent) < STAGES.index(stage) for stage, parents in PARENTS.items() for parent in parents)


def test_clicks_count_by_what_they_say_and_not_by_their_name(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text('{"prompt": "p", "answers": ["a", "b"], "choice": 0, "who": "me"}\n')
    second.write_text(first.read_text())
    keys = [replace(QUICK, clicks=path).key("rm") for path in (first, second)]
    assert keys[0] == keys[1] != QUICK.key("rm")
    second.write_text(first.read_text().replace('"choice": 0', '"choice": 1'))
    assert replace(QUICK, clicks=second).key("rm") != keys[0]
    assert replace(QUICK, clicks=second).key("sft") == QUICK.key("sft")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shrugs": 0.0}, "shrugs=0.15 works"),
        ({"wrong": 1.0}, "wrong=-1.0 works"),
        ({"beta": 0}, "beta=0.05 works"),
        ({"stories": 0}, "stories="),
        ({"gpt_steps": True}, "gpt_steps="),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_a_decision_that_cannot_work_is_refused_in_words(settings, said):
    with pytest.raises(ValueError, match=said):
        replace(QUICK, **settings)


def test_a_stage_counts_only_when_it_says_that_it_is_whole(tmp_path):
    folder = TourFolder(QUICK, tmp_path)
    path = folder.begin("gpt")
    (path / "run").mkdir()
    (path / "run" / "half").write_text("a checkpoint")
    (path / "weights").write_text("whole")
    assert folder.read("gpt") is None
    measured = Measured(model="m", seconds=3.0, bits_per_character=0.1, followed=Share(3, 7))
    folder.finish("gpt", measured)
    assert folder.read("gpt") == measured == TourFolder(QUICK, tmp_path).read("gpt")
    assert sorted(p.name for p in path.iterdir()) == ["stage.json", "weights"]
    assert json.loads((tmp_path / "newest.json").read_text()) == {"stages": {"gpt": path.name}}
    assert TourFolder(replace(QUICK, d_model=32), tmp_path).read("gpt") is None


def damage_weights(path):
    (path / "weights").write_text("wholf")


def lose_weights(path):
    (path / "weights").unlink()


def cut_the_promise(path):
    text = (path / DONE).read_text()
    (path / DONE).write_text(text[: len(text) // 2])


def another_program(path):
    (path / DONE).write_text((path / DONE).read_text().replace("stage-1", "stage-2"))


def foreign_number(path):
    (path / DONE).write_text((path / DONE).read_text().replace('"hits"', '"misses"'))


@pytest.mark.parametrize("spoil", [damage_weights, lose_weights, cut_the_promise, another_program, foreign_number])
def test_a_damaged_stage_is_told_and_kept_aside(tmp_path, spoil):
    folder = TourFolder(QUICK, tmp_path)
    (folder.begin("gpt") / "weights").write_text("whole")
    folder.finish("gpt", Measured(model="m", followed=Share(3, 7)))
    spoil(folder.path("gpt"))
    fresh, told = TourFolder(QUICK, tmp_path), []
    with pytest.raises(Damaged, match="is damaged"):
        fresh.read("gpt")
    assert fresh.read_or_put_aside("gpt", told.append) is None
    assert "trained again" in told[0]
    aside = [p for p in tmp_path.iterdir() if ".damaged-1" in p.name]
    assert len(aside) == 1
    assert not fresh.path("gpt").exists()
    assert fresh.read_or_put_aside("gpt", told.append) is None
    assert len(told) == 1
    (fresh.begin("gpt") / "weights").write_text("again")
    fresh.finish("gpt", Measured(model="m"))
    (fresh.path("gpt") / "weights").write_text("spoilt again")
    assert TourFolder(QUICK, tmp_path).read_or_put_aside("gpt", told.append) is None
    assert len([p for p in tmp_path.iterdir() if ".damaged-" in p.name]) == 2


def test_forget_takes_the_stages_of_these_settings_alone(tmp_path):
    other = TourFolder(replace(QUICK, beta=0.3), tmp_path)
    for folder in (TourFolder(QUICK, tmp_path), other):
        for stage in ("sft", "ppo"):
            folder.finish(stage, Measured(model="m"))
    TourFolder(QUICK, tmp_path).forget()
    assert other.read("sft") is None  # shared by both settings
    assert other.read("ppo") is not None


CLICK = '{{"prompt": "{}", "answers": ["{}", "{}"], "choice": 1, "who": "me"}}\n'


@pytest.fixture(scope="module")
def template():
    from minillm.course.tour_text import TourText

    return TourText(replace(QUICK, stories=20, families=4)).template


def written(tmp_path, *lines):
    path = Path(tmp_path) / "likes.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_one_click_is_learned_and_none_held_back(tmp_path, template):
    clicks = Clicks.read(
        written(tmp_path, CLICK.format("What is 1 + 2?", "1 + 2 = 3.", "I do not know.")), template, 99
    )
    assert (len(clicks.learned), len(clicks.checked)) == (1, 0)
    assert clicks.learned[0].better == [*template.text_ids("I do not know."), template.end_id]


def test_every_fifth_click_is_held_back(tmp_path, template):
    lines = [CLICK.format(f"What is {n} + 2?", "3", "4") for n in range(1, 12)]
    clicks = Clicks.read(written(tmp_path, *lines), template, 99)
    assert (len(clicks.learned), len(clicks.checked)) == (9, 2)


def test_unknown_words_long_texts_and_equal_answers(tmp_path, template):
    lines = [
        CLICK.format("Wherefore art thou Romeo?", "Olga", "I do not know."),  # unknown words: read as such
        CLICK.format("What is 1 + 2?", "wherefore", "therefore"),  # one and the same to the model
        CLICK.format("What is 1 + 2?" * 30, "3", "4"),  # too long
    ]
    clicks = Clicks.read(written(tmp_path, *lines), template, 99)
    assert clicks.count == 1
    assert "the same in the words" in clicks.left_out[0]
    assert "tokens long, and 99 can be read" in clicks.left_out[1]


def test_half_a_line_is_left_out_and_the_file_stays_as_it_is(tmp_path, template):
    path = written(tmp_path, CLICK.format("What is 1 + 2?", "3", "4"), '{"prompt": "Wh')
    before = path.read_bytes()
    clicks = Clicks.read(path, template, 99)
    assert clicks.count == 1
    assert "Half a line" in str(clicks)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["likes.jsonl"]


def test_a_file_that_is_none_of_comparisons_is_refused_by_its_own_name(tmp_path):
    path = written(tmp_path, '{"prompt": "p"}\n', CLICK.format("p", "a", "b"))
    with pytest.raises(ValueError, match=f"{path.name}' line 1"):
        standing(path)
    with pytest.raises(ValueError, match="is not there"):
        standing(tmp_path / "nothing.jsonl")


def test_what_is_finished_is_named_in_order(tmp_path):
    folder = TourFolder(QUICK, tmp_path)
    assert folder.finished() == []
    folder.begin("gpt")
    for stage in ("ngram", "eliza"):
        folder.finish(stage, Measured(model=stage))
    assert folder.finished() == ["eliza", "ngram"]
