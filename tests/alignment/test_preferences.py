"""Judgements in a file that loses nothing, refused line by line when wrong; agreement against other implementations."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from nltk.metrics.agreement import AnnotationTask
from sklearn.metrics import cohen_kappa_score

from minillm.alignment.preferences import (
    Comparison,
    agreement,
    append_comparison,
    cohen_kappa,
    krippendorff_alpha,
    mend,
    ranked,
    read_comparisons,
    take_back,
)
from minillm.text.dice import Dice


def one(choice=0, prompt="p", who="me", **more):
    return Comparison(prompt=prompt, answers=("a", "b"), choice=choice, who=who, **more)


ODD = Comparison(
    prompt="line\nbreak\u2028and\x85others\r",
    answers=("<b>☃ 你好</b>", '"\\'),
    choice=1,
    who="ada é",
    left=0,
    when="2026-11-22T17:00:00+00:00",
)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    for judged in (one(), ODD, one(1, prompt="q", left=1)):
        append_comparison(path, judged)
    assert read_comparisons(path) == [one(), ODD, one(1, prompt="q", left=1)]
    assert path.read_bytes().count(b"\n") == 3, "a line is a judgement, whatever its texts hold"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"choice": 2}, "choice=2 must be 0 or 1"),
        ({"choice": True}, "choice=True must be 0 or 1"),
        ({"choice": None}, "choice=None"),
        ({"choice": "0"}, "choice='0'"),
        ({"answers": ["a"]}, "must be two texts"),
        ({"answers": "ab"}, "must be two texts"),
        ({"answers": ["a", "a"]}, "the same text twice"),
        ({"answers": ["a", 3]}, "answers=3 must be text"),
        ({"prompt": 5}, "prompt=5 must be text"),
        ({"prompt": "\ud800"}, "that UTF-8 can hold"),
        ({"who": "  "}, "must name the rater"),
        ({"who": None}, "must name the rater"),
        ({"left": 2}, "left=2 must be 0 or 1"),
        ({"when": "yesterday"}, "when='yesterday' is not a time"),
        ({"colour": "red"}, "unknown: ['colour']"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, change, says):
    path = tmp_path / "a.jsonl"
    fields = {"prompt": "p", "answers": ["a", "b"], "choice": 0, "who": "me"}
    path.write_text(json.dumps(fields) + "\n\n" + json.dumps(fields | change) + "\n")
    with pytest.raises(ValueError, match=r"a\.jsonl' line 3: ") as caught:
        read_comparisons(path)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[1]", "must be an object"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "fields missing: ['prompt', 'answers', 'choice', 'who']"),
        ('{"undo": "bob"}', "who='bob' takes back a judgement, but none of theirs stands"),
        ('{"undo": 3}', "unknown: ['undo']"),
    ],
)
def test_a_line_that_is_no_judgement(tmp_path, line, says):
    path = tmp_path / "a.jsonl"
    append_comparison(path, one())
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match="line 2") as caught:
        read_comparisons(path)
    assert says in str(caught.value)


def test_bytes_that_are_not_utf8(tmp_path):
    (tmp_path / "a").write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(ValueError, match=r"line 1: .*not JSON in UTF-8"):
        read_comparisons(tmp_path / "a")


def test_taking_back_takes_the_last_of_that_rater(tmp_path):
    path = tmp_path / "a.jsonl"
    for judged in (one(prompt="1"), one(prompt="2"), one(prompt="3", who="bob")):
        append_comparison(path, judged)
    assert take_back(path, "me") == one(prompt="2")
    assert [c.prompt for c in read_comparisons(path)] == ["1", "3"]
    append_comparison(path, one(1, prompt="2"))
    assert take_back(path, "me") == one(1, prompt="2") and take_back(path, "me") == one(prompt="1")
    with pytest.raises(ValueError, match="none of theirs stands"):
        take_back(path, "me")
    assert path.read_bytes().count(b"\n") == 7, "nothing is ever erased"


@pytest.mark.parametrize("cut", [1, 2, 20, 40])
def test_half_a_line_is_told_and_kept_aside(tmp_path, cut):
    path = tmp_path / "a.jsonl"
    append_comparison(path, one())
    append_comparison(path, ODD)
    whole = path.read_bytes()
    line = len(whole.splitlines(keepends=True)[0])
    path.write_bytes(whole + whole[:cut])
    with pytest.raises(ValueError, match="in the middle of a line"):
        read_comparisons(path)
    with pytest.raises(ValueError, match="half a line"):
        append_comparison(path, one())
    assert mend(path) == whole[:cut].decode()
    assert path.read_bytes() == whole and cut < line
    assert (tmp_path / "a.jsonl.torn").read_bytes() == whole[:cut] + b"\n"
    assert mend(path) is None and read_comparisons(path) == [one(), ODD]


def test_a_last_line_without_its_end_is_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    append_comparison(path, one())
    path.write_bytes(path.read_bytes().rstrip())
    assert mend(path) is None
    append_comparison(path, ODD)
    assert read_comparisons(path) == [one(), ODD] and not (tmp_path / "a.jsonl.torn").exists()


def test_mending_what_is_not_there(tmp_path):
    assert mend(tmp_path / "none") is None and not (tmp_path / "none").exists()


WRITER = """
    import sys
    from minillm.course.preference_desk import Desk
    questions = [(f"prompt {i}", (f"first {i}" * 40, f"second {i}" * 40)) for i in range(100_000)]
    desk = Desk(questions, sys.argv[1])
    while desk.current is not None:
        shown = desk.choose("left")
        print(shown.prompt, flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 30])
def test_a_killed_program_has_lost_nothing(tmp_path, after):
    path = tmp_path / "a.jsonl"
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        told = [process.stdout.readline().strip() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        told += [line.strip() for line in process.stdout if line.endswith("\n")]
    mend(path)
    kept = [judged.prompt for judged in read_comparisons(path)]
    assert kept[: len(told)] == told and len(kept) - len(told) <= 1 and len(told) >= after


def test_a_ranking_is_all_its_pairs():
    pairs = [(c.better, c.worse) for c in ranked("p", list("wxyz"), "me")]
    assert len(pairs) == len(set(pairs)) == 6 and all(better < worse for better, worse in pairs)
    assert len(ranked("p", [str(i) for i in range(9)], "me")) == 36


def some_ratings(raters, items, missing, seed=0):
    dice = Dice(seed)
    return {
        (rater, item): dice.below(3) for rater in range(raters) for item in range(items) if not dice.chance(missing)
    }


@pytest.mark.parametrize("seed", range(4))
def test_kappa_is_that_of_sklearn_and_nltk(seed):
    ratings = some_ratings(2, 23, 0.0, seed)
    first, second = ([ratings[rater, item] for item in range(23)] for rater in range(2))
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))
    task = AnnotationTask([(str(r), str(i), str(label)) for (r, i), label in ratings.items()])
    assert cohen_kappa(first, second) == pytest.approx(task.kappa())


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("raters", [2, 5])
def test_alpha_is_that_of_nltk(raters, missing):
    ratings = some_ratings(raters, 17, missing)
    items = [[label for (_, i), label in ratings.items() if i == item] for item in range(17)]
    if missing:  # nltk leaves items with one label in its counts, Krippendorff takes them out first
        lonely = [i for i, labels in enumerate(items) if len(labels) < 2]
        ratings = {key: label for key, label in ratings.items() if key[1] not in lonely}
        assert lonely or raters == 5
    task = AnnotationTask([(str(r), str(i), str(label)) for (r, i), label in ratings.items()])
    assert krippendorff_alpha(items) == pytest.approx(task.alpha())


def test_limits_of_agreement():
    assert cohen_kappa("abab", "abab") == 1 and cohen_kappa("abab", "baba") == -1
    assert krippendorff_alpha(["aa", "bbb"]) == 1
    assert cohen_kappa([0, 0, 0, 1], [1, 1, 1, 1]) == 0, "one who always says the same agrees as chance does"
    for labels in (["aa", "aa"], ["a", "b"], []):
        with pytest.raises(ValueError, match="agreement is not defined"):
            krippendorff_alpha(labels)
    with pytest.raises(ValueError, match="no chance"):
        cohen_kappa("aa", "aa")
    with pytest.raises(ValueError, match="same items"):
        cohen_kappa("ab", "a")


def test_agreement_does_not_mind_the_order_of_answers_nor_of_lines():
    judged = [one(0, "1"), one(0, "1", "bob"), one(1, "2"), one(1, "2", "bob"), one(0, "3"), one(1, "3", "bob")]
    turned = [
        Comparison(prompt=c.prompt, answers=c.answers[::-1], choice=1 - c.choice, who=c.who) if c.who == "bob" else c
        for c in reversed(judged)
    ]
    assert agreement(judged) == agreement(turned)
    assert agreement(judged).items == 3 and agreement(judged).share == pytest.approx(2 / 3)
    assert agreement([*judged, one(0, "3", "bob")]).share == 1, "the later judgement of one rater counts"
    with pytest.raises(ValueError, match="two raters"):
        agreement([one(0, "1"), one(1, "2", "bob")])
