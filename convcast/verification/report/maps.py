"""Maps of the case that the report shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from convcast.pictures.colours import Colours, bar_labels, field_colours, probability_colours, spread_colours
from convcast.pictures.geography.base_map import BaseMap
from convcast.pictures.geography.borders import state_lines
from convcast.pictures.style import Margins
from convcast.verification.report.diagrams import Drawing
from convcast.verification.results.verification import CaseShown, Verification

ROWS = 64
"""Number of rows processed at a time, to limit memory."""
STAMPS = 8
"""Number of members shown beside the observation."""


def draw_case(verification: Verification) -> Drawing:
    """Draw observation, ensemble mean, spread, and the probability of the event with the observed outline."""
    case, context = verification.case, _context(verification)
    variable, threshold = case.variable, case.threshold
    event = variable.event(threshold)
    figure = Figure(figsize=(8.4, 1.4 + 7.4 * _shape(case)))
    ((observed, mean), (spread, probability)) = figure.subplots(2, 2, sharex=True, sharey=True)
    colours = field_colours(variable, _month(case))
    units = variable.sign
    named = bar_labels(variable)
    _map(figure, observed, case, case.observed, colours, f"observed ({units})", context, named=named)
    _map(figure, mean, case, case.members.mean(0), colours, f"ensemble mean ({units})", context, named=named)
    # In blocks of rows, because numpy's std copies its whole input.
    rows = np.array_split(case.members, max(1, case.members.shape[1] // ROWS), axis=1)
    deviation = np.concatenate([part.std(0, ddof=1) for part in rows])
    _map(
        figure,
        spread,
        case,
        deviation,
        spread_colours(variable.spread_display),
        f"spread: standard deviation ({units})",
        context,
    )
    hits = variable.happens(case.members, threshold)
    _map(figure, probability, case, 100 * hits.mean(0), probability_colours(), f"probability of {event} (%)", context)
    happened = variable.happens(case.observed, threshold)
    if happened.any() and not happened.all():
        y, x, _ = case.points.axes
        probability.contour(x, y, happened.astype(float), [0.5], colors="#d55e00", linewidths=1.2)
        probability.plot([], [], color="#d55e00", lw=1.2, label=f"observed {event}")
        probability.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.9)
    single = f"{case.lead} h forecast for {case.valid} UTC"
    several = f"extremes {verification.facts.when(case.lead)}, forecast from {case.init} UTC"
    return Drawing(
        "case",
        "One case",
        f"{variable.long_name.capitalize()}, {several if verification.facts.window else single}",
        f"The forecast of {case.init} UTC, {case.lead} h ahead: of the {case.among} forecasts scored, the one with the "
        f"largest observed area of {event} ({case.area:.1%} of the domain), so a case of strong convection and not a "
        f"typical one. The orange outline is where the event was observed.",
        figure,
        note=_chosen(case),
        margins=_margins(context),
    )


def draw_members(verification: Verification) -> Drawing:
    """Draw the observation beside the first members."""
    case, context = verification.case, _context(verification)
    shown = min(STAMPS, len(case.members))
    figure = Figure(figsize=(8.4, 2.4 + 7.9 * _shape(case)))
    panels = figure.subplots(3, 3, sharex=True, sharey=True).ravel()
    colours = field_colours(case.variable, _month(case))
    image = _map(figure, panels[0], case, case.observed, colours, "observed", context, bar=False)
    panels[0].spines[:].set(visible=True, color="black", linewidth=2)
    panels[0].title.set_fontweight("bold")
    for number, panel in enumerate(panels[1:]):
        if number < shown:
            _map(figure, panel, case, case.members[number], colours, f"member {number}", context, bar=False)
        else:
            panel.set_axis_off()
    bar = figure.add_axes((0.15, 0.88 / figure.get_figheight(), 0.7, 0.13 / figure.get_figheight()))
    ticks = bar_labels(case.variable)
    label = f"{case.variable.long_name} ({case.variable.sign})"
    figure.colorbar(image, cax=bar, orientation="horizontal", extend="both", label=label, ticks=ticks).minorticks_off()
    return Drawing(
        "members",
        "The same case, member by member",
        f"The observation and the first {shown} of {len(case.members)} members, {case.valid} UTC",
        "Each member is one way the weather could have gone. If the ensemble is good, the observation looks like one "
        "more of them: as sharp, as strong, as scattered.",
        figure,
        note=_chosen(case),
        margins=replace(_margins(context), bottom=0.9 if context else 1.3),
    )


def _map(
    figure: Figure,
    axes: Axes,
    case: CaseShown,
    values: NDArray[Any],
    colours: Colours,
    title: str,
    context: BaseMap | None,
    *,
    bar: bool = True,
    named: tuple[float, ...] | None = None,
) -> Any:
    y, x, unit = case.points.axes
    down, across = (0.5 * (axis[-1] - axis[0]) / max(axis.size - 1, 1) for axis in (y, x))
    extent = (x[0] - across, x[-1] + across, y[0] - down, y[-1] + down)
    image = axes.imshow(values, origin="lower", extent=extent, cmap=colours[0], norm=colours[1], interpolation="none")
    axes.set(xlim=sorted(extent[:2]), ylim=sorted(extent[2:]))  # rows may run from north to south
    axes.set_title(title)
    axes.tick_params(labelsize=8)
    axes.spines[:].set_visible(True)
    if context is not None:
        context.draw(axes, small=not bar)
    elif unit == "degrees":
        for line in state_lines():
            axes.plot(*line.T, color="#444444", lw=0.5, scalex=False, scaley=False)
    spec = axes.get_subplotspec()
    if context is None and spec is not None:
        axes.locator_params(nbins=4)
        axes.set_xlabel(unit if spec.is_last_row() else "", fontsize=8)
        axes.set_ylabel(unit if spec.is_first_col() else "", fontsize=8)
    if bar:
        drawn = figure.colorbar(image, ax=axes, shrink=0.82, aspect=28, fraction=0.11, pad=0.015, ticks=named)
        drawn.ax.tick_params(labelsize=8)
        drawn.minorticks_off()
    return image


def _margins(context: BaseMap | None) -> Margins:
    """Return the room for the titles of maps, and for coordinates where there is no base map."""
    if context is not None:
        return Margins(0.12, 0.12, 0.28, 0.1, columns=0.1, rows=0.3)
    return Margins(0.58, 0.12, 0.28, 0.45, columns=0.2, rows=0.36)


def _context(verification: Verification) -> BaseMap | None:
    """Return the base map of real weather on the HRRR grid."""
    grid = verification.case.points.grid
    return None if grid is None or verification.facts.simulated else BaseMap(grid)


def _month(case: CaseShown) -> int:
    return int(str(case.valid)[5:7])


def _shape(case: CaseShown) -> float:
    """Return the height of the domain over its width, limited to fit a page."""
    return float(np.clip(case.points.shape[0] / case.points.shape[1], 0.45, 1.4))


def _chosen(case: CaseShown) -> str:
    event = case.variable.event(case.threshold)
    if not case.area:
        return f"started {case.init} UTC; {event} was not observed in any of {case.among} forecasts"
    return f"started {case.init} UTC; chosen for the largest observed area of {event} among {case.among} forecasts"
