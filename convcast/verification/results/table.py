"""The table of scores: one tidy row a value, each with a bootstrap interval over days."""

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
from convcast.metrics.scores import EVENT_SCORES, POINT_SCORES, EventScore, PointScore
from convcast.metrics.spatial import SPECTRAL_CELLS, Scales
from convcast.metrics.sums import POINT_SUMS, Statistics
from convcast.variables import Variable
from convcast.verification.results.accumulator import Ledger

Floats = NDArray[np.float64]
Row = dict[str, Any]

MODEL = "convcast"
"""The system whose forecasts are verified; the others are baselines."""
NOT_COMPUTED = "not computed:"
"""Start of the note of a score that missing points leave undefined; the reason follows."""


class Daily:
    """Daily statistics of one system, field and lead; arrays have a leading axis of days."""

    def __init__(self, statistics: Sequence[Statistics], cases: int) -> None:
        self.cases = cases
        self.members = statistics[0].members
        self.tables = np.array([s.tables for s in statistics], float)
        self.fractions = np.array([s.spatial.fractions for s in statistics])
        self.near = np.array([s.spatial.near for s in statistics], float)
        self.energy = np.array([s.spatial.energy for s in statistics])
        self.power = np.array([s.spatial.power for s in statistics])
        self.spectra = sum(s.spatial.spectra for s in statistics)
        self._sums = {name: np.array([s.sums[name] for s in statistics]) for name in POINT_SUMS}
        self._sums["ranks"] = np.array([s.ranks for s in statistics])
        self._regimes = np.array([s.regimes for s in statistics])

    def __getitem__(self, name: str) -> Floats:
        return self._sums[name]

    def within(self, regime: str) -> dict[str, Floats]:
        """The sums of a regime's points, by name."""
        return dict(zip(POINT_SUMS, np.moveaxis(self._regimes[:, REGIMES.index(regime)], -1, 0), strict=True))


class Summary:
    """Scores of a verification as tidy rows, one a value."""

    def __init__(self, ledger: Ledger, bootstrap: Bootstrap, scales: Scales) -> None:
        self._ledger, self._bootstrap, self._scales = ledger, bootstrap, scales
        self.rows: list[Row] = []

    def add(self, variable: Variable, lead: int, systems: Sequence[str]) -> None:
        """Add every score of a field at a lead, for all systems."""
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
            its.point_scores(its.daily, POINT_SCORES)
            _events(its)
            _whole(its, self._scales)
            _regimes(its)
        _comparisons(entries)


class _Entries:
    """Rows of the scores of one system, field and lead, from its daily sums."""

    def __init__(
        self, rows: list[Row], bootstrap: Bootstrap, variable: Variable, lead: int, system: str, daily: Daily
    ) -> None:
        self.variable, self.system, self.daily = variable, system, daily
        self._rows, self._bootstrap, self._lead = rows, bootstrap, lead

    def put(self, score: str, finished: Callable[..., Floats], *sums: Floats, **extra: Any) -> None:
        self._enter(score, self._bootstrap.estimate(finished, *sums), extra)

    def point_scores(self, sums: Daily | dict[str, Floats], scores: Sequence[PointScore], **extra: Any) -> None:
        """Enter scores that end sums over points, of all points or of some."""
        members = self.daily.members
        for score in scores:
            if score.needs_members and members < 2:
                continue
            of_score = {"estimator": score.estimator, "units": self.variable.units if score.units else None}
            of_score["reference"] = score.reference
            named = {name: value for name, value in of_score.items() if value is not None}

            def finish(*totals: Floats, score: PointScore = score) -> Floats:
                return score.value(dict(zip(score.sums, totals, strict=True)) | {"members": np.asarray(float(members))})

            self.put(score.name, finish, *(sums[name] for name in score.sums), **named, **extra)

    def event_scores(self, table: Floats, scores: Sequence[EventScore], *, prefix: str = "", **extra: Any) -> None:
        """Enter scores of a table of points by members with an event and by outcome."""
        observed, stated = table[..., 1].sum(), table[:, 1:].sum()
        extra["events"] = int(observed)
        if observed == 0 and stated == 0:
            # A score of 0 for what never happened and was never forecast would read as perfection.
            estimates = [Estimate(np.nan, np.nan, np.nan)] * len(scores)
            extra.setdefault("note", "no events")
        else:
            estimates = self._bootstrap.estimates([score.value for score in scores], table)
        for score, estimate in zip(scores, estimates, strict=True):
            probability = {} if score.probability is None else {"probability": score.probability}
            self._enter(prefix + score.name, estimate, {"estimator": score.estimator, **extra, **probability})

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


def _events(its: _Entries) -> None:
    """Enter the scores of each of the field's events, at the point and in the neighbourhood."""
    daily, thresholds = its.daily, its.variable.thresholds
    for number, threshold in enumerate(thresholds):
        its.event_scores(daily.tables[:, number], EVENT_SCORES, threshold=threshold)
    near = [score for score in EVENT_SCORES if score.in_neighbourhood]
    for number, table in enumerate(np.moveaxis(daily.near, 1, 0)):
        extra: dict[str, Any] = {"threshold": thresholds[number], "scale_km": RADIUS * SPACING / 1000}
        if not table.sum():
            extra["note"] = f"{NOT_COMPUTED} no point is {RADIUS * SPACING / 1000:g} km from any missing point and edge"
        its.event_scores(table, near, prefix="nmep_", **extra)


def _whole(its: _Entries, scales: Scales) -> None:
    """Enter the scores of whole fields: fractions, energy, spectra."""
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
    """Enter the scores of the points of each regime."""
    for regime in REGIMES:
        sums = its.daily.within(regime)
        if not sums["points"].any():
            continue
        extra = {"regime": regime, "points": int(sums["points"].sum())}
        its.point_scores(sums, [score for score in POINT_SCORES if score.by_regime], **extra)


def _comparisons(entries: dict[str, _Entries]) -> None:
    """Enter comparisons of CRPS; numerator and denominator share the draws of days, so they are paired."""
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
    """Find the first row with these entries; None if there is none."""
    return next((row for row in rows if all(row.get(name) == value for name, value in wanted.items())), None)


def verdict(difference: Row | None) -> str:
    """Judge the row of a paired difference of a score for which smaller is better."""
    if difference is None or difference["low"] is None:
        return "no interval"
    if difference["high"] < 0:
        return "better"
    return "worse" if difference["low"] > 0 else "no clear difference"


def numbers(estimate: Estimate) -> dict[str, float | None]:
    """Value and interval of a row; None if undefined, since JSON has no NaN."""
    return {
        name: float(value) if np.isfinite(value) else None
        for name, value in (("value", estimate.value), ("low", estimate.low), ("high", estimate.high))
    }


def _skill(score: Floats, reference: Floats) -> Floats:
    return 1 - formulas.ratio(score, reference)
