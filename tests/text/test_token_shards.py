"""Token shards: what is written is read, every window comes once, a resumed run is the same run, damage is named."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minillm.text.token_shards import ShuffledWindows, TokenShards, permuted, write_shards

DOCUMENTS = [[5, 6, 7], [], [8, 9], list(range(1, 12)), [3]]
STREAM = [0, 5, 6, 7, 0, 0, 8, 9, 0, *range(1, 12), 0, 3, 0]


@pytest.fixture
def shards(tmp_path):
    """2,000 tokens that are their own places, in files of 300."""
    return write_shards(tmp_path / "shards", [range(1, 1999)], vocabulary=2000, end=0, tokens_per_shard=300)


@pytest.mark.parametrize("size", [1, 2, 7, len(STREAM) - 1, len(STREAM), 100])
@pytest.mark.parametrize(("vocabulary", "bytes_each"), [(12, 2), (2**16, 2), (2**16 + 1, 4)])
def test_what_is_written_is_read(tmp_path, size, vocabulary, bytes_each):
    written = write_shards(tmp_path / "new", DOCUMENTS, vocabulary=vocabulary, end=0, tokens_per_shard=size)
    for shards in (written, TokenShards(tmp_path / "new")):
        assert shards.read(0, len(shards)).tolist() == STREAM
        assert (shards.vocabulary, shards.dtype.itemsize) == (vocabulary, bytes_each)
        for start in range(len(STREAM)):
            for stop in range(start + 1, len(STREAM) + 1):
                assert shards.read(start, stop).tolist() == STREAM[start:stop]
    sizes = [p.stat().st_size for p in sorted((tmp_path / "new").glob("*.bin"))]
    assert all(s == size * bytes_each for s in sizes[:-1]) and sum(sizes) == len(STREAM) * bytes_each


@settings(deadline=None)
@given(st.integers(1, 400), st.lists(st.integers(0, 2**40), min_size=1, max_size=3))
def test_a_permutation_takes_every_place_once(size, seeds):
    image = permuted(np.arange(size), size, seeds)
    assert sorted(image.tolist()) == list(range(size))
    some = np.arange(size)[::3]
    assert_array_equal(permuted(some, size, seeds), image[::3])  # each place by itself


@pytest.mark.no_promises
@pytest.mark.parametrize("size", [5, 50])
def test_permutations_of_many_seeds_are_evenly_spread(size):
    """Counts of (place, window) over 600 seeds: χ² within 5 standard deviations of its mean; the places of two
    neighbours are not tied to each other either."""
    runs = 600
    images = np.array([permuted(np.arange(size), size, [seed]) for seed in range(runs)])
    for pairs in (images, (images - np.roll(images, 1, axis=1)) % size):
        counts = np.array([np.bincount(column, minlength=size) for column in pairs.T])
        possible = counts if pairs is images else counts[:, 1:]
        expected = runs / possible.shape[1]
        freedom = possible.shape[0] * (possible.shape[1] - 1)
        chi2 = ((possible - expected) ** 2 / expected).sum()
        assert chi2 < freedom + 5 * (2 * freedom) ** 0.5 + 1e-9
    assert len({image.tobytes() for image in images}) > (100 if size == 5 else 599)


def test_the_order_is_the_same_on_every_machine():
    """Written down once: a change here would spoil every saved place."""
    assert permuted(np.arange(10), 10, [0, 0]).tolist() == [3, 5, 6, 8, 7, 2, 4, 0, 1, 9]
    assert permuted(np.arange(10), 10, [0, 1]).tolist() == [4, 0, 8, 9, 3, 7, 2, 6, 1, 5]
    assert permuted(np.array([0, 10**12 - 1]), 10**12, [7]).tolist() == [686017762365, 6919478198]


@pytest.mark.parametrize(("b", "t"), [(1, 1), (3, 7), (5, 64), (64, 499)])
def test_every_window_comes_once_in_an_epoch_and_windows_are_neighbours(shards, b, t):
    windows = ShuffledWindows(shards, b=b, t=t, seed=3)
    n = len(windows)
    assert n == 1999 // t
    rows = np.concatenate([next(windows) for _ in range(-(-2 * n // b))])[: 2 * n]
    assert rows.shape[1] == t + 1 and rows.dtype == np.int64
    whole = shards.read(0, 2000)
    expected = np.stack([whole[i * t : (i + 1) * t + 1] for i in range(n)])
    orders = []
    for epoch in (rows[:n], rows[n:]):
        order = epoch[:, 0].argsort()
        assert_array_equal(epoch[order], expected)
        orders.append(order.tolist())
    assert n < 8 or (orders[0] != orders[1] and orders[0] != list(range(n)))


@pytest.mark.parametrize("stop", [0, 1, 4, 11, 12, 30])
def test_a_resumed_run_is_the_same_run(tmp_path, shards, stop):
    whole, first = ShuffledWindows(shards, 5, 37, seed=1), ShuffledWindows(shards, 5, 37, seed=1)
    expected = [next(whole) for _ in range(40)]
    for _ in range(stop):
        next(first)
    saved = json.loads(json.dumps(first.state_dict()))  # plain numbers survive a file
    second = ShuffledWindows(TokenShards(shards.folder), 5, 37, seed=1)
    second.load_state_dict(saved)
    for batch in expected[stop:]:
        assert_array_equal(next(second), batch)
    other = ShuffledWindows(shards, 2, 37, seed=1)  # another batch size goes on at the same window
    other.load_state_dict(saved)
    assert_array_equal(next(other), np.concatenate(expected[stop : stop + 1])[:2])


def test_seeds_differ_and_places_do_not_carry_over(tmp_path, shards):
    batches = [next(ShuffledWindows(shards, 8, 20, seed=seed)) for seed in (0, 1)]
    assert (batches[0] != batches[1]).any()
    state = ShuffledWindows(shards, 8, 20).state_dict()
    rewritten = write_shards(tmp_path / "other", [range(1, 1999)], vocabulary=2001, end=0)
    for other in (
        ShuffledWindows(shards, 8, 21),
        ShuffledWindows(shards, 8, 20, seed=1),
        ShuffledWindows(rewritten, 8, 20),
    ):
        with pytest.raises(ValueError, match="another order"):
            other.load_state_dict(state)
    for place in ({"position": 99}, {"position": -1}, {"epoch": "0"}, {"epoch": -1}):
        with pytest.raises(ValueError, match="is no place"):
            ShuffledWindows(shards, 8, 20).load_state_dict(state | place)


@pytest.mark.no_promises
def test_memory_stays_flat(tmp_path):
    """A million tokens (2 MB) from a generator, in shards of 32 kB: what Python and numpy hold stays far below."""
    documents = (np.full(999, i % 50, np.int64) for i in range(1000))
    tracemalloc.start()
    try:
        shards = write_shards(tmp_path / "big", documents, vocabulary=50, end=0, tokens_per_shard=2**14)
        TokenShards(tmp_path / "big")
        windows = ShuffledWindows(shards, b=8, t=100)
        for _ in range(200):
            next(windows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(shards) == 1_000_001 and peak < 1_000_000


def test_a_cut_or_changed_file_is_named(shards):
    path = shards.folder / "tokens-00002.bin"
    data = path.read_bytes()
    for bad, words in [
        (data[:-1], "00002.bin has 599 bytes, but the index says 300 tokens"),
        (data + b"\0\0", "00002.bin has 602 bytes"),
        (b"\1" + data[1:], "00002.bin is damaged"),
    ]:
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=words):
            TokenShards(shards.folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"00002.bin is not there"):
        TokenShards(shards.folder)


@pytest.mark.parametrize("change", [
    {"format": "other"}, {"dtype": "float64"}, {"shards": []}, {"shards": [{"tokens": -1, "sha256": ""}]},
    {"shards": [3]}, {"shards": None}, {"vocabulary": "9"},
])  # fmt: skip
def test_an_index_that_is_none_is_refused(shards, change):
    path = shards.folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match="not an index of shards"):
        TokenShards(shards.folder)


def test_writing_that_was_cut_short_leaves_no_index(tmp_path):
    def documents():
        yield [1] * 10
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "cut", documents(), vocabulary=2, end=0, tokens_per_shard=4)
    with pytest.raises(ValueError, match="cut short"):
        TokenShards(tmp_path / "cut")
    with pytest.raises(ValueError, match="give a new folder"):
        write_shards(tmp_path / "cut", [], vocabulary=2, end=0)


@pytest.mark.parametrize(("documents", "options", "words"), [
    ([[1], [2, 9]], {}, r"documents\[1\] has the id 9"),
    ([[1], [-1]], {}, r"documents\[1\] has the id -1"),
    ([[1.5]], {}, r"documents\[0\] is not a row"),
    ([["a"]], {}, r"documents\[0\] is not a row"),
    ([[1]], {"end": 9}, "end=9"),
    ([[1]], {"vocabulary": 2**33}, "vocabulary=8589934592"),
    ([[1]], {"tokens_per_shard": 0}, "tokens_per_shard=0"),
])  # fmt: skip
def test_what_cannot_be_written_is_refused(tmp_path, documents, options, words):
    with pytest.raises(ValueError, match=words):
        write_shards(tmp_path / "bad", documents, **{"vocabulary": 9, "end": 0} | options)


def test_what_cannot_be_read_is_refused(shards):
    for start, stop in [(-1, 3), (3, 3), (5, 4), (0, 2001)]:
        with pytest.raises(ValueError, match="must lie in order"):
            shards.read(start, stop)
    for sizes, words in [((0, 5), "b=0"), ((1, 0), "t=0"), ((1, 2000), "2000 tokens; one window")]:
        with pytest.raises(ValueError, match=words):
            ShuffledWindows(shards, *sizes)
