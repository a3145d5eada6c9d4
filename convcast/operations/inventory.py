"""What a workspace holds, as far as a cycle has to know it: read without torch, in a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from convcast import stores
from convcast.archive import Archive
from convcast.archive.sources import PUBLICATION_DELAY
from convcast.conventions import COMPLETE
from convcast.dataset import Dataset, Status
from convcast.errors import DamagedFileError, SettingsError
from convcast.files import read_json
from convcast.forecasts.integrity import begin_again, damaged_leads, damaged_members, fault_of, leads_of, read_flags
from convcast.notation import HOUR, Hour, from_compact, parse_hour
from convcast.operations.history import ScoreHistory
from convcast.settings import HistoryLength, ModelLeads, Settings
from convcast.workspace import Workspace

DESCRIPTION, WEIGHTS = "model.json", "model.safetensors"
"""Of a model (convcast.model.checkpoint, which would bring torch along, and its memory)."""
VERIFICATION = "operational"
"""Name of the verification that cycles keep up to date."""


@dataclass(frozen=True)
class _Sizes:
    """What is read of a model's settings."""

    history: HistoryLength
    leads: ModelLeads


_SIZES = TypeAdapter(_Sizes)


@dataclass(frozen=True)
class ModelSummary:
    """What sampling needs to know of the model before it loads it."""

    history: int
    """Hours, the initial one included."""
    leads: tuple[int, ...]
    """Hours."""
    trained: tuple[Hour, Hour]
    """First and last hour that it learned from, of which its forecasts prove nothing."""

    def trained_on(self, init: Hour) -> bool:
        return bool(self.trained[0] <= init <= self.trained[1])


@dataclass(frozen=True)
class ForecastSummary:
    """One initial time."""

    complete: bool
    """Whether all that is to be kept of it is there: members (all that the settings ask for), products, or both."""
    leads: tuple[int, ...]
    """Hours."""
    trained: tuple[Hour, Hour] | None = None
    """First and last hour that its model learned from."""
    members: int = 0
    """Complete at every lead."""

    @property
    def verifiable(self) -> bool:
        """Whether there is an ensemble to score."""
        return self.members > 1


@dataclass(frozen=True)
class Inventory:
    """A workspace at one moment."""

    expected: Hour
    """The newest hour whose analysis should be published by now."""
    archived: frozenset[Hour] = frozenset()
    """Valid hours."""
    hour_status: Mapping[Hour, Status] = field(default_factory=dict)
    """Of the dataset's hours."""
    forecasts: Mapping[Hour, ForecastSummary] = field(default_factory=dict)
    """By initial time: those as young as `since` asked for, completeness and all."""
    scored: frozenset[tuple[Hour, int]] = frozenset()
    """Initial time and lead."""
    model: ModelSummary | None = None
    ignored_files: Mapping[Path, str] = field(default_factory=dict)
    """Files in a forecast's or a model's place that are left alone, and why, in words that follow their name."""
    blocked: frozenset[Hour] = frozenset()
    """Initial times in whose place lies something that sampling cannot write to."""

    @property
    def left_alone(self) -> list[str]:
        """A sentence for each file that is left alone."""
        return [f"{path} {fault} and is left alone" for path, fault in self.ignored_files.items()]

    def ok(self, hour: Hour) -> bool:
        return self.hour_status.get(hour) == Status.OK

    def complete(self, init: Hour) -> bool:
        """Whether this forecast is there, with all that was asked for."""
        return init in self.forecasts and self.forecasts[init].complete

    def needs_fetch(self, hour: Hour) -> bool:
        """Whether fetching this hour could help."""
        known = self.hour_status.get(hour, Status.ABSENT)
        return hour not in self.archived and known in (Status.ABSENT, Status.GAP)

    @property
    def unprocessed(self) -> frozenset[Hour]:
        """Archived hours that preprocessing has not seen."""
        return frozenset(
            h for h in self.archived if self.hour_status.get(h, Status.ABSENT) in (Status.ABSENT, Status.GAP)
        )

    @property
    def newest(self) -> Hour | None:
        """Initial time of the newest complete forecast."""
        return max((init for init, forecast in self.forecasts.items() if forecast.complete), default=None)


class InventoryReader:
    """Read the inventory of a workspace as often as needed; complete forecasts are read once."""

    def __init__(self, workspace: Workspace, settings: Settings, *, model: str | None = None) -> None:
        self.workspace, self.settings = workspace, settings
        self.name = model or settings.preset
        self.history = ScoreHistory(workspace.verification(VERIFICATION) / "history")
        self._complete: dict[Hour, ForecastSummary] = {}

    def read(self, expected: Hour, *, since: Hour) -> Inventory:
        """All that there is; of forecasts, those of initial times from `since` on."""
        workspace, lead = self.workspace, self.settings.dataset.analysis_lead
        ignored_files = {path: fault for init, path in self._kept() if init >= since and (fault := fault_of(path))}
        try:
            model = self._model()
        except DamagedFileError as error:
            model = None
            ignored_files[workspace.model(self.name) / DESCRIPTION] = str(error).removeprefix(
                f"{workspace.model(self.name) / DESCRIPTION} "
            )
        return Inventory(
            expected=expected,
            archived=frozenset(Archive(workspace.archive / "hrrr").hours(lead)),
            hour_status=self._hour_status(),
            forecasts=self._forecasts(since),
            scored=self.history.scored(since),
            model=model,
            ignored_files=ignored_files,
            blocked=frozenset(init for init, path in self._kept() if path in ignored_files and self._is_written(path)),
        )

    def newest(self, *, before: Hour) -> Hour | None:
        """Initial time of the newest complete forecast from before this time."""
        inits = {init for init, _ in self._kept() if init < before}
        return next((init for init in sorted(inits, reverse=True) if self._look(init).complete), None)

    def _kept(self) -> Iterator[tuple[Hour, Path]]:
        """Initial times and files of members and products."""
        for folder in (self.workspace.forecasts, self.workspace.products):
            for path in folder.glob("*.zarr"):
                init = from_compact(path.stem)
                if init is not None:
                    yield init, path

    def _is_written(self, path: Path) -> bool:
        """Whether sampling may write to a forecast file, by what is to be kept of ensembles."""
        keep = self.settings.sampling.keep
        return keep != "products" if path.parent == self.workspace.forecasts else keep != "members"

    def _hour_status(self) -> dict[Hour, Status]:
        try:
            dataset = Dataset.open(self.workspace.dataset)
        except SettingsError:  # there is none yet
            return {}
        return {hour: Status(code) for hour, code in zip(dataset.times, dataset.status, strict=True)}

    def _model(self) -> ModelSummary | None:
        """None until the first save of its training is whole; raises DamagedFileError for what describes no model."""
        folder = self.workspace.model(self.name)
        path = folder / DESCRIPTION
        if not (path.is_file() and (folder / WEIGHTS).is_file()):
            return None
        said = read_json(path)
        try:
            first, last = (parse_hour(text) for text in said["training_hours"])
            sizes = _SIZES.validate_python(said["model"])
        except (AttributeError, KeyError, TypeError, ValueError, SettingsError) as error:
            raise DamagedFileError(
                f"{path} does not describe a convcast model", advice=f"rename {folder}, and train again"
            ) from error
        return ModelSummary(sizes.history, sizes.leads, (first, last))

    def _forecasts(self, since: Hour) -> dict[Hour, ForecastSummary]:
        return {init: self._look(init) for init in sorted({init for init, _ in self._kept()}) if init >= since}

    def _look(self, init: Hour) -> ForecastSummary:
        """What there is of a forecast; it is complete where what is to be kept of it is there."""
        if init not in self._complete:
            sampling, path = self.settings.sampling, self.workspace.forecast(init)
            members = read_forecast(path, members=sampling.members)
            made = read_products(self.workspace.product(init))
            # Where there are no members, they were let go, or never to be kept.
            whole = bool(made) if not path.exists() else members.complete and (sampling.keep == "members" or bool(made))
            forecast = replace(members, complete=whole, leads=members.leads or made)
            if not whole:
                return forecast
            self._complete[init] = forecast
        return self._complete[init]


def read_forecast(path: Path, *, members: int) -> ForecastSummary:
    """The ensemble at `path`, whose first `members` members make it complete; nothing where it cannot be read.

    Members that are marked complete and have lost values do not count.
    """
    try:
        complaint, advice = f"{path} cannot be read", begin_again(path)
        group = stores.open_group(path, writing=False, complaint=complaint, advice=advice)
        complete = stores.open_array(group, "complete", complaint=complaint, advice=advice)
        with stores.readable(complaint, advice):
            there = read_flags(complete)[0] == COMPLETE  # (member, lead)
            leads = tuple(leads_of(dict(group.attrs)))
            first, last = map(parse_hour, str(group.attrs["training_hours"]).split("/"))
        damaged = damaged_members(path)
    except (DamagedFileError, OSError):  # being made, or pruned, or nobody's
        return ForecastSummary(False, ())
    for one in damaged:
        there[one.member, one.lead] = False
    whole = int(there.all(axis=1).sum())
    enough = there.shape[0] >= members and bool(there[:members].all())
    return ForecastSummary(enough, leads, (first, last), whole)


def read_products(path: Path) -> tuple[int, ...]:
    """The leads, in hours, of the products at `path`, which appear whole; none where it cannot be read or lost any."""
    try:
        complaint, advice = f"{path} cannot be read", begin_again(path)
        group = stores.open_group(path, writing=False, complaint=complaint, advice=advice)
        with stores.readable(complaint, advice):
            leads = tuple(leads_of(dict(group.attrs)))
        return () if damaged_leads(path) else leads
    except (DamagedFileError, OSError):
        return ()


def expected_hour(clock: np.datetime64, lead: int) -> Hour:
    """The newest hour whose analysis, a `lead`-hour forecast, should be published at this time."""
    init: Hour = (clock.astype("datetime64[s]") - PUBLICATION_DELAY).astype("datetime64[h]")
    return init + lead * HOUR
