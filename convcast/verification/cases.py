"""Select the forecasts that are scored, and count the others by the reason why they are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from convcast.errors import MissingInputError, NotPublishedError, SettingsError
from convcast.notation import Hour, Hours, describe
from convcast.variables import Variable
from convcast.verification.baselines.base import Baseline
from convcast.verification.data.ensembles import Ensemble
from convcast.verification.data.truth import Truth
from convcast.verification.results.accumulator import valid

Field = NDArray[np.float32]


@dataclass(frozen=True)
class ForecastCase:
    """One forecast to be scored: an ensemble and one of its lead times, or the extremes over several."""

    ensemble: Ensemble
    lead: int
    """Lead time, hours; the last one where there are several."""
    earlier: tuple[int, ...] = ()
    """Further lead times, hours. At each point, the extreme value over all of them is scored."""

    @property
    def init(self) -> Hour:
        return self.ensemble.init

    @property
    def valid(self) -> Hour:
        return valid(self.init, self.lead)

    @property
    def leads(self) -> tuple[int, ...]:
        """All lead times, hours."""
        return (*self.earlier, self.lead)

    @property
    def valids(self) -> tuple[Hour, ...]:
        """The valid time of each lead."""
        return tuple(valid(self.init, lead) for lead in self.leads)

    @property
    def members(self) -> NDArray[np.intp]:
        """Indices along `number` of the members that are complete at all leads, (member,)."""
        found: NDArray[np.intp] = reduce(np.intersect1d, map(self.ensemble.members, self.leads))
        return found

    def extreme(self, variable: Variable, read: Callable[[int], Field]) -> Field:
        """Return the values that `read` gives for the lead, or at each point the extreme over all leads.

        The extreme is the one that has the field's events: the highest value, or of CIN the lowest.
        """
        most = np.minimum if variable.events_below else np.maximum
        found: Field = reduce(most, map(read, self.leads))
        return found


def over_time(cases: Sequence[ForecastCase], within: int, left_out: Counter[str]) -> list[ForecastCase]:
    """Join the cases of each ensemble with leads up to `within` hours into one, of the extremes over them.

    Args:
        cases: Forecasts at single leads.
        within: Last lead time, hours.
        left_out: Counts of forecasts left out by reason; added to here.

    Raises:
        SettingsError: No lead is within the time, or the only one.
    """
    leads = sorted({case.lead for case in cases if case.lead <= within})
    if len(leads) < 2:
        raise SettingsError(
            f"the forecasts have {len(leads)} leads within {within} h, and extremes are over several",
            advice="sample more leads (--leads 1-6), or leave out --within",
        )
    by_ensemble: dict[Hour, list[ForecastCase]] = {}
    for case in cases:
        if case.lead <= within:
            by_ensemble.setdefault(case.init, []).append(case)
    whole = [group[0].ensemble for group in by_ensemble.values() if sorted(case.lead for case in group) == leads]
    if len(whole) < len(by_ensemble):
        left_out[f"not all of the leads {', '.join(map(str, leads))} h"] += len(by_ensemble) - len(whole)
    return [ForecastCase(ensemble, leads[-1], tuple(leads[:-1])) for ensemble in whole]


def require_each_once(ensembles: Sequence[Ensemble]) -> None:
    """Refuse ensembles that hold the same forecast, which would be counted twice.

    Raises:
        SettingsError: Two ensembles have the same initial time and lead.
    """
    first: dict[tuple[Hour, int], Ensemble] = {}
    for ensemble in ensembles:
        for lead in ensemble.leads:
            other = first.setdefault((ensemble.init, lead), ensemble)
            if other is ensemble:
                continue
            if other.path.resolve() == ensemble.path.resolve():
                raise SettingsError(f"{ensemble.path} is given twice", advice="give each file once")
            raise SettingsError(
                f"{other.path} and {ensemble.path} both hold the forecast of {ensemble.init} for {lead} h ahead",
                advice="leave one of them out; ensembles of different systems are verified one by one",
            )


def outside_training(ensembles: Sequence[Ensemble], left_out: Counter[str]) -> list[ForecastCase]:
    """Return the forecasts that start outside the training period of their model.

    Args:
        ensembles: Ensembles, one an initial time.
        left_out: Counts of forecasts left out by reason; added to here.

    Raises:
        MissingInputError: Every forecast starts within the training period.
    """
    cases = []
    for ensemble in ensembles:
        period = ensemble.training_hours
        if period is not None and period[0] <= ensemble.init <= period[1]:
            left_out["initial time within the model's training period"] += len(ensemble.leads)
        else:
            cases += [ForecastCase(ensemble, lead) for lead in ensemble.leads]
    if not cases:
        raise MissingInputError(
            f"all {len(ensembles)} forecasts start within their model's training period",
            advice="run `convcast sample` for later initial times",
        )
    return cases


def complete(cases: Sequence[ForecastCase], left_out: Counter[str]) -> tuple[int, list[ForecastCase]]:
    """Return the most common ensemble size, and the cases with at least that many complete members.

    Args:
        cases: Candidate forecasts.
        left_out: Counts of forecasts left out by reason; added to here.

    Raises:
        SettingsError: The ensembles have fewer than two complete members.
    """
    sizes = [len(case.members) for case in cases]
    members = max(Counter(sizes).items(), key=lambda item: (item[0] > 1, item[1], item[0]))[0]
    if members < 2:
        raise SettingsError(
            f"{cases[0].ensemble.path} has {members} complete members, and scores need 2 or more",
            advice="run `convcast sample --members 50`",
        )
    whole = [case for case, size in zip(cases, sizes, strict=True) if size >= members]
    if len(whole) < len(cases):
        left_out[f"fewer than {members} members complete"] += len(cases) - len(whole)
    return members, whole


def analysed(cases: Sequence[ForecastCase], truth: Truth, left_out: Counter[str]) -> list[ForecastCase]:
    """Return the cases whose valid time has a truth, ordered by initial time and lead.

    Args:
        cases: Candidate forecasts.
        truth: Fields that the forecasts are scored against.
        left_out: Counts of forecasts left out by reason; added to here.

    Raises:
        NotPublishedError: Every valid time is later than the last analysis.
        MissingInputError: The truth holds none of the valid times.
    """
    hours = truth.hours
    if hours.size == 0:
        advice = "give --truth fields at whole hours, UTC" if truth.dataset is None else "run `convcast preprocess`"
        raise MissingInputError("the truth holds no whole hour", advice=advice)
    due = [case for case in cases if case.valid <= hours[-1]]
    if not due and truth.dataset is not None:
        first = min(case.valid for case in cases)
        raise NotPublishedError(
            f"no forecast can be verified yet: the first is for {first}, the last analysis is of {hours[-1]}",
            advice="run `convcast fetch` and `convcast preprocess` when that hour has come",
        )
    if 0 < len(due) < len(cases):
        left_out["valid time not analysed yet"] += len(cases) - len(due)
    known = set(hours.tolist())
    analysed = [case for case in due if all(time.item() in known for time in case.valids)]
    if not analysed:
        missing = np.unique([case.valid for case in due or cases])
        if truth.dataset is None:
            raise MissingInputError(
                f"forecasts and truth do not overlap in time: forecasts are for {describe(missing)}, the truth holds "
                f"{describe(hours)}",
                advice=truth.advice(missing),
            )
        raise MissingInputError(
            f"the dataset holds none of the analyses that the forecasts are for, {describe(missing)}",
            advice=truth.advice(missing),
        )
    if len(analysed) < len(due):
        left_out["analysis missing"] += len(due) - len(analysed)
    return sorted(analysed, key=lambda case: (case.init, case.lead))


def training_hours(ensembles: Sequence[Ensemble], truth: Truth) -> Hours:
    """Return the hours that baselines may use as training data.

    These are the hours that all models were trained on or, where no file states a training period, the hours before
    the first forecast.
    """
    periods = [period for ensemble in ensembles if (period := ensemble.training_hours) is not None]
    if periods:
        first, last = max(p[0] for p in periods), min(p[1] for p in periods)
        return truth.hours[(truth.hours >= first) & (truth.hours <= last)]
    return truth.hours[truth.hours < min(ensemble.init for ensemble in ensembles)]


def with_baselines(
    cases: Sequence[ForecastCase], baselines: Sequence[Baseline], left_out: Counter[str]
) -> list[ForecastCase]:
    """Return the cases that every baseline can forecast: all systems are scored on the same cases.

    Args:
        cases: Candidate forecasts.
        baselines: Systems scored beside the ensemble.
        left_out: Counts of forecasts left out by reason; added to here.

    Raises:
        MissingInputError: No case is left; the advice names the command that fetches what a baseline lacks.
    """
    remaining: list[ForecastCase] = []
    lacking: dict[str, tuple[Baseline, str, list[ForecastCase]]] = {}
    for case in cases:
        for baseline in baselines:
            reason = next(filter(None, (baseline.missing(case.init, lead) for lead in case.leads)), None)
            if reason:
                left_out[f"no {baseline.name} for the case"] += 1
                lacking.setdefault(baseline.name, (baseline, reason, []))[2].append(case)
                break
        else:
            remaining.append(case)
    if not remaining:
        baseline, reason, without = next(iter(lacking.values()))
        others = [b.name for b in baselines if b.name not in lacking] or ["persistence"]
        leave_out = f"leave it out: use {' '.join(f'--against {other}' for other in others)}"
        command = baseline.remedy([(case.init, lead) for case in without for lead in case.leads])
        raise MissingInputError(
            f"no case is left to compare with {baseline.name}: {reason}",
            advice=f"run `{command}`, or {leave_out}" if command else leave_out,
        )
    return remaining
