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
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import pad

ROWS = 16  # centre words of a block
NOISE = 16  # noise words that a block shares


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """A text cut into blocks of `ROWS` words, and how to cut it.

    column_bs   word ids: the rows of a block with `window` words on both sides
    noise_be    word ids that the block shares as noise
    reach_bt    which neighbours each row has: a row of `reaches(window)`
    pairs_bt    how many neighbours it has
    """

    column_bs: Tensor
    noise_be: Tensor
    reach_bt: Tensor
    pairs_bt: Tensor

    @classmethod
    def cut(
        cls, id_n: Tensor, sentence_n: Tensor, window: int, cumulative_noise_v: Tensor, generator: torch.Generator
    ) -> "Blocks":
        """Cut a text into blocks, mixed with those nearby; every word draws its reach, from 1 to `window`."""
        n, at_n = len(id_n), torch.arange(len(id_n))
        reach_n = torch.randint(1, window + 1, (n,), generator=generator)
        left_n = torch.minimum(reach_n, at_n - torch.searchsorted(sentence_n, sentence_n))
        right_n = torch.minimum(reach_n, torch.searchsorted(sentence_n, sentence_n, right=True) - 1 - at_n)
        empty = -n % ROWS  # rows without neighbours fill the last block
        column_bs = pad(id_n, (window, window + empty)).unfold(0, ROWS + 2 * window, ROWS)
        reach_bt = pad(left_n * (window + 1) + right_n, (0, empty)).view(-1, ROWS)
        pairs_bt = pad(left_n + right_n, (0, empty)).view(-1, ROWS)
        # nearly in the order of the text, but the blocks of a step come from all over a tenth of it: a passage that
        # says one word again and again would move that word too far in one step
        b = (
            torch.arange(len(column_bs)) + len(column_bs) / 10 * torch.rand(len(column_bs), generator=generator)
        ).argsort()
        noise_be = torch.searchsorted(cumulative_noise_v, torch.rand(len(b), NOISE, generator=generator))
        noise_be.clamp_(max=len(cumulative_noise_v) - 1)  # rounding may leave the sum a little below one
        return cls(column_bs=column_bs[b], noise_be=noise_be, reach_bt=reach_bt[b], pairs_bt=pairs_bt[b].float())

    def __len__(self) -> int:
        return len(self.column_bs)

    def steps(self, size: int) -> Iterator["Blocks"]:
        """Hand out `size` blocks at a time."""
        parts = (getattr(self, field.name).split(size) for field in fields(self))
        for column_bs, noise_be, reach_bt, pairs_bt in zip(*parts, strict=True):
            yield Blocks(column_bs=column_bs, noise_be=noise_be, reach_bt=reach_bt, pairs_bt=pairs_bt)

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


def skip_gram_gradients(
    centre_btd: Tensor, target_bsd: Tensor, near: Tensor, pairs_bt: Tensor, negatives: int
) -> tuple[Tensor, Tensor]:
    """Return minus the gradients of skip-gram's loss for the centres and for the targets, summed over all pairs.

    target_bsd is a block's columns, then its noise; near, of shape (b, t, 2·window + 1), is 1 at the neighbours along
    the band, and pairs_bt their number.
    """
    columns = centre_btd.shape[1] + near.shape[-1] - 1
    noise_weight_bt = pairs_bt * (negatives / (target_bsd.shape[1] - columns))
    belief_bts = torch.bmm(centre_btd, target_bsd.mT).sigmoid_()
    error_bts = torch.zeros_like(belief_bts)  # what was true, minus what it believed
    torch.addcmul(near, near, band_of(belief_bts, near.shape[-1]), value=-1, out=band_of(error_bts, near.shape[-1]))
    torch.mul(belief_bts[:, :, columns:], -noise_weight_bt[:, :, None], out=error_bts[:, :, columns:])
    return torch.bmm(error_bts, target_bsd), torch.bmm(error_bts.mT, centre_btd)


def cbow_gradients(
    neighbour_bnd: Tensor, target_bsd: Tensor, near: Tensor, pairs_bt: Tensor, negatives: int
) -> tuple[Tensor, Tensor]:
    """Return minus the gradients of CBOW's loss for the neighbours, and for the targets.

    neighbour_bnd is a block's columns; target_bsd its centres, then its noise. The mean of a row's neighbours acts as a
    centre whose only true target is the row's own word: skip-gram with a band of width one. Each neighbour then moves
    by the whole gradient of the mean, not by its share of it.
    """
    band_btn = near.new_zeros(len(near), near.shape[1], neighbour_bnd.shape[1])
    band_of(band_btn, near.shape[-1]).copy_(near)
    mean_btd = torch.bmm(band_btn, neighbour_bnd).div_(pairs_bt.clamp(min=1)[:, :, None])
    has_bt = pairs_bt.clamp(max=1)  # a word without neighbours predicts nothing
    mean_move_btd, target_move_bsd = skip_gram_gradients(mean_btd, target_bsd, has_bt[:, :, None], has_bt, negatives)
    return torch.bmm(band_btn.mT, mean_move_btd), target_move_bsd
