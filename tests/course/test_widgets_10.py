"""The explorer of chapter 10: its curves are the cosines of the formula, and its sentence says what is seen."""

import math

import pytest

from minillm.course.widgets_10 import FARTHEST, RopeExplorer, full_turns, rope_scores


@pytest.mark.parametrize(("width", "base"), [(8, 100.0), (16, 10000.0), (64, 500000.0)])
def test_the_score_is_the_mean_of_the_cosines(width, base):
    frequency = [base ** (-2 * i / width) for i in range(width // 2)]
    for distance in (0, 1, 17, FARTHEST):
        wanted = sum(math.cos(distance * f) for f in frequency) / len(frequency)
        assert rope_scores(width, base)[distance] == pytest.approx(wanted, abs=1e-4)
        assert rope_scores(width, base, pair=2)[distance] == pytest.approx(math.cos(distance * frequency[1]), abs=1e-4)


@pytest.mark.parametrize("moved", [50, 1000])
def test_only_the_distance_counts(moved):
    assert rope_scores(16, 10000.0, moved) == pytest.approx(rope_scores(16, 10000.0), abs=1e-3)


def test_a_larger_base_leaves_more_hands_without_a_turn():
    turns = [full_turns(32, base, 256) for base in (100.0, 10000.0, 500000.0)]
    assert turns == sorted(turns, reverse=True) and turns[0] > turns[-1]
    assert full_turns(8, 10000.0, 62) == 1 and full_turns(8, 10000.0, 64) == 2  # 2π · 10 = 62.8


def test_the_sentence_follows_the_controls():
    explorer = RopeExplorer()
    assert "Hand 3 of 8 goes round once in 63 tokens." in explorer.sentence
    assert "Within 32 tokens 2 of 8 hands make a full turn" in explorer.sentence
    explorer.moved.value, explorer.trained.value = 1000, 64
    assert "Moved on by 1000 places, the scores are as at the start" in explorer.sentence
    assert "Within 64 tokens 3 of 8" in explorer.sentence and "the other 5 stand" in explorer.sentence
    explorer.width.value, explorer.pair.value = "8", 30
    assert "Hand 4 of 4" in explorer.sentence, "a narrow head has no thirtieth hand"
    assert "image/png" in explorer._repr_mimebundle_()
