"""What passes between the examiner and the answers: plain data of exactly known types, and built-in errors."""

import json

import numpy as np
import pytest

from minillm.course import grading_wire
from minillm.course.grading_desk import _raised
from minillm.course.grading_examiner import split_names

PLAIN = [None, True, 3, -(1 << 80), 2.5, "é\ud800", (1, (2,)), [1, [2]], {"a": 1, 2: (3,)}, {1, 2}, frozenset({1})]
PLAIN += [b"\x00", 1j, range(3), np.float32(1.5), np.int64(7), np.arange(6).reshape(2, 3), np.zeros((0, 4))]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_data_comes_through_as_it_was(value):
    sent = json.loads(json.dumps(grading_wire.encode(value, other=None)))
    got = grading_wire.decode(sent, other=None)
    assert type(got) is type(value)
    np.testing.assert_array_equal(got, value) if isinstance(value, np.ndarray) else None
    assert isinstance(value, np.ndarray) or got == value


def test_tensors_come_through():
    torch = pytest.importorskip("torch")
    for x in (torch.arange(6.0).reshape(2, 3), torch.ones(2, dtype=torch.bfloat16), torch.tensor(3)):
        got = grading_wire.decode(grading_wire.encode(x, other=None), other=None)
        assert torch.equal(got, x) and got.dtype == x.dtype
    generator = torch.Generator().manual_seed(5)
    twin = grading_wire.decode(grading_wire.encode(generator, other=None), other=None)
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=twin))


def test_names_of_a_cell():
    assert split_names("import math\nfrom os import path\nx, y = 1, 2\ndef f():\n    z = 3") == (
        "import math\nfrom os import path",
        ["f", "x", "y"],
    )


def test_an_answer_cannot_end_a_tests_own_loop():
    """`all(map(answer, cases))` is true when the first call raises StopIteration, so calls cannot raise it here."""
    assert type(_raised(["StopIteration", "x"], ends_loops=False)) is RuntimeError
    assert type(_raised(["StopIteration", "x"], ends_loops=True)) is StopIteration
    assert type(_raised(["ValueError", "x"], ends_loops=False)) is ValueError
    unusual = ("SystemExit", "print", "no such thing", "UnicodeDecodeError")
    for nonsense in (*([kind, "x"] for kind in unusual), None, [1, 2]):
        assert type(_raised(nonsense, ends_loops=False)) is RuntimeError


class Sly(int):
    """Claims to equal everything."""

    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


def test_subclasses_arrive_as_what_they_are_made_of():
    got = grading_wire.decode(grading_wire.encode([Sly(7), {Sly(1): "a"}], other=None), other=None)
    assert type(got[0]) is int and got[0] != 8 and [type(key) for key in got[1]] == [int]


DAMAGED = [
    {"t": "array", "v": "", "as": "object", "shape": [0]},
    {"t": "array", "v": "AAAA", "as": "uint8", "shape": [-3]},
    {"t": "array", "v": "AAAA", "as": "uint8", "shape": [4]},
    {"t": "dict", "v": [[[], 1]]},
    {"t": "int", "v": "zz"},
    {"t": "bytes", "v": "?"},
    {"no": "tag"},
    {"t": "range", "v": [1, 2, 0]},
    {"t": "range", "v": [0, 10**18, 1]},
    {"t": "range", "v": [10**18, 0, -1]},
    {"t": "int", "v": "f" * 5000},
    {"t": "int", "v": 7},
    {"t": "array", "v": "", "as": "float64", "shape": [10**12, 0]},
    {"t": "tensor", "v": "", "as": "float64", "shape": [0, 3000, 3000]},
]


@pytest.mark.parametrize("node", DAMAGED, ids=lambda node: str(node)[:60])
def test_nonsense_is_refused(node):
    with pytest.raises(grading_wire.BadMessage):
        grading_wire.decode(node, other=None)


def test_what_is_too_large_stays_where_it_is():
    """A few bytes that stand for more than any memory holds are not sent as data."""
    assert grading_wire.encode(range(10**18), other=lambda value: "kept") == "kept"
    with pytest.raises(grading_wire.BadMessage, match="hexadecimal digits"):
        grading_wire.encode(1 << 1_000_000, other=None)
    assert grading_wire.decode(grading_wire.encode(-(1 << 9999), other=None), other=None) == -(1 << 9999)
