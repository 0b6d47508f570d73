"""What a machine without Triton, or without a GPU, is told; and that the tests here do run kernels."""

import os
import subprocess
import sys

import pytest
import torch
from kernel_cases import DEVICE

from minillm.kernels import launch
from minillm.kernels.launch import check, power_of_2, processors

NORM = """
import torch
from minillm.kernels.rms_norm import rms_norm, rms_norm_plain
x, weight = torch.ones(2, 3), torch.ones(3)
print(rms_norm_plain(x, weight).shape)
from minillm.kernels import cross_entropy, flash_attention, rope
rms_norm(x, weight)
"""
WITHOUT = "import sys\nsys.modules['triton'] = None  # as if it were not installed\n"


def told(code):
    """What a program of its own says last, without the interpreter and as if no GPU were there."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment | {"CUDA_VISIBLE_DEVICES": ""}
    )
    assert "torch.Size([2, 3])" in ran.stdout, ran.stderr  # the twin works, and every file can be imported
    return ran.stderr.splitlines()[-1]


def test_without_triton_the_kernels_can_be_imported_and_say_what_to_do():
    assert told(WITHOUT + NORM) == (
        "RuntimeError: Triton is not installed: on Linux `pip install triton`, elsewhere call rms_norm_plain, which "
        "works anywhere"
    )


def test_without_a_gpu_they_name_the_interpreter_and_the_twin():
    assert told(NORM) == (
        "RuntimeError: x is on cpu, and Triton compiles for a GPU: call rms_norm_plain, or set TRITON_INTERPRET=1 "
        "before Python starts, which runs kernels slowly but anywhere"
    )


def test_a_decoder_does_not_load_triton_unless_asked():
    code = "import sys, minillm.transformer.with_kernels\nprint('torch.Size([2, 3])')\n"
    assert told(code + "sys.exit(str('triton' in sys.modules))") == "False"


def test_the_tests_here_run_kernels():
    assert (DEVICE == "cuda") != launch.INTERPRETED, "TRITON_INTERPRET was not set before the first import of triton"
    assert processors(torch.device(DEVICE)) >= 3


def test_tiles_are_powers_of_2():
    assert [power_of_2(n) for n in (1, 2, 3, 64, 65)] == [1, 2, 4, 64, 128]


def test_mixed_devices_and_unknown_formats_are_named():
    x = torch.ones(2, device=DEVICE)
    with pytest.raises(ValueError, match=rf"y is on meta and x on {x.device}"):
        check("twin", x=x, y=torch.ones(2, device="meta"))
    with pytest.raises(ValueError, match="the kernels know float32, bfloat16 and float16; twin takes it"):
        check("twin", x=x.double())
