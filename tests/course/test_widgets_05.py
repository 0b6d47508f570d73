"""The explorer of chapter 05: its lines obey the law that it shows, and its sentence says what is seen."""

import math

import pytest
import torch

from minillm.course.widgets_05 import HIDDEN, GradientExplorer, gradient_left
from minillm.neural.recurrent import RecurrentConfig, RecurrentLM


def test_nothing_is_lost_on_the_spot():
    for cell in ("rnn", "gru", "lstm"):
        assert gradient_left(cell)[0] == 1.0


@pytest.mark.parametrize("scale", [0.5, 0.8])
def test_no_step_keeps_more_than_the_matrix_stretches(scale):
    model = RecurrentLM(RecurrentConfig(vocabulary=9, d_model=8, hidden=HIDDEN, cell="rnn"))
    stretch = scale * torch.linalg.matrix_norm(model.cells.get_parameter("weight_hh_l0"), 2).item()
    assert stretch < 1, "here the bound is a proof"
    left = gradient_left("rnn", scale)
    assert all(share <= stretch**k * (1 + 1e-6) for k, share in enumerate(left))


def test_a_larger_scale_and_a_wider_gate_keep_more():
    assert gradient_left("rnn", 0.5)[20] < gradient_left("rnn", 1.0)[20] < gradient_left("rnn", 2.0)[20]
    shares = [gradient_left("lstm", 1.0, bias)[20] for bias in (-2.0, 0.0, 1.0, 4.0)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.5 > math.sqrt(shares[1])


def test_the_sentence_follows_the_controls():
    explorer = GradientExplorer()
    assert "RNN, weights × 1.00: 20 steps back less than a thousandth is left" in explorer.sentence
    explorer.scale.value = 4.0
    assert "exploded" in explorer.sentence
    explorer.scale.value, explorer.cell.value, explorer.forget_bias.value = 1.0, "lstm", 4.0
    assert "forget bias 4" in explorer.sentence and "alive" in explorer.sentence
    assert "image/png" in explorer._repr_mimebundle_()


def test_the_forget_bias_is_the_lstms_alone():
    explorer = GradientExplorer(cell="gru")
    before = explorer.sentence
    explorer.forget_bias.value = 6.0
    assert explorer.sentence == before
