"""How long a training step of our recurrent and window models takes, beside bare torch in the same run.

    python -m tests.benchmarks.neural          from the root of the repository

A step is loss, gradient and AdamW's update on one batch. The bare model is an embedding, `torch.nn.LSTM` (or RNN, GRU)
and a linear layer, with nothing of ours around them. Times are medians of rounds in which all take turns, after a
warm-up of each: CPU seconds of one thread, so that what else the machine does hardly counts.
Goal: RecurrentLM with the fused cell at most 1.3 times the bare model, for each cell.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from minillm.neural.feedforward import FeedForwardConfig, FeedForwardLM
from minillm.neural.recurrent import CellName, RecurrentConfig, RecurrentLM

B, T, V, D, F = 16, 64, 512, 64, 128
ROUNDS, GOAL = 15, 1.3
BARE: dict[CellName, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Bare(nn.Module):
    """The shortest recurrent language model that torch allows."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embedding, self.score = nn.Embedding(V, D), nn.Linear(F, V)
        self.cells = kind(D, F, batch_first=True)

    def loss(self, batch: Tensor) -> Tensor:
        """Mean nats per token."""
        logits = self.score(self.cells(self.embedding(batch[:, :-1]))[0])
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def stepper(model: nn.Module, loss: Callable[[Tensor], Tensor], batch: Tensor) -> Callable[[], None]:
    """One training step of a model as a function to time."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optimiser.zero_grad()
        loss(batch).backward()
        optimiser.step()

    return step


def seconds(work: dict[str, Callable[[], None]]) -> dict[str, float]:
    """The median CPU seconds of each piece of work, all run in turn so that a noisy moment meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(ROUNDS + 1):
        for name, function in work.items():
            start = time.process_time()
            function()
            if turn:  # the first is the warm-up
                times[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Print the times and the ratios."""
    torch.set_num_threads(1)
    batch = torch.randint(V, (B, T + 1), generator=torch.Generator().manual_seed(0))
    work: dict[str, Callable[[], None]] = {}
    for cell, kind in BARE.items():
        bare = Bare(kind)
        work[f"{cell} bare torch"] = stepper(bare, bare.loss, batch)
        for fused in (True, False):
            model = RecurrentLM(RecurrentConfig(vocabulary=V, d_model=D, hidden=F, cell=cell, fused=fused))
            work[f"{cell} {'fused' if fused else 'plain'}"] = stepper(model, model.loss, batch)
    for direct in (True, False):
        window = FeedForwardLM(FeedForwardConfig(vocabulary=V, window=5, d_model=D, hidden=F, direct=direct))
        work[f"window, direct={direct}"] = stepper(window, window.loss, batch)
    took = seconds(work)
    print(f"one training step on {B} x {T} tokens, vocabulary {V}, {D} -> {F}; CPU seconds, medians of {ROUNDS}")
    for name, value in took.items():
        print(f"  {name:<22} {value * 1000:7.1f} ms  {B * T / value:8.0f} tokens/s")
    for cell in BARE:
        ratio = took[f"{cell} fused"] / took[f"{cell} bare torch"]
        print(
            f"{cell}: fused {ratio:.2f} x bare (goal: at most {GOAL}): {'reached' if ratio <= GOAL else 'MISSED'}; ",
            end="",
        )
        print(f"plain {took[f'{cell} plain'] / took[f'{cell} bare torch']:.2f} x")


if __name__ == "__main__":
    main()
