"""The history that the course walks through, as data: what happened when, who says so, what our documents got wrong.

Every row names a primary source. The column `check` says where the five documents that the course mirrors differ from
it, by the number of the entry in the list of their errors.

Next:    minillm/course/widgets_00.py
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# in the order in which the course tells them
ERAS: dict[str, str] = {
    "rules": "Rules",
    "counting": "Counting",
    "tokens": "Tokens",
    "vectors": "Word vectors",
    "neural": "Neural models",
    "attention": "Attention",
    "pretraining": "Pre-training",
    "scale": "Scale",
    "adaptation": "Adaptation",
    "alignment": "Alignment",
    "chat": "Chat",
    "other": "Beside the road",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One entry of the timeline."""

    year: int  # of the paper or the event
    era: str  # a key of ERAS
    name: str  # two words for a picture
    event: str  # what happened, in a sentence
    source: str  # who says so
    chapter: str  # two digits: the chapter that builds it
    check: str  # what the documents get wrong about it; empty when nothing


@cache
def load_timeline() -> tuple[Event, ...]:
    """Read the timeline, sorted by year.

    >>> load_timeline()[0].year
    1948
    >>> sorted({event.era for event in load_timeline()} - set(ERAS))
    []
    """
    lines = files("minillm.course").joinpath("data/timeline.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return tuple(
        Event(year=int(year), era=era, name=name, event=event, source=source, chapter=chapter, check=check)
        for year, era, name, event, source, chapter, check in sorted(rows, key=lambda row: int(row[0]))
    )
