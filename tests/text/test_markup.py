"""Tags go, text stays, and a `<` that opens no tag is left in peace."""

import html
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.text.markup import remove_markup
from minillm.text.normalise import normalise

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>One.</p><p>Two.</p>", "One.\n\nTwo."),
        ("a<br>b<br/>c<BR />d", "a\nb\nc\nd"),
        ("<div class='x' id=y data-n=\"3\" hidden>in <b>the</b> <i>box</i></div>", "in the box"),
        ('<a href="https://x.example/?a=1&b=2" target=_blank>link</a>', "link"),
        ("<td>1</td><td>2</td>", "1\n\n2"),
        ("<script type='module'>if (a < b) { c(\"</p>\") }</script>kept", "kept"),
        ("<style>p { color: red }</style><svg><path d='M0'/></svg>kept", "kept"),
        ("<!-- a <b>comment</b> \n over lines -->kept", "kept"),
        ("<!DOCTYPE html><?xml version='1.0'?><html><head><title>T</title></head><body>kept</body></html>", "kept"),
        ("fish &amp; chips &lt;now&gt; &#39;5&#x20AC;&#39; &nbsp;x", "fish & chips <now> '5€' x"),
        ("&amp;lt;", "&lt;"),
        ("<h1>Title</h1>text", "Title\ntext"),
        ("an <img src=a.png alt='a > b'> image", "an image"),
    ],
)
def test_what_goes(page, text):
    assert normalise(remove_markup(page)) == text


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "if x<b and c>d:",
        "vector<int> v; Map<String, List<T>> m;",
        "<email> and <phone> and <id>",
        "I <3 this",
        "x <- y; a <= b; a -> b",
        "AT&T and Q&A; salt & pepper",
        "an array a[i] and [sic] and [1] and [b] alone",
        "<p",
        "<!-- never closed",
        "[b]bold[/b] is no HTML",
        "&notanentity0; &;",
        "<person name='x'>",
    ],
)
def test_what_stays(text):
    assert remove_markup(text) == text


def test_a_script_that_never_closes_loses_its_tag_alone():
    assert remove_markup("before <script> after") == "before  after"


@given(st.text(alphabet="ab <>&;\"'=/\n", max_size=60))
def test_escaped_text_comes_back_whole(text):
    assert remove_markup(html.escape(text)) == text


@given(st.text(max_size=80))
def test_any_text_is_survived(text):
    remove_markup(text)


@pytest.mark.parametrize(
    "bad", ["<", "<!--", "<b", "<div ", "<div a=", "<script>", "[b]", "[b][i]", "&", "<div a='", "&#"]
)
def test_a_hostile_page_takes_no_more_than_its_length(bad):
    page = bad * (100_000 // len(bad))
    start = time.process_time()
    remove_markup(page)
    assert time.process_time() - start < 5  # a quadratic rule takes a minute
