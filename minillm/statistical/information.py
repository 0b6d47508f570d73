"""Information: how many bits a surprise is worth, and how far one distribution is from another.

    H(p) = -Σ p log p          H(p, q) = -Σ p log q          KL(p‖q) = H(p, q) - H(p) ≥ 0
    perplexity = exp(nats per token)          bits per character = total nats / (ln 2 · characters)

Paper:   Shannon 1948, "A Mathematical Theory of Communication", §6; Kullback and Leibler 1951, "On Information
         and Sufficiency"; perplexity: Jelinek et al. 1977.
Names:   p is the truth, q the model; "nats" are natural-logarithm units, 1 bit = ln 2 nats.
Differs: the default base is e (nats), as the losses of training are; pass base=2 for Shannon's bits.
Next:    minillm/statistical/ngram_counts.py
"""

import math

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-5  # how far from 1 a sum may be: float32 softmaxes over large vocabularies stay within it


def _distribution(values: npt.ArrayLike, name: str, axes: int = 1) -> np.ndarray:
    """Return `values` as float64, or say why they are not a distribution."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != axes or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, a distribution here has {axes} axis/axes and is not empty")
    if not np.isfinite(array).all() or (array < 0).any():
        worst = array[~(np.isfinite(array) & (array >= 0))].flat[0]
        raise ValueError(f"{name} holds {worst}; probabilities are finite and at least 0 (are these logits or logs?)")
    if abs((total := float(array.sum())) - 1) > TOLERANCE:
        raise ValueError(f"{name} sums to {total:.6g}, a distribution sums to 1; divide by the sum")
    return array


def _logs_where_it_happens(p_v: npt.ArrayLike, q_v: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p, log p and log q at the outcomes that p allows; log q is -inf where q says never."""
    truth, model = _distribution(p_v, "p_v"), _distribution(q_v, "q_v")
    if truth.shape != model.shape:
        raise ValueError(f"p_v has {truth.size} outcomes and q_v {model.size}; both speak of the same outcomes")
    happens = truth > 0
    with np.errstate(divide="ignore"):
        return truth[happens], np.log(truth[happens]), np.log(model[happens])


def _log_base(base: float) -> float:
    if not (base > 1 and math.isfinite(base)):
        raise ValueError(f"base={base!r} is not a unit of information; use math.e for nats or 2 for bits")
    return math.log(base)


def entropy(p_v: npt.ArrayLike, *, base: float = math.e) -> float:
    """Return the mean surprise of outcomes drawn from p, in nats (base=2: bits), with 0 log 0 = 0.

    Takes one distribution of shape (v,). Raises ValueError when it is not one.

    >>> entropy([0.5, 0.25, 0.25], base=2)
    1.5
    """
    p_v = _distribution(p_v, "p_v")
    p_v = p_v[p_v > 0]
    return max(0.0, -float(p_v @ np.log(p_v))) / _log_base(base)


def cross_entropy(p_v: npt.ArrayLike, q_v: npt.ArrayLike, *, base: float = math.e) -> float:
    """Return the mean surprise of a model q at outcomes drawn from p, in nats (base=2: bits).

    Infinite when q gives 0 to an outcome that p gives more. Both of shape (v,).

    >>> cross_entropy([0.5, 0.5], [0.25, 0.75], base=2)  # (2 + 0.415) / 2
    1.207518749639422
    >>> cross_entropy([0.5, 0.5], [1.0, 0.0])
    inf
    """
    truth, _, log_model = _logs_where_it_happens(p_v, q_v)
    return max(0.0, -float(truth @ log_model)) / _log_base(base)


def kl_divergence(p_v: npt.ArrayLike, q_v: npt.ArrayLike, *, base: float = math.e) -> float:
    """Return KL(p‖q): the surprise that believing q costs when p is true, in nats (base=2: bits).

    Never negative, 0 only where p = q, infinite when q gives 0 to an outcome that p gives more.
    Not symmetric. Both of shape (v,).

    >>> kl_divergence([1.0, 0.0], [0.5, 0.5], base=2)
    1.0
    >>> kl_divergence([0.5, 0.5], [1.0, 0.0])
    inf
    """
    truth, log_truth, log_model = _logs_where_it_happens(p_v, q_v)
    # log p - log q, not log(p / q): the quotient overflows for tiny q
    return max(0.0, float(truth @ (log_truth - log_model))) / _log_base(base)


def conditional_entropy(joint: npt.ArrayLike, *, base: float = math.e) -> float:
    """Return H(Y | X) of a joint distribution with X along the rows and Y along the columns, in nats.

    What is left to learn about Y once X is known: H(X, Y) - H(X). An n-gram model's entropy is one of these.

    >>> conditional_entropy([[0.5, 0.0], [0.25, 0.25]], base=2)  # only the second row leaves a doubt
    0.5
    """
    joint = _distribution(joint, "joint", axes=2)
    return max(0.0, entropy(joint.reshape(-1), base=base) - entropy(joint.sum(1), base=base))


def mutual_information(joint: npt.ArrayLike, *, base: float = math.e) -> float:
    """Return I(X; Y) of a joint distribution of shape (outcomes of X, outcomes of Y), in nats.

    What knowing one tells about the other: KL from the joint to the product of its margins.
    Symmetric, and 0 when they are independent.

    >>> mutual_information([[0.5, 0.0], [0.0, 0.5]], base=2)
    1.0
    """
    joint = _distribution(joint, "joint", axes=2)
    independent = np.outer(joint.sum(1), joint.sum(0)) / joint.sum()
    return kl_divergence(joint.reshape(-1), independent.reshape(-1), base=base)


def perplexity(nats_per_token: float) -> float:
    """Return exp(nats per token): the number of equally likely choices that would be as surprising.

    A uniform guess among n outcomes has perplexity n. An infinite surprise has an infinite perplexity.

    >>> perplexity(math.log(6))  # a fair die
    6.0
    """
    nats = float(nats_per_token)
    if not nats >= 0:
        raise ValueError(
            f"nats_per_token={nats!r}; a mean surprise is at least 0 (pass minus the mean log-probability)"
        )
    return math.exp(nats) if nats < 709 else math.inf


def bits_per_character(total_nats: float, characters: int) -> float:
    """Return the surprise of a whole text in bits, divided by its characters: one scale for all tokenisers.

    >>> bits_per_character(100 * math.log(2), characters=50)
    2.0
    """
    if characters < 1:
        raise ValueError(f"characters={characters!r}; a text has at least 1 character to share its bits among")
    if not float(total_nats) >= 0:
        raise ValueError(f"total_nats={total_nats!r}; a surprise is at least 0 (pass minus the log-probability)")
    return float(total_nats) / math.log(2) / characters
