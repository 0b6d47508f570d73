"""The widget of chapter 06: pick a sentence and a head, and see who looks at whom.

    row t, column s: the weight with which the word at t looks at the word at s; every row adds up to one

It knows no network. It is given sentences and a function from a sentence to its weights (h, t, s), so the same widget
shows any model whose attention can be asked for.

Paper:   Bahdanau, Cho and Bengio 2014, arXiv:1409.0473, figure 3, drew the first of these pictures.
Differs: a weight says where something was fetched, not why: Jain and Wallace 2019, "Attention is not Explanation",
         arXiv:1902.10186.
Next:    minillm/course/checks_06.py
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minillm.course.figures import Figure, heat_map
from minillm.course.widgets import Explorer, choice, slider

Look = Callable[[list[str]], Any]  # the words of a sentence to its weights: an array or tensor (h, t, s)
EVEN = 1.5  # a row whose largest weight is below this many equal shares looks everywhere


class LookExplorer(Explorer):
    """Choose a sentence and a head; each row is a word that asks, each column a word that answers.

    `answers` names what each row writes, such as its translation; without it a row carries its own word.

    >>> def before(words):
    ...     return np.eye(len(words), k=-1)[None] + np.eye(len(words))[None] * (np.arange(len(words)) == 0)
    >>> LookExplorer(["a red hat"], before).sentence
    'Head 1 of 1: a → a, red → a, hat → red.'
    """

    def __init__(
        self, sentences: Sequence[str], look: Look, answers: Callable[[list[str]], list[str]] | None = None
    ) -> None:
        if not sentences:
            raise ValueError("sentences=[] gives nothing to choose from; for example ['a red hat']")
        self.look, self.answers = look, answers
        self.words = choice("sentence", list(sentences))
        self.head = slider("head", 1, low=1, high=max(2, len(self.weights(sentences[0]))))
        super().__init__(self.words, self.head)

    def weights(self, sentence: str) -> np.ndarray:
        """The weights of all heads for one sentence, (h, t, s). ValueError when they do not fit its words."""
        words = sentence.split()
        weight = self.look(words)
        weight_hts = np.asarray(weight.detach() if hasattr(weight, "detach") else weight, dtype=float)
        wanted = (len(words), len(words))
        if weight_hts.ndim != 3 or weight_hts.shape[1:] != wanted:
            raise ValueError(
                f"look({words}) gave weights of shape {weight_hts.shape}; the rule is (h, t, s) = (heads, {wanted[0]}, "
                f"{wanted[1]}), one row and one column for each word"
            )
        return weight_hts

    def draw(self) -> tuple[Figure, str]:
        """The weights of one head as a heat map, and for each word whom it looks at most."""
        sentence = str(self.words.value)
        words, weight_hts = sentence.split(), self.weights(sentence)
        head = min(int(self.head.value), len(weight_hts))
        weight_ts = weight_hts[head - 1]
        pairs = ", ".join(f"{word} → {_whom(row, words)}" for word, row in zip(words, weight_ts, strict=True))
        said = f"Head {head} of {len(weight_hts)}: {pairs}."
        answers = self.answers(words) if self.answers else [""] * len(words)
        figure = heat_map(
            weight_ts,
            row_names=[f"{word}  ({answer})" if answer else word for word, answer in zip(words, answers, strict=True)],
            column_names=words,
            title=f"Head {head}: who looks at whom",
            row_label="word that asks (what it writes)" if self.answers else "word that asks",
            column_label="word that answers",
            value_label="weight (no unit)",
            alt=said,
        )
        return figure, said


def _whom(row: np.ndarray, words: list[str]) -> str:
    """The word with the largest weight of a row, or "all" when no word stands out."""
    return words[int(row.argmax())] if row.max() >= EVEN / len(row) or len(row) == 1 else "all"
