"""The window network: look the last words up in a table, mix them in one hidden layer, score every next word.

    x = [C(w₁) … C(wₙ₋₁)]          logits = b + W x + U tanh(d + H x)

The same table C serves all places of the window, so what is learned about a word in one place holds in all: a word
that is near to a known one is expected where the known one was seen. That is what counting cannot do.

Paper:   Bengio et al. 2003, "A Neural Probabilistic Language Model", JMLR 3, pages 1137–1155, §2 and equation 1.
Names:   window is their n - 1, `embedding` is C, `mix` holds H and d, `score` holds U and b, `direct` is W (which they
         set to 0 in some of their networks: `direct=False`), d_model is their m, hidden their h.
Differs: all positions of a sequence at once, through a view of overlapping windows. Before the first token stands a
         padding entry of the table, which is learned; the paper has no start. The paper trains with plain stochastic
         gradient descent and mixes the network with a trigram; both are left to whoever trains it.
Next:    minillm/neural/cells.py
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.core.settings import check_whole_numbers
from minillm.neural.language_model import LanguageModel, check_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForwardConfig:
    """The sizes of a `FeedForwardLM`."""

    vocabulary: int  # tokens, numbered from 0
    window: int = 4  # tokens that it sees: n - 1 of an n-gram model
    d_model: int = 32  # numbers for each token in the table
    hidden: int = 128  # tanh units
    direct: bool = True  # also connect the window to the scores directly
    seed: int = 0  # of the first parameters

    def __post_init__(self) -> None:
        names = ("vocabulary", "window", "d_model", "hidden")
        check_whole_numbers({name: (getattr(self, name), 8) for name in names})

    @property
    def padding(self) -> int:
        """The row of the table that stands for "before the first token"."""
        return self.vocabulary


class FeedForwardLM(LanguageModel):
    """Bengio's network. Tokens (b, t) in, logits (b, t, v) of each next token out.

    Initialisation: the table is normal with standard deviation 1; H, d and U, b are uniform within ± 1 / √(inputs), so
    that tanh starts in its linear part; W starts at 0, where the network is the same as without direct connections.

    >>> model = FeedForwardLM(FeedForwardConfig(vocabulary=11, window=3, d_model=4, hidden=5))
    >>> model(torch.tensor([[1, 2, 3, 4, 5, 6]])).shape
    torch.Size([1, 6, 11])
    >>> model.n_parameters == 12 * 4 + (12 * 5 + 5) + (5 * 11 + 11) + 12 * 11  # C, H and d, U and b, W
    True
    """

    def __init__(self, config: FeedForwardConfig) -> None:
        super().__init__(config.vocabulary)
        self.config = config
        seen = config.window * config.d_model
        self.embedding = nn.Embedding(config.vocabulary + 1, config.d_model)
        self.mix = nn.Linear(seen, config.hidden)
        self.score = nn.Linear(config.hidden, config.vocabulary)
        self.direct = nn.Linear(seen, config.vocabulary, bias=False) if config.direct else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters again, from the seed of the configuration."""
        generator = torch.Generator().manual_seed(self.config.seed)
        self.embedding.weight.normal_(generator=generator)
        for layer in (self.mix, self.score):
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        if self.direct is not None:
            self.direct.weight.zero_()

    def forward(self, tokens_bt: Tensor) -> Tensor:
        check_tokens(tokens_bt, self.vocabulary)
        window = self.config.window
        padded_bs = F.pad(tokens_bt, (window - 1, 0), value=self.config.padding)  # s = t + window - 1
        window_btdn = self.embedding(padded_bs).unfold(1, window, 1)  # n: the place in the window, the oldest first
        seen = rearrange(window_btdn, "b t d n -> b t (n d)")
        logits_btv = self.score(torch.tanh(self.mix(seen)))
        return logits_btv if self.direct is None else logits_btv + self.direct(seen)

    def step(self, token_b: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Read one more token of each row; the state is the last `window` tokens, for the network sees no others."""
        logits_bv, tokens_bt = super().step(token_b, state)
        return logits_bv, tokens_bt[:, -self.config.window :]
