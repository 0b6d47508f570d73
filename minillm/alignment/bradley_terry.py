"""Bradley–Terry: each item has a score, and the difference of two scores says how often one beats the other.

    P(i beats j) = σ(θ_i - θ_j)           loss(θ) = -Σ log σ(θ_winner - θ_loser)           Σ θ = 0

    gradient_i = Σ_j (n_ij P_ij - wins_ij)      information I = Σ n_ij P_ij (1 - P_ij) (e_i - e_j)(e_i - e_j)ᵀ

The loss is convex, so Newton's steps find its one minimum. Where they stand close together the comparisons say little:
the inverse of I is the covariance of the scores, and its diagonal their squared error bars. Only differences count, so
the scores are made to add up to 0.

Paper:   Bradley & Terry 1952, "Rank Analysis of Incomplete Block Designs: I"; Zermelo 1929, "Die Berechnung der
         Turnier-Ergebnisse als ein Maximumproblem der Wahrscheinlichkeitsrechnung"; when there is a minimum: Ford 1957,
         "Solution of a Ranking Problem from Binary Comparisons".
Names:   θ_i is the log of Bradley and Terry's π_i; σ(x) = 1 / (1 + e^-x).
Differs: `prior` adds Σ θ² · prior / 2 to the loss: a belief that scores are small. With it there is always a minimum.
Next:    minillm/alignment/reward.py
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


class Separable(ValueError):
    """The comparisons have no best scores: some items never lost to any of the others, so their lead grows forever."""


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """Scores, with what the comparisons leave open."""

    score_n: np.ndarray  # adding up to 0, in logits
    error_n: np.ndarray  # standard error of each, from the Fisher information
    covariance: np.ndarray  # (n, n) of the scores
    nats: float  # mean loss of a comparison, without the prior

    def probability(self, i: int, j: int) -> float:
        """How likely item i beats item j."""
        return float(sigmoid(self.score_n[i] - self.score_n[j]))


def fit_bradley_terry(
    winners: Sequence[int], losers: Sequence[int], n: int, *, prior: float = 0.0, steps: int = 100
) -> BradleyTerry:
    """The scores of n items under which comparison i, `winners[i]` over `losers[i]`, is likeliest, by Newton's method.

    Raises `Separable` when there are none (with `prior=0`), and names the items that run away.

    >>> won = fit_bradley_terry([0, 0, 0, 1], [1, 1, 1, 0], n=2)
    >>> print(f"{won.score_n[0] - won.score_n[1]:.4f}")  # it won three times of four: log 3
    1.0986
    """
    wins = count_wins(winners, losers, n)
    if not 0 <= prior < np.inf:
        raise ValueError(f"prior={prior!r} must be 0 (none) or above; 0.1 works")
    if not prior and (ahead := unbeaten(wins)):
        some = ", ".join(map(str, ahead[:6])) + (" …" if len(ahead) > 6 else "")
        raise Separable(
            f"{int(wins.sum())} comparisons of {n} items have no best scores: items {some} ({len(ahead)} of {n}) never "
            "lost to any other, so a larger lead of theirs is always likelier. Compare more, or say prior=0.1"
        )
    score_n = np.zeros(n)
    nats = _loss(score_n, wins, prior)
    for _ in range(steps):
        gradient_n, information = _slope(score_n, wins, prior)
        move, size = -_solve(information, gradient_n), 1.0
        while (after := _loss(score_n + size * move, wins, prior)) > nats and size > 1e-10:
            size /= 2  # too far: the loss is convex, so a shorter step does descend
        score_n, nats = score_n + size * move, min(nats, after)
        if np.abs(size * move).max() < 1e-10:
            break
    _, information = _slope(score_n, wins, prior)
    covariance = _solve(information, np.eye(n) - 1 / n)
    covariance = (covariance + covariance.T) / 2
    error_n = np.sqrt(np.diag(covariance).clip(min=0))
    return BradleyTerry(score_n, error_n, covariance, _loss(score_n, wins, 0.0) / wins.sum())


def fit_linear(difference_nd: np.ndarray, *, prior: float = 1.0, steps: int = 100) -> tuple[np.ndarray, float]:
    """The weights w (d,) under which all choices are likeliest when a score is w · features; and their mean nats.

    `difference_nd` holds the features of the winner minus those of the loser, for each comparison: this is logistic
    regression on differences, without a constant. `prior` adds |w|² · prior / 2 to the summed loss; it must be above 0,
    for with more features than comparisons these are always separable.

    >>> w, nats = fit_linear(np.array([[1.0], [1.0], [1.0], [-1.0]]), prior=1e-9)  # won three times of four: log 3
    >>> print(f"{w[0]:.4f}")
    1.0986
    """
    x_nd = np.asarray(difference_nd, dtype=float)
    if x_nd.ndim != 2 or not len(x_nd) or not 0 < prior < np.inf:
        raise ValueError(
            f"prior={prior!r} must be above 0 and the differences (n, d), not {x_nd.shape}; prior=1.0 works"
        )
    nats_of = lambda w: np.logaddexp(0.0, -x_nd @ w)
    loss = lambda w: nats_of(w).sum() + prior / 2 * w @ w
    w_d = np.zeros(x_nd.shape[1])
    for _ in range(steps):
        p_n = sigmoid(x_nd @ w_d)
        gradient_d = prior * w_d - x_nd.T @ (1 - p_n)
        curvature = (x_nd * (p_n * (1 - p_n))[:, None]).T @ x_nd + prior * np.eye(len(w_d))
        move, size = -np.linalg.solve(curvature, gradient_d), 1.0
        while loss(w_d + size * move) > loss(w_d) and size > 1e-10:
            size /= 2
        w_d = w_d + size * move
        if np.abs(size * move).max() < 1e-10:
            break
    return w_d, float(nats_of(w_d).mean())


def count_wins(winners: Sequence[int], losers: Sequence[int], n: int) -> np.ndarray:
    """The table (n, n) of how often the item of the row beat that of the column.

    >>> count_wins([0, 0, 2], [1, 1, 0], n=3).tolist()
    [[0, 2, 0], [0, 0, 0], [1, 0, 0]]
    """
    rows, columns = np.asarray(winners, dtype=np.int64), np.asarray(losers, dtype=np.int64)
    if rows.shape != columns.shape or rows.ndim != 1 or not len(rows):
        raise ValueError(
            f"winners and losers have shapes {rows.shape} and {columns.shape}; give as many of each, (1,) say"
        )
    if min(rows.min(), columns.min()) < 0 or max(rows.max(), columns.max()) >= n or (rows == columns).any():
        raise ValueError(f"winners and losers must be two different items of 0 … {n - 1} in each comparison")
    wins = np.zeros((n, n), dtype=np.int64)
    np.add.at(wins, (rows, columns), 1)
    return wins


def unbeaten(wins: np.ndarray) -> list[int]:
    """A set of items that never lost to any item outside it; empty when only the set of all items is such (Ford).

    >>> unbeaten(count_wins([0, 1, 2], [1, 2, 0], n=3))  # a circle: everybody lost to somebody
    []
    >>> unbeaten(count_wins([0, 1, 2, 3], [1, 2, 0, 0], n=4))
    [3]
    """
    n = len(wins)
    reach = (wins > 0) | np.eye(n, dtype=bool)  # i beat j, perhaps by way of others
    while (further := reach @ reach).sum() > reach.sum():
        reach = further
    behind = reach.sum(axis=1)
    if (behind == n).all():
        return []
    # those that beat item i, directly or not, and i itself: nobody outside beat any of them; the smallest such set
    ahead = min((reach[:, i] for i in range(n)), key=lambda members: int(members.sum()))
    return np.flatnonzero(ahead).tolist()


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))


def _loss(score_n: np.ndarray, wins: np.ndarray, prior: float) -> float:
    gap = score_n[:, None] - score_n
    return float((wins * np.logaddexp(0.0, -gap)).sum() + prior / 2 * (score_n**2).sum())


def _slope(score_n: np.ndarray, wins: np.ndarray, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """The gradient (n,) and the information (n, n)."""
    met = wins + wins.T
    p = sigmoid(score_n[:, None] - score_n)
    weight = met * p * (1 - p)
    information = np.diag(weight.sum(axis=1) + prior) - weight
    return (met * p - wins).sum(axis=1) + prior * score_n, information


def _solve(information: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve among scores that add up to 0; in the direction that is left out the information is 0 (or the prior)."""
    n = len(information)
    return np.linalg.solve(information + np.full((n, n), 1 / n), right)
