"""The explorer of chapter 26: what a wrong answer costs, what distance costs, and where a model then falls silent.

    chance to speak ∝ (1 - s) exp((p + (1 - p) wrong) / β)        chance of silence ∝ s

Exact: the model knows how sure it is, p, and nothing else; PPO that has arrived is at this policy.

Paper:   Korbak, Perez & Buckley 2022, "RL with KL penalties is better viewed as Bayesian inference", arXiv:2205.11275.
Names:   a question is (p, s): the chance that a claim is right, and the chance of silence before PPO.
Next:    minillm/course/checks_26.py
"""

from collections.abc import Sequence

from minillm.course.abstaining import Question, landing
from minillm.course.figures import Figure, line_chart
from minillm.course.widgets import Explorer, slider

SILENT = 0.15  # how often the model of the picture says "I do not know." before PPO
SIXTY: tuple[Question, ...] = (*[(0.95, SILENT)] * 24, *[(0.5, SILENT)] * 18, *[(0.1, SILENT)] * 18)
_STEPS = tuple(i / 40 for i in range(41))


class DecisionExplorer(Explorer):
    """Choose the worth of a wrong answer and the price β; see where the model speaks, and what becomes of questions.

    Without others these are sixty: 24 that it knows, 18 where it is right every other time, 18 where it guesses.
    """

    def __init__(self, questions: Sequence[Question] = SIXTY, *, wrong: float = -1.0, beta: float = 0.2) -> None:
        if not questions:
            raise ValueError("questions is empty; one pair (chance to be right, chance of silence) is the least")
        self.questions = tuple(questions)
        self.wrong = slider("worth of a wrong answer", wrong, low=-9.0, high=0.9, step=0.1)
        self.beta = slider("β: price of a nat (reward)", beta, low=0.05, high=2.0, step=0.05)
        super().__init__(self.wrong, self.beta)

    def draw(self) -> tuple[Figure, str]:
        """The chance to speak against how sure the model is, before and after."""
        wrong, beta = float(self.wrong.value), float(self.beta.value)
        before, after = landing(self.questions, 0.0, 1e9), landing(self.questions, wrong, beta)
        edge = max(0.0, -wrong / (1 - wrong))
        became = {kind: f"{before[kind]:.2f} → {after[kind]:.2f}" for kind in ("invented", "right")}
        sentence = (
            f"Wrong answers worth {wrong:.1f}, β = {beta:.2f}: it speaks more where it is surer than {edge:.2f}, and "
            f"less below. Of {len(self.questions)} questions {became['invented']} are answered wrong, "
            f"{became['right']} right, for {after['kl']:.2f} nats."
        )
        speaks = [sum(landing([(p, SILENT)], wrong, beta)[kind] for kind in ("right", "invented")) for p in _STEPS]
        figure = line_chart(
            {"before PPO": [1 - SILENT] * len(_STEPS), "where PPO must land": speaks},
            x=_STEPS,
            title="Where the model speaks",
            x_label="how sure it is (chance to be right)",
            y_label="chance to speak (share)",
            alt=sentence,
        )
        return figure, sentence
