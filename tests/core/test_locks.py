"""A lock: one process at a time, and nobody waits for the dead."""

import os
import signal
import subprocess
import sys
import time

import pytest

from minillm.core.locks import alone

HOLD = """import sys, time
from minillm.core.locks import alone
with alone(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_who_comes_second_waits_no_longer_than_told(tmp_path, holder):
    for patience in (0.0, 0.2):
        began = time.monotonic()
        with (
            pytest.raises(TimeoutError, match=r"^somebody is here$"),
            alone(tmp_path / "lock", patience, busy="somebody is here"),
        ):
            pass
        assert time.monotonic() - began >= patience


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a process that can be killed")
def test_the_dead_hold_nothing(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with alone(tmp_path / "lock"):
        pass


def test_one_after_the_other_and_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError), alone(tmp_path / "lock"):
            raise RuntimeError
    with alone(tmp_path / "lock"), pytest.raises(TimeoutError), alone(tmp_path / "lock"):
        pass
