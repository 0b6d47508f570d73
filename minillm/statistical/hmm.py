"""Hidden Markov model: the words are seen, the states that wrote them are not, and each state chooses the next.

    p(words, states) = π(s₁) b(s₁, w₁) Π a(s_{t-1}, s_t) b(s_t, w_t)
    forward    α_t(j) = b(j, w_t) Σ_i α_{t-1}(i) a(i, j)          p(words) = Σ_j α_T(j)
    backward   β_t(i) = Σ_j a(i, j) b(j, w_{t+1}) β_{t+1}(j)      p(s_t = i | words) = α_t(i) β_t(i) / p(words)
    Viterbi    the forward recursion with max for Σ, and a note of where each maximum came from

All in logarithms, so that a long sentence does not underflow. Sentences are padded to one length and go through each
step of time together.

Paper:   Baum, Petrie, Soules and Weiss 1970; Viterbi 1967; told by Rabiner 1989, "A Tutorial on Hidden Markov Models
         and Selected Applications in Speech Recognition", §III.
Names:   start is Rabiner's π, transition his A, emission his B; state and tag are the same thing here.
Differs: words that were not learned share one column, "<unk>". There is no end state, so p is that of a sentence among
         those of its length.
Next:    notebooks/02-counting-words.ipynb
"""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from minillm.statistical.ngram_counts import UNKNOWN, UNKNOWN_ID, refuse_strings


class HMM:
    """A hidden Markov model over words: tags from tagged sentences, or states found without tags.

    states      how many states `fit_unsupervised` starts with; `fit_supervised` finds its own among the tags
    k           what `fit_supervised` adds to each count of a start, a transition and an emission ("<unk>" among them)
    min_count   words that are rarer are learned as "<unk>"
    seed        of the random start of `fit_unsupervised`

    After a fit: `tags` and `vocabulary` (lists), and `log_start` (tags), `log_transition` (tags, tags) and
    `log_emission` (tags, words), in nats; each row is a distribution.

    Unknown words: where "<unk>" was learned (k > 0, or rare words under `min_count`) it has a probability. Where it
    was not, and for any word that no state can write, `logprob` is -inf; `decode` and `posteriors` take the word as no
    evidence for any state.

    >>> model = HMM(k=0.1).fit_supervised([[("the", "D"), ("cat", "N")], [("a", "D"), ("dog", "N")]])
    >>> model.decode(["the", "dog"])
    ['D', 'N']
    """

    def __init__(self, states: int | None = None, *, k: float = 0.1, min_count: int = 1, seed: int = 0) -> None:
        if states is not None and states < 1:
            raise ValueError(f"states={states!r} must be at least 1, or None where the tags are given")
        if not 0 <= k < np.inf:
            raise ValueError(f"k={k!r} must be 0 or more and finite; 0 keeps the relative frequencies")
        if min_count < 1:
            raise ValueError(f"min_count={min_count!r} must be at least 1; 1 keeps every word")
        self.states, self.k, self.min_count, self.seed = states, k, min_count, seed
        self.tags: list[str] = []
        self.vocabulary: list[str] = []
        self.log_start = self.log_transition = self.log_emission = np.zeros(0)

    def fit_supervised(self, tagged: Sequence[Sequence[tuple[str, str]]]) -> "HMM":
        """Count tags and words in sentences of (word, tag) pairs, add k, and divide. Replaces what was learned.

        Empty sentences are left out. Raises ValueError when no pair remains.
        """
        tagged = [sentence for sentence in tagged if len(sentence)]
        if not tagged:
            raise ValueError("tagged holds no (word, tag) pair; give e.g. [[('the', 'D'), ('cat', 'N')]]")
        self.tags = sorted({tag for sentence in tagged for _, tag in sentence})
        self._learn_words([[word for word, _ in sentence] for sentence in tagged])
        row = {tag: i for i, tag in enumerate(self.tags)}
        size = len(self.tags)
        start, transition = np.full(size, self.k), np.full((size, size), self.k)
        emission = np.full((size, len(self.vocabulary)), self.k)
        for sentence in tagged:
            places = [row[tag] for _, tag in sentence]
            start[places[0]] += 1
            np.add.at(transition, (places[:-1], places[1:]), 1)
            np.add.at(emission, (places, self._ids([word for word, _ in sentence])), 1)
        self._hold(start, transition, emission)
        return self

    def fit_unsupervised(self, sequences: Sequence[Sequence[str]], iterations: int = 20) -> list[float]:
        """Learn from sentences without tags by Baum–Welch; return their log-likelihood in nats before each iteration
        and after the last, which never falls.

        Starts from what a fit before has learned (its words stay the known ones), or else from `states` random
        distributions. Empty sentences are left out. Raises ValueError when no word remains, or when the model that it
        starts from gives a sentence probability 0.
        """
        refuse_strings(sequences)
        if iterations < 0:
            raise ValueError(f"iterations={iterations!r} must be 0 or more; 20 is usual")
        sequences = [sequence for sequence in sequences if len(sequence)]
        if not sequences:
            raise ValueError("sequences holds no word; give at least one list of words that is not empty")
        if not self.tags:
            self._begin(sequences)
        # The same words in the same order are the same work: once, with a weight.
        times = Counter(map(tuple, sequences))
        word_nt, inside_nt = self._pad(list(times))
        weight_n = np.array(list(times.values()), np.float64)
        history: list[float] = []
        for iteration in range(iterations + 1):
            emit_nth, forward_nth = self._forward(word_nt, inside_nt)
            total_n = _logsumexp(forward_nth[:, -1], axis=-1)
            history.append(float(weight_n @ total_n))
            if history[-1] == -np.inf:
                i = int(np.flatnonzero(total_n == -np.inf)[0])
                raise ValueError(
                    f"the sentence {' '.join(list(times)[i])[:60]!r} has probability 0 under the model that "
                    "Baum–Welch starts from; fit with k > 0, or with a larger min_count"
                )
            if iteration < iterations:
                self._improve(word_nt, inside_nt, weight_n, emit_nth, forward_nth, total_n)
        return history

    def logprob(self, sequence: Sequence[str]) -> float:
        """Return log p(words) in nats, summed over all ways of tagging them; 0 for no words.

        >>> HMM(k=0).fit_supervised([[("a", "X"), ("b", "Y")]]).logprob(["a", "b"])
        0.0
        """
        if not self._checked(sequence):
            return 0.0
        _, forward_nth = self._forward(*self._pad([sequence]))
        return float(_logsumexp(forward_nth[0, -1], axis=-1))

    def decode(self, sequence: Sequence[str]) -> list[str]:
        """Return the most probable tags by Viterbi's recursion; of equals, the tag that sorts first."""
        if not self._checked(sequence):
            return []
        emit_th = self._evidence(sequence)
        best = self.log_start + emit_th[0]
        came_from: list[np.ndarray] = []
        for emit_h in emit_th[1:]:
            way = best[:, None] + self.log_transition
            came_from.append(way.argmax(0))
            best = way.max(0) + emit_h
        path = [int(best.argmax())]
        for before in reversed(came_from):
            path.append(int(before[path[-1]]))
        return [self.tags[state] for state in reversed(path)]

    def posteriors(self, sequence: Sequence[str]) -> np.ndarray:
        """Return p(tag at each place | all words), shape (words, tags); each row sums to 1.

        Raises ValueError when the transitions alone make the sentence impossible.
        """
        if not self._checked(sequence):
            return np.zeros((0, len(self.tags)))
        emit_nth = self._evidence(sequence)[None]
        inside_nt = np.ones(emit_nth.shape[:2], bool)
        log_nth = self._sweep(emit_nth, inside_nt) + self._sweep_back(emit_nth, inside_nt)
        total = _logsumexp(log_nth[0, -1], axis=-1)
        if total == -np.inf:
            raise ValueError(
                f"{' '.join(sequence)[:60]!r} has probability 0: no chain of tags writes it; fit with k > 0"
            )
        return np.exp(log_nth[0] - total)

    def _learn_words(self, sequences: Sequence[Sequence[str]]) -> None:
        refuse_strings(sequences)
        times = Counter(chain.from_iterable(sequences))
        self.vocabulary = [UNKNOWN, *sorted(w for w, n in times.items() if n >= self.min_count and w != UNKNOWN)]
        self._id = {word: i for i, word in enumerate(self.vocabulary)}

    def _begin(self, sequences: Sequence[Sequence[str]]) -> None:
        if self.states is None:
            raise ValueError(
                "states=None: say how many states to look for, e.g. HMM(states=5), or fit_supervised first"
            )
        self._learn_words(sequences)
        self.tags = [str(i) for i in range(self.states)]
        generator = np.random.default_rng(self.seed)
        # Near uniform and far from equal: equal states would stay equal for ever.
        sizes = (self.states,), (self.states, self.states), (self.states, len(self.vocabulary))
        self._hold(*(generator.uniform(0.5, 1.5, size) for size in sizes))

    def _hold(self, start: np.ndarray, transition: np.ndarray, emission: np.ndarray) -> None:
        """Keep the logarithms of counts divided by their row's total; a row without counts is uniform."""
        logs = []
        for table in (start, transition, emission):
            total = table.sum(-1, keepdims=True)
            share = np.divide(table, total, out=np.full(table.shape, 1 / table.shape[-1]), where=total > 0)
            with np.errstate(divide="ignore"):
                logs.append(np.log(share))
        self.log_start, self.log_transition, self.log_emission = logs

    def _checked(self, sequence: Sequence[str]) -> int:
        if not self.tags:
            raise RuntimeError("this model has learned nothing yet; call fit_supervised or fit_unsupervised first")
        refuse_strings([sequence])
        return len(sequence)

    def _ids(self, sequence: Sequence[str]) -> list[int]:
        return [self._id.get(word, UNKNOWN_ID) for word in sequence]

    def _evidence(self, sequence: Sequence[str]) -> np.ndarray:
        """Return log b(state, word) for each place and state; a word that no state can write says nothing."""
        emit_th = self.log_emission[:, self._ids(sequence)].T
        return np.where(np.isneginf(emit_th).all(-1, keepdims=True), 0.0, emit_th)

    def _pad(self, sequences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Return word ids and whether a place is inside its sentence. The padding stands in front: all end together."""
        length = max(map(len, sequences))
        word_nt = np.zeros((len(sequences), length), np.int64)
        inside_nt = np.zeros((len(sequences), length), bool)
        for i, sequence in enumerate(sequences):
            word_nt[i, length - len(sequence) :] = self._ids(sequence)
            inside_nt[i, length - len(sequence) :] = True
        return word_nt, inside_nt

    def _forward(self, word_nt: np.ndarray, inside_nt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        emit_nth = self.log_emission.T[word_nt]
        return emit_nth, self._sweep(emit_nth, inside_nt)

    def _sweep(self, emit_nth: np.ndarray, inside_nt: np.ndarray) -> np.ndarray:
        """Return log α; before a sentence it holds zeros that nothing reads."""
        forward_nth = np.zeros_like(emit_nth)
        for t in range(emit_nth.shape[1]):
            reached = np.broadcast_to(self.log_start, emit_nth[:, 0].shape)
            if t:
                stepped = _logsumexp(forward_nth[:, t - 1, :, None] + self.log_transition, axis=1)
                reached = np.where(inside_nt[:, t - 1, None], stepped, reached)
            forward_nth[:, t] = np.where(inside_nt[:, t, None], reached + emit_nth[:, t], 0.0)
        return forward_nth

    def _sweep_back(self, emit_nth: np.ndarray, inside_nt: np.ndarray) -> np.ndarray:
        """Return log β; before a sentence it holds numbers that nothing reads."""
        backward_nth = np.zeros_like(emit_nth)
        for t in range(emit_nth.shape[1] - 2, -1, -1):
            ahead = emit_nth[:, t + 1] + backward_nth[:, t + 1]
            backward_nth[:, t] = _logsumexp(self.log_transition + ahead[:, None, :], axis=2)
        return backward_nth

    def _improve(
        self,
        word_nt: np.ndarray,
        inside_nt: np.ndarray,
        weight_n: np.ndarray,
        emit_nth: np.ndarray,
        forward_nth: np.ndarray,
        total_n: np.ndarray,
    ) -> None:
        """One step of Baum–Welch: expected counts under the present model become the counts of the next."""
        backward_nth = self._sweep_back(emit_nth, inside_nt)
        state_nth = np.exp(forward_nth + backward_nth - total_n[:, None, None])
        state_nth = np.where(inside_nt[..., None], state_nth, 0.0) * weight_n[:, None, None]
        is_first_nt = inside_nt & ~np.pad(inside_nt, ((0, 0), (1, 0)))[:, :-1]
        transition = np.zeros_like(self.log_transition)
        for t in range(word_nt.shape[1] - 1):
            here = inside_nt[:, t]
            ahead = emit_nth[here, t + 1] + backward_nth[here, t + 1] - total_n[here, None]
            pair = forward_nth[here, t, :, None] + self.log_transition + ahead[:, None, :]
            transition += np.tensordot(weight_n[here], np.exp(pair), axes=1)
        emission = np.zeros_like(self.log_emission.T)
        np.add.at(emission, word_nt[inside_nt], state_nth[inside_nt])
        self._hold(state_nth[is_first_nt].sum(0), transition, emission.T)


def _logsumexp(values: np.ndarray, axis: int) -> np.ndarray:
    """Return log Σ exp along an axis; -inf throughout gives -inf."""
    peak = values.max(axis, keepdims=True)
    peak = np.where(np.isneginf(peak), 0.0, peak)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(values - peak).sum(axis)) + peak.squeeze(axis)
