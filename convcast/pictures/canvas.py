"""Parts that all maps share: the figure, an image of a field, the colour bar and the observed outline."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import BoundaryNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from convcast.pictures.colours import Colours
from convcast.pictures.forecast_field import Floats, ForecastField
from convcast.pictures.outlines import outline
from convcast.pictures.style import finish

OBSERVED = "#000000"
"""Colour of the observed outline, drawn on a white line so that it is seen on any colour."""
BAR = 0.65
"""Height of a colour bar with its texts, inches."""
LABEL = 8
"""Size of letters at a colour bar and in a legend, points."""


def new_page(shown: ForecastField) -> tuple[Figure, Axes]:
    """Return a figure for one map, on which no cell is smaller than a pixel."""
    dots = max(shown.dots, ceil(shown.base_map.grid.nx / (0.95 * _across(shown))))
    figure = Figure(figsize=(shown.width or 8.4, 1.8 + _across(shown) * shape(shown)), dpi=dots)
    return figure, figure.subplots()


def _across(shown: ForecastField) -> float:
    """Return the width of the map, inches."""
    return shown.width or 7.6


def close_page(
    figure: Figure,
    shown: ForecastField,
    what: str,
    note: str = "",
    *,
    name: str | None = None,
    times: str | None = None,
    handles: Sequence[Artist] = (),
    body: float | None = None,
) -> bytes:
    """Write titles, legend, note and warnings, and return the figure as PNG.

    Args:
        figure: Figure with the map.
        shown: What is shown.
        what: Statistic in the title.
        note: Sentence that is added to the note.
        name: Name in the title; by default, the field's.
        times: Second line of the title; by default, that of the field's lead.
        handles: Entries of the legend.
        body: Height of the maps and the bar, inches; by default, that of one map.
    """
    return finish(
        figure,
        title=f"{shown.field if name is None else name}: {what}",
        subtitle=shown.times if times is None else times,
        note=f"{shown.basis}; {note}" if note else shown.basis,
        warnings=shown.warnings,
        simulated=shown.simulated,
        handles=handles,
        body=_across(shown) * shape(shown) + BAR * (len(figure.axes) > 1) if body is None else body,
    )


def draw_image(axes: Axes, shown: ForecastField, values: Floats, colours: Colours, *, small: bool = False) -> Any:
    """Draw a field (y, x), and the base map.

    Args:
        axes: Where to draw.
        shown: The forecast, which has the base map.
        values: Values of the field, (y, x), in the units of the colours.
        colours: Colour map and normalisation.
        small: Whether the base map has thin lines only.

    Returns:
        The image, for a colour bar.
    """
    image = axes.imshow(
        values, origin="lower", extent=shown.base_map.extent, cmap=colours[0], norm=colours[1], interpolation="none"
    )
    shown.base_map.draw(axes, small=small)
    return image


def draw_bar(
    figure: Figure,
    image: Any,
    axes: list[Axes],
    label: str,
    *,
    named: Sequence[float] | None = None,
    extend: str = "both",
) -> None:
    """Draw a colour bar below the maps.

    Args:
        figure: Figure of the maps.
        image: Image whose colours are explained.
        axes: Maps below which the bar lies.
        label: Label of the bar, with units.
        named: Values with a label; by default those that matplotlib chooses.
        extend: Ends of the bar that are pointed, since values lie beyond them: `both`, `min`, `max` or `neither`.
    """
    bar = figure.colorbar(
        image,
        ax=axes,
        location="bottom",
        shrink=0.7,
        aspect=45,
        pad=0.015,
        extend=extend,
        label=label,
        ticks=named,
    )
    bar.ax.tick_params(labelsize=LABEL, which="major")
    bar.ax.minorticks_off()
    bar.set_label(label, fontsize=LABEL + 1)


def draw_outline(axes: Axes, shown: ForecastField, event: Any, *, colour: str, width: float, halo: bool = False) -> int:
    """Draw the edges of an event; return their number.

    Args:
        axes: Map.
        shown: Field of the map.
        event: Where the event happens, (y, x) bool.
        colour: Colour of the line.
        width: Width of the line on a map of usual size, points.
        halo: Whether the line has a white rim.
    """
    edges = outline(np.asarray(event, bool), shown.base_map)
    width = line_width(shown, width)
    for colour_of_line, weight in ((("white", 2.4 * width),) if halo else ()) + ((colour, width),):
        axes.add_collection(
            LineCollection(list(edges), colors=colour_of_line, linewidths=weight, capstyle="projecting"), autolim=False
        )
    return len(edges)


def draw_observed(axes: Axes, shown: ForecastField) -> list[Artist]:
    """Draw the outline of the event in the analysis, where there is one; return the entries of the legend."""
    if shown.observed is None:
        return []
    event = shown.happens(np.nan_to_num(shown.observed, nan=np.inf if shown.variable.events_below else -np.inf))
    draw_outline(axes, shown, event, colour=OBSERVED, width=1.0, halo=True)
    name = f"analysis: {shown.event}" if event.any() else f"analysis: no {shown.event}"
    return [Line2D([], [], color=OBSERVED, lw=1.4, label=name)]


def line_width(shown: ForecastField, points: float) -> float:
    """Return the width of an outline, points: `points`, or less where it would hide small cells."""
    cell = 72 * _across(shown) / shown.base_map.grid.nx
    return points * float(np.clip(1.5 * cell, 0.35, 1))


def shape(shown: ForecastField) -> float:
    """Return the height of the domain over its width."""
    ny, nx = shown.base_map.grid.shape
    return float(np.clip(ny / nx, 0.3, 1.6))


def in_units(shown: ForecastField, colours: Colours) -> Colours:
    """Convert the normalisation of a field's colours to the units of the map."""
    units, norm = shown.units, colours[1]
    if isinstance(norm, BoundaryNorm):
        levels = [units.convert(float(level)) for level in norm.boundaries]
        return colours[0], BoundaryNorm(levels, len(levels) - 1)
    assert norm.vmin is not None
    assert norm.vmax is not None
    return colours[0], Normalize(units.convert(float(norm.vmin)), units.convert(float(norm.vmax)))
