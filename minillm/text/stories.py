"""The course's own stories: short, complete, written by hand for it, each in English and in Chinese.

    data/stories.en.txt    one sentence a line, an empty line between stories
    data/stories.zh.txt    the same in Chinese: line i of one file is line i of the other
    data/stories.index.tsv number, title, title_zh, mood, theme

Real prose is what a generated village cannot give: surprise. The moods make a small classification task, the aligned
sentences a small translation task, and all of it is under the project's own licence.

Next:    minillm/text/public_texts.py
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

MOODS = ("happy", "sad", "neutral")
_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """One story. `sentences[i]` and `sentences_zh[i]` say the same; `mood` is one of `MOODS`."""

    title: str
    title_zh: str
    mood: str
    theme: str
    sentences: tuple[str, ...]
    sentences_zh: tuple[str, ...]

    @property
    def text(self) -> str:
        """The English story as one paragraph, without the title."""
        return " ".join(self.sentences)

    @property
    def text_zh(self) -> str:
        """The Chinese story as one paragraph, without the title; Chinese has no spaces between sentences."""
        return "".join(self.sentences_zh)


def load_stories() -> list[Story]:
    """All stories, in the order of the index.

    >>> story = load_stories()[0]
    >>> len(story.sentences) == len(story.sentences_zh), story.mood in MOODS
    (True, True)
    """
    return list(_stories(_DATA))


@cache
def _stories(folder: Path) -> tuple[Story, ...]:
    head, *rows = [line.split("\t") for line in _read(folder / "stories.index.tsv").splitlines()]
    english, chinese = (
        _read(folder / f"stories.{language}.txt").strip("\n").split("\n\n") for language in ("en", "zh")
    )
    if head != ["number", "title", "title_zh", "mood", "theme"] or not len(rows) == len(english) == len(chinese):
        raise ValueError(
            f"{folder}: the index names {len(rows)} stories, the texts hold {len(english)} (en), {len(chinese)} (zh); "
            "the three files belong together: take all of them from one release"
        )
    return tuple(
        Story(
            title=title,
            title_zh=title_zh,
            mood=mood,
            theme=theme,
            sentences=tuple(english[i].split("\n")),
            sentences_zh=tuple(chinese[i].split("\n")),
        )
        for i, (_, title, title_zh, mood, theme) in enumerate(rows)
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")  # gives \n also where git has checked the files out with CRLF
