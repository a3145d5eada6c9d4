"""Scoring of one case: each field of each system, at the points where the truth and all systems have a value.

Each field is read, scored and released; it is read again only where a system read later lacks points. Scorers, tasks
and outcomes are small whatever the size of domain and ensemble, so that workers can score cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray

from convcast.errors import DamagedFileError, SettingsError
from convcast.metrics import MODEL
from convcast.metrics.kernels import present_points, threads
from convcast.metrics.scores.changes import crps_of_change
from convcast.metrics.spatial import Changes, ObservedResults, Scales
from convcast.metrics.storms import STRONG
from convcast.metrics.sums import score_field
from convcast.notation import Hour
from convcast.settings import VerificationSettings
from convcast.variables import CAPE, REFC, Variable
from convcast.verification.baselines.base import Baseline
from convcast.verification.baselines.published import PublishedProducts
from convcast.verification.cases import ForecastCase
from convcast.verification.crosscheck import check
from convcast.verification.data.gridded_files.cf import UnreadableError, check_floors
from convcast.verification.data.truth import Truth, find_regimes
from convcast.verification.read_ahead import ReadAhead
from convcast.verification.results.accumulator import valid
from convcast.verification.results.case_cache import AREA, LACKING, OF_TRUTH, Record

Field = NDArray[np.float32]
Members = tuple[Field, Changes]
"""Members of a system, (member, y, x), and the CRPS of their changes between the case's leads."""
SAMPLED = 4096
"""Number of points at which members are compared to find identical ones."""
ROOM = 4
"""Minimum free memory, in ensembles of one field, for the next field to be read while one is scored."""


@dataclass(frozen=True)
class ScoringTask:
    """A case and the systems that have to be scored on it."""

    case: ForecastCase
    systems: tuple[str, ...]
    narrowing: frozenset[str] = frozenset()
    """Systems that are known to lack points that the truth has."""


@dataclass(frozen=True)
class ScoringOutcome:
    """Records of a scored case by system, or the reason why it cannot be scored."""

    records: dict[str, Record]
    refused: str | None = None
    narrowing: frozenset[str] = frozenset()
    """Systems that lack points that the truth has."""


class _RefusedError(Exception):
    """A case cannot be scored."""


class CommonPoints:
    """Points of a field at which the truth and every system read so far have a value."""

    def __init__(self, truth: Field) -> None:
        self.truth = truth
        """Observed field, (y, x)."""
        self.lacking: dict[str, int] = {}
        """Number of the truth's points without a value, by system."""
        self._of_truth = np.isfinite(truth)
        self._common = self._of_truth.copy()
        self.of_truth = self.count = int(np.count_nonzero(self._of_truth))

    def narrow(self, system: str, members: Field) -> None:
        """Leave out the points at which one of the members (member, y, x) is missing."""
        present = present_points(members, self.truth)
        self.lacking.setdefault(system, self.of_truth - int(np.count_nonzero(present)))
        self._common &= present
        self.count = int(np.count_nonzero(self._common))

    @property
    def observed(self) -> Field:
        """Observed field, (y, x), NaN outside the common points."""
        return self.truth if self.count == self.of_truth else np.where(self._common, self.truth, np.float32(np.nan))


class Scorer:
    """Scorer of the cases of one verification."""

    def __init__(
        self,
        truth: Truth,
        baselines: Sequence[Baseline],
        products: Sequence[PublishedProducts],
        *,
        members: int,
        check_points: int,
        settings: VerificationSettings,
    ) -> None:
        """Prepare to score.

        Args:
            truth: The truth.
            baselines: Baselines, which are scored on every case.
            products: Published products to compare with.
            members: Number of members that are scored.
            check_points: Number of points of each field of a case at which properscoring computes the CRPS, too.
            settings: Settings of the verification.

        Raises:
            SettingsError: The rim is too wide for the domain.
        """
        self._truth, self._products = truth, list(products)
        self._baselines = {baseline.name: baseline for baseline in baselines}
        self._members, self._check_points, self._seed = members, check_points, settings.seed
        # A part of the simulated world has edges, and is not periodic.
        periodic = truth.dataset is not None and truth.dataset.grid.periodic
        self.scales = Scales.of(settings.neighbourhoods, truth.points.shape, periodic=periodic)
        self._ahead: ReadAhead[tuple[Hour, int, Variable], Members] | None = None
        self._rim = 0 if periodic else settings.rim
        if 2 * self._rim >= min(truth.points.shape):
            raise SettingsError(
                f"a rim of {self._rim} cells is too wide for a domain of {' x '.join(map(str, truth.points.shape))}: "
                "no point is left to score",
                advice="run `convcast verify --set verification.rim=0`",
            )

    def __call__(self, task: ScoringTask) -> ScoringOutcome:
        try:
            outcome = self._score(task)
            others = {MODEL, *self._baselines} - {*task.systems}
            if others and outcome.narrowing - task.narrowing:
                # The stored records of the others include points that a system lacks.
                outcome = self._score(ScoringTask(task.case, (*task.systems, *sorted(others)), outcome.narrowing))
        except (_RefusedError, UnreadableError) as error:
            return ScoringOutcome({}, str(error))
        return outcome

    @contextmanager
    def reading_ahead(self, tasks: Sequence[ScoringTask]) -> Iterator[None]:
        """Read the next field of the verified system while one is scored, for the tasks in this order.

        Tasks without systems are not scored unless a stored record is damaged. Nothing is read ahead without a second
        thread or without the memory for it.
        """
        cases = {(task.case.init, task.case.lead): task.case for task in tasks}
        size = 4 * self._members * int(np.prod(self._truth.points.shape))
        if threads() == 1 or psutil.virtual_memory().available < ROOM * size:
            yield
            return
        due = [task.case for task in tasks if task.systems and self._reads_model(task)]
        order = [(case.init, case.lead, variable) for case in due for variable in self._truth.variables]
        self._ahead = ReadAhead(lambda key: self._read_model(cases[key[:2]], key[2]), order)
        try:
            yield
        finally:
            self._ahead.close()
            self._ahead = None

    def _reads_model(self, task: ScoringTask) -> bool:
        """Return whether a task needs the verified system's members."""
        return MODEL in {*task.systems, *task.narrowing} or any(one.folder in task.systems for one in self._products)

    def _score(self, task: ScoringTask) -> ScoringOutcome:
        records = {system: Record() for system in task.systems}
        regimes = find_regimes(self._truth.known, task.case.init)
        duplicates = DuplicateMemberCheck(self._members)
        narrowing: set[str] = set()
        overlap = False
        for variable in self._truth.variables:
            points = self._score_field(task, variable, regimes, records, duplicates)
            narrowing |= {system for system, count in points.lacking.items() if count}
            overlap |= points.lacking.get(MODEL, 0) < points.of_truth
        if MODEL in records and duplicates.found:
            raise _RefusedError("two members are identical")
        if not overlap:
            raise _RefusedError("no point has both a forecast and a truth")
        judged = [record for system, record in records.items() if system == MODEL or system in self._baselines]
        if judged and not any(its.sums["points"] for record in judged for its in record.statistics.values()):
            raise _RefusedError("no point has a truth and a forecast of every system")
        return ScoringOutcome(records, narrowing=frozenset(narrowing))

    def _score_field(
        self,
        task: ScoringTask,
        variable: Variable,
        regimes: NDArray[np.int8] | None,
        records: dict[str, Record],
        duplicates: DuplicateMemberCheck,
    ) -> CommonPoints:
        """Add the statistics of a field to the records of the systems that are due."""
        case = task.case
        points = CommonPoints(self._inside(self.observed(case, variable)))
        products = [one for one in self._products if one.folder in records]
        wanted = {*task.systems, *task.narrowing} | ({MODEL} if self._reads_model(task) else set())
        # The verified system takes longest to read, so it comes last, when the common points are known.
        pending = [
            *(name for name, one in self._baselines.items() if name in wanted and not one.lacks(variable)),
            *([MODEL] if MODEL in wanted else []),
        ]
        scored_at: dict[str, int] = {}
        observed_results = ObservedResults()
        while pending:
            for system in pending:
                members, changes = self._read(system, case, variable)
                if system == MODEL and MODEL not in points.lacking:
                    check_floors(variable, members[0], points.truth, (case.ensemble.path, "the truth"))
                    duplicates.add(members)
                    for one in products:
                        self._compare(one, case, variable, members, points.truth, records[one.folder])
                points.narrow(system, members)
                if system not in records:
                    continue
                observed = points.observed
                record, scored_at[system] = records[system], points.count
                record.statistics[variable.name] = score_field(
                    members,
                    observed,
                    variable,
                    regimes=regimes,
                    scales=self.scales,
                    around=self._around(system, case, variable, len(members)),
                    changes=changes,
                    observed=observed_results,
                )
                if system == MODEL:
                    self._note(record, case, variable, members, observed)
            pending = [system for system, count in scored_at.items() if count != points.count]
        for system in scored_at:
            if points.lacking[system]:
                records[system].notes[f"{LACKING}{variable.name}"] = points.lacking[system]
        if MODEL in scored_at:
            records[MODEL].notes[f"{OF_TRUTH}{variable.name}"] = points.of_truth
        return points

    def _read(self, system: str, case: ForecastCase, variable: Variable) -> Members:
        if system == MODEL:
            key = case.init, case.lead, variable
            return self._read_model(case, variable) if self._ahead is None else self._ahead.take(key)
        try:
            baseline = self._baselines[system]
            return self._over_leads(case, variable, lambda lead: baseline.read(variable, case.init, lead))
        except DamagedFileError as error:
            raise _RefusedError(f"{system} cannot be read ({error})") from error

    def _read_model(self, case: ForecastCase, variable: Variable) -> Members:
        numbers = case.members[: self._members]
        return self._over_leads(case, variable, lambda lead: case.ensemble.read(variable, lead, numbers))

    def _over_leads(self, case: ForecastCase, variable: Variable, read: Callable[[int], Field]) -> Members:
        """Return what `ForecastCase.extreme` does, and the CRPS of changes; two leads are in memory at a time."""
        changes: dict[tuple[int, int], NDArray[np.float64]] = {}
        before: tuple[int, Field, Field] | None = None

        def follow(lead: int) -> Field:
            nonlocal before
            values = read(lead)
            if case.earlier:
                truth = self._truth.read(variable, valid(case.init, lead))
                if before is not None:
                    first, earlier, earlier_truth = before
                    changes[first, lead] = crps_of_change(values - earlier, truth - earlier_truth)
                before = lead, values, truth
            return values

        return case.extreme(variable, follow), changes

    def _around(
        self, system: str, case: ForecastCase, variable: Variable, members: int
    ) -> tuple[NDArray[np.bool_], ...]:
        """Return strong echoes of a system's members an hour before and after a case, where it has forecasts."""
        if variable is not REFC or case.earlier or case.ensemble.box is not None:
            return ()
        fields = []
        for lead in (case.lead - 1, case.lead + 1):
            if lead not in case.ensemble.leads or not set(case.members) <= set(case.ensemble.members(lead)):
                continue
            if system == MODEL:
                fields.append(case.ensemble.read(variable, lead, case.members[: self._members]) >= STRONG)
            elif self._baselines[system].missing(case.init, lead) is None:
                fields.append(self._baselines[system].read(variable, case.init, lead) >= STRONG)
        return tuple(field for field in fields if len(field) == members)

    def _compare(
        self,
        one: PublishedProducts,
        case: ForecastCase,
        variable: Variable,
        members: Field,
        truth: Field,
        record: Record,
    ) -> None:
        try:
            compared = one.score(variable, case.init, case.lead, members, truth)
        except DamagedFileError as error:
            raise _RefusedError(f"{one.system} cannot be read ({error})") from error
        if compared is not None:
            record.statistics[variable.name] = compared

    def forecasts(self, case: ForecastCase, variable: Variable) -> Field:
        """Return the members of the verified ensemble that are scored, (member, y, x)."""
        members = case.members[: self._members]
        return case.extreme(variable, lambda lead: case.ensemble.read(variable, lead, members))

    def observed(self, case: ForecastCase, variable: Variable) -> Field:
        """Return the truth of a case, (y, x), NaN where missing."""
        return case.extreme(variable, lambda lead: self._truth.read(variable, valid(case.init, lead)))

    def _inside(self, observed: Field) -> Field:
        """Return the observed field without its rim, which weather from outside may reach within the lead time."""
        if self._rim == 0:
            return observed
        inner = (slice(self._rim, -self._rim),) * 2
        kept = np.full_like(observed, np.nan)
        kept[inner] = observed[inner]
        return kept

    def _note(self, record: Record, case: ForecastCase, variable: Variable, forecasts: Field, observed: Field) -> None:
        agreement = check(
            variable, case.init, case.lead, forecasts, observed, points=self._check_points, seed=self._seed
        )
        record.notes[f"check_points/{variable.name}"] = agreement.points
        record.notes[f"check_largest/{variable.name}"] = agreement.largest
        area = float(np.mean(variable.happens(observed, variable.middle_threshold)))
        record.notes[f"{AREA}{variable.name}"] = area


class DuplicateMemberCheck:
    """Detects identical members, with which an ensemble was filled up."""

    def __init__(self, members: int) -> None:
        self._samples = [b""] * members
        self._differs = np.zeros(members, bool)

    def add(self, forecasts: Field) -> None:
        """Compare the members of one more field, (member, y, x)."""
        sample = forecasts.reshape(len(forecasts), -1)
        sample = sample[:, :: max(1, sample.shape[1] // SAMPLED)]
        for number, values in enumerate(sample):
            self._samples[number] += values.tobytes()
        present = np.isfinite(sample)
        low, high = np.where(present, sample, np.inf).min(1), np.where(present, sample, -np.inf).max(1)
        self._differs |= low < high

    @property
    def found(self) -> bool:
        """Whether two members that vary are equal in every field."""
        samples = [sample for sample, differs in zip(self._samples, self._differs, strict=True) if differs]
        return len(set(samples)) < len(samples)


def shown_variable(variables: Sequence[Variable]) -> Variable:
    """Return the field shown in maps: reflectivity, else CAPE, else the first."""
    return next((v for v in (REFC, CAPE) if v in variables), variables[0])
