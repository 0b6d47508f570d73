"""Is this text worth learning from? A handful of countable features, each with a limit and a reason in words.

    keep(text)  ⇔  no rule objects                    `why_not` names the first rule that does

| feature | limit | what it stops |
|---|---|---|
| words, counting the + and = of a sum | ≥ 5 | fragments |
| readable characters (letters, digits, spaces, common marks) | ≥ 0.9 | broken encodings, drawings made of signs |
| mean word length (words in Latin letters) | 2 … 10 | code, run-together text |
| tokens (between spaces) with a letter or digit, or inside a sum | ≥ 0.7 | rows of signs |
| function words (the, and, of, …), texts of ≥ 20 English words | ≥ 0.06 | lists of keywords, menus |
| most frequent word, function words aside | ≤ 0.3 | one word over and over |
| words inside a run of 4 words that was there before | ≤ 0.6 | one sentence over and over |
| surprise of the letters, nats, texts of ≥ 20 letters | ≤ 3.5 | random letters |
| letters in capitals, texts of ≥ 10 words | ≤ 0.7 | shouting |

The letters' surprise is the cross-entropy of each letter given the one before, under counts from the course's own
stories. It is CCNet's idea, a language model as the judge of quality, with the smallest language model there is.

Paper:   Rae et al. 2021, "Scaling Language Models" (Gopher), §A.1.1, arXiv:2112.11446 (most of the rules); Wenzek et
         al. 2020, "CCNet", arXiv:1911.00359 (a model's perplexity as a filter).
Differs: the limits suit texts from five words up; Gopher begins at fifty. A Chinese character counts as a word, and
         rules about English letters and function words ask only texts that are written in Latin letters.
Next:    minillm/text/noise.py
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from minillm.text.normalise import split_words

_FUNCTION = """a an the and or but if of to in on at by for from with as into than then so not no is are was were be
been has have had do does did will would can could it its he she they we you i his her their our my your
this that these those there who which what when where how"""
_FUNCTION_WORDS = frozenset(_FUNCTION.split())
_MARKS = ".,;:!?'\"()-/%&+=*<>$#@"
_READABLE_ASCII = bytes(c for c in range(128) if chr(c).isalnum() or chr(c).isspace() or chr(c) in _MARKS)
_UNREADABLE = re.compile(f"[^\\w\\s{re.escape(_MARKS)}–—…。，、；：？！“”‘’（）《》·€£¥°]|[\ufffd_]")
_OPERATOR = re.compile(r"(?<=\d) [-+*/=×÷−] (?=\d)")
_ONLY_SIGNS = re.compile(r"(?<!\S)(?:[^\w\s]|_)+(?!\S)")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ɏ]+")
_CAPITALS = re.compile(r"[A-Z]")


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityConfig:
    """The limits of the rules; see the table above."""

    words: int = 5
    readable: float = 0.9
    shortest_mean_word: float = 2.0
    longest_mean_word: float = 10.0
    wordlike: float = 0.7
    function_words: float = 0.06
    one_word: float = 0.3
    repeated: float = 0.6
    surprise: float = 3.5
    capitals: float = 0.7


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """The features of one text. Shares lie in 0 … 1; `surprise` is in nats a letter, 0 where there are few letters."""

    words: int
    latin_words: int
    readable: float
    mean_word: float
    wordlike: float
    function_words: float
    one_word: float
    repeated: float
    surprise: float
    capitals: float

    @property
    def mostly_latin(self) -> bool:
        """Whether rules about English words and letters apply."""
        return self.latin_words >= 0.6 * self.words


def measure_quality(text: str) -> Quality:
    """Count the features of a text.

    >>> q = measure_quality("The cat sat on the mat, and the dog lay in the sun.")
    >>> q.words, round(q.function_words, 2), q.repeated
    (13, 0.54, 0.0)
    """
    words = split_words(text)
    sums = len(_OPERATOR.findall(text))
    n = len(words) + sums
    latin = _LATIN_WORD.findall(text)
    tokens = len(text.split())
    counts = Counter(words)
    function_words = sum(count for word, count in counts.items() if word in _FUNCTION_WORDS)
    top = max((count for word, count in counts.items() if word not in _FUNCTION_WORDS), default=0)
    letters = sum(map(len, latin))
    return Quality(
        words=n,
        latin_words=len(latin),
        readable=1 - _unreadable(text) / len(text) if text else 0.0,
        mean_word=letters / len(latin) if latin else 0.0,
        wordlike=min(1.0, 1 - (len(_ONLY_SIGNS.findall(text)) - sums) / tokens) if tokens else 0.0,
        function_words=function_words / n if n else 0.0,
        one_word=top / n if n else 0.0,
        repeated=_repeated_share(words),
        surprise=letter_surprise(text) if letters >= 20 else 0.0,
        capitals=len(_CAPITALS.findall(text)) / letters if letters else 0.0,
    )


def why_not(text: str, config: QualityConfig | None = None) -> str | None:
    """The first rule that a text breaks, in words, or None when it is fit to learn from.

    >>> why_not("The ferry was late again, so Mira sold the bread on the quay.") is None
    True
    >>> why_not("cheap shoes cheap boots best price shoes " * 5)
    'words inside a repeated run: 0.80 > 0.6'
    """
    rule, q = config or QualityConfig(), measure_quality(text)
    if q.words < rule.words:
        return f"words: {q.words} < {rule.words}"
    if q.readable < rule.readable:
        return f"readable characters: {q.readable:.2f} < {rule.readable}"
    if q.wordlike < rule.wordlike:
        return f"tokens with a letter or digit: {q.wordlike:.2f} < {rule.wordlike}"
    if q.repeated > rule.repeated:
        return f"words inside a repeated run: {q.repeated:.2f} > {rule.repeated}"
    if q.words >= 10 and q.one_word > rule.one_word:
        return f"share of one word: {q.one_word:.2f} > {rule.one_word}"
    if not q.mostly_latin:
        return None
    if not rule.shortest_mean_word <= q.mean_word <= rule.longest_mean_word:
        return f"mean word length: {q.mean_word:.1f} not in {rule.shortest_mean_word} … {rule.longest_mean_word}"
    if q.surprise > rule.surprise:
        return f"surprise of the letters: {q.surprise:.2f} > {rule.surprise} nats"
    if q.words >= 10 and q.capitals > rule.capitals:
        return f"capitals: {q.capitals:.2f} > {rule.capitals}"
    if q.words >= 20 and q.function_words < rule.function_words:
        return f"function words: {q.function_words:.2f} < {rule.function_words}"
    return None


def letter_surprise(text: str) -> float:
    """−log p of each letter given the one before, in nats, the mean over the text; ASCII letters, case and marks aside.

    >>> letter_surprise("a quiet evening by the harbour") < letter_surprise("xq jzv kqpw vvhg zzk wqx")
    True
    """
    code_n = _letter_codes(text)
    if code_n.size < 2:
        return 0.0
    pairs = code_n[:-1].astype(np.intp) * 27 + code_n[1:]
    return float(_pair_surprise()[pairs].mean())


def _unreadable(text: str) -> int:
    if text.isascii():
        return len(text.encode().translate(None, _READABLE_ASCII))
    return len(_UNREADABLE.findall(text))


def _letter_codes(text: str) -> NDArray[np.uint8]:
    """0 for what is no letter (one 0 for a run of it), 1 … 26 for the letters."""
    byte_n = np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8) | np.uint8(32)
    code_n = np.where((byte_n >= 97) & (byte_n <= 122), byte_n - np.uint8(96), np.uint8(0))
    keep_n = np.ones(code_n.size, dtype=bool)
    keep_n[1:] = (code_n[1:] != 0) | (code_n[:-1] != 0)
    return code_n[keep_n]


@cache
def _pair_surprise() -> NDArray[np.float64]:
    """−log p(second | first) for the 27 · 27 pairs, counts from the stories plus one half."""
    from minillm.text.stories import load_stories

    code_n = _letter_codes("\n".join(" ".join(story.sentences) for story in load_stories()))
    pairs = code_n[:-1].astype(np.intp) * 27 + code_n[1:]
    count = np.bincount(pairs, minlength=27 * 27).reshape(27, 27) + 0.5
    return -np.log(count / count.sum(axis=1, keepdims=True)).ravel()


def _repeated_share(words: list[str], run: int = 4) -> float:
    """The share of words that lie inside a run of `run` words that stood earlier in the text."""
    seen: set[tuple[str, ...]] = set()
    covered = bytearray(len(words))
    for i in range(len(words) - run + 1):
        gram = tuple(words[i : i + run])
        if gram in seen:
            covered[i : i + run] = b"\x01" * run
        seen.add(gram)
    return sum(covered) / len(words) if words else 0.0
