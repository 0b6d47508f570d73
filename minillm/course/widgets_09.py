"""The explorer of chapter 09: one next word, and what temperature, top-k and top-p make of its distribution.

    p = softmax(logits / temperature), cut to the top k, then to the smallest set with mass ≥ top_p, renormalised

The explorer owns no model: it is given the logits of some places, each under the words that stand before it.

Paper:   Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", §3, arXiv:1904.09751.
Next:    minillm/course/checks_09.py
"""

from collections.abc import Mapping, Sequence

import numpy as np

from minillm.course.figures import Figure, bar_chart
from minillm.course.widgets import Explorer, choice, slider
from minillm.statistical.information import entropy
from minillm.statistical.sampling import next_distribution

SHOWN = 12


class NextWordExplorer(Explorer):
    """Choose a place in a text and how to draw there; see the likeliest words before and after the cut.

    `places` maps the words before a place to the logits of the word that follows, one for each of `words`.
    """

    def __init__(
        self,
        places: Mapping[str, Sequence[float]],
        words: Sequence[str],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> None:
        if not places or any(len(logits) != len(words) for logits in places.values()):
            raise ValueError(
                f"places has {len(places)} entries for {len(words)} words; the rule is one or more places, each with a "
                "logit for every word"
            )
        self.places = {text: np.asarray(logits, dtype=float) for text, logits in places.items()}
        self.words = list(words)
        self.place = choice("after the words", list(places))
        self.temperature = slider("temperature", temperature, low=0.0, high=2.0, step=0.1)
        self.top_k = slider("top-k (0: all)", top_k, low=0, high=40)
        self.top_p = slider("top-p (1: all)", top_p, low=0.05, high=1.0, step=0.05)
        super().__init__(self.place, self.temperature, self.top_k, self.top_p)

    def draw(self) -> tuple[Figure, str]:
        """Two bars for each of the likeliest words: what the model says, and what is drawn from."""
        logits = self.places[str(self.place.value)]
        k, mass = int(self.top_k.value) or None, float(self.top_p.value)
        before = next_distribution(logits)
        after = next_distribution(logits, float(self.temperature.value), k, None if mass >= 1 else mass)
        order = np.argsort(-before, kind="stable")[:SHOWN]
        kept = int((after > 0).sum())
        sentence = (
            f"After “{self.place.value}” {kept} of {len(self.words)} words can be drawn. They held "
            f"{before[after > 0].sum():.0%} of the model's belief; the choice is worth "
            f"{entropy(after, base=2):.1f} bits, {entropy(before, base=2):.1f} as the model has it."
        )
        figure = bar_chart(
            {self.words[i]: {"model": float(before[i]), "drawn from": float(after[i])} for i in order},
            title="One next word",
            value_label="probability (no unit)",
            alt=sentence,
        )
        return figure, sentence
