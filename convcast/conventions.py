"""CF attributes, layout and encoding of the gridded files that convcast writes.

The files follow CF conventions 1.11 (https://cfconventions.org): example 5.14 for reference, lead and valid times,
standard name `realization` for ensemble members, appendix F for the grid mapping, and section 3.5 for flags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convcast.grid import Grid, spatial_reference
from convcast.notation import Hour
from convcast.variables import FIELDS, STATIC, Variable

if TYPE_CHECKING:
    import xarray as xr

DIMENSIONS = ("init_time", "number", "lead_time", "y", "x")
FILL = -32768
"""The stored integer that means missing."""
SECONDS = {"dtype": "int64", "units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"}
"""Encoding of times. By default xarray chooses units from the first value, which later values may not fit."""
ENCODING = {"dtype": "float32", "_FillValue": np.float32(np.nan)}
"""Encoding of an ensemble's fields, whose values `on_lattice` has rounded.

On four whole HRRR fields, compressed by zstd with bit shuffling, float32 takes 10 % more space than int16 with a scale
factor, and the same time to write and read. But xarray opens scaled integers as float64, which needs twice the memory.
"""
ON_SCALE, DIFFERENCE = "temperature: on_scale", "temperature: difference"
"""`units_metadata` of temperatures and of temperature differences (CF section 3.1.2)."""
NO_LEAP_SECONDS = "leap_seconds: none"
"""`units_metadata` of times, which do not count leap seconds, as Unix time (CF section 4.4)."""
ABSENT, COMPLETE = 0, 1
"""Values of `complete` for a member and lead time; FLAG_MEANINGS names them."""
FLAG_MEANINGS = "absent complete"
DIRECT, ROLLOUT = 0, 1
"""Values of `lead_method` for a lead time."""


def field_attributes(variable: Variable) -> dict[str, Any]:
    """CF attributes of a field on the grid, for its unpacked values."""
    attributes = {
        "standard_name": variable.standard_name,
        "long_name": variable.long_name,
        "units": variable.units,
        "grid_mapping": "spatial_ref",
    }
    if variable.units == "K":
        attributes["units_metadata"] = ON_SCALE
    return attributes | ({"comment": variable.comment} if variable.comment else {})


def on_lattice(variable: Variable, values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Round values of any shape to the lattice of HRRR's packing, as float32, which makes them compressible."""
    scale = np.float32(variable.scale)
    rounded = np.asarray(values, np.float32) * scale
    np.rint(rounded, out=rounded)
    rounded /= scale
    rounded += 0  # changes -0 to 0
    return rounded


def pack(variable: Variable, values: NDArray[np.floating]) -> NDArray[np.int16]:
    """Convert values of any shape to integers on the lattice, and to FILL if they are not finite or beyond int16.

    Args:
        variable: The field.
        values: Values in the field's GRIB units.
    """
    scaled = np.rint(values * np.float32(variable.scale))
    fits = np.abs(scaled) < -FILL
    return np.where(fits, scaled, np.float32(FILL)).astype(np.int16)


def unpack(variable: Variable, stored: NDArray[np.int16]) -> NDArray[np.float32]:
    """Convert integers on the lattice to values, float32, NaN if missing.

    Args:
        variable: The field.
        stored: Integers of any shape, FILL where a value is missing.
    """
    values = stored.astype(np.float32) / np.float32(variable.scale)
    return np.where(stored == FILL, np.float32(np.nan), values)


def grid_coordinates(grid: Grid) -> dict[str, xr.Variable]:
    """Return the coordinates `y x latitude longitude spatial_ref` of a rectangle of the HRRR grid."""
    import xarray as xr

    latitude, longitude = (angle.astype(np.float32) for angle in grid.latitude_longitude())
    coordinates = {
        "y": xr.Variable("y", grid.y, {"standard_name": "projection_y_coordinate", "units": "m", "axis": "Y"}),
        "x": xr.Variable("x", grid.x, {"standard_name": "projection_x_coordinate", "units": "m", "axis": "X"}),
        "latitude": xr.Variable(("y", "x"), latitude, {"standard_name": "latitude", "units": "degrees_north"}),
        "longitude": xr.Variable(("y", "x"), longitude, {"standard_name": "longitude", "units": "degrees_east"}),
        "spatial_ref": xr.Variable((), np.int32(0), spatial_reference()),
    }
    for name in ("y", "x", "latitude", "longitude"):
        coordinates[name].encoding["_FillValue"] = None
    return coordinates


def ensemble_dataset(
    fields: Mapping[str, NDArray[np.floating]],
    *,
    init: Hour,
    members: Sequence[int],
    leads: Sequence[int],
    grid: Grid,
    attributes: Mapping[str, Any],
    direct: Sequence[int] | None = None,
) -> xr.Dataset:
    """Build the dataset of one init time's ensemble, with the dimensions DIMENSIONS, ready for `to_zarr`.

    Args:
        fields: Fields by name, (member, lead, y, x), in physical units, NaN for a member and lead that is not complete.
            They are rounded to the lattice.
        init: Init time.
        members: Member numbers.
        leads: Lead times, hours.
        grid: Grid of the fields.
        attributes: Further global attributes.
        direct: Lead times that are single forecasts rather than chains of one-hour forecasts, if that is known.

    Raises:
        ValueError: A field has another shape.
    """
    import xarray as xr

    shape = len(members), len(leads), *grid.shape
    start = np.array([init], "datetime64[ns]")
    steps = np.array(leads, "timedelta64[h]").astype("timedelta64[ns]")
    complete = np.ones(shape[:2], bool)
    data: dict[str, xr.Variable] = {}
    for name, values in fields.items():
        if values.shape != shape:
            raise ValueError(f"{name} has shape {values.shape}, not (member, lead, y, x) = {shape}")
        complete &= ~np.isnan(values).all(axis=(2, 3))
        variable = (FIELDS | STATIC)[name]
        data[name] = xr.Variable(
            DIMENSIONS, on_lattice(variable, values)[None], field_attributes(variable), dict(ENCODING)
        )
    coordinates = {
        "init_time": xr.Variable(
            "init_time",
            start,
            {
                "standard_name": "forecast_reference_time",
                "long_name": "time of the last analysis used",
                "units_metadata": NO_LEAP_SECONDS,
            },
            dict(SECONDS),
        ),
        "number": xr.Variable(
            "number",
            np.array(members, np.int16),
            {"standard_name": "realization", "long_name": "ensemble member", "units": "1"},
        ),
        "lead_time": xr.Variable(
            "lead_time",
            steps,
            {"standard_name": "forecast_period", "long_name": "time since init_time"},
            {"dtype": "int64"},
        ),
        "valid_time": xr.Variable(
            ("init_time", "lead_time"),
            start[:, None] + steps,
            {
                "standard_name": "time",
                "long_name": "time that the forecast is for",
                "units_metadata": NO_LEAP_SECONDS,
            },
            dict(SECONDS),
        ),
        "complete": xr.Variable(
            DIMENSIONS[:3],
            np.where(complete, COMPLETE, ABSENT)[None].astype(np.int8),
            {
                "standard_name": "status_flag",
                "long_name": "whether this member and lead has been made",
                "units": "1",
                "flag_values": np.array([ABSENT, COMPLETE], np.int8),
                "flag_meanings": FLAG_MEANINGS,
            },
        ),
        **grid_coordinates(grid),
    }
    if direct is not None:
        coordinates["lead_method"] = xr.Variable(
            "lead_time",
            np.array([DIRECT if lead in direct else ROLLOUT for lead in leads], np.int8),
            {
                "long_name": "whether a lead is one forecast or a chain of one-hour forecasts",
                "flag_values": np.array([DIRECT, ROLLOUT], np.int8),
                "flag_meanings": "direct rollout",
            },
        )
    return xr.Dataset(data, coordinates, {"Conventions": "CF-1.11"} | dict(attributes))
