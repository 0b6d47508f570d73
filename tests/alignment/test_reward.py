"""The reward model: what it reads, what it cannot see, and that it learns what Bradley and Terry would compute."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from decoder_kinds import CONTEXT, GPT2, KINDS, LLAMA, V, lively, some_tokens
from scipy.optimize import minimize
from small_rewards import some_pairs, some_texts
from torch.nn import functional as F
from torch.testing import assert_close

from minillm.alignment.bradley_terry import fit_bradley_terry, fit_linear
from minillm.alignment.preferences import Comparison
from minillm.alignment.reward import (
    CONFIG,
    WEIGHTS,
    ComparisonBatch,
    Preferred,
    RewardModel,
    comparison_batches,
    encode_comparisons,
)
from minillm.core.tensor_files import StoredTensors, write_tensors
from minillm.text.tokenizer import WordTokenizer
from minillm.training.loop import evaluate, train
from minillm.training.optim import AdamW
from minillm.transformer.decoder import Decoder, gpt2
from minillm.transformer.moe import MoEConfig

MOE = replace(GPT2, moe=MoEConfig(d_model=24, d_hidden=20, n_expert=3, top_k=2, mlp="gelu"))


def lively_reward(config=GPT2, seed=3):
    return RewardModel(lively(config), seed=seed)


@pytest.mark.parametrize("kind", KINDS)
def test_each_text_is_scored_as_if_it_were_alone(kind):
    model, (prompts, responses) = lively_reward(KINDS[kind]), some_texts(23)
    together = model.score(prompts, responses)
    alone = []
    for prompt, response in zip(prompts, responses, strict=True):  # by hand: no batch, no length, no filling
        hidden_btd = model.trunk.hidden(torch.tensor([prompt + response]))
        alone.append((hidden_btd[0, -1] @ model.head.weight[0] + model.head.bias).item())
    assert_close(together, torch.tensor(alone), rtol=1e-5, atol=1e-5)
    assert together.std() > 0.02 and not together.requires_grad


@pytest.mark.parametrize("kind", ["gpt2", "llama", "window", "alibi"])
def test_what_stands_behind_the_last_token_is_never_seen(kind):
    model, token_bt = lively_reward(KINDS[kind]), some_tokens(4, 11)
    length_b = torch.tensor([3, 11, 7, 1])
    score_b = model.raw(token_bt, length_b)
    other = torch.where(torch.arange(11) < length_b[:, None], token_bt, some_tokens(4, 11, seed=5))
    assert not torch.equal(other, token_bt)
    assert_close(model.raw(other, length_b), score_b, rtol=1e-6, atol=1e-6)
    wider = F.pad(token_bt, (0, 6), value=V - 1)
    assert_close(model.raw(wider, length_b), score_b, rtol=1e-5, atol=1e-5)


def test_a_filling_token_that_was_written_is_read():
    model = lively_reward()
    for token in range(V):  # whichever token fills the rows: one written at the end counts
        shorter, longer = model.score([[4, 5], [4, 5]], [[6, 7], [6, 7, token]])
        assert abs(shorter - longer) > 1e-3
        pair = Preferred([4, 5], [6, 7, token], [6, 7])
        expected = F.softplus(shorter - longer)
        for pad in range(V):
            assert_close(model.loss(ComparisonBatch.of([pair], pad=pad)), expected, rtol=1e-5, atol=1e-5)


def test_the_loss_is_bradley_terry():
    model, pairs = lively_reward(), some_pairs(7)
    margins = model.margins(pairs).tolist()
    by_hand = [math.log1p(math.exp(-margin)) for margin in margins]
    assert model.loss(ComparisonBatch.of(pairs)).item() == pytest.approx(sum(by_hand) / 7, rel=1e-5)
    assert model.accuracy(pairs) == pytest.approx(sum(margin > 0 for margin in margins) / 7)
    assert model.accuracy([Preferred([1], [2], [2])]) == 0.5


def test_swapping_the_answers_and_the_choice_changes_nothing():
    model, pairs = lively_reward(), some_pairs(6)
    batch = ComparisonBatch.of(pairs)
    share_b = torch.tensor([1.0, 0.0, 0.25, 0.5, 0.9, 1.0])
    turned = ComparisonBatch.of([Preferred(p.prompt, p.worse, p.better) for p in pairs])
    there = model.loss(replace(batch, first_wins_b=share_b))
    assert_close(model.loss(replace(turned, first_wins_b=1 - share_b)), there, rtol=1e-6, atol=1e-6)
    assert abs(model.loss(replace(batch, first_wins_b=1 - share_b)) - there) > 1e-3
    assert_close(model.margins([Preferred(p.prompt, p.worse, p.better) for p in pairs]), -model.margins(pairs))


def test_a_constant_on_all_scores_changes_nothing_that_is_learned():
    model, pairs, (prompts, responses) = lively_reward(), some_pairs(5), some_texts(40)
    batch = ComparisonBatch.of(pairs)
    loss, raw = model.loss(batch), model.raw_scores(prompts, responses)
    model.normalise(prompts, responses)
    normal = model.score(prompts, responses)
    with torch.no_grad():
        model.head.bias.add_(2.5)
    assert_close(model.raw_scores(prompts, responses), raw + 2.5, rtol=1e-5, atol=1e-5)
    assert_close(model.loss(batch), loss, rtol=1e-5, atol=1e-6)
    model.loss(batch).backward()
    assert abs(model.head.bias.grad.item()) < 1e-6
    model.normalise(prompts, responses)
    assert_close(model.score(prompts, responses), normal, rtol=1e-4, atol=1e-4)


def test_normalised_scores_have_mean_0_and_deviation_1_and_the_constants_stay():
    model = lively_reward()
    model.normalise(*some_texts(2500))
    fresh = model.score(*some_texts(2500, seed=8))
    assert abs(fresh.mean()) < 0.05 and abs(fresh.std() - 1) < 0.05
    before = float(model.mean), float(model.deviation)
    train(
        model,
        comparison_batches(some_pairs(8), 4, generator=torch.Generator().manual_seed(0)),
        steps=3,
        optimizer=AdamW(model.parameters(), learning_rate=0.01),
    )
    assert (float(model.mean), float(model.deviation)) == before
    assert abs(model.score(*some_texts(2500, seed=8)).mean()) > 1e-4, "trained on, it has left its zero"
    assert "mean" not in dict(model.named_parameters())


def test_no_spread_no_unit():
    model = lively_reward()
    for prompts, responses in (([[1]], [[2]]), ([[1], [1]], [[2], [2]])):
        with pytest.raises(ValueError, match="no spread"):
            model.normalise(prompts, responses)


def test_the_head_begins_as_ziegler_says_and_the_trunk_is_a_copy():
    trunk = Decoder(gpt2(vocabulary=V, context=20, n_layer=1, n_head=4, d_model=400))
    model = RewardModel(trunk, seed=1)
    assert model.head.bias.item() == 0
    assert model.head.weight.std().item() * 401**0.5 == pytest.approx(1, abs=0.1)
    assert not torch.equal(RewardModel(trunk, seed=2).head.weight, model.head.weight)
    tokens = some_tokens(3, 8)
    assert torch.equal(model.trunk.hidden(tokens), trunk.hidden(tokens))
    before = trunk.embedding.weight.clone()
    optimizer = AdamW(model.parameters(), learning_rate=0.1)
    train(model, [ComparisonBatch.of(some_pairs(1))], steps=1, optimizer=optimizer)
    assert torch.equal(trunk.embedding.weight, before)
    assert not torch.equal(model.trunk.embedding.weight, before)


def tabular(n, comparisons, seed):
    """Winners and losers of random pairs of n items."""
    chance = np.random.default_rng(seed)
    truth = chance.normal(size=n)
    i = chance.integers(n, size=comparisons)
    j = (i + chance.integers(1, n, size=comparisons)) % n
    first = chance.random(comparisons) < 1 / (1 + np.exp(truth[j] - truth[i]))
    return np.where(first, i, j), np.where(first, j, i)


@pytest.mark.no_promises
def test_trained_to_the_end_it_finds_the_scores_of_newton():
    """ALIGNMENT 2.4: answers of one token each are a table; the network's scores must be the maximum likelihood.

    Its errors are then those of `test_bradley_terry.py`, where they are compared with Fisher's."""
    n = 30
    winners, losers = tabular(n, 1500, seed=0)
    model = RewardModel(Decoder(gpt2(vocabulary=n, context=2, n_layer=1, n_head=2, d_model=32))).double()
    batch = ComparisonBatch.of([Preferred([], [int(i)], [int(j)]) for i, j in zip(winners, losers, strict=True)])
    weights = list(model.parameters())

    def slope(x):
        torch.nn.utils.vector_to_parameters(torch.from_numpy(x), weights)
        gradients = torch.autograd.grad(loss := model.loss(batch), weights, materialize_grads=True)
        return loss.item(), torch.cat([g.flatten() for g in gradients]).numpy()

    start = torch.nn.utils.parameters_to_vector(weights).detach().numpy() * 5  # else the first steps go nowhere
    found = minimize(slope, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    fit = fit_bradley_terry(winners, losers, n)
    score_n = model.score([[]] * n, [[i] for i in range(n)]).numpy()
    score_n -= score_n.mean()
    assert found.fun == pytest.approx(fit.nats, abs=1e-9)
    np.testing.assert_allclose(score_n, fit.score_n, atol=1e-5)


def test_the_best_head_is_a_linear_fit_of_what_the_trunk_makes():
    model, pairs = lively_reward(), some_pairs(40)
    trunk = {name: x.clone() for name, x in model.trunk.state_dict().items()}
    nats = model.fit_head(pairs, prior=0.5)
    assert all(torch.equal(trunk[name], x) for name, x in model.trunk.state_dict().items())
    assert nats == pytest.approx(model.loss(ComparisonBatch.of(pairs)).item(), rel=1e-4)
    better, worse = (
        model.features([p.prompt for p in pairs], [getattr(p, name) for p in pairs]).double().numpy()
        for name in ("better", "worse")
    )
    spread = np.concatenate([better, worse]).std(axis=0, ddof=1)
    expected, _ = fit_linear((better - worse) / spread, prior=0.5)
    np.testing.assert_allclose(model.margins(pairs).numpy(), (better - worse) / spread @ expected, atol=1e-3)
    assert model.fit_head(pairs, prior=1e6) == pytest.approx(math.log(2), abs=1e-3)


def test_it_learns_a_taste_that_is_there():
    """Answers with more of token 3 are better; held out, it must be nearly always right."""
    pairs = [
        Preferred(p.prompt, *sorted((p.better, p.worse), key=lambda answer: -answer.count(3)))
        for p in some_pairs(400)
        if p.better.count(3) != p.worse.count(3)
    ]
    model = RewardModel(Decoder(GPT2))
    batches = comparison_batches(pairs[:-40], 32, generator=torch.Generator().manual_seed(0))
    train(model, batches, steps=80, optimizer=AdamW(model.parameters(), learning_rate=5e-3))
    assert model.accuracy(pairs[-40:]) > 0.9
    assert evaluate(model, [ComparisonBatch.of(pairs[-40:])]) < 0.4


@pytest.mark.parametrize("kind", [*KINDS, "moe"])
def test_saved_and_loaded_it_is_the_same_bit_for_bit(kind, tmp_path):
    model, texts = lively_reward((KINDS | {"moe": MOE})[kind]), some_texts(9)
    model.normalise(*texts)
    model.save(tmp_path / "new" / "folder")
    again = RewardModel.load(tmp_path / "new" / "folder")
    assert again.trunk.config == model.trunk.config
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in model.state_dict().items())
    assert torch.equal(again.score(*texts), model.score(*texts)) and not again.training
    if model.trunk.config.tied:
        assert again.trunk.score.weight is again.trunk.embedding.weight


def test_bfloat16_is_kept_and_compared_in_float32(tmp_path):
    model = lively_reward().to(torch.bfloat16)
    model.save(tmp_path)
    again = RewardModel.load(tmp_path)
    assert again.head.weight.dtype is torch.bfloat16 and again.score([[1]], [[2]]).dtype is torch.float32


def test_files_that_are_no_reward_model(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        RewardModel.load(tmp_path)
    lively_reward().save(tmp_path)
    fields = json.loads((tmp_path / CONFIG).read_text())
    for change, says in (
        ({"format": 2}, "reads 1"),
        ({"decoder": {}}, "does not describe"),
        ({"decoder": fields["decoder"] | {"colour": 1}}, "colour"),
        ({"decoder": fields["decoder"] | {"d_model": 48}}, "asks for"),
        ({"decoder": fields["decoder"] | {"n_layer": 2}}, r"None: not there"),
    ):
        (tmp_path / CONFIG).write_text(json.dumps(fields | change))
        with pytest.raises(ValueError, match=says):
            RewardModel.load(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(fields))
    stored = StoredTensors(tmp_path / WEIGHTS)
    tensors = {name: stored.read(name) for name in stored.names if name != "mean"}
    write_tensors(tmp_path / WEIGHTS, tensors)
    with pytest.raises(ValueError, match=r"tensor 'mean' has shape None"):
        RewardModel.load(tmp_path)


def test_a_trunk_of_experts_keeps_their_balance_while_it_trains():
    model, batch = lively_reward(MOE), ComparisonBatch.of(some_pairs(5))
    model.train()
    trained = model.loss(batch).item()
    model.eval()
    assert trained > model.loss(batch).item() + 1e-4


@pytest.mark.no_promises  # here lengths are wrong on purpose
def test_sizes_that_do_not_fit():
    model = lively_reward(LLAMA)
    with pytest.raises(ValueError, match=f"response 1 have {CONTEXT + 1} tokens"):
        model.score([[1], [1]], [[2], [2] * CONTEXT])
    with pytest.raises(ValueError, match="response 0 have 0 tokens"):
        model.score([[]], [[]])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        model.score([[1]], [[2], [3]])
    for length_b in ([0, 2], [3, 5], [3]):
        with pytest.raises(ValueError, match="length from 1 to t=4"):
            model.raw(some_tokens(2, 4), torch.tensor(length_b))
    with pytest.raises(ValueError, match="0 pairs"):
        ComparisonBatch.of([])
    with pytest.raises(ValueError, match="b=0"):
        next(comparison_batches(some_pairs(2), 0, generator=torch.Generator()))


def test_every_comparison_comes_once_in_a_pass():
    pairs = [Preferred([i], [1], [2]) for i in range(10)]
    batches = comparison_batches(pairs, 4, generator=torch.Generator().manual_seed(0))
    passes = [[next(batches) for _ in range(3)] for _ in range(2)]
    orders = [[int(row) for batch in each for row in batch.token_nt[: len(batch.first_wins_b), 0]] for each in passes]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10)) and orders[0] != orders[1]


def test_comparisons_as_tokens():
    tokenizer = WordTokenizer.train("He smiled. She cried.", special_tokens=["</s>"])
    end = tokenizer.special_ids["</s>"]
    one = Comparison(prompt="She", answers=("cried.", "smiled. smiled."), choice=1, who="me")
    (pair,) = encode_comparisons([one], tokenizer, begin=end, end=end)
    assert [tokenizer.decode(ids) for ids in (pair.prompt[1:], pair.better[:-1], pair.worse[:-1])] == [
        "She",
        "smiled. smiled.",
        "cried.",
    ]
    assert pair.prompt[0] == pair.better[-1] == pair.worse[-1] == end
