"""What stages and cycles come to: exit codes in words, and which of them matter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from convcast.operations.plan import Stage

CODES = {0: "ok", 2: "unusable", 3: "incomplete", 4: "late", 5: "locked", 6: "damaged"}
"""Exit codes of the verbs, in words; any other is a failure."""
INTERRUPTED = 130
WORST_FIRST = (1, 2, 6, 3, 5, 4, 0)
QUIET = (0, 4, 5, INTERRUPTED)
"""Exit codes that nobody needs to be woken for."""
GIVE_UP = (1, 2, 5, 6)
"""Exit codes after which a stage would fail again in the same cycle."""


@dataclass(frozen=True)
class StageDone:
    """What became of one stage."""

    stage: Stage
    about: str
    """Of which hours, or what it found."""
    code: int
    outcome: str
    """The code in words, or `deadline`."""
    seconds: float
    said: str = ""
    """Its last words, where it did not end well."""


def in_words(code: int) -> str:
    return "interrupted" if code == INTERRUPTED else CODES.get(code, "failed")


def worst(codes: Iterable[int]) -> int:
    found = {0, *codes}
    return next(code for code in WORST_FIRST if code in found)


def stage_seconds(cycle: dict[str, object]) -> dict[str, float]:
    """Seconds of each stage of a cycle's journal entry, in the order in which they first came."""
    total: dict[str, float] = {}
    stages = cycle.get("stages")
    for stage in stages if isinstance(stages, list) else ():
        total[stage["stage"]] = round(total.get(stage["stage"], 0.0) + stage["seconds"], 3)
    return total
