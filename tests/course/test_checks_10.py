"""Plausible wrong answers to the exercises of chapter 10, and the diagnosis that each must get."""

import math

import numpy as np
import pytest
import torch
from refusals import refuse, stub

from minillm.attention.dot_product import attention_weights
from minillm.attention.positions import RoPE
from minillm.course import tiny_decoder
from minillm.course.checks import NotWrittenYet, check
from minillm.transformer import costs
from minillm.transformer.decoder import llama

NAMES = ("rope", "merge", "cache_bytes", "grouped_scores", "recipe")


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_written_yet(name):
    with pytest.raises(NotWrittenYet):
        check(f"10.{name}", stub)


# 10.rope


def rope(x, position, base, *, sign=1, step=2, pairs="halves", add=0.0, unit=1.0, old=True, order=1):
    half, turned = len(x) // 2, list(x)
    for i in range(half):
        a, b = (i, i + half) if pairs == "halves" else (2 * i, 2 * i + 1)
        angle = sign * unit * (position + add) * base ** (-step * (i if order == 1 else half - 1 - i) / len(x))
        turned[a] = x[a] * math.cos(angle) - x[b] * math.sin(angle)
        turned[b] = x[b] * math.cos(angle) + (x if old else turned)[a] * math.sin(angle)
    return turned


def rope_by_complex_numbers(x, position, base):
    half = len(x) // 2
    hands = np.array(x[:half]) + 1j * np.array(x[half:])
    hands = hands * np.exp(1j * position * base ** (-np.arange(half) / half))
    return [*hands.real.tolist(), *hands.imag.tolist()]


def rope_by_library(x, position, base):
    turned = RoPE(len(x), base).rotate(torch.tensor(x).view(1, 1, 1, -1), torch.tensor([position]))
    return turned.flatten().tolist()


def rope_in_place(x, position, base):
    x[:] = rope(x, position, base)
    return x


def rope_added(x, position, base):
    half = len(x) // 2
    angles = [position * base ** (-2 * i / len(x)) for i in range(half)]
    code = [*map(math.cos, angles), *map(math.sin, angles)]
    return [a + b for a, b in zip(x, code, strict=True)]


@pytest.mark.parametrize("answer", [rope, rope_by_complex_numbers, rope_by_library])
def test_rope_accepts(answer, capsys):
    check("10.rope", answer)
    assert capsys.readouterr().out == "10.rope: correct\n"


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        ({"pairs": "neighbours"}, "we turn halves"),
        ({"sign": -1}, "the wrong way"),
        ({"step": 1}, "the exponent is -2i/k"),
        ({"step": -2}, "grow instead of falling"),
        ({"step": 0}, "its own frequency"),
        ({"order": -1}, "the wrong order"),
        ({"unit": math.pi / 180}, "in radians"),
        ({"add": 1}, "the first place is 0"),
        ({"old": False}, "pair i is"),
    ],
)
def test_rope_names_the_slip(slip, says):
    refuse("10.rope", lambda x, position, base: rope(x, position, base, **slip), says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (rope_added, "adding a code to x is something else"),
        (rope_in_place, "changed its argument"),
        (lambda x, position, base: rope(x, position, 10000.0), "pair i is"),
        (lambda x, position, base: rope(x, position, base)[:-1], "shape"),
        (lambda x, position, base: None, "is there a `return`?"),
    ],
)
def test_rope_refuses(answer, says):
    refuse("10.rope", answer, says)


# 10.merge


def merge(first, second, *, sign=1, scaled=(True, True), highest=max, over=False, alone=True):
    top = highest(first[0], second[0])
    if top == -math.inf and alone:
        return first
    a, b = (math.exp(sign * (part[0] - top)) for part in (first, second))
    total = a * first[1] + b * second[1] if scaled[0] else first[1] + second[1]
    a, b = (a, b) if scaled[1] else (1.0, 1.0)
    mixed = [a * m + b * n for m, n in zip(first[2], second[2], strict=True)]
    return (top, 1.0, [m / total for m in mixed]) if over else (top, total, mixed)


def merge_in_numpy(first, second):
    top = np.maximum(first[0], second[0])
    with np.errstate(invalid="ignore"):
        a, b = (np.nan_to_num(np.exp(part[0] - top)) for part in (first, second))
    mixed = a * np.array(first[2]) + b * np.array(second[2])
    return float(top), float(a * first[1] + b * second[1]), mixed.tolist()


def merge_without_a_top(first, second):
    a, b = (math.exp(part[0]) if part[0] > -math.inf else 0.0 for part in (first, second))
    total, top = a * first[1] + b * second[1], max(first[0], second[0])
    return (
        top,
        total / math.exp(top),
        [(a * m + b * n) / math.exp(top) for m, n in zip(first[2], second[2], strict=True)],
    )


def merge_if_second_is_lower(first, second):
    b = math.exp(second[0] - first[0])
    return first[0], first[1] + b * second[1], [m + b * n for m, n in zip(first[2], second[2], strict=True)]


def merge_in_place(first, second):
    first[2][:] = merge(first, second)[2]
    return (*merge(first, second)[:2], first[2])


def merge_of_one_number(first, second):
    top, total, mixed = merge(first, second)
    return top, total, [mixed[0], *first[2][1:]]


@pytest.mark.parametrize("answer", [merge, merge_in_numpy, lambda *parts: list(merge(*parts))])
def test_merge_accepts(answer):
    check("10.merge", answer)


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        ({"scaled": (False, False)}, "measured from different tops"),
        ({"scaled": (True, False)}, "the total is scaled, and mixed is not"),
        ({"sign": -1}, "the sign is turned round"),
        ({"highest": min}, "the larger of the two tops"),
        ({"over": True}, "do not divide yet"),
        ({"alone": False}, "-inf - (-inf)"),
    ],
)
def test_merge_names_the_slip(slip, says):
    refuse("10.merge", lambda first, second: merge(first, second, **slip), says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (merge_without_a_top, "raised OverflowError"),
        (merge_if_second_is_lower, "the higher top may stand in either part"),
        (merge_of_one_number, "all of `mixed` is scaled"),
        (merge_in_place, "changed its argument"),
        (lambda first, second: merge(first, second)[:2], "return three things"),
        (lambda first, second: None, "is there a `return`?"),
    ],
)
def test_merge_refuses(answer, says):
    refuse("10.merge", answer, says)


# 10.cache_bytes


def cache_bytes(config, tokens, batch, *, both=2, shared=True, window=True, head_dim=True, size=None, layers=True):
    heads = config["num_attention_heads"]
    groups = config.get("num_key_value_heads", heads) if shared else heads
    width = config["hidden_size"] // heads
    width = config.get("head_dim", width) if head_dim else width
    kept = min(tokens, config.get("sliding_window") or tokens) if window else tokens
    size = size or (4 if config["torch_dtype"] == "float32" else 2)
    return both * (config["num_hidden_layers"] if layers else 1) * groups * width * kept * batch * size


def counted(**slip):
    return lambda config, tokens, batch: cache_bytes(config, tokens, batch, **slip)


def pops(config, tokens, batch):
    return cache_bytes({"num_key_value_heads": config.pop("num_key_value_heads", 64)} | config, tokens, batch)


def test_cache_bytes_accepts_and_agrees_with_the_library():
    check("10.cache_bytes", cache_bytes)
    ours = llama(vocabulary=9, context=64, n_layer=3, n_head=6, d_model=24, n_kv_head=2)
    theirs = {"num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 24}
    assert cache_bytes(theirs | {"torch_dtype": "float32"}, 50, 7) == costs.cache_bytes(ours, 50, batch=7)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (counted(both=1), "keys *and* values"),
        (counted(shared=False), "only num_key_value_heads are kept"),
        (counted(layers=False), "every layer has a cache"),
        (counted(size=4), "2 for the 16-bit formats"),
        (counted(size=2), "4 for float32"),
        (counted(size=1), "this counts numbers"),
        (counted(window=False), "only the last tokens are kept"),
        (counted(head_dim=False), "where there is a head_dim"),
        (lambda config, tokens, batch: cache_bytes(config, tokens, 1), "every row of the batch"),
        (
            lambda config, tokens, batch: cache_bytes(config, config.get("sliding_window") or tokens, batch),
            "2 · layers",
        ),
        (lambda config, tokens, batch: cache_bytes(config, tokens, batch) / 1e9, "wanted 10,737,418,240"),
        (lambda config, *_: config["num_key_value_heads"], "raised KeyError"),
        (lambda *_: None, "is there a `return`?"),
        (pops, "changed its argument"),
    ],
)
def test_cache_bytes_refuses(answer, says):
    refuse("10.cache_bytes", answer, says)


# 10.grouped_scores


def grouped(queries, keys, *, key_head=lambda i, h, g: i // (h // g), width=lambda q: len(q[0])):
    h, g, scale = len(queries), len(keys), 1 / math.sqrt(width(queries))
    dot = lambda a, b: sum(x * y for x, y in zip(a, b, strict=True))
    return [[scale * dot(query, key) for key in keys[key_head(i, h, g)]] for i, query in enumerate(queries)]


def by_torch(queries, keys):
    q_hk, k_gsk = (torch.tensor(x, dtype=torch.float64) for x in (queries, keys))
    k_hsk = k_gsk.repeat_interleave(len(q_hk) // len(k_gsk), dim=0)
    return ((k_hsk @ q_hk[:, :, None])[..., 0] / q_hk.shape[1] ** 0.5).tolist()


def test_grouped_scores_accepts_and_agrees_with_the_library():
    check("10.grouped_scores", grouped)
    check("10.grouped_scores", by_torch)
    q_bhtk, key = torch.randn(1, 6, 1, 3), torch.randn(1, 2, 4, 3)
    ours = torch.tensor(grouped(q_bhtk[0, :, 0].tolist(), key[0].tolist())).softmax(dim=-1)
    torch.testing.assert_close(ours, attention_weights(q_bhtk, key)[0, :, 0])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda q, k: grouped(q, k, key_head=lambda i, h, g: i % g), "deals the keys out in turn"),
        (lambda q, k: grouped(q, k, width=lambda q: len(q) * len(q[0])), "not of all heads together"),
        (lambda q, k: grouped(q, k, key_head=lambda i, h, g: 0), "queries 2 and 3 those of head 1"),
        (lambda q, k: grouped(q, k, key_head=lambda i, h, g: g - 1 - i // (h // g)), "queries 0 and 1 share"),
        (lambda q, k: grouped(q, k, key_head=lambda i, h, g: min(i // 2, g - 1)), "neighbours share a head"),
        (lambda q, k: grouped(q, k, width=lambda q: len(q[0]) ** 2), "q · k / √width"),
        (lambda q, k: grouped(q, k, width=lambda q: 1), "q · k / √width"),
        (lambda q, k: grouped(q[: len(k)], k), "the scores has shape"),
        (lambda q, k: None, "is there a `return`?"),
    ],
)
def test_grouped_scores_refuses(answer, says):
    refuse("10.grouped_scores", answer, says)


# 10.recipe

GOOD = {"d_model": 48, "n_layer": 1, "n_head": 4, "positions": "alibi", "learning_rate": 0.02}


def test_recipe_accepts(capsys):
    check("10.recipe", lambda: GOOD)
    assert capsys.readouterr().out == "10.recipe: correct\n"


def test_the_score_is_a_function_of_recipe_and_seed(monkeypatch):
    monkeypatch.setattr(tiny_decoder, "STEPS", 21)
    first = tiny_decoder.held_out_bits(GOOD)
    assert tiny_decoder.held_out_bits(GOOD) == first != tiny_decoder.held_out_bits(GOOD, seed=1)
    assert 1 < first < math.log2(438), "hardly trained, and a token is several characters"
    draw = tiny_decoder.random_chunks
    same = lambda stream_n, b, t, generator: draw(stream_n, b, t, torch.Generator().manual_seed(0))
    monkeypatch.setattr(tiny_decoder, "random_chunks", same)
    assert tiny_decoder.held_out_bits(GOOD) == first != tiny_decoder.held_out_bits(GOOD, seed=1), "the start"
    monkeypatch.setattr(tiny_decoder, "random_chunks", draw)
    monkeypatch.setattr(tiny_decoder, "replace", lambda config, seed: config)
    assert tiny_decoder.held_out_bits(GOOD, seed=1) != first, "the batches"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"d_model": 64}, "parameters, at most 60,000"),
        ({"n_layer": 2}, "parameters, at most 60,000"),
        ({"n_head": 5}, "cannot be split over n_head=5"),
        ({"positions": "ropes"}, "must be one of learned"),
        ({"mlp": "geglu"}, "no decoder can be made of that"),
        ({"d_model": "48"}, "no decoder can be made of that"),
        ({"dropout": 0.1}, "recipe() has dropout, which is no choice here"),
        ({"learning_rate": 0.0}, "wanted a number above 0"),
        ({"learning_rate": "fast"}, "wanted a number above 0"),
    ],
)
def test_recipe_refuses_before_it_trains(change, says):
    refuse("10.recipe", lambda: GOOD | change, says)


def test_recipe_refuses_what_is_missing():
    refuse("10.recipe", lambda: {name: GOOD[name] for name in ("d_model", "n_layer", "n_head")}, "lacks learning_rate")
    refuse("10.recipe", lambda: None, "is there a `return`?")
    refuse("10.recipe", lambda: [48, 1, 4], "return a dict of choices")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"learning_rate": 0.003, "positions": "learned"}, "bears a larger learning rate"),
        ({"positions": "learned"}, "which switch of the chapter was the one large step?"),
        ({"learning_rate": 0.5}, "the steps are too large"),
    ],
)
def test_recipe_refuses_what_learned_too_little(change, says):
    refuse("10.recipe", lambda: GOOD | change, says)
