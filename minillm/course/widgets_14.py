"""The explorer of chapter 14: which expert reads what, by kind of text, while a router learns.

    share of expert e on a kind of text = its choices / all choices made there        each row adds up to 1

The explorer is given readers as they stood after some steps of training, lets them read, and shows where the tokens
went. Text that you type becomes one row more.

Paper:   Jiang et al. 2024, "Mixtral of Experts", §5, arXiv:2401.04088: the same picture for its experts and the Pile.
Next:    minillm/course/checks_14.py
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from minillm.course.figures import Figure, heat_map
from minillm.course.mixed_reading import effective_experts, mixtures
from minillm.course.widgets import Explorer, choice, words
from minillm.transformer.decoder import Decoder

YOURS = "yours"


class RouterExplorer(Explorer):
    """Choose how the router was balanced, a moment of training and a block; type a text of your own.

    `readers` maps a name to readers by the number of steps that each has taken; `texts` maps a kind of text to tokens
    (b, t); `encode` turns what is typed into tokens.
    """

    def __init__(
        self,
        readers: Mapping[str, Mapping[int, Decoder]],
        texts: Mapping[str, Tensor],
        encode: Callable[[str], list[int]],
        name: str | None = None,
        steps: int | None = None,
        block: int = 2,
    ) -> None:
        steps_of = {tuple(by_steps) for by_steps in readers.values()}
        if len(steps_of) != 1 or not texts:
            raise ValueError(
                f"readers={ {name: list(by) for name, by in readers.items()} } and {len(texts)} texts: the rule is one "
                "or more readers, all after the same steps, and one or more texts"
            )
        self.readers, self.texts, self.encode = readers, dict(texts), encode
        moments, n_block = (
            [str(s) for s in steps_of.pop()],
            len(mixtures(next(iter(next(iter(readers.values())).values())))),
        )
        self.name = choice("balance", list(readers), name)
        self.steps = choice("after steps", moments, moments[-1] if steps is None else str(steps))
        self.block = choice("block", [str(i + 1) for i in range(n_block)], str(block))
        self.text = words("your own text", "")
        super().__init__(self.name, self.steps, self.block, self.text)

    @torch.no_grad()
    def shares(self) -> dict[str, Tensor]:
        """For each kind of text, and for the typed one, the share of each expert, (e,)."""
        model = self.readers[str(self.name.value)][int(str(self.steps.value))].eval()
        layer, found = mixtures(model)[int(str(self.block.value)) - 1], {}
        typed = self.encode(self.text.value)[: model.config.context]
        for kind, tokens_bt in (self.texts | ({YOURS: torch.tensor([typed])} if typed else {})).items():
            model(tokens_bt)
            assert layer.routing is not None
            found[kind] = layer.routing.load_e
        return found

    def draw(self) -> tuple[Figure, str]:
        """Rows are kinds of text, columns experts."""
        shares = self.shares()
        table = torch.stack(list(shares.values()))
        n_expert, mean_e = table.shape[1], torch.stack([shares[kind] for kind in self.texts]).mean(dim=0)
        even = effective_experts(mean_e)
        level = "nearly even" if even > 0.85 * n_expert else "uneven" if even > 0.5 * n_expert else "collapsed"
        block, name, steps = self.block.value, self.name.value, self.steps.value
        sentence = f"Block {block} of “{name}” after {steps} steps: over all kinds of text the load is {level}."
        if YOURS in shares:
            sentence += f" Most of your text goes to expert {int(shares[YOURS].argmax())}."
        figure = heat_map(
            table,
            row_names=list(shares),
            column_names=[str(e) for e in range(n_expert)],
            title="Which expert reads what",
            row_label="kind of text",
            column_label="expert",
            value_label="share of the choices (no unit)",
            numbers=".2f",
            alt=sentence,
        )
        return figure, sentence
