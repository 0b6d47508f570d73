"""Published weights in and out: the folder of GPT-2, Llama or BERT that anybody can download, without their program.

    folder  =  config.json (the sizes)  ·  model.safetensors, or several and an index (the tensors)

Everything is compared before anything is copied: the configuration with what a model can be made of, the names with
those that the configuration asks for, every shape with its parameter's. A file can be wrong; it cannot run.

Paper:   the checkpoints of Radford et al. 2019 (GPT-2), Touvron et al. 2023 (Llama), Devlin et al. 2019 (BERT), in the
         layout of the transformers package: Wolf et al. 2020, arXiv:1910.03771.
Differs: the weights become float32 unless another `dtype` is asked for. A tied last matrix must equal the embedding.
Next:    minillm/training/loop.py
"""

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minillm.core.files import write_atomically
from minillm.core.tensor_files import StoredTensors, write_sharded
from minillm.transformer.decoder import Decoder, DecoderConfig
from minillm.transformer.hub import model_folder
from minillm.transformer.layouts import LAYOUTS, Entry, Fields, Layout

CONFIG = "config.json"
_UNSAID = ("seed", "dropout")  # no part of what a model computes, so a layout need not say them


def load_pretrained(folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32) -> Decoder:
    """Make the model that a folder describes, with its weights, in evaluation mode.

    `folder` holds config.json and model.safetensors (or shards), or is the name of a hub model. Raises ValueError for
    what is missing, extra, of the wrong shape, damaged or not supported, with its name.

    >>> import tempfile
    >>> from minillm.transformer.decoder import llama
    >>> model = Decoder(llama(vocabulary=11, context=8, n_layer=1, n_head=2, d_model=4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(model, folder, layout="llama")
    ...     again = load_pretrained(folder)
    >>> bool((again.embedding.weight == model.embedding.weight).all())
    True
    """
    path = model_folder(folder)
    layout, config = _read_config(path)
    stored = StoredTensors(path)
    if config.n_layer > len(stored.names):
        raise ValueError(f"path={os.fspath(path / CONFIG)!r} says n_layer={config.n_layer}, but there are only "
                         f"{len(stored.names)} tensors")  # fmt: skip
    with torch.device("meta"):  # sizes, without memory: a hostile config.json must not fill it
        shell = Decoder(config)
    plan = _plan(layout, config, stored, shell)
    model = Decoder(config).to(dtype)
    _copy(plan, stored, model)
    return model.eval()


def save_pretrained(
    model: Decoder, folder: str | os.PathLike[str], layout: str = "llama", *, largest: int = 5_000_000_000
) -> None:
    """Write a model so that the transformers package, and `load_pretrained`, can read it.

    `layout` is one of "gpt2", "llama", "mistral". Weights of more than `largest` bytes are cut into several files.
    Raises ValueError, with the fields, when the layout has no words for what the model is.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r} is not known; known: {', '.join(LAYOUTS)}")
    fields = LAYOUTS[layout].write_config(model.config)
    _check_said(layout, model.config, fields)
    own = dict(model.named_parameters(remove_duplicate=False))
    tensors = {}
    for entry in LAYOUTS[layout].entries(model.config):
        if entry.theirs == LAYOUTS[layout].score and model.config.tied:
            continue
        joined = torch.cat([own[name].detach() for name in entry.ours])
        tensors[entry.theirs] = joined.T if entry.turned else joined
    fields["dtype"] = fields["torch_dtype"] = str(model.embedding.weight.dtype).removeprefix("torch.")
    write_sharded(folder, tensors, largest)
    write_atomically(Path(folder) / CONFIG, json.dumps(fields, indent=2))


def _read_config(path: Path) -> tuple[Layout, DecoderConfig]:
    where = f"path={os.fspath(path / CONFIG)!r}"
    try:
        fields = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror}); a model's folder holds {CONFIG}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}); fetch it again") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{where} must hold an object with fields such as 'model_type', not {type(fields).__name__}")
    layout = Fields(fields, where).one_of("model_type", LAYOUTS)
    try:
        return layout, layout.read_config(Fields(fields, where))
    except ValueError as error:
        said = str(error)
        raise ValueError(said if said.startswith(where) else f"{where}: {said}") from None


def _plan(layout: Layout, config: DecoderConfig, stored: StoredTensors, shell: nn.Module) -> list[tuple[str, Entry]]:
    """Which stored tensor is which entry, after every name and shape was compared."""
    sizes = {name: tuple(parameter.shape) for name, parameter in shell.named_parameters(remove_duplicate=False)}
    bare = not any(name.startswith(layout.prefix) for name in stored.names)  # the trunk alone leaves the prefix out
    plan, missing, known = [], [], set()
    for entry in layout.entries(config):
        name = entry.theirs.removeprefix(layout.prefix) if bare else entry.theirs
        known.add(name)
        if name not in stored.names:
            if not (entry.theirs == layout.score and config.tied):
                missing.append(name)
            continue
        wanted = _stored_shape(entry, sizes)
        if stored.shape(name) != wanted:
            raise ValueError(f"tensor {name!r} has shape {stored.shape(name)}, but {CONFIG} asks for {wanted}")
        plan.append((name, entry))
    where = f"path={os.fspath(stored.path)!r}"
    if missing:
        raise ValueError(f"{where} lacks {_some(missing)}, which {CONFIG} asks for; it holds {_some(stored.names)}")
    extra = [name for name in stored.names if name not in known and not re.fullmatch(layout.ignored, name)]
    if extra:
        raise ValueError(f"{where} holds {_some(extra)}, for which the model of {CONFIG} has no place")
    return plan


def _stored_shape(entry: Entry, sizes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    parts = [sizes[name] for name in entry.ours]
    joined = (sum(part[0] for part in parts), *parts[0][1:])
    return joined[::-1] if entry.turned else joined


@torch.no_grad()
def _copy(plan: list[tuple[str, Entry]], stored: StoredTensors, model: Decoder) -> None:
    own = dict(model.named_parameters(remove_duplicate=False))
    for name, entry in plan:
        tensor = stored.read(name)
        tensor = tensor.T if entry.turned else tensor
        if not tensor.is_floating_point():
            raise ValueError(f"tensor {name!r} has dtype={tensor.dtype}; weights are floating-point numbers")
        if model.config.tied and entry.ours == ("score.weight",):
            _check_tied(name, tensor, model.embedding.weight)
            continue
        parts = tensor.split([own[part].shape[0] for part in entry.ours])
        for part, piece in zip(entry.ours, parts, strict=True):
            own[part].copy_(piece)


def _check_tied(name: str, tensor: Tensor, embedding: Tensor) -> None:
    if not torch.equal(tensor.to(embedding.dtype), embedding):
        raise ValueError(f"tensor {name!r} differs from the embedding, but {CONFIG} says that the two are tied; "
                         "'tie_word_embeddings': false would keep both")  # fmt: skip


def _check_said(layout: str, config: DecoderConfig, fields: dict[str, Any]) -> None:
    """Raise ValueError unless the layout, read back, gives the same model: what cannot be said is named."""
    try:
        again: DecoderConfig | None = LAYOUTS[layout].read_config(Fields(fields, "written"))
    except ValueError as error:
        raise ValueError(f"layout={layout!r} cannot hold this model: {error}") from None
    ours, theirs = _resolved(config), _resolved(again)
    wrong = [
        f"{name}={ours[name]!r} (it would be read as {theirs[name]!r})" for name in ours if ours[name] != theirs[name]
    ]
    if wrong:
        raise ValueError(f"layout={layout!r} has no words for {', '.join(wrong)}; known layouts: {', '.join(LAYOUTS)}")


def _resolved(config: DecoderConfig) -> dict[str, Any]:
    """The fields of a configuration with every None replaced by what it stands for."""
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    block = config.block
    fields |= {"n_kv_head": block.attention.kv_heads, "head_width": block.attention.width, "d_hidden": block.d_hidden}
    if config.norm_eps is None:
        fields["norm_eps"] = 1e-6 if config.norm == "rms" else 1e-5
    if config.positions != "rope":
        fields["rope_base"] = None
    return {name: value for name, value in fields.items() if name not in _UNSAID}


def _some(names: list[str], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
