"""What our optimiser and our loop cost beside torch's: run `python -m tests.benchmarks.training` from the root.

Same run, same parameters: a step of AdamW against `torch.optim.AdamW(foreach=False)` and torch's default, and the whole
loop against the bare lines (loss, backward, clip, step) on the same small network. Each figure is the median of the
ratios of neighbouring rounds, so that other work on the machine falls on both sides.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from minillm.training.loop import train
from minillm.training.optim import AdamW


class Network(nn.Module):
    """Some twenty parameters of the sizes of a small recurrent network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(width, width) for _ in range(10)])

    def loss(self, batch_bd: torch.Tensor) -> torch.Tensor:
        """The mean square of what comes out."""
        return self.layers(batch_bd).square().mean()


def ratio(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> float:
    """The median of ours / theirs over neighbouring rounds."""
    found = []
    for _ in range(rounds):
        seconds = []
        for work in (ours, theirs):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        found.append(seconds[0] / seconds[1])
    return statistics.median(found)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=200)
    parser.add_argument("--steps", type=int, default=30, help="steps per round")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    model, batch = Network(arguments.width), torch.randn(32, arguments.width)
    model.loss(batch).backward()
    ours = AdamW(model.parameters(), 1e-4)

    def steps(optimizer: AdamW | torch.optim.Optimizer) -> Callable[[], None]:
        def work() -> None:
            for _ in range(arguments.steps):
                optimizer.step()

        return work

    for name, foreach in (("foreach=False", False), ("torch's default", None)):
        theirs = torch.optim.AdamW(model.parameters(), 1e-4, foreach=foreach)
        print(f"AdamW.step, ours / {name}: {ratio(steps(ours), steps(theirs), arguments.rounds):.2f}")

    def bare() -> None:
        for _ in range(arguments.steps):
            ours.zero_grad()
            loss = model.loss(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            ours.step()
            loss.item()

    loop = lambda: train(model, [batch], steps=arguments.steps, optimizer=ours, clip=1.0)
    print(f"train, ours / the bare lines: {ratio(loop, bare, arguments.rounds):.2f}")


if __name__ == "__main__":
    main()
