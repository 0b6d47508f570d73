"""Word2Vec: what it must find, what must not matter, and what Levy and Goldberg proved about it."""

import random

import numpy as np
import pytest
import torch

from minillm.text.village import Village
from minillm.vectors.cooccurrence import count_pairs
from minillm.vectors.evaluation import analogy_accuracy, sentences_of
from minillm.vectors.pmi import pmi
from minillm.vectors.word2vec import Word2Vec

ANIMALS, FOODS = ["cat", "dog", "hen", "fox"], ["bread", "soup", "cake"]


@pytest.fixture(scope="module")
def two_worlds():
    """Animals and foods never share a neighbour, and no animal meets another."""
    dice = random.Random(0)
    animals = [["the", word, dice.choice(["ran", "slept"]), "outside"] for word in ANIMALS * 100]
    foods = [["some", word, dice.choice(["tasted", "smelled"]), "good"] for word in FOODS * 100]
    return animals + foods


@pytest.fixture(scope="module")
def village():
    return Village(seed=0)


@pytest.mark.parametrize("architecture", ["skip-gram", "cbow"])
def test_words_with_the_same_neighbours_become_neighbours(two_worlds, architecture):
    model = Word2Vec(dimensions=11, window=2, epochs=15, architecture=architecture, subsample=0).fit(two_worlds)
    for group in (ANIMALS, FOODS):
        for word in group:
            assert {near for near, _ in model.most_similar(word, len(group) - 1)} == set(group) - {word}


@pytest.mark.parametrize("architecture", ["skip-gram", "cbow"])
def test_the_same_seed_gives_the_same_vectors_and_another_does_not(two_worlds, architecture):
    def fit(seed):
        return Word2Vec(dimensions=5, epochs=2, seed=seed, architecture=architecture).fit(two_worlds).vectors

    before = torch.random.get_rng_state()
    np.testing.assert_array_equal(fit(3), fit(3))
    assert np.abs(fit(3) - fit(4)).max() > 0.01
    assert torch.equal(torch.random.get_rng_state(), before), "nobody else's dice are touched"


def test_threads_are_given_back(two_worlds):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        Word2Vec(dimensions=5, epochs=1).fit(two_worlds)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_shapes_order_and_what_rare_words_do(two_worlds):
    model = Word2Vec(dimensions=5, epochs=1, min_count=150).fit(two_worlds)
    assert {"the", "some", "outside", "good"} <= set(model.words) and "cat" not in model
    assert model.words[:2] == ["outside", "the"], "the most frequent first, then by alphabet"
    assert model.vectors.shape == model.context_vectors.shape == (len(model.words), 5)
    assert model.vectors.dtype == np.float32


def test_no_window_looks_over_the_end_of_a_sentence():
    alone = [["a"], ["b"], ["c"]] * 40
    model = Word2Vec(dimensions=3, epochs=2, subsample=0).fit(alone)
    assert np.abs(model.context_vectors).max() == 0, "nobody has a neighbour, so nothing is learned"


@pytest.mark.parametrize("architecture", ["skip-gram", "cbow"])
def test_a_tiny_vocabulary_and_a_high_rate_do_not_diverge(architecture):
    text = [["a", "b", "a", "a", "c", "a"] * 8] * 30
    model = Word2Vec(dimensions=4, window=10, negatives=20, epochs=5, subsample=0, architecture=architecture).fit(text)
    assert np.linalg.norm(model.vectors, axis=1).max() < 30


@pytest.mark.no_promises
def test_skip_gram_factorises_shifted_pmi():
    """Levy and Goldberg 2014: with dimensions to spare, w·c = PMI − log k wherever a pair is seen often enough."""
    dice = np.random.default_rng(0)
    v, k, window = 12, 3, 2
    chance = dice.dirichlet(np.full(v, 0.7), size=v)
    state, sentence, text = 0, [], []
    for i in range(30_000):
        state = dice.choice(v, p=chance[state])
        sentence.append(f"w{state}")
        if i % 10 == 9:
            text.append(sentence)
            sentence = []
    model = Word2Vec(
        dimensions=2 * v, window=window, negatives=k, epochs=25, subsample=0, noise_power=1, learning_rate=0.05
    ).fit(text)
    counts = count_pairs(text, window, "linear", min_count=2)
    assert counts.words == model.words
    want, got = pmi(counts.dense()) - np.log(k), model.vectors @ model.context_vectors.T
    often = counts.dense() > 100
    assert often.mean() > 0.4
    assert np.corrcoef(want[often], got[often])[0, 1] > 0.98
    assert np.abs(want - got)[often].mean() < 0.15
    assert np.abs((want + np.log(k)) - got)[often].mean() > 0.5, "without the shift it does not fit"


@pytest.mark.no_promises
@pytest.mark.parametrize("architecture", ["skip-gram", "cbow"])
def test_the_village_is_understood_a_little(village, architecture):
    text = sentences_of(village.stories(700) + village.facts(1500))
    model = Word2Vec(dimensions=50, epochs=8, architecture=architecture).fit(text)
    analogies = village.world.analogies
    assert analogy_accuracy(model, analogies["gender"]) >= 0.5
    places = {place for _, place in analogies["job-place"]}
    assert analogy_accuracy(model, analogies["job-place"], candidates=places) >= 0.3  # chance is one in eight
    assert model.most_similar("monday", 1)[0][0] in {"tuesday", "wednesday", "thursday", "friday", "sunday"}


def test_what_is_saved_is_a_model_again(two_worlds, tmp_path):
    model = Word2Vec(dimensions=5, epochs=1).fit(two_worlds)
    model.save(tmp_path / "model.txt")
    again = Word2Vec.load(tmp_path / "model.txt")
    assert isinstance(again, Word2Vec) and again.most_similar("cat", 3) == model.most_similar("cat", 3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"dimensions": 0}, "dimensions=0 must be a whole number of at least 1; dimensions=100 works"),
        ({"dimensions": 2.5}, "dimensions=2.5"),
        ({"window": 0}, "window=0"),
        ({"negatives": 0}, "negatives=0"),
        ({"min_count": 0}, "min_count=0"),
        ({"epochs": -1}, "epochs=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": None}, "seed=None"),
        ({"architecture": "skipgram"}, "architecture='skipgram' is not known; use 'skip-gram' or 'cbow'"),
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"learning_rate": 0.01, "last_learning_rate": 0.1}, "last_learning_rate=0.1"),
        ({"subsample": 1}, "subsample=1"),
        ({"noise_power": -1}, "noise_power=-1"),
    ],
)
def test_bad_settings_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        Word2Vec(**given)


@pytest.mark.parametrize(
    ("sentences", "says"),
    [
        ([], "empty vocabulary: there are 0 sentences"),
        ([["a", "b"]], "the most frequent occurs 1 times; give more text, or min_count=1"),
        ("the cat", "sentences is one string"),
        (["the cat", "the dog"], "each sentence is a list of words"),
        ([[1, 2], [1, 2]], "sentences holds 1, which is not a string"),
    ],
)
def test_bad_text_is_refused(sentences, says):
    with pytest.raises(ValueError, match=says):
        Word2Vec().fit(sentences)
