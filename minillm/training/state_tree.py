"""The state of a run as data: tensors by name, and a plain tree of everything else that says where each belongs.

    {"model": {"weight": W}, "betas": (0.9, 0.99), "seen": {3: 7}}
      tensors   model/weight → W
      tree      {"mapping": {"model": {"mapping": {"weight": {"tensor": "model/weight"}}},
                             "betas": {"tuple": [0.9, 0.99]}, "seen": {"pairs": [[3, 7]]}}}

The tree is JSON. Every object in it has one key, which says what it stands for, so nothing a user may call a key can be
mistaken for structure. What comes back equals what went in, to the last bit and the last type: tuples are tuples, keys
that are numbers stay numbers, and a tensor that stood in two places (tied embeddings) is stored once.

Paper:   the JSON of numbers: Python's `repr` of a float is the shortest text that reads back as the same float.
Differs: torch.save writes a pickle, which is a program; this cannot hold anything but data.
Next:    minillm/training/checkpoint.py
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def pack(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """The tree of a nested Mapping, list or tuple of tensors and plain values, and its tensors by name.

    Raises ValueError that names the place of a value which is neither, and what to give in its stead.

    >>> tree, tensors = pack({"step": 3, "mean": torch.zeros(2)})
    >>> tree["mapping"]["mean"], list(tensors)
    ({'tensor': 'mean'}, ['mean'])
    """
    tensors: dict[str, Tensor] = {}
    return _packed(state, (), tensors, {}), tensors


def unpack(tree: Any, read: Callable[[str], Tensor]) -> Any:
    """The state that `pack` was given; `read(name)` gives each tensor, once.

    >>> state = {"betas": (0.9, 0.99), 3: [torch.ones(1), None]}
    >>> tree, tensors = pack(state)
    >>> unpack(tree, tensors.__getitem__) == state
    True
    """
    return _unpacked(tree, read, {})


def map_tensors(state: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same nested state, each tensor replaced by `change(tensor)`, in the order in which they stand.

    >>> map_tensors({"a": [torch.ones(2), "b"]}, lambda tensor: tensor.sum().item())
    {'a': [2.0, 'b']}
    """
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, Mapping):
        return {key: map_tensors(value, change) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map_tensors(value, change) for value in state)
    return state


def _packed(value: Any, place: tuple[str, ...], tensors: dict[str, Tensor], seen: dict[Any, str]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return {"tensor": _named(value, place, tensors, seen)}
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str | int) or isinstance(key, bool)]:
            raise ValueError(f"{_at(place)} has the key {wrong[0]!r}; keys are text or whole numbers, such as 'step'")
        inside = [(key, _packed(part, (*place, str(key)), tensors, seen)) for key, part in value.items()]
        if all(isinstance(key, str) for key in value):
            return {"mapping": dict(inside)}
        return {"pairs": [list(pair) for pair in inside]}
    if isinstance(value, list | tuple):
        parts = [_packed(part, (*place, str(i)), tensors, seen) for i, part in enumerate(value)]
        return parts if isinstance(value, list) else {"tuple": parts}
    raise ValueError(
        f"{_at(place)} is a {type(value).__name__}; a checkpoint holds tensors, numbers, text, None, lists, tuples and "
        "dicts of these. Give its state_dict(), a generator's get_state(), torch.from_numpy(array), or dataclasses."
        "asdict(config)"
    )


def _named(tensor: Tensor, place: tuple[str, ...], tensors: dict[str, Tensor], seen: dict[Any, str]) -> str:
    """The name under which a tensor is stored: its place, or the place where the same numbers stood before."""
    if hasattr(tensor, "full_tensor"):
        raise ValueError(f"{_at(place)} is one process's share of a tensor; minillm.training.sharding.whole(state) "
                         "puts it together from all of them")  # fmt: skip
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        raise ValueError(f"{_at(place)} is a tensor without plain numbers (layout {tensor.layout}, on "
                         f"{tensor.device}); give tensor.to_dense(), or a model that has its parameters")  # fmt: skip
    where = (tensor.device, tensor.untyped_storage().data_ptr(), tensor.storage_offset())
    same = (*where, tensor.shape, tensor.stride(), tensor.dtype)
    if tensor.numel() and same in seen:
        return seen[same]
    name = base = "/".join(place) or "tensor"
    while name in tensors or name == "__metadata__":  # {"a/b": …} and {"a": {"b": …}} would have one name
        name = f"{base}~{len(tensors)}"
    tensors[name], seen[same] = tensor, name
    return name


def _unpacked(tree: Any, read: Callable[[str], Tensor], done: dict[str, Tensor]) -> Any:
    if isinstance(tree, list):
        return [_unpacked(part, read, done) for part in tree]
    if not isinstance(tree, dict):
        return tree
    match list(tree.items()):
        case [("tensor", str(name))]:
            if name not in done:
                done[name] = read(name)
            return done[name]
        case [("mapping", dict(inside))]:
            return {key: _unpacked(part, read, done) for key, part in inside.items()}
        case [("pairs", list(pairs))]:
            return {key: _unpacked(part, read, done) for key, part in pairs}
        case [("tuple", list(parts))]:
            return tuple(_unpacked(part, read, done) for part in parts)
    raise ValueError(f"the tree has an object with the keys {sorted(tree)[:4]}, which stands for nothing that is known")


def _at(place: tuple[str, ...]) -> str:
    return "state" + "".join(f"[{part!r}]" for part in place)
