"""What a workspace keeps of its forecasts, found and opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from convcast import stores
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.forecasts.integrity import FORMATS, require_members, require_products, start_over_advice
from convcast.grid import CONUS, SPACING, Grid
from convcast.notation import HOUR, Hour, from_compact, parse_hours
from convcast.workspace import Workspace


@dataclass(frozen=True)
class StoredForecast:
    """What is kept of the forecast of one initial time."""

    init: Hour
    members: Path | None
    products: Path | None

    @classmethod
    def find(cls, workspace: Workspace, init: Hour) -> StoredForecast:
        paths = (workspace.forecast(init), workspace.product(init))
        return cls(init, *(path if path.exists() else None for path in paths))


def available(workspace: Workspace, text: str) -> list[StoredForecast]:
    """Forecasts by `latest`, a time or a range; of a range, those that there are.

    Raises MissingInputError where there is none.
    """
    kept = {init for folder in (workspace.forecasts, workspace.products) for init in _inits(folder)}
    wanted = ([max(kept)] if kept else []) if text == "latest" else [hour for hour in parse_hours(text) if hour in kept]
    if not wanted:
        which = "" if text == "latest" else f" from {text}"
        raise MissingInputError(f"there is no forecast{which}", advice="run `convcast sample --init latest`")
    return [StoredForecast.find(workspace, init) for init in wanted]


def open_forecast(path: Path) -> xr.Dataset:
    """An ensemble or products, lazily; `read_values` reads from it.

    Raises DamagedFileError for anything else, and where values are lost that the file marks as complete.
    """
    advice = start_over_advice(path)
    with stores.readable(f"{path} cannot be read", advice):
        data: xr.Dataset = xr.open_zarr(path, chunks=None, zarr_format=3, decode_timedelta=True)
    kind = data.attrs.get("format")
    if kind not in FORMATS:
        raise DamagedFileError(f"{path} is not a convcast forecast", advice=advice)
    (require_members if kind == FORMATS[0] else require_products)(path)
    return data


def select_leads(data: xr.Dataset, path: Path, wanted: Sequence[int] | None) -> list[int]:
    """The leads (hours) that are wanted, or all there are.

    Raises SettingsError for one that is not there.
    """
    there = [int(lead / HOUR) for lead in data.lead_time.values]
    for lead in wanted or ():
        if lead not in there:
            raise SettingsError(
                f"{path} has no lead of {lead} h", advice=f"choose from --leads {','.join(map(str, there))}"
            )
    return list(wanted or there)


def read_grid(data: xr.Dataset, path: Path) -> Grid:
    """The rectangle of the HRRR grid that the coordinates say."""
    y0, x0 = (round(float((data[name].values[0] - getattr(CONUS, name)[0]) / SPACING)) for name in ("y", "x"))
    grid = Grid(data.sizes["y"], data.sizes["x"], y0, x0)
    if not CONUS.covers(grid) or not np.allclose(grid.x, data.x.values):
        raise DamagedFileError(f"{path} is not on the HRRR grid", advice=start_over_advice(path))
    return grid


def _inits(folder: Path) -> list[Hour]:
    found = [from_compact(path.stem) for path in folder.glob("*.zarr")]
    return [init for init in found if init is not None]
