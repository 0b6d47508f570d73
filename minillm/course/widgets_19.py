"""The explorer of chapter 19: how well the scores of some items can be known from comparisons, and what spoils them.

    comparisons of random pairs  →  Bradley–Terry scores with error bars  →  beside the true utilities

Paper:   Bradley & Terry 1952, "Rank Analysis of Incomplete Block Designs: I".
Next:    minillm/course/checks_19.py
"""

from collections.abc import Sequence

import numpy as np

from minillm.alignment.bradley_terry import Separable, fit_bradley_terry
from minillm.alignment.labellers import Labeller, bayes_accuracy, expected_accuracy
from minillm.course.figures import PALETTE, Drawing, Figure
from minillm.course.widgets import Explorer, slider

PRIOR = 0.1  # where there are no best scores


class ComparisonExplorer(Explorer):
    """Choose how many comparisons there are and how the rater errs; see scores, error bars and the truth.

    `utilities` are the true ones, in logits.
    """

    def __init__(
        self,
        utilities: Sequence[float],
        comparisons: int = 200,
        slip: float = 0.0,
        sharpness: float = 1.0,
        seed: int = 0,
    ) -> None:
        if len(utilities) < 2:
            raise ValueError(f"utilities={list(utilities)} must be two or more numbers, such as [0.0, 1.0]")
        self.utilities = np.asarray(utilities, dtype=float) - np.mean(utilities)
        self.seed = seed
        self.comparisons = slider("comparisons", comparisons, low=20, high=2000, step=20)
        self.slip = slider("wrong clicks (share)", slip, low=0.0, high=0.5, step=0.05)
        self.sharpness = slider("sharpness of the rater", sharpness, low=0.0, high=4.0, step=0.25)
        super().__init__(self.comparisons, self.slip, self.sharpness)

    def draw(self) -> tuple[Figure, str]:
        """Points with bars of two standard errors, against the truth."""
        n, count = len(self.utilities), int(self.comparisons.value)
        slip, sharpness = float(self.slip.value), float(self.sharpness.value)
        rater = Labeller(who="rater", utility=lambda _, i: self.utilities[int(i)], slip=slip, sharpness=sharpness)
        chance = np.random.default_rng(self.seed)
        first = chance.integers(n, size=count)
        second = (first + chance.integers(1, n, size=count)) % n
        judged = rater.compare([("", (str(i), str(j))) for i, j in zip(first, second, strict=True)], self.seed)
        winners, losers = [int(one.better) for one in judged], [int(one.worse) for one in judged]
        try:
            fit, note = fit_bradley_terry(winners, losers, n), ""
        except Separable:
            fit = fit_bradley_terry(winners, losers, n, prior=PRIOR)
            note = f" Some items never lost to the others: there are no best scores without a prior, here {PRIOR}."
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
        p = [rater.probability("", str(i), str(j)) for i, j in pairs]
        reached = expected_accuracy([fit.score_n[i] - fit.score_n[j] for i, j in pairs], p)
        covered = int((np.abs(fit.score_n - self.utilities) <= 2 * fit.error_n).sum())
        sentence = (
            f"{count} comparisons of {n} items: the scores guess {reached:.1%} of new choices, nobody can guess more "
            f"than {bayes_accuracy(p):.1%}. {covered} of {n} bars reach the true utility; a score is known to about "
            f"±{2 * float(np.sqrt((fit.error_n**2).mean())):.2f}.{note}"
        )
        return self._figure(fit.score_n, 2 * fit.error_n, sentence), sentence

    def _figure(self, score_n: np.ndarray, bar_n: np.ndarray, alt: str) -> Figure:
        with Drawing(
            title="Scores from comparisons",
            alt=alt,
            height=4.6,
            x_label="true utility (logits)",
            y_label="score from comparisons (logits)",
        ) as drawing:
            ends = [self.utilities.min() - 0.3, self.utilities.max() + 0.3]
            drawing.axes.plot(ends, ends, "--", color="#555555", label="truth")
            drawing.axes.errorbar(
                self.utilities, score_n, yerr=bar_n, fmt="o", color=PALETTE[0], capsize=3, label="score, two errors"
            )
            drawing.draw_key(["truth", "score, two errors"])
        return drawing.figure
