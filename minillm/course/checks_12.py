"""Checks of chapter 12: a roofline, attention's bytes, a rounded number, a gradient over its logits, good tiles.

The answers take and give plain numbers and lists. The open exercise is judged by a model of cost, `_cost`, which the
exercise prints in full: bytes that are moved, and a start for every tile.

Next:    minillm/course/grading.py
"""

import itertools
import math
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from minillm.course.checks import Wrong, call, expect, expect_close, expect_equal, expect_inputs_kept, expect_type

START, GOAL = 20_000, 1.1  # of the open exercise: what a tile's start costs, in bytes; how near to the best


def _return(got: object, otherwise: str) -> str:
    """The hint for an answer of the wrong kind."""
    return "is there a `return`?" if got is None else otherwise


def _pair(got: Any, what: str, hint: str) -> tuple[Any, Any]:
    expect(isinstance(got, tuple | list) and len(got) == 2, f"{what} gave {got!r:.80}", _return(got, hint))
    return got[0], got[1]


def roofline(answer: Callable[[float, float, float, float], tuple[float, str]]) -> None:
    """`roofline(operations, moved, rate, bandwidth)`: the least seconds, and what is waited for."""
    cases = [(800.0, 100.0, 100.0, 10.0), (1200.0, 100.0, 100.0, 10.0), (1000.0, 100.0, 100.0, 10.0)]
    chance = random.Random()
    cases += [(*(10 ** chance.uniform(2, 6) for _ in range(2)), 10 ** chance.uniform(2, 4), 50.0) for _ in range(6)]
    for operations, moved, rate, bandwidth in cases:
        what = f"roofline({operations:g}, {moved:g}, {rate:g}, {bandwidth:g})"
        seconds, bound = _pair(
            call(answer, operations, moved, rate, bandwidth), what, "return two things: seconds, word"
        )
        by_rate, by_memory = operations / rate, moved / bandwidth
        causes = {
            by_rate + by_memory: "the two go on at the same time: the slower one decides, their sum does not",
            min(by_rate, by_memory): "both must be done: the slower one decides, not the faster",
            max(operations * rate, moved * bandwidth): "operations divided by operations a second are seconds",
            max(operations / bandwidth, moved / rate): "operations go with `rate`, bytes with `bandwidth`",
            max(operations, moved): "divide each by its own rate before you compare",
        }
        hint = next((h for n, h in causes.items() if _near(seconds, n)), "max(operations / rate, moved / bandwidth)")
        expect_close(seconds, max(by_rate, by_memory), what=f"the seconds of {what}", hint=hint)
        expect(bound in ("arithmetic", "memory"), f"{what} names {bound!r:.40}, wanted 'arithmetic' or 'memory'")
        wanted = "memory" if by_memory > by_rate else "arithmetic"
        hint = "it waits for the one that takes longer; where both take the same time, say 'arithmetic'"
        expect_equal(bound, wanted, f"the word of {what}", hint)


def _near(got: Any, number: float) -> bool:
    return isinstance(got, int | float) and math.isclose(got, number, rel_tol=1e-6)


def attention_cost(answer: Callable[[int, int, int, int, int, bool], tuple[int, int]]) -> None:
    """`attention_cost(b, h, t, k, size, tiled)`: operations of the two products, and the least bytes moved."""
    cases = [(1, 1, 2, 3, 1, True), (1, 1, 2, 3, 1, False), (1, 1, 2, 3, 4, False), (5, 2, 7, 3, 2, True)]
    cases += [(2, 3, 5, 7, 2, False), (2, 12, 1024, 64, 2, False), (2, 12, 1024, 64, 2, True)]
    for b, h, t, k, size, tiled in cases:
        what = f"attention_cost({b}, {h}, {t}, {k}, {size}, {tiled})"
        operations, moved = _pair(call(answer, b, h, t, k, size, tiled), what, "return operations and bytes")
        wanted, rows, scores = 4 * b * h * t * t * k, 4 * b * h * t * k, b * h * t * t
        causes = {
            wanted // 2: "two products, and each multiplication comes with an addition: 2 · 2 · t · t · k a head",
            4 * b * t * t * k: "every head has its own products",
            4 * h * t * t * k: "every row of the batch has its own products",
            4 * b * h * t * k * k: "each of t queries meets each of t keys: t · t products of length k",
        }
        expect_close(operations, wanted, 0, f"the operations of {what}", causes.get(operations, "4 · b · h · t² · k"))
        if tiled:
            causes = {
                (rows + scores) * size: "in tiles no score is written to memory",
                (rows + 4 * scores) * size: "in tiles no score is written to memory",
                rows: "each number has `size` bytes",
                rows // 4 * 3 * size: "queries, keys, values are read, and the answer is written: four tensors",
                rows // 4 * size: "queries, keys, values are read, and the answer is written: four tensors",
            }
            expect_close(moved, rows * size, 0, f"the bytes of {what}", causes.get(moved, "4 · b · h · t · k numbers"))
            continue
        both = "the scores are written, read by the softmax, written as weights, read by the second product: four times"
        causes = {
            rows * size: "written out, the scores go to memory and back",
            (rows + scores) * size: both,
            (rows + 2 * scores) * size: both,
            (rows + 3 * scores) * size: both,
            4 * scores * size: "queries, keys, values and the answer are moved too",
            rows + 4 * scores: "each number has `size` bytes",
        }
        hint = causes.get(moved, "4 · b · h · t · k numbers, and 4 · b · h · t² besides")
        expect_close(moved, (rows + 4 * scores) * size, 0, f"the bytes of {what}", hint)


def _to_bfloat16(x: float, *, half: int = 0x7FFF, even: bool = True, kept: int = 16) -> float:
    """x in the nearest number of 8 bits of precision; `half` 0 cuts instead, `even` False rounds ties away from 0."""
    (bits,) = struct.unpack("<I", struct.pack("<f", x))
    if half:
        bits += half + (1 if not even else bits >> kept & 1)
    return struct.unpack("<f", struct.pack("<I", bits >> kept << kept))[0]


def round_bf16(answer: Callable[[float], float]) -> None:
    """`round_bf16(x)`: the nearest number that bfloat16 has; halfway between two, the one whose last bit is 0."""
    chance = random.Random()
    cases = [0.0, 1.0, -2.5, 1.001, 257.0, 259.0, 3.1415927410125732, -3.1415927410125732, 0.1, 300.0, 1.9999]
    cases += [1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 1e30, -1e-30]
    for _ in range(20):
        cases.append(struct.unpack("<f", struct.pack("<f", chance.gauss(0, 1) * 10 ** chance.uniform(-9, 9)))[0])
    for x in cases:
        got, wanted = call(answer, x), _to_bfloat16(x)
        expect_type(got, (int, float), f"round_bf16({x!r})", _return(got, "return a number"))
        if got != wanted:
            hint = "8 bits of precision: x = m · 2^e with 1 ≤ |m| < 2, and m is rounded to a multiple of 2^-7"
            if x and got == -wanted:
                hint = "the sign stays"
            elif got == _to_bfloat16(x, half=0):
                hint = "this cuts the rest off; the nearest number may lie above"
            elif got == _to_bfloat16(x, even=False):
                hint = "halfway between two numbers, take the one whose last bit is 0 (Python's `round` does)"
            elif got == _to_bfloat16(x, half=0x3FFF, kept=15) or got == _to_bfloat16(
                x, half=0x3FFF, even=False, kept=15
            ):
                hint = "that is one bit too many: steps of 2^-7 between 1 and 2, for the leading 1 is one of the 8 bits"
            elif got == x:
                hint = "that number needs more than 8 bits"
            elif got == _to_bfloat16(x, half=0xFFFF, kept=17) or got == _to_bfloat16(
                x, half=0xFFFF, even=False, kept=17
            ):
                hint = "that is one bit too few: between 1 and 2 the steps are 2^-7"
            raise Wrong(f"round_bf16({x!r}) gave {got!r}, wanted {wanted!r}", hint)


Rows = list[list[float]]


def _slope(logits: Sequence[Sequence[float]], targets: Sequence[int], ignore: int) -> Rows:
    count = sum(target != ignore for target in targets)
    rows = []
    for row, target in zip(logits, targets, strict=True):
        top = max(row)
        weights = [math.exp(z - top) for z in row]
        share = [w / sum(weights) for w in weights]
        counts = target != ignore
        rows.append([counts * (p - (i == target)) / count if counts else 0.0 for i, p in enumerate(share)])
    return rows


def slope_over_logits(answer: Callable[[Rows, list[int], int], Rows]) -> None:
    """`slope_over_logits(logits, targets, ignore)`: the gradient of the mean cross-entropy, a row for each row."""
    _expect_slope(answer, [[0.0, 0.0]], [1], "for two equal logits")
    _expect_slope(answer, [[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], [0, 2], "for two rows")
    _expect_slope(answer, [[1.0, 2.0], [0.5, 0.0], [3.0, 0.0]], [0, -100, 1], "where the second row does not count")
    _expect_slope(answer, [[1000.0, 999.0], [-1000.0, -1001.0]], [1, 0], "for logits near 1000")
    chance = random.Random()
    for _ in range(4):
        n, v = chance.randint(1, 4), chance.randint(2, 6)
        logits = [[chance.uniform(-4, 4) for _ in range(v)] for _ in range(n)]
        targets = [chance.randrange(v) for _ in range(n)]
        _expect_slope(answer, logits, targets, f"for {n} random rows of {v} logits")
    expect_inputs_kept(answer, [[1.0, 2.0], [0.0, 1.0]], [0, 1], -100)


def _expect_slope(answer: Callable[..., Rows], logits: Rows, targets: list[int], what: str) -> None:
    got, wanted = call(answer, logits, targets, -100), _slope(logits, targets, -100)
    rows = [len(row) if isinstance(row, list | tuple) else -1 for row in got] if isinstance(got, list | tuple) else []
    shape = rows == [len(row) for row in logits]
    expect(shape, f"slope_over_logits(...) gave {got!r:.80} {what}", _return(got, "a row of gradients for each row"))
    hint = "softmax minus 1 at the target, divided by the number of targets that count; rows that do not count are 0"
    count = sum(target != -100 for target in targets)
    flat = [[g for row in rows for g in row] for rows in (got, wanted)]
    if all(math.isclose(g * len(targets), w * count, abs_tol=1e-9) for g, w in zip(*flat, strict=True)):
        hint = "the mean is over the targets that count, not over all rows"
    elif all(math.isclose(g, -w, abs_tol=1e-9) for g, w in zip(*flat, strict=True)):
        hint = "the sign: where the target's probability is below 1, its gradient is negative"
    elif all(math.isclose(g, w * count, abs_tol=1e-9) for g, w in zip(*flat, strict=True)):
        hint = "of the mean, not of the sum: divide by the number of targets that count"
    elif any(t == -100 and any(row) for t, row in zip(targets, got, strict=True)):
        hint = "a row that does not count has no gradient: zeros"
    elif all(abs(sum(row)) > 1e-6 for row in got):
        hint = "each row sums to 0: the shares sum to 1, and 1 is subtracted once, at the target"
    expect_close(flat[0], flat[1], what=f"the gradient {what}", hint=hint)


def _cost(t: int, s: int, k: int, held: int, passing: int) -> int:
    """What the exercise prints: bytes moved by all programs, and START for each tile that passes."""
    programs, tiles = -(-t // held), -(-s // passing)
    return 2 * (2 * t * k + programs * 2 * s * k) + START * programs * tiles


def _room(k: int, held: int, passing: int) -> int:
    """Bytes of fast memory that a program needs: queries, answer, a tile of keys and values, the scores."""
    return 2 * held * k + 4 * held * k + 2 * 2 * passing * k + 4 * held * passing


_SIDES = [2**i for i in range(4, 13)]


def tiles(answer: Callable[[int, int, int, int], tuple[int, int]]) -> None:
    """`tiles(t, s, k, room)`: queries held and keys passing, powers of 2 from 16 on, that fit and move little."""
    chance = random.Random()
    cases = [(1024, 1024, 64, 100_000), (4096, 512, 128, 60_000), (256, 8192, 32, 30_000), (64, 4096, 64, 200_000)]
    for _ in range(8):
        t, s, k = (2 ** chance.randint(*ends) for ends in ((6, 13), (6, 13), (4, 7)))
        cases.append((t, s, k, chance.randint(2 * _room(k, 16, 16), 400_000)))
    for t, s, k, room in cases:
        what = f"tiles({t}, {s}, {k}, {room})"
        held, passing = _pair(call(answer, t, s, k, room), what, "return two numbers: held, passing")
        for name, side in (("held", held), ("passing", passing)):
            good = isinstance(side, int) and not isinstance(side, bool) and side >= 16 and side & (side - 1) == 0
            expect(good, f"{name} of {what} is {side!r:.40}", "a power of 2 of at least 16: 16, 32, 64 …")
        need = _room(k, held, passing)
        hint = "6 · held · k + 4 · passing · k + 4 · held · passing bytes: the scores count too"
        expect(need <= room, f"{what} gave {(held, passing)}, which needs {need:,} bytes of {room:,}", hint)
        fitting = [pair for pair in itertools.product(_SIDES, _SIDES) if _room(k, *pair) <= room]
        best = min(fitting, key=lambda pair: _cost(t, s, k, *pair))
        ratio = _cost(t, s, k, held, passing) / _cost(t, s, k, *best)
        problem = f"{what} gave {(held, passing)}, which costs {ratio:.2f} times the best, at most {GOAL} is wanted"
        expect(ratio <= GOAL, problem, _advice(held, passing, best))


def _advice(held: int, passing: int, best: tuple[int, int]) -> str:
    if held < best[0]:
        return "each program reads all keys again: hold more queries, and there are fewer programs"
    if passing < best[1]:
        return "each tile costs a start: let more keys pass at a time"
    return "larger is not always better here: what does one side cost the other? Try all pairs that fit"
