"""CRPS of the change of a field from one lead to the next, which shows whether members are consistent in time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from convcast.metrics.formulas import ratio
from convcast.metrics.kernels import crps_points
from convcast.metrics.scores.base import DailyFieldSums, FieldScore, Floats, ScoreValue
from convcast.metrics.spatial import FieldCase

NAME = re.compile(r"change_(\d+)_(\d+)")
"""Name of the sums of a change: its first and last lead, hours."""


class ChangeCrps(FieldScore):
    """Fair CRPS of the members' change between two successive leads against the change that was observed."""

    name, title = "crps_change", "CRPS of the change between leads"
    estimator = "fair"

    def sums(self, case: FieldCase) -> dict[str, Floats]:
        """Return `change_1_3` and so on, (2,) each: number of points, and sum of their CRPS."""
        return {
            f"change_{first}_{last}": np.array([np.count_nonzero(case.present), crps[case.present].sum()], float)
            for (first, last), crps in case.changes.items()
        }

    def values(self, daily: DailyFieldSums) -> Iterator[ScoreValue]:
        for leads, (points, crps) in changes_of(daily.sums):
            labels = {"estimator": self.estimator, "units": daily.variable.units, **leads}
            yield ScoreValue(self.name, ratio, (crps, points), labels)


def changes_of(sums: Mapping[str, Floats]) -> Iterator[tuple[dict[str, int], tuple[Floats, Floats]]]:
    """Yield the first and last lead of each change, as rows have them, and its daily points and CRPS, (day,) each."""
    for name, daily in sums.items():
        if (match := NAME.fullmatch(name)) is not None:
            yield {"from_hours": int(match[1]), "to_hours": int(match[2])}, (daily[:, 0], daily[:, 1])


def crps_of_change(forecasts: NDArray[np.floating], observed: NDArray[np.floating]) -> Floats:
    """Compute the fair CRPS at each point, (y, x), of changes (member, y, x) against the observed change (y, x).

    The result at points without a value is arbitrary.
    """
    points = crps_points(forecasts.reshape(len(forecasts), -1), observed.reshape(-1), "fair")
    return points.reshape(observed.shape)
