"""Positions: each kind has the one property that it was made for, and agrees with an independent implementation."""

import math

import pytest
import torch
from torch.testing import assert_close
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from minillm.attention.positions import (
    LearnedPositions,
    RoPE,
    RopeScaling,
    SinusoidalPositions,
    alibi_bias,
    alibi_slopes,
    sinusoidal,
)

B, H, T, S, K = 2, 3, 5, 7, 8


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# RoPE


def test_the_scores_of_rope_depend_on_the_distance_only():
    rope, q, k = RoPE(K), random(1, H, 1, K), random(1, H, 1, K, seed=1)

    def score(query_position, key_position):
        places = torch.tensor([query_position]), torch.tensor([key_position])
        return (rope.rotate(q, places[0]) * rope.rotate(k, places[1])).sum(dim=-1)

    for distance in (0, 1, 5, -3):
        for start in (0, 4, 100, 1000):
            assert_close(score(start + 7, start + 7 - distance), score(7, 7 - distance), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(score(7, 7), score(7, 5))
    assert not torch.allclose(score(7, 9), score(7, 5))  # and which of the two comes first does matter


def test_rope_turns_and_nothing_else():
    rope, x = RoPE(K), random(B, H, T, K)
    turned = rope.rotate(x, torch.arange(T))
    assert_close(turned[:, :, 0], x[:, :, 0])  # at position 0 there is no turn
    assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert_close(rope.rotate(turned, -torch.arange(T)), x)  # and back


def test_rope_by_hand():
    """Pair (i, i + k/2) is one complex number; it is multiplied by e^(i · position · frequency)."""
    x, place = random(B, H, T, K), torch.tensor([0, 3, 1, 8, 2])
    frequency = torch.tensor([10000.0 ** (-2 * i / K) for i in range(K // 2)])
    turn = torch.polar(torch.ones(T, K // 2), place[:, None] * frequency)
    want = torch.complex(x[..., : K // 2].contiguous(), x[..., K // 2 :].contiguous()) * turn
    assert_close(RoPE(K).rotate(x, place), torch.cat((want.real, want.imag), dim=-1))


def test_positions_may_differ_by_row():
    rope, x = RoPE(K), random(B, H, T, K)
    place = torch.stack((torch.arange(T), torch.tensor([0, 0, 0, 1, 2])))
    together = rope.rotate(x, place)
    for row in range(B):
        assert_close(together[row, None], rope.rotate(x[row, None], place[row]))


def test_a_rotation_made_once_serves_every_layer():
    rope, x = RoPE(K), random(B, H, T, K)
    assert_close(rope.at(torch.arange(T)).rotate(x), rope.rotate(x, torch.arange(T)))
    half = rope.at(torch.arange(T), torch.bfloat16).rotate(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert_close(half.float(), rope.rotate(x, torch.arange(T)), rtol=0.05, atol=0.05)


def test_the_turns_stay_exact_when_the_model_becomes_half_precision():
    x, place = random(B, H, T, K), torch.arange(T) + 3000
    assert torch.equal(RoPE(K).bfloat16().rotate(x, place), RoPE(K).rotate(x, place))
    with torch.device("meta"):
        empty = RoPE(K)
    assert torch.equal(empty.rotate(x, place), RoPE(K).rotate(x, place))


def test_rope_holds_nothing_that_is_learned_or_stored():
    assert list(RoPE(K).parameters()) == []
    assert RoPE(K).state_dict() == {}


LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def llama(**rope):
    return LlamaConfig(hidden_size=128 * 2, num_attention_heads=2, max_position_embeddings=131072, rope_parameters=rope)


def test_rope_agrees_with_the_transformers_package():
    q, k, place = random(B, H, T, 128), random(B, H, T, 128, seed=1), torch.randint(0, 900, (B, T))
    theirs = LlamaRotaryEmbedding(llama(rope_type="default", rope_theta=500000.0))
    want_q, want_k = apply_rotary_pos_emb(q, k, *theirs(q, place))
    rope = RoPE(128, base=500000.0)
    assert_close(rope.rotate(q, place), want_q)
    assert_close(rope.rotate(k, place), want_k)


@pytest.mark.parametrize(("factor", "original"), [(8.0, 8192), (32.0, 8192), (4.0, 1000)])
def test_llama_3_scaling_agrees_with_the_transformers_package(factor, original):
    changed = LLAMA_3 | {"factor": factor, "original_max_position_embeddings": original, "rope_theta": 500000.0}
    want, _ = ROPE_INIT_FUNCTIONS["llama3"](llama(**changed), torch.device("cpu"))
    scaling = RopeScaling(factor=factor, original_context=original)
    got = RoPE(128, base=500000.0, scaling=scaling).frequency
    assert_close(got, want, rtol=1e-5, atol=0)
    plain = RoPE(128, base=500000.0).frequency
    assert_close(got[0], plain[0])  # the fastest turn stays
    assert_close(got[-1], plain[-1] / factor)  # the slowest is slowed by the whole factor


def test_scaling_by_one_changes_nothing():
    assert_close(RoPE(K, scaling=RopeScaling(factor=1.0)).frequency, RoPE(K).frequency)


# sinusoidal and learned


def test_the_table_of_2017_by_its_formula():
    t, d = 11, 6
    want = [[(math.sin, math.cos)[j % 2](i / 10000 ** ((j - j % 2) / d)) for j in range(d)] for i in range(t)]
    assert_close(sinusoidal(t, d), torch.tensor(want))
    assert sinusoidal(3, 4).tolist()[0] == [0, 1, 0, 1]


@pytest.mark.parametrize("offset", [1, 4, 17])
def test_moving_on_is_a_rotation_that_does_not_depend_on_where_one_is(offset):
    """PE(t + o) = R(o) PE(t): one orthogonal matrix, found at a few places, holds at all of them."""
    d = 6
    table = sinusoidal(40 + offset, d).double()
    rotation = torch.zeros(d, d, dtype=torch.float64)
    for i in range(0, d, 2):
        angle = offset / 10000 ** (i / d)
        rotation[i : i + 2, i : i + 2] = torch.tensor(
            [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        )
    assert_close(rotation @ rotation.T, torch.eye(d, dtype=torch.float64))
    assert_close(table[:40] @ rotation.T, table[offset : 40 + offset], rtol=0, atol=1e-6)


def test_no_two_positions_share_a_row():
    table = sinusoidal(500, 16)
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 0.1


@pytest.mark.parametrize("kind", [LearnedPositions, SinusoidalPositions])
def test_a_table_gives_the_row_of_each_position(kind):
    table = kind(context=9, d_model=4)
    rows = table(torch.arange(9))
    assert rows.shape == (9, 4)
    place = torch.tensor([[0, 8, 3], [2, 2, 1]])
    assert_close(table(place), rows[place])
    assert len({tuple(row.tolist()) for row in rows}) == 9


def test_only_the_learned_table_learns():
    assert [p.shape for p in LearnedPositions(9, 4).parameters()] == [(9, 4)]
    assert list(SinusoidalPositions(9, 4).parameters()) == []
    assert_close(SinusoidalPositions(9, 4)(torch.arange(9)), sinusoidal(9, 4))


# ALiBi


def test_alibi_falls_in_a_straight_line_with_distance():
    bias, slope = alibi_bias(H, torch.arange(S - T, S), torch.arange(S)), alibi_slopes(H)
    assert bias.shape == (H, T, S)
    for i in range(T):
        for j in range(S):
            assert_close(bias[:, i, j], -slope * abs(S - T + i - j))


def test_alibi_depends_on_the_distance_only():
    near = alibi_bias(H, torch.arange(T), torch.arange(S))
    assert_close(near, alibi_bias(H, torch.arange(T) + 1000, torch.arange(S) + 1000))


def test_alibi_by_row():
    queries, keys = torch.tensor([[3, 4], [1, 2]]), torch.tensor([[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]])
    bias = alibi_bias(H, queries, keys)
    assert bias.shape == (2, H, 2, 5)
    for row in range(2):
        assert_close(bias[row], alibi_bias(H, queries[row], keys[row]))


def test_slopes_are_those_of_the_paper():
    """§3: for 8 heads 1/2, 1/4, … 1/256; for other numbers, the rest comes from between."""
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert_close(alibi_slopes(16)[:2], torch.tensor([2.0**-0.5, 2.0**-1]))
    assert_close(alibi_slopes(6), torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3]))
    assert alibi_slopes(1).tolist() == [2.0**-8]


# bad input


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: RoPE(7), r"width=7 cannot be split into pairs.*width=8 works"),
        (lambda: RoPE(0), r"width=0.*width=2 works"),
        (lambda: sinusoidal(4, 5), r"d=5.*d=6 works"),
        (lambda: RoPE(K).at(torch.arange(4.0)), r"dtype=torch.float32; the rule is int64, \(t,\) or \(b, t\)"),
        (lambda: RoPE(K).at(torch.zeros(1, 2, 3, dtype=torch.int64)), r"shape \(1, 2, 3\)"),
        (
            lambda: RoPE(K).rotate(random(B, H, T, K), torch.arange(S)),
            r"shape \(7, 8\).*b=2, t=5, width=8: positions of shape \(5,\)",
        ),
        (
            lambda: RoPE(K).rotate(random(B, H, T, K), torch.zeros(3, T, dtype=torch.int64)),
            r"shape \(3, 5, 8\).*or \(2, 5\)",
        ),
        (lambda: RoPE(K).rotate(random(B, H, T, 6), torch.arange(T)), r"shape \(5, 8\).*width=6.*RoPE\(6\) works?"),
        (lambda: LearnedPositions(9, 4)(torch.arange(10)), r"positions has 9.*0 to 8 only.*context=9"),
        (lambda: SinusoidalPositions(9, 4)(torch.tensor([-1])), r"positions has -1"),
        (lambda: alibi_slopes(0), r"n_head=0"),
        (lambda: alibi_bias(2, torch.arange(3.0), torch.arange(3)), r"int64"),
        (lambda: RopeScaling(factor=0.5), r"factor=0.5 must be at least 1"),
        (lambda: RopeScaling(low_frequency=4.0, high_frequency=4.0), r"low_frequency=4.0 must be above 0 and below"),
        (lambda: RopeScaling(original_context=0), r"original_context=0"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
