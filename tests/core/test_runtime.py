"""Every choice has a reason, a seed repeats a run, and a record says what a run was made of."""

import random

import numpy as np
import pytest
import torch

from minillm.core import runtime
from minillm.core.runtime import RunRecord, pick_device, pick_dtype, seed_everything


def draws(generator):
    return random.random(), float(np.random.rand()), float(torch.rand(())), float(torch.rand((), generator=generator))


def test_one_seed_repeats_every_generator():
    first, again, other = (draws(seed_everything(seed)) for seed in (3, 3, 4))
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_the_returned_generator_is_not_disturbed_by_others():
    quiet, disturbed = seed_everything(5), seed_everything(5)
    torch.rand(100)
    assert torch.equal(torch.rand(3, generator=quiet), torch.rand(3, generator=disturbed))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_names_the_range(seed):
    with pytest.raises(ValueError, match=rf"seed={seed} must lie in 0 … 2\*\*32 - 1"):
        seed_everything(seed)


def test_a_choice_says_what_and_why(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device().value == "cpu" and pick_device().why
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a large one")
    assert str(pick_device()) == "cuda (found a large one)"


@pytest.mark.parametrize(("native", "value"), [(True, "bfloat16"), (False, "float32")])
def test_bfloat16_only_where_the_device_multiplies_it_itself(monkeypatch, native, value):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert pick_dtype("cuda").value == value
    assert pick_dtype("cpu").value == "float32"


def test_an_unknown_device_names_those_that_work():
    with pytest.raises(ValueError, match=r"device='tpu' is not known; use 'cpu' or 'cuda'"):
        pick_dtype("tpu")


def test_a_record_holds_what_is_needed_to_repeat_a_run():
    record = RunRecord(seed=3, config={"order": 2})
    assert record.seed == 3 and record.config == {"order": 2}
    assert record.versions["torch"] == torch.__version__.split("+")[0] or record.versions["torch"] == torch.__version__


def test_a_record_outside_a_checkout_has_no_revision(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "runtime.py"))
    assert RunRecord(seed=0).revision == ""
