"""Verification of a set of forecasts, case by case, in this process or on workers. Stored scores are reused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convcast.dataset import Dataset
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.forecasts.open import model_identity
from convcast.metrics import MODEL
from convcast.metrics.bootstrap import Bootstrap
from convcast.metrics.spatial import odd_width
from convcast.metrics.sums import Statistics
from convcast.notation import Hour
from convcast.settings import VerificationSettings
from convcast.verification import crosscheck
from convcast.verification.baselines.base import Baseline
from convcast.verification.baselines.choose import REFERENCES, ReferenceEnsembles, make_baselines, make_references
from convcast.verification.baselines.exact import Exact
from convcast.verification.baselines.published import ComparisonSums
from convcast.verification.cases import (
    ForecastCase,
    analysed,
    complete,
    outside_training,
    over_time,
    require_each_once,
    training_hours,
    with_baselines,
)
from convcast.verification.data.ensembles import Ensemble, open_ensembles
from convcast.verification.data.gridded_files.fields import describe
from convcast.verification.data.gridded_files.files import expand
from convcast.verification.data.gridded_files.gather import GatheredFiles, gather_ensembles
from convcast.verification.data.mrms import Mrms
from convcast.verification.data.times import LeftOut, reasons
from convcast.verification.data.truth import Analyses, Truth, open_truth
from convcast.verification.digest import digest
from convcast.verification.results.accumulator import Accumulator
from convcast.verification.results.case_cache import AREA, Record, Records
from convcast.verification.results.coverage import Coverage
from convcast.verification.results.published_scores import product_rows
from convcast.verification.results.source_digest import kept_digest
from convcast.verification.results.table import Row, score_rows
from convcast.verification.results.verification import CaseShown, Facts, Verification
from convcast.verification.scoring import Scorer, ScoringOutcome, ScoringTask, shown_variable
from convcast.workers import Workers, map_in_order
from convcast.workspace import Workspace

COMPUTED_BY = (Scorer, make_baselines, make_references, open_truth, Analyses, Mrms, open_ensembles)
"""Functions and classes whose source code, with all it uses, determines the stored statistics of a case."""


@dataclass(frozen=True)
class CaseScored:
    """Result of one case: the fair CRPS of the verified system by field, computed now or loaded."""

    init: Hour
    lead: int
    crps: dict[str, float]
    refused: str | None = None
    """Reason why the case could not be scored, if it could not."""


class Evaluation:
    """A running verification. Iterating over it scores the cases and yields one CaseScored each; then call `result`."""

    def __init__(
        self,
        truth: Truth,
        cases: Sequence[ForecastCase],
        baselines: Sequence[Baseline],
        references: ReferenceEnsembles,
        *,
        members: int,
        left_out: Counter[str],
        settings: VerificationSettings,
        records: Records,
        workers: Workers | None,
        damaged: Sequence[DamagedFileError] = (),
        files: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Prepare to score the cases.

        Args:
            truth: The truth.
            cases: The cases.
            baselines: Baselines, which are scored on every case.
            references: Published products to compare with, and notes on them.
            members: Number of members that are scored.
            left_out: Numbers of forecasts that are not scored, by reason.
            settings: Settings of the verification.
            records: Stored scores, which are reused and added to.
            workers: The workers; None for this process.
            damaged: Errors of the forecast files that were left out.
            files: Variables used for each field of other programs' files, and the reasons why others are not scored.

        Raises:
            SettingsError: The rim is too wide for the domain.
        """
        self._truth, self._cases, self._baselines = truth, list(cases), list(baselines)
        self._products, self._notes = references.products, references.notes
        self._members, self._left_out, self._settings = members, left_out, settings
        self._records, self._workers = records, workers
        # Without a folder, no stored scores are looked up.
        self._source = kept_digest(records.folder, *COMPUTED_BY) if records.folder else ""
        self.damaged = list(damaged)
        """Errors of the forecast files that were left out."""
        self.files = tuple(files)
        """Variables used for each field of other programs' files, and the reasons why others are not scored."""
        self._accumulator = Accumulator()
        points = max(1, crosscheck.POINTS // max(1, len(truth.variables) * len(self._cases)))
        self._scorer = Scorer(truth, baselines, self._products, members=members, check_points=points, settings=settings)
        self._agreement = crosscheck.Agreement(0, 0.0, crosscheck.package())
        self._most_convective: dict[str, tuple[float, ForecastCase]] = {}
        self._coverage = Coverage()
        self._done: list[ForecastCase] = []
        self._next = 0
        self.reused = 0
        """Number of cases whose scores were all loaded."""

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self._cases)

    def __iter__(self) -> Iterator[CaseScored]:
        """Score the remaining cases in order."""
        cases = self._cases[self._next :]
        tasks = [self._task(case) for case in cases]
        due = [task for task in tasks if task.systems]
        ahead = [baseline for baseline in self._baselines if isinstance(baseline, Exact)]
        for exact in ahead if self._workers is None else ():
            exact.begin({task.case.init for task in due if exact.name in task.systems})
        outcomes = map_in_order(self._scorer, due, self._workers)
        try:
            with self._scorer.reading_ahead(tasks) if self._workers is None else nullcontext():
                yield from self._outcomes(cases, tasks, outcomes)
        finally:
            outcomes.close()
            for exact in ahead:
                exact.stop()

    def _outcomes(
        self, cases: Sequence[ForecastCase], tasks: Sequence[ScoringTask], outcomes: Iterator[ScoringOutcome]
    ) -> Iterator[CaseScored]:
        """Add the outcomes of the tasks, and the stored records of all other cases, in the order of the cases."""
        for case, task in zip(cases, tasks, strict=True):
            outcome = next(outcomes) if task.systems else ScoringOutcome({})
            stored = self._stored(case, [*task.systems, *outcome.records])
            lost = [s for s in self._systems(case) if s not in {*stored, *task.systems, *outcome.records}]
            if lost and outcome.refused is None:
                # Damaged records are computed again; records computed beside them stay valid.
                again = self._scorer(ScoringTask(case, tuple(lost), task.narrowing | outcome.narrowing))
                outcome = ScoringOutcome(outcome.records | again.records, again.refused, again.narrowing)
            refused, computed = outcome.refused, outcome.records
            self._next += 1
            narrowing = outcome.narrowing | (task.narrowing - {*task.systems})
            for system, record in computed.items():
                record = replace(record, beside=self._beside(system, narrowing, case))
                self._records.save(system, case.init, case.lead, self._key(system, case), record)
            self.reused += not computed and refused is None
            yield self._enter(case, stored | computed, refused)

    def result(self) -> Verification:
        """Return the scores of the cases scored so far, with confidence intervals.

        Raises:
            MissingInputError: No case has been scored.
        """
        done = self._done
        if not done or not self._most_convective:
            why = "; ".join(self._left_out) or "none was tried"
            raise MissingInputError(f"no case could be scored: {why}", advice="look at the files that it names")
        inits = np.unique([case.init for case in done])
        leads = sorted({case.lead for case in done})
        systems = [MODEL, *(baseline.name for baseline in self._baselines)]
        facts = Facts(
            simulated=self._truth.simulated,
            truth=self._truth.source,
            systems=tuple(systems),
            leads=tuple(leads),
            window=done[0].leads if done[0].earlier else (),
            inits=tuple(str(init) for init in inits),
            days=len(np.unique(inits.astype("datetime64[D]"))),
            members=self._members,
            cases=len(done),
            points=int(np.prod(self._truth.points.shape)),
            analysis_lead=self._truth.analysis_lead,
            left_out=dict(self._left_out),
            not_compared=self._not_compared(),
            products=tuple(one.system for one in self._products),
            notes=(
                *self._over_time(done),
                *self._names(done),
                *self._notes,
                *dict.fromkeys(map(describe, self.files)),
                *self._coverage.sentences(systems),
                *self._too_wide(),
            ),
            confidence=self._settings.confidence,
            resamples=self._settings.resamples,
            seed=self._settings.seed,
            models=tuple(sorted({_model(case.ensemble) for case in done})),
            files=self.files,
        )
        rows = [row for lead in leads for row in self._rows(lead, systems)]
        return Verification(rows, facts, self._truth.variables, self._accumulator, self._agreement, self._picture(done))

    def _over_time(self, done: Sequence[ForecastCase]) -> tuple[str, ...]:
        """Return a note on what is scored if it is the extremes over several leads."""
        leads = done[0].leads
        if len(leads) == 1:
            return ()
        return (
            f"Instead of single leads, the highest value (for CIN the lowest) at each point over the leads "
            f"{', '.join(map(str, leads))} h is scored: an event may happen at any of these times. Climatology and "
            f"advection draw new members at each lead, so that their extremes and their changes are too large",
        )

    def _key(self, system: str, case: ForecastCase) -> str:
        parts: list[Any] = [self._source, *map(self._truth.fingerprint, case.valids)]
        parts += [f"extremes over {case.leads}"] if case.earlier else []
        parts += [self._truth.points.fingerprint, self._settings.rim, self._scorer.scales]
        known = self._truth.known
        parts += [known.fingerprint(case.init) if np.isin(case.init, known.hours) else None]
        parts += [variable.name for variable in self._truth.variables]
        model = [case.ensemble.fingerprint, self._members, self._settings.seed]
        if system == MODEL:
            return digest(*parts, *model)
        made = {one.name: one.fingerprint for one in self._baselines} | {
            p.folder: p.fingerprint for p in self._products
        }
        # Points that a member lacks are not scored in baselines either.
        return digest(*parts, *(made[system](case.init, lead) for lead in case.leads), *model)

    def _systems(self, case: ForecastCase) -> dict[str, type]:
        """Return the systems to be scored on a case, and the class of their statistics."""
        kinds: dict[str, type] = dict.fromkeys((MODEL, *(baseline.name for baseline in self._baselines)), Statistics)
        return kinds | {one.folder: ComparisonSums for one in self._products if one.has(case.init, case.lead)}

    def _stored(self, case: ForecastCase, due: Sequence[str]) -> dict[str, Record]:
        """Return the stored records of a case, except those of systems that are due."""
        records = {}
        for system, kind in self._systems(case).items():
            if system in due:
                continue
            record = self._records.load(system, case.init, case.lead, self._key(system, case), kind)
            if record is not None:
                records[system] = record
        return records

    def _task(self, case: ForecastCase) -> ScoringTask:
        heads = {s: self._records.head(s, case.init, case.lead, self._key(s, case)) for s in self._systems(case)}
        narrowing = frozenset(system for system, head in heads.items() if head is not None and head.narrows)
        due = tuple(s for s, h in heads.items() if h is None or h.beside != self._beside(s, narrowing, case))
        return ScoringTask(case, due, narrowing)

    def _beside(self, system: str, narrowing: Iterable[str], case: ForecastCase) -> str:
        """Return a digest of the systems that lack points, at which this system is not scored either."""
        if any(system == one.folder for one in self._products):
            return ""
        return digest(sorted((other, self._key(other, case)) for other in narrowing if other != system))

    def _enter(self, case: ForecastCase, records: dict[str, Record], refused: str | None) -> CaseScored:
        if refused is not None:
            self._left_out[refused] += 1
            return CaseScored(case.init, case.lead, {}, refused)
        model = records[MODEL]
        crps = {}
        for one in self._products:
            for field, compared in records.pop(one.folder, Record()).statistics.items():
                self._accumulator.compared.setdefault((one.system, field, case.lead), {})[case.init] = compared
        for variable in self._truth.variables:
            its = {s: r.statistics[variable.name] for s, r in records.items() if variable.name in r.statistics}
            points = its[MODEL].sums["points"]
            if points == 0 or any(statistics.sums["points"] != points for statistics in its.values()):
                self._left_out[f"{variable.name} alone, no point has a truth and a forecast of every system"] += 1
                continue
            self._coverage.add(variable.name, records)
            area = model.notes[f"{AREA}{variable.name}"]
            if variable.name not in self._most_convective or area > self._most_convective[variable.name][0]:
                self._most_convective[variable.name] = area, case
            for system, statistics in its.items():
                self._accumulator.add(system, variable.name, case.lead, case.init, statistics)
            crps[variable.name] = float(its[MODEL].sums["crps_fair"] / points)
            self._agreement += crosscheck.Agreement(
                int(model.notes[f"check_points/{variable.name}"]),
                model.notes[f"check_largest/{variable.name}"],
                self._agreement.package,
            )
        self._done.append(case)
        return CaseScored(case.init, case.lead, crps)

    def _rows(self, lead: int, systems: Sequence[str]) -> list[Row]:
        rows: list[Row] = []
        for variable in self._truth.variables:
            having = [system for system in systems if (system, variable.name, lead) in self._accumulator.days]
            if MODEL not in having:
                continue
            bootstrap = Bootstrap(
                len(self._accumulator.days[MODEL, variable.name, lead]),
                resamples=self._settings.resamples,
                seed=self._settings.seed,
                confidence=self._settings.confidence,
            )
            rows += score_rows(self._accumulator, bootstrap, self._scorer.scales, variable, lead, having)
            for one in self._products:
                rows += product_rows(self._accumulator, one.system, variable, lead, self._settings)
        return rows

    def _too_wide(self) -> list[str]:
        wide = [km for km in self._settings.neighbourhoods if odd_width(km) not in self._scorer.scales.widths]
        return [f"FSS in squares of {km:g} km is not computed: they do not fit into the domain twice" for km in wide]

    def _names(self, done: Sequence[ForecastCase]) -> tuple[str, ...]:
        """Return a note on the source of the verified ensemble if another program made it."""
        others = sorted({_model(case.ensemble) for case in done if "model_sha256" not in case.ensemble.attributes})
        if not others:
            return ()
        return (f"{MODEL} stands for the verified ensemble, which names its source as {', '.join(others)}",)

    def _not_compared(self) -> tuple[str, ...]:
        return tuple(
            f"{name} on {variable.name}, since {reason}"
            for name, lacks in (
                *((baseline.name, baseline.lacks) for baseline in self._baselines),
                *((f"products of {one.system}", one.lacks) for one in self._products),
            )
            for variable in self._truth.variables
            if (reason := lacks(variable))
        )

    def _picture(self, done: Sequence[ForecastCase]) -> CaseShown:
        scored = [v for v in self._truth.variables if v.name in self._most_convective]
        first = min(case.lead for case in done)
        variable = shown_variable([v for v in scored if (MODEL, v.name, first) in self._accumulator.days])
        area, case = self._most_convective[variable.name]
        return CaseShown(
            variable=variable,
            threshold=variable.middle_threshold,
            area=area,
            among=len(done),
            init=case.init,
            lead=case.lead,
            observed=self._scorer.observed(case, variable),
            members=self._scorer.forecasts(case, variable),
            points=self._truth.points,
        )


def evaluate(
    forecast_paths: Sequence[Path],
    truth: Truth | Dataset,
    *,
    against: Sequence[str],
    settings: VerificationSettings,
    workspace: Workspace | None,
    foreign: bool = False,
    within: int | None = None,
    keep: Path | None = None,
    workers: Workers | None = None,
) -> Evaluation:
    """Prepare the verification of ensembles against a truth, beside baselines.

    Iterate over the Evaluation, then call its `result`. The cases are the (initial time, lead) pairs outside the
    model's training period for which the complete ensemble, the truth and every baseline are available; others are
    counted by reason.

    Args:
        forecast_paths: Forecast stores, or files of another program.
        truth: Fields that the forecasts are scored against.
        against: Names of the baselines.
        settings: Verification settings.
        workspace: Workspace whose archive and simulated world baselines use, if any.
        foreign: Whether the forecasts are another program's. These are scored on the fields and points that they share
            with the truth, and a damaged file is an error; a damaged file of a workspace is left out.
        within: Score the extremes over the leads up to this one (hours), in place of each lead.
        keep: Folder in which scores are stored and looked up, if any.
        workers: Workers that score the cases; by default this process.

    Raises:
        NotPublishedError: Every valid time is later than the last analysis.
        MissingInputError: No case is left.
        SettingsError: A file or baseline cannot be used with this truth.
        DamagedFileError: A file cannot be read or is not an ensemble.
    """
    judge: Truth = Analyses(truth) if isinstance(truth, Dataset) else truth
    if foreign:
        settings = settings.model_copy(update={"rim": 0})  # the scored points may lie inside a larger domain
    ensembles: list[Ensemble] = []
    damaged: list[DamagedFileError] = []
    between: list[LeftOut] = []
    field_reports: list[dict[str, Any]] = []
    sources: list[Path | GatheredFiles] = list(forecast_paths)
    if foreign:
        sources = list(gather_ensembles(expand(forecast_paths, "--ensemble")))
    for source in sources:
        try:
            opened = open_ensembles(
                source, fields=judge.variables, points=judge.points, simulated=judge.simulated, foreign=foreign
            )
        except DamagedFileError as error:
            if foreign:
                raise
            damaged.append(error)
            continue
        if foreign:
            field_reports.append(opened.field_report)
        if len(field_reports) == 1:
            field_reports.insert(0, judge.field_report(opened.fields))
            judge = judge.crop(opened.box, opened.fields)
        elif opened.fields != judge.variables or opened.points.shape != judge.points.shape:
            path, first = (one if isinstance(one, Path) else one.path for one in (source, sources[0]))
            raise DamagedFileError(
                f"{path} shares fewer fields or points with the truth than {first}",
                advice="verify them one by one",
            )
        ensembles += opened.ensembles
        between += opened.left_out
    if damaged and not ensembles:
        raise damaged[0]
    left_out = reasons(between)
    if not ensembles:
        raise MissingInputError(
            f"no forecast can be scored: {'; '.join(left_out) or 'there is none'}",
            advice="give forecasts that start at a whole hour (UTC), for whole hours after it",
        )
    require_each_once(ensembles)
    if damaged:
        left_out["a file is damaged"] += len(damaged)
    cases = outside_training(ensembles, left_out)
    if within is not None:
        cases = over_time(cases, within, left_out)
    members, cases = complete(cases, left_out)
    cases = analysed(cases, judge, left_out)
    asked = [(case.init, lead) for case in cases for lead in case.leads]
    references = make_references(against, judge, workspace, cases=asked, members=members)
    if within is not None and references.products:
        raise SettingsError(
            f"{references.products[0].system} publishes products of single leads, and --within scores several",
            advice="fetch its members, or leave out --within or this --against",
        )
    baselines = make_baselines(
        [name for name in against if name not in REFERENCES],
        judge,
        training=training_hours(ensembles, judge.known),
        cases=asked,
        settings=settings,
        workspace=workspace,
    )
    baselines += references.baselines
    cases = with_baselines(cases, baselines, left_out)
    return Evaluation(
        judge,
        cases,
        baselines,
        references,
        members=members,
        left_out=left_out,
        settings=settings,
        records=Records(keep),
        workers=workers,
        damaged=damaged,
        files=field_reports,
    )


def _model(ensemble: Ensemble) -> str:
    attributes = ensemble.attributes
    if "model_sha256" in attributes:
        return model_identity(attributes)
    return str(attributes.get("title", attributes.get("source", "nothing")))[:60]
