"""Run verbs from a verb, one after the other, as a user would."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time

from convcast.cli.common.console import Terminal
from convcast.errors import ConvcastError


def run_verb(terminal: Terminal, words: list[str], *, result: bool) -> float:
    """Run one verb as a user would, and return the seconds it took; with `result` its result goes to stdout."""
    from convcast.operations.stages import PROGRAM

    terminal.say("", f"$ convcast {shlex.join(words)}")
    flags = ["-v"] * terminal.verbose + ["-q"] * terminal.quiet + ["--json"] * (terminal.as_json and result)
    started = time.monotonic()
    finished = subprocess.run([*PROGRAM, *words, *flags], stdout=None if result else sys.stderr, check=False)
    if finished.returncode:
        advice = "fix the problem and run the same command again; it continues from there"
        stopped = ConvcastError(f"`convcast {words[0]}` stopped with {finished.returncode}", advice=advice)
        stopped.exit_code = finished.returncode if finished.returncode > 0 else 1
        terminal.as_json = terminal.as_json and not result  # the verb that failed has printed the failure
        terminal.fail(stopped)
    return time.monotonic() - started
