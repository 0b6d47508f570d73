"""Metrics: how good were the answers, counted.

    precision = right among those claimed     recall = claimed among those true     F1 = 2 P R / (P + R)
    BLEU = 100 · min(1, exp(1 - r / c)) · (p₁ p₂ p₃ p₄)^¼

with pₙ the share of the hypotheses' n-grams that a reference has too (each at most as often as there), c the words of
the hypotheses, and r those of the references closest in length.

Paper:   van Rijsbergen 1979, "Information Retrieval", ch. 7; Papineni et al. 2002, "BLEU: a Method for Automatic
         Evaluation of Machine Translation", §2; smoothing: Chen and Cherry 2014, "A Systematic Comparison of Smoothing
         Techniques for Sentence-Level BLEU", methods 1 ("floor") and 3 ("exp"); interval: Wilson 1927, "Probable
         Inference, the Law of Succession, and Statistical Inference".
Names:   rows of a confusion matrix are the truth, columns the answers; BLEU's c and r as in the paper.
Differs: 0/0 counts as 0 (nothing claimed, nothing true); BLEU is out of 100, over lists of words that are cut already.
Next:    minillm/statistical/classifiers.py
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

Label = TypeVar("Label", bound=Hashable)
BleuSmoothing = Literal["none", "exp", "floor"]


def _paired(truth: Sequence[Label], answers: Sequence[Label]) -> None:
    if len(truth) != len(answers):
        raise ValueError(f"truth has {len(truth)} labels and answers {len(answers)}; each case needs one of both")
    if not len(truth):
        raise ValueError("truth holds no label; a share of nothing is not defined, give at least one case")


def accuracy(truth: Sequence[Label], answers: Sequence[Label]) -> float:
    """Return the share of answers that are right, in [0, 1].

    >>> accuracy(["n", "v", "n", "n"], ["n", "v", "v", "n"])
    0.75
    """
    _paired(truth, answers)
    return sum(t == a for t, a in zip(truth, answers, strict=True)) / len(truth)


def share_interval(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Which true shares are compatible with `right` of n: Wilson's interval; z=1.96 covers 95 %.

    >>> [round(end, 2) for end in share_interval(7, 10)]
    [0.4, 0.89]
    """
    if n < 1 or not 0 <= right <= n or not z > 0:
        raise ValueError(
            f"right={right!r} of n={n!r} at z={z!r}; the rule is 0 ≤ right ≤ n, n ≥ 1, z > 0, as in (7, 10)"
        )
    middle = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(right * (n - right) / n + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def confusion_matrix(
    truth: Sequence[Label], answers: Sequence[Label], labels: Sequence[Label] | None = None
) -> np.ndarray:
    """Count the cases by true label (row) and answer (column); `labels` gives their order, by default sorted.

    Raises ValueError for a label that is not among `labels`.

    >>> confusion_matrix(["n", "v", "n", "n"], ["n", "v", "v", "n"]).tolist()
    [[2, 1], [0, 1]]
    """
    _paired(truth, answers)
    labels = sorted({*truth, *answers}) if labels is None else list(labels)  # type: ignore[type-var]
    row = {label: i for i, label in enumerate(labels)}
    if strange := [label for label in (*truth, *answers) if label not in row]:
        raise ValueError(f"label {strange[0]!r} is not among labels={labels!r}; add it, or leave labels out")
    cases = [row[t] * len(row) + row[a] for t, a in zip(truth, answers, strict=True)]
    return np.bincount(cases, minlength=len(row) ** 2).reshape(len(row), len(row))


class Scores(NamedTuple):
    """Precision, recall and F1, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


def precision_recall_f1(
    truth: Sequence[Label],
    answers: Sequence[Label],
    *,
    average: Literal["binary", "macro", "micro"] = "binary",
    positive: Hashable = 1,
) -> Scores:
    """Return precision, recall and F1.

    average   "binary"  of the label `positive` alone
              "macro"   the plain mean over the labels, so that a rare one counts like a frequent one
              "micro"   over all decisions together; with one label a case all three are the accuracy

    >>> precision_recall_f1([1, 0, 1, 1, 0], [1, 1, 0, 1, 0])
    Scores(precision=0.6666666666666666, recall=0.6666666666666666, f1=0.6666666666666666)
    """
    _paired(truth, answers)
    if average not in ("binary", "macro", "micro"):
        raise ValueError(f"average={average!r} is not known; use 'binary', 'macro' or 'micro'")
    labels: list[Hashable] = [positive] if average == "binary" else list({*truth, *answers})
    true_count, claimed = Counter[Hashable](truth), Counter[Hashable](answers)
    right = Counter[Hashable](t for t, a in zip(truth, answers, strict=True) if t == a)
    if average == "micro":
        return _scores(sum(right.values()), len(answers), len(truth))
    each = [_scores(right[label], claimed[label], true_count[label]) for label in labels]
    return Scores(*(sum(column) / len(each) for column in zip(*each, strict=True)))


def _scores(right: int, claimed: int, true: int) -> Scores:
    share = lambda part, whole: part / whole if whole else 0.0
    return Scores(share(right, claimed), share(right, true), share(2 * right, claimed + true))


def corpus_bleu(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    *,
    smoothing: BleuSmoothing = "exp",
    floor: float = 0.1,
    longest: int = 4,
) -> float:
    """Return the BLEU of a whole corpus, 0 to 100; `references[i]` are the one or more references of `hypotheses[i]`.

    An n-gram length without any match would make the whole 0. `smoothing` "none" leaves it so, "floor" counts `floor`
    matches there, "exp" (sacrebleu's default) ½ match at the first such length, ¼ at the second, and so on. A corpus
    without one right word, or too short to have any n-gram of the `longest` length, scores 0. Of references equally
    close in length the shorter counts.

    >>> corpus_bleu([["the", "cat", "sat", "down"]], [[["the", "cat", "sat", "down"]]])
    100.0
    >>> round(corpus_bleu([["the", "cat", "sat"]], [[["the", "cat", "sat", "down"]]], longest=3), 2)  # 100 exp(1 - 4/3)
    71.65
    """
    if smoothing not in ("none", "exp", "floor"):
        raise ValueError(f"smoothing={smoothing!r} is not known; use 'none', 'exp' or 'floor'")
    if len(hypotheses) != len(references) or not len(hypotheses):
        raise ValueError(
            f"{len(hypotheses)} hypotheses and {len(references)} lists of references; give as many, at least 1"
        )
    matches, totals = [0] * longest, [0] * longest
    hypothesis_words = reference_words = 0
    for i, (hypothesis, choices) in enumerate(zip(hypotheses, references, strict=True)):
        if isinstance(hypothesis, str) or not len(choices) or any(isinstance(choice, str) for choice in choices):
            raise ValueError(
                f"case {i}: give a list of words, and for it a list of at least one reference, each a list "
                "of words, e.g. text.split()"
            )
        hypothesis_words += len(hypothesis)
        reference_words += min((abs(len(choice) - len(hypothesis)), len(choice)) for choice in choices)[1]
        for n in range(1, longest + 1):
            allowed: Counter[tuple[str, ...]] = Counter()
            for choice in choices:
                allowed |= _ngrams(choice, n)  # the most often that any one reference has it
            found = _ngrams(hypothesis, n)
            matches[n - 1] += sum((found & allowed).values())
            totals[n - 1] += sum(found.values())
    if not any(matches) or not all(totals):
        return 0.0
    log_precision, missing = 0.0, 0
    for match, total in zip(matches, totals, strict=True):
        if match == 0:
            missing += 1
            match = {"none": 0.0, "exp": 0.5**missing, "floor": floor}[smoothing]
        if match == 0:
            return 0.0
        log_precision += math.log(match / total) / longest
    brevity = min(0.0, 1 - reference_words / hypothesis_words)
    return 100 * math.exp(brevity + log_precision)


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
