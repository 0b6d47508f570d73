"""Negative sampling by hand: limits, autograd, and the same gradients in blocks."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from torch.testing import assert_close

from minillm.vectors import blocks
from minillm.vectors.blocks import Blocks, band_of, cbow_moves, reaches, skip_gram_moves
from minillm.vectors.negative_sampling import (
    keep_probability,
    learning_rate_at,
    loss_and_gradient,
    noise_distribution,
)

B, D, WINDOW, NOISE, NEGATIVES, RATE = 6, 7, 2, 5, 4, 0.3


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_zero_centre_believes_one_half():
    loss, centre, target = loss_and_gradient(torch.zeros(D), random(0, 3, D).float(), torch.tensor([1.0, 0.0, 0.0]))
    assert_close(loss, torch.tensor(3 * math.log(2)))
    assert target.abs().max() == 0 and centre.abs().max() > 0


def test_what_is_known_for_certain_moves_nothing():
    centre, target = torch.tensor([1.0, 0.0]), torch.tensor([[50.0, 1.0], [-50.0, 1.0]])
    loss, *gradients = loss_and_gradient(centre, target, torch.tensor([1.0, 0.0]))
    assert loss < 1e-6 and all(gradient.abs().max() < 1e-6 for gradient in gradients)


def test_the_loss_stays_finite_however_wrong():
    loss, *_ = loss_and_gradient(torch.tensor([1000.0]), torch.tensor([[1000.0]]), torch.tensor([0.0]))
    assert loss == 1e6


@pytest.mark.parametrize("n", [1, 6])
def test_the_gradient_by_hand_is_autograds(n):
    centre, target, label = random(1, D).requires_grad_(), random(2, n, D).requires_grad_(), (random(3, n) > 0).double()
    loss, for_centre, for_target = loss_and_gradient(centre, target, label)
    reference = binary_cross_entropy_with_logits(target @ centre, label, reduction="sum")
    assert_close(loss, reference)
    reference.backward()
    assert_close(for_centre.detach(), centre.grad)
    assert_close(for_target.detach(), target.grad)


def made_up_blocks():
    """Blocks of random reach, and what is near as a plain list of (block, row, column)."""
    near_rows = reaches(WINDOW).double()
    pick = torch.randint(len(near_rows), (B, blocks.ROWS), generator=torch.Generator().manual_seed(4))
    pick[1, 2] = 0  # a word without neighbours
    near = near_rows[pick]
    pairs = [
        (b, t, t + offset) for b, t, offset in near.nonzero().tolist()
    ]  # the band starts `WINDOW` to the left, where the columns do
    return near, near.sum(-1), pairs


def test_skip_gram_in_blocks_is_the_sum_of_the_plain_twin():
    near, pairs_bt, pairs = made_up_blocks()
    columns = blocks.ROWS + 2 * WINDOW
    centre, target = random(5, B, blocks.ROWS, D), random(6, B, columns + NOISE, D)
    got = skip_gram_moves(centre, target, near, pairs_bt, NEGATIVES, RATE)
    want = torch.zeros_like(centre), torch.zeros_like(target)
    share = NEGATIVES / NOISE  # of a pair's noise that each shared noise word stands for
    for b, t, s in pairs:
        for at, label, weight in [(s, 1.0, 1.0)] + [(columns + e, 0.0, share) for e in range(NOISE)]:
            _, g_centre, g_target = loss_and_gradient(
                centre[b, t], target[b, at : at + 1], torch.tensor([label], dtype=torch.float64)
            )
            want[0][b, t] -= RATE * weight * g_centre
            want[1][b, at] -= RATE * weight * g_target[0]
    assert_close(got, want)


@pytest.mark.parametrize("sharing", [1, 2, 3])
def test_cbow_in_blocks_is_autograds_with_whole_gradients_for_neighbours(sharing):
    near, pairs_bt, pairs = made_up_blocks()
    columns = blocks.ROWS + 2 * WINDOW
    given = random(7, B, columns, D), random(8, B, blocks.ROWS, D), random(9, B // sharing, NOISE, D)
    got = cbow_moves(*given, near, pairs_bt, NEGATIVES, RATE)
    neighbour, word, noise = (tensor.requires_grad_() for tensor in given)
    loss = torch.zeros((), dtype=torch.float64)
    for b in range(B):
        for t in range(blocks.ROWS):
            at = [s for other, row, s in pairs if (other, row) == (b, t)]
            if not at:
                continue
            total = neighbour[b, at].sum(0)
            mean = (total - total.detach()) + total.detach() / len(at)  # the mean, whose gradient reaches each in full
            loss = loss - logsigmoid(mean @ word[b, t])
            loss = loss - NEGATIVES / NOISE * logsigmoid(-noise[b // sharing] @ mean).sum()
    loss.backward()
    assert_close(got, tuple(-RATE * tensor.grad for tensor in given))


@pytest.mark.no_promises
@pytest.mark.parametrize("sharing", [1, 2, 4])
def test_blocks_hold_every_pair_within_reach_and_no_other(sharing):
    lengths = [1, 7, 2, 30, 5]
    sentence_n = torch.repeat_interleave(torch.tensor(lengths))
    id_n = torch.arange(len(sentence_n))  # every word is its own position
    cut = Blocks.cut(id_n, sentence_n, WINDOW, torch.linspace(0.1, 1, 10), torch.Generator().manual_seed(0), sharing)
    near = reaches(WINDOW)[cut.reach_bt]
    seen = set()
    for b, t, offset in near.nonzero().tolist():
        seen.add((int(cut.centre_bt[b, t]), int(cut.column_bs[b, t + offset])))
    assert all(0 < abs(i - j) <= WINDOW and sentence_n[i] == sentence_n[j] for i, j in seen)
    close = {(i, i + 1) for i in range(len(id_n) - 1) if sentence_n[i] == sentence_n[i + 1]}  # any reach sees these
    assert close | {(j, i) for i, j in close} <= seen
    assert len(seen) == int(cut.pairs_bt.sum()) == int(near.sum())
    steps = list(cut.steps(sharing))
    assert [len(step.noise) * sharing for step in steps] == [len(step) for step in steps]
    assert_close(torch.cat([step.noise for step in steps]), cut.noise)


def test_every_reach_is_as_likely():
    n = 30_000
    cut = Blocks.cut(
        torch.zeros(n, dtype=torch.int64),
        torch.zeros(n, dtype=torch.int64),
        3,
        torch.ones(1),
        torch.Generator().manual_seed(1),
    )
    share = torch.bincount((cut.pairs_bt / 2).long().flatten(), minlength=4)[1:] / n
    assert_close(share, torch.full((3,), 1 / 3), atol=0.01, rtol=0)


def test_noise_is_drawn_as_often_as_it_should_be():
    noise_v = noise_distribution(torch.tensor([81, 16, 1]))
    assert_close(noise_v, torch.tensor([27, 8, 1], dtype=torch.float64) / 36)
    n = 60_000
    cut = Blocks.cut(
        torch.zeros(n, dtype=torch.int64),
        torch.arange(n),
        2,
        noise_v.cumsum(0).float(),
        torch.Generator().manual_seed(2),
    )
    share = torch.bincount(cut.noise.flatten(), minlength=3) / cut.noise.numel()
    assert_close(share.double(), noise_v, atol=0.01, rtol=0)


def test_the_band_is_the_matrix_itself():
    matrix = torch.zeros(2, 3, 6)
    band_of(matrix, 4).fill_(1)
    assert matrix[0].tolist() == [[1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]]
    assert_close(matrix[1], matrix[0])


def test_subsampling_and_noise_at_their_limits():
    count_v = torch.tensor([900, 99, 1])
    assert keep_probability(count_v, 0).tolist() == [1, 1, 1]
    keep_v = keep_probability(count_v, 1e-3)
    assert keep_v[2] == 1 and bool((keep_v.diff() > 0).all())
    share = 0.9
    np.testing.assert_allclose(keep_v[0], math.sqrt(1e-3 / share) + 1e-3 / share)
    assert_close(noise_distribution(count_v, 0), torch.full((3,), 1 / 3, dtype=torch.float64))
    assert_close(noise_distribution(count_v, 1), count_v.double() / 1000)


def test_the_learning_rate_falls_in_a_straight_line():
    assert learning_rate_at(0, 0.025, 0.0001) == 0.025
    np.testing.assert_allclose(learning_rate_at(1, 0.025, 0.0001), 0.0001)
    np.testing.assert_allclose(learning_rate_at(0.25, 0.04, 0.0), 0.03)
