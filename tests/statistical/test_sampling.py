"""sample_next: the distribution exactly, then that draws follow it, and always the same ones."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from minillm.core.notation import promise_checker
from minillm.statistical.sampling import next_distribution, sample_next

logit = st.one_of(st.floats(-30, 30), st.just(-math.inf), st.sampled_from([0.0, 1.0]))
rows = st.lists(logit, min_size=1, max_size=8).filter(lambda row: any(math.isfinite(x) for x in row))


@settings(deadline=None)
@given(rows, st.floats(0.05, 20), st.one_of(st.none(), st.integers(1, 10)), st.one_of(st.none(), st.floats(0.01, 1)))
def test_it_agrees_with_a_sorted_list(row, temperature, top_k, top_p):
    peak = max(row)
    mass = [math.exp((x - peak) / temperature) for x in row]
    by_rank = sorted(range(len(row)), key=lambda i: (-row[i], i))[:top_k]
    total = math.fsum(mass[i] for i in by_rank)
    kept, reached = [], 0.0
    for i in by_rank:
        if top_p is not None and reached >= top_p - 1e-12:
            break
        kept.append(i)
        reached += mass[i] / total
    total = math.fsum(mass[i] for i in kept)
    expected = [mass[i] / total if i in kept else 0.0 for i in range(len(row))]
    found = next_distribution(torch.tensor(row, dtype=torch.float64), temperature, top_k, top_p)
    assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(rows, st.floats(-50, 50))
def test_a_constant_added_to_all_logits_changes_nothing(row, shift):
    logits = torch.tensor(row, dtype=torch.float64)
    assert_close(next_distribution(logits + shift), next_distribution(logits), atol=1e-9, rtol=1e-9)


def test_the_limits_of_temperature():
    logits = torch.tensor([1.0, 3.0, -math.inf, 3.0, 2.0])
    greedy = torch.tensor([0.0, 1, 0, 0, 0], dtype=torch.float64)  # of two equal ones, the first
    assert_close(next_distribution(logits, temperature=0), greedy)
    assert_close(next_distribution(logits, temperature=1e-300), torch.tensor([0, 0.5, 0, 0.5, 0], dtype=torch.float64))
    assert_close(next_distribution(logits, temperature=1e300), torch.tensor([1, 1, 0, 1, 1], dtype=torch.float64) / 4)


def test_ties_go_to_the_lower_token_and_exactly_k_are_kept():
    flat = torch.zeros(5)
    assert next_distribution(flat, top_k=2).tolist() == [0.5, 0.5, 0, 0, 0]
    assert next_distribution(flat, top_p=0.5).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert next_distribution(flat, top_k=99).tolist() == pytest.approx([0.2] * 5)


@pytest.mark.parametrize("v", [3, 40, 5000])
def test_among_many_equals_the_lower_ids_win(v):
    """Long rows: a sort that is not stable keeps short ones in order all the same."""
    logits = torch.zeros(2, v)
    logits[1, 1::2] = 1.0  # the odd ids first, then the even ones
    k = v // 2 + 1
    odd = list(range(1, v, 2))
    kept = [row.nonzero().flatten().tolist() for row in next_distribution(logits, top_k=k)]
    assert kept == [list(range(k)), sorted(odd + list(range(0, v, 2))[: k - len(odd)])]
    assert next_distribution(logits, top_p=1.5 / v)[0].nonzero().flatten().tolist() == [0, 1]


@pytest.mark.parametrize("p_v", [[0.5, 0.3, 0.2], [0.4, 0.3, 0.1, 0.1, 0.1], [0.1] * 10])
def test_mass_of_exactly_p_is_enough(p_v):
    """0.5 + 0.3 is 0.8, whatever float64 makes of the sum: the token after it is not kept."""
    for n in range(1, len(p_v)):
        top_p = round(sum(p_v[:n]), 10)
        assert np.flatnonzero(next_distribution(np.log(p_v), top_p=top_p)).tolist() == list(range(n))
        assert np.flatnonzero(next_distribution(np.log(p_v), top_p=top_p + 1e-9)).tolist() == list(range(n + 1))


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    logits = np.log([0.1, 0.5, 0.15, 0.25])
    for p, kept in ((1e-9, [1]), (0.5, [1]), (0.51, [1, 3]), (0.75, [1, 3]), (0.76, [1, 2, 3]), (1.0, [0, 1, 2, 3])):
        assert np.flatnonzero(next_distribution(logits, top_p=p)).tolist() == kept
    # top_p looks at what top_k left: 0.5 of 0.75 is two thirds
    assert np.flatnonzero(next_distribution(logits, top_k=2, top_p=0.66)).tolist() == [1]


def test_draws_follow_the_distribution():
    draws, logits = 20_000, torch.tensor([0.3, -1.0, 2.0, -math.inf, 0.0, 1.1])
    for arguments in ({}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.8}):
        p = next_distribution(logits, **arguments)
        tokens = sample_next(logits.expand(draws, -1), **arguments, generator=torch.Generator().manual_seed(5))
        counted = tokens.bincount(minlength=6)
        possible = p > 0
        assert counted[~possible].sum() == 0
        chi_square = ((counted - draws * p) ** 2 / (draws * p))[possible].sum()
        assert chi_square < 25  # at most 4 degrees of freedom: chance exceeds it once in 20,000


class Fixed:
    """A stand-in for torch.rand that returns what it is told."""

    def __init__(self, *u):
        self.u = u

    def __call__(self, n, *, dtype, generator):
        return torch.tensor(self.u, dtype=dtype)


def test_the_draw_is_the_inverse_of_the_cumulated_distribution(monkeypatch):
    p = [0.0, 0.25, 0.25, 0.0, 0.5, 0.0]
    for u, token in ((0.0, 1), (0.2499, 1), (0.25, 2), (0.4999, 2), (0.5, 4), (1 - 2**-53, 4), (1.0, 4)):
        monkeypatch.setattr(torch, "rand", Fixed(u))
        assert int(sample_next(torch.tensor(p).log())) == token


def test_one_generator_gives_the_same_tokens_whatever_the_container():
    logits = np.random.default_rng(0).normal(size=(7, 11))
    draw = lambda x: sample_next(x, generator=torch.Generator().manual_seed(3))
    tokens = draw(logits)
    assert isinstance(tokens, np.ndarray)
    assert tokens.shape == (7,)
    assert draw(torch.from_numpy(logits)).tolist() == tokens.tolist() == draw(logits).tolist()
    one_generator = torch.Generator().manual_seed(3)
    assert [int(sample_next(row, generator=one_generator)) for row in logits] == tokens.tolist()
    single = sample_next(torch.from_numpy(logits[0]), temperature=0)
    assert single.shape == ()
    assert single.dtype == torch.int64
    assert int(single) == logits[0].argmax()


def test_greedy_draws_nothing_from_the_generator():
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    sample_next(torch.zeros(3), temperature=0, generator=generator)
    assert torch.equal(generator.get_state(), before)


def test_the_logits_are_left_alone_and_half_precision_works():
    logits = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    next_distribution(logits, top_k=1)
    assert logits.tolist() == [1.0, 2.0, 3.0]
    assert next_distribution(logits.bfloat16()).dtype == torch.float64
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample_next(frozen, generator=torch.Generator())


@pytest.mark.parametrize(
    ("logits", "arguments", "message"),
    [
        ([0.0, 1.0], {"temperature": -1}, "temperature=-1"),
        ([0.0, 1.0], {"temperature": math.inf}, "temperature=inf"),
        ([0.0, 1.0], {"temperature": math.nan}, "temperature=nan"),
        ([0.0, 1.0], {"top_k": 0}, "top_k=0"),
        ([0.0, 1.0], {"top_p": 0.0}, "top_p=0.0"),
        ([0.0, 1.0], {"top_p": 1.1}, "top_p=1.1"),
        ([0.0, math.nan], {}, "NaN"),
        ([0.0, math.inf], {}, "inf"),
        ([-math.inf, -math.inf], {}, "row 0 is -inf"),
        ([[0.0, 1.0], [-math.inf, -math.inf]], {"temperature": 0}, "row 1 is -inf"),
        ([], {}, "shape"),
        ([[[1.0]]], {}, "shape"),
    ],
)
def test_what_cannot_be_sampled_is_named(logits, arguments, message):
    for sampler in (sample_next, next_distribution):
        for container in (torch.tensor, np.array):
            with pytest.raises(ValueError, match=message):
                sampler(container(logits), **arguments)


def test_names_keep_their_promises():
    with promise_checker("minillm.statistical") as broken:
        sample_next(torch.randn(3, 5), top_k=2, top_p=0.5, generator=torch.Generator())
        sample_next(np.zeros(4))
    assert broken == []


@pytest.mark.parametrize("top_k, top_p", [(3, None), (None, 0.6), (None, 0.999), (7, 0.6)])
def test_cuts_of_a_large_vocabulary_are_those_of_a_full_sort(top_k, top_p):
    """Only what may be kept is sorted; with many equals, few large ones, or neither, the answer is the same."""
    for spread in (0.01, 1.0, 8.0):
        logits_bv = (
            torch.randn(2, 3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * spread
        ).round()
        found_bv = next_distribution(logits_bv, 1.0, top_k, top_p)
        for found, logits, p in zip(found_bv, logits_bv, logits_bv.softmax(-1), strict=True):
            ranked = sorted(range(3000), key=lambda i: (-logits[i], i))[: top_k or 3000]
            share = p[ranked] / p[ranked].sum()
            kept = 1 + int((share.cumsum(0)[:-1] < (top_p or 2) - 1e-12).sum())
            assert sorted(ranked[:kept]) == found.nonzero()[:, 0].tolist()
            assert_close(found[ranked[:kept]], share[:kept] / share[:kept].sum())
