"""Sums and counts of a scored case, from which every score, interval and figure is made.

The statistics of two sets of cases add up to those of both, so they may be gathered by points, hours, days or workers
in any order. Their size does not grow with the number of points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convcast.errors import SettingsError
from convcast.metrics.kernels import as_floats, exceedances, happens, rank_counts, score_points
from convcast.metrics.regimes import REGIMES
from convcast.metrics.scores import POINT_SCORES
from convcast.metrics.scores.base import PointValues
from convcast.metrics.spatial import Scales, Spatial, score_whole
from convcast.variables import Variable

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CHUNK = 1 << 17
"""Number of points scored at a time, which bounds the memory of a large domain."""
BINS = 56
"""Number of classes of ensemble spread, four an octave."""
FINEST_BIN = 2.0**-14
"""Spread at the upper edge of the first class, in units of the field's display range."""


@dataclass(frozen=True)
class PresentPoints:
    """Quantities at the points where neither the observation nor a member is missing, (point,) each."""

    error: Floats
    """Ensemble mean minus observation, in the field's units."""
    variance: Floats
    """Unbiased variance of the members."""
    fair: Floats
    """Fair CRPS."""
    ensemble: Floats
    """CRPS of the members' empirical distribution."""

    def crps(self, estimator: Literal["fair", "ensemble"]) -> Floats:
        """CRPS by this estimator, in the field's units."""
        return self.fair if estimator == "fair" else self.ensemble


POINT_SUMS: dict[str, Callable[[PointValues], Floats]] = {"points": lambda points: np.ones_like(points.error)} | {
    name: quantity for score in POINT_SCORES for name, quantity in score.at_points.items()
}
"""Quantities that are summed over points, by name: the number of points, and those that scores add."""


@dataclass(frozen=True)
class Sums:
    """Sums over points of one field; a mean is a sum over `sums["points"]`."""

    values: Floats
    """(name,) in the order of POINT_SUMS."""

    def __getitem__(self, name: str) -> float:
        return float(self.values[list(POINT_SUMS).index(name)])

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.values + other.values)


@dataclass(frozen=True)
class Statistics:
    """Sufficient statistics of one system's forecasts of one field.

    Attributes
    ----------
    members : number of members of every ensemble
    sums : sums over points
    tables : (threshold, members + 1, 2) points by number of members with the event, and by whether it was observed
    ranks : (members + 1,) points by rank of the observation, ties shared
    spread_bins : (BINS, 3) points, sum of variance and sum of squared error of the mean, by class of spread
    regimes : (regime, sum) the `sums` over the points of each of REGIMES; zeros where regimes are not known
    spatial : statistics of whole fields
    """

    members: int
    sums: Sums
    tables: Integers
    ranks: Floats
    spread_bins: Floats
    regimes: Floats
    spatial: Spatial

    def __add__(self, other: Statistics) -> Statistics:
        """Pool two sets of cases.

        Raises:
            SettingsError: The ensembles differ in size.
        """
        if self.members != other.members:
            raise SettingsError(
                f"ensembles of {self.members} and {other.members} members cannot be pooled",
                advice="verify forecasts of one size, or complete them with `convcast sample`",
            )
        return Statistics(
            self.members,
            self.sums + other.sums,
            self.tables + other.tables,
            self.ranks + other.ranks,
            self.spread_bins + other.spread_bins,
            self.regimes + other.regimes,
            self.spatial + other.spatial,
        )


def score_field(
    forecasts: NDArray[Any],
    observations: NDArray[Any],
    variable: Variable,
    *,
    regimes: NDArray[np.int8] | None = None,
    scales: Scales | None = None,
    chunk: int = CHUNK,
) -> Statistics:
    """Compute the statistics of one case of a field.

    Points where the observation or a member is missing are left out of all statistics.

    Args:
        forecasts: Members, (member, y, x), in the field's units.
        observations: Observations, (y, x).
        variable: The field, which has the thresholds of events.
        regimes: Index of each point's regime in REGIMES, (y, x), negative where unknown.
        scales: Scales of spatial statistics, which are left out without them.
        chunk: Number of points scored at a time.

    Raises:
        SettingsError: There is no point or no member.
    """
    forecasts, observations = as_floats(forecasts), as_floats(observations)
    members = len(forecasts)
    members_first, truth = forecasts.reshape(members, -1), observations.reshape(-1)
    kinds = np.full(truth.size, -1, np.int8) if regimes is None else regimes.reshape(-1)
    total: Statistics | None = None
    for start in range(0, truth.size, chunk):
        part = slice(start, start + chunk)
        found = _score(members_first[:, part], truth[part], kinds[part], variable)
        total = found if total is None else total + found
    if total is None:
        raise SettingsError(f"there is no point of {variable.name} to score")
    if scales is None:
        return total
    return replace(total, spatial=score_whole(forecasts, observations, variable, scales))


def _score(
    forecasts: NDArray[Any], observations: NDArray[Any], regimes: NDArray[np.int8], variable: Variable
) -> Statistics:
    members = len(forecasts)
    found = score_points(forecasts, observations)
    present = found.present
    points = PresentPoints(
        found.error[present], found.variance[present], found.crps("fair")[present], found.crps("ensemble")[present]
    )
    at_points = [quantity(points) for quantity in POINT_SUMS.values()]
    sums = Sums(np.array([values.sum() for values in at_points], float))
    known = regimes[present]
    by_regime = [np.bincount(known[known >= 0], values[known >= 0], len(REGIMES)) for values in at_points]
    tables = np.zeros((len(variable.thresholds), members + 1, 2), np.int64)
    for table, threshold in zip(tables, variable.thresholds, strict=True):
        count = exceedances(forecasts, threshold, events_below=variable.events_below)[present]
        event = happens(observations[present], threshold, events_below=variable.events_below)
        table += np.bincount(2 * count + event, minlength=2 * (members + 1)).reshape(-1, 2)
    ranks = rank_counts(found.below, found.equal, members)
    by_spread = _by_spread(np.sqrt(points.variance), points.error, variable)
    return Statistics(members, sums, tables, ranks, by_spread, np.array(by_regime, float).T, Spatial.none(members))


def _by_spread(spread: Floats, error: Floats, variable: Variable) -> Floats:
    finest = FINEST_BIN * (variable.display[1] - variable.display[0])
    place = np.ceil(4 * np.log2(np.maximum(spread, finest) / finest)).astype(np.int64).clip(0, BINS - 1)
    return np.stack([np.bincount(place, w, BINS) for w in (np.ones_like(spread), spread**2, error**2)], axis=1)
