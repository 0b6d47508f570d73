"""What every test run of this repository loads: notebooks with a tolerance, the promises of shape suffixes, Triton."""

import os

import pytest
import torch

pytest_plugins = ["nbval_tolerance"]  # tests/nbval_tolerance.py: pyproject puts tests/ on the path

# Triton asks once, when it is first imported, and that may be anywhere: so it is told here, before all tests. With a
# GPU its kernels are compiled, else they run as Python (tests/kernels). Programs that tests start inherit it.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns when it must choose for us

# Several processes (`pytest -n 2`) take whole files in turn: what takes longest goes first, so that they end together.
LONG = ("tests/course/test_exercises.py", "tests/test_style.py", "notebooks/")

WITHOUT_ARRAYS = {"course", "rules", "notebooks"}


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # one of several: the other cores are taken, and a second thread would only wait
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.fixture(autouse=True)
def one_thread():
    """Networks as small as those of the tests take three times as long on two threads; some tests set others."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def kept_promises(request):
    """Every minillm function that a test runs keeps the promises of its names (`x_btd` has three axes, and so on).

    The hook slows Python code down two to four times. So it stays away from folders that hold no named arrays, and a
    test that is mostly loops opts out with `@pytest.mark.no_promises`.
    """
    without = request.node.get_closest_marker("no_promises") or WITHOUT_ARRAYS & set(
        request.path.relative_to(request.config.rootpath).parts
    )
    if without or not isinstance(request.node, pytest.Function):
        yield
        return
    from minillm.core.notation import promise_checker

    with promise_checker() as broken:
        yield
    assert not broken, "\n".join(sorted(set(broken)))
