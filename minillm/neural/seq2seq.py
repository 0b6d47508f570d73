"""Sequence to sequence: one recurrent network reads the source, another starts from what it remembers and writes.

    s₀ = the reader's state after the last source token
    without attention   sᵢ = cell(C(yᵢ₋₁), sᵢ₋₁)                                      logits = U sᵢ + b
    with attention      sᵢ = cell([C(yᵢ₋₁); cᵢ], sᵢ₋₁),  cᵢ = attention(sᵢ₋₁, m)      logits = U tanh(O [sᵢ; cᵢ]) + b

Without attention everything that the writer will ever know of the source is in s₀, which has the same size for three
words and for thirty. With attention it can look at the reader's notes m₁ … m_S again before each token. The price is
that cᵢ needs sᵢ₋₁: in training too the loop over the target is one of Python, no longer one fused call.

Paper:   Sutskever, Vinyals & Le 2014, arXiv:1409.3215; Cho et al. 2014, arXiv:1406.1078; attention: Bahdanau, Cho &
         Bengio 2014, arXiv:1409.0473, §3 and appendix A.
Names:   s is the writer's state, m the reader's outputs (their h), C the table `target_embedding`.
Differs: one layer, where Sutskever et al. have four. c is given to the cell as in Bahdanau et al., but not without
         attention, where Cho et al. do so. A bidirectional reader has half the width in each direction, so that m and
         s₀ are as wide as s and s₀ needs no weights of its own; Bahdanau et al. map its backward half by a tanh layer.
         The output layer is one tanh layer, where they have a maxout that sees C(yᵢ₋₁) too.
Next:    minillm/attention/dot_product.py
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from minillm.core.settings import check_whole_numbers
from minillm.neural.additive_attention import AdditiveAttention
from minillm.neural.cells import GRU, LSTM, RecurrentCells, State, reset_cells
from minillm.neural.pair_model import PairModel
from minillm.neural.pairs import PairBatch
from minillm.neural.recurrent import parts


@dataclass(frozen=True, kw_only=True, slots=True)
class Seq2SeqConfig:
    """The sizes of a `Seq2Seq`, and whether it may look back at the source."""

    source_vocabulary: int  # tokens of the source, numbered from 0
    target_vocabulary: int  # tokens of the target, begin and end among them
    d_embedding: int = 64  # numbers for each token in either table
    d_hidden: int = 128  # numbers in the state of either network
    cell: Literal["gru", "lstm"] = "gru"
    attention: Literal["additive"] | None = None
    bidirectional: bool = False  # read from both ends, half the width each
    reverse_source: bool = False  # read the last word first, so that the first words meet (Sutskever et al., §3.3)
    seed: int = 0  # of the first parameters

    def __post_init__(self) -> None:
        names = ("source_vocabulary", "target_vocabulary", "d_embedding", "d_hidden")
        check_whole_numbers({name: (getattr(self, name), 64) for name in names})
        if self.cell not in ("gru", "lstm"):
            raise ValueError(f"cell={self.cell!r} must be 'gru' or 'lstm'")
        if self.attention not in (None, "additive"):
            raise ValueError(f"attention={self.attention!r} must be None or 'additive'")
        if self.bidirectional and self.d_hidden % 2:
            raise ValueError(
                f"d_hidden={self.d_hidden} cannot be halved for the two directions; d_hidden={self.d_hidden + 1} can"
            )


@dataclass(frozen=True, slots=True)
class Notes:
    """What the reader leaves for attention: the memory of each place, its key, and how many places are no padding."""

    memory_bsf: Tensor
    key_bsf: Tensor
    length_b: Tensor


SourceState = tuple[State, Notes | None]  # what a writer carries: its own state, and what it can look at


class Seq2Seq(PairModel):
    """A reader and a writer; `config.attention` says whether the writer sees more than the reader's last state.

    Initialisation: tables are normal with standard deviation 1, cells as `reset_cells` says, the rest uniform within
    ± 1 / √(its inputs).

    >>> model = Seq2Seq(Seq2SeqConfig(source_vocabulary=9, target_vocabulary=7, d_hidden=8, attention="additive"))
    >>> batch = PairBatch.of([([5, 6, 8], [3]), ([8], [3, 4])], begin=1, end=2)
    >>> model(batch).shape, model.alignment(batch).shape  # (b, t - 1, v): y₁, y₂ and end; and where each looked
    (torch.Size([2, 3, 7]), torch.Size([2, 3, 3]))
    >>> [len(row) <= 5 for row in model.translate([[5, 6], [8]], begin=1, end=2, max_tokens=5)]
    [True, True]
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__(config.source_vocabulary, config.target_vocabulary)
        self.config = config
        d, f, both = config.d_embedding, config.d_hidden, config.bidirectional
        self.source_embedding = nn.Embedding(config.source_vocabulary, d)
        self.target_embedding = nn.Embedding(config.target_vocabulary, d)
        fused = nn.GRU if config.cell == "gru" else nn.LSTM
        self.encoder = fused(d, f // 2 if both else f, batch_first=True, bidirectional=both)
        self.decoder = LookingWriter(d, f, config.cell) if config.attention else Writer(d, f, config.cell)
        self.score = nn.Linear(f, config.target_vocabulary)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters again, from the seed of the configuration."""
        generator = torch.Generator().manual_seed(self.config.seed)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(generator=generator)
            elif isinstance(module, nn.RNNBase | RecurrentCells):
                reset_cells(module, generator=generator)
            elif isinstance(module, nn.Linear):
                for parameter in module.parameters():
                    parameter.uniform_(-(module.in_features**-0.5), module.in_features**-0.5, generator=generator)

    def forward(self, batch: PairBatch) -> Tensor:
        return self.read_and_write(batch)[0]

    def read_and_write(self, batch: PairBatch) -> tuple[Tensor, Tensor | None]:
        """Logits (b, t - 1, v) of the tokens `target_bt[:, 1:]`, and the weights (b, t - 1, s) of attention."""
        state, notes = self.start(batch.source_bs, batch.source_length_b)
        output, weights, _ = self.decoder(self.target_embedding(batch.target_bt[:, :-1]), state, notes)
        return self.score(output), weights

    @torch.no_grad()
    def alignment(self, batch: PairBatch) -> Tensor:
        """Where the writer looked: row i of (b, t - 1, s) are the weights with which `target_bt[:, i + 1]` was written.

        Rows of padding are zero. ValueError without attention, where it looks nowhere.
        """
        weights = self.read_and_write(self.checked(batch))[1]
        if weights is None:
            raise ValueError(
                "this model has attention=None and looks nowhere; attention='additive' makes one that looks"
            )
        return weights * batch.asked_bt[:, :, None]

    def encode(self, source_bs: Tensor, source_length_b: Tensor) -> tuple[Tensor, State]:
        """Read the sources: outputs (b, s, f), zero at padding, and the state after the last token of each row.

        With `reverse_source` the rows are read backwards; the outputs still lie where their tokens lie.
        """
        if self.config.reverse_source:
            source_bs = reversed_rows(source_bs, source_length_b)
        # packed: each row stops at its own length, so padding is not read at all
        packed = pack_padded_sequence(
            self.source_embedding(source_bs), source_length_b.cpu(), batch_first=True, enforce_sorted=False
        )
        outputs, last = self.encoder(packed)
        memory_bsf = pad_packed_sequence(outputs, batch_first=True, total_length=source_bs.shape[1])[0]
        if self.config.reverse_source:
            memory_bsf = reversed_rows(memory_bsf, source_length_b)
        return memory_bsf, side_by_side(last)

    def start(self, source_bs: Tensor, source_length_b: Tensor) -> SourceState:
        """Read the sources: the first state of their writers, and with attention the reader's notes."""
        memory_bsf, state = self.encode(source_bs, source_length_b)
        return state, self.decoder.notes(memory_bsf, source_length_b)

    def step(self, token_b: Tensor, state: SourceState) -> tuple[Tensor, SourceState]:
        """Read one more target token of each row: the logits (b, v) of what follows, and the state after it."""
        hidden, notes = state
        output, _, hidden = self.decoder(self.target_embedding(token_b)[:, None], hidden, notes)
        return self.score(output[:, 0]), (hidden, notes)

    def select(self, state: SourceState, rows: Tensor) -> SourceState:
        """The state of the numbered rows, in that order; a row may be taken more than once."""
        hidden, notes = state
        if notes is not None:
            notes = Notes(notes.memory_bsf[rows], notes.key_bsf[rows], notes.length_b[rows])
        return joined([part[:, rows] for part in parts(hidden)]), notes


class Writer(nn.Module):
    """The writer that sees no more than its own state: one fused call, for training and for a single step."""

    def __init__(self, d_embedding: int, d_hidden: int, cell: str) -> None:
        super().__init__()
        self.cells = (nn.GRU if cell == "gru" else nn.LSTM)(d_embedding, d_hidden, batch_first=True)

    def notes(self, memory_bsf: Tensor, length_b: Tensor) -> Notes | None:
        """Nothing: all but the reader's last state is thrown away."""
        return None

    def forward(self, x_btd: Tensor, state: State, notes: Notes | None) -> tuple[Tensor, Tensor | None, State]:
        """What to score (b, t, f) after each target token, where it looked (b, t, s), and the state after the last."""
        output_btf, state = self.cells(x_btd, state)
        return output_btf, None, state


class LookingWriter(nn.Module):
    """The writer with attention: its state asks where to look before it becomes the next state."""

    def __init__(self, d_embedding: int, d_hidden: int, cell: str) -> None:
        super().__init__()
        self.cells = (GRU if cell == "gru" else LSTM)(d_embedding + d_hidden, d_hidden)
        self.attention = AdditiveAttention(d_hidden)
        self.output = nn.Linear(2 * d_hidden, d_hidden)  # O

    def notes(self, memory_bsf: Tensor, length_b: Tensor) -> Notes:
        """The reader's outputs, and their keys, which are the same for every target token."""
        return Notes(memory_bsf, self.attention.keys(memory_bsf), length_b)

    def forward(self, x_btd: Tensor, state: State, notes: Notes | None) -> tuple[Tensor, Tensor | None, State]:
        assert notes is not None  # those that `notes` made
        layers, seen, weights = self.cells.split_state(state, x_btd), [], []
        for x_bd in x_btd.unbind(dim=1):
            weight_bs = self.attention(layers[0][0], notes.key_bsf, notes.length_b)
            context_bf = torch.einsum("bs,bsf->bf", weight_bs, notes.memory_bsf)
            layers = self.cells.step(torch.cat([x_bd, context_bf], dim=1), layers)
            seen.append(torch.cat([layers[0][0], context_bf], dim=1))
            weights.append(weight_bs)
        output_btf = torch.tanh(self.output(torch.stack(seen, dim=1)))
        return output_btf, torch.stack(weights, dim=1), self.cells.join_state(layers)


def reversed_rows(x: Tensor, length_b: Tensor) -> Tensor:
    """Each row of x (b, s, …) back to front as far as its length; padding stays behind it.

    >>> reversed_rows(torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0]]), torch.tensor([3, 2])).tolist()
    [[3, 2, 1, 0], [5, 4, 0, 0]]
    """
    place_s = torch.arange(x.shape[1], device=x.device)
    from_bs = torch.where(place_s < length_b[:, None], length_b[:, None] - 1 - place_s, place_s)
    return x[torch.arange(len(x), device=x.device)[:, None], from_bs]


def side_by_side(last: State) -> State:
    """The last states of all directions (n, b, f / n) as one (1, b, f)."""
    return joined([part.transpose(0, 1).flatten(1)[None] for part in parts(last)])


def joined(tensors: list[Tensor]) -> State:
    """The tensors of a state as torch's cells take them: h alone, or h and c."""
    return tensors[0] if len(tensors) == 1 else (tensors[0], tensors[1])
