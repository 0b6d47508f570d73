"""Masks: one meaning, True = may look, in every builder and in their compositions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.attention import masks


def rule(t, s, may_look):
    """A mask from a rule on the positions of query and key, the slow way."""
    return torch.tensor([[may_look(i + s - t, j) for j in range(s)] for i in range(t)])


sizes = st.tuples(st.integers(1, 9), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@settings(deadline=None, max_examples=60)
@given(sizes, st.integers(1, 12), st.integers(0, 16))
def test_each_builder_follows_its_rule(size, window, length):
    t, s = size
    assert torch.equal(masks.causal(t, s), rule(t, s, lambda i, j: j <= i))
    assert torch.equal(masks.sliding_window(t, s, window), rule(t, s, lambda i, j: i - window < j <= i))
    assert torch.equal(masks.prefix(t, s, length), rule(t, s, lambda i, j: j <= i or j < length))


def test_limits():
    assert torch.equal(masks.causal(4), masks.causal(4, 4))
    assert torch.equal(masks.sliding_window(4, None, 4), masks.causal(4))
    assert torch.equal(masks.sliding_window(4, 4, 1), torch.eye(4, dtype=torch.bool))
    assert torch.equal(masks.prefix(4, 4, 0), masks.causal(4))
    assert torch.equal(masks.prefix(4, None, 1), masks.causal(4))  # everybody may look at the first in any case
    assert masks.prefix(4, 4, 4).all()
    assert masks.causal(1, 5).all()  # the newest query may look at all there is


def test_padding_tells_tokens_from_filling():
    assert masks.padding([1, 0, 3], 3).shape == (3, 1, 1, 3)
    assert masks.padding(torch.tensor([1, 0, 3]), 3).flatten(1).int().tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert masks.padding([1, 0, 3], 3, left=True).flatten(1).int().tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 1]]


def test_a_prefix_for_each_row():
    mask = masks.prefix(3, 4, torch.tensor([0, 3]))
    assert mask.shape == (2, 1, 3, 4)
    assert torch.equal(mask[0, 0], masks.prefix(3, 4, 0))
    assert torch.equal(mask[1, 0], masks.prefix(3, 4, 3))


def test_both_allows_what_all_allow():
    assert masks.both() is None
    assert masks.both(None, None) is None
    causal, padding = masks.causal(2, 3), masks.padding([1, 3], 3)
    assert masks.both(None, causal) is causal
    joined = masks.both(causal, None, padding)
    assert joined is not None and joined.shape == (2, 1, 2, 3)
    for row in range(2):
        assert torch.equal(joined[row, 0], causal & padding[row, 0])


@pytest.mark.no_promises  # a wrong shape breaks them before it is refused
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: masks.causal(4, 3), r"t=4 queries among s=3 keys.*1 ≤ t ≤ s"),
        (lambda: masks.causal(0), r"t=0"),
        (lambda: masks.sliding_window(3, 3, 0), r"window=0 leaves a query no key; window=1"),
        (lambda: masks.padding([2, 4], 3), r"length_b=\[2, 4\].*from 0 to s=3"),
        (lambda: masks.padding([-1, 2], 3), r"length_b=\[-1, 2\]"),
        (lambda: masks.padding(torch.ones(2, 2), 3), r"one length"),
        (lambda: masks.prefix(3, 3, -1), r"prefix_length=-1"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
