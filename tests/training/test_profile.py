"""MFU by hand, a callback that counts, a trace that names what ran, and a roofline that is not zero."""

import json

import pytest
import torch
from decoder_kinds import GPT2
from needs_cuda import cuda
from torch.testing import assert_close

from minillm.training import hardware
from minillm.training.hardware import copy_rate, peak_rate, product_rate
from minillm.training.loop import Step
from minillm.training.profile import Throughput, mfu, trace
from minillm.transformer.costs import training_flops


def row(step, seconds):
    return Step(step=step, steps=9, loss=1.5, learning_rate=0.1, gradient_norm=1.0, seconds=seconds)


def test_a_machine_that_does_nothing_else_has_an_mfu_of_one():
    operations = training_flops(GPT2, 5, 3)
    assert mfu(GPT2, batch=3, t=5, seconds=2.0, peak=operations / 2) == pytest.approx(1.0)
    assert mfu(GPT2, batch=3, t=5, seconds=4.0, peak=operations / 2) == pytest.approx(0.5)
    for seconds, peak in ((0.0, 1.0), (1.0, 0.0)):
        with pytest.raises(ValueError, match=rf"seconds={seconds} and peak={peak} must both be above 0"):
            mfu(GPT2, batch=3, t=5, seconds=seconds, peak=peak)


def test_the_callback_takes_the_middle_of_the_last_steps():
    said = []
    watch = Throughput(GPT2, batch=3, t=5, peak=training_flops(GPT2, 5, 3) / 0.5, window=4, say=said.append)
    for step, seconds in enumerate([9.0, 10.0, 11.0, 99.0, 100.0, 100.5, 101.0, 101.5, 102.0], 1):
        watch(row(step, seconds))
    assert watch.tokens_a_second == pytest.approx(30) and watch.mfu == pytest.approx(1.0)
    assert said == ["step 4: loss 1.500, 15 tokens/s, MFU 50.0%", "step 8: loss 1.500, 30 tokens/s, MFU 100.0%"]
    short = Throughput(GPT2, batch=3, t=5, window=2)
    for step, seconds in enumerate([0.0, 10.0, 11.0, 13.0], 1):
        short(row(step, seconds))
    assert short.tokens_a_second == 15 / 1.5, "the last two steps took 1 and 2 s"
    with pytest.raises(ValueError, match="window=0 must"):
        Throughput(GPT2, batch=3, t=5, window=0)


def test_what_the_callback_cannot_know_it_does_not_say():
    alone = Throughput(GPT2, batch=3, t=5)
    for seconds in (1.0, 1.0):  # one time is no step, and a clock that stands measures nothing
        alone(row(1, seconds))
        assert alone.tokens_a_second == 0 and alone.mfu is None
    alone(row(3, 4.0))
    assert alone.tokens_a_second == 15 / 1.5 and alone.mfu is None, "without a peak there is no share of it"


def test_a_trace_names_what_ran(tmp_path):
    table = trace(lambda: torch.ones(40, 40).exp().cumsum(0), tmp_path / "trace.json")
    assert "aten::exp" in table and "aten::cumsum" in table
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"aten::exp", "aten::cumsum"} <= names


def test_a_trace_warms_up_watches_once_and_names_the_slowest_first():
    calls, x = [], torch.ones(600, 600)

    def work():
        calls.append(1)
        for _ in range(30):
            torch.ones(3).exp()
        x @ x

    table = trace(work, rows=1)
    assert len(calls) == 2 and "aten::mm" in table and "aten::exp" not in table


def test_roofs_are_measured():
    assert product_rate(torch.float32, size=128, rounds=2) > 1e6 and copy_rate(1, rounds=2) > 1e6


@pytest.mark.parametrize(("name", "rate"), [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA A100-SXM4-40GB", 312e12),
                                            ("NVIDIA H100 PCIe", 756e12), ("something new", None)])  # fmt: skip
def test_known_gpus(monkeypatch, name, rate):
    monkeypatch.setattr(hardware.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(hardware.torch.cuda, "get_device_name", lambda index: name)
    assert peak_rate("cuda") == rate and peak_rate("cpu") is None


@cuda
def test_on_a_gpu_the_trace_shows_its_kernels():
    x = torch.ones(512, 512, device="cuda")
    assert_close(x, x)
    assert "CUDA" in trace(lambda: x @ x)
    assert product_rate(torch.bfloat16, device="cuda") > product_rate(torch.float32, size=256)
