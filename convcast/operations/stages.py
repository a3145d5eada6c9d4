"""A stage as a process of its own: its memory is given back, its crash is contained, its exit code is the contract."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from convcast.files import parse_json
from convcast.operations.plan import Stage

CODES = {0: "ok", 2: "unusable", 3: "incomplete", 4: "late", 5: "locked", 6: "damaged"}
"""Exit codes of the verbs, in words; any other is a failure."""
INTERRUPTED = 130
WORST_FIRST = (1, 2, 6, 3, 5, 4, 0)
QUIET = (0, 4, 5, INTERRUPTED)
"""Exit codes that nobody needs to be woken for."""
GIVE_UP = (1, 2, 5, 6)
"""Exit codes after which a stage would fail again in the same cycle."""
PROGRAM = (sys.executable, "-P", "-m", "convcast")
"""A verb of its own process. Without -P, a calendar.py in the working directory would be run as the library's."""
STOPPED = "told to stop at the deadline"
INTERRUPTED_GRACE = 1.0
"""Seconds that a process has to end when the caller itself is told to, which has two."""
LAST_WORDS = 400
"""Characters of what a stage said last that are kept."""


@dataclass(frozen=True)
class ProcessResult:
    """How a process ended."""

    code: int
    """Its exit code; negative where a signal ended it."""
    seconds: float
    result: dict[str, Any]
    """The JSON object it printed, or nothing."""
    said: str
    """Its last words on stderr."""
    stopped: bool = False
    """Whether it was told to stop."""


def run(words: Sequence[str], *, seconds: float, grace: float) -> ProcessResult:
    """Run `convcast WORDS` for at most so many seconds; then it is told to end, and after `grace` seconds killed.

    Whatever interrupts the caller ends the process too.
    """
    return run_command([*PROGRAM, *words], seconds=seconds, grace=grace)


def run_command(
    command: Sequence[str],
    *,
    seconds: float,
    grace: float,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
) -> ProcessResult:
    """Run any command, a list of words and no shell, as `run` does; `env` are its variables, by default ours."""
    begun = time.monotonic()
    stopped = False
    with (
        _signals_held_back() as let_through,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=env,
            start_new_session=True,  # so that what it starts ends with it
        ) as process,
    ):
        try:
            let_through()
            out, err = process.communicate(stdin, timeout=max(0.0, seconds))
        except subprocess.TimeoutExpired:
            stopped = True
            out, err = _stop(process, grace)
        except BaseException:
            _stop(process, min(grace, INTERRUPTED_GRACE))
            raise
    return ProcessResult(process.returncode, round(time.monotonic() - begun, 3), _json(out), _last(err), stopped)


@contextmanager
def _signals_held_back() -> Iterator[Callable[[], None]]:
    """What would interrupt this process waits until it is let through: a process that is just being started has no name
    yet by which it could be ended, and would be left behind.
    """
    came: list[int] = []
    ours: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():  # others are not interrupted
        ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        ours = {number: handler for number, handler in ours.items() if callable(handler)}

    def let_through() -> None:
        while ours:
            signal.signal(*ours.popitem())
        while came:
            signal.raise_signal(came.pop())

    for number in ours:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield let_through
    finally:
        let_through()


def _stop(process: subprocess.Popen[str], grace: float) -> tuple[str, str]:
    _signal(process, signal.SIGTERM)
    try:
        return process.communicate(timeout=grace)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        return process.communicate()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _json(text: str) -> dict[str, Any]:
    lines = text.strip().splitlines()
    try:
        found = parse_json(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _last(text: str) -> str:
    """The last lines, those of an error: a sentence and its advice."""
    return " ".join(text.split())[-LAST_WORDS:]


@dataclass(frozen=True)
class StageResult:
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
