"""Where the time goes: a trace in one call, tokens a second, and the share of the machine's peak that a run reaches.

    print(trace(lambda: train(fast, batches, steps=3, optimizer=optimizer), "trace.json"))
    train(…, callbacks=[Throughput(config, batch=8, t=256, peak=peak_rate("cuda"))])

    MFU = counted operations of a step / (seconds of a step · peak rate)

Operations are those that the model needs (`minillm.transformer.costs`), not those that were done: what activation
checkpointing computes twice counts once.

Paper:   Chowdhery et al. 2022, "PaLM", appendix B, arXiv:2204.02311.
Next:    minillm/training/checkpoint.py
"""

import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from minillm.core.files import write_atomically
from minillm.core.settings import check_whole_numbers
from minillm.training.loop import Step
from minillm.transformer.costs import training_flops
from minillm.transformer.decoder import DecoderConfig


def mfu(config: DecoderConfig, *, batch: int, t: int, seconds: float, peak: float) -> float:
    """The share of `peak` operations a second that a training step of `batch` rows of `t` tokens reached.

    >>> from minillm.transformer.decoder import gpt2
    >>> round(mfu(gpt2(), batch=12, t=1024, seconds=0.022, peak=989e12), 2)
    0.48
    """
    if not (seconds > 0 and peak > 0):
        raise ValueError(f"seconds={seconds!r} and peak={peak!r} must both be above 0; peak=989e12 is an H100's")
    return training_flops(config, t, batch) / (seconds * peak)


class Throughput:
    """A callback for `train`: tokens a second and MFU over the last `window` steps, in `.tokens_a_second` and `.mfu`.

    `batch` and `t` are the rows and targets of one whole step, gathered batches together. Without `peak` there is no
    MFU. `say`, called every `window` steps with a line, may be `print`.
    """

    def __init__(self, config: DecoderConfig, *, batch: int, t: int, peak: float | None = None, window: int = 10,
                 say: Callable[[str], object] | None = None) -> None:  # fmt: skip
        check_whole_numbers({"window": (window, 10)})
        self.config, self.batch, self.t, self.peak, self.window, self.say = config, batch, t, peak, window, say
        self.tokens_a_second, self.mfu = 0.0, None
        self._at: list[float] = []

    def __call__(self, row: Step) -> None:
        self._at = [*self._at[-self.window :], row.seconds]
        if len(self._at) < 2:
            return
        seconds = statistics.median(b - a for a, b in zip(self._at, self._at[1:], strict=False))
        if seconds <= 0:
            return
        self.tokens_a_second = self.batch * self.t / seconds
        if self.peak is not None:
            self.mfu = mfu(self.config, batch=self.batch, t=self.t, seconds=seconds, peak=self.peak)
        if self.say is not None and row.step % self.window == 0:
            share = "" if self.mfu is None else f", MFU {self.mfu:.1%}"
            self.say(f"step {row.step}: loss {row.loss:.3f}, {self.tokens_a_second:,.0f} tokens/s{share}")


def trace(work: Callable[[], object], file: str | Path | None = None, *, rows: int = 12) -> str:
    """Run `work` once to warm up and once watched: a table of the operations that took longest.

    `file` gets the whole trace, for chrome://tracing or ui.perfetto.dev.

    >>> "aten::mm" in trace(lambda: torch.ones(9, 9) @ torch.ones(9, 9))
    True
    """
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch.cuda.is_available()
    work()
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]) as seen:
        work()
        if on_gpu:
            torch.cuda.synchronize()
    if file is not None:
        with TemporaryDirectory() as folder:
            seen.export_chrome_trace(str(whole := Path(folder) / "trace.json"))
            write_atomically(Path(file), whole.read_bytes())
    by = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    return seen.key_averages().table(sort_by=by, row_limit=rows, max_name_column_width=40)
