"""Diagram of published products beside the same products made of our members."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from convcast.metrics import MODEL
from convcast.verification.report.colours import SYSTEMS
from convcast.verification.report.diagrams import Drawing
from convcast.verification.results.formats import system_name
from convcast.verification.results.published_scores import comparison_label, find_product_rows
from convcast.verification.results.verification import Verification


def draw_products(verification: Verification) -> Drawing | None:
    """Draw the relative difference of our scores from the publisher's, with the paired interval."""
    facts, lead = verification.facts, verification.facts.leads[0]
    lines = [
        (system, ours, theirs, difference)
        for system in facts.products
        for ours, theirs, difference in find_product_rows(verification, system, lead)
        if theirs["value"] and difference["value"] is not None
    ]
    if not lines:
        return None
    figure = Figure(figsize=(8.4, 1.6 + 0.36 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for row, (system, _, theirs, difference) in enumerate(lines):
        colour, marker = SYSTEMS[system]
        scale = 1 / theirs["value"]
        if difference["low"] is not None:
            axes.plot([difference["low"] * scale, difference["high"] * scale], [row, row], color=colour, lw=2.2)
        axes.plot(difference["value"] * scale, row, marker, color=colour, ms=7, mec="white", mew=0.7)
    axes.axvline(0, color="#666666", lw=1.2, zorder=0)
    axes.set_yticks(
        range(len(lines)), [f"{comparison_label(ours)}, {system_name(system)}" for system, ours, _, _ in lines]
    )
    axes.set_ylim(len(lines) - 0.5, -0.5)
    widest = max(abs(limit) for limit in axes.get_xlim())
    axes.set_xlim(-max(widest, 0.05), max(widest, 0.05))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(f"difference of scores (left: {MODEL} is better)")
    return Drawing(
        "products",
        "Beside published products",
        f"Statements that others publish, {lead} h",
        f"Difference of Brier score, or of the CRPS of a normal distribution, from that of the publisher's product, in "
        f"percent of it, for the same event made of as many of {MODEL}'s members. Bars are {facts.confidence:.0%} "
        f"intervals of the paired difference over days: only where they exclude zero is one better.",
        figure,
    )
