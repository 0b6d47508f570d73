"""The cache: what comes back is what went in, in order, from memory that was taken once."""

import pytest
import torch
from torch.testing import assert_close

from minillm.attention.cache import KVCache

B, G, S, K = 3, 2, 23, 5


def keys_values(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(2, B, G, S, K, generator=draw)


def in_chunks(cache, key, value, sizes):
    """What the cache answers to each chunk, and where the chunk ends."""
    end = 0
    for size in sizes:
        end += size
        yield end, size, cache.append(key[:, :, end - size : end], value[:, :, end - size : end])


@pytest.mark.parametrize("sizes", [[23], [1] * 23, [4, 1, 7, 1, 10]])
def test_all_that_was_read_comes_back(sizes):
    key, value = keys_values()
    cache = KVCache(capacity=S)
    for end, _, (all_keys, all_values) in in_chunks(cache, key, value, sizes):
        assert torch.equal(all_keys, key[:, :, :end])
        assert torch.equal(all_values, value[:, :, :end])
        assert cache.length == end
        assert torch.equal(cache.contents()[0], all_keys)


def test_memory_is_taken_once():
    key, value = keys_values()
    cache, places = KVCache(capacity=S), set()
    for _, _, views in in_chunks(cache, key, value, [1] * S):
        places.add(tuple(view.data_ptr() for view in views))
    assert len(places) == 1


@pytest.mark.parametrize("window", [1, 2, 4, 40])
@pytest.mark.parametrize("capacity", [1, 6, 50])
@pytest.mark.parametrize("sizes", [[1] * 23, [5, 1, 1, 9, 3, 4], [1, 12, 10], [23]])
def test_a_window_keeps_what_may_be_looked_at(window, capacity, sizes):
    """The first of the new tokens may look at the window - 1 tokens before it; nobody at more."""
    key, value = keys_values()
    cache = KVCache(capacity, window)
    for end, size, (kept_keys, kept_values) in in_chunks(cache, key, value, sizes):
        first = max(0, end - size - (window - 1))
        assert torch.equal(kept_keys, key[:, :, first:end])
        assert torch.equal(kept_values, value[:, :, first:end])
        assert cache.length == end


def test_a_window_needs_no_more_memory_as_the_text_grows():
    cache, places = KVCache(capacity=8, window=4), set()
    for i in range(200):
        kept, _ = cache.append(torch.full((1, 1, 1, 2), float(i)), torch.zeros(1, 1, 1, 2))
        places.add(kept.data_ptr())
        assert kept[0, 0, :, 0].tolist() == list(range(max(0, i - 3), i + 1))
    assert len(places) <= 8


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0, 0], [1], [0, 0, 1, 2, 2]])
def test_select_takes_rows_along(rows):
    key, value = keys_values()
    cache, rows = KVCache(capacity=S), torch.tensor(rows)
    cache.append(key[:, :, :9], value[:, :, :9])
    cache.select(rows)
    new_key, new_value = cache.append(key[rows, :, 9:], value[rows, :, 9:])
    assert torch.equal(new_key, key[rows])
    assert torch.equal(new_value, value[rows])


@pytest.mark.parametrize("window", [None, 4])
def test_rewind_forgets_the_end(window):
    key, value = keys_values()
    straight, back = KVCache(S, window), KVCache(S, window)
    straight.append(key[:, :, :7], value[:, :, :7])
    back.append(key[:, :, :7], value[:, :, :7])
    back.append(keys_values(seed=1)[0][:, :, :3], keys_values(seed=1)[1][:, :, :3])
    back.rewind(7)
    assert back.length == 7
    for ours, theirs in zip(
        straight.append(key[:, :, 7:9], value[:, :, 7:9]), back.append(key[:, :, 7:9], value[:, :, 7:9]), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_gradients_flow_through_one_filling():
    key, value = (x.clone().requires_grad_() for x in keys_values())
    got_key, got_value = KVCache(S).append(key, value)
    (got_key * 2 + got_value * 3).sum().backward()
    assert_close(key.grad, torch.full_like(key, 2))
    assert_close(value.grad, torch.full_like(value, 3))


def filled(capacity=S, window=None):
    cache, (key, value) = KVCache(capacity, window), keys_values()
    cache.append(key[:, :, :6], value[:, :, :6])
    return cache


def windowed_far():
    cache = filled(4, window=2)
    for _ in range(9):
        cache.append(*keys_values()[:, :, :, :1])
    return cache


@pytest.mark.no_promises  # wrong shapes break them before they are refused
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: KVCache(0), r"capacity=0 must be at least 1 token; capacity=128 works"),
        (lambda: KVCache(4, window=0), r"window=0"),
        (lambda: KVCache(4).contents(), r"length=0: the cache is empty"),
        (
            lambda: filled(8).append(*keys_values()[:, :, :, :3]),
            r"capacity=8 tokens: 6 are kept and 3 more.*=9\) works",
        ),
        (lambda: filled().append(*keys_values()[:, :1, :, :3]), r"do not continue.*\(3, 2, 3, 5\) works"),
        (lambda: filled().append(*keys_values()[:, :, :1, :3]), r"do not continue"),
        (lambda: filled().append(keys_values()[0][:, :, :3], keys_values()[1][:, :, :2]), r"do not continue"),
        (lambda: filled().rewind(7), r"length=7 of 6 tokens"),
        (lambda: filled().rewind(-1), r"length=-1"),
        (lambda: windowed_far().rewind(2), r"length=2 of 15 tokens"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
