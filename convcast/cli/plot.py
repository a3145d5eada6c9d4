"""`convcast plot`: draw maps of an ensemble."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from convcast.cli.common.session import Command, InitOption, verb


class Kind(StrEnum):
    """Kinds of maps."""

    stamps = "stamps"
    mean = "mean"
    spread = "spread"
    probability = "probability"
    paintball = "paintball"
    spaghetti = "spaghetti"


@verb(without=("settings",))
def plot(
    command: Command,
    init: InitOption = "latest",
    kinds: Annotated[
        list[Kind] | None, typer.Option("--kind", help="May be repeated (default: every kind there is data for).")
    ] = None,
    fields: Annotated[str, typer.Option("--field", help="One or several: refc,cape.")] = "refc",
    leads: Annotated[str | None, typer.Option("--leads", help="Hours ahead, as 1,3 (default: all drawn).")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Threshold of the event, in the field's units (default: the field's own; 40 dBZ for refc).",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the pictures (default: plots/<init> of the workspace)."),
    ] = None,
) -> None:
    """Draw maps of a forecast: member stamps, mean, spread, probability, paintball, spaghetti; one PNG each.

    Maps are drawn from the members where they were kept, else from the products, which give no stamps, paintball or
    spaghetti.
    """
    from convcast.files import sweep, write_bytes
    from convcast.forecasts.open import available
    from convcast.forecasts.plot import select_maps
    from convcast.notation import compact, parse_leads
    from convcast.pictures.forecast import KINDS, draw
    from convcast.variables import select

    terminal = command.terminal
    workspace, _ = command.open()
    variables = select([name.strip() for name in fields.split(",")])
    wanted = [kind.value for kind in kinds] if kinds else list(KINDS)
    hours = parse_leads(leads) if leads is not None else None

    drawn: list[str] = []
    for source in available(workspace, init):
        folder = output or workspace.root / "plots" / compact(source.init)
        sweep(folder, recursive=False, shared=True)
        units = select_maps(workspace, source, variables, hours, threshold=threshold, kinds=wanted, chosen=bool(kinds))
        for shown, possible in units:
            for kind in possible:
                name = f"{shown.variable.name}_f{shown.lead:02d}_{kind}.png"
                path = folder / (name if output is None else f"{compact(source.init)}_{name}")
                write_bytes(path, draw(kind, shown))
                terminal.say(f"{path}")
                drawn.append(str(path))
    terminal.result(
        {"pictures": drawn}, f"{len(drawn)} pictures in {Path(drawn[0]).parent}" if drawn else "nothing to draw"
    )
