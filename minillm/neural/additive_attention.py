"""Additive attention: a small network scores how well each place of the source fits what is written next.

    eⱼ = v · tanh(W q + U mⱼ)          α = softmax(e)          c = Σⱼ αⱼ mⱼ

The query q is what the writer knows, the memory mⱼ what the reader noted at place j, and the context c a mixture of
notes in which the fitting ones weigh most. Nothing here depends on how many places there are, so a source of any length
is kept as it is. U mⱼ is the same at every step: it is computed once.

Paper:   Bahdanau, Cho & Bengio 2014, "Neural Machine Translation by Jointly Learning to Align and Translate", §3.1 and
         appendix A.1.2, arXiv:1409.0473.
Names:   q is their sᵢ₋₁, mⱼ their hⱼ ("annotation"), and W, U, v their Wₐ, Uₐ, vₐ.
Differs: as in the paper, there is no bias: all that could be added is in q or m.
Next:    minillm/neural/seq2seq.py
"""

import math

import torch
from torch import Tensor, nn


class AdditiveAttention(nn.Module):
    """Weights over the places of a source, for queries and memories of the same width f.

    >>> attention = AdditiveAttention(4)
    >>> memory_bsf, query_bf = torch.ones(2, 3, 4), torch.ones(2, 4)
    >>> weight_bs = attention(query_bf, attention.keys(memory_bsf), torch.tensor([3, 1]))
    >>> [[round(weight, 2) for weight in row] for row in weight_bs.tolist()]  # equal places, equal weights; no padding
    [[0.33, 0.33, 0.33], [1.0, 0.0, 0.0]]
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)  # W
        self.key = nn.Linear(width, width, bias=False)  # U
        self.score = nn.Linear(width, 1, bias=False)  # v

    def keys(self, memory_bsf: Tensor) -> Tensor:
        """U m (b, s, f) of every place: computed once for a source, used at every step."""
        return self.key(memory_bsf)

    def forward(self, query_bf: Tensor, key_bsf: Tensor, length_b: Tensor) -> Tensor:
        """Weights α (b, s): each row adds up to 1 over its first `length_b` places, and is 0 beyond them."""
        score_bs = self.score(torch.tanh(self.query(query_bf)[:, None] + key_bsf)).squeeze(-1)
        padding_bs = torch.arange(key_bsf.shape[1], device=length_b.device) >= length_b[:, None]
        return score_bs.masked_fill(padding_bs, -math.inf).softmax(dim=-1)
