"""Checks of chapter 00: units of surprise.

Next:    minillm/course/grading.py
"""

import math
from collections.abc import Callable

import numpy as np

from minillm.course.checks import call, expect_close, expect_raises, expect_type


def bits(answer: Callable[[float, int], float]) -> None:
    """`bits(total_nats, characters)`: nats to bits, then the mean over the characters."""
    expect_type(call(answer, math.log(2), 1), float, "bits(ln 2, 1)")
    one = call(answer, math.log(2), 1)
    expect_close(one, 1.0, what="bits(ln 2, 1)", hint=_cause(one))
    none = call(answer, 0.0, 7)
    expect_close(none, 0.0, what="bits(0, 7)", hint="0 nats are 0 bits: what is certain surprises nobody")
    ten = call(answer, 10 * math.log(2), 10)
    expect_close(ten, 1.0, what="bits(10 ln 2, 10)", hint="divide by the number of characters, so that texts compare")
    random = np.random.default_rng()
    for _ in range(5):
        nats, characters = round(float(random.uniform(1, 500)), 2), int(random.integers(2, 300))
        got = call(answer, nats, characters)
        expect_close(got, nats / math.log(2) / characters, what=f"bits({nats}, {characters})")
    rule = "an empty text has no mean: raise ValueError when characters < 1"
    expect_raises(ValueError, answer, 1.0, 0, hint=rule)


def _cause(one: float) -> str:
    """Which slip gives this value where 1.0 is right."""
    if math.isclose(one, math.log(2), rel_tol=1e-6):
        return "these are still nats: one bit is ln 2 nats, so divide by ln 2"
    if math.isclose(one, math.log(2) ** 2, rel_tol=1e-6):
        return "you multiply by ln 2; a bit is smaller than a nat, so the number must grow: divide"
    if math.isclose(one, math.log10(math.e) * math.log(2), rel_tol=1e-6):
        return "you divide by ln 10; that gives decimal digits, not bits"
    return "ln 2 nats are one bit"
