"""Lines that no one wrote: rows of signs, broken encodings, encoded files, dumps of memory, a key held down.

    noise(line)  ⇔  one of six rules about its characters says so                    `why_noise` names the rule

A document can be good and still hold such a line, so this looks at lines, and `quality` at documents. A rule asks for
what no language does: to write with signs alone, to repeat one letter ten times, to put an accent on most letters, to
run on without a space through capitals, small letters and digits, to count in twos with letters.

Paper:   the rules on signs and letters are those of Rae et al. 2021, "Scaling Language Models" (Gopher), §A.1.1,
         arXiv:2112.11446, asked of a line in place of a document.
Differs: lines with fewer than five visible characters are never noise: "* * *" parts two scenes.
Next:    minillm/text/boilerplate.py
"""

import re

from minillm.text.normalise import HAN
from minillm.text.quality import letter_surprise

_FUNCTION_WORD = re.compile(r" (?:the|an?|and|of|to|in|is|was|on|at|for|with|he|she|it|his|her|that|not|had|have|but) ")
_VISIBLE = re.compile(r"\S")
_LETTERS_OR_DIGITS = re.compile(r"[^\W_]")
_HAN = re.compile(f"[{HAN}]")
_HELD_KEY = re.compile(r"([^\W\d_])\1{9,}")
_PLAIN_LATIN = re.compile(r"[A-Za-z]")
_BROKEN = re.compile("[\u0080-\u00ff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u20ac\u2122\ufffd]")
_ENCODED = re.compile(r"(?<!\S)(?=\S*[a-z])(?=\S*[A-Z])(?=\S*\d)[A-Za-z0-9+/_-]{24,}={0,2}(?!\S)")
_DUMP = re.compile(r"(?:(?:0x)?(?:[0-9a-f]{2}|[0-9a-f]{4}|[0-9a-f]{8})[\s:,-]+){7,}(?:0x)?[0-9a-f]+", re.IGNORECASE)
_MAX_SURPRISE = 3.9  # nats a letter; prose has 2.0 … 2.4, odd names up to 3.8, random letters about 5


def why_noise(line: str) -> str | None:
    """The rule by which a line is noise, in words, or None for a line of text.

    >>> why_noise("#@~*=%$^&|~*=")
    'signs'
    >>> why_noise("The bakery sells 2 cakes @ 3 coins each.") is None
    True
    """
    if line.isascii() and line.count(" ") >= 4 and 8 * len(_FUNCTION_WORD.findall(line)) > line.count(" "):
        return None  # so many small words are language; most lines end here
    visible = len(_VISIBLE.findall(line))
    if visible < 5:
        return None
    letters_or_digits = len(_LETTERS_OR_DIGITS.findall(line))
    broken = 0 if line.isascii() else len(_BROKEN.findall(line))
    if broken > 0.5 * visible:
        return "broken encoding"
    if letters_or_digits < 0.35 * visible and not any(c.isdigit() for c in line):
        return "signs"
    if letters_or_digits < 0.2 * visible:
        return "signs"
    if _HAN.search(line):
        return None
    if sum(len(run[0]) for run in _HELD_KEY.finditer(line)) > 0.5 * visible:
        return "one letter"
    if sum(len(run[0]) for run in _ENCODED.finditer(line)) > 0.5 * visible:
        return "encoded data"
    if (dump := _DUMP.search(line)) and len(dump[0]) > 0.7 * len(line) and _letters_and_digits(dump[0]):
        return "memory dump"
    plain = len(_PLAIN_LATIN.findall(line))
    if plain >= 30 and plain > 0.6 * letters_or_digits and letter_surprise(line) > _MAX_SURPRISE:
        return "random letters"
    return None


def remove_noise(text: str) -> str:
    r"""The text without its lines of noise.

    >>> remove_noise("Mira waited.\nzzzzzzzzzzzzzzzzzzzz\nNobody came.")
    'Mira waited.\nNobody came.'
    """
    lines = text.split("\n")
    kept = [line for line in lines if why_noise(line) is None]
    return text if len(kept) == len(lines) else "\n".join(kept).strip("\n")


def _letters_and_digits(dump: str) -> bool:
    """A dump has both; a row of two-digit numbers has no letters, and is a row of numbers."""
    dump = dump.lower().replace("0x", "")
    return any(c in "abcdef" for c in dump) and any(c.isdigit() for c in dump)
