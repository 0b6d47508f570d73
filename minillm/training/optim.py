"""AdamW, and the schedules that say how large each step may be.

    m ← β₁ m + (1 - β₁) g          v ← β₂ v + (1 - β₂) g²
    θ ← θ - η λ θ - η (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε)

m remembers where the slope points and v how large it usually is, so every parameter moves about η per step whatever
the size of its slope. Both start at zero; the divisions by 1 - βᵗ undo that start. The decay λ pulls on the parameter
itself and does not pass through m and v.

Paper:   Kingma & Ba 2015, "Adam", Algorithm 1, arXiv:1412.6980;
         Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", Algorithm 2, arXiv:1711.05101.
Names:   η is `learning_rate` (in groups `lr`, as in torch), λ `weight_decay`, (β₁, β₂) `betas`, ε `eps`.
Differs: the decay is multiplied by the learning rate, as in torch; the paper keeps the two apart.
Next:    minillm/training/muon.py
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Optimizer:
    """What every optimiser of the course is: groups of parameters with options, and a memory for each parameter.

    A subclass says in `move` how one parameter follows its slope. The attributes and methods are those of
    `torch.optim.Optimizer`, so `train` takes either. Ours stands alone because every class of `torch.optim` loads
    torch's compiler when it is first used, which takes as long as importing torch.
    """

    def __init__(self, parameters: Iterable[Any], defaults: dict[str, Any]) -> None:
        given = list(parameters)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        self.param_groups = [{**defaults, **group, "params": list(group["params"])} for group in groups]
        self.state: dict[nn.Parameter, dict[str, Any]] = {p: {} for p in self.parameters()}
        if not self.state:
            raise ValueError("parameters is empty: there is nothing to train; give model.parameters()")
        if len(self.state) < len(self.parameters()):
            raise ValueError("a parameter is there twice and would be moved twice; give each to one group")

    def parameters(self) -> list[nn.Parameter]:
        """All parameters, group by group."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def zero_grad(self) -> None:
        """Forget the slopes of the last step."""
        for parameter in self.parameters():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a slope, once."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.move(parameter, parameter.grad, self.state[parameter], group)

    def move(self, parameter: nn.Parameter, slope: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move one parameter in place and keep in `state` what the next step needs to know."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """All that a checkpoint must keep: each parameter's memory in order, and the options of the groups."""
        options = [{name: value for name, value in group.items() if name != "params"} for group in self.param_groups]
        return {"state": [dict(self.state[p]) for p in self.parameters()], "param_groups": options}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave for the same parameters; each tensor goes to its parameter's device."""
        parameters, groups = self.parameters(), saved["param_groups"]
        fits = [t.shape == p.shape for p, s in zip(parameters, saved["state"], strict=False) for t in _tensors(s)]
        if len(saved["state"]) != len(parameters) or len(groups) != len(self.param_groups) or not all(fits):
            raise ValueError(
                f"the saved optimiser has {len(saved['state'])} parameters in {len(groups)} groups, this one "
                f"{len(parameters)} in {len(self.param_groups)}, or their shapes differ; it belongs to another model"
            )
        for group, options in zip(self.param_groups, groups, strict=True):
            group.update(options)
        for parameter, state in zip(parameters, saved["state"], strict=True):
            self.state[parameter] = {
                name: value.to(parameter.device, copy=True) if isinstance(value, Tensor) else value
                for name, value in state.items()
            }


class AdamW(Optimizer):
    """Adam with decoupled weight decay; the same steps as `torch.optim.AdamW`.

    `parameters` are parameters, or groups such as `{"params": …, "lr": …, "weight_decay": …}` (see
    `decay_matrices_only`). On a GPU `torch.optim.AdamW(…, fused=True)` takes these steps faster.

    >>> weight = nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = AdamW([weight], learning_rate=0.1, weight_decay=0.5)
    >>> weight.grad = torch.tensor([8.0])
    >>> optimizer.step()
    >>> print(f"{weight.item():.4f}")  # 1 - 0.1 · 0.5 for the decay, and -0.1 whatever the size of the first slope
    0.8500
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, {"lr": learning_rate, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        for group in self.param_groups:
            _check(group)

    def move(self, parameter: nn.Parameter, slope: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """One parameter's step: the formula at the head of this file, line by line."""
        if not state:
            state.update(step=0, m=torch.zeros_like(parameter), v=torch.zeros_like(parameter))
        state["step"] += 1
        m, v, t, (beta1, beta2) = state["m"], state["v"], state["step"], group["betas"]

        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        m.lerp_(slope, 1 - beta1)
        v.mul_(beta2).addcmul_(slope, slope, value=1 - beta2)
        spread = (v / (1 - beta2**t)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(m, spread, value=-group["lr"] / (1 - beta1**t))


def decay_matrices_only(model: nn.Module, weight_decay: float = 0.1) -> list[dict[str, Any]]:
    """Two groups for an optimiser: matrices and larger are decayed; vectors (biases, gains of norms) are not.

    A bias or a gain has no reason to be near zero, and there are too few of them to overfit.

    >>> [(len(group["params"]), group["weight_decay"]) for group in decay_matrices_only(nn.Linear(3, 2))]
    [(1, 0.1), (1, 0.0)]
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def linear_warmup(step: int, *, warmup: int) -> float:
    """Rise in equal parts, then stay: min(1, step / warmup). Steps are counted from 1; `warmup=0` is no warm-up.

    >>> [linear_warmup(step, warmup=4) for step in (1, 2, 4, 100)]
    [0.25, 0.5, 1.0, 1.0]
    """
    _check_steps(step=step, warmup=warmup)
    return min(1.0, step / warmup) if warmup else 1.0


def linear_warmup_cosine(step: int, *, steps: int, warmup: int = 0, final: float = 0.1) -> float:
    """Rise to 1 at step `warmup`, then fall along half a cosine to `final` at the last step.

        final + (1 - final) · (1 + cos π u) / 2,   u = (step - warmup) / (steps - warmup)

    Loshchilov & Hutter 2017, "SGDR", equation 5, arXiv:1608.03983, without restarts; `final=0.1` is GPT-3's.

    >>> [round(linear_warmup_cosine(step, steps=10, warmup=2, final=0.1), 4) for step in (1, 2, 6, 10)]
    [0.5, 1.0, 0.55, 0.1]
    """
    _check_steps(step=step, warmup=warmup, steps=steps)
    if step <= warmup:
        return linear_warmup(step, warmup=warmup)
    return final + (1 - final) * (1 + math.cos(math.pi * _done(step, warmup, steps))) / 2


def constant_then_linear(step: int, *, steps: int, decay: int, warmup: int = 0, final: float = 0.0) -> float:
    """Rise to 1 at step `warmup`, stay there, and fall in a straight line to `final` over the last `decay` steps.

        1 - (1 - final) · (step - begin) / decay    after   begin = steps - decay

    Hu et al. 2024, "MiniCPM", §4.2 (warm-up, stable, decay), arXiv:2404.06395: a run can be made longer from its
    constant part, because nothing before the fall depends on `steps`.

    >>> [constant_then_linear(step, steps=10, decay=4) for step in (1, 6, 8, 10)]
    [1.0, 1.0, 0.5, 0.0]
    """
    _check_steps(step=step, warmup=warmup, steps=steps)
    begin = steps - decay
    if not (decay >= 0 and warmup <= begin):
        raise ValueError(f"decay={decay} and warmup={warmup} must both fit into steps={steps}; try decay={steps // 5}")
    if step <= begin:
        return linear_warmup(step, warmup=warmup)
    return 1 - (1 - final) * _done(step, begin, steps)


def linear_warmup_inverse_root(step: int, *, warmup: int) -> float:
    """Rise to 1 at step `warmup`, then fall as √(warmup / step), without an end.

    Vaswani et al. 2017, "Attention Is All You Need", §5.3, with the constant chosen so that the peak is 1.

    >>> [linear_warmup_inverse_root(step, warmup=4) for step in (1, 4, 16)]
    [0.25, 1.0, 0.5]
    """
    if warmup < 1:
        raise ValueError(f"warmup={warmup} must be at least 1: the fall is measured against it; the paper uses 4000")
    return min(linear_warmup(step, warmup=warmup), math.sqrt(warmup / step))


def _done(step: int, begin: int, end: int) -> float:
    """How much of the way from `begin` to `end` is behind, at most all of it."""
    return min(1.0, (step - begin) / (end - begin))


def _check_steps(*, step: int, warmup: int, steps: int | None = None) -> None:
    if step < 1:
        raise ValueError(f"step={step} must be at least 1: steps are counted from 1, as in the record")
    if warmup < 0 or (steps is not None and warmup > steps):
        raise ValueError(f"warmup={warmup} must lie in 0 … steps={steps}; a twentieth of the steps is usual")


def _tensors(state: dict[str, Any]) -> list[Tensor]:
    return [value for value in state.values() if isinstance(value, Tensor)]


def _check(group: dict[str, Any]) -> None:
    if not group["lr"] >= 0:
        raise ValueError(f"learning_rate={group['lr']} must not be negative; for example 1e-3")
    if not all(0 <= beta < 1 for beta in group["betas"]):
        raise ValueError(f"betas={group['betas']} must both lie in [0, 1); for example (0.9, 0.999)")
    if not (group["eps"] >= 0 and group["weight_decay"] >= 0):
        raise ValueError(f"eps={group['eps']} and weight_decay={group['weight_decay']} must not be negative")
