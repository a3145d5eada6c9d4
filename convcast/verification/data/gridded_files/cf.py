"""Dimensions of gridded files of any program, identified by the CF conventions and renamed to convcast's names.

A dimension is identified by the standard name of its coordinate, else by a name in common use (convcast, ECMWF's
cfgrib, WeatherBench, WRF). `path` names the file in messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from convcast import stores
from convcast.errors import DamagedFileError
from convcast.variables import Variable

_ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "number": (
        ("realization",),
        ("number", "member", "members", "realization", "realisation", "ensemble", "ens", "ensemble_member"),
    ),
    "init_time": (
        ("forecast_reference_time",),
        ("init_time", "init", "initial_time", "forecast_reference_time", "reference_time"),
    ),
    "lead_time": (
        ("forecast_period",),
        ("lead_time", "step", "lead", "prediction_timedelta", "forecast_period", "forecast_hour", "fhour"),
    ),
    "time": (("time",), ("time", "valid_time")),
    "y": (
        ("projection_y_coordinate", "latitude", "grid_latitude"),
        ("y", "latitude", "lat", "south_north", "rlat", "hrrr_y"),
    ),
    "x": (
        ("projection_x_coordinate", "longitude", "grid_longitude"),
        ("x", "longitude", "lon", "west_east", "rlon", "hrrr_x"),
    ),
}
"""Standard names and common names of each dimension, by convcast's name."""
_HOURS = {"hours": 1.0, "hour": 1.0, "h": 1.0, "hr": 1.0, "minutes": 1 / 60, "seconds": 1 / 3600, "s": 1 / 3600}
_EARTH2STUDIO_UNITS = {"refc": "dBZ", "t2m": "K", "d2m": "K", "u10m": "m s-1", "v10m": "m s-1", "cape": "J kg-1"}
"""Units of fields in earth2studio's lexicon (`E2STUDIO_VOCAB`), where HRRR's winds stay along the grid's axes."""
MAX_OUT_OF_BOUNDS = 0.001
"""Maximum fraction of points outside a field's bounds."""
FLOOR_FRACTION = 0.2
"""Fraction of points at a field's minimum above which the minimum means "none", as no echo does."""
FLOOR_TOLERANCE = 1.0
"""Maximum difference between two files' values for "none", in the field's units."""


def by_role(data: xr.Dataset, path: Path) -> xr.Dataset:
    """Rename dimensions and scalar coordinates to convcast's names.

    Raises:
        DamagedFileError: Two dimensions could be the same one.
    """
    data = _of_earth2studio(data)
    named: dict[str, list[str]] = {}
    for name in [*data.sizes, *(n for n, c in data.coords.items() if c.ndim == 0)]:
        role = _role(str(name), data)
        if role is not None:
            named.setdefault(role, []).append(str(name))
        elif data.sizes.get(name) == 1:
            data = data.squeeze(name)
    times = named.get("time", [])
    if "lead_time" in named and "init_time" not in named and times:
        # In ECMWF's files `time` is the initial time, and `valid_time` the valid time.
        begins = "time" if "time" in times else times[0]
        named["init_time"] = [begins]
        times.remove(begins)
    roles: dict[str, str] = {}
    for role, names in named.items():
        sized = [name for name in names if name in data.sizes] or names
        if len(sized) > 1:
            raise DamagedFileError(
                f"{path} has two {role}: {sized[0]} and {sized[1]}",
                advice=f'drop one of them: data.drop_vars("{sized[1]}"), or data.squeeze("{sized[1]}")',
            )
        roles |= dict.fromkeys(sized, role)
    taken = {role for name, role in roles.items() if role != name and role in data.variables and role not in roles}
    renamed = {name: role for name, role in roles.items() if name != role}
    result: xr.Dataset = data.drop_vars(taken).rename(renamed)
    return result


def with_leads(data: xr.Dataset, path: Path) -> xr.Dataset:
    """Add the dimensions init_time and lead_time to forecasts that have scalars or valid times instead.

    Raises:
        DamagedFileError: The file has several initial times, and valid times in place of leads.
    """
    scalars = [role for role in ("init_time", "lead_time") if role in data.coords and role not in data.sizes]
    data = data.expand_dims([role for role in scalars if data[role].ndim == 0])
    if "lead_time" not in data.sizes and "time" in data.coords and "init_time" in data:
        if data.sizes.get("init_time", 1) != 1:
            raise DamagedFileError(
                f"{path} has dimensions of initial and valid time, and convcast needs leads",
                advice="give it a dimension lead_time instead of the valid time, with one file for each initial time",
            )
        if "time" not in data.sizes:
            data = data.expand_dims("time")
        lead = data["time"].values - data["init_time"].values[0]
        data = data.assign_coords(time=lead).rename(time="lead_time")
    return data


def as_ensemble(data: xr.Dataset, path: Path) -> xr.Dataset:
    """Return forecasts with dimensions (init_time, number, lead_time, y, x) and leads in hours.

    Raises:
        DamagedFileError: A dimension of an ensemble is missing.
    """
    data = with_leads(data, path)
    absent = [name for name in ("number", "init_time", "lead_time", "y", "x") if name not in data.sizes]
    if absent:
        raise lacks(absent, path)
    return data.assign_coords(lead_time=lead_hours(data["lead_time"], path))


def lacks(absent: Sequence[str], path: Path) -> DamagedFileError:
    """Return the error of a file that lacks these dimensions of an ensemble."""
    known = ", ".join(_ROLES[absent[0]][0] + _ROLES[absent[0]][1][:3])
    return DamagedFileError(
        f"{path} is not an ensemble: it has no dimension {' '.join(absent)}",
        advice=f"name it, or its coordinate's standard_name, as one of: {known}",
    )


def as_truth(data: xr.Dataset, path: Path) -> xr.Dataset:
    """Return fields with the dimension `time`, their valid time.

    Forecasts of a single lead are accepted as analyses; their lead becomes the attribute `analysis_lead`.

    Raises:
        DamagedFileError: The file holds forecasts of several leads.
    """
    if "lead_time" in data.coords and ("init_time" in data.coords or data["lead_time"].size != 1):
        data = with_leads(data, path)
        hours = lead_hours(data["lead_time"], path)
        if len(hours) != 1:
            raise DamagedFileError(
                f"{path} holds forecasts of {len(hours)} leads, and a truth has one map for each hour",
                advice="choose the lead that is the truth: data.isel(lead_time=[0])",
            )
        valid = data["init_time"].values + np.timedelta64(round(3600 * hours[0]), "s")
        data = data.isel(lead_time=0, drop=True).drop_vars("time", errors="ignore")
        data = data.assign_coords(init_time=valid).assign_attrs(analysis_lead=round(hours[0]))
    if "time" not in data.coords and "init_time" in data.coords:
        data = data.rename(init_time="time")
    if "time" in data.coords and data["time"].ndim == 0:
        data = data.expand_dims("time")
    if data.sizes.get("number") == 1:
        data = data.isel(number=0, drop=True)
    return data


ENSEMBLE = frozenset({"init_time", "number", "lead_time", "y", "x"})
"""Dimensions of an ensemble."""


def check_dimensions(data: xr.Dataset, names: Sequence[str], path: Path, needed: Set[str] = ENSEMBLE) -> None:
    """Check that the fields, and the flags of complete members, have exactly the needed dimensions.

    Args:
        data: Dataset with convcast's names of dimensions.
        names: Variables to check.
        path: File it was read from, for error messages.
        needed: Dimensions that every variable must have.

    Raises:
        DamagedFileError: A variable has other dimensions.
    """
    required: dict[str, Set[str]] = dict.fromkeys(names, needed)
    if "complete" in data and needed == ENSEMBLE:
        required["complete"] = {"init_time", "number", "lead_time"}
    for name, dimensions in required.items():
        if set(data[name].dims) != dimensions:
            present = " ".join(map(str, data[name].dims)) or "none"
            extra = [str(one) for one in data[name].dims if one not in dimensions]
            raise DamagedFileError(
                f"{path} has {name} with the dimensions {present}, not {' '.join(sorted(dimensions))}",
                advice=f"choose one {extra[0]}: data.isel({extra[0]}=0)"
                if extra
                else "give every field all of these dimensions: data.expand_dims",
            )


class UnreadableError(DamagedFileError):
    """Values of one time cannot be read; those of other times may be intact."""


def read_values(chosen: xr.DataArray, path: Path) -> NDArray[np.float32]:
    """Read values from a store.

    Raises:
        UnreadableError: The values are damaged.
    """
    try:
        with stores.readable(f"{path} is damaged", "write it again with the program that made it, or copy it again"):
            return np.asarray(chosen.values, np.float32)
    except DamagedFileError as error:
        raise UnreadableError(str(error), advice=error.advice) from error


def check_values(variable: Variable, values: NDArray[np.floating], path: Path) -> None:
    """Check that values of a field, of any shape, are plausible in its units.

    Args:
        variable: The field.
        values: Values in the field's units, NaN where missing.
        path: Path of the file, for messages.

    Raises:
        DamagedFileError: More than MAX_OUT_OF_BOUNDS of the values are outside the field's bounds.
    """
    finite = values[np.isfinite(values)]
    low, high = variable.bounds
    if finite.size and np.mean((finite < low - 1) | (finite > high + 1)) > MAX_OUT_OF_BOUNDS:
        raise DamagedFileError(
            f"{path} has {variable.name} from {finite.min():g} to {finite.max():g}, which is not {variable.units}: "
            f"convcast knows {low:g} to {high:g}",
            advice="check its units",
        )


def check_floors(
    variable: Variable, forecasts: NDArray[np.floating], truth: NDArray[np.floating], paths: Sequence[object]
) -> None:
    """Check that forecasts and truth have the same value for "none".

    They differ if one is reflectivity and the other rain in mm/h, or if no echo is 0 dBZ in one and -10 in the other.

    Args:
        variable: Field that is checked.
        forecasts: Forecast values, of any shape.
        truth: Observed values, of any shape.
        paths: Names of forecasts and truth, for the error message.

    Raises:
        DamagedFileError: The two values differ by more than FLOOR_TOLERANCE.
    """
    floors = [_floor(values) for values in (forecasts, truth)]
    if variable.may_be_constant and None not in floors and abs(floors[0] - floors[1]) > FLOOR_TOLERANCE:  # type: ignore[operator]
        raise DamagedFileError(
            f"{variable.name} has {floors[0]:g} for none in {paths[0]} and {floors[1]:g} in {paths[1]}",
            advice=f"convert both to {variable.units}, with the same value for none",
        )


def _floor(values: NDArray[np.floating]) -> float | None:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return None
    least = float(finite.min())
    return least if np.mean(finite == least) > FLOOR_FRACTION else None


def _of_earth2studio(data: xr.Dataset) -> xr.Dataset:
    """Add the units that NVIDIA's earth2studio omits; they follow from its names of variables.

    Its HRRR models (StormCast) write no attributes, or call metres along HRRR's axes latitude and longitude.
    """
    if not {"hrrr_y", "hrrr_x"} <= set(data.sizes):
        return data
    data = data.assign_attrs({"source": "earth2studio"} | data.attrs)
    for name in ("hrrr_y", "hrrr_x"):
        if name in data.coords:
            data[name].attrs = {"units": "m"}
    for name, units in _EARTH2STUDIO_UNITS.items():
        if name in data.data_vars and "units" not in data[name].attrs:
            data[name].attrs["units"] = units
    return data


def _role(name: str, data: xr.Dataset) -> str | None:
    attributes: Mapping[str, Any] = data[name].attrs if name in data.coords else {}
    for role, (standard, _) in _ROLES.items():
        if attributes.get("standard_name") in standard:
            return role
    return next((role for role, (_, names) in _ROLES.items() if name in names), None)


def lead_hours(lead: xr.DataArray, path: Path) -> NDArray[np.float64]:
    """Return lead times in hours.

    Raises:
        DamagedFileError: The unit of the leads is missing or unknown.
    """
    if np.issubdtype(lead.dtype, np.timedelta64):
        return np.asarray(lead.values / np.timedelta64(1, "h"), float)
    units = str(lead.attrs.get("units", ""))
    if units not in _HOURS:
        raise DamagedFileError(
            f"{path} has leads in {units or 'no units'}, not in hours",
            advice=f'set its units: data["{lead.name}"].attrs["units"] = "hours"',
        )
    return np.asarray(lead.values, float) * _HOURS[units]
