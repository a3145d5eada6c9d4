"""Sums and counts of a scored case, from which all scores, intervals and figures are made.

The statistics of two sets of cases add up to those of both, so they may be added over points, hours, days or workers
in any order. Their size does not grow with the number of points.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from convcast.errors import SettingsError
from convcast.metrics.kernels import (
    Counts,
    PointScores,
    as_floats,
    count_members,
    happens,
    in_parallel,
    pack_exceedances,
    rank_counts,
    score_points,
    sums_by_class,
)
from convcast.metrics.regimes import REGIMES
from convcast.metrics.scores import FIELD_SCORES, POINT_SCORES
from convcast.metrics.spatial import Changes, FieldCase, ObservedResults, Scales
from convcast.variables import Variable

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CHUNK = 1 << 17
"""Number of points scored at a time, which bounds the memory of a large domain."""
BINS = 56
"""Number of classes of ensemble spread, four for each octave."""
FINEST_BIN = 2.0**-14
"""Spread at the upper edge of the first class, in units of the field's display range."""


POINT_SUMS: dict[str, Callable[[PointScores], Floats]] = {"points": lambda points: np.ones_like(points.error)} | {
    name: quantity for score in POINT_SCORES for name, quantity in score.at_points.items()
}
"""Quantities that are summed over points, by name: the number of points, and those that scores add."""


@dataclass(frozen=True)
class Statistics:
    """Sums over one system's forecasts of one field, from which all its scores follow."""

    members: int
    """Number of members of every ensemble."""
    sums: dict[str, Floats]
    """Sums of POINT_SUMS over points, by name; a mean is a sum over `sums["points"]`."""
    tables: Integers
    """Numbers of points by number of members with the event and by outcome, (threshold, members + 1, 2)."""
    ranks: Floats
    """Numbers of points by rank of the observation, ties shared, (members + 1,)."""
    spread_bins: Floats
    """Number of points, sum of variance and sum of squared error of the mean, by class of spread, (BINS, 3)."""
    regimes: dict[str, Floats]
    """The `sums` over the points of each of REGIMES, (regime,); zeros where regimes are not known."""
    whole_fields: dict[str, Floats]
    """Sums over cases that FIELD_SCORES add, by name; empty where they are not computed."""

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
            _added(self.sums, other.sums),
            self.tables + other.tables,
            self.ranks + other.ranks,
            self.spread_bins + other.spread_bins,
            _added(self.regimes, other.regimes),
            _added(self.whole_fields, other.whole_fields),
        )


def _added(one: dict[str, Floats], other: dict[str, Floats]) -> dict[str, Floats]:
    return {name: sums + other[name] for name, sums in one.items()}


def score_field(
    forecasts: NDArray[Any],
    observations: NDArray[Any],
    variable: Variable,
    *,
    regimes: NDArray[np.int8] | None = None,
    scales: Scales | None = None,
    around: tuple[NDArray[np.bool_], ...] = (),
    changes: Changes | None = None,
    observed: ObservedResults | None = None,
    chunk: int = CHUNK,
) -> Statistics:
    """Compute the statistics of one case of a field.

    Points where the observation or a member is missing are left out of all statistics.

    Args:
        forecasts: Members, (member, y, x), in the field's units.
        observations: Observations, (y, x).
        variable: The field, which has the thresholds of events.
        regimes: Index of each point's regime in REGIMES, (y, x), negative where unknown.
        scales: Scales of the scores of whole fields, whose sums are left out without them.
        around: Strong echoes of the same members an hour earlier and later, (member, y, x) each, where known.
        changes: CRPS of the changes between successive leads, where the forecasts are extremes over several.
        observed: Results of the observation that an earlier system stored, and that this one adds to.
        chunk: Number of points scored at a time.

    Raises:
        SettingsError: There is no point or no member.
    """
    forecasts, observations = as_floats(forecasts), as_floats(observations)
    members = len(forecasts)
    packed = pack_exceedances(forecasts, variable.thresholds, events_below=variable.events_below)
    counts = count_members(packed).reshape(len(variable.thresholds), observations.size)
    members_first, truth = forecasts.reshape(members, -1), observations.reshape(-1)
    kinds = np.full(truth.size, -1, np.int8) if regimes is None else regimes.reshape(-1)
    present = np.zeros(truth.size, bool)
    if truth.size == 0:
        raise SettingsError(f"{variable.name} has no point to score")

    def score(start: int) -> Statistics:
        part = slice(start, start + chunk)
        scores = score_points(members_first[:, part], truth[part])
        present[part] = scores.present
        return _statistics(scores, counts[:, part], truth[part], kinds[part], variable)

    # The parts are added in order, so that the number of threads changes no bit.
    total = reduce(operator.add, in_parallel(score, range(0, truth.size, chunk)))
    if scales is None:
        return total
    there = present.reshape(observations.shape)
    observed = ObservedResults() if observed is None else observed
    observed.begin(observations, there)
    case = FieldCase(forecasts, observations, there, variable, scales, packed, around, changes or {}, observed)
    return replace(total, whole_fields=_whole_field_sums(case))


def _whole_field_sums(case: FieldCase) -> dict[str, Floats]:
    # Threads of the linear algebra would compete with those of the scores, and change the last bits of its sums.
    with _linear_algebra().limit(limits=1, user_api="blas"):
        return {n: sums for of in in_parallel(lambda score: score.sums(case), FIELD_SCORES) for n, sums in of.items()}


@cache
def _linear_algebra() -> ThreadpoolController:
    """Return the libraries of linear algebra; finding them takes longer than scoring a small field."""
    return ThreadpoolController()


def _statistics(
    scores: PointScores, counts: Counts, observations: NDArray[Any], regimes: NDArray[np.int8], variable: Variable
) -> Statistics:
    """Compute the statistics of points: `counts` is the number of members with each event, (threshold, point)."""
    present, points, members = scores.present, scores.without_missing(), scores.members
    at_points = {name: quantity(points) for name, quantity in POINT_SUMS.items()}
    if not present.all():
        counts, observations, regimes = counts[:, present], observations[present], regimes[present]
    known: NDArray[np.bool_] | slice = regimes >= 0
    kinds = regimes[known].astype(np.intp)
    if len(kinds) == len(regimes):
        known = slice(None)
    tables = np.zeros((len(variable.thresholds), members + 1, 2), np.int64)
    for table, threshold, count in zip(tables, variable.thresholds, counts, strict=True):
        event = happens(observations, threshold, events_below=variable.events_below)
        table += np.bincount(2 * count + event, minlength=2 * (members + 1)).reshape(-1, 2)
    ranks = rank_counts(points.below, points.equal, members)
    by_spread = _by_spread(points.spread, points.error, variable)
    sums = {name: np.asarray(values.sum(), float) for name, values in at_points.items()}
    of_regimes = sums_by_class(kinds, [values[known] for values in at_points.values()], len(REGIMES))
    by_regime = dict(zip(at_points, of_regimes, strict=True))
    return Statistics(members, sums, tables, ranks, by_spread, by_regime, {})


def _by_spread(spread: Floats, error: Floats, variable: Variable) -> Floats:
    finest = FINEST_BIN * (variable.display[1] - variable.display[0])
    bins = np.ceil(4 * np.log2(np.maximum(spread, finest) / finest)).astype(np.int64).clip(0, BINS - 1)
    return sums_by_class(bins, (np.ones_like(spread), spread**2, error**2), BINS).T
