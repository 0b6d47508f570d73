"""What `pytest -n 2` relies on: a file stays in one process, and all processes give the tests the same names."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_a_file_stays_in_one_process_and_the_order_is_ours(pytestconfig):
    """The cells of a notebook share a kernel."""
    options = pytestconfig.getini("addopts")
    assert "--dist=loadfile" in options and "--no-loadscope-reorder" in options


def test_no_test_is_named_after_a_place_in_memory(request):
    """Such a name, `str(iter([]))` as an id, is another one in each process, and then none of them starts."""
    assert [item.nodeid for item in request.session.items if re.search(r"0x[0-9a-f]{6,}", item.nodeid)] == []


def test_what_goes_first_is_there():
    long = re.search(r"^LONG = \((.*)\)$", (ROOT / "conftest.py").read_text("utf-8"), re.MULTILINE)[1]
    assert all((ROOT / name).exists() for name in re.findall(r'"([^"]+)"', long)) and long.count('"') >= 4
