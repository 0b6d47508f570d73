"""The widget of chapter 00: seventy years on one page, an era at a time.

Next:    minillm/course/checks_00.py
"""

from minillm.course.figures import Figure, timeline_chart
from minillm.course.timeline import ERAS, Event, load_timeline
from minillm.course.widgets import Explorer, choice

ALL = "all eras"


class TimelineExplorer(Explorer):
    """Choose an era: its events on a line, and below it who says so and what our documents got wrong."""

    def __init__(self, era: str = ALL) -> None:
        self.era = choice("era", [ALL, *ERAS.values()], era)
        super().__init__(self.era)

    @property
    def events(self) -> list[Event]:
        """The events of the chosen era, in the order of years."""
        return [event for event in load_timeline() if self.era.value in (ALL, ERAS[event.era])]

    def draw(self) -> tuple[Figure, str]:
        """One lane for each era that is shown; names only where one era is shown, so that they fit."""
        events = self.events
        one_era = self.era.value != ALL
        lanes = sorted(events, key=lambda event: list(ERAS).index(event.era))
        first, last, eras = events[0].year, events[-1].year, len({event.era for event in events})
        figure = timeline_chart(
            [(event.year, ERAS[event.era], event.name if one_era else "") for event in lanes],
            title=str(self.era.value).capitalize(),
            alt=f"{len(events)} events from {first} to {last}, on {eras} lanes, one for each era.",
            height=3.0 if one_era else 5.0,
        )
        if not one_era:
            wrong = sum(bool(event.check) for event in events)
            return figure, f"{len(events)} events; the documents have {wrong} of them wrong or in doubt. Choose an era."
        return figure, "\n".join(_line(event) for event in events)


def _line(event: Event) -> str:
    """One event as a line of text."""
    mark = f" ★ {event.check}" if event.check else ""
    return f"{event.year}: {event.event} ({event.source}; chapter {event.chapter}).{mark}"
