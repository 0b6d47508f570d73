"""Chapter 04's checks: right answers pass, and plausible wrong ones get the diagnosis that helps."""

from collections import Counter

import numpy as np
import pytest

from minillm.course.checks import NotWrittenYet, Wrong, check
from minillm.vectors.word_vectors import WordVectors

pytestmark = pytest.mark.no_promises

# --- ppmi


def right_ppmi(table):
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    ratio = np.divide(table, expected, out=np.ones_like(expected), where=table > 0)
    return np.log(np.maximum(ratio, 1))


def ppmi_in_two_steps(table):
    joint = table / table.sum()
    with np.errstate(all="ignore"):
        value = np.log(joint) - np.log(joint.sum(1, keepdims=True)) - np.log(joint.sum(0))
    return np.nan_to_num(np.maximum(value, 0), nan=0.0)


def unclipped(table):
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    return np.log(np.divide(table, expected, out=np.ones_like(expected), where=table > 0))


def log_of_zero(table):
    with np.errstate(all="ignore"):
        return np.log(table * table.sum() / np.outer(table.sum(1), table.sum(0)))


def of_the_row_alone(table):
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    return np.maximum(np.log(np.where(share > 0, share * table.shape[1], 1)), 0)


def square_only(table):
    side = table.sum(1)
    expected = np.outer(side, side[: table.shape[1]]) / table.sum()
    ratio = np.divide(table, expected, out=np.ones_like(table), where=(table > 0) & (expected > 0))
    return np.log(np.maximum(ratio, 1))


def add_one(table):
    table = table + 1
    return np.where(table > 1, right_ppmi(table), 0)


def ratio_only(table):
    return np.where(table > 0, np.exp(right_ppmi(table)), 0)


def ppmi_in_place(table):
    table[:] = right_ppmi(table)
    return table


@pytest.mark.parametrize("answer", [right_ppmi, ppmi_in_two_steps])
def test_right_ppmi(answer, capsys):
    check("04.ppmi", answer)
    assert capsys.readouterr().out == "04.ppmi: correct\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (unclipped, "negative and becomes 0"),
        (log_of_zero, "never seen counts 0"),
        (lambda table: right_ppmi(table) / np.log(2), "natural logarithm"),
        (of_the_row_alone, "sum of a column"),
        (square_only, "look at the axes"),
        (add_one, "wanted"),
        (ratio_only, "wanted"),
        (lambda table: right_ppmi(table).T, "shape"),
        (lambda table: right_ppmi(table).tolist(), "wanted ndarray"),
        (ppmi_in_place, "changed its argument"),
        (lambda table: None, "is there a `return`"),
    ],
)
def test_wrong_ppmi(answer, said):
    with pytest.raises(Wrong, match=rf"(?s)04\.ppmi: .*{said}"):
        check("04.ppmi", answer)


# --- analogy


def sums(sign=1, scale_words=True, scale_candidates=True, leave_out=True):
    def answer(words, rows, a, b, c):
        at = {word: i for i, word in enumerate(words)}
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        parts, candidates = (unit if scale_words else rows), (unit if scale_candidates else rows)
        cosine = candidates @ (sign * (parts[at[b]] - parts[at[a]]) + parts[at[c]])
        if leave_out:
            cosine[[at[a], at[b], at[c]]] = -np.inf
        return words[int(np.argmax(cosine))]

    return answer


def forgets_c(words, rows, a, b, c):
    return sums()(words, np.where(np.arange(len(words))[:, None] == words.index(c), 1e-9, rows), a, b, c)


def nearest_to_c(words, rows, a, b, c):
    return next(word for word, _ in WordVectors(words, rows).most_similar(c, 3) if word not in (a, b))


def by_distance(words, rows, a, b, c):
    at = {word: i for i, word in enumerate(words)}
    far = np.linalg.norm(rows - (rows[at[b]] - rows[at[a]] + rows[at[c]]), axis=1)
    far[[at[a], at[b], at[c]]] = np.inf
    return words[int(np.argmin(far))]


def scales_in_place(words, rows, a, b, c):
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return sums()(words, rows, a, b, c)


@pytest.mark.parametrize(
    "answer", [sums(), lambda words, rows, a, b, c: WordVectors(words, rows).analogy(a, b, c)[0][0]]
)
def test_right_analogy(answer):
    check("04.analogy", answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (sums(sign=-1), "b - a \\+ c"),
        (sums(leave_out=False), "part of the question"),
        (sums(scale_candidates=False), "long vector"),
        (sums(scale_words=False), "decides alone"),
        (sums(scale_words=False, scale_candidates=False), "long vector|decides alone"),
        (forgets_c, "wanted"),
        (nearest_to_c, "wanted"),
        (by_distance, "long vector|decides alone|only directions"),
        (scales_in_place, "changed its argument"),
        (lambda words, rows, a, b, c: words.index(sums()(words, rows, a, b, c)), "give the word itself"),
        (lambda *given: None, "wanted str"),
    ],
)
def test_wrong_analogy(answer, said):
    with pytest.raises(Wrong, match=rf"(?s)04\.analogy: .*{said}"):
        check("04.analogy", answer)


# --- step


def error_of(word, company, true):
    return 1 / (1 + np.exp(-(company @ word))) - true


def right_step(word, company, true, rate):
    error = error_of(word, company, true)
    return word - rate * error @ company, company - rate * np.outer(error, word)


def looped_step(word, company, true, rate):
    new_word, new_company = word.copy(), company.copy()
    for i, is_true in enumerate(true):
        error = error_of(word, company[i], is_true)
        new_word -= rate * error * company[i]
        new_company[i] -= rate * error * word
    return new_word, new_company


def word_first(word, company, true, rate):
    error = error_of(word, company, true)
    word = word - rate * error @ company
    return word, company - rate * np.outer(error, word)


def one_after_the_other(word, company, true, rate):
    word, company = word.copy(), company.copy()
    for i, is_true in enumerate(true):
        error = error_of(word, company[i], is_true)
        word, company[i] = word - rate * error * company[i], company[i] - rate * error * word
    return word, company


def step_in_place(word, company, true, rate):
    new_word, new_company = right_step(word, company, true, rate)
    word[:] = new_word
    return word, new_company


def overflows(word, company, true, rate):
    with np.errstate(all="ignore"):
        grown = np.exp(company @ word)
        error = grown / (1 + grown) - true
    return word - rate * error @ company, company - rate * np.outer(error, word)


def mean_step(word, company, true, rate):
    error = error_of(word, company, true) / len(true)
    return word - rate * error @ company, company - rate * np.outer(error, word)


def only_the_first(word, company, true, rate):
    error = error_of(word, company, true)
    return word - rate * error[0] * company[0], company - rate * np.outer(error, word)


def only_the_true(word, company, true, rate):
    return word + rate * true @ company, company + rate * np.outer(true, word)


def no_sigmoid(word, company, true, rate):
    error = company @ word - true
    return word - rate * error @ company, company - rate * np.outer(error, word)


def slope_twice(word, company, true, rate):
    error = error_of(word, company, true)
    error = error * (error + true) * (1 - error - true)
    return word - rate * error @ company, company - rate * np.outer(error, word)


def word_alone(word, company, true, rate):
    return right_step(word, company, true, rate)[0], company


@pytest.mark.parametrize("answer", [right_step, looped_step])
def test_right_step(answer):
    check("04.step", answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda word, company, true, rate: right_step(word, company, true, -rate), "uphill"),
        (lambda word, company, true, rate: right_step(word, company, 1 - true, rate), "exchanged"),
        (mean_step, "do not average"),
        (only_the_first, "not only the first"),
        (only_the_true, "weigh by the error"),
        (word_first, "the word had moved already"),
        (one_after_the_other, "wanted"),
        (word_alone, "the company moves too"),
        (step_in_place, "changed its argument"),
        (overflows, "nan at 1000"),
        (lambda *given: right_step(*given)[0], "return two things"),
        (lambda *given: right_step(*given)[::-1], "first the word"),
        (lambda *given: list(right_step(*given)), "tuple"),
        (lambda *given: (given[0] - right_step(*given)[0], given[1] - right_step(*given)[1]), "give the new vectors"),
        (lambda *given: (right_step(*given)[0], 2 * given[1] - right_step(*given)[1]), "but the company uphill"),
        (no_sigmoid, "must go through sigmoid"),
        (slope_twice, "the slope of sigmoid is in it twice"),
        (lambda word, company, true, rate: right_step(word, company, true, 0.5), "nothing moves"),
        (lambda *given: None, "return two things"),
    ],
)
def test_wrong_step(answer, said):
    for _ in range(5):
        with pytest.raises(Wrong, match=rf"(?s)04\.step: .*{said}"):
            check("04.step", answer)


# --- embed


def counted(window=5, weigh=lambda table: table, at_least=3):
    def answer(sentences, dimensions):
        count = Counter(word for sentence in sentences for word in sentence)
        index = {word: i for i, word in enumerate(word for word, times in count.items() if times >= at_least)}
        table = np.zeros((len(index), len(index)))
        for sentence in sentences:
            ids = np.array([index[word] for word in sentence if word in index], dtype=int)
            for distance in range(1, min(window, len(ids) - 1) + 1):
                np.add.at(table, (ids[distance:], ids[:-distance]), 1)
        left, size, _ = np.linalg.svd(weigh(table + table.T))
        return {word: left[i, :dimensions] * np.sqrt(size[:dimensions]) for word, i in index.items()}

    return answer


def random_vectors(sentences, dimensions):
    chance = np.random.default_rng(0)
    return {word: chance.normal(size=dimensions) for sentence in sentences for word in sentence}


def stored(answer, change):
    return lambda sentences, dimensions: change(answer(sentences, dimensions))


@pytest.mark.parametrize("answer", [counted(10, right_ppmi), counted(5, right_ppmi)], ids=["wide", "narrow"])
def test_right_embed(answer):
    check("04.embed", answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (counted(), "weigh a count against chance"),
        (counted(weigh=np.log1p), "the goal is 25%"),
        (random_vectors, "the goal is 25%"),
        (lambda sentences, dimensions: counted(5, right_ppmi)(sentences, 50), "24 numbers a word are allowed"),
        (counted(5, right_ppmi, at_least=300), "have no vector.*do not leave out"),
        (stored(random_vectors, lambda table: {w: x * np.nan for w, x in table.items()}), "nan or infinity"),
        (stored(random_vectors, lambda table: np.stack(list(table.values()))), "wanted dict"),
        (stored(random_vectors, lambda table: dict.fromkeys(table, 1.0)), "24 numbers a word are allowed"),
        (lambda *given: None, "is there a `return`|dictionary"),
    ],
)
def test_wrong_embed(answer, said):
    with pytest.raises(Wrong, match=rf"(?s)04\.embed: .*{said}"):
        check("04.embed", answer)


@pytest.mark.parametrize("name", ["ppmi", "analogy", "step", "embed"])
def test_stubs_are_not_written_yet(name):
    def stub(*given):
        raise NotImplementedError

    with pytest.raises(NotWrittenYet, match=rf"04\.{name} is not written yet"):
        check(f"04.{name}", stub)
