"""The base of all figures: a finished picture with its text alternative, and an empty drawing in our style.

Together with `figures.py` the only file that imports matplotlib. No pyplot, so nothing is left open; the reader's
matplotlibrc changes nothing; the same numbers give the same bytes. The background is opaque white with a margin, which
stays readable in JupyterLab's dark theme.

Paper:   Okabe & Ito 2008, "Color Universal Design", for eight colours that colour-blind readers can tell apart.
Next:    minillm/course/figures.py
"""

import base64
import html
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.rcsetup import cycler
from PIL import Image

from minillm.core.files import write_atomically

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
CJK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei", "SimHei")
MOST_BYTES = 60_000
_STYLE = {
    "figure.facecolor": "white",
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "font.size": 11,
    "legend.frameon": False,
}


class Figure:
    """A finished picture: PNG bytes with a title and a text alternative; the last line of a cell shows it."""

    def __init__(self, png: bytes, *, title: str, alt: str, most: int = MOST_BYTES) -> None:
        if len(png) > most:
            raise ValueError(
                f"title={title!r}: the picture has {len(png):,} bytes and may have {most:,}; show fewer points"
            )
        self.png, self.title, self.alt = png, title, alt

    @property
    def html(self) -> str:
        """An `<img>` element that holds the picture and its text alternative."""
        source = base64.b64encode(self.png).decode()
        return f'<img alt="{html.escape(self.alt)}" src="data:image/png;base64,{source}">'

    def save(self, path: str | Path) -> None:
        """Write the PNG to `path`, whole or not at all."""
        write_atomically(path, self.png)

    def __repr__(self) -> str:
        return f"Figure: {self.title}. {self.alt}"

    def _repr_mimebundle_(self, **_kinds: Any) -> dict[str, str]:
        return {
            "image/png": base64.b64encode(self.png).decode(),
            "text/html": self.html,
            "text/plain": repr(self),
        }


class Drawing:
    """An empty figure with one pair of axes, for a chart that the functions below do not offer.

    Draw on `.axes` inside a `with` block, then take `.figure`. No pyplot, so nothing is left open. With `panels`, rows
    and columns of small axes that share their x, draw on each of `.panels`; the title stands above them all.

    >>> with Drawing(title="A step", alt="The line rises from 0 to 1 at 2 s.", x_label="time (s)",
    ...              y_label="level (no unit)") as drawing:
    ...     _ = drawing.axes.step([0, 2, 4], [0, 1, 1])
    >>> drawing.figure.png[1:4]
    b'PNG'
    """

    figure: Figure

    def __init__(
        self,
        *,
        title: str,
        alt: str,
        x_label: str = "",
        y_label: str = "",
        height: float = 4.2,
        width: float = 8.0,
        panels: tuple[int, int] = (1, 1),
    ) -> None:
        if not title.strip():
            raise ValueError(f"title={title!r} is empty; a title says what is compared, such as 'Loss over training'")
        if len(alt) < 20 or re.match(r"(?i)\s*(an? )?(image|picture|plot|chart|graph|figure) of", alt):
            raise ValueError(f"alt={alt!r} must be a sentence that says what is to be seen, such as 'The loss falls …'")
        self.title, self.alt = title, alt
        with _style():
            self._canvas = Canvas(figsize=(width, height), dpi=100, layout="constrained")
            self._canvas.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr]
            FigureCanvasAgg(self._canvas)
            grid = self._canvas.subplots(*panels, squeeze=False, sharex=True)
            self.panels: list[Axes] = list(grid.flat)
            self.axes = self.panels[0]
            if panels == (1, 1):
                self.axes.set_title(drawable(title))
            else:
                self._canvas.suptitle(drawable(title), x=0.01, ha="left", fontsize=13, weight="bold")
            for axes in grid[-1]:
                axes.set_xlabel(drawable(x_label))
            for axes in grid[:, 0]:
                axes.set_ylabel(drawable(y_label))

    def __enter__(self) -> "Drawing":
        self._open_style = _style()
        self._open_style.__enter__()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                stream = io.BytesIO()
                # no Software field: the same bytes from every version that draws the same pixels
                self._canvas.savefig(stream, format="png", metadata={"Software": None})
                one = len(self.panels) == 1
                # many small letters: panels, or a large table that a reader's own model made
                png = stream.getvalue() if one and stream.tell() <= MOST_BYTES else _in_256_colours(stream)
                self.figure = Figure(png, title=self.title, alt=self.alt, most=MOST_BYTES if one else 2 * MOST_BYTES)
        finally:
            self._open_style.__exit__(None, None, None)

    def draw_key(self, names: Sequence[str], *, below: bool = False) -> None:
        """Add a legend where there is more than one series; `below` the axes when these are full, as with bars."""
        if len(names) > 1 and below:
            self._canvas.legend(loc="outside lower center", ncols=min(len(names), 4))
        elif len(names) > 1:
            self.axes.legend(loc="best")


def _in_256_colours(stream: io.BytesIO) -> bytes:
    """A PNG with a palette: a third of the bytes, which the many small letters of panels need."""
    few = io.BytesIO()
    Image.open(stream).convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE).save(few, "png", optimize=True)
    return few.getvalue()


def drawable(text: str) -> str:
    """A label as it can be drawn here: a `$` stays a dollar sign, and Chinese without a font becomes empty boxes.

    >>> drawable("cost ($)")
    'cost (\\\\$)'
    """
    text = text.replace("$", r"\$")
    return text if cjk_font() else re.sub(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]", "\u25a1", text)


def cjk_font() -> str | None:
    """The name of an installed font that has Chinese characters, or None.

    >>> cjk_font() in (*CJK_FONTS, None)
    True
    """
    known = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CJK_FONTS if name in known), None)


def _style() -> Any:
    """Our style on top of matplotlib's defaults, so that a reader's own matplotlibrc changes nothing."""
    fonts = ["DejaVu Sans", *([name] if (name := cjk_font()) else [])]
    return matplotlib.style.context(["default", {**_STYLE, "font.family": fonts}])
