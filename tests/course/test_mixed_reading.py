"""What chapter 14 trains: exact floors, equal work, and the stored runs against new ones."""

import math
import statistics

import pytest
import torch

from minillm.course import mixed_reading
from minillm.course.mixed_reading import CONFIGS, KINDS, LONG, SEEDS, SHORT
from minillm.text.village import Village
from minillm.transformer.costs import forward_flops, parameters


@pytest.fixture(scope="module")
def texts():
    return mixed_reading.mixed_texts()


def stored(name, steps):
    return [row for row in mixed_reading.stored_runs() if (row["name"], row["steps"]) == (name, steps)]


def test_no_document_is_of_two_kinds(texts):
    """Else the floor would be too high: the probability of a document is that under its own kind alone."""
    village = Village(seed=0)
    for kind, new in texts.new.items():
        for other in set(KINDS) - {kind, "translations"}:
            assert all(village.logprob(text, other) == -math.inf for text in new), (kind, other)


def test_the_floor_of_sums_by_hand(texts):
    """Per sum: the nats of the village, and those of being a sum at all."""
    village, new = Village(seed=0), texts.new["sums"]
    nats = len(new) * math.log(19_200 / 10_000) - sum(village.logprob(text, "sums") for text in new)
    assert texts.floor["sums"] == pytest.approx(nats / math.log(2) / sum(map(len, new)))


def test_new_documents_come_back_and_are_not_the_old_ones(texts):
    old = texts.tokenizer.decode(texts.stream_n.tolist())
    for kind in ("stories", "translations"):
        assert sum(text in old for text in texts.new[kind]) < 0.2 * len(texts.new[kind]), kind
    shares = {k: sum(len(texts.tokenizer.encode(x)) for x in new) / len(new) * mixed_reading.AMOUNTS[k]
              for k, new in texts.new.items()}  # fmt: skip
    assert max(shares.values()) < 1.6 * min(shares.values()), "the kinds have about as many tokens each"


def test_the_mixtures_do_the_work_of_the_narrow_reader():
    narrow, wide = CONFIGS["dense, equal work"], CONFIGS["dense, equal parameters"]
    for name in CONFIGS:
        if name.startswith("experts"):
            router = 2 * 2 * 64 * 8  # two blocks, a product and a sum each
            assert forward_flops(CONFIGS[name], 1) == forward_flops(narrow, 1) + router
            whole = sum(parameters(CONFIGS[name]).values())
            assert whole - 2 * 64 * 8 == sum(parameters(wide).values())


def test_information_about_the_kind():
    apart = {"a": torch.tensor([1.0, 0, 0]), "b": torch.tensor([0, 0.5, 0.5])}
    same = {"a": torch.tensor([0.2, 0.8]), "b": torch.tensor([0.2, 0.8])}
    assert mixed_reading.kind_information(apart) == pytest.approx(1)
    assert mixed_reading.kind_information(same) == pytest.approx(0, abs=1e-6)


def test_above_the_floor_is_the_mean_over_the_kinds(texts):
    bits = {kind: floor + i / 10 for i, (kind, floor) in enumerate(texts.floor.items())}
    assert mixed_reading.above_floor(bits) == pytest.approx(0.2)


def test_a_run_is_a_function_of_its_configuration_and_seed():
    seen = []
    weights = [
        mixed_reading.fit(CONFIGS["experts, balance loss"], 3, seed, seen.append).score.weight for seed in (0, 0, 1)
    ]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert len(seen) == 9 and not seen[0].training
    starts = [mixed_reading.new_reader(CONFIGS["experts, balance loss"], seed).score.weight for seed in (0, 1)]
    assert not torch.equal(*starts), "the start, and not the batches alone"


def test_the_stored_table_is_whole_and_adds_up(texts):
    rows = mixed_reading.stored_runs()
    keys = {(row["name"], row["steps"], row["seed"]) for row in rows}
    assert keys == {(n, s, seed) for n in CONFIGS for s in (SHORT, LONG) for seed in range(SEEDS)}
    for row in rows:
        assert row["above_floor"] == pytest.approx(mixed_reading.above_floor(row["bits"]), abs=2e-4)
        assert all(row["bits"][kind] > texts.floor[kind] for kind in KINDS)
        assert len(row["effective_experts"]) == (2 if row["name"].startswith("experts") else 0)


def test_a_stored_run_made_again():
    """The shortest of them; the others differ in configuration, seed and steps alone."""
    row = stored("experts, balance by bias", SHORT)[0]
    again = mixed_reading.one_run(row["name"], row["steps"], row["seed"])
    assert again["above_floor"] == pytest.approx(row["above_floor"], abs=0.05)
    assert again["effective_experts"] == pytest.approx(row["effective_experts"], abs=0.4)
    assert again["bits"] == pytest.approx(row["bits"], abs=0.15)


def test_the_stored_runs_say_what_the_chapter_says():
    mean = {(n, s): statistics.mean(row["above_floor"] for row in stored(n, s)) for n in CONFIGS for s in (SHORT, LONG)}
    assert mean["dense, equal parameters", LONG] < mean["experts, balance loss", LONG] < mean["dense, equal work", LONG]


def test_a_balance_that_is_too_strong_costs_what_the_exercise_says():
    none, loss = mixed_reading.trial({}), mixed_reading.trial({"balance_loss": 10.0})
    assert none[1] < 7.8 < loss[1] and loss[0] > 1.46
