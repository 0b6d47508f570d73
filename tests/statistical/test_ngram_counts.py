"""Counting with arrays against counting with a Counter, where keys need many bits."""

from collections import Counter

import numpy as np
import pytest

from minillm.statistical.ngram_counts import continuation_counts, count_ngrams, encode, find, learn_ids, walk


@pytest.mark.parametrize(("events", "words"), [(3, 400), (900, 4000), (70_000, 3000)])
def test_counts_and_places_are_those_of_a_counter(events, words):
    generator = np.random.default_rng(events)
    sentences = np.split(generator.integers(2, events, words), np.sort(generator.integers(0, words, words // 7)))
    id_t = np.concatenate([[events, *sentence, 1] for sentence in sentences]).astype(np.int64)
    counts = count_ngrams(id_t, 4, events)
    keys = [found.key_n for found in counts]
    nodes = [id_t, *(node for _, node in walk(keys, id_t, events))]
    grams: list[Counter[tuple[int, ...]]] = []
    for n in range(1, 5):
        texts = [(events, *sentence.tolist(), 1) for sentence in sentences]
        grams.append(Counter(text[i : i + n] for text in texts for i in range(len(text) - n + 1)))
        assert (np.diff(keys[n - 1]) > 0).all()
        if n > 1:
            assert len(keys[n - 1]) == len(grams[-1])
    at = 0
    for sentence in sentences:
        text = (events, *sentence.tolist(), 1)
        for n in range(1, 5):
            for i in range(n - 1, len(text)):
                gram, node = text[i - n + 1 : i + 1], nodes[n - 1][at + i]
                assert counts[n - 1].count_n[node] == grams[n - 1][gram]
                if n > 1:
                    assert counts[n - 1].context_n[node] == nodes[n - 2][at + i - 1]
                    assert counts[n - 1].suffix_n[node] == nodes[n - 2][at + i]
        at += len(text)
    before = Counter(gram[1:] for gram in grams[2])
    adjusted = continuation_counts(counts)[1]
    for (first, last), times in grams[1].items():
        node = find(keys[1], np.array([first * events + last]))[0]
        assert adjusted[node] == (times if first == events else before[first, last])


def test_ids_survive_the_way_there_and_back():
    sentences = [["b", "a"], [], ["c", "b", "<unk>"]]
    ids, id_t = learn_ids(sentences)
    assert id_t.tolist() == encode(sentences, ids).tolist() == [5, 2, 3, 1, 5, 1, 5, 4, 2, 0, 1]
    assert list(ids) == ["<unk>", "</s>", "b", "a", "c", "<s>"]
    assert encode([["never"]], ids).tolist() == [5, 0, 1]
    ids, id_t = learn_ids(sentences, given=["c", "z"])
    assert id_t.tolist() == encode(sentences, ids).tolist()
