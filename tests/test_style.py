"""ruff (lint and format, notebooks too) and pyright, run as tests so that one command checks everything."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command):
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [("ruff", "check", "."), ("ruff", "format", "--check", ".")], ids=" ".join)
def test_ruff(command):
    done = run(*command, "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright():
    done = run("pyright")
    said = done.stdout + done.stderr
    if done.returncode and " errors," not in said and " error," not in said:
        pytest.skip(f"pyright fetches itself on its first run and could not: {said.strip()[-200:]}")
    assert done.returncode == 0, said
