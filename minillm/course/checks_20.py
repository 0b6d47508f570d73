"""Checks of chapter 20: the best policy, GAE, a threshold of silence, two bugs in the rewards, and a budget of samples.

All answers take and give plain numbers, lists and dicts. The open exercise is judged by the exact gap of PPO on
laboratories that are drawn here, within a budget of texts.

Next:    minillm/course/grading.py
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minillm.course.checks import Wrong, call, expect, expect_close, expect_inputs_kept, expect_type, is_number

BUDGET = 4096  # texts that the open exercise may draw
GOAL = 0.025  # its mean gap
_LABORATORIES = 21, 22, 23
FIELDS = {"learning_rate": 0.05, "rollout": 256, "lam": 0.95, "epochs": 2, "minibatches": 4, "clip": 0.2}


def optimum(answer: Callable[[list[float], list[float], float], list[float]]) -> None:
    """`optimum(reference, scores, beta)`: π* over a few answers."""
    reference, scores, beta = [0.25, 0.25, 0.5], [2.0, 1.0, 0.0], 1 / math.log(2)
    what = "optimum([0.25, 0.25, 0.5], [2, 1, 0], 1/log 2)"
    got = call(answer, reference, scores, beta)
    _expect_numbers(got, 3, what)
    expect_close(list(got), [0.5, 0.25, 0.25], what=what, hint=_optimum_cause(got))
    cause = "what the reference never gives stays at 0, and log 0 is no number: multiply, or leave it out"
    wanted = [1 / (1 + math.e), math.e / (1 + math.e), 0.0]
    got = _call_or(cause, answer, [0.5, 0.5, 0.0], [0.0, 1.0, 9.0], 1.0)
    expect_close(list(got), wanted, what="optimum([0.5, 0.5, 0], [0, 1, 9], 1.0)", hint=cause)
    chance = random.Random()
    for _ in range(4):
        n = chance.randint(2, 6)
        raw, scores = [chance.uniform(0.1, 1) for _ in range(n)], [chance.uniform(-2, 2) for _ in range(n)]
        reference, beta = [x / sum(raw) for x in raw], chance.uniform(0.3, 2)
        got = call(answer, reference, scores, beta)
        expect_close(
            list(got), _optimum(reference, scores, beta), what=f"optimum of {n} random answers at β={beta:.2f}"
        )
    cause = "subtract the largest score before the exponential: it cancels, and e to a large number does not exist"
    for scores, beta in (([1000.0, 999.0, 0.0], 1.0), ([-3000.0, -3001.0, -9999.0], 1.0)):
        got = _call_or(cause, answer, [0.25, 0.25, 0.5], scores, beta)
        expect_close(
            list(got), _optimum([0.25, 0.25, 0.5], scores, beta), what=f"optimum for scores {scores}", hint=cause
        )
    expect_inputs_kept(answer, [0.5, 0.5], [1.0, 2.0], 1.0)


def _optimum(reference: Sequence[float], scores: Sequence[float], beta: float) -> list[float]:
    top = max(scores)
    weights = [q * math.exp((s - top) / beta) for q, s in zip(reference, scores, strict=True)]
    return [w / sum(weights) for w in weights]


def _optimum_cause(got: Sequence[float]) -> str:
    near = lambda wanted: np.allclose(np.asarray(got, dtype=float), wanted, atol=1e-6)
    if near([1.0, 0.5, 0.5]):
        return "divide by the sum, so that they are probabilities"
    if near([4 / 7, 2 / 7, 1 / 7]):
        return "the reference is missing: it is multiplied"
    wrong = np.array([0.25, 0.25, 0.5]) * np.exp(np.array([2.0, 1.0, 0.0]) / math.log(2))
    if near(wrong / wrong.sum()):
        return "divide the score by β, do not multiply"
    if near([0.25 / 4 / (0.0625 + 0.125 + 0.5), 0.125 / 0.6875, 0.5 / 0.6875]):
        return "the sign is turned round: high scores gain"
    if near([1.0, 0.0, 0.0]):
        return "that is the limit of β = 0: the best answer alone"
    return "reference · exp(score / β), divided by the sum"


def gae(answer: Callable[[list[float], list[float], float], list[float]]) -> None:
    """`gae(rewards, values, lam)`: the advantages of one text, without discount."""
    rewards, values = [0.0, 0.0, 1.0], [0.5, 0.25, 0.75]
    for lam, wanted in ((0.0, [-0.25, 0.5, 0.25]), (1.0, [0.5, 0.75, 0.25]), (0.5, [0.0625, 0.625, 0.25])):
        got = call(answer, rewards, values, lam)
        what = f"gae({rewards}, {values}, {lam})"
        _expect_numbers(got, 3, what)
        expect_close(list(got), wanted, what=what, hint=_gae_cause(got, wanted, rewards, values, lam))
    chance = random.Random()
    for _ in range(4):
        n, lam = chance.randint(1, 7), chance.random()
        rewards, values = ([chance.uniform(-2, 2) for _ in range(n)] for _ in range(2))
        expect_close(
            list(call(answer, rewards, values, lam)), _gae(rewards, values, lam), what=f"gae of {n} random tokens"
        )
    expect_inputs_kept(answer, [1.0, 2.0], [0.5, 0.5], 0.9)


def _gae(rewards: Sequence[float], values: Sequence[float], lam: float, *, last: float = 0.0) -> list[float]:
    found, later, next_value = [], 0.0, last
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        later = reward + next_value - value + lam * later
        next_value = value
        found.insert(0, later)
    return found


def _gae_cause(
    got: Sequence[float], wanted: Sequence[float], rewards: list[float], values: list[float], lam: float
) -> str:
    near = lambda other: np.allclose(np.asarray(got, dtype=float), other) and not np.allclose(wanted, other)
    surprises = _gae(rewards, values, 0.0)
    forward = [sum(lam ** (t - i) * surprises[i] for i in range(t + 1)) for t in range(len(rewards))]
    returns = [a + v for a, v in zip(wanted, values, strict=True)]
    if near(forward):
        return "a token is weighed by the surprises that come after it, not by those before"
    if near(_gae(rewards, values, lam, last=values[-1])):
        return "after the last token nothing is expected: its next value is 0"
    if near([r - v for r, v in zip(rewards, values, strict=True)]):
        return "a surprise is reward + next value - value: the next value is missing"
    if near(surprises):
        return "these are the surprises alone: add λ times what follows"
    if near(_gae(rewards, values, 1.0)):
        return "each step further weighs λ times less"
    if near(returns):
        return "that is advantage + value, what the critic should have said"
    if near([-x for x in wanted]):
        return "the sign is turned round: better than expected is above 0"
    if near(_gae(rewards, [0.0] * len(values), lam)):
        return "the values are missing"
    return "A_t = δ_t + λ A_{t+1}, from the back, with δ_t = r_t + V_{t+1} - V_t"


def threshold(answer: Callable[[float, float, float], float]) -> None:
    """`threshold(right, silent, wrong)`: how sure one must be before an answer pays."""
    cases: tuple[tuple[tuple[float, float, float], float], ...] = (
        ((1.0, 0.0, -1.0), 0.5),
        ((1.0, 0.0, -4.0), 0.8),
        ((1.0, 0.3, -1.0), 0.65),
        ((2.0, 0.5, -1.0), 0.5),
        ((1.0, -1.0, -1.0), 0.0),
        ((1.0, -2.0, -1.0), 0.0),
        ((1.0, 1.5, -1.0), 1.0),
    )
    for rewards, wanted in cases:
        what = f"threshold(right={rewards[0]}, silent={rewards[1]}, wrong={rewards[2]})"
        got = call(answer, *rewards)
        expect_type(got, (int, float), what)
        expect_close(got, wanted, what=what, hint=_threshold_cause(float(got), *rewards))
    chance = random.Random()
    for _ in range(5):
        wrong, silent, right = sorted(chance.uniform(-3, 3) for _ in range(3))
        got = call(answer, right, silent, wrong)
        what = f"threshold(right={right:.3f}, silent={silent:.3f}, wrong={wrong:.3f})"
        expect_close(got, (silent - wrong) / (right - wrong), what=what)


def _threshold_cause(got: float, right: float, silent: float, wrong: float) -> str:
    plain = (silent - wrong) / (right - wrong)
    near = lambda other: math.isclose(got, other, abs_tol=1e-9)
    if silent <= wrong:
        return "silence never pays more than a wrong answer here: always answer, a threshold of 0"
    if silent >= right:
        return "silence pays more than the right answer: a threshold of 1, and no more, for it is a probability"
    if near(1 - plain):
        return "that is how *unsure* one may be: the probability to be wrong"
    if near(-wrong / (right - wrong)):
        return "silence is paid too"
    if near(0.5):
        return "one half belongs to +1, 0, -1: what is p · right + (1 - p) · wrong here?"
    return "solve p · right + (1 - p) · wrong = silent for p"


def token_rewards(answer: Callable[..., list[list[float]]]) -> None:
    """`token_rewards(scores, logp, reference, lengths, beta)`: two bugs found."""
    logp = [[-1.0, -2.0, -0.5], [-1.0, 0.0, 0.0]]
    reference = [[-1.5, -1.0, -0.5], [-3.0, 0.0, 0.0]]
    _compare_rewards(answer, [1.0, 2.0], logp, reference, [3, 1], 0.5)
    chance = random.Random()
    for _ in range(4):
        b, t, beta = chance.randint(2, 4), chance.randint(2, 6), chance.uniform(0.1, 1)
        lengths = [chance.randint(1, t - 1) for _ in range(b)]
        rows = [[[chance.uniform(-3, -0.1) if i < n else 0.0 for i in range(t)] for n in lengths] for _ in range(2)]
        _compare_rewards(answer, [chance.uniform(-2, 2) for _ in range(b)], rows[0], rows[1], lengths, beta)
    expect_inputs_kept(answer, [1.0], [[-1.0, -2.0]], [[-1.0, -1.0]], [2], 0.5)


def _compare_rewards(
    answer: Callable[..., Any], scores: list[float], logp: list[list[float]], reference: list[list[float]],
    lengths: list[int], beta: float,
) -> None:  # fmt: skip
    what = f"token_rewards of {len(scores)} texts"
    got = call(answer, scores, logp, reference, lengths, beta)
    expect_type(got, (list, tuple), what)
    expect(len(got) == len(scores), f"{what} gave {len(got)} rows", "one row for each text")
    p, q, n = np.array(logp), np.array(reference), np.array(lengths)
    for i, row in enumerate(got):
        _expect_numbers(row, p.shape[1], f"row {i} of {what}")
    k1, k3 = p - q, np.exp(q - p) - 1 - (q - p)
    at = lambda column: np.eye(p.shape[1])[column] * np.array(scores)[:, None]
    last, end, early = at(n - 1), at(np.full(len(n), -1)), at(np.maximum(n - 2, 0))
    wanted = last - beta * k1
    near = lambda other: np.allclose(np.array(got, dtype=float), other, atol=1e-9) and not np.allclose(other, wanted)
    causes = (
        (end - beta * k3, "both bugs are still there: where does the score go, and what is the price of a token?"),
        (end - beta * k1, "the score still goes to the last column, which is filling in all but the longest text"),
        (
            last - beta * k3,
            "the price is still k3: it is never negative, so rare tokens are punished where k1 pays them",
        ),
        (early - beta * k1, "one token early: a text of n tokens ends at place n - 1"),
        (last + beta * k1, "the price is taken off, not added"),
        (last - k1, "β is missing"),
        (last - beta * np.abs(k1), "without the absolute value: only then is the sum over a text its log-ratio"),
        (np.repeat(np.array(scores)[:, None], p.shape[1], 1) - beta * k1, "the score comes once, at the last token"),
    )
    hint = next(
        (cause for other, cause in causes if near(other)), "score at place length - 1, less β (logp - reference)"
    )
    expect_close([list(row) for row in got], wanted.tolist(), what=what, hint=hint)


def settings(answer: Callable[[], dict[str, float]]) -> None:
    """`settings()`: PPO's settings for a budget of 4,096 texts, judged by the exact gap."""
    got = call(answer)
    expect_type(got, dict, "settings()")
    unknown = sorted(set(got) - set(FIELDS))
    expect(not unknown, f"settings() sets {unknown[:1]}", f"only these are yours to choose: {', '.join(FIELDS)}")
    expect(all(is_number(x) for x in got.values()), f"settings() gave {got!r:.100}", "a number for each name")
    chosen = FIELDS | got
    for name in ("rollout", "epochs", "minibatches"):
        expect(
            float(chosen[name]).is_integer() and chosen[name] >= 1, f"{name}={chosen[name]}", "a whole number from 1 on"
        )
    expect(
        chosen["rollout"] <= BUDGET, f"rollout={chosen['rollout']} is above the budget of {BUDGET} texts", "take fewer"
    )
    expect(chosen["epochs"] <= 16, f"epochs={chosen['epochs']}", "at most 16, for the sake of your time")
    gaps = [_gap(chosen, seed) for seed in _LABORATORIES]
    problem = f"the mean gap after {BUDGET} texts is {float(np.mean(gaps)):.1%}; the goal is {GOAL:.1%}"
    if float(np.mean(gaps)) <= GOAL:
        return
    if chosen["rollout"] >= 256:
        raise Wrong(problem, f"{BUDGET // int(chosen['rollout'])} updates are few: smaller rollouts make more of them")
    if chosen["learning_rate"] < 0.05:
        raise Wrong(problem, "the steps are too small to arrive: a larger learning rate, or more epochs")
    if chosen["learning_rate"] > 0.4:
        raise Wrong(
            problem, "the steps are so large that the noise of a rollout is learned too: a smaller learning rate"
        )
    raise Wrong(problem, "vary one at a time: learning_rate, rollout, epochs, lam; the default is 0.05, 256, 2, 0.95")


def _gap(chosen: dict[str, float], seed: int) -> float:
    """The exact gap of one run on a laboratory that is drawn."""
    from minillm.alignment.laboratory import Laboratory
    from minillm.alignment.ppo import PPO
    from minillm.alignment.ppo_config import PPOConfig
    from minillm.alignment.tabular import TabularPolicy

    lab, rollout = Laboratory.small(seed), int(chosen["rollout"])
    updates = BUDGET // rollout
    try:
        config = PPOConfig(beta=0.5, max_new_tokens=lab.length, eos=lab.eos, allowed_tokens=lab.allowed, seed=seed,
                           learning_rate=float(chosen["learning_rate"]), lam=float(chosen["lam"]), rollout=rollout,
                           clip=float(chosen["clip"]), epochs=int(chosen["epochs"]), updates=updates,
                           minibatches=int(chosen["minibatches"]))  # fmt: skip
    except ValueError as error:
        raise Wrong(f"settings() cannot be: {error}") from None
    ppo = PPO(TabularPolicy(lab), TabularPolicy(lab), lab.reward, config)
    for _ in range(updates):
        ppo.update(lab.prompts)
    return lab.measure(ppo.policy, 0.5).gap


def _call_or(cause: str, answer: Callable[..., Any], *arguments: Any) -> Any:
    """The answer; what it raises becomes a diagnosis with this cause."""
    try:
        return call(answer, *arguments)
    except Wrong as wrong:
        raise Wrong(wrong.problem, cause) from None


def _expect_numbers(got: Any, n: int, what: str) -> None:
    expect_type(got, (list, tuple), what)
    good = len(got) == n and all(is_number(x) for x in got)
    expect(good, f"{what} gave {got!r:.80}", f"a list of {n} finite numbers")
