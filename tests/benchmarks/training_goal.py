"""How long until the loss is 1.90: the course's recipe beside the usual teaching loop, and what each ingredient gives.

Characters of tinyshakespeare, the last tenth held out and measured whole, each model in its own context.
"""

import multiprocessing
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from minillm.neural.batches import random_chunks
from minillm.training.accelerate import accelerate
from minillm.training.loop import train
from minillm.training.recipe import Recipe
from tests.benchmarks import nanogpt

GOAL = 1.90
ABLATIONS = {
    "the recipe": {},
    "four blocks of 128 with 4 heads": {"n_layer": 4, "d_model": 128, "n_head": 4},
    "4 heads in each block instead of 9": {"n_head": 4},
    "AdamW instead of Muon for the matrices": {"muon": False},
    "learned positions instead of ALiBi": {"positions": "learned"},
    "RoPE instead of ALiBi": {"positions": "rope"},
    "GELU instead of ReLU²": {"mlp": "gelu"},
    "LayerNorm instead of RMSNorm": {"norm": "layer"},
    "with norms of queries and keys": {"qk_norm": True},
    "no share of the embedding before": {"smear": False},
    "blocks do not begin at zero": {"zero_out": False},
    "the rate stays as it is": {"to_zero": False},
    "a smaller rate for the embeddings (0.005)": {"embedding_rate": 0.005},
}


def characters(path: Path) -> tuple[Tensor, Tensor, int]:
    """The text as numbers: what is learned from, what is held out, and how many characters there are."""
    text = path.read_text("utf-8")
    numbers = {character: i for i, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([numbers[character] for character in text])
    cut = int(0.9 * len(tokens))
    return tokens[:cut], tokens[cut:], len(numbers)


@torch.no_grad()
def held_out(logits, tokens: Tensor, context: int) -> float:
    """Mean nats of the whole held-out part, read in pieces of `context`."""
    rows = (len(tokens) - 1) // context
    x, y = tokens[: rows * context].view(rows, context), tokens[1 : rows * context + 1].view(rows, context)
    parts = [F.cross_entropy(logits(a).float().flatten(0, 1), c.flatten(), reduction="sum")
             for a, c in zip(x.split(128), y.split(128), strict=True)]  # fmt: skip
    return float(sum(parts)) / (rows * context)


def fast(recipe: Recipe, tokens: Tensor, bf16: bool | None = None) -> tuple[torch.nn.Module, float]:
    """One run of a recipe: the model, and the seconds from the first parameter to the last step."""
    began = time.perf_counter()
    model = recipe.model()
    fast = accelerate(model, device="cpu", bf16=bf16, compile=False, say=None)
    batches = random_chunks(tokens, recipe.batch, recipe.context, torch.Generator().manual_seed(recipe.seed))
    train(fast, batches, steps=recipe.steps, optimizer=recipe.optimizer(model), schedule=recipe.schedule)
    return model, time.perf_counter() - began


def usual(path: Path, steps: int, seed: int) -> tuple[float, float]:
    """One run of the teaching loop: its loss on what is held out, and its seconds."""
    learn, held, vocabulary = characters(path)
    settings = nanogpt.Settings(vocabulary=vocabulary, steps=steps)
    began = time.perf_counter()
    base = nanogpt.run(learn, settings, seed)
    seconds = time.perf_counter() - began
    return held_out(base.logits, held, settings.block), seconds


def in_its_own_process(work, *arguments):
    """What `work` gives; it finds torch and the allocator as they come, whatever `accelerate` has changed here."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def goal(path: Path, seeds: int, steps: int, base_steps: int) -> None:
    """Print loss and seconds of both for each seed, and the ratio of their times."""
    learn, held, vocabulary = characters(path)
    ratios, reached = [], 0
    for seed in range(seeds):
        recipe = Recipe(vocabulary=vocabulary, steps=steps, seed=seed)
        model, ours = fast(recipe, learn)
        our_loss = held_out(model, held, recipe.context)
        loss, theirs = in_its_own_process(usual, path, base_steps, seed)
        ratios.append(theirs / ours)
        reached += our_loss <= GOAL
        print(f"seed {seed}: recipe {our_loss:.4f} in {ours:.1f} s ({model.n_parameters:,} parameters), teaching loop "
              f"{loss:.4f} in {theirs:.1f} s: {ratios[-1]:.1f} times", flush=True)  # fmt: skip
    ratio = statistics.median(ratios)
    print(f"1/{ratio:.1f} of the time (median); {GOAL} was reached with {reached} of {seeds} seeds")


def ablation(path: Path, seeds: int, steps: int) -> None:
    """Print the table: each ingredient taken away or exchanged, the others as they are, at equal steps."""
    learn, held, vocabulary = characters(path)
    print("| change | loss | seconds |\n|---|---|---|")
    for name, change in ABLATIONS.items():
        losses, seconds = [], []
        for seed in range(seeds):
            recipe = replace(Recipe(vocabulary=vocabulary, steps=steps, seed=seed), **change)
            model, took = fast(recipe, learn)
            losses.append(held_out(model, held, recipe.context))
            seconds.append(took)
        print(f"| {name} | {statistics.mean(losses):.3f} | {statistics.mean(seconds):.1f} |", flush=True)
