"""Stage rm: what a labeller prefers becomes a number, and of several answers the best-scored one is given.

    P(a over b) = σ(sharpness · (u(a) - u(b)))        u: right 1, "I do not know." 0, anything else `wrong`

The answers are drawn from the fine-tuned model itself, different ones to a prompt, two by two. A person's own
comparisons, from the chat page or chapter 19, are learned from beside those of the simulated labeller; every fifth of
them is held back, to see how far the model agrees with that person.

The trunk is the fine-tuned model as it is, and only the head is fitted, exactly: a trunk that learns too finds the
choices by heart in a village this small, and of new prompts it guesses hardly more than a coin. What the head needs
of the trunk is how likely it finds the answer: that is where a model shows what it knows.

Paper:   Ouyang et al. 2022, "InstructGPT", §3.4–3.5, arXiv:2203.02155; best of n: Nakano et al. 2021, "WebGPT", §3,
         arXiv:2112.09332; its divergence, log n - (n - 1)/n at most: Beirami et al. 2024, arXiv:2401.01879.
Names:   `Bayes` is the best share of the labeller's choices that anybody could guess.
Next:    minillm/course/tour_ppo.py
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean

import torch
from torch import Tensor

from minillm.alignment.chats import encode_chats
from minillm.alignment.labellers import Labeller, Question, bayes_accuracy, expected_accuracy
from minillm.alignment.preferences import Comparison
from minillm.alignment.responses import chosen_log_probabilities, next_log_probabilities, side_by_side
from minillm.alignment.reward import Preferred, RewardModel
from minillm.course.tour_bench import Bench, Clock, size
from minillm.course.tour_clicks import Clicks
from minillm.course.tour_exam import Gain, utility
from minillm.course.tour_folder import Measured
from minillm.course.tour_sft import answering, draw
from minillm.speaker_files import load_speaker, save_speaker
from minillm.speakers import BestOfSpeaker, ChatSpeaker
from minillm.text.instructions import Instruction
from minillm.transformer.decoder import Decoder

DRAWN, KEPT = 5, 3  # answers that are drawn to a prompt, and how many different ones are compared, two by two


def make_rm(bench: Bench) -> Measured:
    """Draw answers, let them be compared, learn the taste, and give the best of n in the exam."""
    c, text, model = bench.config, bench.text, answering(bench)
    labeller = the_labeller(bench)
    asked = questions(bench, model, text.practice(c.comparisons // 2), seed=c.seed)[: c.comparisons]
    judged = labeller.compare(asked, seed=c.seed)
    clicks = Clicks.read(c.clicks, text.template, model.config.context)
    bench.say(str(clicks)) if clicks.count else None
    clock, pairs = Clock(), [*encode_chats(judged, text.template), *clicks.learned * c.click_weight]
    reward = RewardModel(model, reads_likelihood=True, seed=c.seed)
    reward.fit_head(pairs, prior=c.prior)
    seconds = clock.seconds
    normalise(bench, model, reward)
    chat = ChatSpeaker(model, text.template)
    speaker = BestOfSpeaker(chat, reward, n=c.best_of, name="rm", suggestions=text.suggestions)
    save_speaker(speaker, bench.folder.begin("rm"))
    measured = Measured(
        model=f"reward model, best of {c.best_of}",
        parameters=size(reward),
        seconds=seconds,
        tokens=sum(2 * len(pair.prompt) + len(pair.better) + len(pair.worse) for pair in pairs),
        kl=math.log(c.best_of) - (c.best_of - 1) / c.best_of,
        others=agreement(bench, model, reward, labeller) | clicks.measured(reward),
    )
    measured = bench.examine("rm", best_of(bench, model, reward), measured)
    others = {f"reward {stage}": mean_reward(bench, reward, bench.replies(stage)) for stage in ("gpt", "sft")}
    others |= {f"worth {stage}": fmean(worths(bench, bench.replies(stage))) for stage in ("eliza", "gpt", "sft")}
    others |= {"worth likeliest": fmean(worths(bench, likeliest_of(bench, model)(asked_in(bench))))}
    others |= worth_gained(bench, "rm") | {"comparisons": float(len(judged))}
    return replace(measured, reward=mean_reward(bench, reward, bench.replies("rm")), others=measured.others | others)


def the_labeller(bench: Bench) -> Labeller:
    """Somebody who knows what is told in the village, and errs now and then."""
    return Labeller(who="labeller", utility=utility(bench.text, bench.config.wrong), sharpness=bench.config.sharpness)


def questions(bench: Bench, model: Decoder, asked: Sequence[Instruction], seed: int) -> list[Question]:
    """Different answers of the model to each prompt, two by two; none where it always says the same."""
    prompts = [bench.text.prompt(one.prompt) for one in asked for _ in range(DRAWN)]
    drawn = draw(model, prompts, bench.text.stop, seed)
    found: list[Question] = []
    for i, one in enumerate(asked):
        said = dict.fromkeys(bench.text.plain(x) for x in drawn[DRAWN * i : DRAWN * (i + 1)])
        found += [(one.prompt, pair) for pair in combinations(list(said)[:KEPT], 2)]
    return found


def normalise(bench: Bench, model: Decoder, reward: RewardModel) -> None:
    """Zero and unit of the score: answers of the fine-tuned model to prompts of practice."""
    prompts = [bench.text.prompt(one.prompt) for one in bench.text.practice(300)]
    reward.normalise(prompts, draw(model, prompts, bench.text.stop, bench.config.seed + 1))


def agreement(bench: Bench, model: Decoder, reward: RewardModel, labeller: Labeller) -> dict[str, float]:
    """How often the labeller's choices about the exam's prompts are guessed: by the model, by nobody better, by rules.

    All three are exact expectations over the labeller's choices, since its probabilities are known.
    """
    asked = questions(bench, model, bench.exam.questions, seed=bench.config.seed + 2)
    p_first = [labeller.probability(prompt, *answers) for prompt, answers in asked]
    as_pairs = [Comparison(prompt=prompt, answers=answers, choice=0, who="?") for prompt, answers in asked]
    coded = encode_chats(as_pairs, bench.text.template)
    return {
        "pairs": float(len(asked)),
        "accuracy": expected_accuracy(reward.margins(coded).tolist(), p_first),
        "likelier": expected_accuracy(likelier(model, coded), p_first),
        "bayes": bayes_accuracy(p_first),
    }


def likelier(model: Decoder, pairs: Sequence[Preferred]) -> list[float]:
    """By how much the first answer is likelier than the second: what the model itself thinks of them."""
    prompts = [pair.prompt for pair in pairs]
    first_n, second_n = (log_likelihoods(model, prompts, [getattr(pair, which) for pair in pairs])
                         for which in ("better", "worse"))  # fmt: skip
    return (first_n - second_n).tolist()


@torch.no_grad()
def log_likelihoods(model: Decoder, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Tensor:
    """log p of each answer to its prompt (n,)."""
    parts = []
    for start in range(0, len(prompts), 256):
        rows = side_by_side(prompts[start : start + 256], answers[start : start + 256])
        parts.append(chosen_log_probabilities(next_log_probabilities(model, rows), rows).sum(1))
    return torch.cat(parts)


def best_of(bench: Bench, model: Decoder, reward: RewardModel) -> Callable[[list[str]], list[str]]:
    """Draw n answers to each prompt and give the one with the highest score."""
    return _highest(bench, model, reward.score)


def likeliest_of(bench: Bench, model: Decoder) -> Callable[[list[str]], list[str]]:
    """Of the same n answers, the one that the model itself finds likeliest: a judge that no comparison has taught."""
    return _highest(bench, model, lambda prompts, answers: log_likelihoods(model, prompts, answers))


def _highest(bench: Bench, model: Decoder, score: Callable[..., Tensor]) -> Callable[[list[str]], list[str]]:
    def answers(prompts: list[str]) -> list[str]:
        n = bench.config.best_of
        rows = [bench.text.prompt(prompt) for prompt in prompts for _ in range(n)]
        drawn = draw(model, rows, bench.text.stop, bench.config.seed + 3)
        best_b = score(rows, drawn).unflatten(0, (len(prompts), n)).argmax(1).tolist()
        return [bench.text.plain(drawn[n * i + best]) for i, best in enumerate(best_b)]

    return answers


def asked_in(bench: Bench) -> list[str]:
    """The prompts of the exam."""
    return [one.prompt for one in bench.exam.questions]


def worths(bench: Bench, replies: Sequence[str]) -> list[float]:
    """What the labeller finds in each reply of an exam."""
    worth = utility(bench.text, bench.config.wrong)
    return [worth(prompt, said) for prompt, said in zip(asked_in(bench), replies, strict=True)]


def worth_gained(bench: Bench, stage: str) -> dict[str, float]:
    """What the labeller finds in the answers of a stage, and how much more than in those of the fine-tuned model."""
    after = worths(bench, bench.replies(stage))
    gain = Gain.of(worths(bench, bench.replies("sft")), after)
    return {"worth": fmean(after), "gain": gain.mean, "gain low": gain.low, "gain high": gain.high}


def mean_reward(bench: Bench, reward: RewardModel, replies: Sequence[str]) -> float:
    """The mean score of what a stage said in the exam."""
    prompts = [bench.text.prompt(prompt) for prompt in asked_in(bench)]
    return float(reward.score(prompts, [bench.text.answer(said) for said in replies]).mean())


def the_reward(bench: Bench) -> RewardModel:
    """The reward model of this tour."""
    speaker = load_speaker(bench.folder.path("rm"))
    assert isinstance(speaker, BestOfSpeaker)
    return speaker.reward
