"""Muon takes torch's steps, its stacked twin the same ones; the polynomials do what they promise."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_regression import Regression, cut, data
from torch import nn
from torch.testing import assert_close

from minillm.training import muon
from minillm.training.loop import train
from minillm.training.muon import JORDAN, Muon, Together, hidden_matrices, muon_with_adamw, orthogonalise, polar_express
from minillm.training.optim import AdamW
from minillm.transformer.decoder import Decoder, gpt2, llama
from minillm.transformer.moe import MoEConfig

SHAPES = [(5, 3), (3, 5), (7, 7), (3, 5), (1, 6), (6, 2), (5, 3)]  # wide, tall, square, a row; some of one shape
LONG = {"rtol": 1e-11, "atol": 1e-12}


def problem(seed, dtype=torch.float64):
    """Matrices, and the slopes that they meet at each step: of very different sizes, one of them always zero."""
    generator = torch.Generator().manual_seed(seed)
    start = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in SHAPES]
    size = [10.0 ** (k - 4) for k in range(len(SHAPES) - 1)] + [0.0]
    draw = lambda shape: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return start, [[draw(shape) * s for shape, s in zip(SHAPES, size, strict=True)] for _ in range(12)]


def walk(optimizer_class, start, slopes, first=0, parameters=None, **options):
    parameters = parameters or [nn.Parameter(value.clone()) for value in start]
    groups = [{"params": parameters[:3]}, {"params": parameters[3:], "lr": 0.3}]
    optimizer = optimizer_class(groups, **options)
    go(optimizer, parameters, slopes, first)
    return [p.detach() for p in parameters], optimizer


def go(optimizer, parameters, slopes, first=0):
    for i, step in enumerate(slopes, first):
        for k, (parameter, slope) in enumerate(zip(parameters, step, strict=True)):
            parameter.grad = None if (i + k) % 5 == 3 else slope.clone()  # now and then one sits a step out
        optimizer.step()


OURS_AND_TORCHS = [
    ({}, {}),
    ({"nesterov": False, "weight_decay": 0.0}, {"nesterov": False, "weight_decay": 0.0}),
    ({"match_adamw": True, "momentum": 0.5}, {"adjust_lr_fn": "match_rms_adamw", "momentum": 0.5}),
    ({"polynomials": [(1.5, -0.5, 0.0)] * 3}, {"ns_coefficients": (1.5, -0.5, 0.0), "ns_steps": 3}),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("ours", "theirs"), OURS_AND_TORCHS)
def test_the_loop_takes_torchs_steps(ours, theirs, dtype):
    start, slopes = problem(1, dtype)
    a, _ = walk(Muon, start, slopes, learning_rate=0.02, stacked=False, **ours)
    b, _ = walk(torch.optim.Muon, start, slopes, lr=0.02, **theirs)
    for one, other, before in zip(a, b, start, strict=True):
        assert_close(one, other, rtol=1e-6, atol=1e-6)  # torch rounds the products to bfloat16, and so did we
        assert (one - before).abs().max() > 0.02 or one is a[-1], "and they went somewhere, but that without a slope"


@pytest.mark.parametrize("options", [ours for ours, _ in OURS_AND_TORCHS])
def test_the_twins_agree(options):
    start, slopes = problem(2)
    loop, one = walk(Muon, start, slopes, learning_rate=0.02, stacked=False, in_bfloat16=False, **options)
    stack, many = walk(Muon, start, slopes, learning_rate=0.02, stacked=True, in_bfloat16=False, **options)
    for a, b in zip(loop, stack, strict=True):
        assert_close(a, b, **LONG)
    for a, b in zip(one.state_dict()["state"], many.state_dict()["state"], strict=True):
        assert_close(a["m"], b["m"], **LONG)


def test_the_stacked_twin_takes_torchs_steps_to_the_roundings_of_bfloat16():
    start, slopes = problem(3, torch.float32)
    ours, _ = walk(Muon, start, slopes, learning_rate=0.02)
    theirs, _ = walk(torch.optim.Muon, start, slopes, lr=0.02)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=0.02, atol=0.05)


def test_stacked_products_are_few(monkeypatch):
    calls = []
    monkeypatch.setattr(muon, "orthogonalise", lambda x, *rest: calls.append(x.shape) or orthogonalise(x, *rest))
    parameters = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape)
    Muon(parameters).step()
    assert sorted(map(tuple, calls)) == [(1, 1, 6), (1, 2, 6), (1, 7, 7), (4, 3, 5)]


# limits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (3, 4, 9), (3, 9, 4)], ids=str)
def test_eight_polynomials_give_the_polar_factor(shape):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    u, _, vt = torch.linalg.svd(x, full_matrices=False)
    assert_close(orthogonalise(x, polar_express(9)), u @ vt, rtol=1e-4, atol=1e-4)
    assert_close(orthogonalise(x * 1e5, polar_express(9)), orthogonalise(x, polar_express(9)), **LONG)


def test_an_orthogonal_slope_is_gone_along_as_it_is():
    """With a rotation for a slope, one step is that rotation times the rate and the promised scale."""
    turn = torch.linalg.qr(torch.randn(6, 2, dtype=torch.float64)).Q
    weight = nn.Parameter(torch.zeros(6, 2, dtype=torch.float64))
    weight.grad = 1e-3 * turn
    Muon([weight], learning_rate=0.1, polynomials=polar_express(9), in_bfloat16=False, weight_decay=0.0).step()
    assert_close(weight.detach(), -0.1 * math.sqrt(3) * turn, rtol=1e-5, atol=1e-7)


def test_a_slope_of_zeros_only_decays():
    weight = nn.Parameter(torch.full((2, 3), 2.0))
    weight.grad = torch.zeros(2, 3)
    Muon([weight], learning_rate=0.1, weight_decay=0.5).step()
    assert_close(weight.detach(), torch.full((2, 3), 1.9))


def test_each_polynomial_is_the_best_for_what_the_one_before_leaves():
    """Chebyshev: the error 1 - p swings four times between its two extremes, on the interval that it was made for.

    The paper flattens the first ones: an interval never begins below 0.024 of its end.
    """
    low, high = 1e-3, 1.0
    for a, b, c in muon._BEST:
        made_for = max(low, 0.02407327424182761 * high)
        inner = np.sqrt(np.roots([5 * c, 3 * b, a]).real)  # where p turns
        p = lambda x, a=a, b=b, c=c: a * x + b * x**3 + c * x**5
        swing = [p(made_for), p(min(inner)), p(max(inner)), p(high)]
        centre = (max(swing) + min(swing)) / 2
        error = (max(swing) - min(swing)) / 2
        assert_close([(s - centre) / error for s in swing], [-1.0, 1.0, -1.0, 1.0], rtol=1e-3, atol=1e-3)
        low, high = p(low), max(swing)
    assert low > 0.999 and high < 1.001
    assert polar_express(9)[-1] == polar_express(9)[-2] == (1.875, -1.25, 0.375)


def test_jordans_polynomials_end_near_one():
    x = np.geomspace(0.005, 1, 200)
    for a, b, c in JORDAN:
        x = a * x + b * x**3 + c * x**5
    assert 0.3 < x.min() < 0.8 and 1.1 < x.max() < 1.3


# keeping and sorting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stacked", [False, True])
def test_a_saved_optimiser_goes_on_exactly(stacked):
    start, slopes = problem(5)
    options = {"learning_rate": 0.02, "stacked": stacked, "in_bfloat16": False}
    whole, _ = walk(Muon, start, slopes, **options)
    half, optimizer = walk(Muon, start, slopes[:7], **options)
    parameters = [nn.Parameter(value.clone()) for value in half]
    again = Muon([{"params": parameters[:3]}, {"params": parameters[3:]}], learning_rate=9.0, stacked=stacked)
    again.load_state_dict(optimizer.state_dict())
    go(again, parameters, slopes[7:], first=7)
    assert all(torch.equal(a, b.detach()) for a, b in zip(whole, parameters, strict=True))


def test_matrices_inside_are_muons_and_all_else_is_not():
    for config in (
        gpt2(vocabulary=11, context=6, n_layer=2, n_head=2, d_model=8),
        llama(vocabulary=11, context=6, n_layer=2, n_head=2, d_model=8),
    ):
        model = Decoder(config)
        model.blocks[0].mlp.up.weight.requires_grad = False
        matrices, others = hidden_matrices(model)
        names = {id(p): name for name, p in model.named_parameters()}
        inside = {names[id(p)] for p in matrices}
        wanted = {n for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2}
        assert inside == wanted - {"blocks.0.mlp.up.weight"}
        assert {names[id(p)] for p in others} == set(names.values()) - wanted


def test_experts_are_hidden_matrices_and_their_router_is_not():
    config = MoEConfig(d_model=8, n_expert=3, top_k=1, d_hidden=12)
    model = Decoder(replace(llama(vocabulary=11, context=6, n_layer=1, n_head=2, d_model=8), moe=config))
    inside = {id(p) for p in hidden_matrices(model)[0]}
    assert all((id(p) in inside) is ("experts" in name) for name, p in model.named_parameters() if "mlp." in name)


def test_both_train_as_one_and_can_be_resumed():
    batches = cut(data(), 4, 4, 4)

    def made(model):
        return Together(Muon([model.first.weight, model.second.weight], 0.02, in_bfloat16=False),
                        AdamW([model.first.bias, model.second.bias], 0.01))  # fmt: skip

    whole, half, again = Regression(), Regression(), Regression()
    factor = lambda step: 1 / step
    record = train(whole, batches, steps=9, optimizer=made(whole), schedule=factor)
    assert record[-1].loss < record[0].loss
    first = made(half)
    train(half, batches, steps=6, optimizer=first, schedule=factor)
    assert [group["lr"] for group in first.param_groups] == [0.02, 0.01], "the rates come back after a run"
    again.load_state_dict(half.state_dict())
    second = made(again)
    second.load_state_dict(first.state_dict())
    train(again, batches, steps=9, start=6, optimizer=second, schedule=factor)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_muon_and_adamw_each_move_their_own():
    model = Decoder(gpt2(vocabulary=11, context=6, n_layer=2, n_head=2, d_model=8))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = muon_with_adamw(model, learning_rate=0.05, adamw_learning_rate=0.0, in_bfloat16=False)
    model.loss(torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(0))).backward()
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {n for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2}
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: Muon([nn.Parameter(torch.zeros(3))]), r"shape \(3,\) is no matrix"),
        (lambda w: Muon([w], learning_rate=-1.0), "learning_rate=-1.0"),
        (lambda w: Muon([w], weight_decay=math.nan), "weight_decay=nan"),
        (lambda w: Muon([w], momentum=1.0), r"momentum=1.0 must lie in \[0, 1\)"),
        (lambda w: Muon([w], polynomials=[]), "polynomials="),
        (lambda w: polar_express(0), "steps=0"),
        (lambda w: Together(), "no optimisers"),
        (lambda w: Together(Muon([w]), AdamW([w])), "in two optimisers"),
        (lambda w: Together(Muon([w])).load_state_dict(Muon([w]).state_dict()), "holds 0 optimisers, this is 1"),
        (lambda w: muon_with_adamw(nn.Embedding(3, 2)), "no hidden matrices"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(nn.Parameter(torch.zeros(2, 3)))


def test_the_compiler_stays_unloaded():
    code = "import sys, torch\nfrom minillm.training.muon import Muon\nw = torch.nn.Parameter(torch.ones(2, 3))\n"
    code += "w.grad = torch.ones(2, 3); Muon([w]).step(); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
