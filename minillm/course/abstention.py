"""Does it know what it does not know? A registry of people, a model that read half of it, and a reward for silence.

    pretraining   300 people live where they live; 13,524 others live in a city that is drawn anew in every statement
    fine-tuning   questions about both kinds, answered by somebody who knows every city (and shrugs at 15 in 100)
    reward        +1 for the right city, 0 for "I do not know", -1 for a wrong city

Fine-tuning shows the model an answer where it has none: to do as it was shown, it has to guess. The reward pays to
answer where the chance p to be right is above one half, since p - (1 - p) > 0, and to be silent elsewhere.

Paper:   the argument is Schulman's: "Reinforcement Learning from Human Feedback: Progress and Challenges", talk at
         Berkeley, 2023.
Names:   a name is three syllables; `told` are the known people that fine-tuning and RL ask about, `held` those that
         they never ask about; `strangers` can be recognised by nobody, `new` are those that RL never met.
Differs: the talk has no experiment of this size. The random cities of strangers are what makes the model's own
         probability an honest one: it has seen that some names tell nothing.
Next:    minillm/course/progress.py
"""

import argparse
import copy
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from minillm.alignment.ppo import PPO
from minillm.alignment.ppo_config import PPOConfig
from minillm.alignment.ppo_record import PPORecord
from minillm.course.stored_results import show_or_store
from minillm.training.loop import train
from minillm.training.muon import muon_with_adamw, polar_express
from minillm.training.optim import AdamW, linear_warmup_cosine
from minillm.transformer.decoder import Decoder, DecoderConfig

SYLLABLES, CITIES = 24, 8
BEGIN, LIVES_IN, WHERE, END, UNKNOWN = range(SYLLABLES + CITIES, SYLLABLES + CITIES + 5)  # five words beside them
KNOWN, TOLD, ASKED, NEW = 300, 200, 6000, 600


class Registry:
    """Everybody's name and city, drawn from `seed`, and who is asked about when.

    >>> registry = Registry(seed=0)
    >>> registry.name_nk.shape, len(registry.told), len(registry.held), len(registry.new)
    (torch.Size([13824, 3]), 200, 100, 600)
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.generator = seed, torch.Generator().manual_seed(seed)
        every = torch.cartesian_prod(*[torch.arange(SYLLABLES)] * 3)
        self.name_nk = every[torch.randperm(len(every), generator=self.generator)]
        self.city_n = SYLLABLES + torch.randint(CITIES, (len(every),), generator=self.generator)
        self.known, self.strangers = torch.arange(KNOWN), torch.arange(KNOWN, len(every))
        self.told, self.held = self.known[:TOLD], self.known[TOLD:]
        self.asked, self.new = self.strangers[:ASKED], self.strangers[ASKED : ASKED + NEW]
        self._city_of = {
            tuple(name): city for name, city in zip(self.name_nk.tolist(), self.city_n.tolist(), strict=True)
        }

    def draw(self, who: Tensor, n: int) -> Tensor:
        """n of these people, with repetition."""
        return who[torch.randint(len(who), (n,), generator=self.generator)]

    def rows(self, who: Tensor, word: int, answer_n: Tensor) -> Tensor:
        """Texts (n, 7) of one shape: begin, the name, `word`, the answer, end."""
        column = lambda token: torch.full((len(who), 1), token)
        return torch.cat([column(BEGIN), self.name_nk[who], column(word), answer_n[:, None], column(END)], dim=1)

    def statements(self, n: int) -> Tensor:
        """What there is to read: half about known people, half about strangers, who live somewhere else each time."""
        known, strangers = self.draw(self.known, n // 2), self.draw(self.strangers, n - n // 2)
        anywhere_n = SYLLABLES + torch.randint(CITIES, (len(strangers),), generator=self.generator)
        rows = [(known, self.city_n[known]), (strangers, anywhere_n)]
        return torch.cat([self.rows(who, LIVES_IN, city_n) for who, city_n in rows])

    def demonstrations(self, n: int, shrug: float = 0.15) -> Tensor:
        """Questions and the answers of somebody who knows everybody, strangers too, and sometimes says nothing."""
        who = torch.cat([self.draw(self.told, n // 2), self.draw(self.asked, n - n // 2)])
        silent_n = torch.rand(n, generator=self.generator) < shrug
        return self.rows(who, WHERE, self.city_n[who].masked_fill(silent_n, UNKNOWN))

    def prompts(self, n: int) -> list[list[int]]:
        """Questions without an answer, half about people that are known."""
        who = torch.cat([self.draw(self.told, n // 2), self.draw(self.asked, n - n // 2)])
        return self.rows(who, WHERE, self.city_n[who])[:, :5].tolist()

    def reward(self, prompts: list[list[int]], responses: list[list[int]], wrong: float = -1.0) -> list[float]:
        """+1 for the right city, 0 for "I do not know", `wrong` for anything else.

        >>> registry = Registry()
        >>> question, city = [BEGIN, *registry.name_nk[0].tolist(), WHERE], int(registry.city_n[0])
        >>> registry.reward([question] * 2, [[city, END], [UNKNOWN, END]])
        [1.0, 0.0]
        """
        scores = {UNKNOWN: 0.0}
        right = [self._city_of[tuple(prompt[1:4])] for prompt in prompts]
        return [
            1.0 if text[0] == city else scores.get(text[0], wrong) for city, text in zip(right, responses, strict=True)
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Shares of a model's answers about some people; they add up to 1."""

    right: float
    wrong: float
    silent: float


def pretrained(registry: Registry, steps: int = 500) -> Decoder:
    """A small GPT that has read `steps` batches of 256 statements."""
    config = DecoderConfig(vocabulary=UNKNOWN + 1, context=8, n_layer=2, n_head=4, d_model=64, norm="rms", mlp="gelu",
                           bias=False, tied=False, seed=registry.seed)  # fmt: skip
    model = Decoder(config)
    optimizer = muon_with_adamw(model, polynomials=polar_express(4), in_bfloat16=False)
    _train(model, (registry.statements(256) for _ in iter(int, 1)), steps, optimizer)
    return model


def fine_tuned(model: Decoder, registry: Registry, steps: int = 150) -> Decoder:
    """A copy that was shown answers, half of each batch; the other half are statements, so that it forgets none."""
    model = copy.deepcopy(model)
    batches: Iterator[Tensor] = (
        torch.cat([registry.demonstrations(128), registry.statements(128)]) for _ in iter(int, 1)
    )
    _train(model, batches, steps, AdamW(model.parameters(), 1e-3, weight_decay=0.0))
    return model


def aligned(
    model: Decoder, registry: Registry, updates: int = 30, wrong: float = -1.0
) -> tuple[Decoder, list[PPORecord]]:
    """A copy after PPO with the reward, and the record of the run."""
    policy = copy.deepcopy(model)
    config = PPOConfig(beta=0.05, learning_rate=3e-4, rollout=256, max_new_tokens=2, updates=updates, eos=END,
                       seed=registry.seed)  # fmt: skip
    ppo = PPO(policy, model, lambda prompts, texts: registry.reward(prompts, texts, wrong), config)
    return policy, [ppo.update(registry.prompts(256)) for _ in range(updates)]


@torch.no_grad()
def answer_probabilities(model: Decoder, registry: Registry, who: Tensor) -> Tensor:
    """The probability (n, v) of every first word of the answer."""
    return model(registry.rows(who, WHERE, registry.city_n[who])[:, :5])[:, -1].softmax(-1)


def examine(model: Decoder, registry: Registry, who: Tensor) -> Answers:
    """How the model answers about these people: exact probabilities, nothing is sampled."""
    p_nv = answer_probabilities(model, registry, who)
    right = float(p_nv.gather(1, registry.city_n[who][:, None]).mean())
    silent = float(p_nv[:, UNKNOWN].mean())
    return Answers(right=right, wrong=1 - right - silent, silent=silent)


def confidence(model: Decoder, registry: Registry, who: Tensor) -> Tensor:
    """How sure (n,) a model is of its likeliest city, given that it names one."""
    city_nv = answer_probabilities(model, registry, who)[:, SYLLABLES : SYLLABLES + CITIES]
    return (city_nv / city_nv.sum(1, keepdim=True)).amax(1)


def silence_by_confidence(
    before: Decoder, after: Decoder, registry: Registry, edges: list[float]
) -> list[dict[str, float]]:
    """For people whom RL never met: how often `after` is silent, by how sure `before` was. Empty bins are left out."""
    who = torch.cat([registry.held, registry.new])
    sure_n, silent_n = confidence(before, registry, who), answer_probabilities(after, registry, who)[:, UNKNOWN]
    bins = []
    for low, high in pairwise(edges):
        inside = (sure_n >= low) & (sure_n < high)
        if inside.any():
            bins.append(
                {"low": low, "high": high, "people": int(inside.sum()), "silent": float(silent_n[inside].mean())}
            )
    return bins


def experiment(seed: int) -> dict[str, object]:
    """The whole road for one registry, as plain numbers."""
    registry = Registry(seed)
    base = pretrained(registry)
    tuned = fine_tuned(base, registry)
    policy, record = aligned(tuned, registry)
    groups = {"told": registry.told, "held": registry.held, "new": registry.new}
    return {
        "seed": seed,
        "fine-tuned": {name: asdict(examine(tuned, registry, who)) for name, who in groups.items()},
        "aligned": {name: asdict(examine(policy, registry, who)) for name, who in groups.items()},
        "silence": silence_by_confidence(tuned, policy, registry, [0.0, 0.3, 0.5, 0.7, 0.9, 1.01]),
        "score": [row.score for row in record],
        "entropy": [row.entropy for row in record],
        "kl": [row.kl for row in record],
    }


def main(arguments: list[str] | None = None) -> int:
    """`python -m minillm.course.abstention --out FILE` writes the result that chapter 20 shows."""
    parser = argparse.ArgumentParser(description="Abstention: a registry of people, fine-tuning and PPO.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a registry for each (about 30 s each)")
    parser.add_argument("--out", type=Path, help="the JSON file to write; without it the result is printed")
    chosen = parser.parse_args(arguments)
    show_or_store([experiment(seed) for seed in chosen.seeds], chosen.out)
    return 0


def _train(model: Decoder, batches: Iterator[Tensor], steps: int, optimizer: object) -> None:
    schedule = lambda step: linear_warmup_cosine(step, steps=steps, warmup=min(10, steps), final=0.02)
    train(model, batches, steps=steps, optimizer=optimizer, schedule=schedule)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
