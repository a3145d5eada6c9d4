"""Ensembles as they lie on disk, ours or another's: opened with plain xarray, checked before they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from convcast.conventions import DIMENSIONS
from convcast.errors import DamagedFileError, SettingsError
from convcast.grid import SPACING, Grid
from convcast.notation import Hour, parse_hour
from convcast.variables import Variable

PLACE_TOLERANCE = 0.05 * SPACING
"""Metres that a point may lie off the dataset's."""


@dataclass(frozen=True)
class Ensemble:
    """The forecasts of one initial time."""

    path: Path
    init: Hour
    leads: tuple[int, ...]
    data: xr.Dataset
    """Dimensions `(number, lead_time, y, x)`, not yet read."""

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.data.attrs)

    @property
    def training_hours(self) -> tuple[Hour, Hour] | None:
        """First and last hour that the model was trained on, where the file says so."""
        said = self.data.attrs.get("training_hours")
        if not said:
            return None
        first, last = said.split("/") if isinstance(said, str) else said
        return parse_hour(str(first)), parse_hour(str(last))

    def members(self, lead: int) -> NDArray[np.intp]:
        """Positions along `number` of the members that are complete at this lead."""
        if "complete" not in self.data:
            return np.arange(self.data.sizes["number"])
        complete = np.asarray(self.data["complete"].isel(lead_time=self.leads.index(lead)).values)
        return np.flatnonzero(np.isfinite(complete) & (complete > 0))

    def read(self, variable: Variable, lead: int, members: NDArray[np.intp]) -> NDArray[np.float32]:
        """(member, y, x), in the variable's units."""
        chosen = self.data[variable.name].isel(lead_time=self.leads.index(lead), number=members)
        return np.asarray(chosen.transpose("number", "y", "x").values, np.float32)


def open_ensembles(path: Path, *, fields: Sequence[Variable], grid: Grid, simulated: bool) -> list[Ensemble]:
    """The ensembles of a Zarr store, one an initial time.

    Raises DamagedFileError where it is not an ensemble of these fields on this grid, in these units, and SettingsError
    where simulated and real weather would be mixed.
    """
    try:
        data = xr.open_zarr(path, chunks=None, consolidated=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(
            f"{path} does not open as a Zarr ensemble ({_first_line(error)})",
            advice=f"delete {path} and run `convcast sample` again",
        ) from error
    _check_layout(path, data, fields, grid)
    marked = str(data.attrs.get("simulated", False)).lower() in ("true", "1")
    if marked != simulated:
        kinds = {True: "simulated", False: "real"}
        raise SettingsError(
            f"{path} forecasts {kinds[marked]} weather and the dataset holds {kinds[simulated]} weather",
            advice="verify each in a workspace of its own",
        )
    leads = tuple(int(lead / np.timedelta64(1, "h")) for lead in data["lead_time"].values)
    inits = data["init_time"].values.astype("datetime64[h]")
    return [Ensemble(path, init, leads, data.isel(init_time=i)) for i, init in enumerate(inits)]


def _check_layout(path: Path, data: xr.Dataset, fields: Sequence[Variable], grid: Grid) -> None:
    missing = [name for name in DIMENSIONS if name not in data.sizes]
    if missing:
        raise DamagedFileError(f"{path} is not an ensemble: it has no dimension {' '.join(missing)}")
    absent = [variable.name for variable in fields if variable.name not in data]
    if absent:
        raise DamagedFileError(f"{path} does not hold {' '.join(absent)}, which the dataset has")
    for variable in fields:
        units = data[variable.name].attrs.get("units")
        if units not in (None, variable.units):
            raise DamagedFileError(f"{path} has {variable.name} in {units}, not in {variable.units}")
    for name, expected in (("y", grid.y), ("x", grid.x)):
        there = data[name].values if name in data.coords else np.empty(0)
        if there.shape != expected.shape or not np.allclose(there, expected, rtol=0, atol=PLACE_TOLERANCE):
            raise DamagedFileError(f"{path} is on another grid than the dataset (its {name} differs)")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
