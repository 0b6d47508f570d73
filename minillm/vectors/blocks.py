"""The same gradients, many at a time: a window is a band in a matrix.

Sixteen centre words in a row look at nearly the same neighbours. So take them as the rows of a block, and as its
columns the sixteen with the window on both sides, and then some words of noise that the whole block shares:

    score = X Cᵀ          X: (t, d) centres          C: (s, d) neighbours and noise

One matrix product holds all scores. Row i may look at columns i … i + 2·window, a band along the diagonal; the rest is
not used. The error E = weight · (label − σ(score)) is zero off the band, and two more products give both gradients:
E C for the centres, Eᵀ X for the columns. Each vector is read and written once a block, not once a pair.

Each of the m shared noise words stands for k·pairs/m of the words that the pair-by-pair way would draw: the expected
gradient is the same.

Paper:   Ji et al. 2016, "Parallelizing Word2Vec in Shared and Distributed Memory", §3, arXiv:1604.04661; CBOW's
         gradient: İrsoy, Benton and Stratos 2021, "Corrected CBOW Performs as well as Skip-gram", arXiv:2012.15332.
Names:   their shared negatives are our noise columns; "label" is 1 for a neighbour and 0 for noise.
Differs: they share the noise among the pairs of one window, we among the windows of a block, so that the neighbours
         are a band of one product too.
Next:    minillm/vectors/word2vec.py
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

ROWS = 16  # centre words of a block
NOISE = 16  # noise words that a block shares
SHARING = 2  # blocks that share their noise under CBOW, where a word is asked once, not once for each neighbour


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """A text cut into blocks of `ROWS` words, and how to cut it.

    column_bs   word ids: the rows of a block with `window` words on both sides
    noise       word ids that a block shares as noise, (b, e); under CBOW (b / SHARING, e)
    reach_bt    which neighbours each row has: a row of `reaches(window)`
    pairs_bt    how many neighbours it has
    """

    column_bs: Tensor
    noise: Tensor
    reach_bt: Tensor
    pairs_bt: Tensor

    @classmethod
    def cut(
        cls,
        id_n: Tensor,
        sentence_n: Tensor,
        window: int,
        cumulative_noise_v: Tensor,
        generator: torch.Generator,
        sharing: int = 1,
    ) -> "Blocks":
        """Cut a text into blocks, mixed with those nearby; every word draws its reach, from 1 to `window`.

        The number of blocks is a multiple of `sharing`, the blocks that have their noise in common.
        """
        n, at_n = len(id_n), torch.arange(len(id_n))
        reach_n = torch.randint(1, window + 1, (n,), generator=generator)
        length = torch.bincount(sentence_n)  # of each sentence
        end = length.cumsum(0)
        left_n = torch.minimum(reach_n, at_n - (end - length).index_select(0, sentence_n))
        right_n = torch.minimum(reach_n, end.index_select(0, sentence_n) - 1 - at_n)
        empty = -n % (ROWS * sharing)  # rows without neighbours fill the last blocks
        column_bs = pad(id_n, (window, window + empty)).unfold(0, ROWS + 2 * window, ROWS)
        reach_bt = pad(left_n * (window + 1) + right_n, (0, empty)).view(-1, ROWS)
        pairs_bt = pad(left_n + right_n, (0, empty)).view(-1, ROWS)
        # nearly in the order of the text, but the blocks of a step come from all over a tenth of it: a passage that
        # says one word again and again would move that word too far in one step
        b = (
            torch.arange(len(column_bs)) + len(column_bs) / 10 * torch.rand(len(column_bs), generator=generator)
        ).argsort()
        noise = torch.searchsorted(cumulative_noise_v, torch.rand(len(b) // sharing, NOISE, generator=generator))
        noise.clamp_(max=len(cumulative_noise_v) - 1)  # rounding may leave the sum a little below one
        return cls(column_bs=column_bs[b], noise=noise, reach_bt=reach_bt[b], pairs_bt=pairs_bt[b].float())

    def __len__(self) -> int:
        return len(self.column_bs)

    def steps(self, size: int) -> Iterator["Blocks"]:
        """Hand out `size` blocks at a time, a multiple of those that share their noise."""
        sharing = len(self) // len(self.noise)
        parts = (self.column_bs.split(size), self.noise.split(size // sharing))
        for column_bs, noise, reach_bt, pairs_bt in zip(
            *parts, self.reach_bt.split(size), self.pairs_bt.split(size), strict=True
        ):
            yield Blocks(column_bs=column_bs, noise=noise, reach_bt=reach_bt, pairs_bt=pairs_bt)

    @property
    def centre_bt(self) -> Tensor:
        """The word ids of the rows."""
        margin = (self.column_bs.shape[1] - ROWS) // 2
        return self.column_bs[:, margin : margin + ROWS]


def reaches(window: int) -> Tensor:
    """For each number left·(window+1) + right of `Blocks.reach_bt`: 1 at the offsets within reach, −window … window.

    >>> reaches(1).tolist()  # nobody; right; left; both
    [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]
    """
    offset = torch.arange(-window, window + 1)
    left = torch.arange(window + 1)[:, None, None]
    right = torch.arange(window + 1)[None, :, None]
    within = (offset >= -left) & (offset <= right) & (offset != 0)
    return within.float().reshape(-1, 2 * window + 1)


def band_of(matrix_bts: Tensor, width: int) -> Tensor:
    """View a band along the diagonal of every matrix, (b, t, width): row t shows its columns t … t + width − 1.

    Nothing is copied: one row down in the view is a row and a column on in memory.

    >>> band_of(torch.arange(12).view(1, 3, 4), width=2).tolist()
    [[[0, 1], [5, 6], [10, 11]]]
    """
    b, t, s = matrix_bts.shape
    return matrix_bts.as_strided((b, t, width), (t * s, s + 1, 1))


def skip_gram_moves(
    centre_btd: Tensor, target_bsd: Tensor, near: Tensor, pairs_bt: Tensor, negatives: int, rate: float
) -> tuple[Tensor, Tensor]:
    """Return how far the centres and the targets move: minus `rate` times the gradients, summed over all pairs.

    target_bsd is a block's columns, then its noise; near, of shape (b, t, 2·window + 1), is 1 at the neighbours along
    the band, and pairs_bt their number.
    """
    columns = centre_btd.shape[1] + near.shape[-1] - 1
    noise_weight_bt = pairs_bt * (negatives / (target_bsd.shape[1] - columns))
    belief_bts = torch.bmm(centre_btd, target_bsd.mT).sigmoid_()
    error_bts = torch.zeros_like(belief_bts)  # what was true, minus what it believed
    torch.addcmul(near, near, band_of(belief_bts, near.shape[-1]), value=-1, out=band_of(error_bts, near.shape[-1]))
    torch.mul(belief_bts[:, :, columns:], -noise_weight_bt[:, :, None], out=error_bts[:, :, columns:])
    error_bts.mul_(rate)  # here, where there are few numbers
    return torch.bmm(error_bts, target_bsd), torch.bmm(error_bts.mT, centre_btd)


def cbow_moves(
    neighbour_bnd: Tensor,
    word_btd: Tensor,
    noise: Tensor,
    near: Tensor,
    pairs_bt: Tensor,
    negatives: int,
    rate: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far a block's columns, its words and the noise, of shape (b / sharing, e, d), move under CBOW.

    The mean of a row's neighbours acts as a centre. Its only true target is the row's own word, so that score is one
    dot product; the scores of the noise are one matrix product. Each neighbour then moves by the whole gradient of the
    mean, not by its share of it.
    """
    band_btn = near.new_zeros(len(near), near.shape[1], neighbour_bnd.shape[1])
    band_of(band_btn, near.shape[-1]).copy_(near)
    mean_btd = torch.bmm(band_btn, neighbour_bnd).div_(pairs_bt.clamp(min=1)[:, :, None])
    rate_bt = pairs_bt.clamp(max=1).mul_(rate)  # a word without neighbours predicts nothing
    # what was true, minus what it believed: 1 − σ(score) = σ(−score) for the word, 0 − σ(score) for the noise
    word_error_bt = torch.linalg.vecdot(mean_btd, word_btd).neg_().sigmoid_().mul_(rate_bt)
    mean, asked = mean_btd.view(len(noise), -1, mean_btd.shape[2]), rate_bt.view(len(noise), -1, 1)
    noise_error = torch.bmm(mean, noise.mT).sigmoid_().mul_(asked * (-negatives / noise.shape[1]))
    noise_move = torch.bmm(noise_error.mT, mean)
    mean_move_btd = torch.bmm(noise_error, noise).view_as(mean_btd).addcmul_(word_error_bt[:, :, None], word_btd)
    return torch.bmm(band_btn.mT, mean_move_btd), mean_btd.mul_(word_error_bt[:, :, None]), noise_move
