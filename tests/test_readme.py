"""The README keeps its word: its commands are those of CI, its example prints its numbers, its links lead somewhere."""

import contextlib
import io
import re
from pathlib import Path

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
