"""Scripts: what a bad one is told, and what the built-in one promises."""

import pytest

from minillm.rules.eliza import Eliza, reassemble
from minillm.rules.script import BUILT_IN, load_script, parse_pattern, parse_script

GOOD = "key rain 3\n  match 0 rain 0\n    say Rain on {3}?\nnone\n  say Go on."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no 'none' block"),
        ("key rain\n match 0\n  say Yes.", "no 'none' block"),
        ("keyy rain", "line 1 .*'keyy' is not an instruction; a line starts with one of hello, swap"),
        ("key", "key needs more words, for example: key remember 5"),
        ("say Hello.", "say stands outside a block; put a line such as 'key remember 5'"),
        ("key rain\n say Yes.", "line 2 .*say comes before any pattern"),
        (
            GOOD.replace("{3}", "{4}"),
            r"line 3 \(key rain, match 0 rain 0\): say uses \{4\}, but the pattern has 3 parts",
        ),
        (GOOD.replace("{3}", "{0}"), r"say uses \{0\}"),
        (GOOD.replace("0 rain 0", "0 /weather 0"), "/weather is not a class; classes are: none yet"),
        (GOOD.replace("0 rain 0", "0 (rain 0"), "brackets do not close"),
        (GOOD.replace("0 rain 0", "0 () 0"), "brackets do not close around at least one word"),
        (
            GOOD.replace("say Rain on {3}?", "goto snow"),
            "goto leads to 'snow', which is not a keyword; keywords are: rain",
        ),
        (GOOD.replace("say Rain on {3}?", "rewrite {3} => snow"), "rewrite leads to 'snow'"),
        (GOOD.replace("say Rain on {3}?", "rewrite {3}"), "rewrite leads to ''"),
        (GOOD.replace("rain 3", "rain three"), "after key comes one word and a whole number"),
        (GOOD.replace("rain 3", "rain -1"), "after key comes one word and a whole number"),
        (GOOD + "\nkey rain\n match 0\n  say No.", "key rain was opened on line 1; put its rules there"),
        (GOOD + "\nkey snow", "line 6 .*key snow.*has no pattern"),
        (GOOD + "\nkey snow\n match 0", "line 7 .*key snow, match 0.*has no reply"),
        (GOOD + "\nmemory snow\n match 0\n  say No.", "memory needs a keyword of the same name; keywords are: rain"),
        (GOOD + "\nmemory rain\n match 0\n  goto rain", "a memory block can only say, not goto"),
        (GOOD + "\nswap my your", "swap needs one word, '->'"),
        (GOOD + "\nswap my -> your\nswap my -> our", "swap my was given before"),
        (GOOD + "\nclass family mother", "class needs one word, ':'"),
        (GOOD + "\nnone today", "none stands alone"),
        ("none", "line 1 .*none.*has no reply"),
    ],
)
def test_a_bad_script_names_the_place_and_what_works(text, said):
    with pytest.raises(ValueError, match=said):
        parse_script(text, name="bad.script")


def test_files_that_cannot_be_scripts(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        load_script(tmp_path / "missing.script")
    (tmp_path / "latin.script").write_bytes(b"none\n say caf\xe9")
    with pytest.raises(ValueError, match="not UTF-8 at byte 13"):
        load_script(tmp_path / "latin.script")
    (tmp_path / "big.script").write_bytes(b"#" * 1_000_001)
    with pytest.raises(ValueError, match="at most 1000000"):
        load_script(tmp_path / "big.script")


def test_indentation_comments_and_a_byte_order_mark_do_not_matter(tmp_path):
    flat = "\n".join(line.strip() + "   # a comment" for line in GOOD.splitlines())
    (tmp_path / "flat.script").write_text("\ufeff" + flat, "utf-8")
    assert load_script(tmp_path / "flat.script") == parse_script(GOOD)


def test_patterns():
    assert parse_pattern("0 You 3") == (0, frozenset({"you"}), 3)
    assert parse_pattern("/x", {"x": frozenset({"a", "b"})}) == (frozenset({"a", "b"}),)
    with pytest.raises(ValueError, match="the pattern that fits every sentence is 0"):
        parse_pattern("  ")


def test_every_reply_of_the_listener_reads_as_a_sentence():
    script = load_script()
    rules = [rule for found in (*script.rules.values(), *script.memory.values()) for rule in found] + [script.none]
    said = [(rule, action.text) for rule in rules for action in rule.actions if action.kind == "say"]
    for rule, text in said:
        assert text[0].isupper() and text[-1] in ".?", text
        assert reassemble(text, [["word"]] * len(rule.pattern))
    texts = [text for _, text in said]
    assert len(set(texts)) == len(texts) > 80
    assert script.size == len(rules)


def test_every_keyword_of_the_listener_can_answer():
    script = load_script()
    for key in script.ranks:
        trace = " ".join(Eliza(script).respond(key).trace)
        assert key in trace.split("keywords")[1]


def test_the_listener_has_our_own_words():
    assert "problem" not in BUILT_IN.read_text("utf-8").casefold()  # the best-known opening of the 1966 script
