"""Diagrams of event forecasts: ROC and performance diagram."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, PercentFormatter
from numpy.typing import NDArray

from convcast.metrics import MODEL, formulas
from convcast.pictures.style import Margins
from convcast.verification.report.colours import SYSTEMS
from convcast.verification.report.diagrams import COMPARED, Drawing
from convcast.verification.results.verification import Verification

Floats = NDArray[np.float64]

MIN_EVENTS = 50
"""Minimum number of points with the event for which a curve is drawn."""
SHADES = (1.0, 0.72, 0.5, 0.3)


def draw_discrimination(verification: Verification) -> Drawing | None:
    """Draw ROC and performance diagram of the field shown in maps, with one curve for each threshold."""
    variable, lead = verification.case.variable, verification.facts.leads[0]
    model = verification.accumulator.total(MODEL, variable.name, lead)
    kept = [n for n in range(len(variable.thresholds)) if model.tables[n, :, 1].sum() >= MIN_EVENTS]
    if not kept or model.members < 2:
        return None
    figure = Figure(figsize=(8.4, 4.9))
    roc, performance = figure.subplots(1, 2)
    _performance_lines(performance)
    roc.plot([0, 1], [0, 1], color="#999999", lw=1, zorder=0)
    for system in (name for name in COMPARED if name in verification.facts.systems):
        total = verification.accumulator.total(system, variable.name, lead)
        for shade, number in zip(SHADES, kept, strict=False):
            table = total.tables[number].astype(float)
            hits, misses, false_alarms = np.array(
                [formulas.contingency(table, k) for k in range(1, total.members + 1)]
            ).T
            pod, seen = hits / (hits + misses), hits + false_alarms > 0
            false_rate = false_alarms / max(table[:, 0].sum(), 1)
            colour, _ = SYSTEMS[system]
            style = {"color": colour, "alpha": shade, "lw": 1.6 if system == MODEL else 1.1}
            dashes = "-" if system == MODEL else "--"
            name = variable.event(variable.thresholds[number])
            label = f"{system}, {name}: area {float(formulas.roc_area(table)):.3f}"
            roc.plot([1, *false_rate, 0], [1, *pod, 0], dashes, label=label, **style)
            success = hits[seen] / (hits + false_alarms)[seen]
            performance.plot(success, pod[seen], dashes, **style)
            middle = formulas.fewest_of_half(total.members) - 1
            if system == MODEL and seen[middle]:
                ratio = hits[middle] / (hits + false_alarms)[middle]
                performance.plot(ratio, pod[middle], "o", color=colour, alpha=shade, ms=6, mec="white")
    for axes in (roc, performance):
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        axes.xaxis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]))
        axes.yaxis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]))
        axes.tick_params(labelsize=8)
        axes.set_ylabel("events that were forecast (%)", fontsize=8.5)
    roc.set_xlabel("non-events that were forecast (%)", fontsize=8.5)
    roc.set_title("ROC", fontsize=9.5)
    roc.legend(loc="lower right", fontsize=6.8, handlelength=1.6)
    performance.set_xlabel("forecasts that came true (%)", fontsize=8.5)
    performance.set_title("performance", fontsize=9.5)
    return Drawing(
        "discrimination",
        "Does it tell storms from no storms?",
        f"Discrimination of {variable.name.upper()} events {verification.facts.when(lead)}",
        "Each curve takes every probability, from one member to all, as the one to act on. Left: the share of events "
        "caught against the share of quiet points alarmed; the area under it is the chance that an event was given a "
        "higher probability than a non-event. Right: the share caught against the share of alarms that came true; "
        "grey curves are equal CSI, dotted lines equal frequency bias; a dot marks acting on 50 %. Rare events "
        "look good on the left and show their price on the right. Events seen at fewer than 50 points have no curve.",
        figure,
        margins=Margins(0.58, 0.16, 0.34, 0.5, columns=0.66),
    )


def _performance_lines(axes: Axes) -> None:
    ratio = np.linspace(0.01, 1, 200)
    for csi in (0.1, 0.3, 0.5, 0.7, 0.9):
        with np.errstate(divide="ignore", invalid="ignore"):
            pod = 1 / (1 / csi - 1 / ratio + 1)
        good = (pod > 0) & (pod <= 1)
        axes.plot(ratio[good], pod[good], color="#cfcfcf", lw=0.8, zorder=0)
        at = np.flatnonzero(good)[-1]
        axes.text(ratio[at] - 0.01, pod[at], f"{csi:g}", fontsize=6.5, color="#8a8a8a", ha="right", va="bottom")
    for bias in (0.5, 1, 2):
        end = min(1, 1 / bias)
        axes.plot([0, end], [0, bias * end], ":", color="#b5b5b5", lw=0.9, zorder=0)
