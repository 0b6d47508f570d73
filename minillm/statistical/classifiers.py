"""Two classifiers of texts that are counted, not read: naive Bayes by dividing, logistic regression by climbing.

    naive Bayes            p(c | x) ∝ p(c) Π θ(c, word) ^ x(word)        θ(c, word) = (N(c, word) + k) / (N(c) + k V)
    logistic regression    p(c | x) = softmax(b + x W)[c]                least  -Σ log p(c | x) + λ/2 ‖W‖²

Both draw a plane through the space of counts. Naive Bayes gets its plane from one pass of counting, under the false
belief that words are independent given the class: two words that always come together count as two witnesses.
Logistic regression believes nothing about the words and looks for the plane that tells the classes apart best.

Paper:   McCallum and Nigam 1998, "A Comparison of Event Models for Naive Bayes Text Classification", §2, the
         multinomial model; Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical Learning", §4.4.1.
Names:   x(word) is how often the word stands in the text, N the counts of a class, λ is `l2`, scikit-learn's 1 / C.
Differs: with two classes W is one column, the first class scoring 0; with more, each class has one, and the freedom to
         add the same to all biases, which changes nothing, is removed. The biases are not drawn to zero.
Next:    minillm/statistical/hmm.py
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Self

import numpy as np

from minillm.statistical.ngram_counts import refuse_strings


class BagOfWords:
    """Texts as counts of words, their order forgotten. A word that was not learned is left out.

    >>> bag = BagOfWords.learn([["to", "be", "or", "not", "to", "be"], ["to", "go"]])
    >>> bag.words
    ['be', 'go', 'not', 'or', 'to']
    >>> bag.counts([["to", "be", "to", "swim"]]).tolist()
    [[1.0, 0.0, 0.0, 0.0, 2.0]]
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = list(words)
        self._column = {word: i for i, word in enumerate(self.words)}
        if not self.words or len(self._column) < len(self.words):
            raise ValueError("words must hold at least one word, and each once; BagOfWords.learn(texts) finds them")

    @classmethod
    def learn(cls, texts: Sequence[Sequence[str]], min_count: int = 1) -> Self:
        """Number the words that occur at least `min_count` times in the texts, which are lists of words."""
        refuse_strings(texts)
        times = Counter(word for text in texts for word in text)
        if not (words := sorted(word for word in times if times[word] >= min_count)):
            raise ValueError(
                f"no word occurs min_count={min_count!r} times in {len(texts)} texts; min_count=1 keeps all"
            )
        return cls(words)

    def counts(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """Count the known words of each text: float64 (texts, words)."""
        refuse_strings(texts)
        count_nv = np.zeros((len(texts), len(self.words)))
        for row, text in enumerate(texts):
            for word, times in Counter(text).items():
                if (column := self._column.get(word)) is not None:
                    count_nv[row, column] = times
        return count_nv


class Classifier:
    """What both have in common: linear scores, and the choice of the class that scores most.

    After `fit`: `classes` (sorted), `weight` (features, classes) and `bias` (classes,), the latter two in nats.
    """

    def __init__(self) -> None:
        self.classes: list[Any] = []
        self.weight, self.bias = np.zeros((0, 0)), np.zeros(0)

    def log_probabilities(self, x_nd: np.ndarray) -> np.ndarray:
        """log p(class | x) in nats, (n, classes), for features (n, d); each row sums to one after `exp`."""
        if not self.classes:
            raise ValueError(f"this {type(self).__name__} has learned nothing yet; call fit(x, labels) first")
        x_nd = np.asarray(x_nd, np.float64)
        if x_nd.ndim != 2 or x_nd.shape[1] != len(self.weight):
            raise ValueError(f"x has shape {x_nd.shape}; the rule is (cases, {len(self.weight)}), as in fit")
        return _log_softmax(x_nd @ self.weight + self.bias)

    def predict(self, x_nd: np.ndarray) -> list[Any]:
        """The likeliest class of each case; of equal ones the first."""
        return [self.classes[i] for i in self.log_probabilities(x_nd).argmax(axis=1)]

    def _learn_classes(self, x_nd: np.ndarray, labels: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
        """The features as float64, and the labels as rows of zeros with a one, (n, classes)."""
        x_nd = np.asarray(x_nd, np.float64)
        if x_nd.ndim != 2 or len(x_nd) != len(labels) or not len(labels):
            raise ValueError(f"x has shape {x_nd.shape} and there are {len(labels)} labels; give a row for each label")
        if not np.isfinite(x_nd).all():
            raise ValueError("x has something in it that is not a finite number; every feature must be one")
        self.classes = sorted(set(labels))  # type: ignore[type-var]
        if len(self.classes) < 2:
            raise ValueError(f"all labels are {self.classes[0]!r}; there must be at least two classes to tell apart")
        return x_nd, np.array([[label == each for each in self.classes] for label in labels], np.float64)


class NaiveBayes(Classifier):
    """Multinomial naive Bayes over counts; `k` is added to each count of a word in a class (1 is Laplace's).

    >>> texts = [["good", "good"], ["good", "tea"], ["bad", "tea"]]
    >>> bag = BagOfWords.learn(texts)
    >>> model = NaiveBayes(k=1).fit(bag.counts(texts), ["+", "+", "-"])
    >>> np.exp(model.log_probabilities(bag.counts([["good"]]))).round(3).tolist()  # 2/3 · 4/7 against 1/3 · 1/5
    [[0.851, 0.149]]
    """

    def __init__(self, k: float = 1.0) -> None:
        if not 0 < k < np.inf:
            raise ValueError(
                f"k={k!r} must be above 0 and finite, or a word unseen in a class rules it out; 1 is usual"
            )
        super().__init__()
        self.k = k

    def fit(self, x_nd: np.ndarray, labels: Sequence[Hashable]) -> Self:
        """Count, add k, divide. `x_nd` are counts (cases, words), 0 or more."""
        x_nd, one_hot = self._learn_classes(x_nd, labels)
        if (x_nd < 0).any():
            raise ValueError(f"x has the count {x_nd.min()}; counts are 0 or more; LogisticRegression takes any number")
        counts = x_nd.T @ one_hot + self.k
        self.weight = np.log(counts / counts.sum(axis=0))
        self.bias = np.log(one_hot.mean(axis=0))
        return self


class LogisticRegression(Classifier):
    """Softmax regression on any features, fitted to the exact optimum by Newton's method.

    `l2` is λ: how strongly the weights are drawn to zero; without it two classes that a plane separates would have no
    optimum. `max_steps` is a guard: about ten are taken. Memory and time grow as (features · classes)² and ³.

    >>> x, labels = np.array([[-2.0], [-1.0], [1.0], [2.0]]), ["no", "no", "yes", "yes"]
    >>> model = LogisticRegression(l2=0.1).fit(x, labels)
    >>> model.predict(np.array([[-0.5], [0.5]]))
    ['no', 'yes']
    """

    def __init__(self, l2: float = 1.0, max_steps: int = 100) -> None:
        if not 0 < l2 < np.inf:
            raise ValueError(f"l2={l2!r} must be above 0 and finite; 1.0 is usual")
        if max_steps < 1:
            raise ValueError(f"max_steps={max_steps!r} must be at least 1; 100 is plenty")
        super().__init__()
        self.l2, self.max_steps = l2, max_steps

    def fit(self, x_nd: np.ndarray, labels: Sequence[Hashable]) -> Self:
        """Find the least of the loss at the head of this file; features (cases, d) and their labels."""
        x_nd, one_hot = self._learn_classes(x_nd, labels)
        with_one = np.column_stack([x_nd, np.ones(len(x_nd))])  # the bias is the weight of a feature that is always 1
        free = slice(1, None) if len(self.classes) == 2 else slice(None)  # of two classes the first scores 0
        theta = np.zeros((with_one.shape[1], len(self.classes)))
        value = self._loss(theta, with_one, one_hot, free)
        for _ in range(self.max_steps):
            slope, curvature = self._derivatives(theta, with_one, one_hot, free)
            step = np.zeros_like(theta)
            step[:, free] = np.linalg.solve(curvature, slope.ravel()).reshape(slope.shape)
            promised = float((step[:, free] * slope).sum())  # twice what the parabola says the step will gain
            if promised <= 1e-8 * max(1.0, value):
                theta = theta - step  # so near, the parabola is the loss: this step ends at the optimum
                break
            length = 1.0  # the loss is convex, so a short enough step always gains; most of the time a whole one does
            while (
                new := self._loss(theta - length * step, with_one, one_hot, free)
            ) > value - 1e-4 * length * promised:
                length /= 2
            theta, value = theta - length * step, new
        self.weight, self.bias = theta[:-1], theta[-1]
        return self

    def _loss(self, theta: np.ndarray, x_nd: np.ndarray, one_hot: np.ndarray, free: slice) -> float:
        return float(0.5 * self.l2 * (theta[:-1, free] ** 2).sum() - (one_hot * _log_softmax(x_nd @ theta)).sum())

    def _derivatives(
        self, theta: np.ndarray, x_nd: np.ndarray, one_hot: np.ndarray, free: slice
    ) -> tuple[np.ndarray, np.ndarray]:
        """The slope (d, free classes) of the loss, and its curvature over the same numbers in a row."""
        probability = np.exp(_log_softmax(x_nd @ theta))[:, free]
        decay = np.full((len(theta), 1), self.l2)
        decay[-1] = 0.0
        slope = x_nd.T @ (probability - one_hot[:, free]) + decay * theta[:, free]
        d, classes = slope.shape
        curvature = np.zeros((d, classes, d, classes))
        for a in range(classes):
            for b in range(classes):
                weight = probability[:, a] * ((a == b) - probability[:, b])
                curvature[:, a, :, b] = x_nd.T @ (weight[:, None] * x_nd)
            curvature[range(d), a, range(d), a] += decay[:, 0]
        if classes == len(self.classes):
            curvature[-1, :, -1, :] += 1.0  # all biases together are free: hold them, or no single step solves this
        return slope, curvature.reshape(d * classes, d * classes)


def _log_softmax(score: np.ndarray) -> np.ndarray:
    score = score - score.max(axis=1, keepdims=True)
    return score - np.log(np.exp(score).sum(axis=1, keepdims=True))
