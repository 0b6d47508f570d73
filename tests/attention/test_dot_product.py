"""Attention: limits, invariances, and a plain and a fused twin that agree in values and gradients."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from minillm.attention import masks
from minillm.attention.dot_product import MOST_PRODUCTS, attend, attend_fused, attention_weights

B, H, G, T, S, K = 2, 6, 3, 5, 7, 4
TWINS = pytest.mark.parametrize("attention", [attend, attend_fused])


def queries_keys_values(heads=H, seed=0, t=T, requires_grad=False):
    draw = torch.Generator().manual_seed(seed)
    shapes = [(B, H, t, K), (B, heads, S, K), (B, heads, S, K)]
    return [torch.randn(shape, generator=draw).requires_grad_(requires_grad) for shape in shapes]


def some_mask(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.4


# limits


@TWINS
def test_worked_by_hand(attention):
    """Scores 0 and log 3 after the scale, so weights 1/4 and 3/4."""
    q, k = torch.tensor([[[[2.0, 0.0, 0.0, 0.0]]]]), torch.zeros(1, 1, 2, 4)
    k[0, 0, 1, 0] = math.log(3)
    v = torch.tensor([[[[4.0, 0.0, 8.0, 0.0], [0.0, 4.0, 8.0, -4.0]]]])
    assert_close(attention(q, k, v), torch.tensor([[[[1.0, 3.0, 8.0, -3.0]]]]))


@TWINS
def test_a_zero_query_gets_the_mean(attention):
    q, k, v = queries_keys_values()
    assert_close(attention(torch.zeros_like(q), k, v), v.mean(dim=2, keepdim=True).expand_as(q))


@TWINS
def test_one_key_is_the_answer(attention):
    q, k, v = queries_keys_values()
    only = masks.padding([1, 1], S)
    assert_close(attention(q, k, v, only), v[:, :, :1].expand_as(q))
    assert_close(attention(q, k[:, :, :1], v[:, :, :1]), v[:, :, :1].expand_as(q))


@TWINS
def test_a_large_scale_takes_the_best_key(attention):
    q, k, v = queries_keys_values()
    best = (q @ k.mT).argmax(dim=-1)
    assert_close(attention(q, k, v, scale=1e5), v.gather(2, best[..., None].expand_as(q)))


def test_scores_are_divided_by_the_root_of_the_width():
    """Log weights differ as the products do, over √k; so scores of normal numbers keep a variance of 1."""
    q, k, _ = queries_keys_values()
    log_weight = attention_weights(q, k).log()
    product = q @ k.mT
    assert_close(log_weight - log_weight[..., :1], (product - product[..., :1]) / math.sqrt(K))
    wide_q, wide_k = torch.randn(2, 1, 1, 60, 256, generator=torch.Generator().manual_seed(3))
    assert attention_weights(wide_q, wide_k).log().std(dim=-1).mean() == pytest.approx(1, abs=0.1)


def test_each_query_spends_one_unit():
    q, k, _ = queries_keys_values()
    weight = attention_weights(q, k, some_mask(T, S), torch.randn(H, T, S))
    assert weight.shape == (B, H, T, S)
    assert (weight >= 0).all()
    assert_close(weight.sum(dim=-1), torch.ones(B, H, T))


@TWINS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("heads", [H, G])
@pytest.mark.parametrize("t", [T, 1])
def test_a_row_that_may_look_nowhere_is_zero_and_has_finite_gradients(attention, dtype, with_bias, heads, t):
    q, k, v = (x.detach().to(dtype).requires_grad_() for x in queries_keys_values(heads, t=t))
    may_look = masks.padding([0, 5], S).expand(B, 1, t, S).clone()
    may_look[1, :, t // 2] = t == 1  # with one query, the second row still may look
    bias = torch.randn(H, t, S, dtype=dtype) if with_bias else None
    mixed = attention(q, k, v, may_look, bias)
    dead = ~may_look.any(dim=-1)[:, 0]
    assert (mixed.transpose(1, 2)[dead] == 0).all()
    assert (mixed.transpose(1, 2)[~dead] != 0).any()
    slopes = torch.autograd.grad(mixed.float().square().sum(), (q, k, v))
    assert all(slope.isfinite().all() for slope in slopes)
    assert (slopes[0].transpose(1, 2)[dead] == 0).all()


@TWINS
def test_dropout_takes_weights_away_and_raises_the_rest(attention):
    torch.manual_seed(0)
    q, k, _ = queries_keys_values()
    wide_q, wide_k = (torch.nn.functional.pad(x, (0, S - K)) for x in (q, k))
    identity = torch.eye(S).expand(B, H, S, S)  # then what comes out are the weights
    whole = attention(wide_q, wide_k, identity)
    dropped = attention(wide_q, wide_k, identity, dropout=0.25)
    gone = dropped == 0
    assert 0.15 < gone.float().mean() < 0.35
    assert_close(dropped[~gone], whole[~gone] / 0.75)


# invariances


@TWINS
def test_keys_are_a_set(attention):
    q, k, v = queries_keys_values()
    order = torch.randperm(S, generator=torch.Generator().manual_seed(2))
    mask, bias = some_mask(T, S), torch.randn(H, T, S)
    shuffled = attention(q, k[:, :, order], v[:, :, order], mask[:, order], bias[..., order])
    assert_close(attention(q, k, v, mask, bias), shuffled)


@TWINS
def test_queries_do_not_know_of_each_other(attention):
    q, k, v = queries_keys_values()
    one_by_one = [attention(q[:, :, i : i + 1], k, v) for i in range(T)]
    assert_close(attention(q, k, v), torch.cat(one_by_one, dim=2))


@TWINS
def test_a_number_added_to_all_scores_of_a_query_changes_nothing(attention):
    q, k, v = queries_keys_values()
    assert_close(attention(q, k, v), attention(q, k, v, bias=torch.randn(H, T, 1)), rtol=1e-4, atol=1e-5)


@TWINS
@pytest.mark.parametrize("heads", [H, G])
def test_what_may_not_be_seen_does_not_matter(attention, heads):
    q, k, v = queries_keys_values(heads)
    other_k, other_v = queries_keys_values(heads, seed=9)[1:]
    hidden = torch.zeros(S, dtype=torch.bool)
    hidden[[1, 4, 6]] = True
    other_k, other_v = (torch.where(hidden[:, None], 100 * new, old) for new, old in ((other_k, k), (other_v, v)))
    assert_close(attention(q, k, v, ~hidden[None]), attention(q, other_k, other_v, ~hidden[None]))
    assert not torch.allclose(attention(q, k, v), attention(q, other_k, other_v))


@TWINS
@pytest.mark.parametrize("t", [T, S, 1])
@pytest.mark.parametrize("cut", range(1, S))
def test_the_future_cannot_change_the_past(attention, t, cut):
    """The last query stands at the last key; keys from `cut` on change, and the queries before them see nothing."""
    q, k, v = queries_keys_values(t=t)
    other_k, other_v = queries_keys_values(seed=5)[1:]
    other_k[:, :, :cut], other_v[:, :, :cut] = k[:, :, :cut], v[:, :, :cut]
    before, after = attention(q, k, v, causal=True), attention(q, other_k, other_v, causal=True)
    untouched = max(0, cut - (S - t))
    assert_close(before[:, :, :untouched], after[:, :, :untouched])
    changed = (before - after).abs().amax(dim=-1)[:, :, untouched:]
    assert (changed > 1e-4).all()  # and all others do see it: the mask is not off by one to the other side


@TWINS
def test_causal_is_the_causal_mask(attention):
    q, k, v = queries_keys_values()
    bias, mask = torch.randn(H, T, S), some_mask(B, 1, T, S)
    mask[..., 0] = True
    assert_close(attention(q, k, v, causal=True), attention(q, k, v, masks.causal(T, S)))
    together = masks.both(mask, masks.causal(T, S))
    assert_close(attention(q, k, v, mask, bias, causal=True), attention(q, k, v, together, bias))


# agreement

MASKS = [None, some_mask(T, S), some_mask(B, 1, T, S), some_mask(B, H, T, S), masks.padding([3, S], S)]


@pytest.mark.parametrize("heads", [H, G, 1])
@pytest.mark.parametrize("t", [T, S, 1])
@pytest.mark.parametrize("causal", [False, True])
def test_the_twins_agree_in_values_and_gradients(heads, t, causal):
    for mask, bias in itertools.product(MASKS, [None, torch.randn(H, t, S), torch.randn(B, 1, 1, S)]):
        q, k, v = queries_keys_values(heads, t=t, requires_grad=True)
        mask = some_mask(B, H, t, S) if mask is not None and mask.shape[-2] not in (1, t) else mask
        plain = attend(q, k, v, mask, bias, causal=causal)
        fused = attend_fused(q, k, v, mask, bias, causal=causal)
        assert_close(plain, fused)
        pull = torch.randn_like(plain)
        for ours, kernel in zip(
            torch.autograd.grad((plain * pull).sum(), (q, k, v)),
            torch.autograd.grad((fused * pull).sum(), (q, k, v)),
            strict=True,
        ):
            assert_close(ours, kernel, rtol=1e-4, atol=1e-5)


@TWINS
@pytest.mark.parametrize("t", [T, 1])
def test_shared_heads_are_repeated_heads(attention, t):
    """Query heads 0 and 1 share key head 0, and so on."""
    q, k, v = queries_keys_values(G, t=t)
    mask = some_mask(B, H, t, S)
    mask[..., 0] = True
    repeated = [
        attention(q[:, h : h + 1], k[:, h // 2, None], v[:, h // 2, None], mask[:, h : h + 1]) for h in range(H)
    ]
    assert_close(attention(q, k, v, mask), torch.cat(repeated, dim=1))


# bad input


@pytest.mark.no_promises  # wrong shapes break them before they are refused
@TWINS
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"may_look_ts": torch.ones(S, T, dtype=torch.bool)}, r"may_look has shape \(7, 5\).*\(t, s\) = \(5, 7\)"),
        ({"may_look_ts": torch.ones(T, S)}, r"dtype=torch.float32; the rule is torch.bool"),
        ({"may_look_ts": torch.ones(1, B, H, T, S, dtype=torch.bool)}, r"does not broadcast to \(b, h, t, s\)"),
        ({"bias": torch.ones(B, T, S)}, r"bias has shape \(2, 5, 7\), which does not broadcast"),
        ({"k_heads": 4}, r"keys of shape \(2, 4, 7, 4\).*keys of shape \(2, 6, 7, 4\) fit"),
        ({"k_width": 3}, r"batch and head width must be equal"),
    ],
)
def test_wrong_shapes_are_named(attention, wrong, says):
    arguments = dict(wrong)
    q, k, v = queries_keys_values(arguments.pop("k_heads", H))
    width = arguments.pop("k_width", K)
    k, v = k[..., :width], v[..., :width]
    with pytest.raises(ValueError, match=says):
        attention(q, k, v, **arguments)


@pytest.mark.parametrize("bias", ["none", "of a head", "of a row", "of all"])
@pytest.mark.parametrize("causal", [True, False])
def test_learning_in_bfloat16_on_a_cpu_takes_products_and_gives_the_same(monkeypatch, bias, causal):
    """torch's kernel is the slow way there; to bfloat16's rounding it is the same, forward and back."""
    from torch.nn import functional as F

    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 4, 7, 6, generator=generator) for _ in range(3))
    shape = {"none": None, "of a head": (4, 7, 7), "of a row": (3, 1, 7, 7), "of all": (7, 7)}[bias]
    added = None if shape is None else torch.randn(shape, generator=generator)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: pytest.fail("the kernel was asked"))
    found = []
    for dtype, attention in ((torch.float32, attend), (torch.bfloat16, attend_fused)):
        x = [part.to(dtype, copy=True).requires_grad_() for part in (q, k, v)]
        mixed = attention(*x, bias=None if added is None else added.to(dtype), causal=causal)
        mixed.float().square().sum().backward()
        found.append([mixed, *(part.grad for part in x)])
    for exact, short in zip(*found, strict=True):
        assert short.dtype == torch.bfloat16
        assert_close(short.float(), exact, rtol=0.05, atol=0.1)
    with pytest.raises(ValueError, match=r"bias"):
        attend_fused(*(part.bfloat16().requires_grad_() for part in (q, k, v)), bias=torch.zeros(5, 7, 7))


def test_whatever_differs_from_that_case_asks_the_kernel(monkeypatch):
    from torch.nn import functional as F

    asked, kernel = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: asked.append(1) or kernel(*a, **k))

    def goes_there(t=7, s=7, heads=4, dtype=torch.bfloat16, learns=True, **how):
        asked.clear()
        q, k = (torch.ones(2, h, n, 2, dtype=dtype, requires_grad=learns) for h, n in ((4, t), (heads, s)))
        attend_fused(q, k, k, **how)
        return bool(asked)

    most = MOST_PRODUCTS
    assert not any([goes_there(), goes_there(causal=True), goes_there(most, most)])
    assert goes_there(most + 1, most + 1) and goes_there(s=9) and goes_there(1, 1) and goes_there(heads=2)
    assert goes_there(dtype=torch.float32) and goes_there(learns=False) and goes_there(dropout=0.5)
    assert goes_there(may_look_ts=torch.ones(7, 7, dtype=torch.bool))
    with torch.no_grad():
        assert goes_there()
