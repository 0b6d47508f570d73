"""A reward model that reads likelihoods: the trunk's own, of the answer alone; and a head can learn from them."""

import json
import math

import pytest
import torch
from decoder_kinds import GPT2, KINDS, lively, some_tokens
from small_rewards import some_pairs, some_texts
from torch.nn import functional as F
from torch.testing import assert_close

from minillm.alignment.reward import CONFIG, ComparisonBatch, Preferred, RewardModel


def with_likelihood(config=GPT2):
    """A model whose head reads likelihoods, with weights for them."""
    model = RewardModel(lively(config), reads_likelihood=True, seed=3)
    with torch.no_grad():
        model.head.weight[0, -3:] = torch.tensor([0.3, -0.7, 5.0])
    return model


@pytest.mark.parametrize("kind", ["gpt2", "llama", "alibi"])
def test_likelihoods_are_those_of_the_trunk_alone(kind):
    model, (prompts, responses) = with_likelihood(KINDS[kind]), some_texts(23)
    prompts = [prompt or [4] for prompt in prompts]
    together, alone = model.raw_scores(prompts, responses), []
    for prompt, response in zip(prompts, responses, strict=True):  # by hand: token after token
        logp = [
            model.trunk.logits(torch.tensor([prompt + response[:i]]))[0, -1].log_softmax(-1)[token].item()
            for i, token in enumerate(response)
        ]
        read = [*model.trunk.hidden(torch.tensor([prompt + response]))[0, -1].tolist(), sum(logp), min(logp)]
        alone.append((torch.tensor([*read, math.exp(sum(logp))]) @ model.head.weight[0]).item())
    assert_close(together, torch.tensor(alone), rtol=1e-4, atol=1e-4)
    plain = RewardModel(model.trunk, seed=3).raw_scores(prompts, responses)
    assert (together - plain).abs().min() > 1e-3


def test_a_model_that_reads_likelihoods_learns_and_comes_back(tmp_path):
    model = with_likelihood()
    pairs = [Preferred(p.prompt or [4], p.better, p.worse) for p in some_pairs(6)]
    batch = ComparisonBatch.of(pairs)
    by_hand = F.softplus(-model.margins(pairs)).mean()
    assert_close(model.loss(batch), by_hand, rtol=1e-5, atol=1e-5)
    assert_close(model.loss(ComparisonBatch.of(pairs, pad=5)), by_hand, rtol=1e-5, atol=1e-5)
    model.loss(batch).backward()
    assert model.trunk.embedding.weight.grad.abs().sum() > 0
    model.save(tmp_path)
    again = RewardModel.load(tmp_path)
    assert again.reads_likelihood
    assert torch.equal(again.margins(pairs), model.margins(pairs))
    fields = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(fields | {"reads_likelihood": "no"}))
    with pytest.raises(ValueError, match="reads_likelihood='no', which must be true or false"):
        RewardModel.load(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps({name: fields[name] for name in ("format", "decoder")}))
    with pytest.raises(ValueError, match=r"head\.weight"):  # a file of before: no likelihoods were read then
        RewardModel.load(tmp_path)


@pytest.mark.parametrize("prompt_b", [None, [0, 2], [2, 4]])
def test_likelihoods_need_to_know_where_the_answer_begins(prompt_b):
    model, token_bt, length_b = with_likelihood(), some_tokens(2, 5), torch.tensor([5, 4])
    with pytest.raises(ValueError, match=r"prompt_b=.*the length of each prompt"):
        model.raw(token_bt, length_b, None if prompt_b is None else torch.tensor(prompt_b))


def test_a_head_that_reads_likelihoods_finds_a_taste_for_likely_answers():
    trunk, (prompts, first) = lively(GPT2), some_texts(150)
    prompts, second = [prompt or [4] for prompt in prompts], some_texts(150, seed=9)[1]
    judge = RewardModel(trunk, reads_likelihood=True)
    whole = [judge.features(prompts, texts)[:, -3] for texts in (first, second)]
    pairs = [Preferred(p, *((a, b) if x > y else (b, a)))
             for p, a, b, x, y in zip(prompts, first, second, *whole, strict=True)]  # fmt: skip
    assert judge.fit_head(pairs[:100]) < 0.3
    assert judge.accuracy(pairs[100:]) > 0.85
    plain = RewardModel(trunk)
    plain.fit_head(pairs[:100])
    assert plain.accuracy(pairs[100:]) < judge.accuracy(pairs[100:])
