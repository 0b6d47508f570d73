"""kill -9 at random moments, twenty times: the run that goes on is the run that was never disturbed, bit for bit."""

import multiprocessing.forkserver
import os
import random
import sys
import time

import killed_runs
import pytest

from minillm.text.token_shards import write_shards
from minillm.training.checkpoint import load_checkpoint, saved_steps

KILLS = 20
pytestmark = [
    pytest.mark.no_promises,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with shards, one undisturbed run, and a server that forks processes which have torch already."""
    folder = tmp_path_factory.mktemp("killed")
    write_shards(folder / "shards", [[i * i % 16 for i in range(j, j + 40)] for j in range(5)], vocabulary=17, end=16)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_runs"])
    with pytest.MonkeyPatch.context() as patch:  # the server is a fresh Python, which must find that module
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        multiprocessing.forkserver.ensure_running()
    whole = context.Process(target=killed_runs.run, args=(new(folder, "whole"),), kwargs={"every": 1000})
    whole.start()
    whole.join()
    assert whole.exitcode == 0
    return folder, context


def new(folder, name):
    (folder / name).mkdir()
    return folder / name


def losses(folder):
    """What each life wrote: a step that was taken twice must have been the same twice."""
    lines = (folder / "losses").read_text().splitlines() if (folder / "losses").exists() else []
    found = {}
    for line in lines:
        step, *numbers = line.split()
        assert found.setdefault(int(step), numbers) == numbers, f"step {step} was another step after a kill"
    return found


def steps_taken(folder):
    path = folder / "losses"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_twenty_kills_leave_no_trace(world):
    folder, context = world
    run, chance, interrupted = new(folder, "run"), random.Random(os.getpid()), 0
    for _ in range(KILLS):
        life, goal = context.Process(target=killed_runs.run, args=(run,)), steps_taken(run) + chance.randrange(6)
        life.start()
        while steps_taken(run) < goal and life.is_alive():
            time.sleep(0.001)
        time.sleep(chance.random() * 0.006)  # anywhere in a step, and most of a step is the writing of its checkpoint
        life.kill()
        life.join()
        assert life.exitcode == -9, "it was killed, and had not come to its end"
        if held := saved_steps(run / "checkpoints"):
            assert load_checkpoint(run / "checkpoints")[0] == held[-1], "whole at every moment"
        names = os.listdir(run / "checkpoints") if held else []
        interrupted += any(name.endswith((".part", ".unnamed")) for name in names)
    last = context.Process(target=killed_runs.run, args=(run,))
    last.start()
    last.join()
    assert last.exitcode == 0
    assert losses(run) == losses(folder / "whole") and len(losses(run)) == killed_runs.STEPS
    assert (run / "end").read_bytes() == (folder / "whole" / "end").read_bytes()
    assert interrupted, "at least one of twenty kills came while a checkpoint was being written"
    names = sorted(os.listdir(run / "checkpoints"))
    assert len(names) == 4 and names[1].endswith(".json"), f"two checkpoints, and nothing of the killed ones: {names}"


def test_what_is_not_saved_is_seen_in_the_losses(world, monkeypatch):
    """The comparison above can fail: forget any one part, and the run is another one."""
    folder, _ = world
    wanted = losses(folder / "whole")
    for part in ("model", "optimizer", "windows", "noise", "draws", "global generators"):
        run = new(folder, f"without {part}")
        killed_runs.run(run, steps=30, every=30)
        forget(monkeypatch, part)
        killed_runs.run(run, steps=34, every=1000)
        monkeypatch.undo()
        found = losses(run)
        assert all(found[step] == wanted[step] for step in range(1, 31))
        assert any(found[step] != wanted[step] for step in range(31, 35)), part


def forget(monkeypatch, part):
    from minillm.training import checkpoint

    init = checkpoint.Checkpoints.__init__

    class Forgetful:
        def state_dict(self):
            return {}

        def load_state_dict(self, saved):
            pass

    def without(self, *arguments, **options):
        init(self, *arguments, **options)
        self.parts[part] = Forgetful()

    monkeypatch.setattr(checkpoint.Checkpoints, "__init__", without)
