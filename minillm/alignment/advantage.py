"""Advantage: how much better a token turned out than was expected when it was written.

    δ_t = r_t + γ V_{t+1} - V_t                       one step's surprise; V = 0 after the last token
    A_t = δ_t + γλ δ_{t+1} + (γλ)² δ_{t+2} + …        (GAE)         R_t = A_t + V_t    what V should have said

λ = 0 trusts the critic's next word alone; λ = 1 waits for the end, A = G - V, and needs no critic to be right.

Paper:   Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
         arXiv:1506.02438, equations 11-16.
Names:   `reward_bt`, `value_bt` and `advantage_bt` are r, V and A; `real_bt` says which places hold a token.
Differs: an episode is one response, of its own length; V after its last token is 0 whatever the critic says there
         (row 11), and so is everything that these functions return there.
Next:    minillm/alignment/ppo.py
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def gae(reward_bt: Tensor, value_bt: Tensor, real_bt: Tensor, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """The advantages (b, t) of responses whose tokens stand where `real_bt` is True, 0 elsewhere.

    >>> reward, value = torch.tensor([[0.0, 0.0, 1.0, 9.0]]), torch.tensor([[0.5, 0.5, 0.5, 9.0]])
    >>> gae(reward, value, torch.tensor([[True, True, True, False]]), lam=0.0)
    tensor([[0.0000, 0.0000, 0.5000, 0.0000]])
    >>> gae(reward, value, torch.tensor([[True, True, True, False]]), lam=1.0)
    tensor([[0.5000, 0.5000, 0.5000, 0.0000]])
    """
    reward_bt, value_bt = (torch.where(real_bt, x, 0.0) for x in (reward_bt, value_bt))
    advantage_bt = torch.zeros_like(value_bt)
    after_b = next_value_b = torch.zeros_like(value_bt[:, 0])
    for t in reversed(range(value_bt.shape[1])):
        surprise_b = reward_bt[:, t] + gamma * next_value_b - value_bt[:, t]
        after_b = torch.where(real_bt[:, t], surprise_b + gamma * lam * after_b, 0.0)
        advantage_bt[:, t], next_value_b = after_b, value_bt[:, t]
    return advantage_bt


def gae_loop(rewards: Sequence[float], values: Sequence[float], gamma: float = 1.0, lam: float = 0.95) -> list[float]:
    """The plain twin: the same sum for one response, without filling, as the formula is written.

    >>> gae_loop([0.0, 0.0, 1.0], [0.5, 0.5, 0.5], lam=1.0)
    [0.5, 0.5, 0.5]
    """
    n = len(rewards)
    surprises = [rewards[t] + gamma * (values[t + 1] if t + 1 < n else 0.0) - values[t] for t in range(n)]
    return [sum((gamma * lam) ** (later - t) * surprises[later] for later in range(t, n)) for t in range(n)]


def masked_mean(x_bt: Tensor, real_bt: Tensor) -> Tensor:
    """The mean over tokens, each token weighing the same (row 27); what fills up does not count.

    >>> masked_mean(torch.tensor([[1.0, 3.0], [5.0, 99.0]]), torch.tensor([[True, True], [True, False]]))
    tensor(3.)
    """
    return torch.where(real_bt, x_bt, 0.0).sum() / real_bt.sum()


def masked_variance(x_bt: Tensor, real_bt: Tensor) -> Tensor:
    """The variance over tokens, around their own mean."""
    return masked_mean((x_bt - masked_mean(x_bt, real_bt)).square(), real_bt)


def whiten(x_bt: Tensor, real_bt: Tensor, *, shift: bool = True) -> Tensor:
    """Scale to variance 1 over the tokens, and `shift` their mean to 0 (row 12); 0 where there is no token.

    >>> whiten(torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[True, True, False]]))
    tensor([[-1.,  1.,  0.]])
    """
    mean = masked_mean(x_bt, real_bt) if shift else 0.0
    return torch.where(real_bt, (x_bt - mean) * (masked_variance(x_bt, real_bt) + 1e-8).rsqrt(), 0.0)


def explained_variance(value_bt: Tensor, return_bt: Tensor, real_bt: Tensor) -> float:
    """1 - Var(R - V) / Var(R): 1 for a critic that knows, 0 for one that says the same always, below 0 for worse.

    >>> real = torch.tensor([[True, True]])
    >>> explained_variance(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 4.0]]), real)
    0.75
    """
    spread = float(masked_variance(return_bt, real_bt))
    return 1 - float(masked_variance(return_bt - value_bt, real_bt)) / spread if spread > 0 else float("nan")
