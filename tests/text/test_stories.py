"""The stories are what they claim to be: many, whole, aligned, varied, and nobody's data."""

import re
from collections import Counter

import pytest

from minillm.text import stories as stories_module
from minillm.text.near_duplicates import NearDuplicateConfig, near_duplicates
from minillm.text.normalise import normalise, split_words
from minillm.text.personal_data import find_personal_data
from minillm.text.quality import why_not
from minillm.text.stories import MOODS, load_stories

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises

STORIES = load_stories()


def test_there_are_enough_and_each_has_the_right_length():
    assert len(STORIES) >= 300
    for story in STORIES:
        assert 100 <= len(story.text.split()) <= 180, story.title
        assert 7 <= len(story.sentences) <= 18, story.title


def test_english_and_chinese_are_aligned_line_by_line():
    for story in STORIES:
        assert len(story.sentences) == len(story.sentences_zh), story.title
        for english, chinese in zip(story.sentences, story.sentences_zh, strict=True):
            assert english.isascii() and re.search(r"[.!?][\"']?$", english), english
            assert re.search(r"[\u4e00-\u9fff]", chinese) and re.search(r"[。？！…”’—》]$", chinese), chinese
            assert not re.search(r'[,;:?!"]|[A-Za-z]{3,}', chinese), chinese
        # A translation that lost or gained a sentence shows in the proportion of the lengths.
        assert 0.18 < len(story.text_zh) / len(story.text) < 0.5, story.title


def test_titles_are_unique_and_moods_and_themes_are_valid():
    for titles in ([s.title.lower() for s in STORIES], [s.title_zh for s in STORIES]):
        assert [title for title, count in Counter(titles).items() if count > 1] == []
    assert {story.mood for story in STORIES} == set(MOODS)
    counts = Counter(story.mood for story in STORIES)
    assert min(counts.values()) > 0.15 * len(STORIES), counts  # enough of each to learn from
    assert all(re.fullmatch(r"[a-z]+( [a-z]+){0,2}", story.theme) for story in STORIES)
    assert len({story.theme for story in STORIES}) >= 20


def test_nothing_personal_is_in_them():
    for story in STORIES:
        assert find_personal_data(story.text) == [] and find_personal_data(story.text_zh) == [], story.title


def test_no_story_is_near_another():
    for texts in ([story.text for story in STORIES], [story.text_zh for story in STORIES]):
        assert near_duplicates(texts, NearDuplicateConfig(threshold=0.2, bands=64, rows=2)).copy_of == {}


@pytest.mark.parametrize("language", ["text", "text_zh"])
def test_no_long_run_of_words_stands_in_two_stories(language):
    size = 8 if language == "text" else 16
    seen: dict[tuple[str, ...], int] = {}
    shared = []
    for i, story in enumerate(STORIES):
        words = split_words(getattr(story, language))
        for at in range(len(words) - size + 1):
            run = tuple(words[at : at + size])
            if seen.setdefault(run, i) != i:
                shared.append((story.title, STORIES[seen[run]].title, " ".join(run)))
    assert shared == []


def test_they_do_not_open_alike():
    openings = Counter(tuple(split_words(story.text)[:3]) for story in STORIES)
    assert openings.most_common(1)[0][1] <= 4, openings.most_common(5)
    assert len(openings) >= 0.9 * len(STORIES)
    first = Counter(split_words(story.text)[0] for story in STORIES)
    assert first.most_common(1)[0][1] <= 0.35 * len(STORIES), first.most_common(5)


def test_they_pass_the_course_s_own_cleaner():
    for story in STORIES:
        assert normalise(story.text) == story.text and normalise(story.text_zh) == story.text_zh, story.title
        assert why_not(story.text) is None and why_not(story.text_zh) is None, story.title


def test_line_ends_of_a_windows_checkout_do_not_matter(tmp_path):
    for name in ("stories.index.tsv", "stories.en.txt", "stories.zh.txt"):
        data = (stories_module._DATA / name).read_bytes()
        (tmp_path / name).write_bytes(data.replace(b"\n", b"\r\n"))
    assert stories_module._stories(tmp_path) == tuple(STORIES)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    (tmp_path / "stories.index.tsv").write_text("number\ttitle\ttitle_zh\tmood\ttheme\n1\tA\t甲\thappy\twork\n")
    (tmp_path / "stories.en.txt").write_text("One.\n\nTwo.\n")
    (tmp_path / "stories.zh.txt").write_text("一。\n")
    with pytest.raises(ValueError, match="names 1 stories, the texts hold 2"):
        stories_module._stories(tmp_path)
