"""Safetensors files: agreement with the format's own library, and every damage named."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch.testing import assert_close

from minillm.core.tensor_files import INDEX, WHOLE, StoredTensors, write_sharded, write_tensors


@pytest.fixture
def tensors():
    g = torch.Generator().manual_seed(0)
    return {"a": torch.randn(2, 3, generator=g), "b.weight": torch.randn(5, generator=g).bfloat16(),
            "c": torch.arange(4), "empty": torch.zeros(0, 7)}  # fmt: skip


def bytes_with(header, body=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + body


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_the_library_reads_ours(tensors, tmp_path):
    write_tensors(tmp_path / "x.safetensors", tensors)
    read = load_file(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert_close(read[name], tensor, rtol=0, atol=0)


def test_we_read_the_librarys(tensors, tmp_path):
    save_file(tensors, tmp_path / "x.safetensors")
    stored = StoredTensors(tmp_path / "x.safetensors")
    assert stored.names == sorted(tensors)
    for name, tensor in tensors.items():
        assert stored.shape(name) == tuple(tensor.shape)
        assert_close(stored.read(name), tensor, rtol=0, atol=0)


def test_views_and_shared_tensors_are_written_as_what_they_show(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    write_tensors(tmp_path / "x.safetensors", {"turned": base.T, "row": base[1], "again": base, "base": base})
    stored = StoredTensors(tmp_path / "x.safetensors")
    for name, wanted in {"turned": base.T, "row": base[1], "again": base, "base": base}.items():
        assert_close(stored.read(name), wanted, rtol=0, atol=0)
    assert (tmp_path / "x.safetensors").stat().st_size < 4 * (12 * 3 + 4) + 500  # a row does not bring its base along


@pytest.mark.parametrize(("largest", "files"), [(10**6, 1), (24, 3), (1, 3)])
def test_shards_hold_everything_once(tensors, tmp_path, largest, files):
    write_sharded(tmp_path, tensors, largest)
    assert len(list(tmp_path.glob("*.safetensors"))) == files
    assert (tmp_path / INDEX).exists() == (files > 1)
    stored = StoredTensors(tmp_path)
    for name, tensor in tensors.items():
        assert_close(stored.read(name), tensor, rtol=0, atol=0)
    assert not list(tmp_path.glob(".*"))


def test_a_failed_write_leaves_the_old_file(tensors, tmp_path, monkeypatch):
    write_tensors(tmp_path / "x.safetensors", tensors)
    before = (tmp_path / "x.safetensors").read_bytes()

    def full_disk(owned, path, metadata):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("minillm.core.tensor_files.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)})
    assert (tmp_path / "x.safetensors").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


GOOD = save({"a": torch.ones(2, 3), "b": torch.zeros(4)})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes are not even a header"),
        (GOOD[:5], "5 bytes are not even a header"),
        (GOOD[:-3], "tensor 'b' ends at byte 40 of the data, but the file holds 37"),
        (GOOD + b"xx", "not fully covered"),
        (struct.pack("<Q", 10**5) + GOOD[8:], "its header says that it is 100,000 bytes long, but the whole file has"),
        (struct.pack("<Q", 2**63) + GOOD[8:], "its header says that it is 9,223,372,036,854,775,808 bytes long"),
        (bytes_with(b"{nope"), "JSON"),
        (bytes_with(b"\xff\xfe{}"), "UTF-8"),
        (bytes_with(b"[" * 100_000), "JSON"),
        (bytes_with([1]), "JSON"),
        (bytes_with({"a": entry([1], 0, 4, "X9")}, b"1234"), "X9"),
        (bytes_with({"a": entry([2], 0, 4)}, b"1234"), "tensor 'a' has dtype F32 and shape [2], not 4 bytes"),
        (bytes_with({"a": entry([-1], 0, 4)}, b"1234"), "'a'"),
        (bytes_with({"a": entry([2**40, 2**40], 0, 4)}, b"1234"), "tensor 'a' has dtype F32"),
        (bytes_with({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"1234"), "offset for tensor"),
        (bytes_with({"a": entry([1], 4, 8)}, b"12345678"), "offset for tensor `a`"),
        (b"\x80\x02}q\x00." * 9, "is a pickle"),
        (b"PK\x03\x04" + bytes(100), "is a pickle"),
    ],
)
def test_damage_is_named(tmp_path, data, said):
    (tmp_path / WHOLE).write_bytes(data)
    for path in (tmp_path, tmp_path / WHOLE):
        with pytest.raises(ValueError) as error:
            StoredTensors(path)
        assert said in str(error.value)
        assert WHOLE in str(error.value)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"weight_map": {"a": "../../secret.safetensors"}}, "only plain names"),
        ({"weight_map": {"a": "/etc/x.safetensors"}}, "only plain names"),
        ({"weight_map": {"a": "model.bin"}}, "only plain names"),
        ({"weight_map": {"a": 3}}, "only plain names"),
        ({"weight_map": {}}, "empty"),
        ({"weights": {}}, "not an index"),
        ([], "not an index"),
        ({"weight_map": {"a": "gone.safetensors"}}, "is not there"),
        ({"weight_map": {"a": "one.safetensors", "z": "one.safetensors"}}, "promises tensor 'z'"),
        ({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}, "holds tensor 'a', which"),
    ],
)
def test_a_bad_index_is_named(tmp_path, index, said):
    write_tensors(tmp_path / "one.safetensors", {"a": torch.ones(2)})
    write_tensors(tmp_path / "two.safetensors", {"a": torch.ones(2), "b": torch.ones(3)})
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=said):
        StoredTensors(tmp_path)


def test_an_empty_folder_and_a_folder_of_pickles(tmp_path):
    with pytest.raises(ValueError, match="holds neither"):
        StoredTensors(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(ValueError, match=r"'pytorch_model\.bin' is a pickle, which is a program"):
        StoredTensors(tmp_path)


def test_an_unknown_name_lists_the_known(tmp_path):
    write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)})
    with pytest.raises(ValueError, match=r"'b' is not in .* it holds a"):
        StoredTensors(tmp_path / "x.safetensors").read("b")


def test_nothing_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"tensors=\{\}"):
        write_tensors(tmp_path / "x.safetensors", {})
    assert not list(tmp_path.iterdir())


def test_shard_size_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="largest=0"):
        write_sharded(tmp_path, {"a": torch.ones(1)}, 0)
