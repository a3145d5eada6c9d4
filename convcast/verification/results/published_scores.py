"""Scores of the products of reference ensembles (probabilities, means, spreads) and of the same products of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from convcast.metrics import MODEL, formulas
from convcast.metrics.bootstrap import Bootstrap
from convcast.metrics.scores.base import ScoreValue
from convcast.variables import FIELDS, Variable
from convcast.verification.baselines.published import SUMS, Comparison, possible_comparisons
from convcast.verification.results.accumulator import Accumulator
from convcast.verification.results.table import Row, rows_of
from convcast.verification.results.verification import Verification


def product_rows(accumulator: Accumulator, system: str, variable: Variable, lead: int, settings: Any) -> Iterator[Row]:
    """Return rows of scores of a system's published products, of the same products of ours, and of the difference.

    Args:
        accumulator: Sums of the cases.
        system: Publisher of the products.
        variable: Field.
        lead: Lead time, hours.
        settings: Settings of verification, for the intervals.
    """
    cases = accumulator.compared.get((system, variable.name, lead), {})
    known = {one.name: one for one in possible_comparisons(system)}
    for name in dict.fromkeys(name for compared in cases.values() for name in compared.names):
        having = {init: c for init, c in cases.items() if name in c.names}
        days = sorted({init.astype("datetime64[D]") for init in having})
        sums = np.zeros((len(days), len(SUMS)))
        for init, compared in having.items():
            sums[days.index(init.astype("datetime64[D]"))] += compared.sums[compared.names.index(name)]
        bootstrap = Bootstrap(
            len(days), resamples=settings.resamples, seed=settings.seed, confidence=settings.confidence
        )
        size = next(iter(having.values())).members
        yield from _rows(known[name], system, lead, bootstrap, sums, len(having), size)


def _rows(
    one: Comparison, system: str, lead: int, bootstrap: Bootstrap, sums: np.ndarray, n: int, members: int
) -> Iterator[Row]:
    points, ours, theirs, events, stated_ours, stated_theirs = sums.T
    silent = one.threshold is not None and not (events.sum() or stated_ours.sum() or stated_theirs.sum())
    labels: dict[str, Any] = {"estimator": "as published", "reference": system}
    if one.threshold is not None:
        labels |= {"threshold": one.threshold, "below": one.below, "events": int(events.sum())}
    if one.scale_km is not None:
        labels["scale_km"] = one.scale_km
    if silent:
        labels["note"] = "no events"
    counts = {"points": int(points.sum()), "members": members}
    for score, loss, of in (
        (one.score, ours, MODEL),
        (one.score, theirs, system),
        (f"{one.score}_difference", ours - theirs, MODEL),
    ):
        value = ScoreValue(score, formulas.ratio, (loss, np.zeros_like(points) if silent else points), labels)
        yield from rows_of([value], bootstrap, one.product.variable, lead, of, n, **counts)


def find_product_rows(verification: Verification, system: str, lead: int) -> list[tuple[Row, Row, Row]]:
    """Find the rows of all comparisons with a system's products at a lead: (ours, theirs, difference) each.

    Args:
        verification: The verification.
        system: Name of the reference ensemble.
        lead: Lead time, hours.
    """
    wanted = {"lead_hours": lead, "reference": system, "estimator": "as published"}
    rows = [row for row in verification.scores if all(row.get(name) == value for name, value in wanted.items())]
    return list(zip(rows[::3], rows[1::3], rows[2::3], strict=True))


def comparison_label(row: Row) -> str:
    """Return the label of a comparison, such as `REFC ≥ 40 dBZ within 40.6 km`."""
    variable = FIELDS[row["field"]]
    if "threshold" not in row:
        return f"{variable.name.upper()} as a normal distribution ({variable.sign})"
    sign = "≤" if row["below"] else "≥"
    near = f" within {row['scale_km']:g} km" if "scale_km" in row else " at the point"
    return f"{variable.name.upper()} {sign} {row['threshold']:g} {variable.sign}{near}"
