"""Explorers: a picture that answers to sliders, with a still twin for readers without a kernel.

A widget of the course is a class that holds its parts and has one `redraw()`:

    class Temperature(Explorer):
        '''Softmax under a temperature slider.'''

        def __init__(self, logits=(2.0, 1.0, 0.0)):
            self.logits = logits
            self.slider = slider("temperature", 1.0, low=0.1, high=4.0, step=0.1)
            super().__init__(self.slider)

        def draw(self):
            p = softmax(self.logits, self.slider.value)
            return bar_chart(...), f"top probability {p.max():.2f}"

`redraw()` has no memory: the same state of the controls gives the same picture. The picture is a PNG, which does not
flicker; the sentence is read out by screen readers (`role=status`) and is what tests read. The stored output
of a cell holds the first picture too, so that GitHub, nbconvert and a reader who has run nothing see the still twin.
Every control is reached with Tab and worked with keys; `assist` mends what ipywidgets and JupyterLab leave out of that.

Only files named `widgets*.py` import ipywidgets. Widgets of chapter NN live in `widgets_NN.py`.
Set the numbers that a test needs through the controls (`w.slider.value = 0.5`); in a browser use the read-out.

Next:    minillm/course/progress.py
"""

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as W

from minillm.course.figures import PALETTE, Figure

_WIDE = {"description_width": "initial"}  # else ipywidgets cuts labels after a few letters
_KNOB = {"handle_color": PALETTE[0]}  # else white on white
_UNSEEN = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)"  # but read out
ASSISTED = "minillm-assisted"  # the class of a widget that `assist` looks after
# ipywidgets ties no label to a slider's handle and read-out, and has no alt for a picture. JupyterLab takes for itself
# the keys that lists, ticks and buttons live on: an arrow leaves the widget, Enter edits the cell, d d deletes it.
# Its arrow on lists is black on black in the dark theme.
_ASSIST = """
if (!document.getElementById("minillm-style")) {
  const style = document.createElement("style");
  style.id = "minillm-style";
  style.textContent = `.minillm-assisted select { appearance: auto !important; background-image: none !important; }
    body[data-jp-theme-light=false] .minillm-assisted select { color-scheme: dark; }`;
  document.head.append(style);
}
const begin = (tries) => {
  const box = element.closest(".minillm-assisted");
  if (!box) return tries && setTimeout(begin, 50, tries - 1);
  const assist = () => {
    for (const slider of box.querySelectorAll(".widget-slider")) {
      const name = slider.querySelector(".widget-label").textContent, value = slider.querySelector(".widget-readout");
      slider.querySelector(".noUi-handle")?.setAttribute("aria-label", name);
      value?.setAttribute("role", "textbox");
      value?.setAttribute("aria-label", name + ", as a number");
    }
    const words = box.querySelector(".minillm-words"), picture = box.querySelector("img.widget-image");
    if (words && picture) {
      picture.alt = words.textContent; words.ariaHidden = "true";
      words.parentElement.ariaLive = "polite";  // it stays while the sentence in it is replaced: so that is read out
    }
  };
  new MutationObserver(assist).observe(box, {childList: true, subtree: true});
  assist();
  box.addEventListener("keydown", (event) => {
    const forNotebook = event.ctrlKey || event.metaKey || event.altKey || (event.shiftKey && event.key === "Enter");
    if (!forNotebook) event.stopPropagation();
  });
};
begin(200);
"""


class Explorer(W.VBox):
    """A column of controls, the picture they steer, and a sentence that says what the picture shows.

    Subclasses make their controls, hand them to `super().__init__`, and define `draw()`.
    """

    def __init__(self, *controls: W.Widget) -> None:
        self.controls = controls
        self.picture = W.Image(format="png", layout=W.Layout(max_width="800px"))
        self.status = W.HTML()
        self.figure: Figure
        self.sentence = ""
        for control in controls:
            if isinstance(control, W.Button):
                control.on_click(lambda _: self.redraw())
            else:
                control.observe(lambda _: self.redraw(), "value")
        self.redraw()
        super().__init__([*controls, self.picture, self.status, assist()])
        self.layout.padding = "0 4px"  # else the ring around what has the focus is cut off
        self.add_class(ASSISTED)

    def draw(self) -> tuple[Figure, str]:
        """Give the figure for the present state of the controls, and a sentence that says what it shows."""
        raise TypeError(f"{type(self).__name__} must define draw(self) -> (figure, sentence)")

    def redraw(self) -> None:
        """Bring picture and sentence in line with the controls; called whenever one of them changes."""
        self.figure, self.sentence = self.draw()
        self.picture.value = self.figure.png
        # ipywidgets.Image has no alt, and a tooltip breaks it in JupyterLab 4: so the words stand unseen below it, and
        # where scripts run they become its alt
        words_of_picture = f'<span class="minillm-words" style="{_UNSEEN}">{html.escape(self.figure.alt)}</span>'
        self.status.value = f'{words_of_picture}<span role="status">{_lines(self.sentence)}</span>'

    def _repr_mimebundle_(self, **kinds: Any) -> Any:
        bundle: Any = super()._repr_mimebundle_(**kinds)
        data: Any = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:
            still = self.figure._repr_mimebundle_()
            data["image/png"] = still["image/png"]
            data["text/html"] = f"{still['text/html']}<p>{_lines(self.sentence)}</p>"
            data["text/plain"] = f"{type(self).__name__}: {self.sentence}"
        return bundle


def assist() -> W.Output:
    """Keys and names for the widget of class `ASSISTED` of which this is a child: itself it is not seen.

    In it keys without Ctrl or Alt belong to the control that has the focus, and a screen reader learns what sliders are
    called and what the picture shows (the text of class `minillm-words`).

    >>> [*assist().outputs[0]["data"]]
    ['application/javascript']
    """
    script = {"output_type": "display_data", "data": {"application/javascript": _ASSIST}, "metadata": {}}
    return W.Output(outputs=(script,), layout=W.Layout(display="none"))


def _lines(sentence: str) -> str:
    """The sentence as HTML text, with its line breaks kept."""
    return html.escape(sentence).replace("\n", "<br>")


def slider(label: str, value: float, *, low: float, high: float, step: float | None = None) -> Any:
    """A slider with a read-out; whole numbers when value, low, high and step all are.

    >>> slider("order", 3, low=1, high=6).value
    3
    >>> slider("temperature", 1.0, low=0.1, high=4.0, step=0.1).value
    1.0
    """
    if not low <= value <= high:
        raise ValueError(f"value={value} must lie in {low} … {high}; for example {low}")
    if all(isinstance(n, int) for n in (value, low, high, step or 1)):
        whole = {"min": int(low), "max": int(high), "step": int(step or 1)}
        return W.IntSlider(int(value), **whole, layout=_across("560px"), **_named(label, **_KNOB))
    step = step if step is not None else (high - low) / 100
    return W.FloatSlider(float(value), min=low, max=high, step=step, layout=_across("560px"), **_named(label, **_KNOB))


def choice(label: str, options: Sequence[str], value: str | None = None) -> W.Dropdown:
    """A list to choose one word from; the first unless `value` says otherwise.

    >>> choice("smoothing", ["mle", "add-k"]).value
    'mle'
    """
    value = options[0] if value is None else value
    return W.Dropdown(options=list(options), value=value, layout=_across("max-content"), **_named(label))


def words(label: str, value: str, width: str = "600px") -> W.Text:
    """A line to type into; the picture follows when Enter is pressed or the line is left.

    >>> words("sentence", "the cat sat").value
    'the cat sat'
    """
    return W.Text(value=value, layout=_across(width), continuous_update=False, **_named(label))


def tick(label: str, value: bool = False) -> W.Checkbox:
    """A box to tick.

    >>> tick("with smoothing").value
    False
    """
    return W.Checkbox(value=value, indent=False, **_named(label))


def _across(width: str) -> W.Layout:
    """As wide as that, with the label, where there is room: in 300 px a long label leaves no track to drag on."""
    return W.Layout(width=width, max_width="100%")


def _named(label: str, **style: str) -> dict[str, Any]:
    """A label that is seen whole; as a tooltip too, else ipywidgets says "null" to a mouse that rests on it."""
    return {"description": label, "tooltip": label, "style": _WIDE | style}
