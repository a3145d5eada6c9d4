"""Encode a radar scan as MRMS publishes it: on a grid of latitude and longitude, as a PNG image."""

from __future__ import annotations

import eccodes
import numpy as np
from numpy.typing import NDArray

from convcast.grib.messages import opened_sample
from convcast.grid import RegularGrid
from convcast.variables import SIMULATED_STATUS, GribKey

_TENTHS = 1
"""Decimal scale factor: values are multiples of 0.1 dBZ."""


def encode_scan(values: NDArray[np.floating], *, key: GribKey, grid: RegularGrid, time: np.datetime64) -> bytes:
    """Encode a simulated scan with MRMS's grid template and packing.

    Args:
        values: Values, (ny, nx), row 0 in the north; they are rounded to 0.1.
        key: Numbers that identify the field.
        grid: Grid of the values.
        time: Time of the scan, to the second.
    """
    date, clock = str(time.astype("datetime64[s]")).split("T")
    year, month, day = map(int, date.split("-"))
    hour, minute, second = map(int, clock.split(":"))
    micro = 1e6
    with opened_sample() as handle:
        for name, value in {
            "discipline": key.discipline,
            "centre": 7,  # MRMS's own centre would mark the scan as real
            "tablesVersion": 255,
            "localTablesVersion": 1,
            "significanceOfReferenceTime": 3,
            "year": year,
            "month": month,
            "day": day,
            "hour": hour,
            "minute": minute,
            "second": second,
            "productionStatusOfProcessedData": SIMULATED_STATUS,
            "typeOfProcessedData": 6,
            "gridDefinitionTemplateNumber": 0,
            "numberOfDataPoints": grid.ny * grid.nx,
            "Ni": grid.nx,
            "Nj": grid.ny,
            "latitudeOfFirstGridPoint": round(grid.north * micro),
            "longitudeOfFirstGridPoint": round(grid.west * micro) % 360_000_000,
            "latitudeOfLastGridPoint": round(grid.latitudes[-1] * micro),
            "longitudeOfLastGridPoint": round(grid.longitudes[-1] * micro) % 360_000_000,
            "iDirectionIncrement": round(grid.spacing * micro),
            "jDirectionIncrement": round(grid.spacing * micro),
            "scanningMode": 0,
            "productDefinitionTemplateNumber": 0,
            "parameterCategory": key.category,
            "parameterNumber": key.number,
            "indicatorOfUnitForForecastTime": 0,
            "forecastTime": 0,
            "typeOfFirstFixedSurface": key.surface,
            "scaleFactorOfFirstFixedSurface": 0,
            "scaledValueOfFirstFixedSurface": int(key.level),
            "packingType": "grid_png",
            "decimalScaleFactor": _TENTHS,
            "bitsPerValue": 16,
        }.items():
            eccodes.codes_set(handle, name, value)
        eccodes.codes_set_values(handle, np.round(np.asarray(values, np.float64), _TENTHS).ravel())
        message: bytes = eccodes.codes_get_message(handle)
    return message
