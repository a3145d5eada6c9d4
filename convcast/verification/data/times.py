"""Times of a file that can be scored: whole hours that occur once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from convcast.errors import DamagedFileError
from convcast.notation import Hour, Hours
from convcast.text import list_some

SLACK = np.timedelta64(1, "s")
"""Maximum rounding error of a whole hour in a file whose times are fractions of days."""
NAMED = 3
"""Maximum number of times that a reason lists."""


@dataclass(frozen=True)
class LeftOut:
    """Forecasts of a file that are not scored."""

    reason: str
    time: str
    """Initial time or lead of the forecasts."""
    forecasts: int
    """Number of forecasts."""


@dataclass(frozen=True)
class Times:
    """Initial times and leads of a file that can be scored, and the forecasts that cannot."""

    inits: list[tuple[int, Hour]]
    """Index along `init_time` and initial time, each."""
    leads: list[tuple[int, int]]
    """Index along `lead_time` and lead time in hours, each."""
    left_out: tuple[LeftOut, ...]


def scorable_times(data: xr.Dataset, path: Path) -> Times:
    """Find the initial times and leads of an ensemble that are whole hours.

    Args:
        data: Ensemble with `init_time` in datetime64 and `lead_time` in hours.
        path: File it was read from, for error messages.

    Raises:
        DamagedFileError: An initial time, a lead or a member occurs twice.
    """
    inits, whole = nearest_hours(data["init_time"].values, path)
    leads = np.asarray(data["lead_time"].values, float)
    near = np.abs(leads - np.rint(leads)) <= SLACK / np.timedelta64(1, "h")
    ahead = near & (leads > 0.5)
    kept = [(int(i), inits[i]) for i in np.flatnonzero(whole)]
    kept_leads = [(int(i), int(np.rint(leads[i]))) for i in np.flatnonzero(ahead)]
    left_out = [
        *(
            LeftOut("initial time between hours", _name(time), max(1, len(kept_leads)))
            for time in data["init_time"].values[~whole]
        ),
        *(LeftOut("lead between hours", f"{lead:.6g} h", max(1, len(kept))) for lead in leads[~near]),
        *(LeftOut("lead of 0 h or less", f"{lead:g} h", max(1, len(kept))) for lead in leads[near & ~ahead]),
    ]
    require_once([init for _, init in kept], "the initial time", "init_time", path)
    require_once([f"{lead} h" for _, lead in kept_leads], "the lead", "lead_time", path)
    if "number" in data.coords:
        require_once(data["number"].values.tolist(), "member", "number", path)
    return Times(kept, kept_leads, tuple(left_out))


def nearest_hours(times: NDArray[Any], path: Path) -> tuple[Hours, NDArray[np.bool_]]:
    """Return the nearest hour to each time, and whether the time equals it up to rounding.

    Raises:
        DamagedFileError: The values are not dates.
    """
    if times.dtype.kind != "M":
        raise DamagedFileError(
            f"{path} has times of type {times.dtype}, which are not dates",
            advice='give the coordinate units such as "hours since 1970-01-01", in the standard calendar',
        )
    exact = times.astype("datetime64[us]")
    hours = (exact + np.timedelta64(30, "m")).astype("datetime64[h]")
    return hours, np.abs(exact - hours) <= SLACK


def require_once(values: Sequence[Any], what: str, dimension: str, path: Path) -> None:
    """Refuse a coordinate with a repeated value, which would be scored twice.

    Args:
        values: Values of the coordinate.
        what: Name of a value in the error message.
        dimension: Name of the coordinate.
        path: File it was read from, for error messages.

    Raises:
        DamagedFileError: A value occurs twice.
    """
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise DamagedFileError(
            f"{path} holds {what} {repeated[0]} twice",
            advice=f'keep one of each: data.drop_duplicates("{dimension}")',
        )


def reasons(left_out: Iterable[LeftOut]) -> Counter[str]:
    """Count the forecasts that are not scored by reason; a reason lists their first times."""
    times: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for one in left_out:
        times.setdefault(one.reason, []).append(one.time)
        counts[one.reason] += one.forecasts
    by_reason: Counter[str] = Counter()
    for reason, names in times.items():
        by_reason[f"{reason} ({list_some(list(dict.fromkeys(names)), NAMED)})"] = counts[reason]
    return by_reason


def _name(time: np.datetime64) -> str:
    return str(np.datetime_as_string(time.astype("datetime64[s]"))).removesuffix(":00")
