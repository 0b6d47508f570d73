"""Lists of gifts in English and in French: a translation with exactly one right answer, as long as you like.

    a white lamp and a blue hat   →   une lampe blanche et un chapeau bleu

French puts the colour after the thing, and the thing decides the article and the form of the colour. So words cross,
each French word depends on one or two English ones, and nothing is left to chance: the best loss is 0, the best score
100 percent, at every length. A list of n gifts has 4 n - 1 words in both languages.

Next:    minillm/neural/seq2seq.py
"""

from collections.abc import Sequence

from minillm.text.dice import uniform_numbers

COLOURS = {  # with a masculine and with a feminine thing
    "red": ("rouge", "rouge"),
    "blue": ("bleu", "bleue"),
    "green": ("vert", "verte"),
    "black": ("noir", "noire"),
    "white": ("blanc", "blanche"),
    "grey": ("gris", "grise"),
}
FEMININE = {"lamp": "lampe", "doll": "poupée", "bell": "cloche", "box": "boîte"}
MASCULINE = {"drum": "tambour", "book": "livre", "hat": "chapeau", "coat": "manteau"}
THINGS = {**FEMININE, **MASCULINE}
ENGLISH = ("a", "and", *COLOURS, *THINGS)
FRENCH = ("un", "une", "et", *dict.fromkeys(form for forms in COLOURS.values() for form in forms), *THINGS.values())


def gift_lists(n: int, gifts: int, start: int = 0, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """Lists `start` to `start + n - 1` of that many gifts, each in English and in French, as words.

    Colours and things are equally likely and independent: a gift holds ln 6 + ln 8 nats. ValueError for fewer than
    one gift.

    >>> english, french = gift_lists(1, 2)[0]
    >>> " ".join(english), " ".join(french)
    ('a red box and a black doll', 'une boîte rouge et une poupée noire')
    """
    if gifts < 1:
        raise ValueError(f"gifts={gifts} must be at least 1: an empty list has nothing to translate; gifts=2 works")
    colours, things = list(COLOURS), list(THINGS)
    u = uniform_numbers([seed, gifts], 2 * gifts * n, start=2 * gifts * start).reshape(n, gifts, 2)
    names = [
        " and ".join(f"a {colours[int(c * len(colours))]} {things[int(th * len(things))]}" for c, th in row)
        for row in u
    ]
    return [(words := name.split(), in_french(words)) for name in names]


def in_french(words: Sequence[str]) -> list[str]:
    """The French words of an English list. ValueError when it is not such a list.

    >>> in_french("a green bell".split())
    ['une', 'cloche', 'verte']
    """
    written: list[str] = []
    for gift in " ".join(words).split(" and "):
        match gift.split():
            case ["a", colour, thing] if colour in COLOURS and thing in THINGS:
                une = thing in FEMININE
                written += ["et"] * bool(written) + ["une" if une else "un", THINGS[thing], COLOURS[colour][une]]
            case _:
                raise ValueError(f"{gift!r} is not a gift: the rule is `a`, a colour, a thing, such as 'a red hat'")
    return written
