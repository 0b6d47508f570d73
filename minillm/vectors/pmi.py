"""Pointwise mutual information: how much more often two words meet than chance would have it; and what word2vec finds.

    PMI(w, c) = log  #(w, c) · |D| / (#(w) · #(c))

Skip-gram with k words of noise, drawn by their counts, minimises for every pair

    ℓ(s) = − #(w, c) log σ(s) − k · #(w) · (#(c) / |D|) · log σ(−s),      s = w·c

Its derivative is zero where s = PMI(w, c) − log k. With enough dimensions each s can be set alone, so word2vec
factorises the matrix of PMI shifted by log k. `factorise` does the same by singular values: word vectors without a
network. On plain counts of words in documents it is LSA, the vectors of 1990.

Paper:   Levy and Goldberg 2014, "Neural Word Embedding as Implicit Matrix Factorization", §3.1 and §3.3; Deerwester et
         al. 1990, "Indexing by Latent Semantic Analysis"; PMI: Church and Hanks 1990.
Names:   #(w, c) is their #(w, c), D their collection of pairs, k their k.
Differs: noise_power other than 1 is allowed; #(c)/|D| then stands for the noise distribution.
Next:    minillm/vectors/glove.py
"""

import numpy as np


def noise_of(count_vn: np.ndarray, noise_power: float = 1.0) -> np.ndarray:
    """Return the noise distribution over contexts (columns) that goes with a matrix of pair counts."""
    weight_n = count_vn.sum(axis=0) ** noise_power
    return weight_n / weight_n.sum()


def pmi(count_vn: np.ndarray, noise_power: float = 1.0) -> np.ndarray:
    """Return PMI in nats from a matrix of pair counts; −inf for pairs that never meet.

    >>> pmi(np.array([[2.0, 0.0], [0.0, 2.0]])).round(3).tolist()
    [[0.693, -inf], [-inf, 0.693]]
    """
    if count_vn.ndim != 2 or (count_vn < 0).any() or not count_vn.any(axis=1).all() or not count_vn.any(axis=0).all():
        raise ValueError(
            f"count_vn of shape {count_vn.shape} must be a matrix of counts from 0, in which every row and every "
            "column has a count above 0; leave out the words that have no neighbours"
        )
    expected_vn = np.outer(count_vn.sum(axis=1), noise_of(count_vn, noise_power))
    with np.errstate(divide="ignore"):
        return np.log(count_vn / expected_vn)


def shifted_ppmi(count_vn: np.ndarray, negatives: int = 1) -> np.ndarray:
    """Return max(PMI − log k, 0): where a pair never met the matrix is 0, so it can be stored and factorised."""
    return np.maximum(pmi(count_vn) - np.log(negatives), 0)


def factorise(matrix: np.ndarray, dimensions: int) -> np.ndarray:
    """Return a vector for each row, (rows, dimensions): U √Σ of the largest singular values.

    The products of these with the columns' vectors V √Σ are the nearest to the matrix of all of this rank.

    >>> factorise(np.diag([4.0, 1.0]), 1).round(6).tolist()
    [[2.0], [0.0]]
    """
    if matrix.ndim != 2 or not 1 <= dimensions <= min(matrix.shape):
        raise ValueError(
            f"dimensions={dimensions!r} must be from 1 to {min(matrix.shape)}, the smaller side of the matrix"
        )
    left, size, _ = np.linalg.svd(matrix, full_matrices=False)
    sign = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])  # a singular vector's sign is free
    return (left * sign * np.sqrt(size))[:, :dimensions]


def expected_loss(
    score_vn: np.ndarray, count_vn: np.ndarray, negatives: int, noise_power: float = 1.0
) -> tuple[float, np.ndarray]:
    """Return skip-gram's loss over a whole text, noise averaged out, in nats, and its gradient for the scores w·c.

    The gradient is zero where score = PMI − log k.

    >>> count_vn = np.array([[3.0, 1.0], [1.0, 2.0]])
    >>> _, gradient = expected_loss(pmi(count_vn) - np.log(5), count_vn, negatives=5)
    >>> float(abs(gradient).max()) < 1e-12
    True
    """
    noise_count_vn = negatives * np.outer(count_vn.sum(axis=1), noise_of(count_vn, noise_power))
    loss = count_vn * np.logaddexp(0, -score_vn) + noise_count_vn * np.logaddexp(0, score_vn)
    belief_vn = 1 / (1 + np.exp(-score_vn))
    return float(loss.sum()), noise_count_vn * belief_vn - count_vn * (1 - belief_vn)
