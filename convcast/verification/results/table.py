"""From the ledger to tidy scores, each with an interval over days."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.grid import SPACING
from convcast.metrics import formulas
from convcast.metrics.bootstrap import Bootstrap, Estimate
from convcast.metrics.neighbourhood import RADIUS
from convcast.metrics.regimes import REGIMES
from convcast.metrics.spatial import SPECTRAL_CELLS, Scales
from convcast.metrics.sums import Statistics
from convcast.variables import Variable
from convcast.verification.results.accumulator import Ledger

Floats = NDArray[np.float64]
Row = dict[str, Any]

MODEL = "convcast"
"""The system whose forecasts are verified; the others are baselines."""
_ESTIMATORS = {"fair": "crps_fair", "ensemble": "crps_ensemble"}
NOT_COMPUTED = "not computed:"
"""Before the reason, in the note of a score that missing points leave undefined."""
MOMENTS = ("points", "spread", "absolute_error", "variance", "squared_error", "spread_error")
"""What the correlation of spread and error is made of."""
EVENT_SCORES: list[tuple[str, str | None, Callable[[Floats], Floats]]] = [
    ("brier", "fair", lambda t: formulas.brier(t, fair=True)),
    ("brier_skill", "fair", lambda t: formulas.brier_skill(t, fair=True)),
    ("brier_reliability", "ensemble", lambda t: formulas.brier_parts(t)[0]),
    ("brier_resolution", "ensemble", lambda t: formulas.brier_parts(t)[1]),
    ("brier_uncertainty", None, lambda t: formulas.brier_parts(t)[2]),
    ("roc_area", "ensemble", formulas.roc_area),
    ("frequency_bias", None, formulas.frequency_bias),
]
NEAR_SCORES: list[tuple[str, str | None, Callable[[Floats], Floats]]] = [
    ("nmep_brier", "fair", lambda t: formulas.brier(t, fair=True)),
    ("nmep_brier_skill", "fair", lambda t: formulas.brier_skill(t, fair=True)),
    ("nmep_roc_area", "ensemble", formulas.roc_area),
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
        self.spectra = sum(s.spatial.spectra for s in statistics)
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
        entries = {
            system: _Entries(
                self.rows,
                self._bootstrap,
                variable,
                lead,
                system,
                Daily(
                    self._ledger.daily(system, variable.name, lead),
                    len(self._ledger.cases[system, variable.name, lead]),
                ),
            )
            for system in systems
        }
        for its in entries.values():
            _points(its)
            _events(its)
            _whole(its, self._scales)
            _regimes(its)
        _comparisons(entries)


class _Entries:
    """Where the scores of one system, field and lead are entered, from its `daily` sums."""

    def __init__(
        self, rows: list[Row], bootstrap: Bootstrap, variable: Variable, lead: int, system: str, daily: Daily
    ) -> None:
        self.variable, self.system, self.daily = variable, system, daily
        self._rows, self._bootstrap, self._lead = rows, bootstrap, lead

    def put(self, score: str, finished: Callable[..., Floats], *sums: Floats, **extra: Any) -> None:
        self._enter(score, self._bootstrap.estimate(finished, *sums), extra)

    def table(
        self,
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
            extra.setdefault("note", "no events")
        else:
            estimates = self._bootstrap.estimates([finished for _, _, finished in scores], table)
        for (score, estimator, _), estimate in zip(scores, estimates, strict=True):
            self._enter(score, estimate, {"estimator": estimator, **extra})

    def _enter(self, score: str, estimate: Estimate, extra: dict[str, Any]) -> None:
        self._rows.append(
            {
                "field": self.variable.name,
                "lead_hours": self._lead,
                "score": score,
                "estimator": extra.pop("estimator", None),
                "system": self.system,
                **numbers(estimate),
                "n": self.daily.cases,
                "days": self._bootstrap.days,
                "points": int(self.daily["points"].sum()),
                "members": self.daily.members,
                **extra,
            }
        )


def _points(its: _Entries) -> None:
    """Of members and truth point by point."""
    daily, units = its.daily, its.variable.units
    for estimator, name in _ESTIMATORS.items():
        its.put("crps", formulas.ratio, daily[name], daily["points"], estimator=estimator, units=units)
    its.put("rmse", _root_mean, daily["squared_error"], daily["points"], units=units)
    its.put("bias", formulas.ratio, daily["error"], daily["points"], units=units)
    if daily.members > 1:
        _spread(its, daily)
        its.put(
            "spread_error_ratio_centred",
            lambda v, e, b, n: formulas.spread_error_ratio(v, e - formulas.ratio(b * b, n), daily.members),
            *(daily[name] for name in ("variance", "squared_error", "error", "points")),
            estimator="unbiased",
        )
        its.put("outliers", formulas.outliers, daily.ranks, reference="2 / (M + 1)")


def _spread(its: _Entries, sums: Daily | dict[str, Floats], **extra: Any) -> None:
    """How well spread tells error, by the sums of all points or of some."""
    its.put(
        "spread_error_ratio",
        lambda v, e: formulas.spread_error_ratio(v, e, its.daily.members),
        sums["variance"],
        sums["squared_error"],
        estimator="unbiased",
        **extra,
    )
    its.put("spread_error_correlation", formulas.correlation, *(sums[name] for name in MOMENTS), **extra)


def _events(its: _Entries) -> None:
    """Of each of the field's events, at the point and in the neighbourhood."""
    daily, thresholds = its.daily, its.variable.thresholds
    for number, threshold in enumerate(thresholds):
        table, event = daily.tables[:, number], {"threshold": threshold}
        its.table(table, event, EVENT_SCORES)
        its.table(table, event | {"probability": 0.5}, _yes_or_no(formulas.half(daily.members)))
    for number, table in enumerate(np.moveaxis(daily.near, 1, 0)):
        named: dict[str, Any] = {"threshold": thresholds[number], "scale_km": RADIUS * SPACING / 1000}
        if not table.sum():
            named["note"] = f"{NOT_COMPUTED} no point is {RADIUS * SPACING / 1000:g} km from any missing point and edge"
        its.table(table, named, NEAR_SCORES)


def _whole(its: _Entries, scales: Scales) -> None:
    """Of the field as a whole: fractions, energy, spectra."""
    daily = its.daily
    for number, threshold in enumerate(its.variable.thresholds[: daily.fractions.shape[1]]):
        for at, width in enumerate(scales.widths):
            sums = daily.fractions[:, number, at]
            extra: dict[str, Any] = {"threshold": threshold, "scale_km": width * SPACING / 1000}
            if sums[:, 0].sum() == 0:
                extra["note"] = f"{NOT_COMPUTED} every square of {width * SPACING / 1000:g} km has a missing point"
            elif sums[:, 1:3].sum() == 0:
                extra["note"] = "no events"
            its.put("fss", formulas.fractions_skill_score, sums, estimator="ensemble", **extra)
    for place, estimator in ((1, "fair"), (2, "ensemble")):
        cases, total = daily.energy[:, 0], daily.energy[:, place]
        its.put("energy_score", formulas.ratio, total, cases, estimator=estimator, units=its.variable.units)
    extra = {"units": "dB", "n": daily.spectra}
    if daily.spectra == 0:
        small = f"or the domain has fewer than {SPECTRAL_CELLS} cells along a side"
        extra["note"] = f"{NOT_COMPUTED} every forecast has a missing point, {small}"
    elif daily.spectra < daily.cases:
        extra["note"] = f"of the {daily.spectra} forecasts of {daily.cases} that have no missing point"
    its.put("log_spectral_distance", formulas.log_spectral_distance, daily.power, **extra)


def _regimes(its: _Entries) -> None:
    """Of the points of each regime by themselves."""
    for regime in REGIMES:
        sums = its.daily.within(regime)
        if not sums["points"].any():
            continue
        extra = {"regime": regime, "points": int(sums["points"].sum())}
        units = its.variable.units
        its.put("crps", formulas.ratio, sums["crps_fair"], sums["points"], estimator="fair", units=units, **extra)
        if its.daily.members > 1:
            _spread(its, sums, **extra)


def _comparisons(entries: dict[str, _Entries]) -> None:
    """Paired: numerator and denominator see the same draws of days."""
    fair = {system: its.daily["crps_fair"] for system, its in entries.items()}
    for system, its in entries.items():
        if "exact" in fair and system != "exact":
            ratio = (fair[system], fair["exact"])
            its.put("crps_ratio_exact", formulas.ratio, *ratio, estimator="fair", reference="exact")
        for other in ("persistence", "climatology"):
            if other in fair and system != other:
                its.put("crpss", _skill, fair[system], fair[other], estimator="fair", reference=other)
        if system == MODEL:
            for other in fair:
                if other != MODEL:
                    extra = {"estimator": "fair", "units": its.variable.units, "reference": other}
                    difference = fair[system] - fair[other]
                    its.put("crps_difference", formulas.ratio, difference, its.daily["points"], **extra)


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
        ("csi", "ensemble", lambda t: formulas.critical_success_index(t, fewest)),
        ("pod", "ensemble", lambda t: formulas.detection(t, fewest)),
        ("success_ratio", "ensemble", lambda t: formulas.success_ratio(t, fewest)),
    ]


def _root_mean(total: Floats, points: Floats) -> Floats:
    return np.sqrt(formulas.ratio(total, points))


def _skill(score: Floats, reference: Floats) -> Floats:
    return 1 - formulas.ratio(score, reference)
