"""Diagrams of scores by spatial scale, wavelength and convective regime."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from convcast.grid import SPACING
from convcast.metrics import MODEL
from convcast.metrics.regimes import REGIMES
from convcast.metrics.scores.spectra import BANDS
from convcast.pictures.style import Margins
from convcast.verification.report.colours import SYSTEMS
from convcast.verification.report.diagrams import COMPARED, PANELS, Drawing, log_axis, panels_of, shared_legend
from convcast.verification.results.table import Row
from convcast.verification.results.verification import Verification


def draw_scales(verification: Verification) -> Drawing | None:
    """Draw the fractions skill score of the field shown in maps against the side of the neighbourhood."""
    facts, variable = verification.facts, verification.case.variable
    lead = facts.leads[0]
    rows = [
        row
        for row in verification.scores
        if (row["score"], row["field"], row["lead_hours"]) == ("fss", variable.name, lead) and row["value"] is not None
    ]
    thresholds = sorted({row["threshold"] for row in rows if _observed(verification, row)})
    if not thresholds or len({row["scale_km"] for row in rows}) < 2:
        return None
    figure = Figure(figsize=(8.4, 4.1))
    mosaic: list[Any] = [[f"{threshold:g}" for threshold in thresholds], ["legend"] * len(thresholds)]
    by_name = figure.subplot_mosaic(mosaic, height_ratios=[8, 1])
    panels = [by_name[f"{threshold:g}"] for threshold in thresholds]
    for axes, threshold in zip(panels, thresholds, strict=True):
        for system in facts.systems:
            its = sorted(
                (row for row in rows if row["threshold"] == threshold and row["system"] == system),
                key=lambda row: float(row["scale_km"]),
            )
            if its:
                _with_intervals(axes, its, system)
        axes.set_title(variable.event(threshold), fontsize=9.5)
        log_axis(axes, sorted({row["scale_km"] for row in rows}))
        axes.set_xlabel("side of the square (km)", fontsize=8.5)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]))
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel("fractions skill score", fontsize=8.5)
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)
    _legend(by_name["legend"], panels[0], columns=len(facts.systems))
    return Drawing(
        "scales",
        "How far off are the storms?",
        f"Fractions skill score of {variable.name.upper()} at {lead} h",
        "How well the share of each square with the event, in the mean over members (NEP), agrees with the observed "
        "share: 1 is agreement, 0 none. Where it rises with the side of the square, storms are about right but "
        "misplaced by less than that. Bars are intervals from resampling whole days.",
        figure,
        margins=Margins(0.52, 0.16, 0.34, 0.05, columns=0.16, rows=0.5),
    )


def draw_spectra(verification: Verification) -> Drawing | None:
    """Draw the variance of members relative to that of the observation, by wavelength."""
    facts, lead = verification.facts, verification.facts.leads[0]
    totals = {
        (system, variable.name): verification.accumulator.total(system, variable.name, lead).whole_fields["power"]
        for system in (name for name in COMPARED if name in facts.systems)
        for variable in verification.scored(lead)
        if (system, variable.name, lead) in verification.accumulator.days
    }
    fields = [v for v in verification.scored(lead) if totals[MODEL, v.name].any()]
    if not fields:
        return None
    figure, panels = panels_of(fields)
    length = np.sqrt(BANDS[:-1] * BANDS[1:]) * SPACING / 1000
    for axes, variable in zip(panels, fields, strict=False):
        axes.axhline(0, color="#999999", lw=1, zorder=0)
        for system in (name for name in COMPARED if (name, variable.name) in totals):
            members, observed = totals[system, variable.name]
            known = observed > 0
            colour, marker = SYSTEMS[system]
            decibels = 10 * np.log10(members[known] / observed[known])
            axes.plot(length[known], decibels, marker=marker, ms=3.5, lw=1.2, color=colour, label=system)
        row = verification.find(variable.name, "log_spectral_distance", MODEL, lead_hours=lead)
        distance = f", {row['value']:.1f} dB" if row and row["value"] is not None else ""
        axes.set_title(f"{variable.name.upper()}{distance}", fontsize=9.5)
        log_axis(axes, [10, 30, 100, 300, 1000])
        axes.set_xlabel("wavelength (km)", fontsize=8)
        axes.set_ylabel("dB", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="y", nbins=4)
        reach = max(3.0, float(np.abs(axes.get_ylim()).max()))
        axes.set_ylim(-reach, reach)
    shared_legend(panels, len(fields))
    return Drawing(
        "spectra",
        "Do members look like weather?",
        f"Spectra of members at {lead} h",
        "Variance of the first members by wavelength, over that of the observation, in decibels: 0 is alike, 3 dB is "
        "twice as much, below 0 is too smooth. The number is the log-spectral distance of convcast, the root mean "
        "square of the curve. Variance below a step of the lattice that fields are stored on counts as alike.",
        figure,
        margins=PANELS,
    )


def draw_regimes(verification: Verification) -> Drawing | None:
    """Draw spread over error, and the correlation of spread and error, by convective regime."""
    facts, lead = verification.facts, verification.facts.leads[0]
    rows = [row for row in verification.scores if row.get("regime") and row["lead_hours"] == lead]
    if not any(row["score"] == "spread_error_ratio" for row in rows):
        return None
    fields = verification.scored(lead)
    count = len(fields)
    figure = Figure(figsize=(8.4, 2.3 + 0.5 * count))
    by_name = figure.subplot_mosaic([["ratio", "correlation"], ["legend", "legend"]], height_ratios=[count, 1])
    panels = [by_name["ratio"], by_name["correlation"]]
    systems = [name for name in COMPARED if name in facts.systems]
    shades = dict(zip(REGIMES, ("#7a8793", "#d98b00", "#a4123f"), strict=True))
    for axes, score in zip(panels, ("spread_error_ratio", "spread_error_correlation"), strict=True):
        for (at, regime), system in product(enumerate(REGIMES), systems):
            filled, name = system == MODEL, f"{regime}, {system}"
            for line, variable in enumerate(fields):
                row = verification.find(variable.name, score, system, regime=regime, lead_hours=lead)
                if row is None or row["value"] is None:
                    continue
                y = line + (at - 1) * 0.22
                if filled and row["low"] is not None:
                    axes.plot([row["low"], row["high"]], [y, y], color=shades[regime], lw=2, alpha=0.6)
                (mark,) = axes.plot(row["value"], y, "o" if filled else "D", label=name, color=shades[regime], ms=6)
                mark.set_markerfacecolor(shades[regime] if filled else "none")
                name = ""  # one entry in the legend
        axes.axvline(1 if score == "spread_error_ratio" else 0, color="#999999", lw=1, zorder=0)
        axes.tick_params(labelsize=8)
    for axes in panels:
        axes.set_yticks(range(count), [variable.name.upper() for variable in fields])
        axes.set_ylim(count - 0.5, -0.5)
    panels[0].set_xlabel("spread over error (1 is reliable, less is over-confident)", fontsize=8.5)
    panels[1].set_xlabel("correlation of spread with absolute error", fontsize=8.5)
    _legend(by_name["legend"], panels[0], columns=len(REGIMES))
    return Drawing(
        "regimes",
        "Is it right where storms are?",
        f"Spread and error by regime at {lead} h",
        "Points by what the analysis showed when the forecast began, so that no regime is chosen by what came: an echo "
        "of 20 dBZ within 39 km; none, but CAPE of 1000 J/kg or more; neither. Points where missing values leave this "
        "open are in none. Correlations within a regime are lower than over all points, since part of the skill is to "
        "know the regime; compare with exact.",
        figure,
        margins=Margins(0.5, 0.16, 0.1, 0.05, columns=0.55, rows=0.5),
    )


def _observed(verification: Verification, row: Row) -> bool:
    """Return whether the event of a row was observed. If not, the fractions skill score of every forecast is 0."""
    event = {name: row[name] for name in ("threshold", "lead_hours")}
    found = verification.find(row["field"], "brier", MODEL, **event)
    return found is not None and found["events"] > 0


def _legend(axes: Axes, source: Axes, *, columns: int) -> None:
    axes.set_axis_off()
    axes.legend(*source.get_legend_handles_labels(), loc="center", ncols=columns, fontsize=8)


def _with_intervals(axes: Axes, rows: list[Row], system: str) -> None:
    colour, marker = SYSTEMS[system]
    scale, value = ([row[name] for row in rows] for name in ("scale_km", "value"))
    axes.plot(scale, value, marker=marker, color=colour, ms=5, lw=1.3, label=system)
    for row in rows:
        if row["low"] is not None:
            axes.plot([row["scale_km"]] * 2, [row["low"], row["high"]], color=colour, lw=2, alpha=0.4)
