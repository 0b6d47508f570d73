"""The benchmark for a GPU, which no CI has, runs from its first line to its last: here at tiny sizes on the CPU."""

import re

import pytest
from benchmarks.gpu import main
from kernel_cases import DEVICE
from needs_cuda import cuda

pytestmark = pytest.mark.no_promises  # the interpreter is mostly loops


@pytest.mark.skipif(DEVICE == "cuda", reason="with a GPU it measures, which takes minutes")
def test_without_a_gpu_it_says_so(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("no CUDA GPU answers here, so there is nothing to measure")


@pytest.mark.skipif(DEVICE == "cuda", reason="on a machine with a GPU the kernels are compiled for it")
def test_it_walks_through_all_of_it_on_a_cpu(capsys):
    assert main(["--device", "cpu", "--tiny"]) == 0
    out = capsys.readouterr().out
    for name in ("rms_norm", "rope", "cross_entropy", "flash_attention"):
        assert len(re.findall(rf"^{name} +(?:there|both) +[\d.]+ ", out, re.MULTILINE)) == 2
    losses = re.findall(r"x +(\d\.\d{3})$", out, re.MULTILINE)
    assert len(losses) == 5 and len(set(losses)) == 1, "every way takes the same step"
    assert "BEWARE" not in out


@cuda
def test_it_walks_through_all_of_it_on_a_gpu(capsys):
    assert main(["--tiny"]) == 0
    assert "BEWARE" not in capsys.readouterr().out
