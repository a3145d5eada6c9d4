"""`convcast demo`: run the five main verbs on the simulated archive."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from convcast.cli.common.chain import run_verb
from convcast.cli.common.console import duration
from convcast.cli.common.session import Command, verb

DAYS = 22
"""Days of simulated weather: 14 to train on and 8 to test on."""
TEST_INITS = "2024-05-23T06/2024-05-30T22/8h"
QUICK_INITS = "2024-05-23T06/2024-05-30T22/24h"


@verb(without=("settings", "workspace"))
def demo(
    command: Command,
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="Folder for the demo; a second run continues in it.")
    ] = Path("convcast-demo"),
    minutes: Annotated[float | None, typer.Option("--minutes", help="Training time (default: 4.5).")] = None,
    members: Annotated[int, typer.Option("--members", min=2, help="Members of each ensemble.")] = 50,
    quick: Annotated[
        bool, typer.Option("--quick", help="Make fewer forecasts, to see it run rather than to judge it.")
    ] = False,
) -> None:
    """Run everything end to end on the simulated archive: no account, no network, no GPU; about 10 minutes.

    A small stochastic storm world is written as real GRIB2 and fetched as NOAA's files are. The model learns from 14
    days of it, forecasts the next 8, and is scored beside the world's exact predictive ensemble, which no model can
    beat, and a baseline without any network (advection), which a model must beat.
    """
    terminal = command.terminal
    inits = QUICK_INITS if quick else TEST_INITS
    started = time.monotonic()
    train = [f"--max-minutes={minutes}"] if minutes is not None else []
    against = ["--against", "exact", "--against", "advection", "--against", "persistence", "--against", "climatology"]
    steps: list[list[str]] = [
        ["fetch", "--source", "simulated", "--days", str(DAYS), "--preset", "demo"],
        ["preprocess"],
        ["train", *train],
        ["sample", "--init", inits, "--members", str(members)],
        ["verify", "--init", inits, *against, "--name", "demo"],
    ]
    times = []
    for words in steps:
        seconds = run_verb(terminal, [*words, "-w", str(workspace)], result=words is steps[-1])
        times.append(f"{words[0]} {duration(seconds)}")
    terminal.say("", f"done in {duration(time.monotonic() - started)}: {', '.join(times)}")
    terminal.say(f"the report: {workspace / 'verification' / 'demo' / 'report.html'}")
    program = "convcast" if shutil.which("convcast") else sys.argv[0]
    terminal.say("", "next, on this simulated world:")
    terminal.say(f"  {program} sample --init latest --members 100 -w {workspace}")
    terminal.say(f"  {program} status -w {workspace}")
    terminal.say("and on real HRRR analyses (3.3 GB; training wants a GPU):")
    terminal.say(f"  {program} fetch --days 14 && {program} preprocess && {program} train --phase 1")
