"""A cache of keys and values: a token that was read need not be read again.

    work for token n:   without a cache n tokens are read again, with it 1;  memory: 2 · layers · g · k numbers a token

Paper:   Shazeer 2019, "Fast Transformer Decoding", §2.4 and §3, arXiv:1911.02150; the window that rolls:
         Jiang et al. 2023, "Mistral 7B", §2, arXiv:2310.06825.
Names:   `capacity` tokens have room; `length` tokens were read; with `window`, only the last ones are kept.
Differs: memory is taken once, when the first keys come; a window does not wrap around but moves back to the
         start of its room when that is full, so keys stay in order.
Next:    minillm/attention/multihead.py
"""

import torch
from torch import Tensor


class KVCache:
    """Keys and values of one layer, (b, heads, tokens so far, head width) each.

    `capacity` is the number of tokens that fit. With `window` there is no limit: each `append` returns what the new
    tokens may need (window - 1 tokens before them) and forgets the rest.

    >>> cache, new = KVCache(capacity=8), torch.ones(1, 2, 3, 4)
    >>> cache.append(new, new)[0].shape, cache.append(new, new)[0].shape, cache.length
    (torch.Size([1, 2, 3, 4]), torch.Size([1, 2, 6, 4]), 6)
    """

    def __init__(self, capacity: int, window: int | None = None) -> None:
        for name, value in (("capacity", capacity), ("window", window)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value!r} must be at least 1 token; {name}=128 works")
        self.capacity, self.window = capacity, window
        self.length = 0  # tokens read so far
        self._used = 0  # tokens kept; without a window as many
        self._key: Tensor | None = None
        self._value: Tensor | None = None

    def append(self, k_bhsk: Tensor, v_bhsk: Tensor) -> tuple[Tensor, Tensor]:
        """Add new keys and values; return those that are kept and the new ones, in order, as views."""
        new = k_bhsk.shape[2]
        key, value = self._room(k_bhsk, v_bhsk)
        end = self._used + new
        key[:, :, self._used : end] = k_bhsk
        value[:, :, self._used : end] = v_bhsk
        self._used, self.length = end, self.length + new
        return key[:, :, :end], value[:, :, :end]

    def contents(self) -> tuple[Tensor, Tensor]:
        """The keys and values that are kept, as views. Raises ValueError when nothing was appended yet."""
        if self._key is None or self._value is None:
            raise ValueError("length=0: the cache is empty; append keys and values first")
        return self._key[:, :, : self._used], self._value[:, :, : self._used]

    def select(self, rows: Tensor) -> None:
        """Keep these rows (int64, in this order, also repeated): what a beam search does with its hypotheses."""
        key, value = self.contents()
        self._key, self._value = self._copy(key[rows]), self._copy(value[rows])

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens: what speculative decoding does with tokens that were refused."""
        kept = self._used - (self.length - length)
        if not 0 <= length <= self.length or kept < 0:
            raise ValueError(f"length={length} must be from {self.length - self._used} to {self.length}, what is kept")
        self.length, self._used = length, kept

    def _room(self, k_bhsk: Tensor, v_bhsk: Tensor) -> tuple[Tensor, Tensor]:
        """The memory, with free places for the new tokens behind what is kept."""
        new = k_bhsk.shape[2]
        if self.window is None and self.length + new > self.capacity:
            raise ValueError(
                f"capacity={self.capacity} tokens: {self.length} are kept and {new} more do not fit; "
                f"KVCache(capacity={self.length + new}) works"
            )
        if self._key is None or self._value is None:
            self._key, self._value = self._empty(k_bhsk, new), self._empty(v_bhsk, new)
        elif self.window is not None and self._used + new > self._key.shape[2]:
            kept = min(self._used, self.window - 1)
            key, value = (x[:, :, self._used - kept : self._used].clone() for x in (self._key, self._value))
            if kept + new > self._key.shape[2]:
                self._key, self._value = self._empty(k_bhsk, kept + new), self._empty(v_bhsk, kept + new)
            self._key[:, :, :kept], self._value[:, :, :kept], self._used = key, value, kept
        return self._key, self._value

    def _empty(self, x_bhsk: Tensor, at_least: int) -> Tensor:
        b, h, _, k = x_bhsk.shape
        return x_bhsk.new_empty(b, h, max(self.capacity, at_least), k)

    def _copy(self, x_bhsk: Tensor) -> Tensor:
        room = self._empty(x_bhsk, x_bhsk.shape[2])
        room[:, :, : x_bhsk.shape[2]] = x_bhsk
        return room
