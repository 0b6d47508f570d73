"""Training on two cores, as ratios within one run: `python -m tests.benchmarks.training PART` from the root.

    goal       time to a loss of 1.90 on characters: the course's recipe against the usual teaching loop
    ablation   what each ingredient of the recipe gives, as a table
    step       one step with identical mathematics, each means alone (--size 4x128 or 6x384)
    roofline   the share of the measured matrix product that a 6x384 step reaches
    memory     the peak memory of that step, and with activation checkpointing
    optimizer  AdamW and the loop beside torch's, on a small network

Each ratio is the median over neighbouring rounds, so that other work on the machine falls on both sides. The text for
`goal` and `ablation` is tinyshakespeare (public domain), which is not part of the course: --text says where it lies.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from minillm.training.loop import train
from minillm.training.optim import AdamW
from tests.benchmarks import training_goal, training_step


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


def optimizer(width: int, steps: int, rounds: int) -> None:
    """Print what our optimiser and our loop cost beside torch's."""
    model, batch = Network(width), torch.randn(32, width)
    model.loss(batch).backward()
    ours = AdamW(model.parameters(), 1e-4)

    def repeated(optimizer: AdamW | torch.optim.Optimizer) -> Callable[[], None]:
        def work() -> None:
            for _ in range(steps):
                optimizer.step()

        return work

    for name, foreach in (("foreach=False", False), ("torch's default", None)):
        theirs = torch.optim.AdamW(model.parameters(), 1e-4, foreach=foreach)
        print(f"AdamW.step, ours / {name}: {ratio(repeated(ours), repeated(theirs), rounds):.2f}")

    def bare() -> None:
        for _ in range(steps):
            ours.zero_grad()
            loss = model.loss(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            ours.step()
            loss.item()

    loop = lambda: train(model, [batch], steps=steps, optimizer=ours, clip=1.0)
    print(f"train, ours / the bare lines: {ratio(loop, bare, rounds):.2f}")


def main() -> None:
    """Print the ratios of one part, or of all but the long ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("goal", "ablation", "step", "roofline", "memory", "optimizer")
    parser.add_argument("part", choices=parts)
    parser.add_argument("--text", type=Path, default=Path("../shared/data/tinyshakespeare.txt"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=110, help="of the recipe")
    parser.add_argument("--base-steps", type=int, default=2000, help="of the teaching loop")
    parser.add_argument("--size", choices=[*training_step.SIZES], default=None)
    parser.add_argument("--width", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    a = parser.parse_args()
    sizes = [*training_step.SIZES] if a.size is None else [a.size]
    if a.part == "goal":
        training_goal.goal(a.text, a.seeds, a.steps, a.base_steps)
    elif a.part == "ablation":
        training_goal.ablation(a.text, a.seeds, a.steps)
    elif a.part == "step":
        for size in sizes:
            training_step.steps(size, a.rounds)
    elif a.part == "roofline":
        training_step.roofline(a.size or "6x384", a.rounds)
    elif a.part == "memory":
        training_step.memory(a.size or "6x384")
    else:
        optimizer(a.width, 30, a.rounds)


if __name__ == "__main__":
    main()
