"""What stages and cycles come to: exit codes in words, which of them matter, and the commands that are told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from convcast.operations import stages
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


def tell(setting: str, command: Sequence[str], document: dict[str, Any], *, seconds: float) -> str | None:
    """Run the command of this setting with the document as JSON on stdin; why that failed, if it did."""
    if not command:
        return None
    try:
        ended = stages.run_command(command, seconds=seconds, grace=5, stdin=json.dumps(document, default=str))
    except OSError as error:
        return f"{setting}: {command[0]} cannot be run ({error.strerror})"
    if ended.stopped:
        return f"{setting} took longer than {seconds:g} s and was stopped"
    return f"{setting} ended with {ended.code}: {ended.said}" if ended.code else None
