"""One training step with the same mathematics as the teaching loop's: each means alone, the roofline, the memory."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from minillm.training.accelerate import accelerate
from minillm.training.hardware import choose_compile, product_rate
from minillm.training.loop import train
from minillm.transformer.costs import training_flops
from minillm.transformer.decoder import Decoder, DecoderConfig
from tests.benchmarks import nanogpt

SIZES = {
    "4x128": nanogpt.Settings(bias=True),
    "6x384": nanogpt.Settings(bias=True, n_layer=6, n_head=6, width=384, block=256, batch=8),
}
MEANS: dict[str, dict] = {
    "nothing": {"bf16": False, "compile": False, "fused": False},
    "fused optimiser": {"bf16": False, "compile": False, "fused": True},
    "bf16": {"bf16": True, "compile": False, "fused": False},
    "compile": {"bf16": False, "compile": True, "fused": False},
    "bf16 and fused optimiser": {"bf16": True, "compile": False, "fused": True},
    "all three": {"bf16": True, "compile": True, "fused": True},
}


def config(s: nanogpt.Settings) -> DecoderConfig:
    """Our decoder with the mathematics of the teaching loop's model."""
    return DecoderConfig(vocabulary=s.vocabulary, context=s.block, n_layer=s.n_layer, n_head=s.n_head, d_model=s.width,
                         mlp="gelu")  # fmt: skip


@torch.no_grad()
def copy_weights(theirs: nanogpt.NanoGPT, ours: Decoder) -> None:
    """The teaching loop's parameters into our decoder."""
    ours.embedding.weight.copy_(theirs.wte.weight)
    ours.positions.weight.copy_(theirs.wpe.weight)
    for a, b in zip(theirs.h, ours.blocks, strict=True):
        pairs = [(a.ln_1, b.attention_norm), (a.ln_2, b.mlp_norm), (a.attn.c_proj, b.attention.out), (a.c_fc, b.mlp.up),
                 (a.c_proj, b.mlp.down)]  # fmt: skip
        for one, other in pairs:
            other.weight.copy_(one.weight)
            other.bias.copy_(one.bias)
        maps = (b.attention.query, b.attention.key, b.attention.value)
        for part, weight, bias in zip(maps, a.attn.c_attn.weight.chunk(3), a.attn.c_attn.bias.chunk(3), strict=True):
            part.weight.copy_(weight)
            part.bias.copy_(bias)
    ours.norm.weight.copy_(theirs.ln_f.weight)
    ours.norm.bias.copy_(theirs.ln_f.bias)


def pair(size: str) -> tuple[nanogpt.NanoGPT, Decoder, torch.Tensor]:
    """Both models with the same parameters, and a batch (b, t + 1)."""
    s = SIZES[size]
    torch.manual_seed(0)
    theirs, ours = nanogpt.NanoGPT(s), Decoder(config(s))
    copy_weights(theirs, ours)
    return theirs, ours, torch.randint(s.vocabulary, (s.batch, s.block + 1))


def our_steps(model: Decoder, batch: torch.Tensor, means: dict, count: int = 1) -> Callable[[], list]:
    """A function that takes `count` steps by our loop, with some means."""
    fast = accelerate(model, device="cpu", say=None, **means)
    optimizer = fast.adamw(learning_rate=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    return lambda: train(fast, [batch], steps=count, optimizer=optimizer, clip=1.0)


def their_steps(model: nanogpt.NanoGPT, batch: torch.Tensor, count: int = 1) -> Callable[[], list]:
    """The same by the teaching loop."""
    optimizer, x, y = model.optimizer(1e-3), batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
    return lambda: [nanogpt.step(model, optimizer, x, y) for _ in range(count)]


def steps(size: str, rounds: int) -> None:
    """Print, for each means, how many times faster a step is than the teaching loop's, measured in turn."""
    theirs, ours, batch = pair(size)
    count = 5 if size == "4x128" else 1
    base = their_steps(theirs, batch, count)
    tokens = batch[:, 1:].numel() * count
    base()
    for name, means in MEANS.items():
        if means["compile"] and (can := choose_compile("cpu")).value == "no":
            print(f"{size}  {name:26} left out: {can.why}")
            continue
        work = our_steps(ours, batch, means, count)
        began = time.perf_counter()
        work()
        first, seconds = time.perf_counter() - began, []
        for _ in range(rounds):
            seconds.append((_timed(base), _timed(work)))
        ratio = statistics.median(a / b for a, b in seconds)
        mine = statistics.median(b for _, b in seconds)
        print(f"{size}  {name:26} {ratio:.2f} times the teaching loop, {tokens / mine:,.0f} tokens/s "
              f"(the first call took {first:.1f} s)", flush=True)  # fmt: skip


def roofline(size: str = "6x384", rounds: int = 5) -> None:
    """Print which share of this machine's measured matrix product a step reaches, in either format."""
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        _, ours, batch = pair(size)
        roof = product_rate(dtype)
        work = our_steps(ours, batch, {"bf16": dtype == torch.bfloat16, "compile": False, "fused": True})
        work()
        took = min(_timed(work) for _ in range(rounds))
        s = SIZES[size]
        reached = training_flops(config(s), s.block, s.batch) / took
        print(f"{size}  {name}: {reached / 1e9:.0f} of {roof / 1e9:.0f} GFLOP/s: {reached / roof:.0%} of the roofline",
              flush=True)  # fmt: skip


def memory(size: str = "6x384") -> None:
    """Print what two steps need at most above what the process had before them, each way in a process of its own."""
    for checkpointing in (False, True):
        for bf16 in (False, True):
            code = f"from tests.benchmarks.training_step import peak; print(peak({size!r}, {bf16}, {checkpointing}))"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            name = f"{'bfloat16' if bf16 else 'float32'}{', with activation checkpointing' if checkpointing else ''}"
            print(f"{size}  {name}: {float(done.stdout):.0f} MB", flush=True)


def peak(size: str, bf16: bool, checkpointing: bool, batch: int | None = None) -> float:
    """Megabytes at the peak of two steps, beyond those before the model was made."""
    s = SIZES[size]
    SIZES[size] = replace(s, batch=batch or s.batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours = Decoder(config(SIZES[size]))
    tokens = torch.randint(s.vocabulary, (SIZES[size].batch, s.block + 1))
    our_steps(ours, tokens, {"bf16": bf16, "compile": False, "fused": True, "checkpointing": checkpointing}, 2)()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
