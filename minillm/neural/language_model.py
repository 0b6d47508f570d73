"""A neural language model is a table of logits for each next token; all else about it is the same for every network.

    loss = -(1 / (b·t)) Σ log softmax(logits)[token that came]          in nats per token

A batch is an int64 tensor of shape (b, t + 1): the inputs are all tokens but the last, the targets all but the first.
One token, `end`, stands before, between and after documents, so that the model learns to stop, and where it may begin.

Paper:   Bengio et al. 2003, "A Neural Probabilistic Language Model", JMLR 3, equation 1 and the likelihood of §2.
Names:   `logits` are Bengio's unnormalised log-probabilities y.
Differs: no weight decay here: regularisation belongs to the optimiser.
Next:    minillm/neural/batches.py
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.core.modes import switched
from minillm.statistical import information
from minillm.statistical.sampling import sample_next


class Predicts(Protocol):
    """Anything that gives logits (b, t, v) for the tokens that follow each of (b, t) tokens."""

    def logits(self, tokens_bt: Tensor) -> Tensor:
        """Score every next token."""
        ...


class Tokenizer(Protocol):
    """Anything that turns a text into token ids and back, such as those of `minillm.text`."""

    def encode(self, text: str) -> list[int]:
        """Number the parts of a text."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Put the text together again."""
        ...


class LanguageModel(nn.Module):
    """What every network of the course can do once its `forward` maps tokens (b, t) to logits (b, t, v).

    Position t of the logits is about the token after position t, and knows nothing of it.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, tokens_bt: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no forward; it maps tokens (b, t) to logits (b, t, v)")

    def logits(self, tokens_bt: Tensor) -> Tensor:
        """Logits (b, t, v); `sample_next(model.logits(tokens_bt)[:, -1])` draws what comes next."""
        return self(tokens_bt)

    def loss(self, batch: Tensor) -> Tensor:
        """Mean nats per token of a batch (b, t + 1), one number to differentiate."""
        check_tokens(batch, self.vocabulary, columns=2)
        return mean_nats(self(batch[:, :-1]), batch[:, 1:])

    def count(self, batch: Tensor) -> int:
        """How many targets the mean of `loss` is over: what a batch weighs among batches of other sizes."""
        return batch[:, 1:].numel()

    def step(self, token_b: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Read one more token of each row: the logits (b, v) of what follows, and the state to give back next time.

        Here the state is all the tokens so far; a network with a memory of its own keeps that instead.
        """
        tokens_bt = token_b[:, None] if state is None else torch.cat([state, token_b[:, None]], dim=1)
        return self(tokens_bt)[:, -1], tokens_bt

    @torch.no_grad()
    def sample(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        *,
        end: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> list[int]:
        """Draw up to `max_tokens` tokens after `prompt` (`[end]`, say); `end` stops it and is left out."""
        if not prompt:
            raise ValueError("prompt=[] holds no token to start from; [end] starts a new document")
        device = next(self.parameters()).device
        state, logits_bv = None, None
        for token in prompt:
            logits_bv, state = self.step(torch.tensor([token], device=device), state)
        drawn: list[int] = []
        while len(drawn) < max_tokens and logits_bv is not None:
            token_b = sample_next(logits_bv, temperature, top_k, top_p, generator)
            if int(token_b) == end:
                break
            drawn.append(int(token_b))
            logits_bv, state = self.step(token_b, state)
        return drawn

    @property
    def n_parameters(self) -> int:
        """How many numbers training may change."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def mean_nats(logits_btv: Tensor, target_bt: Tensor) -> Tensor:
    """Mean surprise in nats of the targets under the logits.

    >>> mean_nats(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64))  # no idea: log 4
    tensor(1.3863)
    """
    return F.cross_entropy(logits_btv.flatten(0, 1), target_bt.flatten())


def check_tokens(tokens: Tensor, vocabulary: int, columns: int = 1, name: str = "tokens") -> None:
    """Raise ValueError unless `tokens` is int64, (b ≥ 1, at least `columns`), with every token in the vocabulary.

    >>> check_tokens(torch.tensor([[0, 7]]), vocabulary=5)
    Traceback (most recent call last):
    ValueError: tokens[0, 1]=7 is not in the vocabulary of 5; tokens go from 0 to 4
    """
    if tokens.ndim != 2 or tokens.shape[0] < 1 or tokens.shape[1] < columns:
        wanted = "(b, t + 1), inputs and targets in one" if columns == 2 else "(b, t)"
        raise ValueError(f"{name} has shape {tuple(tokens.shape)}; the rule is {wanted}, such as (1, {columns})")
    if tokens.dtype != torch.int64:
        raise ValueError(f"{name} has dtype={tokens.dtype}; token ids are int64: {name}.to(torch.int64)")
    low, high = (int(extreme) for extreme in tokens.aminmax())
    if low < 0 or high >= vocabulary:
        row, column = ((tokens < 0) | (tokens >= vocabulary)).nonzero()[0].tolist()
        value = int(tokens[row, column])
        raise ValueError(
            f"{name}[{row}, {column}]={value} is not in the vocabulary of {vocabulary}; "
            f"tokens go from 0 to {vocabulary - 1}"
        )


@torch.no_grad()
def bits_per_character(
    model: Predicts, documents: Sequence[str], tokenizer: Tokenizer, end: int, batch_tokens: int = 16_384
) -> float:
    """Bits per character of held-out documents: the course's one scale, beside `Village.entropy_per_character`.

    Every document is read by itself, after the token `end`; its own end is one more surprise. The nats of all are
    divided by log 2 and by the characters of the texts alone. About `batch_tokens` tokens are scored at a time. Raises
    ValueError when a document does not come back from the tokenizer: what was lost would be for free.
    """
    token_lists = [_round_trip(tokenizer, text, place) for place, text in enumerate(documents)]
    if not token_lists:
        raise ValueError("documents=[] holds no text to measure; give at least one, such as corpus.validation")
    network = model if isinstance(model, nn.Module) else nn.Identity()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with switched(network, training=False):
        total = sum(_nats_of(model, rows, end, device) for rows in _by_length(token_lists, batch_tokens))
    return information.bits_per_character(total, sum(map(len, documents)))


def _nats_of(model: Predicts, rows: list[list[int]], end: int, device: torch.device) -> float:
    """Total nats of documents, scored side by side; what pads the shorter ones is not counted."""
    longest = max(map(len, rows)) + 2
    batch = torch.tensor([[end, *row] + [end] * (longest - 1 - len(row)) for row in rows], device=device)
    length_b = torch.tensor([len(row) + 1 for row in rows], device=device)
    logits_btv, target_bt = model.logits(batch[:, :-1]), batch[:, 1:]
    nats_bt = F.cross_entropy(logits_btv.transpose(1, 2).float(), target_bt, reduction="none")
    counts_bt = torch.arange(longest - 1, device=device) < length_b[:, None]
    return float(nats_bt.double()[counts_bt].sum())


def _by_length(token_lists: list[list[int]], batch_tokens: int) -> list[list[list[int]]]:
    """Documents of like length together, so that little is padded: about `batch_tokens` tokens to a batch."""
    batches: list[list[list[int]]] = []
    for row in sorted(token_lists, key=len):  # the newest is the longest of its batch
        if not batches or (len(batches[-1]) + 1) * (len(row) + 1) > batch_tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def _round_trip(tokenizer: Tokenizer, text: str, place: int) -> list[int]:
    ids = list(tokenizer.encode(text))
    if tokenizer.decode(ids) != text:
        raise ValueError(
            f"documents[{place}]={text[:40]!r}… does not come back from the tokenizer, so its bits per character would "
            "leave something out; take a tokenizer that knows all of it, such as BPETokenizer or CharTokenizer"
        )
    return ids
