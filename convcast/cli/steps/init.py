"""`convcast init`: make a workspace with a commented convcast.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convcast.cli.common.choices import remembered
from convcast.cli.common.session import Command, given, verb
from convcast.errors import SettingsError


@verb()
def init(
    command: Command,
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Folder of the workspace (default: that of --workspace).")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="phase1, phase2 or demo (default: phase1).")] = None,
    region: Annotated[
        str | None, typer.Option("--region", help="A name, y0:y1,x0:x1, or 30N:37N,104W:94W (default: conus).")
    ] = None,
    source: Annotated[list[str] | None, typer.Option("--source", help="As for `convcast fetch`.")] = None,
    fields: Annotated[str | None, typer.Option("--fields", help="Fields, as refc,t2m,cape (default: all).")] = None,
) -> None:
    """Make a workspace: a folder with a convcast.toml that names every setting, its meaning and its default."""
    from convcast.grid import parse_region
    from convcast.settings.load import nested
    from convcast.settings.template import settings_text
    from convcast.workspace import SETTINGS_FILE, create_workspace

    root = directory or command.root
    if region is not None:
        parse_region(region)
    tables = nested(list(command.assignments))
    for group, values in given(
        {
            "archive": {"sources": source or None},
            "dataset": {"region": region, "fields": fields.split(",") if fields else None},
        }
    ).items():
        tables[group] = {**tables.get(group, {}), **values}
    settings = command.settings(None, tables, preset=preset)
    if source:
        kept = remembered(source)
        tables["archive"] = {**tables["archive"], "sources": kept} if kept else {}
    file, text = root / SETTINGS_FILE, settings_text(settings.preset, tables)
    # The file may come from a run that was killed after writing it, which leaves nothing to do.
    if file.is_file() and file.read_text(encoding="utf-8", errors="replace") != text:
        raise SettingsError(f"{root} is a workspace already", advice=f"edit {file}")
    workspace = create_workspace(root, text=text)
    command.terminal.result(
        {"workspace": str(workspace.root), "settings": str(workspace.settings_file), "preset": settings.preset},
        f"{workspace.settings_file} has all settings; next: convcast fetch --days 14 --workspace {root}",
    )
