"""Chapter 07's checks: right answers pass in more than one form, wrong ones get the diagnosis that they deserve."""

import math

import numpy as np
import pytest
import torch
from refusals import refuse, stub
from torch.nn import functional as F

from minillm.course.checks import NotWrittenYet, check
from minillm.course.dictionary import rules_bleu, word_by_word


@pytest.mark.parametrize("name", ["brevity", "smoothed_loss", "parameters", "pre_norm", "rules"])
def test_a_stub_is_not_written_yet(name):
    with pytest.raises(NotWrittenYet, match="not written yet"):
        check(f"07.{name}", stub)


# 07.brevity


def nearest(length, choice):
    return min(choice, key=lambda r: (abs(r - length), r))


def brevity(lengths, choices, *, pick=nearest, penalty=lambda c, r: min(1.0, math.exp(1 - r / c)), empty=0.0):
    c, r = sum(lengths), sum(map(pick, lengths, choices))
    return penalty(c, r) if c else empty


def brevity_by_arrays(lengths, choices):
    r = sum(sorted(choice, key=lambda x: (abs(x - n), x))[0] for n, choice in zip(lengths, choices, strict=True))
    c = np.sum(lengths)
    return float(np.exp(min(0, 1 - r / c))) if c else 0


def mean_of_penalties(lengths, choices):
    return sum(brevity([n], [choice]) for n, choice in zip(lengths, choices, strict=True)) / len(lengths)


def brevity_in_place(lengths, choices):
    for choice in choices:
        choice.sort()
    return brevity(lengths, choices)


@pytest.mark.parametrize("answer", [brevity, brevity_by_arrays])
def test_brevity_accepts(answer, capsys):
    check("07.brevity", answer)
    assert capsys.readouterr().out == "07.brevity: correct\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x, y: brevity(x, y, penalty=lambda c, r: math.exp(1 - r / c)), "at most 1"),
        (lambda x, y: brevity(x, y, penalty=lambda c, r: math.exp(1 - c / r)), "r / c is turned round"),
        (lambda x, y: brevity(x, y, penalty=lambda c, r: math.exp(r / c - 1)), "the sign is turned round"),
        (lambda x, y: brevity(x, y, penalty=lambda c, r: min(1.0, c / r)), "not c / r"),
        (lambda x, y: 100 * brevity(x, y), "not out of 100"),
        (mean_of_penalties, "the whole corpus are added up first"),
        (lambda x, y: brevity(x, y, pick=lambda n, choice: choice[0]), "*closest* in length"),
        (lambda x, y: brevity(x, y, pick=lambda n, choice: max(choice)), "*closest* in length"),
        (lambda x, y: brevity(x, y, pick=lambda n, choice: min(choice)), "not the shortest"),
        (lambda x, y: brevity(x, y, pick=lambda n, choice: sum(choice) / len(choice)), "not their mean"),
        (lambda x, y: brevity(x, y, pick=lambda n, c: min(c, key=lambda r: (abs(r - n), -r))), "the shorter counts"),
        (lambda x, y: brevity(x, y, empty=1.0), "without a word"),
        (lambda x, y: min(1.0, math.exp(1 - sum(map(nearest, x, y)) / sum(x))), "ZeroDivisionError"),
        (brevity_in_place, "changed its argument"),
        (lambda x, y: None, "is there a `return`?"),
    ],
)
def test_brevity_refuses(answer, says):
    refuse("07.brevity", answer, says)


# 07.smoothed_loss


def smoothed_loss(logits, targets, padding, epsilon, *, drop=lambda y, padding: y == padding, share=True):
    costs = []
    for row, y in zip(logits, targets, strict=True):
        log_p = torch.tensor(row, dtype=torch.float64).log_softmax(-1)
        if not drop(y, padding):
            costs.append(float(-(1 - epsilon) * log_p[y] - epsilon * log_p.mean()))
    return sum(costs) / (len(costs) if share else len(targets))


def smoothed_by_torch(logits, targets, padding, epsilon):
    scores, y = torch.tensor(logits, dtype=torch.float64), torch.tensor(targets)
    return float(F.cross_entropy(scores, y, ignore_index=padding, label_smoothing=epsilon))


def smooth_at_padding(logits, targets, padding, epsilon, *, all_places=True):
    log_p = torch.tensor(logits, dtype=torch.float64).log_softmax(-1)
    real = torch.tensor(targets) != padding
    plain = -log_p[torch.arange(len(targets)), targets] * real
    total = ((1 - epsilon) * plain - epsilon * log_p.mean(-1)).sum()
    return float(total / (len(targets) if all_places else real.sum()))


def over_the_others(logits, targets, padding, epsilon):
    rows = [(row, y) for row, y in zip(logits, targets, strict=True) if y != padding]
    log_p = torch.tensor([row for row, _ in rows], dtype=torch.float64).log_softmax(-1)
    hot = F.one_hot(torch.tensor([y for _, y in rows]), log_p.shape[1]).double()
    aim = hot * (1 - epsilon) + (1 - hot) * epsilon / (log_p.shape[1] - 1)
    return float(-(aim * log_p).sum(-1).mean())


def naive_softmax(logits, targets, padding, epsilon):
    rows = [np.exp(row) / np.exp(row).sum() for row in logits]
    pairs = [(np.log(p), y) for p, y in zip(rows, targets, strict=True) if y != padding]
    return float(np.mean([-(1 - epsilon) * log_p[y] - epsilon * log_p.mean() for log_p, y in pairs]))


@pytest.mark.parametrize("answer", [smoothed_loss, smoothed_by_torch])
def test_smoothed_loss_accepts(answer):
    check("07.smoothed_loss", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x, y, p, e: smoothed_loss(x, y, p, 1 - e), "epsilon is the part that is *spread*"),
        (lambda x, y, p, e: smoothed_loss(x, y, p, 0.0), "epsilon changes nothing"),
        (lambda x, y, p, e: smoothed_loss(x, y, p, e, drop=lambda *_: False), "the padding is counted"),
        (lambda x, y, p, e: smoothed_loss(x, y, 0, e), "it is the third argument"),
        (lambda x, y, p, e: smoothed_loss(x, y, p, e, share=False), "the number of real targets"),
        (smooth_at_padding, "*both* parts"),
        (lambda x, y, p, e: smooth_at_padding(x, y, p, e, all_places=False), "*both* parts"),
        (over_the_others, "the target among them"),
        (naive_softmax, "subtract the largest score"),
        (lambda x, y, p, e: smoothed_loss(x, y, p, e) / math.log(2), "natural logarithm"),
        (lambda x, y, p, e: -smoothed_loss(x, y, p, e), "the sign is missing"),
        (lambda x, y, p, e: None, "is there a `return`?"),
    ],
)
def test_smoothed_loss_refuses(answer, says):
    refuse("07.smoothed_loss", answer, says)


# 07.parameters


def parameters(v, d, f, n, **changed):
    parts = {
        "table": v * d,
        "attention": 12 * n * (d * d + d),
        "feed-forward": 2 * n * (2 * d * f + f + d),
        "norms": 10 * n * d,
    }
    return parts | {name.replace("_", "-"): value(v, d, f, n) for name, value in changed.items()}


def parameters_of_torch(v, d, f, n):
    count = lambda layer, what: sum(p.numel() for name, p in layer.named_parameters() if what in name)
    layers = [
        kind(d, 1, f, batch_first=True) for kind in (torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer)
    ]
    parts = {"attention": "attn", "feed-forward": "linear", "norms": "norm"}
    return {"table": v * d} | {name: n * sum(count(layer, what) for layer in layers) for name, what in parts.items()}


@pytest.mark.parametrize("answer", [parameters, parameters_of_torch])
def test_parameters_accepts(answer):
    check("07.parameters", answer)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"table": lambda v, d, f, n: 2 * v * d}, "one table serves"),
        ({"table": lambda v, d, f, n: v * d + v}, "no bias"),
        ({"attention": lambda v, d, f, n: 12 * n * d * d}, "has a bias of d numbers"),
        ({"attention": lambda v, d, f, n: 9 * n * (d * d + d)}, "there are four maps"),
        ({"attention": lambda v, d, f, n: 8 * n * (d * d + d)}, "*two* attentions"),
        ({"feed_forward": lambda v, d, f, n: 4 * n * d * f}, "both maps have biases"),
        ({"feed_forward": lambda v, d, f, n: n * (2 * d * f + f + d)}, "encoder *and* decoder"),
        ({"feed_forward": lambda v, d, f, n: 3 * n * (2 * d * f + f + d)}, "only one feed-forward network"),
        ({"norms": lambda v, d, f, n: 5 * n * d}, "a gain *and* a shift"),
        ({"norms": lambda v, d, f, n: 8 * n * d}, "three norms"),
        ({"norms": lambda v, d, f, n: (10 * n + 4) * d}, "no norm at the ends"),
        ({"norms": lambda v, d, f, n: None}, "wanted a number"),
        ({"feed_forward": lambda v, d, f, n: 2 * n * (8 * d * d + 5 * d)}, "gave"),
    ],
)
def test_parameters_refuses(changed, says):
    refuse("07.parameters", lambda *sizes: parameters(*sizes, **changed), says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda v, d, f, n: sum(parameters(v, d, f, n).values()), "wanted dict"),
        (lambda v, d, f, n: {"table": v * d}, "the keys are"),
        (lambda v, d, f, n: None, "is there a `return`?"),
    ],
)
def test_parameters_refuses_other_forms(answer, says):
    refuse("07.parameters", answer, says)


# 07.pre_norm


def norm(x, eps=1e-5):
    return (x - x.mean()) / np.sqrt(x.var() + eps)


def pre_norm(x, layers, *, read=norm, onto=lambda x: x, bend=lambda y: y, end=norm):
    x = np.array(x)
    for up, down in layers:
        x = onto(x)
        x = x + bend(np.array(down) @ np.maximum(0.0, np.array(up) @ read(x)))
    return end(x).tolist()


def pre_norm_by_torch(x, layers):
    x = torch.tensor(x, dtype=torch.float64)
    for up, down in layers:
        x = x + torch.tensor(down).double() @ (torch.tensor(up).double() @ F.layer_norm(x, x.shape)).relu()
    return F.layer_norm(x, x.shape).tolist()


def as_given(x, layers):
    return pre_norm(x, layers, onto=norm, read=lambda x: x, end=lambda x: x)


def post_norm(x, layers):
    x = np.array(x)
    for up, down in layers:
        x = norm(x + np.array(down) @ np.maximum(0.0, np.array(up) @ x))
    return (x if layers else norm(x)).tolist()


def no_residual(x, layers):
    x = np.array(x)
    for up, down in layers:
        x = np.array(down) @ np.maximum(0.0, np.array(up) @ norm(x))
    return norm(x).tolist()


def in_place(x, layers):
    result = pre_norm(x, layers)
    x[:] = result
    return result


@pytest.mark.parametrize("answer", [pre_norm, pre_norm_by_torch])
def test_pre_norm_accepts(answer):
    check("07.pre_norm", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (as_given, "only the last norm is left"),
        (lambda x, layers: pre_norm(x, layers, onto=norm, read=lambda x: x), "written *onto the stream*"),
        (lambda x, layers: pre_norm(x, layers, end=lambda x: x), "only the last norm is left"),
        (lambda x, layers: pre_norm(x, layers, end=norm if not layers else lambda x: x), "the last norm is missing"),
        (lambda x, layers: pre_norm(x, layers, bend=lambda y: np.maximum(0, y)), "must be able to subtract"),
        (lambda x, layers: pre_norm(x, layers, read=lambda x: x), "x + down · relu(up · norm(x))"),
        (post_norm, "this is post-norm"),
        (no_residual, "the residual is missing"),
        (lambda x, layers: pre_norm(x, layers[:1]), "at the end norm(x)"),
        (lambda x, layers: np.array(pre_norm(x, layers)), "return a list"),
        (in_place, "changed its argument"),
        (lambda x, layers: None, "is there a `return`?"),
    ],
)
def test_pre_norm_refuses(answer, says):
    refuse("07.pre_norm", answer, says)


# 07.rules


def rules(words, dictionary, measures, *, kinds=("know", "than", "by", "On")):
    z = [dictionary.get(word, "") for word in words]
    kind = next((mark for mark in kinds if mark in words), "")
    if kind == "know":
        return f"{z[0]}不知道{z[5]}{z[4]}{z[6]}那{measures[words[9]]}{z[8]}的{z[9]}。"
    if kind == "than":
        return f"{z[3]}{z[4].removesuffix('了')}的{z[1]}比{z[11]}的{z[9]}{z[6]}。"
    if kind == "by":
        return f"{z[0]}在{z[7]}边{z[1]}{z[2]}{measures[words[4]]}{z[3]}的{z[4]}。"
    if kind == "On":
        return f"{z[1]}，{z[2]}在{z[10]}{z[3].removesuffix('了')}{z[4]}了一{measures[words[7]]}{z[6]}的{z[7]}。"
    return "".join(z)


def with_kinds(*kinds):
    return lambda words, dictionary, measures: rules(words, dictionary, measures, kinds=kinds)


def forgets_the_rest(words, dictionary, measures):
    if any(mark in words for mark in ("know", "than", "by", "On")):
        return rules(words, dictionary, measures)


def spoils_the_dictionary(words, dictionary, measures):
    dictionary["the"] = ""
    return rules(words, dictionary, measures)


def test_rules_accepts():
    check("07.rules", rules)
    assert rules_bleu(rules) > 80


def test_every_rule_helps():
    scores = [rules_bleu(with_kinds(*("know", "than", "by", "On")[:n])) for n in range(5)]
    assert scores == sorted(scores) and scores[0] < 45 < 80 < scores[-1]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda words, dictionary, _: word_by_word(words, dictionary), "BLEU 3"),
        (with_kinds("than", "by", "On"), "X does not know …"),
        (with_kinds("know", "by", "On"), "… is … than …"),
        (with_kinds("know", "than"), "most is lost at sentences of the kind"),
        (lambda words, dictionary, _: " ".join(dictionary.get(word, "") for word in words), "became"),
        (lambda words, dictionary, _: "".join(dictionary[word] for word in words), "KeyError"),
        (lambda words, *_: "".join(words), "wanted '"),
        (lambda *_: "。", "BLEU 0.0"),
        (lambda words, dictionary, _: [dictionary.get(word, "") for word in words], "wanted str"),
        (forgets_the_rest, "after the last `if`"),
        (spoils_the_dictionary, "changed its argument"),
    ],
)
def test_rules_refuses(answer, says):
    refuse("07.rules", answer, says)
