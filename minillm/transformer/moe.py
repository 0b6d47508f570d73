"""A mixture of experts: many MLPs, of which each token passes only a few. A router says which.

    probability = softmax(R x),   y = Σ over the chosen k of weight · expert(x)   + shared(x)

The parameters grow with the number of experts, the work per token with the number chosen. Nothing but what is added to
the loss, or to the scores, keeps the router from sending everything to one expert.

    balance   N Σ_e f_e P_e         f_e share of the choices, P_e mean probability; 1 when both are even
    z         mean (log Σ exp R x)²       keeps the logits small

Paper:   Shazeer et al. 2017, arXiv:1701.06538; top-1, capacity, jitter and balance: Fedus, Zoph and Shazeer 2021,
         "Switch Transformers", §2.2, eq. 1-6, arXiv:2101.03961; z: Zoph et al. 2022, "ST-MoE", eq. 5, arXiv:2202.08906;
         Jiang et al. 2024, "Mixtral of Experts", §2.1, arXiv:2401.04088; shared experts, sigmoid scores, balance by a
         bias: DeepSeek-AI 2024, "DeepSeek-V3", §2.1.2, arXiv:2412.19437.
Names:   n are tokens, e experts (the papers' N or E), k the choices of a token; `router` is W_r, `balance_loss` is α,
         `z_loss` is c_z, `bias_speed` is γ.
Differs: f is the share of all choices, so that balance is 1 at its best for every k. The DeepSeek bias moves after each
         forward pass in training. Capacity holds in training alone: what is read in evaluation does not depend on who
         else is in the batch. Jitter moves what the router sees, not what the experts do. Chance is torch's, as for
         dropout. DeepSeek's groups of experts, its factor on the weights and its loss within a text are left out.
Next:    minillm/transformer/moe_dispatch.py
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.core.runtime import Choice
from minillm.core.settings import check_whole_numbers
from minillm.transformer.block import ACTIVATIONS, MLP, MLPName, SwiGLU
from minillm.transformer.moe_dispatch import DISPATCH, DispatchName, capacity_of, first_come, pick_dispatch


@dataclass(frozen=True, kw_only=True, slots=True)
class MoEConfig:
    """What a `MoE` is made of. The defaults are Mixtral's; `switch` and `deepseek_v3` below name two others."""

    d_model: int  # width of the stream
    d_hidden: int  # inside each expert
    n_expert: int = 8  # MLPs to choose from
    top_k: int = 2  # how many of them each token passes
    mlp: MLPName = "swiglu"  # what an expert is: the bend of an MLP, or "swiglu"
    bias: bool = False  # of the experts' maps
    score: Literal["softmax", "sigmoid"] = "softmax"  # from logits to probabilities
    normalise: bool | None = None  # the weights of the chosen add up to 1; None: when top_k is above 1
    n_shared: int = 0  # experts that every token passes, as one MLP of n_shared · d_hidden
    capacity: float | None = None  # of an expert in training, times its equal share; None: no limit
    balance_loss: float = 0.01  # factor of the balance loss
    z_loss: float = 0.0  # factor of the z-loss; ST-MoE has 0.001
    bias_speed: float = 0.0  # step of the bias that balances without a loss; DeepSeek-V3 has 0.001
    jitter: float = 0.0  # in training the router sees x times a number from 1 - jitter to 1 + jitter

    def __post_init__(self) -> None:
        check_whole_numbers({n: (getattr(self, n), 2) for n in ("d_model", "d_hidden", "n_expert", "top_k")})
        check_whole_numbers({"n_shared": (self.n_shared, 2)}, least=0)
        if self.top_k > self.n_expert:
            raise ValueError(
                f"top_k={self.top_k} of n_expert={self.n_expert} cannot be chosen; top_k={self.n_expert} is all of them"
            )
        if self.mlp != "swiglu" and self.mlp not in ACTIVATIONS:
            raise ValueError(f"mlp={self.mlp!r} must be 'swiglu' or one of {', '.join(ACTIVATIONS)}; 'gelu' works")
        if self.score not in ("softmax", "sigmoid"):
            raise ValueError(f"score={self.score!r} must be 'softmax' or 'sigmoid'")
        if self.capacity is not None and not 0 < self.capacity < float("inf"):
            raise ValueError(f"capacity={self.capacity!r} must be above 0, or None for no limit; 1.25 works")
        for name in ("balance_loss", "z_loss", "bias_speed"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)!r} must be 0 (off) or above; {name}=0.001 works")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter={self.jitter!r} is a share from 0 to below 1; 0.01 works")

    @property
    def normalised(self) -> bool:
        """Whether the weights of the chosen add up to 1. For one choice they would be 1, and teach the router nothing.

        >>> MoEConfig(d_model=4, d_hidden=8, top_k=1).normalised
        False
        """
        return self.top_k > 1 if self.normalise is None else self.normalise


def switch(*, d_model: int, d_hidden: int, n_expert: int, capacity: float = 1.25) -> MoEConfig:
    """Switch: one expert a token, weighted by its probability; who finds it full passes none.

    >>> switch(d_model=4, d_hidden=8, n_expert=3).top_k
    1
    """
    return MoEConfig(
        d_model=d_model, d_hidden=d_hidden, n_expert=n_expert, top_k=1, mlp="relu", capacity=capacity, jitter=0.01
    )


def deepseek_v3(
    *, d_model: int, d_hidden: int, n_expert: int, top_k: int, n_shared: int = 1, bias_speed: float = 0.001
) -> MoEConfig:
    """DeepSeek-V3: many small experts, a shared one, sigmoid scores, balance by a bias and without a loss.

    >>> deepseek_v3(d_model=4, d_hidden=2, n_expert=16, top_k=4).balance_loss
    0.0
    """
    return MoEConfig(
        d_model=d_model,
        d_hidden=d_hidden,
        n_expert=n_expert,
        top_k=top_k,
        score="sigmoid",
        normalise=True,
        n_shared=n_shared,
        balance_loss=0.0,
        bias_speed=bias_speed,
    )


@dataclass(frozen=True, slots=True)
class Routing:
    """Who went where in one forward pass, and what can be counted about it. The gradient is left out."""

    probability_ne: Tensor  # what the router gave each expert; adds up to 1 over them
    chosen_nk: Tensor  # the experts chosen, the best first
    weight_nk: Tensor  # of what they make; 0 where there was no room
    kept_nk: Tensor  # whether there was room

    @property
    def load_e(self) -> Tensor:
        """The share of all choices that each expert was, before any was turned away; adds up to 1."""
        return shares(self.chosen_nk, self.probability_ne.shape[1])

    @property
    def load_entropy(self) -> float:
        """Entropy of the load in nats: log n_expert when it is even, 0 when one expert has everything."""
        return float(torch.special.entr(self.load_e).sum())

    @property
    def router_entropy(self) -> float:
        """Mean entropy of a token's probabilities in nats: 0 when the router is sure."""
        return float(torch.special.entr(self.probability_ne).sum(dim=-1).mean())

    @property
    def dropped(self) -> float:
        """The share of all choices that were turned away."""
        return 1 - float(self.kept_nk.float().mean())


class MoE(nn.Module):
    """Experts in the place of the MLP: (b, t, d) in, (b, t, d) out.

    After a forward pass `routing` holds who went where, `ran` which way of dispatch and why, and in training
    `auxiliary` what is to be added to the loss. `dispatch` is "auto", "loop", "sorted" or "grouped_mm": the same sum,
    see `minillm.transformer.moe_dispatch`.

    >>> layer = MoE(MoEConfig(d_model=4, d_hidden=8, n_expert=5, top_k=2))
    >>> layer(torch.randn(2, 3, 4)).shape
    torch.Size([2, 3, 4])
    >>> layer.routing.chosen_nk.shape
    torch.Size([6, 2])
    """

    bias_e: Tensor | None

    def __init__(self, config: MoEConfig, dispatch: DispatchName = "auto") -> None:
        super().__init__()
        if dispatch != "auto" and dispatch not in DISPATCH:
            raise ValueError(f"dispatch={dispatch!r} must be 'auto' or one of {', '.join(DISPATCH)}")
        self.config, self.dispatch = config, dispatch
        self.router = nn.Linear(config.d_model, config.n_expert, bias=False)
        self.experts = nn.ModuleList(make_expert(config) for _ in range(config.n_expert))
        self.shared = make_expert(config, config.n_shared) if config.n_shared else None
        self.register_buffer("bias_e", torch.zeros(config.n_expert) if config.bias_speed else None)
        self.routing: Routing | None = None
        self.ran: Choice | None = None
        self.auxiliary: Tensor | None = None

    def forward(self, x_btd: Tensor) -> Tensor:
        if x_btd.ndim != 3 or x_btd.shape[-1] != self.config.d_model:
            d = self.config.d_model
            raise ValueError(f"x has shape {tuple(x_btd.shape)}; the rule is (b, t, {d}), such as (1, 1, {d})")
        x_nd = x_btd.flatten(0, 1)
        chosen_nk, weight_nk = self._route(x_nd)
        is_auto = self.dispatch == "auto"
        experts: Any = self.experts
        self.ran = pick_dispatch(experts, x_nd) if is_auto else Choice(value=self.dispatch, why="asked for")
        y_btd = DISPATCH[self.ran.value](experts, x_nd, chosen_nk, weight_nk).view_as(x_btd)
        return y_btd if self.shared is None else y_btd + self.shared(x_btd)

    def router_logits(self, x_nd: Tensor) -> Tensor:
        """How well each expert fits each token, (n, e), in float32 where the weights are: small differences decide."""
        if self.training and self.config.jitter:
            x_nd = x_nd * torch.empty_like(x_nd).uniform_(1 - self.config.jitter, 1 + self.config.jitter)
        with torch.autocast(x_nd.device.type, enabled=False):
            return self.router(x_nd.to(self.router.weight.dtype)).float()

    def _route(self, x_nd: Tensor) -> tuple[Tensor, Tensor]:
        """The experts of each token and their weights, (n, k); who finds no room has expert n_expert and weight 0."""
        config, logits_ne = self.config, self.router_logits(x_nd)
        is_softmax = config.score == "softmax"
        log_score_ne = logits_ne.log_softmax(-1) if is_softmax else F.logsigmoid(logits_ne)
        probability_ne = log_score_ne.exp() if is_softmax else log_score_ne.softmax(-1)  # each score over their sum
        wish_ne = log_score_ne if self.bias_e is None else log_score_ne.exp() + self.bias_e
        chosen_nk = wish_ne.topk(config.top_k, dim=-1).indices  # the bias has a say here, and none in the weights
        weight_nk = log_score_ne.gather(-1, chosen_nk)
        weight_nk = weight_nk.softmax(-1) if config.normalised else weight_nk.exp()
        kept_nk = torch.ones_like(chosen_nk, dtype=torch.bool)
        if self.training and config.capacity is not None:
            room = capacity_of(len(x_nd), config.top_k, config.n_expert, config.capacity)
            kept_nk = first_come(chosen_nk, config.n_expert, room)
            weight_nk = weight_nk * kept_nk
        self.auxiliary = self._auxiliary(logits_ne, probability_ne, chosen_nk) if self.training else None
        self.routing = Routing(probability_ne.detach(), chosen_nk, weight_nk.detach(), kept_nk)
        if self.training and self.bias_e is not None:
            self._balance(chosen_nk)
        return chosen_nk.masked_fill(~kept_nk, config.n_expert), weight_nk

    def _auxiliary(self, logits_ne: Tensor, probability_ne: Tensor, chosen_nk: Tensor) -> Tensor | None:
        """What this layer adds to the loss, or None when it adds nothing."""
        parts = []
        if self.config.balance_loss:
            parts.append(self.config.balance_loss * balance_loss(probability_ne, chosen_nk))
        if self.config.z_loss:
            parts.append(self.config.z_loss * router_z_loss(logits_ne))
        return sum(parts[1:], parts[0]) if parts else None

    @torch.no_grad()
    def _balance(self, chosen_nk: Tensor) -> None:
        """DeepSeek-V3: an expert with more than its share becomes a little less wanted, one with less a little more."""
        assert self.bias_e is not None
        count_e = torch.bincount(chosen_nk.flatten(), minlength=self.config.n_expert)
        self.bias_e += self.config.bias_speed * (chosen_nk.numel() - count_e * self.config.n_expert).sign()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes along: not the last pass, whose gradient belongs to this layer."""
        return self.__dict__ | {"routing": None, "auxiliary": None}


def balance_loss(probability_ne: Tensor, chosen_nk: Tensor) -> Tensor:
    """Switch, eq. 4-6, without α: 1 when choices and probabilities are even, up to n_expert when all go to one.

    >>> balance_loss(torch.full((6, 3), 1 / 3), torch.tensor([[0], [1], [2], [0], [1], [2]]))
    tensor(1.0000)
    """
    n_expert = probability_ne.shape[1]
    return n_expert * (shares(chosen_nk, n_expert) * probability_ne.mean(dim=0)).sum()


def router_z_loss(logits_ne: Tensor) -> Tensor:
    """ST-MoE, eq. 5: the mean square of log Σ exp of a token's logits.

    >>> router_z_loss(torch.zeros(3, 4))  # (log 4)²
    tensor(1.9218)
    """
    return logits_ne.logsumexp(dim=-1).square().mean()


def shares(chosen_nk: Tensor, n_expert: int) -> Tensor:
    """Each expert's share of all choices, (e,): adds up to 1 and has no gradient.

    >>> shares(torch.tensor([[0, 1], [1, 3]]), n_expert=4)
    tensor([0.2500, 0.5000, 0.0000, 0.2500])
    """
    return torch.bincount(chosen_nk.flatten(), minlength=n_expert) / chosen_nk.numel()


def auxiliary_loss(model: nn.Module) -> Tensor | float:
    """What all mixtures in a model add to its loss for the last pass: their sum, once, then forgotten.

    >>> auxiliary_loss(nn.Linear(2, 2))
    0.0
    """
    total: Tensor | float = 0.0
    for layer in model.modules():
        if isinstance(layer, MoE) and layer.auxiliary is not None:
            total, layer.auxiliary = total + layer.auxiliary, None
    return total


def make_expert(config: MoEConfig, times: int = 1) -> MLP | SwiGLU:
    """One expert, or one MLP as wide as several."""
    d_hidden = times * config.d_hidden
    if config.mlp == "swiglu":
        return SwiGLU(config.d_model, d_hidden, config.bias)
    return MLP(config.d_model, d_hidden, config.mlp, config.bias)
