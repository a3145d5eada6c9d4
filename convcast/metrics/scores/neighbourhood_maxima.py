"""Scores of events anywhere within a neighbourhood (NMEP)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.grid import SPACING
from convcast.metrics.kernels import count_members, happens
from convcast.metrics.neighbourhood import RADIUS, Events, far_from_missing, happens_near
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
from convcast.metrics.spatial import FieldCase

STEP = 4
"""Step in rows and columns between the points where NMEP is computed; disks between them are nearly the same."""


class NeighbourhoodMaxima(FieldScore):
    """Scores of the share of members with the event anywhere within RADIUS of a point, as `nmep_<score>`.

    Disks that hold a missing point or leave the domain are left out; a periodic domain has no edge.
    """

    name, title = "nmep", "Scores of neighbourhood maxima (NMEP)"
    scores: tuple[EventScore, ...] = (BrierScore(), BrierSkill(), RocArea())

    def sums(self, case: FieldCase) -> dict[str, Floats]:
        """Count every STEP-th point by number of members with the event and by outcome, (threshold, members + 1, 2)."""
        tables = np.zeros((len(case.thresholds), len(case.forecasts) + 1, 2))
        _near(case, tables)
        return {"near": tables}

    def values(self, daily: DailyFieldSums) -> Iterator[ScoreValue]:
        kilometres = RADIUS * SPACING / 1000
        for number, table in enumerate(np.moveaxis(daily.sums["near"], 1, 0)):
            labels: dict[str, Any] = {"threshold": daily.variable.thresholds[number], "scale_km": kilometres}
            if not table.sum():
                labels["note"] = f"{NOT_COMPUTED} no point is {kilometres:g} km from any missing point and edge"
            yield from event_values(table, self.scores, prefix=f"{self.name}_", **labels)


def _near(case: FieldCase, out: Floats) -> None:
    around, first = 0, 0
    if case.scales.periodic:
        first = -(-RADIUS // STEP)
        around = first * STEP
    inner = (slice(first, -first or None),) * 2
    counted = far_from_missing(np.pad(case.present, around, mode="wrap"), RADIUS, step=STEP)[inner]
    if not counted.any():
        return

    def near(events: NDArray[Events]) -> NDArray[Events]:
        return happens_near(np.pad(events, around, mode="wrap"), RADIUS, step=STEP)[inner]

    def observed(threshold: float) -> NDArray[np.bool_]:
        return near(happens(case.observations, threshold))

    for (threshold, packed), table in zip(case.events(), out, strict=True):
        count = count_members(np.stack([near(words) for words in packed]))
        seen = case.observed.get(("near", threshold), partial(observed, threshold))
        table += np.bincount((2 * count + seen)[counted], minlength=table.size).reshape(table.shape)
