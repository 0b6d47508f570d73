"""The explorer of chapter 19: its sentence tells what the comparisons can and cannot say."""

import re

import numpy as np
import pytest

from minillm.course.widgets_19 import ComparisonExplorer

TRUTH = np.linspace(-2, 2, 9)


def numbers(explorer):
    sentence = explorer.sentence
    shares = [float(x) for x in re.findall(r"(\d+\.\d)%", sentence)]
    return (*shares, int(re.search(r"(\d+) of 9 bars", sentence)[1]), float(re.search(r"±(\d+\.\d+)", sentence)[1]))


def test_four_times_the_comparisons_halve_the_bars():
    bars = [numbers(ComparisonExplorer(TRUTH, comparisons=n))[3] for n in (500, 2000)]
    assert bars[0] / bars[1] == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("slip", [0.0, 0.2, 0.4])
def test_nobody_is_above_the_ceiling_and_slips_lower_it(slip):
    reached, ceiling, _, _ = numbers(ComparisonExplorer(TRUTH, comparisons=1000, slip=slip))
    assert 50 < reached <= ceiling
    assert ceiling < 60 if slip == 0.4 else ceiling > 65


def test_bars_tell_the_truth_of_the_right_model_and_not_of_a_wrong_one():
    assert numbers(ComparisonExplorer(TRUTH, comparisons=2000))[2] >= 8
    assert numbers(ComparisonExplorer(TRUTH, comparisons=2000, slip=0.3))[2] <= 4
    assert numbers(ComparisonExplorer(TRUTH, comparisons=2000, sharpness=2.0))[2] <= 4, "another unit"


def test_where_there_are_no_scores_it_says_so():
    few = ComparisonExplorer(TRUTH, comparisons=20)
    assert "no best scores without a prior" in few.sentence
    few.comparisons.value = 2000
    assert "prior" not in few.sentence and "image/png" in few._repr_mimebundle_()


def test_utilities_are_two_or_more():
    with pytest.raises(ValueError, match="two or more"):
        ComparisonExplorer([1.0])
