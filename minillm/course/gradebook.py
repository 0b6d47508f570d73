"""Points for a whole class: many submissions in a row, as a table, as CSV, as JSON, and as a page for each learner.

    minillm grade submissions/ --csv points.csv --feedback feedback/

Whatever a file does, the next one is graded. The table is printed line by line, and the CSV is written anew after
every file, so that nothing is lost when a long run is stopped. What comes out of a submission (its name, what it
raised) is shown as plain text: no control characters in a terminal, no formulas in a spreadsheet, no markup in a page.

Exit status of `grade_files`: 0 all files were graded (whatever their points), 1 a file could not be graded.

Next:    minillm/course/lab.py
"""

import csv
import glob
import html
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from minillm.core.files import write_atomically
from minillm.course.grading import CellGrade, Grade, grade_id, grade_notebook
from minillm.course.notebooks import cell_source, read_notebook
from minillm.course.places import find_course

HARDENING = ("memory", "files of at most 64 MB", "no files but its own", "no new processes, signals or network")
COLUMNS = ("file", "exercises", "points", "of", "by hand", "seconds", "lost")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>:root{{color-scheme:light dark}} body{{font:1rem/1.5 sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}}
pre{{white-space:pre-wrap;border-left:.25rem solid #888;padding-left:.75rem}}</style></head>
<body><h1>{title}</h1><p>{file}: <strong>{points:g} of {most:g} points</strong></p>
{cells}
</body></html>
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One file of a run: its grade, or why it has none."""

    file: str
    grade: Grade | None
    problem: str = ""


def grade_files(
    files: Sequence[str],
    *,
    seconds: float = 60.0,
    megabytes: int = 2048,
    json_path: str | None = None,
    csv_path: str | None = None,
    feedback: str | None = None,
) -> int:
    """Grade notebooks (files, folders, patterns), print the points of each, and give the exit status."""
    course = find_course(Path.cwd())
    for path in (json_path, csv_path):
        if path and not Path(path).absolute().parent.is_dir():
            raise ValueError(f"{path}: there is no folder {Path(path).absolute().parent}; make it first")
    if feedback:
        Path(feedback).mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    pages: set[str] = set()
    print(f"{'points':>6}  {'of':>4}  {'seconds':>7}  file")
    each = each_file(files)
    for file in each:
        row = _graded(file, course, seconds, megabytes)
        rows.append(row)
        print("\n".join(_lines(row)), flush=True)
        if csv_path:
            write_atomically(csv_path, csv_text(rows))
        if feedback and row.grade:
            page = Path(feedback, _page_name(file, each, pages))
            write_atomically(page, feedback_page(row.grade, course))
    if json_path:
        grades = [row.grade for row in rows if row.grade]
        whole = [{**asdict(grade), "points": grade.points, "most": grade.most} for grade in grades]
        write_atomically(json_path, json.dumps(whole, indent=1) + "\n")
    print("\n".join(_summary(rows)))
    return int(any(row.grade is None for row in rows))


def _graded(file: str, course: Path, seconds: float, megabytes: int) -> Row:
    try:
        return Row(file=file, grade=grade_notebook(file, course, seconds=seconds, megabytes=megabytes))
    except ValueError as error:
        return Row(file=file, grade=None, problem=str(error))
    except Exception as error:  # whatever a file does to us, the next one is graded
        return Row(file=file, grade=None, problem=f"{file}: {type(error).__name__}: {error}")


def each_file(names: Iterable[str]) -> list[str]:
    """The files that names stand for: a folder for its notebooks, a pattern (PowerShell leaves them) for its matches.

    >>> each_file(["no such file.ipynb"])
    ['no such file.ipynb']
    """
    found: list[str] = []
    for name in names:
        if os.path.isdir(name) and not os.path.islink(name):
            inside = sorted(str(path) for path in Path(name).rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
        elif not os.path.lexists(name):
            inside = sorted(glob.glob(name, recursive=True))
        else:
            inside = [name]
        found += inside or [name]
    return list(dict.fromkeys(found))


def inert(text: str) -> str:
    """Text that steers no terminal: what cannot be seen is a question mark.

    >>> inert("a\x1b[2Jb\u202ec")
    'a?[2Jb?c'
    """
    return "".join(c if c.isprintable() else "?" for c in text)


def safe_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula, wherever the spreadsheet cuts a line into cells.

    >>> safe_cell("=1+1"), safe_cell("ann;-2"), safe_cell("ann.ipynb")
    ("'=1+1", "ann;'-2", 'ann.ipynb')
    """
    return re.sub(r"(^|;)([\s\"']*[=+\-@＝＋－＠])", r"\1'\2", inert(text))


def csv_text(rows: Sequence[Row]) -> str:
    """The rows as CSV, with a mark at the start by which spreadsheets see that it is UTF-8."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        if row.grade is None:
            table.writerow([safe_cell(row.file), "", "", "", "", "", safe_cell(f"not graded: {row.problem}")])
            continue
        by_hand = sum(cell.most for cell in row.grade.cells if cell.points is None)
        lost = "; ".join(f"{cell.cell} {_got(cell)}" for cell in row.grade.cells if cell.points != cell.most)
        numbers = [f"{n:g}" for n in (row.grade.points, row.grade.most, by_hand)]
        table.writerow([safe_cell(row.file), row.grade.solution, *numbers, f"{row.grade.seconds:.0f}", safe_cell(lost)])
    return "\ufeff" + out.getvalue()


def feedback_page(grade: Grade, course: Path) -> str:
    """What one learner reads: the points of each exercise, and what failed."""
    cells = read_notebook(course / grade.solution)["cells"]
    titles = {grade_id(cell): cell_source(cell).partition("\n")[0].lstrip("# ") for cell in cells}
    parts: list[str] = []
    for cell in grade.cells:
        title = titles.get(cell.cell.removesuffix("-check") + "-card") or cell.cell
        said = "\n".join(inert(line) for line in cell.message.splitlines())
        parts.append(f"<h2>{html.escape(title)}</h2>\n<p>{_got(cell)} points</p>\n<pre>{html.escape(said)}</pre>")
    title = html.escape(cell_source(cells[0]).partition("\n")[0].lstrip("# ") if cells else grade.solution)
    file = html.escape(inert(Path(grade.file).name))
    return PAGE.format(title=title, file=file, points=grade.points, most=grade.most, cells="\n".join(parts))


def _page_name(file: str, others: Sequence[str], taken: set[str]) -> str:
    """A name for the page of a file that no other page has: its path below the folder that all files share."""
    shared = os.path.commonpath([os.path.dirname(os.path.abspath(other)) for other in others])
    parts = Path(os.path.relpath(os.path.abspath(file), shared)).with_suffix("").parts
    stem = re.sub(r"[^\w.-]+", "_", "-".join(parts))[-80:].lstrip(".-") or "submission"
    name = next(n for i in range(1, len(taken) + 2) if (n := f"{stem}{f'-{i}' if i > 1 else ''}.html") not in taken)
    taken.add(name)
    return name


def _got(cell: CellGrade) -> str:
    return f"by hand of {cell.most:g}" if cell.points is None else f"{cell.points:g} of {cell.most:g}"


def _lines(row: Row) -> list[str]:
    """A file in the table: its points, and below it what did not get all of its own."""
    if row.grade is None:
        return [f"{'not graded':>21}  {inert(row.problem)}"]
    lines = [f"{row.grade.points:6g}  {row.grade.most:4g}  {row.grade.seconds:7.0f}  {inert(row.file)}"]
    for cell in row.grade.cells:
        if cell.points != cell.most:
            lines.append(f"{'':23}{_got(cell)}  {cell.cell}: {_short(inert(cell.message.partition(chr(10))[0]))}")
    return lines


def _short(text: str, limit: int = 90) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _summary(rows: Sequence[Row]) -> list[str]:
    grades = [row.grade for row in rows if row.grade]
    points, most = sum(grade.points for grade in grades), sum(grade.most for grade in grades)
    lines = [f"{len(grades)} graded with {points:g} of {most:g} points; {len(rows) - len(grades)} not graded"]
    if grades:
        in_force = [what for what in HARDENING if all(what in grade.in_force for grade in grades)]
        lines.append(f"in force: time, output, {', '.join(in_force) or 'nothing else'}")
        if missing := [what for what in HARDENING if what not in in_force]:
            lines.append(f"not on this system: {', '.join(missing)}; grade strangers' work in a container")
    return lines
