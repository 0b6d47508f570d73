"""A tour so small that its models learn nothing, for tests of everything else: keys, folders, kills, clicks."""

import os
import traceback
from dataclasses import replace
from pathlib import Path

from minillm.course.tour import run_tour
from minillm.course.tour_config import TourConfig

TINY = TourConfig(
    families=4, stories=30, held_out=3, order=2, batch=2, window=2, window_steps=6, state=8, lstm_steps=6, n_layer=1,
    d_model=16, gpt_steps=8, lessons=60, sft_steps=8, exam=1, comparisons=40, best_of=2, rollout=8,
    ppo_updates=4,
)  # fmt: skip


def live(folder, config=TINY):
    """One life: run to the end, or until killed. Returns nothing; what is left is in the folder."""
    os.fsync = lambda handle: None  # against a loss of power; a killed process loses nothing that it has written
    run_tour(config, Path(folder))


def forked(folder, config=TINY):
    """Start a life of its own; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        live(folder, config)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def clicked(folder, path):
    """The tiny tour with these clicks."""
    return run_tour(replace(TINY, clicks=path), folder)
