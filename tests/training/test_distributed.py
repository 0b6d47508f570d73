"""Several processes: every way of spreading a model is the run of one process, and the death of one ends all."""

import json
import math
import os
import time
from pathlib import Path

import pytest
import spread_worker
import torch
from spread_worker import GPT2, LLAMA, SMEAR, START, STEPS, WAYS, gathers, go_on
from torch.testing import assert_close

from minillm.training.checkpoint import load_checkpoint
from minillm.training.distributed import FAILED, Process, ProcessesFailed, _what_failed, launch, process_group
from minillm.training.pipeline import Pipelined
from minillm.training.sharding import Spread
from minillm.transformer.decoder import Decoder, DecoderConfig, gpt2, llama
from minillm.transformer.moe import MoEConfig

WORKER = Path(spread_worker.__file__)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One process to step 5; from its checkpoint two processes go on in every way, and so does it."""
    folder, one = tmp_path_factory.mktemp("spread"), {}
    for config in (GPT2, LLAMA, SMEAR):
        go_on(folder / f"one {config.positions}", Decoder(config).double(), steps=START, accumulate=gathers(config))
    launch(WORKER, str(folder), processes=2, say=lambda line: None)
    for config in (GPT2, LLAMA, SMEAR):
        one[config.positions] = go_on(
            folder / f"one {config.positions}", Decoder(config).double(), steps=STEPS, accumulate=gathers(config)
        )
        more = go_on(
            folder / f"one {config.positions}", Decoder(config).double(), steps=STEPS + 5, accumulate=gathers(config)
        )
        one[config.positions] = [*one[config.positions], more[0]]
    return folder, one, json.loads((folder / "found.json").read_text())


@pytest.mark.no_promises
@pytest.mark.parametrize("name", WAYS)
def test_two_processes_are_one(runs, name):
    """Twenty steps in float64, from the checkpoint of one process."""
    _, one, found = runs
    losses, norms, _ = one[WAYS[name][0].positions]
    assert len(losses) == STEPS - START and max(norms) > 0.3, "some steps are clipped"
    assert_close(torch.tensor(found[name][0]), torch.tensor(losses), rtol=1e-10, atol=0)
    assert_close(torch.tensor(found[name][1]), torch.tensor(norms), rtol=1e-8, atol=0)


@pytest.mark.no_promises
@pytest.mark.parametrize("name", WAYS)
def test_what_two_processes_saved_one_goes_on_with(runs, name):
    folder, runs_of_one, _ = runs
    config = WAYS[name][0]
    for part in ("model", "optimizer"):
        one, two = (load_checkpoint(folder / f, STEPS)[1]["parts"][part] for f in (f"one {config.positions}", name))
        assert_close(two, one, rtol=1e-7, atol=1e-10)
    more, _ = go_on(folder / name, Decoder(config).double(), steps=STEPS + 5, accumulate=gathers(config))
    assert_close(torch.tensor(more), torch.tensor(runs_of_one[config.positions][2]), rtol=1e-9, atol=0)


DEATHS = {
    "die": r"rank 1 of 2 .*\nTraceback[^$]*planted in process 1$",
    "kill": r"one of 2 processes was killed: rank 1 by signal 9$",
}


@pytest.mark.parametrize(("how", "said"), DEATHS.items(), ids=DEATHS)
def test_a_dead_process_ends_all_with_its_traceback(how, said):
    heard = {}
    with pytest.raises(ProcessesFailed, match=said):
        launch(WORKER, how, processes=2, say=lambda line: heard.setdefault(line, time.perf_counter()))
    waited = time.perf_counter() - heard["step 1"]
    assert waited < 120, "seconds on an idle machine; whoever waits for the dead waits ten minutes"


def test_an_interrupted_cell_leaves_no_process_behind(tmp_path):
    (tmp_path / "wait.py").write_text("import os, time\nprint('pid', os.getpid(), flush=True)\ntime.sleep(60)")
    found = []

    def interrupt(line):
        if line.startswith("pid "):
            found.append(int(line.split()[1]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(tmp_path / "wait.py", processes=1, say=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(found[0], 0)


# what does not fit --------------------------------------------------------------------------------------------------


def among(size):
    return Process(rank=0, size=size, device=torch.device("cpu"))


SMALL = {"vocabulary": 11, "context": 8, "n_layer": 2, "d_model": 12}
MOE = DecoderConfig(n_head=2, moe=MoEConfig(d_model=12, d_hidden=8, n_expert=4, top_k=2), **SMALL)


@pytest.mark.parametrize(
    ("config", "way", "options", "size", "said"),
    [
        (gpt2(n_head=3, **SMALL), "tensor", {}, 2, r"n_head=3 cannot be split over 2 processes; n_head=4 can"),
        (llama(n_head=2, n_kv_head=1, **SMALL), "tensor", {}, 2, r"n_kv_head=1 cannot .* n_kv_head=2 can"),
        (llama(n_head=2, d_hidden=9, **SMALL), "tensor", {}, 2, r"d_hidden=9 cannot .* d_hidden=10 can"),
        (DecoderConfig(n_head=2, qk_norm=True, **SMALL), "tensor", {}, 2, r"qk_norm=True is not known .* 'fsdp' takes"),
        (DecoderConfig(n_head=2, positions="alibi", **SMALL), "tensor", {}, 2, r"positions='alibi' is not known"),
        (DecoderConfig(n_head=2, smear=True, **SMALL), "tensor", {}, 2, r"smear=True is not known"),
        (MOE, "tensor", {}, 2, r"moe=.* is not known"),
        (gpt2(n_head=2, **SMALL), "fsdp", {"tensor": 3}, 4, r"tensor=3 must divide the 4 processes"),
        (gpt2(n_head=2, **SMALL), "ddp", {"tensor": 2}, 4, r"goes with way='fsdp' or 'tensor', not with way='ddp'"),
        (gpt2(n_head=2, **SMALL), "zero", {}, 2, r"way='zero' must be one of ddp, fsdp, tensor"),
        (gpt2(n_head=2, **SMALL), "pipeline", {}, 3, r"n_layer=2 blocks cannot be shared out over 3 .* at most 2"),
        (
            gpt2(n_head=2, **SMALL),
            "pipeline",
            {"micro_batches": 1},
            2,
            r"micro_batches=1 must be at least the 2 stages",
        ),
        (gpt2(n_head=2, **SMALL), "pipeline", {"schedule": "zb"}, 2, r"schedule='zb' must be one of 1f1b, gpipe"),
        (MOE, "pipeline", {}, 2, r"without mixtures of experts"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_sent(config, way, options, size, said):
    with pytest.raises(ValueError, match=said):
        if way == "pipeline":
            Pipelined(Decoder(config), among(size), **options)
        else:
            Spread(Decoder(config), among(size), way, **options)


def test_a_group_of_one_needs_no_launcher():
    with pytest.raises(KeyError, match="its own error"), process_group() as ours:
        assert (ours.rank, ours.size, ours.device.type) == (0, 1, "cpu") and ours.first
        raise KeyError("its own error")
    with process_group():  # and leaves nothing behind
        model = Spread(Decoder(GPT2).double(), among(1))
        tokens_bt = torch.arange(8).view(1, 8)
        alone = Decoder(GPT2).double()
        assert math.isclose(model.loss(tokens_bt).item(), alone.loss(tokens_bt).item(), rel_tol=1e-12)
        anything = object()
        assert model.optimizer(anything) is anything, "with ddp nothing is cut, so every optimiser will do"
        with pytest.raises(ValueError, match=r"the saved model has .* of shape None, this one of shape"):
            model.load_state_dict({})
        pipelined = Pipelined(alone, among(1), micro_batches=2)
        with pytest.raises(ValueError, match=r"a batch of 3 rows .* micro_batches=2 equal parts; 4 do"):
            pipelined.loss(torch.zeros(3, 4, dtype=torch.int64))
        with pytest.raises(ValueError, match="the saved model has"):
            pipelined.load_state_dict({})
    assert not torch.distributed.is_initialized()


def test_what_cannot_be_launched():
    with pytest.raises(ValueError, match="processes=0 must"):
        launch("minillm.training.pretrain", processes=0)
    with pytest.raises(ValueError, match="is not there; write the script first"):
        launch("no such file.py")


def test_more_processes_than_gpus(monkeypatch):
    from minillm.training import distributed

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="4 processes on this machine need a GPU each, but it has 2; start 2"):
        distributed._device(1, 4)


def ended(*codes):
    """What torchrun writes of processes by their exit codes."""
    return "".join(f"  rank      : {r} (local_rank: {r})\n  exitcode  : {c} (pid: 7)\n" for r, c in codes)


LOST, KILLED = "RuntimeError: Connection reset", "one of 3 processes was killed: "


def traceback_of(rank, error):
    lines = f"rank {rank} of 3 {FAILED}", "Traceback (most recent call last):", '  File "a.py", line 1', error
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (ended((0, -15), (1, -9)), KILLED + "rank 1 by signal 9"),
        (ended((0, -15), (12, -9), (3, -11)), KILLED + "rank 12 by signal 9, rank 3 by signal 11"),
        (ended((0, -15), (1, -15)), KILLED + "rank 0 by signal 15, rank 1 by signal 15"),
        ("nothing that we know\n", KILLED + "see the output above"),
        (traceback_of(0, LOST) + ended((1, -9)), KILLED + "rank 1 by signal 9"),
        (traceback_of(0, LOST) + traceback_of(1, "KeyError: 3"), "rank 1 of 3"),
        (traceback_of(2, "KeyError: 3") + ended((0, -15), (1, -9)), "rank 2 of 3"),
        (traceback_of(0, LOST), "rank 0 of 3"),
    ],
)
def test_who_was_ended_by_the_launcher_or_lost_the_others_is_not_blamed(told, said):
    """The first cause is named: an error of one's own, else a signal that was not the launcher's, else what is left."""
    found = _what_failed(told.splitlines(), 3)
    assert found.startswith(said)
    if found.startswith("rank"):
        assert found == traceback_of(found.split()[1], found.splitlines()[-1]).rstrip("\n"), "the whole of it, no more"
