"""How times, ranges, members and leads are written on the command line, in file names and in JSON.

Times are UTC and whole hours (`2024-05-06T21`), ranges `start/end` or `start/end/6h` with both ends included,
members `50` (the first fifty) or `0-49`, leads `1,3,6,12`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convcast.errors import SettingsError

Hour = np.datetime64
"""A time of unit hour, UTC."""
Hours = NDArray[np.datetime64]

HOUR = np.timedelta64(1, "h")


def parse_hour(text: str) -> Hour:
    """A whole hour, UTC, from ISO 8601 text (`2024-05-06T21`, `2024-05-06`, `2024-05-06T21:00Z`)."""
    refusal = SettingsError(f"{text!r} is not a whole hour", advice="write times as 2024-05-06T21 (UTC)")
    try:
        time = np.datetime64(text.strip().removesuffix("Z").removesuffix("+00:00"), "s")
    except ValueError:
        raise refusal from None
    hour: Hour = time.astype("datetime64[h]")
    if np.isnat(time) or time != hour:
        raise refusal
    return hour


def parse_time(text: str) -> np.datetime64:
    """A time to the second, UTC, from ISO 8601 text (`2024-05-06T21:05`)."""
    try:
        time: np.datetime64 = np.datetime64(text.strip().removesuffix("Z").removesuffix("+00:00"), "s")
    except ValueError:
        time = np.datetime64("NaT", "s")
    if np.isnat(time):
        raise SettingsError(f"{text!r} is not a time", advice="write 2024-05-06T21:05 (UTC)")
    return time


def parse_hours(text: str) -> Hours:
    """Hours from `time`, `start/end` or `start/end/6h`, both ends included."""
    parts = text.split("/")
    if len(parts) == 1:
        return np.array([parse_hour(text)], "datetime64[h]")
    step = re.fullmatch(r"(\d+)h", parts[2]) if len(parts) == 3 else None
    if len(parts) > 3 or (len(parts) == 3 and (step is None or int(step[1]) == 0)):
        raise SettingsError(f"{text!r} is not a range", advice="write start/end or start/end/6h")
    start, end = parse_hour(parts[0]), parse_hour(parts[1])
    if end < start:
        raise SettingsError(f"the range {text!r} ends before it starts", advice="write start/end")
    return np.arange(start, end + HOUR, int(step[1]) if step else 1)


def parse_numbers(text: str, what: str) -> tuple[int, ...]:
    """Whole numbers from `1,3,6` and `0-49`, in rising order, each once."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise SettingsError(f"{text!r} does not name {what}", advice="write 1,3,6 or 0-49")
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(numbers))


def parse_members(text: str) -> tuple[int, ...]:
    """Member numbers: `50` is the first fifty, `0-49` the same, `3,17` those two."""
    members = tuple(range(int(text))) if text.isdecimal() else parse_numbers(text, "members")
    if not members:
        raise SettingsError("an ensemble of no members was asked for", advice="use --members 50")
    return members


def parse_leads(text: str) -> tuple[int, ...]:
    """Lead times in hours, 1 or more."""
    leads = parse_numbers(text, "leads")
    if leads[0] < 1:
        raise SettingsError("a lead of 0 hours is the analysis itself", advice="use --leads 1")
    return leads


def parse_duration(text: str, unit: Literal["s", "m", "h", "d"]) -> float:
    """Seconds from `90s`, `50m`, `2h` or `7d`; a bare number is of `unit`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text)
    if match is None:
        raise SettingsError(f"{text!r} is not a length of time", advice="write 90s, 50m, 2h or 7d")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or unit]


def compact(time: Hour) -> str:
    """`20240506T21`: a time as file names have it."""
    return str(time.astype("datetime64[h]")).replace("-", "")


def from_compact(text: str) -> Hour | None:
    """The time a file is named for, or None where it is named otherwise."""
    match = re.fullmatch(r"(\d{4})(\d{2})(\d{2})T(\d{2})", text)
    if match is None:
        return None
    try:
        return np.datetime64(f"{match[1]}-{match[2]}-{match[3]}T{match[4]}", "h")
    except ValueError:
        return None


def describe(times: Sequence[Hour] | Hours) -> str:
    """`2024-05-06T21 to 2024-05-08T03 (5 hours)`, for people."""
    if len(times) == 0:
        return "no hours"
    ordered = np.sort(np.asarray(times, "datetime64[h]"))
    count = f"{len(ordered)} hour{'s' * (len(ordered) != 1)}"
    return f"{ordered[0]} ({count})" if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]} ({count})"
