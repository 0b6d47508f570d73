"""Pre-tokens: text is first cut into words, numbers, marks and spaces, and no later step joins what was cut here.

    text = special | piece | special | piece | ...        piece = pre-token + pre-token + ...

A special token such as "<|endoftext|>" is found first, anywhere in the text, and is never cut. Between special
tokens GPT-2's pattern cuts the rest. A pre-token takes at most one space with it, at its front: " cat" is one piece.

Paper:   Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", §2.2 (merges stay inside
         character categories); the pattern is that of the code released with it.
Names:   a special token here is an "added token" of other libraries.
Differs: letters are tried before contractions. The two cannot start with the same character, so the cuts are
         the same, and the commonest case is tried first. `pre_tokens_of_chunks` has no counterpart there.
         What counts as a letter follows the Unicode version of the regex package, so libraries of different age
         may cut around a character that was assigned in between.
Next:    minillm/text/tokenizer.py
"""

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import regex

GPT2_PATTERN = regex.compile(
    r" ?\p{L}+"  # letters of any script, with the space before them
    r"|'(?:[sdmt]|ll|ve|re)"  # the endings of English contractions: 's 'd 'm 't 'll 've 're
    r"| ?\p{N}+"  # digits and other numbers
    r"| ?[^\s\p{L}\p{N}]+"  # a run of marks
    r"|\s+(?!\S)"  # spaces, but the last one is left for the word that follows
    r"|\s+"
)
# The same for text in ASCII, where each class is a short list: the standard library's engine is then faster.
ASCII_PATTERN = re.compile(
    r" ?[A-Za-z]+|'(?:[sdmt]|ll|ve|re)| ?[0-9]+| ?[^A-Za-z0-9 \t-\r]+|[ \t-\r]+(?![^ \t-\r])|[ \t-\r]+"
)
SCAN = 1 << 16  # characters that a stream gathers before it is cut


def pre_tokens(text: str) -> list[str]:
    """Cut `text` by GPT-2's pattern; the pieces put together are the text.

    >>> pre_tokens("It's 2 cats,  no?")
    ['It', "'s", ' 2', ' cats', ',', ' ', ' no', '?']
    """
    return (ASCII_PATTERN if text.isascii() else GPT2_PATTERN).findall(text)


def special_pattern(special_tokens: Sequence[str]) -> "regex.Pattern[str] | None":
    """A pattern that finds any of the special tokens, the longest first; None when there are none.

    >>> special_pattern(["<a>", "<a><b>"]).split("x<a><b>y")
    ['x', '<a><b>', 'y']
    """
    if not special_tokens:
        return None
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return regex.compile("(" + "|".join(map(regex.escape, longest_first)) + ")")


def checked_special_tokens(special_tokens: Sequence[str]) -> tuple[str, ...]:
    """Return the special tokens as a tuple if each is a text, none is empty and none stands twice.

    >>> checked_special_tokens(["<s>", "</s>"])
    ('<s>', '</s>')
    """
    if isinstance(special_tokens, str):
        raise ValueError(f"special_tokens={special_tokens!r} must be a sequence of texts, such as [{special_tokens!r}]")
    for place, token in enumerate(special_tokens):
        if not isinstance(token, str) or not token or token in special_tokens[:place]:
            raise ValueError(
                f"special_tokens[{place}]={token!r} must be a text that is not empty and stands only once; "
                "for example ['<|endoftext|>']"
            )
        checked_text(token)
    return tuple(special_tokens)


def split_at_special(text: str, pattern: "regex.Pattern[str] | None") -> list[str]:
    """Cut `text` so that the pieces at odd places are special tokens and those at even places are plain text.

    >>> split_at_special("one<|end|>two", special_pattern(["<|end|>"]))
    ['one', '<|end|>', 'two']
    """
    return [text] if pattern is None else pattern.split(text)


def pre_tokens_of_chunks(
    chunks: Iterable[str], special_tokens: Sequence[str] = ()
) -> Iterator[tuple[list[str], str | None]]:
    """Cut a stream of chunks, wherever the chunks were cut, as the whole text would be cut.

    Yields (pre-tokens, the special token after them or None). Holds in memory what it has not yet been able to
    cut: a few times 65,536 characters, or a few times the longest chunk or pre-token where that is more.

    >>> list(pre_tokens_of_chunks(["It", "'", "s on", "e<", "end>"], ["<end>"]))
    [(['It', "'s", ' one'], '<end>'), ([], None)]
    """
    special = special_pattern(special_tokens)
    longest = max(map(len, special_tokens), default=1)
    waiting: list[str] = []
    size, scan_at = 0, SCAN
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size < scan_at:
            continue
        text, start = "".join(waiting), 0
        if special is not None:
            for match in special.finditer(text):
                if match.start() + longest > len(text):  # a longer special token may begin here
                    break
                yield pre_tokens(text[start : match.start()]), match.group()
                start = match.end()
        # A special token that begins in the last `longest - 1` characters may be incomplete, so stop before it. Then
        # the last two pre-tokens may still change: "'" + "l" becomes "'ll" when another l follows.
        words = pre_tokens(text[start : max(start, len(text) - longest + 1)])[:-2]
        yield words, None
        rest = text[start + sum(map(len, words)) :]
        waiting, size = [rest], len(rest)
        scan_at = max(SCAN, 2 * size)  # so that a very long pre-token is not scanned again for every chunk
    *pieces, last = split_at_special("".join(waiting), special)
    for plain, token in zip(pieces[::2], pieces[1::2], strict=True):
        yield pre_tokens(plain), token
    yield pre_tokens(last), None


def checked_text(text: str, offset: int = 0) -> str:
    """Return `text` if UTF-8 can hold it; `offset` is where it begins in a longer text.

    A lone surrogate (half of a UTF-16 pair) is a code point but not a character, and has no UTF-8 form.

    >>> checked_text("caf\\ud800")
    Traceback (most recent call last):
    ValueError: text[3]='\\ud800' is a lone surrogate, which UTF-8 cannot hold; \
repair the text first, for example text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
    """
    if text.isascii():  # a flag of the string: costs nothing
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text[{offset + error.start}]={text[error.start]!r} is a lone surrogate, which UTF-8 cannot hold; "
            "repair the text first, for example text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from None
    return text


def checked_chunks(chunks: Iterable[str]) -> Iterator[str]:
    """Pass chunks on after `checked_text`, with offsets counted from the start of the first.

    >>> list(checked_chunks(["a", "b"]))
    ['a', 'b']
    """
    offset = 0
    for chunk in chunks:
        yield checked_text(chunk, offset)
        offset += len(chunk)


def file_chunks(path: Path, size: int = 1 << 20) -> Iterator[str]:
    """Read a UTF-8 file in pieces of about `size` bytes, line ends as they are.

    Bytes that are not UTF-8 are a ValueError that names the file and the place.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_bytes("naïve".encode())
    ...     list(file_chunks(Path(folder, "a.txt"), size=3))
    ['na', 'ïve']
    """
    decoder, read = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while True:
            data = file.read(size)
            pending = len(decoder.getstate()[0])  # the first bytes of a character that was cut
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path} is not UTF-8 at byte {read - pending + error.start} ({error.reason}); "
                    "convert the file to UTF-8 first"
                ) from None
            read += len(data)
            if text:
                yield text
            if not data:
                return
