"""Generation: the cache, the batch and the packed weights change nothing; stops, limits and draws are what they say."""

import math
from dataclasses import replace

import pytest
import torch
from decoder_kinds import CONTEXT, GPT2, KINDS, LLAMA, V, lively, some_tokens
from torch.testing import assert_close

from minillm.neural.recurrent import RecurrentConfig, RecurrentLM
from minillm.transformer.decoder import Decoder
from minillm.transformer.generate import CachedReader, Reader, generate, stream
from minillm.transformer.packed import PackedLinear, is_packed, is_worth_packing, pack

PROMPTS = [[1, 2, 3, 4, 5, 6], [3], [9, 8, 7]]
NEW = CONTEXT - 6  # up to the last place of the context


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=KINDS)
def model(request):
    return lively(KINDS[request.param])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_cache_draws_the_same_tokens_to_the_end_of_the_context(model, temperature):
    wanted = generate(model, PROMPTS, NEW, temperature, seeded(), cached=False)
    assert generate(model, PROMPTS, NEW, temperature, seeded()) == wanted
    assert generate(pack(model), PROMPTS, NEW, temperature, seeded()) == wanted
    assert [len(row) - len(prompt) for row, prompt in zip(wanted, PROMPTS, strict=True)] == [NEW] * 3
    assert not temperature or len({tuple(row[-NEW:]) for row in wanted}) == 3


def test_the_cache_gives_the_same_logits_at_every_step(model):
    rows, cached, plain = [list(row) for row in PROMPTS], CachedReader(model, NEW), Reader(model)
    new: list[int] = []
    for step in range(NEW):
        logits_bv = plain.read(new, rows)
        assert_close(cached.read(new, rows), logits_bv)
        new = some_tokens(3, seed=step).tolist()
        for row, token in zip(rows, new, strict=True):
            row.append(token)


def test_packed_weights_give_the_same_logits_everywhere(model):
    x, packed = some_tokens(3, 9), pack(model)
    with torch.inference_mode():
        assert_close(packed(x), model(x))
        assert_close(packed.read(x, packed.new_cache()), model(x)[:, -1])
    assert {type(m) for m in packed.modules()} & {PackedLinear} and not is_packed(model)


def test_a_row_continues_alone_as_in_a_batch(model):
    together = generate(model, PROMPTS, 9, 0.0)
    assert together == [generate(model, [prompt], 9, 0.0)[0] for prompt in PROMPTS]


def test_what_a_row_draws_does_not_depend_on_the_others():
    model = lively(LLAMA)
    rows = generate(model, PROMPTS, 9, 1.0, seeded())
    others = generate(model, [[5, 5], PROMPTS[1], [0] * 9], 9, 1.0, seeded(), stop_tokens=[2, 3])
    alone = others[1][1:]
    assert rows[1][1 : 1 + len(alone)] == alone and alone


def test_a_tensor_in_a_tensor_out():
    model, x = lively(GPT2), some_tokens(3, 4)
    found = generate(model, x, 5, generator=seeded())
    assert found.shape == (3, 9) and found.dtype == torch.int64 and torch.equal(found[:, :4], x)
    assert found.tolist() == generate(model, x.tolist(), 5, generator=seeded())
    model.loss(found).backward()  # what was generated can be trained on


def test_rows_that_end_early_are_filled_with_their_last_token():
    model, x = lively(GPT2), some_tokens(5, 4)
    found = generate(model, x, 18, generator=seeded(), stop_tokens=[0, 7])
    rows = generate(model, x.tolist(), 18, generator=seeded(), stop_tokens=[0, 7])
    assert len({len(row) for row in rows}) > 1
    for tensor_row, row in zip(found.tolist(), rows, strict=True):
        assert tensor_row == row + [row[-1]] * (found.shape[1] - len(row))


def test_a_stream_yields_what_generate_adds():
    model = lively(LLAMA)
    for stop in ((), (2, 5)):
        wanted = generate(model, [PROMPTS[0]], 18, 1.0, seeded(), stop_tokens=stop)[0][6:]
        assert list(stream(model, PROMPTS[0], 18, 1.0, seeded(), stop_tokens=stop)) == wanted
    assert len(wanted) < 18


def test_a_stream_computes_no_more_than_is_asked_for():
    model, seen = lively(GPT2), []
    model.register_forward_pre_hook(lambda *_: None)
    model.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    tokens = stream(model, [1, 2, 3], 9)
    assert seen == []
    next(tokens)
    assert seen == [3], "the prompt is read at once"
    next(tokens), next(tokens)
    assert seen == [3, 1, 1], "and then each token once"


def test_stops():
    model = lively(GPT2)
    free = generate(model, [[1, 2]], 20, 1.0, seeded())[0]
    token = free[10]
    first = free.index(token, 2)
    assert generate(model, [[1, 2]], 20, 1.0, seeded(), stop_tokens=[token])[0] == free[: first + 1]
    sequence = free[8:11]
    assert generate(model, [[1, 2]], 20, 1.0, seeded(), stop_sequences=[[V + 1], sequence])[0] == free[:11]
    # what stops must have been drawn: a sequence that begins in the prompt does not
    assert generate(model, [[1, 2]], 3, 1.0, seeded(), stop_sequences=[free[1:3]])[0] == free[:5]
    with pytest.raises(ValueError, match="stop_sequences holds an empty sequence"):
        generate(model, [[1]], 2, stop_sequences=[[]])


def test_one_seed_one_text():
    model = lively(GPT2)
    once = generate(model, PROMPTS, 12, 1.0, seeded(5))
    assert once == generate(model, PROMPTS, 12, 1.0, seeded(5)) != generate(model, PROMPTS, 12, 1.0, seeded(6))


def test_cuts_and_temperature_reach_the_draw():
    model = lively(GPT2)
    greedy = generate(model, PROMPTS, 12, 0.0)
    assert greedy == generate(model, PROMPTS, 12, 1.0, seeded(), top_k=1)
    assert greedy == generate(model, PROMPTS, 12, 1.0, seeded(), top_p=1e-9)
    assert greedy == generate(model, PROMPTS, 12, 1e-6, seeded())
    assert greedy != generate(model, PROMPTS, 12, 5.0, seeded())


def test_draws_follow_the_models_distribution():
    model, n = lively(LLAMA), 4000
    p_v = model(torch.tensor([[3, 1]]))[0, -1].softmax(-1).double()
    drawn = generate(model, torch.tensor([[3, 1]] * n), 1, 1.0, seeded())[:, -1]
    expected_v = n * p_v
    chi_square = ((drawn.bincount(minlength=V) - expected_v) ** 2 / expected_v).sum().item()
    assert chi_square < 40  # 12 degrees of freedom: above 40 once in 10 000 seeds


def test_a_repetition_penalty_avoids_what_was_there():
    model = lively(GPT2)
    different = [len(set(generate(model, [[1, 2, 3]], 20, 0.0, repetition_penalty=x)[0])) for x in (0.2, 1.0, 1.5, 5.0)]
    assert different == sorted(different) and different[0] == 3 and different[-1] > different[1], different
    with pytest.raises(ValueError, match="repetition_penalty=0 must be above 0"):
        generate(model, [[1]], 2, repetition_penalty=0)


def test_adjust_may_forbid_tokens():
    def only_even(logits_bv, rows):
        assert len(rows[0]) >= 6
        logits_bv[:, 1::2] = -math.inf
        return logits_bv

    rows = generate(lively(GPT2), PROMPTS, 12, 1.0, seeded(), adjust=only_even)
    assert all(token % 2 == 0 for row, prompt in zip(rows, PROMPTS, strict=True) for token in row[len(prompt) :])


def test_the_context_is_a_limit_that_is_told_before_anything_is_computed():
    model = Decoder(GPT2)
    assert len(generate(model, [[1]], CONTEXT - 1)[0]) == CONTEXT
    with pytest.raises(ValueError, match=r"max_new_tokens=22 after a prompt of 3 .* context=24 .* max_new_tokens=21"):
        generate(model, [[1], [1, 2, 3]], 22)
    with pytest.raises(ValueError, match="t=1 after 24 in the cache"):
        model.sample([1], CONTEXT)


@pytest.mark.parametrize(
    "prompts, new, said",
    [
        ([], 3, "every prompt needs a token"),
        ([[1], []], 3, "every prompt needs a token"),
        ([[1]], -1, "max_new_tokens=-1 must be at least 0"),
        ([[1], [2, V]], 3, r"=13 is not in the vocabulary of 13"),
    ],
)
def test_bad_input_is_refused_by_name(prompts, new, said):
    with pytest.raises(ValueError, match=said):
        generate(Decoder(GPT2), prompts, new)


def test_nothing_asked_nothing_added():
    assert generate(Decoder(GPT2), PROMPTS, 0) == PROMPTS


def test_a_model_that_trains_goes_on_training():
    model = lively(replace(GPT2, dropout=0.5))
    assert generate(model, PROMPTS, 9, 0.0) == generate(model, PROMPTS, 9, 0.0)
    assert model.training and model.blocks[0].training
    model.eval()
    generate(model, PROMPTS, 1)
    assert not model.training
    model.train()
    next(stream(model, [1], 5))
    assert model.training, "also when the stream was left"


def test_models_without_a_cache_are_read_anew():
    model = RecurrentLM(RecurrentConfig(vocabulary=V, d_model=4, hidden=5))
    found = generate(model, PROMPTS, 9, 1.0, seeded())
    alone = generate(model, [PROMPTS[1]], 9, 1.0, seeded())[0]
    assert alone[1:] == model.sample(PROMPTS[1], 9, generator=seeded())
    assert [len(row) for row in found] == [15, 10, 12]


def test_sample_is_generate_for_one_row():
    model = lively(LLAMA)
    assert model.sample(PROMPTS[0], 9, generator=seeded()) == generate(model, PROMPTS[:1], 9, 1.0, seeded())[0][6:]


def test_packing_happens_where_it_helps():
    small, large = Decoder(GPT2), Decoder(replace(GPT2, d_model=512, n_layer=1))
    assert not is_worth_packing(small, 100) and not is_worth_packing(large, 2)
    assert is_worth_packing(large, 100) == torch.backends.mkldnn.is_available()
    assert not is_worth_packing(pack(large), 100) and not is_worth_packing(large.double(), 100)
