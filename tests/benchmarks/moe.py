"""What sorting the choices of a mixture of experts brings, as ratios within one run.

    python -m tests.benchmarks.moe             from the root of the repository

8 experts, 2 for each of 4,096 tokens, each expert as wide as makes two of them one usual SwiGLU. Times are medians of
CPU seconds of one thread, all ways in turn. Compared with the default (`auto`) are the twin, which has a mask for each
expert and each place among the choices (`dispatch_loop`); the grouped product, where this torch has one; a loop over
the experts alone, each of which gathers its tokens at once, as published models have it; all experts for all tokens;
and the experts alone on equal pieces that nobody had to choose or carry, which no way of dispatch can undercut.
Goals: in training (forward and back), at widths up to 64, the twin about 1.5 times the default, all experts at least
2 times at every width. The wider the experts, the more of every way is the same matrix products, and the nearer all
ways that choose come to the last line: where the twin is below 1.5 times that line, no dispatch can reach 1.5.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minillm.transformer.moe import MoE, MoEConfig
from minillm.transformer.moe_dispatch import DISPATCH

TOKENS, EXPERTS, CHOSEN = 4096, 8, 2
WIDTHS = ((32, 48), (64, 88), (128, 176), (256, 344))  # of the stream, inside an expert


def dense(experts: Any, x_nd: Tensor, chosen_nk: Tensor, weight_nk: Tensor) -> Tensor:
    """Every expert for every token, and a weight of 0 for those that were not chosen."""
    weight_ne = torch.zeros(len(x_nd), len(experts)).scatter(1, chosen_nk, weight_nk)
    y_nd = torch.zeros_like(x_nd)
    for number, expert in enumerate(experts):
        y_nd = y_nd + weight_ne[:, number, None] * expert(x_nd[None])[0]
    return y_nd


def one_pass(experts: Any, x_nd: Tensor, chosen_nk: Tensor, weight_nk: Tensor) -> Tensor:
    """A loop over the experts alone, each of which gathers all its tokens at once, as published models have it."""
    y_nd = torch.zeros_like(x_nd)
    for number, expert in enumerate(experts):
        row, choice = torch.where(chosen_nk == number)
        y_nd.index_add_(0, row, weight_nk[row, choice, None] * expert(x_nd[None, row])[0])
    return y_nd


def no_dispatch(experts: Any, x_nd: Tensor, chosen_nk: Tensor, weight_nk: Tensor) -> Tensor:
    """As many tokens for every expert, those that lie there already: the arithmetic, and another sum."""
    k = chosen_nk.shape[1]
    pieces = torch.cat([x_nd] * k).chunk(len(experts))
    made = torch.cat([expert(piece[None])[0] for expert, piece in zip(experts, pieces, strict=True)])
    return sum(made.chunk(k), weight_nk.sum() * 0)  # the router has its gradient, as in all other ways


def compare(title: str, work: dict[str, Callable[[], Any]], rounds: int = 9) -> None:
    """Print the median of each piece of work, and its ratio to the first."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, function in work.items():
            start = time.process_time()
            function()
            if turn:  # the first is the warm-up
                times[name].append(time.process_time() - start)
    median = {name: statistics.median(found) for name, found in times.items()}
    first = next(iter(median.values()))
    print(title)
    for name, value in median.items():
        print(f"    {name:<34} {1e3 * value:8.1f} ms   {value / first:6.2f}")


def one_width(d_model: int, d_hidden: int) -> None:
    """All ways on one layer, forward and then also back."""
    layer = MoE(MoEConfig(d_model=d_model, d_hidden=d_hidden, n_expert=EXPERTS, top_k=CHOSEN))
    x_btd, back = torch.randn(8, TOKENS // 8, d_model), torch.randn(8, TOKENS // 8, d_model)
    names = ["auto", "loop"] + (["grouped_mm"] if hasattr(F, "grouped_mm") else [])

    def run(name: str) -> Tensor:
        layer.dispatch = name  # pyright: ignore[reportAttributeAccessIssue]
        return layer(x_btd)

    def step(name: str) -> None:
        run(name).backward(back)

    @torch.no_grad()
    def forward(name: str) -> None:
        run(name)

    ways = {name: name for name in names} | {"loop, one pass an expert": "one_pass", "all experts": "dense"}
    ways["no dispatch, the experts alone"] = "no_dispatch"
    x_btd.requires_grad_()
    shape = f"{d_model} wide, experts {d_hidden} wide, {TOKENS} tokens"
    compare(f"forward and back, {shape}", {way: lambda name=name: step(name) for way, name in ways.items()})
    compare(f"forward, {shape}", {way: lambda name=name: forward(name) for way, name in ways.items()})
    layer.dispatch = "auto"
    layer(x_btd)
    print(f"    auto ran {layer.ran}")


def main() -> None:
    """Print all widths."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    DISPATCH.update({"dense": dense, "one_pass": one_pass, "no_dispatch": no_dispatch})
    for widths in WIDTHS:
        one_width(*widths)


if __name__ == "__main__":
    main()
