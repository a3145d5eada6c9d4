"""Scores of events anywhere within a neighbourhood (NMEP)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.grid import SPACING
from convcast.metrics.kernels import happens
from convcast.metrics.neighbourhood import RADIUS, far_from_missing, happens_near
from convcast.metrics.scores.base import (
    NOT_COMPUTED,
    DailyFieldSums,
    EventScore,
    FieldScore,
    Floats,
    ScoreValue,
    event_values,
)
from convcast.metrics.scores.events import BrierScore, BrierSkill, RocArea
from convcast.metrics.spatial import FieldCase, Scales

STEP = 4
"""Step in rows and columns between the points where NMEP is computed; disks between them are nearly the same."""


class NeighbourhoodMaxima(FieldScore):
    """Scores of the share of members with the event anywhere within RADIUS of a point, as `nmep_<score>`.

    Disks that hold a missing point or leave the domain are left out; a periodic domain has no edge.
    """

    name, title = "nmep", "Scores of neighbourhood maxima (NMEP)"
    scores: tuple[EventScore, ...] = (BrierScore(), BrierSkill(), RocArea())

    def sums(self, case: FieldCase) -> dict[str, Floats]:
        """(threshold, members + 1, 2) every STEP-th point by number of members with the event, and by outcome."""
        tables = np.zeros((len(case.thresholds), len(case.forecasts) + 1, 2))
        _near(case.forecasts, case.observations, case.present, case.thresholds, case.scales, tables)
        return {"near": tables}

    def values(self, daily: DailyFieldSums) -> Iterator[ScoreValue]:
        kilometres = RADIUS * SPACING / 1000
        for number, table in enumerate(np.moveaxis(daily.sums["near"], 1, 0)):
            labels: dict[str, Any] = {"threshold": daily.variable.thresholds[number], "scale_km": kilometres}
            if not table.sum():
                labels["note"] = f"{NOT_COMPUTED} no point is {kilometres:g} km from any missing point and edge"
            yield from event_values(table, self.scores, prefix=f"{self.name}_", **labels)


def _near(
    forecasts: NDArray[np.floating],
    observations: NDArray[np.floating],
    present: NDArray[np.bool_],
    thresholds: tuple[float, ...],
    scales: Scales,
    out: Floats,
) -> None:
    first = 0
    if scales.periodic:
        first = -(-RADIUS // STEP)
        around = first * STEP
        forecasts = np.pad(forecasts, ((0, 0), (around, around), (around, around)), mode="wrap")
        observations, present = np.pad(observations, around, mode="wrap"), np.pad(present, around, mode="wrap")
    inner = (slice(first, -first or None),) * 2
    counted = far_from_missing(present, RADIUS)[::STEP, ::STEP][inner]
    if not counted.any():
        return
    for threshold, table in zip(thresholds, out, strict=True):
        count = np.zeros(counted.shape, np.int64)
        for member in forecasts:
            count += happens_near(happens(member, threshold), RADIUS, step=STEP)[inner]
        seen = happens_near(happens(observations, threshold), RADIUS, step=STEP)[inner]
        table += np.bincount((2 * count + seen)[counted], minlength=table.size).reshape(table.shape)
