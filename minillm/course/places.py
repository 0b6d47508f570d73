"""Where things lie on this machine: the course's `notebooks/`, `exercises/`, `solutions/`, and what the learner makes.

A checkout has them; a wheel holds only the library, so that commands which need notebooks say how to get them.

Next:    minillm/course/notebooks.py
"""

import os
from pathlib import Path

FOLDER = "MINILLM_FOLDER"


class NoCourse(ValueError):
    """There is no folder with the course's notebooks here."""


def find_course(start: Path | None = None) -> Path:
    """The folder of the course: the one that the library was installed from, else `start` (the cwd) or one above it.

    Raises `NoCourse` where there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (_from_library(), here, *here.parents):
        if is_course(folder):
            return folder
    raise NoCourse(
        "the notebooks of the course are not here: minillm was installed without them. Get the course's folder "
        "(git clone, or unpack its archive), go there, and run: pip install -c constraints.txt -e ."
    )


def learner_folder() -> Path:
    """Where a learner's own things are kept: progress, conversations, likes, trained stages. It may not exist yet.

    `my/` in the course's folder, else in the folder one is in; the environment variable MINILLM_FOLDER names another.
    """
    if named := os.environ.get(FOLDER):
        return Path(named).expanduser().absolute()
    try:
        return find_course() / "my"
    except NoCourse:
        return Path.cwd() / "my"


def is_course(folder: Path) -> bool:
    """Whether a folder is a checkout of the course.

    >>> is_course(Path("nowhere"))
    False
    """
    marker = folder / "pyproject.toml"
    return (folder / "notebooks").is_dir() and marker.is_file() and "minillm-course" in marker.read_text("utf-8")


def _from_library() -> Path:
    return Path(__file__).resolve().parents[2]
