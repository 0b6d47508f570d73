"""Several processes that train one model: how they are started, find each other, and end together.

    in a terminal            torchrun --nproc-per-node 2 -m minillm.training.pretrain tiny --folder two
    in a cell of a notebook  launch("minillm.training.pretrain", "tiny", "--folder", "two", processes=2)
    in the program itself    with process_group() as ours: …           # ours.rank, ours.size, ours.device

Each process runs the same program on a device of its own and asks for its number. On GPUs they talk through NCCL, on
CPUs through gloo. A program that is started alone is a group of one, so there is no second kind of program. When one of
them dies, all end at once and its traceback is shown: a group that waits for the dead would wait for ever.

Paper:   Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB,
         arXiv:2006.15704.
Names:   `rank` counts the processes of all machines from 0, `local_rank` those of this machine; `size` is the world
         size.
Next:    minillm/training/sharding.py
"""

import os
import re
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed as dist
from torch.distributed import HashStore  # pyright: ignore[reportPrivateImportUsage]

FAILED = "of the processes failed:"
_LOST = re.compile(r"[Cc]onnection|[Bb]roken pipe|remote|[Tt]imed? ?out")  # what those say that waited for a dead one


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """One of the processes that run together."""

    rank: int  # its number among all, from 0
    size: int  # how many there are
    device: torch.device  # where it computes

    @property
    def first(self) -> bool:
        """Whether it is the one that prints and writes files."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print, in the first process only."""
        if self.first:
            print(text, flush=True)


@contextmanager
def process_group(timeout_s: float = 600.0) -> Iterator[Process]:
    """Join the processes that `torchrun` or `launch` started, or be a group of one, until the block ends.

    An error in the block ends this process at once, its traceback first; the others are then ended by their launcher.
    One that waits for `timeout_s` seconds for the others gives up too, so that a hanging one cannot hold all.

    >>> with process_group() as ours:
    ...     print(ours.rank, ours.size, ours.first)
    0 1 True
    """
    rank, size, local = (int(os.environ.get(name, default)) for name, default in _ENVIRONMENT)
    device = _device(local, int(os.environ.get("LOCAL_WORLD_SIZE", size)))
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    alone = {"store": HashStore(), "rank": 0, "world_size": 1} if size == 1 else {}
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s), **alone)
    try:
        yield Process(rank=rank, size=size, device=device)
    except BaseException:
        if size == 1:
            dist.destroy_process_group()
            raise
        print(f"rank {rank} of {size} {FAILED}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)  # an orderly end would wait for the others, who wait for this one
    dist.barrier()  # nobody leaves while another still needs its share
    dist.destroy_process_group()


class ProcessesFailed(RuntimeError):
    """One of the processes ended with an error; the message holds its traceback."""


def launch(target: str | os.PathLike[str], *arguments: str, processes: int = 2, say: Callable[[str], object] = print
           ) -> None:  # fmt: skip
    """Run a module (`"package.module"`) or a script (`"file.py"`) in several processes here, and show what they print.

    It is `torchrun` in a process of its own, so that a notebook, whose functions no other process can import, may use
    it. Every line goes to `say` as it comes. Raises ProcessesFailed when one of them fails, after all have ended.
    """
    if processes < 1:
        raise ValueError(f"processes={processes} must be at least 1; 2 works on any machine")
    script = os.fspath(target).endswith(".py")
    if script and not Path(target).is_file():
        raise ValueError(f"target={os.fspath(target)!r} is not there; write the script first, or name a module")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1",
               f"--nproc-per-node={processes}", *([] if script else ["-m"]), os.fspath(target), *arguments]  # fmt: skip
    lines: deque[str] = deque(maxlen=5000)  # the traceback stands near the end, however long the run was
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
                          errors="replace", env=_environment(processes)) as run:  # fmt: skip
        try:
            for line in run.stdout or ():
                lines.append(line.rstrip("\n"))
                say(lines[-1])
        except BaseException:  # an interrupted cell leaves no processes behind
            _end(run)
            raise
    if run.returncode:
        raise ProcessesFailed(_what_failed(list(lines), processes))


_ENVIRONMENT = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


def _device(local_rank: int, local_size: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_size > (gpus := torch.cuda.device_count()):
        raise ValueError(f"{local_size} processes on this machine need a GPU each, but it has {gpus}; start {gpus} "
                         'of them, or hide the GPUs with CUDA_VISIBLE_DEVICES=""')  # fmt: skip
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _environment(processes: int) -> dict[str, str]:
    """Ours, with the folder of minillm on the path, and with the cores shared between the processes."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    return {"OMP_NUM_THREADS": threads} | os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _end(run: subprocess.Popen[str]) -> None:
    run.terminate()  # torchrun passes it on
    try:
        run.wait(timeout=10)
    except subprocess.TimeoutExpired:
        run.kill()


def _what_failed(lines: list[str], processes: int) -> str:
    """The traceback of the process that failed first; where it had no time for one, what the launcher knows of it."""
    blocks = [_block(lines[i:]) for i, line in enumerate(lines) if line.endswith(FAILED)]
    own = [block for block in blocks if not _LOST.search(block[-1])]
    killed = re.findall(r"rank +: (\d+).*\n *exitcode +: (-\d+)", "\n".join(lines))
    if own or (blocks and not killed):
        return "\n".join((own or blocks)[0])
    first = [one for one in killed if one[1] != "-15"] or killed  # the launcher ends the others by signal 15
    known = [f"rank {rank} by signal {-int(code)}" for rank, code in first]
    return f"one of {processes} processes was killed: {', '.join(known) or 'see the output above'}"


def _block(lines: list[str]) -> list[str]:
    """A traceback from its head to the line with the error."""
    for end, line in enumerate(lines[1:], 2):
        if line and not line[0].isspace() and not line.startswith(("Traceback", "The above", "During")):
            return lines[:end]
    return lines
