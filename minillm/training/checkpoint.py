"""Checkpoints: a run that was killed at any moment goes on as if nothing had happened, to the last bit.

    step-00000120.json                   what the state is, where each tensor belongs, the hash of both files
    step-00000120-1f8a05c27d3e.safetensors     the tensors, under a name made from their hash

The tensors are written first, under a name that no other content has; the JSON file is renamed into place last, and
only then are older checkpoints removed. So whatever is killed or full in between, the newest JSON file points to a
whole checkpoint. A training step is a function of parameters, the optimiser's memory, the place in the data, the random
generators and the step's number; with all of these put back, the next losses are bit for bit those that would have come
(on the same machine, with the same versions and number of threads).

Paper:   write, fsync, rename: Pillai et al. 2014, "All File Systems Are Not Created Equal", OSDI.
Names:   `state` is a nested dict or list of tensors and plain values, as `state_dict()` gives it.
Differs: nothing is ever unpickled. A damaged checkpoint is an error that names the one before it; it is not skipped in
         silence, because whoever loses hours should know. The disk must hold `keep + 1` checkpoints for a moment.
Next:    minillm/training/token_batches.py
"""

import errno
import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from minillm.core.files import sync_folder, write_atomically
from minillm.core.runtime import package_versions
from minillm.core.settings import check_whole_numbers
from minillm.core.tensor_files import WHOLE, StoredTensors, write_tensors
from minillm.training.loop import Step
from minillm.training.state_tree import pack, unpack

FORMAT, VERSION = "minillm-checkpoint", 1
_JSON = re.compile(r"step-(\d{8,})\.json")
_TENSORS = re.compile(r"(step-\d{8,})-[0-9a-f]{12}\.safetensors")
_UNFINISHED = re.compile(r"\.step-\d{8,}\.(unfinished|.*\.part)")


def save_checkpoint(folder: str | os.PathLike[str], state: Mapping[str, Any], *, step: int, keep: int = 2) -> Path:
    """Write the state after `step` steps into `folder`, then remove all but the newest `keep` checkpoints of it.

    Returns the JSON file. Raises ValueError for what is no data (see `pack`) and for a folder that holds a later step
    (another run's), OSError when the disk refuses; what was there before then still is.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for step in (1, 2, 3):
    ...         path = save_checkpoint(folder, {"weight": torch.full((2,), step)}, step=step)
    ...     saved_steps(folder), load_checkpoint(folder)
    ([2, 3], (3, {'weight': tensor([3, 3])}))
    """
    check_whole_numbers({"step": (step, 0)}, least=0)
    check_whole_numbers({"keep": (keep, 2)})
    folder = Path(folder)
    before = saved_steps(folder)
    if before and before[-1] > step:
        raise ValueError(f"{folder} holds a checkpoint of step {before[-1]}, later than step={step}: it is another "
                         "run's. Give another folder, or remove the later checkpoints")  # fmt: skip
    tree, tensors = pack(state)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
        body = {"step": step, "versions": package_versions(), "state": tree}
        if tensors:
            body["tensors"] = _write_tensors(folder, step, tensors)
        head = {"format": FORMAT, "version": VERSION, "sha256": _digest(body), "body": body}
        write_atomically(path := _path(folder, step), json.dumps(head, indent=1))
        _sweep(folder, keep)
    except (OSError, SafetensorError) as error:
        raise _refused(error, folder, step) from error
    return path


def load_checkpoint(folder: str | os.PathLike[str], step: int | None = None) -> tuple[int, Any]:
    """The step and the state of the newest checkpoint in `folder`, or of that of `step`; tensors are on the CPU.

    Every byte is compared with its hash first. Raises ValueError that says what is wrong, and what to do, when there is
    no checkpoint, or it is cut short, changed, of another program or of a later version.
    """
    folder = Path(folder)
    steps = saved_steps(folder)
    if not steps or step not in (None, *steps):
        raise ValueError(_nothing(folder, steps, step))
    chosen = steps[-1] if step is None else step
    try:
        body = _body(_path(folder, chosen), chosen)
        stored = _stored(folder, body)
        return chosen, unpack(body["state"], lambda name: stored[name].clone())
    except ValueError as error:
        older = [other for other in steps if other < chosen]
        instead = (
            f" An older one is there: load_checkpoint(folder, step={older[-1]}); to go on from it, remove "
            f"{_path(folder, chosen).name} first."
            if older
            else " No older one is there: begin again, in another folder."
        )
        raise ValueError(f"{error}.{instead}") from None


def saved_steps(folder: str | os.PathLike[str]) -> list[int]:
    """The steps of which `folder` holds a checkpoint, in order; none when there is no such folder.

    >>> saved_steps("nowhere")
    []
    """
    folder = Path(folder)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(found[1]) for name in names if (found := _JSON.fullmatch(name)))


class Checkpoints:
    """A callback of `train` that saves every `every` steps and after the last, and puts back what it saved.

    `parts` names all that changes while a run goes on: the model, the optimiser, the batches, generators; each has
    `state_dict` and `load_state_dict`, or is a `torch.Generator`. The global generators of torch, numpy and Python are
    kept as well. `settings` are plain values that must be the same when the run goes on: the model's sizes, say.
    `write=False` is for all processes of a distributed run but the first: they help to gather and write nothing.

    >>> import tempfile
    >>> folder, model = tempfile.TemporaryDirectory(), torch.nn.Linear(2, 1)
    >>> checkpoints = Checkpoints(folder.name, {"model": model}, every=10)
    >>> checkpoints.resume()  # nothing there: begin at the beginning
    0
    >>> checkpoints.save(10)
    >>> Checkpoints(folder.name, {"model": torch.nn.Linear(2, 1)}).resume()  # and train(…, start=10)
    10
    >>> folder.cleanup()
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        parts: Mapping[str, Any],
        *,
        every: int = 100,
        keep: int = 2,
        settings: Mapping[str, Any] | None = None,
        write: bool = True,
    ) -> None:
        check_whole_numbers({"every": (every, 100), "keep": (keep, 2)})
        if not parts:
            raise ValueError(f"parts={parts!r} must name something that changes; "
                             "{'model': model, 'optimizer': optimizer, 'batches': batches} works")  # fmt: skip
        for name, part in parts.items():
            both = hasattr(part, "state_dict") and hasattr(part, "load_state_dict")
            if not (both or isinstance(part, torch.Generator)):
                raise ValueError(f"parts[{name!r}] is a {type(part).__name__}, which cannot tell where it stands; "
                                 "state_dict() and load_state_dict() can, as of InTurn or TokenBatches")  # fmt: skip
        self.folder, self.every, self.keep, self.write = Path(folder), every, keep, write
        self.parts = {**parts, "global generators": GlobalRandomness()}
        self.settings, self._known = dict(settings or {}), False

    def resume(self) -> int:
        """Put everything back as it was at the newest checkpoint; return its step, or 0 where there is none."""
        self._known = True
        if not saved_steps(self.folder):
            return 0
        step, state = load_checkpoint(self.folder)
        if not (isinstance(state, dict) and set(state) == {"settings", "parts"}):
            raise ValueError(f"{self.folder}: its checkpoint was not made by Checkpoints; use load_checkpoint")
        for name, ours in self.settings.items():
            if (theirs := state["settings"].get(name)) != ours:
                raise ValueError(f"{self.folder} is of a run with {name}={theirs!r}, this one has {name}={ours!r}; "
                                 "use those settings again, or another folder")  # fmt: skip
        if set(state["parts"]) != set(self.parts):
            raise ValueError(f"{self.folder} holds the parts {sorted(state['parts'])}, this run has "
                             f"{sorted(self.parts)}; give the same parts, or another folder")  # fmt: skip
        for name, part in self.parts.items():
            saved = state["parts"][name]
            part.set_state(saved) if isinstance(part, torch.Generator) else part.load_state_dict(saved)
        return step

    def save(self, step: int) -> None:
        """Save now: everything as it is after `step` steps."""
        state = {
            name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
            for name, part in self.parts.items()
        }
        if self.write:
            save_checkpoint(self.folder, {"settings": self.settings, "parts": state}, step=step, keep=self.keep)

    def __call__(self, row: Step) -> None:
        if not self._known and (steps := saved_steps(self.folder)) and self.write:
            raise ValueError(f"{self.folder} holds a checkpoint of step {steps[-1]}: go on from it with start="
                             "checkpoints.resume(), or give another folder")  # fmt: skip
        self._known = True
        if row.step % self.every == 0 or row.step == row.steps:
            self.save(row.step)


class GlobalRandomness:
    """The generators that all code shares: torch's on CPU and GPU (dropout draws from them), numpy's and Python's.

    >>> state = GlobalRandomness().state_dict()
    >>> first = torch.rand(3)
    >>> GlobalRandomness().load_state_dict(state)
    >>> bool((torch.rand(3) == first).all())
    True
    """

    def state_dict(self) -> dict[str, Any]:
        """Where each of them stands."""
        name, keys, *rest = np.random.get_state(legacy=True)
        state = {"torch": torch.get_rng_state(), "python": random.getstate()}
        state["numpy"] = (name, torch.from_numpy(np.asarray(keys).copy()), *rest)
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["cuda"] = torch.cuda.get_rng_state()
        return state

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Put each of them where it stood."""
        torch.set_rng_state(saved["torch"])
        random.setstate(saved["python"])
        name, keys, *rest = saved["numpy"]
        np.random.set_state((name, keys.numpy(), *rest))
        if "cuda" in saved and torch.cuda.is_available():
            torch.cuda.set_rng_state(saved["cuda"])


def _write_tensors(folder: Path, step: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Write the file of the tensors under the name that its hash gives it: name, size and hash."""
    unfinished = folder / f".step-{step:08d}.unfinished"  # safetensors makes files of any name beside the one it writes
    unfinished.mkdir(exist_ok=True)
    write_tensors(unfinished / WHOLE, tensors, {"format": "pt"})
    sha256 = _sha256_of(unfinished / WHOLE)
    path = folder / f"step-{step:08d}-{sha256[:12]}.safetensors"
    os.replace(unfinished / WHOLE, path)
    shutil.rmtree(unfinished)
    sync_folder(folder)
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256}


def _sweep(folder: Path, keep: int) -> None:
    """Remove all but `keep` checkpoints, JSON first, and files of ours that nothing points to (of a killed save)."""
    steps = saved_steps(folder)
    for step in steps[:-keep]:
        _path(folder, step).unlink(missing_ok=True)
    kept = {path.stem: _tensor_file(path) for path in (_path(folder, step) for step in steps[-keep:])}
    for path in list(folder.iterdir()):
        found = _TENSORS.fullmatch(path.name)
        if path.is_dir() and _UNFINISHED.fullmatch(path.name):
            shutil.rmtree(path)
        elif _UNFINISHED.fullmatch(path.name) or (found and kept.get(found[1], "") not in (None, path.name)):
            path.unlink(missing_ok=True)


def _body(path: Path, step: int) -> dict[str, Any]:
    """What a JSON file says, once it is known to be ours, whole and of a version that is read here."""
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {path.stat().st_size} bytes that are not whole JSON ({error})") from None
    if not (isinstance(head, dict) and head.get("format") == FORMAT and _is_version(head.get("version"))):
        raise ValueError(f"{path} is not a checkpoint of minillm: it has no format {FORMAT!r}; it belongs elsewhere")
    if head["version"] > VERSION:
        raise ValueError(f"{path} is of version {head['version']}, written by a later minillm; this one reads up to "
                         f"version {VERSION}. Update it: pip install --upgrade minillm-course")  # fmt: skip
    body = head.get("body")
    if not isinstance(body, dict) or head.get("sha256") != _digest(body):
        raise ValueError(f"{path} was changed after it was written: its content has not the SHA-256 that it names")
    if body.get("step") != step:
        raise ValueError(f"{path} holds step {body.get('step')!r}; the file was renamed")
    return body


def _is_version(value: Any) -> bool:
    return type(value) is int and value >= 1


def _stored(folder: Path, body: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors by name, from a file that has the size and the hash that the JSON file promises."""
    if "tensors" not in body:
        return {}
    promised = body["tensors"]
    path = folder / promised["file"]
    if not _TENSORS.fullmatch(promised["file"]) or not path.is_file():
        raise ValueError(f"{path} is not there, but {_path(folder, body['step']).name} needs it; copy both files")
    if (size := path.stat().st_size) != promised["bytes"]:
        what = "cut short" if size < promised["bytes"] else "changed"
        raise ValueError(f"{path} has {size:,} bytes, but was written with {promised['bytes']:,}: it was {what}")
    if (found := _sha256_of(path)) != promised["sha256"]:
        raise ValueError(f"{path} is damaged: its SHA-256 begins {found[:12]}, but was {promised['sha256'][:12]}")
    stored = StoredTensors(path)
    return {name: stored.read(name) for name in stored.names}


def _tensor_file(path: Path) -> str | None:
    """The file to which a JSON file points; None where it cannot be read: loading has the words for that."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["body"]["tensors"]["file"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _nothing(folder: Path, steps: list[int], step: int | None) -> str:
    if steps:
        return f"step={step!r} is not in {folder}; it holds the steps {', '.join(map(str, steps))}"
    if not folder.is_dir():
        return f"{folder} is not there; give the folder that save_checkpoint was given"
    held = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    also = f" but {', '.join(held[:3])}{' …' if len(held) > 3 else ''}" if held else ""
    return (
        f"{folder} holds no checkpoint (step-….json){also}. A published model is read by load_pretrained, and a pickle "
        "(.pt, .ckpt), which is a program, not at all"
    )


def _refused(error: Exception, folder: Path, step: int) -> OSError:
    """What the disk refused, and what is still there. The room that half-written files took is given back."""
    steps = saved_steps(folder)
    if folder.is_dir():
        with suppress(OSError):
            _sweep(folder, keep=len(steps) + 1)
    held = f"the checkpoint of step {steps[-1]} is whole" if steps else "no checkpoint was there before"
    free = shutil.disk_usage(folder).free if folder.is_dir() else 0
    told = re.search(r"os error (\d+)", str(error))  # how safetensors passes on what the system said
    return OSError(
        getattr(error, "errno", None) or (int(told[1]) if told else errno.EIO),
        f"step {step} could not be written to {folder} ({error}); {held}. {free / 1e6:,.0f} MB are free: make room, or "
        "keep fewer (keep=1)",
    )


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.json"


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
