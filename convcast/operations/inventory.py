"""The inventory of a workspace that a cycle needs, read without torch in a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from convcast import stores
from convcast.archive import Archive, Forcing, HrrrForecast
from convcast.archive.sources import PUBLICATION_DELAY
from convcast.conventions import COMPLETE
from convcast.dataset import Dataset, HourStatus
from convcast.errors import DamagedFileError, SettingsError
from convcast.files import read_json
from convcast.forecasts.calibration import calibrations_before, read_calibration
from convcast.forecasts.integrity import (
    attribute_leads,
    damaged_leads,
    damaged_members,
    find_fault,
    read_flags,
    start_over_advice,
)
from convcast.forecasts.open import model_identity
from convcast.notation import HOUR, Hour, from_compact, parse_hour
from convcast.operations.history import ScoreHistory
from convcast.settings import HistoryLength, ModelLeads, Settings
from convcast.workspace import Workspace

DESCRIPTION, WEIGHTS = "model.json", "model.safetensors"
"""Files of a model, named here because convcast.model would import torch."""
CALIBRATION_AGE = np.timedelta64(24, "h")
"""Age at which a calibration is replaced by a new one."""
FIRST_CASES = 12
"""Minimum number of forecasts, of one lead each, from which a calibration is learnt."""
VERIFICATION = "operational"
"""Name of the verification that cycles update."""


@dataclass(frozen=True)
class _Sizes:
    """The parts of a model's settings that planning needs."""

    history: HistoryLength
    leads: ModelLeads


_SIZES = TypeAdapter(_Sizes)


@dataclass(frozen=True)
class ModelSummary:
    """The properties of a model that planning needs, read without loading it."""

    history: int
    """Number of hours of analyses that the model starts from, the initial one included."""
    leads: tuple[int, ...]
    """Hours."""
    trained: tuple[Hour, Hour]
    """First and last hour of its training period."""

    def trained_on(self, init: Hour) -> bool:
        """Return whether an initial time lies in the training period."""
        return bool(self.trained[0] <= init <= self.trained[1])


@dataclass(frozen=True)
class ForecastSummary:
    """The stored forecast of one initial time."""

    complete: bool
    """Whether everything that the settings keep is stored: all members, the products, or both."""
    leads: tuple[int, ...]
    """Hours."""
    trained: tuple[Hour, Hour] | None = None
    """First and last hour of its model's training period."""
    members: int = 0
    """Number of members that are complete at every lead."""

    @property
    def verifiable(self) -> bool:
        """Whether there is an ensemble to score."""
        return self.members > 1


@dataclass(frozen=True)
class Inventory:
    """Files of a workspace at one moment."""

    expected: Hour
    """The newest hour whose analysis should be published by now."""
    archived: frozenset[Hour] = frozenset()
    """Valid hours of the archived analyses."""
    hour_status: Mapping[Hour, HourStatus] = field(default_factory=dict)
    """Status of each hour of the dataset."""
    forecasts: Mapping[Hour, ForecastSummary] = field(default_factory=dict)
    """Forecasts by initial time, from the reader's `since` on."""
    scored: frozenset[tuple[Hour, int]] = frozenset()
    """Initial times and leads (hours) of the scored cases."""
    model: ModelSummary | None = None
    ignored_files: Mapping[Path, str] = field(default_factory=dict)
    """Files that have the name of a forecast or model and are neither, each with its fault."""
    blocked: frozenset[Hour] = frozenset()
    """Initial times that cannot be sampled, because an ignored file has the forecast's name."""
    calibrated: Hour | None = None
    """Last valid hour from which the newest calibration of the newest members' model was learnt; None if none was."""
    raw: frozenset[Hour] = frozenset()
    """Initial times of the members that are stored as they were drawn, from which a calibration is learnt too."""
    other_models: frozenset[Hour] = frozenset()
    """Initial times of the members that another model than that of the newest members drew."""
    unforced: frozenset[Hour] = frozenset()
    """Initial times for which an HRRR forecast that forces the model is missing and could be fetched."""
    unprocessed_forecasts: frozenset[HrrrForecast] = frozenset()
    """Archived HRRR forecasts that force the model and that preprocessing has not seen."""

    @property
    def left_alone(self) -> list[str]:
        """Sentences on the ignored files, one for each."""
        return [f"{path} {fault} and is left alone" for path, fault in self.ignored_files.items()]

    def ok(self, hour: Hour) -> bool:
        return self.hour_status.get(hour) == HourStatus.OK

    def complete(self, init: Hour) -> bool:
        """Return whether a complete forecast of this initial time is stored."""
        return init in self.forecasts and self.forecasts[init].complete

    def needs_fetch(self, hour: Hour) -> bool:
        """Return whether an hour is missing and could be fetched."""
        known = self.hour_status.get(hour, HourStatus.ABSENT)
        return hour not in self.archived and known in (HourStatus.ABSENT, HourStatus.GAP)

    def wants_fetch(self, hour: Hour) -> bool:
        """Return whether an hour, or the forcing of a forecast from it, is missing and could be fetched."""
        return self.needs_fetch(hour) or hour in self.unforced

    @property
    def unprocessed(self) -> frozenset[Hour]:
        """Archived hours that preprocessing has not seen."""
        return frozenset(
            h
            for h in self.archived
            if self.hour_status.get(h, HourStatus.ABSENT) in (HourStatus.ABSENT, HourStatus.GAP)
        )

    @property
    def to_calibrate(self) -> bool:
        """Whether a calibration is a day old, and there are enough forecasts, one of them new, to learn another from.

        A calibration is learnt from the scored forecasts of one model, and from its forecasts in raw/ that are valid at
        an hour with an analysis: where only products are kept, nothing is scored.
        """
        if self.calibrated is not None and self.expected - self.calibrated < CALIBRATION_AGE:
            return False
        leads = self.model.leads if self.model else ()
        drawn = {(i, lead) for i in self.raw for lead in leads if i + lead * HOUR <= self.expected}
        every = self.scored | {(init, lead) for init, lead in drawn if self.ok(init + lead * HOUR)}
        cases = {(init, lead) for init, lead in every if init not in self.other_models}
        new = any(self.calibrated is None or init + lead * HOUR > self.calibrated for init, lead in cases)
        return new and len(cases) >= FIRST_CASES

    @property
    def newest(self) -> Hour | None:
        """Initial time of the newest complete forecast that does not start later than `expected`, as in a rehearsal."""
        stored = self.forecasts.items()
        return max((init for init, one in stored if one.complete and init <= self.expected), default=None)


class InventoryReader:
    """Read the inventory of a workspace as often as needed; complete forecasts are read once."""

    def __init__(self, workspace: Workspace, settings: Settings, *, model: str | None = None) -> None:
        """Prepare to read; nothing is read yet.

        Args:
            workspace: The workspace.
            settings: Settings of the run.
            model: Name of the model; by default that of the preset.
        """
        self.workspace, self.settings = workspace, settings
        self.name = model or settings.preset
        self.history = ScoreHistory(workspace.verification(VERIFICATION) / "history")
        self._complete: dict[Hour, ForecastSummary] = {}
        self._models: dict[Path, str] = {}

    def read(self, expected: Hour, *, since: Hour) -> Inventory:
        """Read the inventory.

        Args:
            expected: The newest hour whose analysis should be published by now.
            since: Earliest initial time of the forecasts to read.
        """
        workspace = self.workspace
        stored = [(init, path) for init, path in self._stored_paths() if init >= since]
        inits = {init for init, _ in stored}
        ignored_files = {path: fault for _, path in stored if (fault := find_fault(path))}
        model, path = None, workspace.model(self.name) / DESCRIPTION
        try:
            model = self._model(path)
        except DamagedFileError as error:
            ignored_files[path] = str(error).removeprefix(f"{path} ")
        archive = Archive(workspace.archive / "hrrr")
        unforced, unprocessed = self._forcing(archive, expected, since)
        models = self._models_by_init(expected) if self.settings.sampling.calibration else {}
        newest_model = models[max(models)] if models else None
        return Inventory(
            expected=expected,
            archived=frozenset(archive.hours(*self.settings.dataset.leads)),
            unforced=unforced,
            unprocessed_forecasts=unprocessed,
            hour_status=self._hour_status(),
            forecasts={init: self._read_forecast(init) for init in sorted(inits)},
            scored=self.history.scored(since),
            calibrated=self._calibrated(expected, newest_model),
            raw=frozenset(init for init, _ in self._recent(self.workspace.raw, expected)),
            other_models=frozenset(init for init, model in models.items() if model != newest_model),
            model=model,
            ignored_files=ignored_files,
            blocked=frozenset(init for init, path in stored if path in ignored_files and self._is_written(path)),
        )

    def _calibrated(self, expected: Hour, model: str | None) -> Hour | None:
        """Return the hour of the model's newest calibration; without a model, nothing could be learnt or calibrated."""
        for path in calibrations_before(self.workspace.calibrations, expected) if model is not None else ():
            try:
                if read_calibration(path).model == model:
                    return from_compact(path.stem)
            except DamagedFileError:  # `sample` names the file if it needs it
                continue
        return None

    def _models_by_init(self, expected: Hour) -> dict[Hour, str]:
        """Return what drew the members that a calibration may be learnt from (`model_identity`), by initial time."""
        models = {}
        for folder in (self.workspace.forecasts, self.workspace.raw):
            for init, path in self._recent(folder, expected):
                if not self._models.get(path):
                    self._models[path] = model_identity(stores.stored_attributes(path))
                models[init] = self._models[path]
        return models

    def _recent(self, folder: Path, expected: Hour) -> Iterator[tuple[Hour, Path]]:
        """Yield the stores of a folder from whose initial times a calibration may be learnt."""
        first = expected - np.timedelta64(round(24 * self.settings.verification.calibration_days), "h")
        return ((init, path) for init, path in _named_stores(folder) if first <= init <= expected)

    def _forcing(
        self, archive: Archive, expected: Hour, since: Hour
    ) -> tuple[frozenset[Hour], frozenset[HrrrForecast]]:
        """Return the initial times that lack forcing, and the archived forecasts that preprocessing has not seen."""
        forcing = Forcing.of(self.settings.model, self.settings.dataset.analysis_lead)
        if forcing is None:
            return frozenset(), frozenset()
        archived = forcing.archived(archive)
        try:
            status = Dataset.open(self.workspace.dataset).forecast_status
        except (SettingsError, DamagedFileError):  # there is no dataset yet, or preprocessing repairs it
            status = {}

        def unseen(forecast: HrrrForecast) -> bool:
            return status.get(forecast, HourStatus.ABSENT) in (HourStatus.ABSENT, HourStatus.GAP)

        inits = np.arange(since, expected + HOUR)
        return (
            frozenset(i for i in inits if any(unseen(f) and f not in archived for f in forcing.needed([i]))),
            frozenset(filter(unseen, archived)),
        )

    def newest(self, *, before: Hour) -> Hour | None:
        """Return the initial time of the newest complete forecast that starts before a time."""
        inits = {init for init, _ in self._stored_paths() if init < before}
        return next((init for init in sorted(inits, reverse=True) if self._read_forecast(init).complete), None)

    def _stored_paths(self) -> Iterator[tuple[Hour, Path]]:
        """Yield the initial times and paths of stored members and products."""
        for folder in (self.workspace.forecasts, self.workspace.products):
            yield from _named_stores(folder)

    def _is_written(self, path: Path) -> bool:
        """Return whether sampling writes to a forecast file, as the settings keep members, products or both."""
        keep = self.settings.sampling.keep
        return keep != "products" if path.parent == self.workspace.forecasts else keep != "members"

    def _hour_status(self) -> dict[Hour, HourStatus]:
        try:
            dataset = Dataset.open(self.workspace.dataset)
        except SettingsError:  # there is no dataset yet
            return {}
        return {hour: HourStatus(code) for hour, code in zip(dataset.times, dataset.status, strict=True)}

    def _model(self, path: Path) -> ModelSummary | None:
        """Read the model, or None before its first save is complete; raises DamagedFileError where it is damaged."""
        if not (path.is_file() and path.with_name(WEIGHTS).is_file()):
            return None
        description = read_json(path)
        try:
            first, last = (parse_hour(text) for text in description["training_hours"])
            sizes = _SIZES.validate_python(description["model"])
        except (AttributeError, KeyError, TypeError, ValueError, SettingsError) as error:
            raise DamagedFileError(
                f"{path} does not describe a convcast model", advice=f"rename {path.parent}, and train again"
            ) from error
        return ModelSummary(sizes.history, sizes.leads, (first, last))

    def _read_forecast(self, init: Hour) -> ForecastSummary:
        """Read the stored forecast of an initial time."""
        if init not in self._complete:
            sampling, path = self.settings.sampling, self.workspace.forecast(init)
            members = read_forecast(path, members=sampling.members)
            made = read_products(self.workspace.product(init))
            # Members may have been pruned, or the settings keep products only.
            whole = bool(made) if not path.exists() else members.complete and (sampling.keep == "members" or bool(made))
            forecast = replace(members, complete=whole, leads=members.leads or made)
            if not whole:
                return forecast
            self._complete[init] = forecast
        return self._complete[init]


def _named_stores(folder: Path) -> Iterator[tuple[Hour, Path]]:
    """Yield the stores of a folder that are named for an initial time."""
    for path in folder.glob("*.zarr"):
        init = from_compact(path.stem)
        if init is not None:
            yield init, path


def read_forecast(path: Path, *, members: int) -> ForecastSummary:
    """Read the summary of an ensemble; it is empty where the file cannot be read.

    The ensemble is complete when its first `members` members are. A member that has lost values does not count.
    """
    try:
        complaint, advice = f"{path} cannot be read", start_over_advice(path)
        group = stores.open_group(path, writing=False, complaint=complaint, advice=advice)
        complete = stores.open_array(group, "complete", complaint=complaint, advice=advice)
        with stores.readable(complaint, advice):
            stored = read_flags(complete)[0] == COMPLETE  # (member, lead)
            leads = tuple(attribute_leads(dict(group.attrs)))
            first, last = map(parse_hour, str(group.attrs["training_hours"]).split("/"))
        damaged = damaged_members(path)
    except (DamagedFileError, OSError):  # being written or pruned, or no ensemble
        return ForecastSummary(False, ())
    for one in damaged:
        stored[one.member, one.lead] = False
    whole = int(stored.all(axis=1).sum())
    enough = stored.shape[0] >= members and bool(stored[:members].all())
    return ForecastSummary(enough, leads, (first, last), whole)


def read_products(path: Path) -> tuple[int, ...]:
    """Return the leads (hours) of the products at `path`; none where the file cannot be read or has lost values."""
    try:
        complaint, advice = f"{path} cannot be read", start_over_advice(path)
        group = stores.open_group(path, writing=False, complaint=complaint, advice=advice)
        with stores.readable(complaint, advice):
            leads = tuple(attribute_leads(dict(group.attrs)))
        return () if damaged_leads(path) else leads
    except (DamagedFileError, OSError):
        return ()


def expected_hour(clock: np.datetime64, lead: int) -> Hour:
    """Return the newest valid hour whose analysis (a forecast of `lead` hours) should be published at a time."""
    init: Hour = (clock.astype("datetime64[s]") - PUBLICATION_DELAY).astype("datetime64[h]")
    return init + lead * HOUR
