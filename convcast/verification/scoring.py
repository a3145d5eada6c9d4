"""One case scored: each field read once, scored beside its baselines at the same points, and let go.

What does it is small and can be sent to a worker; what comes back is small too, whatever the domain and the ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from convcast.errors import DamagedFileError, SettingsError
from convcast.metrics.spatial import Scales
from convcast.metrics.sums import score_field
from convcast.settings import VerificationSettings
from convcast.variables import CAPE, REFC, Variable
from convcast.verification.baselines.base import Baseline
from convcast.verification.baselines.published import Products
from convcast.verification.cases import Case
from convcast.verification.crosscheck import check
from convcast.verification.data.cf import UnreadableError, check_floors
from convcast.verification.data.truth import Truth, find_regimes
from convcast.verification.results.case_cache import Record
from convcast.verification.results.table import MODEL

Field = NDArray[np.float32]
SAMPLED = 4096
"""Points by which members are told apart."""


@dataclass(frozen=True)
class Task:
    """A case, and what of it has to be computed."""

    case: Case
    systems: tuple[str, ...]
    masked: bool
    """Whether members are known to have values at fewer points than the truth, where they have been scored before."""


@dataclass(frozen=True)
class Outcome:
    """What was computed of a case, or why it cannot be scored."""

    records: dict[str, Record]
    refused: str | None = None


class Scorer:
    """Scores cases of one verification."""

    def __init__(
        self,
        truth: Truth,
        baselines: Sequence[Baseline],
        products: Sequence[Products],
        *,
        members: int,
        check_points: int,
        settings: VerificationSettings,
    ) -> None:
        self._truth, self._baselines, self._products = truth, list(baselines), list(products)
        self._members, self._check_points, self._seed = members, check_points, settings.seed
        # A file of somebody's may hold a part of the simulated world, and a part has edges.
        periodic = truth.dataset is not None and truth.dataset.grid.periodic
        self.scales = Scales.of(settings.neighbourhoods, truth.place.shape, periodic=periodic)
        self._rim = 0 if periodic else settings.rim
        if 2 * self._rim >= min(truth.place.shape):
            raise SettingsError(
                f"a rim of {self._rim} cells is too wide for a domain of {' x '.join(map(str, truth.place.shape))}: "
                "no point is left to score",
                advice="lower verification.rim",
            )
        self._shown = shown_variable(truth.variables)

    def __call__(self, task: Task) -> Outcome:
        try:
            return self._score(task)
        except UnreadableError as error:
            return Outcome({}, str(error))

    def _score(self, task: Task) -> Outcome:
        case = task.case
        records = {system: Record() for system in task.systems}
        wanted = [baseline for baseline in self._baselines if baseline.name in records]
        seen = Alike(self._members)
        regimes = find_regimes(self._truth, case.init)
        score = partial(score_field, regimes=regimes, scales=self.scales)
        for variable in self._truth.variables:
            observed = self._inside(self._truth.read(variable, case.valid))
            products = [one for one in self._products if one.folder in records]
            if MODEL in records or task.masked or products:
                forecasts = self.forecasts(case, variable)
                observed = _where_all_are(forecasts, observed, records.get(MODEL))
                if MODEL in records:
                    check_floors(variable, forecasts[0], observed, (case.ensemble.path, "the truth"))
                    seen.look(forecasts)
                    records[MODEL].statistics[variable.name] = score(forecasts, observed, variable)
                    self._note(records[MODEL], case, variable, forecasts, observed)
                for one in products:
                    try:
                        compared = one.score(variable, case.init, case.lead, forecasts, observed)
                    except DamagedFileError as error:
                        return Outcome({}, f"no {one.system} that can be read ({error})")
                    if compared is not None:
                        records[one.folder].statistics[variable.name] = compared
                del forecasts
            for baseline in wanted:
                if baseline.lacks(variable):
                    continue
                try:
                    other = baseline.read(variable, case.init, case.lead)
                except DamagedFileError as error:
                    return Outcome({}, f"no {baseline.name} that can be read ({error})")
                records[baseline.name].statistics[variable.name] = score(other, observed, variable)
        if MODEL in records:
            if seen.alike:
                return Outcome({}, "two members are the same forecast")
            if not any(its.sums.points for its in records[MODEL].statistics.values()):
                return Outcome({}, "no point has both forecast and truth")
        return Outcome(records)

    def forecasts(self, case: Case, variable: Variable) -> Field:
        """(member, y, x)"""
        return case.ensemble.read(variable, case.lead, case.ensemble.members(case.lead)[: self._members])

    def _inside(self, observed: Field) -> Field:
        """The truth without its rim, over which comes what no forecast from this domain could know."""
        if self._rim == 0:
            return observed
        inner = (slice(self._rim, -self._rim),) * 2
        kept = np.full_like(observed, np.nan)
        kept[inner] = observed[inner]
        return kept

    def _note(self, record: Record, case: Case, variable: Variable, forecasts: Field, observed: Field) -> None:
        agreement = check(
            variable, case.init, case.lead, forecasts, observed, points=self._check_points, seed=self._seed
        )
        record.notes["check_points"] = record.notes.get("check_points", 0.0) + agreement.points
        record.notes["check_largest"] = max(record.notes.get("check_largest", 0.0), agreement.largest)
        if variable is self._shown:
            record.notes["area"] = float(np.mean(variable.happens(observed, variable.middle_threshold)))


class Alike:
    """Whether two members say the same of every field: an ensemble that was padded."""

    def __init__(self, members: int) -> None:
        self._said = [b""] * members
        self._differs = np.zeros(members, bool)

    def look(self, forecasts: Field) -> None:
        sample = forecasts.reshape(len(forecasts), -1)
        sample = sample[:, :: max(1, sample.shape[1] // SAMPLED)]
        for number, values in enumerate(sample):
            self._said[number] += values.tobytes()
        self._differs |= sample.min(1) != sample.max(1)

    @property
    def alike(self) -> bool:
        said = [one for one, differs in zip(self._said, self._differs, strict=True) if differs]
        return len(set(said)) < len(said)


def _where_all_are(forecasts: Field, observed: Field, record: Record | None) -> Field:
    """The truth at the points where every member has a value: baselines are judged at no others."""
    there = np.isfinite(forecasts.sum(0, dtype=np.float64))
    if there.all():
        return observed
    if record is not None:
        record.notes["masked"] = 1.0
    return np.where(there, observed, np.float32(np.nan))


def shown_variable(variables: Sequence[Variable]) -> Variable:
    """The field that shows convection best of those there are."""
    return next((v for v in (REFC, CAPE) if v in variables), variables[0])
