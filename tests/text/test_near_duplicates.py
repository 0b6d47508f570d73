"""MinHash keeps its promises: the estimate, its error, the band probability, and no miss beyond the bound."""

import math

import numpy as np
import pytest

from minillm.text.near_duplicates import (
    NearDuplicateConfig,
    candidate_pairs,
    jaccard,
    minhash,
    near_duplicates,
    shingles,
)


def pair_of_sets(chance, similarity, union=400):
    """Two sets of random numbers with exactly this Jaccard similarity (as near as whole numbers allow)."""
    both = round(similarity * union)
    alone = (union - both) // 2
    x = chance.integers(0, 2**63, 2 * alone + both, dtype=np.uint64)
    return np.unique(x[: alone + both]), np.unique(np.concatenate([x[alone : alone + both], x[alone + both :]]))


@pytest.mark.parametrize("similarity", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_the_estimate_is_unbiased_and_its_error_is_the_formula_s(similarity):
    chance = np.random.default_rng(7)
    trials = 300
    errors = []
    for seed in range(trials):
        a, b = pair_of_sets(chance, similarity)
        signature = minhash([a, b], NearDuplicateConfig(seed=seed, bands=16, rows=4))
        errors.append(np.mean(signature[0] == signature[1]) - jaccard(a, b))
    promised = NearDuplicateConfig(bands=16, rows=4).standard_error(similarity)
    assert abs(np.mean(errors)) < 4 * promised / math.sqrt(trials)
    # The standard deviation of n normal values has itself a relative error of about 1/√(2n).
    assert abs(np.std(errors) / promised - 1) < 5 / math.sqrt(2 * trials)


@pytest.mark.parametrize(("bands", "rows"), [(32, 4), (8, 6)])
@pytest.mark.parametrize("similarity", [0.2, 0.4, 0.6, 0.8])
def test_the_chance_to_be_a_candidate_is_the_formula_s(bands, rows, similarity):
    chance = np.random.default_rng(11)
    config = NearDuplicateConfig(bands=bands, rows=rows)
    trials = 500
    sets = [members for _ in range(trials) for members in pair_of_sets(chance, similarity, 200)]
    pairs = {tuple(pair) for pair in candidate_pairs(minhash(sets, config), config).tolist()}
    found = sum((2 * i, 2 * i + 1) in pairs for i in range(trials)) / trials
    promised = config.candidate_probability(similarity)
    # One set of hash functions serves all pairs; the pairs are of independent numbers, so they are independent trials.
    assert abs(found - promised) < 4 * math.sqrt(promised * (1 - promised) / trials) + 1e-9


def test_misses_at_the_threshold_stay_below_the_bound():
    config = NearDuplicateConfig(bands=8, rows=4, threshold=0.7)  # few bands, so that misses can be counted
    chance = np.random.default_rng(5)
    words = [f"w{i}" for i in range(3000)]
    texts, trials = [], 400
    for _ in range(trials):
        text = list(chance.choice(words, 120, replace=False))
        other = text.copy()
        for at in (20, 50, 80, 110):  # each changed word changes three shingles: (118 - 12) / (118 + 12) = 0.815
            other[at] = "changed" + str(chance.integers(10**9))
        texts += [" ".join(text), " ".join(other)]
    result = near_duplicates(texts, config)
    assert all(math.isclose(s, 106 / 130) for s in result.similarity.values())
    missed = 1 - len(result.copy_of) / trials
    bound = config.miss_bound(106 / 130)
    assert 0.005 < bound < 0.5 and missed <= bound + 4 * math.sqrt(bound * (1 - bound) / trials)


def test_it_agrees_with_comparing_every_pair():
    chance = np.random.default_rng(3)
    words = [f"w{i}" for i in range(40)]
    texts = [" ".join(chance.choice(words, 60)) for _ in range(30)]
    for i in range(60):
        text = texts[i % 30].split()
        text[int(chance.integers(60))] = "new"
        del text[int(chance.integers(50)) : int(chance.integers(50, 59))][: i % 7]
        texts.append(" ".join(text))
    config = NearDuplicateConfig(threshold=0.6)
    sets = [shingles(text) for text in texts]
    kept: list[int] = []
    for i, members in enumerate(sets):
        if all(jaccard(members, sets[j]) < config.threshold for j in kept):
            kept.append(i)
    result = near_duplicates(texts, config)
    assert result.kept == kept
    for i, j in result.copy_of.items():
        assert j in kept and result.similarity[i] == jaccard(sets[i], sets[j]) >= config.threshold


def test_a_chain_is_no_group():
    words = [f"w{i}" for i in range(60)]
    a, b, c = (" ".join(words[at : at + 50]) for at in (0, 5, 10))  # a is near b, b is near c, a is not near c
    result = near_duplicates([a, b, c], NearDuplicateConfig(threshold=0.75))
    assert result.kept == [0, 2] and result.copy_of == {1: 0}


def test_limits():
    assert near_duplicates([]).kept == []
    assert near_duplicates(["", "", "?!", "?!"]).kept == [0, 1, 2, 3]  # no words, nothing to say about them
    assert near_duplicates(["Hi.", "hi", "Ho."]).copy_of == {1: 0}
    assert near_duplicates(["same words here"] * 5).copy_of == {1: 0, 2: 0, 3: 0, 4: 0}
    old = "the ferry leaves at six and comes back at nine when the lamps are lit"
    assert near_duplicates(["", "?", old, "!", "Something else.", old + " again"]).copy_of == {5: 2}
    exact_only = NearDuplicateConfig(threshold=1.0)
    assert near_duplicates(["a b c d", "a b c e", "A  b c, d!"], exact_only).copy_of == {2: 0}


def test_case_and_marks_do_not_count_and_chinese_is_compared_by_the_character():
    assert jaccard(shingles("The ferry: late again!"), shingles("the ferry late again")) == 1.0
    assert jaccard(shingles("渡船今天又晚点了"), shingles("渡船今天又晚点。")) == 5 / 6


def test_the_order_of_hashing_does_not_matter():
    sets = [shingles(f"text number {i} of some length {i * i} here") for i in range(50)] + [shingles("")]
    together = minhash(sets)
    assert all((minhash([members])[0] == row).all() for members, row in zip(sets, together, strict=True))
    assert (minhash(sets, NearDuplicateConfig(seed=1)) != together)[:-1].any(axis=1).all()


def test_a_page_copied_a_thousand_times_is_no_million_of_pairs():
    result = near_duplicates(["the same page of the same site again"] * 1000 + ["another page of another site here"])
    assert result.kept == [0, 1000] and result.candidates <= 1 and result.compared <= 1001


def test_shingles_count_runs_of_words():
    assert len(shingles("a b c d e", 2)) == 4 and len(shingles("a b a b a b", 2)) == 2
    assert len(shingles("a b", 5)) == 1
    assert len(np.intersect1d(shingles("a b c", 1), shingles("c b a", 1))) == 3
    assert len(np.intersect1d(shingles("a b c", 2), shingles("c b a", 2))) == 0  # the order counts


@pytest.mark.parametrize("change", [{"threshold": 0.0}, {"threshold": 1.1}, {"bands": 0}, {"rows": -1}, {"shingle": 0}])
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        NearDuplicateConfig(**change)
