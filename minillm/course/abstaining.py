"""Where a reward for silence leads: the best policy of a model that knows how sure it is, in closed form.

    π*(claim) ∝ (1 - silent) e^((p + (1 - p) wrong) / β)          π*(silence) ∝ silent

p is the chance that the model's claim is right, `silent` how often it was silent before, `wrong` what a wrong claim is
worth where a right one is 1 and silence 0, β the price of a nat.

Paper:   Korbak et al. 2022, arXiv:2205.11275, §3 (the optimum); the reward for silence: see abstention.py.
Next:    minillm/course/checks_26.py
"""

import math
from collections.abc import Sequence

Question = tuple[float, float]


def landing(questions: Sequence[Question], wrong: float, beta: float) -> dict[str, float]:
    """Where PPO ends that pays 1, 0 and `wrong` at price `beta`: mean right, invented and KL over the questions.

    A question is (the chance p that a claim is right, the reference's chance of silence). The model knows only its
    own sureness, so a claim is worth p + (1 - p) wrong to it.

    >>> landing([(0.5, 0.5)], wrong=-1.0, beta=1.0)  # a claim is worth as much as silence: nothing moves
    {'right': 0.25, 'invented': 0.25, 'kl': 0.0}
    """
    right = invented = kl = 0.0
    for p, silent in questions:
        worth = (p + (1 - p) * wrong) / beta
        top = max(worth, 0.0)
        speak, shrug = (1 - silent) * math.exp(worth - top), silent * math.exp(-top)
        speak, shrug = speak / (speak + shrug), shrug / (speak + shrug)
        right, invented = right + speak * p, invented + speak * (1 - p)
        for new, old in ((speak, 1 - silent), (shrug, silent)):
            kl += new * math.log(new / old) if new > 0 else 0.0
    n = len(questions)
    return {"right": right / n, "invented": invented / n, "kl": kl / n}
