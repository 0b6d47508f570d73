"""Speakers on disk: what was trained can be talked to tomorrow, and says the same to the same.

    speaker.json            what it is, which folder holds its parts, the size and the hash of each of them
    parts-1f8a05c27d3e/     its weights, its words, its counts, its script

The parts are written first, into a folder of a name that was never used; speaker.json is renamed into place last. So
whatever is killed in between, the speaker of before or the new one can be loaded, whole. Everything in these files is
data: JSON, safetensors, ARPA and Eliza's script. Nothing of it is ever run.

Paper:   write, fsync, rename: Pillai et al. 2014, "All File Systems Are Not Created Equal", OSDI.
Differs: two programs must not save into one folder at the same time; reading meanwhile is safe.
Next:    minillm/conversation.py
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minillm.adaptation.chat_template import ChatTemplate
from minillm.alignment.reward import RewardModel
from minillm.attention.positions import RopeScaling
from minillm.core.files import sync_folder, write_atomically
from minillm.core.tensor_files import StoredTensors, write_tensors
from minillm.neural.feedforward import FeedForwardConfig, FeedForwardLM
from minillm.neural.language_model import LanguageModel
from minillm.neural.recurrent import RecurrentConfig, RecurrentLM
from minillm.speaker import Speaker
from minillm.speakers import BestOfSpeaker, ChatSpeaker, ElizaSpeaker, NGramSpeaker, TextSpeaker
from minillm.statistical.ngram import NGramModel
from minillm.text import bpe
from minillm.text.bpe import BPETokenizer
from minillm.text.token_files import read_json
from minillm.text.tokenizer import CharTokenizer, WordTokenizer
from minillm.transformer.decoder import Decoder, DecoderConfig
from minillm.transformer.moe import MoEConfig

FORMAT, VERSION, CARD = "minillm-speaker", 1, "speaker.json"
_PARTS = re.compile(r"parts-[0-9a-f]{12}")
_SETTINGS = {  # what a kind of speaker has beside its texts and its parts, all whole numbers
    "eliza": (),
    "ngram": ("longest",),
    "text": ("end", "longest"),
    "chat": ("longest",),
    "best-of": ("longest", "n"),
}
_NETWORKS: dict[str, tuple[type[Any], type[Any], str | None]] = {  # its class, its configuration, what counts layers
    "feedforward": (FeedForwardLM, FeedForwardConfig, None),
    "recurrent": (RecurrentLM, RecurrentConfig, "layers"),
    "decoder": (Decoder, DecoderConfig, "n_layer"),
}
_TOKENIZERS = {bpe.FORMAT: BPETokenizer, CharTokenizer.FORMAT: CharTokenizer, WordTokenizer.FORMAT: WordTokenizer}


def save_speaker(speaker: Speaker, folder: str | os.PathLike[str]) -> None:
    """Write a speaker into a folder, whole or not at all; what was saved there before is replaced.

    Takes the speakers of `minillm.speakers`; a language model must be a plain FeedForwardLM, RecurrentLM or Decoder,
    what was added to it merged or removed. Raises ValueError for others, OSError when the disk refuses.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_speaker(ElizaSpeaker(name="the listener"), folder)
    ...     load_speaker(folder).name
    'the listener'
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = folder / f"parts-{secrets.token_hex(6)}"
    parts.mkdir()
    try:
        kind = _write_parts(speaker, parts)
        sync_folder(parts)
        sync_folder(folder)
        owner = {"longest": speaker.speaker} if isinstance(speaker, BestOfSpeaker) else {}
        card = {
            "format": FORMAT,
            "version": VERSION,
            "kind": kind,
            "name": speaker.name,
            "about": speaker.about,
            "suggestions": list(speaker.suggestions),
            "settings": {name: getattr(owner.get(name, speaker), name) for name in _SETTINGS[kind]},
            "parts": parts.name,
            "files": {file.relative_to(parts).as_posix(): _mark(file) for file in _files(parts)},
        }
        write_atomically(folder / CARD, json.dumps(card, indent=1, ensure_ascii=False))
    except BaseException:
        shutil.rmtree(parts, ignore_errors=True)
        raise
    for old in folder.iterdir():  # of before, or of a program that was killed while it saved
        if _PARTS.fullmatch(old.name) and old.name != parts.name:
            shutil.rmtree(old, ignore_errors=True)


def load_speaker(folder: str | os.PathLike[str]) -> Speaker:
    """The speaker that `save_speaker` wrote: with the same generator it says the same.

    Raises ValueError, with the folder and the reason, for what is missing, cut, changed, foreign or from a newer
    version.
    """
    folder = Path(folder)
    where = f"folder={os.fspath(folder)!r}"
    if not (folder / CARD).is_file():
        raise ValueError(f"{where} holds no {CARD}, so nobody to talk to; save_speaker(speaker, folder) writes one")
    try:
        card = read_json(folder / CARD)
        kind, settings, parts = _understood(card, folder)
        texts = {"name": card["name"], "about": card["about"], "suggestions": tuple(card["suggestions"])}
        if not all(isinstance(text, str) for text in (texts["name"], texts["about"], *texts["suggestions"])):
            raise ValueError("name, about and suggestions must be texts")
        speaker = _read_parts(kind, settings, parts, texts)
        speaker.mark = parts.name
        return speaker
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{CARD} has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{where} holds no speaker that can be loaded: {why}; save it again") from None


def _understood(card: Mapping[str, Any], folder: Path) -> tuple[str, dict[str, int], Path]:
    """Kind, settings and the folder of the parts, after every file was compared with its size and its hash."""
    if card.get("format") != FORMAT:
        raise ValueError(f"{CARD} has format={card.get('format')!r}, and a speaker's is {FORMAT!r}")
    if card["version"] != VERSION:
        raise ValueError(f"{CARD} has version={card['version']!r}, and this minillm reads {VERSION}: a newer one wrote "
                         "it, and can read it")  # fmt: skip
    if (kind := card["kind"]) not in _SETTINGS:
        raise ValueError(f"{CARD} has kind={kind!r}; known: {', '.join(_SETTINGS)}")
    settings = {name: card["settings"][name] for name in _SETTINGS[kind]}
    for name, value in settings.items():
        if type(value) is not int or value < (name != "end"):
            raise ValueError(f"{CARD} has {name}={value!r}, which must be a whole number; {name}=40 works")
    if not isinstance(card["parts"], str) or not _PARTS.fullmatch(card["parts"]):
        raise ValueError(f"{CARD} has parts={card['parts']!r}; the rule is a folder beside it, parts-… ")
    parts = folder / card["parts"]
    there = {file.relative_to(parts).as_posix(): file for file in _files(parts)}
    for name, promised in card["files"].items():
        if name not in there:
            raise ValueError(f"{name!r} is missing")
        size = there[name].stat().st_size
        if size != promised["bytes"]:
            raise ValueError(f"{name!r} was cut or changed: it has {size:,} bytes, not {promised['bytes']:,}")
        if _mark(there[name]) != promised:
            raise ValueError(f"{name!r} was changed: its content is not what was saved")
    return kind, settings, parts


def _write_parts(speaker: Speaker, parts: Path) -> str:
    """Write what a speaker is made of, and give its kind."""
    match speaker:
        case ElizaSpeaker():
            write_atomically(parts / "eliza.script", speaker.script)
            return "eliza"
        case NGramSpeaker():
            speaker.model.to_arpa(parts / "ngram.arpa")
            return "ngram"
        case TextSpeaker():
            _write_network(speaker.model, parts)
            _write_tokenizer(speaker.tokenizer, parts)
            return "text"
        case ChatSpeaker():
            _write_network(speaker.model, parts)
            _write_tokenizer(speaker.template.tokenizer, parts)
            return "chat"
        case BestOfSpeaker():
            _write_parts(speaker.speaker, parts)
            speaker.reward.save(parts / "reward")
            return "best-of"
    known = ", ".join(kind.__name__ for kind in (ElizaSpeaker, NGramSpeaker, TextSpeaker, ChatSpeaker, BestOfSpeaker))
    raise ValueError(f"speaker is a {type(speaker).__name__}; the rule is one of {known}")


def _read_parts(kind: str, settings: Mapping[str, int], parts: Path, texts: dict[str, Any]) -> Speaker:
    if kind == "eliza":
        return ElizaSpeaker((parts / "eliza.script").read_text("utf-8"), **texts)
    longest = settings["longest"]
    if kind == "ngram":
        return NGramSpeaker(NGramModel.from_arpa(parts / "ngram.arpa"), longest=longest, **texts)
    model, tokenizer = _read_network(parts), _read_tokenizer(parts)
    if kind == "text":
        return TextSpeaker(model, tokenizer, settings["end"], longest=longest, **texts)
    if not isinstance(model, Decoder):
        raise ValueError(f"a chat model is a Decoder, and model.json describes a {type(model).__name__}")
    if kind == "chat":
        return ChatSpeaker(model, ChatTemplate(tokenizer), longest=longest, **texts)
    speaker = ChatSpeaker(model, ChatTemplate(tokenizer), longest=longest)
    return BestOfSpeaker(speaker, RewardModel.load(parts / "reward"), settings["n"], **texts)


def _write_network(model: LanguageModel, parts: Path) -> None:
    name = next((name for name, (network, _, _) in _NETWORKS.items() if type(model) is network), None)
    if name is None:
        raise ValueError(f"model is a {type(model).__name__}; the rule is a FeedForwardLM, RecurrentLM or Decoder")
    network, config = _NETWORKS[name][0], getattr(model, "config")  # noqa: B009
    with torch.device("meta"):
        plain = _tensors(network(config))
    tensors = _tensors(model)
    if strange := sorted(tensors.keys() ^ plain.keys()):
        raise ValueError(f"model has or lacks {strange[0]!r}, unlike a plain {type(model).__name__}; merge and remove "
                         "what was added to it before it is saved")  # fmt: skip
    write_tensors(parts / "model.safetensors", tensors)
    write_atomically(parts / "model.json", json.dumps({"network": name, "config": asdict(config)}, indent=1))


def _read_network(parts: Path) -> LanguageModel:
    described, stored = read_json(parts / "model.json"), StoredTensors(parts / "model.safetensors")
    if described["network"] not in _NETWORKS:
        raise ValueError(f"model.json has network={described['network']!r}; known: {', '.join(_NETWORKS)}")
    network, config_of, layers = _NETWORKS[described["network"]]
    given = dict(described["config"])
    for name, kind in (("rope_scaling", RopeScaling), ("moe", MoEConfig)):
        if given.get(name) is not None:
            given[name] = kind(**given[name])
    if strange := sorted(given.keys() ^ {field.name for field in fields(config_of)}):
        raise ValueError(f"model.json has or lacks {strange[0]!r}, unlike this minillm's {config_of.__name__}")
    config = config_of(**given)
    if layers and getattr(config, layers) > len(stored.names):  # before anything is built
        raise ValueError(f"model.json says {layers}={getattr(config, layers)} of {len(stored.names)} tensors")
    with torch.device("meta"):  # sizes, without memory
        wanted = {name: tuple(tensor.shape) for name, tensor in _tensors(network(config)).items()}
    found = {name: stored.shape(name) for name in stored.names}
    if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        raise ValueError(f"tensor {wrong[0]!r} has shape {found.get(wrong[0])}, but model.json asks for "
                         f"{wanted.get(wrong[0])} (None: not there)")  # fmt: skip
    model = network(config).to(stored.read(stored.names[0]).dtype)
    with torch.no_grad():
        for name, tensor in _tensors(model).items():
            tensor.copy_(stored.read(name))
    return model.eval()


def _tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once: a table that two places share has one name."""
    twins = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    twins -= {name for name, _ in model.named_parameters()}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in twins}


def _write_tokenizer(tokenizer: object, parts: Path) -> None:
    if not isinstance(tokenizer, BPETokenizer | CharTokenizer | WordTokenizer):
        raise ValueError(f"tokenizer is a {type(tokenizer).__name__}; the rule is one of minillm.text")
    tokenizer.save(parts / "tokenizer.json")


def _read_tokenizer(parts: Path) -> Any:
    format_name = read_json(parts / "tokenizer.json").get("format")
    if format_name not in _TOKENIZERS:
        raise ValueError(f"tokenizer.json has format={format_name!r}; known: {', '.join(_TOKENIZERS)}")
    return _TOKENIZERS[format_name].load(parts / "tokenizer.json")


def _files(parts: Path) -> list[Path]:
    return sorted(file for file in parts.rglob("*") if file.is_file())


def _mark(file: Path) -> dict[str, Any]:
    """Size and hash: what a file must still have when it is read."""
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
