"""AdamW takes torch's steps to rounding; the schedules go through their corners."""

import math
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from minillm.training.optim import (
    AdamW,
    constant_then_linear,
    decay_matrices_only,
    linear_warmup,
    linear_warmup_cosine,
    linear_warmup_inverse_root,
)

SHAPES = [(5, 3), (3,), (2, 4, 3)]


def problem(seed):
    """Parameters, and the slopes that they meet at each step: noisy, of very different sizes, sometimes zero."""
    generator = torch.Generator().manual_seed(seed)
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    sizes = [10.0 ** torch.randint(-6, 4, shape, generator=generator) for shape in SHAPES]
    sizes[0][1] = 0.0
    slopes = [[torch.randn(s.shape, generator=generator, dtype=torch.float64) * s for s in sizes] for _ in range(50)]
    return start, slopes


def walk(optimizer_class, start, slopes, groups, **options):
    parameters = [nn.Parameter(value.clone()) for value in start]
    optimizer = optimizer_class(
        [{"params": [p], **group} for p, group in zip(parameters, groups, strict=True)], **options
    )
    for i, step in enumerate(slopes):
        for k, (parameter, slope) in enumerate(zip(parameters, step, strict=True)):
            parameter.grad = None if (i + k) % 7 == 3 else slope.clone()  # now and then a parameter sits a step out
        optimizer.step()
    return [p.detach() for p in parameters], optimizer


CASES = [
    ({}, [{}, {}, {}]),
    ({"weight_decay": 0.0}, [{}, {}, {}]),
    ({"weight_decay": 0.3, "betas": (0.8, 0.95), "eps": 1e-4}, [{}, {"weight_decay": 0.0}, {"lr": 0.5}]),
    ({"betas": (0.0, 0.0)}, [{}, {"betas": (0.9, 0.99)}, {"eps": 0.1}]),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("options", "groups"), CASES)
def test_agrees_with_torch(seed, options, groups):
    start, slopes = problem(seed)
    ours, _ = walk(AdamW, start, slopes, groups, learning_rate=0.03, **options)
    theirs, _ = walk(torch.optim.AdamW, start, slopes, groups, lr=0.03, foreach=False, **options)
    for a, b, before in zip(ours, theirs, start, strict=True):
        assert_close(a, b, rtol=1e-12, atol=1e-13)
        assert (a - before).abs().max() > 0.1, "and they went somewhere"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_agrees_with_torch_in_shorter_formats(dtype):
    start, slopes = problem(9)
    start, slopes = [s.to(dtype) for s in start], [[s.to(dtype) for s in step] for step in slopes]
    ours, _ = walk(AdamW, start, slopes, [{}] * 3, learning_rate=0.03)
    theirs, _ = walk(torch.optim.AdamW, start, slopes, [{}] * 3, lr=0.03, foreach=False)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_the_first_step_has_one_length_whatever_the_slope(size):
    weight = nn.Parameter(torch.tensor([0.0, 0.0], dtype=torch.float64))
    weight.grad = torch.tensor([size, -size], dtype=torch.float64)
    AdamW([weight], learning_rate=0.01, eps=1e-12).step()
    assert_close(weight.detach(), torch.tensor([-0.01, 0.01], dtype=torch.float64))


def test_without_a_slope_only_the_decay_acts():
    weight, rest = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([2.0]))
    optimizer = AdamW([weight, rest], learning_rate=0.1, weight_decay=0.5)
    weight.grad = torch.zeros(1)
    for _ in range(3):
        optimizer.step()
    assert_close(weight.detach(), torch.tensor([2.0 * 0.95**3]))
    assert rest.item() == 2.0, "a parameter that took no part is left alone"


def test_a_saved_optimiser_goes_on_exactly():
    start, slopes = problem(4)
    whole, _ = walk(AdamW, start, slopes, [{}] * 3)
    half, optimizer = walk(AdamW, start, slopes[:21], [{}] * 3)  # 21 is a multiple of 7: the pauses fall alike
    parameters = [nn.Parameter(value.clone()) for value in half]
    again = AdamW([{"params": [p]} for p in parameters], learning_rate=9.0)
    again.load_state_dict(optimizer.state_dict())
    for i, step in enumerate(slopes[21:]):
        for k, (parameter, slope) in enumerate(zip(parameters, step, strict=True)):
            parameter.grad = None if (i + k) % 7 == 3 else slope
        again.step()
    assert all(torch.equal(a, b.detach()) for a, b in zip(whole, parameters, strict=True))


def test_only_matrices_decay():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    model[1].bias.requires_grad = False
    decayed, free = decay_matrices_only(model, weight_decay=0.2)
    assert [p.ndim for p in decayed["params"]] == [2, 2] and decayed["weight_decay"] == 0.2
    assert [p.ndim for p in free["params"]] == [1, 1] and free["weight_decay"] == 0.0
    assert len(AdamW([decayed, free]).param_groups) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
        ({"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\)"),
        ({"eps": -1.0}, "eps=-1.0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
    ],
    ids=str,
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        AdamW([nn.Parameter(torch.zeros(1))], **options)


def test_parameters_must_be_there_once():
    weight = nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match="is empty"):
        AdamW(iter([]))
    with pytest.raises(ValueError, match="twice"):
        AdamW([{"params": [weight]}, {"params": [weight]}])


@pytest.mark.parametrize("shapes", [[(2,)], [(2,), (4,)], [(2,), (3,), (1,)]], ids=str)
def test_a_saved_optimiser_of_another_model(shapes):
    saved, other = ([nn.Parameter(torch.ones(s)) for s in some] for some in ([(2,), (3,)], shapes))
    first = AdamW(saved)
    for parameter in saved:
        parameter.grad = torch.ones_like(parameter)
    first.step()
    with pytest.raises(ValueError, match="belongs to another model"):
        AdamW(other).load_state_dict(first.state_dict())


def test_a_loaded_memory_is_a_copy():
    weight, again = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    weight.grad = again.grad = torch.ones(2)
    first, second = AdamW([weight]), AdamW([again])
    first.step()
    kept = first.state[weight]["m"].clone()
    second.load_state_dict(first.state_dict())
    second.step()
    assert torch.equal(first.state[weight]["m"], kept) and first.state[weight]["step"] == 1


def test_the_compiler_stays_unloaded():
    """Every class of torch.optim loads it, which takes as long as importing torch: each chapter would wait."""
    code = "import sys, torch\nfrom minillm.training.loop import train\nfrom minillm.training.optim import AdamW\n"
    code += "m = torch.nn.Linear(2, 1); m.loss = lambda b: m(b).sum()\n"
    code += "train(m, [torch.ones(3, 2)], steps=2, optimizer=AdamW(m.parameters()), clip=1.0)\n"
    code += "print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


# schedules ----------------------------------------------------------------------------------------------------------


def curve(schedule, last, /, **options):
    return [schedule(step, **options) for step in range(1, last + 1)]


def test_warm_up_rises_in_equal_parts_and_no_step_is_wasted():
    assert curve(linear_warmup, 6, warmup=4) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert curve(linear_warmup, 3, warmup=0) == [1, 1, 1]


@pytest.mark.parametrize("schedule", [linear_warmup_cosine, lambda step, **o: constant_then_linear(step, decay=8, **o)])
@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
def test_corners_of_the_falls(schedule, final):
    y = curve(schedule, 20, steps=20, warmup=5, final=final)
    assert y[:5] == [0.2, 0.4, 0.6, 0.8, 1.0], "the peak is the last step of the warm-up"
    assert math.isclose(y[-1], final, abs_tol=1e-15) and all(a >= b for a, b in pairwise(y[4:]))
    assert math.isclose(schedule(25, steps=20, warmup=5, final=final), final, abs_tol=1e-15), "past the end it stays"


def test_the_constant_part_does_not_depend_on_the_length():
    short, long = (curve(constant_then_linear, 30, steps=n, decay=6, warmup=3) for n in (20, 30))
    assert short[:14] == long[:14] == [1 / 3, 2 / 3] + [1.0] * 12
    assert_close(short[14:20], [5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0.0])
    assert curve(constant_then_linear, 4, steps=4, decay=0) == [1, 1, 1, 1]
    assert curve(constant_then_linear, 4, steps=4, decay=4) == [0.75, 0.5, 0.25, 0.0]


def test_the_cosine_agrees_with_torch():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=11, eta_min=0.2)
    rates = []
    for _ in range(11):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert_close(curve(linear_warmup_cosine, 11, steps=11, final=0.2), rates)


def test_the_inverse_root_is_the_papers_formula():
    paper = lambda step: 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
    for step in (1, 17, 3999, 4000, 4001, 100_000):
        assert math.isclose(linear_warmup_inverse_root(step, warmup=4000), paper(step) / paper(4000), rel_tol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_warmup(0, warmup=3), "step=0 must be at least 1"),
        (lambda: linear_warmup(1, warmup=-1), "warmup=-1"),
        (lambda: linear_warmup_cosine(1, steps=5, warmup=6), "warmup=6 must lie in 0 … steps=5"),
        (lambda: constant_then_linear(1, steps=5, decay=3, warmup=3), "decay=3 and warmup=3"),
        (lambda: constant_then_linear(1, steps=5, decay=-1), "decay=-1"),
        (lambda: linear_warmup_inverse_root(1, warmup=0), "warmup=0 must be at least 1"),
    ],
)
def test_wrong_schedules(call, message):
    with pytest.raises(ValueError, match=message):
        call()
