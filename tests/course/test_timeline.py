"""The timeline is data that readers trust: every row is complete, and the widget shows what the data say."""

import re

import pytest

from minillm.course.timeline import ERAS, load_timeline
from minillm.course.widgets_00 import ALL, TimelineExplorer


def test_every_event_names_its_source_and_a_chapter_of_the_course():
    for event in load_timeline():
        assert event.era in ERAS and event.source and event.event and event.name, event
        assert re.fullmatch(r"[01]\d|2[0-6]", event.chapter), event
        assert 1940 <= event.year <= 2025, event


def test_every_correction_names_its_entry_in_the_list_of_errors():
    checks = [event.check for event in load_timeline() if event.check]
    assert len(checks) >= 20
    assert all(re.match(r"E\d{2,3}(, E\d{2,3})*: ", check) for check in checks)


def test_the_years_never_go_back():
    years = [event.year for event in load_timeline()]
    assert years == sorted(years)


@pytest.mark.parametrize("era", ERAS.values())
def test_choosing_an_era_shows_that_era_alone(era):
    explorer = TimelineExplorer()
    everything = explorer.figure.png
    explorer.era.value = era
    assert {ERAS[event.era] for event in explorer.events} == {era}
    assert explorer.figure.png != everything
    assert all(str(event.year) in explorer.sentence for event in explorer.events)
    explorer.era.value = ALL
    assert explorer.figure.png == everything  # the same choice, the same picture
