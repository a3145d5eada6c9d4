"""What an ensemble's calibration can be said to be, in words, by intervals alone.

Three properties of a calibrated ensemble, whose members and truth are alike: its mean is not biased; its spread is as
large as its error, once the bias is taken off, which would pass for a lack of spread; and the truth lies beyond all
members as often as any two of M + 1 like values would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convcast.verification.summary import Row

CALIBRATED = "calibrated"
UNKNOWN = "no interval"


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong; nothing where every interval holds what a calibrated ensemble has."""

    words: tuple[str, ...]
    known: bool
    """Whether there are intervals at all."""

    def __str__(self) -> str:
        return ", ".join(self.words) or (CALIBRATED if self.known else UNKNOWN)


def diagnose(find: Callable[[str], Row | None]) -> Diagnosis:
    """Of one system, field and lead, whose row of a score `find` gives."""
    words = []
    bias, ratio, beyond = (find(score) for score in ("bias", "spread_error_ratio_centred", "outliers"))
    known = [row for row in (bias, ratio, beyond) if row is not None and row["low"] is not None]
    if bias in known:
        words += _outside(bias, 0.0, "biased low", "biased high")
    if ratio in known:
        words += _outside(ratio, 1.0, "over-confident", "under-confident")
    if beyond in known and not words:  # a bias or a lack of spread explains them
        words += _outside(beyond, 1.0, "too few outliers", "too many outliers")
    return Diagnosis(tuple(words), bool(known))


def _outside(row: Row | None, right: float, below: str, above: str) -> list[str]:
    assert row is not None
    if row["high"] < right:
        return [below]
    return [above] if row["low"] > right else []
