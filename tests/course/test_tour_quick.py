"""The quick tour, end to end: its table lies in bands that two seeds on a slow machine were within."""

import pytest

from minillm.course.tour import run_tour
from minillm.course.tour_config import TourConfig

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    """The rows by name."""
    return {row.name: row for row in run_tour(TourConfig.quick(), tmp_path_factory.mktemp("tour"))}


def test_every_language_model_lies_in_its_band(row):
    bands = {"ngram": (0.28, 0.32), "window": (0.24, 0.30), "lstm": (0.20, 0.60), "gpt": (0.15, 0.23)}
    bits = {name: row[name].bits_per_character for name in bands}
    assert all(low < bits[name] < high for name, (low, high) in bands.items()), bits
    assert bits["gpt"] < min(bits["ngram"], bits["window"])
    assert all(0.095 < bits[name] - row[name].above_floor < 0.105 for name in bands)


def test_it_learns_to_follow_and_then_to_be_silent(row):
    assert row["eliza"].followed < 0.05
    assert row["gpt"].followed < 0.05
    assert row["sft"].followed > 0.2
    assert row["sft"].invented > 0.3
    assert row["ppo"].invented < row["sft"].invented - 0.15
    assert row["ppo"].followed > row["sft"].followed - 0.2
    assert row["sft"].kl == 0 < row["ppo"].kl < 5
    assert row["ppo"].reward > row["sft"].reward


def test_the_labeller_gains_by_the_judge_and_by_what_learned_from_it(row):
    assert row["rm"].passed
    assert row["rm"].worth > row["sft"].worth + 0.05
    assert row["ppo"].worth > row["sft"].worth
    assert row["sft"].worth > row["gpt"].worth > row["eliza"].worth == -1.0
