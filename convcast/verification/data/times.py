"""Which times of a file can be scored: whole hours, each of which the file holds once."""

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

SLACK = np.timedelta64(1, "s")
"""Distance from an hour that is the rounding of a file whose times are counted in days."""
NAMED = 3
"""Times that a reason names one by one."""


@dataclass(frozen=True)
class LeftOut:
    """Forecasts of a file that are not scored."""

    reason: str
    time: str
    """Their initial time or lead."""
    forecasts: int


@dataclass(frozen=True)
class Times:
    """The forecasts of a file that can be scored, and those that cannot."""

    inits: list[tuple[int, Hour]]
    """Place along `init_time`, and the hour."""
    leads: list[tuple[int, int]]
    """Place along `lead_time`, and the hours ahead."""
    left_out: tuple[LeftOut, ...]


def scorable_times(data: xr.Dataset, path: Path) -> Times:
    """The initial times and leads of an ensemble that are whole hours.

    `data` has `init_time` in datetime64 and `lead_time` in hours. Raises DamagedFileError where an initial time, a lead
    or a member is there twice.
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
    """The hour that is nearest to each time, and whether the time is that hour but for rounding.

    Raises DamagedFileError for values that are no times.
    """
    if times.dtype.kind != "M":
        raise DamagedFileError(
            f"{path} has times of type {times.dtype}, which are no dates",
            advice='give the coordinate units such as "hours since 1970-01-01", in the standard calendar',
        )
    exact = times.astype("datetime64[us]")
    hours = (exact + np.timedelta64(30, "m")).astype("datetime64[h]")
    return hours, np.abs(exact - hours) <= SLACK


def require_once(values: Sequence[Any], what: str, dimension: str, path: Path) -> None:
    """Raises DamagedFileError, naming it, where one of these values is there twice: it would be counted twice."""
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise DamagedFileError(
            f"{path} holds {what} {repeated[0]} twice",
            advice=f'keep one of each: data.drop_duplicates("{dimension}")',
        )


def reasons(left_out: Iterable[LeftOut]) -> Counter[str]:
    """Forecasts that are not scored by reason, which names the first of their times."""
    times: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for one in left_out:
        times.setdefault(one.reason, []).append(one.time)
        counts[one.reason] += one.forecasts
    found: Counter[str] = Counter()
    for reason, names in times.items():
        named = list(dict.fromkeys(names))
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        found[f"{reason} ({', '.join(named[:NAMED])}{more})"] = counts[reason]
    return found


def _name(time: np.datetime64) -> str:
    return str(np.datetime_as_string(time.astype("datetime64[s]"))).removesuffix(":00")
