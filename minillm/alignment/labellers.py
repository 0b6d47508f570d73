"""Simulated labellers: raters whose taste is known, so that what is learned from them can be held against the truth.

    P(a is chosen over b) = (1 - s) σ(c·(u(a) - u(b)) + side) + s σ(-c·(u(a) - u(b)) - side)

u is the utility, c how sharply the rater sees, s the share of clicks that go wrong. A rater may also like long answers,
may favour the left side, and may have a private taste of which the others know nothing. Because P is known, so is the
best that any model can do: it is right with max(P, 1 - P), and pays the entropy of P.

Paper:   Bradley & Terry 1952, "Rank Analysis of Incomplete Block Designs: I"; a rater that errs with a fixed
         probability: Christiano et al. 2017, §2.2.3, arXiv:1706.03741; the bias to length: Singhal et al. 2023,
         "A Long Way to Go", arXiv:2310.03716.
Names:   σ(x) = 1 / (1 + e^-x); `sharpness` is c, `slip` is s.
Next:    minillm/alignment/bradley_terry.py
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from minillm.alignment.preferences import Comparison
from minillm.text.dice import uniform_numbers

Question = tuple[str, tuple[str, str]]  # a prompt and two answers to it


@dataclass(frozen=True, kw_only=True, slots=True)
class Labeller:
    """Somebody who compares answers. The defaults are a Bradley–Terry rater: never careless, without habits.

    >>> kind = Labeller(who="kind", utility=lambda prompt, answer: answer.count("smiled"))
    >>> print(f"{kind.probability('Once', 'He smiled.', 'He cried.'):.3f}")  # σ(1)
    0.731
    """

    who: str
    utility: Callable[[str, str], float]  # of (prompt, answer): what the rater means to reward
    sharpness: float = 1.0  # c: 0 is a coin, inf never takes the worse of two answers on purpose
    slip: float = 0.0  # s: the share of clicks that hit the wrong answer
    per_word: float = 0.0  # utility that each word adds, whatever it says
    left: float = 0.0  # added to the logit of whatever stands on the left
    private: float = 0.0  # standard deviation of what this rater alone sees in an answer
    seed: int = 0  # of the private taste

    def __post_init__(self) -> None:
        if not self.sharpness >= 0:
            raise ValueError(f"sharpness={self.sharpness!r} must be at least 0; 1.0 is Bradley–Terry, inf never errs")
        if not 0 <= self.slip <= 0.5:
            raise ValueError(f"slip={self.slip!r} is a share of clicks from 0 to 0.5, where nothing is left; 0.1 works")
        if not (0 <= self.private < math.inf and math.isfinite(self.per_word) and math.isfinite(self.left)):
            raise ValueError(
                f"private={self.private!r}, per_word={self.per_word!r} and left={self.left!r} must be finite, and "
                "private at least 0; 0.0 is off"
            )

    def worth(self, prompt: str, answer: str) -> float:
        """What the rater's choices follow: the utility, the length and the private taste together."""
        value = self.utility(prompt, answer) + self.per_word * len(answer.split())
        if self.private:
            names = [zlib.crc32(text.encode()) for text in (self.who, prompt, answer)]
            (u,) = uniform_numbers([self.seed, *names], 1)
            value += self.private * NormalDist().inv_cdf(float(u) or 2.0**-54)
        return value

    def probability(self, prompt: str, first: str, second: str, left: int | None = None) -> float:
        """How likely `first` is chosen over `second`; `left` says which of them (0 or 1) stands on the left.

        Without it, it is the mean over both orders.
        """
        if left is None and self.left:
            return sum(self.probability(prompt, first, second, side) for side in (0, 1)) / 2
        gap = self.worth(prompt, first) - self.worth(prompt, second)
        logit = (self.sharpness * gap if gap else 0.0) + {None: 0.0, 0: self.left, 1: -self.left}[left]
        return (1 - self.slip) * sigmoid(logit) + self.slip * sigmoid(-logit)

    def compare(self, questions: Sequence[Question], seed: int = 0) -> list[Comparison]:
        """Judge every question, with the answers on sides drawn at random; the same seed gives the same judgements."""
        u = uniform_numbers([seed, zlib.crc32(self.who.encode())], 2 * len(questions))
        judged = []
        for (prompt, (first, second)), u_side, u_choice in zip(questions, u[::2], u[1::2], strict=True):
            side = int(u_side < 0.5)
            chosen = 0 if u_choice < self.probability(prompt, first, second, side) else 1
            judged.append(Comparison(prompt=prompt, answers=(first, second), choice=chosen, who=self.who, left=side))
        return judged


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow.

    >>> sigmoid(0.0), sigmoid(-1000.0), sigmoid(math.inf)
    (0.5, 0.0, 1.0)
    """
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def bayes_accuracy(probabilities: Sequence[float]) -> float:
    """The best share of right guesses about choices with these probabilities.

    >>> bayes_accuracy([0.5, 0.75, 0.25])  # (0.5 + 0.75 + 0.75) / 3
    0.6666666666666666
    """
    _check(probabilities)
    return sum(max(p, 1 - p) for p in probabilities) / len(probabilities)


def bayes_nats(probabilities: Sequence[float]) -> float:
    """The least mean loss in nats about choices with these probabilities: their mean entropy.

    >>> print(f"{bayes_nats([0.5, 1.0]):.4f}")  # (log 2 + 0) / 2
    0.3466
    """
    _check(probabilities)
    return -sum(q * math.log(q) for p in probabilities for q in (p, 1 - p) if q > 0) / len(probabilities)


def expected_accuracy(scores: Sequence[float], probabilities: Sequence[float]) -> float:
    """How often the sign of `scores[i]` says what is chosen with `probabilities[i]`, exactly; a score of 0 is a coin.

    >>> expected_accuracy([2.0, -1.0, 0.0], [0.75, 0.75, 0.75])  # (0.75 + 0.25 + 0.5) / 3
    0.5
    """
    _check(probabilities)
    right = [p if s > 0 else 1 - p if s < 0 else 0.5 for s, p in zip(scores, probabilities, strict=True)]
    return sum(right) / len(right)


def _check(probabilities: Sequence[float]) -> None:
    if not len(probabilities) or not all(0 <= p <= 1 for p in probabilities):
        raise ValueError(
            f"probabilities={list(probabilities)[:5]} … must be one or more numbers from 0 to 1; [0.5] works"
        )
