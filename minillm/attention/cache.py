"""A cache of keys and values: a token that was read need not be read again.

    token n costs the reading of n tokens without a cache, of 1 with it; memory: 2 · layers · heads · k numbers a token

Paper:   Shazeer 2019, "Fast Transformer Decoding", §2.4 and §3, arXiv:1911.02150; the window that rolls:
         Jiang et al. 2023, "Mistral 7B", §2, arXiv:2310.06825.
Names:   `capacity` tokens have room; `length` tokens were read; with `window`, only the last ones are kept.
Differs: memory is taken once, when the first keys come. Mistral's window wraps around; ours moves back to the start of
         its room when that is full, so that keys stay in order and are a view.
Next:    minillm/attention/multihead.py
"""

from dataclasses import dataclass

from torch import Tensor


class KVCache:
    """Keys and values of one layer, (b, heads, tokens so far, head width) each.

    `capacity` is the number of tokens that fit. With `window` there is no limit: only what later tokens may look at
    stays, the `window - 1` tokens before them. What `append` returns are views, good until the next change.

    >>> import torch
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
        self._used = 0  # tokens in memory; without a window as many
        self._key: Tensor | None = None
        self._value: Tensor | None = None

    def append(self, k_bhsk: Tensor, v_bhsk: Tensor) -> tuple[Tensor, Tensor]:
        """Add new keys and values; return what they may look at: the kept ones and they themselves, in order.

        Raises ValueError when they do not fit, or have other rows, heads or widths than those before.
        """
        new = k_bhsk.shape[2]
        key, value = self._room(k_bhsk, v_bhsk)
        begin, end = self._used, self._used + new
        key[:, :, begin:end] = k_bhsk
        value[:, :, begin:end] = v_bhsk
        self._used, self.length = end, self.length + new
        first = 0 if self.window is None else max(0, begin - self.window + 1)
        return key[:, :, first:end], value[:, :, first:end]

    def contents(self) -> tuple[Tensor, Tensor]:
        """The keys and values in memory. Raises ValueError when nothing was appended yet."""
        if self._key is None or self._value is None:
            raise ValueError("length=0: the cache is empty; append keys and values first")
        return self._key[:, :, : self._used], self._value[:, :, : self._used]

    def select(self, rows: Tensor) -> None:
        """Keep these rows, int64, in this order, also repeated: what a beam search does with its hypotheses.

        >>> import torch
        >>> cache, new = KVCache(capacity=8), torch.arange(3.0).view(3, 1, 1, 1)
        >>> _ = cache.append(new, new)
        >>> cache.select(torch.tensor([2, 2, 0, 1]))
        >>> cache.contents()[0].flatten()
        tensor([2., 2., 0., 1.])
        """
        key, value = (x[rows] for x in self.contents())
        if self._key is None or self._value is None or self._key.shape[0] != key.shape[0]:
            self._key, self._value = self._empty(key, self._used), self._empty(value, self._used)
        self._key[:, :, : self._used], self._value[:, :, : self._used] = key, value

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens: what speculative decoding does with tokens that were refused."""
        used = self._used - (self.length - length)
        needed = length if self.window is None else min(length, self.window - 1)
        if length > self.length or used < needed or length < 0:
            raise ValueError(
                f"length={length} of {self.length} tokens: going back needs the tokens before it in memory, "
                f"which holds the last {self._used}; length={self.length} works"
            )
        self.length, self._used = length, used

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
            self._forget(self.window - 1, new)
        b, h, _, k = self._key.shape
        if k_bhsk.shape != (b, h, new, k) or v_bhsk.shape != (b, h, new, k):
            raise ValueError(
                f"keys of shape {tuple(k_bhsk.shape)} and values of shape {tuple(v_bhsk.shape)} do not continue what "
                f"is kept; {(b, h, new, k)} works for both"
            )
        return self._key, self._value

    def _forget(self, keep: int, new: int) -> None:
        """Move the last `keep` tokens to the start of the memory, and see that `new` ones fit behind them."""
        key, value = (x[:, :, max(0, self._used - keep) :].clone() for x in self.contents())
        self._used = key.shape[2]
        if self._key is None or self._value is None or self._used + new > self._key.shape[2]:
            self._key, self._value = self._empty(key, self._used + new), self._empty(value, self._used + new)
        self._key[:, :, : self._used], self._value[:, :, : self._used] = key, value

    def _empty(self, x_bhsk: Tensor, at_least: int) -> Tensor:
        """Memory like `x`, for `capacity` tokens: with a window at least twice that, so that moving back is rare."""
        b, h, _, k = x_bhsk.shape
        room = self.capacity if self.window is None else max(self.capacity, 2 * self.window)
        return x_bhsk.new_empty(b, h, max(room, at_least), k)


@dataclass
class DecoderCache:
    """The keys and values of every block, and how many of each row's first places are only filling.

    Rows of unequal length stand side by side with their ends aligned: filled up on the left. `seen` holds the
    embedded tokens, (b, 1, s, d), where a model mixes each with the one before.
    """

    layers: list[KVCache]
    pad_b: Tensor | None = None
    seen: KVCache | None = None

    @property
    def length(self) -> int:
        """Places read so far, filling included."""
        return self.layers[0].length

    def select(self, rows: Tensor) -> None:
        """Keep these rows (int64, in this order, also repeated), as a beam search does."""
        for layer in self._all():
            layer.select(rows)
        self.pad_b = None if self.pad_b is None else self.pad_b[rows]

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` places, as speculative decoding does."""
        for layer in self._all():
            layer.rewind(length)

    def _all(self) -> list[KVCache]:
        return self.layers if self.seen is None else [*self.layers, self.seen]
