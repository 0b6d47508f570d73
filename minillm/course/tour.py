"""minillm tour: seventy years in minutes. Eight models on one text, each trained, measured and kept to be talked to.

    eliza → ngram → window → lstm → gpt → sft → rm → ppo

    rows = run_tour(TourConfig.quick())        print(results_table(rows))        results_figure(rows)

A stage that is finished is never trained again; one that was interrupted, by Ctrl-C, a full disk or kill -9, goes on
from its newest checkpoint and ends with the same numbers. A changed setting trains what depends on it, and only that.

Next:    minillm/course/tour_config.py
"""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from minillm.core.locks import alone
from minillm.course.tour_aside import ASIDE, aside
from minillm.course.tour_bench import Bench
from minillm.course.tour_clicks import standing
from minillm.course.tour_config import STAGES, TourConfig
from minillm.course.tour_figure import results_figure
from minillm.course.tour_folder import Measured, TourFolder
from minillm.course.tour_models import make_eliza, make_gpt, make_lstm, make_ngram, make_window
from minillm.course.tour_ppo import make_ppo
from minillm.course.tour_reward import make_rm
from minillm.course.tour_sft import make_sft
from minillm.course.tour_table import WIDTH, StageRow, results_table, rows_of, store

__all__ = ["STAGES", "StageRow", "TourConfig", "results_figure", "results_table", "run_tour", "tour_command"]

LOCK = ".lock"
LEGEND = """\
bits/char  of new stories, for a character; above: beyond their exact entropy
followed   share of the instructions; invented: share of the questions that no
           text answers, answered all the same
worth      of an answer to the labeller: right 1, "I do not know." 0, else -1
reward     mean score by this tour's reward model; KL: nats away from sft
J          reward less beta times KL, which PPO pushes up
yes, no    whether a stage is better than what it is held against"""
_MAKE: dict[str, Callable[[Bench], Measured]] = {
    "eliza": make_eliza,
    "ngram": make_ngram,
    "window": make_window,
    "lstm": make_lstm,
    "gpt": make_gpt,
    "sft": make_sft,
    "rm": make_rm,
    "ppo": make_ppo,
}


def run_tour(
    config: TourConfig | None = None,
    folder: Path | None = None,
    progress: Callable[[str], object] | None = None,
    *,
    until: str = "ppo",
) -> list[StageRow]:
    """Train the stages that are not there yet, in order up to `until`, and return a row for each stage.

    `folder` is where they are kept (None: `my/tour` in the learner's folder); `progress` is given a sentence after each
    stage that was trained and whenever something is to be told (None: nobody is told). Raises ValueError for a clicks
    file that cannot be read, before anything is trained, TimeoutError when another tour works in the folder, and
    OSError when the disk refuses; what was there before then still is.
    """
    config, say = config or TourConfig.full(), progress or (lambda sentence: None)
    if until not in STAGES:
        raise ValueError(f"until={until!r} must be one of {', '.join(STAGES)}")
    if config.clicks is not None:
        standing(config.clicks)
    kept = TourFolder(config, folder)
    with _alone_in(kept):
        return _run(kept, say, until)


@contextmanager
def _alone_in(kept: TourFolder) -> Iterator[None]:
    """Two tours in one folder would write over each other's checkpoints."""
    kept.folder.mkdir(parents=True, exist_ok=True)
    with alone(kept.folder / LOCK, busy=f"another tour works in {kept.folder}; wait for its end, or stop it"):
        yield


def _run(kept: TourFolder, say: Callable[[str], object], until: str = "ppo") -> list[StageRow]:
    config, bench = kept.config, Bench(kept, say)
    found: dict[str, Measured] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        for stage in STAGES[: STAGES.index(until) + 1]:
            found[stage], trained = _made(bench, stage)
            if trained:
                say(f"{stage:7}trained: {rows_of(found, bench.text.floor)[-1].verdict}")
        bench.folder.point_here()
    finally:
        torch.set_num_threads(threads)
    return rows_of(found, bench.text.floor)


def train_stages(
    config: TourConfig, folder: Path, stages: Sequence[str], say: Callable[[str], object] = lambda sentence: None
) -> None:
    """Train those of `stages`, in order, that are not there yet; what they are made of must come first or be there."""
    torch.set_num_threads(config.threads)
    bench = Bench(TourFolder(config, folder), say)
    for stage in stages:
        if _made(bench, stage)[1]:
            say(f"{stage:7}trained")


def _made(bench: Bench, stage: str) -> tuple[Measured, bool]:
    """A stage as it is kept, and whether it was trained now."""
    measured = bench.folder.read_or_put_aside(stage, bench.say)
    if measured is not None:
        return measured, False
    measured = _MAKE[stage](bench)
    bench.folder.finish(stage, measured)
    return measured, True


def tour_command(options: argparse.Namespace) -> int:
    """`minillm tour`: run, show the table, say how to go on. 0 when all stages are there, 1 when it was stopped."""
    config = TourConfig.quick() if options.quick else TourConfig.full()
    config = _changed(config, options)
    if config.clicks is not None:
        standing(config.clicks)  # a file that cannot be read is told before anything else
    folder = TourFolder(config)
    try:
        with _alone_in(folder):
            return _tour(folder, options)
    except KeyboardInterrupt:
        print(
            "\nStopped. Nothing finished is lost: the same command goes on from the newest checkpoint.", file=sys.stderr
        )
        return 130
    except TimeoutError as error:
        print(f"minillm tour: {error}.", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"minillm tour: {error}. Nothing finished is lost: make room, then give the same command.", file=sys.stderr
        )
        return 1


def _tour(folder: TourFolder, options: argparse.Namespace) -> int:
    """The command, while nobody else works in the folder."""
    config = folder.config
    if options.again:
        folder.forget()
    say = lambda sentence: print(_fitting(sentence), flush=True)
    say(f"The tour of {len(STAGES)} models, kept in {folder.folder}.")
    say("Stop it when you like (Ctrl-C); the same command goes on where it was.")
    if there := folder.finished():
        say(f"There from before: {', '.join(there)}.")
    with aside(train_stages, config, folder.folder, ASIDE) as both:
        if both:
            if not set(ASIDE) <= set(there):
                say(f"Meanwhile, on another core: {' and '.join(ASIDE)}.")
            train_stages(config, folder.folder, [stage for stage in STAGES if stage not in ASIDE], say)
    rows = _run(folder, say)
    if options.out:
        store(rows, config, Bench(folder, print).text.floor, Path(options.out))
    talk = f"Talk to any of them: minillm chat NAME, with NAME one of {', '.join(STAGES)}."
    table = results_table(rows, min(WIDTH, _columns() or WIDTH))
    print("\n".join(_fitting(line) for line in f"\n{table}\n\n{LEGEND}\n\n{talk}".split("\n")))
    return 0


def _columns() -> int | None:
    """How wide the terminal is; None where the output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _fitting(line: str) -> str:
    """A line broken between words at the edge of the terminal, if there is one; the rest stands under the verdicts."""
    columns = _columns()
    if columns is None or len(line) <= columns:
        return line
    return textwrap.fill(line, columns, subsequent_indent=" " * 13, break_long_words=False, break_on_hyphens=False)


def _changed(config: TourConfig, options: argparse.Namespace) -> TourConfig:
    """The settings with what the command line says."""
    from dataclasses import replace

    changes: dict[str, object] = {}
    if options.seed is not None:
        changes["seed"] = options.seed
    if options.clicks is not None:
        changes["clicks"] = Path(os.fspath(options.clicks))
    return replace(config, **changes)  # type: ignore[arg-type]
