"""What a GPU does with our kernels and with GPT-2's training step: `python -m tests.benchmarks.gpu` from the root.

First the two roofs of this GPU, measured: a large product in bfloat16, and a large copy. Then each kernel of
`minillm/kernels` beside torch's own, there and back, with the share of the roof that applies: memory for norms, turns
and losses, arithmetic for attention. Then a training step of the GPT-2 with 124 million parameters: as nanoGPT takes it
(autocast, compiled model, fused AdamW, float32 weights), and in our ways, with the same model and the same batch, in
turns within one run. Without a GPU it says so; `--device cpu --tiny` walks through all of it on a CPU, to see that it
runs.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minillm.training.hardware import copy_rate, peak_rate, product_rate
from minillm.transformer.costs import training_flops
from minillm.transformer.decoder import Decoder, DecoderConfig, gpt2

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the benchmark is."""

    rows: int  # of the norm and of the loss
    width: int  # of the norm's rows
    vocabulary: int
    attention: tuple[int, int, int, int]  # b, h, t, k
    model: DecoderConfig
    batch: int  # rows of the training step
    product: int  # side of the matrices whose product measures the roof
    megabytes: int  # of the copy that measures the other
    dtype: torch.dtype
    rounds: int  # of which the median counts
    repeats: int  # calls in a round


# nanoGPT's vocabulary is padded to a multiple of 64, and its batch has 12 rows
LARGE = Sizes(rows=16384, width=4096, vocabulary=50304, attention=(8, 16, 4096, 64), model=gpt2(vocabulary=50304),
              batch=12, product=8192, megabytes=2048, dtype=torch.bfloat16, rounds=7, repeats=10)  # fmt: skip
TINY = Sizes(rows=5, width=24, vocabulary=37, attention=(1, 2, 18, 8),
             model=gpt2(vocabulary=37, context=12, n_layer=1, n_head=2, d_model=8),
             batch=2, product=32, megabytes=1, dtype=torch.float32, rounds=1, repeats=1)  # fmt: skip


def seconds(works: Sequence[Work], device: str, rounds: int, repeats: int) -> list[float]:
    """The median time of a call of each, after two to warm up; rounds in turns, so that all meet the same machine."""
    found: list[list[float]] = [[] for _ in works]
    for work in works:
        work(), work()
    for _ in range(rounds):
        for work, times in zip(works, found, strict=True):
            times.append(_one_round(work, device, repeats))
    return [statistics.median(times) for times in found]


def _one_round(work: Work, device: str, repeats: int) -> float:
    if device != "cuda":
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        return (time.perf_counter() - began) / repeats
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    for _ in range(repeats):
        work()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1000 / repeats


def there_and_back(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Work, Work]:
    """The call alone, and the call with its way back, for the inputs that have a gradient."""
    wanted = [x for x in inputs if x.requires_grad]
    with torch.no_grad():
        pull = torch.randn_like(function(*inputs))

    def there() -> object:
        with torch.no_grad():
            return function(*inputs)

    return there, lambda: torch.autograd.grad(function(*inputs), wanted, pull)


Row = tuple[str, Callable[..., Tensor], dict[str, Any], list[Tensor], float, float]


def kernel_rows(sizes: Sizes, device: str) -> list[Row]:
    """Each kernel: its name, itself, its rivals, inputs, and the least bytes or (negative) operations."""
    from minillm.attention.positions import RoPE
    from minillm.kernels.cross_entropy import cross_entropy
    from minillm.kernels.flash_attention import flash_attention
    from minillm.kernels.rms_norm import rms_norm, rms_norm_plain
    from minillm.kernels.rope import rope, rope_plain

    def draw(*shape: int, learns: bool = True) -> Tensor:
        return torch.randn(shape, device=device, dtype=sizes.dtype).requires_grad_(learns)

    n, d, v, size = sizes.rows, sizes.width, sizes.vocabulary, sizes.dtype.itemsize
    b, h, t, k = sizes.attention
    rotation = RoPE(k).at(torch.arange(t, device=device))
    cos, sin = rotation.cos[:, : k // 2].contiguous(), rotation.sin[:, k // 2 :].contiguous()
    target = torch.randint(v, (n,), device=device)
    compiled = torch.compile if device == "cuda" else lambda f: f
    norm = {"torch": lambda x, w: F.rms_norm(x, (d,), w, 1e-6), "compiled twin": compiled(rms_norm_plain)}
    turn = {"torch": rotation.rotate, "compiled twin": compiled(lambda x: rope_plain(x, cos, sin))}
    loss = {"torch": lambda z: F.cross_entropy(z, target), "compiled": compiled(lambda z: F.cross_entropy(z, target))}
    mixed = {"torch": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)}
    turned, scored, operations = b * h * t * k * size, n * v * size, 2.0 * b * h * t * t * k  # half a square is unseen
    return [
        ("rms_norm", rms_norm, norm, [draw(n, d), draw(d)], 2 * n * d * size, 5 * n * d * size),
        ("rope", lambda x: rope(x, cos, sin), turn, [draw(b, h, t, k)], 2 * turned, 4 * turned),
        ("cross_entropy", lambda z: cross_entropy(z, target), loss, [draw(n, v)], scored, 3 * scored),
        ("flash_attention", lambda q, k, v: flash_attention(q, k, v, True), mixed, [draw(b, h, t, k) for _ in "qkv"],
         -operations, -3.5 * operations),
    ]  # fmt: skip


def report_kernels(sizes: Sizes, device: str, product: float, copy: float) -> None:
    """A line for each kernel, there and there-and-back: its time, its share of the roof, and torch's time over ours."""
    print(f"\n{'kernel':18}{'way':8}{'µs':>10}{'of the roof':>14}   torch's time / ours")
    for name, ours, rivals, inputs, least, least_in_all in kernel_rows(sizes, device):
        works = [there_and_back(by, *inputs) for by in (ours, *rivals.values())]
        for way, need, part in (("there", least, 0), ("both", least_in_all, 1)):
            own, *others = seconds([pair[part] for pair in works], device, sizes.rounds, sizes.repeats)
            share = (need / copy if need > 0 else -need / product) / own
            ratios = "   ".join(f"{rival} {other / own:.2f}" for rival, other in zip(rivals, others, strict=True))
            print(f"{name:18}{way:8}{own * 1e6:10.1f}{share:13.0%}    {ratios}", flush=True)


def report_tiles(sizes: Sizes, device: str) -> None:
    """Flash attention with other tiles, there and back: for whoever wants to choose better ones."""
    from minillm.kernels.attention_tiles import Tiles
    from minillm.kernels.flash_attention import flash_attention

    qkv = [torch.randn(sizes.attention, device=device, dtype=sizes.dtype).requires_grad_() for _ in "qkv"]
    print(f"\n{'tiles of attention':44}{'there, µs':>12}{'both, µs':>12}")
    for held, passing, warps, stages in ((64, 64, 4, 3), (128, 32, 4, 3), (128, 64, 4, 3), (128, 64, 8, 3),
                                         (128, 128, 8, 2), (64, 32, 4, 3), (128, 32, 8, 4)):  # fmt: skip
        tiles = Tiles(held=held, passing=passing, warps=warps, stages=stages)
        try:
            works = there_and_back(lambda *x, tiles=tiles: flash_attention(*x, True, None, tiles), *qkv)
            there, both = seconds(works, device, sizes.rounds, sizes.repeats)
        except Exception as error:  # too large for this GPU's fast memory, say
            print(f"{tiles!s:44}{type(error).__name__:>12}")
            continue
        print(f"{tiles!s:44}{there * 1e6:12.1f}{both * 1e6:12.1f}", flush=True)


def nanogpt_step(model: Decoder, batch: Tensor, device: str) -> Work:
    """A training step as nanoGPT's train.py takes it: autocast, compiled model, all logits, clipping, fused AdamW."""
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), fused=device == "cuda")
    inputs, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()

    def loss_of(tokens: Tensor, wanted: Tensor) -> Tensor:
        logits = model.score(model.hidden_from(model.embedding(tokens)))
        return F.cross_entropy(logits.flatten(0, 1), wanted.flatten())

    compiled = torch.compile(loss_of) if device == "cuda" else loss_of

    def step() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = compiled(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def our_step(model: Decoder, batch: Tensor, device: str, mode: str, rows: int | None) -> Work:
    """Ours: `accelerate` chooses; with `rows`, the trunk is compiled and the head goes through our kernel in pieces."""
    from minillm.training.accelerate import accelerate

    fast = accelerate(model, device=device, compile=mode if device == "cuda" else False, say=None)
    optimizer = fast.adamw(learning_rate=6e-4)
    parameters = list(model.parameters())

    def trunk(tokens: Tensor) -> Tensor:
        return model.hidden_from(model.embedding(tokens))

    compiled = torch.compile(trunk, mode=mode) if device == "cuda" else trunk
    inputs, targets = batch[:, :-1].contiguous(), batch[:, 1:].flatten()

    def loss_in_pieces() -> Tensor:
        from minillm.kernels.cross_entropy import linear_cross_entropy

        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            hidden_btd = compiled(inputs)
            return linear_cross_entropy(hidden_btd.flatten(0, 1), model.score.weight, targets, rows=rows or 1)

    def step() -> Tensor:
        loss = fast.loss(batch) if rows is None else loss_in_pieces()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=device == "cuda")
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def report_steps(sizes: Sizes, device: str, product: float) -> None:
    """The training step in each way: tokens a second, share of the roof, memory, and how much faster than nanoGPT's."""
    torch.set_float32_matmul_precision("high")  # nanoGPT allows TF32 too
    t, b = sizes.model.context, sizes.batch
    batch = torch.randint(sizes.model.vocabulary, (b, t + 1), generator=torch.Generator().manual_seed(0)).to(device)
    ways: dict[str, Callable[[Decoder], Work]] = {
        "as nanoGPT": lambda model: nanogpt_step(model, batch, device),
        "accelerate": lambda model: our_step(model, batch, device, "default", None),
        "accelerate, max-autotune": lambda model: our_step(model, batch, device, "max-autotune", None),
        "and the head in pieces": lambda model: our_step(model, batch, device, "default", 4096),
        "the same, max-autotune": lambda model: our_step(model, batch, device, "max-autotune-no-cudagraphs", 4096),
    }
    flops, peak = training_flops(sizes.model, t, b), peak_rate(device) or product
    steps: dict[str, tuple[Work, float, float]] = {}
    for name, make in ways.items():
        before = torch.cuda.memory_allocated() if device == "cuda" else 0
        try:
            step = make(Decoder(sizes.model).to(device))  # the same first parameters for all
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            loss = float(step())  # at once: a CUDA graph writes over what it returned
            step()
        except Exception as error:  # one way that this torch cannot go does not stop the others
            print(f"{name}: {type(error).__name__}: {str(error)[:300]}")
            continue
        most = torch.cuda.max_memory_allocated() - before if device == "cuda" else 0
        steps[name] = (step, loss, most / 2**30)
    times = seconds([step for step, _, _ in steps.values()], device, sizes.rounds, sizes.repeats)
    print(f"\n{'step of GPT-2':28}{'ms':>9}{'tokens/s':>12}{'MFU':>7}{'memory':>10}{'faster':>9}{'loss':>8}")
    for (name, (_, loss, gigabytes)), own in zip(steps.items(), times, strict=True):
        print(f"{name:28}{own * 1e3:9.2f}{b * t / own:12,.0f}{flops / own / peak:7.1%}{gigabytes:7.2f} GB"
              f"{times[0] / own:8.2f}x{loss:8.3f}")  # fmt: skip
    losses = [loss for _, loss, _ in steps.values()]
    if max(losses) - min(losses) > 0.02:
        print("BEWARE: the first losses differ by more than rounding explains: these are not the same steps")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; without a GPU, say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU takes in seconds")
    parser.add_argument("--tiles", action="store_true", help="try other tiles for the attention as well")
    parser.add_argument("--only", choices=("kernels", "steps"), help="one of the two parts")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA GPU answers here, so there is nothing to measure; --device cpu --tiny shows that the code runs")
        return 0
    if chosen.device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        print("on a CPU the kernels need TRITON_INTERPRET=1 in the environment")
        return 2
    sizes, device = TINY if chosen.tiny else LARGE, chosen.device
    product = product_rate(sizes.dtype, sizes.product, device)
    copy = copy_rate(sizes.megabytes, device)
    name = torch.cuda.get_device_name(0) if device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}")
    print(
        f"roofs, measured: {product / 1e12:.1f} TFLOP/s for products in {sizes.dtype}, {copy / 1e9:.0f} GB/s for copies"
    )
    if peak := peak_rate(device):
        print(f"the data sheet says {peak / 1e12:.0f} TFLOP/s; MFU is measured against that")
    if chosen.only != "steps":
        report_kernels(sizes, device, product, copy)
        if chosen.tiles:
            report_tiles(sizes, device)
    if chosen.only != "kernels":
        report_steps(sizes, device, product)
    return 0


if __name__ == "__main__":
    sys.exit(main())
