"""Responses: what is written, read back, and never mixed with what fills up."""

import pytest
import torch
from torch.testing import assert_close

from minillm.alignment.responses import (
    chosen_log_probabilities,
    divergences,
    entropies,
    mask_of,
    next_log_probabilities,
    sample_responses,
    side_by_side,
)
from minillm.neural.recurrent import RecurrentConfig, RecurrentLM
from minillm.transformer.decoder import Decoder, gpt2, llama

V, EOS = 6, 5
PROMPTS, TEXTS = [[1], [2, 3, 4], [0, 0]], [[0, 1, 0, EOS], [EOS], [2, 2, 2]]  # token 0 is also what fills up


def small(kind=gpt2, seed=0):
    model = Decoder(kind(vocabulary=V, context=12, n_layer=2, n_head=2, d_model=8, seed=seed))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.ndim == 2 else 1)
    return model


@pytest.mark.parametrize("kind", [gpt2, llama])
def test_a_batch_is_its_rows(kind):
    """Row 25, and C for networks."""
    model, rows = small(kind), side_by_side(PROMPTS, TEXTS)
    together = chosen_log_probabilities(next_log_probabilities(model, rows), rows)
    for i, (prompt, text) in enumerate(zip(PROMPTS, TEXTS, strict=True)):
        alone = side_by_side([prompt], [text])
        wanted = chosen_log_probabilities(next_log_probabilities(model, alone), alone)[0]
        assert_close(together[i, : len(text)], wanted, atol=1e-5, rtol=0)
        assert not together[i, len(text) :].any()


def test_it_is_the_log_probability_by_definition():
    model, rows = small(), side_by_side(PROMPTS, TEXTS)
    logp_bt = chosen_log_probabilities(next_log_probabilities(model, rows, temperature=0.7), rows)
    for i, (prompt, text) in enumerate(zip(PROMPTS, TEXTS, strict=True)):
        for t, token in enumerate(text):
            logits = model(torch.tensor([prompt + text[:t]]))[0, -1] / 0.7
            assert_close(logp_bt[i, t], logits.log_softmax(-1)[token], atol=1e-5, rtol=0)


def test_lengths_say_what_is_real_not_tokens():
    """Row 28."""
    rows = side_by_side(PROMPTS, TEXTS)
    assert rows.real_bt.sum(1).tolist() == [4, 1, 3]
    assert rows.chosen_bt[0].tolist() == TEXTS[0] and rows.chosen_bt[2, :3].tolist() == TEXTS[2]


@pytest.mark.parametrize("kind", [gpt2, llama])
def test_prompts_of_any_length_are_continued_as_if_alone(kind):
    """Row 25: filled up on the left, each row draws what it would draw with equal random numbers alone."""
    model = small(kind)
    together = sample_responses(model, PROMPTS, 6, EOS, generator=torch.Generator().manual_seed(3))
    for i in range(3):
        same_length = [PROMPTS[i]] * 3  # the same random numbers for row i, and no filling
        alone = sample_responses(model, same_length, 6, EOS, generator=torch.Generator().manual_seed(3))
        assert together[i] == alone[i]


def test_the_end_token_ends():
    texts = sample_responses(small(), [[1]] * 200, 6, EOS, generator=torch.Generator().manual_seed(0))
    assert all(EOS not in text[:-1] and (text[-1] == EOS or len(text) == 6) for text in texts)
    assert {len(text) for text in texts} == {1, 2, 3, 4, 5, 6}


def test_dropout_is_off_and_the_mode_comes_back():
    """Row 24."""
    model = Decoder(gpt2(vocabulary=V, context=12, n_layer=1, n_head=2, d_model=8, dropout=0.5)).train()
    rows = side_by_side(PROMPTS, TEXTS)
    first, second = (next_log_probabilities(model, rows) for _ in range(2))
    assert torch.equal(first, second) and model.training


def test_no_prompt_is_cut():
    """Row 26: what does not fit is refused; a prompt always ends as it was given."""
    with pytest.raises(ValueError, match="context=12"):
        sample_responses(small(), [[1] * 9], 4, EOS)


def test_forbidden_tokens_have_no_part():
    allowed_v, rows = mask_of([0, 1, 2, EOS], V), side_by_side(PROMPTS, TEXTS)
    model = small()
    log_p_btv = next_log_probabilities(model, rows, allowed_v=allowed_v)
    assert_close(log_p_btv.exp().sum(-1), torch.ones(3, 4))
    assert bool((log_p_btv[..., 3:5] == -torch.inf).all())
    other = next_log_probabilities(small(seed=1), rows, allowed_v=allowed_v)
    assert bool(divergences(log_p_btv, other, rows).isfinite().all())
    assert bool(entropies(log_p_btv, rows).isfinite().all())
    chosen_log_probabilities(log_p_btv, rows).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_divergence_and_entropy_at_their_limits():
    rows = side_by_side(PROMPTS, TEXTS)
    even = torch.full((3, 4, V), 1 / V).log()
    assert_close(entropies(even, rows), torch.log(torch.tensor(float(V))) * rows.real_bt)
    assert not divergences(even, even, rows).any()


def test_any_language_model_can_be_read():
    model = RecurrentLM(RecurrentConfig(vocabulary=V, d_model=4, hidden=7))
    rows = side_by_side(PROMPTS, TEXTS)
    together = chosen_log_probabilities(next_log_probabilities(model, rows), rows)
    alone = side_by_side(PROMPTS[:1], TEXTS[:1])
    assert_close(together[:1], chosen_log_probabilities(next_log_probabilities(model, alone), alone))


@pytest.mark.parametrize(
    ("prompts", "texts", "says"),
    [([[1]], [], "1 prompts and 0"), ([[1], []], [[2], [3]], r"prompts\[1\]"), ([[1]], [[]], r"responses\[0\]")],
)
def test_what_cannot_be_read_is_named(prompts, texts, says):
    with pytest.raises(ValueError, match=says):
        side_by_side(prompts, texts)


def test_unknown_tokens_cannot_be_allowed():
    with pytest.raises(ValueError, match="holds 6"):
        mask_of([0, 6], V)
