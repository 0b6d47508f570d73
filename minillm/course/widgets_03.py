"""The widget of chapter 03: a sentence and its cuts, with as many merges as the slider says.

Next:    minillm/course/checks_03.py
"""

from collections.abc import Mapping, Sequence

from minillm.course.figures import Drawing, Figure, drawable
from minillm.course.widgets import Explorer, choice, slider, words
from minillm.text.bpe import BPETokenizer
from minillm.text.bpe_training import Pair

SENTENCE = "The lighthouse keeper waited. 守灯塔的人等着。"
COLOURS = ("#CFE3F2", "#F8DCC8")
WIDTH, ROWS, LONGEST = 92, 4, 200  # of a line in half-width characters; lines shown; characters read


class BPEExplorer(Explorer):
    """Choose whose merges, and how many of them: the sentence falls into tokens, one box each."""

    def __init__(self, merges: Mapping[str, Sequence[Pair]], sentence: str = SENTENCE, number: int = 400) -> None:
        """`merges` maps a name, such as "English", to merges in the order learned; `number` of them are used first."""
        self.merges = {name: list(pairs) for name, pairs in merges.items()}
        longest = max(map(len, self.merges.values()))
        self.trained_on = choice("merges learned from", list(self.merges))
        self.number = slider("number of merges", min(number, longest), low=0, high=longest)
        self.line = words("sentence", sentence)
        super().__init__(self.trained_on, self.number, self.line)

    @property
    def tokens(self) -> list[bytes]:
        """The tokens of the sentence for the present state of the controls."""
        merges = self.merges[str(self.trained_on.value)][: self.number.value]
        vocab = [bytes([byte]) for byte in range(256)] + [left + right for left, right in merges]
        tokenizer = BPETokenizer(dict(enumerate(vocab)), merges)
        return [vocab[token] for token in tokenizer.encode(self.text)]

    @property
    def text(self) -> str:
        """What is cut: the sentence as far as it is read, or one space when there is none."""
        return self.line.value[:LONGEST].encode("utf-8", "replace").decode() or " "

    def draw(self) -> tuple[Figure, str]:
        """Boxes in two colours by turns, and how many characters a token holds."""
        tokens, text = self.tokens, self.text
        used = min(self.number.value, len(self.merges[str(self.trained_on.value)]))
        counted = f"{len(tokens)} tokens for {len(text)} characters, {len(text) / len(tokens):.2f} characters a token"
        figure = boxes(
            [readable(token) for token in tokens],
            title=f"{used} merges learned from {self.trained_on.value}",
            alt=f"The sentence is cut into {counted.replace(' for ', ', for ')}; each token is one box.",
        )
        return figure, f"{counted}: {'|'.join(map(readable, tokens))}"


def readable(token: bytes) -> str:
    """A token as people can read it: a space is ␣, and bytes that are no whole character are hexadecimal.

    >>> readable(b" cat"), readable("猫".encode()), readable("猫".encode()[:2])
    ('␣cat', '猫', 'E7·8C')
    """
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return "·".join(f"{byte:02X}" for byte in token)
    return text.replace(" ", "␣") if text.isprintable() else "·".join(f"{byte:02X}" for byte in token)


def boxes(pieces: Sequence[str], *, title: str, alt: str) -> Figure:
    """Draw each piece in a box, line after line; what does not fit is counted at the end.

    >>> boxes(["␣cat", "s"], title="Two tokens", alt="Two boxes, the first with cat in it.").title
    'Two tokens'
    """
    places: list[tuple[int, int]] = []  # (line, column) of each piece
    line = column = 0
    for piece in pieces:
        size = wide(piece) + 2
        if column + size > WIDTH and column:
            line, column = line + 1, 0
        places.append((line, column))
        column += size
    shown = [(piece, *place) for piece, place in zip(pieces, places, strict=True) if place[0] < ROWS]
    lines = shown[-1][1] + 1
    with Drawing(title=title, alt=alt, height=0.42 * lines + 0.95) as drawing:
        axes = drawing.axes
        for i, (piece, line, column) in enumerate(shown):
            axes.barh(line, wide(piece) + 1.6, left=column, height=0.78, color=COLOURS[i % 2])
            axes.text(column + wide(piece) / 2 + 0.8, line, drawable(piece), ha="center", va="center", fontsize=10)
        rest = len(pieces) - len(shown)
        axes.set_xlim(-0.5, WIDTH + 0.5)
        axes.set_ylim(lines - 0.3, -0.7)
        axes.set_axis_off()
        if rest:
            axes.text(WIDTH, lines - 0.4, f"and {rest} more", ha="right", va="top", fontsize=9)
    return drawing.figure


def wide(text: str) -> int:
    """How many half-width columns a piece takes: a Chinese character takes two.

    >>> wide("cat"), wide("猫")
    (3, 2)
    """
    return sum(2 if ord(character) >= 0x2E80 else 1 for character in text)
