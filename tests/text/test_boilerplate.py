"""Menus and footers go; what repeats for another reason stays."""

import pytest

from minillm.text.boilerplate import BoilerplateConfig, find_boilerplate, remove_boilerplate
from minillm.text.stories import load_stories

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises

TEXTS = [story.text for story in load_stories()[:24]]
MENU, FOOTER = "Home | Stories | Contact", "© 2021 The Harbour Times. All rights reserved."


def test_menus_and_footers_go_and_the_pages_stay():
    pages = [f"{MENU}\n{text}\n{FOOTER}" for text in TEXTS]
    assert remove_boilerplate(pages) == TEXTS


def test_numbers_and_case_do_not_hide_it():
    pages = [f"{text}\n{'PAGE' if i % 2 else 'Page'} {i} of {len(TEXTS)}" for i, text in enumerate(TEXTS)]
    assert remove_boilerplate(pages) == TEXTS


def test_a_menu_on_some_pages_is_found_too():
    pages = [f"{MENU}\n{text}" if i % 4 == 0 else text for i, text in enumerate(TEXTS)]
    assert remove_boilerplate(pages) == TEXTS


def test_fewer_pages_than_the_least_prove_nothing():
    pages = [f"{MENU}\n{text}" for text in TEXTS[:4]] + TEXTS[4:]
    assert remove_boilerplate(pages) == pages
    assert find_boilerplate(pages, BoilerplateConfig(least=4)) == {MENU.lower()}


def test_copies_of_one_page_are_no_boilerplate():
    first, second, *rest = TEXTS[0].split(". ", 2)
    copies = [f"{first}.\n{second} {i}.\n{rest[0]}" for i in range(12)]
    assert remove_boilerplate(copies + TEXTS[1:]) == copies + TEXTS[1:]


def test_a_sentence_that_many_write_stays_inside_a_page():
    pages = ["\n".join([*text.split(". ")[:4], "Nobody said a word.", *text.split(". ")[4:8]]) for text in TEXTS]
    assert remove_boilerplate(pages) == pages


def test_a_line_that_announces_the_next_stays():
    pages = [f"FIRST CITIZEN:\n{text}" for text in TEXTS]
    assert remove_boilerplate(pages) == pages


def test_limits():
    assert remove_boilerplate([]) == [] and remove_boilerplate(["", "a"]) == ["", "a"]
    for change in ({"least": 1}, {"share": 1.0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            BoilerplateConfig(**change)
