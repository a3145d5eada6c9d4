"""The status of a workspace, for `convcast status`, metrics.prom and the journal."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from convcast.errors import DamagedFileError
from convcast.files import read_json
from convcast.notation import Hour, parse_time
from convcast.operations.history import LONGEST_LEAD, Skill
from convcast.operations.inventory import Inventory, InventoryReader, expected_hour
from convcast.operations.plan import CycleLimits, due_cases, gaps, late_hours
from convcast.settings import Settings
from convcast.workspace import Workspace


@dataclass(frozen=True)
class WorkspaceStatus:
    """The operational status of a workspace at one time."""

    clock: np.datetime64
    """Time of the status, UTC, to the second."""
    expected: Hour
    """The newest hour whose analysis should be published."""
    analysis: Hour | None
    """The newest hour in the dataset."""
    forecast: Hour | None
    """Initial time of the newest complete forecast."""
    late: tuple[Hour, ...]
    """Recent hours that should be published by now and are missing."""
    gaps: tuple[Hour, ...]
    """Older hours, as far back as a cycle catches up, that are missing or were rejected."""
    due: int
    """Number of cases that could be scored and have not been."""
    free: int
    """Free bytes on the disk."""
    skill: tuple[Skill, ...]
    """Mean scores of recent forecasts, one entry per field."""
    last: dict[str, Any]
    """Journal entry of the last cycle, or empty."""
    ignored_files: list[str]
    """One sentence for each file that has the name of a forecast or model and is neither."""

    @property
    def age(self) -> float | None:
        """Seconds since the newest complete forecast's initial time."""
        return None if self.forecast is None else float((self.clock - self.forecast) / np.timedelta64(1, "s"))

    def to_dict(self) -> dict[str, Any]:
        return {
            "now": str(self.clock),
            "expected": str(self.expected),
            "newest_analysis": _text(self.analysis),
            "newest_forecast": _text(self.forecast),
            "forecast_age_seconds": self.age,
            "late": [str(hour) for hour in self.late],
            "gaps": [str(hour) for hour in self.gaps],
            "due": self.due,
            "free_bytes": self.free,
            "skill": [
                {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in asdict(one).items()}
                for one in self.skill
            ],
            "last_cycle": self.last,
            "left_alone": self.ignored_files,
        }


def cycle_limits(settings: Settings) -> CycleLimits:
    """Return the limits of a cycle from the settings."""
    operations = settings.operations
    calibrate = settings.sampling.calibration
    return CycleLimits(round(operations.max_catch_up), operations.every, calibrate, settings.model.history)


def late_window(settings: Settings) -> int:
    """Return the number of newest hours that count as late when missing; older ones count as gaps."""
    return max(1, math.ceil(settings.archive.late_hours) - 1)


def current_time(now: str | None, settings: Settings, workspace: Workspace) -> np.datetime64:
    """Return the time to take for now, UTC: `now` if given, the end of a simulated archive, or the clock's time.

    Args:
        now: Text of a time, UTC.
        settings: Settings of the run.
        workspace: The workspace.

    Raises:
        SettingsError: `now` is not a time, or HRRR does not exist for it.
    """
    if now is not None:
        return parse_time(now)
    if simulated(settings, workspace):
        simulation = settings.simulation
        return parse_time(simulation.start) + np.timedelta64(24 * simulation.days, "h")
    return np.datetime64("now", "s")


def simulated(settings: Settings, workspace: Workspace) -> bool:
    """Return whether the workspace takes its analyses from the simulated archive, which has its own time."""
    return "simulated" in settings.archive.sources or workspace.simulated.is_dir()


def assess(reader: InventoryReader, clock: np.datetime64, inventory: Inventory | None = None) -> WorkspaceStatus:
    """Return the status of the workspace at a time.

    Args:
        reader: Reads the inventory.
        clock: Time to take for now, UTC.
        inventory: The inventory, if it was read already.
    """
    workspace, settings = reader.workspace, reader.settings
    limits = cycle_limits(settings)
    expected = expected_hour(clock, settings.dataset.analysis_lead)
    inventory = inventory or reader.read(expected, since=expected - lookback(limits))
    newest = inventory.newest or reader.newest(before=expected - lookback(limits))
    late = late_window(settings)
    return WorkspaceStatus(
        clock=clock,
        expected=expected,
        analysis=max((hour for hour in inventory.hour_status if hour <= expected and inventory.ok(hour)), default=None),
        forecast=newest,
        late=late_hours(inventory, within=late),
        gaps=gaps(inventory, limits, within=late),
        due=len(due_cases(inventory, limits)),
        free=shutil.disk_usage(workspace.root).free,
        skill=tuple(reader.history.recent(expected, settings.operations.skill_days)),
        last=_last(workspace),
        ignored_files=inventory.left_alone,
    )


def lookback(limits: CycleLimits) -> np.timedelta64:
    """Return the time before the newest analysis within which a cycle may complete or score forecasts."""
    return np.timedelta64(limits.catch_up + LONGEST_LEAD, "h")


class _Stage(BaseModel):
    stage: str
    code: int
    seconds: FiniteFloat
    error: str


class _Cycle(BaseModel):
    """The parts of a cycle's journal entry that are read."""

    started: str
    outcome: str
    code: int = Field(ge=0, le=255)
    seconds: FiniteFloat
    ended: FiniteFloat | None = None
    succeeded: FiniteFloat | None = None
    stages: list[_Stage]
    notes: list[str]


def _last(workspace: Workspace) -> dict[str, Any]:
    """Read cycle.json; empty where it is absent or damaged, since the next cycle replaces it."""
    try:
        entry: dict[str, Any] = read_json(workspace.last_cycle)
        _Cycle.model_validate(entry, strict=True)
    except (OSError, DamagedFileError, ValueError, RecursionError):
        return {}
    return dict(entry)


def _text(hour: Hour | None) -> str | None:
    return None if hour is None else str(hour)
