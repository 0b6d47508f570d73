"""Every step against the village's planted truth, in worlds that were not looked at when the rules were written."""

from dataclasses import replace

import pytest

from minillm.text import cleaning_scores
from minillm.text.cleaning import STEPS, CleaningConfig, clean
from minillm.text.cleaning_scores import score_steps
from minillm.text.village import Village
from minillm.text.village_dirt import DirtyDocument, Planted


@pytest.mark.parametrize("seed", [0, 41, 42])
def test_every_step_reaches_98_percent_on_the_village_s_dirt(seed):
    scores = score_steps(Village(seed=seed).dirty(1500))
    assert list(scores) == [*STEPS[1:-1], "email", "phone", "id", "whole"]
    for name, result in scores.items():
        print(f"seed {seed}: {name:<18} {result}")
        assert result.planted >= 50, name  # so that 0.98 means something
        assert result.precision >= 0.98 and result.recall >= 0.98, (name, str(result))


def test_decoys_survive():
    documents = Village(seed=11).dirty(600)
    report = clean([document.text for document in documents])
    for text, i in zip(report.documents, report.origin, strict=True):
        assert all(decoy in text for decoy in documents[i].decoys)


def test_the_scores_are_those_counted_by_hand():
    page = lambda i, word: DirtyDocument(
        text=f"<p>The {word} of house {i} was late.</p>\nHome | News\n&&&& ####\n~~~~~~~~\nRing 555-0142 now.",
        clean=f"The {word} of house {i} was late.\nRing 555-0142 now.",
        planted=(
            Planted("markup", "<p>", 0, 3),
            Planted("boilerplate", "Home | News", 0, 0),
            Planted("noise", "&&&& ####", 0, 0),
            Planted("noise", "unseen", 0, 0),
            Planted("phone", "555-0142", 0, 0),
            Planted("email", "missed", 0, 0),
        ),
    )
    words = ("baker and his old brown horse", "clock that nobody had ever wound", "letter with a blue stamp on it")
    more = ("ferry full of wet unhappy sheep", "teacher who sang when she walked", "moon over seven empty boats")
    pages = [page(i, word) for i, word in enumerate(words + more)]
    scores = score_steps([*pages, replace(pages[2], copy="exact", copy_of=2)])
    assert (scores["markup"].precision, scores["markup"].recall) == (0.5, 1.0)  # </p> is not in this truth
    assert (scores["noise"].precision, scores["noise"].recall) == (0.5, 0.5)
    assert (scores["boilerplate"].precision, scores["boilerplate"].recall) == (1.0, 1.0)
    assert (scores["phone"].precision, scores["phone"].recall) == (1.0, 1.0)
    assert (scores["email"].precision, scores["email"].recall) == (1.0, 0.0)
    assert scores["phone"].planted == 6  # the copy was gone before its number could be masked
    assert (scores["exact duplicates"].found, scores["exact duplicates"].right) == (1, 1)
    assert scores["whole"].right == 6


def test_a_cleaner_that_does_nothing_finds_nothing(monkeypatch):
    monkeypatch.setattr(cleaning_scores, "find_markup", lambda text: [])
    monkeypatch.setattr(cleaning_scores, "find_personal_data", lambda text: [])
    monkeypatch.setattr("minillm.text.cleaning._STEP", dict.fromkeys(STEPS, lambda texts, config: (texts, {})))
    for name, result in score_steps(Village(seed=0).dirty(200), CleaningConfig()).items():
        assert result.recall == 0 if name != "whole" else result.recall < 0.5, name
