"""Style of every figure: a title above, a note below, and a mark on simulated weather."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from convcast.text import printable

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "axes.labelcolor": "#333333",
    "legend.frameon": False,
    "figure.dpi": 110,
    "savefig.facecolor": "white",
    "text.parse_math": False,  # names and units come from outside, where $ is a dollar
}
NOTE_LETTERS = 15.5
"""Number of letters in a line of the note, per inch of the figure's width."""
TITLE, NARROW_TITLE, LETTERS = 12.5, 10.0, 12.3
"""Font size, points, of titles of wide and of narrow figures, and letters per inch in titles of narrow ones."""
WIDE = 8.0
"""Minimum width of a wide figure, inches."""
MARK = 1.1
"""Width, inches, of the mark of simulated weather beside the title."""
SIMULATED = {"boxstyle": "round,pad=0.35", "facecolor": "#fde2b3", "edgecolor": "#b36b00"}


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style within a block, independent of any matplotlibrc."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def finish(figure: Figure, *, title: str, note: str, simulated: bool) -> bytes:
    """Draw title, note and mark, and return the figure as PNG."""
    width, height = figure.get_size_inches()
    title = "\n".join(map(printable, title.split("\n")))
    note = textwrap.fill(printable(note), int(NOTE_LETTERS * width))
    if width < WIDE:
        letters = int(LETTERS * (width - MARK * simulated))
        title = "\n".join(textwrap.fill(part, letters) for part in title.replace(": ", ":\n").splitlines())
    head = (0.55 + 0.18 * title.count("\n")) / height
    foot = (0.3 + 0.13 * len(note.splitlines())) / height
    layout = ConstrainedLayoutEngine(rect=(0, foot, 1, 1 - head - foot), h_pad=0.07, w_pad=0.05, hspace=0.02)
    figure.set_layout_engine(layout)
    figure.text(
        0.012, 1 - 0.12 / height, title, fontsize=TITLE if width >= WIDE else NARROW_TITLE, weight="bold", va="top"
    )
    if simulated:
        mark = figure.text(
            *(1 - 0.14 / width, 1 - 0.14 / height), "SIMULATED", fontsize=9, weight="bold", va="top", ha="right"
        )
        mark.set_bbox(SIMULATED)
    figure.text(0.012, 0.12 / height, note, fontsize=8, color="#555555", va="bottom")
    data = io.BytesIO()
    FigureCanvasAgg(figure).print_png(data)
    return data.getvalue()
