"""The widget of chapter 10: the score that RoPE gives to two tokens, against the distance between them.

    score(distance) = q · k / width = (1 / (width/2)) Σ_i cos(distance · frequency_i),   for q = k = (1, 1, … 1)

A pair of numbers is a clock hand: it turns by its own frequency for every token. The score is taken from the
library's `RoPE`, both tokens moved on by as many places as the reader likes. What lies beyond the longest distance of
training is left white in the picture: there, slow hands stand at angles that the model never saw.

Paper:   Su et al. 2021, "RoFormer", §3.3 and §3.4.3, arXiv:2104.09864; angles never seen: Chen et al. 2023, "Extending
         Context Window of Large Language Models via Positional Interpolation", §2.2, arXiv:2306.15595.
Names:   `frequency` is RoFormer's θ_i, in radians per token.
Next:    minillm/course/checks_10.py
"""

import math

import torch

from minillm.attention.positions import RoPE
from minillm.course.figures import Drawing, Figure
from minillm.course.widgets import Explorer, choice, slider

WIDTHS, BASES, FARTHEST = ("8", "16", "32", "64"), ("100", "10000", "500000"), 64


def rope_scores(width: int, base: float, moved: int = 0, pair: int | None = None) -> list[float]:
    """The score of two equal tokens 0, 1, … `FARTHEST` places apart, the nearer one at place `moved`.

    `pair`, from 1 to width / 2, looks at one clock hand alone; None takes the mean of all.

    >>> scores = rope_scores(8, 10000.0)
    >>> scores[0], len(scores)
    (1.0, 65)
    """
    x_bhtk, half = torch.zeros(1, 1, FARTHEST + 1, width), width // 2
    places = range(half) if pair is None else [pair - 1]
    for i in places:
        x_bhtk[..., i] = x_bhtk[..., i + half] = 1.0
    turned_bhtk = RoPE(width, base).rotate(x_bhtk, moved + torch.arange(FARTHEST + 1))
    scores = turned_bhtk[0, 0] @ turned_bhtk[0, 0, 0] / (2 * len(places))
    return scores.tolist()


def full_turns(width: int, base: float, trained: int) -> int:
    """How many of the width / 2 hands go round at least once within `trained` tokens.

    >>> full_turns(8, 10000.0, 64), full_turns(8, 10000.0, 63)  # hands that need 6, 63, 628 and 6283 tokens
    (2, 2)
    """
    return int((RoPE(width, base).frequency * trained >= 2 * math.pi).sum())


class RopeExplorer(Explorer):
    """Choose the width of a head, the base, one hand and the length of training; move both tokens along the text."""

    def __init__(self, width: int = 16, base: int = 10000, pair: int = 3, moved: int = 0, trained: int = 32) -> None:
        self.width = choice("head width", WIDTHS, str(width))
        self.base = choice("base", BASES, str(base))
        self.pair = slider("hand", pair, low=1, high=32)
        self.moved = slider("both tokens moved on by (places)", moved, low=0, high=1000, step=50)
        self.trained = slider("longest distance in training (tokens)", trained, low=16, high=FARTHEST, step=8)
        super().__init__(self.width, self.base, self.pair, self.moved, self.trained)

    def draw(self) -> tuple[Figure, str]:
        """One hand and the mean of all, over the distance."""
        width, base, trained = int(str(self.width.value)), float(str(self.base.value)), int(self.trained.value)
        half, moved = width // 2, int(self.moved.value)
        pair = min(int(self.pair.value), half)  # a narrow head has fewer hands
        one, mean = rope_scores(width, base, moved, pair), rope_scores(width, base, moved)
        change = max(abs(a - b) for a, b in zip(mean, rope_scores(width, base), strict=True))
        turn, seen = 2 * math.pi / RoPE(width, base).frequency[pair - 1].item(), full_turns(width, base, trained)
        same = "as at the start of the text" if change < 1e-3 else "different from the start of the text"
        sentence = (
            f"Hand {pair} of {half} goes round once in {turn:,.0f} tokens. "
            f"Moved on by {moved} places, the scores are {same}. "
            f"Within {trained} tokens {seen} of {half} hands make a full turn; "
            f"beyond that distance the other {half - seen} stand where training never saw them."
        )
        with Drawing(
            title="The score of two equal tokens, turned by RoPE",
            x_label="distance (tokens)",
            y_label="score (share of the greatest)",
            height=3.4,
            width=6.4,
            alt=sentence,
        ) as drawing:
            drawing.axes.axvspan(0, trained, facecolor="#E1F0FA", edgecolor="#0072B2", label="seen in training")
            drawing.axes.plot(one, "o", markersize=3, label=f"hand {pair} alone")
            drawing.axes.plot(mean, linewidth=1.2, label="all hands together")
            drawing.axes.set_ylim(-1.05, 1.4)  # room for the key
            drawing.axes.legend(loc="upper center", ncols=3, fontsize=9)
        return drawing.figure, sentence
