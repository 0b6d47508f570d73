"""The explorer of chapter 06: each row is a word that asks, and the sentence says whom it looks at most."""

import numpy as np
import pytest
import torch

from minillm.course.widgets_06 import LookExplorer


def neighbours(words):
    """Head 1 looks one to the left, head 2 one to the right, head 3 everywhere."""
    n = len(words)
    left, right = np.eye(n, k=-1), np.eye(n, k=1)
    left[0, 0] = right[-1, -1] = 1
    return torch.tensor(np.stack([left, right, np.full((n, n), 1 / n)]))


def test_the_sentence_follows_the_head_and_the_words():
    explorer = LookExplorer(["a red hat", "a blue box and a hat"], neighbours)
    assert explorer.sentence == "Head 1 of 3: a → a, red → a, hat → red."
    explorer.head.value = 2
    assert explorer.sentence == "Head 2 of 3: a → red, red → hat, hat → hat."
    explorer.head.value = 3
    assert explorer.sentence == "Head 3 of 3: a → all, red → all, hat → all."
    explorer.words.value, explorer.head.value = "a blue box and a hat", 1
    assert explorer.sentence.startswith("Head 1 of 3: a → a, blue → a, box → blue, and → box")


def test_the_picture_changes_and_has_a_still_twin():
    explorer = LookExplorer(["a red hat"], neighbours, answers=lambda words: [word.upper() for word in words])
    before = explorer.picture.value
    explorer.head.value = 2
    assert explorer.picture.value != before
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "image/png" in data and explorer.figure.alt == explorer.sentence


def test_a_row_looks_along_the_keys():
    def first(words):
        weight_hts = np.zeros((1, len(words), len(words)))
        weight_hts[:, :, 0] = 1
        return weight_hts

    assert LookExplorer(["one two three"], first).sentence == "Head 1 of 1: one → one, two → one, three → one."


def test_one_head_still_has_a_slider():
    explorer = LookExplorer(["a b"], lambda words: np.eye(2)[None])
    explorer.head.value = 2
    assert explorer.sentence.startswith("Head 1 of 1")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="nothing to choose from"):
        LookExplorer([], neighbours)
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        LookExplorer(["a b"], lambda words: np.eye(2))
    with pytest.raises(ValueError, match="one row and one column for each word"):
        LookExplorer(["a b c"], lambda words: np.ones((1, 2, 2)))
