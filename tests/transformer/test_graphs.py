"""Decoding in fixed shapes gives the logits of reading everything anew, and on a GPU the recording gives them too."""

import pytest
import torch
from decoder_kinds import CONTEXT, GPT2, KINDS, LLAMA, lively, some_tokens
from needs_cuda import cuda
from torch.testing import assert_close

from minillm.attention import positions
from minillm.transformer import decoder
from minillm.transformer import generate as generate_file
from minillm.transformer.generate import GraphReader, Reader, generate

PROMPTS = [[1, 2, 3, 4, 5, 6], [3], [9, 8, 7]]
NEW = CONTEXT - 6
FIXED = [name for name, config in KINDS.items() if not config.smear]


def follow(model, tolerance):
    """Both readers through a whole text, token by token."""
    rows, fixed, plain = [list(row) for row in PROMPTS], GraphReader(model, NEW), Reader(model)
    new: list[int] = []
    for step in range(NEW):
        assert_close(fixed.read(new, rows), plain.read(new, rows), **tolerance)
        new = some_tokens(3, seed=step).tolist()
        for row, token in zip(rows, new, strict=True):
            row.append(token)
    return fixed


@pytest.mark.parametrize("kind", FIXED)
def test_fixed_shapes_give_the_same_logits_at_every_step(kind):
    follow(lively(KINDS[kind]), {"rtol": 1e-4, "atol": 1e-5})


@cuda
@pytest.mark.parametrize("kind", FIXED)
def test_the_recording_gives_the_same_logits_at_every_step(kind):
    assert follow(lively(KINDS[kind]).cuda(), {"rtol": 1e-3, "atol": 1e-3}).graph is not None


@cuda
def test_a_recorded_step_does_not_wait():
    model = lively(GPT2).cuda()
    reader, rows = GraphReader(model, NEW), [[1, 2], [3, 4]]
    for new in ([], [5, 6], [7, 8]):
        reader.read(new, rows)
    torch.cuda.set_sync_debug_mode("error")
    try:
        reader.graph.replay()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_there_is_no_room_beyond_the_context():
    reader = GraphReader(lively(GPT2), 1000 * CONTEXT)
    reader.read([], PROMPTS)
    assert reader.capacity == CONTEXT, "memory for places that no token may take"


def test_generate_draws_the_same_tokens():
    model = lively(LLAMA)
    draws = [generate(model, PROMPTS, NEW, 1.0, torch.Generator().manual_seed(0), graph=g) for g in (False, True)]
    assert draws[0] == draws[1]


def test_what_is_refused():
    with pytest.raises(ValueError, match="smear=True needs the embedding before"):
        generate(lively(KINDS["smear"]), [[1]], 2, graph=True)


# tokens are looked at once ------------------------------------------------------------------------------------------


def test_tokens_are_looked_at_once(monkeypatch):
    """To look at tokens on a GPU makes it wait, so the prompts are looked at, and what was drawn is not."""
    looked = []
    for place in (generate_file, decoder):
        monkeypatch.setattr(place, "check_tokens", lambda tokens, *rest: looked.append(tuple(tokens.shape)))
    model = lively(GPT2)
    monkeypatch.setattr(positions, "check_positions", lambda *where: pytest.fail("nor at our own positions"))
    generate(model, [[1, 2], [3, 4]], 5)
    assert looked == [(2, 2)]


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("prompt", [[[1, 99]], [[-1]]])
def test_a_wrong_token_is_named_all_the_same(graph, prompt):
    with pytest.raises(ValueError, match=r"not in the vocabulary of 13; tokens go from 0 to 12"):
        generate(lively(GPT2), prompt, 3, graph=graph)


@pytest.mark.parametrize("graph", [False, True])
def test_a_token_that_adjust_invents_is_named(graph):
    widen = lambda logits_bv, rows: torch.nn.functional.pad(logits_bv, (0, 1), value=1e9)
    with pytest.raises(ValueError, match="=13 is not in the vocabulary of 13"):
        generate(lively(GPT2), [[1]], 3, adjust=widen, graph=graph)
