"""Maps that show single members: stamps, paintball and spaghetti."""

from __future__ import annotations

from math import ceil

import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import LineCollection
from matplotlib.colors import BoundaryNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from convcast.pictures.canvas import (
    BAR,
    close_page,
    draw_bar,
    draw_image,
    draw_observed,
    draw_outline,
    in_units,
    line_width,
    new_page,
    shape,
)
from convcast.pictures.colours import FEW, MEMBERS, SEVERAL, bar_labels, count_colours, field_colours
from convcast.pictures.forecast_field import Floats, ForecastField
from convcast.pictures.outlines import outline
from convcast.variables import Variable

COLUMNS = 8
"""Maximum number of columns of member maps."""
PIXELS = 1.7
"""Minimum size of a cell of a member map, pixels; smaller cells are aggregated, since drawing would drop some of
them."""
LINE = "#0072b2"
"""Colour of the outlines of many members."""


def draw_stamps(shown: ForecastField) -> bytes:
    """Draw a small map of every member, after one of the analysis where there is one."""
    members = _members(shown)
    maps = [(f"{number}", member) for number, member in zip(shown.numbers, members, strict=True)]
    if shown.observed is not None:
        maps.insert(0, ("analysis", shown.observed))
    columns = min(COLUMNS, ceil(np.sqrt(len(maps) * 1.3)))
    rows = ceil(len(maps) / columns)
    width = shown.width or 10.5
    body = rows * (width / columns * shape(shown) + 0.2) + BAR
    figure = Figure(figsize=(width, body + 1), dpi=shown.dots)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = in_units(shown, field_colours(shown.variable, shown.month))
    factor = max(1, int(shown.base_map.grid.nx * PIXELS / (width / columns * shown.dots)))
    image = None
    for panel in panels[len(maps) :]:
        panel.set_axis_off()
    for panel, (name, values) in zip(panels, maps, strict=False):
        coarse = shown.units.convert(coarsen(shown.variable, values, factor))
        image = draw_image(panel, shown, coarse, colours, small=True)
        panel.set_title(name, fontsize=7, pad=2, weight="bold" if name == "analysis" else "normal")
        if name == "analysis":
            panel.spines[:].set(color="black", linewidth=1.6)
    draw_bar(
        figure,
        image,
        list(panels),
        f"{shown.variable.name.upper()} ({shown.units.sign})",
        named=bar_labels(shown.variable),
    )
    note = f"each pixel {_how(shown.variable)} {factor} x {factor} cells" if factor > 1 else ""
    return close_page(figure, shown, "members", note, body=body)


def draw_paintball(shown: ForecastField) -> bytes:
    """Draw where members have the event: each member in a colour of its own if they are few, else their number."""
    members = _members(shown)
    events = shown.happens(members)
    count = events.sum(axis=0)
    figure, axes = new_page(shown)
    if len(members) <= FEW:
        painted = np.zeros((*count.shape, 4))
        for colour, event in zip(MEMBERS, events, strict=False):
            painted[event & (count == 1)] = to_rgba(colour)
        painted[count > 1] = to_rgba(SEVERAL)
        axes.imshow(painted, origin="lower", extent=shown.base_map.extent, interpolation="none")
        shown.base_map.draw(axes)
        handles: list[Artist] = [
            Patch(color=colour, label=f"only {number}") for colour, number in zip(MEMBERS, shown.numbers, strict=False)
        ]
        handles.append(Patch(color=SEVERAL, label="two or more"))
        handles += draw_observed(axes, shown)
        return close_page(figure, shown, f"members with {shown.event}", _how_many(shown, events), handles=handles)
    colours, firsts = count_colours(len(members))
    ends = [*firsts[1:], len(members) + 1]
    image = draw_image(
        axes,
        shown,
        np.ma.masked_equal(count, 0),
        (colours, BoundaryNorm([first - 0.5 for first in (*firsts, len(members) + 1)], len(firsts))),
    )
    draw_bar(figure, image, [axes], f"number of members with {shown.event}", extend="neither")
    bar = figure.axes[-1]
    names = [f"{first}" if end - first == 1 else f"{first}–{end - 1}" for first, end in zip(firsts, ends, strict=True)]
    bar.set_xticks([(first + end - 1) / 2 for first, end in zip(firsts, ends, strict=True)], names)
    handles = draw_observed(axes, shown)
    what = f"number of members with {shown.event}"
    return close_page(figure, shown, what, _how_many(shown, events), handles=handles)


def draw_spaghetti(shown: ForecastField) -> bytes:
    """Draw the exact outline of the event in each member, and of where at least half of the members have it."""
    members = _members(shown)
    events = shown.happens(members)
    few = len(members) <= FEW
    figure, axes = new_page(shown)
    shown.base_map.draw(axes)
    handles: list[Artist] = []
    for colour, number, event in zip(MEMBERS if few else [LINE] * len(events), shown.numbers, events, strict=False):
        edges = list(outline(event, shown.base_map))
        axes.add_collection(
            LineCollection(
                edges, colors=colour, linewidths=line_width(shown, 1.0 if few else 0.6), alpha=1 if few else 0.55
            ),
            autolim=False,
        )
        if few:
            handles.append(
                Line2D([], [], color=colour, label=f"member {number}" + (": none" if not event.any() else ""))
            )
    if not few:
        handles.append(Line2D([], [], color=LINE, lw=0.8, label="one member each"))
    draw_outline(axes, shown, 2 * events.sum(axis=0) >= len(events), colour="#b71c1c", width=1.6)
    handles.append(Line2D([], [], color="#b71c1c", lw=1.6, label="half of the members or more"))
    handles += draw_observed(axes, shown)
    return close_page(figure, shown, f"outlines of {shown.event}", _how_many(shown, events), handles=handles)


def coarsen(variable: Variable, values: Floats, factor: int) -> Floats:
    """Aggregate blocks of `factor` x `factor` cells: the mean or, for intermittent fields, the extreme value.

    The far edges are padded with the last row and column.

    Args:
        variable: Field; it decides the statistic.
        values: Field, (y, x).
        factor: Side of a block, cells.
    """
    if factor == 1:
        return values
    ny, nx = values.shape
    padded = np.pad(values, ((0, -ny % factor), (0, -nx % factor)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    if not variable.may_be_constant:
        return np.asarray(blocks.mean(axis=(1, 3)))
    return np.asarray(blocks.min(axis=(1, 3)) if variable.events_below else blocks.max(axis=(1, 3)))


def _how(variable: Variable) -> str:
    if not variable.may_be_constant:
        return "the mean of"
    return "the lowest of" if variable.events_below else "the highest of"


def _how_many(shown: ForecastField, events: NDArray[np.bool_]) -> str:
    return f"{int(events.any(axis=(1, 2)).sum())} of {len(events)} have {shown.event} somewhere"


def _members(shown: ForecastField) -> Floats:
    if shown.members is None:
        raise ValueError("the forecast holds no members")
    return shown.members
