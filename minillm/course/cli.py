"""The command line `minillm`: a function for each command. Thin; the work is done in the files beside it.

Exit status: 0 done, 1 something is wrong with what was looked at, 2 the command was not understood or cannot run here.

Next:    minillm/course/lab.py
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import minillm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status; what it cannot do is said on stderr in one line.

    >>> main(["--version"])  # doctest: +ELLIPSIS
    minillm ...
    0
    """
    parser = make_parser()
    try:
        options = parser.parse_args(arguments)
    except SystemExit as leaving:  # argparse has said why
        return int(leaving.code or 0)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        return options.run(options)
    except ValueError as error:
        print(f"minillm {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """All commands and what they take."""
    parser = argparse.ArgumentParser(prog="minillm", description="A course on language models in JupyterLab.")
    parser.add_argument("--version", action="version", version=f"minillm {minillm.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    lab = commands.add_parser("lab", help="open the course in JupyterLab")
    lab.add_argument("--no-browser", action="store_true", help="start the server and print its address only")
    lab.add_argument("--port", type=int, default=None, help="the port to listen on (default: the first free from 8888)")
    lab.set_defaults(run=_lab)

    learned = commands.add_parser("progress", help="show which exercises are solved and which chapters are done")
    learned.set_defaults(run=_progress)

    doctor = commands.add_parser("doctor", help="look at this machine, and say what to mend and how")
    doctor.set_defaults(run=_doctor)

    grade = commands.add_parser("grade", help="give points for exercises, each in a process of its own")
    grade.add_argument("files", nargs="+", metavar="FILE", help="filled-in exercise notebooks")
    grade.add_argument("--seconds", type=float, default=60.0, help="time limit for each graded cell (default 60)")
    grade.add_argument("--memory", type=int, default=2048, metavar="MB", help="memory limit in MB (default 2048)")
    grade.add_argument("--json", metavar="PATH", help="also write the result to a file")
    grade.set_defaults(run=_grade)

    tour = commands.add_parser("tour", help="train the whole road, from Eliza to PPO, in minutes; then chat with each")
    tour.add_argument("--quick", action="store_true", help="smaller models, in less than a minute")
    tour.add_argument("--seed", type=int, default=None, help="of the village and of every draw (default 0)")
    tour.add_argument("--clicks", metavar="FILE", help="your own comparisons, for the reward model (my/likes.jsonl)")
    tour.add_argument("--out", metavar="FILE", help="also write the table to a file")
    tour.add_argument("--again", action="store_true", help="forget the finished stages of these settings first")
    tour.set_defaults(run=_tour)

    chat = commands.add_parser("chat", help="talk to what you trained, or to Eliza")
    chat.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT",
                      help="a stage of your newest tour (eliza ngram window lstm gpt sft rm ppo; default: the last), "
                      "or the folder of a speaker")  # fmt: skip
    chat.add_argument("--temperature", type=float, default=None, help="0: the likeliest word each time (default 0.7)")
    chat.set_defaults(run=_chat)

    author = commands.add_parser("author", help="for authors of chapters")
    tasks = author.add_subparsers(dest="task", metavar="TASK", required=True)
    exercises = tasks.add_parser("exercises", help="write exercises/ from solutions/")
    exercises.add_argument("--check", action="store_true", help="only say what is out of step")
    normal = tasks.add_parser("normalise", help="bring notebooks into the one shape that is committed")
    normal.add_argument("--check", action="store_true", help="only say which are not")
    normal.add_argument("files", nargs="+", metavar="FILE")
    run = tasks.add_parser("run", help="execute notebooks in a fresh kernel, save their outputs, print the seconds")
    run.add_argument("files", nargs="+", metavar="FILE")
    author.set_defaults(run=_author)
    return parser


def _lab(options: argparse.Namespace) -> int:
    from minillm.course.lab import open_lab

    return open_lab(browser=not options.no_browser, port=options.port)


def _progress(options: argparse.Namespace) -> int:
    from minillm.course.learned import overview

    print(overview())
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from minillm.course.doctor import doctor

    return doctor()


def _grade(options: argparse.Namespace) -> int:
    from minillm.course.grading import grade_files

    return grade_files(options.files, seconds=options.seconds, megabytes=options.memory, result_path=options.json)


def _tour(options: argparse.Namespace) -> int:
    from minillm.course.tour import tour_command

    return tour_command(options)


def _chat(options: argparse.Namespace) -> int:
    from minillm.course.partners import chat_command

    return chat_command(options.checkpoint, options.temperature)


def _author(options: argparse.Namespace) -> int:
    from minillm.course import authoring
    from minillm.course.places import find_course

    if options.task == "exercises":
        return authoring.author_exercises(find_course(Path.cwd()), check=options.check)
    if options.task == "normalise":
        return authoring.author_normalise(options.files, check=options.check)
    return authoring.author_run(options.files, library=Path(minillm.__file__).resolve().parents[1])


if __name__ == "__main__":
    sys.exit(main())
