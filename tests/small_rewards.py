"""Prompts, responses and comparisons for tests of reward models."""

from decoder_kinds import V

from minillm.alignment.reward import Preferred
from minillm.text.dice import Dice


def some_texts(n, seed=0, longest=9):
    """Prompts and responses of unequal lengths, token 0 (which also is the filling) and token V - 1 among them."""
    dice = Dice(seed)
    text = lambda least: [dice.below(V) for _ in range(least + dice.below(longest))]
    return [text(0) for _ in range(n)], [text(1) for _ in range(n)]


def some_pairs(n, seed=0):
    prompts, better = some_texts(n, seed)
    return [Preferred(p, b, w) for p, b, w in zip(prompts, better, some_texts(n, seed + 1)[1], strict=True)]
