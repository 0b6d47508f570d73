"""The recurrent language model: a state that is carried from token to token, so that no window ends its view.

    hₜ = cell(C(wₜ), hₜ₋₁)          logitsₜ = U hₜ + b

Training through a whole text costs memory for every step of it. Truncated back-propagation carries the state from chunk
to chunk but lets no gradient pass between them: it learns what is useful within a chunk, and remembers beyond it.

Paper:   Mikolov et al. 2010, "Recurrent neural network based language model"; with an LSTM: Sundermeyer, Schlüter and
         Ney 2012, "LSTM Neural Networks for Language Modeling"; truncation: Williams and Peng 1990.
Names:   `embedding` is C, `cells` the recurrent layers, `score` holds U and b.
Differs: softmax over all tokens, no classes of words. Chunks do not overlap: a gradient sees between 1 and t steps of
         the past, where Williams and Peng give each step the same number.
Next:    minillm/neural/gradient_flow.py
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from minillm.core.settings import check_whole_numbers
from minillm.neural.cells import GRU, LSTM, RNN, RecurrentCells, State, check_nonlinearity, reset_cells
from minillm.neural.language_model import LanguageModel, check_tokens, mean_nats

__all__ = ["GRU", "LSTM", "RNN", "RecurrentConfig", "RecurrentLM", "TruncatedBPTT", "detach", "plain_twin"]

CellName = Literal["rnn", "lstm", "gru"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecurrentConfig:
    """The sizes of a `RecurrentLM`, and which cell it has."""

    vocabulary: int  # tokens, numbered from 0
    d_model: int = 64  # numbers for each token in the table
    hidden: int = 128  # numbers in the state of a layer
    layers: int = 1  # cells above each other
    cell: CellName = "lstm"
    fused: bool = True  # torch's cell, fast; False: ours, written out, with the same parameters
    forget_bias: float = 1.0  # where an LSTM's forget gate starts; 0 is 1997 and 2000, 1 is 2015
    nonlinearity: str = "tanh"  # of the cell "rnn": "tanh", "relu", or "linear" (ours only)
    seed: int = 0  # of the first parameters

    def __post_init__(self) -> None:
        names = ("vocabulary", "d_model", "hidden", "layers")
        check_whole_numbers({name: (getattr(self, name), 8) for name in names})
        if self.cell not in ("rnn", "lstm", "gru"):
            raise ValueError(f"cell={self.cell!r} must be 'rnn', 'lstm' or 'gru'")
        check_nonlinearity(self.nonlinearity)
        if self.nonlinearity != "tanh" and self.cell != "rnn":
            raise ValueError(f"nonlinearity={self.nonlinearity!r} is for cell='rnn'; cell={self.cell!r} has its own")
        if self.nonlinearity == "linear" and self.fused:
            raise ValueError("nonlinearity='linear' is not among torch's cells; fused=False takes ours, which has it")


class RecurrentLM(LanguageModel):
    """Table, cells, scores. Tokens (b, t) in, logits (b, t, v) of each next token out, from a state of zeros.

    Initialisation: the table is normal with standard deviation 1, the cells as `reset_cells` says, U and b uniform
    within ± 1 / √hidden. The fused and the plain model start with the same numbers and can swap their weights.

    >>> model = RecurrentLM(RecurrentConfig(vocabulary=11, d_model=3, hidden=4, cell="gru"))
    >>> model(torch.tensor([[1, 2, 3, 4, 5]])).shape
    torch.Size([1, 5, 11])
    >>> model.n_parameters == 11 * 3 + 3 * (4 * 3 + 4 * 4 + 4 + 4) + (4 * 11 + 11)  # C, three gates, U and b
    True
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config.vocabulary)
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.cells = fused_cells(config) if config.fused else plain_cells(config)
        self.score = nn.Linear(config.hidden, config.vocabulary)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters again, from the seed of the configuration."""
        generator = torch.Generator().manual_seed(self.config.seed)
        self.embedding.weight.normal_(generator=generator)
        reset_cells(self.cells, self.config.forget_bias, generator)
        bound = self.config.hidden**-0.5
        self.score.weight.uniform_(-bound, bound, generator=generator)
        self.score.bias.uniform_(-bound, bound, generator=generator)

    def forward(self, tokens_bt: Tensor) -> Tensor:
        return self.read(tokens_bt)[0]

    def read(self, tokens_bt: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Go on reading from `state` (None: from zeros): the logits (b, t, v), and the state after the last token."""
        check_tokens(tokens_bt, self.vocabulary)
        output_btf, new_state = self.cells(self.embedding(tokens_bt), state)
        return self.score(output_btf), new_state

    def loss_from(self, batch: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Mean nats per token of a batch (b, t + 1) read from `state`, and the state after its last input."""
        check_tokens(batch, self.vocabulary, columns=2)
        logits_btv, state = self.read(batch[:, :-1], state)
        return mean_nats(logits_btv, batch[:, 1:]), state

    def step(self, token_b: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Read one more token of each row; what is kept is the state of the cells, of the same size for ever."""
        logits_btv, state = self.read(token_b[:, None], state)
        return logits_btv[:, -1], state


class TruncatedBPTT(LanguageModel):
    """A `RecurrentLM` whose state goes on from one batch to the next, without the gradient.

    Feed it `consecutive_chunks`: each call of `loss` starts where the last one ended. `restart` forgets the state, as
    does a batch with another number of rows. Logits and parameters are those of the model inside. While evaluating
    (`eval()`) every batch stands for itself.

    >>> model = RecurrentLM(RecurrentConfig(vocabulary=7, d_model=2, hidden=3))
    >>> carried, text = TruncatedBPTT(model), torch.tensor([[1, 2, 3, 4, 5, 6, 0]])
    >>> losses = [carried.loss(text[:, :4]), carried.loss(text[:, 3:])]  # two chunks, three targets each
    >>> torch.allclose(sum(losses) / 2, model.loss(text))
    True
    """

    def __init__(self, model: RecurrentLM) -> None:
        super().__init__(model.vocabulary)
        self.model = model
        self.state: State | None = None

    def restart(self) -> None:
        """Begin again from a state of zeros."""
        self.state = None

    def forward(self, tokens_bt: Tensor) -> Tensor:
        return self.model(tokens_bt)

    def loss(self, batch: Tensor) -> Tensor:
        """Mean nats per token of the next chunk (b, t + 1)."""
        if not self.training:
            return self.model.loss(batch)
        if self.state is not None and parts(self.state)[0].shape[1] != batch.shape[0]:
            self.restart()
        loss, state = self.model.loss_from(batch, self.state)
        self.state = detach(state)
        return loss

    def step(self, token_b: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As the model inside."""
        return self.model.step(token_b, state)


def parts(state: State) -> tuple[Tensor, ...]:
    """The tensors of a state: h, and an LSTM's c."""
    return state if isinstance(state, tuple) else (state,)


def detach(state: State) -> State:
    """The same numbers, with no way back for the gradient."""
    return (state[0].detach(), state[1].detach()) if isinstance(state, tuple) else state.detach()


def plain_cells(config: RecurrentConfig) -> RecurrentCells:
    """Our cells, written out."""
    if config.cell == "rnn":
        return RNN(config.d_model, config.hidden, config.layers, config.nonlinearity)
    return (LSTM if config.cell == "lstm" else GRU)(config.d_model, config.hidden, config.layers)


def fused_cells(config: RecurrentConfig) -> nn.RNNBase:
    """Torch's cells: one call for all steps, which is what makes training fast."""
    sizes = (config.d_model, config.hidden, config.layers)
    if config.cell == "rnn":
        return nn.RNN(*sizes, nonlinearity=config.nonlinearity, batch_first=True)
    return (nn.LSTM if config.cell == "lstm" else nn.GRU)(*sizes, batch_first=True)


def plain_twin(model: RecurrentLM) -> RecurrentLM:
    """The same model with our cells: it shares the parameters' numbers, so it follows when the model learns."""
    twin = RecurrentLM(replace(model.config, fused=False))
    twin.load_state_dict(model.state_dict(), assign=True)
    return twin.train(model.training)
