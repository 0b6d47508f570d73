"""Random draws that are the same on every machine and with every version of numpy.

numpy promises that the raw 64-bit stream of PCG64 stays as it is, but not so for `permutation` or `choice`. So draws
are made from the raw stream, by inverting the cumulative distribution at u = bits / 2⁵³, after dropping 11 bits.

Paper:   O'Neill 2014, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random Number
         Generation".
Next:    minillm/text/village_world.py
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def uniform_numbers(seeds: Sequence[int], n: int, start: int = 0) -> np.ndarray:
    """Return numbers `start` to `start + n - 1` of the stream that `seeds` (whole numbers from 0) name, each in [0, 1).

    >>> bool((uniform_numbers([1, 2], 5)[3:] == uniform_numbers([1, 2], 2, start=3)).all())
    True
    """
    bits = np.random.PCG64(np.random.SeedSequence(list(seeds)))
    bits.advance(start)
    return (bits.random_raw(n) >> np.uint64(11)) * 2.0**-53


class Dice:
    """Draws one at a time, for things that are made once.

    >>> dice = Dice(0)
    >>> sorted(dice.shuffled(["red", "green", "blue"]))
    ['blue', 'green', 'red']
    """

    def __init__(self, *seeds: int) -> None:
        """The same `seeds` give the same draws."""
        self._bits = np.random.PCG64(np.random.SeedSequence(list(seeds)))

    def uniform(self) -> float:
        """Draw from [0, 1)."""
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def chance(self, p: float) -> bool:
        """Draw True with probability p."""
        return self.uniform() < p

    def below(self, n: int) -> int:
        """Draw a whole number from 0 to n - 1."""
        return int(self.uniform() * n)

    def pick(self, items: Sequence[T]) -> T:
        """Draw one of the items, all equally likely."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Draw an order of the items (Fisher–Yates)."""
        mixed = list(items)
        for i in range(len(mixed) - 1, 0, -1):
            j = self.below(i + 1)
            mixed[i], mixed[j] = mixed[j], mixed[i]
        return mixed
