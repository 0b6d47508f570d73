"""Checkpoints: bits in, bits out; whatever the disk refuses or somebody breaks, the words say what and what to do."""

import errno
import json
import os
import random
import struct

import pytest
import torch
from torch import nn

from minillm.core import files
from minillm.training import checkpoint
from minillm.training.checkpoint import load_checkpoint, save_checkpoint, saved_steps


def state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(3, 50, generator=generator),
        "moments": [torch.randn(7, generator=generator), 0.1],
        "seed": seed,
    }


def equal(a, b):
    return (
        a["seed"] == b["seed"]
        and torch.equal(a["weight"], b["weight"])
        and torch.equal(a["moments"][0], b["moments"][0])
    )


def names(folder):
    return sorted(os.listdir(folder))


# what is written is read --------------------------------------------------------------------------------------------


def test_every_number_format_comes_back_to_the_last_bit(tmp_path):
    bits = torch.randint(0, 256, (64,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    formats = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8]
    tensors = {str(kind): bits.view(kind) for kind in formats} | {
        "scalar": torch.tensor(3.5),
        "none": torch.zeros(0, 4),
    }
    tensors["bool"] = torch.tensor([True, False])
    save_checkpoint(tmp_path, tensors, step=0)
    step, back = load_checkpoint(tmp_path)
    assert step == 0 and list(back) == list(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape
        assert torch.equal(back[name].contiguous().reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_what_was_loaded_does_not_hang_on_the_file(tmp_path):
    save_checkpoint(tmp_path, state(), step=1)
    _, back = load_checkpoint(tmp_path)
    back["weight"].zero_()
    for name in names(tmp_path):
        (tmp_path / name).write_bytes(b"")
    assert back["weight"].sum() == 0 and back["moments"][0].sum() != 0


def test_the_newest_are_kept_and_others_can_be_asked_for(tmp_path):
    for step in (2, 5, 100_000_000, 100_000_001):
        save_checkpoint(tmp_path, state(step), step=step, keep=3)
    assert saved_steps(tmp_path) == [5, 100_000_000, 100_000_001] and len(names(tmp_path)) == 6
    assert load_checkpoint(tmp_path)[0] == 100_000_001 and load_checkpoint(tmp_path, 5)[1]["seed"] == 5
    with pytest.raises(ValueError, match=r"step=2 is not in .*; it holds the steps 5, 1"):
        load_checkpoint(tmp_path, 2)


def test_the_same_step_again_replaces_it(tmp_path):
    save_checkpoint(tmp_path, state(1), step=4)
    save_checkpoint(tmp_path, state(2), step=4)
    assert load_checkpoint(tmp_path)[1]["seed"] == 2 and len(names(tmp_path)) == 2
    save_checkpoint(tmp_path, state(2), step=4)
    assert len(names(tmp_path)) == 2


def test_the_same_step_again_and_stopped_halfway_leaves_the_first(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    save_checkpoint(tmp_path, state(1), step=4)
    monkeypatch.setattr(checkpoint, "write_atomically", stopped)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, state(2), step=4)
    assert equal(load_checkpoint(tmp_path)[1], state(1))


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    others = [
        "notes.txt",
        "step-1.json",
        "step-00000001.safetensors",
        "model.safetensors",
        ".step-x.part",
        "step-00000009.txt",
    ]
    for name in others:
        (tmp_path / name).write_text("mine")
    for step in range(4):
        save_checkpoint(tmp_path, state(step), step=step, keep=1)
    assert set(others) < set(names(tmp_path)) and len(names(tmp_path)) == len(others) + 2


def test_what_a_killed_save_left_is_swept_away(tmp_path):
    save_checkpoint(tmp_path, state(1), step=1)
    (tmp_path / ".step-00000002.unfinished").mkdir()
    (tmp_path / ".step-00000002.unfinished" / ".tmpAb3").write_text("half of the tensors")
    (tmp_path / ".step-00000002.json.x1.part").write_text("half of the JSON")
    (tmp_path / "step-00000002-0123456789ab.safetensors").write_text("tensors without JSON")
    assert load_checkpoint(tmp_path)[0] == 1
    save_checkpoint(tmp_path, state(3), step=3)
    assert all("00000002" not in name for name in names(tmp_path)) and len(names(tmp_path)) == 4


def test_a_state_without_tensors(tmp_path):
    save_checkpoint(tmp_path / "new" / "folder", {"best": 0.5}, step=3)
    assert load_checkpoint(tmp_path / "new" / "folder") == (3, {"best": 0.5})


def test_a_later_step_of_another_run_is_not_thrown_away(tmp_path):
    save_checkpoint(tmp_path, state(), step=50)
    with pytest.raises(
        ValueError, match=r"a checkpoint of step 50, later than step=10: it is another run's. Give another"
    ):
        save_checkpoint(tmp_path, state(), step=10)
    assert saved_steps(tmp_path) == [50]


def test_the_file_of_tensors_is_plain_safetensors_with_names_to_read(tmp_path):
    save_checkpoint(tmp_path, {"model": nn.Linear(2, 3).state_dict()}, step=1)
    (path,) = tmp_path.glob("*.safetensors")
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert header["model/weight"] == {
        "dtype": "F32",
        "shape": [3, 2],
        "data_offsets": header["model/weight"]["data_offsets"],
    }


# what is broken -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path):
    save_checkpoint(tmp_path, state(1), step=1)
    save_checkpoint(tmp_path, state(2), step=2)
    (tensors,) = tmp_path.glob("step-00000002-*.safetensors")
    return tmp_path, tensors, tmp_path / "step-00000002.json"


def complaint(folder):
    with pytest.raises(ValueError) as caught:
        load_checkpoint(folder)
    return str(caught.value)


def test_every_truncation_is_noticed_and_the_older_one_is_named(two):
    folder, tensors, plain = two
    for path in (tensors, plain):
        whole = path.read_bytes()
        for size in {0, 1, 8, 9, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:size])
            said = complaint(folder)
            assert path.name in said and f"{size} bytes" in said and "load_checkpoint(folder, step=1)" in said
            assert equal(load_checkpoint(folder, 1)[1], state(1))
        path.write_bytes(whole + b"\0")
        assert path.name in complaint(folder)
        path.write_bytes(whole)
    assert equal(load_checkpoint(folder)[1], state(2))


def test_every_changed_bit_is_noticed(two):
    folder, tensors, plain = two
    chance = random.Random(0)
    for path in (tensors, plain):
        whole = path.read_bytes()
        for at in [0, 9, len(whole) - 1, *chance.sample(range(len(whole)), 40)]:
            spoilt = bytearray(whole)
            spoilt[at] ^= 1 << chance.randrange(7)
            path.write_bytes(spoilt)
            try:
                assert equal(load_checkpoint(folder)[1], state(2)) and path == plain, (
                    "only white space of JSON may change"
                )
                assert whole[at : at + 1].isspace()
            except ValueError as error:
                assert "step-00000002" in str(error)
        path.write_bytes(whole)


def test_a_newer_version_a_foreign_file_a_renamed_one_and_a_missing_one(two):
    folder, tensors, plain = two
    head = json.loads(plain.read_text())
    plain.write_text(json.dumps(head | {"version": 2}))
    assert "version 2, written by a later minillm; this one reads up to version 1. Update it: pip" in complaint(folder)
    for foreign in ({"format": "others"}, [1], "text", {"format": checkpoint.FORMAT, "version": "1"}):
        plain.write_text(json.dumps(foreign))
        assert "is not a checkpoint of minillm" in complaint(folder)
    plain.write_text("[" * 100_000)
    assert "not whole JSON" in complaint(folder)
    plain.write_text(json.dumps(head))
    plain.rename(folder / "step-00000007.json")
    assert "holds step 2; the file was renamed" in complaint(folder)
    (folder / "step-00000007.json").rename(plain)
    tensors.unlink()
    assert f"{tensors.name} is not there, but {plain.name} needs it; copy both files" in complaint(folder)


def test_no_path_leads_out_of_the_folder(two):
    folder, tensors, plain = two
    body = json.loads(plain.read_text())["body"]
    body["tensors"]["file"] = f"../{folder.name}/{tensors.name}"
    plain.write_text(
        json.dumps({"format": checkpoint.FORMAT, "version": 1, "sha256": checkpoint._digest(body), "body": body})
    )
    assert "is not there" in complaint(folder)


def test_a_folder_without_checkpoints_says_what_it_holds(tmp_path):
    assert "nowhere is not there; give the folder" in complaint(tmp_path / "nowhere")
    assert "holds no checkpoint (step-….json). " in complaint(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"PK\x03\x04")
    assert "holds no checkpoint (step-….json) but model.pt. A published model" in complaint(tmp_path)


def test_only_one_damaged_checkpoint(tmp_path):
    save_checkpoint(tmp_path, state(), step=1)
    (tmp_path / "step-00000001.json").write_text("{")
    assert complaint(tmp_path).endswith("No older one is there: begin again, in another folder.")


def test_a_damaged_json_file_does_not_cost_its_tensors(two):
    folder, _, plain = two
    whole = plain.read_bytes()
    plain.write_bytes(whole[:50])
    save_checkpoint(folder, state(3), step=3)
    plain.write_bytes(whole)
    assert equal(load_checkpoint(folder, 2)[1], state(2))


@pytest.mark.parametrize("what", ["step", "keep", "data"])
def test_what_cannot_be_saved(tmp_path, what):
    options = {"step": -1} if what == "step" else {"step": 1, "keep": 0} if what == "keep" else {"step": 1}
    with pytest.raises(ValueError, match=r"step=-1 must|keep=0 must|state\['x'\] is a object"):
        save_checkpoint(tmp_path, {"x": object() if what == "data" else 1}, **options)
    assert names(tmp_path) == []


# what the disk refuses ----------------------------------------------------------------------------------------------


def survivors(folder):
    """The old checkpoint is whole, and no rest of the new one takes up room."""
    assert equal(load_checkpoint(folder)[1], state(1)) and len(names(folder)) == 2


def test_a_disk_that_is_full_after_any_number_of_bytes(tmp_path):
    """The system itself refuses to let a file grow: whoever writes, Python or a library, is stopped in the middle."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    save_checkpoint(tmp_path, state(1), step=1)
    largest = max(path.stat().st_size for path in tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = 0
    for limit in [*range(0, largest + 1, 97), largest - 1]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            save_checkpoint(tmp_path, state(2), step=2)
        except OSError as error:
            refused += 1
            assert error.errno == errno.EFBIG
            assert "step 2 could not be written" in str(error) and "the checkpoint of step 1 is whole" in str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        survivors(tmp_path)
    assert refused == len([*range(0, largest + 1, 97), largest - 1])
    save_checkpoint(tmp_path, state(2), step=2)
    assert equal(load_checkpoint(tmp_path)[1], state(2))


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod", "mkstemp", "save_file"])
def test_a_disk_that_is_full_at_any_call(tmp_path, monkeypatch, call):
    from minillm.core import tensor_files

    save_checkpoint(tmp_path, state(1), step=1)
    owner = {"mkstemp": files.tempfile, "save_file": tensor_files}.get(call, os)
    original, calls = getattr(owner, call), []

    def count(*arguments, **options):
        calls.append(arguments)
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, call, count)
        save_checkpoint(tmp_path / "count", state(2), step=2)
    total, before = len(calls), 0
    assert total
    for nth in range(total):
        made = []

        def full(*arguments, nth=nth, made=made, **options):
            made.append(arguments)
            if len(made) == nth + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, call, full)
            with pytest.raises(OSError, match="step 2 could not be written") as caught:
                save_checkpoint(tmp_path, state(2), step=2)
        assert caught.value.errno == errno.ENOSPC
        if saved_steps(tmp_path) == [1, 2]:  # only the last wait for the disk comes after the new one is in its place
            assert (call, nth) == ("fsync", total - 1) and equal(load_checkpoint(tmp_path)[1], state(2))
        else:
            before += 1
            assert equal(load_checkpoint(tmp_path)[1], state(1))
            assert [name for name in names(tmp_path) if name != "count"] == names_of(tmp_path, 1)
    assert before >= total - 1


def names_of(folder, step):
    return sorted(path.name for path in folder.glob(f"step-{step:08d}*"))
