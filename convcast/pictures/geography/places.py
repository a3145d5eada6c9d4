"""Describe where a point is, by a packaged table of towns (GeoNames, CC BY 4.0; made by docs/places.py)."""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from pyproj import Geod

from convcast.grid import EARTH_RADIUS

Floats = NDArray[np.float64]
COMPASS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
IN_TOWN = 5.0
"""Distance, km, up to which a point counts as in a town."""
FAR = 250.0
"""Distance, km, from which the nearest town is not a useful description, as at sea."""


def describe_place(latitude: float, longitude: float) -> str:
    """Describe a point by the nearest town, as `25 km NE of Dodge City, KS`, or far from all by its coordinates.

    Args:
        latitude: Latitude, degrees north.
        longitude: Longitude, degrees east.
    """
    names, latitudes, longitudes = _table()
    here = np.full_like(longitudes, longitude), np.full_like(latitudes, latitude)
    azimuths, _, metres = Geod(a=EARTH_RADIUS, f=0).inv(longitudes, latitudes, *here)
    nearest = int(np.argmin(metres))
    distance = metres[nearest] / 1000
    if distance >= FAR:
        return describe_coordinates(latitude, longitude)
    if distance < IN_TOWN:
        return f"at {names[nearest]}"
    direction = COMPASS[round(float(azimuths[nearest]) / 45) % 8]
    return f"{max(5, 5 * round(distance / 5))} km {direction} of {names[nearest]}"


def describe_coordinates(latitude: float, longitude: float) -> str:
    """Describe a point by its coordinates, as `at 37.8° N, 100.0° W`."""
    return (
        f"at {abs(latitude):.1f}° {'N' if latitude >= 0 else 'S'}, "
        f"{abs(longitude):.1f}° {'E' if longitude >= 0 else 'W'}"
    )


@lru_cache(maxsize=1)
def _table() -> tuple[list[str], Floats, Floats]:
    """Return names, latitudes and longitudes of the towns."""
    text = (resources.files("convcast.pictures.geography") / "places.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    latitudes, longitudes = (np.array([float(row[name]) for row in rows]) for name in ("latitude", "longitude"))
    return [f"{row['name']}, {row['region']}" for row in rows], latitudes, longitudes
