"""From the ledger to tidy scores, each with an interval over days."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.variables import Variable
from convcast.verification import finish
from convcast.verification.intervals import Bootstrap, Estimate
from convcast.verification.ledger import Ledger
from convcast.verification.statistics import Statistics

Floats = NDArray[np.float64]
Row = dict[str, Any]

MODEL = "convcast"
"""The system whose forecasts are verified; the others are baselines."""
_ESTIMATORS = {"fair": "crps_fair", "ensemble": "crps_ensemble"}


class Daily:
    """One system's statistics of one field and lead, a row a day."""

    def __init__(self, statistics: Sequence[Statistics], cases: int) -> None:
        self.cases = cases
        self.members = statistics[0].members
        self.tables = np.array([s.tables for s in statistics], float)
        self._sums = {name: np.array([getattr(s.sums, name) for s in statistics]) for name in vars(statistics[0].sums)}

    def __getitem__(self, name: str) -> Floats:
        return self._sums[name]


class Summary:
    """The scores of a verification as tidy rows, one a value; `days` counts the days behind each interval."""

    def __init__(self, ledger: Ledger, bootstrap: Bootstrap) -> None:
        self._ledger, self._bootstrap = ledger, bootstrap
        self.rows: list[Row] = []

    def add(self, variable: Variable, lead: int, systems: Sequence[str]) -> None:
        """Enter every score of a field at a lead, of all systems."""
        daily = {
            system: Daily(
                self._ledger.daily(system, variable.name, lead), len(self._ledger.cases[system, variable.name, lead])
            )
            for system in systems
        }
        for system, its in daily.items():
            put = self._writer(variable, lead, system, its)
            for estimator, name in _ESTIMATORS.items():
                put("crps", finish.ratio, its[name], its["points"], estimator=estimator, units=variable.units)
            put("rmse", _root_mean, its["squared_error"], its["points"], units=variable.units)
            put("bias", finish.ratio, its["error"], its["points"], units=variable.units)
            if its.members > 1:
                self._spread(put, its)
            self._events(put, variable, its)
        self._comparisons(variable, lead, daily)

    def _spread(self, put: Callable[..., None], its: Daily) -> None:
        put(
            "spread_error_ratio",
            lambda v, e: finish.spread_error_ratio(v, e, its.members),
            its["variance"],
            its["squared_error"],
            estimator="unbiased",
        )
        moments = ("points", "spread", "absolute_error", "variance", "squared_error", "spread_error")
        put("spread_error_correlation", finish.correlation, *(its[name] for name in moments))

    def _events(self, put: Callable[..., None], variable: Variable, its: Daily) -> None:
        for number, threshold in enumerate(variable.thresholds):
            table = its.tables[:, number]
            observed, stated = table[..., 1].sum(), table[:, 1:].sum()
            extra = {"threshold": threshold, "events": int(observed), "estimator": "fair"}
            if observed == 0 and stated == 0:
                # A score of 0 for what never happened and was never forecast would read as perfection.
                extra["note"] = "no events"
                put("brier", lambda t: np.full(np.shape(t)[:-2], np.nan), table, **extra)
            else:
                put("brier", lambda t: finish.brier(t, fair=True), table, **extra)

    def _comparisons(self, variable: Variable, lead: int, daily: dict[str, Daily]) -> None:
        """Paired: numerator and denominator see the same draws of days."""
        for system, its in daily.items():
            put = self._writer(variable, lead, system, its)
            fair = its["crps_fair"]
            if "exact" in daily and system != "exact":
                exact = daily["exact"]["crps_fair"]
                put("crps_ratio_exact", finish.ratio, fair, exact, estimator="fair", reference="exact")
            if "persistence" in daily and system != "persistence":
                reference = daily["persistence"]["crps_fair"]
                put("crpss", _skill, fair, reference, estimator="fair", reference="persistence")
            if system == MODEL:
                for other in daily:
                    if other != MODEL:
                        extra = {"estimator": "fair", "units": variable.units, "reference": other}
                        difference = fair - daily[other]["crps_fair"]
                        put("crps_difference", finish.ratio, difference, its["points"], **extra)

    def _writer(self, variable: Variable, lead: int, system: str, its: Daily) -> Callable[..., None]:
        def put(score: str, finished: Callable[..., Floats], *sums: Floats, **extra: Any) -> None:
            estimate = self._bootstrap.estimate(finished, *sums)
            self.rows.append(
                {
                    "field": variable.name,
                    "lead_hours": lead,
                    "score": score,
                    "estimator": extra.pop("estimator", None),
                    "system": system,
                    **numbers(estimate),
                    "n": its.cases,
                    "days": self._bootstrap.days,
                    "points": int(its["points"].sum()),
                    "members": its.members,
                    **extra,
                }
            )

        return put


def find(rows: Sequence[Row], **wanted: Any) -> Row | None:
    """The first row with these entries."""
    return next((row for row in rows if all(row.get(name) == value for name, value in wanted.items())), None)


def verdict(difference: Row | None) -> str:
    """What a paired difference of a score that is better when smaller allows to be said."""
    if difference is None or difference["low"] is None:
        return "no interval"
    if difference["high"] < 0:
        return "better"
    return "worse" if difference["low"] > 0 else "no clear difference"


def numbers(estimate: Estimate) -> dict[str, float | None]:
    """Of a row; None where undefined, since JSON has no NaN."""
    return {
        name: float(value) if np.isfinite(value) else None
        for name, value in (("value", estimate.value), ("low", estimate.low), ("high", estimate.high))
    }


def _root_mean(total: Floats, points: Floats) -> Floats:
    return np.sqrt(finish.ratio(total, points))


def _skill(score: Floats, reference: Floats) -> Floats:
    return 1 - finish.ratio(score, reference)
