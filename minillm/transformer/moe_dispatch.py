"""From tokens to experts and back: three ways to compute one sum, and who is turned away when an expert is full.

    y_n = Σ_k weight_nk · expert_{chosen_nk}(x_n)

The loop goes through experts and choices with a mask: the twin that is easy to believe. The sorted way puts all tokens
of an expert side by side once, so that every expert reads one piece. The grouped way hands all pieces to one product.

Paper:   capacity: Fedus, Zoph and Shazeer 2021, "Switch Transformers", §2.2, eq. 3, arXiv:2101.03961; the order of
         choices: Lepikhin et al. 2020, "GShard", §2.2, arXiv:2006.16668; grouped products: Gale et al. 2022,
         "MegaBlocks", arXiv:2211.15841.
Names:   n are tokens (the papers' T), k the choices of a token, e experts. A choice that was turned away has the expert
         number e, which does not exist, and the weight 0.
Differs: capacity is rounded up, and at least 1.
Next:    minillm/transformer/decoder.py
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.core.runtime import Choice
from minillm.transformer.block import MLP, SwiGLU

DispatchName = Literal["auto", "loop", "sorted", "grouped_mm"]
Experts = Sequence[MLP | SwiGLU]


def dispatch_loop(experts: Experts, x_nd: Tensor, chosen_nk: Tensor, weight_nk: Tensor) -> Tensor:
    """The formula as it stands: for each expert and each place among the choices, the tokens that have it there."""
    y_nd = torch.zeros_like(x_nd)
    for number, expert in enumerate(experts):
        for choice in range(chosen_nk.shape[1]):
            mine_n = chosen_nk[:, choice] == number
            y_nd[mine_n] += (weight_nk[mine_n, choice, None] * _run(expert, x_nd[mine_n])).to(y_nd.dtype)
    return y_nd


def dispatch_sorted(experts: Experts, x_nd: Tensor, chosen_nk: Tensor, weight_nk: Tensor) -> Tensor:
    """The same with all choices sorted by expert: tokens are copied there and back once, not once an expert."""
    order, token, count_e = _by_expert(chosen_nk, len(experts))
    sizes = count_e.tolist()
    order, token = order[: sum(sizes)], token[: sum(sizes)]  # choices that were turned away come last
    pieces = x_nd.index_select(0, token).split(sizes), token.split(sizes), weight_nk.flatten()[order].split(sizes)
    y_nd = torch.zeros_like(x_nd)
    for expert, piece, rows, weight in zip(experts, *pieces, strict=True):
        if not len(rows) and not torch.is_grad_enabled():
            continue  # in training it runs all the same, so that its gradient is zeros and not missing
        y_nd.index_add_(0, rows, (_run(expert, piece) * weight[:, None]).to(y_nd.dtype))
    return y_nd


def dispatch_grouped_mm(experts: Experts, x_nd: Tensor, chosen_nk: Tensor, weight_nk: Tensor) -> Tensor:
    """The same with one grouped matrix product for each map of all experts; the sizes never leave the device.

    The weights are put together at each call, which costs one copy of them: little beside many tokens, much beside
    few. Choices that were turned away go to the last expert with the weight 0.
    """
    if why := _no_grouped_mm(experts):
        raise ValueError(f"dispatch='grouped_mm' cannot be used: {why}; dispatch='sorted' works")
    order, token, count_e = _by_expert(chosen_nk.clamp(max=len(experts) - 1), len(experts))
    end_e = count_e.cumsum(0).to(torch.int32)
    expert_of = chosen_nk.flatten()[order].clamp(max=len(experts) - 1)
    is_autocast = torch.is_autocast_enabled(x_nd.device.type)
    dtype = torch.get_autocast_dtype(x_nd.device.type) if is_autocast else x_nd.dtype

    def linear(x: Tensor, name: str) -> Tensor:
        maps = [getattr(expert, name) for expert in experts]
        weight_efd = torch.stack([m.weight for m in maps]).to(dtype)
        y = F.grouped_mm(x.to(dtype), weight_efd.mT, offs=end_e)
        return y if maps[0].bias is None else y + torch.stack([m.bias for m in maps])[expert_of]

    x, first = x_nd.index_select(0, token), experts[0]
    if isinstance(first, SwiGLU):
        inner = F.silu(linear(x, "gate")) * linear(x, "up")
    else:
        inner = first.activation(linear(x, "up"))
    return _add_up(x_nd, token, linear(inner, "down"), weight_nk.flatten()[order])


DISPATCH = {"loop": dispatch_loop, "sorted": dispatch_sorted, "grouped_mm": dispatch_grouped_mm}


def pick_dispatch(experts: Experts, x_nd: Tensor) -> Choice:
    """The fastest way on this device, and why.

    >>> str(pick_dispatch([MLP(4, 8), MLP(4, 8)], torch.ones(3, 4)))
    'sorted (on a CPU a grouped product is no faster than one product an expert)'
    """
    if x_nd.device.type != "cuda":
        return Choice(value="sorted", why="on a CPU a grouped product is no faster than one product an expert")
    if why := _no_grouped_mm(experts):
        return Choice(value="sorted", why=why)
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x_nd.dtype
    if dtype != torch.bfloat16 or torch.cuda.get_device_capability(x_nd.device) < (8, 0):
        return Choice(value="sorted", why=f"torch's grouped product is for bfloat16 on Ampere or later, not {dtype}")
    if any(size % 8 for size in experts[0].up.weight.shape):
        return Choice(value="sorted", why="torch's grouped product needs widths that are multiples of 8")
    return Choice(value="grouped_mm", why="one product for all experts, and no size has to come back from the GPU")


def capacity_of(n_token: int, top_k: int, n_expert: int, factor: float) -> int:
    """How many choices an expert takes: its equal share, times the factor.

    >>> capacity_of(n_token=12, top_k=1, n_expert=4, factor=1.25)
    4
    """
    return max(1, math.ceil(n_token * top_k / n_expert * factor - 1e-6))  # 1.1 · 50 is a little above 55


def first_come(chosen_nk: Tensor, n_expert: int, capacity: int) -> Tensor:
    """Which choices find room: all first choices in the order of the tokens, then all second ones, and so on.

    >>> first_come(torch.tensor([[0, 1], [0, 1], [0, 1], [1, 0]]), n_expert=2, capacity=2)
    tensor([[ True,  True],
            [ True, False],
            [False, False],
            [ True, False]])
    """
    queue = chosen_nk.T.flatten()
    order = queue.argsort(stable=True)
    count_e = torch.bincount(queue, minlength=n_expert)
    before = (count_e.cumsum(0) - count_e)[queue[order]]
    has_room = torch.empty_like(queue, dtype=torch.bool)
    has_room[order] = torch.arange(len(queue), device=queue.device) - before < capacity
    return has_room.view(chosen_nk.shape[1], -1).T


def _by_expert(chosen_nk: Tensor, n_expert: int) -> tuple[Tensor, Tensor, Tensor]:
    """All choices sorted by expert, whose they are, and how many each expert has."""
    chosen = chosen_nk.flatten()
    order = chosen.argsort(stable=True)
    return order, order // chosen_nk.shape[1], torch.bincount(chosen, minlength=n_expert + 1)[:n_expert]


def _add_up(x_nd: Tensor, token: Tensor, made: Tensor, weight: Tensor) -> Tensor:
    """What was made for each choice, weighted, back at its token."""
    made = (made * weight[:, None]).to(x_nd.dtype)
    return torch.zeros_like(x_nd).index_add_(0, token, made)


def _run(expert: MLP | SwiGLU, x_nd: Tensor) -> Tensor:
    """An expert is an MLP, which reads (b, t, d)."""
    return expert(x_nd[None])[0]


def _no_grouped_mm(experts: Experts) -> str:
    """Why there is no grouped product for these experts; empty when there is one."""
    if not hasattr(F, "grouped_mm"):
        return f"torch {torch.__version__} has no torch.nn.functional.grouped_mm"
    if any(type(child) is not nn.Linear for expert in experts for child in expert.children()):
        return "an expert's maps are no plain nn.Linear"
    return ""
