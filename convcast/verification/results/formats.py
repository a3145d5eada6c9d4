"""Format scores and names of systems for people: in reports, certificates, warnings and on the terminal."""

from __future__ import annotations

import math

from convcast.verification.results.table import Row

SYSTEM_NAMES = {
    "hrrr": "HRRR",
    "time-lagged": "time-lagged HRRR",
    "refs": "REFS",
    "href": "HREF",
    "hrrrcast": "HRRRCast",
    "raw": "its members before calibration",
}
"""Names of systems in sentences, where they differ from those in options."""

DIGITS = 3
"""Significant digits of the largest of a value and the ends of its interval, which all have as many decimals."""
MAX_DECIMALS = 6


def system_name(system: str) -> str:
    """Return the name of a system in sentences: `HRRR`, `time-lagged HRRR`, `persistence`."""
    return SYSTEM_NAMES.get(system, system)


def number(row: Row | None, decimals: int | None = None) -> str:
    """Return the value of a row; a dash if there is none.

    Args:
        row: Row of the table of scores.
        decimals: Number of decimals; by default as many as give DIGITS significant digits.
    """
    if row is None or row["value"] is None:
        return "–"
    return f"{row['value']:.{_decimals(row) if decimals is None else decimals}f}"


def interval(row: Row | None, decimals: int | None = None) -> str:
    """Return the interval of a row, with the decimals of `number`: `0.40 to 0.44`; empty if there is none."""
    if row is None or row["low"] is None or row["high"] is None:
        return ""
    decimals = _decimals(row) if decimals is None else decimals
    return f"{row['low']:.{decimals}f} to {row['high']:.{decimals}f}"


def _decimals(row: Row) -> int:
    largest = max(abs(row[name]) for name in ("value", "low", "high") if row[name] is not None)
    magnitude = math.floor(math.log10(float(f"{largest:.{DIGITS - 1}e}"))) if largest else 0
    return min(max(DIGITS - 1 - magnitude, 0), MAX_DECIMALS)
