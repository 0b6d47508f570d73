"""An adapter alone on disk, in the layout of the peft package: some kilobytes that make a model another one.

    folder  =  adapter_config.json (rank, alpha, places)  ·  adapter_model.safetensors (A and B of every place)

peft reads what is written here, and what it writes is read here, as long as the base model is the same. Everything is
compared before anything is changed: the configuration with what our layers can do, names and shapes with the model's.

Paper:   Hu et al. 2021, arXiv:2106.09685; the layout is that of Mangrulkar et al. 2022, "PEFT",
         https://github.com/huggingface/peft.
Names:   peft's `r`, `lora_alpha`, `lora_dropout`, `use_rslora` are our rank, alpha, dropout, rslora; its `lora_A` is
         our `a_rd`, its `lora_B` our `b_fr`.
Differs: `target_modules` lists full names, where peft's users often give endings or a pattern; both packages read
         either. The rank of a place is read from its tensors. Pickles (adapter_model.bin) are not read.
Next:    minillm/adaptation/adapters.py
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minillm.adaptation.lora import Change, LoRAConfig, adapted_layer, check_name, lora_layers, refuse_merged, use_lora
from minillm.core.files import write_atomically
from minillm.core.tensor_files import StoredTensors, write_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
_ENDINGS = {False: (".lora_A.weight", ".lora_B.weight"), True: (".lora_embedding_A", ".lora_embedding_B")}
# Fields that say nothing about the numbers; any other one that is set to something stands for a thing we lack.
_KNOWN = {
    *("peft_type", "peft_version", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out", "revision"),
    *("base_model_name_or_path", "auto_mapping", "task_type", "inference_mode", "init_lora_weights"),
    *("megatron_core", "qalora_group_size"),
}
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal")  # the others change the base's weights too


def save_lora(model: nn.Module, folder: str | os.PathLike[str], name: str = "default") -> None:
    """Write one adapter of a model, without the model. The folder is made if it is missing.

    >>> import tempfile
    >>> from minillm.adaptation.lora import add_lora
    >>> model, twin = nn.Sequential(nn.Linear(5, 3)), nn.Sequential(nn.Linear(5, 3))
    >>> _ = add_lora(model, "0", rank=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_lora(model, folder)
    ...     load_lora(twin, folder)
    ['0']
    """
    changes = {place: layer.changes[name] for place, layer in lora_layers(model).items() if name in layer.changes}
    if not changes:
        raise ValueError(f"name={name!r} is no adapter of this model; add_lora(model, pattern, name={name!r}) makes it")
    tensors, configs = {}, {}
    for place, change in changes.items():
        assert isinstance(change, Change)
        configs[place] = change.config
        a, b = _ENDINGS[isinstance(model.get_submodule(place), nn.Embedding)]
        tensors[PREFIX + place + a], tensors[PREFIX + place + b] = change.a_rd, change.b_fr
    fields = _fields(configs)
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_tensors(Path(folder) / WEIGHTS, tensors, {"format": "pt"})
    write_atomically(Path(folder) / CONFIG, json.dumps(fields, indent=2))


def load_lora(model: nn.Module, folder: str | os.PathLike[str], name: str = "default") -> list[str]:
    """Read an adapter and put it into use under `name`; the places that it changes are returned.

    As after `add_lora`, it alone learns from then on. Raises ValueError, before anything is changed, for a
    configuration that asks for what our layers cannot do, for names that the model lacks and shapes that do not fit.
    """
    check_name(name)
    refuse_merged(model)
    folder = Path(folder)
    fields = _read_fields(folder / CONFIG)
    stored = StoredTensors(folder / WEIGHTS)
    plan: dict[str, Change] = {}
    for place, (a, b) in _pairs(stored).items():
        module = _place(model, place, name)
        config = _config(fields, place, stored.shape(a)[0], os.fspath(folder / CONFIG))
        d, f = (module.num_embeddings, module.embedding_dim) if isinstance(module, nn.Embedding) else (
            module.in_features, module.out_features)  # fmt: skip
        for tensor, shape in ((a, (config.rank, d)), (b, (f, config.rank))):
            if stored.shape(tensor) != shape:
                raise ValueError(f"tensor {tensor!r} has shape {stored.shape(tensor)}, but {place!r} of this model "
                                 f"takes {shape}")  # fmt: skip
        plan[place] = Change(config, _numbers(stored, a, module.weight), _numbers(stored, b, module.weight))
    for place, change in plan.items():
        adapted_layer(model, place).put(name, change)
    use_lora(model, name)
    return list(plan)


def _fields(configs: dict[str, LoRAConfig]) -> dict[str, Any]:
    """peft's words for the configurations of all places: the most common one, and who departs from it."""
    (common, _), *_ = Counter(configs.values()).most_common()
    if len({(config.dropout, config.rslora) for config in configs.values()}) > 1:
        raise ValueError("the places of this adapter differ in dropout or rslora, and the layout has one of each: "
                         "save them as adapters of their own names")  # fmt: skip
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": common.rank,
        "lora_alpha": common.alpha,
        "lora_dropout": common.dropout,
        "use_rslora": common.rslora,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": list(configs),
        "rank_pattern": {f"^{place}": c.rank for place, c in configs.items() if c.rank != common.rank},
        "alpha_pattern": {f"^{place}": c.alpha for place, c in configs.items() if c.alpha != common.alpha},
    }


def _read_fields(path: Path) -> dict[str, Any]:
    where = f"path={os.fspath(path)!r}"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror}); an adapter's folder holds {CONFIG}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}); save the adapter again") from None
    if not isinstance(fields, dict) or fields.get("peft_type") != "LORA":
        kind = fields.get("peft_type") if isinstance(fields, dict) else type(fields).__name__
        raise ValueError(f"{where} has peft_type={kind!r}; only 'LORA' is read here")
    for field, value in fields.items():
        if field not in _KNOWN and value not in (None, False, "none") and value != {} and value != []:
            raise ValueError(f"{where} asks for {field}={value!r}, which our layers cannot do; without it they can")
    if fields.get("init_lora_weights") not in _PLAIN_STARTS:
        raise ValueError(f"{where} has init_lora_weights={fields['init_lora_weights']!r}, which changed the base "
                         "model's weights too; convert the adapter with peft first")  # fmt: skip
    return fields


def _config(fields: dict[str, Any], place: str, rank: int, where: str) -> LoRAConfig:
    """What the fields say about one place."""
    alpha = fields.get("lora_alpha", 8)  # peft's own default
    pattern = fields.get("alpha_pattern") or {}
    if not isinstance(pattern, dict):
        raise ValueError(f"path={where!r} has alpha_pattern={pattern!r}; it must be an object from names to numbers")
    for key, value in pattern.items():
        plain = key.removeprefix("^").removesuffix("$").replace("\\.", ".")
        if not all(character.isalnum() or character in "._-" for character in plain):
            raise ValueError(f"path={where!r} has {key!r} in alpha_pattern; names are read here, other patterns not")
        if place == plain or (not key.startswith("^") and place.endswith("." + plain)):
            alpha = value
            break  # the first that matches, as in peft
    try:
        return LoRAConfig(rank=rank, alpha=alpha, dropout=fields.get("lora_dropout") or 0.0,
                          rslora=bool(fields.get("use_rslora")))  # fmt: skip
    except (ValueError, TypeError) as error:
        raise ValueError(f"path={where!r}: {error}") from None


def _pairs(stored: StoredTensors) -> dict[str, tuple[str, str]]:
    """Every place with the names of its two tensors."""
    ending_of = {ending: endings for endings in _ENDINGS.values() for ending in endings}
    pairs: dict[str, tuple[str, str]] = {}
    for name in stored.names:
        ending = next((ending for ending in ending_of if name.endswith(ending)), None)
        if ending is None or not name.startswith(PREFIX):
            raise ValueError(f"path={os.fspath(stored.path)!r} holds {name!r}, which is no part of a plain LoRA "
                             f"adapter: names begin with {PREFIX!r} and end with {', '.join(ending_of)}")  # fmt: skip
        place = name.removeprefix(PREFIX).removesuffix(ending)
        a, b = (PREFIX + place + each for each in ending_of[ending])
        if missing := [each for each in (a, b) if each not in stored.names]:
            raise ValueError(f"path={os.fspath(stored.path)!r} holds {name!r} but not {missing[0]!r}; it needs both")
        if len(stored.shape(a)) != 2 or not stored.shape(a)[0]:
            raise ValueError(f"tensor {a!r} has shape {stored.shape(a)}; the rule is (rank, width), such as (8, 64)")
        pairs[place] = (a, b)
    return pairs


def _place(model: nn.Module, place: str, name: str) -> nn.Linear | nn.Embedding:
    there = dict(model.named_modules())
    module = there.get(place)
    if not isinstance(module, nn.Linear | nn.Embedding):
        names = [n for n, each in there.items() if isinstance(each, nn.Linear | nn.Embedding)]
        raise ValueError(f"the adapter changes {place!r}, which this model lacks or which is neither nn.Linear nor "
                         f"nn.Embedding; it has {', '.join(names[:8])}{' …' if names[8:] else ''}")  # fmt: skip
    if place in (layers := lora_layers(model)) and name in layers[place].changes:
        raise ValueError(f"{place!r} has an adapter called {name!r} already; take another name, or remove_lora first")
    return module


def _numbers(stored: StoredTensors, name: str, like: Tensor) -> Tensor:
    tensor = stored.read(name)
    if not tensor.is_floating_point():
        raise ValueError(f"tensor {name!r} has dtype={tensor.dtype}; weights are floating-point numbers")
    return torch.empty_like(tensor, dtype=like.dtype, device=like.device).copy_(tensor)
