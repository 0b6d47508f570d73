"""Sampling: choose the next token from a model's logits, the same way on every machine and for every model.

    p = softmax(logits / temperature), cut to the top k, then to the smallest set with mass ≥ p, renormalised
    token = the first one whose cumulated probability exceeds u,   u ~ uniform[0, 1)

Paper:   inverse transform: Devroye 1986, "Non-Uniform Random Variate Generation", §III.2; top-k: Fan et al. 2018,
         "Hierarchical Neural Story Generation", §5.1; top-p: Holtzman et al. 2020, "The Curious Case of Neural
         Text Degeneration", §3.1, arXiv:1904.09751.
Names:   top_k is k, top_p is p, the kept set is Holtzman's "nucleus".
Differs: one uniform number from an explicit CPU generator replaces `torch.multinomial`, whose draws differ between
         versions and devices; all arithmetic is float64 on the CPU. Equal probabilities are ordered by token id.
Next:    minillm/statistical/metrics.py
"""

import math
from typing import overload

import numpy as np
import torch
from torch import Tensor

FEW = 1024  # top-p: so many tokens are tried before all are sorted
MASS_TOLERANCE = 1e-12  # top-p: 0.5 + 0.3 must reach p=0.8 although float64 may sum to 0.7999999999999999


@overload
def next_distribution(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor: ...
@overload
def next_distribution(
    logits: np.ndarray, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray: ...
def next_distribution(
    logits: Tensor | np.ndarray, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor | np.ndarray:
    """Return the exact distribution that `sample_next` draws from, float64 on the CPU, in the shape of `logits`.

    `logits` are (v,) or (b, v), a tensor or an array; log-probabilities will do, and -inf forbids a token.
    `temperature` 0 puts everything on the largest logit. `top_k` keeps exactly k tokens (all, when there are
    fewer); `top_p` keeps the smallest set whose mass among those reaches p, at least one token. Of equals, the
    lower token id counts as the larger. Raises ValueError for NaN, +inf, a row of -inf, or an argument out of range.

    >>> next_distribution(np.log([0.5, 0.3, 0.2]), top_k=2)
    array([0.625, 0.375, 0.   ])
    >>> next_distribution(np.log([0.5, 0.3, 0.2]), top_p=0.6).round(3)
    array([0.625, 0.375, 0.   ])
    """
    p_bv = _distribution(_checked(logits, temperature, top_k, top_p), temperature, top_k, top_p)
    shaped = p_bv.reshape(tuple(logits.shape))
    return shaped.numpy() if isinstance(logits, np.ndarray) else shaped


@overload
def sample_next(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor: ...
@overload
def sample_next(
    logits: np.ndarray,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> np.ndarray: ...
def sample_next(
    logits: Tensor | np.ndarray,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor | np.ndarray:
    """Draw one token id for each row of `logits`: (v,) gives a 0-axis result (use `int`), (b, v) gives (b,).

    A tensor gives an int64 tensor on the same device, an array an int64 array. `temperature` 0 is greedy and draws
    nothing; otherwise one uniform number a row comes from `generator`, a CPU one (None: torch's default generator,
    which `seed_everything` seeds). The other arguments and errors are those of `next_distribution`.

    >>> int(sample_next(np.array([0.1, 2.0, 0.3]), temperature=0))
    1
    >>> int(sample_next(torch.tensor([0.1, -math.inf]), generator=torch.Generator().manual_seed(0)))
    0
    """
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(f"generator lives on {generator.device}; draws repeat only with a CPU one: torch.Generator()")
    logits_bv = _checked(logits, temperature, top_k, top_p)
    if temperature == 0:
        token_b = logits_bv.argmax(-1)
    else:
        p_bv = _distribution(logits_bv, temperature, top_k, top_p)
        cumulated_bv = p_bv.cumsum(-1)
        u_b = torch.rand(p_bv.shape[0], dtype=torch.float64, generator=generator) * cumulated_bv[:, -1]
        token_b = torch.searchsorted(cumulated_bv, u_b[:, None], right=True)[:, 0]
        # Rounding could push u onto the total itself; the last token with any probability is then the answer.
        last_b = p_bv.shape[1] - 1 - (p_bv > 0).flip(-1).to(torch.uint8).argmax(-1)
        token_b = torch.minimum(token_b, last_b)
    shaped = token_b.reshape(tuple(logits.shape)[:-1])
    return shaped.numpy() if isinstance(logits, np.ndarray) else shaped.to(logits.device)


def _checked(logits: Tensor | np.ndarray, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """Return the logits as (b, v) float64 on the CPU, or say what cannot be sampled from."""
    if not (temperature >= 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature={temperature!r} must be a finite number ≥ 0; 0 is greedy, 1 leaves p as it is")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k!r} keeps no token; use at least 1, or None to keep all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p!r} is not in (0, 1]; 0.9 keeps nine tenths of the mass, None keeps all")
    # A copy of an array, because torch warns of read-only ones and refuses negative strides.
    tensor = torch.from_numpy(np.array(logits, np.float64, order="C")) if isinstance(logits, np.ndarray) else logits
    if tensor.ndim not in (1, 2) or tensor.shape[-1] == 0:
        raise ValueError(f"logits has shape {tuple(tensor.shape)}; give (v,) or (b, v) with at least one token")
    logits_bv = tensor.detach().to("cpu", torch.float64).reshape(-1, tensor.shape[-1])
    if bool((logits_bv.isnan() | (logits_bv == math.inf)).any()):
        raise ValueError("logits hold NaN or +inf; only finite numbers and -inf (never) can be weighed")
    if bool((empty_b := (logits_bv == -math.inf).all(-1)).any()):
        raise ValueError(f"logits row {int(empty_b.nonzero()[0])} is -inf throughout: no token is allowed there")
    return logits_bv


def _distribution(logits_bv: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    if temperature == 0:
        return torch.nn.functional.one_hot(logits_bv.argmax(-1), logits_bv.shape[-1]).to(torch.float64)
    # The largest logit becomes 0 before the division, so that a tiny temperature cannot overflow.
    p_bv = ((logits_bv - logits_bv.amax(-1, keepdim=True)) / temperature).softmax(-1)
    if (top_k is None or top_k >= p_bv.shape[-1]) and top_p in (None, 1.0):
        return p_bv
    v = p_bv.shape[-1]
    kept = v if top_k is None else min(top_k, v)
    if top_p is None or kept < v:
        rank_bn = _largest(logits_bv, kept)
    else:  # usually few tokens hold the mass: sort those, and all only if they do not
        rank_bn = _largest(logits_bv, min(kept, FEW))
        if bool((p_bv.gather(-1, rank_bn).sum(-1) < top_p).any()):
            rank_bn = _largest(logits_bv, kept)
    sorted_bn = p_bv.gather(-1, rank_bn)
    if kept < v:
        sorted_bn /= sorted_bn.sum(-1, keepdim=True)
    if top_p is not None:
        before_bn = sorted_bn.cumsum(-1) - sorted_bn  # a token is kept while the mass before it is short of p
        sorted_bn[before_bn >= top_p - MASS_TOLERANCE] = 0
        sorted_bn /= sorted_bn.sum(-1, keepdim=True)
    return torch.zeros_like(p_bv).scatter_(-1, rank_bn, sorted_bn)


def _largest(logits_bv: Tensor, n: int) -> Tensor:
    """The ids (b, n) of the n largest logits in order, the lower id first among equals.

    Logits, not p: two tiny probabilities may both round to 0 though their logits differ. Only what may be among the n
    largest is sorted; `topk` alone would choose among equals as it likes.
    """
    if n == logits_bv.shape[-1]:
        return logits_bv.argsort(dim=-1, descending=True, stable=True)
    least = logits_bv.topk(n).values[:, -1:]
    most = int((logits_bv >= least).sum(-1).max())  # more than n when others equal the last of them
    candidates = logits_bv.topk(most).indices.sort(-1).values
    order = logits_bv.gather(-1, candidates).argsort(dim=-1, descending=True, stable=True)
    return candidates.gather(-1, order)[:, :n]
