"""The widget of chapter 01: Eliza at work on a sentence, step by step, and the cards of the blind test.

Next:    minillm/course/checks_01.py
"""

from dataclasses import dataclass
from pathlib import Path

from minillm.course.figures import PALETTE, Drawing, Figure, cjk_font, drawable
from minillm.course.widgets import Explorer, tick, words
from minillm.rules.eliza import Eliza, scan, swap

CARDS = Path(__file__).parent / "data" / "blind_01.txt"
_MOST = 80.0  # where a line of the picture ends
_WIDTH = 1.02  # of a letter


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A message with two replies; one of them is Eliza's."""

    message: str
    written: str  # the reply of somebody who read the message
    eliza: str  # what the rules made of it


def load_cards() -> list[Card]:
    """The sixteen cards of the blind test; Eliza starts fresh for each.

    >>> len(load_cards()), load_cards()[0].eliza
    (16, 'You found an old key in the garden?')
    """
    lines = [line.split("|") for line in CARDS.read_text("utf-8").splitlines() if not line.startswith("#")]
    return [Card(message=message, written=written, eliza=Eliza().reply(message)) for message, written in lines]


class ListenerExplorer(Explorer):
    """Type a sentence and see what Eliza does with it; take a part of the machine away and see what goes wrong."""

    def __init__(self, message: str = "Well, I am tired of my brother.") -> None:
        self.message = words("message", message)
        self.with_swap = tick("exchange I and you", True)
        self.with_ranks = tick("let the highest rank speak first", True)
        super().__init__(self.message, self.with_swap, self.with_ranks)

    def draw(self) -> tuple[Figure, str]:
        """Four rows: the words read, the words swapped, the parts of the pattern, the reply."""
        whole = Eliza().script
        script = type(whole)(
            hello=whole.hello,
            swaps=whole.swaps if self.with_swap.value else {},
            ranks=whole.ranks if self.with_ranks.value else dict.fromkeys(whole.ranks, 0),
            rules=whole.rules,
            memory=whole.memory,
            none=whole.none,
        )
        reply = Eliza(script).respond(self.message.value)
        read, found = scan(self.message.value, script.ranks)
        swapped = swap(read, script.swaps)
        parts = [f"{{{i}}} {part or '–'}" for i, part in enumerate(reply.parts, start=1)]
        rows = [
            ("read", read, {i for i, word in enumerate(read) if word.casefold() in found}),
            ("swapped", swapped, {i for i, pair in enumerate(zip(read, swapped, strict=False)) if pair[0] != pair[1]}),
            ("parts", parts or ["no pattern fits"], set()),
            ("reply", [reply.text], set()),
        ]
        sentence = (
            f"Keywords: {', '.join(found) or 'none'}. "
            f"Keyword that answers: {reply.keyword or 'none'}. Pattern: {reply.pattern or 'none'}. Reply: {reply.text}"
        )
        with Drawing(title="How a reply is made", alt=sentence, height=3.0) as drawing:
            axes = drawing.axes
            axes.set_axis_off()
            axes.set_xlim(-12, _MOST)
            axes.set_ylim(-3.6, 0.6)
            for row, (label, texts, marked) in enumerate(rows):
                axes.text(-12, -row, label, va="center", color="#555555")
                _draw_boxes(axes, row, texts, marked)
        return drawing.figure, sentence


def _draw_boxes(axes, row: int, texts: list[str], marked: set[int]) -> None:
    """Words in boxes from left to right; what does not fit is left out, with dots in its place."""
    place, fonts = 0.0, ["DejaVu Sans Mono", *([name] if (name := cjk_font()) else [])]
    for index, text in enumerate(texts):
        room = int((_MOST - place) / _WIDTH)
        if room < 4:
            axes.text(place, -row, "…", va="center")
            return
        text = text if len(text) <= room else text[: room - 1] + "…"
        colour = PALETTE[4] if index in marked else "#E8F1F8" if row < 3 else "#FFFFFF"
        box = {"boxstyle": "round,pad=0.3", "facecolor": colour, "edgecolor": PALETTE[0], "linewidth": 0.8}
        axes.text(place, -row, drawable(text), va="center", family=fonts, fontsize=9, bbox=box)
        place += len(text) * _WIDTH + 1.9
