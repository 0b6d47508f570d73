"""Vocabularies on disk: bytes written as visible characters, so that a vocabulary is JSON that a person can read.

    byte → character: a byte that prints in Latin-1 stands for itself, the others take U+0100, U+0101, … in turn

A space is "Ġ" and a line end is "Ċ" in this writing. GPT-2's `vocab.json` (token → id) and `merges.txt` (one merge a
line, in the order learned) use it, and so do the files of `BPETokenizer.save`. Files are read as data: nothing is run.

Paper:   Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", §2.2; the writing is that of the
         code released with it.
Differs: every file is checked as it is read, and an error names the file and the place.
Next:    minillm/text/bpe.py
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PRINTS = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_OTHERS = [byte for byte in range(256) if byte not in _PRINTS]
_CHARACTER_OF = [chr(byte) if byte in _PRINTS else chr(256 + _OTHERS.index(byte)) for byte in range(256)]
_BYTE_OF = {character: byte for byte, character in enumerate(_CHARACTER_OF)}


def as_characters(token: bytes) -> str:
    """Write bytes as GPT-2's visible characters.

    >>> as_characters(" né\\n".encode())
    'ĠnÃ©Ċ'
    """
    return "".join([_CHARACTER_OF[byte] for byte in token])


def as_bytes(characters: str) -> bytes:
    """Read what `as_characters` wrote; a character that stands for no byte is a ValueError.

    >>> as_bytes("ĠnÃ©Ċ").decode()
    ' né\\n'
    """
    try:
        return bytes([_BYTE_OF[character] for character in characters])
    except KeyError as error:
        raise ValueError(f"token {characters!r}: character {error.args[0]!r} stands for no byte") from None


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object from a UTF-8 file; anything else is a ValueError that names the file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.json").write_text('{"a": 1}')
    ...     read_json(Path(folder, "a.json"))
    {'a': 1}
    """
    try:
        found = json.loads(Path(path).read_bytes(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:  # ValueError: bad UTF-8, bad JSON and a key that stands twice
        raise ValueError(f"{os.fspath(path)} is not sound JSON: {error}; is it the right file, and whole?") from None
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise ValueError(f"{os.fspath(path)} holds a {kind}, not a JSON object {{…}}; is it the right file?")
    return found


def read_saved(path: str | os.PathLike[str], format_name: str, lists: Sequence[str]) -> dict[str, Any]:
    """Read a tokenizer's JSON file and check its format's name and that each key in `lists` holds a list.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.json").write_text('{"format": "mine-1", "words": []}')
    ...     read_saved(Path(folder, "a.json"), "mine-1", lists=["words"])
    {'format': 'mine-1', 'words': []}
    """
    saved = read_json(path)
    if saved.get("format") != format_name:
        raise ValueError(
            f"{os.fspath(path)} has format={saved.get('format')!r}, but {format_name!r} is read here; "
            "load it with the class that saved it"
        )
    for key in lists:
        if not isinstance(saved.get(key), list):
            raise ValueError(f"{os.fspath(path)} has no list {key!r}; save the tokenizer again")
    return saved


def read_gpt2(
    vocab_path: str | os.PathLike[str], merges_path: str | os.PathLike[str], special_tokens: Sequence[str] | None
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]], list[str]]:
    """Read GPT-2's two files as (vocab, merges, special tokens); see `BPETokenizer.from_gpt2`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vocab, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
    ...     _ = vocab.write_text('{"Ġ": 0, "a": 1, "Ġa": 2, "<end>": 3}', encoding="utf-8")
    ...     _ = merges.write_text("#version: 0.2\\nĠ a\\n", encoding="utf-8")
    ...     read_gpt2(vocab, merges, None)
    ({0: b' ', 1: b'a', 2: b' a', 3: b'<end>'}, [(b' ', b'a')], ['<end>'])
    """
    merges: list[tuple[bytes, bytes]] = []
    lines = Path(merges_path).read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise ValueError(
                f"{os.fspath(merges_path)}, line {number}: {line!r} must be two tokens and a space between"
            )
        try:
            merges.append((as_bytes(parts[0]), as_bytes(parts[1])))
        except ValueError as error:
            raise ValueError(f"{os.fspath(merges_path)}, line {number}: {error}") from None

    ids = read_json(vocab_path)
    made = {as_characters(left + right) for left, right in merges} | _BYTE_OF.keys()
    special = [text for text in ids if text not in made] if special_tokens is None else list(special_tokens)
    are_special = set(special)
    vocab: dict[int, bytes] = {}
    for text, token in ids.items():
        if type(token) is not int or token < 0 or token in vocab:
            raise ValueError(
                f"{os.fspath(vocab_path)}: {text!r} has id {token!r}, which must be an integer ≥ 0 of its own"
            )
        try:
            vocab[token] = text.encode() if text in are_special else as_bytes(text)
        except ValueError as error:
            raise ValueError(f"{os.fspath(vocab_path)}: {error}; name it in special_tokens if it is one") from None
    return vocab, merges, special


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands twice in one object")
        found[key] = value
    return found
