"""The pipeline as a whole: its records add up, and planted dirt is found, in prose and in the village."""

import random

import pytest

from minillm.text.cleaning import STEPS, CleaningConfig, clean, exact_duplicates, score
from minillm.text.stories import load_stories

STORIES = [story.text for story in load_stories()]


def test_clean_prose_goes_through_unchanged():
    report = clean(STORIES)
    assert report.documents == STORIES and report.origin == list(range(len(STORIES)))
    assert [step.name for step in report.steps] == list(STEPS)
    assert all(not step.changed and not step.dropped for step in report.steps)


@pytest.fixture
def dirty():
    """Real prose with dirt planted by hand: (documents, truth by step)."""
    chance = random.Random(4)
    documents = list(STORIES[:200])
    truth: dict[str, set[int]] = {name: set() for name in STEPS}
    for i in chance.sample(range(200), 40):
        documents[i] = f'<div class="story"><p>{documents[i]}</p></div><script>count({i});</script>'
        truth["markup"].add(i)
    for i in chance.sample(range(200), 40):
        documents[i] = f"Skip to content · Log in\n{documents[i]}\nPrinted on {i}.{i}.20{i:02}, share this page"
        truth["boilerplate"].add(i)
    for i in chance.sample(range(200), 30):
        cut = documents[i].index(". ") + 2
        documents[i] = (
            f"{documents[i][:cut]}Write to reader{i}@letters.example or ring 020 7946 0{i:03}. {documents[i][cut:]}"
        )
        truth["personal data"].add(i)
    for i in chance.sample(range(200), 20):
        documents.append(documents[i].replace(" ", "  ", 3))
        truth["exact duplicates"].add(len(documents) - 1)
    for i in chance.sample(range(200), 20):
        words = documents[i].split(" ")
        for at in chance.sample(range(30, 80), 3):
            words[at] = "harbour" if "<" not in words[at] and "\n" not in words[at] else words[at]
        documents.append(" ".join(words))
        truth["near-duplicates"].add(len(documents) - 1)
    for _ in range(20):
        documents.append(" ".join("".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(40)))
        truth["quality"].add(len(documents) - 1)
    return documents, truth


def test_dirt_planted_in_prose_is_found_and_nothing_else(dirty):
    documents, truth = dirty
    report = clean(documents)
    gone = truth["exact duplicates"] | truth["near-duplicates"] | truth["quality"]
    for name in ("quality", "exact duplicates", "near-duplicates"):
        assert set(report.step(name).dropped) == truth[name], name
    for name in ("markup", "boilerplate", "personal data"):
        assert {i for i in report.step(name).changed if i not in gone} >= truth[name], name
        assert {i for i in report.step(name).changed if i < 200} == truth[name], name
    for text, i in zip(report.documents, report.origin, strict=True):
        plain = text.replace("Write to <email> or ring <phone>. ", "")
        assert plain == STORIES[i]


def test_the_records_add_up(dirty):
    documents, _ = dirty
    report = clean(documents)
    for earlier, later in zip(report.steps, report.steps[1:], strict=False):
        assert later.documents_in == earlier.documents_in - len(earlier.dropped)
        assert later.characters_in == earlier.characters_out
    assert report.steps[-1].documents_in - len(report.steps[-1].dropped) == len(report.documents) == len(report.origin)
    assert report.steps[-1].characters_out == sum(map(len, report.documents))
    assert str(report).count("\n") == len(STEPS) - 1 and "near-duplicates" in str(report)
    assert all(step.megabytes_per_second > 0 for step in report.steps)


def test_reasons_name_documents_of_the_raw_list():
    text = STORIES[0]
    report = clean(["?", text, "??", text, text.replace("the", "that", 2)])
    assert report.origin == [1]
    assert report.step("exact duplicates").dropped == {3: "equals document 1"}
    assert report.step("near-duplicates").dropped[4].endswith("like document 1")


def test_cleaning_twice_is_cleaning_once(dirty):
    once = clean(dirty[0])
    again = clean(once.documents)
    assert again.documents == once.documents


def test_steps_can_be_left_out():
    raw = ["<b>Mira</b>  sold the bread on the quay."]
    assert clean(raw, CleaningConfig(steps=("markup",))).documents == ["Mira sold the bread on the quay."]
    assert clean(raw, CleaningConfig(steps=())).documents == raw
    with pytest.raises(ValueError, match=r"polish.*the steps are normalise"):
        CleaningConfig(steps=("polish",))
    with pytest.raises(ValueError, match="not a step that was taken"):
        clean(raw, CleaningConfig(steps=())).step("markup")


def test_limits():
    assert clean([]).documents == []
    assert clean(["", " ", "<p></p>"]).documents == []
    with pytest.raises(ValueError, match=r"documents\[1\] is of type int"):
        clean(["text", 3])  # type: ignore[list-item]


def test_exact_duplicates_name_the_first():
    assert exact_duplicates(["a b", "A  B", "c", "a\nb", "c "]) == {1: 0, 3: 0, 4: 2}
    assert exact_duplicates([]) == {}


def test_score_by_hand():
    result = score([1, 2, 2, 3, 9], [2, 3, 4, 5, 6, 7])
    assert (result.precision, result.recall) == (0.5, 2 / 6)
    assert score([], []).precision == score([], []).recall == 1.0
    assert score([1], []).precision == 0.0 and score([], [1]).recall == 0.0
