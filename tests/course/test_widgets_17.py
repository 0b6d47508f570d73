"""The explorer of chapter 17: what a rank keeps, against sums by hand, and a sentence that follows the controls."""

import numpy as np
import pytest

from minillm.course.widgets_17 import RankExplorer, kept, spectrum_of_noise


def explorer(**changed):
    rng = np.random.default_rng(1)
    thin = rng.standard_normal((6, 2)) @ rng.standard_normal((2, 4))  # of rank 2
    changes = {"thin": (rng.standard_normal((6, 4)), thin), "even": (np.zeros((3, 3)), np.eye(3))}
    return RankExplorer(**{"changes": changes, "right": {1: 0.25, 2: 0.5, 4: 0.75}, "rank": 2} | changed)


def test_kept_is_the_share_of_squares():
    assert [kept(np.diag([4.0, 2.0, 1.0]), r) for r in range(4)] == pytest.approx([0, 16 / 21, 20 / 21, 1])
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((7, 5))
    u, s, vh = np.linalg.svd(matrix, full_matrices=False)
    nearest = u[:, :3] * s[:3] @ vh[:3]
    assert kept(matrix, 3) == pytest.approx(1 - np.square(matrix - nearest).sum() / np.square(matrix).sum())
    assert kept(matrix.T * 100, 3) == pytest.approx(kept(matrix, 3)), "neither size nor turning counts"
    assert kept(np.zeros((2, 2)), 1) == 1.0


def test_noise_has_the_norm_asked_for_and_is_the_same_each_time():
    values = spectrum_of_noise((9, 4), 3.0)
    assert np.linalg.norm(values) == pytest.approx(3.0) and len(values) == 4
    assert np.array_equal(values, spectrum_of_noise((9, 4), 3.0)) and (np.diff(values) < 0).all()


def test_the_sentence_follows_the_controls():
    shown = explorer()
    assert "Rank 2 keeps 100% of the squared change of thin" in shown.sentence
    assert "2 · (4 + 6) = 20 numbers in the place of 24" in shown.sentence
    assert "answers 50% of the questions" in shown.sentence
    shown.name.value, shown.power.value = "even", 0
    assert "Rank 1 keeps 33% of the squared change of even" in shown.sentence and "answers 25%" in shown.sentence
    shown.power.value = 1
    assert "more than the whole matrix: 2 · (3 + 3) = 12 numbers in the place of 9" in shown.sentence
    shown.power.value = 2
    assert "more than the whole matrix: 4 · (3 + 3) = 24 numbers in the place of 9" in shown.sentence
    assert "image/png" in shown._repr_mimebundle_()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"right": {1: 0.5, 3: 0.5}}, "must be 1, 2, 4"),
        ({"rank": 8}, "rank=8"),
        ({"changes": {}}, "one or more pairs"),
        ({"changes": {"a": (np.ones((2, 3)), np.ones((3, 2)))}}, "equal shape"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        explorer(**changed)
