"""How a workspace stands at a time: what `convcast status` shows, metrics.prom exports and a check goes by."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

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
    """A workspace at a time, in the terms of who runs it."""

    clock: np.datetime64
    """UTC, seconds."""
    expected: Hour
    """The newest hour whose analysis should be published."""
    analysis: Hour | None
    """The newest that the dataset holds."""
    forecast: Hour | None
    """Initial time of the newest complete forecast."""
    late: tuple[Hour, ...]
    """Hours that should be published by now and are not here."""
    gaps: tuple[Hour, ...]
    """Hours, as far back as a cycle catches up, that did not come, or were rejected."""
    due: int
    """Forecasts that could be scored and have not been."""
    free: int
    """Bytes of the disk."""
    skill: tuple[Skill, ...]
    """Recent, by field."""
    last: dict[str, Any]
    """The last cycle's journal entry, or nothing."""
    ignored_files: list[str]
    """Sentences that name files in a forecast's or a model's place which are left alone."""

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
    operations = settings.operations
    return CycleLimits(round(operations.max_catch_up), operations.every, settings.model.history)


def late_window(settings: Settings) -> int:
    """How many of the newest hours may be late; older ones are gaps, as `fetch` has it."""
    return max(1, math.ceil(settings.archive.late_hours) - 1)


def current_time(now: str | None, settings: Settings, workspace: Workspace) -> np.datetime64:
    """The time to go by: what is said, else for the simulated archive when its world ends, else the clock's, UTC."""
    if now is not None:
        return parse_time(now)
    if simulated(settings, workspace):
        simulation = settings.simulation
        return parse_time(simulation.start) + np.timedelta64(24 * simulation.days, "h")
    return np.datetime64("now", "s")


def simulated(settings: Settings, workspace: Workspace) -> bool:
    """Whether the workspace lives in the simulated world, whose time is not ours."""
    return "simulated" in settings.archive.sources or workspace.simulated.is_dir()


def assess(reader: InventoryReader, clock: np.datetime64, inventory: Inventory | None = None) -> WorkspaceStatus:
    """How the workspace stands at this time."""
    workspace, settings = reader.workspace, reader.settings
    limits = cycle_limits(settings)
    expected = expected_hour(clock, settings.dataset.analysis_lead)
    there = inventory or reader.read(expected, since=expected - lookback(limits))
    newest = there.newest or reader.newest(before=expected - lookback(limits))
    ok = [hour for hour in there.hour_status if there.ok(hour)]
    return WorkspaceStatus(
        clock=clock,
        expected=expected,
        analysis=max(ok, default=None),
        forecast=newest,
        late=late_hours(there, within=late_window(settings)),
        gaps=gaps(there, limits, within=late_window(settings)),
        due=len(due_cases(there, limits)),
        free=shutil.disk_usage(workspace.root).free,
        skill=tuple(reader.history.recent(expected, settings.operations.skill_days)),
        last=_last(workspace),
        ignored_files=there.left_alone,
    )


def lookback(limits: CycleLimits) -> np.timedelta64:
    """How far back a cycle looks at forecasts: those it may complete, and those whose valid time it may score."""
    return np.timedelta64(limits.catch_up + LONGEST_LEAD, "h")


class _Stage(BaseModel):
    stage: str
    code: int
    seconds: FiniteFloat
    said: str


class _Cycle(BaseModel):
    """What is read of a cycle's journal entry."""

    started: str
    outcome: str
    code: int = Field(ge=0, le=255)
    seconds: FiniteFloat
    ended: FiniteFloat | None = None
    succeeded: FiniteFloat | None = None
    stages: list[_Stage]
    notes: list[str]


def _last(workspace: Workspace) -> dict[str, Any]:
    """Nothing where cycle.json is absent, or is none: the next cycle replaces it."""
    try:
        found: dict[str, Any] = read_json(workspace.last_cycle)
        _Cycle.model_validate(found, strict=True)
    except (OSError, DamagedFileError, ValidationError, ValueError, RecursionError):
        return {}
    return dict(found)


def _text(hour: Hour | None) -> str | None:
    return None if hour is None else str(hour)


def describe_hours(hours: Sequence[Hour]) -> str:
    """`2024-05-06T21, T22 and 3 more`: which hours, for people."""
    shown = ", ".join(str(hour) for hour in hours[:4])
    return shown + (f" and {len(hours) - 4} more" if len(hours) > 4 else "")
