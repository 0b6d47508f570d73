"""Two answers side by side: click the better one, or type 1 or 2; u takes the last click back.

What a model wrote is shown as text, whatever it wrote: no markup of it comes alive, no formula is set. Each click is in
the file before the next question is shown. The stored output holds the question as a still twin.

Next:    minillm/course/progress.py
"""

import html
from typing import Any

import ipywidgets as W

from minillm.course.preference_desk import Desk
from minillm.course.widgets import ASSISTED, assist

KEYS = {"1": "left", "2": "right"}
_BOX = "border:1px solid #888; border-radius:4px; padding:8px; white-space:pre-wrap; unicode-bidi:isolate;"


class PreferenceDesk(W.VBox):
    """Buttons, keys and texts for a `Desk`."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.prompt, self.status = W.HTML(), W.HTML()
        self.sides = tuple(W.HTML(layout=W.Layout(width="50%")) for _ in KEYS)
        layout = W.Layout(width="50%")
        names = [f"{side} is better ({key})" for key, side in KEYS.items()]
        self.buttons = tuple(W.Button(description=name, layout=layout) for name in names)
        self.back = W.Button(description="take back (u)")
        wide = {"description_width": "initial"}
        self.key = W.Text(description="or type 1, 2 or u:", tooltip="1, 2 or u", continuous_update=True, style=wide)
        for button, side in zip(self.buttons, KEYS.values(), strict=True):
            button.on_click(lambda _, side=side: self.choose(side))
        self.back.on_click(lambda _: self.undo())
        self.key.observe(self._typed, "value")
        self.redraw()
        rows = [W.HBox(list(self.sides)), W.HBox(list(self.buttons)), W.HBox([self.back, self.key])]
        super().__init__([self.prompt, *rows, self.status, assist()])
        self.add_class(ASSISTED)

    def choose(self, side: str) -> None:
        """What the buttons do; a click after the last question does nothing."""
        if self.desk.current is not None:
            self.desk.choose(side)
        self.redraw()

    def undo(self) -> None:
        """What the third button does."""
        self.desk.undo()
        self.redraw()

    def redraw(self) -> None:
        """Show the question that is open now."""
        shown = self.desk.current
        texts = ("", "") if shown is None else shown.sides
        self.prompt.value = "" if shown is None else as_text(shown.prompt)
        for side, text in zip(self.sides, texts, strict=True):
            side.value = as_text(text, _BOX) if text else ""
        for button in self.buttons:
            button.disabled = shown is None
        self.status.value = f'<span role="status">{html.escape(self.sentence)}</span>'

    @property
    def sentence(self) -> str:
        """Progress, what was found in the file, and how far raters agree."""
        parts = [f"{self.desk.progress}.", self.desk.notice]
        if (raters := self.desk.agreement()) is not None:
            parts.append(f"Raters agree about {raters.share:.0%} of what several judged (alpha {raters.alpha:.2f}).")
        return " ".join(part for part in parts if part)

    def _typed(self, change: Any) -> None:
        typed = str(change["new"]).strip().lower()[-1:]
        if not typed:
            return
        self.key.value = ""
        if typed in KEYS:
            self.choose(KEYS[typed])
        elif typed == "u":
            self.undo()

    def _repr_mimebundle_(self, **kinds: Any) -> Any:
        bundle: Any = super()._repr_mimebundle_(**kinds)
        data: Any = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:
            cells = "".join(f"<td>{side.value}</td>" for side in self.sides)
            words = html.escape(self.sentence)
            data["text/html"] = f"{self.prompt.value}<table><tr>{cells}</tr></table><p>{words}</p>"
            data["text/plain"] = f"{type(self).__name__}: {self.sentence}"
        return bundle


def as_text(text: str, style: str = "white-space:pre-wrap; unicode-bidi:isolate;") -> str:
    """HTML that shows exactly this text.

    >>> as_text("<b>a & b</b>", "x")
    '<div style="x">&lt;b&gt;a &amp; b&lt;/b&gt;</div>'
    """
    return f'<div style="{style}">{html.escape(text)}</div>'
