"""N-gram models: the next word depends on the n-1 words before it, and its probability is counted.

    p(w₁ … w_T) = Π p(w_t | w_{t-n+1} … w_{t-1}),   with "<s>" before the first word and "</s>" as the last event

Every sentence is read as "<s> w₁ … w_T </s>", as KenLM does: one "<s>", which is a context and never an event; "</s>"
and "<unk>" are events. Perplexity is per event: the words and one "</s>" a sentence, unknown words as "<unk>".
However the counts are smoothed (`smoothing.py`), the model is held in one form: the probability of each n-gram seen,
and for each context the weight with which an unseen word asks the shorter context.

Paper:   Shannon 1948, "A Mathematical Theory of Communication", §3; Chen and Goodman 1998, "An Empirical Study of
         Smoothing Techniques for Language Modeling"; backoff form: Katz 1987; speech: Jelinek 1976.
Names:   order is n; an n-gram *contains* the predicted word, so an order-n model looks back n-1 words.
Differs: a context that was never seen is shortened until it was, in "mle" too, where the quotient would be 0/0.
Next:    minillm/statistical/sampling.py
"""

import math
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np

from minillm.core.settings import check_whole_numbers
from minillm.statistical import arpa, information
from minillm.statistical.ngram_counts import (
    END_ID,
    START,
    UNKNOWN_ID,
    count_ngrams,
    encode,
    find,
    learn_ids,
    walk,
)
from minillm.statistical.smoothing import Level, add_k, held_out_weights, jelinek_mercer, kneser_ney, maximum_likelihood

if TYPE_CHECKING:
    import torch

Smoothing = Literal["mle", "add-k", "interpolated", "kneser-ney"]
MAX_ORDER = arpa.MAX_ORDER


class NGramModel:
    """An n-gram model of order 1 to 6 over words.

    smoothing   "mle"           relative frequencies; an unseen word has log-probability -inf, its text perplexity inf
                "add-k"         `k` is added to every count
                "interpolated"  Jelinek–Mercer; `weights` λ₁ … λₙ in [0, 1], or None: found on held-out sentences
                "kneser-ney"    interpolated, modified; `discount` None: three discounts an order, estimated
    discount    one number in [0, 1] for all counts and orders (Kneser and Ney's unmodified form), or one an order
    vocabulary  the words that are known; None: those that occur at least `min_count` times. All others are "<unk>"

    After `fit`, `vocabulary` lists the events in the order of `logprobs`: "<unk>", "</s>", then the words as they were
    first met.

    >>> model = NGramModel(order=2).fit([["the", "cat", "sat"], ["the", "dog", "sat"]])
    >>> model.logprob("cat", ["the"]) > model.logprob("sat", ["the"])
    True
    >>> round(float(np.exp(model.logprobs(["the"])).sum()), 9)
    1.0
    """

    def __init__(
        self,
        order: int = 3,
        smoothing: Smoothing = "kneser-ney",
        *,
        k: float = 1.0,
        weights: Sequence[float] | None = None,
        discount: float | Sequence[float] | None = None,
        vocabulary: Iterable[str] | None = None,
        min_count: int = 1,
    ) -> None:
        check_whole_numbers({"order": (order, 3), "min_count": (min_count, 1)})
        if order > MAX_ORDER:
            raise ValueError(f"order={order} must be at most {MAX_ORDER}; order=3 is usual")
        if smoothing not in get_args(Smoothing):
            raise ValueError(f"smoothing={smoothing!r} is not known; use one of {', '.join(get_args(Smoothing))}")
        if not 0 < k < math.inf:
            raise ValueError(f"k={k!r} must be above 0 and finite; 1 is Laplace's, smoothing='mle' adds nothing")
        if weights is not None and (len(weights) != order or not all(0 <= w <= 1 for w in weights)):
            raise ValueError(
                f"weights={weights!r} must be {order} numbers in [0, 1], unigrams first, e.g. {[0.5] * order}"
            )
        discounts = [float(discount)] * order if isinstance(discount, (int, float)) else discount
        if discounts is not None and (len(discounts) != order or not all(0 <= d <= 1 for d in discounts)):
            raise ValueError(f"discount={discount!r} must be a number in [0, 1] or {order} of them, e.g. 0.75")
        if isinstance(vocabulary, str):
            raise ValueError(f"vocabulary={vocabulary[:30]!r} is one string; give the words as a list or set")
        self.order, self.smoothing, self.k, self.weights, self.min_count = order, smoothing, k, weights, min_count
        self.discounts = None if discounts is None else [(d, d, d) for d in discounts]
        self._given = None if vocabulary is None else tuple(vocabulary)
        self.vocabulary: list[str] = []
        self._ids: dict[str, int] = {}
        self._levels: list[Level] = []
        self._counts: list[np.ndarray] | None = None

    def fit(self, sentences: Iterable[Sequence[str]]) -> Self:
        """Count the sentences, each a list of words, and smooth; replaces what was counted before.

        An empty sentence counts: it says that "</s>" may follow "<s>". Orders longer than every sentence stay empty
        and the model answers from shorter contexts. Raises ValueError when there is no sentence, a sentence is a bare
        string, or a word is "<s>" or "</s>".
        """
        sentences = sentences if isinstance(sentences, Sequence) else list(sentences)
        if not len(sentences) or isinstance(sentences, str):
            raise ValueError("sentences holds no sentence; give at least one list of words, e.g. [['a', 'b']]")
        ids, id_t = learn_ids(sentences, self.min_count, self._given)
        events = ids[START]
        counts = count_ngrams(id_t, self.order, events)
        if self.smoothing == "mle":
            levels = maximum_likelihood(counts)
        elif self.smoothing == "add-k":
            levels = add_k(counts, self.k)
        elif self.smoothing == "interpolated":
            weights = self.weights
            if weights is None:
                weights = held_out_weights(id_t, self.order, events)
            levels = jelinek_mercer(counts, weights)
        else:
            levels = kneser_ney(counts, self.discounts)
        self._hold(levels, ids)
        self._counts = [found.count_n for found in counts]
        return self

    def logprob(self, word: str, context: Sequence[str] = ()) -> float:
        """Return log p(word | context) in nats; only the last order-1 words of the context matter.

        Start a context with "<s>" where the sentence starts; without it the words may stand anywhere. An unknown word
        is "<unk>". "<s>" itself is never predicted: -inf.

        >>> NGramModel(order=1, smoothing="mle").fit([["a", "a", "a"]]).logprob("a")  # log(3 / 4)
        -0.2876820724517809
        """
        if word == START:
            return -math.inf
        id_t = np.append(self._context_ids(context, self.order - 1), self._ids.get(word, UNKNOWN_ID))
        return float(self._score(id_t)[-1])

    def logprobs(self, context: Sequence[str] = ()) -> np.ndarray:
        """Return log p(word | context) in nats for every word of `vocabulary`, shape (v,); exp of it sums to 1."""
        events = self._events()
        id_t = self._context_ids(context, self.order - 1)
        log_p_v = self._levels[0].log_prob_n[:events].copy()
        for n in range(1, len(id_t) + 1):
            node = self._node(id_t[len(id_t) - n :])
            backoff = self._levels[n - 1].log_backoff_n[node] if node >= 0 else 0.0
            if self.smoothing == "add-k":
                log_p_v[:] = backoff if node >= 0 else -math.log(events)
            else:
                log_p_v += backoff
            if node >= 0:
                level = self._levels[n]
                low, high = np.searchsorted(level.key_n, [node * events, (node + 1) * events])
                log_p_v[level.key_n[low:high] - node * events] = level.log_prob_n[low:high]
        return log_p_v

    def word_logprobs(self, sentence: Sequence[str]) -> np.ndarray:
        """Return log p in nats of each word of a sentence and of its "</s>", shape (words + 1,)."""
        self._events()
        return self._score(encode([sentence], self._ids))[1:]

    def sentence_logprob(self, sentence: Sequence[str]) -> float:
        """Return log p(sentence, "</s>") in nats: ln 10 times KenLM's score. An empty one is "</s>" after "<s>"."""
        return float(self.word_logprobs(sentence).sum())

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """Return exp of the mean surprise per event, over all words and one "</s>" for each sentence.

        Infinite when any event has probability 0. Raises ValueError when there is no sentence.
        """
        events = self._events()
        sentences = sentences if isinstance(sentences, Sequence) else list(sentences)
        if not len(sentences) or isinstance(sentences, str):
            raise ValueError("sentences holds no sentence; perplexity is a mean and needs at least one list of words")
        id_t = encode(sentences, self._ids)
        return information.perplexity(max(0.0, -float(self._score(id_t)[id_t < events].mean())))

    def sample(
        self,
        generator: "torch.Generator | None" = None,
        *,
        context: Sequence[str] = (START,),
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        max_words: int = 100,
    ) -> list[str]:
        """Draw words after `context` until "</s>" (left out) or `max_words`, with `sample_next` and its arguments."""
        from minillm.statistical.sampling import sample_next  # torch is loaded only when something is drawn

        words: list[str] = []
        while len(words) < max_words:
            logits = self.logprobs([*context, *words])
            chosen = int(sample_next(logits, temperature, top_k, top_p, generator))
            if chosen == END_ID:
                break
            words.append(self.vocabulary[chosen])
        return words

    def count(self, ngram: Sequence[str]) -> int:
        """Return how often an n-gram of 1 to `order` words was seen in `fit`; "<s>" and "</s>" may take part.

        >>> NGramModel(order=2).fit([["a", "b"], ["a", "c"]]).count(["<s>", "a"])
        2
        """
        if self._counts is None:
            raise RuntimeError("this model holds no counts; call fit(sentences) first")
        if not 1 <= len(ngram) <= self.order:
            raise ValueError(f"ngram={list(ngram)!r} has {len(ngram)} words; this model counted 1 to {self.order}")
        node = self._node(np.array([self._ids.get(word, UNKNOWN_ID) for word in ngram]))
        return int(self._counts[len(ngram) - 1][node]) if node >= 0 else 0

    @property
    def sizes(self) -> list[int]:
        """How many different n-grams the model holds, for each order; unigrams with "<unk>", "<s>" and "</s>"."""
        return [len(level.key_n) for level in self._levels]

    def to_arpa(self, path: str | os.PathLike[str]) -> None:
        """Write the model as an ARPA file that KenLM reads, atomically.

        Raises ValueError for "add-k" above order 1: there an unseen word has the same probability whatever the
        shorter context says, and ARPA has no way to say that.
        """
        self._events()
        if self.smoothing == "add-k" and self.order > 1:
            raise ValueError(
                f"smoothing='add-k' with order={self.order} is no backoff model, so ARPA cannot hold it; "
                "use 'kneser-ney' or 'interpolated'"
            )
        arpa.write_arpa(path, self._levels, self.vocabulary)

    @classmethod
    def from_arpa(cls, path: str | os.PathLike[str]) -> "NGramModel":
        """Read a model from an ARPA file, ours or another program's; its `smoothing` reads "arpa", it has no counts.

        Raises ValueError with the line number where the file is malformed.
        """
        levels, vocabulary = arpa.read_arpa(path)
        model = cls(order=len(levels))
        model.smoothing = "arpa"
        model._hold(levels, {word: i for i, word in enumerate([*vocabulary, START])})
        return model

    def _hold(self, levels: list[Level], ids: dict[str, int]) -> None:
        self._levels, self._ids, self.vocabulary = levels, ids, list(ids)[:-1]  # all but "<s>"

    def _events(self) -> int:
        if not self._levels:
            raise RuntimeError("this model has counted nothing yet; call fit(sentences) first")
        return len(self.vocabulary)

    def _context_ids(self, words: Sequence[str], longest: int) -> np.ndarray:
        self._events()
        if isinstance(words, str):
            raise ValueError(f"context={words!r} is a string; give a list of words, e.g. {words.split()!r}")
        words = list(words[max(0, len(words) - longest) :])
        if START in words:  # what stands before a sentence is no part of its context
            words = words[len(words) - 1 - words[::-1].index(START) :]
        return np.array([self._ids.get(word, UNKNOWN_ID) for word in words], np.int64)

    def _node(self, id_t: np.ndarray) -> int:
        """Return the node of one n-gram, or -1."""
        node = int(id_t[0])
        for level, word in zip(self._levels[1:], id_t[1:].tolist(), strict=False):
            if node < 0 or word >= len(self.vocabulary):
                return -1
            node = int(find(level.key_n, np.array([node * len(self.vocabulary) + word]))[0])
        return node

    def _score(self, id_t: np.ndarray) -> np.ndarray:
        """Return log p of each id given those before it; a sentence starts at "<s>", whose own value means nothing."""
        events = len(self.vocabulary)
        log_p_t = self._levels[0].log_prob_n[id_t]
        place_t = np.arange(len(id_t))  # how many ids of the same sentence stand before
        place_t = place_t - np.maximum.accumulate(np.where(id_t == events, place_t, 0))
        nodes = walk([level.key_n for level in self._levels], id_t, events)
        for n, (context_t, node_t) in enumerate(nodes, start=1):
            known, seen = context_t >= 0, node_t >= 0
            if self.smoothing == "add-k":
                log_p_t = np.where(place_t >= n, -math.log(events), log_p_t)
                log_p_t[known] = 0.0
            log_p_t[known] += self._levels[n - 1].log_backoff_n[context_t[known]]
            log_p_t[seen] = self._levels[n].log_prob_n[node_t[seen]]
        return log_p_t
