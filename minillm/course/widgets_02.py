"""The widget of chapter 02: order, smoothing and amount of text, judged by bits per character on held-out text.

    bits per character = Σ over texts (nats of words and end / ln 2 + spelling) / Σ characters

A word that the model does not know is scored as "<unk>" and then has to be spelled: 6 bits for each letter and 6 for
the end of the word, which is enough for 64 different characters. Without that, a model with a smaller vocabulary
would look better only because it says "something" more often.

Next:    minillm/course/checks_02.py
"""

from collections.abc import Sequence
from functools import lru_cache

from minillm.course.figures import Figure, line_chart
from minillm.course.widgets import Explorer, choice
from minillm.statistical.information import bits_per_character
from minillm.statistical.ngram import NGramModel, Smoothing
from minillm.text.corpus import load_corpus
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village

SPELLING_BITS = 6  # for one letter of an unknown word, and for its end
ORDERS = (1, 2, 3, 4, 5, 6)
SIZES = ("30", "120", "480")
SMOOTHINGS: tuple[Smoothing, ...] = ("kneser-ney", "interpolated", "add-k", "mle")


def held_out_bits(model: NGramModel, texts: Sequence[str]) -> float:
    """Bits per character of a word model on texts; each text ends with "</s>", unknown words are spelled out.

    >>> model = NGramModel(order=1, smoothing="mle").fit([["a"], ["a"]])  # "a" and "</s>" have 1/2 each
    >>> round(held_out_bits(model, ["a"]), 6)
    2.0
    """
    known = set(model.vocabulary)
    nats, spelling = 0.0, 0
    for text in texts:
        words = WordTokenizer.split(text)
        nats -= model.sentence_logprob(words)
        spelling += SPELLING_BITS * sum(len(word) + 1 for word in words if word not in known)
    characters = sum(map(len, texts))
    return bits_per_character(nats, characters) + spelling / characters


@lru_cache(maxsize=1)
def _texts() -> dict[str, tuple[list[str], list[str]]]:
    village, prose = Village(seed=0), load_corpus("stories")
    return {
        "village": (village.stories(int(SIZES[-1])), village.stories(60, start=100_000)),
        "prose": (prose.train, prose.validation[:30]),
    }


@lru_cache(maxsize=256)
def _bits(text: str, size: int, order: int, smoothing: Smoothing) -> float:
    train, held_out = _texts()[text]
    words = [WordTokenizer.split(story) for story in train[:size]]
    return held_out_bits(NGramModel(order=order, smoothing=smoothing).fit(words), held_out)


class CountingExplorer(Explorer):
    """Choose the text, how many stories of it are counted and how the counts are smoothed; see every order's bits."""

    def __init__(self, text: str = "village", stories: str = "120", smoothing: str = "add-k") -> None:
        self.text = choice("text", ["village", "prose"], text)
        self.stories = choice("training stories", SIZES, stories)
        self.smoothing = choice("smoothing", SMOOTHINGS, smoothing)
        super().__init__(self.text, self.stories, self.smoothing)

    def draw(self) -> tuple[Figure, str]:
        """One line over the orders for the smoothing chosen, one for Kneser–Ney, and the floor where it is known."""
        text, chosen = str(self.text.value), str(self.smoothing.value)
        train = _texts()[text][0]
        size = min(int(str(self.stories.value)), len(train))
        lines = {
            name: [_bits(text, size, order, name) for order in ORDERS]
            for name in SMOOTHINGS
            if name in (chosen, "kneser-ney")
        }
        floor = Village(seed=0).entropy_per_character("stories") if text == "village" else None
        finite = {order: bits for order, bits in zip(ORDERS, lines[chosen], strict=True) if bits < float("inf")}
        if finite:
            best = min(finite, key=lambda order: finite[order])
            sentence = f"{chosen} on {size} stories: best at order {best} with {finite[best]:.2f} bits per character."
        else:
            sentence = f"{chosen} on {size} stories: infinite at every order."
        if lost := [str(order) for order in ORDERS if order not in finite]:
            sentence += f" Infinite at order {', '.join(lost)}: not drawn."
        if floor is not None:
            sentence += f" The village's entropy is {floor:.2f}."
        figure = line_chart(
            lines,
            x=ORDERS,
            floor=None if floor is None else ("entropy of the village", floor),
            title=f"Held-out loss on the {text}, {size} training stories",
            x_label="order of the model (words)",
            y_label="loss (bits per character)",
            alt=sentence,
        )
        return figure, sentence
