"""How fast we generate, beside the transformers package and beside reading everything again, in the same run.

    python -m tests.benchmarks.generation [--tokens 256] [--rounds 3]        from the root of the repository

The model has GPT-2's shape (124M parameters, random, float32); prompts of one token, greedy, on two threads. All take
turns, and a ratio is the median of the ratios of the rounds, so that a noisy moment meets both. Reading everything
again is timed at every sixteenth length and multiplied by sixteen. `packed` is what `generate` does with a model so
large by itself, packing included; `plain` is its readable twin, bf16 rounds the weights and is not part of the goal.
Goal, at batch 1: at least 1.3 times the transformers package, and 8 times reading everything again.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from minillm.statistical.sampling import sample_next
from minillm.transformer.decoder import Decoder, gpt2
from minillm.transformer.generate import CachedReader, generate
from minillm.transformer.packed import PackedLinear, pack

GOAL_PACKAGE, GOAL_UNCACHED, STRIDE = 1.3, 8.0, 16


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock seconds of one call: what a reader waits."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def theirs(model: GPT2LMHeadModel, x: Tensor, new: int) -> Tensor:
    """Greedy generation by the transformers package, with its cache."""
    found = model.generate(
        x,
        attention_mask=torch.ones_like(x),
        do_sample=False,
        min_new_tokens=new,
        max_new_tokens=new,
        pad_token_id=0,
        use_cache=True,
    )
    assert isinstance(found, Tensor) and found.shape[1] == x.shape[1] + new
    return found


def plain(model: Decoder, x: Tensor, new: int) -> None:
    """What `generate` does with a small model: cached, nothing packed."""
    reader, rows, drawn = CachedReader(model, 1), x.tolist(), []  # so few tokens are not worth packing
    reader.max_new_tokens = new
    for _ in range(new):
        drawn = sample_next(reader.read(drawn, rows), 0.0).tolist()


@torch.inference_mode()
def uncached(model: Decoder, batch: int, new: int) -> float:
    """Seconds for `new` tokens when everything is read again for each, from a sample of the lengths."""
    lengths = range(STRIDE // 2, new + 1, STRIDE)
    inputs = [torch.zeros(batch, length, dtype=torch.int64) for length in lengths]
    return sum(seconds(lambda x=x: model.score(model.hidden(x)[:, -1])) for x in inputs) * new / len(lengths)


@torch.inference_mode()
def products(model: nn.Module, last: nn.Module, batch: int, rounds: int = 7) -> tuple[float, float]:
    """Seconds that the matrix products of one step take, alone: those of the blocks, and the last one, the scores."""
    maps = [m for m in model.modules() if isinstance(m, nn.Linear | Conv1D | PackedLinear) and m is not last]
    width = [m.nx if isinstance(m, Conv1D) else m.weight.shape[1] for m in maps]
    inputs = {n: torch.randn(batch, n) for n in {*width, last.weight.shape[1]}}
    blocks = [seconds(lambda: [m(inputs[n]) for m, n in zip(maps, width, strict=True)]) for _ in range(rounds)]
    scores = [seconds(lambda: last(inputs[last.weight.shape[1]])) for _ in range(rounds)]
    return statistics.median(blocks), statistics.median(scores)


def bandwidth() -> float:
    """Bytes per second at which this machine reads memory, from a sum over half a gigabyte."""
    numbers = torch.ones(125_000_000)
    return numbers.numel() * 4 / min(seconds(numbers.sum) for _ in range(7))


def report(batch: int, new: int, rounds: int, models: tuple[Decoder, Decoder, GPT2LMHeadModel]) -> None:
    """Time all alternatives at one batch size and print what came out."""
    ours, half, package = models
    x = torch.zeros(batch, 1, dtype=torch.int64)
    work: dict[str, Callable[[], object]] = {
        "transformers, cached": lambda: theirs(package, x, new),
        "minillm, packed": lambda: generate(ours, x, new, 0.0),
        "minillm, plain": lambda: plain(ours, x, new),
        "minillm, packed, sampled (top 50)": lambda: generate(ours, x, new, 1.0, torch.Generator(), top_k=50),
        "minillm, packed, bf16 weights": lambda: generate(half, x, new, 0.0),
    }
    took: dict[str, list[float]] = {name: [] for name in [*work, "minillm, uncached"]}
    theirs(package, x, 2), generate(ours, x, 2, 0.0), generate(half, x, 2, 0.0)  # warm up
    for turn in range(rounds):
        for name, function in work.items():
            took[name].append(seconds(function))
        if turn == 0:
            took["minillm, uncached"].append(uncached(ours, batch, new))
    print(f"\nbatch {batch}, 1 → {new + 1} tokens, {rounds} rounds: best and median")
    for name, found in took.items():
        best, median = min(found), statistics.median(found)
        print(f"  {name:<34} {batch * new / best:7.1f} {batch * new / median:7.1f} tokens/s", end="")
        print(f"  {median / new * 1000:7.1f} ms a step")
    ratios = [a / b for a, b in zip(took["transformers, cached"], took["minillm, packed"], strict=True)]
    faster, again = statistics.median(ratios), took["minillm, uncached"][0] / took["minillm, packed"][0]
    verdicts = ["reached" if a >= b else "MISSED" for a, b in ((faster, GOAL_PACKAGE), (again, GOAL_UNCACHED))]
    said = [
        f" (goal {g}: {v})" if batch == 1 else "" for g, v in zip((GOAL_PACKAGE, GOAL_UNCACHED), verdicts, strict=True)
    ]
    print(f"  packed is {faster:.2f} x transformers{said[0]}, and {again:.1f} x reading everything again{said[1]}")
    packed = pack(ours)
    for name, model, last in (
        ("transformers, cached", package, package.lm_head),
        ("minillm, plain", ours, ours.score),
        ("minillm, packed", packed, packed.score),
    ):
        step, (blocks, scores) = statistics.median(took[name]) / new, products(model, last, batch)
        print(f"  {name:<21} products of the blocks {blocks * 1000:5.1f} ms a step, of the scores", end="")
        print(f" {scores * 1000:5.1f} ms, all else {(step - blocks - scores) * 1000:5.1f} ms")


def main() -> None:
    """Print the rates, the ratios, and what the memory of this machine allows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    chosen = parser.parse_args()
    torch.set_num_threads(2)
    ours, package = Decoder(gpt2()).eval(), GPT2LMHeadModel(GPT2Config()).eval()
    half = pack(Decoder(gpt2()).bfloat16())
    size, rate = 4 * (ours.n_parameters - ours.config.context * ours.config.d_model), bandwidth()
    print(f"a token reads {size / 1e6:.0f} MB of weights; memory gives {rate / 1e9:.1f} GB/s: ", end="")
    print(f"at batch 1 at most {rate / size:.1f} tokens/s in float32, {size / rate * 1000:.1f} ms a step")
    print(
        "Where the package is slow: its matrices lie as they were trained, the last of them in the slower way for one"
    )
    print("row, and Python stands between the steps. oneDNN keeps ours; a step is little but products (see below).")
    for batch in chosen.batches:
        report(batch, chosen.tokens, chosen.rounds, (ours, half, package))


if __name__ == "__main__":
    main()
