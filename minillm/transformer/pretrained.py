"""Published weights in and out: the folder of GPT-2, Llama or BERT that anybody can download, without their program.

    folder  =  config.json (the sizes)  ·  model.safetensors, or several and an index (the tensors)

Everything is compared before anything is copied: the configuration with what a model can be made of, the names with
those that the configuration asks for, every shape with its parameter's. A file can be wrong; it cannot run.

Paper:   the checkpoints of Radford et al. 2019 (GPT-2), Touvron et al. 2023 (Llama), Devlin et al. 2019 (BERT), in the
         layout of the transformers package: Wolf et al. 2020, arXiv:1910.03771.
Differs: the weights become float32 unless another `dtype` is asked for. A tied last matrix must equal the embedding.
Next:    minillm/training/loop.py
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minillm.core.files import write_atomically
from minillm.core.tensor_files import StoredTensors, write_sharded
from minillm.transformer.hub import model_folder
from minillm.transformer.layout import Entry, Fields, Layout
from minillm.transformer.layouts_bert import BERT_LAYOUTS
from minillm.transformer.layouts_decoder import DECODER_LAYOUTS

CONFIG = "config.json"
LAYOUTS: dict[str, Layout] = DECODER_LAYOUTS | BERT_LAYOUTS
_LAYERS = ("n_layer", "num_hidden_layers", "num_local_experts")


def load_pretrained(folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32) -> Any:
    """Make the model that a folder describes, with its weights, in evaluation mode.

    `folder` holds config.json and model.safetensors (or shards), or is the name of a hub model. A `Decoder` comes from
    GPT-2, Llama, Mistral and Mixtral; from BERT a `MaskedLM`, `Encoder`, `TextClassifier` or `Tagger`, as its
    configuration says. Raises ValueError for what is missing, extra, of the wrong shape, damaged or not supported, with
    its name.

    >>> import tempfile
    >>> from minillm.transformer.decoder import Decoder, llama
    >>> model = Decoder(llama(vocabulary=11, context=8, n_layer=1, n_head=2, d_model=4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(model, folder, layout="llama")
    ...     again = load_pretrained(folder)
    >>> bool((again.embedding.weight == model.embedding.weight).all())
    True
    """
    path = model_folder(folder)
    fields = _fields(path)
    layout, make = _understood(fields)
    stored = StoredTensors(path)
    parts = 1
    for name in _LAYERS:  # before anything is built: a hostile number of layers must not take the whole day
        if fields.fields.get(name) is not None and (parts := parts * (n := fields.size(name))) > len(stored.names):
            raise ValueError(f"{fields.where} says {name}={n}, but there are only {len(stored.names)} tensors")
    with torch.device("meta"):  # sizes, without memory: a hostile width must not fill it
        shell = make()
    plan = _plan(layout, stored, shell)
    model = make().to(dtype)
    _copy(plan, stored, model)
    return model.eval()


def save_pretrained(
    model: nn.Module, folder: str | os.PathLike[str], layout: str = "llama", *, largest: int = 5_000_000_000
) -> None:
    """Write a model so that the transformers package, and `load_pretrained`, can read it.

    `layout` is "gpt2", "llama", "mistral" or "mixtral" for a `Decoder`; "bert" for a `MaskedLM`, "bert-trunk",
    "bert-classifier" or "bert-tagger" for the others. Weights of more than `largest` bytes are cut into several files.
    Raises ValueError when the layout has no words for what the model is, before anything is written.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r} is not known; known: {', '.join(LAYOUTS)}")
    try:
        fields = LAYOUTS[layout].write(model)
        places = list(LAYOUTS[layout].entries(model))
        entries = [entry for entry in places if entry.written and not entry.tied]
        named = {name for entry in places for name in entry.ours}
        if nameless := [name for name, _ in model.named_parameters() if name not in named]:
            raise ValueError(f"it has no word for {_some(nameless)} (what was added must be merged and removed first)")
    except (ValueError, AttributeError) as error:  # AttributeError: a model of another kind
        raise ValueError(f"layout={layout!r} cannot hold this {type(model).__name__}: {error}; known layouts: "
                         f"{', '.join(LAYOUTS)}") from None  # fmt: skip
    own = dict(model.named_parameters(remove_duplicate=False))
    tensors = {}
    for entry in entries:
        joined = torch.cat([own[name].detach() for name in entry.ours])
        tensors[entry.theirs] = joined.T if entry.turned else joined
    fields["torch_dtype"] = str(next(model.parameters()).dtype).removeprefix("torch.")
    write_sharded(folder, tensors, largest)
    write_atomically(Path(folder) / CONFIG, json.dumps(fields, indent=2))


def _fields(path: Path) -> Fields:
    where = f"path={os.fspath(path / CONFIG)!r}"
    try:
        fields = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror}); a model's folder holds {CONFIG}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}); fetch it again") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{where} must hold an object with fields such as 'model_type', not {type(fields).__name__}")
    return Fields(fields, where)


def _understood(fields: Fields) -> tuple[Layout, Callable[[], nn.Module]]:
    """The layout of a configuration, and what builds its model."""
    model_type = fields.one_of("model_type", {layout.model_type: layout.model_type for layout in LAYOUTS.values()})
    family = [layout for layout in LAYOUTS.values() if layout.model_type == model_type]
    layout = family[0]
    if layout.architectures:
        named = fields.fields.get("architectures")
        first = named[0] if isinstance(named, list) and named else named
        kinds = Fields({"architectures": first}, fields.where)
        layout = kinds.one_of("architectures", {name: kind for kind in family for name in kind.architectures})
    try:
        return layout, layout.make(fields)
    except ValueError as error:
        said = str(error)
        raise ValueError(said if said.startswith(fields.where) else f"{fields.where}: {said}") from None


def _plan(layout: Layout, stored: StoredTensors, shell: nn.Module) -> list[tuple[str, Entry]]:
    """Which stored tensor is which entry, after every name and shape was compared."""
    sizes = {name: tuple(parameter.shape) for name, parameter in shell.named_parameters(remove_duplicate=False)}
    now = {_today(layout, name): name for name in stored.names}
    bare = not any(name.startswith(layout.prefix) for name in now)  # the trunk alone leaves the prefix out
    plan, missing, known = [], [], set()
    for entry in layout.entries(shell):
        wanted = entry.theirs.removeprefix(layout.prefix) if bare else entry.theirs
        known.add(wanted)
        if wanted not in now:
            if entry.needed and not entry.tied:
                missing.append(wanted)
            continue
        name, shape = now[wanted], _stored_shape(entry, sizes)
        if stored.shape(name) != shape:
            raise ValueError(f"tensor {name!r} has shape {stored.shape(name)}, but {CONFIG} asks for {shape}")
        plan.append((name, entry))
    where = f"path={os.fspath(stored.path)!r}"
    if missing:
        raise ValueError(f"{where} lacks {_some(missing)}, which {CONFIG} asks for; it holds {_some(stored.names)}")
    extra = [name for today, name in now.items() if today not in known and not re.fullmatch(layout.ignored, today)]
    if extra:
        raise ValueError(f"{where} holds {_some(extra)}, for which the model of {CONFIG} has no place")
    return plan


def _today(layout: Layout, name: str) -> str:
    """The name as it is today, for endings of earlier years."""
    for before, after in layout.renamed:
        if name.endswith(before):
            return name.removesuffix(before) + after
    return name


def _stored_shape(entry: Entry, sizes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    parts = [sizes[name] for name in entry.ours]
    joined = (sum(part[0] for part in parts), *parts[0][1:])
    return joined[::-1] if entry.turned else joined


@torch.no_grad()
def _copy(plan: list[tuple[str, Entry]], stored: StoredTensors, model: nn.Module) -> None:
    own = dict(model.named_parameters(remove_duplicate=False))
    for name, entry in sorted(plan, key=lambda step: step[1].tied):  # what is tied is compared with what was copied
        tensor = stored.read(name)
        tensor = tensor.T if entry.turned else tensor
        if not tensor.is_floating_point():
            raise ValueError(f"tensor {name!r} has dtype={tensor.dtype}; weights are floating-point numbers")
        if entry.tied:
            _check_tied(name, tensor, own[entry.ours[0]])
            continue
        parts = tensor.split([own[part].shape[0] for part in entry.ours])
        for part, piece in zip(entry.ours, parts, strict=True):
            own[part].copy_(piece)


def _check_tied(name: str, tensor: Tensor, twin: Tensor) -> None:
    if not torch.equal(tensor.to(twin.dtype), twin):
        raise ValueError(f"tensor {name!r} differs from the one that it is tied to; 'tie_word_embeddings': false "
                         f"in {CONFIG} keeps both, where a model can")  # fmt: skip


def _some(names: list[str], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
