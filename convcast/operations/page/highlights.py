"""Sentences on the highest probability of each field's event, and where and when it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convcast.forecasts.integrity import read_values
from convcast.forecasts.open import open_forecast, read_grid, select_leads
from convcast.grid import projection
from convcast.notation import HOUR, Hour
from convcast.variables import Variable


def describe_highest(
    products: Path, init: Hour, variables: Sequence[Variable], leads: Sequence[int], *, simulated: bool
) -> dict[str, str]:
    """Return a sentence by field: its highest probability in the neighbourhood, the place and the hour.

    Among points of equal probability the one counts that is likeliest to have the event itself. Fields without their
    middle threshold have no sentence.

    Args:
        products: Zarr store of the products.
        init: Initial time.
        variables: Fields.
        leads: Lead times, hours.
        simulated: Whether the weather is simulated, where towns say nothing.

    Raises:
        DamagedFileError: The products cannot be read.
    """
    found = {}
    with open_forecast(products) as data:
        grid = read_grid(data, products)
        positions = [select_leads(data, products, None).index(lead) for lead in leads]
        kilometres = float(data.attrs["neighbourhood_km"])
        for variable in variables:
            name, threshold = variable.name, variable.middle_threshold
            thresholds = data[f"{name}_threshold"].values.tolist() if f"{name}_threshold" in data else []
            if threshold not in thresholds:
                continue
            where = {"init_time": 0, "lead_time": positions, f"{name}_threshold": thresholds.index(threshold)}
            near = read_values(data[f"{name}_neighbourhood_probability"].isel(where), products)
            here = read_values(data[f"{name}_probability"].isel(where), products)
            highest = float(near.max())
            event = f"{variable.event(threshold)} within {kilometres:g} km"
            if highest == 0:
                found[name] = f"No member has {variable.event(threshold)}."
                continue
            likeliest = np.where(near == highest, here, -1)
            lead, row, column = np.unravel_index(int(likeliest.argmax()), near.shape)
            longitude, latitude = projection()(grid.x[column], grid.y[row], inverse=True)
            hour = str(init + leads[int(lead)] * HOUR)[-2:]
            place = _place(float(latitude), float(longitude), simulated=simulated)
            found[name] = f"Highest probability of {event}: {100 * highest:.0f} %, {place} at {hour} UTC."
    return found


def _place(latitude: float, longitude: float, *, simulated: bool) -> str:
    from convcast.pictures.places import describe_coordinates, describe_place

    return describe_coordinates(latitude, longitude) if simulated else describe_place(latitude, longitude)
