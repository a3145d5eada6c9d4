"""The table of scores: one row for each value, with a bootstrap interval over days."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.metrics import MODEL, formulas
from convcast.metrics.bootstrap import Bootstrap, Estimate
from convcast.metrics.regimes import REGIMES
from convcast.metrics.scores import EVENT_SCORES, FIELD_SCORES, POINT_SCORES
from convcast.metrics.scores.base import DailyFieldSums, PointScore, ScoreValue, event_values
from convcast.metrics.scores.changes import changes_of
from convcast.metrics.spatial import Scales
from convcast.metrics.sums import POINT_SUMS, Statistics
from convcast.variables import Variable
from convcast.verification.results.accumulator import Accumulator

Floats = NDArray[np.float64]
Row = dict[str, Any]


class Daily:
    """Daily sums of one system, field and lead, by name: (day, ...) each."""

    def __init__(self, statistics: Sequence[Statistics], cases: int) -> None:
        self.cases = cases
        self.members = statistics[0].members
        self.tables = np.array([s.tables for s in statistics], float)
        self.whole_fields = {
            name: np.array([s.whole_fields[name] for s in statistics]) for name in statistics[0].whole_fields
        }
        self._sums = {name: np.array([s.sums[name] for s in statistics]) for name in POINT_SUMS}
        self._sums["ranks"] = np.array([s.ranks for s in statistics])
        self._regimes = {name: np.array([s.regimes[name] for s in statistics]) for name in POINT_SUMS}

    def __getitem__(self, name: str) -> Floats:
        return self._sums[name]

    def within(self, regime: str) -> dict[str, Floats]:
        """Return the sums of a regime's points, by name."""
        return {name: daily[:, REGIMES.index(regime)] for name, daily in self._regimes.items()}


def score_rows(
    accumulator: Accumulator,
    bootstrap: Bootstrap,
    scales: Scales,
    variable: Variable,
    lead: int,
    systems: Sequence[str],
) -> Iterator[Row]:
    """Compute every score of a field at a lead, for all systems: one row a value.

    Args:
        accumulator: Sums of the cases.
        bootstrap: Resamples of the days.
        scales: Widths of neighbourhoods.
        variable: Field.
        lead: Lead time, hours.
        systems: Names of the systems; those that are compared with others have the same cases.
    """
    days = {
        system: Daily(
            accumulator.daily(system, variable.name, lead), len(accumulator.cases[system, variable.name, lead])
        )
        for system in systems
    }
    values = [(system, value) for system in systems for value in _values(days[system], variable, scales)]
    values += [(system, value) for system in systems for value in _comparisons(system, days, variable)]
    for system, group in groupby(values, key=itemgetter(0)):
        daily = days[system]
        counts = {"points": int(daily["points"].sum()), "members": daily.members}
        yield from rows_of([value for _, value in group], bootstrap, variable, lead, system, daily.cases, **counts)


def rows_of(
    values: Sequence[ScoreValue],
    bootstrap: Bootstrap,
    variable: Variable,
    lead: int,
    system: str,
    cases: int,
    **counts: int,
) -> Iterator[Row]:
    """Compute values; successive values of the same sums share their resamples.

    Args:
        values: Formulas and daily sums.
        bootstrap: Resamples of the days.
        variable: Field.
        lead: Lead time, hours.
        system: Name of the system.
        cases: Number of forecasts, the row's `n`.
        **counts: Further counts of the row, such as points and members.
    """
    for _, neighbours in groupby(values, key=lambda value: tuple(map(id, value.sums))):
        group = list(neighbours)
        estimates = bootstrap.estimates([value.formula for value in group], *group[0].sums)
        for value, estimate in zip(group, estimates, strict=True):
            labels = dict(value.labels)
            yield {
                "field": variable.name,
                "lead_hours": lead,
                "score": value.name,
                "estimator": labels.pop("estimator", None),
                "system": system,
                **numbers(estimate),
                "n": cases,
                "days": bootstrap.days,
                **counts,
                **labels,
            }


def _values(daily: Daily, variable: Variable, scales: Scales) -> Iterator[ScoreValue]:
    """Return every value of one system's scores."""
    yield from _point_values(daily, POINT_SCORES, daily.members, variable)
    for number, threshold in enumerate(variable.thresholds):
        yield from event_values(daily.tables[:, number], EVENT_SCORES, threshold=threshold)
    for score in FIELD_SCORES if daily.whole_fields else ():
        yield from score.values(DailyFieldSums(daily.whole_fields, variable, scales, daily.cases))
    for regime in REGIMES:
        sums = daily.within(regime)
        if sums["points"].any():
            labels = {"regime": regime, "points": int(sums["points"].sum())}
            by_regime = [score for score in POINT_SCORES if score.by_regime]
            yield from _point_values(sums, by_regime, daily.members, variable, **labels)


def _point_values(
    sums: Daily | dict[str, Floats], scores: Sequence[PointScore], members: int, variable: Variable, **labels: Any
) -> Iterator[ScoreValue]:
    """Return the values of scores from sums over points, of all points or of a regime."""
    for score in scores:
        if score.needs_members and members < 2:
            continue
        of_score = {
            "estimator": score.estimator,
            "units": variable.units if score.units else None,
            "reference": score.reference,
        }

        def finish(*totals: Floats, score: PointScore = score) -> Floats:
            return score.value(dict(zip(score.sums, totals, strict=True)) | {"members": np.asarray(float(members))})

        known = {name: value for name, value in of_score.items() if value is not None}
        yield ScoreValue(score.name, finish, tuple(sums[name] for name in score.sums), known | labels)


def _comparisons(system: str, days: Mapping[str, Daily], variable: Variable) -> Iterator[ScoreValue]:
    """Return comparisons of CRPS; numerator and denominator share the draws of days, so they are paired."""
    fair = {name: daily["crps_fair"] for name, daily in days.items()}
    its = fair[system]
    yield from _compared_changes(system, days, variable)
    if "exact" in fair and system != "exact":
        labels = {"estimator": "fair", "reference": "exact"}
        yield ScoreValue("crps_ratio_exact", formulas.ratio, (its, fair["exact"]), labels)
    for other in ("persistence", "climatology"):
        if other in fair and system != other:
            yield ScoreValue("crpss", _skill, (its, fair[other]), {"estimator": "fair", "reference": other})
    for other in fair if system == MODEL else ():
        if other != MODEL:
            labels = {"estimator": "fair", "units": variable.units, "reference": other}
            yield ScoreValue("crps_difference", formulas.ratio, (its - fair[other], days[system]["points"]), labels)


def _compared_changes(system: str, days: Mapping[str, Daily], variable: Variable) -> Iterator[ScoreValue]:
    """Return comparisons of the CRPS of changes between leads, also paired."""
    crps = {name: list(changes_of(daily.whole_fields)) for name, daily in days.items()}
    for other, theirs in crps.items():
        for (leads, (points, its)), (_, (_, reference)) in zip(crps[system], theirs, strict=True):
            labels = {"estimator": "fair", "reference": other, **leads}
            if other == "exact" != system:
                yield ScoreValue("crps_change_ratio_exact", formulas.ratio, (its, reference), labels)
            if system == MODEL != other:
                difference = its - reference, points
                yield ScoreValue(
                    "crps_change_difference", formulas.ratio, difference, labels | {"units": variable.units}
                )


def find(rows: Sequence[Row], **wanted: Any) -> Row | None:
    """Find the first row with these entries; None if there is none."""
    entries = wanted.items()
    for row in rows:
        for name, value in entries:
            if row.get(name) != value:
                break
        else:
            return row
    return None


def verdict(difference: Row | None) -> str:
    """Judge the row of a paired difference of a score for which smaller is better."""
    if difference is None or difference["low"] is None:
        return "no interval"
    if difference["high"] < 0:
        return "better"
    return "worse" if difference["low"] > 0 else "no clear difference"


def numbers(estimate: Estimate) -> dict[str, float | None]:
    """Return value and interval of a row; None if undefined, since JSON has no NaN."""
    return {
        name: float(value) if np.isfinite(value) else None
        for name, value in (("value", estimate.value), ("low", estimate.low), ("high", estimate.high))
    }


def _skill(score: Floats, reference: Floats) -> Floats:
    return 1 - formulas.ratio(score, reference)
