"""The course's recipe for small models: a good one in seconds, each ingredient with a switch.

    hidden matrices by Muon, all else by AdamW; pre-norm blocks with RMSNorm and ReLU², which add nothing at first;
    ALiBi; each token's embedding takes a learned share of the one before; the rate falls in a line to zero;
    two wide blocks of many narrow heads, which learn in fewer steps than four blocks with as many numbers in all

    recipe = Recipe(vocabulary=65, steps=110)
    model = recipe.model()
    train(model, batches, steps=recipe.steps, optimizer=recipe.optimizer(model), schedule=recipe.schedule)

What each is worth on one text: `python -m tests.benchmarks.training ablation`. It is for models of about a million
numbers and runs of some hundred steps; nobody has tried these rates on larger ones.

Paper:   Muon: Jordan et al. 2024, kellerjordan.github.io/posts/muon; ReLU²: So et al. 2021, arXiv:2109.08668; ALiBi:
         Press et al. 2022, arXiv:2108.12409; blocks that begin at zero: Zhang et al. 2019, "Fixup", arXiv:1901.09321;
         the fall to zero: Bergsma et al. 2025, "Straight to Zero", arXiv:2502.15938.
Next:    minillm/training/hardware.py
"""

from dataclasses import dataclass
from typing import Any

from minillm.core.runtime import pick_dtype
from minillm.core.settings import check_whole_numbers
from minillm.training.muon import muon_with_adamw, polar_express
from minillm.training.optim import AdamW, decay_matrices_only
from minillm.transformer.block import MLPName, NormName
from minillm.transformer.decoder import Decoder, DecoderConfig, PositionName


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A small decoder and how it is trained. Every switch at its default is the recipe.

    >>> Recipe(vocabulary=65).model().n_parameters
    802080
    """

    vocabulary: int  # tokens, numbered from 0
    steps: int = 110  # of the whole run
    batch: int = 12  # rows of `context` tokens in a step
    context: int = 128  # the most tokens that it reads
    n_layer: int = 2  # blocks above each other
    n_head: int = 9  # heads in each block
    d_model: int = 180  # width of the stream
    learning_rate: float = 0.03  # of Muon
    embedding_rate: float = 0.02  # of AdamW, for embeddings, head and vectors
    muon: bool = True  # False: AdamW at 3e-3 for the hidden matrices too
    norm: NormName = "rms"  # LayerNorm or RMSNorm
    mlp: MLPName = "relu2"  # the bend of the MLP
    positions: PositionName = "alibi"  # how it knows what stands where
    smear: bool = True  # a learned share of the embedding before
    zero_out: bool = True  # blocks add nothing at first
    qk_norm: bool = False  # RMSNorm of every query and key
    to_zero: bool = True  # False: the rate stays as it is
    seed: int = 0  # of the first parameters

    def __post_init__(self) -> None:
        check_whole_numbers({"steps": (self.steps, 110), "batch": (self.batch, 12)})
        if not (self.learning_rate > 0 and self.embedding_rate > 0):
            raise ValueError(
                f"learning_rate={self.learning_rate!r} and embedding_rate={self.embedding_rate!r} must be above 0; "
                "0.03 and 0.02 work"
            )
        _ = self.config  # checks the rest

    @property
    def config(self) -> DecoderConfig:
        """The decoder's configuration."""
        return DecoderConfig(
            vocabulary=self.vocabulary,
            context=self.context,
            n_layer=self.n_layer,
            n_head=self.n_head,
            d_model=self.d_model,
            norm=self.norm,
            mlp=self.mlp,
            positions=self.positions,
            qk_norm=self.qk_norm,
            smear=self.smear,
            zero_out=self.zero_out,
            bias=False,
            tied=False,
            seed=self.seed,
        )

    def model(self) -> Decoder:
        """A new decoder."""
        return Decoder(self.config)

    def optimizer(self, model: Decoder) -> Any:
        """What moves its parameters: Muon and AdamW as one, or AdamW alone."""
        if self.muon:
            return muon_with_adamw(
                model,
                learning_rate=self.learning_rate,
                adamw_learning_rate=self.embedding_rate,
                momentum=0.9,
                polynomials=polar_express(4),
                in_bfloat16=pick_dtype(model.embedding.weight.device.type, fastest=True).value == "bfloat16",
            )
        return AdamW(decay_matrices_only(model), 3e-3, (0.9, 0.95))

    def schedule(self, step: int) -> float:
        """The factor on every rate at a step, counted from 1: in a line from 1 to nearly 0, without a warm-up.

        >>> [Recipe(vocabulary=65, steps=4).schedule(step) for step in (1, 2, 4)]
        [1.0, 0.75, 0.25]
        """
        return 1.0 - min(1.0, (step - 1) / self.steps) if self.to_zero else 1.0
