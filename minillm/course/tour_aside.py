"""Two stages of the tour on another core: nobody is made of the window network or of the LSTM, so they need not wait.

    with aside(train, …): the stages that the others are made of

A process of its own trains them meanwhile and keeps them where the tour looks for them. It ends with the process that
began it, however that ends; what it did not finish is trained afterwards like any other stage, from its checkpoint.

Next:    minillm/course/tour_bench.py
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

from minillm.course.progress import QUIET
from minillm.training.hardware import usable_cores

ASIDE = ("window", "lstm")


@contextmanager
def aside(work: Callable[..., object], *arguments: object) -> Iterator[bool]:
    """Run `work`, a function of a module, in another process during the block, then wait for it; gives True.

    Where there is one core nothing happens, and it gives False. An error in the block ends the other process too.
    """
    if usable_cores() < 2:
        yield False
        return
    process = multiprocessing.get_context("spawn").Process(target=_alone, args=(work, *arguments), daemon=True)
    process.start()
    try:
        yield True
        process.join()
    finally:
        process.terminate()
        process.join()


def _alone(work: Callable[..., object], *arguments: object) -> None:
    """The other process: quiet, deaf to Ctrl-C, which its parent hears, and gone when its parent is."""
    os.environ[QUIET] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    try:
        work(*arguments)
    except Exception:  # the tour meets the same error when it comes to that stage, and tells it
        os._exit(1)


def _follow() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
