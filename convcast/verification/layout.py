"""Gridded files of anybody, by the CF conventions: which dimension is which, which variable which field, in what units.

Dimensions are told by the standard name of their coordinate, else by the names in use (convcast, ECMWF's cfgrib,
WeatherBench, WRF); what is returned has convcast's names whatever the file had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from convcast import stores
from convcast.errors import DamagedFileError
from convcast.variables import FIELDS, U10, V10, Variable
from convcast.verification.place import Place

_ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "number": (("realization",), ("number", "member", "members", "realization", "realisation", "ensemble", "ens")),
    "init_time": (
        ("forecast_reference_time",),
        ("init_time", "init", "initial_time", "forecast_reference_time", "reference_time"),
    ),
    "lead_time": (("forecast_period",), ("lead_time", "step", "lead", "prediction_timedelta", "forecast_period")),
    "time": (("time",), ("time", "valid_time")),
    "y": (
        ("projection_y_coordinate", "latitude", "grid_latitude"),
        ("y", "latitude", "lat", "south_north", "rlat"),
    ),
    "x": (
        ("projection_x_coordinate", "longitude", "grid_longitude"),
        ("x", "longitude", "lon", "west_east", "rlon"),
    ),
}
"""Of each dimension, by convcast's name: standard names, then names."""
_SPELLINGS = {
    "K": ("K", "kelvin", "Kelvin"),
    "m s-1": ("m s-1", "m/s", "m s**-1", "m s^-1", "m.s-1"),
    "J kg-1": ("J kg-1", "J/kg", "J kg**-1", "J kg^-1", "m2 s-2", "m**2 s**-2"),
    "dBZ": ("dBZ", "dbz", "DBZ"),
}
_HOURS = {"hours": 1.0, "hour": 1.0, "h": 1.0, "hr": 1.0, "minutes": 1 / 60, "seconds": 1 / 3600, "s": 1 / 3600}
MOST_IMPOSSIBLE = 0.001
"""Share of points that may lie outside a field's bounds."""
FLOOR_SHARE, FLOOR_APART = 0.2, 1.0
"""Where so many points lie at a field's least value, it means none, and no two may mean that by values so far apart."""


def open_zarr(path: Path, what: str) -> xr.Dataset:
    """A Zarr store with convcast's names of dimensions, nothing read yet.

    Raises DamagedFileError where it does not open, or has two dimensions that could be the same.
    """
    advice = f"give the path of a Zarr store, or delete {path} and make it again"
    complaint = f"{path} does not open as a Zarr {what}"
    with stores.readable(complaint, advice):
        data = xr.open_zarr(path, chunks=None, consolidated=False, decode_timedelta=True)
        for variable in data.variables.values():
            chunks = variable.encoding.get("shards") or variable.encoding.get("chunks") or ()
            stores.refuse_chunks(chunks, complaint=complaint, advice=advice)
        for name, coordinate in data.coords.items():
            if name != "complete":  # which may change until it is asked for
                coordinate.load()
    roles: dict[str, str] = {}
    for name in [*data.sizes, *(n for n, c in data.coords.items() if c.ndim == 0)]:
        role = _role(str(name), data)
        if role is None:
            if data.sizes.get(name) == 1:
                data = data.squeeze(name)
            continue
        if role in roles:
            raise DamagedFileError(f"{path} has two {role}: {roles[role]} and {name}")
        roles[role] = str(name)
    if "lead_time" in roles and "time" in roles and "init_time" not in roles:
        roles["init_time"] = roles.pop("time")  # ECMWF's `time` is that of the analysis
    taken = {role for role, name in roles.items() if role != name and role in data.variables}
    data = data.drop_vars(taken).rename({name: role for role, name in roles.items() if name != role})
    scalars = [role for role in ("init_time", "lead_time") if role in data and role not in data.sizes]
    expanded: xr.Dataset = data.expand_dims(scalars)
    return expanded


def as_ensemble(data: xr.Dataset, path: Path) -> xr.Dataset:
    """With dimensions (init_time, number, lead_time, y, x), leads in hours.

    Raises DamagedFileError for what is no ensemble, or does not say when its forecasts began.
    """
    if "lead_time" not in data.sizes and "time" in data.sizes and "init_time" in data:
        if data.sizes["init_time"] != 1:
            raise DamagedFileError(f"{path} has dimensions of initial and valid time: convcast reads leads")
        lead = data["time"].values - data["init_time"].values[0]
        data = data.assign_coords(time=lead).rename(time="lead_time")
    absent = [name for name in ("number", "init_time", "lead_time", "y", "x") if name not in data.sizes]
    if absent:
        known = ", ".join(_ROLES[absent[0]][0] + _ROLES[absent[0]][1][:3])
        raise DamagedFileError(
            f"{path} is not an ensemble: it has no dimension {' '.join(absent)}",
            advice=f"name it, or its coordinate's standard_name, as one of: {known}",
        )
    return data.assign_coords(lead_time=_hours(data["lead_time"], path))


def check_dimensions(data: xr.Dataset, names: Sequence[str], path: Path) -> None:
    """Raises DamagedFileError where one of these fields, or what says which members are complete, lacks a dimension."""
    wanted = {name: {"init_time", "number", "lead_time", "y", "x"} for name in names}
    if "complete" in data:
        wanted["complete"] = {"init_time", "number", "lead_time"}
    for name, dimensions in wanted.items():
        if set(data[name].dims) != dimensions:
            there = " ".join(map(str, data[name].dims)) or "none"
            raise DamagedFileError(f"{path} has {name} with the dimensions {there}, not {' '.join(sorted(dimensions))}")


def find_fields(data: xr.Dataset, path: Path) -> dict[Variable, str]:
    """Which variable of the file is which field: by name, else by standard name, in their units.

    Raises DamagedFileError where a field is in other units, or of another quantity than its name says.
    """
    found: dict[Variable, str] = {}
    for variable in FIELDS.values():
        if variable.name in data:
            found[variable] = variable.name
            continue
        named = [str(n) for n, v in data.data_vars.items() if v.attrs.get("standard_name") == variable.standard_name]
        if len(named) == 1:
            found[variable] = named[0]
    for variable, name in found.items():
        attributes = data[name].attrs
        units = attributes.get("units")
        if units is None:
            raise DamagedFileError(
                f"{path} does not say the units of {name}", advice=f"set its attribute units to {variable.units}"
            )
        if units not in _SPELLINGS.get(variable.units, (variable.units,)):
            raise DamagedFileError(
                f"{path} has {name} in {units}, not in {variable.units}",
                advice=f"convert it, or leave {name} out of the file",
            )
        standard = attributes.get("standard_name")
        if standard is not None and not _means(variable, str(standard)):
            raise DamagedFileError(
                f"{path} has {standard} as {name}, where convcast has {variable.standard_name}",
                advice=f"rename it, or leave {name} out of the file",
            )
    return found


class UnreadableError(DamagedFileError):
    """Values of one time cannot be read; those of others may be."""


def read_values(chosen: xr.DataArray, path: Path) -> NDArray[np.float32]:
    """Values from the store; raises UnreadableError where they are damaged."""
    try:
        with stores.readable(f"{path} is damaged", f"make {path} again"):
            return np.asarray(chosen.values, np.float32)
    except DamagedFileError as error:
        raise UnreadableError(str(error), advice=error.advice) from error


def check_winds(data: xr.Dataset, names: Mapping[Variable, str], place: Place, path: Path) -> None:
    """Raises DamagedFileError for winds towards east and north where the grid's axes point elsewhere."""
    for variable in (U10, V10):
        standard = data[names[variable]].attrs.get("standard_name") if variable in names else None
        if standard in ("eastward_wind", "northward_wind") and (place.unit != "degrees" or place.y is None):
            raise DamagedFileError(
                f"{path} has {standard} as {names[variable]}, where convcast has wind along the grid's axes",
                advice="rotate it to the grid, or leave it out of the file",
            )


def check_values(variable: Variable, values: NDArray[np.floating], path: Path) -> None:
    """Raises DamagedFileError where values of a field (any shape) cannot be in its units."""
    finite = values[np.isfinite(values)]
    low, high = variable.bounds
    if finite.size and np.mean((finite < low - 1) | (finite > high + 1)) > MOST_IMPOSSIBLE:
        raise DamagedFileError(
            f"{path} has {variable.name} from {finite.min():g} to {finite.max():g}, which is not {variable.units}: "
            f"convcast knows {low:g} to {high:g}",
            advice="look at its units",
        )


def check_floors(
    variable: Variable, forecasts: NDArray[np.floating], truth: NDArray[np.floating], paths: Sequence[object]
) -> None:
    """Raises DamagedFileError where forecasts and truth mean "none" by different values.

    So it is where one is reflectivity and the other rain in mm/h, or no echo is 0 dBZ in one and -10 in the other.
    """
    floors = [_floor(values) for values in (forecasts, truth)]
    if variable.may_be_constant and None not in floors and abs(floors[0] - floors[1]) > FLOOR_APART:  # type: ignore[operator]
        raise DamagedFileError(
            f"where there is none, {variable.name} is {floors[0]:g} in {paths[0]} and {floors[1]:g} in {paths[1]}",
            advice=f"both must be in {variable.units} and mean none by one value",
        )


def _floor(values: NDArray[np.floating]) -> float | None:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return None
    least = float(finite.min())
    return least if np.mean(finite == least) > FLOOR_SHARE else None


def _role(name: str, data: xr.Dataset) -> str | None:
    attributes: Mapping[str, Any] = data[name].attrs if name in data.coords else {}
    for role, (standard, _) in _ROLES.items():
        if attributes.get("standard_name") in standard:
            return role
    return next((role for role, (_, names) in _ROLES.items() if name in names), None)


def _means(variable: Variable, standard: str) -> bool:
    """Whether a standard name may be the field's. A file of CAPE may leave open of which parcel."""
    if variable in (U10, V10):
        return standard in (variable.standard_name, {U10: "eastward_wind", V10: "northward_wind"}[variable])
    return variable.standard_name.startswith(standard)


def _hours(lead: xr.DataArray, path: Path) -> NDArray[np.float64]:
    if np.issubdtype(lead.dtype, np.timedelta64):
        return np.asarray(lead.values / np.timedelta64(1, "h"), float)
    units = str(lead.attrs.get("units", ""))
    if units not in _HOURS:
        raise DamagedFileError(f"{path} has leads in {units or 'no units'}, not in hours")
    return np.asarray(lead.values, float) * _HOURS[units]
