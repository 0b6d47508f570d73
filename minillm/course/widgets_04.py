"""The widget of chapter 04: an analogy a : b = c : ? drawn in the plane in which it is a parallelogram.

Next:    minillm/course/checks_04.py
"""

from collections.abc import Mapping

import numpy as np

from minillm.course.figures import PALETTE, Drawing, Figure, drawable
from minillm.course.widgets import Explorer, choice, tick, words
from minillm.vectors.word_vectors import WordVectors

SHOWN = 6  # candidates


class AnalogyExplorer(Explorer):
    """Type three words and choose whose vectors: the sum b - a + c, and the words that lie nearest to it.

    The plane of the picture goes through a, b and c (scaled to length 1), so the sum lies in it exactly; the candidates
    are seen from above, numbered by their cosine with the sum.
    """

    def __init__(self, tables: Mapping[str, WordVectors], question: str = "baker bakery smith") -> None:
        """`tables` maps a name, such as "word2vec", to vectors; `question` is three words: a is to b as c is to ?"""
        if not tables:
            raise ValueError("tables={} is empty; give at least one, such as {'word2vec': model}")
        self.tables = dict(tables)
        self.whose = choice("vectors", list(self.tables), next(iter(self.tables)))
        self.question = words("a  b  c", question)
        self.all_words = tick("let a, b and c be answers too")
        super().__init__(self.whose, self.question, self.all_words)

    @property
    def table(self) -> WordVectors:
        """The vectors that are chosen."""
        return self.tables[str(self.whose.value)]

    @property
    def problem(self) -> str:
        """What keeps the question from being answered, "" for nothing."""
        asked = self.question.value.split()
        if len(asked) != 3:
            return f"Type three words with spaces between them, such as: baker bakery smith. Here are {len(asked)}."
        unknown = [word for word in asked if word not in self.table]
        return f"These vectors know no word {unknown[0]!r}." if unknown else ""

    def answers(self) -> list[tuple[str, float]]:
        """The nearest words to b - a + c with their cosines, the best first."""
        a, b, c = (unit(self.table[word]) for word in self.question.value.split())
        return nearest(self.table, b - a + c, () if self.all_words.value else self.question.value.split())

    def draw(self) -> tuple[Figure, str]:
        """The parallelogram and the candidates, or what is missing."""
        if self.problem:
            return message(self.problem), self.problem
        a, b, c = self.question.value.split()
        found = self.answers()
        best, cos = found[0]
        figure = parallelogram(self.table, (a, b, c), found, title=f"{a} : {b} = {c} : {best}")
        ranked = ", ".join(f"{word} {cos:.2f}" for word, cos in found[1:4])
        return figure, f"{a} is to {b} as {c} is to {best} (cosine {cos:.2f}); then {ranked}."


def unit(x_d: np.ndarray) -> np.ndarray:
    """A vector scaled to length 1; the zero vector stays as it is.

    >>> unit(np.array([3.0, 4.0])).tolist()
    [0.6, 0.8]
    """
    length = float(np.linalg.norm(x_d))
    return x_d / length if length else x_d


def nearest(table: WordVectors, query_d: np.ndarray, leave_out: tuple[str, ...] | list[str]) -> list[tuple[str, float]]:
    """The words whose vectors point most nearly the way of `query_d`, with their cosines."""
    length_v = np.linalg.norm(table.vectors, axis=1)
    cosine_v = table.vectors @ unit(query_d) / np.where(length_v > 0, length_v, 1)
    best = [i for i in np.argsort(-cosine_v, kind="stable") if table.words[i] not in leave_out]
    return [(table.words[i], float(cosine_v[i])) for i in best[:SHOWN]]


def parallelogram(
    table: WordVectors, question: tuple[str, str, str], found: list[tuple[str, float]], *, title: str
) -> Figure:
    """Draw a, b, c, the sum, and the candidates in the plane through a, b and c."""
    a_d, b_d, c_d = (unit(table[word]) for word in question)
    across_d = unit(b_d - a_d)
    up_d = unit((c_d - a_d) - ((c_d - a_d) @ across_d) * across_d)
    place = lambda x_d: (float((x_d - a_d) @ across_d), float((x_d - a_d) @ up_d))
    places = [place(x_d) for x_d in (a_d, b_d, c_d, b_d - a_d + c_d)]
    ranked = ", ".join(word for word, _ in found[:3])
    alt = f"Two equal arrows, from {question[0]} to {question[1]} and from {question[2]} to the sum; nearest: {ranked}."
    labels = ("along b - a (lengths of a word)", "along c - a, at a right angle (lengths of a word)")
    with Drawing(title=drawable(title), alt=alt, x_label=labels[0], y_label=labels[1], height=4.6) as drawing:
        for (start, end), colour in zip(((0, 1), (2, 3)), PALETTE, strict=False):
            arrow = {"arrowstyle": "->", "color": colour, "lw": 1.8}
            drawing.axes.annotate("", places[end], places[start], arrowprops=arrow)
        for word, (x, y) in zip((*question, "b - a + c"), places, strict=True):
            drawing.axes.plot(x, y, "o", color="black", markersize=5)
            drawing.axes.annotate(drawable(word), (x, y), (5, 5), textcoords="offset points", weight="bold")
        drawing.axes.margins(x=0.18)  # room for the words to the right of their points
        for rank, (word, cos) in enumerate(found, start=1):
            line = f"{rank}  {drawable(word)}  {cos:.2f}"
            drawing.axes.text(1.02, 0.95 - 0.09 * rank, line, transform=drawing.axes.transAxes, fontsize=11)
            x, y = place(unit(table[word]))
            colour = PALETTE[2] if rank == 1 else "#777777"
            drawing.axes.plot(x, y, "s", color=colour, markersize=13, alpha=0.85)
            drawing.axes.text(x, y, str(rank), color="white", ha="center", va="center", fontsize=9)
        drawing.axes.text(1.02, 0.95, "nearest, cosine", transform=drawing.axes.transAxes, weight="bold", fontsize=11)
        drawing.axes.margins(0.18)
    return drawing.figure


def message(text: str) -> Figure:
    """A picture that says why there is nothing to draw."""
    with Drawing(title="No answer", alt=f"There is no picture: {text}", height=1.2) as drawing:
        drawing.axes.text(0.0, 0.5, drawable(text), va="center")
        drawing.axes.set_axis_off()
    return drawing.figure
