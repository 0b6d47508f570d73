"""Stage ppo: the model that answers moves towards what the reward model likes, and pays for every nat of distance.

    J(π) = E[score] - β KL(π ‖ π_sft),    J* = β log E_sft[exp(score / β)] is the best there is

The reward knows nothing of the exam: it is the model of the labeller's taste. A claim about what nobody told is wrong
to the labeller; so where the chance to be right is small, silence pays. Where J* lies is estimated from answers of the
fine-tuned model alone, before a step is taken; how near PPO comes is its verdict.

Paper:   Ouyang et al. 2022, "InstructGPT", §3.5, arXiv:2203.02155; silence as a bargain: Schulman 2023, talk at
         Berkeley; J*: Korbak et al. 2022, arXiv:2205.11275, §3.
Names:   as in minillm/alignment/ppo.py and minillm/course/story_alignment.py.
Next:    minillm/course/tour_table.py
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from minillm.alignment.critic import Critic
from minillm.alignment.ppo import PPO
from minillm.alignment.ppo_config import PPOConfig
from minillm.alignment.responses import divergences, next_log_probabilities, side_by_side
from minillm.alignment.reward import RewardModel
from minillm.course.story_alignment import predicted
from minillm.course.tour_bench import Bar, Bench, Clock, size
from minillm.course.tour_folder import Measured
from minillm.course.tour_models import LONGEST
from minillm.course.tour_reward import mean_reward, the_reward, worth_gained
from minillm.course.tour_sft import answering, draw, drawn_by, greedy_shares
from minillm.neural.language_model import bits_per_character
from minillm.speaker_files import save_speaker
from minillm.speakers import ChatSpeaker
from minillm.transformer.decoder import Decoder

RATE, CRITIC_RATE = 3e-4, 1e-3
PROMPTS = 1000  # of practice, shuffled anew for every rollout
JUDGED, TRIES = 40, 64  # prompts on which J is measured, and answers to each
SAVES = 10  # checkpoints of a run
ABOUT = (
    "A small model that was taught to answer, and then moved by PPO towards what a reward model likes. All that it "
    "knows is one village and its people; about anything else it has never read a word, and it may answer all the same."
)


class Notes:
    """What is counted while PPO runs; part of a checkpoint."""

    def __init__(self) -> None:
        self.tokens = 0

    def state_dict(self) -> dict[str, int]:
        """For a checkpoint."""
        return {"tokens": self.tokens}

    def load_state_dict(self, saved: Mapping[str, int]) -> None:
        """Go on from there."""
        self.tokens = saved["tokens"]


def make_ppo(bench: Bench) -> Measured:
    """Predict, train, measure."""
    c, text, reference, reward = bench.config, bench.text, answering(bench), the_reward(bench)
    policy = copy.deepcopy(reference)
    config = PPOConfig(beta=c.beta, learning_rate=RATE, critic_learning_rate=CRITIC_RATE, rollout=c.rollout,
                       max_new_tokens=LONGEST, updates=c.ppo_updates, eos=text.stop, seed=c.seed)  # fmt: skip
    ppo = PPO(policy, reference, reward.score, config, critic=Critic(reward.trunk))
    seconds, tokens = _train(bench, ppo)
    speaker = ChatSpeaker(policy, text.template, name="ppo", about=ABOUT, suggestions=text.suggestions)
    save_speaker(speaker, bench.folder.begin("ppo"))
    measured = Measured(
        model="the same after PPO",
        parameters=size(policy),
        seconds=seconds,
        tokens=tokens,
        bits_per_character=bits_per_character(policy, text.held_out, text.tokenizer, text.end),
        others=landing(bench, policy, reference, reward) | greedy_shares(bench, policy),
    )
    measured = bench.examine("ppo", drawn_by(bench, policy), measured)
    return replace(measured, kl=measured.others["kl"], reward=mean_reward(bench, reward, bench.replies("ppo")),
                   others=measured.others | worth_gained(bench, "ppo"))  # fmt: skip


def _train(bench: Bench, ppo: PPO) -> tuple[float, int]:
    """All updates, from wherever an earlier life left them: the seconds, and about how many tokens were written."""
    prompts = [bench.text.prompt(one.prompt) for one in bench.text.practice(PROMPTS)]
    clock, notes, updates = Clock(), Notes(), bench.config.ppo_updates
    parts = {"ppo": ppo, "clock": clock, "notes": notes}
    checkpoints = bench.checkpoints("ppo", parts, updates, saves=SAVES)
    start = bench.resume(checkpoints)
    with Bar("ppo", updates, start, unit="updates") as bar:
        for update in range(start + 1, updates + 1):
            row = ppo.update(prompts)
            notes.tokens += round(row.length * bench.config.rollout)
            bar()
            if update % checkpoints.every == 0 or update == updates:
                checkpoints.save(update)
    return clock.seconds, notes.tokens


@torch.no_grad()
def landing(bench: Bench, policy: Decoder, reference: Decoder, reward: RewardModel) -> dict[str, float]:
    """J of the policy and of the fine-tuned model on prompts of the exam, and J* from the latter's answers alone."""
    every = bench.exam.questions
    asked = [bench.text.prompt(one.prompt) for one in every[:: max(1, len(every) // JUDGED)][:JUDGED]]
    rows = [prompt for prompt in asked for _ in range(TRIES)]
    before = draw(reference, rows, bench.text.stop, bench.config.seed + 4)
    score_bn = reward.score(rows, before).unflatten(0, (len(asked), TRIES))
    best = predicted(score_bn, score_bn, bench.config.beta)
    after = draw(policy, rows, bench.text.stop, bench.config.seed + 5)
    score, kl = float(reward.score(rows, after).mean()), divergence(policy, reference, rows, after)
    return {
        "objective sft": float(score_bn.mean()),
        "objective": score - bench.config.beta * kl,
        "objective best": best.objective,
        "kl best": best.kl,
        "kl": kl,
    }


@torch.no_grad()
def divergence(
    policy: Decoder, reference: Decoder, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]
) -> float:
    """KL(policy ‖ reference) in nats an answer, from all logits at the places where these answers went."""
    total = 0.0
    for start in range(0, len(prompts), 256):
        rows = side_by_side(prompts[start : start + 256], texts[start : start + 256])
        log_p_btv, log_q_btv = (next_log_probabilities(model, rows) for model in (policy, reference))
        total += float(divergences(log_p_btv, log_q_btv, rows).sum())
    return total / len(prompts)
