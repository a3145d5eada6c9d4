"""Sentences on the highest probability of each field's event, with its place and time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from convcast.conventions import COMPLETE
from convcast.forecasts.integrity import read_values
from convcast.forecasts.open import open_forecast, read_grid, select_leads
from convcast.forecasts.summary import neighbourhood_cells, neighbourhood_probability
from convcast.grid import projection
from convcast.notation import HOUR, Hour
from convcast.variables import Variable

Probabilities = tuple[NDArray[np.floating], NDArray[np.floating]]
"""Probability of an event in the neighbourhood and at the point, (lead, y, x) each."""


def describe_highest(
    path: Path, init: Hour, variables: Sequence[Variable], leads: Sequence[int], *, near: float, simulated: bool
) -> dict[str, str]:
    """Return a sentence by field: its highest probability in the neighbourhood, the place and the hour.

    Among points of equal probability, the point with the highest probability of the event itself is taken. Fields
    without their middle threshold have no sentence.

    Args:
        path: Zarr store of the products, or of the members.
        init: Initial time.
        variables: Fields.
        leads: Lead times, hours.
        near: Radius of the neighbourhood, km, for members; products have their own.
        simulated: Whether the weather is simulated, so that towns do not describe a place.

    Raises:
        DamagedFileError: The file cannot be read.
    """
    found = {}
    with open_forecast(path) as data:
        grid = read_grid(data, path)
        stored = select_leads(data, path, None)
        here = data.isel(init_time=0, lead_time=[stored.index(lead) for lead in leads])
        for variable in variables:
            event = variable.event(variable.middle_threshold)
            if "number" in data.dims:
                probabilities = _of_members(here, path, variable, near)
            else:
                probabilities = _of_products(here, path, variable)
            if probabilities is None:
                continue
            nearby, at_point = probabilities
            highest = float(nearby.max())
            if highest == 0:
                found[variable.name] = f"No member has {event}."
                continue
            likeliest = np.where(nearby == highest, at_point, -1)
            lead, row, column = np.unravel_index(int(likeliest.argmax()), nearby.shape)
            longitude, latitude = projection()(grid.x[column], grid.y[row], inverse=True)
            hour = str(init + leads[int(lead)] * HOUR)[-2:]
            place = _place(float(latitude), float(longitude), simulated=simulated)
            found[variable.name] = (
                f"Highest probability of {event} within {near:g} km: {100 * highest:.0f} %, {place} at {hour} UTC."
            )
    return found


def _of_products(here: xr.Dataset, path: Path, variable: Variable) -> Probabilities | None:
    name = variable.name
    thresholds = here[f"{name}_threshold"].values.tolist() if f"{name}_threshold" in here else []
    if variable.middle_threshold not in thresholds:
        return None
    where = {f"{name}_threshold": thresholds.index(variable.middle_threshold)}
    names = f"{name}_neighbourhood_probability", f"{name}_probability"
    nearby, at_point = (read_values(here[stored].isel(where), path) for stored in names)
    return nearby, at_point


def _of_members(here: xr.Dataset, path: Path, variable: Variable, near: float) -> Probabilities | None:
    """Compute the probabilities of the members that are complete at every lead."""
    numbers = np.flatnonzero((here.complete.transpose("number", "lead_time").values == COMPLETE).all(axis=1))
    if variable.name not in here or numbers.size == 0:
        return None
    nearby, at_point = [], []
    for lead in range(here.sizes["lead_time"]):
        members = read_values(here[variable.name].isel(number=numbers, lead_time=lead), path)
        threshold = variable.middle_threshold
        cells = neighbourhood_cells(near)
        nearby.append(neighbourhood_probability(variable, members, threshold, radius=cells))
        at_point.append(variable.happens(members, threshold).mean(axis=0))
    return np.stack(nearby), np.stack(at_point)


def _place(latitude: float, longitude: float, *, simulated: bool) -> str:
    from convcast.pictures.geography.places import describe_coordinates, describe_place

    return describe_coordinates(latitude, longitude) if simulated else describe_place(latitude, longitude)
