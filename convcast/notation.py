"""Parse and format times, ranges, members, lead times and durations.

Times are UTC and whole hours (`2024-05-06T21` or `2024050621`), ranges `start/end` or `start/end/6h` with both ends
included, members `50` (the first fifty) or `0-49`, leads `1,3,6,12`. No other module parses dates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convcast.errors import SettingsError

Hour = np.datetime64
"""A time of unit hour, UTC."""
Hours = NDArray[np.datetime64]

HOUR = np.timedelta64(1, "h")
EARLIEST = np.datetime64("2014-01-01T00", "h")
"""Earliest accepted time: HRRR became operational in 2014."""
DAYS_AHEAD = 30
"""Maximum number of days that a time may lie after today, for forecasts and simulated worlds."""
MAX_MEMBERS = 10_000
"""Maximum number of members of an ensemble."""
MAX_LEAD = 240
"""Maximum lead time, hours."""
MAX_DURATION = 100 * 365 * 86400
"""Maximum duration, seconds. Timers of the operating system end at about 292 years."""

_TIME = re.compile(
    r"\d{4}(-?)\d\d\1\d\d"
    # The T before the hour is optional after a date of eight digits: YYYYMMDDHH.
    r"((?:[T ]|(?<=\d{8}))\d\d(:?\d\d(:?\d\d(\.\d{1,9})?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?",
    re.ASCII,
)
"""Forms of a time that are accepted; ISO 8601 has more, such as week dates."""


def parse_hour(text: str) -> Hour:
    """Parse a whole hour, UTC.

    Args:
        text: `2024-05-06T21`, `2024050621`, `20240506T21`, `2024-05-06` or `2024-05-06T15:00-06:00`, for example.

    Raises:
        SettingsError: The text is not a whole hour, or HRRR does not exist for it.
    """
    time = _time(text)
    if time is None or time != time.astype("datetime64[h]"):
        raise SettingsError(f"{_shown(text)} is not a whole hour", advice="write times as 2024-05-06T21 (UTC)")
    hour: Hour = time.astype("datetime64[h]")
    return _checked(hour, text)


def parse_time(text: str) -> np.datetime64:
    """Parse a time to the second, UTC (`2024-05-06T21:05`).

    Raises:
        SettingsError: The text is not a time, or HRRR does not exist for it.
    """
    time = _time(text)
    if time is None:
        raise SettingsError(f"{_shown(text)} is not a time", advice="write 2024-05-06T21:05 (UTC)")
    return _checked(time.astype("datetime64[s]"), text)


def parse_hours(text: str) -> Hours:
    """Parse the hours of `time`, `start/end` or `start/end/6h`, both ends included.

    Raises:
        SettingsError: The text is not a range, or the range ends before it starts.
    """
    parts = text.split("/")
    if len(parts) == 1:
        return np.array([parse_hour(text)], "datetime64[h]")
    step = re.fullmatch(r"0*([1-9]\d{0,5})h", parts[2], re.ASCII) if len(parts) == 3 else None
    if len(parts) > 3 or (len(parts) == 3 and step is None):
        raise SettingsError(f"{_shown(text)} is not a range", advice="write start/end or start/end/6h")
    return hours_between(parse_hour(parts[0]), parse_hour(parts[1]), int(step[1]) if step else 1)


def hours_between(start: Hour, end: Hour, step: int = 1) -> Hours:
    """Return the hours from `start` to `end`, both included, `step` hours apart.

    Raises:
        SettingsError: The range ends before it starts.
    """
    if end < start:
        raise SettingsError(f"the range {start}/{end} ends before it starts", advice="write start/end")
    return np.arange(start, end + HOUR, step)


def parse_numbers(text: str, what: str, *, most: int = MAX_MEMBERS) -> tuple[int, ...]:
    """Parse whole numbers (`1,3,6` or `0-49`) into ascending order without repeats.

    Args:
        text: Text to parse.
        what: What the numbers are, in the plural, for the error message.
        most: Highest allowed number.

    Raises:
        SettingsError: The text is not a list of numbers, or a number is higher than `most`.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part, re.ASCII)
        first, last = (_number(match[1]), _number(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise SettingsError(f"{_shown(text)} does not name {what}", advice="write 1,3,6 or 0-49")
        if last > most:
            raise SettingsError(f"{_shown(text)} names {what} above {most}", advice="write 1,3,6 or 0-49")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def join_numbers(numbers: Sequence[int]) -> str:
    """Format whole numbers as `parse_numbers` reads them, with runs as ranges (`0-4,7`)."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def parse_members(text: str) -> tuple[int, ...]:
    """Parse member numbers: `50` is the first fifty, `0-49` the same, `3,17` those two.

    Raises:
        SettingsError: The text names no members, or more than an ensemble can have.
    """
    if not re.fullmatch(r"\d+", text, re.ASCII):
        return parse_numbers(text, "members", most=MAX_MEMBERS - 1)
    count = _number(text)
    if count == 0:
        raise SettingsError("an ensemble needs at least one member", advice="use --members 50")
    if count > MAX_MEMBERS:
        raise SettingsError(f"an ensemble has at most {MAX_MEMBERS} members", advice="use --members 50")
    return tuple(range(count))


def parse_leads(text: str) -> tuple[int, ...]:
    """Parse lead times in hours, 1 or more.

    Raises:
        SettingsError: The text names no leads, or a lead is 0 or longer than MAX_LEAD hours.
    """
    leads = parse_numbers(text, "leads", most=MAX_LEAD)
    if leads[0] < 1:
        raise SettingsError("a lead of 0 hours is the analysis itself", advice="use --leads 1")
    return leads


def parse_duration(text: str, unit: Literal["s", "m", "h", "d"]) -> float:
    """Parse a duration (`90s`, `50m`, `2h`, `7d`, or a number of `unit`) into seconds.

    Raises:
        SettingsError: The text is not a duration, or it is longer than a hundred years.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text, re.ASCII)
    if match is None:
        raise SettingsError(f"{_shown(text)} is not a length of time", advice="write 90s, 50m, 2h or 7d")
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or unit]
    if seconds > MAX_DURATION:
        raise SettingsError(f"{_shown(text)} is longer than a hundred years", advice="write 90s, 50m, 2h or 7d")
    return seconds


def _time(text: str) -> np.datetime64 | None:
    """Parse a time to the microsecond, UTC; None if the text is not a time."""
    text = str(text).strip().upper()  # a damaged file may hold another type
    if _TIME.fullmatch(text) is None:
        return None
    try:
        time = datetime.fromisoformat(re.sub(r"^(\d{8})(?=\d)", r"\1T", text))
        return np.datetime64(time.replace(tzinfo=None) - (time.utcoffset() or timedelta()), "us")
    except (ValueError, OverflowError):
        return None


def _checked(time: np.datetime64, text: str) -> np.datetime64:
    """Return the time, or raise SettingsError if no HRRR file can have it."""
    latest = np.datetime64("now").astype("datetime64[D]") + DAYS_AHEAD
    if EARLIEST <= time < latest + 1:
        return time
    raise SettingsError(
        f"{_shown(text)} is not between {EARLIEST.astype('datetime64[D]')} and {latest}",
        advice="write times as 2024-05-06T21 (UTC)",
    )


def _number(digits: str) -> int:
    """Return the number that decimal digits give; beyond 18 digits, a number that is too high for any purpose."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= 18 else 10**18


def _shown(text: str) -> str:
    """Shorten a typed text to one line."""
    shown = repr(text)
    return shown if len(shown) <= 62 else f"{shown[:57]}..."


def compact(time: Hour) -> str:
    """Format a time for file names (`20240506T21`)."""
    return str(time.astype("datetime64[h]")).replace("-", "")


def from_compact(text: str) -> Hour | None:
    """Parse the time in a file name (`20240506T21`); None if there is none."""
    match = re.fullmatch(r"(\d{4})(\d{2})(\d{2})T(\d{2})", text, re.ASCII)
    if match is None:
        return None
    try:
        return np.datetime64(f"{match[1]}-{match[2]}-{match[3]}T{match[4]}", "h")
    except ValueError:
        return None


def without_credentials(text: str) -> str:
    """Remove user names and passwords from the addresses in a text."""
    return re.sub(r"://[^/?#\s]*@", "://", text)


def consecutive(hours: Hours) -> list[Hours]:
    """Split hours into runs in which each hour follows the one before; an empty array has no run."""
    runs: list[Hours] = np.split(hours, np.flatnonzero(np.diff(hours) != HOUR) + 1)
    return runs if hours.size else []


def describe(times: Sequence[Hour] | Hours) -> str:
    """Summarise times for display (`2024-05-06T21 to 2024-05-08T03 (5 hours)`)."""
    if len(times) == 0:
        return "no hours"
    ordered = np.sort(np.asarray(times, "datetime64[h]"))
    count = f"{len(ordered)} hour{'s' * (len(ordered) != 1)}"
    return f"{ordered[0]} ({count})" if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]} ({count})"
