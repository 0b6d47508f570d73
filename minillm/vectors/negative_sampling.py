"""Negative sampling, one centre word at a time: tell the words that were there from words drawn by chance.

    loss = − Σᵢ [ yᵢ log σ(w·cᵢ) + (1 − yᵢ) log σ(−w·cᵢ) ]        ∂loss/∂(w·cᵢ) = σ(w·cᵢ) − yᵢ

yᵢ is 1 for the word that was there and 0 for each of the k words of noise. Everything else follows by the chain rule:
the centre moves by the errors times the targets, each target by its error times the centre. The full softmax would
touch every word of the vocabulary at each step; this touches k + 1.

Paper:   Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their Compositionality", §2.2
         (noise, eq. 4) and §2.3 (frequent words), arXiv:1310.4546.
Names:   w is their v_{w_I}, c their v'_{w_O}, noise their P_n(w).
Differs: a frequent word is kept with probability √(t/f) + t/f, as in the authors' program; the paper writes √(t/f).
         Noise may hit the word that was there; the program skips such a draw.
Next:    minillm/vectors/blocks.py
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def loss_and_gradient(centre_d: Tensor, target_nd: Tensor, label_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss in nats of one centre word against n target words, and its gradients for both, by hand.

    The gradients have the shapes (d,) and (n, d) of what they move. `blocks.py` is the fast twin.

    >>> centre_d, target_nd = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    >>> loss, centre_gradient_d, target_gradient_nd = loss_and_gradient(centre_d, target_nd, torch.tensor([1.0, 0.0]))
    >>> centre_gradient_d.tolist()  # away from the noise [0, 2], towards the true [0, 1]: half an error each
    [0.0, 0.5]
    """
    score_n = target_nd @ centre_d
    loss = -(label_n * logsigmoid(score_n) + (1 - label_n) * logsigmoid(-score_n)).sum()
    error_n = score_n.sigmoid() - label_n  # what it believed, minus what was true
    return loss, error_n @ target_nd, torch.outer(error_n, centre_d)


def noise_distribution(count_v: Tensor, power: float = 0.75) -> Tensor:
    """Return the probability of each word as noise: counts to a power, so that rare words come a little more often.

    >>> noise_distribution(torch.tensor([16, 1])).tolist()
    [0.8888888888888888, 0.1111111111111111]
    """
    weight_v = count_v.double() ** power
    return weight_v / weight_v.sum()


def keep_probability(count_v: Tensor, subsample: float = 1e-3) -> Tensor:
    """Return the probability with which each word is kept in an epoch; a share of `subsample` or less is always kept.

    >>> keep_probability(torch.tensor([999_000, 1000]), subsample=0.001).round(decimals=4).tolist()
    [0.0326, 1.0]
    """
    if subsample == 0:
        return torch.ones(count_v.shape, dtype=torch.float64)
    ratio_v = subsample * count_v.sum() / count_v.double()
    return (ratio_v.sqrt() + ratio_v).clamp(max=1)


def learning_rate_at(progress: float, first: float, last: float) -> float:
    """Return the learning rate after a share of the training, from 0 to 1: a straight line from `first` to `last`.

    >>> learning_rate_at(0.5, first=0.03, last=0.01)
    0.02
    """
    return first + (last - first) * progress
