"""What the fast paths of attention bring, as ratios within one run.

    python -m tests.benchmarks.attention       from the root of the repository

Times are medians of CPU seconds of one thread, all pieces of a group taken in turn. Goals:
training   our heads with the fused twin no slower than 1.15 times `torch.nn.MultiheadAttention`
decoding   one query, 8 heads on 2, 1024 keys: at most 0.75 of `enable_gqa`, and of keys repeated
overhead   a block that writes one token at most 5 times its bare matrix products (on a CPU torch
           has no kernel for RMSNorm: it runs as eight small ones)
cache      the 256th token at most a tenth of reading 256 again
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.attention.cache import KVCache
from minillm.attention.dot_product import attend, attend_fused, share_heads
from minillm.attention.multihead import AttentionConfig, MultiHeadAttention
from minillm.attention.positions import RoPE
from minillm.attention.tiled import attend_tiled
from minillm.transformer.block import Block, BlockConfig

Work = dict[str, Callable[[], Any]]


def compare(title: str, work: Work, rounds: int = 15, repeat: int = 1) -> None:
    """Print the median of each piece of work, and its ratio to the first."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, function in work.items():
            start = time.process_time()
            for _ in range(repeat):
                function()
            if turn:  # the first is the warm-up
                times[name].append((time.process_time() - start) / repeat)
    median = {name: statistics.median(found) for name, found in times.items()}
    first = next(iter(median.values()))
    print(title)
    for name, value in median.items():
        print(f"    {name:<34} {1e6 * value:10.1f} µs   {value / first:6.2f}")


def training() -> None:
    """Forward and back, causal."""
    b, t, d, h = 8, 128, 128, 4
    x = torch.randn(b, t, d, requires_grad=True)
    ours, few = (MultiHeadAttention(AttentionConfig(d_model=d, n_head=h, n_kv_head=g)) for g in (None, 1))
    torchs, mask = nn.MultiheadAttention(d, h, batch_first=True), torch.ones(t, t, dtype=torch.bool).triu(1)

    def step(function: Callable[[], Tensor]) -> Callable[[], Any]:
        return lambda: function().sum().backward()

    compare(
        f"one layer, forward and back, {b} x {t} tokens, {h} heads of {d // h}",
        {
            "torch.nn.MultiheadAttention": step(
                lambda: torchs(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0]
            ),
            "ours, fused": step(lambda: ours(x, causal=True)),
            "ours, plain": step(lambda: ours(x, causal=True, fused=False)),
            "ours, fused, one key head": step(lambda: few(x, causal=True)),
        },
    )


@torch.no_grad()
def decoding() -> None:
    """One query against many keys in a cache, each shared by four heads."""
    h, g, s, k = 8, 2, 1024, 32
    q, room = torch.randn(1, h, 1, k), torch.randn(2, 1, g, 2 * s, k)
    key, value = room[:, :, :, :s]
    repeated = lambda: F.scaled_dot_product_attention(q, share_heads(key, h), share_heads(value, h))
    compare(
        f"one query, {h} heads on {g}, {s} keys",
        {
            "torch, enable_gqa": lambda: F.scaled_dot_product_attention(q, key, value, enable_gqa=True),
            "torch, keys repeated": repeated,
            "attend_fused": lambda: attend_fused(q, key, value),
            "attend": lambda: attend(q, key, value),
            "attend_tiled": lambda: attend_tiled(q, key, value),
        },
        repeat=20,
    )


@torch.no_grad()
def overhead() -> None:
    """A block of the Llama kind writes one token after 200."""
    d, h, k = 256, 8, 32
    attention = AttentionConfig(d_model=d, n_head=h, n_kv_head=2, bias=False)
    block = Block(BlockConfig(attention=attention, d_hidden=2 * d, mlp="swiglu", norm="rms", bias=False)).eval()
    x, rotation, cache = torch.randn(1, 1, d), RoPE(k).at(torch.tensor([200])), KVCache(256)
    cache.append(torch.randn(1, 2, 200, k), torch.randn(1, 2, 200, k))
    matrices = [p for p in block.parameters() if p.ndim == 2]
    inputs = {p.shape[1]: torch.randn(1, 1, p.shape[1]) for p in matrices}

    def write() -> None:
        block(x, rope=rotation, cache=cache, causal=True)
        cache.rewind(200)

    def multiply() -> None:
        for p in matrices:
            F.linear(inputs[p.shape[1]], p)

    whole = torch.randn(1, 256, d)
    again = {
        "the token alone, with a cache": write,
        "256 tokens again": lambda: block(whole, rope=RoPE(k), causal=True),
    }
    compare("a block writes one token, width 256", {"its matrix products": multiply, "the block": write}, repeat=20)
    compare("the same against no cache", again, repeat=5)


def main() -> None:
    """Print all groups."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    training()
    decoding()
    overhead()


if __name__ == "__main__":
    main()
