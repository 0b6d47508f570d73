"""Chapter 03's checks: right answers pass, and plausible wrong ones get the diagnosis that helps."""

import codecs
import re
from collections import Counter

import pytest

from minillm.course.checks import NotWrittenYet, Wrong, check
from minillm.text import bpe_training, pretokens
from minillm.text.bpe_training import learn_merges
from minillm.text.pretokens import pre_tokens

# --- merge_pair


def merge_with_index(parts, pair):
    merged, i = [], 0
    while i < len(parts):
        step = 2 if tuple(parts[i : i + 2]) == tuple(pair) else 1
        merged.append(b"".join(parts[i : i + step]))
        i += step
    return tuple(merged)


def overlapping(parts, pair):
    """Looks at every place, also at one inside the last join."""
    merged = []
    for i in range(len(parts)):
        if tuple(parts[i : i + 2]) == pair:
            merged.append(parts[i] + parts[i + 1])
        elif i == 0 or tuple(parts[i - 1 : i + 1]) != pair:
            merged.append(parts[i])
    return tuple(merged)


def first_only(parts, pair):
    for i in range(len(parts) - 1):
        if (parts[i], parts[i + 1]) == pair:
            return (*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :])
    return tuple(parts)


def from_the_right(parts, pair):
    return tuple(
        part[::-1] for part in merge_with_index([p[::-1] for p in parts[::-1]], (pair[1][::-1], pair[0][::-1]))[::-1]
    )


def forgets_the_last(parts, pair):
    merged, i = [], 0
    while i < len(parts) - 1:
        step = 2 if (parts[i], parts[i + 1]) == pair else 1
        merged.append(b"".join(parts[i : i + step]))
        i += step
    return tuple(merged)


def compares_bytes(parts, pair):
    merged, i = [], 0
    while i < len(parts):
        step = 2 if i + 1 < len(parts) and parts[i] + parts[i + 1] == pair[0] + pair[1] else 1
        merged.append(b"".join(parts[i : i + step]))
        i += step
    return tuple(merged)


def either_order(parts, pair):
    merged, i = [], 0
    while i < len(parts):
        step = 2 if set(parts[i : i + 2]) == set(pair) and i + 1 < len(parts) else 1
        merged.append(b"".join(parts[i : i + step]))
        i += step
    return tuple(merged)


def ends_with(parts, pair):
    merged = []
    for part in parts:
        if merged and merged[-1].endswith(pair[0]) and part == pair[1]:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)


def in_place(parts, pair):
    merged = merge_with_index(parts, pair)
    if isinstance(parts, list):
        parts[:] = merged
    return merged


@pytest.mark.parametrize("answer", [merge_with_index, bpe_training.merge_pair])
def test_right_merge_pair(answer, capsys):
    check("03.merge_pair", answer)
    assert capsys.readouterr().out == "03.merge_pair: correct\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda parts, pair: list(merge_with_index(parts, pair)), r"wanted tuple\nHint: .*a list cannot be one"),
        (lambda parts, pair: print(end=""), r"NoneType.*\nHint: is there a `return`"),
        (lambda parts, pair: tuple(parts), r"become one byte string: left \+ right"),
        (first_only, "every occurrence is joined, not only the first"),
        (overlapping, "a part that was joined is used up"),
        (from_the_right, "from left to right"),
        (forgets_the_last, "is the last part still there"),
        (compares_bytes, "compare part with part"),
        (either_order, "the order counts"),
        (ends_with, "(only the end of one|used up)"),
        (in_place, "changed its argument number 1"),
        (lambda parts, pair: (pair[0] + pair[1],), r"\(b'a', b'b'\)|without parts"),
        (lambda parts: parts, "raised TypeError"),
    ],
)
def test_wrong_merge_pair(answer, said):
    with pytest.raises(Wrong, match=rf"(?s)03\.merge_pair: .*{said}"):
        check("03.merge_pair", answer)


# --- cut_digits


def digits_apart(text, is_number=lambda piece: piece.strip().isdigit()):
    pieces = []
    for piece in pre_tokens(text):
        if is_number(piece):
            first = len(piece) - len(piece.lstrip()) + 1
            pieces += [piece[:first], *piece[first:]]
        else:
            pieces.append(piece)
    return pieces


def own_pattern(text):
    return re.findall(r"\d| ?[^\W\d]+| ?[^\w\s]+|\s+", text)


def space_alone(text):
    return [p for piece in pre_tokens(text) for p in (list(piece) if piece.strip().isdigit() else [piece])]


def space_lost(text):
    return [p for piece in pre_tokens(text) for p in (list(piece.strip()) if piece.strip().isdigit() else [piece])]


def only_without_space(text):
    return [p for piece in pre_tokens(text) for p in (list(piece) if piece.isdigit() else [piece])]


def in_threes(text):
    return [
        p
        for piece in pre_tokens(text)
        for p in (re.findall(r" ?\d{1,3}", piece) if piece.strip().isdigit() else [piece])
    ]


def ascii_only(text):
    return digits_apart(text, lambda piece: re.fullmatch(" ?[0-9]+", piece) is not None)


def test_right_cut_digits():
    check("03.cut_digits", digits_apart)
    check(
        "03.cut_digits", lambda text: [p for w in pretokens.pre_tokens(text) for p in (re.findall(r"\s*\d", w) or [w])]
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (pre_tokens, r"'2024'.*each digit is a piece of its own"),
        (in_threes, "each digit is a piece of its own"),
        (list, r"'cats'|cut as pre_tokens cuts it"),
        (lambda text: text.split(), "each digit"),
        (own_pattern, "cut as pre_tokens cuts it"),
        (space_alone, "the space belongs to the piece"),
        (space_lost, "the space belongs to the piece"),
        (only_without_space, r"'in 42'"),
        (ascii_only, r"ask str\.isdigit"),
        (lambda text: digits_apart(text, lambda piece: piece.strip().isnumeric()), r"isnumeric\(\) is true for them"),
        (lambda text: tuple(digits_apart(text)), "wanted list"),
    ],
)
def test_wrong_cut_digits(answer, said):
    with pytest.raises(Wrong, match=rf"(?s)03\.cut_digits: .*{said}"):
        check("03.cut_digits", answer)


# --- stream


def waits_by_hand(tokens):
    """Right: keeps what is not yet a character, by looking at the error."""
    shown, pieces = "", []
    for i in range(len(tokens)):
        data = b"".join(tokens[: i + 1])
        text = data.decode("utf-8", "replace")
        if i < len(tokens) - 1:
            try:
                data.decode()
            except UnicodeDecodeError:
                for cut in (1, 2, 3):
                    tail = data[-cut:]
                    length = 2 if tail[0] >= 0xC0 and tail[0] < 0xE0 else 3 if tail[0] < 0xF0 else 4
                    if 0xC2 <= tail[0] < 0xF5 and cut < length and cut <= len(data):
                        text = data[:-cut].decode("utf-8", "replace")
                        break
        pieces.append(text[len(shown) :])
        shown = text
    return pieces


def each_alone(tokens):
    return [token.decode("utf-8", errors="replace") for token in tokens]


def ignores(tokens):
    return [token.decode("utf-8", errors="ignore") for token in tokens]


def all_at_the_end(tokens):
    whole = b"".join(tokens).decode("utf-8", "replace")
    return [""] * (len(tokens) - 1) + [whole] if tokens else []


def stuck_at_a_stray_byte(tokens):
    waiting, pieces = b"", []
    for i, token in enumerate(tokens):
        waiting += token
        try:
            pieces.append(waiting.decode())
            waiting = b""
        except UnicodeDecodeError:
            last = i == len(tokens) - 1
            pieces.append(waiting.decode("utf-8", "replace") if last else "")
    return pieces


def drops_the_end(tokens):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(token) for token in tokens]


def final_each_time(tokens):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(token, final=True) for token in tokens]


def only_shown(tokens):
    return [piece for piece in stuck_at_a_stray_byte(tokens) if piece]


def test_right_stream():
    def right(tokens):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return [decoder.decode(token, i == len(tokens) - 1) for i, token in enumerate(tokens)]

    check("03.stream", right)
    check("03.stream", waits_by_hand)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (each_alone, "you decode the bytes of an unfinished character"),
        (ignores, "keep its bytes until the last one comes"),
        (all_at_the_end, "shown at once"),
        (stuck_at_a_stray_byte, "(does not hold up the rest|a token may end one and begin another)"),
        (drops_the_end, r"what is left becomes U\+FFFD"),
        (final_each_time, "unfinished character"),
        (only_shown, "keep its bytes until"),
        (lambda tokens: b"".join(tokens).decode("utf-8", "replace"), "wanted list"),
        (lambda tokens: [token.decode() for token in tokens], "raised UnicodeDecodeError"),
    ],
)
def test_wrong_stream(answer, said):
    with pytest.raises(Wrong, match=rf"(?s)03\.stream: .*{said}"):
        check("03.stream", answer)


# --- share


def weighted(weight_en, weight_zh, more=0):
    def answer(english, chinese, n_merges):
        counts = Counter()
        for weight, texts in ((weight_en, english), (weight_zh, chinese)):
            for word in (w for text in texts for w in pre_tokens(text)):
                counts[word] += weight
        return learn_merges({word: n for word, n in counts.items() if n}, n_merges + more)

    return answer


def half_and_half(english, chinese, n_merges):
    def learn(texts):
        return learn_merges(Counter(w for text in texts for w in pre_tokens(text)), n_merges // 2)

    return list(dict.fromkeys(learn(english) + learn(chinese)))


@pytest.mark.parametrize("answer", [weighted(1, 10), weighted(1, 8), half_and_half])
def test_right_share(answer):
    check("03.share", answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (weighted(1, 1), "give Chinese more weight"),
        (weighted(1, 0), "give Chinese more weight"),
        (weighted(0, 1), "give English more weight"),
        (weighted(1, 10, more=50), "gave 450 merges; 400 are allowed"),
        (lambda *given: weighted(1, 10)(*given)[::-1], "made by no earlier merge.*a part must be there"),
        (lambda *given: [a + b for a, b in weighted(1, 10)(*given)], "a merge is a pair of byte strings"),
        (lambda *given: [(a.hex(), b.hex()) for a, b in weighted(1, 10)(*given)], "a merge is a pair of byte strings"),
        (lambda *given: [], "with your 0 merges .* the goal is"),
        (lambda *given: None, "is there a `return`"),
    ],
)
def test_wrong_share(answer, said):
    with pytest.raises(Wrong, match=rf"(?s)03\.share: .*{said}"):
        check("03.share", answer)


@pytest.mark.parametrize("name", ["merge_pair", "cut_digits", "stream", "share"])
def test_stubs_are_not_written_yet(name):
    def stub(*given):
        raise NotImplementedError

    with pytest.raises(NotWrittenYet, match=rf"03\.{name} is not written yet"):
        check(f"03.{name}", stub)
