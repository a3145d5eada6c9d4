"""Fractions skill score of events in squares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.grid import SPACING
from convcast.metrics.formulas import fractions_skill_score
from convcast.metrics.kernels import Counts, count_members, exceedances, happens
from convcast.metrics.neighbourhood import box_means
from convcast.metrics.scores.base import NOT_COMPUTED, DailyFieldSums, FieldScore, Floats, ScoreValue
from convcast.metrics.spatial import FieldCase, ObservedResults, Scales


class FractionsSkillScore(FieldScore):
    """Agreement of the share of each square with the event, as a mean over members (NEP), with the observed share.

    Squares that hold a missing point or leave the domain are left out; a periodic domain has no edge.
    """

    name, title = "fss", "Fractions skill score"

    def sums(self, case: FieldCase) -> dict[str, Floats]:
        counts = [count_members(packed) for _, packed in case.events()]
        sums = fraction_sums(
            case.forecasts,
            case.observations,
            case.present,
            case.thresholds,
            case.scales,
            counts=counts,
            observed=case.observed,
        )
        return {"fractions": sums}

    def values(self, daily: DailyFieldSums) -> Iterator[ScoreValue]:
        fractions = daily.sums["fractions"]
        for row, threshold in enumerate(daily.variable.thresholds[: fractions.shape[1]]):
            for column, width in enumerate(daily.scales.widths):
                sums, kilometres = fractions[:, row, column], width * SPACING / 1000
                labels: dict[str, Any] = {"estimator": "ensemble", "threshold": threshold, "scale_km": kilometres}
                if sums[:, 0].sum() == 0:
                    labels["note"] = f"{NOT_COMPUTED} every square of {kilometres:g} km has a missing point"
                elif sums[:, 1:3].sum() == 0:
                    labels["note"] = "no events"
                yield ScoreValue(self.name, fractions_skill_score, (sums,), labels)


def fraction_sums(
    forecasts: NDArray[np.floating],
    observations: NDArray[np.floating],
    present: NDArray[np.bool_],
    thresholds: tuple[float, ...],
    scales: Scales,
    *,
    counts: Sequence[Counts] | None = None,
    observed: ObservedResults | None = None,
) -> Floats:
    """Sum over the squares of one case.

    Args:
        forecasts: Members, (member, y, x).
        observations: Observations, (y, x).
        present: Points where nothing is missing, (y, x).
        thresholds: Thresholds of the events.
        scales: Widths of the squares, and whether the domain is periodic.
        counts: Number of members with each event, (y, x), where it is known already.
        observed: Results of the observation that an earlier system stored, and that this one adds to.

    Returns:
        Number of squares and sums of N², O² and N O, (threshold, width, 4). N is the mean over a square of the share
        of members with the event, and O the observed share.
    """
    if not thresholds:
        return np.zeros((0, len(scales.widths), 4))
    counts = counts or [exceedances(forecasts, threshold) for threshold in thresholds]
    observed = ObservedResults() if observed is None else observed
    inside = [_whole_squares(present, width, periodic=scales.periodic) for width in scales.widths]

    def means(share: Floats) -> list[Floats | None]:
        """Return the means of a share over the whole squares of each width, (square,); None where there is no event."""
        if not share.any():
            return [None] * len(inside)
        squares: list[Floats | None] = []
        for width, where in zip(scales.widths, inside, strict=True):
            box = where if isinstance(where, tuple) else (slice(None), slice(None))
            found = box_means(share, width, periodic=scales.periodic, box=box)
            squares.append((found if isinstance(where, tuple) else found[where]).ravel())
        return squares

    def observed_shares(threshold: float) -> list[tuple[Floats | None, float]]:
        found = means(np.where(present & happens(observations, threshold), 1.0, 0.0))
        return [(o, _product(o, o)) for o in found]

    sums = np.zeros((len(thresholds), len(scales.widths), 4))
    for row, (threshold, count) in enumerate(zip(thresholds, counts, strict=True)):
        forecast = means(np.where(present, count / len(forecasts), 0))
        truth = observed.get(("fractions", threshold), partial(observed_shares, threshold))
        for column, (n, (o, o_o)) in enumerate(zip(forecast, truth, strict=True)):
            sums[row, column] = present[inside[column]].size, _product(n, n), o_o, _product(n, o)
    return sums


def _product(one: Floats | None, other: Floats | None) -> float:
    """Return the sum of the products of two shares; None is zero everywhere."""
    return 0.0 if one is None or other is None else float(one @ other)


def _whole_squares(
    present: NDArray[np.bool_], width: int, *, periodic: bool
) -> tuple[slice, slice] | NDArray[np.bool_]:
    """Return the index of the points whose square has no missing point: slices where these are a rectangle."""
    rows, columns = (np.flatnonzero(present.any(axis)) for axis in (1, 0))
    if len(rows) and (present.all() or not periodic):
        first_row, last_row, first_column, last_column = (int(at) for at in (*rows[[0, -1]], *columns[[0, -1]]))
        if present[first_row : last_row + 1, first_column : last_column + 1].all():
            reach = 0 if periodic else width // 2
            return (
                slice(first_row + reach, max(first_row + reach, last_row + 1 - reach)),
                slice(first_column + reach, max(first_column + reach, last_column + 1 - reach)),
            )
    return box_means(present.astype(float), width, periodic=periodic) > 1 - 1e-9
