"""Texts that others publish: fetched once, checked byte for byte, kept in a cache, and never half-written.

    accept(bytes)  ⇔  len(bytes) = size  and  SHA-256(bytes) = sha256         both known before anything is fetched

The whole text is held in memory until it is checked; only then a file is made, under another name, and renamed. A
process that is killed at any moment leaves either no file under the final name or the right one. The size is a limit,
too: a server that sends more is cut off at the first byte too many.

Paper:   FIPS 180-4, "Secure Hash Standard" (SHA-256).
Next:    minillm/text/corpus.py
"""

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from minillm.core.files import write_atomically

_CHUNK = 1 << 16
_SECONDS = 20.0  # to wait for a server that does not answer


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicText:
    """Where a public text is, and how to know that it is the right one: `size` in bytes, `sha256` in hex."""

    address: str
    size: int
    sha256: str
    licence: str

    def __post_init__(self) -> None:
        if not self.address.startswith(("https://", "http://127.0.0.1:")):  # plain http only for tests on this machine
            raise ValueError(f"address={self.address!r} must begin with https://")
        if self.size <= 0 or len(self.sha256) != 64:
            raise ValueError(f"size={self.size} must be positive and sha256={self.sha256!r} must have 64 hex digits")


PUBLIC_TEXTS: dict[str, PublicText] = {
    "tinyshakespeare": PublicText(
        address="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        size=1_115_394,
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        licence="public domain",
    ),
}


def cache_folder() -> Path:
    """Where fetched texts are kept: $MINILLM_CACHE, or `minillm` in the user's cache folder.

    >>> isinstance(cache_folder(), Path)
    True
    """
    if chosen := os.environ.get("MINILLM_CACHE"):
        return Path(chosen)
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "minillm" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minillm"


def fetch_public_text(name: str) -> Path:
    """The file with a public text, from the cache or else from its address. The file is checked every time.

    Raises ValueError when the text cannot be had: it says what was wanted, from where, and where to put it by hand.

    >>> fetch_public_text("shakespear")
    Traceback (most recent call last):
    ValueError: name='shakespear' is not a public text known here; known: tinyshakespeare
    """
    if name not in PUBLIC_TEXTS:
        raise ValueError(f"{name=} is not a public text known here; known: {', '.join(sorted(PUBLIC_TEXTS))}")
    wanted = PUBLIC_TEXTS[name]
    path = cache_folder() / f"{name}.txt"
    by_hand = (
        f"Or put the file there by hand: take {wanted.address} ({wanted.size:,} bytes, SHA-256 {wanted.sha256}) "
        f"and save it as {path}."
    )
    if path.is_file():
        if wrong := _what_is_wrong(path.read_bytes(), wanted):
            raise ValueError(f"{path} is not the text {name!r}: {wrong}. Delete it and load again. {by_hand}")
        return path
    try:
        data = _download(wanted)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # an answer such as 404 holds its connection open
        reason = getattr(error, "reason", None) or error
        raise ValueError(
            f"the text {name!r} is not in the cache and could not be fetched from {wanted.address}: {reason}. "
            f"Try again when the machine is online. {by_hand}"
        ) from error
    if wrong := _what_is_wrong(data, wanted):
        raise ValueError(f"{wanted.address} did not send the text {name!r}: {wrong}. Nothing was saved. {by_hand}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    return path


def _download(wanted: PublicText) -> bytes:
    request = urllib.request.Request(wanted.address, headers={"User-Agent": "minillm-course"})
    data = bytearray()
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        while chunk := answer.read(min(_CHUNK, wanted.size + 1 - len(data))):  # at most one byte too many
            data += chunk
    return bytes(data)


def _what_is_wrong(data: bytes, wanted: PublicText) -> str | None:
    if len(data) > wanted.size:
        return f"it has more than the {wanted.size:,} bytes that it should have"
    if len(data) < wanted.size:
        return f"it ends at byte {len(data):,} of {wanted.size:,}"
    if (found := hashlib.sha256(data).hexdigest()) != wanted.sha256:
        return f"its SHA-256 is {found}"
    return None
