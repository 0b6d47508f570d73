"""Tokens on disk as batches on a device: the whole batch, or the share of one of several processes.

    rows of process i among n:   i·b/n … (i + 1)·b/n - 1     of the batch that one process would have read

Every process walks through the same windows and keeps its own rows. So all of them stand at the same place, the place
of one is the checkpoint of all, and a run may go on with another number of processes: the batches stay the same.

Next:    minillm/training/sharding.py
"""

from typing import Any, Self

import torch
from torch import Tensor

from minillm.text.token_shards import ShuffledWindows


class TokenBatches:
    """Batches (b / parts, t + 1) of int64 tokens on `device`, without end; `part` says which rows are ours.

    >>> import tempfile
    >>> from minillm.text.token_shards import write_shards
    >>> folder = tempfile.TemporaryDirectory()
    >>> shards = write_shards(f"{folder.name}/train", [range(1, 12)], vocabulary=12, end=0)
    >>> whole = next(TokenBatches(ShuffledWindows(shards, b=4, t=3)))
    >>> share = next(TokenBatches(ShuffledWindows(shards, b=4, t=3), part=1, parts=2))
    >>> whole.shape, bool((share == whole[2:]).all())
    (torch.Size([4, 4]), True)
    >>> folder.cleanup()
    """

    def __init__(
        self, windows: ShuffledWindows, device: str | torch.device = "cpu", *, part: int = 0, parts: int = 1
    ) -> None:
        if parts < 1 or not 0 <= part < parts or windows.b % parts:
            fits = max(parts, 1) * -(-windows.b // max(parts, 1))
            raise ValueError(f"part={part} of parts={parts} takes no equal share of b={windows.b} rows; b={fits} works")
        self.windows, self.device = windows, torch.device(device)
        self._rows = slice(part * windows.b // parts, (part + 1) * windows.b // parts)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Tensor:
        tokens = torch.from_numpy(next(self.windows)[self._rows])
        if self.device.type != "cuda":
            return tokens.to(self.device)
        return tokens.pin_memory().to(self.device, non_blocking=True)  # the copy runs while the GPU still computes

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch begins: the same for every part."""
        return self.windows.state_dict()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a saved place, of this or of any other number of parts."""
        self.windows.load_state_dict(saved)
