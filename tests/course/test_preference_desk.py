"""The desk and its buttons: what is clicked is written, what is shown is text, and nothing is asked twice."""

import html
from collections import Counter

import pytest

from minillm.alignment.preferences import Comparison, append_comparison, read_comparisons
from minillm.course.preference_desk import Desk
from minillm.course.widgets_preferences import PreferenceDesk, as_text

QUESTIONS = [(f"prompt {i}", (f"first {i}", f"second {i}")) for i in range(5)]


def desk(tmp_path, questions=QUESTIONS, **how):
    return Desk(questions, tmp_path / "clicks.jsonl", clock=lambda: "2026-11-22T17:00:00+00:00", **how)


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_is_clicked_is_what_is_written(tmp_path, side):
    one = desk(tmp_path)
    for i in range(5):
        shown = one.current
        written = one.choose(side)
        assert written.better == shown.sides[side == "right"] and written.prompt == f"prompt {i}"
        assert written.answers[written.left] == shown.sides[0] and written.when.startswith("2026")
        assert read_comparisons(one.path)[-1] == written, "it is in the file at once"
    assert one.current is None and one.progress == "5 of 5 judged"
    with pytest.raises(ValueError, match="5 of 5 judged"):
        one.choose(side)


def test_sides_are_drawn_and_stay(tmp_path):
    many = [(f"prompt {i}", (f"a {i}", f"b {i}")) for i in range(200)]
    one, again = desk(tmp_path, many), desk(tmp_path, many)
    assert one.current == one.current == again.current
    lefts = []
    while one.current is not None:
        lefts.append(one.choose("left").left)
    assert abs(sum(lefts) / len(many) - 0.5) < 0.12
    other = [Desk(many, tmp_path / "other", seed=seed).current.left for seed in range(40)]
    assert Counter(other).keys() == {0, 1}


def test_the_order_in_which_answers_are_given_does_not_choose_the_side(tmp_path):
    for i, (prompt, (a, b)) in enumerate(QUESTIONS):
        sides = {Desk([(prompt, pair)], tmp_path / f"{i}").current.sides for pair in ((a, b), (b, a))}
        assert len(sides) == 1


def test_a_desk_that_is_opened_again_goes_on(tmp_path):
    one = desk(tmp_path)
    one.choose("left")
    one.choose("right")
    again = desk(tmp_path)
    assert again.current == one.current and again.progress == "2 of 5 judged"
    assert desk(tmp_path, who="bob").progress == "0 of 5 judged"
    assert len(desk(tmp_path, QUESTIONS[1:3]).mine) == 1 < len(again.mine) == 2


def test_half_a_line_is_told(tmp_path):
    one = desk(tmp_path)
    one.choose("left")
    with one.path.open("a") as file:
        file.write('{"prompt": "pro')
    one.choose("left")  # the desk that is open mends it too
    assert "half-written line" in one.notice and len(one.mine) == 2
    with one.path.open("a") as file:
        file.write('{"pro')
    again = desk(tmp_path)
    assert '{"pro' in again.notice and again.progress == "2 of 5 judged"
    assert "half-written" in PreferenceDesk(again).sentence


def test_undo(tmp_path):
    one = desk(tmp_path)
    assert one.undo() is None
    one.choose("left")
    second = one.choose("left")
    assert one.undo() == second and one.current.prompt == second.prompt and one.progress == "1 of 5 judged"
    one.choose("right")
    assert one.mine[-1].better == second.worse
    append_comparison(one.path, Comparison(prompt="p", answers=("a", "b"), choice=0, who="bob"))
    one.undo()
    assert [c.who for c in one.comparisons] == ["me", "bob"], "nobody takes back what another said"


def test_agreement_between_raters(tmp_path):
    ada, bob = desk(tmp_path, who="ada"), desk(tmp_path, who="bob")
    assert ada.agreement() is None
    for i in range(5):
        ada.choose("left")
        bob.choose("right" if i == 0 else "left")
    assert ada.agreement() == bob.agreement() and ada.agreement().items == 5
    assert ada.agreement().share == pytest.approx(0.8)
    assert "agree about 80%" in PreferenceDesk(ada).sentence


@pytest.mark.parametrize(
    ("questions", "says"),
    [
        ([], "one or more"),
        ([QUESTIONS[0], ("prompt 0", ("second 0", "first 0"))], "none of them twice"),
        ([("p", ("a", "a"))], "same text twice"),
        ([("p", ("a", "\ud800"))], "UTF-8"),
    ],
)
def test_questions_that_cannot_be_asked(tmp_path, questions, says):
    with pytest.raises(ValueError, match=says):
        desk(tmp_path, questions)


def test_buttons_and_keys_do_the_same(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
    clicks, keys = desk(tmp_path / "a"), desk(tmp_path / "b")
    clicked, typed = PreferenceDesk(clicks), PreferenceDesk(keys)
    for button, key in ((0, "1"), (1, "2"), (1, " 2")):
        clicked.buttons[button].click()
        typed.key.value = key
        assert typed.key.value == "", "ready for the next key"
    clicked.back.click()
    typed.key.value = "U"
    typed.key.value = "x"
    assert clicks.mine == keys.mine and len(keys.mine) == 2
    assert clicked.sentence == typed.sentence == "2 of 5 judged."


def test_a_widget_at_its_end_takes_no_more(tmp_path):
    widget = PreferenceDesk(desk(tmp_path, QUESTIONS[:1]))
    widget.buttons[0].click()
    assert all(button.disabled for button in widget.buttons)
    widget.buttons[0].click()
    widget.key.value = "2"
    assert len(widget.desk.mine) == 1 and "1 of 1" in widget.status.value
    widget.undo()
    assert not widget.buttons[0].disabled and "prompt 0" in widget.prompt.value


EVIL = "<script>alert(1)</script> <img src=x onerror=alert(2)> $x^2$ & \"'</div>"


def test_what_the_model_wrote_is_text(tmp_path):
    (tmp_path / "clicks.jsonl").write_text("<script>alert(3)</script>")  # half a line, of which the notice tells
    widget = PreferenceDesk(desk(tmp_path, [(EVIL, (EVIL + "1", EVIL + "2"))], who="<b>me</b>"))
    bundle = widget._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    for shown in (widget.prompt.value, *(side.value for side in widget.sides), data["text/html"], widget.status.value):
        assert "<script" not in shown and "<img" not in shown and "<b>" not in shown
    assert html.unescape(widget.prompt.value).count(EVIL) == 1
    assert type(widget.prompt).__name__ == "HTML", "Label and HTMLMath would set $x^2$ as a formula"
    assert as_text(EVIL, "x") == f'<div style="x">{html.escape(EVIL)}</div>'


def test_the_still_twin_says_what_is_asked(tmp_path):
    widget = PreferenceDesk(desk(tmp_path))
    bundle = widget._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert all(text in data["text/html"] for text in ("prompt 0", "first 0", "second 0", "0 of 5 judged"))
    assert data["text/plain"] == "PreferenceDesk: 0 of 5 judged."
    assert not widget.desk.path.exists(), "to show is not to write"
