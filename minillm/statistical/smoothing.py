"""Smoothing: turn counts into probabilities that leave something for what was never seen.

Three of the four ways are one formula. Each count gives up a part, and what a context's counts gave up is spread
by the shorter context's probabilities:

    p(w | h) = (c(h w) - removed(h w)) / c(h) + γ(h) · p(w | h'),      γ(h) = Σ_w removed(h w) / c(h)

with h' = h without its first word; below the unigrams stands the uniform 1/V. The ways differ in `removed`:
    mle            0: the seen keep everything
    interpolated   (1 - λₙ) c: a fixed share at each order n (Jelinek–Mercer)
    kneser-ney     D₁, D₂ or D₃₊ for a count of 1, 2 or more, and counts of contexts below the highest order
    add-k          is not of this form: p(w | h) = (c(h w) + k) / (c(h) + k V), whatever the shorter context says

Paper:   Chen and Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling", §2.3 (Jelinek
         and Mercer), §2.7 (Kneser and Ney 1995), §3 (modified, equations 24–26); the fallback is that of KenLM.
Names:   h is their wᵢ₋ₙ₊₁ⁱ⁻¹, Y their Y; `removed` is what they call a discount.
Differs: λ is one number an order, not one for each class of context counts. Where the discounts cannot be estimated
         (no n-gram with adjusted count 1, 2 or 3, or an estimate outside (0, count]) an order uses 0.5, 1, 1.5.
Next:    minillm/statistical/ngram.py
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minillm.statistical.ngram_counts import OrderCounts, continuation_counts, count_ngrams, walk

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """The n-grams of one order as a backoff model holds them, sorted by key (see `ngram_counts`)."""

    key_n: np.ndarray
    log_prob_n: np.ndarray  # nats, given the n-1 words before
    log_backoff_n: np.ndarray  # nats, spent when this n-gram is the context of an unseen word; 0 if nothing follows it


def interpolate(counts: list[OrderCounts], used: list[np.ndarray], removed: list[np.ndarray]) -> list[Level]:
    """Build the levels from the counts `used` at each order and what is `removed` from each.

    >>> counts = count_ngrams(np.array([3, 2, 2, 1]), order=1, events=3)
    >>> used = continuation_counts(counts)
    >>> np.exp(interpolate(counts, used, [0.5 * c for c in used])[0].log_prob_n).round(4).tolist()
    [0.1667, 0.3333, 0.5, 0.0]
    """
    events = len(counts[0].key_n) - 1
    prob = np.append(np.full(events, 1 / events), 0.0)  # the uniform below the unigrams; "<s>" is never an event
    contexts = 1
    levels: list[Level] = []
    backoffs: list[np.ndarray] = []
    for order, (found, count, loss) in enumerate(zip(counts, used, removed, strict=True)):
        total = np.bincount(found.context_n, count, minlength=contexts)
        spared = np.bincount(found.context_n, loss, minlength=contexts)
        backoff = np.divide(spared, total, out=np.ones(contexts), where=total > 0)
        lower = prob if order == 0 else prob[found.suffix_n]
        prob = (count - loss) / total[found.context_n] + backoff[found.context_n] * lower
        contexts = len(found.key_n)
        backoffs.append(backoff)
        with np.errstate(divide="ignore"):
            levels.append(Level(key_n=found.key_n, log_prob_n=np.log(prob), log_backoff_n=np.zeros(contexts)))
    with np.errstate(divide="ignore"):  # what a context gives up is known one order above it
        for level, backoff in zip(levels, backoffs[1:], strict=False):
            level.log_backoff_n[:] = np.log(backoff)
    return levels


def add_k(counts: list[OrderCounts], k: float) -> list[Level]:
    """Build levels by adding k to each count. Here `log_backoff_n` is the final log-probability of an unseen word.

    >>> levels = add_k(count_ngrams(np.array([3, 2, 2, 1]), order=1, events=3), k=1)
    >>> np.exp(levels[0].log_prob_n).round(4).tolist()  # (0 + 1, 1 + 1, 2 + 1) / (3 + 3)
    [0.1667, 0.3333, 0.5, 0.0]
    """
    events = len(counts[0].key_n) - 1
    levels: list[Level] = []
    for order, found in enumerate(counts):
        count = np.where(found.at_start_n, 0, found.count_n) if order == 0 else found.count_n
        total = np.bincount(found.context_n, count, minlength=len(levels[-1].key_n) if levels else 1)
        if levels:
            levels[-1].log_backoff_n[:] = np.log(k / (total + k * events))
        log_prob = np.log((count + k) / (total[found.context_n] + k * events))
        if order == 0:
            log_prob[-1] = -math.inf
        levels.append(Level(key_n=found.key_n, log_prob_n=log_prob, log_backoff_n=np.zeros(len(found.key_n))))
    return levels


def maximum_likelihood(counts: list[OrderCounts]) -> list[Level]:
    """Build levels by relative frequency: an unseen word after a seen context has probability 0.

    >>> levels = maximum_likelihood(count_ngrams(np.array([3, 2, 2, 1]), order=1, events=3))
    >>> np.exp(levels[0].log_prob_n).round(4).tolist()
    [0.0, 0.3333, 0.6667, 0.0]
    """
    return jelinek_mercer(counts, [1.0] * len(counts))


def jelinek_mercer(counts: list[OrderCounts], weights: Sequence[float]) -> list[Level]:
    """Build levels by mixing each order's frequencies, with weight λₙ, into the order below.

    >>> levels = jelinek_mercer(count_ngrams(np.array([3, 2, 2, 1]), order=1, events=3), [0.5])
    >>> np.exp(levels[0].log_prob_n).round(4).tolist()
    [0.1667, 0.3333, 0.5, 0.0]
    """
    used = [np.where(counts[0].at_start_n, 0, counts[0].count_n), *(found.count_n for found in counts[1:])]
    return interpolate(counts, used, [(1 - weight) * c for weight, c in zip(weights, used, strict=True)])


def kneser_ney(counts: list[OrderCounts], discounts: Sequence[Sequence[float]] | None = None) -> list[Level]:
    """Build levels by interpolated Kneser–Ney with the discounts of each order for counts 1, 2 and 3 or more.

    None estimates them from the counts of counts (modified Kneser–Ney).

    >>> counts = count_ngrams(np.array([3, 2, 2, 1]), order=2, events=3)
    >>> np.exp(kneser_ney(counts)[1].log_prob_n).round(4).tolist()  # a </s>, a a, <s> a
    [0.4167, 0.5, 0.75]
    """
    used = continuation_counts(counts)
    if discounts is None:
        discounts = [estimate_discounts(c) for c in used]
    removed = [np.array([0.0, *d])[np.minimum(c, 3)] for c, d in zip(used, discounts, strict=True)]
    return interpolate(counts, used, removed)


def estimate_discounts(count_n: np.ndarray) -> tuple[float, float, float]:
    """Return D₁, D₂, D₃₊ of Chen and Goodman: Dⱼ = j - (j+1) Y nⱼ₊₁ / nⱼ with Y = n₁ / (n₁ + 2 n₂).

    nⱼ is how many n-grams have the (adjusted) count j. Where one of n₁, n₂, n₃ is 0, or an estimate falls outside
    (0, j], the answer is `FALLBACK_DISCOUNTS`, so that every context keeps something for the unseen.

    >>> [round(d, 3) for d in estimate_discounts(np.repeat([1, 2, 3, 4], [10, 4, 2, 1]))]
    [0.556, 1.167, 1.889]
    >>> estimate_discounts(np.array([7, 7, 9]))
    (0.5, 1.0, 1.5)
    """
    n1, n2, n3, n4 = (int(n) for n in np.bincount(np.minimum(count_n, 5), minlength=5)[1:5])
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    estimate = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return estimate if all(0 < d <= j for j, d in enumerate(estimate, start=1)) else FALLBACK_DISCOUNTS


def held_out_weights(id_t: np.ndarray, order: int, events: int, sweeps: int = 30) -> list[float]:
    """Return λ₁ … λₙ for `jelinek_mercer`, by expectation–maximisation on every tenth sentence, held out of the counts.

    Each held-out word was "written by" one order: start at the longest context that was seen, take that order with
    probability λ, else drop the first word and ask again. E: how likely is each order to have written each word. M: λₙ
    is the share of words that stopped at n among those that came as far as n. An order that nothing reaches keeps 0.5,
    and so do all when there are fewer than two sentences.

    >>> held_out_weights(np.array([3, 2, 1]), order=2, events=3)
    [0.5, 0.5]
    """
    sentence_t = np.cumsum(id_t == events) - 1
    if sentence_t[-1] == 0:
        return [0.5] * order
    held = sentence_t % 10 == 9 if sentence_t[-1] >= 9 else sentence_t == sentence_t[-1]
    levels = maximum_likelihood(count_ngrams(id_t[~held], order, events))
    unseen = id_t[held]
    event = unseen != events
    prob, asked = [np.exp(levels[0].log_prob_n[unseen])[event]], [np.ones(int(event.sum()), bool)]
    for level, (context, node) in zip(levels[1:], walk([x.key_n for x in levels], unseen, events), strict=True):
        found = np.zeros(len(unseen))
        found[node >= 0] = np.exp(level.log_prob_n[node[node >= 0]])
        prob.append(found[event])
        asked.append(context[event] >= 0)
    weights = np.full(order, 0.5)
    for _ in range(sweeps):
        reached = np.ones(len(prob[0]))  # how likely a word is to come down to this order
        wrote: list[np.ndarray] = []
        for n in reversed(range(order)):
            weight = weights[n] * asked[n]
            wrote.insert(0, reached * weight * prob[n])
            reached = reached * (1 - weight)
        wrote.insert(0, reached / events)
        share = np.array(wrote) / np.sum(wrote, axis=0)
        came = np.cumsum(share, axis=0)[1:]  # written at this order or below it
        for n in range(order):
            if total := float(came[n][asked[n]].sum()):
                # An order never keeps everything: a weight of exactly 1 would forbid the unseen.
                weights[n] = min(float(share[n + 1].sum()) / total, 1 - 1e-6)
    return weights.tolist()
