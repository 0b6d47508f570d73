"""The village's instructions: answers that are right, and splits that hold out what they say."""

import re

import pytest

from minillm.text.gift_lists import in_french
from minillm.text.instructions import (
    LISTS,
    NEW_TASKS,
    PHRASINGS,
    RELATIONS,
    SPLITS,
    TASKS,
    Instructions,
    splits,
)
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village

VILLAGE = Village(seed=3, families=9)
LESSONS = Instructions(VILLAGE, seed=1)
TRAINING = LESSONS.training(2600)
TOLD = LESSONS.told(1500)
STORIES = VILLAGE.stories(600)
KIND_OF = {word: kind for kind, words in LESSONS.words.items() for word in words}
EVERYTHING = [(task, split) for task in PHRASINGS for split in splits(task)]


def as_pattern(phrasing):
    return re.escape(phrasing).replace(r"\{0\}", "(?P<m>.+)").replace(r"\{1\}", r"(?P<c>\w+)")


PATTERNS = {task: [as_pattern(phrasing) for phrasing in phrasings] for task, phrasings in PHRASINGS.items()}


def read(one):
    """Which phrasing an instruction has, its material and its colour."""
    for number, pattern in enumerate(PATTERNS[one.task]):
        if match := re.fullmatch(pattern, one.prompt):
            yield number, match["m"], match.groupdict().get("c")


def gifts(text):
    return [tuple(gift.split()[1:]) for gift in text.split(" and ")]


def solve(task, thing, colour):
    """The right answer, worked out from the question alone."""
    if task in RELATIONS:
        facts = [f for f in VILLAGE.truth if (f.subject, f.relation) == (thing, RELATIONS[task])]
        return facts[0].statements[0]
    if task == "sum":
        return f"{thing} = {eval(thing, {})}."
    if task == "mood":
        moods = {VILLAGE.explain(story)["mood"] for story in STORIES if story.endswith(thing)}
        return {"[0]": "happy", "[1]": "sad"}.get(str(sorted(moods)))
    if task == "french":
        return " ".join(in_french(thing.split()))
    if task in LISTS:
        one, two, three = thing.split(", ")
        answers = {"first": one, "second": two, "last": three, "repeat": thing, "backwards": f"{three}, {two}, {one}"}
        return answers[task]
    painted = re.sub(r"a \w+", f"a {colour}", thing)
    return painted if task == "recolour" else " ".join(in_french(painted.split()))


@pytest.mark.parametrize(("task", "split"), EVERYTHING)
def test_every_answer_is_right(task, split):
    for one in LESSONS.draw(task, 12, split):
        assert one.answer in [solve(task, thing, colour) for _, thing, colour in read(one)], one
        assert one.task == task and one.person in ("", *VILLAGE.people)


def test_the_phrasing_is_held_out_and_only_it():
    for one in TRAINING:
        assert len(PHRASINGS[one.task]) - 1 not in [number for number, *_ in read(one)], one
    for task in TASKS:
        for split in splits(task):
            wanted = split == "phrasing"
            for one in LESSONS.draw(task, 20, split):
                assert (len(PHRASINGS[task]) - 1 in [number for number, *_ in read(one)]) == wanted, one
    used = {(one.task, number) for one in TRAINING for number, *_ in read(one)}
    assert {(task, number) for task in TASKS for number in range(3)} <= used


def test_new_tasks_are_in_no_training():
    assert {one.task for one in TRAINING} == set(TASKS) and not set(NEW_TASKS) & set(TASKS)
    assert set(TASKS) | set(NEW_TASKS) == set(PHRASINGS)
    counts = [sum(one.task == task for one in TRAINING) for task in TASKS]
    assert min(counts) == max(counts) == 200


def held_and_seen(task, of):
    held = {part for one in LESSONS.draw(task, 150, "combination") for part in of(one)}
    seen = {part for one in TRAINING if one.task == task for part in of(one)}
    return held, seen


@pytest.mark.parametrize("task", [task for task in RELATIONS if task in TASKS])
def test_nothing_is_asked_about_people_held_out(task):
    held, _ = held_and_seen(task, lambda one: [one.person])
    asked = {one.person for one in TRAINING if one.person}
    assert held and not held & asked and not held & set(VILLAGE.world.strangers)
    assert not asked & set(VILLAGE.world.strangers)


def test_sums_and_coloured_things_are_held_out_of_training_and_of_what_is_told():
    held, seen = held_and_seen("sum", lambda one: [one.answer])
    assert len(held) == 24 and not held & seen and not held & set(TOLD)
    assert len(seen | {text for text in TOLD if "=" in text}) == 57
    pairs = lambda one: gifts(one.prompt.split(": ")[-1]) if one.task == "french" else gifts(one.answer)
    french = {one.answer for one in LESSONS.draw("french", 200, "combination")}
    painted, seen_painted = held_and_seen("recolour", pairs)
    seen_french = {one.answer for one in TRAINING if one.task == "french"}
    assert len(french) == len(painted) == 14 and len(seen_french) == 34
    assert not french & seen_french and not painted & seen_painted
    for text in TOLD:
        if text.endswith("in French."):
            said = text.removesuffix(" in French.").split(" is ")[1]
            assert not [gift for gift in french if gift in said.split(" et ")], text


@pytest.mark.parametrize("task", [task for task in LISTS if task in TASKS])
def test_each_operation_misses_one_kind_of_word(task):
    kind = lambda one: [KIND_OF[one.answer.split(", ")[0]]]
    held, seen = held_and_seen(task, kind)
    assert len(held) == 1 and held | seen == set(LESSONS.words) and not held & seen
    for one in LESSONS.draw(task, 30):
        words = re.findall(r"[A-Za-z]+", one.prompt)[-3:]
        assert len({KIND_OF[word] for word in words}) == 1 and len(set(words)) == 3


def test_ends_of_stories_are_new():
    end = lambda one: [thing for _, thing, _ in read(one)]
    held, seen = held_and_seen("mood", end)
    assert len(held) > 20 and not held & seen and not held & set(TOLD)
    moods = [one.answer for one in LESSONS.draw("mood", 200)]
    assert 60 < moods.count("sad") < 140


def test_what_is_told_holds_all_that_is_known_and_nothing_else():
    said = set(TOLD)
    statements = {s: fact for fact in VILLAGE.truth for s in fact.statements}
    stated = [statements[text] for text in TOLD if text in statements]
    assert len(stated) == 750 and all(fact.probability for fact in stated)
    assert not [text for text in said if "?" in text and '"' not in text], "a question outside direct speech"
    unknown = [one for task in RELATIONS for one in LESSONS.draw(task, 40, "unknown")]
    assert unknown and not said & {one.answer for one in unknown}
    names = {word for text in TOLD for word in WordTokenizer.split(text)}
    assert set(VILLAGE.world.strangers) <= names, "a stranger's name is a word that was met"


def test_a_text_is_a_function_of_seeds_and_number():
    again = Instructions(Village(seed=3, families=9), seed=1)
    assert again.training(60) == TRAINING[:60] and again.told(31) == TOLD[:31]
    assert LESSONS.training(30, start=17) == TRAINING[17:47]
    assert LESSONS.told(10, start=5) == TOLD[5:15] and LESSONS.told(9, start=6) == TOLD[6:15]
    for task, split in EVERYTHING:
        assert LESSONS.draw(task, 4, split, start=3) == LESSONS.draw(task, 7, split)[3:]
    other = Instructions(VILLAGE, seed=2)
    assert other.training(60) != TRAINING[:60]
    assert {one.answer for one in other.draw("sum", 200, "combination")} != {
        one.answer for one in LESSONS.draw("sum", 200, "combination")
    }


def test_what_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="task='third' must be one of home"):
        LESSONS.draw("third", 1)
    with pytest.raises(ValueError, match="split='unknown' is not there for task='sum', which has seen, phr"):
        LESSONS.draw("sum", 1, "unknown")
    with pytest.raises(ValueError, match=r"split='combination' is not there for task='second', which has seen$"):
        LESSONS.draw("second", 1, "combination")
    assert set(SPLITS) == {split for _, split in EVERYTHING}
