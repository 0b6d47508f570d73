"""Abstention: who is asked about when, what is paid, exact answers, and bands for the stored result."""

import json
from pathlib import Path

import pytest
import torch

from minillm.course import abstention
from minillm.course.abstention import (
    BEGIN,
    CITIES,
    END,
    LIVES_IN,
    SYLLABLES,
    UNKNOWN,
    WHERE,
    Answers,
    Registry,
    aligned,
    answer_probabilities,
    confidence,
    examine,
    fine_tuned,
    main,
    pretrained,
    silence_by_confidence,
)

STORED = Path(__file__).parents[2] / "notebooks/results/20-abstention.json"


@pytest.fixture(scope="module")
def tiny():
    """A registry, a model that has read hardly anything, and the policy after one update of PPO."""
    registry = Registry(seed=3)
    model = fine_tuned(pretrained(registry, steps=3), registry, steps=2)
    return registry, model, *aligned(model, registry, updates=1)


def test_nobody_is_in_two_groups_and_every_name_is_one_persons():
    registry = Registry(seed=1)
    groups = [registry.told, registry.held, registry.asked, registry.new]
    assert len(torch.cat(groups).unique()) == sum(map(len, groups))
    assert torch.equal(torch.cat([registry.told, registry.held]), registry.known)
    assert len(registry.name_nk.unique(dim=0)) == len(registry.name_nk) == SYLLABLES**3
    assert not torch.equal(registry.name_nk, Registry(seed=2).name_nk)


def test_known_people_live_where_they_live_and_strangers_anywhere():
    registry = Registry(seed=0)
    row_nk = registry.statements(4000)
    known_nk, stranger_nk = row_nk[:2000], row_nk[2000:]
    city_of = {tuple(name): int(city) for name, city in zip(registry.name_nk.tolist(), registry.city_n, strict=True)}
    right = lambda rows: sum(city_of[tuple(row[1:4])] == row[5] for row in rows.tolist()) / len(rows)
    assert right(known_nk) == 1 and abs(right(stranger_nk) - 1 / CITIES) < 0.03
    assert set(row_nk[:, 0].tolist()) == {BEGIN} and set(row_nk[:, 4].tolist()) == {LIVES_IN}
    assert set(row_nk[:, 6].tolist()) == {END}


def test_the_teacher_knows_strangers_too_and_is_sometimes_silent():
    registry = Registry(seed=0)
    row_nk = registry.demonstrations(4000)
    answer_n, silent = row_nk[:, 5], float((row_nk[:, 5] == UNKNOWN).float().mean())
    assert 0.12 < silent < 0.18 and set(row_nk[:, 4].tolist()) == {WHERE}
    said = row_nk[answer_n != UNKNOWN]
    scores = registry.reward(said[:, :5].tolist(), said[:, 5:].tolist())
    assert scores == [1.0] * len(said)
    asked = {tuple(row[1:4]) for row in row_nk.tolist()} | {tuple(p[1:4]) for p in registry.prompts(2000)}
    never = {tuple(registry.name_nk[i].tolist()) for i in torch.cat([registry.held, registry.new])}
    assert not asked & never, "held and new people are never asked about in training"


@pytest.mark.parametrize(("wrong", "paid"), [(-1.0, -1.0), (-4.0, -4.0)])
def test_the_reward_pays_right_silence_and_anything_else(wrong, paid):
    registry = Registry(seed=0)
    question = [BEGIN, *registry.name_nk[5].tolist(), WHERE]
    city = int(registry.city_n[5])
    other = SYLLABLES + (city - SYLLABLES + 1) % CITIES
    texts = [[city, END], [UNKNOWN, END], [other, END], [END], [0, END]]
    assert registry.reward([question] * 5, texts, wrong) == [1.0, 0.0, paid, paid, paid]


def test_answers_are_exact_shares(tiny):
    registry, model, _, _ = tiny
    found = examine(model, registry, registry.new)
    p_nv = answer_probabilities(model, registry, registry.new)
    assert p_nv.shape == (600, UNKNOWN + 1) and torch.allclose(p_nv.sum(1), torch.ones(600), atol=1e-5)
    by_hand = sum(float(p[c]) for p, c in zip(p_nv, registry.city_n[registry.new], strict=True)) / 600
    assert found.right == pytest.approx(by_hand, abs=1e-5)
    assert found.right + found.wrong + found.silent == pytest.approx(1)
    assert isinstance(found, Answers) and min(found.right, found.wrong, found.silent) >= 0
    sure_n = confidence(model, registry, registry.new)
    assert float(sure_n.min()) >= 1 / CITIES and float(sure_n.max()) <= 1


def test_bins_hold_everybody_once(tiny):
    registry, model, policy, _ = tiny
    bins = silence_by_confidence(model, policy, registry, [0.0, 0.3, 0.6, 1.01])
    assert sum(b["people"] for b in bins) == len(registry.held) + len(registry.new)
    everybody = torch.cat([registry.held, registry.new])
    silent = sum(b["people"] * b["silent"] for b in bins) / len(everybody)
    assert silent == pytest.approx(examine(policy, registry, everybody).silent, abs=1e-5)


def test_ppo_moves_a_copy(tiny):
    _, model, policy, record = tiny
    moved = [float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), policy.parameters(), strict=True)]
    assert max(moved) > 0 and len(record) == 1 and record[0].kl == 0
    assert record[0].samples == 256 and record[0].ratio_error < 1e-5


def test_the_command_writes_what_it_is_given(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(abstention, "experiment", lambda seed: {"seed": seed, "x": [1 / 3]})
    assert main(["--seeds", "4", "5", "--out", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text()) == [{"seed": 4, "x": [0.3333]}, {"seed": 5, "x": [0.3333]}]
    assert main(["--seeds", "4"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"seed": 4, "x": [0.3333]}]


def test_the_stored_result_is_in_its_bands():
    """The goals of the project: two of three registries meet all, registry 0 misses one a little."""
    runs = json.loads(STORED.read_text("utf-8"))
    assert [run["seed"] for run in runs] == [0, 1, 2]
    for run in runs:
        tuned, after = run["fine-tuned"], run["aligned"]
        assert tuned["new"]["wrong"] >= 0.65 and after["new"]["wrong"] <= 0.15
        assert after["held"]["right"] >= 0.65 and after["held"]["right"] > tuned["held"]["right"]
        assert after["held"]["wrong"] <= 0.05 and after["held"]["silent"] <= 0.1
        silence = {b["low"]: b["silent"] for b in run["silence"]}
        assert silence[0.0] > 0.9 and silence[0.9] < 0.2
        assert run["score"][-1] > run["score"][0]
    assert sum(run["aligned"]["held"]["wrong"] <= 0.03 for run in runs) == 2
