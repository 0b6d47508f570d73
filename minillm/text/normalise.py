"""One spelling for one text: the same letters, spaces, line ends and quotes, whatever wrote the file.

    normalise(text) = tidy spaces ∘ NFC ∘ fold look-alikes ∘ drop invisible characters        (idempotent)

Unicode has four normal forms. We take **NFC**: it only joins what means the same (e + ´ becomes é). **NFKC** also
replaces what merely looks alike, and that changes meaning: x² becomes x2, ½ becomes 1⁄2, and the Chinese comma ，
becomes an English one. So of NFKC's work we do the part that is safe in running text, and no more: ligatures
(ﬁ to fi), full-width letters and digits (Ａ１ to A1), and the many kinds of space.

Paper:   The Unicode Consortium, "Unicode Normalization Forms", Unicode Standard Annex #15.
Differs: invisible and control characters are dropped; curly quotes, the one-character ellipsis and odd hyphens
         become ASCII in lines without Chinese, because “……” is how Chinese is written; indentation is not kept.
Next:    minillm/text/markup.py
"""

import re
import unicodedata

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Chinese characters, for use inside a regex class

_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Controls, soft hyphen, zero-width space, direction marks, word joiner, byte order mark. The two joiners U+200C and
# U+200D stay: Persian, Hindi and emoji are spelled with them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
_HAS_HAN = re.compile(f"[{HAN}]")
_FOLD = {c: unicodedata.normalize("NFKC", chr(c)) for c in range(0xFB00, 0xFB07)}  # ff fi fl ffi ffl st
_FOLD |= {c: chr(c - 0xFEE0) for c in range(0xFF01, 0xFF5F) if chr(c - 0xFEE0).isalnum()}
_QUOTES = {ord(c): '"' for c in "“”„‟″«»"} | {ord(c): "'" for c in "‘’‚‛′"}
_QUOTES |= {ord("…"): "...", ord("\u2010"): "-", ord("\u2011"): "-"}
_SPACES = re.compile(r" [^\S\n]+|[^\S\n ][^\S\n]*")  # every run but the single plain space, which is right already
_AROUND_LINE_END = re.compile(r" ?\n ?")
_EMPTY_LINES = re.compile(r"\n{3,}")
_WORDS = re.compile(f"[{HAN}]|[^\\W_{HAN}]+(?:['’][^\\W_{HAN}]+)*")
_EDGE_APOSTROPHE = re.compile(r"(?<![a-z0-9])'|'(?![a-z0-9])")
_ASCII_WORDS = bytes(c if chr(c).isalnum() or c == ord("'") else ord(" ") for c in range(128)) + bytes(128)


def normalise(text: str) -> str:
    r"""The text in one spelling: NFC, visible characters, single spaces, `\n`, ASCII quotes outside Chinese lines.

    At most one empty line stays between paragraphs; spaces at the ends of lines and of the text go.

    >>> normalise("\ufeffIt’s\u00a0 a  ﬁne\u200b day…\r\n")
    "It's a fine day..."
    >>> normalise("他说：“１０点了……”")
    '他说：“10点了……”'
    >>> normalise("5 m² is not 5 m2")
    '5 m² is not 5 m2'
    """
    if not text.isascii() or _LINE_ENDS.search(text) or _INVISIBLE.search(text):
        text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
        text = unicodedata.normalize("NFC", text.translate(_FOLD))
        if _HAS_HAN.search(text):
            lines = text.split("\n")
            text = "\n".join(line if _HAS_HAN.search(line) else line.translate(_QUOTES) for line in lines)
        else:
            text = text.translate(_QUOTES)
    text = _SPACES.sub(" ", text)
    if " \n" in text or "\n " in text:
        text = _AROUND_LINE_END.sub("\n", text)
    return _EMPTY_LINES.sub("\n\n", text).strip()


def split_words(text: str) -> list[str]:
    """The words of a text for counting and comparing: lower case, without punctuation; a Chinese character is a word.

    >>> split_words("Don't stop, Mira: 12 boats! 你好")
    ["don't", 'stop', 'mira', '12', 'boats', '你', '好']
    """
    text = text.lower()
    if not text.isascii():
        return _WORDS.findall(text)
    if "'" in text:
        text = _EDGE_APOSTROPHE.sub(" ", text)
    return text.encode().translate(_ASCII_WORDS).decode().split()  # the same, several times as fast
