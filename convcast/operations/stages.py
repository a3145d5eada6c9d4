"""Run a stage in a process of its own, which frees its memory, contains its crashes and reports by its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from convcast.files import parse_json
from convcast.operations.plan import Stage

CODES = {0: "ok", 2: "unusable", 3: "incomplete", 4: "late", 5: "locked", 6: "damaged"}
"""Names of the verbs' exit codes; any other code is a failure."""
INTERRUPTED = 130
WORST_FIRST = (1, 2, 6, 3, 5, 4, 0)
"""Exit codes of a cycle, the most severe first."""
QUIET = (0, 4, 5, INTERRUPTED)
"""Exit codes that do not run the on_failure hook."""
GIVE_UP = (1, 2, 5, 6)
"""Exit codes after which a stage is not tried again in the same cycle."""
PROGRAM = (sys.executable, "-P", "-m", "convcast")
"""Command that runs the program; -P keeps modules of the working directory from being imported."""
STOPPED = "told to stop at the deadline"
INTERRUPTED_GRACE = 1.0
"""Seconds that a process has to end after its caller is interrupted, which itself has two seconds."""
LAST_WORDS = 400
"""Maximum number of characters kept of the end of stderr."""


@dataclass(frozen=True)
class ProcessResult:
    """The result of a finished process."""

    code: int
    """Its exit code; negative where a signal ended it."""
    seconds: float
    result: dict[str, Any]
    """The JSON object it printed, or empty."""
    stderr: str
    """The end of its stderr."""
    stopped: bool = False
    """Whether it was stopped at its time limit."""


def run(words: Sequence[str], *, seconds: float, grace: float) -> ProcessResult:
    """Run `convcast WORDS`; an interruption of the caller ends the process too.

    Args:
        words: Words of the command line after `convcast`.
        seconds: Time after which the process is told to end.
        grace: Further seconds after which it is killed.
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
    """Run any command as `run` does, without a shell.

    Args:
        command: The program and its arguments.
        seconds: Time after which the process is told to end.
        grace: Further seconds after which it is killed.
        stdin: Text for the standard input, which is empty by default.
        env: Environment variables in place of those of this process.
    """
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
            start_new_session=True,  # so that processes that it starts end with it
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
    last_words = " ".join(err.split())[-LAST_WORDS:]  # an error and its advice
    return ProcessResult(process.returncode, round(time.monotonic() - begun, 3), _json(out), last_words, stopped)


@contextmanager
def _signals_held_back() -> Iterator[Callable[[], None]]:
    """Hold back SIGINT and SIGTERM until the yielded function is called.

    An interruption while a process is being started would leave it running, as its id is not known yet.
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
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _json(text: str) -> dict[str, Any]:
    lines = text.strip().splitlines()
    try:
        value = parse_json(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class StageResult:
    """The result of one stage of a cycle."""

    stage: Stage
    about: str
    """Hours of the stage, or its findings."""
    code: int
    outcome: str
    """Name of the exit code, or `deadline`."""
    seconds: float
    error: str = ""
    """The end of its stderr if it failed, otherwise empty."""


def in_words(code: int) -> str:
    """Return the name of an exit code."""
    return "interrupted" if code == INTERRUPTED else CODES.get(code, "failed")


def worst(codes: Iterable[int]) -> int:
    """Return the most severe of some exit codes; 0 if there are none."""
    return min(codes, key=WORST_FIRST.index, default=0)


def stage_seconds(cycle: dict[str, object]) -> dict[str, float]:
    """Return the seconds of each stage of a cycle's journal entry, in the order of their first runs."""
    total: dict[str, float] = {}
    stages = cycle.get("stages")
    for stage in stages if isinstance(stages, list) else ():
        total[stage["stage"]] = round(total.get(stage["stage"], 0.0) + stage["seconds"], 3)
    return total
