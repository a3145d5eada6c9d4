"""Find and open the forecasts of a workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from convcast import stores
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.forecasts.integrity import FORMATS, require_members, require_products, start_over_advice
from convcast.grid import CONUS, SPACING, Grid
from convcast.notation import HOUR, Hour, from_compact, parse_hours
from convcast.workspace import Workspace

IDENTITY = 12
"""Number of digits of a model's hash that name it."""


@dataclass(frozen=True)
class StoredForecast:
    """The files of one forecast in a workspace."""

    init: Hour
    members: Path | None
    """Zarr store of the ensemble's members; None if it is absent."""
    products: Path | None
    """Zarr store of the products; None if it is absent."""

    @classmethod
    def find(cls, workspace: Workspace, init: Hour) -> StoredForecast:
        """Find the files of the forecast from `init`."""
        paths = (workspace.forecast(init), workspace.product(init))
        return cls(init, *(path if path.exists() else None for path in paths))


def available(workspace: Workspace, text: str) -> list[StoredForecast]:
    """Find the forecasts of a workspace by initial time.

    Args:
        workspace: The workspace.
        text: `latest`, a time, or a range of times.

    Returns:
        The existing forecasts, at least one.

    Raises:
        MissingInputError: There is no such forecast.
    """
    inits = {init for folder in (workspace.forecasts, workspace.products) for init in _inits(folder)}
    selected = ([max(inits)] if inits else []) if text == "latest" else [t for t in parse_hours(text) if t in inits]
    if not selected:
        which = "" if text == "latest" else f" from {text}"
        raise MissingInputError(f"there is no forecast{which}", advice="run `convcast sample --init latest`")
    return [StoredForecast.find(workspace, init) for init in selected]


def open_forecast(path: Path) -> xr.Dataset:
    """Open an ensemble or products lazily; read values with `convcast.forecasts.integrity.read_values`.

    Raises:
        DamagedFileError: `path` is not a convcast forecast, or has lost values that it marks as complete.
    """
    advice = start_over_advice(path)
    with stores.readable(f"{path} cannot be read", advice):
        data: xr.Dataset = xr.open_zarr(path, chunks=None, zarr_format=3, decode_timedelta=True)
    kind = data.attrs.get("format")
    if kind not in FORMATS:
        raise DamagedFileError(f"{path} is not a convcast forecast", advice=advice)
    (require_members if kind == FORMATS[0] else require_products)(path)
    return data


def made_by(attributes: Mapping[str, Any]) -> str:
    """Return what made the members of a forecast with these attributes, for titles: `model demo`, or its walks."""
    model = f"model {attributes.get('model', 'unknown')}"
    if attributes.get("method") != "walks":
        return model
    count = int(attributes.get("walks", 1))
    return f"{count} walk{'s' * (count > 1)} an hour about the reference forecast of {model}"


def model_identity(attributes: Mapping[str, Any]) -> str:
    """Return a short name of what made the members, by which certificates and calibrations are found; '' if unknown."""
    digest = str(attributes.get("model_sha256", ""))[:IDENTITY]
    return f"{digest} walks" if digest and attributes.get("method") == "walks" else digest


def select_leads(data: xr.Dataset, path: Path, requested: Sequence[int] | None) -> list[int]:
    """Return the requested leads, or all leads of a forecast.

    Args:
        data: The forecast, from `open_forecast`.
        path: The forecast file, for messages.
        requested: Lead times, hours; None for all.

    Raises:
        SettingsError: The forecast lacks a requested lead.
    """
    available_leads = [int(lead / HOUR) for lead in data.lead_time.values]
    for lead in requested or ():
        if lead not in available_leads:
            raise SettingsError(
                f"{path} has no lead of {lead} h", advice=f"choose from --leads {','.join(map(str, available_leads))}"
            )
    return list(requested or available_leads)


def read_grid(data: xr.Dataset, path: Path) -> Grid:
    """Return the rectangle of the HRRR grid given by the coordinates `y` and `x` of a forecast.

    Raises:
        DamagedFileError: The coordinates are not on the HRRR grid.
    """
    y0, x0 = (round(float((data[name].values[0] - getattr(CONUS, name)[0]) / SPACING)) for name in ("y", "x"))
    grid = Grid(data.sizes["y"], data.sizes["x"], y0, x0)
    if not CONUS.covers(grid) or not np.allclose(grid.x, data.x.values):
        raise DamagedFileError(f"{path} is not on the HRRR grid", advice=start_over_advice(path))
    return grid


def _inits(folder: Path) -> list[Hour]:
    inits = [from_compact(path.stem) for path in folder.glob("*.zarr")]
    return [init for init in inits if init is not None]
