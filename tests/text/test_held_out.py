"""Held-out combinations: proved on the result, for the village and for sentences that nobody chose."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.text.held_out import hold_out_combinations, new_combinations
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village

PAIRS = Village(seed=0).translations(1500)
SPLIT = WordTokenizer.split


def words(texts):
    return {word for text in texts for word in SPLIT(text)}


def proved(pairs, done, together):
    """The promise of the split, checked the slow way, from the texts alone."""
    assert Counter(done.train) + Counter(done.held_out) == Counter(pairs)
    for side in (0, 1):  # each word is known, in either language
        assert words(p[side] for p in done.held_out) <= words(p[side] for p in done.train)
    in_training = [set(SPLIT(source)) for source, _ in done.train]
    for a, b in done.combinations:
        assert not any(a in source and b in source for source in in_training)
        assert sum(a in SPLIT(s) and b in SPLIT(s) for s, _ in pairs) >= together
    chosen = set(done.combinations)
    for source, _ in done.held_out:
        assert chosen & set(combinations(sorted(set(SPLIT(source))), 2)), source


@pytest.mark.no_promises
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_split_keeps_its_promise_on_the_village(seed):
    done = hold_out_combinations(PAIRS, 0.12, together=4, seed=seed)
    proved(PAIRS, done, together=4)
    assert 0.11 * len(PAIRS) < len(done.held_out) <= 0.12 * len(PAIRS)
    assert len(done.combinations) > 20
    before, after = (Counter(w for s, _ in part for w in set(SPLIT(s))) for part in (PAIRS, done.train))
    assert all(2 * after[word] >= n for word, n in before.items())
    frame = {word for word, n in before.items() if n > 0.1 * len(PAIRS)} | {".", ","}
    assert frame.isdisjoint(word for two in done.combinations for word in two)
    assert done.held_out == [pair for pair in PAIRS if pair in set(done.held_out)]  # in their old order


@pytest.mark.no_promises
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from(["p q r", "u v w x", "k l m n o"][i].split()) for i in range(3)]),
                min_size=30, max_size=60), st.integers(0, 9))  # fmt: skip
def test_the_promise_holds_for_any_sentences(rows, seed):
    pairs = [(" ".join(row), row[0].upper() + row[2]) for row in rows]
    try:
        done = hold_out_combinations(pairs, 0.2, together=1, common=0.9, seed=seed)
    except ValueError as error:
        assert "cannot be held out" in str(error)
        return
    proved(pairs, done, together=1)


def test_the_choice_is_one_of_pairs_and_seed_not_of_order():
    one, other = hold_out_combinations(PAIRS), hold_out_combinations(PAIRS[::-1])
    assert (one.train, one.held_out, one.combinations) == (
        other.train[::-1],
        other.held_out[::-1],
        other.combinations,
    )
    assert hold_out_combinations(PAIRS, seed=1).combinations != one.combinations


def test_a_word_of_the_target_alone_also_stays_known():
    pairs = [(f"{a} {b}", f"{b}{i}") for i, (a, b) in enumerate((a, b) for a in "abcdef" for b in "uvwxyz")]
    with pytest.raises(ValueError, match="cannot be held out"):  # each number stands in one target
        hold_out_combinations(pairs, together=1, common=0.2, split=lambda text: text.split())


def test_new_combinations_by_hand():
    train = ["the red cat sat", "a dog sat", "the dog"]
    assert new_combinations("the dog sat", train) == []  # each two of them met, though never all three
    assert new_combinations("a red dog", train) == [("a", "red"), ("dog", "red")]
    assert new_combinations("dog", train) == []
    done = hold_out_combinations(PAIRS, seed=3)
    sources = [source for source, _ in done.train]
    assert all(new_combinations(source, sources) for source, _ in done.held_out[:20])
    assert all(not new_combinations(source, sources) for source in sources[:20])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pairs": []}, "Village"),
        ({"pairs": [("a", "b"), "ab"]}, r"pairs\[1\]='ab'"),
        ({"share": 0}, "share=0 must lie between"),
        ({"share": 1.0}, "share=1.0 must lie between"),
        ({"common": 1.5}, "common=1.5"),
        ({"together": 0}, "together=0 must be at least 1"),
        ({"together": 400}, "cannot be held out: 0 combinations"),
    ],
)
def test_bad_input_is_named(changes, says):
    with pytest.raises(ValueError, match=says):
        hold_out_combinations(**{"pairs": PAIRS[:200], **changes})
