"""Recurrent cells written out: what each does at one step, and a loop over time.

    RNN    h' = tanh(W x + V h + b)
    LSTM   i, f, o = σ(…), g = tanh(…), each of its own W x + V h + b;  c' = f ∘ c + i ∘ g;  h' = o ∘ tanh(c')
    GRU    r, z = σ(…) of their own W x + V h + b;  g = tanh(W x + b + r ∘ (V h + b̃));  h' = (1 - z) ∘ g + z ∘ h

The memory c of the LSTM is what the gates are for: while f is near 1 it goes on unchanged, and so does its gradient,
where the RNN multiplies both by V at each step.

Paper:   RNN: Elman 1990, "Finding Structure in Time"; LSTM: Hochreiter and Schmidhuber 1997, "Long Short-Term Memory",
         with the forget gate f of Gers, Schmidhuber and Cummins 2000, "Learning to Forget"; GRU: Cho et al. 2014,
         arXiv:1406.1078; forget bias 1: Jozefowicz, Zaremba and Sutskever 2015, "An Empirical Exploration of
         Recurrent Network Architectures".
Names:   x is the input, h the state, c the memory, σ the logistic function, ∘ multiplies place by place.
Differs: parameters have the names, shapes and gate order of torch.nn.RNN, LSTM and GRU, so that either reads the
         other's weights; torch has two biases where one would do. The GRU applies r after V, as cuDNN and torch do;
         Cho et al. apply it before, V (r ∘ h), and have no biases. The LSTM has no peephole connections.
Next:    minillm/neural/recurrent.py
"""

import torch
from torch import Tensor, nn

from minillm.core.settings import check_whole_numbers

State = Tensor | tuple[Tensor, Tensor]  # h (n, b, f), and c (n, b, f) for the LSTM; n counts the layers
LayerState = tuple[Tensor, ...]  # of one layer: (h,) or (h, c), each (b, f)


class RecurrentCells(nn.Module):
    """Layers of cells, one above the other, and the loop over time that all kinds share.

    A kind of cell says how many `gates` it has, how many tensors its state has, and what `cell` does at one step.
    """

    gates = 1
    tensors_in_state = 1

    def __init__(self, d_model: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        check_whole_numbers({"d_model": (d_model, 2), "hidden": (hidden, 2), "layers": (layers, 2)})
        self.d_model, self.hidden, self.layers = d_model, hidden, layers
        for layer in range(layers):
            rows = self.gates * hidden
            self.register_parameter(
                f"weight_ih_l{layer}", nn.Parameter(torch.empty(rows, hidden if layer else d_model))
            )
            self.register_parameter(f"weight_hh_l{layer}", nn.Parameter(torch.empty(rows, hidden)))
            self.register_parameter(f"bias_ih_l{layer}", nn.Parameter(torch.empty(rows)))
            self.register_parameter(f"bias_hh_l{layer}", nn.Parameter(torch.empty(rows)))
        reset_cells(self)

    def cell(self, x_bd: Tensor, state: LayerState, layer: int) -> LayerState:
        """One step of one layer: its input and its state before, its state after."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its cell does at a step")

    def forward(self, x_btd: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Outputs (b, t, f) of the top layer, and the state after the last step."""
        layers = self.split_state(state, x_btd)
        outputs: list[Tensor] = []
        for x_bd in x_btd.unbind(dim=1):
            layers = self.step(x_bd, layers)
            outputs.append(layers[-1][0])
        return torch.stack(outputs, dim=1), self.join_state(layers)

    def step(self, x_bd: Tensor, layers: list[LayerState]) -> list[LayerState]:
        """One step of all layers: each feeds its new h to the one above."""
        after: list[LayerState] = []
        for layer, state in enumerate(layers):
            after.append(self.cell(x_bd if layer == 0 else after[-1][0], state, layer))
        return after

    def split_state(self, state: State | None, x_btd: Tensor) -> list[LayerState]:
        """The state of each layer by itself; zeros where there is none yet."""
        if state is None:
            zero_bf = x_btd.new_zeros(x_btd.shape[0], self.hidden)
            return [(zero_bf,) * self.tensors_in_state] * self.layers
        tensors = state if isinstance(state, tuple) else (state,)
        wanted = (self.layers, x_btd.shape[0], self.hidden)
        if len(tensors) != self.tensors_in_state or any(tuple(s.shape) != wanted for s in tensors):
            raise ValueError(
                f"state has shapes {[tuple(s.shape) for s in tensors]}; {type(self).__name__} carries "
                f"{self.tensors_in_state} of shape (layers, b, hidden) = {wanted}; None starts from zeros"
            )
        return list(zip(*(s.unbind(0) for s in tensors), strict=True))

    def join_state(self, layers: list[LayerState]) -> State:
        """One tensor (n, b, f) for each part of the state: the form that torch uses."""
        parts = [torch.stack(part) for part in zip(*layers, strict=True)]
        return (parts[0], parts[1]) if self.tensors_in_state == 2 else parts[0]

    def products(self, x_bd: Tensor, h_bf: Tensor, layer: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """W x + b and V h + b̃ of a layer, each cut into its gates (b, f)."""
        from_input = nn.functional.linear(x_bd, self._parameter("weight_ih", layer), self._parameter("bias_ih", layer))
        from_state = nn.functional.linear(h_bf, self._parameter("weight_hh", layer), self._parameter("bias_hh", layer))
        return from_input.chunk(self.gates, dim=1), from_state.chunk(self.gates, dim=1)

    def _parameter(self, name: str, layer: int) -> Tensor:
        return self.get_parameter(f"{name}_l{layer}")


class RNN(RecurrentCells):
    """The simple recurrent network, with the parameters of `torch.nn.RNN(d_model, hidden, layers, batch_first=True)`.

    `nonlinearity` is "tanh", "relu" or "linear"; the last, which torch has not, is for what can be worked out on paper.

    >>> outputs, state = RNN(d_model=3, hidden=4, layers=2)(torch.zeros(5, 6, 3))
    >>> outputs.shape, state.shape
    (torch.Size([5, 6, 4]), torch.Size([2, 5, 4]))
    """

    def __init__(self, d_model: int, hidden: int, layers: int = 1, nonlinearity: str = "tanh") -> None:
        check_nonlinearity(nonlinearity)
        super().__init__(d_model, hidden, layers)
        self.nonlinearity = nonlinearity

    def cell(self, x_bd: Tensor, state: LayerState, layer: int) -> LayerState:
        """h' = tanh(W x + V h + b)."""
        (from_input_bf,), (from_state_bf,) = self.products(x_bd, state[0], layer)
        sum_bf = from_input_bf + from_state_bf
        if self.nonlinearity == "linear":
            return (sum_bf,)
        return (torch.tanh(sum_bf) if self.nonlinearity == "tanh" else torch.relu(sum_bf),)


class LSTM(RecurrentCells):
    """Long short-term memory, with the parameters of `torch.nn.LSTM(d_model, hidden, layers, batch_first=True)`.

    >>> outputs, (h, c) = LSTM(d_model=3, hidden=4)(torch.zeros(5, 6, 3))
    >>> outputs.shape, c.shape
    (torch.Size([5, 6, 4]), torch.Size([1, 5, 4]))
    """

    gates = 4
    tensors_in_state = 2

    def cell(self, x_bd: Tensor, state: LayerState, layer: int) -> LayerState:
        """c' = f ∘ c + i ∘ g, h' = o ∘ tanh(c')."""
        h_bf, c_bf = state
        from_input, from_state = self.products(x_bd, h_bf, layer)
        i_bf, f_bf, g_bf, o_bf = (x + h for x, h in zip(from_input, from_state, strict=True))
        new_c_bf = torch.sigmoid(f_bf) * c_bf + torch.sigmoid(i_bf) * torch.tanh(g_bf)  # keep, and write
        return torch.sigmoid(o_bf) * torch.tanh(new_c_bf), new_c_bf  # show


class GRU(RecurrentCells):
    """The gated recurrent unit, with the parameters of `torch.nn.GRU(d_model, hidden, layers, batch_first=True)`.

    >>> outputs, state = GRU(d_model=3, hidden=4)(torch.zeros(5, 6, 3))
    >>> outputs.shape, state.shape
    (torch.Size([5, 6, 4]), torch.Size([1, 5, 4]))
    """

    gates = 3

    def cell(self, x_bd: Tensor, state: LayerState, layer: int) -> LayerState:
        """h' = (1 - z) ∘ g + z ∘ h."""
        (h_bf,) = state
        (r_input, z_input, g_input), (r_state, z_state, g_state) = self.products(x_bd, h_bf, layer)
        r_bf, z_bf = torch.sigmoid(r_input + r_state), torch.sigmoid(z_input + z_state)
        g_bf = torch.tanh(g_input + r_bf * g_state)  # r decides how much of the past the candidate sees
        return ((1 - z_bf) * g_bf + z_bf * h_bf,)


@torch.no_grad()
def reset_cells(cells: nn.Module, forget_bias: float = 1.0, generator: torch.Generator | None = None) -> None:
    """Draw the parameters of ours or of torch's cells: all uniform within ± 1 / √hidden, as torch does.

    An LSTM's forget gates then get biases that add up to `forget_bias`: at 1 they start at σ(1) = 0.73 rather than 0.5,
    so that what was remembered 10 steps ago starts with a weight of 0.04 rather than 0.001.

    >>> [round(torch.tensor(bias).sigmoid().item() ** 10, 3) for bias in (1.0, 0.0)]
    [0.044, 0.001]
    """
    hidden = next(p for name, p in cells.named_parameters() if name == "weight_hh_l0").shape[1]
    for name, parameter in cells.named_parameters():
        parameter.uniform_(-(hidden**-0.5), hidden**-0.5, generator=generator)
        if isinstance(cells, LSTM | nn.LSTM) and name.startswith("bias"):
            parameter[hidden : 2 * hidden] = forget_bias if name.startswith("bias_ih") else 0.0


def check_nonlinearity(nonlinearity: str) -> None:
    """Raise ValueError for what an RNN cannot apply to its sums."""
    if nonlinearity not in ("tanh", "relu", "linear"):
        raise ValueError(f"nonlinearity={nonlinearity!r} must be 'tanh', 'relu' or 'linear'; 'tanh' is Elman's")
