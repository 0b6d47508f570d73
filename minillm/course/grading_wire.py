"""Plain data over a pipe: how the examiner and the answers talk while a submission is graded.

Nothing that arrives is ever executed: a message is JSON in a frame of known length, and decoding builds numbers,
strings, containers, numpy arrays and torch tensors, of exactly those types. A learner's subclass of `int` whose `==` is
always true arrives as a plain int. What is none of these stays where it is and travels as a number that stands for it.

    frame = 4 bytes of length (big-endian) + JSON

Next:    minillm/course/grading_sandbox.py
"""

import base64
import json
import math
import sys
from collections.abc import Callable
from typing import IO, Any

import numpy as np

MOST_BYTES = 16 * 1024 * 1024  # JSON of this size can become some 500 MB of Python objects, not more
MOST_DIGITS = 4096  # hexadecimal, of one integer: arithmetic on millions of digits takes minutes
MOST_STEPS = 1_000_000  # of a range, and rows of an array without numbers: a few bytes that fill any memory
_DTYPES = {"bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"}
_DTYPES |= {"float16", "float32", "float64", "complex64", "complex128"}
_SEQUENCES: dict[str, Callable[[list[Any]], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
Other = Callable[[Any], Any]


class BadMessage(ValueError):
    """What came over the pipe is not what was agreed."""


class Channel:
    """Messages out through one pipe and in through another."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self.incoming, self.outgoing = incoming, outgoing

    def send(self, message: Any) -> None:
        """Write one message; raises `OSError` when nobody is left to read it."""
        data = json.dumps(message).encode("ascii")
        if len(data) > MOST_BYTES:
            raise BadMessage(f"a message of {len(data):,} bytes is over the limit of {MOST_BYTES:,}")
        self.outgoing.write(len(data).to_bytes(4, "big") + data)
        self.outgoing.flush()

    def receive(self) -> Any:
        """Read one message; raises `EOFError` at the end of the pipe and `BadMessage` for anything unreadable."""
        length = int.from_bytes(self._exactly(4), "big")
        if length > MOST_BYTES:
            raise BadMessage(f"a message of {length:,} bytes is over the limit of {MOST_BYTES:,}")
        try:
            return json.loads(self._exactly(length))
        except (ValueError, RecursionError) as error:
            raise BadMessage(f"a message that is not JSON ({type(error).__name__})") from None

    def _exactly(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            part = self.incoming.read(min(count, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def encode(value: Any, other: Other) -> Any:
    """Turn a value into what JSON can hold; `other` gives the stand-in of what is not plain data.

    >>> encode((1, 2.5, {"a": None}), other=id)
    {'t': 'tuple', 'v': [1, 2.5, {'t': 'dict', 'v': [['a', None]]}]}
    """
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else {"t": "int", "v": _short(hex(int(value)))}
    if isinstance(value, float) and not isinstance(value, np.generic):
        return float(value)
    if isinstance(value, list):
        return [encode(item, other) for item in value]
    for name, kind in (("tuple", tuple), ("set", set), ("frozenset", frozenset)):
        if isinstance(value, kind):
            return {"t": name, "v": [encode(item, other) for item in value]}
    if isinstance(value, dict):
        return {"t": "dict", "v": [[encode(k, other), encode(v, other)] for k, v in value.items()]}
    if isinstance(value, bytes | bytearray):
        return {"t": "bytes", "v": base64.b64encode(value).decode()}
    if isinstance(value, complex) and not isinstance(value, np.generic):
        return {"t": "complex", "v": [value.real, value.imag]}
    if isinstance(value, range) and _few_steps(value):
        return {"t": "range", "v": [value.start, value.stop, value.step]}
    return _encode_array(value) or other(value)


def _short(digits: Any) -> str:
    if len(digits) > MOST_DIGITS:
        raise BadMessage(f"an integer of {len(digits):,} hexadecimal digits; the limit is {MOST_DIGITS:,}")
    return digits


def _few_steps(steps: range) -> bool:
    return (steps.stop - steps.start) // steps.step < MOST_STEPS


def _encode_array(value: Any) -> Any:
    return _encode_numpy(value) or _encode_torch(value)


def _encode_numpy(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.name in _DTYPES:
        return _pack("scalar" if isinstance(value, np.generic) else "array", np.asarray(value))
    if isinstance(value, np.random.Generator) and isinstance(value.bit_generator, np.random.PCG64):
        return {"t": "numpy-generator", "v": json.dumps(value.bit_generator.state)}
    return None


def _encode_torch(value: Any) -> Any:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return None
    if isinstance(value, torch.Tensor):
        tensor: Any = value.detach().cpu()
        if tensor.dtype == torch.bfloat16:
            return {**_pack("tensor", tensor.float().numpy()), "dtype": "bfloat16"}
        return _pack("tensor", tensor.numpy())
    if isinstance(value, torch.Generator):
        return _pack("torch-generator", value.get_state().numpy())
    return None


def _pack(tag: str, array: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"t": tag, "v": data, "as": array.dtype.name, "shape": list(array.shape)}


def decode(node: Any, other: Other) -> Any:
    """The value that `encode` was given; `other` gives what a stand-in means. Raises `BadMessage` for nonsense.

    >>> decode({"t": "tuple", "v": [1, 2.5, {"t": "dict", "v": [["a", None]]}]}, other=id)
    (1, 2.5, {'a': None})
    >>> decode({"t": "array", "v": "", "as": "float64", "shape": [10]}, other=id)
    Traceback (most recent call last):
    ...
    minillm.course.grading_wire.BadMessage: a damaged array
    """
    try:
        return _decode(node, other)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, OverflowError) as error:
        if isinstance(error, BadMessage):
            raise
        raise BadMessage(f"a damaged value ({type(error).__name__})") from None


def _decode(node: Any, other: Other) -> Any:
    if isinstance(node, list):
        return [_decode(item, other) for item in node]
    if not isinstance(node, dict):
        return node
    tag = node["t"]
    value: Any = node.get("v")
    if tag in _SEQUENCES:
        return _SEQUENCES[tag]([_decode(item, other) for item in value])
    if tag == "dict":
        return {_decode(k, other): _decode(v, other) for k, v in value}
    if tag == "int":
        return int(_short(value), 16)
    if tag == "bytes":
        return base64.b64decode(value, validate=True)
    if tag == "complex":
        return complex(float(value[0]), float(value[1]))
    if tag == "range":
        if not _few_steps(steps := range(*map(int, value))):
            raise BadMessage("a range that is too long")
        return steps
    if tag == "numpy-generator":
        generator = np.random.default_rng()
        generator.bit_generator.state = json.loads(value)
        return generator
    if tag in ("array", "scalar", "tensor", "torch-generator"):
        return _unpack(tag, node)
    return other(node)


def _unpack(tag: str, node: dict[str, Any]) -> Any:
    data, shape = base64.b64decode(node["v"], validate=True), tuple(node["shape"])
    good = node["as"] in _DTYPES and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 32
    size = math.prod(shape) if good else -1
    empty_but_long = size == 0 and math.prod(n for n in shape if n) > MOST_STEPS
    if not good or size * np.dtype(node["as"]).itemsize != len(data) or empty_but_long:
        raise BadMessage("a damaged array")
    array = np.frombuffer(bytearray(data), dtype=node["as"]).reshape(shape)
    if tag in ("array", "scalar"):
        return array[()] if tag == "scalar" else array
    import torch

    tensor = torch.from_numpy(array)
    if tag == "torch-generator":
        return torch.Generator().set_state(tensor)
    return tensor.bfloat16() if node.get("dtype") == "bfloat16" else tensor
