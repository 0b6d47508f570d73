"""The explorer of chapter 17: a trained change taken apart, and how much of it a rank keeps.

    ΔW = Σ_i σ_i u_i v_iᵀ        rank r keeps  Σ_{i ≤ r} σ_i² / Σ σ_i²  of the squared change, in r (d + f) numbers

The explorer owns no model: it is given matrices before and after training, and what a model that is cut to each rank
can do. Beside ΔW it draws the matrix W itself, shrunk to the same norm, and what a random matrix of that shape has.

Paper:   Eckart and Young 1936, "The approximation of one matrix by another of lower rank"; low-rank changes:
         Aghajanyan et al. 2020, "Intrinsic Dimensionality", arXiv:2012.13255; Hu et al. 2021, §7, arXiv:2106.09685.
Next:    minillm/course/checks_17.py
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minillm.course.figures import Drawing, Figure
from minillm.course.widgets import Explorer, choice, slider


def kept(matrix: Any, rank: int) -> float:
    """The share of the squared numbers of a matrix that its best approximation of this rank keeps.

    >>> kept([[3.0, 0.0], [0.0, 4.0]], 1)
    0.64
    """
    squares = np.linalg.svd(np.asarray(matrix, dtype=float), compute_uv=False) ** 2
    total = float(squares.sum())
    return float(squares[:rank].sum()) / total if total else 1.0


def spectrum_of_noise(shape: tuple[int, int], norm: float) -> np.ndarray:
    """The singular values of a random matrix of this shape and norm; the same draw each time.

    >>> bool(np.isclose(np.square(spectrum_of_noise((5, 3), 2.0)).sum(), 4.0))
    True
    """
    values = np.linalg.svd(np.random.default_rng(0).standard_normal(shape), compute_uv=False)
    return norm * values / np.linalg.norm(values)


class RankExplorer(Explorer):
    """Choose a matrix and a rank; see which part of its change is kept, what that costs, and what the model then can.

    `changes` maps names to pairs (W before, ΔW), matrices of the same shape; `right` maps ranks, powers of two from 1
    on, to the share of questions that are answered right when every change is cut to that rank.
    """

    def __init__(self, changes: Mapping[str, tuple[Any, Any]], right: Mapping[int, float], rank: int = 8) -> None:
        self.changes = {name: tuple(np.asarray(m, dtype=float) for m in pair) for name, pair in changes.items()}
        self.ranks, self.right = sorted(right), dict(right)
        if self.ranks != [2**i for i in range(len(self.ranks))] or rank not in right:
            raise ValueError(
                f"right has the ranks {self.ranks} and rank={rank!r}; they must be 1, 2, 4, … and hold rank"
            )
        if not changes or any(before.shape != change.shape for before, change in self.changes.values()):
            raise ValueError("changes must hold one or more pairs (W, ΔW) of equal shape")
        self.name = choice("matrix", list(self.changes))
        self.power = slider("rank: 2 to the power of", rank.bit_length() - 1, low=0, high=len(self.ranks) - 1)
        super().__init__(self.name, self.power)

    def draw(self) -> tuple[Figure, str]:
        """Three falling curves; the part that is kept is marked."""
        rank, (before, change) = 2 ** int(self.power.value), self.changes[str(self.name.value)]
        values, norm = np.linalg.svd(change, compute_uv=False), float(np.linalg.norm(change))
        of_before = np.linalg.svd(before, compute_uv=False)
        of_before *= norm / (np.linalg.norm(of_before) or 1.0)
        f, d = change.shape
        numbers = rank * (d + f)
        more = " more than the whole matrix:" if numbers > d * f else ""
        sentence = (
            f"Rank {rank} keeps {kept(change, rank):.0%} of the squared change of {self.name.value}; of W it would "
            f"keep {kept(before, rank):.0%}, of noise {kept(np.diag(spectrum_of_noise((f, d), 1.0)), rank):.0%}. "
            f"It takes{more} {rank} · ({d} + {f}) = {numbers:,} numbers in the place of {d * f:,}. "
            f"With every change cut to rank {rank}, the model answers {self.right[rank]:.0%} of the questions."
        )
        with Drawing(
            title="What training changed, direction by direction",
            x_label="direction (number, the largest first)",
            y_label="singular value (no unit)",
            height=3.6,
            width=6.4,
            alt=sentence,
        ) as drawing:
            place = np.arange(1, len(values) + 1)
            drawing.axes.axvspan(0.5, rank + 0.5, facecolor="#E1F0FA", edgecolor="#0072B2", label=f"kept: {rank}")
            drawing.axes.plot(place, values, "o-", markersize=3, label="change ΔW")
            drawing.axes.plot(place, of_before, "s--", markersize=2, label="W, shrunk to the same norm")
            drawing.axes.plot(place, spectrum_of_noise((f, d), norm), ":", label="noise of the same norm")
            drawing.axes.legend(loc="upper right", fontsize=9)
        return drawing.figure, sentence
