"""How much of the gradient survives the way back: the norm of ∂ loss_T / ∂ h_t at every earlier step t.

    ∂ loss_T / ∂ h_t = (Πₖ ∂hₖ₊₁/∂hₖ)ᵀ ∂ loss_T / ∂ h_T,  k = t … T - 1;  for the RNN  ∂hₖ₊₁/∂hₖ = diag(1 - h²ₖ₊₁) V

Each factor of the RNN stretches a vector at most by σ, the largest singular value of V, as 1 - h² ≤ 1. So for σ < 1 the
gradient shrinks at least like σ^(T - t), and what lies far back cannot be learned from. For σ > 1 it may explode.

Paper:   Bengio, Simard and Frasconi 1994, "Learning Long-Term Dependencies with Gradient Descent is Difficult"; the
         bound: Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks", §2.1.
Names:   V is their W_rec, T the last step.
Next:    minillm/neural/pairs.py
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from minillm.neural.cells import RecurrentCells
from minillm.neural.language_model import check_tokens
from minillm.neural.recurrent import RecurrentLM, plain_twin


def gradient_norms_over_time(
    model: RecurrentLM, tokens: Tensor, part: Literal["hidden", "memory"] = "hidden", layer: int = -1
) -> Tensor:
    """Mean over the rows of ‖∂ loss_T / ∂ h_t‖, float64 of shape (t,), for the steps t in order; the last is T itself.

    `tokens` is a batch (b, t + 1), and loss_T the nats of its last token alone. `part` "memory" takes an LSTM's c in
    the place of h, and counts all that c does, also through the h of its own step. `layer` is the layer whose state is
    meant, -1 the top one. No gradient of the model changes.

    >>> from minillm.neural.recurrent import RecurrentConfig
    >>> model = RecurrentLM(RecurrentConfig(vocabulary=9, d_model=4, hidden=6, cell="rnn"))
    >>> norm = gradient_norms_over_time(model, torch.tensor([[3, 1, 4, 1, 5, 2, 6]]))
    >>> norm.shape, bool(norm[0] < norm[-1])
    (torch.Size([6]), True)
    """
    if part not in ("hidden", "memory") or (part == "memory" and model.config.cell != "lstm"):
        raise ValueError(f"part={part!r} of cell={model.config.cell!r}; 'hidden' works for all, 'memory' for 'lstm'")
    if not -model.config.layers <= layer < model.config.layers:
        raise ValueError(f"layer={layer!r}, but there are layers={model.config.layers}; -1 is the top one")
    check_tokens(tokens, model.vocabulary, columns=2)
    twin = plain_twin(model).double()  # written out, so that every h_t can be asked for its gradient
    x_btd = twin.embedding(tokens[:, :-1]).detach().requires_grad_()
    cells = twin.cells
    assert isinstance(cells, RecurrentCells)
    states = cells.split_state(None, x_btd)
    wanted: list[Tensor] = []
    for x_bd in x_btd.unbind(dim=1):
        states = cells.step(x_bd, states)
        wanted.append(states[layer][0 if part == "hidden" else 1])
    loss = F.cross_entropy(twin.score(states[-1][0]), tokens[:, -1], reduction="sum")  # a row's loss knows only its row
    gradient_tbf = torch.stack(torch.autograd.grad(loss, wanted))
    return gradient_tbf.norm(dim=-1).mean(dim=-1)
