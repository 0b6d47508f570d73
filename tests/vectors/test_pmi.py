"""PMI, its factorisation, and the loss whose best it is."""

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from minillm.vectors.pmi import expected_loss, factorise, noise_of, pmi, shifted_ppmi

COUNTS = np.random.default_rng(0).integers(1, 40, size=(5, 7)).astype(float)


def test_independent_words_have_no_information():
    np.testing.assert_allclose(pmi(np.outer([1.0, 2, 5], [3.0, 4])), 0, atol=1e-12)


def test_scale_does_not_matter_and_transposing_transposes():
    np.testing.assert_allclose(pmi(COUNTS * 7), pmi(COUNTS))
    np.testing.assert_allclose(pmi(COUNTS.T), pmi(COUNTS).T)


def test_by_hand():
    # 8 pairs; the first word and context each take part in 4, and meet 3 times: log(3 · 8 / (4 · 4))
    np.testing.assert_allclose(pmi(np.array([[3.0, 1], [1, 3]]))[0, 0], np.log(1.5))


def test_shifted_ppmi_is_never_negative_and_its_shift_is_log_k():
    assert shifted_ppmi(np.array([[2.0, 0], [0, 2]])).tolist() == [[np.log(2), 0], [0, np.log(2)]]
    shifted = shifted_ppmi(COUNTS, 2)
    np.testing.assert_allclose(shifted[shifted > 0], (pmi(COUNTS) - np.log(2))[shifted > 0])


@pytest.mark.parametrize("power", [1.0, 0.75])
def test_the_best_score_is_shifted_pmi_however_found(power):
    k, start = 5, np.random.default_rng(2).normal(size=(5, 7))
    score = torch.tensor(start, requires_grad=True)
    count, noise = torch.tensor(COUNTS), torch.tensor(noise_of(COUNTS, power))

    def loss():
        return -(count * logsigmoid(score) + k * count.sum(1, keepdim=True) * noise * logsigmoid(-score)).sum()

    ours, gradient = expected_loss(start, COUNTS, k, power)
    reference = loss()
    np.testing.assert_allclose(ours, reference.item())
    reference.backward()
    np.testing.assert_allclose(gradient, score.grad)
    with torch.no_grad():
        score.zero_()
    optimiser = torch.optim.LBFGS([score], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
    np.testing.assert_allclose(score.detach().numpy(), pmi(COUNTS, power) - np.log(k), atol=1e-5)


def test_all_dimensions_give_the_matrix_back_and_fewer_the_nearest():
    matrix = np.random.default_rng(1).normal(size=(6, 9))
    rows, columns = factorise(matrix, 6), factorise(matrix.T, 6)
    signs = np.sign(np.diag(rows.T @ matrix @ columns))  # each factor's sign is its own
    np.testing.assert_allclose(rows * signs @ columns.T, matrix, atol=1e-9)
    rest = np.linalg.svd(matrix)[1][2:]
    np.testing.assert_allclose(np.sum((matrix - (rows * signs)[:, :2] @ columns[:, :2].T) ** 2), np.sum(rest**2))
    np.testing.assert_allclose(factorise(matrix, 2), rows[:, :2])


@pytest.mark.no_promises
def test_bad_input():
    for bad in (np.array([[1.0, 0], [1, 0]]), np.array([[0.0, 0], [1, 1]]), np.array([[-1.0, 2]]), np.ones(3)):
        with pytest.raises(ValueError, match="must be a matrix of counts"):
            pmi(bad)
    with pytest.raises(ValueError, match="dimensions=8 must be from 1 to 5"):
        factorise(COUNTS, 8)
