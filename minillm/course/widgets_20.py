"""The explorer of chapter 20: the best policy of the laboratory at every price of divergence.

    π* ∝ reference · exp(score / β)        exact: every response is listed, nothing is trained and nothing is drawn

Paper:   Korbak, Perez & Buckley 2022, "RL with KL penalties is better viewed as Bayesian inference", arXiv:2205.11275.
Next:    minillm/course/checks_20.py
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from minillm.alignment.laboratory import Laboratory
from minillm.course.figures import PALETTE, Drawing, Figure
from minillm.course.widgets import Explorer, slider


def name_of(response: Sequence[int], eos: int) -> str:
    """A response in letters, `.` for its end.

    >>> name_of([0, 2, 3], eos=3)
    'ac.'
    """
    return "".join("." if token == eos else chr(ord("a") + token) for token in response)


class OptimumExplorer(Explorer):
    """Choose the price β; see where the best policy puts its probability, and what it gains and gives up.

    `scores`, one for each response, replace the laboratory's own.
    """

    def __init__(
        self, lab: Laboratory, prompt: int = 0, beta: float = 0.5, scores: Sequence[float] | None = None
    ) -> None:
        if not 0 <= prompt < len(lab.prompts):
            raise ValueError(f"prompt={prompt} is none of the {len(lab.prompts)} of the laboratory; prompt=0 works")
        self.lab, self.row = lab, prompt
        self.score_n = lab.scores[prompt] if scores is None else torch.tensor(scores, dtype=torch.float64)
        self.reference_n = lab.log_probabilities(lab.reference)[prompt].detach()
        self.beta = slider("β: price of a nat (score)", beta, low=0.05, high=2.0, step=0.05)
        super().__init__(self.beta)

    def optimum(self) -> Tensor:
        """log π* of every response to the prompt, (n,)."""
        return (self.reference_n + self.score_n / float(self.beta.value)).log_softmax(0)

    def draw(self) -> tuple[Figure, str]:
        """Bars of the twelve responses that the reference or the optimum likes best, the reference as points."""
        best_n = self.optimum()
        p_n, q_n = best_n.exp(), self.reference_n.exp()
        kl, entropy = float((p_n * (best_n - self.reference_n)).sum()), float(-(p_n * best_n).sum())
        before = float(-(q_n * self.reference_n).sum())
        order = self.score_n.argsort(descending=True).tolist()
        kept = [i for i in order if i in set(torch.maximum(p_n, q_n).topk(min(12, len(order))).indices.tolist())]
        first = int(p_n.argmax())
        sentence = (
            f"β = {float(self.beta.value):.2f}: the expected score goes from {float(q_n @ self.score_n):.2f} to "
            f"{float(p_n @ self.score_n):.2f} for {kl:.2f} nats of divergence; the entropy goes from {before:.2f} to "
            f"{entropy:.2f} nats. The likeliest response is {name_of(self.lab.responses[first], self.lab.eos)}, "
            f"with {float(p_n[first]):.0%}; the reference gave it {float(q_n[first]):.0%}."
        )
        return self._figure(kept, p_n, q_n, sentence), sentence

    def _figure(self, kept: list[int], p_n: Tensor, q_n: Tensor, alt: str) -> Figure:
        names = [
            f"{name_of(self.lab.responses[i], self.lab.eos)}\n{float(self.score_n[i]):+.1f}" for i in kept
        ]  # fmt: skip
        with Drawing(
            title="The reference, and the best policy at this price",
            alt=alt,
            x_label="response, and its score",
            y_label="probability (share)",
        ) as drawing:
            place = range(len(kept))
            drawing.axes.bar(place, [float(p_n[i]) for i in kept], 0.7, color=PALETTE[0], label="π*")
            drawing.axes.plot(place, [float(q_n[i]) for i in kept], "D", color=PALETTE[1], label="reference")
            drawing.axes.set_xticks(list(place), names, fontsize=8)
            drawing.draw_key(["π*", "reference"])
        return drawing.figure
