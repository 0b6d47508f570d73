"""From a web page to its text: tags go, what was never meant to be read goes, entities become characters.

    text = unescape(drop tags(drop <script>, <style>, <!-- -->, …))        in this order, once

The order matters: `&lt;b&gt;` in a page is a text that shows the reader <b>, so entities are resolved last and only
once, and what they produce is not taken for a tag again.

A `<` is not always a tag: "a < b and c > d", `list<int>`, `<email>`. So a tag is only what HTML knows: the name of
an HTML element, with attributes that look like attributes.

Paper:   WHATWG, "HTML Living Standard", §13.1 (element names, attributes, void and raw-text elements); the place of
         the step: Penedo et al. 2023, "The RefinedWeb Dataset for Falcon LLM", §3.1, arXiv:2306.01116.
Differs: no tree is built: nesting does not matter to the text. Wiki, Markdown and BBCode are kept as they are.
Next:    minillm/text/near_duplicates.py
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.entities import html5

_BLOCK = """address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption
figure footer form frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li main menu nav noframes noscript ol
optgroup option p pre search section summary table tbody td tfoot th thead title tr ul"""
_INLINE = """a abbr acronym area audio b base basefont bdi bdo big button canvas cite code col colgroup data datalist
del dfn em embed font frame i iframe img input ins kbd label link map mark marquee meta meter nobr object output param
picture progress q rp rt ruby s samp script select slot small source span strike strong style sub sup svg path template
textarea time tt u var video wbr"""
_HIDDEN = "script|style|template|noframes|svg|iframe|object|select|textarea|canvas|head"
_FLAGS = """allowfullscreen async autofocus autoplay checked compact controls default defer disabled download hidden
inert ismap itemscope loop multiple muted nohref noshade novalidate nowrap open playsinline readonly required reversed
selected"""

_VALUE = r"""(?:"[^"]{0,2000}"|'[^']{0,2000}'|[^\s"'=<>`]{1,2000})"""
_ATTRIBUTES = rf"""(?:\s+(?:[a-z_:@][-\w:.]*\s*=\s*{_VALUE}|(?:{"|".join(_FLAGS.split())})(?=[\s/>])))*"""


def _tag(names: str) -> str:
    return rf"</?(?:{'|'.join(sorted(names.split(), key=len, reverse=True))}){_ATTRIBUTES}\s*/?>"


_COMMENT, _DECLARATION = r"<!--", r"<!doctype[^<>]{0,300}>|<\?xml[^<>]{0,300}\?>"
_ANY = re.compile(
    rf"(?P<comment>{_COMMENT})|(?P<hidden><(?P<name>{_HIDDEN}){_ATTRIBUTES}\s*>)|(?P<declaration>{_DECLARATION})"
    rf"|(?P<block>{_tag(_BLOCK)})|(?P<inline>{_tag(_INLINE)})",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")


@dataclass(frozen=True, kw_only=True, slots=True)
class Markup:
    """One piece of markup, text[start:end]; a block element ends the line that it stands in."""

    start: int
    end: int
    ends_line: bool


def find_markup(text: str) -> Iterator[Markup]:
    """Tags, comments, declarations, and elements that are not for reading, from left to right.

    A comment that is never closed is none: cutting there could lose the rest of the page. Of a script that is never
    closed only the tag counts.

    >>> [(found.start, found.end) for found in find_markup("a <b>c</b> < d")]
    [(2, 5), (6, 10)]
    """
    at = 0
    lower = text.lower() if "<" in text else ""
    last = {"-->": lower.rfind("-->")}  # so that a page of openings is not searched to its end for each
    while lower and (match := _ANY.search(text, at)):
        at = match.end()
        if match["comment"]:
            closed = lower.find("-->", at) if at <= last["-->"] else -1
            if closed < 0:
                continue
            at = closed + 3
        elif match["hidden"]:
            closing = f"</{match['name'].lower()}"
            end = lower.find(closing, at) if at <= last.setdefault(closing, lower.rfind(closing)) else -1
            at = lower.find(">", end) + 1 if end >= 0 and lower.find(">", end) >= 0 else at
        yield Markup(start=match.start(), end=at, ends_line=bool(match["block"]))


def remove_markup(text: str) -> str:
    r"""The text of a page: block elements end a line, inline ones leave nothing, entities are resolved once.

    >>> remove_markup('<p class="lead">Fish &amp; chips<br>for <b>two</b>.</p><script>track()</script>').split("\n")
    ['', 'Fish & chips', 'for two.', '']
    >>> remove_markup("If a < b and c > d, a list<int> of <email>.")
    'If a < b and c > d, a list<int> of <email>.'
    >>> remove_markup("Write &lt;b&gt; for bold.")
    'Write <b> for bold.'
    """
    if "<" in text:
        parts: list[str] = []
        at = 0
        for found in find_markup(text):
            parts += [text[at : found.start], "\n" if found.ends_line else ""]
            at = found.end
        text = "".join(parts) + text[at:]
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(entity: re.Match[str]) -> str:
    """What an entity stands for; a name that HTML does not know stays as it is written."""
    name = entity[0][1:]
    return html.unescape(entity[0]) if name[0] == "#" else html5.get(name, entity[0])
