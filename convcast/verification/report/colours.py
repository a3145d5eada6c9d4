"""Colours and markers of systems in figures, after Okabe and Ito (2008)."""

from __future__ import annotations

SYSTEMS: dict[str, tuple[str, str]] = {
    "convcast": ("#0072b2", "o"),
    "exact": ("#111111", "D"),
    "advection": ("#d55e00", "s"),
    "persistence": ("#8a8a8a", "^"),
    "climatology": ("#009e73", "v"),
    "hrrr": ("#cc79a7", "P"),
    "time-lagged": ("#882255", "X"),
    "refs": ("#b8860b", "p"),
    "href": ("#6f4e9c", "h"),
    "hrrrcast": ("#2f7f3a", "<"),
    "raw": ("#7fb2d6", "d"),
}
"""Colour and marker by system."""
