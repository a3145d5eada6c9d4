"""`convcast demo`: run the five main verbs on the simulated archive."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from convcast.cli.common.chain import run_verb
from convcast.cli.common.console import duration
from convcast.cli.common.session import Command, verb

DAYS = 64
"""Days of simulated weather: 56 to train on and 8 to test on."""
FIRST_HOURS = {False: ("2024-03-28T00", "2024-03-28T10"), True: ("2024-05-22T20", "2024-05-23T06")}
"""First and last hour of the first fetch, from which the first figure is drawn, without (False) and with (True) a
trained model."""
LAST_HOUR = "2024-05-30T23"
TEST_INITS = "2024-05-23T06/2024-05-30T22/8h"
QUICK_INITS = "2024-05-23T06/2024-05-30T22/24h"
FEW_INITS = "2024-05-23T06/2024-05-30T22/48h"
"""Initial times with the pretrained model: few, so that the report is ready soon; too few to judge the model."""
MEMBERS, FEW_MEMBERS = 50, 12
PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
"""Folder of the package's pretrained model, which benchmarks/pretrain.py makes."""
HALVED = "half.safetensors"
"""File name of the pretrained weights, in half precision."""
CURVE = "training.png"
FIGURE = "world.png"
"""Name of the first figure, in the workspace."""


@verb(without=("settings", "workspace"))
def demo(
    command: Command,
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="Folder for the demo; a second run continues in it.")
    ] = Path("convcast-demo"),
    minutes: Annotated[float | None, typer.Option("--minutes", min=0.1, help="Training time (default: 2.5).")] = None,
    members: Annotated[
        int | None,
        typer.Option("--members", min=2, help="Members of each ensemble (default: 50; with --pretrained 12)."),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained", help="Train nothing, and take the model that comes with the package: about a minute."
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Make fewer forecasts, to see it run rather than to judge it.")
    ] = False,
) -> None:
    """Run everything end to end on the simulated archive: no account, no network, no GPU; about 10 minutes.

    A small stochastic storm world is written as real GRIB2 and fetched as NOAA's files are. The model learns from 56
    days of it, forecasts the next 8, and is scored beside the world's exact predictive ensemble, which no model can
    beat, and a baseline without any network (advection), which a model must beat.
    """
    terminal = command.terminal
    inits = FEW_INITS if pretrained else QUICK_INITS if quick else TEST_INITS
    count = members or (FEW_MEMBERS if pretrained else MEMBERS)
    started = time.monotonic()
    against = ["--against", "exact", "--against", "persistence"]
    first, last = FIRST_HOURS[pretrained]
    world = ["fetch", "--source", "simulated", "--preset", "demo"]
    steps: list[list[str]] = [[*world, "--start", first, "--end", last], ["preprocess"]]
    if pretrained:
        model = ["--model", PRETRAINED.name]
        steps += [[*world, "--start", first, "--end", LAST_HOUR], ["preprocess"]]
    else:
        model, against = [], [*against, "--against", "advection", "--against", "climatology"]
        train = [f"--max-minutes={minutes}"] if minutes is not None else []
        steps += [[*world, "--days", str(DAYS)], ["preprocess"], ["train", *train]]
    steps += [
        ["sample", "--init", inits, "--members", str(count), *model],
        ["verify", "--init", inits, *against, "--name", "demo"],
    ]
    times, figure = [], workspace / FIGURE
    for words in steps:
        if words[0] == "sample" and pretrained:
            terminal.say(f"the model, trained on other days of this simulated world: {_install(workspace)}")
        seconds = run_verb(terminal, [*words, "-w", str(workspace)], result=words is steps[-1])
        times.append(f"{words[0]} {duration(seconds)}")
        if words == ["preprocess"] and not figure.is_file():
            terminal.say(f"its first hours: {_draw_world(workspace, figure)}")
    terminal.say("", f"done in {duration(time.monotonic() - started)}: {', '.join(times)}")
    terminal.say(f"the report: {workspace / 'verification' / 'demo' / 'report.html'}")
    program = "convcast" if shutil.which("convcast") else sys.argv[0]
    terminal.say("", "next, on this simulated world:")
    terminal.say(f"  {shlex.join([program, 'sample', '--init', 'latest', '--members', '100', *model])} -w {workspace}")
    terminal.say(f"  {program} status -w {workspace}")
    terminal.say("and on real HRRR analyses (3.3 GB; training wants a GPU):")
    terminal.say(f"  {program} fetch --days 14 && {program} preprocess && {program} train --phase 1")


def _draw_world(workspace: Path, figure: Path) -> Path:
    """Draw the first hours of the world, and return the path of the figure."""
    from convcast.dataset import Dataset
    from convcast.files import write_bytes
    from convcast.pictures.analyses import draw_analyses
    from convcast.pictures.geography.base_map import BaseMap
    from convcast.variables import REFC

    dataset = Dataset.open(workspace / "dataset.zarr")
    hours = list(dataset.hours[-7::2])
    fields = dataset.read(hours)[:, dataset.variables.index(REFC)]
    base_map = BaseMap(dataset.grid, borders=not dataset.simulated)
    write_bytes(figure, draw_analyses(REFC, list(fields), hours, base_map, simulated=dataset.simulated))
    return figure


def _install(workspace: Path) -> Path:
    """Copy the pretrained model into the workspace, and return its folder."""
    from convcast.files import whole_folder
    from convcast.model.checkpoint import WEIGHTS
    from convcast.model.half_precision import restore

    model = workspace / "models" / PRETRAINED.name
    brought, there = PRETRAINED / "model.json", model / "model.json"
    if not (there.is_file() and there.read_bytes() == brought.read_bytes()):
        with whole_folder(model) as unfinished:
            shutil.copytree(PRETRAINED, unfinished, dirs_exist_ok=True, ignore=shutil.ignore_patterns(HALVED))
            restore(PRETRAINED / HALVED, unfinished / WEIGHTS)
    return model
