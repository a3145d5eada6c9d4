"""`convcast plot`: draw maps of an ensemble."""

from __future__ import annotations

import math
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from convcast.cli.common.session import Command, InitOption, verb
from convcast.errors import SettingsError


class Kind(StrEnum):
    """Kinds of maps."""

    stamps = "stamps"
    mean = "mean"
    spread = "spread"
    probability = "probability"
    neighbourhood = "neighbourhood"
    any_time = "any-time"
    any_time_neighbourhood = "any-time-neighbourhood"
    maximum = "maximum"
    matched_mean = "matched-mean"
    paintball = "paintball"
    spaghetti = "spaghetti"
    wind = "wind"
    difference = "difference"


class Units(StrEnum):
    """Systems of units."""

    si = "si"
    us = "us"


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
            help="Threshold of the event, in the units of the map (default: the field's own; 40 dBZ for refc).",
        ),
    ] = None,
    units: Annotated[Units, typer.Option("--units", help="si, or us: °F and kt.")] = Units.si,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the pictures (default: plots/<init> of the workspace)."),
    ] = None,
) -> None:
    """Draw maps of a forecast, one PNG each; the analysis is outlined in black where the dataset has it.

    Maps are drawn from the members if they are stored, and otherwise from the products, which have no stamps, maximum,
    paintball or spaghetti. `difference` is the ensemble mean minus HRRR's forecast, if that is in the archive.
    """
    from convcast.files import sweep, write_bytes
    from convcast.forecasts.open import available
    from convcast.forecasts.plot import select_maps
    from convcast.notation import compact, parse_leads
    from convcast.pictures.forecast import KINDS, draw
    from convcast.variables import select
    from convcast.verification.results.warnings import warnings_of_map

    if threshold is not None and not math.isfinite(threshold):
        raise SettingsError(f"{threshold} is not a threshold", advice="use --threshold 40")
    terminal = command.terminal
    workspace, settings = command.open()
    variables = select([name.strip() for name in fields.split(",")])
    wanted = [kind.value for kind in kinds] if kinds else list(KINDS)
    hours = parse_leads(leads) if leads is not None else None

    drawn: list[str] = []
    scored = workspace.root / "verification"
    for source in available(workspace, init):
        folder = output or workspace.root / "plots" / compact(source.init)
        sweep(folder, recursive=False, shared=True)
        fields_of_leads = select_maps(
            workspace,
            source,
            variables,
            hours,
            threshold=threshold,
            kinds=wanted,
            chosen=bool(kinds),
            system=units.value,
            radius=settings.products.neighbourhood,
        )
        for shown, possible in fields_of_leads:
            for kind in possible:
                found = warnings_of_map(scored, shown.model, kind, shown.variable, shown.lead)
                name = f"{'wind' if kind == 'wind' else shown.variable.name}_f{shown.lead:02d}_{kind}.png"
                path = folder / (name if output is None else f"{compact(source.init)}_{name}")
                write_bytes(path, draw(kind, replace(shown, warnings=found)))
                terminal.say(f"{path}")
                drawn.append(str(path))
    summary = (
        f"{len(drawn)} picture{'s' * (len(drawn) != 1)} in {Path(drawn[0]).parent}" if drawn else "nothing to draw"
    )
    terminal.result({"pictures": drawn}, summary)
