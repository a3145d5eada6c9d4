"""Figures of a report as PNG; each states its contents, the amount of data, and whether the weather is simulated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from convcast.pictures.style import finish, styled
from convcast.verification.report import diagrams, event_diagrams, maps, product_diagram, spatial_diagrams
from convcast.verification.results.verification import Verification


@dataclass(frozen=True)
class ReportFigure:
    """Figure of the report with its texts."""

    name: str
    """Name of the file, without suffix."""
    heading: str
    title: str
    caption: str
    png: bytes


def draw_figures(verification: Verification) -> list[ReportFigure]:
    """Draw the figures that this verification has data for, in the order of the report."""
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
    with styled():
        for draw in drawers:
            drawing = draw(verification)
            if drawing is not None:
                figures.append(_finish(drawing, verification))
    return figures


def _finish(drawing: diagrams.Drawing, verification: Verification) -> ReportFigure:
    png = finish(
        drawing.figure,
        title=drawing.title,
        note=drawing.note or basis(verification),
        simulated=verification.facts.simulated,
        margins=drawing.margins,
    )
    return ReportFigure(drawing.name, drawing.heading, drawing.title, drawing.caption, png)


def basis(verification: Verification) -> str:
    """Return the note under a figure: number of forecasts and members, dates, days and level of intervals."""
    facts = verification.facts
    inits = np.array(facts.inits, "datetime64[h]")
    few = " (few days: too narrow)" if facts.few_days else ""
    kind = "simulated weather" if facts.simulated else f"{facts.truth} as truth"
    return (
        f"{facts.cases} forecasts of {facts.members} members from {facts.days} days, {inits[0]} to {inits[-1]} UTC; "
        f"{kind}; {facts.confidence:.0%} intervals over days{few}"
    )
