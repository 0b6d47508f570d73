"""Additive attention: its limits, its invariances, and the formula once more as a loop over single numbers."""

import math

import pytest
import torch
from torch.testing import assert_close

from minillm.neural.additive_attention import AdditiveAttention

B, S, F = 3, 5, 4
LENGTH_B = torch.tensor([5, 1, 3])


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return AdditiveAttention(F).double()


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_formula(attention):
    query_bf, memory_bsf = draw(B, F), draw(B, S, F, seed=1)
    weights = attention(query_bf, attention.keys(memory_bsf), LENGTH_B)
    w, u, v = attention.query.weight.tolist(), attention.key.weight.tolist(), attention.score.weight[0].tolist()
    q, m = query_bf.tolist(), memory_bsf.tolist()
    for b in range(B):
        e = []
        for j in range(int(LENGTH_B[b])):
            total = 0.0
            for i in range(F):
                wq = sum(w[i][k] * q[b][k] for k in range(F))
                um = sum(u[i][k] * m[b][j][k] for k in range(F))
                total += v[i] * math.tanh(wq + um)
            e.append(math.exp(total))
        by_hand = [x / sum(e) for x in e] + [0.0] * (S - len(e))
        assert_close(weights[b], torch.tensor(by_hand, dtype=torch.float64))


def test_each_query_spends_exactly_one_unit_and_none_on_padding(attention):
    weights = attention(draw(B, F), attention.keys(draw(B, S, F, seed=1)), LENGTH_B)
    assert_close(weights.sum(dim=1), torch.ones(B).double())
    for row, length in zip(weights, LENGTH_B.tolist(), strict=True):
        assert (row[:length] > 0).all() and (row[length:] == 0).all()


def test_padding_cannot_be_seen_and_gets_no_gradient(attention):
    query_bf, memory_bsf = draw(B, F), draw(B, S, F, seed=1).requires_grad_()
    other = memory_bsf.detach().clone()
    other[1, 1:], other[2, 3:] = 1e6, -1e6
    weights = attention(query_bf, attention.keys(memory_bsf), LENGTH_B)
    assert_close(attention(query_bf, attention.keys(other), LENGTH_B), weights)
    (gradient,) = torch.autograd.grad(weights.square().sum(), memory_bsf)
    assert gradient.isfinite().all() and (gradient[2, 3:] == 0).all() and (gradient[0] != 0).any()


def test_places_that_look_alike_weigh_alike_and_one_place_takes_all(attention):
    same = draw(B, 1, F).expand(B, S, F)
    weights = attention(draw(B, F), attention.keys(same), LENGTH_B)
    assert_close(weights[0], torch.full((S,), 1 / S).double())
    assert_close(weights[1], torch.tensor([1.0, 0, 0, 0, 0]).double())


def test_the_order_of_the_places_does_not_matter(attention):
    query_bf, memory_bsf, order = draw(B, F), draw(B, S, F, seed=1), torch.tensor([2, 0, 1, 4, 3])
    full = torch.full((B,), S)
    weights = attention(query_bf, attention.keys(memory_bsf), full)
    assert_close(attention(query_bf, attention.keys(memory_bsf[:, order]), full), weights[:, order])


def test_without_v_there_is_no_preference(attention):
    torch.nn.init.zeros_(attention.score.weight)
    weights = attention(draw(B, F), attention.keys(draw(B, S, F, seed=1)), LENGTH_B)
    assert_close(weights[2], torch.tensor([1 / 3, 1 / 3, 1 / 3, 0, 0]).double())
