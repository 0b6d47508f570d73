"""NGramModel and nltk where their definitions coincide.

nltk's interpolated Kneser–Ney has one fixed discount D from order 2 up, and unigrams neither discounted nor mixed with
the uniform: our `discount=[0, D, ..., D]`. nltk writes order-1 copies of "<s>" before a sentence and counts "<s>" as an
event; it takes continuation counts where a context begins with "<s>", which has nothing before it. So they coincide for
order 2 with nltk's own padding, and for higher orders when it is given sentences with one "<s>", except for a context
that is "<s>" alone, where nltk divides 0 by 0.
"""

import math
from itertools import chain

import pytest
from nltk.lm import MLE, KneserNeyInterpolated, Lidstone
from nltk.lm.preprocessing import padded_everygram_pipeline
from nltk.util import everygrams

from minillm.statistical.ngram import NGramModel

CORPUS = [line.split() for line in ["a b c a b", "b c a", "a b c d", "d d a b", "c", "a c b d a b c", "b a"]]
EVENTS = ["a", "b", "c", "d", "</s>"]


def with_one_start(model, order):
    padded = [["<s>", *sentence, "</s>"] for sentence in CORPUS]
    model.fit([list(everygrams(sentence, max_len=order)) for sentence in padded], list(chain(*padded)))
    return model


@pytest.mark.parametrize("discount", [0.1, 0.75])
def test_kneser_ney_of_order_2(discount):
    theirs = KneserNeyInterpolated(2, discount=discount)
    theirs.fit(*padded_everygram_pipeline(2, CORPUS))
    ours = NGramModel(2, discount=[0, discount]).fit(CORPUS)
    for context in ([], ["<s>"], ["a"], ["b"], ["c"], ["d"], ["never"]):
        for word in EVENTS:
            assert math.exp(ours.logprob(word, context)) == pytest.approx(theirs.score(word, context), abs=1e-12)


@pytest.mark.parametrize("order", [3, 4])
def test_kneser_ney_of_higher_order_with_one_start(order):
    theirs = with_one_start(KneserNeyInterpolated(order, discount=0.6), order)
    ours = NGramModel(order, discount=[0, *[0.6] * (order - 1)]).fit(CORPUS)
    contexts = ["a", "d", "a b", "b c", "d d", "c c"] + ([] if order == 4 else ["<s> a", "<s> c"])
    if order == 4:
        contexts += ["a b c", "<s> a b", "d d a", "c b a"]
    for context in map(str.split, contexts):
        for word in EVENTS:
            assert math.exp(ours.logprob(word, context)) == pytest.approx(theirs.score(word, context), abs=1e-12)
    with pytest.raises(ZeroDivisionError):
        theirs.score("a", ["<s>"])


@pytest.mark.parametrize("order", [2, 3])
def test_relative_frequency_and_add_k(order):
    events = len(EVENTS) + 1  # with "<unk>"; nltk counts "<s>" too, so its k is scaled to spread the same mass
    frequency, lidstone = with_one_start(MLE(order), order), with_one_start(Lidstone(0.3, order), order)
    assert len(lidstone.vocab) == events + 1
    mle, add_k = NGramModel(order, "mle").fit(CORPUS), NGramModel(order, "add-k", k=0.3).fit(CORPUS)
    for context in (["<s>", "a"], ["a", "b"], ["d", "d"], ["b", "c"]):
        context = context[max(0, len(context) - order + 1) :]
        total = lidstone.context_counts(tuple(context)).N()
        for word in EVENTS:
            assert math.exp(mle.logprob(word, context)) == pytest.approx(frequency.score(word, context), abs=1e-12)
            theirs = lidstone.score(word, context) * (total + 0.3 * (events + 1)) / (total + 0.3 * events)
            assert math.exp(add_k.logprob(word, context)) == pytest.approx(theirs, abs=1e-12)
