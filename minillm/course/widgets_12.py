"""The widget of chapter 12: the parts of a block under a roofline, for any machine and any size of the block.

    time ≥ max(operations / rate, bytes / bandwidth)       share of the rate ≤ min(1, intensity / balance)
    intensity = operations / bytes of a part               balance = rate / bandwidth of a machine

A part whose intensity is below the machine's balance waits for memory; above it, for arithmetic. No rate of any machine
is needed for the picture, only its balance.

Paper:   Williams, Waterman and Patterson 2009, "Roofline", CACM 52(4), doi:10.1145/1498765.1498785.
Names:   `tokens` is b · t, all tokens of a batch; heads have 64 numbers; the MLP is 4 · width inside.
Differs: bytes are the least: each tensor that a kernel takes or makes is moved once. A sum of two tensors, a root or an
         e^x counts as one operation.
Next:    minillm/course/checks_12.py
"""

from minillm.course.figures import Drawing, Figure
from minillm.course.widgets import Explorer, choice, slider, tick

WIDTHS, FORMATS = ("128", "256", "512", "768", "1024", "2048"), {"float32": 4, "bfloat16": 2}
HEAD_WIDTH = 64


def block_parts(width: int, tokens: int, context: int, size: int) -> dict[str, tuple[int, int]]:
    """Operations and least bytes of the parts of a block, once through, with `size` bytes a number.

    >>> operations, moved = block_parts(width=128, tokens=64, context=64, size=4)["norm"]
    >>> operations / moved  # half an operation for each byte
    0.5
    """
    heads, d, n = max(1, width // HEAD_WIDTH), width, tokens
    scores, stream = n * context * heads, n * d
    mixing = 4 * n * context * d + 5 * scores  # two products, and the softmax between them
    return {
        "MLP": (16 * n * d * d, size * 2 * (stream + 4 * d * d + 4 * stream)),
        "queries, keys, values, out": (8 * n * d * d, size * 4 * (2 * stream + d * d)),
        "attention, in tiles": (mixing, size * 4 * stream),
        "attention, written out": (mixing, size * (4 * stream + 4 * scores)),
        "softmax alone": (5 * scores, size * 2 * scores),
        "norm": (4 * stream, size * 2 * stream),
    }


def share_of_rate(operations: int, moved: int, balance: float) -> float:
    """The most that a part can reach of a machine's rate of arithmetic: 1, or what its memory allows.

    >>> share_of_rate(100, 50, balance=8)
    0.25
    """
    return min(1.0, operations / moved / balance)


class RooflineExplorer(Explorer):
    """Choose a machine by its balance, and a block by its width, its tokens, its context and its number format."""

    def __init__(
        self, balance: int = 20, width: int = 256, tokens: int = 1024, context: int = 256, bf16: bool = False
    ) -> None:
        self.balance = slider("the machine's balance (operations a byte)", balance, low=1, high=300)
        self.width = choice("width of the block", WIDTHS, str(width))
        self.tokens = slider("tokens in the batch", tokens, low=1, high=4096)
        self.context = slider("of which a row has (tokens)", context, low=1, high=4096)
        self.bf16 = tick("bfloat16, 2 bytes a number", bf16)
        super().__init__(self.balance, self.width, self.tokens, self.context, self.bf16)

    def draw(self) -> tuple[Figure, str]:
        """The roof, and the parts below it."""
        balance, tokens = float(self.balance.value), int(self.tokens.value)
        context, size = min(tokens, int(self.context.value)), 2 if self.bf16.value else 4
        parts = block_parts(int(str(self.width.value)), tokens, context, size)
        waiting = [name for name, part in parts.items() if share_of_rate(*part, balance) < 1]
        whole = [name for name in parts if name not in waiting]
        sentence = (
            f"At a balance of {balance:.0f} operations a byte "
            + (f"memory holds back {', '.join(waiting)}" if waiting else "memory holds back nothing")
            + (f"; arithmetic limits {', '.join(whole)}." if whole else "; nothing waits for arithmetic.")
            + f" The norm can reach {share_of_rate(*parts['norm'], balance):.1%} of the rate, "
            f"the MLP {share_of_rate(*parts['MLP'], balance):.0%}."
        )
        with Drawing(
            title="What memory allows each part of a block",
            x_label="intensity (operations a byte)",
            y_label="share of the machine's rate",
            height=3.8,
            width=7.2,
            alt=sentence,
        ) as drawing:
            ends = [0.1, balance, 2000.0]
            drawing.axes.plot(ends, [min(1, x / balance) for x in ends], color="#555555", label="the roof")
            for mark, (name, part) in zip("o^sDvP", parts.items(), strict=True):
                drawing.axes.plot(part[0] / part[1], share_of_rate(*part, balance), mark, markersize=8, label=name)
            drawing.axes.set(xscale="log", yscale="log", ylim=(3e-4, 2))
            drawing.axes.legend(loc="lower right", fontsize=8)
        return drawing.figure, sentence
