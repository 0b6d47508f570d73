"""What every test run of this repository loads: notebooks with a tolerance, and the promises of shape suffixes."""

import pytest

pytest_plugins = ["nbval_tolerance"]  # tests/nbval_tolerance.py: pyproject puts tests/ on the path

WITHOUT_ARRAYS = {"course", "rules", "notebooks"}


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
