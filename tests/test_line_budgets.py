"""House rules on size: one concept, one file, at most 350 lines, two levels of folders."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES, MOST_BYTES = 350, 40_000_000


def python_files():
    return [p for top in ("minillm", "tests") for p in (ROOT / top).rglob("*.py")] + list(ROOT.glob("*.py"))


def test_no_file_is_too_long():
    lines = {p.relative_to(ROOT).as_posix(): p.read_text("utf-8").count("\n") for p in python_files()}
    assert len(lines) > 20, "the glob finds the files"
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def test_two_levels_of_folders():
    assert [p for p in (ROOT / "minillm").rglob("*.py") if len(p.relative_to(ROOT / "minillm").parts) > 2] == []


def test_test_files_have_names_of_their_own():
    names = Counter(p.name for p in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, n in names.items() if n > 1] == []
    assert list((ROOT / "tests").rglob("__init__.py")) == [], "pytest imports by path here"


def test_the_repository_stays_small():
    tops = ("minillm", "notebooks", "exercises", "solutions", "tests")
    assert sum(p.stat().st_size for top in tops for p in (ROOT / top).rglob("*") if p.is_file()) < MOST_BYTES
