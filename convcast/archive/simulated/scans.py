"""Scans of the simulated world, as MRMS publishes them: gzip of GRIB2 on a grid of 0.01 degrees, with gaps.

A pixel has the reflectivity of the cell that it lies in, less a part that varies within the cell: the maximum over a
cell's pixels is near the published analysis, and their mean below it. A sector of the sky, which turns from hour to
hour, has no coverage. The scans are marked as simulated, and their originating centre is not MRMS's.
"""

from __future__ import annotations

import gzip
import re

import numpy as np

from convcast.archive.locations import REFLECTIVITY, SCANS
from convcast.archive.scans import SCAN_KEY
from convcast.archive.simulated.spectra import Array
from convcast.grib.scans import encode_scan
from convcast.grid import SPACING, Grid, RegularGrid, projection
from convcast.notation import Hour, parse_hour
from convcast.variables import NO_ECHO

NO_COVERAGE, NO_RAIN = -999.0, -99.0
"""Values of pixels that no radar covers, and of pixels without echo."""
PIXEL = 0.01
"""Distance between pixels, degrees."""
OFFSET = np.timedelta64(36, "s")
"""Time of a scan after its hour."""
TEXTURE = 4.0
"""Largest difference of a pixel from its cell's maximum, dB."""
BLOCKED = np.pi / 10
"""Width of the sector without coverage, radians."""

_PREFIX = re.compile(rf"{re.escape(SCANS)}/(\d{{8}})/MRMS_{re.escape(REFLECTIVITY)}_\1-(\d\d)0")


def hour_of(prefix: str) -> Hour | None:
    """Return the hour of the scan whose path begins with this prefix, as `convcast.archive.scans.prefixes` gives it."""
    match = _PREFIX.fullmatch(prefix)
    return None if match is None else parse_hour(match[1] + match[2])


def scan_path(hour: Hour) -> str:
    """Return the path of an hour's scan in the bucket."""
    day, clock = str(hour + OFFSET).split("T")
    day, clock = day.replace("-", ""), clock.replace(":", "")
    return f"{SCANS}/{day}/MRMS_{REFLECTIVITY}_{day}-{clock}.grib2.gz"


def make_scan(refc: Array, grid: Grid, hour: Hour, seed: int) -> bytes:
    """Make the file of an hour's scan.

    Args:
        refc: Published composite reflectivity, (ny, nx), dBZ.
        grid: Grid of the reflectivity.
        hour: Hour of the scan.
        seed: Seed of the world.
    """
    latitude, longitude = grid.latitude_longitude()
    north, south = (np.round(at, 2) for at in (latitude.max() + 2 * PIXEL, latitude.min() - 2 * PIXEL))
    west, east = (np.round(at, 2) for at in (longitude.min() - 2 * PIXEL, longitude.max() + 2 * PIXEL))
    ny, nx = round((north - south) / PIXEL), round((east - west) / PIXEL)
    pixels = RegularGrid(ny, nx, north - PIXEL / 2, west + PIXEL / 2 + 360, PIXEL)
    x, y = projection()(*np.meshgrid(pixels.longitudes, pixels.latitudes))
    column, row = (np.rint((at - along[0]) / SPACING).astype(int) for at, along in ((x, grid.x), (y, grid.y)))
    inside = (row >= 0) & (row < grid.ny) & (column >= 0) & (column < grid.nx)
    generator = np.random.default_rng([seed, int(hour.astype(np.int64)), 0x4D524D53])
    echo = refc[np.where(inside, row, 0), np.where(inside, column, 0)] - generator.uniform(0, TEXTURE, (ny, nx))
    values = np.where(echo + TEXTURE > NO_ECHO / 2, echo, NO_RAIN)
    turn = 2 * np.pi * (int(hour.astype(np.int64)) % 24) / 24
    angle = np.arctan2(y - grid.y.mean(), x - grid.x.mean())
    blocked = np.cos(angle - turn) > np.cos(BLOCKED / 2)
    values = np.where(inside & ~blocked, values, NO_COVERAGE)
    return gzip.compress(encode_scan(values, key=SCAN_KEY, grid=pixels, time=hour + OFFSET), mtime=0)
