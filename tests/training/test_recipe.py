"""The recipe makes what it says, each switch does something, and a small text is learned sooner than by AdamW alone."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from minillm.core import runtime
from minillm.neural.batches import random_chunks
from minillm.training.loop import train
from minillm.training.muon import Together, polar_express
from minillm.training.optim import AdamW
from minillm.training.recipe import Recipe
from minillm.transformer.costs import parameters

SMALL = Recipe(vocabulary=7, steps=25, batch=4, context=24, n_layer=2, n_head=2, d_model=16)


def learn(recipe):
    """A text that repeats what stood five places before, nearly always: the mean loss of the last steps."""
    generator = torch.Generator().manual_seed(3)
    text = torch.randint(7, (600,), generator=generator)
    for i in range(5, 600):
        text[i] = text[i - 5] if i % 11 else text[i]
    model = recipe.model()
    batches = random_chunks(text, recipe.batch, recipe.context, generator)
    record = train(model, batches, steps=recipe.steps, optimizer=recipe.optimizer(model), schedule=recipe.schedule)
    return sum(row.loss for row in record[-5:]) / 5


def test_at_first_every_token_is_as_likely():
    """Blocks add nothing, and the scores are of the embeddings alone; the stream is the embedding."""
    model = SMALL.model()
    x = torch.randint(7, (2, 9), generator=torch.Generator().manual_seed(0))
    assert_close(model.hidden(x), model.norm(model.embedding(x)))


def test_muon_learns_more_in_as_many_steps():
    assert learn(SMALL) < learn(replace(SMALL, muon=False)) - 0.05


def test_the_optimiser_is_the_one_asked_for(monkeypatch):
    model = SMALL.model()
    both = SMALL.optimizer(model)
    assert isinstance(both, Together) and isinstance(replace(SMALL, muon=False).optimizer(model), AdamW)
    assert [group["lr"] for group in both.param_groups] == [SMALL.learning_rate, SMALL.embedding_rate]
    assert both.param_groups[0]["momentum"] == 0.9 and both.param_groups[0]["polynomials"] == polar_express(4)
    alone = replace(SMALL, muon=False).optimizer(model)
    assert {(group["lr"], tuple(group["betas"])) for group in alone.param_groups} == {(3e-3, (0.9, 0.95))}
    decayed = [len(group["params"]) for group in alone.param_groups if group["weight_decay"] > 0]
    assert decayed == [sum(p.ndim >= 2 for p in model.parameters())], "matrices, and nothing else"
    for features, short in ((set(), False), ({"avx512_bf16"}, True)):
        monkeypatch.setattr(runtime, "processor_features", lambda features=features: features)
        assert SMALL.optimizer(model).param_groups[0]["in_bfloat16"] is short, "only where it is native"


def test_every_switch_reaches_the_decoder():
    other = {"vocabulary": 9, "context": 20, "n_layer": 3, "n_head": 4, "d_model": 32, "norm": "layer", "mlp": "gelu",
             "positions": "rope", "smear": False, "zero_out": False, "qk_norm": True, "seed": 5}  # fmt: skip
    config = replace(SMALL, **other).config
    assert {name: getattr(config, name) for name in other} == other
    assert not config.bias and not config.tied
    assert replace(SMALL, **other).model().config == config


def test_the_rate_falls_in_a_line():
    rates = [SMALL.schedule(step) for step in range(1, 27)]
    assert rates[0] == 1.0 and rates[24] == pytest.approx(1 / 25) and rates[25] == 0
    assert {replace(SMALL, to_zero=False).schedule(step) for step in (1, 9, 25)} == {1.0}


def test_the_size_is_that_of_the_teaching_model():
    config = Recipe(vocabulary=65).config
    assert sum(parameters(config).values()) == Recipe(vocabulary=65).model().n_parameters < 810_000


@pytest.mark.parametrize(
    ("change", "message"),
    [({"steps": 0}, "steps=0"), ({"batch": 0}, "batch=0"), ({"steps": 9.5}, "steps=9.5 must be a whole number"),
     ({"learning_rate": 0.0}, "learning_rate=0.0"), ({"embedding_rate": 0.0}, "embedding_rate=0.0 must be above 0"),
     ({"mlp": "tanh"}, "mlp='tanh'")],
)  # fmt: skip
def test_what_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
