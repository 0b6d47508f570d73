"""Token ids on disk, read where they lie, in an order that is shuffled and can be taken up again anywhere.

    stream:  end, document, end, document, …, end        window i: tokens i·t … (i + 1)·t, neighbours sharing one
    place p of epoch e reads window P(p), where P is a permutation made from (seed, e)

Text for pretraining is larger than memory. Its ids go once into files of two or four bytes a token (shards); training
maps the files, and the operating system fetches what is looked at. The permutation is a small cipher, worked out place
by place and never stored: six Feistel rounds over an even number of bits, repeated while the result is no window.
So the next batch depends on (seed, epoch, place) alone. These few numbers resume a run exactly, in no time.

Paper:   Luby and Rackoff 1988, "How to Construct Pseudorandom Permutations from Pseudorandom Functions"; repeating
         until the result fits: Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains", §3 ("cycle-walking").
Differs: the round function only has to look random, not to withstand an attack. An epoch reads every window once; the
         rest of the stream, shorter than a window, is left out. A batch may end one epoch and begin the next.
Next:    minillm/statistical/information.py
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from minillm.core.files import write_atomically
from minillm.text.token_files import read_json

FORMAT = "minillm-shards-1"
INDEX = "index.json"
_ROUNDS = 6
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def write_shards(
    folder: str | os.PathLike[str],
    documents: Iterable[Sequence[int]],
    *,
    vocabulary: int,
    end: int,
    tokens_per_shard: int = 2**24,
) -> "TokenShards":
    """Write documents (lists of ids below `vocabulary`) into a new folder, with `end` before, between and after them.

    Memory holds one shard at a time, so `documents` may be an endless supply of generators. The index is written last:
    a folder that has one is whole. Raises ValueError for an id that is not in the vocabulary, and for a folder in use.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shards = write_shards(Path(folder, "train"), [[5, 6], [7]], vocabulary=9, end=8)
    ...     shards.read(0, len(shards)).tolist(), str(shards.dtype)
    ([8, 5, 6, 8, 7, 8], 'uint16')
    """
    folder = Path(folder)
    if not (isinstance(vocabulary, int) and 1 <= vocabulary <= 2**32 and 0 <= end < vocabulary):
        raise ValueError(f"end={end!r} must be one of vocabulary={vocabulary!r} ids (at most 2³²); try end=0")
    if tokens_per_shard < 1:
        raise ValueError(f"tokens_per_shard={tokens_per_shard!r} must be at least 1; 2**24 makes files of 32 or 64 MB")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} has files in it; give a new folder, so that no old shard is taken for a new one")
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype("<u2" if vocabulary <= 2**16 else "<u4")
    listed: list[dict[str, Any]] = []
    for tokens in _filled(_checked(documents, vocabulary, end), tokens_per_shard):
        data = tokens.astype(dtype).tobytes()
        write_atomically(folder / _file_name(len(listed)), data)
        listed.append({"tokens": len(tokens), "sha256": hashlib.sha256(data).hexdigest()})
    index = {"format": FORMAT, "dtype": dtype.name, "vocabulary": vocabulary, "shards": listed}
    write_atomically(folder / INDEX, json.dumps(index, indent=1))
    return TokenShards(folder, verify=False)


class TokenShards:
    """The tokens that `write_shards` wrote, as one long row that stays on disk.

    Opening compares every file with the index: its size, and with `verify` its SHA-256 (about a second a gigabyte).
    Whatever does not agree is a ValueError that names the file. `fingerprint` is the SHA-256 of the index.
    """

    def __init__(self, folder: str | os.PathLike[str], *, verify: bool = True) -> None:
        self.folder = Path(folder)
        if not (path := self.folder / INDEX).is_file():
            raise ValueError(f"{path} is not there: no shards, or the writing of them was cut short; use write_shards")
        index = read_json(path)
        dtype: Any = index.get("dtype")
        listed: Any = index.get("shards")
        sound = index.get("format") == FORMAT and dtype in ("uint16", "uint32") and isinstance(listed, list) and listed
        if not sound or not all(_is_entry(entry) for entry in listed) or type(index.get("vocabulary")) is not int:
            raise ValueError(f"{path} is not an index of shards (format {FORMAT!r}); write the shards again")
        self.vocabulary: int = index["vocabulary"]
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
        self._parts = [self._open(i, entry["tokens"]) for i, entry in enumerate(listed)]
        self._starts = np.cumsum([0, *(entry["tokens"] for entry in listed)])
        for i, entry in enumerate(listed if verify else ()):
            with open(self.folder / _file_name(i), "rb") as stream:
                if (found := hashlib.file_digest(stream, "sha256").hexdigest()) != entry["sha256"]:
                    raise ValueError(
                        f"{self.folder / _file_name(i)} is damaged: its SHA-256 begins {found[:12]}, but in the index "
                        f"{entry['sha256'][:12]}; write the shards again"
                    )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens `start` to `stop - 1` as int64 (n,), wherever shards begin and end."""
        if not 0 <= start < stop <= len(self):
            raise ValueError(f"start={start}, stop={stop} must lie in order within 0 … {len(self)} tokens")
        first, last = np.searchsorted(self._starts, [start, stop - 1], side="right") - 1
        parts = [
            self._parts[i][max(start - self._starts[i], 0) : stop - self._starts[i]] for i in range(first, last + 1)
        ]
        return np.concatenate(parts).astype(np.int64)

    def _open(self, i: int, tokens: int) -> np.ndarray:
        path = self.folder / _file_name(i)
        size = path.stat().st_size if path.is_file() else None
        if size != tokens * self.dtype.itemsize:
            what = "is not there" if size is None else f"has {size} bytes"
            raise ValueError(
                f"{path} {what}, but the index says {tokens} tokens of {self.dtype.itemsize} bytes; it was cut short "
                "or changed, write the shards again"
            )
        return np.memmap(path, dtype=self.dtype, mode="r")


class ShuffledWindows:
    """Batches (b, t + 1) of windows, shuffled anew in each epoch, without end; int64, ready for `torch.from_numpy`.

    `state_dict()` after a batch tells where the next one begins, in plain numbers; a new object that is given them goes
    on with exactly the batches that would have come. The batch size may change on the way, `seed` and `t` may not.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> shards = write_shards(Path(folder.name, "train"), [range(1, 12)], vocabulary=12, end=0)
    >>> windows = ShuffledWindows(shards, b=2, t=3)
    >>> len(windows), next(windows).shape  # 13 tokens are 12 targets: 4 windows
    (4, (2, 4))
    >>> state = windows.state_dict()
    >>> again = ShuffledWindows(shards, b=2, t=3)
    >>> again.load_state_dict(state)
    >>> bool((next(again) == next(windows)).all())
    True
    >>> folder.cleanup()
    """

    def __init__(self, shards: TokenShards, b: int, t: int, seed: int = 0) -> None:
        if b < 1 or t < 1 or seed < 0:
            raise ValueError(f"b={b!r}, t={t!r} must be at least 1 and seed={seed!r} at least 0; try b=16, t=64")
        if len(shards) < t + 1:
            raise ValueError(f"the shards have {len(shards)} tokens; one window of t={t} targets needs {t + 1}")
        self.shards, self.b, self.t, self.seed = shards, b, t, seed
        self.epoch = self.position = 0

    def __len__(self) -> int:
        """Windows in an epoch."""
        return (len(self.shards) - 1) // self.t

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> np.ndarray:
        start_n = self._next_windows() * self.t
        return np.stack([self.shards.read(start, start + self.t + 1) for start in start_n.tolist()])

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch begins, and what it is a place in."""
        return {"epoch": self.epoch, "position": self.position} | self._belongs_to()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a saved place; ValueError if it is a place in other shards, windows or orders than these."""
        for name, ours in self._belongs_to().items():
            if saved.get(name) != ours:
                raise ValueError(f"the saved {name} is {saved.get(name)!r}, here it is {ours!r}: that is another order")
        epoch, position = saved.get("epoch"), saved.get("position")
        if not (type(epoch) is int and type(position) is int and epoch >= 0 and 0 <= position < len(self)):
            raise ValueError(f"epoch={epoch!r}, position={position!r} is no place among {len(self)} windows; try 0, 0")
        self.epoch, self.position = epoch, position

    def _belongs_to(self) -> dict[str, Any]:
        return {"seed": self.seed, "t": self.t, "shards": self.shards.fingerprint}

    def _next_windows(self) -> np.ndarray:
        """The numbers of the next b windows, and a step on; where an epoch ends, the next one begins."""
        drawn: list[np.ndarray] = []
        missing = self.b
        while missing:
            stop = min(self.position + missing, len(self))
            drawn.append(permuted(np.arange(self.position, stop), len(self), (self.seed, self.epoch)))
            missing -= stop - self.position
            self.epoch, self.position = (self.epoch, stop) if stop < len(self) else (self.epoch + 1, 0)
        return np.concatenate(drawn)


def permuted(place_n: np.ndarray, size: int, seeds: Sequence[int]) -> np.ndarray:
    """Where a permutation of 0 … size - 1, named by `seeds`, takes each of the places; the same on every machine.

    >>> sorted(permuted(np.arange(10), 10, [0]).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    keys = np.random.SeedSequence(list(seeds)).generate_state(_ROUNDS, np.uint64)
    half = np.uint64(max(3, ((size - 1).bit_length() + 1) // 2))  # bits; with fewer than 3, rounds cannot mix well
    image_n = _encrypted(np.asarray(place_n).astype(np.uint64), half, keys)
    while (outside := image_n >= size).any():  # a cycle that leaves 0 … size - 1 comes back to it
        image_n[outside] = _encrypted(image_n[outside], half, keys)
    return image_n.astype(np.int64)


def _encrypted(x: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    """Feistel rounds: each XORs one half with a function of the other, so each can be undone."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = x >> half, x & mask
    for key in keys:
        left, right = right, left ^ (_scrambled(right + key) & mask)
    return (left << half) | right


def _scrambled(x: np.ndarray) -> np.ndarray:
    """64 bits that look unlike those of x + 1 (the finaliser of SplitMix64; Steele, Lea and Flood 2014)."""
    x = x * _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def _checked(documents: Iterable[Sequence[int]], vocabulary: int, end: int) -> Iterator[np.ndarray]:
    """`end`, then each document with `end` behind it."""
    yield np.array([end])
    for number, document in enumerate(documents):
        ids = np.asarray([*document, end])
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(f"documents[{number}] is not a row of whole numbers; encode it with a tokenizer first")
        if (wrong := ids[(ids < 0) | (ids >= vocabulary)]).size:
            raise ValueError(
                f"documents[{number}] has the id {wrong[0]}, not in vocabulary={vocabulary}: 0 to {vocabulary - 1}"
            )
        yield ids


def _filled(rows: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same tokens in rows of `size`, the last one shorter."""
    waiting: list[np.ndarray] = []
    count = 0
    for row in rows:
        while count + len(row) >= size:
            cut = size - count
            yield np.concatenate([*waiting, row[:cut]])
            waiting, count, row = [], 0, row[cut:]
        if len(row):
            waiting.append(row)
            count += len(row)
    if waiting:
        yield np.concatenate(waiting)


def _file_name(i: int) -> str:
    return f"tokens-{i:05d}.bin"


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and type(entry.get("tokens")) is int
        and entry["tokens"] > 0
        and isinstance(entry.get("sha256"), str)
    )
