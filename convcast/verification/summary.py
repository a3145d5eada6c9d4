"""From the ledger to tidy scores, each with an interval over days."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.grid import SPACING
from convcast.neighbourhood import RADIUS
from convcast.variables import Variable
from convcast.verification import finish
from convcast.verification.intervals import Bootstrap, Estimate
from convcast.verification.ledger import Ledger
from convcast.verification.regimes import REGIMES
from convcast.verification.spatial import Scales
from convcast.verification.statistics import Statistics

Floats = NDArray[np.float64]
Row = dict[str, Any]

MODEL = "convcast"
"""The system whose forecasts are verified; the others are baselines."""
_ESTIMATORS = {"fair": "crps_fair", "ensemble": "crps_ensemble"}
MOMENTS = ("points", "spread", "absolute_error", "variance", "squared_error", "spread_error")
"""What the correlation of spread and error is made of."""
EVENT_SCORES: list[tuple[str, str | None, Callable[[Floats], Floats]]] = [
    ("brier", "fair", lambda t: finish.brier(t, fair=True)),
    ("brier_skill", "fair", lambda t: finish.brier_skill(t, fair=True)),
    ("brier_reliability", "ensemble", lambda t: finish.brier_parts(t)[0]),
    ("brier_resolution", "ensemble", lambda t: finish.brier_parts(t)[1]),
    ("brier_uncertainty", None, lambda t: finish.brier_parts(t)[2]),
    ("roc_area", "ensemble", finish.roc_area),
    ("frequency_bias", None, finish.frequency_bias),
]
NEAR_SCORES: list[tuple[str, str | None, Callable[[Floats], Floats]]] = [
    ("nmep_brier", "fair", lambda t: finish.brier(t, fair=True)),
    ("nmep_brier_skill", "fair", lambda t: finish.brier_skill(t, fair=True)),
    ("nmep_roc_area", "ensemble", finish.roc_area),
]


class Daily:
    """One system's statistics of one field and lead, a row a day."""

    def __init__(self, statistics: Sequence[Statistics], cases: int) -> None:
        self.cases = cases
        self.members = statistics[0].members
        self.tables = np.array([s.tables for s in statistics], float)
        self.ranks = np.array([s.ranks for s in statistics])
        self.fractions = np.array([s.spatial.fractions for s in statistics])
        self.near = np.array([s.spatial.near for s in statistics], float)
        self.energy = np.array([s.spatial.energy for s in statistics])
        self.power = np.array([s.spatial.power for s in statistics])
        self._sums = {name: np.array([getattr(s.sums, name) for s in statistics]) for name in vars(statistics[0].sums)}
        self._regimes = np.array([s.regimes for s in statistics])

    def __getitem__(self, name: str) -> Floats:
        return self._sums[name]

    def within(self, regime: str) -> dict[str, Floats]:
        """The sums of a regime's points, by name."""
        return dict(zip(self._sums, np.moveaxis(self._regimes[:, REGIMES.index(regime)], -1, 0), strict=True))


class Summary:
    """The scores of a verification as tidy rows, one a value; `days` counts the days behind each interval."""

    def __init__(self, ledger: Ledger, bootstrap: Bootstrap, scales: Scales) -> None:
        self._ledger, self._bootstrap, self._scales = ledger, bootstrap, scales
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
                put("outliers", finish.outliers, its.ranks, reference="2 / (M + 1)")
            self._events(variable, lead, system, its)
            self._whole(put, variable, its)
            self._regimes(put, variable, its)
        self._comparisons(variable, lead, daily)

    def _spread(self, put: Callable[..., None], its: Daily) -> None:
        members = its.members
        put(
            "spread_error_ratio",
            lambda v, e: finish.spread_error_ratio(v, e, members),
            its["variance"],
            its["squared_error"],
            estimator="unbiased",
        )
        put(
            "spread_error_ratio_centred",
            lambda v, e, b, n: finish.spread_error_ratio(v, e - finish.ratio(b * b, n), members),
            *(its[name] for name in ("variance", "squared_error", "error", "points")),
            estimator="unbiased",
        )
        put("spread_error_correlation", finish.correlation, *(its[name] for name in MOMENTS))

    def _events(self, variable: Variable, lead: int, system: str, its: Daily) -> None:
        for number, threshold in enumerate(variable.thresholds):
            table, named = its.tables[:, number], {"threshold": threshold}
            self._table(variable, lead, system, its, table, named, EVENT_SCORES)
            self._table(
                variable, lead, system, its, table, named | {"probability": 0.5}, _yes_or_no(finish.half(its.members))
            )
        for number, table in enumerate(np.moveaxis(its.near, 1, 0)):
            named = {"threshold": variable.thresholds[number], "scale_km": RADIUS * SPACING / 1000}
            if table.sum():
                self._table(variable, lead, system, its, table, named, NEAR_SCORES)

    def _table(
        self,
        variable: Variable,
        lead: int,
        system: str,
        its: Daily,
        table: Floats,
        named: dict[str, Any],
        scores: Sequence[tuple[str, str | None, Callable[[Floats], Floats]]],
    ) -> None:
        """Scores of a table of points by members with an event and by outcome."""
        observed, stated = table[..., 1].sum(), table[:, 1:].sum()
        extra = {**named, "events": int(observed)}
        if observed == 0 and stated == 0:
            # A score of 0 for what never happened and was never forecast would read as perfection.
            estimates = [Estimate(np.nan, np.nan, np.nan)] * len(scores)
            extra["note"] = "no events"
        else:
            estimates = self._bootstrap.estimates([finished for _, _, finished in scores], table)
        for (score, estimator, _), estimate in zip(scores, estimates, strict=True):
            self._enter(variable, lead, system, its, score, estimate, {"estimator": estimator, **extra})

    def _whole(self, put: Callable[..., None], variable: Variable, its: Daily) -> None:
        for number, threshold in enumerate(variable.thresholds[: its.fractions.shape[1]]):
            for at, width in enumerate(self._scales.widths):
                sums = its.fractions[:, number, at]
                extra: dict[str, Any] = {"threshold": threshold, "scale_km": width * SPACING / 1000}
                if sums[:, 1:3].sum() == 0:
                    extra["note"] = "no events"
                put("fss", finish.fractions_skill_score, sums, estimator="ensemble", **extra)
        for place, estimator in ((1, "fair"), (2, "ensemble")):
            cases, total = its.energy[:, 0], its.energy[:, place]
            put("energy_score", finish.ratio, total, cases, estimator=estimator, units=variable.units)
        if its.power.any():
            put("log_spectral_distance", finish.log_spectral_distance, its.power, units="dB")

    def _regimes(self, put: Callable[..., None], variable: Variable, its: Daily) -> None:
        for regime in REGIMES:
            sums = its.within(regime)
            if not sums["points"].any():
                continue
            extra = {"regime": regime, "points": int(sums["points"].sum())}
            units = variable.units
            put("crps", finish.ratio, sums["crps_fair"], sums["points"], estimator="fair", units=units, **extra)
            if its.members > 1:
                ratio = (sums["variance"], sums["squared_error"])
                finished = lambda v, e: finish.spread_error_ratio(v, e, its.members)  # noqa: E731
                put("spread_error_ratio", finished, *ratio, estimator="unbiased", **extra)
                put("spread_error_correlation", finish.correlation, *(sums[name] for name in MOMENTS), **extra)

    def _comparisons(self, variable: Variable, lead: int, daily: dict[str, Daily]) -> None:
        """Paired: numerator and denominator see the same draws of days."""
        for system, its in daily.items():
            put = self._writer(variable, lead, system, its)
            fair = its["crps_fair"]
            if "exact" in daily and system != "exact":
                exact = daily["exact"]["crps_fair"]
                put("crps_ratio_exact", finish.ratio, fair, exact, estimator="fair", reference="exact")
            for other in ("persistence", "climatology"):
                if other in daily and system != other:
                    put("crpss", _skill, fair, daily[other]["crps_fair"], estimator="fair", reference=other)
            if system == MODEL:
                for other in daily:
                    if other != MODEL:
                        extra = {"estimator": "fair", "units": variable.units, "reference": other}
                        difference = fair - daily[other]["crps_fair"]
                        put("crps_difference", finish.ratio, difference, its["points"], **extra)

    def _writer(self, variable: Variable, lead: int, system: str, its: Daily) -> Callable[..., None]:
        def put(score: str, finished: Callable[..., Floats], *sums: Floats, **extra: Any) -> None:
            estimate = self._bootstrap.estimate(finished, *sums)
            self._enter(variable, lead, system, its, score, estimate, extra)

        return put

    def _enter(
        self,
        variable: Variable,
        lead: int,
        system: str,
        its: Daily,
        score: str,
        estimate: Estimate,
        extra: dict[str, Any],
    ) -> None:
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


def _yes_or_no(fewest: int) -> list[tuple[str, str | None, Callable[[Floats], Floats]]]:
    """Scores of the forecast of an event that so many members or more have."""
    return [
        ("csi", "ensemble", lambda t: finish.critical_success_index(t, fewest)),
        ("pod", "ensemble", lambda t: finish.detection(t, fewest)),
        ("success_ratio", "ensemble", lambda t: finish.success_ratio(t, fewest)),
    ]


def _root_mean(total: Floats, points: Floats) -> Floats:
    return np.sqrt(finish.ratio(total, points))


def _skill(score: Floats, reference: Floats) -> Floats:
    return 1 - finish.ratio(score, reference)
