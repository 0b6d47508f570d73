"""Tensors on disk, by name: safetensors files, whole, checked, and never a program.

    file  =  8 bytes: length of the header  ·  header: {name: number format, shape, place}  ·  the numbers, end to end

A pickle, the older format of checkpoints, is a little program that runs when it is read; this format holds data alone.
A large model is cut into several files, with an index that says which file holds which tensor; the index is written
last, so that it never promises what is not there yet.

Paper:   the safetensors format, https://huggingface.co/docs/safetensors; its library reads and writes the bytes.
Differs: every complaint names the file and, where it can, the tensor.
Next:    minillm/text/village.py
"""

import json
import os
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minillm.core.files import replacing, write_atomically

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class StoredTensors:
    """The tensors of a safetensors file, or of a folder with one or with several and their index; read one at a time.

    Opening checks every header; nothing is read into memory before `read`. Raises ValueError for what is missing,
    damaged or not in this format, with the reason.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file_of: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        promised = _promised(self.path)
        for file in sorted(set(promised.values())) if promised else [_single(self.path)]:
            for name, shape in _header(file).items():
                if name in self._file_of:
                    raise ValueError(f"path={os.fspath(file)!r} holds tensor {name!r}, which "
                                     f"{self._file_of[name].name!r} holds too; each has one place")  # fmt: skip
                self._file_of[name], self._shapes[name] = file, shape
        for name, file in promised.items():
            if self._file_of.get(name) != file:
                raise ValueError(f"path={os.fspath(self.path / INDEX)!r} promises tensor {name!r} in {file.name!r}, "
                                 "which does not hold it; fetch the files again")  # fmt: skip

    @property
    def names(self) -> list[str]:
        """The names of all tensors, sorted."""
        return sorted(self._file_of)

    def shape(self, name: str) -> tuple[int, ...]:
        """The size of each axis of a tensor, read from the header alone."""
        self._check(name)
        return self._shapes[name]

    def read(self, name: str) -> Tensor:
        """Read one tensor in the number format in which it is stored."""
        self._check(name)
        with safe_open(self._file_of[name], framework="pt") as file:
            return file.get_tensor(name)

    def _check(self, name: str) -> None:
        if name not in self._file_of:
            raise ValueError(f"name={name!r} is not in {os.fspath(self.path)!r}; it holds {', '.join(self.names)}")


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to one file, whole or not at all. Tensors that share memory are written one by one.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(f"{folder}/a.safetensors", {"weight": torch.eye(2)})
    ...     StoredTensors(f"{folder}/a.safetensors").read("weight").tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if not tensors:
        raise ValueError("tensors={} holds nothing to write; give at least one, such as {'weight': torch.zeros(2)}")
    owned, seen = {}, set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()  # a part of a larger one would be written with the rest
        if storage.data_ptr() in seen or storage.nbytes() != plain.nbytes:
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        owned[name] = plain
    with replacing(path) as temporary:
        save_file(owned, temporary, dict(metadata) if metadata else None)


def write_sharded(folder: str | os.PathLike[str], tensors: Mapping[str, Tensor], largest: int = 5_000_000_000) -> None:
    """Write tensors into a folder: as one file when all fit into `largest` bytes, else as several and an index."""
    if largest < 1:
        raise ValueError(f"largest={largest} must be a number of bytes above 0, such as 5_000_000_000")
    shards: list[dict[str, Tensor]] = [{}]
    room = largest
    for name, tensor in tensors.items():
        if shards[-1] and tensor.nbytes > max(room, 0):
            shards.append({})
            room = largest
        shards[-1][name] = tensor
        room -= tensor.nbytes
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if len(shards) == 1:
        write_tensors(folder / WHOLE, shards[0], {"format": "pt"})
        (folder / INDEX).unlink(missing_ok=True)  # an index of before would point to other files
        return
    files = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for file, shard in zip(files, shards, strict=True):
        write_tensors(folder / file, shard, {"format": "pt"})
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {name: file for file, shard in zip(files, shards, strict=True) for name in shard},
    }
    write_atomically(folder / INDEX, json.dumps(index, indent=2))


def _single(path: Path) -> Path:
    if not path.is_dir():
        return path
    if not (path / WHOLE).exists():
        pickles = [file.name for file in sorted(path.iterdir()) if file.suffix in _PICKLES]
        also = f"; {pickles[0]!r} is a pickle, which is a program: it is never read here" if pickles else ""
        raise ValueError(f"path={os.fspath(path)!r} holds neither {WHOLE} nor {INDEX}{also}")
    return path / WHOLE


def _promised(path: Path) -> dict[str, Path]:
    """What the index of a folder says: tensor → file; nothing when there is no index, or a whole file beside it."""
    if not path.is_dir() or (path / WHOLE).exists() or not (path / INDEX).exists():
        return {}
    where = f"path={os.fspath(path / INDEX)!r}"
    try:
        weight_map = json.loads((path / INDEX).read_text(encoding="utf-8"))["weight_map"]
        files = set(weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{where} is not an index: JSON with a 'weight_map' from names to files ({error})") from None
    if not weight_map:
        raise ValueError(f"{where} has an empty 'weight_map'; it must name at least one tensor")
    for file in files:
        if not isinstance(file, str) or not re.fullmatch(r"[\w.-]+\.safetensors", file):
            raise ValueError(f"{where} points to {file!r}; only plain names that end in .safetensors, in the same "
                             "folder, are read")  # fmt: skip
    return {name: path / file for name, file in weight_map.items()}


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a file, or a ValueError with the reason."""
    where = f"path={os.fspath(file)!r}"
    if not file.is_file():
        raise ValueError(f"{where} is not there; fetch it, or give a folder that holds {WHOLE}")
    try:
        with safe_open(file, framework="pt") as stored:
            return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    except SafetensorError as error:
        with file.open("rb") as stream:
            start = stream.read(8)
        if start.startswith((b"PK\x03\x04", b"\x80")):
            raise ValueError(f"{where} is a pickle or a zip archive of one, which is a program: it is never read here. "
                             "Take the model's .safetensors file") from None  # fmt: skip
        raise ValueError(f"{where} is damaged or no safetensors file: {_reason(file, start, str(error))}; "
                         "fetch or write it again") from None  # fmt: skip


def _reason(file: Path, start: bytes, said: str) -> str:
    """What the library said, with the sizes that do not fit or the name of the tensor that is wrong."""
    size = file.stat().st_size
    if len(start) < 8:
        return f"{size} bytes are not even a header"
    (length,) = struct.unpack("<Q", start)
    if length > size - 8:
        return f"its header says that it is {length:,} bytes long, but the whole file has {size:,} bytes"
    with file.open("rb") as stream:
        stream.seek(8)
        raw = stream.read(min(length, 100_000_000))
    try:
        header = json.loads(raw)
        entries: Iterable[tuple[str, dict]] = [(n, e) for n, e in header.items() if n != "__metadata__"]
        for name, entry in sorted(entries, key=lambda item: item[1]["data_offsets"]):
            begin, end = entry["data_offsets"]
            if end > size - 8 - length:
                return f"tensor {name!r} ends at byte {end:,} of the data, but the file holds {size - 8 - length:,}"
            if not _fits(entry, end - begin):
                return f"tensor {name!r} has dtype {entry['dtype']} and shape {entry['shape']}, not {end - begin} bytes"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # then the library's own words are all there is
    return said.removeprefix("Error while deserializing header: ")


def _fits(entry: dict, n_bytes: int) -> bool:
    bits = int((re.search(r"\d+", entry["dtype"]) or [8])[0])
    numbers = 1
    for size in entry["shape"]:
        numbers *= size
    return numbers * bits == n_bytes * 8
