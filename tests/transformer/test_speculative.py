"""Speculative decoding leaves the large model's distribution as it is: every possible outcome is counted."""

import itertools
from dataclasses import replace

import pytest
import torch
from decoder_kinds import CONTEXT, GPT2, KINDS, LLAMA, lively
from torch.testing import assert_close

from minillm.statistical.sampling import next_distribution
from minillm.transformer import speculative
from minillm.transformer.decoder import Decoder
from minillm.transformer.generate import generate
from minillm.transformer.speculative import acceptance, residual, speculate, verify

TINY = replace(LLAMA, vocabulary=3, n_layer=1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pair_of(config=TINY):
    """A model, and a draft that often disagrees."""
    return lively(config), lively(replace(config, n_layer=1, n_head=2, n_kv_head=None, d_model=8, d_hidden=10))


def ahead(model, row, **how):
    """What the model thinks of the next token."""
    with torch.inference_mode():
        return next_distribution(model(torch.tensor([row]))[0, -1], **how)


def outcomes(model, draft, prompt, guesses, **how):
    """Every way a round can go: (tokens that it adds, probability), from the parts of which `verify` is made."""
    for drafted in itertools.product(range(model.vocabulary), repeat=guesses):
        rows = [[*prompt, *drafted[:n]] for n in range(guesses + 1)]
        p, q = ([ahead(m, row, **how) for row in rows] for m in (model, draft))
        reached = 1.0
        for n, token in enumerate(drafted):
            reached *= float(q[n][token])
        for n in range(guesses + 1):
            last_v = p[n] if n == guesses else residual(p[n], q[n])
            keep = 0.0 if n == guesses or not reached else acceptance(p[n], q[n], drafted[n])
            for token in range(model.vocabulary):
                yield (*drafted[:n], token), reached * (1 - keep) * float(last_v[token])
            reached *= keep


@pytest.mark.no_promises
@pytest.mark.parametrize("how", [{}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.7}], ids=str)
@pytest.mark.parametrize("guesses", [1, 2, 3])
def test_the_distribution_is_exactly_the_large_models(guesses, how):
    model, draft = pair_of()
    prompt, total = [1, 2], {}
    for added, probability in outcomes(model, draft, prompt, guesses, **how):
        total[added] = total.get(added, 0.0) + probability
    assert sum(total.values()) == pytest.approx(1, abs=1e-12)
    # What a round adds is shorter when a guess is refused; the later tokens then come from rounds that are as exact.
    for wanted in itertools.product(range(3), repeat=guesses + 1):
        found = direct = 1.0
        for n, token in enumerate(wanted):
            direct *= float(ahead(model, [*prompt, *wanted[:n]], **how)[token])
        found = 0.0
        for n in range(1, guesses + 2):
            rest = 1.0
            for m in range(n, guesses + 1):
                rest *= float(ahead(model, [*prompt, *wanted[:m]], **how)[wanted[m]])
            found += total.get(wanted[:n], 0.0) * rest
        assert found == pytest.approx(direct, abs=1e-9), wanted


def test_verify_does_what_was_enumerated():
    """The same round, drawn often: how many tokens are kept, and which one follows."""
    p = torch.tensor([[0.2, 0.5, 0.3], [0.3, 0.3, 0.4], [0.6, 0.3, 0.1]]).double()
    q = torch.tensor([[0.5, 0.2, 0.3], [0.6, 0.3, 0.1]]).double()
    n, generator, counts = 1500, seeded(), {}
    for _ in range(n):
        outcome = verify(p, q, [0, 0], generator)
        counts[outcome] = counts.get(outcome, 0) + 1
    first, second = 0.2 / 0.5, 0.3 / 0.6  # two throws, each its own
    expected = {(2, token): first * second * float(p[2, token]) for token in range(3)}
    expected |= {(0, 1): 1 - first, (1, 2): first * (1 - second)}  # p owes token 1, and then token 2
    assert set(counts) == set(expected)
    chi_square = sum((counts[key] - n * share) ** 2 / (n * share) for key, share in expected.items())
    assert chi_square < 24  # 4 degrees of freedom: above it once in 10 000 seeds


@pytest.mark.no_promises
def test_guesses_come_from_the_distribution_that_is_told():
    draft, n, generator, counts = lively(TINY), 500, seeded(), torch.zeros(3)
    for _ in range(n):
        drafted, q = speculative._guess(
            draft, draft.new_cache(), [1], 1, lambda x: next_distribution(x, 1.0), generator
        )
        counts[drafted[0]] += 1
    expected = n * q[0]
    assert expected.min() > 5 and expected.max() > 2 * expected.min()
    assert ((counts - expected) ** 2 / expected).sum() < 19  # 2 degrees of freedom: above it once in 10 000 seeds


@pytest.mark.no_promises
def test_whole_texts_come_as_often_as_they_should():
    model, draft = pair_of(replace(TINY, vocabulary=2))
    n, generator, counts = 400, seeded(1), {}
    for _ in range(n):
        added = tuple(speculate(model, draft, [1, 0], 3, generator=generator, guesses=2).tokens[2:])
        counts[added] = counts.get(added, 0) + 1
    chi_square = 0.0
    for wanted in itertools.product(range(2), repeat=3):
        share = 1.0
        for place, token in enumerate(wanted):
            share *= float(ahead(model, [1, 0, *wanted[:place]])[token])
        chi_square += (counts.get(wanted, 0) - n * share) ** 2 / (n * share)
    assert chi_square < 30  # 7 degrees of freedom: above it once in 10 000 seeds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("guesses", [1, 4])
def test_greedy_speculation_is_greedy_generation(kind, guesses):
    model, prompt = lively(KINDS[kind]), [1, 2, 3]
    draft = lively(replace(KINDS[kind], n_layer=1))
    done = speculate(model, draft, prompt, CONTEXT - 3, 0.0, guesses=guesses)
    assert done.tokens == generate(model, [prompt], CONTEXT - 3, 0.0)[0]
    assert done.rounds + done.accepted == CONTEXT - 3 and done.accepted <= done.guessed


def test_a_draft_that_is_the_model_is_never_refused():
    model = lively(LLAMA)
    for how in ({}, {"top_k": 3}, {"temperature": 0.7, "top_p": 0.8}):
        done = speculate(model, model, [1, 2], 20, generator=seeded(), guesses=4, **how)
        assert (done.rounds, done.accepted, done.guessed) == (4, 16, 16)


def test_the_large_model_reads_seldom_and_each_token_once():
    model, draft, seen = lively(LLAMA), lively(replace(LLAMA, n_layer=1)), []
    model.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    done = speculate(model, draft, [1, 2, 3], 18, generator=seeded(), guesses=3)
    assert len(seen) == done.rounds < 18 and seen[0] == 6
    assert all(2 <= n <= 4 for n in seen[1:-1]), "the last token, and what was guessed after it"


def test_stop_tokens_end_it_within_a_round():
    model = lively(LLAMA)
    free = speculate(model, model, [1, 2], 18, generator=seeded()).tokens
    token = free[6]
    found = speculate(model, model, [1, 2], 18, generator=seeded(), stop_tokens=[token]).tokens
    assert found == free[: free.index(token, 2) + 1]


def test_limits_of_the_parts():
    p, q = torch.tensor([0.25, 0.75, 0.0]).double(), torch.tensor([0.5, 0.25, 0.25]).double()
    assert [acceptance(p, q, token) for token in range(3)] == [0.5, 1.0, 0.0]
    assert_close(residual(p, q), torch.tensor([0.0, 1.0, 0.0]).double())
    assert_close(residual(p, p), p)
    assert speculative.speculate(lively(LLAMA), lively(LLAMA), [1], 0).tokens == [1]


@pytest.mark.parametrize(
    "changes, arguments, said",
    [
        ({"vocabulary": 5}, ([1], 3), "draft.vocabulary=5, but the model has 13"),
        ({}, ([], 3), r"prompt=\[\] holds no token"),
        ({}, ([1], -1), "max_new_tokens=-1, guesses=4"),
        (
            {"context": 9},
            ([1, 2], 8),
            "max_new_tokens=8 after a prompt of 2 exceeds context=9.* max_new_tokens=7",
        ),
    ],
)
def test_bad_input_is_refused_by_name(changes, arguments, said):
    with pytest.raises(ValueError, match=said):
        speculate(Decoder(GPT2), Decoder(replace(GPT2, **changes)), *arguments)
