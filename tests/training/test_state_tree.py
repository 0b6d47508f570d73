"""The state of a run as a tree and tensors: what comes back is what went in, to the last bit and the last type."""

import json
import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn

from minillm.training.state_tree import map_tensors, pack, unpack

KEYS = some.text(max_size=4) | some.integers() | some.sampled_from(["tensor", "mapping", "pairs", "tuple", "a/b", "~1"])
LEAVES = some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=4)
STATES = some.recursive(
    LEAVES | LEAVES.map(lambda value: torch.tensor([float(hash(value) % 97)])),
    lambda inside: (
        some.lists(inside, max_size=3)
        | some.lists(inside, max_size=3).map(tuple)
        | some.dictionaries(KEYS, inside, max_size=3)
    ),
    max_leaves=12,
)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return type(b) is float and (a.hex() == b.hex() or (math.isnan(a) and math.isnan(b)))
    return type(a) is type(b) and a == b


def there_and_back(state):
    tree, tensors = pack(state)
    return unpack(json.loads(json.dumps(tree)), tensors.__getitem__)


@pytest.mark.no_promises
@settings(max_examples=150, deadline=None)
@given(STATES)
def test_whatever_is_data_comes_back(state):
    assert same(state, there_and_back(state))


def test_keys_that_look_like_structure_or_like_each_other():
    one, two, three = (torch.tensor([float(i)]) for i in range(3))
    state = {"tensor": "x", "a/b": one, "a": {"b": two, "mapping": {1: three, "1": 7}}, "__metadata__": one + 9}
    assert same(state, there_and_back(state))
    assert len(pack(state)[1]) == 4 and "__metadata__" not in pack(state)[1]


def test_a_tensor_that_stands_in_two_places_is_stored_once():
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    state = {"model": nn.Sequential(first, second).state_dict()}
    assert list(pack(state)[1]) == ["model/0.weight"]
    back = there_and_back(state)["model"]
    assert back["0.weight"] is back["1.weight"]
    table = torch.arange(6.0).view(2, 3)
    views = {"whole": table, "row": table[0], "turned": table.T, "bits": table.view(torch.int32), "none": table[:0]}
    assert len(pack(views)[1]) == 5 and same(views, there_and_back(views)), "one memory, but not the same numbers"


def test_an_ordered_dict_and_the_keys_of_torchs_optimisers():
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.grad = torch.ones(2)
    optimizer.step()
    state = optimizer.state_dict()
    assert same(state, there_and_back(state)) and list(there_and_back(state)["state"]) == [0]
    assert there_and_back(OrderedDict(b=1, a=2)) == {"b": 1, "a": 2}


@dataclass
class Settings:
    rate: float = 0.1


@pytest.mark.parametrize(
    "value", [Settings(), np.zeros(2), {1, 2}, b"bytes", 1j, lambda: 0, torch.float32], ids=lambda v: type(v).__name__
)
def test_what_is_no_data_is_named_with_its_place(value):
    with pytest.raises(ValueError, match=rf"state\['parts'\]\['1'\] is a {type(value).__name__}; .*state_dict"):
        pack({"parts": ["fine", value]})


def test_what_has_no_plain_numbers_is_named():
    with pytest.raises(ValueError, match=r"state\['w'\] is a tensor without plain numbers .*to_dense"):
        pack({"w": torch.eye(2).to_sparse()})
    with pytest.raises(ValueError, match="on meta"):
        pack({"w": torch.empty(2, device="meta")})
    with pytest.raises(ValueError, match=r"key 0\.5; keys are"):
        pack({0.5: 1})
    with pytest.raises(ValueError, match="key True"):
        pack({True: 1})


@pytest.mark.parametrize(
    "tree", [{}, {"tensor": 3}, {"eval": "1"}, {"mapping": [1]}, {"pairs": [], "tuple": []}], ids=str
)
def test_a_tree_that_means_nothing_is_refused(tree):
    with pytest.raises(ValueError, match="stands for nothing"):
        unpack([tree], lambda name: torch.zeros(1))


def test_map_tensors_goes_in_order_and_keeps_the_rest():
    seen = []
    state = {"b": torch.zeros(1), "a": (torch.ones(2), "text", [torch.zeros(3)])}
    changed = map_tensors(state, lambda tensor: seen.append(len(tensor)) or len(tensor))
    assert changed == {"b": 1, "a": (2, "text", [3])} and seen == [1, 2, 3]
