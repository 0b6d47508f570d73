"""The critic: another reader of the same text, who guesses at every token how it will end.

    V(s_t) = w · h(x, y_<t) + b,   w = 0 and b = 0 at first          h: the last hidden state of a language model

Paper:   Schulman et al. 2017, arXiv:1707.06347, §3; from the reward model's weights: Ouyang et al. 2022,
         arXiv:2203.02155, appendix C.4.
Names:   `trunk` gives h, `head` is w and b.
Differs: policy and critic share nothing: a shared trunk would serve two masters at one learning rate.
Next:    minillm/alignment/ppo.py
"""

import copy
from typing import Any

from torch import Tensor, nn

from minillm.neural.language_model import LanguageModel


class Critic(nn.Module):
    """What the score will be, guessed at every token: a copy of a model's trunk and a head that starts at 0.

    The trunk is a copy of its own (row 8), `hidden` and nothing after it; pass a reward model's to start from there.

    >>> from minillm.transformer.decoder import Decoder, gpt2
    >>> critic = Critic(Decoder(gpt2(vocabulary=5, context=9, n_layer=1, n_head=2, d_model=4)))
    >>> import torch
    >>> critic(torch.tensor([[1, 2, 3]]))
    tensor([[0., 0., 0.]], grad_fn=<SelectBackward0>)
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        if not callable(getattr(model, "hidden", None)):
            raise ValueError(f"{type(model).__name__} has no hidden(tokens); a Decoder works, or pass your own critic")
        self.trunk: Any = copy.deepcopy(model)
        self.head = nn.Linear(self.trunk.score.in_features, 1)
        nn.init.zeros_(self.head.weight)  # row 7: no opinion before the first lesson
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens_bt: Tensor) -> Tensor:
        """The value (b, t) of having written so far."""
        return self.head(self.trunk.hidden(tokens_bt).float())[..., 0]
