"""The laboratory: a world so small that every response can be listed, and so the best possible policy is known exactly.

    J(π) = E[score] - β KL(π ‖ reference)            π*(y | x) = reference(y | x) exp(score / β) / Z(x),   J* = β log Z
    V(s) = Σ_a π(a | s) (Q(s, a) - β log π/reference)         V*(s) = β log Σ_a reference(a | s) exp(Q*(s, a) / β)
    J* - J(π) = β KL(π ‖ π*)

A response is some letters and the end token, or as many letters as fit. All of them form a tree: a state is a prompt
and the letters so far, an action a letter or the end. Sums over all responses are folds from the leaves to the root.

Paper:   Levine 2018, "Reinforcement Learning and Control as Probabilistic Inference", arXiv:1805.00909, §2 (the soft
         Bellman equation, right half of the second line); Korbak et al. 2022, arXiv:2205.11275, §3 (the last line).
Names:   a `Plan` holds, for each depth, log π of every action in every state; the last action is the end token.
Differs: prompts weigh the same. Scores are scaled to mean 0 and variance 1 under the reference (row 4 of ppo.py).
Next:    minillm/alignment/tabular.py
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from minillm.alignment.responses import mask_of, next_log_probabilities, side_by_side
from minillm.core.settings import check_whole_numbers
from minillm.neural.language_model import LanguageModel

Plan = list[Tensor]  # for each depth d: float64 (prompts, letters ** d states, letters + 1 actions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exact:
    """What is true of a policy, as means over the prompts: no sampling, no error but rounding."""

    score: float
    kl: float  # KL(policy ‖ reference), nats a response
    entropy: float  # nats a response
    objective: float  # score - β kl
    optimum: float  # the objective of π*
    kl_to_optimum: float  # KL(policy ‖ π*): (optimum - objective) / β
    gap: float  # the part of the way from the reference to the optimum that is still ahead: 1 is the reference, 0 is π*


class Laboratory:
    """A few prompts, all responses of at most `length` tokens over `letters` letters, and a score for each.

    Tokens 0 … letters - 1 are the letters, then come `eos`, which ends a response, and `start`, which ends a prompt
    and cannot be written (`allowed`). A policy is a `LanguageModel` over these tokens, or a `Plan`. The reference is a
    random Markov source unless `with_reference` says otherwise.

    >>> lab = Laboratory(letters=3, length=3, prompts=3)
    >>> len(lab.prompts), len(lab.responses)
    (3, 40)
    >>> best = lab.measure(lab.optimum(beta=0.5), beta=0.5)
    >>> f"{best.gap:.6f} {best.objective - best.optimum:.6f} {best.kl > 0}"
    '0.000000 0.000000 True'
    """

    def __init__(
        self, *, letters: int, length: int, prompts: int, seed: int = 0, reference: Plan | None = None
    ) -> None:
        check_whole_numbers({"letters": (letters, 3), "length": (length, 3), "prompts": (prompts, 3)})
        self.letters, self.length, self.seed = letters, length, seed
        self.eos, self.start, self.vocabulary = letters, letters + 1, letters + 2
        self.allowed = tuple(range(letters + 1))
        self.context = length + 3
        self.prompts = self._prompts(prompts)
        self.source = self._source()
        self.reference = self.source if reference is None else [log_p.detach() for log_p in reference]
        self.scores = self._scores()

    @classmethod
    def small(cls, seed: int = 0) -> "Laboratory":
        """3 prompts of 40 responses each: a run takes seconds."""
        return cls(letters=3, length=3, prompts=3, seed=seed)

    @classmethod
    def big(cls, seed: int = 0) -> "Laboratory":
        """6 prompts of 2801 responses each."""
        return cls(letters=7, length=4, prompts=6, seed=seed)

    def with_reference(self, reference: LanguageModel | Plan) -> "Laboratory":
        """The same world seen from another reference: the same tastes, scaled anew."""
        plan = reference if isinstance(reference, list) else self.plan(reference)
        size = {"letters": self.letters, "length": self.length, "prompts": len(self.prompts)}
        return Laboratory(**size, seed=self.seed, reference=plan)

    # Responses and their scores

    @cached_property
    def responses(self) -> list[list[int]]:
        """All responses, by length, those without end last: the order of the columns of `scores`."""
        ended = [[*text, self.eos] for depth in range(self.length) for text in self.texts(depth)]
        return ended + [list(text) for text in self.texts(self.length)]

    def reward(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> Tensor:
        """The scores (n,): the `reward` of a `PPO`. Raises ValueError for what is no response here."""
        try:
            rows = [self._score_of[tuple(p)][tuple(r)] for p, r in zip(prompts, responses, strict=True)]
        except KeyError as unknown:
            raise ValueError(f"{unknown.args[0]} is neither a prompt of the laboratory nor a response to one") from None
        return torch.tensor(rows)

    # Exact numbers of a policy

    def plan(self, policy: LanguageModel, temperature: float = 1.0) -> Plan:
        """The log-probabilities of a policy in every state; differentiable."""
        texts = list(self.texts(self.length - 1))  # the longest states: every shorter one is the start of some of them
        every = [(prompt, [*text, self.eos]) for prompt in self.prompts for text in texts]
        rows = side_by_side([p for p, _ in every], [r for _, r in every], next(policy.parameters()).device)
        allowed_v = mask_of(self.allowed, self.vocabulary, rows.tokens_bs.device)
        log_p = next_log_probabilities(policy, rows, temperature, allowed_v)[..., : self.letters + 1]
        log_p = log_p.unflatten(0, (len(self.prompts), len(texts))).double().cpu()
        return [log_p[:, :: self.letters ** (self.length - 1 - depth), depth] for depth in range(self.length)]

    def log_probabilities(self, plan: Plan) -> Tensor:
        """The log-probability (prompts, responses) of every response."""
        so_far, ended = torch.zeros(len(self.prompts), 1, dtype=torch.float64), []
        for log_p in plan:
            ended.append(so_far + log_p[..., -1])
            so_far = (so_far[..., None] + log_p[..., :-1]).flatten(1)
        return torch.cat([*ended, so_far], dim=1)

    def expected(self, plan: Plan, scores: Tensor, each_token: Plan | None = None) -> Tensor:
        """E[score + Σ_t each_token], a mean over prompts; differentiable, as every sum over the tree is."""
        each_token = [torch.zeros_like(log_p) for log_p in plan] if each_token is None else each_token

        def mean(q: Tensor, depth: int) -> Tensor:
            p = plan[depth].exp()
            return torch.where(p > 0, p * (q + each_token[depth]), 0.0).sum(-1)

        return self.fold(scores, mean).mean()

    def objective(self, plan: Plan, beta: float) -> Tensor:
        """J: the expected score less β times the divergence from the reference; differentiable."""
        return self.expected(plan, self.scores, _times(-beta, _ratio(plan, self.reference)))

    def optimum(self, beta: float) -> Plan:
        """π*, by backward induction over the tree."""
        return [(q / beta).log_softmax(-1) for q in self._soft_q(beta)]

    def optimum_by_enumeration(self, beta: float) -> Tensor:
        """log π* (prompts, responses) by its definition: reference · exp(score / β), made to sum to 1."""
        return (self.log_probabilities(self.reference) + self.scores / beta).log_softmax(-1)

    def optimal_values(self, beta: float) -> list[Tensor]:
        """V* (prompts, states) for each depth: what the perfect critic of π* says. At the root it is β log Z."""
        return [beta * (q / beta).logsumexp(-1) for q in self._soft_q(beta)]

    @torch.no_grad()
    def measure(self, policy: LanguageModel | Plan, beta: float, temperature: float = 1.0) -> Exact:
        """All that is worth knowing of a policy when divergence costs β."""
        plan, best = policy if isinstance(policy, list) else self.plan(policy, temperature), self.optimum(beta)
        nothing = torch.zeros_like(self.scores)
        kl_to_optimum = float(self.expected(plan, nothing, _ratio(plan, best)))
        return Exact(
            score=float(self.expected(plan, self.scores)),
            kl=float(self.expected(plan, nothing, _ratio(plan, self.reference))),
            entropy=float(self.expected(plan, nothing, _times(-1, plan))),
            objective=float(self.objective(plan, beta)),
            optimum=float(self.objective(best, beta)),
            kl_to_optimum=kl_to_optimum,
            gap=kl_to_optimum / float(self.expected(self.reference, nothing, _ratio(self.reference, best))),
        )

    # The tree

    def fold(self, scores: Tensor, mix: Callable[[Tensor, int], Tensor]) -> Tensor:
        """From the leaves to the root: `mix` makes the value of a state (…) of those of its actions, q (…, actions)."""
        *ended, value = scores.split([self.letters**depth for depth in range(self.length + 1)], dim=1)
        for depth in reversed(range(self.length)):
            value = mix(torch.cat([value.unflatten(1, (-1, self.letters)), ended[depth][..., None]], dim=-1), depth)
        return value[:, 0]

    def _soft_q(self, beta: float) -> Plan:
        """For each action the best that can follow, less what the action itself costs: Q* + β log reference."""
        every: Plan = []

        def soft(q: Tensor, depth: int) -> Tensor:
            every.insert(0, q + beta * self.reference[depth])
            return beta * (every[0] / beta).logsumexp(-1)

        self.fold(self.scores, soft)
        return every

    def texts(self, letters: int) -> Iterator[tuple[int, ...]]:
        """All texts of so many letters, in the order of the states at that depth."""
        return itertools.product(range(self.letters), repeat=letters)

    def _prompts(self, n: int) -> list[list[int]]:
        """Prompts of 1, 2 and 3 tokens, in turn, no two the same, `start` at the end of each."""
        kinds = [[[*text, self.start] for text in self.texts(length)] for length in range(3)]
        if n > sum(map(len, kinds)):
            raise ValueError(f"prompts={n}, but {self.letters} letters make {sum(map(len, kinds))} of up to 3 tokens")
        order = [x for kind in itertools.zip_longest(*kinds) for x in kind if x is not None]
        return order[:n]

    def _source(self) -> Plan:
        """A Markov chain over letters and the end: what comes next depends on the token before, and a little on x."""
        generator, k = torch.Generator().manual_seed(1000 + self.seed), self.letters
        after = torch.randn(k + 1, k + 1, generator=generator, dtype=torch.float64)  # the last row follows `start`
        place = 0.5 * torch.randn(len(self.prompts), k + 1, generator=generator, dtype=torch.float64)
        last = [torch.tensor([k])] + [torch.arange(k).repeat(k**depth) for depth in range(self.length - 1)]
        return [(after[previous] + place[:, None]).log_softmax(-1) for previous in last]

    def _scores(self) -> Tensor:
        """A taste for letters at places, for pairs, for an end, and 0.3 of it unaccountable; scaled: row 4."""
        generator, k = torch.Generator().manual_seed(2000 + self.seed), self.letters
        draw = lambda *size: torch.randn(*size, generator=generator, dtype=torch.float64)
        at_place, pair, end = draw(len(self.prompts), self.length, k), draw(k, k), draw(self.length + 1)
        end[-1] -= 1.5  # what had to be cut off is liked less, so that ending has to be learned
        raw = 0.3 * draw(len(self.prompts), len(self.responses))
        for column, response in enumerate(self.responses):
            text = torch.tensor([token for token in response if token != self.eos], dtype=torch.int64)
            raw[:, column] += at_place[:, torch.arange(len(text)), text].sum(1) + pair[text[:-1], text[1:]].sum()
            raw[:, column] += end[len(text)]
        mean = self.expected(self.reference, raw)
        return (raw - mean) / self.expected(self.reference, (raw - mean).square()).sqrt()

    @cached_property
    def _score_of(self) -> dict[tuple[int, ...], dict[tuple[int, ...], float]]:
        texts = [tuple(text) for text in self.responses]
        rows = zip(self.prompts, self.scores.tolist(), strict=True)
        return {tuple(prompt): dict(zip(texts, row, strict=True)) for prompt, row in rows}


def _ratio(plan: Plan, other: Plan) -> Plan:
    return [p - q for p, q in zip(plan, other, strict=True)]


def _times(factor: float, plan: Plan) -> Plan:
    return [factor * log_p for log_p in plan]
