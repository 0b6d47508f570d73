"""Counts from the configuration against counted parameters, and against the operations that torch saw."""

from dataclasses import replace

import pytest
from decoder_kinds import GPT2, KINDS, LLAMA, some_tokens
from torch.utils.flop_counter import FlopCounterMode

from minillm.transformer.costs import cache_bytes, forward_flops, parameters, training_flops
from minillm.transformer.decoder import Decoder, gpt2, llama


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_parameters_are_those_of_the_model(config):
    model, found = Decoder(config), parameters(config)
    assert sum(found.values()) == model.n_parameters
    counted = {"embedding": 0, "positions": 0, "attention": 0, "mlp": 0, "norms": 0, "score": 0}
    for name, parameter in model.named_parameters():
        part = name.split(".")[2] if name.startswith("blocks") else name.split(".")[0]
        part = "embedding" if part == "smear" else part
        counted["norms" if part.endswith("norm") else part] += parameter.numel()
    assert found == counted


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("t, past, batch", [(7, 0, 3), (1, 5, 2), (4, 3, 1)])
def test_operations_are_those_that_torch_counts(config, t, past, batch):
    model, cache = Decoder(config, fused=False), None
    if past:
        cache = model.new_cache()
        model.hidden(some_tokens(batch, past), cache)
    with FlopCounterMode(display=False) as counter:
        model.score(model.hidden(some_tokens(batch, t), cache))
    assert counter.get_total_flops() == forward_flops(config, t, past, batch)
    with FlopCounterMode(display=False) as counter:
        model.read(some_tokens(batch, 6), model.new_cache())
    assert counter.get_total_flops() == forward_flops(config, 6, 0, batch, scored=1)


@pytest.mark.parametrize("config", [GPT2, replace(LLAMA, tied=True)], ids=["gpt2", "llama"])
def test_a_training_step_costs_three_times_the_forward_pass(config):
    model = Decoder(config, fused=False)
    with FlopCounterMode(display=False) as counter:
        model.loss(some_tokens(3, 8)).backward()
    assert counter.get_total_flops() == training_flops(config, 7, 3)


def test_known_sizes():
    assert sum(parameters(gpt2()).values()) == 124_439_808
    sizes = {"vocabulary": 32000, "context": 4096, "n_layer": 32, "n_head": 32, "d_model": 4096, "d_hidden": 11008}
    assert sum(parameters(llama(**sizes)).values()) == 6_738_415_616


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_the_cache_is_as_large_as_it_says(config):
    cache = Decoder(config).new_cache(11)
    Decoder(config).hidden(some_tokens(2, 11), cache)
    held = sum(x.numel() * x.element_size() for layer in cache.layers for x in layer.contents())
    assert held == cache_bytes(config, 11, batch=2)
    assert cache_bytes(config, 11, 2, bytes_per_number=2) * 2 == held


def test_nothing_to_read_is_refused():
    with pytest.raises(ValueError, match="t=0, past=0, batch=1"):
        forward_flops(GPT2, 0)
