"""Chapter 06's checks: right answers pass in more than one form, wrong ones get the diagnosis that they deserve."""

import math

import numpy as np
import pytest
import torch
from refusals import refuse, stub

from minillm.attention.dot_product import attend
from minillm.attention.masks import sliding_window
from minillm.attention.positions import RoPE
from minillm.course.checks import NotWrittenYet, Wrong, check
from minillm.course.checks_06 import GOAL, WORDS, pairs_that_look, unheard


@pytest.mark.parametrize("name", ["attention", "window", "rope", "multi_head", "short_cuts"])
def test_a_stub_is_not_written_yet(name):
    with pytest.raises(NotWrittenYet, match="not written yet"):
        check(f"06.{name}", stub)


# 06.attention


def attention(query, key, value, may_look, *, power=0.5, shift=True, nowhere=0.0):
    answers = []
    for q, may in zip(query, may_look, strict=True):
        seen = [s for s in range(len(key)) if may[s]]
        if not seen:
            answers.append([nowhere] * len(value[0]))
            continue
        scores = [sum(a * b for a, b in zip(q, key[s], strict=True)) / len(q) ** power for s in seen]
        weights = [math.exp(score - (max(scores) if shift else 0.0)) for score in scores]
        columns = zip(*(value[s] for s in seen), strict=True)
        answers.append([sum(w * v for w, v in zip(weights, column, strict=True)) / sum(weights) for column in columns])
    return answers


def attention_by_library(query, key, value, may_look):
    q, k, v = (torch.tensor([[rows]], dtype=torch.float64) for rows in (query, key, value))
    return attend(q, k, v, torch.tensor(may_look))[0, 0].tolist()


def by_softmax(q, k, v, may, *, axis=-1, late=False, turned=False, zeros=True):
    q, k, v, may = np.array(q), np.array(k), np.array(v), np.array(may) ^ turned
    score = q @ k.T / q.shape[1] ** 0.5
    score = score if late else np.where(may, score, -1e30)
    weight = np.exp(score - score.max(axis, keepdims=True))
    weight = weight / weight.sum(axis, keepdims=True)
    return (np.where(may | (not zeros), weight, 0.0) @ v).tolist()


def with_minus_infinity(q, k, v, may):
    with np.errstate(invalid="ignore"):
        score = np.where(may, np.array(q) @ np.array(k).T / len(q[0]) ** 0.5, -np.inf)
        weight = np.exp(score - score.max(1, keepdims=True))
        return (weight / weight.sum(1, keepdims=True) @ np.array(v)).tolist()


def attention_in_place(q, k, v, may):
    answer = attention(q, k, v, may)
    q[0][0] = 9.0
    return answer


@pytest.mark.parametrize("answer", [attention, attention_by_library, by_softmax, lambda *a: np.array(attention(*a))])
def test_attention_accepts(answer, capsys):
    check("06.attention", answer)
    assert capsys.readouterr().out == "06.attention: correct\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda *a: attention(*a, power=0.0), "not divided by the root"),
        (lambda *a: attention(*a, power=1.0), "by the *root* of the width"),
        (lambda *a: by_softmax(*a, axis=0), "runs over the queries"),
        (lambda *a: by_softmax(*a, turned=True), "upside down"),
        (lambda *a: by_softmax(*a, late=True), "the mask comes after the softmax"),
        (lambda q, k, v, may: attention(q, k, v, [[True] * len(k)] * len(q)), "the mask is not used"),
        (with_minus_infinity, "needs a case of its own"),
        (lambda *a: by_softmax(*a, zeros=False), "equally low scores"),
        (lambda *a: attention(*a, nowhere=1.0), "a query that may look nowhere"),
        (lambda *a: attention(*a, shift=False), "raised OverflowError"),
        (attention_in_place, "changed its argument"),
        (lambda *a: None, "is there a `return`?"),
    ],
)
def test_attention_refuses(answer, says):
    refuse("06.attention", answer, says)


# 06.window


def window(t, s, window):
    return [[s - t + i - window < j <= s - t + i for j in range(s)] for i in range(t)]


@pytest.mark.parametrize(
    "answer", [window, lambda *a: sliding_window(*a).tolist(), lambda *a: sliding_window(*a).int().tolist()]
)
def test_window_accepts(answer):
    check("06.window", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda t, s, w: [[i - w < j <= i for j in range(s)] for i in range(t)], "stands at the last key"),
        (lambda t, s, w: window(t, s, w + 1), "one key too many"),
        (lambda t, s, w: window(t, s, w - 1), "one key too few"),
        (lambda t, s, w: [[abs(j - s + t - i) < w for j in range(s)] for i in range(t)], "the future can be seen"),
        (lambda t, s, w: [[not may for may in row] for row in window(t, s, w)], "upside down"),
        (lambda t, s, w: window(t, s, 99), "the past is not cut off"),
        (lambda t, s, w: window(t, s, w)[::-1], "the rows stand in reverse"),
        (lambda t, s, w: [list(column) for column in zip(*window(t, s, w), strict=True)], "query i stands at"),
        (lambda t, s, w: window(s, s, w), "one row for each of the t queries"),
        (lambda t, s, w: [row[:t] for row in window(t, s, w)], "one entry for each of the s keys"),
        (lambda t, s, w: None, "is there a `return`?"),
        (lambda t, s, w: sliding_window(t, s, w), "list of lists"),
    ],
)
def test_window_refuses(answer, says):
    refuse("06.window", answer, says)


# 06.rope


def rope(x, position, base, *, sign=1, power=2.0, unit=1.0):
    half, turned = len(x) // 2, list(x)
    for i in range(half):
        angle = sign * unit * position * base ** (-power * i / len(x))
        turned[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        turned[i + half] = x[i] * math.sin(angle) + x[i + half] * math.cos(angle)
    return turned


def rope_by_library(x, position, base):
    x_1kk = torch.tensor([[[x]]])
    return RoPE(len(x), base).rotate(x_1kk, torch.tensor([position])).flatten().double().tolist()


def rope_by_complex(x, position, base):
    half = len(x) // 2
    z = np.array(x[:half]) + 1j * np.array(x[half:])
    z = z * np.exp(1j * position * base ** (-2 * np.arange(half) / len(x)))
    return [*z.real, *z.imag]


def neighbours(x, position, base):
    order = [*range(0, len(x), 2), *range(1, len(x), 2)]
    turned, back = rope([x[i] for i in order], position, base), [0.0] * len(x)
    for place, i in enumerate(order):
        back[i] = turned[place]
    return back


def rope_overwrites(x, position, base):
    half, x = len(x) // 2, list(x)
    for i in range(half):
        angle = position * base ** (-2 * i / len(x))
        x[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        x[i + half] = x[i] * math.sin(angle) + x[i + half] * math.cos(angle)
    return x


def rope_in_place(x, position, base):
    x[:] = rope(x, position, base)
    return x


@pytest.mark.parametrize("answer", [rope, rope_by_complex])
def test_rope_accepts(answer):
    check("06.rope", answer)


def test_the_reference_is_the_librarys_rotation():
    x = [0.3, -1.2, 0.7, 2.0, -0.4, 0.9]
    assert np.allclose(rope(x, 11, 10000.0), rope_by_library(x, 11, 10000.0), atol=1e-5)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (neighbours, "the pairs are neighbours"),
        (lambda *a: rope(*a, sign=-1), "the wrong way round"),
        (lambda *a: rope(*a, power=1.0), "the exponent is -2i/k: with -i/k"),
        (lambda *a: rope(*a, power=-2.0), "with a minus"),
        (lambda *a: rope(*a, power=4.0), "the whole width"),
        (lambda *a: rope(*a, unit=math.pi / 180), "in radians"),
        (lambda *a: rope(*a, power=0.0), "at the same speed"),
        (lambda x, p, b: rope(x, p, 10000.0), "not always 10000"),
        (lambda x, p, b: rope(x, p + 1, b), "at position 0 nothing is turned"),
        (lambda x, p, b: [v + math.sin(p) for v in x], "a cos - b sin"),
        (rope_overwrites, "a cos - b sin"),
        (rope_in_place, "changed its argument"),
        (lambda *a: None, "is there a `return`?"),
    ],
)
def test_rope_refuses(answer, says):
    refuse("06.rope", answer, says)


# 06.multi_head


def multi_head(x, maps, n_head, *, cut=True, merge=True, root=True, axis=-1):
    t, d = x.shape
    k = d // n_head
    q, key, value = (x @ m for m in maps[:3])
    if cut:
        q, key, value = (y.reshape(t, n_head, k).transpose(1, 0, 2) for y in (q, key, value))
    else:
        q, key, value = (y.reshape(n_head, t, k) for y in (q, key, value))
    score = q @ key.transpose(0, 2, 1) / math.sqrt(k if root else d)
    weight = np.exp(score - score.max(axis=axis, keepdims=True))
    heads = weight / weight.sum(axis=axis, keepdims=True) @ value
    return (heads.transpose(1, 0, 2) if merge else heads).reshape(t, d) @ maps[3]


def head_by_head(x, maps, n_head):
    q, key, value = (x @ m for m in maps[:3])
    heads = []
    for columns in np.split(np.arange(x.shape[1]), n_head):
        score = torch.tensor(q[:, columns] @ key[:, columns].T / math.sqrt(len(columns)))
        heads.append(score.softmax(-1).numpy() @ value[:, columns])
    return np.concatenate(heads, axis=1) @ maps[3]


def slips(**flags):
    return lambda x, maps, n_head: multi_head(x, maps, n_head, **flags)


def multi_head_in_place(x, maps, n_head):
    y = multi_head(x, maps, n_head)
    x[:] = y
    return y


@pytest.mark.parametrize("answer", [multi_head, head_by_head])
def test_multi_head_accepts(answer):
    check("06.multi_head", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (slips(cut=False, merge=False, root=False), "this still is the function with its three bugs"),
        (slips(root=False), "the width of one *head*"),
        (slips(merge=False), "merged in the wrong order"),
        (slips(cut=False), "cut across words"),
        (slips(cut=False, merge=False), "cut, and merged, across words"),
        (slips(merge=False, root=False), "two bugs are left: the order of the merge"),
        (slips(cut=False, root=False), "two bugs are left: the cut"),
        (slips(axis=-2), "with one head compare with plain attention"),
        (
            lambda x, maps, h: multi_head(x, [*maps[:3], np.eye(len(maps[3]))], h),
            "the last of the four maps is missing",
        ),
        (lambda x, maps, h: multi_head(x, [*maps[:3], maps[3].T], h), "stand on the right"),
        (lambda x, maps, h: multi_head(x, maps, 1), "look at the two reshapes"),
        (lambda x, maps, h: multi_head(x, maps, h)[:, : x.shape[1] // h], "has shape"),
        (multi_head_in_place, "changed its argument"),
        (lambda *a: None, "is there a `return`?"),
    ],
)
def test_multi_head_refuses(answer, says):
    refuse("06.multi_head", answer, says)


# 06.short_cuts


def blocks(n, size=8):
    return [[s <= t and (s // size == t // size or s % size == size - 1) for s in range(n)] for t in range(n)]


def one_hub_in_each_half(n):
    look = [[s == t for s in range(n)] for t in range(n)]

    def connect(first, last):
        if last - first > 1:
            hub = (first + last) // 2
            for t in range(first, last):
                look[max(t, hub)][min(t, hub)] = True
            connect(first, hub)
            connect(hub + 1, last)

    connect(0, n)
    return look


@pytest.mark.parametrize(
    "answer", [blocks, one_hub_in_each_half, lambda n: [tuple(map(int, row)) for row in blocks(n)]]
)
def test_short_cuts_accepts(answer):
    check("06.short_cuts", answer)


def test_the_scores_that_the_card_speaks_of():
    assert pairs_that_look([[s <= t for s in range(WORDS)] for t in range(WORDS)]) == 2080
    assert pairs_that_look(one_hub_in_each_half(WORDS)) < 400 < pairs_that_look(blocks(WORDS)) <= GOAL


def test_two_layers_carry_two_steps():
    assert unheard([[s in (t, t - 1) for s in range(3)] for t in range(3)]) is None
    assert unheard([[s in (t, t - 1) for s in range(5)] for t in range(5)]) == (3, 0)


def test_who_is_unheard_agrees_with_a_walk_over_all_middles():
    chance = np.random.default_rng(0)
    for _ in range(50):
        look = np.tril(chance.random((6, 6)) < 0.6)
        walks = [(t, s) for t in range(6) for s in range(t + 1) if not any(look[t, u] and look[u, s] for u in range(6))]
        assert unheard(look.tolist()) == (walks[0] if walks else None)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda n: [[s <= t for s in range(n)] for t in range(n)], "any word could go through a few hubs"),
        (lambda n: blocks(n, 2), "wanted at most 640"),
        (lambda n: [[t - 8 < s <= t for s in range(n)] for t in range(n)], "has heard nothing of word 0"),
        (lambda n: [[s == t for s in range(n)] for t in range(n)], "somebody must stand between"),
        (lambda n: [[s < t for s in range(n)] for t in range(n)], "does not look at itself"),
        (lambda n: [[True] * n for _ in range(n)], "which comes later"),
        (lambda n: [[s <= t + 1 for s in range(n)] for t in range(n)], "word 0 looks at word 1, which comes later"),
        (lambda n: blocks(WORDS), "rows of"),
        (lambda n: [row[: t + 1] for t, row in enumerate(blocks(n))], "entries"),
        (lambda n: np.array(blocks(n)), "return a list"),
        (lambda n: None, "is there a `return`?"),
    ],
)
def test_short_cuts_refuses(answer, says):
    refuse("06.short_cuts", answer, says)


def test_a_refusal_names_the_pair():
    with pytest.raises(Wrong, match=r"short_cuts\(5\): after two layers word 2 has heard nothing of word 0"):
        check(
            "06.short_cuts",
            lambda n: [
                [s in (t, t - 1) if n < 5 else s == t or (s == t - 1 and t != 2) for s in range(n)] for t in range(n)
            ],
        )
