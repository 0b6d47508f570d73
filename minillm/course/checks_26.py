"""Checks of chapter 26: a verdict, what must be trained again, two bugs in a table's row, a decision under a budget.

All answers take and give plain numbers, texts, lists and dicts. The open exercise is judged exactly: by the policy to
which its decision leads, on questions that are drawn here.

Next:    minillm/course/grading.py
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minillm.course.abstaining import Question, landing
from minillm.course.checks import (
    Wrong,
    call,
    expect,
    expect_close,
    expect_equal,
    expect_inputs_kept,
    expect_type,
    is_number,
)
from minillm.statistical.metrics import wilson

SHRUG = "I do not know."
WORDS = ("better", "worse", "not told apart")
SLACK = 0.04  # how much more than the best of a grid may be invented: two fine grids differed by 0.026 in 2,190 draws
_WRONG = tuple(-10 + 0.25 * i for i in range(44))
_BETA = tuple(0.02 * 1.2**j for j in range(40))


def verdict(answer: Callable[[int, int, int, int, bool], str]) -> None:
    """`verdict(hits, n, base_hits, base_n, more_is_better)`: a row against its baseline, by 95 % intervals."""
    cases = (
        (9, 10, 1, 10, True, "the intervals do not touch, and the row's lies above"),
        (1, 10, 9, 10, True, "the intervals do not touch, and the row's lies below"),
        (1, 10, 9, 10, False, "of some things less is better: read more_is_better"),
        (9, 10, 1, 10, False, "of some things less is better: read more_is_better"),
        (6, 10, 5, 10, True, "10 questions tell little: 6 of 10 may be 0.31, and 5 of 10 may be 0.76"),
        (6000, 10_000, 5000, 10_000, True, "the same shares as 6 and 5 of 10, but 10,000 questions tell them apart"),
        (14, 20, 9, 20, True, "0.70 lies outside of the baseline's interval, but it has an interval of its own"),
        (40, 40, 35, 40, True, "take Wilson's interval: p ± 1.96 √(p (1 − p) / n) has no width at 40 of 40"),
        (7, 10, 7, 10, True, "equal shares are not told apart"),
        (30, 40, 15, 40, True, "0.75 (0.60–0.86) lies above 0.38 (0.24–0.53)"),
    )
    for *arguments, hint in cases:
        _expect_verdict(answer, tuple(arguments), hint)
    chance = random.Random()
    for _ in range(30):
        n, base_n = chance.randint(5, 200), chance.randint(5, 200)
        arguments = (chance.randint(0, n), n, chance.randint(0, base_n), base_n, chance.random() < 0.5)
        _expect_verdict(answer, arguments, "compare the two intervals: does either end before the other begins?")


def _verdict(hits: int, n: int, base_hits: int, base_n: int, more_is_better: bool) -> str:
    (low, high), (base_low, base_high) = wilson(hits, n), wilson(base_hits, base_n)
    if low <= base_high and base_low <= high:
        return "not told apart"
    return "better" if (low > base_high) == more_is_better else "worse"


def _expect_verdict(answer: Callable[..., Any], arguments: tuple[Any, ...], hint: str) -> None:
    hits, n, base_hits, base_n, more = arguments
    what = f"verdict({hits}, {n}, {base_hits}, {base_n}, {more})"
    got = call(answer, *arguments)
    expect_type(got, str, what)
    expect(got in WORDS, f"{what} gave {got!r:.60}", f"one of {', '.join(map(repr, WORDS))}")
    expect_equal(got, _verdict(*arguments), what, hint)


def stale(answer: Callable[..., list[str]]) -> None:
    """`stale(reads, parents, changed)`: the stages that a changed decision makes old."""
    reads = {"eliza": ["seed"], "ngram": ["seed", "order"], "gpt": ["seed", "width"], "sft": ["shrugs"],
             "rm": ["wrong"], "ppo": ["beta"]}  # fmt: skip
    parents = {"sft": ["gpt"], "rm": ["sft"], "ppo": ["sft", "rm"]}
    cases: tuple[tuple[list[str], str], ...] = (
        ([], "nothing changed: nothing is old"),
        (["beta"], "only ppo reads beta, and nothing is made of ppo"),
        (["order"], "what stands behind ngram in the list is not made of it"),
        (["wrong"], "rm reads it; ppo does not, but ppo is made of rm. sft is a parent of rm, and stays as it is"),
        (["width"], "gpt is old, so sft is, so rm and ppo are: not the children alone, their children too"),
        (["shrugs", "order"], "two changes: all that either of them reaches, each stage once"),
        (["wrong", "beta"], "ppo is old for two reasons, and stands in the list once"),
        (["seed"], "every stage is reached, directly or through gpt"),
        (["colour"], "no stage reads it"),
    )
    for changed, hint in cases:
        got = call(answer, reads, parents, changed)
        what = f"stale(reads, parents, {changed})"
        expect_type(got, list, what, "a list, in the order of reads")
        wanted = _stale(reads, parents, changed)
        if isinstance(got, list) and sorted(map(str, got)) == sorted(wanted) and got != wanted:
            hint = "the right stages: give them in the order of reads"
        expect_equal(got, wanted, what, hint)
    chance = random.Random()
    for _ in range(8):
        reads, parents, changed = _random_stages(chance)
        what = f"stale of {len(reads)} random stages after {changed}"
        expect_equal(call(answer, reads, parents, changed), _stale(reads, parents, changed), what, "try a longer chain")
    expect_inputs_kept(answer, *_random_stages(chance))


def _stale(reads: Mapping[str, list[str]], parents: Mapping[str, list[str]], changed: Sequence[str]) -> list[str]:
    old: list[str] = []
    for stage, decisions in reads.items():  # parents stand before their children
        if set(decisions) & set(changed) or set(parents.get(stage, ())) & set(old):
            old.append(stage)
    return old


def _random_stages(chance: random.Random) -> tuple[dict[str, list[str]], dict[str, list[str]], list[str]]:
    names, decisions = [f"stage {i}" for i in range(chance.randint(6, 12))], [f"decision {i}" for i in range(5)]
    reads = {name: chance.sample(decisions, chance.randint(0, 1)) for name in names}
    parents = {name: chance.sample(names[:i], min(i, chance.randint(0, 2))) for i, name in enumerate(names) if i}
    return reads, parents, chance.sample(decisions, 1)


def results_row(answer: Callable[..., dict[str, float]]) -> None:
    """`results_row(nats, characters, floor, replies, answers)`: two bugs found."""
    ln2 = math.log(2)
    _compare_rows(answer, [30 * ln2, 10 * ln2], [10, 90], 0.25, ["a", SHRUG, "b"], ["a", "c", None])
    _compare_rows(answer, [8 * ln2], [10], 0.5, ["a", SHRUG, SHRUG, "b"], ["a", "a", None, None])
    chance = random.Random()
    for _ in range(5):
        texts, known, unknown = chance.randint(2, 5), chance.randint(1, 6), chance.randint(1, 6)
        characters = [chance.randint(5, 300) for _ in range(texts)]
        nats = [c * chance.uniform(0.1, 2.0) for c in characters]
        answers = [chance.choice("abc") for _ in range(known)] + [None] * unknown
        chance.shuffle(answers)
        replies = [chance.choice(["a", "b", SHRUG]) for _ in answers]
        _compare_rows(answer, nats, characters, chance.uniform(0.0, 0.1), replies, answers)
    expect_inputs_kept(answer, [1.0], [2], 0.1, ["a", SHRUG], ["a", None])


def _results_row(
    nats: list[float], characters: list[int], floor: float, replies: list[str], answers: list[str | None]
) -> dict[str, float]:
    bits = sum(nats) / math.log(2) / sum(characters)
    pairs = list(zip(replies, answers, strict=True))
    known, unknown = [(r, a) for r, a in pairs if a is not None], [r for r, a in pairs if a is None]
    return {
        "bits": bits,
        "above floor": bits - floor,
        "followed": sum(r == a for r, a in known) / len(known),
        "invented": sum(r != SHRUG for r in unknown) / len(unknown),
    }


def _compare_rows(
    answer: Callable[..., Any], nats: list[float], characters: list[int], floor: float, replies: list[str],
    answers: list[Any],
) -> None:  # fmt: skip
    wanted = _results_row(nats, characters, floor, replies, answers)
    what = f"results_row of {len(nats)} texts and {len(replies)} replies"
    got = call(answer, nats, characters, floor, replies, answers)
    expect_type(got, dict, what)
    missing = [name for name in wanted if not is_number(got.get(name))]
    expect(not missing, f"{what} has no number {missing[:1]}", f"the four of the row: {', '.join(wanted)}")
    mean_of_means = sum(n / c for n, c in zip(nats, characters, strict=True)) / len(nats) / math.log(2)
    known = sum(a is not None for a in answers)
    hits, claims = wanted["followed"] * known, wanted["invented"] * (len(answers) - known)
    causes = {
        "bits": (
            (mean_of_means, "every text counts alike here, however short: all bits, divided by all characters"),
            (wanted["bits"] * math.log(2), "these are nats: a bit is ln 2 of them"),
            (sum(nats) / math.log(2) / len(nats), "that is bits per text: divide by the characters"),
        ),
        "above floor": (
            (mean_of_means - floor, "the distance is taken from the wrong bits"),
            (wanted["bits"] / floor if floor else math.nan, "the distance is a difference, not a ratio"),
            (floor - wanted["bits"], "the sign is turned round: above the floor is positive"),
        ),
        "followed": (
            (hits / len(answers), "questions that no text answers cannot be answered right: they are not counted here"),
        ),
        "invented": (
            (claims / len(answers), "out of the questions that no text answers, not out of all"),
            (sum(r != SHRUG for r in replies) / len(replies), "a claim is invented only where no text answers"),
            (1 - wanted["invented"], "that is the share of shrugs"),
        ),
    }
    for name, right in wanted.items():
        near = (cause for other, cause in causes[name] if math.isclose(got[name], other, abs_tol=1e-9))
        expect_close(got[name], right, what=f"{name!r} in {what}", hint=next(near, "do it on paper for two texts"))


def decide(answer: Callable[..., tuple[float, float]]) -> None:
    """`decide(questions, most_kl, least_right)`: (wrong, beta) with little invented, within a budget of KL."""
    chance = random.Random()
    for trial in range(6):
        questions = _random_questions(chance)
        reference = landing(questions, 0.0, 1e9)
        most_kl, least_right = chance.choice((0.05, 0.15, 0.3)), chance.choice((0.9, 1.0, 1.03)) * reference["right"]
        if trial == 0:
            most_kl, least_right = 0.3, reference["right"]
        _judge_decision(answer, questions, most_kl, least_right, reference)
    expect_inputs_kept(answer, _random_questions(chance), 0.3, 0.3)


def _random_questions(chance: random.Random) -> list[Question]:
    """Some that the model knows, some where it guesses among a few, some of which it knows nothing."""
    kinds = ((0.9, 1.0), (0.4, 0.8), (0.05, 0.2))
    counts = [chance.randint(4, 12) for _ in kinds]
    return [
        (chance.uniform(*kind), chance.uniform(0.1, 0.3))
        for kind, n in zip(kinds, counts, strict=True)
        for _ in range(n)
    ]


def _judge_decision(
    answer: Callable[..., Any], questions: list[Question], most_kl: float, least_right: float,
    reference: dict[str, float],
) -> None:  # fmt: skip
    got = call(answer, questions, most_kl, least_right)
    what = f"decide({len(questions)} questions, {most_kl}, {least_right:.3f})"
    expect_type(got, (tuple, list), what)
    expect(len(got) == 2 and all(map(is_number, got)), f"{what} gave {got!r:.60}", "two numbers: (wrong, beta)")
    wrong, beta = map(float, got)
    swapped = "is it (beta, wrong)? First what a wrong answer is worth, then the price"
    expect(-10 <= wrong < 1, f"{what} gave wrong={wrong:g}", "from -10 to below 1, the worth of a right answer")
    expect(0.01 <= beta <= 100, f"{what} gave beta={beta:g}", swapped if beta < 0 else "a price from 0.01 to 100")
    found = landing(questions, wrong, beta)
    if found["kl"] > most_kl + 1e-9:
        raise Wrong(
            f"{what}: ({wrong:g}, {beta:g}) costs {found['kl']:.3f} nats, the budget is {most_kl}",
            "a higher price beta keeps the policy nearer to the reference",
        )
    if found["right"] < least_right - 1e-9:
        raise Wrong(
            f"{what}: ({wrong:g}, {beta:g}) answers {found['right']:.3f} right, at least {least_right:.3f} are wanted",
            "so dear a mistake silences the model where it knows: a wrong answer nearer to 0",
        )
    grid = (landing(questions, w, b) for w in _WRONG for b in _BETA)
    within = [one["invented"] for one in grid if one["kl"] <= most_kl and one["right"] >= least_right]
    best = min(within, default=found["invented"])
    if found["invented"] > best + SLACK:
        moved = found["kl"] > 0.5 * most_kl
        raise Wrong(
            f"{what}: ({wrong:g}, {beta:g}) invents {found['invented']:.3f}; {best + SLACK:.3f} can be had",
            "the budget is spent on other things: make a wrong answer dearer, so that doubt is what is silenced"
            if moved
            else f"only {found['kl']:.3f} of {most_kl} nats are spent (the reference invents "
            f"{reference['invented']:.3f}): a lower price, or a dearer mistake",
        )
