"""Checks of chapter 03: merging a pair, cutting numbers, showing tokens as they come, one vocabulary for two languages.

Next:    minillm/course/widgets.py
"""

import codecs
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from minillm.course.checks import call, expect, expect_equal, expect_inputs_kept, expect_type
from minillm.text.bpe import BPETokenizer
from minillm.text.bpe_training import Pair, learn_merges
from minillm.text.bpe_training import merge_pair as join_pair
from minillm.text.pretokens import pre_tokens
from minillm.text.stories import load_stories

Parts = tuple[bytes, ...]


def merge_pair(answer: Callable[[Parts, Pair], Parts]) -> None:
    """`merge_pair(parts, pair)`: join every occurrence of the pair, from left to right."""
    a, b, c = b"a", b"b", b"c"
    got = call(answer, (a, b), (a, b))
    hint = "return tuple(merged): words are keys of a dictionary, and a list cannot be one" if got else ""
    expect_type(got, tuple, "merge_pair((b'a', b'b'), (b'a', b'b'))", hint)
    for parts, pair, hint in (
        ((a, b), (a, b), "the two neighbours become one byte string: left + right"),
        ((), (a, b), "a word without parts stays as it is"),
        ((a, c, b), (a, b), "the two must be neighbours, and nothing may get lost: is the last part still there?"),
        ((b, a), (a, b), "the order counts: b, a is another pair than a, b"),
        ((a, b, c, a, b), (a, b), "every occurrence is joined, not only the first"),
        ((a, a, a), (a, a), "from left to right, and a part that was joined is used up: aa, then a is left over"),
        ((a, a, a, a, b), (a, a), "after a join, go on behind it: two steps, not one"),
        ((b"ab", c), (a, b"bc"), "compare part with part, not the bytes put together: ab + c is not the pair a, bc"),
        ((b"ca", b), (a, b), "the pair must be two whole parts; here the a is only the end of one"),
    ):
        _same_parts(answer, parts, pair, hint)
    expect_inputs_kept(answer, [a, b, a, b], (a, b))
    chance = Random()
    for _ in range(200):
        parts = tuple(chance.choice((a, b, b"ab")) for _ in range(chance.randrange(9)))
        _same_parts(
            answer, parts, (chance.choice((a, b)), chance.choice((a, b))), "go through it with pencil and paper"
        )


def _same_parts(answer: Callable[[Parts, Pair], Parts], parts: Parts, pair: Pair, hint: str) -> None:
    expect_equal(call(answer, parts, pair), join_pair(parts, pair), f"merge_pair({parts}, {pair})", hint)


def cut_digits(answer: Callable[[str], list[str]]) -> None:
    """`cut_digits(text)`: the pre-tokens of GPT-2, but every digit is a piece of its own."""
    got = call(answer, "cats")
    expect_type(got, list, "cut_digits('cats')")
    for text, wanted, hint in (
        ("2024", ["2", "0", "2", "4"], "each digit is a piece of its own"),
        ("the cat's 'cause", pre_tokens("the cat's 'cause"), "a text without digits is cut as pre_tokens cuts it"),
        ("in 42", ["in", " 4", "2"], "the space belongs to the piece that it stands before: to the first digit"),
        ("1,000", ["1", ",", "0", "0", "0"], "the comma is a piece between two numbers"),
        ("７ or ٣٤", ["７", " or", " ٣", "٤"], "digits are not only 0 to 9: ask str.isdigit()"),
        ("三十", ["三十"], "to the pattern these are letters: isnumeric() is true for them, isdigit() is not"),
    ):
        expect_equal(call(answer, text), wanted, f"cut_digits({text!r})", hint)
    chance = Random()
    for _ in range(100):
        text = "".join(chance.choice(("7", "42", " ", "  ", "a", "cat", ",", "'s", "\n", "猫")) for _ in range(7))
        pieces = call(answer, text)
        expect_equal("".join(pieces), text, f"the pieces of {text!r} put together", "nothing may be lost or doubled")
        wanted = [part for piece in pre_tokens(text) for part in _digits_apart(piece)]
        expect_equal(pieces, wanted, f"cut_digits({text!r})", "begin with pre_tokens(text), then cut only the numbers")


def _digits_apart(piece: str) -> list[str]:
    if not piece.strip().isdigit():
        return [piece]
    first = len(piece) - len(piece.lstrip()) + 1
    return [piece[:first], *piece[first:]]


def stream(answer: Callable[[list[bytes]], list[str]]) -> None:
    """`stream(tokens)`: after each token, the text that can now be shown; half a character waits for its other half."""
    got = call(answer, [b"The", b" cat"])
    expect_type(got, list, "stream([b'The', b' cat'])")
    cat = "猫".encode()
    for tokens, hint in (
        ([b"The", b" cat"], "each token that is whole text is shown at once"),
        ([cat[:1], cat[1:2], cat[2:]], "no piece of a character can be shown: keep its bytes until the last one comes"),
        (
            [b"a", cat[:2], cat[2:] + b"b"],
            "what is whole is shown, what is not whole waits: a token may end one and begin another",
        ),
        ([b"ab", cat[:2]], "at the end nothing can wait any longer: what is left becomes U+FFFD, as in decode"),
        (
            [b"a", b"\xff", b"b"],
            "a byte that can begin no character is shown as U+FFFD at once, and does not hold up the rest",
        ),
        ([], "no tokens, no pieces"),
    ):
        _same_stream(answer, tokens, hint)
    chance = Random()
    for _ in range(100):
        text = "".join(chance.choice(("a", "é", "猫", "𠮷", " ")) for _ in range(6)).encode()
        cuts = sorted(chance.choices(range(len(text) + 1), k=3))
        tokens = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        _same_stream(answer, tokens, "one incremental decoder for the whole stream, not a new one for each token")


def _same_stream(answer: Callable[[list[bytes]], list[str]], tokens: list[bytes], hint: str) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    wanted = [decoder.decode(token, final=i == len(tokens) - 1) for i, token in enumerate(tokens)]
    got = call(answer, tokens)
    what = f"stream({tokens})"
    if (
        isinstance(got, list)
        and len(got) == len(wanted)
        and "�" in "".join(map(str, got))
        and "�" not in "".join(wanted)
    ):
        hint = "you decode the bytes of an unfinished character: they are no text yet"
    expect_equal(got, wanted, what, hint)


SMALL_SHARE = 20  # stories in Chinese, beside 200 in English
GOAL = 0.8  # of what the plain mix costs


def share(answer: Callable[[list[str], list[str], int], Sequence[Pair]]) -> None:
    """`share(english, chinese, n_merges)`: merges under which the dearer language becomes cheaper."""
    stories = load_stories()
    rest = [story for i, story in enumerate(stories) if i % 10]
    english = [story.text for story in rest[:200]]
    chinese = [story.text_zh for story in Random().sample(rest, SMALL_SHARE)]
    plain = _story_costs(learn_merges(Counter(w for text in english + chinese for w in pre_tokens(text)), 400))
    merges = call(answer, english, chinese, 400)
    _expect_merges(merges, 400)
    in_english, in_chinese = _story_costs(merges)
    numbers = f"a story costs {in_english:.0f} tokens in English and {in_chinese:.0f} in Chinese"
    dearer = "Chinese" if in_chinese > in_english else "English"
    expect(
        max(in_english, in_chinese) <= GOAL * max(plain),
        f"with your {len(merges)} merges {numbers}; the plain mix needs {max(plain):.0f} for its dearer language, and "
        f"the goal is {GOAL * max(plain):.0f}",
        hint=f"give {dearer} more weight in the counts; learn_merges takes any counts, not only true ones",
    )


def _story_costs(merges: Sequence[Pair]) -> tuple[float, float]:
    """Tokens per held-out story, in English and in Chinese, under these merges."""
    merges = [(bytes(left), bytes(right)) for left, right in merges]
    tokens = dict.fromkeys([*(bytes([byte]) for byte in range(256)), *(left + right for left, right in merges)])
    tokenizer = BPETokenizer(dict(enumerate(tokens)), merges)
    held = load_stories()[::10]
    english = sum(len(tokenizer.encode(story.text)) for story in held)
    chinese = sum(len(tokenizer.encode(story.text_zh)) for story in held)
    return english / len(held), chinese / len(held)


def _expect_merges(merges: Sequence[Pair], most: int) -> None:
    expect_type(merges, list, "share(english, chinese, 400)")
    expect(len(merges) <= most, f"share(…, {most}) gave {len(merges)} merges; {most} are allowed", hint="cut the list")
    made = {bytes([byte]) for byte in range(256)}
    for i, pair in enumerate(merges):
        fits = isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(part, bytes) for part in pair)
        expect(fits, f"merge {i} is {pair!r}; a merge is a pair of byte strings such as (b't', b'h')")
        for part in pair:
            expect(
                part in made,
                f"merge {i} joins {part!r}, which is no byte and made by no earlier merge",
                hint="merges are rules in the order learned: a part must be there before it can be joined",
            )
        made.add(pair[0] + pair[1])
