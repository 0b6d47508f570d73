"""Checks of chapter 04: better than chance, an analogy, one step of negative sampling, short vectors that you invent.

Next:    minillm/course/widgets.py
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import permutations
from random import Random
from typing import Any

import numpy as np

from minillm.course.checks import call, expect, expect_close, expect_equal, expect_inputs_kept, expect_type
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village
from minillm.vectors.word_vectors import WordVectors

Array = Any  # a numpy array, or what `minillm grade` hands over as one


def ppmi(answer: Callable[[Array], Array]) -> None:
    """`ppmi(count_vn)`: the logarithm of count over chance, and 0 where that is negative or nothing was seen."""
    got = call(answer, np.array([[3.0, 0.0], [0.0, 3.0]]))
    expect_type(got, np.ndarray, "ppmi([[3, 0], [0, 3]])")
    hint = "a pair that was never seen counts 0 at the end; before that, log 0 is -inf and 0 · log 0 is nan"
    expect(np.isfinite(np.asarray(got, dtype=float)).all(), "ppmi([[3, 0], [0, 3]]) holds nan or infinity", hint)
    if np.shape(got) == (2, 2) and np.allclose(got, np.eye(2)):
        expect_close(got, np.eye(2) * math.log(2), 1e-9, "ppmi([[3, 0], [0, 3]])", "take the natural logarithm: np.log")
    for table, hint in (
        ([[3, 0], [0, 3]], "log of p(w, c) / (p(w) p(c)), here log(1/2 / (1/2 · 1/2)) = log 2 on the diagonal"),
        ([[1, 9], [9, 1]], "1 is less than chance would give (5), so its PMI is negative and becomes 0"),
        ([[4, 0], [2, 3]], "p(w) comes from the sum of a row, p(c) from the sum of a column: look at the axes"),
        ([[6, 12, 2], [3, 6, 1]], "the rows are proportional: each pair meets as often as chance has it, so all are 0"),
        ([[4, 1, 0], [2, 0, 5]], "the table need not be square: two words, three companions"),
        ([[2, 0], [0, 0], [1, 3]], "a row that is all 0 gives zeros, not nan"),
    ):
        _table(answer, table, hint)
    chance = np.random.default_rng()
    for _ in range(20):
        _table(answer, chance.poisson(1.0, (4, 7)) + np.eye(4, 7), "go through the formula with one cell")
    table = np.array([[4.0, 1.0, 0.0], [2.0, 1.0, 5.0]])
    times_ten = call(answer, 10 * table)
    hint = (
        "ten times the text is no other language: divide by the sum of the whole table, and add nothing to the counts"
    )
    expect_close(times_ten, call(answer, table), 1e-9, "ppmi of ten times the counts", hint)
    expect_inputs_kept(answer, table)


def _table(answer: Callable[[Array], Array], table: Any, hint: str) -> None:
    count_vn = np.array(table, dtype=float)
    expected_vn = np.outer(count_vn.sum(1), count_vn.sum(0)) / count_vn.sum()
    ratio_vn = np.divide(count_vn, expected_vn, out=np.ones_like(count_vn), where=count_vn > 0)
    got = call(answer, count_vn)
    expect_type(got, np.ndarray, f"ppmi({count_vn.tolist()})")
    expect_close(got, np.log(np.maximum(ratio_vn, 1)), 1e-9, f"ppmi({count_vn.astype(int).tolist()})", hint)


def analogy(answer: Callable[[list[str], Array, str, str, str], str]) -> None:
    """`analogy(words, vector_vd, a, b, c)`: the word nearest to b - a + c, all of length one, none of the three."""
    words = ["man", "king", "woman", "queen", "kong"]
    man, king, woman, queen = [1, 0, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]
    of_one_length = "divide by the lengths of the candidates too, so that cosines are compared"
    for rows, hint in (
        ([man, king, woman, queen, [0, 1, -1, 1]], "a is taken away and b is added: b - a + c, not a - b + c"),
        ([man, king, woman, queen, [0.4, 0.2, 0.2, 0.6]], "kong lies near a + b + c: a has a minus, b - a + c"),
        (
            [[1, 0, 0, 2], [1, 0, 0.4, 2], [0, 1, 0, 2], [0, 1, 0.8, 1.4], [0, 0, 0, -1]],
            "look at the three signs: b - a + c",
        ),
        ([man, king, woman, queen, [9, 9, 9, 9]], f"kong has a long vector, not a near one: {of_one_length}"),
        (
            [[9, 0, 0, 9], king, woman, queen, [-9, 1, 1, -9]],
            "man has a vector nine times as long as the others and decides alone: scale a, b and c to length one first",
        ),
    ):
        _answer(answer, words, np.array(rows, dtype=float), ("man", "king", "woman"), hint)
    chance = np.random.default_rng()
    words = [f"word{i}" for i in range(11)]
    for _ in range(30):
        vector_vd = chance.normal(size=(11, 6)) * chance.uniform(0.2, 5, size=(11, 1))
        a, b, c = (words[i] for i in chance.choice(11, 3, replace=False))
        _answer(answer, words, vector_vd, (a, b, c), "only directions count: scale every vector to length one first")
    expect_inputs_kept(answer, words, chance.normal(size=(11, 6)), "word0", "word1", "word2")


def _answer(answer: Any, words: list[str], vector_vd: np.ndarray, question: tuple[str, str, str], hint: str) -> None:
    got = call(answer, words, vector_vd, *question)
    expect_type(got, str, "analogy(words, vectors, a, b, c)", "give the word itself, not its place" if got else "")
    a, b, c = question
    wanted = WordVectors(words, vector_vd).analogy(a, b, c)[0][0]
    if got in question:
        hint = "a, b and c are part of the question and may not be the answer; leave them out"
    rows = ", ".join(f"{w} {np.round(x, 1).tolist()}" for w, x in zip(words, vector_vd, strict=True))
    expect_equal(got, wanted, f"{a} : {b} = {c} : ? with {rows if len(words) < 9 else 'random vectors'}", hint)


def step(answer: Callable[[Array, Array, Array, float], tuple[Array, Array]]) -> None:
    """`step(word_d, company_nd, true_n, rate)`: one word, n questions, and where all their vectors go."""
    word_d, company_nd = np.array([1.0, 0.0]), np.array([[0.0, 1.0], [0.0, 2.0], [1.0, 0.0]])
    true_n = np.array([1.0, 0.0, 0.0])
    got = call(answer, word_d, company_nd, true_n, 0.5)
    expect_type(got, tuple, "step(word, company, true, 0.5)", "return two things: the word's vector, and the company's")
    expect(len(got) == 2, f"step(word, company, true, 0.5) gave {len(got)} things; wanted the word and its company")
    hint = "give the new vectors, not the moves; with the rate 0 nothing moves: every move is the rate times something"
    expect(np.shape(got[0]) != (3, 2), "step(word, company, true, 0.5) gave the company first", "first the word")
    _moved(answer, word_d, company_nd, true_n, 0.0, hint)
    chance = np.random.default_rng()
    for _ in range(20):
        d, n = int(chance.integers(2, 6)), 7
        labels = chance.permutation([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        inputs = chance.normal(size=d), chance.normal(size=(n, d)), labels
        _moved(answer, *inputs, 0.5, "")
    hint = "both answers are right and sure, so nothing moves; exp(x) / (1 + exp(x)) is nan at 1000"
    far_d, far_nd = np.array([50.0, 0.0]), np.array([[20.0, 0.0], [-20.0, 0.0]])
    _moved(answer, far_d, far_nd, np.array([1.0, 0.0]), 0.5, hint)
    expect_inputs_kept(answer, word_d, company_nd, true_n, 0.5)


def _moved(answer: Any, word_d: np.ndarray, company_nd: np.ndarray, true_n: np.ndarray, rate: float, hint: str) -> None:
    """Compare one step with ours; the wrong steps that people take are recognised by where they lead."""
    got_d, got_nd = (np.asarray(part, dtype=float) for part in call(answer, word_d, company_nd, true_n, rate))
    score_n = company_nd @ word_d
    said_n = 1 / (1 + np.exp(-np.clip(score_n, -500, 500)))
    error_n = said_n - true_n
    new_d, new_nd = word_d - rate * error_n @ company_nd, company_nd - rate * np.outer(error_n, word_d)
    n = len(true_n)
    common = (
        (2 * word_d - new_d, None, "you go uphill: the loss must fall, so a true pair's score must rise"),
        (word_d - rate * (error_n + 2 * true_n - 1) @ company_nd, None, "true and made up are exchanged: said - true"),
        (word_d - rate * error_n @ company_nd / n, None, "add up what all the questions ask for, do not average"),
        (word_d - rate * error_n[0] * company_nd[0], None, "every question moves the word, not only the first"),
        (word_d + rate * true_n @ company_nd, None, "weigh by the error, said - true, not by what is true alone"),
        (
            new_d,
            company_nd - rate * np.outer(error_n, new_d),
            "the word had moved already: use the old vectors for both",
        ),
        (new_d, company_nd, "the company moves too: each by its error times the word"),
        (new_d, 2 * company_nd - new_nd, "the word goes downhill, but the company uphill: a minus for both"),
        (
            new_d,
            company_nd + (new_nd - company_nd) / n,
            "each companion moves by its own whole error, no mean is taken",
        ),
        (
            word_d - rate * (score_n - true_n) @ company_nd,
            None,
            "the score must go through sigmoid before it is compared",
        ),
        (
            word_d - rate * (error_n * said_n * (1 - said_n)) @ company_nd,
            None,
            "the slope of sigmoid is in it twice: the slope of -log sigmoid is said - true, nothing more",
        ),
    )
    if same(got_d, new_d) and same(got_nd, new_nd):
        return
    if not hint:
        hint = next((why for d, nd, why in common if same(got_d, d) and (nd is None or same(got_nd, nd))), "")
    hint = hint or "the error of a question is sigmoid(word · company) - true; it moves the word along the company"
    inputs = f"a step of {n} questions at the rate {rate}"
    expect_close(got_d, new_d, 1e-8, f"{inputs}: the word", hint)
    expect_close(got_nd, new_nd, 1e-8, f"{inputs}: the company", hint)


def same(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether two arrays agree in shape and, to rounding, in numbers.

    >>> same(np.zeros(2), np.zeros(3)), same(np.ones(2), np.ones(2))
    (False, True)
    """
    return got.shape == wanted.shape and bool(np.allclose(got, wanted, rtol=1e-9, atol=1e-9))


DIMENSIONS, STORIES, SEEDS, GOAL = 24, 800, (3, 11), 0.25


def embed(answer: Callable[[list[list[str]], int], dict[str, Array]]) -> None:
    """`embed(sentences, dimensions)`: short vectors from text, judged by the village's jobs and places."""
    shares = []
    for seed in SEEDS:
        sentences, pairs = disguised(seed)
        table = call(answer, sentences, DIMENSIONS)
        shares.append(_share(table, pairs))
    mean = sum(shares) / len(shares)
    expect(
        mean >= GOAL,
        f"your vectors answer {mean:.0%} of the questions job : place = job : place; the goal is {GOAL:.0%}",
        hint="counts of frequent words drown the rest: weigh a count against chance before you shorten",
    )


def _share(table: Any, pairs: Sequence[tuple[str, str]]) -> float:
    """Share of the analogies among these pairs that a dictionary of vectors answers."""
    expect_type(table, dict, f"embed(sentences, {DIMENSIONS})", "give a dictionary from a word to its vector")
    missing = [word for pair in pairs for word in pair if word not in table]
    text = f"{len(missing)} of the {2 * len(pairs)} words that are asked for have no vector"
    expect(not missing, text, hint="do not leave out words that are seen ten times or more")
    rows = [np.asarray(vector, dtype=float) for vector in table.values()]
    shapes = {row.shape for row in rows}
    only = next(iter(shapes))
    right = len(shapes) == 1 and len(only) == 1 and 1 <= only[0] <= DIMENSIONS
    expect(
        right, f"the vectors have shapes {sorted(shapes)[:3]}; {DIMENSIONS} numbers a word are allowed, all the same"
    )
    finite = all(np.isfinite(row).all() for row in rows)
    expect(finite, "some vectors hold nan or infinity", hint="a pair that was never seen: log 0")
    vectors = WordVectors(list(table), np.stack(rows))
    asked = [(*x, *y) for x, y in permutations(pairs, 2)]
    return sum(vectors.analogy(a, b, c)[0][0] == d for a, b, c, d in asked) / len(asked)


@cache
def disguised(seed: int) -> tuple[list[list[str]], list[tuple[str, str]]]:
    """The stories of a village with every word in a secret code, and its pairs of job and place in that code.

    >>> sentences, pairs = disguised(3)
    >>> len(sentences), len(pairs), "baker" in sentences[0]
    (800, 10, False)
    """
    village = Village(seed=seed)
    sentences = [WordTokenizer.split(text) for text in village.stories(STORIES)]
    names = sorted({word for sentence in sentences for word in sentence})
    Random(seed).shuffle(names)
    code = {name: f"w{i}" for i, name in enumerate(names)}
    pairs = [(code[a], code[b]) for a, b in village.world.analogies["job-place"] if a in code and b in code]
    return [[code[word] for word in sentence] for sentence in sentences], pairs
