"""Scores of storms as objects: whether they are forecast, how many, and how large."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from convcast.grid import SPACING
from convcast.metrics.formulas import ratio
from convcast.metrics.kernels import crps_points, in_parallel
from convcast.metrics.scores.base import DailyFieldSums, FieldScore, Floats, ScoreValue
from convcast.metrics.spatial import FieldCase
from convcast.metrics.storms import REACH, SIZES, SMALLEST, STRONG, Storms, find_storms
from convcast.variables import REFC

COUNTS = "cases", "observed", "forecast", "matched", "confirmed", "count_crps", "timely_observed", "timely_matched"
"""Names of the sums over cases, which are means over members: number of cases; observed storms and forecast storms;
observed storms that a member has within reach (matched); forecast storms with an observed one within reach (confirmed);
the fair CRPS of the number of storms; and, of cases with forecasts an hour earlier or later, observed storms and those
that a member has within reach in one of these hours (timely)."""


class StormScores(FieldScore):
    """Shares of storms that members have within 40 km, also within an hour, and numbers of storms by size."""

    name, title = "storms", "Storms as objects"

    def sums(self, case: FieldCase) -> dict[str, Floats]:
        """Return `storms`, (COUNTS,), and `storm_sizes`, (2, SIZES): observed storms, and the mean over members."""
        if case.variable is not REFC or not case.present.any():
            return {"storms": np.zeros(len(COUNTS)), "storm_sizes": np.zeros((2, len(SIZES)))}
        observed = case.observed.get("storms", lambda: self._storms(case, case.observations >= STRONG))
        members = in_parallel(lambda member: self._storms(case, member >= STRONG), case.forecasts)
        near = np.array([observed.near(member) for member in members])
        numbers = np.array([len(member) for member in members], float)
        confirmed = [member.near(observed).sum() for member in members]
        timely = np.zeros(2)
        if case.around:
            also = near.copy()
            for hour in case.around:
                also |= np.array([observed.near(self._storms(case, member)) for member in hour])
            timely = np.array([len(observed), also.mean(0).sum()])
        counts = [
            1,
            len(observed),
            numbers.mean(),
            near.mean(0).sum(),
            np.mean(confirmed),
            crps_points(numbers[:, None], np.array([float(len(observed))]), "fair").item(),
        ]
        sizes = np.stack([observed.by_size(), np.mean([member.by_size() for member in members], axis=0)])
        return {"storms": np.array([*counts, *timely], float), "storm_sizes": sizes}

    def values(self, daily: DailyFieldSums) -> Iterator[ScoreValue]:
        if daily.variable is not REFC:
            return
        of = dict(zip(COUNTS, daily.sums["storms"].T, strict=True))
        what = {"threshold": STRONG, "smallest_km2": SMALLEST * _CELL}
        none = {} if of["observed"].sum() else {"note": "no storms observed"}
        yield ScoreValue("storms_matched", ratio, (of["matched"], of["observed"]), {"reach_km": REACH, **what, **none})
        if of["timely_observed"].sum():
            parts = of["timely_matched"], of["timely_observed"]
            yield ScoreValue("storms_matched_within_1h", ratio, parts, {"reach_km": REACH, **what})
        none = {} if of["forecast"].sum() else {"note": "no storms forecast"}
        yield ScoreValue(
            "storms_confirmed", ratio, (of["confirmed"], of["forecast"]), {"reach_km": REACH, **what, **none}
        )
        yield ScoreValue("storm_count", ratio, (of["forecast"], of["cases"]), what)
        yield ScoreValue("storm_count_observed", ratio, (of["observed"], of["cases"]), what)
        yield ScoreValue("storm_count_crps", ratio, (of["count_crps"], of["cases"]), {"estimator": "fair", **what})
        observed, forecast = np.moveaxis(daily.sums["storm_sizes"], -2, 0)
        for number, smallest in enumerate(SIZES):
            labels = {"threshold": STRONG, "from_km2": smallest * _CELL}
            yield ScoreValue("storm_count_of_size", ratio, (forecast[:, number], of["cases"]), labels)
            yield ScoreValue("storm_count_of_size_observed", ratio, (observed[:, number], of["cases"]), labels)

    def _storms(self, case: FieldCase, strong: NDArray[np.bool_]) -> Storms:
        return find_storms(strong & case.present, periodic=case.scales.periodic)


_CELL = SPACING**2 / 1e6
"""Area of a cell, km2."""
