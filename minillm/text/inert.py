"""Text from strangers on a screen: what would steer the screen is shown as a sign, and steers nothing.

    ESC ] 0 ; …    →   ␛]0;…            U+202E (what follows reads from right to left)    →   ⟨U+202E⟩

A terminal obeys control characters: they move the cursor, write over what stood there, change the window's title. And
direction overrides make a line read as what it does not say. A language model may write all of them, because somebody
else did.

Paper:   Boucher and Anderson 2023, "Trojan Source: Invisible Vulnerabilities", §3, arXiv:2111.00169.
Differs: nothing is dropped: whoever looks sees that something was there. Line ends and tabs stay; so do the two joiners
         U+200C and U+200D, with which Persian, Hindi and emoji are spelled. This makes no HTML: escape that besides.
Next:    minillm/text/markup.py
"""

import re

_STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters; of ASCII the first 32 and the last, and another 32 above
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"  # direction, line ends that are none, invisible signs
    "\u180e\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # more of them; tags repeat ASCII, invisibly
    "\ud800-\udfff]"  # halves of characters, which no screen can show and no file can hold
)


def inert(text: str) -> str:
    """The same text, every character that is no text shown as a sign. What is added is never taken away again.

    It looks at each character by itself, so a text may come in pieces.

    >>> inert("a\\x1b[31mred\\x07")
    'a␛[31mred␇'
    >>> inert("\\u202etxet\\ntext")
    '⟨U+202E⟩txet\\ntext'
    """
    return _STEERS.sub(_sign, text)


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
