"""Describe the calibration of an ensemble in words, as far as its intervals allow.

A calibrated ensemble, in which members and truth are exchangeable, has three properties. Its mean is not biased. Its
spread is as large as its error without the bias, which would look like a lack of spread. The truth lies beyond all
members with probability 2 / (M + 1).
"""

from __future__ import annotations

from collections.abc import Callable

from convcast.verification.results.table import Row

CALIBRATED = "calibrated"
UNKNOWN = "no interval"


def diagnose(find: Callable[[str], Row | None]) -> str:
    """Diagnose one system, field and lead from the rows that `find` returns; without intervals it is unknown."""
    bias, ratio, beyond = (find(score) for score in ("bias", "spread_error_ratio_centred", "outliers"))
    words = [
        *_outside(bias, 0.0, "biased low", "biased high"),
        *_outside(ratio, 1.0, "over-confident", "under-confident"),
    ]
    # A bias or a lack of spread explains outliers.
    words = words or _outside(beyond, 1.0, "too few outliers", "too many outliers")
    known = any(row is not None and row["low"] is not None for row in (bias, ratio, beyond))
    return ", ".join(words) or (CALIBRATED if known else UNKNOWN)


def _outside(row: Row | None, right: float, below: str, above: str) -> list[str]:
    if row is None or row["low"] is None:
        return []
    if row["high"] < right:
        return [below]
    return [above] if row["low"] > right else []
