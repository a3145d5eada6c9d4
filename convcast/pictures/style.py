"""Style of every figure: titles above, a note below, and a mark on simulated weather."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.text import Text

from convcast.text import printable

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "axes.labelcolor": "#333333",
    "legend.frameon": False,
    "figure.dpi": 110,
    "savefig.facecolor": "white",
    "text.parse_math": False,  # names and units come from files, in which $ is a dollar sign and not mathematics
}
TITLE, NARROW_TITLE = 12.5, 10.0
"""Font size, points, of titles of wide and of narrow figures."""
SUBTITLE, NOTE = 10.0, 8.0
"""Font size, points, of the second line of a title, and of a note."""
WIDE = 8.0
"""Minimum width of a wide figure, inches."""
MARGIN = 0.12
"""Distance of texts from the edge of the figure and from each other, inches."""
Look = dict[str, Any]
MARK: Look = {"fontsize": 9, "weight": "bold", "va": "top", "ha": "right"}
SIMULATED = {"boxstyle": "round,pad=0.35", "facecolor": "#fde2b3", "edgecolor": "#b36b00"}


@dataclass(frozen=True)
class Margins:
    """Room for the labels of panels, inches: measuring them would take matplotlib as long as drawing the figure."""

    left: float
    right: float
    top: float
    bottom: float
    columns: float = 0.0
    """Width of the gap between two columns."""
    rows: float = 0.0
    """Height of the gap between two rows."""


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style within a block, independent of any matplotlibrc."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def finish(
    figure: Figure,
    *,
    title: str,
    note: str,
    simulated: bool,
    subtitle: str = "",
    warnings: Sequence[str] = (),
    handles: Sequence[Artist] = (),
    body: float | None = None,
    margins: Margins | None = None,
) -> bytes:
    """Draw titles, legend, note and mark, and return the figure as PNG.

    Texts are broken into lines by their measured width, so that none leaves the figure or lies under the mark.

    Args:
        figure: Figure without titles.
        title: Field and what is shown; it may have several lines.
        note: Basis of the figure, below it.
        simulated: Whether the mark of simulated weather is drawn.
        subtitle: Time that is shown.
        warnings: Sentences on what is wrong with such forecasts, above the note.
        handles: Entries of a legend below the plot, where it hides nothing.
        body: Height of the plot alone, inches, to which the figure's height is fitted; None keeps the figure's height.
        margins: Room for the labels of panels; None measures the labels.
    """
    width, height = figure.get_size_inches()
    canvas = FigureCanvasAgg(figure)
    whole = room = width - 2 * MARGIN
    mark, below_mark = None, 0.0
    if simulated:
        mark = figure.text(1 - 0.16 / width, 0, "SIMULATED", **MARK)
        mark.set_bbox(SIMULATED)
        room -= _size(mark)[0] + 0.36
        below_mark = _size(mark)[1] + 0.34
    size = TITLE if width >= WIDE else NARROW_TITLE
    top, at_top = MARGIN, []
    titles: list[tuple[str, Look]] = [
        (title, {"fontsize": size, "weight": "bold"}),
        (subtitle, {"fontsize": min(size, SUBTITLE)}),
    ]
    for text, look in titles:
        if text:
            label = figure.text(MARGIN / width, 0, "", va="top", linespacing=1.15, **look)
            if text == subtitle and _width(label, printable(text)) > room:
                top, room = max(top, below_mark), whole
            at_top.append((label, top))
            top += _fill(label, text, room) + 0.05
    bottom, at_bottom = MARGIN, []
    notes: list[tuple[str, Look]] = [
        (note, {"color": "#555555"}),
        (" ".join(warnings), {"color": "#a32020", "weight": "bold"}),
    ]
    for text, look in notes:
        if text:
            label = figure.text(MARGIN / width, 0, "", va="bottom", fontsize=NOTE, **look)
            at_bottom.append((label, bottom))
            bottom += _fill(label, text, whole) + 0.05
    legend = _legend(figure, handles, whole) if handles else None
    legend_bottom = bottom
    if legend is not None:
        bottom += legend.get_window_extent().height / figure.dpi + 0.05
    head = max(top, below_mark)
    if body is not None:
        height = head + body + bottom
        figure.set_size_inches(width, height)
    for label, offset in at_top:
        label.set_y(1 - offset / height)
    for label, offset in at_bottom:
        label.set_y(offset / height)
    if mark is not None:
        mark.set_y(1 - 0.16 / height)
    if legend is not None:
        legend.set_bbox_to_anchor((MARGIN / width, legend_bottom / height), figure.transFigure)
    if margins is None:
        layout = ConstrainedLayoutEngine(
            rect=(0, bottom / height, 1, 1 - (head + bottom) / height), h_pad=0.07, w_pad=0.05, hspace=0.02
        )
        figure.set_layout_engine(layout)
    else:
        _place(figure, margins, head, bottom)
    data = io.BytesIO()
    canvas.print_png(data)
    return data.getvalue()


def _place(figure: Figure, margins: Margins, head: float, foot: float) -> None:
    """Place the panels of a figure between its titles and its note, inches."""
    width, height = figure.get_size_inches()
    top, bottom = head + margins.top, foot + margins.bottom
    spec = figure.axes[0].get_subplotspec()
    assert spec is not None
    rows, columns = spec.get_gridspec().get_geometry()
    across = (width - margins.left - margins.right - (columns - 1) * margins.columns) / columns
    down = (height - top - bottom - (rows - 1) * margins.rows) / rows
    figure.subplots_adjust(
        left=margins.left / width,
        right=1 - margins.right / width,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=margins.columns / across,
        hspace=margins.rows / down,
    )


def _legend(figure: Figure, handles: Sequence[Artist], room: float) -> Legend:
    """Draw a legend with as many columns as there is room for, inches."""
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            handles=handles,
            loc="lower left",
            borderaxespad=0,
            fontsize=NOTE,
            ncols=columns,
            handlelength=1.4,
            columnspacing=1.0,
        )
        legend.set_in_layout(False)
        if columns == 1 or legend.get_window_extent().width / figure.dpi <= room:
            break
        legend.remove()
    return legend


def _fill(label: Text, text: str, room: float) -> float:
    """Write a text in lines of at most `room` inches, and return its height, inches."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line, words = "", printable(paragraph)
        if _width(label, words) <= room:
            lines.append(words)
            continue
        for word in words.split(" "):
            longer = f"{line} {word}" if line else word
            if _width(label, longer) <= room:
                line = longer
                continue
            if line:
                lines.append(line)
            line = word
            while _width(label, line) > room and len(line) > 1:
                cut = max(1, int(len(line) * room / _width(label, line)))
                lines.append(line[:cut])
                line = line[cut:]
        lines.append(line)
    label.set_text("\n".join(lines))
    return _size(label)[1]


def _width(label: Text, text: str) -> float:
    label.set_text(text)
    return _size(label)[0]


def _size(label: Text) -> tuple[float, float]:
    """Return width and height of a text, inches."""
    assert label.figure is not None
    box = label.get_window_extent()
    return box.width / label.figure.dpi, box.height / label.figure.dpi
