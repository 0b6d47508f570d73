"""Predict before you train: forecasts against an exact optimum, a tiny run, the stored result."""

import json
import math
from pathlib import Path

import pytest
import torch

from minillm.alignment.laboratory import Laboratory
from minillm.course import story_alignment
from minillm.course.story_alignment import World, experiment, main, predicted

STORED = Path(__file__).parents[2] / "notebooks/results/20-stories.json"


def test_all_responses_in_proportion_give_the_exact_optimum():
    """Copies of every response as often as the reference writes it: no chance is left."""
    lab = Laboratory(letters=2, length=2, prompts=1, seed=3)
    p_n = lab.log_probabilities(lab.reference)[0].exp()
    copies = (p_n * 200_000).round().int()
    score_bn = lab.scores.repeat_interleave(copies, dim=1)
    found, truth = predicted(score_bn, score_bn, 0.5), lab.measure(lab.optimum(0.5), 0.5)
    assert found.objective == pytest.approx(truth.optimum, abs=1e-3)
    assert found.kl == pytest.approx(truth.kl, abs=1e-3)
    assert found.score == found.gold == pytest.approx(truth.score, abs=1e-3)


def test_limits_of_the_price():
    score_bn = torch.randn(2, 300, generator=torch.Generator().manual_seed(1))
    gold_bn = -score_bn
    dear, cheap = predicted(score_bn, gold_bn, 1e6), predicted(score_bn, gold_bn, 1e-4)
    assert dear.kl == pytest.approx(0, abs=1e-6) and dear.sample_size == pytest.approx(300)
    assert dear.score == pytest.approx(float(score_bn.mean()), abs=1e-4) == -dear.gold
    assert cheap.sample_size == pytest.approx(1, abs=1e-3) and cheap.kl == pytest.approx(math.log(300), abs=1e-2)
    assert cheap.score == pytest.approx(float(score_bn.amax(1).mean()), abs=1e-5)


def test_each_prompt_has_a_mean_of_its_own():
    """A prompt whose answers all score alike moves nothing, however well they score."""
    score_bn = torch.stack([torch.full((100,), 50.0), torch.randn(100, generator=torch.Generator().manual_seed(2))])
    both, second = predicted(score_bn, score_bn, 1.0), predicted(score_bn[1:], score_bn[1:], 1.0)
    assert both.kl == pytest.approx(second.kl / 2) and both.objective == pytest.approx((50 + second.objective) / 2)
    assert both.sample_size == pytest.approx(second.sample_size)


def test_a_tiny_world_goes_the_whole_road(monkeypatch):
    monkeypatch.setattr(story_alignment, "LONGEST", 12)
    small = lambda seed, prompts: World(seed, prompts=prompts, choices=30, held=10, writer_steps=30)
    run = experiment(0, beta=1.0, prompts=2, samples=20, updates=1, make=small)
    assert run["kl"][0] == pytest.approx(0, abs=1e-6) and len(run["objective"]) == 1
    assert set(run["predicted"]) == {"2.0", "1.0", "0.5"} and run["reference"]["score"] == pytest.approx(0, abs=1e-5)
    assert len(run["prompts"]) == len(run["before"]) == len(run["after"]) == 2
    assert run["landed"]["objective"] == pytest.approx(run["landed"]["score"] - run["landed"]["kl"])
    assert json.loads(json.dumps(run)) == run


def test_the_command_writes_what_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(story_alignment, "experiment", lambda seed, **more: {"seed": seed, **more})
    arguments = ["--seeds", "2", "--beta", "0.7", "--updates", "3", "--out", str(tmp_path / "out.json")]
    assert main(arguments) == 0
    assert json.loads((tmp_path / "out.json").read_text()) == [{"seed": 2, "beta": 0.7, "prompts": 2, "updates": 3}]


def test_the_stored_result_is_in_its_bands():
    """Both runs come most of the way to the forecast and not beyond it; chapter 20 says how far, and why."""
    runs = json.loads(STORED.read_text("utf-8"))
    assert [run["seed"] for run in runs] == [0, 1]
    for run in runs:
        forecast, landed = run["predicted"]["1.0"], run["landed"]
        assert forecast["sample_size"] >= 200 and run["beta"] == 1.0
        assert 0.65 <= landed["objective"] / forecast["objective"] <= 1.1
        assert 0.5 <= landed["kl"] / forecast["kl"] <= 1.15
        assert landed["gold"] > run["reference"]["gold"] + 0.5
        assert abs(run["reference"]["score"]) < 1e-3 and run["eos_rate"] >= 0.99
        assert run["accuracy"] <= run["ceiling"] and run["correlation"] > 0.6
        assert run["objective"][0] < 0.2 < run["objective"][-1]
