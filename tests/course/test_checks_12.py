"""Plausible wrong answers to the exercises of chapter 12, and the diagnosis that each must get."""

import itertools
import math

import pytest
import torch
from refusals import refuse, stub
from torch.nn import functional as F

from minillm.course.checks import NotWrittenYet, check

NAMES = ("roofline", "attention_cost", "round_bf16", "slope_over_logits", "tiles")


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_written_yet(name):
    with pytest.raises(NotWrittenYet):
        check(f"12.{name}", stub)


# 12.roofline


def roofline(o, m, r, w):
    return max(o / r, m / w), "memory" if m / w > o / r else "arithmetic"


def test_roofline_accepts(capsys):
    check("12.roofline", roofline)
    check("12.roofline", lambda *x: list(roofline(*x)))
    assert capsys.readouterr().out == "12.roofline: correct\n" * 2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda o, m, r, w: (o / r + m / w, "memory"), "their sum does not"),
        (lambda o, m, r, w: (min(o / r, m / w), "memory"), "not the faster"),
        (lambda o, m, r, w: (max(o * r, m * w), "memory"), "are seconds"),
        (lambda o, m, r, w: (max(o / w, m / r), "memory"), "bytes with `bandwidth`"),
        (lambda o, m, r, w: (max(o, m), "memory"), "before you compare"),
        (lambda o, m, r, w: (roofline(o, m, r, w)[0], "memory" if o / m > r / w else "arithmetic"), "takes longer"),
        (
            lambda o, m, r, w: (roofline(o, m, r, w)[0], "memory" if m / w >= o / r else "arithmetic"),
            "say 'arithmetic'",
        ),
        (lambda o, m, r, w: (roofline(o, m, r, w)[0], "compute"), "wanted 'arithmetic' or 'memory'"),
        (lambda o, m, r, w: max(o / r, m / w), "return two things"),
        (lambda o, m, r, w: None, "is there a `return`?"),
    ],
)
def test_roofline_names_the_slip(answer, says):
    refuse("12.roofline", answer, says)


# 12.attention_cost


def attention_cost(b, h, t, k, size, tiled, *, product=4, heads=True, rows=4, scores=4, wide=True, batch=True):
    n = (b if batch else 1) * (h if heads else 1)
    moved = rows * b * h * t * k + (0 if tiled else scores * b * h * t * t)
    return product * n * t * t * k, moved * (size if wide else 1)


def test_attention_cost_accepts():
    check("12.attention_cost", attention_cost)


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        ({"product": 2}, "each multiplication comes with an addition"),
        ({"heads": False}, "every head"),
        ({"batch": False}, "every row"),
        ({"rows": 3}, "four tensors"),
        ({"scores": 0}, "to memory and back"),
        ({"scores": 1}, "four times"),
        ({"scores": 2}, "four times"),
        ({"rows": 1}, "four tensors"),
        ({"wide": False}, "`size` bytes"),
    ],
)
def test_attention_cost_names_the_slip(slip, says):
    refuse("12.attention_cost", lambda *x: attention_cost(*x, **slip), says)


def test_attention_cost_in_tiles_and_queries_that_meet_no_keys():
    always = lambda b, h, t, k, size, tiled: attention_cost(b, h, t, k, size, False)
    refuse("12.attention_cost", always, "no score is written to memory")
    refuse("12.attention_cost", lambda b, h, t, k, *x: (4 * b * h * t * k * k, 0), "meets each of t keys")


# 12.round_bf16


def round_bf16(x, *, steps=2**7, by=round, sign=True):
    if x == 0:
        return 0.0
    m, e = math.frexp(abs(x) if not sign else x)
    return math.ldexp(by(m * 2 * steps) / steps / 2, e)


def away(x):
    return math.copysign(math.floor(abs(x) + 0.5), x)


def test_round_bf16_accepts():
    check("12.round_bf16", round_bf16)
    check("12.round_bf16", lambda x: torch.tensor(x).bfloat16().item())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: round_bf16(x, by=math.trunc), "cuts the rest off"),
        (lambda x: round_bf16(x, by=away), "whose last bit is 0"),
        (lambda x: round_bf16(x, steps=2**8), "one bit too many"),
        (lambda x: round_bf16(x, steps=2**6), "one bit too few"),
        (lambda x: x, "more than 8 bits"),
        (lambda x: round_bf16(x, sign=False), "the sign stays"),
        (lambda x: round(x, 2), "8 bits"),
        (lambda x: torch.tensor(x).half().item(), "8 bits"),
        (lambda x: str(x), "return a number"),
    ],
)
def test_round_bf16_names_the_slip(answer, says):
    refuse("12.round_bf16", answer, says)


# 12.slope_over_logits


def slopes(logits, targets, ignore, *, mean="counted", sign=1, zero=True, top=True, one=1.0):
    counted = sum(target != ignore for target in targets)
    divisor = {"counted": counted, "all": len(targets), "sum": 1}[mean]
    rows = []
    for row, target in zip(logits, targets, strict=True):
        high = max(row) if top else 0.0
        weights = [math.exp(z - high) for z in row]
        slope = [(w / sum(weights) - one * (i == target)) * sign / divisor for i, w in enumerate(weights)]
        rows.append([0.0] * len(row) if target == ignore and zero else slope)
    return rows


def in_place(logits, targets, ignore):
    for row, slope in zip(logits, slopes(logits, targets, ignore), strict=True):
        row[:] = slope
    return logits


def half_overwritten(logits, targets, ignore):
    """Reads logits where it has already written gradients."""
    rows = [list(row) for row in logits]
    for row, target in zip(rows, targets, strict=True):
        for i in range(len(row)):
            total = sum(math.exp(min(50, z)) for z in row)
            row[i] = (math.exp(min(50, row[i])) / total - (i == target)) / len(targets)
    return rows


def test_slope_over_logits_accepts():
    def by_torch(logits, targets, ignore):
        leaf = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
        F.cross_entropy(leaf, torch.tensor(targets), ignore_index=ignore).backward()
        return leaf.grad.tolist()

    check("12.slope_over_logits", slopes)
    check("12.slope_over_logits", by_torch)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda *x: slopes(*x, mean="all"), "over the targets that count"),
        (lambda *x: slopes(*x, mean="sum"), "of the mean, not of the sum"),
        (lambda *x: slopes(*x, sign=-1), "the sign"),
        (lambda *x: slopes(*x, zero=False), "does not count has no gradient"),
        (lambda *x: slopes(*x, top=False), "OverflowError"),
        (lambda *x: slopes(*x, one=0.0), "each row sums to 0"),
        (half_overwritten, "the gradient for"),
        (in_place, "changed its argument number 1"),
        (lambda logits, targets, ignore: slopes(logits, targets, ignore)[0], "a row of gradients"),
    ],
)
def test_slope_over_logits_names_the_slip(answer, says):
    refuse("12.slope_over_logits", answer, says)


# 12.tiles


def fits(k, held, passing, room):
    return 6 * held * k + 4 * passing * k + 4 * held * passing <= room


def best_tiles(t, s, k, room, *, start=20_000):
    def cost(pair):
        programs = -(-t // pair[0])
        return 4 * (t + programs * s) * k + start * programs * -(-s // pair[1])

    sides = [2**i for i in range(4, 13)]
    return min((pair for pair in itertools.product(sides, sides) if fits(k, *pair, room)), key=cost)


def largest(which):
    def answer(t, s, k, room):
        pair = [16, 16]
        while fits(k, *(2 * n if i == which else n for i, n in enumerate(pair)), room):
            pair[which] *= 2
        return tuple(pair)

    return answer


def test_tiles_accepts():
    check("12.tiles", best_tiles)
    check("12.tiles", lambda *x: list(best_tiles(*x)))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda t, s, k, room: (16, 16), "hold more queries"),
        (largest(1), "hold more queries"),
        (largest(0), "let more keys pass"),
        (lambda t, s, k, room: (128, 128), "bytes of"),
        (lambda t, s, k, room: (100, 64), "a power of 2"),
        (lambda t, s, k, room: (64.0, 64), "a power of 2"),
        (lambda t, s, k, room: 64, "return two numbers"),
        (lambda t, s, k, room: best_tiles(t, s, k, room, start=0), "times the best"),
    ],
)
def test_tiles_names_the_slip(answer, says):
    refuse("12.tiles", answer, says)
