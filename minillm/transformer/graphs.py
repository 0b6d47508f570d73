"""Fixed shapes for decoding: every step does the same operations, so a GPU can record them once and replay them.

    one token for a small model: hundreds of launches of a few microseconds each; replayed as a CUDA graph: one launch

A growing cache changes a shape at every step. Here keys and values stand in memory of one size, a new token is written
at a place that is itself a tensor, and a mask hides what is not there yet. More is read than needed, and nothing waits.

Paper:   the cache is Shazeer's, 2019, arXiv:1911.02150, §2.4; CUDA graphs: NVIDIA, "CUDA C++ Programming Guide".
Names:   `place` is where the next token goes; `capacity` the most tokens of a row.
Differs: nothing else than `CachedReader` in generate.py draws from; on a CPU the same steps run without a recording.
Next:    minillm/transformer/generate.py
"""

import torch
from torch import Tensor

from minillm.attention.cache import DecoderCache, KVCache
from minillm.neural.language_model import check_tokens
from minillm.transformer.decoder import Decoder


class FixedCache(KVCache):
    """Keys and values of one layer in memory of one size; `place`, int64 (new,), says where the next ones go.

    The first `shown` places are given back: those of the prompts when they are read, and all from then on.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.place, self.shown = torch.zeros(1, dtype=torch.int64), capacity

    def append(self, k_bhsk: Tensor, v_bhsk: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values at their places; return what is shown, with zeros where nothing is yet."""
        if self._key is None or self._value is None:
            b, h, _, k = k_bhsk.shape
            self._key, self._value = (k_bhsk.new_zeros(b, h, self.capacity, k) for _ in range(2))
        self._key.index_copy_(2, self.place, k_bhsk)
        self._value.index_copy_(2, self.place, v_bhsk)
        return self._key[:, :, : self.shown], self._value[:, :, : self.shown]


class GraphReader:
    """Reads the prompts once, then one token of each row at a time, in fixed shapes; the logits are `Reader`'s.

    >>> from minillm.transformer.decoder import gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=12, n_layer=1, n_head=2, d_model=4))
    >>> reader = GraphReader(model, max_new_tokens=5)
    >>> reader.read([], [[1, 2, 3], [4]]).shape, reader.read([5, 6], [[1, 2, 3, 5], [4, 6]]).shape
    (torch.Size([2, 9]), torch.Size([2, 9]))
    """

    def __init__(self, model: Decoder, max_new_tokens: int) -> None:
        if model.config.smear:
            raise ValueError("smear=True needs the embedding before, which is not kept here; graph=False works")
        self.model, self.max_new_tokens = model, max_new_tokens
        self.device = model.embedding.weight.device
        self.cache: DecoderCache | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    @torch.inference_mode()
    def read(self, new: list[int], rows: list[list[int]]) -> Tensor:
        """The logits (b, v) of what follows each row; `new` holds what was drawn since the last call."""
        if self.cache is None:
            return self._begin(rows)
        if max(new) >= self.model.vocabulary:
            check_tokens(torch.tensor([new]), self.model.vocabulary)
        self.token.copy_(torch.tensor(new)[:, None], non_blocking=True)
        self.place.add_(1)
        if self.device.type != "cuda":
            return self._step()
        if self.graph is None:
            self._record()
        assert self.graph is not None
        self.graph.replay()
        return self.logits.clone()  # the next replay writes over them

    def _begin(self, rows: list[list[int]]) -> Tensor:
        longest = max(map(len, rows))
        tokens_bt = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        check_tokens(tokens_bt, self.model.vocabulary)
        self.capacity = min(longest + self.max_new_tokens, self.model.config.context)
        self.pad = torch.tensor([[longest - len(row)] for row in rows], device=self.device)  # (b, 1)
        self.every = torch.arange(self.capacity, device=self.device)
        self.token = torch.zeros(len(rows), 1, dtype=torch.int64, device=self.device)
        self.place = torch.tensor([longest - 1], device=self.device)
        self.cache = DecoderCache([FixedCache(self.capacity) for _ in range(self.model.config.n_layer)])
        place = torch.arange(longest, device=self.device)
        logits_bv = self._logits(tokens_bt.to(self.device), place, longest)
        for layer in self.cache.layers:  # one that does not grow: ALiBi's row is shifted, which changes nothing
            layer.length = self.capacity - 1
        return logits_bv

    def _logits(self, tokens_bt: Tensor, place: Tensor, shown: int) -> Tensor:
        """The logits after tokens that stand at `place`, (t,): what each may look at is counted from there."""
        assert self.cache is not None
        for layer in self.cache.layers:
            assert isinstance(layer, FixedCache)
            layer.place, layer.shown = place, shown
        behind = place[:, None] - self.every[:shown]  # (t, shown)
        may_look = behind >= 0
        if self.model.config.window is not None:
            may_look = may_look & (behind < self.model.config.window)
        may_look = may_look & (self.every[:shown] >= self.pad)[:, None, None]  # (b, 1, t, shown)
        positions = (place - self.pad).clamp(min=0)
        embedded = self.model.embedding(tokens_bt)
        return self.model.score(self.model.hidden_from(embedded, self.cache, may_look, positions)[:, -1])

    def _step(self) -> Tensor:
        return self._logits(self.token, self.place, self.capacity)

    def _record(self) -> None:
        """Take the step a few times on the side, which writes the same numbers to the same places; then record it."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = self._step()
