"""A model of pairs writes a target token by token while it looks at a source: the same for every network that does.

    log P(y | x) = Σᵢ log softmax(logits(x, y₁ … yᵢ₋₁))[yᵢ]        loss = its negative mean over all yᵢ, end among them

In training the true y₁ … yᵢ₋₁ are read, whatever the model would have written itself (teacher forcing), so all places
of a target can be scored at once. In translation there is no target: `beam_search` puts one together step by step.

Paper:   Sutskever, Vinyals & Le 2014, equation 1, arXiv:1409.3215; teacher forcing: Williams & Zipser 1989, "A Learning
         Algorithm for Continually Running Fully Recurrent Neural Networks".
Names:   x is the source, y the target with end; begin, which is read first, has no probability.
Next:    minillm/neural/beam_search.py
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.core.modes import switched
from minillm.neural.beam_search import Hypothesis, beam_search
from minillm.neural.language_model import check_tokens
from minillm.neural.pairs import PairBatch, padded

SOURCES_AT_ONCE = 256


class PairModel(nn.Module):
    """What an encoder–decoder can do once it has `forward`, `start`, `step` and `select`.

    `target_bt[:, :-1]` is read and `target_bt[:, 1:]` asked for; padding is never scored.
    """

    def __init__(self, source_vocabulary: int, target_vocabulary: int) -> None:
        super().__init__()
        self.source_vocabulary, self.target_vocabulary = source_vocabulary, target_vocabulary

    def forward(self, batch: PairBatch) -> Tensor:
        """Logits (b, t - 1, v) of the tokens `target_bt[:, 1:]`."""
        raise NotImplementedError(f"{type(self).__name__} has no forward; it maps a PairBatch to logits (b, t - 1, v)")

    def start(self, source_bs: Tensor, source_length_b: Tensor) -> Any:
        """Read the sources: the state from which `step` writes their targets."""
        raise NotImplementedError(f"{type(self).__name__} does not say what state a translation starts from")

    def step(self, token_b: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one more target token of each row: the logits (b, v) of what follows, and the state after it."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it does at a step")

    def select(self, state: Any, rows: Tensor) -> Any:
        """The state of the numbered rows, in that order; a row may be taken more than once."""
        raise NotImplementedError(f"{type(self).__name__} does not say how rows of its state are taken")

    def loss(self, batch: PairBatch) -> Tensor:
        """Mean nats per target token, end counted and begin not."""
        logits_btv = self(self.checked(batch))
        asked = batch.asked_bt
        return F.cross_entropy(logits_btv[asked], batch.target_bt[:, 1:][asked])

    def count(self, batch: PairBatch) -> int:
        """How many tokens the mean of `loss` is over: what a batch weighs among others."""
        return batch.count

    def checked(self, batch: PairBatch) -> PairBatch:
        """The batch itself, or ValueError when a token is in no vocabulary."""
        check_tokens(batch.source_bs, self.source_vocabulary, name="source")
        check_tokens(batch.target_bt, self.target_vocabulary, name="target")
        return batch

    def translate(
        self,
        sources: Sequence[Sequence[int]],
        *,
        begin: int,
        end: int,
        max_tokens: int,
        beam: int = 1,
        length_penalty: float = 0.6,
    ) -> list[list[int]]:
        """The best target that is found for each source, without begin and end; a beam of 1 is greedy.

        One that has not ended after `max_tokens` tokens, end counted, is cut off there.
        """
        found = self.hypotheses(
            sources, begin=begin, end=end, max_tokens=max_tokens, beam=beam, length_penalty=length_penalty
        )
        return [row[0].tokens for row in found]

    @torch.no_grad()
    def hypotheses(
        self,
        sources: Sequence[Sequence[int]],
        *,
        begin: int,
        end: int,
        max_tokens: int,
        beam: int = 4,
        length_penalty: float = 0.6,
    ) -> list[list[Hypothesis]]:
        """Everything that beam search has found for each source, the best first. Dropout is off meanwhile."""
        self._check_sources(sources, begin, end)
        device = next(self.parameters()).device
        by_length = sorted(range(len(sources)), key=lambda place: len(sources[place]))
        found: list[list[Hypothesis]] = [[] for _ in sources]
        with switched(self, training=False):
            for first in range(0, len(sources), SOURCES_AT_ONCE):
                places = by_length[first : first + SOURCES_AT_ONCE]
                source_bs = padded([sources[place] for place in places]).to(device)
                source_length_b = torch.tensor([len(sources[place]) for place in places], device=device)
                rows = beam_search(
                    self.step, self.select, self.start(source_bs, source_length_b), len(places), begin=begin, end=end,
                    max_tokens=max_tokens, beam=beam, length_penalty=length_penalty, device=device,
                )  # fmt: skip
                for place, row in zip(places, rows, strict=True):
                    found[place] = row
        return found

    def _check_sources(self, sources: Sequence[Sequence[int]], begin: int, end: int) -> None:
        for place, source in enumerate(sources):
            if not len(source):
                raise ValueError(f"sources[{place}]=[] has nothing to translate; leave it out, or give it a token")
            check_tokens(torch.tensor([list(source)]), self.source_vocabulary, name=f"sources[{place}]")
        for name, token in (("begin", begin), ("end", end)):
            if not 0 <= token < self.target_vocabulary:
                raise ValueError(
                    f"{name}={token!r} is not in the target vocabulary of {self.target_vocabulary}; "
                    f"tokens go from 0 to {self.target_vocabulary - 1}"
                )

    @property
    def n_parameters(self) -> int:
        """How many numbers training may change."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
