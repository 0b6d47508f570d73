"""TabularPolicy: a language model without a network. Each text that it has read is a state with logits of its own.

    logits(text) = W[state(text)]         state(text + token) = next[state(text), token]

What a table cannot do, no network can; what it does needs no excuse of capacity. So it shows what an algorithm is
worth, and a decoder beside it what the network adds.

Paper:   Sutton & Barto 2018, "Reinforcement Learning: An Introduction", §13.2: the soft-max in action preferences.
Names:   `hidden` is one-hot: its linear read-out `score` is the table W, and a critic's read-out a table of values.
Differs: states are whole texts, not what a teacher thinks worth knowing of them.
Next:    minillm/alignment/ppo.py
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minillm.alignment.laboratory import Laboratory, Plan
from minillm.neural.language_model import LanguageModel, check_tokens
from minillm.training.optim import AdamW, linear_warmup_cosine
from minillm.transformer.decoder import Decoder, gpt2


class TabularPolicy(LanguageModel):
    """A policy for a laboratory that can be any policy at all; it starts as `plan` (None: the reference).

    >>> lab = Laboratory(letters=2, length=3, prompts=2)
    >>> policy = TabularPolicy(lab, lab.optimum(beta=0.5))
    >>> policy(torch.tensor([[lab.start, 0, 1]])).shape, abs(lab.measure(policy, beta=0.5).gap) < 1e-6
    (torch.Size([1, 3, 4]), True)
    """

    next_state: Tensor

    def __init__(self, lab: Laboratory, plan: Plan | None = None) -> None:
        super().__init__(lab.vocabulary)
        states: dict[tuple[int, ...], int] = {(): 0}  # every text and every beginning of one
        follow, table = [[-1] * lab.vocabulary], [torch.zeros(lab.vocabulary)]

        def state(text: tuple[int, ...]) -> int:
            if text not in states:
                before = state(text[:-1])
                states[text] = follow[before][text[-1]] = len(states)
                follow.append([-1] * lab.vocabulary)
                table.append(torch.zeros(lab.vocabulary))
            return states[text]

        for i, prompt in enumerate(lab.prompts):
            for depth, log_p in enumerate(lab.reference if plan is None else plan):
                for j, text in enumerate(lab.texts(depth)):
                    table[state((*prompt, *text))][: lab.letters + 1] = log_p[i, j].float()
        nowhere = len(states)  # after the end, and after what is no prompt
        follow.append([nowhere] * lab.vocabulary)
        table.append(torch.zeros(lab.vocabulary))
        self.register_buffer("next_state", torch.tensor(follow).where(torch.tensor(follow) >= 0, nowhere))
        self.score = nn.Linear(nowhere + 1, lab.vocabulary, bias=False)
        self.score.weight.data = torch.stack(table, dim=1)

    def forward(self, tokens_bt: Tensor) -> Tensor:
        return F.embedding(self.states(tokens_bt), self.score.weight.T)

    def hidden(self, tokens_bt: Tensor) -> Tensor:
        """Which state it is in, one-hot (b, t, d)."""
        return F.one_hot(self.states(tokens_bt), self.score.in_features).float()

    def states(self, tokens_bt: Tensor) -> Tensor:
        """The number (b, t) of the text up to each token."""
        check_tokens(tokens_bt, self.vocabulary)
        state_b, every = torch.zeros_like(tokens_bt[:, 0]), []
        for token_b in tokens_bt.T:
            state_b = self.next_state[state_b, token_b]
            every.append(state_b)
        return torch.stack(every, dim=1)


def taught_decoder(
    lab: Laboratory, *, d_model: int, n_layer: int = 2, n_head: int = 2, steps: int = 100, seed: int = 0
) -> Decoder:
    """A small GPT that has learned the laboratory's source: the SFT model, to be policy and reference.

    It sees all texts at once with their probabilities, so that what is left is its own shortcoming, not the data's.

    >>> lab = Laboratory(letters=2, length=2, prompts=2)
    >>> policy = taught_decoder(lab, d_model=8, n_layer=1, steps=150)
    >>> lab.measure(policy, beta=1.0).kl < 0.02
    True
    """
    scale = d_model**-0.5 / 0.02  # to a standard deviation of 1/√d
    model = Decoder(gpt2(vocabulary=lab.vocabulary, context=lab.context, n_layer=n_layer, n_head=n_head,
                         d_model=d_model, first_scale=scale, seed=seed))  # fmt: skip
    optimizer = AdamW(model.parameters(), 3e-3, weight_decay=0.0)
    p = lab.log_probabilities(lab.source).exp()
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * linear_warmup_cosine(step, steps=steps, warmup=min(20, steps), final=0.0)
        optimizer.zero_grad()
        (-(p * lab.log_probabilities(lab.plan(model))).sum(1).mean()).backward()
        optimizer.step()
    return model
