"""Diagrams of CRPS, reliability, rank histograms and spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator, PercentFormatter, ScalarFormatter
from numpy.typing import NDArray

from convcast.metrics import MODEL
from convcast.pictures.style import Margins
from convcast.variables import Variable
from convcast.verification.report.colours import SYSTEMS
from convcast.verification.results.table import find
from convcast.verification.results.verification import Verification

Floats = NDArray[np.float64]

MIN_CLASS_FRACTION = 0.001
"""Minimum fraction of all points for which a class of spread is drawn."""
MIN_POINTS = 20
"""Minimum number of points for which a forecast probability is drawn."""
CONSISTENCY_RESAMPLES = 500
"""Number of resamples for consistency bars."""
COMPARED = ("exact", MODEL)
"""Systems in diagrams of calibration; the first is drawn behind."""
PANELS = Margins(0.6, 0.12, 0.34, 0.5, columns=0.62, rows=0.82)
"""Room for the labels of `panels_of`."""


@dataclass(frozen=True)
class Drawing:
    """Figure and its texts, before title and note are drawn. `note` replaces the standard note."""

    name: str
    heading: str
    title: str
    caption: str
    figure: Figure
    note: str | None = None
    margins: Margins | None = None
    """Room for the labels of panels; None measures the labels."""


def draw_relative(verification: Verification) -> Drawing | None:
    """Draw the fair CRPS of every system relative to that of the exact ensemble, or else of persistence."""
    facts = verification.facts
    reference = next((name for name in ("exact", "persistence") if name in facts.systems), None)
    systems = [name for name in facts.systems if name != reference]
    if reference is None or not systems:
        return None
    lead = facts.leads[0]
    fields = verification.scored(lead)
    figure = Figure(figsize=(8.4, 1.5 + 0.62 * len(fields)))
    axes = figure.subplots()
    step = 0.66 / max(len(systems), 2)
    for order, system in enumerate(systems):
        colour, marker = SYSTEMS[system]
        named = False
        for row, variable in enumerate(fields):
            value, low, high = _relative(verification, variable.name, lead, system, reference)
            if value is None:
                continue
            y = row + (order - (len(systems) - 1) / 2) * step
            if low is not None and high is not None:
                axes.plot([low, high], [y, y], color=colour, lw=2.2, alpha=0.6, solid_capstyle="round")
            axes.plot(value, y, marker, color=colour, ms=7, mec="white", mew=0.7, label=None if named else system)
            named = True
            if system in (MODEL, "advection"):
                label = axes.annotate(f"{value:.2f}", (value, y), (0, 5), textcoords="offset points", ha="center")
                label.set(fontsize=7, color=colour, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})
    axes.axvline(1, color=SYSTEMS[reference][0], lw=1.4, zorder=0)
    axes.set_yticks(range(len(fields)), [variable.name.upper() for variable in fields])
    axes.invert_yaxis()
    for row in range(1, len(fields)):
        axes.axhline(row - 0.5, color="#e8e8e8", lw=0.8, zorder=0)
    axes.set_xscale("log")
    left, right = axes.get_xlim()
    ticks = [t for t in (0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2, 3, 4, 5, 6, 8, 10) if left <= t <= right]
    log_axis(axes, ticks)
    axes.set_xlabel(f"fair CRPS relative to {reference} (1 = as good as {reference}; smaller is better)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(systems), fontsize=9)
    limit = "the exact ensemble, which no model can beat but by chance" if reference == "exact" else "persistence"
    return Drawing(
        "relative",
        "How good is it?",
        f"CRPS at {lead} h, relative to {reference}",
        f"Fair CRPS of each system divided by that of {limit}, on the same cases. Bars are "
        f"{facts.confidence:.0%} intervals of the ratio from resampling whole days.",
        figure,
        margins=Margins(0.55, 0.12, 0.4, 0.52),
    )


def draw_leads(verification: Verification) -> Drawing | None:
    """Draw the fair CRPS against lead time, where there are several leads."""
    facts = verification.facts
    if len(facts.leads) < 2:
        return None
    fields = [v for v in verification.variables if any(v in verification.scored(lead) for lead in facts.leads)]
    figure, panels = panels_of(fields)
    for axes, variable in zip(panels, fields, strict=False):
        for system in facts.systems:
            rows = [
                find(
                    verification.scores,
                    field=variable.name,
                    lead_hours=lead,
                    score="crps",
                    estimator="fair",
                    system=system,
                )
                for lead in facts.leads
            ]
            values = np.array([np.nan if row is None else row["value"] for row in rows], float)
            colour, marker = SYSTEMS[system]
            axes.plot(facts.leads, values, marker=marker, color=colour, ms=5, lw=1.4, label=system)
            low, high = (np.array([np.nan if r is None else r[e] for r in rows], float) for e in ("low", "high"))
            axes.fill_between(facts.leads, low, high, color=colour, alpha=0.12, lw=0)
        axes.set_title(f"{variable.name.upper()} ({variable.sign})")
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="y", nbins=5)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("lead (h)", fontsize=8)
    shared_legend(panels, len(fields))
    return Drawing(
        "leads",
        "How far ahead?",
        "Fair CRPS by lead",
        "Fair CRPS of each system by lead; smaller is better. Bands are intervals from resampling whole days.",
        figure,
        margins=PANELS,
    )


def draw_reliability(verification: Verification) -> Drawing | None:
    """Draw observed frequency against forecast probability for the thresholds of the field shown in maps."""
    case, facts, lead = verification.case, verification.facts, verification.facts.leads[0]
    variable = case.variable
    if not variable.thresholds:
        return None
    columns = len(variable.thresholds)
    side = (7.6 - 0.55 * (columns - 1)) / columns
    figure = Figure(figsize=(8.4, min(7.0, 2.1 + 1.4 * side)))
    panels = figure.subplots(2, columns, height_ratios=[2.6, 1], squeeze=False, sharex=True)
    for column, threshold in enumerate(variable.thresholds):
        curve, counts = panels[:, column]
        curve.plot([0, 1], [0, 1], color="#999999", lw=1, zorder=0)
        for system in (name for name in COMPARED if name in facts.systems):
            daily = np.array(
                [s.tables[column] for s in verification.accumulator.daily(system, variable.name, lead)], float
            )
            _reliability(curve, counts, daily, system, bars=system == MODEL)
        total = verification.accumulator.total(MODEL, variable.name, lead).tables[column]
        events, points = int(total[:, 1].sum()), int(total.sum())
        curve.set_title(variable.event(threshold), fontsize=9.5)
        if points:
            curve.axhline(events / points, color="#999999", lw=0.8, ls=":")
        curve.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        curve.text(
            0.03, 0.97, f"{events:,} events\nin {points:,} points" if events else "no events", va="top", fontsize=7.5
        )
        counts.set_yscale("log")
        counts.yaxis.set_major_formatter(EngFormatter(sep=""))
        counts.yaxis.set_minor_locator(NullLocator())
        counts.set_ylim(bottom=0.7)
        counts.set_xlabel("forecast probability", fontsize=8.5)
        for axes in (curve, counts):
            axes.tick_params(labelsize=8)
            axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
            axes.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
        curve.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        curve.yaxis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]))
    panels[0, 0].set_ylabel("observed frequency (%)", fontsize=8.5)
    panels[1, 0].set_ylabel("points", fontsize=8.5)
    for axes in panels[1]:
        axes.set_xlabel("forecast probability (%)", fontsize=8.5)
    panels[0, -1].legend(loc="lower right", fontsize=8, handlelength=1.4)
    return Drawing(
        "reliability",
        "Do its probabilities mean what they say?",
        f"Reliability of {variable.name.upper()} probabilities {verification.facts.when(lead)}",
        "When the ensemble says 30 %, does it happen 30 % of the time? Points on the diagonal say yes; below it the "
        "event is forecast too often. Grey bars on the diagonal are consistency bars: where a reliable forecast "
        "would be found, given how much the frequencies vary when whole days are resampled. Dotted: how common the "
        "event was. Below: points by forecast probability (a logarithmic scale). Classes of probability hold whole "
        "counts of members; a class of fewer than 20 points has no mark.",
        figure,
        margins=Margins(0.6, 0.2, 0.34, 0.5, columns=0.55, rows=0.15),
    )


def draw_ranks(verification: Verification) -> Drawing:
    """Draw the rank histograms of all fields."""
    facts, lead = verification.facts, verification.facts.leads[0]
    fields = verification.scored(lead)
    figure, panels = panels_of(fields)
    for axes, variable in zip(panels, fields, strict=False):
        daily = np.array([s.ranks for s in verification.accumulator.daily(MODEL, variable.name, lead)])
        total = daily.sum(0)
        relative = total / max(total.mean(), 1e-12)
        edges = np.linspace(0, 1, len(total) + 1)
        axes.stairs(relative, edges, fill=True, color=SYSTEMS[MODEL][0], alpha=0.75, label=MODEL)
        highest = float(relative.max())
        if "exact" in facts.systems:
            exact = verification.accumulator.total("exact", variable.name, lead).ranks
            exact = exact / max(exact.mean(), 1e-12)
            highest = max(highest, float(exact.max()))
            axes.stairs(exact, np.linspace(0, 1, len(exact) + 1), color=SYSTEMS["exact"][0], lw=1.1, label="exact")
        axes.axhline(1, color="#777777", lw=0.8, ls="--")
        axes.set_title(variable.name.upper())
        axes.set_ylim(0, max(2.0, min(6.0, highest * 1.08)))
        axes.set_xticks([0, 0.5, 1], ["below all", "middle", "above all"], fontsize=7.5)
        for index, align in ((0, "left"), (-1, "right")):
            if relative[index] > 6:
                axes.annotate(f"↑ {relative[index]:.0f}", (edges[index], 5.9), ha=align, va="top", fontsize=7.5)
        axes.locator_params(axis="y", nbins=4)
        axes.tick_params(axis="y", labelsize=8)
    shared_legend(panels, len(fields))
    return Drawing(
        "ranks",
        "Is the truth one of the members?",
        f"Rank histograms at {lead} h",
        "Where the observation falls among the sorted members, as a multiple of what a calibrated ensemble has (1, "
        "dashed). U: too narrow; a hump: too wide; a slope: biased (where exact slopes as well, the cases are too "
        "few to tell). Ties are shared in equal parts by the ranks they could have, so that where no member and no "
        "observation has an echo, REFC counts evenly for all ranks.",
        figure,
        margins=replace(PANELS, left=0.42, right=0.28, bottom=0.34, rows=0.66),
    )


def draw_spread_error(verification: Verification) -> Drawing | None:
    """Draw the error of the ensemble mean by class of ensemble spread."""
    facts, lead = verification.facts, verification.facts.leads[0]
    fields = verification.scored(lead)
    figure, panels = panels_of(fields)
    for axes, variable in zip(panels, fields, strict=False):
        reach = 0.0
        for system in (name for name in COMPARED if name in facts.systems):
            statistics = verification.accumulator.total(system, variable.name, lead)
            n, variance, squared = statistics.spread_bins.T
            kept = n >= MIN_CLASS_FRACTION * n.sum()
            inflation = (statistics.members + 1) / statistics.members
            spread = np.sqrt(inflation * variance[kept] / n[kept])
            error = np.sqrt(squared[kept] / n[kept])
            reach = max([reach, *spread, *error])
            colour, marker = SYSTEMS[system]
            size = 12 + 90 * np.sqrt(n[kept] / n.sum())
            axes.scatter(spread, error, size, color=colour, marker=marker, alpha=0.75, lw=0, label=system)
        axes.plot([0, reach * 1.06], [0, reach * 1.06], color="#999999", lw=1, zorder=0)
        axes.set(xlim=(0, max(reach, 1e-9) * 1.06), ylim=(0, max(reach, 1e-9) * 1.06), aspect="equal")
        axes.locator_params(nbins=4)
        row = verification.find(variable.name, "spread_error_correlation", MODEL, lead_hours=lead)
        r = f", r = {row['value']:.2f}" if row and row["value"] is not None else ""
        axes.set_title(f"{variable.name.upper()} ({variable.sign}){r}", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.set_xlabel("spread", fontsize=8)
        axes.set_ylabel("error", fontsize=8)
    shared_legend(panels, len(fields))
    return Drawing(
        "spread-error",
        "Does it know when it does not know?",
        f"Spread and error at {lead} h",
        "Root mean squared error of the ensemble mean among points with like ensemble spread (with the (M + 1)/M "
        "factor); larger marks are more points. On the line, spread is as large as the error it announces; below it "
        "the ensemble is too wide, above too narrow. r is the correlation of spread with absolute error over all "
        "points, for convcast: near 0 where uncertainty is the same everywhere, so compare with exact.",
        figure,
        margins=PANELS,
    )


def _relative(
    verification: Verification, field: str, lead: int, system: str, reference: str
) -> tuple[float | None, float | None, float | None]:
    if reference == "exact":
        row = verification.find(field, "crps_ratio_exact", system, lead_hours=lead)
        return (None, None, None) if row is None else (row["value"], row["low"], row["high"])
    row = verification.find(field, "crpss", system, lead_hours=lead)
    if row is None or row["value"] is None:
        return None, None, None
    ends = (None, None) if row["low"] is None else (1 - row["high"], 1 - row["low"])
    return 1 - row["value"], *ends


def _reliability(curve: Axes, counts: Axes, daily: Floats, system: str, *, bars: bool) -> None:
    """Draw one system; `daily` are counts by day, member count and outcome, (day, members + 1, 2)."""
    colour, marker = SYSTEMS[system]
    members = daily.shape[1] - 1
    k = np.arange(members + 1)
    # 0 % and 100 % are classes of their own; between them are ten classes of whole counts.
    classes = np.where(k == 0, 0, np.where(k == members, 11, 1 + np.minimum(10 * k // members, 9)))
    member_of = (classes[None] == np.arange(12)[:, None]).astype(float)
    total = np.tensordot(member_of, daily.sum(0), axes=1)
    n = total.sum(1)
    used = n >= MIN_POINTS
    stated = (member_of @ (daily.sum((0, 2)) * k / members))[used] / n[used]
    seen = total[used, 1] / n[used]
    curve.plot(stated, seen, marker=marker, color=colour, ms=4.5, lw=1.2, label=system, alpha=0.9)
    if not bars:
        return
    counts.bar(stated, n[used], width=0.05, color=colour, alpha=0.75)
    if len(daily) < 2:
        return
    draws = np.random.Generator(np.random.Philox(0)).multinomial(
        len(daily), np.full(len(daily), 1 / len(daily)), CONSISTENCY_RESAMPLES
    )
    resampled = np.tensordot(draws, np.einsum("ck,dko->dco", member_of, daily)[:, used], axes=1)
    weight = resampled.sum(-1)
    frequency = np.divide(resampled[..., 1], weight, out=np.full(weight.shape, np.nan), where=weight > 0)
    low, high = np.nanquantile(frequency - seen, [0.025, 0.975], axis=0)
    curve.vlines(
        stated,
        np.maximum(stated + low, 0),
        np.minimum(stated + high, 1),
        color="#9a9a9a",
        lw=3.5,
        alpha=0.55,
        zorder=0.5,
    )


def log_axis(axes: Axes, ticks: Sequence[float]) -> None:
    """Make the x axis logarithmic with these ticks only."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def panels_of(variables: Sequence[Variable]) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel for each field and at least one for the legend."""
    columns = min(4, len(variables) + 1) if len(variables) != 4 else 3
    rows = -(-(len(variables) + 1) // columns)
    figure = Figure(figsize=(8.4, 1.1 + 8.4 / columns * rows))
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def shared_legend(panels: list[Axes], used: int) -> None:
    """Draw the legend of the first panel in the first unused panel, and hide the other unused ones."""
    handles, labels = panels[0].get_legend_handles_labels()
    for axes in panels[used:]:
        axes.set_axis_off()
    panels[used].legend(handles, labels, loc="center", fontsize=10)
