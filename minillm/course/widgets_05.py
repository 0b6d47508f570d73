"""The widget of chapter 05: how much of the gradient survives the way back through a recurrent network.

    left(k) = mean ‖∂ loss_T / ∂ state_(T-k)‖ / mean ‖∂ loss_T / ∂ state_T‖

The network is fresh, so the picture shows what training has to start from. The scale multiplies the recurrent weights
V; the forget bias moves where the LSTM's gate begins. For the LSTM the state is its memory c, for the others h.

Paper:   Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks", §2.1.
Next:    minillm/course/checks_05.py
"""

from functools import lru_cache

import torch

from minillm.course.figures import Figure, line_chart
from minillm.course.widgets import Explorer, choice, slider
from minillm.neural.gradient_flow import gradient_norms_over_time
from minillm.neural.recurrent import CellName, RecurrentConfig, RecurrentLM

CELLS: tuple[CellName, ...] = ("rnn", "gru", "lstm")
STEPS, HIDDEN, VOCABULARY, ROWS = 60, 32, 9, 8


@lru_cache(maxsize=256)
def gradient_left(
    cell: CellName, scale: float = 1.0, forget_bias: float = 1.0, steps: int = STEPS
) -> tuple[float, ...]:
    """The share of the gradient that is left 0, 1, … `steps` - 1 steps back, in a fresh network with seed 0.

    >>> left = gradient_left("rnn")
    >>> len(left), left[0], left[20] < 0.01
    (60, 1.0, True)
    """
    model = RecurrentLM(
        RecurrentConfig(vocabulary=VOCABULARY, d_model=8, hidden=HIDDEN, cell=cell, forget_bias=forget_bias)
    )
    with torch.no_grad():
        model.cells.get_parameter("weight_hh_l0").mul_(scale)
    u_bt = torch.rand(ROWS, steps + 1, generator=torch.Generator().manual_seed(0))
    norms = gradient_norms_over_time(
        model, (u_bt * VOCABULARY).long(), part="memory" if cell == "lstm" else "hidden"
    ).flip(0)
    return tuple((norms / norms[0]).tolist())


class GradientExplorer(Explorer):
    """Choose the cell, the scale of its recurrent weights and its forget bias; see what is left of the gradient."""

    def __init__(self, cell: CellName = "rnn", scale: float = 1.0, forget_bias: float = 1.0) -> None:
        self.cell = choice("cell", CELLS, cell)
        self.scale = slider("scale of the recurrent weights", scale, low=0.5, high=4.0, step=0.25)
        self.forget_bias = slider("forget bias (LSTM only)", forget_bias, low=-2.0, high=6.0, step=1.0)
        super().__init__(self.cell, self.scale, self.forget_bias)

    def draw(self) -> tuple[Figure, str]:
        """One line for the network chosen, over the plain one of the same cell where they differ."""
        cell: CellName = next(name for name in CELLS if name == self.cell.value)
        scale, bias = float(self.scale.value), float(self.forget_bias.value) if cell == "lstm" else 1.0
        left = gradient_left(cell, scale, bias)
        names = {"rnn": "RNN", "gru": "GRU", "lstm": f"LSTM, forget bias {bias:.0f}"}
        lines = {f"{names[cell]}, weights × {scale:.2f}": left}
        if cell != "rnn" or scale != 1.0:
            lines["RNN, weights × 1.00"] = gradient_left("rnn")
        sentence = (
            f"{names[cell]}, weights × {scale:.2f}: 20 steps back {_level(left[20])}, 50 steps back {_level(left[50])}."
        )
        figure = line_chart(
            lines,
            x=range(STEPS),
            log_y=True,
            title="What is left of the gradient",
            x_label="distance (steps back)",
            y_label="gradient (share of the last step's)",
            alt=sentence,
        )
        return figure, sentence


def _level(share: float) -> str:
    """A share in words that do not change with the last digits."""
    for least, text in (
        (10.0, "it has exploded to more than ten times its size"),
        (0.1, "it is alive, between a tenth and ten times its size"),
        (1e-3, "less than a tenth is left"),
        (1e-6, "less than a thousandth is left"),
    ):
        if share >= least:
            return text
    return "less than a millionth is left"
