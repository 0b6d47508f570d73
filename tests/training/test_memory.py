"""Bytes of a training step: small cases by hand, freezing, and torch's own profiler as the independent witness."""

import copy

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from minillm.adaptation.lora import add_lora
from minillm.adaptation.modules import freeze
from minillm.training.memory import Alive, bytes_of, step_memory, tensors_in
from minillm.training.optim import AdamW
from minillm.transformer.decoder import Decoder, gpt2

TOKENS, ROWS, LENGTH = 31, 5, 17


def small_decoder():
    return Decoder(gpt2(vocabulary=TOKENS, context=LENGTH, n_layer=3, n_head=2, d_model=24))


def batch():
    return (torch.arange(ROWS * LENGTH) * 7 % TOKENS).reshape(ROWS, LENGTH)


def profiled_peak(work):
    """The most bytes alive at once, from the allocations and releases that torch's profiler saw."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def learning(model):
    return AdamW([p for p in model.parameters() if p.requires_grad])


def test_a_linear_map_by_hand():
    model, x = nn.Linear(100, 10, bias=False), torch.ones(3, 100)
    memory = step_memory(model, AdamW(model.parameters()), lambda: model(x).sum())
    assert (memory.parameters, memory.gradients, memory.optimizer) == (4000, 4000, 8000)
    # the gradient, and beside it the root that AdamW divides by; outputs and the like are some bytes
    assert 2 * 4000 <= memory.made <= 2 * 4000 + 200
    assert memory.peak == 4000 + 8000 + memory.made


def test_bytes_count_every_piece_of_memory_once():
    x, scale = torch.zeros(3, 5), torch.zeros((), dtype=torch.bfloat16)
    assert bytes_of([]) == 0
    assert bytes_of([x, x.T, x[1:], x.reshape(15)]) == 60 and bytes_of([x, x.clone(), scale]) == 122
    tied = small_decoder()
    assert bytes_of(tied.parameters()) == bytes_of([*tied.parameters(), tied.score.weight]) == 4 * tied.n_parameters


def test_tensors_are_found_in_nested_state():
    state = {"a": [torch.ones(2), 3], "b": {"c": (torch.ones(5), None)}}
    assert [tensor.numel() for tensor in tensors_in(state)] == [2, 5]


def test_what_is_dropped_no_longer_counts():
    with Alive() as alive:
        x = torch.ones(1000)
        for _ in range(4):
            x = x * 2
        kept = x + 1
    assert (alive.now, alive.peak) == (8000, 8000)
    del x
    assert alive.now == 4000
    assert kept.sum() == 17_000


def test_views_and_changes_in_place_make_nothing():
    x = torch.ones(40, 25)
    with Alive() as alive:
        x.add_(1).mul_(2)
        y = x.view(-1, 8)[3:].T
        torch.add(x, 1, out=x)
    assert (alive.now, alive.peak, y.shape[0]) == (0, 0, 8)


@pytest.mark.parametrize("how", ["full", "lora", "frozen but the last norm"])
def test_the_profiler_counts_the_same(how):
    model = small_decoder()
    if how == "lora":
        add_lora(model, "*.attention.query", rank=3)
    elif how != "full":
        freeze(model, model.norm.parameters())
    optimizer, tokens = learning(model), batch()
    memory = step_memory(model, optimizer, lambda: model.loss(tokens))
    optimizer.zero_grad()

    def step():
        model.loss(tokens).backward()
        optimizer.step()

    assert memory.made == pytest.approx(profiled_peak(step), abs=64)


def test_freezing_saves_gradients_and_the_optimisers_memory_not_the_parameters():
    full, lora = small_decoder(), small_decoder()
    add_lora(lora, "*.attention.query", rank=2)
    tokens, found = batch(), []
    for model in (full, lora):
        found.append(step_memory(model, learning(model), lambda model=model: model.loss(tokens)))
    of_full, of_lora = found
    added = 3 * 2 * (24 + 24)  # layers · rank · (d + f)
    assert (
        of_full.gradients == of_full.parameters == 4 * full.n_parameters and of_full.optimizer == 2 * of_full.gradients
    )
    assert of_lora.parameters == of_full.parameters + 4 * added
    assert of_lora.gradients == 4 * added and of_lora.optimizer == 8 * added
    assert of_lora.peak < of_full.peak


def test_a_larger_batch_is_more_activations_and_nothing_else():
    tokens, found = batch(), []
    for rows in (tokens, torch.cat((tokens, tokens, tokens))):
        model = small_decoder()
        found.append(step_memory(model, learning(model), lambda model=model, rows=rows: model.loss(rows)))
    one, three = found
    assert (one.parameters, one.gradients, one.optimizer) == (three.parameters, three.gradients, three.optimizer)
    assert three.made > 1.5 * one.made


def test_torchs_own_optimiser_is_counted_too():
    model, tokens = small_decoder(), batch()
    twin = copy.deepcopy(model)
    ours = step_memory(model, AdamW(model.parameters()), lambda: model.loss(tokens))
    theirs = step_memory(twin, torch.optim.AdamW(twin.parameters()), lambda: twin.loss(tokens))
    steps = 4 * len(list(twin.parameters()))  # torch keeps the number of steps as a tensor, we as a number
    assert theirs.optimizer == ours.optimizer + steps and theirs.gradients == ours.gradients
