"""Advantages: limits at λ = 0 and 1, the plain twin, and filling that cannot be seen."""

import pytest
import torch
from torch.testing import assert_close

from minillm.alignment.advantage import explained_variance, gae, gae_loop, masked_mean, masked_variance, whiten

B, T = 5, 7
LENGTHS = torch.tensor([7, 1, 4, 6, 2])


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    reward_bt, value_bt = torch.randn(2, B, T, generator=generator)  # the filling holds numbers too
    return reward_bt, value_bt, torch.arange(T) < LENGTHS[:, None]


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("lam", [0.0, 0.3, 0.95, 1.0])
def test_it_is_the_plain_sum_of_each_row(rows, gamma, lam):
    reward_bt, value_bt, real_bt = rows
    advantage_bt = gae(reward_bt, value_bt, real_bt, gamma, lam)
    for row, n in enumerate(LENGTHS.tolist()):
        wanted = gae_loop(reward_bt[row, :n].tolist(), value_bt[row, :n].tolist(), gamma, lam)
        assert_close(advantage_bt[row, :n], torch.tensor(wanted), atol=1e-5, rtol=1e-5)
        assert not advantage_bt[row, n:].any()


def test_lambda_1_waits_for_the_end(rows):
    reward_bt, value_bt, real_bt = rows
    to_come_bt = (reward_bt * real_bt).flip(1).cumsum(1).flip(1)
    assert_close(gae(*rows, lam=1.0), (to_come_bt - value_bt) * real_bt, atol=1e-5, rtol=1e-5)


def test_lambda_0_looks_one_step_ahead(rows):
    reward_bt, value_bt, real_bt = rows
    value_bt = value_bt * real_bt
    next_bt = torch.cat([value_bt[:, 1:], torch.zeros(B, 1)], dim=1)
    assert_close(gae(*rows, lam=0.0), (reward_bt + next_bt - value_bt) * real_bt)


def test_a_perfect_critic_is_never_surprised():
    reward_bt = torch.tensor([[0.5, -1.0, 2.0]])
    value_bt = reward_bt.flip(1).cumsum(1).flip(1)
    for lam in (0.0, 0.5, 1.0):
        assert_close(gae(reward_bt, value_bt, torch.ones(1, 3, dtype=torch.bool), lam=lam), torch.zeros(1, 3))


def test_filling_cannot_be_seen(rows):
    reward_bt, value_bt, real_bt = rows
    junk = lambda x: torch.where(real_bt, x, 1e6)
    assert torch.equal(gae(*rows), gae(junk(reward_bt), junk(value_bt), real_bt))
    assert torch.equal(whiten(reward_bt, real_bt), whiten(junk(reward_bt), real_bt))
    assert torch.equal(masked_mean(reward_bt, real_bt), masked_mean(junk(reward_bt), real_bt))


def test_whitened_tokens_have_mean_0_and_variance_1(rows):
    reward_bt, _, real_bt = rows
    white_bt = whiten(3 * reward_bt + 5, real_bt)
    assert_close(white_bt[real_bt].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert_close(white_bt[real_bt].var(correction=0), torch.tensor(1.0))
    scaled_bt = whiten(3 * reward_bt + 5, real_bt, shift=False)
    assert_close(scaled_bt[real_bt], (3 * reward_bt + 5)[real_bt] / masked_variance(3 * reward_bt, real_bt).sqrt())


def test_explained_variance_at_its_limits(rows):
    return_bt, _, real_bt = rows
    assert explained_variance(return_bt + 4, return_bt, real_bt) == pytest.approx(1)
    assert explained_variance(torch.full((B, T), 7.0), return_bt, real_bt) == pytest.approx(0, abs=1e-6)
    assert explained_variance(-return_bt, return_bt, real_bt) == pytest.approx(-3, rel=1e-4)
