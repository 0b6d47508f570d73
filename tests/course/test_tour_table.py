"""The table: verdicts that can be "no", a file that comes back, a picture in step with it; the stored tour's bands."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from PIL import Image
from scipy import stats

from minillm.course.tour_config import STAGES, TourConfig
from minillm.course.tour_exam import Gain, Share, is_claim, overlap, utility
from minillm.course.tour_figure import MARK, PICTURE, STORED, mark_of, results_figure
from minillm.course.tour_folder import Measured
from minillm.course.tour_table import load, of_numbers, results_table, rows_of, store
from minillm.course.tour_text import FACTS, SHRUG, TourText

ROOT = Path(__file__).resolve().parents[2]
FLOOR = 0.1
GOOD = {
    "eliza": Measured(model="Eliza", followed=Share(0, 500), invented=Share(40, 50)),
    "ngram": Measured(model="6-gram", bits_per_character=0.22, parameters=1234567, others={"unigram": 1.7}),
    "window": Measured(model="window", bits_per_character=0.19),
    "lstm": Measured(model="LSTM", bits_per_character=0.17),
    "gpt": Measured(model="GPT", bits_per_character=0.13, followed=Share(0, 500), invented=Share(50, 50)),
    "sft": Measured(model="SFT", bits_per_character=0.14, followed=Share(350, 500), invented=Share(45, 50), kl=0.0,
                    others={"nearest": 0.3}),
    "rm": Measured(model="RM", followed=Share(360, 500), invented=Share(20, 50), kl=1.2, reward=0.9,
                   others={"accuracy": 0.85, "likelier": 0.6, "bayes": 0.9, "reward sft": 0.2, "reward gpt": -1.0,
                           "worth sft": 0.3, "worth gpt": -0.9, "worth eliza": -1.0, "worth likeliest": 0.4,
                           "worth": 0.5, "gain": 0.2, "gain low": 0.1, "gain high": 0.3}),
    "ppo": Measured(model="PPO", bits_per_character=0.15, followed=Share(345, 500), invented=Share(5, 50), kl=2.0,
                    reward=1.1, others={"objective": 0.9, "objective sft": 0.0, "objective best": 1.0, "worth": 0.6,
                                        "gain": 0.3, "gain low": 0.2, "gain high": 0.4}),
}  # fmt: skip


def passed(stage, **changes):
    """The verdict on a stage when something about it, or about another one, is different."""
    found = dict(GOOD)
    for name, fields in changes.items():
        found[name] = replace(GOOD[name], **fields)
    return {row.name: row for row in rows_of(found, FLOOR)}[stage].passed


def test_a_good_tour_passes_everywhere_and_shows_what_it_should():
    rows = rows_of(GOOD, FLOOR)
    assert [row.name for row in rows] == list(STAGES)
    assert all(row.passed for row in rows)
    assert rows[5].reward == 0.2
    assert rows[4].reward == -1.0
    assert [row.worth for row in rows] == [-1.0, None, None, None, -0.9, 0.3, 0.5, 0.6]
    assert rows[4].above_floor == pytest.approx(0.03)
    assert rows[6].bits_per_character is None


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("eliza", {"eliza": {"followed": Share(100, 500)}}),
        ("window", {"window": {"bits_per_character": 0.23}}),
        ("lstm", {"lstm": {"bits_per_character": 0.195}}),  # better than the n-grams, not than the window
        ("gpt", {"gpt": {"bits_per_character": 0.18}}),
        ("gpt", {"window": {"bits_per_character": 0.12}}),
        ("sft", {"sft": {"followed": Share(160, 500)}}),  # above the floor, but not beyond chance
        ("rm", {"rm": {"others": GOOD["rm"].others | {"accuracy": 0.5}}}),  # a judge that is a coin
        ("rm", {"rm": {"others": GOOD["rm"].others | {"gain low": -0.01}}}),  # better, but not beyond chance
        ("ppo", {"ppo": {"others": GOOD["ppo"].others | {"gain low": -0.01}}}),
        ("ppo", {"ppo": {"others": GOOD["ppo"].others | {"objective": -0.1}}}),
    ],
)
def test_a_verdict_can_be_no(stage, changes):
    assert passed(stage)
    assert not passed(stage, **changes)


def test_the_table_shows_numbers_and_verdicts():
    text = results_table(rows_of(GOOD, FLOOR))
    lines = text.splitlines()
    assert lines[2].split() == ["ngram", "1995", "1,234,567", "0", "0.220", "0.120", "–", "–", "–", "–", "–"]
    assert lines[8].split()[:2] == ["ppo", "2022"]
    assert lines[8].split()[-5:] == ["0.69", "0.10", "0.60", "1.10", "2.00"]
    assert len({len(line) for line in lines[:9] if line}) <= 2
    assert text.count(" yes ") == 8
    no = results_table(rows_of(GOOD | {"lstm": replace(GOOD["lstm"], bits_per_character=0.5)}, FLOOR))
    assert "lstm    no   LSTM: is no better than window" in no


@pytest.mark.parametrize("width", [60, 96])
def test_verdicts_are_broken_once_between_words(width):
    whole, broken = (results_table(rows_of(GOOD, FLOOR), w).split("\n\n")[1] for w in (10_000, width))
    assert broken.split() == whole.split()
    lines = broken.split("\n")
    assert max(map(len, lines)) <= width
    heads = [line for line in lines if not line.startswith(" ")]
    assert len(heads) == 8 < len(lines)
    assert all(line.startswith(" " * 12) for line in lines if line not in heads)


def test_a_table_comes_back_from_its_file(tmp_path):
    rows = rows_of(GOOD, FLOOR)
    store(rows, TourConfig.quick(), FLOOR, tmp_path / "tour.json")
    again, floor = load(tmp_path / "tour.json")
    assert floor == FLOOR
    assert [row.verdict for row in again] == [row.verdict for row in rows]
    assert again[7].invented_interval == pytest.approx(rows[7].invented_interval, abs=1e-4)
    saved = json.loads((tmp_path / "tour.json").read_text())
    assert saved["settings"]["stories"] == TourConfig.quick().stories
    assert "clicks" not in saved["settings"]
    for spoilt in ("", "[]", '{"format": "other"}', json.dumps(saved | {"rows": [{"name": "gpt"}]})):
        (tmp_path / "tour.json").write_text(spoilt)
        with pytest.raises(ValueError, match="holds no table of a tour"):
            load(tmp_path / "tour.json")


def test_the_picture_says_in_words_what_it_shows():
    figure = results_figure(rows_of(GOOD, FLOOR))
    assert "GPT of 2018 0.130" in figure.alt
    assert "dashed line at 0.100" in figure.alt
    with pytest.raises(ValueError, match="two"):
        results_figure(rows_of({"eliza": GOOD["eliza"], "ngram": GOOD["ngram"]}, FLOOR))


def test_a_claim_is_anything_but_a_shrug():
    assert [is_claim(s) for s in ("Olga.", "I do not know.", " ", "I do not")] == [True, False, False, True]
    assert overlap(Share(5, 10), Share(6, 10))
    assert not overlap(Share(5, 100), Share(60, 100))


def test_a_gain_is_taken_question_by_question():
    before = [float(i % 7) for i in range(200)]
    after = [b + 0.1 + 0.2 * (i % 2) for i, b in enumerate(before)]
    gain = Gain.of(before, after)
    assert gain.mean == pytest.approx(0.2)
    assert gain.low > 0.18  # what the questions themselves are worth spreads over 6 points, and is not in it
    assert gain.high - gain.mean == pytest.approx(gain.mean - gain.low)
    test = stats.ttest_rel(after, before).confidence_interval()
    assert (gain.low, gain.high) == pytest.approx((test.low, test.high), rel=0.01)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Gain.of([1.0, 2.0], [1.0])


needs_stored = pytest.mark.skipif(not (ROOT / STORED).exists(), reason="no stored tour yet: minillm tour --out")


@needs_stored
def test_the_stored_tour_satisfies_its_bands():
    settings = json.loads((ROOT / STORED).read_text("utf-8"))["settings"]
    if settings["gpt_steps"] == TourConfig.quick().gpt_steps:
        pytest.skip(f"{STORED} is of a quick tour: minillm tour --out {STORED}")
    assert settings == {name: value for name, value in asdict(TourConfig.full()).items() if name != "clicks"}
    rows, floor = load(ROOT / STORED)
    row = {row.name: row for row in rows}
    assert list(row) == list(STAGES)
    assert 0.09 < floor < 0.11
    bits = {name: r.bits_per_character for name, r in row.items()}
    assert floor < bits["gpt"] < min(bits["ngram"], bits["window"], bits["lstm"])
    assert bits["gpt"] < 0.15
    assert row["gpt"].passed
    assert row["sft"].passed
    assert row["rm"].passed
    assert row["ppo"].passed
    assert row["ppo"].invented < row["sft"].invented
    assert row["ppo"].followed > row["sft"].followed - 0.05
    assert row["ppo"].reward > row["sft"].reward
    assert min(row["rm"].worth, row["ppo"].worth) > row["sft"].worth > row["gpt"].worth > row["eliza"].worth - 1e-9


@needs_stored
def test_the_picture_is_drawn_from_the_stored_tour():
    rows, floor = load(ROOT / STORED)
    with Image.open(ROOT / PICTURE) as picture:
        drawn_from = picture.info.get(MARK)
    assert drawn_from == mark_of(rows), "out of step: python -m minillm.course.tour_figure"
    assert mark_of(rows) != mark_of(of_numbers({"ngram": 0.3, "gpt": 0.2}, floor))


def test_the_labeller_likes_right_answers_and_nothing_else():
    text = TourText(replace(TourConfig.quick(), families=8))
    worth = utility(text, wrong=-2.0)
    unknown = {one.prompt for one in [*text.practice_unknown(), *text.exam_unknown()]}
    asked = [*text.practice(700), *text.exam(), *text.exam_unknown()]
    assert len({one.prompt for one in asked} & unknown) > 20
    for one in asked:
        assert worth(one.prompt, one.answer) == (-2.0 if one.prompt in unknown else 1.0), one
        assert worth(one.prompt, SHRUG) == 0.0
        assert worth(one.prompt, one.answer + " no") == -2.0
    assert not {one.person for one in text.practice_unknown()} & {one.person for one in text.exam_unknown()}
    asked_of = {one.person for one in text.lessons()}
    practised = {one.person for one in text.practice(100) if one.task in FACTS and one.prompt not in unknown}
    assert practised & asked_of
    assert practised - asked_of  # told, and never asked for: what the exam has too
    new = {one.person for one in text.exam()} - asked_of
    assert len(new) > 3
    assert not new & {one.person for one in text.all_practice()}
    lessons = {one.prompt for one in text.lessons()}
    assert not lessons & {one.prompt for one in [*text.exam(), *text.exam_unknown()]}
    kinds = [one.prompt in unknown for one in text.practice(100)]
    assert sum(kinds) == 20
