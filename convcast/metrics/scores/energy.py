"""Energy score of whole fields."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from convcast.metrics.formulas import ratio
from convcast.metrics.scores.base import DailyFieldSums, FieldScore, Floats, ScoreValue
from convcast.metrics.spatial import FieldCase

CHUNK = 1 << 17
"""Number of points processed at a time, which bounds memory."""


class EnergyScore(FieldScore):
    """Energy score of the field as one vector, by the fair and by the ensemble estimator."""

    name, title = "energy_score", "Energy score"

    def sums(self, case: FieldCase) -> dict[str, Floats]:
        """Return `energy`, (3,): number of cases, and sums of the score by the fair and by the ensemble estimator."""
        if not case.present.any():
            return {"energy": np.zeros(3)}
        return {"energy": np.array([1, *energy(case.forecasts, case.observations, case.present)])}

    def values(self, daily: DailyFieldSums) -> Iterator[ScoreValue]:
        count, fair, ensemble = daily.sums["energy"].T
        for estimator, total in (("fair", fair), ("ensemble", ensemble)):
            labels = {"estimator": estimator, "units": daily.variable.units}
            yield ScoreValue(self.name, ratio, (total, count), labels)


def energy(
    forecasts: NDArray[np.floating], observations: NDArray[np.floating], present: NDArray[np.bool_]
) -> tuple[float, float]:
    """Compute the energy score (Gneiting et al. 2008, eq. 3) of the field as one vector, over the root of its length.

    The score is mean|X_i - y| - sum_{i<j}|X_i - X_j| / (M (M - 1)), or with M² in place of M (M - 1). The norms follow
    from the products of all pairs of departures from the observation, so that the members are read once.

    Args:
        forecasts: Members, (member, y, x).
        observations: Observations, (y, x).
        present: Points to score, (y, x).

    Returns:
        The score by the fair and by the ensemble estimator, in the units of the field.
    """
    members = len(forecasts)
    values, truth, scored = forecasts.reshape(members, -1), observations.reshape(-1), present.reshape(-1)
    products = np.zeros((members, members))
    # One array for all parts, since writing to new memory takes as long as the products.
    departures = np.empty((members, min(CHUNK, truth.size)), np.result_type(values, truth))
    for start in range(0, truth.size, CHUNK):
        part = slice(start, min(start + CHUNK, truth.size))
        apart = departures[:, : part.stop - start]
        np.subtract(values[:, part], truth[part], out=apart)
        if not scored[part].all():
            apart[:, ~scored[part]] = 0
        products += apart @ apart.T
    squares = np.diag(products)
    distance = np.sqrt(squares).mean()
    pairs = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0)).sum() / 2
    length = np.sqrt(np.count_nonzero(scored))
    fair = distance - pairs / (members * (members - 1)) if members > 1 else distance
    return float(fair / length), float((distance - pairs / members**2) / length)
