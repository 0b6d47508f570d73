"""Predict before you train: samples of the fine-tuned model say where PPO must land, and then it does or does not.

    J* = β log E[exp(score / β)],   w_i = exp(score_i / β) / Σ_j exp(score_j / β),   E*[f] = Σ_i w_i f(y_i)
    KL* = (E*[score] - J*) / β,     effective sample size = 1 / Σ_i w_i²             y_i from the reference

The Writer of chapter 19 ends village stories; a reward model learned from Ada's choices scores the endings. π* weighs
every ending anew, so its expectations are weighted means over endings that the reference has already written.

    python -m minillm.course.story_alignment --out FILE       about two minutes a seed

Paper:   Owen 2013, "Monte Carlo theory, methods and examples", chapter 9 (self-normalised importance sampling);
         Korbak et al. 2022, arXiv:2205.11275, §3 (J* and π*).
Names:   `gold` is the mood that Ada really follows, `score` what the reward model makes of it.
Next:    minillm/course/abstention.py
"""

import argparse
import copy
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from minillm.alignment.critic import Critic
from minillm.alignment.labellers import Labeller, bayes_accuracy, expected_accuracy
from minillm.alignment.ppo import PPO
from minillm.alignment.ppo_config import PPOConfig
from minillm.alignment.preferences import Comparison
from minillm.alignment.responses import (
    chosen_log_probabilities,
    next_log_probabilities,
    sample_responses,
    side_by_side,
)
from minillm.alignment.reward import RewardModel, comparison_batches, encode_comparisons
from minillm.course.stored_results import show_or_store
from minillm.course.story_endings import LONGEST, Writer, cut, mood
from minillm.text.village import Village
from minillm.training.loop import train
from minillm.training.optim import AdamW, decay_matrices_only, linear_warmup_cosine
from minillm.transformer.decoder import Decoder

SENTENCES = 2  # of an ending
PROMPTS_FROM = 300_000  # stories that neither the writer nor Ada has met


@dataclass(frozen=True, kw_only=True, slots=True)
class Landing:
    """Where a policy is or will be: means over the prompts."""

    objective: float
    score: float
    kl: float
    gold: float
    sample_size: float  # the smallest effective sample size of a prompt; for a policy that was sampled, its samples


def predicted(score_bn: Tensor, gold_bn: Tensor, beta: float) -> Landing:
    """Where the optimum is, from n responses of the reference to each of b prompts.

    >>> halves = torch.tensor([[0.0] * 500 + [math.log(3)] * 500])
    >>> landing = predicted(halves, halves, beta=1.0)  # the better half becomes three times as likely as the other
    >>> f"{landing.objective:.4f} = log 2, {landing.score / math.log(3):.2f}, {landing.sample_size:.0f} of 1000"
    '0.6931 = log 2, 0.75, 800 of 1000'
    """
    n = score_bn.shape[1]
    log_weight_bn = (score_bn / beta).double().log_softmax(1)
    weight_bn = log_weight_bn.exp()
    score_b, gold_b = ((weight_bn * x_bn.double()).sum(1) for x_bn in (score_bn, gold_bn))
    kl_b = (weight_bn * (log_weight_bn + math.log(n))).sum(1)
    return Landing(
        objective=float((score_b - beta * kl_b).mean()),
        score=float(score_b.mean()),
        kl=float(kl_b.mean()),
        gold=float(gold_b.mean()),
        sample_size=float((1 / weight_bn.square().sum(1)).min()),
    )


class World:
    """A writer, a reward model of Ada's taste, and prompts for both."""

    def __init__(
        self, seed: int, *, prompts: int, choices: int = 1000, held: int = 300, writer_steps: int = 300
    ) -> None:
        self.seed, self.village = seed, Village(seed=0)
        self.writer = Writer.train(self.village, steps=writer_steps, seed=seed, sentences=SENTENCES)
        asked = self.writer.questions(self.village, choices + held, seed=seed)
        ada = Labeller(who="Ada", utility=mood)
        self.reward = self._learned(ada.compare(asked[:-held]))
        rest = asked[-held:]
        margins = self.reward.margins(
            self._coded([Comparison(prompt=p, answers=a, choice=0, who="?") for p, a in rest])
        )
        p_held = [ada.probability(prompt, *answers) for prompt, answers in rest]
        self.accuracy = expected_accuracy(margins.tolist(), p_held)
        self.ceiling = bayes_accuracy(p_held)
        starts = [cut(story, SENTENCES)[0] for story in self.village.stories(prompts, start=PROMPTS_FROM)]
        self.prompts = [[self.writer.end, *self.writer.tokenizer.encode(start)] for start in starts]

    def _coded(self, judged: Sequence[Comparison]) -> list:
        return encode_comparisons(judged, self.writer.tokenizer, begin=self.writer.end, end=self.writer.end)

    def _learned(self, judged: Sequence[Comparison], steps: int = 100) -> RewardModel:
        model = RewardModel(self.writer.model, seed=self.seed)
        batches = comparison_batches(self._coded(judged), 32, generator=torch.Generator().manual_seed(self.seed))
        optimizer = AdamW(decay_matrices_only(model, 0.1), learning_rate=3e-3, betas=(0.9, 0.95))
        schedule = lambda step: linear_warmup_cosine(step, steps=steps, warmup=5, final=0.02)
        train(model, batches, steps=steps, optimizer=optimizer, schedule=schedule, clip=1.0)
        return model

    def sample(self, model: Decoder, n: int) -> tuple[list[list[int]], list[list[int]]]:
        """n endings for each prompt, prompt by prompt."""
        generator = torch.Generator().manual_seed(7 + self.seed)
        asked = [prompt for prompt in self.prompts for _ in range(n)]
        texts: list[list[int]] = []
        for start in range(0, len(asked), 500):
            part = asked[start : start + 500]
            texts += sample_responses(model, part, LONGEST, self.writer.end, generator=generator)
        return asked, texts

    def gold(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Ada's utility (n,) of endings in tokens."""
        plain = [self.writer.tokenizer.decode([t for t in text if t != self.writer.end]) for text in texts]
        return torch.tensor([float(mood("", text)) for text in plain])

    @torch.no_grad()
    def measured(self, model: Decoder, beta: float, n: int) -> Landing:
        """Where a policy is, from n new endings for each prompt."""
        asked, texts = self.sample(model, n)
        rows = side_by_side(asked, texts)
        logp_bt, reference_bt = (
            chosen_log_probabilities(next_log_probabilities(m, rows), rows) for m in (model, self.writer.model)
        )
        score, kl = float(self.reward.score(asked, texts).mean()), float((logp_bt - reference_bt).sum(1).mean())
        gold = float(self.gold(texts).mean())
        return Landing(objective=score - beta * kl, score=score, kl=kl, gold=gold, sample_size=len(texts))


def experiment(
    seed: int,
    *,
    beta: float = 1.0,
    prompts: int = 2,
    samples: int = 2000,
    updates: int = 36,
    make: Callable[..., World] = World,
) -> dict[str, object]:
    """Predict, then train, then look: plain numbers."""
    world = make(seed, prompts=prompts)
    asked, texts = world.sample(world.writer.model, samples)
    world.reward.normalise(asked, texts)
    score_bn, gold_bn = (
        x.unflatten(0, (prompts, samples)) for x in (world.reward.score(asked, texts), world.gold(texts))
    )
    forecast = {str(b): asdict(predicted(score_bn, gold_bn, b)) for b in (2 * beta, beta, beta / 2)}
    policy = copy.deepcopy(world.writer.model)
    config = PPOConfig(beta=beta, learning_rate=1.5e-4, critic_learning_rate=1e-3, rollout=192, max_new_tokens=LONGEST,
                       updates=updates, eos=world.writer.end, seed=seed)  # fmt: skip
    ppo = PPO(policy, world.writer.model, world.reward.score, config, critic=Critic(world.reward.trunk))
    record = [ppo.update(world.prompts) for _ in range(updates)]
    some = world.sample(policy, 2)[1][::2]
    return {
        "seed": seed,
        "beta": beta,
        "accuracy": world.accuracy,
        "ceiling": world.ceiling,
        "correlation": float(torch.corrcoef(torch.stack([score_bn.flatten(), gold_bn.flatten()]))[0, 1]),
        "reference": {"score": float(score_bn.mean()), "gold": float(gold_bn.mean())},
        "predicted": forecast,
        "landed": asdict(world.measured(policy, beta, 1000 // prompts)),
        "objective": [row.objective for row in record],
        "kl": [row.kl_exact for row in record],
        "entropy": [row.entropy for row in record],
        "eos_rate": record[-1].eos_rate,
        "prompts": [world.writer.tokenizer.decode(prompt[1:]) for prompt in world.prompts],
        "before": [world.writer.tokenizer.decode(texts[i * samples][:-1]) for i in range(prompts)],
        "after": [world.writer.tokenizer.decode(text[:-1]) for text in some],
    }


def main(arguments: list[str] | None = None) -> int:
    """`python -m minillm.course.story_alignment --out FILE` writes the result that chapter 20 shows."""
    parser = argparse.ArgumentParser(description="Story endings: where PPO must land, and where it lands.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--updates", type=int, default=36)
    parser.add_argument("--out", type=Path, help="the JSON file to write; without it the result is printed")
    chosen = parser.parse_args(arguments)
    runs = [experiment(s, beta=chosen.beta, prompts=chosen.prompts, updates=chosen.updates) for s in chosen.seeds]
    show_or_store(runs, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
