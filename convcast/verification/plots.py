"""The figures of a report, each a PNG that can stand alone: what it shows, of how much, and whether it is simulated."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.layout_engine import ConstrainedLayoutEngine

from convcast.verification import diagrams, event_diagrams, maps, product_diagram, spatial_diagrams
from convcast.verification.result import Verification

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
}
NOTE_WIDTH = 130
"""Letters in a line under a figure."""
SIMULATED = {"boxstyle": "round,pad=0.35", "facecolor": "#fde2b3", "edgecolor": "#b36b00"}


@dataclass(frozen=True)
class Figure:
    """A picture with its words."""

    name: str
    heading: str
    title: str
    caption: str
    png: bytes


def draw_figures(verification: Verification) -> list[Figure]:
    """Every figure that this verification has something for, in the order of the report."""
    drawers: Sequence[Callable[[Verification], diagrams.Drawing | None]] = (
        maps.draw_case,
        maps.draw_members,
        diagrams.draw_relative,
        diagrams.draw_leads,
        product_diagram.draw_products,
        diagrams.draw_reliability,
        event_diagrams.draw_discrimination,
        spatial_diagrams.draw_scales,
        diagrams.draw_ranks,
        diagrams.draw_spread_error,
        spatial_diagrams.draw_regimes,
        spatial_diagrams.draw_spectra,
    )
    figures = []
    with mpl.rc_context(STYLE):
        for draw in drawers:
            drawing = draw(verification)
            if drawing is not None:
                figures.append(_finish(drawing, verification))
    return figures


def _finish(drawing: diagrams.Drawing, verification: Verification) -> Figure:
    canvas = drawing.canvas
    width, height = canvas.get_size_inches()
    note = textwrap.fill(drawing.note or basis(verification), NOTE_WIDTH)
    head, foot = 0.55 / height, (0.3 + 0.13 * len(note.splitlines())) / height
    layout = ConstrainedLayoutEngine(rect=(0, foot, 1, 1 - head - foot), h_pad=0.07, w_pad=0.05, hspace=0.02)
    canvas.set_layout_engine(layout)
    canvas.text(0.012, 1 - 0.12 / height, drawing.title, fontsize=12.5, weight="bold", va="top")
    if verification.facts.simulated:
        mark = canvas.text(
            *(1 - 0.14 / width, 1 - 0.14 / height), "SIMULATED", fontsize=9, weight="bold", va="top", ha="right"
        )
        mark.set_bbox(SIMULATED)
    canvas.text(0.012, 0.12 / height, note, fontsize=8, color="#555555", va="bottom")
    data = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(data)
    return Figure(drawing.name, drawing.heading, drawing.title, drawing.caption, data.getvalue())


def basis(verification: Verification) -> str:
    """What stands under a figure: n, dates, days, level of intervals."""
    facts = verification.facts
    inits = np.array(facts.inits, "datetime64[h]")
    few = " (few days: too narrow)" if facts.few_days else ""
    kind = "simulated weather" if facts.simulated else f"{facts.truth} as truth"
    return (
        f"{facts.cases} forecasts of {facts.members} members from {facts.days} days, {inits[0]} to {inits[-1]} UTC; "
        f"{kind}; {facts.confidence:.0%} intervals over days{few}"
    )
