"""From a web page to its text: tags go, what was never meant to be read goes, entities become characters.

    text = unescape(drop tags(drop <script>, <style>, <!-- -->, …))        in this order, once

The order matters: `&lt;b&gt;` in a page is a text that shows the reader <b>, so entities are resolved last and only
once, and what they produce is not taken for a tag again.

A `<` is not always a tag: "a < b and c > d", `list<int>`, `<email>`. So a tag is only what HTML knows: the name of
an HTML element, with attributes that look like attributes.

Paper:   WHATWG, "HTML Living Standard", §13.1 (element names, attributes, void and raw-text elements); the place of
         the step: Penedo et al. 2023, "The RefinedWeb Dataset for Falcon LLM", §3.1, arXiv:2306.01116.
Differs: no tree is built: nesting does not matter to the text. Wiki, Markdown and BBCode are kept as they are, save
         BBCode's paired tags.
Next:    minillm/text/near_duplicates.py
"""

import html
import re

_BLOCK = """address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption
figure footer form frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li main menu nav noframes noscript ol
optgroup option p pre search section summary table tbody td tfoot th thead title tr ul"""
_INLINE = """a abbr acronym area audio b base basefont bdi bdo big button canvas cite code col colgroup data datalist
del dfn em embed font frame i iframe img input ins kbd label link map mark marquee meta meter nobr object output param
picture progress q rp rt ruby s samp script select slot small source span strike strong style sub sup svg path template
textarea time tt u var video wbr"""
_HIDDEN = "script|style|template|noframes|svg|iframe|object|select|textarea|canvas|head(?=[^>]*>)"
_FLAGS = """allowfullscreen async autofocus autoplay checked compact controls default defer disabled download hidden
inert ismap itemscope loop multiple muted nohref noshade novalidate nowrap open playsinline readonly required reversed
selected"""

_VALUE = r"""(?:"[^"<>]{0,2000}"|'[^'<>]{0,2000}'|[^\s"'=<>`]{1,2000})"""
_ATTRIBUTES = rf"""(?:\s+(?:[a-z_:@][-\w:.]*\s*=\s*{_VALUE}|(?:{"|".join(_FLAGS.split())})(?=[\s/>])))*"""


def _tag(names: str) -> str:
    return rf"</?(?:{'|'.join(sorted(names.split(), key=len, reverse=True))}){_ATTRIBUTES}\s*/?>"


_BLOCK_TAG = re.compile(_tag(_BLOCK), re.IGNORECASE)
_INLINE_TAG = re.compile(_tag(_INLINE), re.IGNORECASE)
_HIDDEN_OPEN = re.compile(rf"<({_HIDDEN}){_ATTRIBUTES}\s*>", re.IGNORECASE)
_DECLARATION = re.compile(r"<!doctype[^<>]{0,300}>|<\?xml[^<>]{0,300}\?>", re.IGNORECASE)
_BBCODE = re.compile(
    r"\[(b|i|u|s|url|quote|code|img|size|color|center|list)(?:=[^\]\n]{1,200})?\]((?:(?!\[\1).){0,5000}?)\[/\1\]",
    re.IGNORECASE | re.DOTALL,
)
_ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")


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
        text = _without_hidden(_without_comments(text))
        text = _DECLARATION.sub("", text)
        text = _INLINE_TAG.sub("", _BLOCK_TAG.sub("\n", text))
    if "[/" in text:
        before = None
        while before != text:  # from the innermost pair outwards
            before, text = text, _BBCODE.sub(r"\2", text)
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text) if "&" in text else text


def _without_comments(text: str) -> str:
    """Drop <!-- … -->. A comment that is never closed stays: cutting there could lose the rest of the page."""
    parts: list[str] = []
    start = 0
    while (opened := text.find("<!--", start)) >= 0 and (closed := text.find("-->", opened + 4)) >= 0:
        parts.append(text[start:opened])
        start = closed + 3
    return "".join(parts) + text[start:]


def _without_hidden(text: str) -> str:
    """Drop elements whose content is not for reading (scripts, styles, drawings, the page's head)."""
    parts: list[str] = []
    start = 0
    lower = text.lower()
    while opened := _HIDDEN_OPEN.search(text, start):
        end = lower.find(f"</{opened[1].lower()}", opened.end())
        closed = text.find(">", end) if end >= 0 else -1
        if closed < 0:  # never closed: drop the tag alone
            parts.append(text[start : opened.start()])
            start = opened.end()
            continue
        parts.append(text[start : opened.start()])
        start = closed + 1
    return "".join(parts) + text[start:]
