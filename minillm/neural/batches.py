"""From documents to batches: one long stream of tokens, cut at random or in order.

    stream:  end, document, end, document, …, end          batch: (b, t + 1) tokens, neighbours sharing one

Random chunks are independent, as stochastic gradient descent likes it. Consecutive chunks go on where the last ones
ended, which a network that carries its state across batches needs: row i of a batch continues row i of the one before.

Paper:   Mikolov et al. 2010, "Recurrent neural network based language model", §2, trains on text in its order; rows
         side by side: Zaremba et al. 2014, "Recurrent Neural Network Regularization", arXiv:1409.2329, §4.1.
Next:    minillm/neural/feedforward.py
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from minillm.neural.language_model import Tokenizer


def token_stream(documents: Iterable[str], tokenizer: Tokenizer, end: int) -> Tensor:
    """All documents as one int64 tensor (n,), with `end` before the first, between them and after the last.

    >>> from minillm.text.tokenizer import CharTokenizer
    >>> token_stream(["ab", "b"], CharTokenizer.train("ab", special_tokens=["|"]), end=2).tolist()
    [2, 0, 1, 2, 1, 2]
    """
    ids = [end]
    for document in documents:
        ids.extend(tokenizer.encode(document))
        ids.append(end)
    return torch.tensor(ids)


def random_chunks(
    stream_n: Tensor, b: int, t: int, generator: torch.Generator, batches: int | None = None
) -> Iterator[Tensor]:
    """Draw batches (b, t + 1) of chunks that begin anywhere; endless when `batches` is None.

    >>> chunk = next(random_chunks(torch.arange(10), b=2, t=3, generator=torch.Generator().manual_seed(0)))
    >>> chunk.shape, bool((chunk.diff() == 1).all())
    (torch.Size([2, 4]), True)
    """
    _check_sizes(stream_n, 1, b, t)
    offset_t = torch.arange(t + 1)
    drawn = 0
    while batches is None or drawn < batches:
        u_b = torch.rand(b, generator=generator, dtype=torch.float64)  # the one draw that is the same on every machine
        yield stream_n[(u_b * (len(stream_n) - t)).long()[:, None] + offset_t]
        drawn += 1


def consecutive_chunks(stream_n: Tensor, b: int, t: int) -> Iterator[Tensor]:
    """Cut the stream into b rows and walk along them once, t targets at a time; a rest shorter than that is left out.

    `list` of it can be walked again and again; a carried state then goes on from the last chunk to the first.

    >>> [chunk.tolist() for chunk in consecutive_chunks(torch.arange(11), b=2, t=2)]
    [[[0, 1, 2], [5, 6, 7]], [[2, 3, 4], [7, 8, 9]]]
    """
    _check_sizes(stream_n, b, b, t)
    length = (len(stream_n) - 1) // b  # targets in a row
    starts = torch.arange(b)[:, None] * length
    for start in range(0, length - t + 1, t):
        yield stream_n[starts + start + torch.arange(t + 1)]


class InTurn:
    """The batches of a list, in order, again and again; it can tell where it stands and go on from there.

    The other way to have a place in the data is `random_chunks`: there the state of its generator is the place.

    >>> batches = InTurn([10, 20, 30])
    >>> [next(batches) for _ in range(4)], batches.state_dict()
    ([10, 20, 30, 10], {'position': 1, 'batches': 3})
    >>> batches.load_state_dict({"position": 2, "batches": 3})
    >>> next(batches)
    30
    """

    def __init__(self, batches: Sequence[Any]) -> None:
        if not batches:
            raise ValueError("batches=[] holds nothing to give; list(consecutive_chunks(stream_n, b=8, t=32)) works")
        self.batches, self.position = batches, 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        batch = self.batches[self.position]
        self.position = (self.position + 1) % len(self.batches)
        return batch

    def state_dict(self) -> dict[str, int]:
        """Which batch comes next."""
        return {"position": self.position, "batches": len(self.batches)}

    def load_state_dict(self, saved: dict[str, int]) -> None:
        """Go on from a saved place; ValueError if it is a place in another list."""
        position, size = saved.get("position"), len(self.batches)
        if saved.get("batches") != size or not isinstance(position, int) or not 0 <= position < size:
            raise ValueError(f"the saved place {saved} is none in these {size} batches; give those of the saved run")
        self.position = position


def _check_sizes(stream_n: Tensor, rows: int, b: int, t: int) -> None:
    if b < 1 or t < 1:
        raise ValueError(f"b={b!r} and t={t!r} must both be at least 1; b=16, t=64 works")
    if stream_n.ndim != 1 or len(stream_n) < rows * t + 1:
        raise ValueError(
            f"stream_n has shape {tuple(stream_n.shape)}; {rows} row(s) of t={t} targets need one axis of at least "
            f"{rows * t + 1} tokens"
        )
