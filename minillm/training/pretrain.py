"""Pretrain a decoder on a text, on a laptop or on many GPUs: one command, which goes on where it was stopped.

    python -m minillm.training.pretrain tiny
    text → tokenizer → shards → steps, with a checkpoint now and then → bits per character of documents never seen

The presets go from a model that a laptop trains in half a minute to GPT-2's smallest. A run lives in a folder and is
known by its settings: the same command again goes on where the last one was stopped or killed, and ends as if it never
had been. It ends with a verdict: beside the measure stand a floor, where the text's true entropy is known, and what
counting characters reaches.

Paper:   Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", §2 (of the largest preset); its
         rate, batch and decay: Brown et al. 2020, table 2.1 and appendix B, arXiv:2005.14165.
Next:    minillm/adaptation/chat_template.py
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from minillm.core.settings import check_whole_numbers

if TYPE_CHECKING:
    from minillm.transformer.decoder import Decoder, DecoderConfig

Parallel = Literal["ddp", "fsdp", "tensor", "pipeline"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A model and how it is trained."""

    config: "Callable[[int], DecoderConfig]"  # for a vocabulary
    vocabulary: int  # tokens that the tokenizer may learn
    steps: int  # of the whole run
    batch: int  # rows of `context` tokens in a step, over all processes
    rows: int  # of them at once in a process; a step gathers as many parts as it needs
    optimizer: Literal["muon", "adamw"]  # muon for small models on whole matrices
    learning_rate: float  # the largest, of muon or of adamw
    about: str  # one line for --help


def _decoder() -> Any:
    """Imported when it is needed: --help must not wait for torch."""
    from minillm.transformer import decoder

    return decoder


PRESETS = {
    "tiny": Preset(
        config=lambda v: _decoder().llama(vocabulary=v, context=128, n_layer=2, n_head=4, d_model=96, d_hidden=256),
        vocabulary=1024, steps=200, batch=12, rows=12, optimizer="muon", learning_rate=0.03,
        about="0.4 million parameters; half a minute on two cores",
    ),
    "small": Preset(
        config=lambda v: _decoder().llama(vocabulary=v, context=256, n_layer=6, n_head=6, d_model=192, d_hidden=512),
        vocabulary=2048, steps=1000, batch=32, rows=16, optimizer="muon", learning_rate=0.02,
        about="3 million parameters; half an hour on two cores",
    ),
    "medium": Preset(
        config=lambda v: _decoder().llama(
            vocabulary=v, context=512, n_layer=8, n_head=8, n_kv_head=4, d_model=512, d_hidden=1376
        ),
        vocabulary=8192, steps=5000, batch=128, rows=64, optimizer="adamw", learning_rate=1e-3,
        about="32 million parameters; for one GPU, and some hundred megabytes of text",
    ),
    "gpt2-124m": Preset(
        config=lambda v: _decoder().gpt2(vocabulary=v),
        vocabulary=50257, steps=19_000, batch=512, rows=16, optimizer="adamw", learning_rate=6e-4,
        about="GPT-2's smallest, with its batch of half a million tokens; for one GPU or several, gigabytes of text",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a run is. The first seven decide its result and must stay as they are; the rest may change on the way."""

    preset: str = "tiny"  # which of PRESETS
    text: str = "village"  # a name that `load_corpus` knows, or a file or folder
    steps: int  # the last step; the rate falls to nothing there
    batch: int  # rows in a step, over all processes
    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: float  # the largest
    seed: int = 0  # of the first parameters, the order of the windows and the samples
    folder: Path  # where the run lives
    rows: int  # at once in a process
    parallel: Parallel = "ddp"  # how several processes share the work
    tensor: int = 1  # with fsdp: processes that share one tensor-parallel model
    save_every: int = 100  # steps between checkpoints
    judge_every: int = 100  # steps between evaluations
    characters: int = 150_000  # of held-out text that are judged
    tokenizer: Path | None = None  # one that is there already
    plain: bool = False  # no accelerated paths: the same numbers on more machines

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset={self.preset!r} must be one of {', '.join(PRESETS)}")
        own = PRESETS[self.preset]
        works = {"steps": own.steps, "batch": own.batch, "rows": own.rows, "characters": 150_000, "tensor": 1}
        works |= {"save_every": 100, "judge_every": 100}
        check_whole_numbers({name: (getattr(self, name), good) for name, good in works.items()})
        if self.optimizer == "muon" and self.parallel != "ddp":
            raise ValueError(f"optimizer='muon' needs whole matrices, and parallel={self.parallel!r} cuts them; "
                             "--optimizer adamw --learning-rate 0.003 works")  # fmt: skip

    def accumulate(self, parts: int) -> int:
        """How many batches a process reads for one step, when `parts` processes read different rows."""
        own, once = self.batch // parts, min(self.rows, self.batch // parts)
        if self.batch % parts or own % once:
            fits = once * parts * max(1, own // max(once, 1))
            raise ValueError(f"batch={self.batch} rows cannot be cut into equal parts of rows={self.rows} for {parts} "
                             f"processes; --batch {fits or parts} can")  # fmt: skip
        return own // once


def pretrain(settings: Settings, process: Any) -> dict[str, float | None]:
    """The whole run, or the rest of it, in this process of the group: bits per character, floor and counted."""
    import torch

    from minillm.text.token_shards import ShuffledWindows
    from minillm.training.checkpoint import Checkpoints
    from minillm.training.hardware import peak_rate
    from minillm.training.loop import train
    from minillm.training.optim import linear_warmup_cosine
    from minillm.training.pretrain_data import load, prepare
    from minillm.training.pretrain_judge import Judge
    from minillm.training.profile import Throughput
    from minillm.training.token_batches import TokenBatches

    preset, folder = PRESETS[settings.preset], settings.folder
    if process.first:
        prepare(folder, settings.text, vocabulary=preset.vocabulary, tokenizer=settings.tokenizer)
    torch.distributed.barrier()
    data = load(folder, settings.text, characters=settings.characters)
    config = preset.config(data.shards.vocabulary)
    model = _decoder().Decoder(replace(config, seed=settings.seed))
    process.say(f"{settings.preset}: {model.n_parameters:,} parameters, {len(data.shards):,} tokens of {data.name!r}, "
                f"{process.size} process{'es' if process.size > 1 else ''} on {process.device.type}")  # fmt: skip
    fast, optimizer, saved_optimizer = _spread(model, settings, process)
    part, parts = getattr(fast, "part", 0), getattr(fast, "parts", 1)
    accumulate = settings.accumulate(parts)
    windows = ShuffledWindows(data.shards, b=settings.batch // accumulate, t=config.context, seed=settings.seed)
    batches = TokenBatches(windows, process.device, part=part, parts=parts)
    saved_model = model if process.size == 1 else fast
    checkpoints = Checkpoints(
        folder / "checkpoints",
        {"model": saved_model, "optimizer": saved_optimizer, "batches": batches},
        every=settings.save_every,
        settings=_identity(settings, config, data.sha256, optimizer),
        write=process.first,
    )
    start = checkpoints.resume()
    if start:
        process.say(f"going on after step {start}, from {checkpoints.folder}")
    judge = Judge(settings, data, saved_model, config, process, start)
    peak = peak_rate(process.device.type)
    together = None if peak is None else peak * process.size
    speed = Throughput(config, batch=settings.batch, t=config.context, peak=together)
    warmup = max(1, settings.steps // 50)
    if start < settings.steps:
        train(fast, batches, steps=settings.steps, optimizer=optimizer, accumulate=accumulate, clip=1.0, start=start,
              schedule=lambda step: linear_warmup_cosine(step, steps=settings.steps, warmup=warmup, final=0.0),
              callbacks=[speed, judge, checkpoints])  # fmt: skip
    verdict = judge.verdict()
    if peak is not None and speed.mfu is not None:
        process.say(f"speed:   {speed.tokens_a_second:,.0f} tokens/s at the end, MFU {speed.mfu:.1%} of "
                    f"{process.size} x {peak / 1e12:,.0f} TFLOP/s, the peak in bfloat16")  # fmt: skip
    return verdict


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: `python -m minillm.training.pretrain --help`."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.processes > 1 and "RANK" not in os.environ:
        from minillm.training.distributed import ProcessesFailed, launch

        try:
            launch("minillm.training.pretrain", *(sys.argv[1:] if arguments is None else arguments),
                   processes=given.processes)  # fmt: skip
        except ProcessesFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0
    from minillm.training.distributed import process_group

    try:
        settings = _settings(given)
        with process_group(timeout_s=1800) as process:  # the others wait while the first one reads a long text
            pretrain(settings, process)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


def _spread(model: "Decoder", settings: Settings, process: Any) -> tuple[Any, Any, Any]:
    """The model as it is trained, its optimiser, and the optimiser as a part of the checkpoint."""
    from minillm.training.accelerate import accelerate
    from minillm.training.muon import muon_with_adamw, polar_express
    from minillm.training.pipeline import Pipelined
    from minillm.training.sharding import Spread

    alone, on_gpu = process.size == 1, process.device.type == "cuda"
    off = False if settings.plain else None
    here = int(os.environ.get("LOCAL_WORLD_SIZE") or process.size)
    threads = None if alone else max(1, (os.cpu_count() or 1) // here)
    fast = accelerate(model, device=process.device.type, bf16=off, tf32=off, threads=threads, say=None,
                      fused=off if on_gpu and settings.optimizer == "adamw" else False,
                      compile=off if alone or settings.parallel == "ddp" else False)  # fmt: skip
    said = ("bf16", "compile", "fused", "tf32") if on_gpu else ("bf16", "compile", "threads")
    process.say("\n".join(f"  {name:10}{fast.choices[name]}" for name in said))
    spread: Any = fast
    way: Any = settings.parallel
    if not alone and way == "pipeline":
        b = min(settings.rows, settings.batch)
        fits = [m for m in range(1, 4 * process.size + 1) if b % m == 0]
        spread = Pipelined(fast, process, micro_batches=fits[-1])
    elif not alone:
        spread = Spread(fast, process, way, tensor=settings.tensor)
    if settings.optimizer == "muon":
        optimizer = muon_with_adamw(model, learning_rate=settings.learning_rate, momentum=0.9,
                                    adamw_learning_rate=settings.learning_rate * 2 / 3, polynomials=polar_express(4),
                                    in_bfloat16=on_gpu)  # fmt: skip
    else:
        optimizer = _adamw(spread, fast, settings.learning_rate)
    return spread, optimizer, optimizer if alone else spread.optimizer(optimizer)


def _adamw(spread: Any, fast: Any, learning_rate: float) -> Any:
    """AdamW for the parameters that this process holds, as one kernel where that was chosen."""
    import torch

    from minillm.training.optim import AdamW, decay_matrices_only

    groups = decay_matrices_only(spread, 0.1)
    if fast.choices["fused"].value == "yes":
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)
    return AdamW(groups, learning_rate, (0.9, 0.95))


def _identity(settings: Settings, config: "DecoderConfig", text: str, optimizer: Any) -> dict[str, Any]:
    """What must be the same when a run goes on; anything else may be another number of processes, say."""
    names = [field.name for field in fields(settings)][:7]
    own = {name: getattr(settings, name) for name in names} | {"text": text[:16]}
    size = hashlib.sha256(json.dumps(asdict(config), sort_keys=True, default=str).encode()).hexdigest()[:16]
    return own | {"model": size, "optimizer": f"{settings.optimizer} of {type(optimizer).__module__}"}


def _settings(given: argparse.Namespace) -> Settings:
    preset = PRESETS[given.preset]
    own = {name: value for name, value in vars(given).items() if name != "processes" and value is not None}
    own.setdefault("folder", Path("runs") / given.preset)
    optimizer = own.setdefault("optimizer", preset.optimizer)
    if optimizer != preset.optimizer and "learning_rate" not in own:
        raise ValueError(f"--optimizer {optimizer} beside the preset's {preset.optimizer} needs a --learning-rate "
                         "of its own; 0.003 for adamw and 0.02 for muon suit small models")  # fmt: skip
    for name in ("steps", "batch", "rows", "learning_rate"):
        own.setdefault(name, getattr(preset, name))
    return Settings(**own)


def _parser() -> argparse.ArgumentParser:
    presets = "\n".join(f"  {name:10} {preset.about}" for name, preset in PRESETS.items())
    parser = argparse.ArgumentParser(
        prog="python -m minillm.training.pretrain",
        usage="python -m minillm.training.pretrain [preset] [options]",
        description="Train a language model from nothing on a text, and say at the end whether it learned.\n\n"
        f"presets (their times are about, and none was measured on a GPU):\n{presets}",
        epilog="examples:\n"
        "  python -m minillm.training.pretrain tiny                      the village's stories, half a minute\n"
        "  python -m minillm.training.pretrain tiny                      the same again: nothing is left to do\n"
        "  python -m minillm.training.pretrain small --text book.txt     a text of yours\n"
        "  python -m minillm.training.pretrain tiny --processes 2        two processes on this machine\n"
        "  torchrun --nproc-per-node 8 -m minillm.training.pretrain gpt2-124m --text corpus/ --parallel fsdp\n\n"
        "A run that was stopped or killed goes on when the same command is given again. Everything it makes is in\n"
        "its folder: tokenizer.json, data/ (the tokens), checkpoints/, log.jsonl (a line for each report).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "preset",
        nargs="?",
        default="tiny",
        choices=list(PRESETS),
        metavar="preset",
        help="one of the names above (default: tiny)",
    )
    add(
        "--text",
        metavar="NAME",
        help="village, stories, python, a public text's name, a file or a folder (default: village)",
    )
    add("--folder", type=Path, metavar="PATH", help="where the run lives (default: runs/PRESET)")
    add("--steps", type=int, metavar="N", help="steps of the whole run; the learning rate falls to zero at the last")
    add("--batch", type=int, metavar="N", help="rows in a step, over all processes")
    add(
        "--rows",
        type=int,
        metavar="N",
        help="rows at once in a process: fewer need less memory, and change nothing else",
    )
    add("--optimizer", choices=["muon", "adamw"], help="muon needs whole matrices: one process, or ddp")
    add(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="the largest; it rises for a fiftieth of the steps, then falls",
    )
    add(
        "--seed",
        type=int,
        metavar="N",
        help="of the first parameters, the order of the text and the samples (default: 0)",
    )
    add(
        "--processes",
        type=int,
        metavar="N",
        default=1,
        help="start that many here; torchrun starts them on several machines",
    )
    add("--parallel", choices=["ddp", "fsdp", "tensor", "pipeline"],
        help="what several processes share: rows (ddp), rows and memory (fsdp), each layer (tensor), the layers "
             "(pipeline); default: ddp")  # fmt: skip
    add("--tensor", type=int, metavar="N", help="with fsdp: so many processes share one tensor-parallel model "
        "(default: 1)")  # fmt: skip
    add("--save-every", type=int, metavar="N", help="steps between checkpoints (default: 100)")
    add("--judge-every", type=int, metavar="N", help="steps between evaluations on held-out text (default: 100)")
    add("--characters", type=int, metavar="N", help="how much held-out text is judged (default: 150000)")
    add("--tokenizer", type=Path, metavar="PATH", help="a tokenizer.json to use instead of learning one")
    add("--plain", action="store_true", help="no bfloat16, fused or compiled paths")
    return parser


if __name__ == "__main__":
    sys.exit(main())
