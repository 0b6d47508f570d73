"""The kernels compile for an H100, which needs no GPU: with its matrix units, and nothing put aside in slow memory.

The interpreter runs a kernel as Python, so it cannot see what the compiler would refuse. Here the compiler is asked,
for the sizes of GPT-2 in bfloat16, and the machine code is read: an instruction LDL or STL is a number that did not
find room in the registers.
"""

import os
import subprocess
import sys

import pytest

PROGRAM = r"""
import subprocess, sys, tempfile
from pathlib import Path
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from minillm.kernels import cross_entropy, flash_attention, rms_norm, rope
from minillm.kernels.attention_tiles import tiles_for

HALF = dict.fromkeys("x y q k v out pull slope slope_q slope_k slope_v logits".split(), "*bf16")
WHOLE = dict.fromkeys("weight inverse part cos sin nats log_total delta".split(), "*fp32")
TYPES = {**HALF, **WHOLE, "target": "*i64", "eps": "fp32", "scale": "fp32", "lowest": "fp32"}
SIXTEENS = "d v half ab at".split() + [x + y for x in "qkvopsacxy" for y in "bht"]  # multiples of 16, as with GPT-2

def machine_code(kernel, known, warps=4, stages=3, **own):
    names = kernel.arg_names
    signature = {n: "constexpr" if n in known else (TYPES | own).get(n, "i32") for n in names}
    even = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if "*" in signature[n] or n in SIXTEENS}
    source = ASTSource(kernel, signature, {(names.index(n),): value for n, value in known.items()}, even)
    options = {"num_warps": warps, "num_stages": stages}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "kernel.cubin").write_bytes(made.asm["cubin"])
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
        code = subprocess.run([tool, "-c", path], capture_output=True, text=True, check=True).stdout
    print(kernel.__name__, made.metadata.shared <= 227 * 1024, "HGMMA" in code, "LDL" in code or "STL" in code)

for kernel in (flash_attention._there, flash_attention._back_to_queries, flash_attention._back_to_keys):
    tiles = tiles_for(64, torch.bfloat16, back=kernel is not flash_attention._there)
    known = dict(K=64, WIDTH=64, CAUSAL=True, PRECISION="ieee", HELD=tiles.held, PASSING=tiles.passing)
    machine_code(kernel, known, tiles.warps, tiles.stages)
machine_code(rms_norm._forward, dict(ROWS=4, WIDTH=1024))
machine_code(rms_norm._backward, dict(ROWS=4, WIDTH=1024))
machine_code(rope._turn, dict(BACK=False, ROWS=32, HALF=32))
machine_code(cross_entropy._nats, dict(WIDTH=4096), v="i32")
machine_code(cross_entropy._slope, dict(WIDTH=4096), v="i32", pull="*fp32")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler is for Linux")
def test_they_compile_for_an_h100(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    (file := tmp_path / "program.py").write_text(PROGRAM)
    ran = subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert len(lines) == 8
    for number, (name, fits, by_matrix_units, spilled) in enumerate(lines):
        assert (fits, by_matrix_units, spilled) == ("True", str(number < 3), "False"), name
