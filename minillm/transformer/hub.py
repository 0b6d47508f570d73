"""A named model of the hub: fetched once, with progress, and only files that are data.

    model_folder("gpt2")  →  the folder with config.json and model.safetensors, on this disk

The hub keeps models under names such as "gpt2" or "meta-llama/Llama-3.2-1B". Beside the weights a repository may hold
pickles and programs; only JSON, safetensors and word lists are ever asked for. Without a network, the message says
which files to fetch by hand and where to put them.

Paper:   the hub's own client, https://huggingface.co/docs/huggingface_hub; it fetches, resumes and keeps the cache.
Next:    minillm/transformer/pretrained.py
"""

import os
import re
from pathlib import Path

FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)


def model_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of a model: `name` itself when it is one, else that of the named hub model, fetched if need be.

    Raises ValueError when there is neither, with what to fetch and where to put it.

    >>> model_folder("no such folder")
    Traceback (most recent call last):
    ValueError: name='no such folder' is neither a folder here nor a name that the hub allows, such as 'gpt2'
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    written = os.fspath(name)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", written):
        raise ValueError(f"name={written!r} is neither a folder here nor a name that the hub allows, such as 'gpt2'")
    by_hand = (
        f"Or by hand: take config.json and model.safetensors (or all model-…-of-….safetensors and "
        f"model.safetensors.index.json) from https://huggingface.co/{written}/tree/main, put them into a folder, "
        f"{written.split('/')[-1]!r} say, and give the folder's path"
    )
    try:
        from huggingface_hub import snapshot_download  # an extra: nobody needs it who has the files
    except ImportError:
        raise ValueError(
            f"name={written!r} is not a folder here, and fetching a hub model needs one more package: "
            f"pip install 'minillm-course[hub]'. {by_hand}"
        ) from None
    try:
        return Path(snapshot_download(written, allow_patterns=list(FILES)))
    except Exception as error:  # the client has a dozen kinds of its own; each means that the files are not here
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"name={written!r} is not a folder here and cannot be fetched ({type(error).__name__}: "
            f"{reason[0] if reason else 'no reason given'}). {by_hand}"
        ) from error
