"""One pass over forecasts, a case at a time: each field read once, scored beside its baselines, and let go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcast.dataset import Dataset
from convcast.errors import MissingInputError
from convcast.notation import Hour
from convcast.settings import VerificationSettings
from convcast.variables import CAPE, REFC, Variable
from convcast.verification.baselines import Baseline, make_baselines
from convcast.verification.cases import Case, analysed, complete, outside_training, training_hours, with_baselines
from convcast.verification.crosscheck import Crosscheck
from convcast.verification.ensembles import open_ensembles
from convcast.verification.exact import Exact
from convcast.verification.intervals import Bootstrap
from convcast.verification.ledger import Ledger
from convcast.verification.result import CaseShown, Facts, Verification
from convcast.verification.statistics import score_field
from convcast.verification.summary import MODEL, Summary
from convcast.workspace import Workspace


@dataclass(frozen=True)
class CaseScored:
    """One forecast scored: fair CRPS of the verified system by field."""

    init: Hour
    lead: int
    crps: dict[str, float]


class Evaluation:
    """A verification under way: iterate over it for one CaseScored a case, then ask for the `result`."""

    def __init__(
        self,
        dataset: Dataset,
        cases: Sequence[Case],
        baselines: Sequence[Baseline],
        *,
        members: int,
        left_out: Counter[str],
        settings: VerificationSettings,
    ) -> None:
        self._dataset, self._cases, self._baselines = dataset, list(cases), list(baselines)
        self._members, self._left_out, self._settings = members, left_out, settings
        self._ledger = Ledger()
        self._check = Crosscheck(len(dataset.variables), len(self._cases), settings.seed)
        self._shown = shown_variable(dataset.variables)
        self._most_convective: tuple[float, Case] | None = None
        self._done = 0

    def __len__(self) -> int:
        """Number of cases."""
        return len(self._cases)

    def __iter__(self) -> Iterator[CaseScored]:
        """Score what has not been scored yet, case by case."""
        try:
            while self._done < len(self._cases):
                scored = self._score(self._cases[self._done])
                self._done += 1
                yield scored
        finally:
            for baseline in self._baselines:
                if isinstance(baseline, Exact):
                    baseline.stop()

    def result(self) -> Verification:
        """The scores of the cases so far, with intervals.

        Raises MissingInputError where none has been scored.
        """
        done = self._cases[: self._done]
        if not done or self._most_convective is None:
            raise MissingInputError("no case has been scored")
        inits = np.unique([case.init for case in done])
        days = len(np.unique(inits.astype("datetime64[D]")))
        systems = [MODEL, *(baseline.name for baseline in self._baselines)]
        leads = sorted({case.lead for case in done})
        rows = []
        for lead in leads:
            of_lead = np.unique([case.init.astype("datetime64[D]") for case in done if case.lead == lead])
            summary = Summary(
                self._ledger,
                Bootstrap(
                    len(of_lead),
                    resamples=self._settings.resamples,
                    seed=self._settings.seed,
                    confidence=self._settings.confidence,
                ),
            )
            for variable in self._dataset.variables:
                summary.add(variable, lead, systems)
            rows += summary.rows
        facts = Facts(
            simulated=self._dataset.simulated,
            systems=tuple(systems),
            leads=tuple(leads),
            inits=tuple(str(init) for init in inits),
            days=days,
            members=self._members,
            cases=len(done),
            points=self._dataset.grid.ny * self._dataset.grid.nx,
            analysis_lead=self._dataset.analysis_lead,
            left_out=dict(self._left_out),
            confidence=self._settings.confidence,
            resamples=self._settings.resamples,
            seed=self._settings.seed,
            models=tuple(sorted({str(c.ensemble.attributes.get("model_sha256", "not said"))[:12] for c in done})),
        )
        return Verification(
            rows, facts, self._dataset.variables, self._ledger, self._check.compare(), self._picture(done)
        )

    def _score(self, case: Case) -> CaseScored:
        truth = self._dataset.read([case.valid])[0]
        crps = {}
        for variable, observed in zip(self._dataset.variables, truth, strict=True):
            forecasts = self._read(case, variable)
            self._check.draw(variable, case.init, case.lead, forecasts, observed)
            statistics = score_field(forecasts, observed, variable)
            self._ledger.add(MODEL, variable.name, case.lead, case.init, statistics)
            crps[variable.name] = statistics.sums.crps_fair / max(statistics.sums.points, 1)
            for baseline in self._baselines:
                other = baseline.read(variable, case.init, case.lead)
                self._ledger.add(
                    baseline.name, variable.name, case.lead, case.init, score_field(other, observed, variable)
                )
            if variable is self._shown:
                area = float(np.mean(is_event(observed, variable, shown_threshold(variable))))
                if self._most_convective is None or area > self._most_convective[0]:
                    self._most_convective = area, case
        return CaseScored(case.init, case.lead, crps)

    def _read(self, case: Case, variable: Variable) -> NDArray[np.float32]:
        return case.ensemble.read(variable, case.lead, case.ensemble.members(case.lead)[: self._members])

    def _picture(self, done: Sequence[Case]) -> CaseShown:
        assert self._most_convective is not None
        area, case = self._most_convective
        index = self._dataset.variables.index(self._shown)
        return CaseShown(
            variable=self._shown,
            threshold=shown_threshold(self._shown),
            area=area,
            among=len(done),
            init=case.init,
            lead=case.lead,
            observed=self._dataset.read([case.valid])[0, index],
            members=self._read(case, self._shown),
            grid=self._dataset.grid,
        )


def evaluate(
    forecast_paths: Sequence[Path],
    dataset: Dataset,
    *,
    against: Sequence[str],
    settings: VerificationSettings,
    workspace: Workspace,
) -> Evaluation:
    """Prepare to score the ensembles in these Zarr stores against the dataset's analyses, beside the baselines named.

    Iterate over what is returned, then ask it for the `result`. Cases are the (initial time, lead) of complete
    ensembles outside their model's training period whose analysis, and every baseline, is there; others are counted.
    Raises NotPublishedError where no valid time has come, MissingInputError where no case is left, SettingsError and
    DamagedFileError for files and baselines that cannot be used.
    """
    ensembles = [
        ensemble
        for path in forecast_paths
        for ensemble in open_ensembles(path, fields=dataset.variables, grid=dataset.grid, simulated=dataset.simulated)
    ]
    left_out: Counter[str] = Counter()
    cases = outside_training(ensembles, left_out)
    members, cases = complete(cases, left_out)
    cases = analysed(cases, dataset, left_out)
    training = training_hours(ensembles, dataset)
    baselines = make_baselines(
        against,
        dataset,
        training=training,
        cases=[(case.init, case.lead) for case in cases],
        settings=settings,
        workspace=workspace,
    )
    cases = with_baselines(cases, baselines, left_out)
    return Evaluation(dataset, cases, baselines, members=members, left_out=left_out, settings=settings)


def shown_variable(variables: Sequence[Variable]) -> Variable:
    """The field that shows convection best of those there are."""
    return next((v for v in (REFC, CAPE) if v in variables), variables[0])


def shown_threshold(variable: Variable) -> float:
    """The event whose probability is drawn: 40 dBZ for reflectivity, else the field's middle threshold."""
    return 40.0 if variable is REFC else variable.thresholds[len(variable.thresholds) // 2]


def is_event(values: NDArray[np.float32], variable: Variable, threshold: float) -> NDArray[np.bool_]:
    return values <= threshold if variable.events_below else values >= threshold
