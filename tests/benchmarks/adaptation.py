"""Memory and time of full fine-tuning and of the methods that train little, as ratios to full within one run.

    python -m tests.benchmarks.adaptation       from the root of the repository

One decoder at two sizes, AdamW, float32, the same batch for all. Bytes are counted (`minillm.training.memory`) and are
the same on every machine: what gradients and optimiser hold, and the peak of a step. Seconds are medians of CPU time of
one thread, all methods in turn. To be expected: gradients and optimiser shrink as the share that learns; the peak by
less, because the frozen matrices and the activations stay, and by the less the longer the batch; a step is spared the
gradients of the frozen matrices and their optimiser, and pays for what was added. Nothing is a hundred times faster.
"""

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from minillm.adaptation import adapter_sizes
from minillm.adaptation.adapters import PromptTuned, add_bottlenecks, add_prefix, tune_biases
from minillm.adaptation.lora import add_lora
from minillm.training.memory import step_memory
from minillm.training.optim import AdamW
from minillm.transformer.decoder import Decoder, DecoderConfig, gpt2

RANK, WIDTH, LENGTH, HIDDEN, ROUNDS = 8, 16, 16, 64, 7
EVERY_MAP = ("query", "key", "value", "out", "up", "down")
METHODS = {
    "full": "full",
    "LoRA, queries and values": "LoRA",
    "LoRA, every map": None,
    "bottleneck": "bottleneck",
    "prefix tuning": "prefix tuning, while it learns",
    "P-Tuning v2": "P-Tuning v2",
    "prompt tuning": "prompt tuning",
    "BitFit": "BitFit",
}  # and its row in `adapter_sizes.table`


def adapted(name: str, base: Decoder) -> Any:
    """A copy of the base, ready to be trained by this method."""
    model: Any = copy.deepcopy(base)
    generator = torch.Generator().manual_seed(1)
    if name.startswith("LoRA"):
        wanted = EVERY_MAP if "every" in name else ("query", "value")
        add_lora(model, [f"blocks.*.{place}" for place in wanted], RANK, generator=generator)
    elif name == "bottleneck":
        add_bottlenecks(model, WIDTH, generator=generator)
    elif name in ("prefix tuning", "P-Tuning v2"):
        add_prefix(model, LENGTH, d_hidden=HIDDEN if name == "prefix tuning" else None, generator=generator)
    elif name == "prompt tuning":
        model = PromptTuned(model, LENGTH, generator=generator)
    elif name == "BitFit":
        tune_biases(model)
    return model


def learning(model: nn.Module) -> AdamW:
    """An optimiser of what learns."""
    return AdamW([p for p in model.parameters() if p.requires_grad], learning_rate=1e-4)


def seconds(steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median CPU time of each piece of work, all in turn; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(ROUNDS + 1):
        for name, step in steps.items():
            began = time.process_time()
            step()
            if turn:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(found) for name, found in times.items()}


def compare(config: DecoderConfig, b: int) -> None:
    """Print the table of one size."""
    base = Decoder(config)
    t = config.context - LENGTH  # the learned prompt needs the room
    batch = torch.randint(config.vocabulary, (b, t + 1), generator=torch.Generator().manual_seed(0))
    models = {name: adapted(name, base) for name in METHODS}
    optimizers = {name: learning(model) for name, model in models.items()}
    memory = {name: step_memory(m, optimizers[name], lambda m=m: m.loss(batch)) for name, m in models.items()}

    def step(name: str) -> None:
        optimizers[name].zero_grad()
        models[name].loss(batch).backward()
        optimizers[name].step()

    took = seconds({name: lambda name=name: step(name) for name in METHODS})
    by_formula = {row.name: row.trainable for row in adapter_sizes.table(
        config, rank=RANK, width=WIDTH, length=LENGTH, d_hidden=HIDDEN)}  # fmt: skip
    full = memory["full"]
    print(f"{config.n_layer} layers {config.d_model} wide, {base.n_parameters:,} parameters, {b} × {t} tokens a step")
    print(f"    {'':26}{'learns':>9}{'gradients + optimiser':>26}{'peak':>21}{'time of a step':>19}")
    for name, found in memory.items():
        trainable = sum(p.numel() for p in models[name].parameters() if p.requires_grad)
        formula = METHODS[name]
        assert formula is None or by_formula[formula] == trainable, name
        state, state_of_full = found.gradients + found.optimizer, full.gradients + full.optimizer
        print(f"    {name:26}{trainable / base.n_parameters:9.2%}"
              f"{state / 1e6:12.3f} MB{state / state_of_full:10.2%} "
              f"{found.peak / 1e6:12.2f} MB{found.peak / full.peak:6.2f}"
              f"{1e3 * took[name]:11.1f} ms{took[name] / took['full']:6.2f}")  # fmt: skip


def main() -> None:
    """Print both sizes, the larger one also for a short batch."""
    torch.set_num_threads(1)
    compare(gpt2(vocabulary=512, context=80, n_layer=4, n_head=4, d_model=128), b=8)
    large = gpt2(vocabulary=2048, context=144, n_layer=6, n_head=6, d_model=384)
    compare(large, b=4)
    compare(large, b=1)


if __name__ == "__main__":
    main()
