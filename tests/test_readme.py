"""The README keeps its word: its commands are those of CI, its example prints its numbers, its links lead somewhere."""

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from minillm.course.cli import make_parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_example_prints_the_numbers_in_its_comments():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    claimed = re.findall(r"print\(.*\)  # (\d+\.\d+):", code)
    assert [f"{float(line):.2f}" for line in printed.getvalue().split()] == claimed and len(claimed) == 2


def test_ci_runs_the_commands_of_the_readme():
    commands = re.findall(r"```bash\n(python -m venv.*?)\n```", README)
    assert len(commands) == 2
    script = (ROOT / ".ci/run").read_text("utf-8")
    for step in commands[1].split(" && ")[1:]:
        assert step.replace("pip install", "pip install -q") in script or step in script, step


def test_every_link_and_picture_is_there():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert len(links) >= 6
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_chapter_is_on_the_map_and_the_map_names_no_other():
    mapped = re.findall(r"\(notebooks/([^)/]+\.ipynb)\)", README)
    assert mapped == sorted(path.name for path in ROOT.glob("notebooks/*.ipynb"))


def teachers_commands():
    """Each line of the code blocks under Teachers."""
    section = README.partition("## Teachers\n")[2].partition("\n## ")[0]
    return [line for block in re.findall(r"```bash\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("line", teachers_commands())
def test_every_command_of_the_teachers_page_is_understood(line):
    program, *words = shlex.split(line)
    if program == "minillm":
        make_parser().parse_args(words)  # leaves with SystemExit when an option is not there
    elif program == "pytest":
        assert all((ROOT / word).exists() for word in words)
    elif program == "nbgrader":
        apps = pytest.importorskip("nbgrader.apps.nbgraderapp")
        app, _ = apps.NbGraderApp.subcommands[words[0]]
        known = {*app().flags, *app().aliases}
        assert {word.removeprefix("--") for word in words if word.startswith("--")} <= known
        flow = (ROOT / "tests/course/test_nbgrader.py").read_text("utf-8")
        assert f'"{words[0]}"' in flow, "test_nbgrader.py runs every command of the page"
    else:
        assert line in README and program == "pip"


@pytest.mark.parametrize("line", sorted(set(re.findall(r"`(minillm [^`]+)`", README))))
def test_every_command_in_a_sentence_is_understood(line):
    words = shlex.split(line)[1:]
    if len(words) == 1:  # a command by its name
        with pytest.raises(SystemExit, match="0"):
            make_parser().parse_args([*words, "--help"])
    else:
        make_parser().parse_args(words)  # leaves with SystemExit when an option is not there


def card_minutes(path):
    """Minutes and points of the exercises of a solutions notebook, and the minutes on its chapter's title card."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    minutes = sum(int(n) for cell in cells for n in re.findall(r"of 5 · (\d+) minutes\*", "".join(cell["source"])))
    points = sum(cell["metadata"].get("nbgrader", {}).get("points", 0) for cell in cells)
    chapter = json.loads((ROOT / f"notebooks/{path.parent.name}.ipynb").read_text("utf-8"))
    reading = re.search(r"\| Time \| (\d+) minutes to read", "".join(chapter["cells"][0]["source"]))[1]
    return int(reading), minutes, points


def test_the_syllabus_adds_up():
    """Minutes and points of each week are those of its chapters, and no chapter up to PPO is forgotten."""
    weeks = re.findall(r"(?m)^\| (\d+) \| ([\d, ]+) \| (\d+) \| (\d+) \| (\d+) \|$", README)
    assert [int(week) for week, *_ in weeks] == list(range(1, 15))
    by_number = {path.parent.name[:2]: path for path in ROOT.glob("solutions/*/*.ipynb")}
    listed = []
    for week, chapters, *claimed in weeks:
        listed += chapters.split(", ")
        sums = [sum(column) for column in zip(*(card_minutes(by_number[n]) for n in chapters.split(", ")), strict=True)]
        assert sums == [int(n) for n in claimed], f"week {week}"
    assert listed == sorted(set(listed)) and {n for n in by_number if n <= "20"} <= set(listed)
