"""Muon: a matrix moves by the nearest matrix without favourite directions, not by its own slope.

    m ← μ m + (1 - μ) g         u = (1 - μ) g + μ m
    θ ← θ - η λ θ - η √max(1, rows / columns) · O,     O ≈ U Vᵀ  where  u = U Σ Vᵀ

The slope of a matrix is nearly flat: a few directions hold most of its length, and a step along it learns these alone.
U Vᵀ has the same directions, all of length one. No SVD is needed: p(x) = a x + b x³ + c x⁵ of a matrix acts on its
singular values alone and costs three products,  p(X) = a X + (b A + c A²) X  with  A = X Xᵀ;  a few of them in turn
bring every value in (0, 1] near 1. Muon is for the matrices between hidden layers; embeddings, the head and vectors
are AdamW's (`muon_with_adamw`).

Paper:   Jordan et al. 2024, "Muon", kellerjordan.github.io/posts/muon; the coefficients of `POLAR_EXPRESS`: Amsel et
         al. 2025, "The Polar Express", Algorithm 1, arXiv:2505.16932; the other scale: Liu et al. 2025, "Muon is
         Scalable for LLM Training", §2.2, arXiv:2502.16982.
Names:   η is `learning_rate` (in groups `lr`), μ `momentum`, λ `weight_decay`; `polynomials` are the (a, b, c) in turn.
Differs: the momentum is a mean, as in `torch.optim.Muon`, whose steps these are; Jordan's is a sum. torch divides the
         memory itself by its length when that is bfloat16 and nesterov is off; ours stays as it is.
Next:    minillm/training/checkpoint.py
"""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minillm.training.optim import AdamW, Optimizer

Polynomial = tuple[float, float, float]

JORDAN: tuple[Polynomial, ...] = ((3.4445, -4.7750, 2.0315),) * 5  # steep at 0; ends between 0.7 and 1.2, not at 1

# Each is the best odd polynomial of degree 5 for the interval that the one before leaves; from 0.001 … 1 at first.
_BEST = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
# The paper's cushion for short formats: all but the last polynomial of its list take x / 1.01 for x.
_CUSHIONED = tuple((a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in _BEST)


def polar_express(steps: int = 5) -> tuple[Polynomial, ...]:
    """The first `steps` polynomials of the Polar Express; after seven they stay the same.

    >>> x = 0.01  # a singular value
    >>> for a, b, c in polar_express(8):
    ...     x = a * x + b * x**3 + c * x**5
    >>> f"{x:.4f}"
    '1.0000'
    """
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1; 5 is the paper's choice")
    return (*_CUSHIONED, *[(1.875, -1.25, 0.375)] * steps)[:steps]


def orthogonalise(x: Tensor, polynomials: Sequence[Polynomial] = JORDAN, eps: float = 1e-7) -> Tensor:
    """A matrix, or each of a stack (…, rows, columns), with all its singular values brought near 1.

    >>> turned = orthogonalise(torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.5, 0.0]]), polar_express(8))
    >>> turned.round(decimals=2).abs()
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x  # the product x xᵀ is then the small one
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)  # no singular value is above 1
    multiply_add = torch.addmm if x.ndim == 2 else torch.baddbmm
    for a, b, c in polynomials:
        square = x @ x.mT
        x = multiply_add(x, multiply_add(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(Optimizer):
    """Momentum, made orthogonal, for matrices; the steps of `torch.optim.Muon`.

    `stacked` orthogonalises all matrices of a group that have one shape (or are one another's transpose) together, as
    a few batched products; False takes one after another: the plain twin. `in_bfloat16` does these products in that
    format, as torch does; on a processor that does not multiply it natively, False is faster. `match_adamw` scales a
    step by 0.2 √max(rows, columns), so that it is as long as AdamW's usually are.

    >>> weight = nn.Parameter(torch.zeros(2, 3))
    >>> optimizer = Muon([weight], learning_rate=0.1, polynomials=polar_express(8), in_bfloat16=False)
    >>> weight.grad = torch.tensor([[50.0, 0.0, 0.0], [0.0, 0.1, 0.0]])
    >>> optimizer.step()
    >>> weight.detach().round(decimals=3) + 0.0  # both directions as far, whatever their slopes
    tensor([[-0.1000,  0.0000,  0.0000],
            [ 0.0000, -0.1000,  0.0000]])
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        learning_rate: float = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        polynomials: Sequence[Polynomial] = JORDAN,
        eps: float = 1e-7,
        match_adamw: bool = False,
        in_bfloat16: bool = True,
        stacked: bool = True,
    ) -> None:
        options = {"lr": learning_rate, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        options |= {"polynomials": tuple(polynomials), "eps": eps, "match_adamw": match_adamw}
        super().__init__(parameters, options | {"in_bfloat16": in_bfloat16})
        self.stacked = stacked
        for group in self.param_groups:
            _check(group)

    @torch.no_grad()
    def step(self) -> None:
        """Move every matrix that has a slope, once."""
        if not self.stacked:
            return super().step()
        for group in self.param_groups:
            sorted_by_shape: dict[Any, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    key = (min(parameter.shape), max(parameter.shape), parameter.dtype, parameter.device)
                    sorted_by_shape.setdefault(key, []).append(parameter)
            for parameters in sorted_by_shape.values():
                self.move_together(parameters, group)
        return None

    def move(self, parameter: nn.Parameter, slope: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """One matrix's step: the formula at the head of this file, line by line."""
        if not state:
            state.update(m=torch.zeros_like(parameter))
        m = state["m"]
        m.lerp_(slope, 1 - group["momentum"])
        u = slope.lerp(m, group["momentum"]) if group["nesterov"] else m
        turned = orthogonalise(u.bfloat16() if group["in_bfloat16"] else u, group["polynomials"], group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(turned, alpha=-group["lr"] * _scale(parameter, group))

    def move_together(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """The same for matrices of one shape, up to transposition, with every product for all of them at once."""
        wide = []
        for parameter in parameters:
            slope, state = parameter.grad, self.state[parameter]
            assert slope is not None
            if not state:
                state.update(m=torch.zeros_like(parameter))
            m = state["m"].lerp_(slope, 1 - group["momentum"])
            u = slope.lerp(m, group["momentum"]) if group["nesterov"] else m
            wide.append(u.mT if u.shape[0] > u.shape[1] else u)
        together = torch.stack(wide)
        together = together.bfloat16() if group["in_bfloat16"] else together
        turned = orthogonalise(together, group["polynomials"], group["eps"]).to(parameters[0].dtype)
        for parameter, o in zip(parameters, turned, strict=True):
            o = o.mT if parameter.shape[0] > parameter.shape[1] else o
            if group["weight_decay"]:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(o, alpha=-group["lr"] * _scale(parameter, group))


class Together:
    """Several optimisers that take their steps as one: `train` and checkpoints see one optimiser with all groups.

    >>> model = nn.Linear(3, 2)
    >>> both = Together(Muon([model.weight]), AdamW([model.bias]))
    >>> [group["lr"] for group in both.param_groups]
    [0.001, 0.001]
    """

    def __init__(self, *optimizers: Any) -> None:
        if not optimizers:
            raise ValueError("no optimisers were given: Together(Muon(matrices), AdamW(others)) works")
        self.optimizers = optimizers
        every = [id(p) for group in self.param_groups for p in group["params"]]
        if len(set(every)) < len(every):
            raise ValueError("a parameter is in two optimisers and would be moved twice; give each to one")

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all, in order."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def zero_grad(self) -> None:
        """Forget the slopes of the last step."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Each takes its step."""
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """All that a checkpoint must keep."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave for the same parameters."""
        states = saved.get("optimizers", [])
        if len(states) != len(self.optimizers):
            raise ValueError(f"the saved state holds {len(states)} optimisers, this is {len(self.optimizers)}; it "
                             "belongs to another model, or to one optimiser alone")  # fmt: skip
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def hidden_matrices(
    model: nn.Module, but: Collection[str] = ("score", "router")
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What Muon is for, and the rest: the matrices of linear maps, but those named in `but` and tied embeddings.

    The head and a router end in scores of single things, whose directions mean something.

    >>> from minillm.transformer.decoder import Decoder, gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=4, n_layer=1, n_head=2, d_model=4))
    >>> matrices, others = hidden_matrices(model)
    >>> [tuple(p.shape) for p in matrices]  # query, key, value, out, up, down
    [(4, 4), (4, 4), (4, 4), (4, 4), (16, 4), (4, 16)]
    """
    modules = list(model.named_modules())
    tables = {id(m.weight) for _, m in modules if isinstance(m, nn.Embedding)}
    linear = {id(m.weight) for name, m in modules if isinstance(m, nn.Linear) and name.split(".")[-1] not in but}
    parameters = [p for p in model.parameters() if p.requires_grad]
    hidden = linear - tables
    return [p for p in parameters if id(p) in hidden], [p for p in parameters if id(p) not in hidden]


def muon_with_adamw(
    model: nn.Module,
    *,
    learning_rate: float = 0.02,
    adamw_learning_rate: float = 3e-3,
    momentum: float = 0.95,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
    polynomials: Sequence[Polynomial] = JORDAN,
    in_bfloat16: bool = True,
    but: Collection[str] = ("score", "router"),
) -> Together:
    """Muon for the hidden matrices of a model, our AdamW for all else: one optimiser for `train`.

    >>> from minillm.transformer.decoder import Decoder, gpt2
    >>> model = Decoder(gpt2(vocabulary=9, context=4, n_layer=1, n_head=2, d_model=4))
    >>> [len(group["params"]) for group in muon_with_adamw(model).param_groups]
    [6, 14]
    """
    matrices, others = hidden_matrices(model, but)
    if not matrices:
        raise ValueError("model has no hidden matrices, which Muon is for; AdamW(model.parameters()) works")
    muon = Muon(matrices, learning_rate, momentum, weight_decay=weight_decay, polynomials=polynomials,
                in_bfloat16=in_bfloat16)  # fmt: skip
    if not others:
        return Together(muon)
    return Together(muon, AdamW(others, adamw_learning_rate, betas, weight_decay=weight_decay))


def _scale(parameter: Tensor, group: dict[str, Any]) -> float:
    rows, columns = parameter.shape
    return 0.2 * math.sqrt(max(rows, columns)) if group["match_adamw"] else math.sqrt(max(1, rows / columns))


def _check(group: dict[str, Any]) -> None:
    if not (group["lr"] >= 0 and group["weight_decay"] >= 0):
        raise ValueError(f"learning_rate={group['lr']} and weight_decay={group['weight_decay']} must not be negative")
    if not 0 <= group["momentum"] < 1:
        raise ValueError(f"momentum={group['momentum']} must lie in [0, 1); for example 0.95")
    if not group["polynomials"] or any(len(p) != 3 for p in group["polynomials"]):
        raise ValueError(f"polynomials={group['polynomials']!r} must be triples (a, b, c); polar_express(5) works")
    for parameter in group["params"]:
        if parameter.ndim != 2:
            raise ValueError(
                f"a parameter of shape {tuple(parameter.shape)} is no matrix, which Muon is for; give it to AdamW "
                "(muon_with_adamw(model) sorts them)"
            )
