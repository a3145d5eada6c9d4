"""`convcast export`: write forecasts as NetCDF or GRIB2."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from convcast.cli.common.console import size, table
from convcast.cli.common.session import Command, InitOption, verb
from convcast.errors import MissingInputError


class Format(StrEnum):
    """File formats of exported forecasts."""

    netcdf = "netcdf"
    grib2 = "grib2"


class What(StrEnum):
    """Parts of a forecast that can be exported."""

    members = "members"
    products = "products"


@verb(without=("settings",))
def export(
    command: Command,
    file_format: Annotated[Format, typer.Option("--format", help="netcdf, or grib2 with an .idx.")] = Format.netcdf,
    init: InitOption = "latest",
    what: Annotated[
        What | None, typer.Option("--what", help="Members or products (default: members where they were kept).")
    ] = None,
    fields: Annotated[str | None, typer.Option("--field", help="Some fields, as refc,cape (default: all).")] = None,
    leads: Annotated[str | None, typer.Option("--leads", help="Hours ahead, as 1,3 (default: all).")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder (default: exports/ of the workspace).")
    ] = None,
) -> None:
    """Write forecasts for other programs, one file per initial time.

    GRIB2 files hold the members with ensemble keys, or the products' mean, spread and point probabilities.
    """
    from convcast.files import sweep
    from convcast.forecasts.export import to_grib, to_netcdf
    from convcast.forecasts.open import available
    from convcast.notation import compact, parse_leads
    from convcast.variables import select

    terminal = command.terminal
    workspace, _ = command.open()
    names = [v.name for v in select([name.strip() for name in fields.split(",")])] if fields else None
    hours = parse_leads(leads) if leads is not None else None
    folder = output or workspace.root / "exports"
    sweep(folder, recursive=False, shared=True)
    written: list[Path] = []
    for kept in available(workspace, init):
        source = {"members": kept.members, "products": kept.products}.get(what or "", kept.members or kept.products)
        if source is None:
            raise MissingInputError(f"the forecast from {kept.init} has no {what}", advice=f"sample with --keep {what}")
        kind = "members" if source == kept.members else "products"
        suffix = "nc" if file_format == Format.netcdf else "grib2"
        target = folder / f"{compact(kept.init)}_{kind}.{suffix}"
        if file_format == Format.netcdf:
            to_netcdf(source, target, fields=names, leads=hours)
        else:
            messages = to_grib(source, target, fields=names, leads=hours)
            for _ in terminal.track(
                messages, total=None, title="export", line=lambda m: f"{m.variable.name} {m.lead} h {m.what}"
            ):
                pass
        terminal.say(f"{target}")
        written.append(target)
    terminal.result(
        {"files": [str(path) for path in written], "bytes": sum(path.stat().st_size for path in written)},
        table("file", "size", rows=[[str(path), size(path.stat().st_size)] for path in written]),
    )
