"""Send an alert, once, for each event that the newest forecast makes probable near a point in the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pyproj import Geod

from convcast.conventions import COMPLETE
from convcast.errors import ConvcastError, DamagedFileError, MissingInputError, SettingsError
from convcast.files import read_json, write_json
from convcast.forecasts.integrity import read_values
from convcast.forecasts.open import StoredForecast, available, open_forecast, read_grid, select_leads
from convcast.grid import EARTH_RADIUS, SPACING, Grid, projection
from convcast.notation import HOUR, Hour
from convcast.settings import AlertPoint
from convcast.variables import FIELDS, Variable
from convcast.workspace import Workspace

STRETCH = 1.1
"""Upper bound of the factor by which the projection enlarges distances on the HRRR grid (1.05 at most)."""
REMEMBERED = 48
"""Number of forecasts whose sent alerts are remembered."""


def send_alerts(
    workspace: Workspace, init: Hour, points: Sequence[AlertPoint], send: Callable[[dict[str, Any]], list[str]]
) -> list[str]:
    """Send one alert for each forecast and point whose probability exceeds the point's limit.

    A point is remembered after its alert was sent, so a killed run sends it twice rather than never.

    Args:
        workspace: Holds the forecast and the memory of sent alerts.
        init: Initial time of the forecast.
        points: Points to check.
        send: Sends the document of an alert and returns notes of what failed.

    Returns:
        Notes of what failed.
    """
    known = _remembered(workspace)
    sent = known.setdefault(str(init), [])
    notes = []
    for point in points:
        key = point.model_dump_json()
        if key in sent:
            continue
        try:
            alert = find_alert(workspace, init, point)
        except ConvcastError as error:
            notes.append(f"operations.on_threshold: {error}")
            continue
        if alert is not None:
            notes += send(alert)
            sent.append(key)
            write_json(workspace.alerts_sent, {hour: known[hour] for hour in sorted(known)[-REMEMBERED:]})
    return notes


def find_alert(workspace: Workspace, init: Hour, point: AlertPoint) -> dict[str, Any] | None:
    """Return the document of a point's alert; None if the forecast does not exceed its limit.

    The probability is that of the products if they have the event, and otherwise the fraction of members.

    Args:
        workspace: The workspace, which has the forecast.
        init: Initial time of the forecast.
        point: The point, its event and its limit.

    Raises:
        MissingInputError: Neither members nor a probability of this event are stored.
        SettingsError: The point is outside the domain, or the forecast does not have its field.
        DamagedFileError: The forecast cannot be read.
    """
    source = available(workspace, str(init))[0]
    variable = FIELDS[point.field]
    path, chances = _chances(source, point, variable)
    with open_forecast(path) as data:
        leads = select_leads(data, path, None)
        simulated = bool(data.attrs.get("simulated", 0))
    over = {lead: 100 * chance for lead, chance in zip(leads, chances, strict=True) if 100 * chance > point.probability}
    if not over:
        return None
    highest = max(over, key=lambda lead: over[lead])
    return {
        "workspace": str(workspace.root),
        "simulated": simulated,
        "init": str(init),
        **point.model_dump(exclude={"probability"}),
        "units": variable.units,
        "limit": point.probability,
        **_at(init, highest, over[highest]),
        "leads": [_at(init, lead, chance) for lead, chance in over.items()],
    }


def _at(init: Hour, lead: int, chance: float) -> dict[str, Any]:
    return {"lead_hours": lead, "valid": str(init + lead * HOUR), "probability": round(chance, 1)}


def _chances(source: StoredForecast, point: AlertPoint, variable: Variable) -> tuple[Path, list[float]]:
    """Return the file read, and the largest probability (0 to 1) near the point at each of its leads."""
    name, path = variable.name, source.products
    if path is not None:
        with open_forecast(path) as data:
            events = data[f"{name}_threshold"].values.tolist() if f"{name}_threshold" in data else []
            if point.threshold in events:
                near = _Near(read_grid(data, path), point, path)
                chances = data[f"{name}_probability"].isel(
                    {"init_time": 0, f"{name}_threshold": events.index(point.threshold)}
                )
                return path, [near.highest(chances.isel(lead_time=i)) for i in range(chances.sizes["lead_time"])]
    path = source.members
    if path is None:
        raise MissingInputError(
            f"products from {source.init} have no probability of {name} at {point.threshold:g}, nor members",
            advice=f"choose from {' '.join(f'{t:g}' for t in variable.thresholds)}, or "
            "run `convcast cycle --set sampling.keep=both`",
        )
    with open_forecast(path) as data:
        if name not in data:
            raise SettingsError(f"{path} has no field {name}", advice="choose another field")
        near = _Near(read_grid(data, path), point, path)
        return path, [near.share(data, variable, i) for i in range(data.sizes["lead_time"])]


class _Near:
    """The grid points within a point's radius, as a window of rows and columns and a mask in it."""

    def __init__(self, grid: Grid, point: AlertPoint, path: Path) -> None:
        x, y = projection()(point.longitude, point.latitude)
        column, row = (x - grid.x[0]) / SPACING, (y - grid.y[0]) / SPACING
        if not (-0.5 <= row < grid.ny - 0.5 and -0.5 <= column < grid.nx - 0.5):
            raise SettingsError(
                f"{point.latitude:g} N, {point.longitude:g} E is outside the forecast's domain",
                advice="choose a point within it",
            )
        half = ceil(1000 * point.radius_km / SPACING * STRETCH) + 1
        first = max(0, round(row) - half), max(0, round(column) - half)
        self._rows = slice(first[0], min(grid.ny, round(row) + half + 1))
        self._columns = slice(first[1], min(grid.nx, round(column) + half + 1))
        latitude, longitude = grid.crop(self._rows, self._columns).latitude_longitude()
        here = np.full_like(longitude, point.longitude), np.full_like(latitude, point.latitude)
        _, _, metres = Geod(a=EARTH_RADIUS, f=0).inv(longitude, latitude, *here)
        self._inside = metres <= 1000 * point.radius_km
        self._inside[min(round(row), grid.ny - 1) - first[0], min(round(column), grid.nx - 1) - first[1]] = True
        self._threshold, self._path = point.threshold, path

    def highest(self, chances: xr.DataArray) -> float:
        """Return the largest probability within the radius, of probabilities (y, x)."""
        near = read_values(chances.isel(y=self._rows, x=self._columns), self._path)
        return float(near[self._inside].max())

    def share(self, data: xr.Dataset, variable: Variable, lead_index: int) -> float:
        """Return the largest fraction of complete members that have the event at one grid point, at one lead."""
        numbers = np.flatnonzero(data.complete.values[0, :, lead_index] == COMPLETE)
        if numbers.size == 0:
            return 0.0
        of_lead = data[variable.name].isel(init_time=0, lead_time=lead_index, y=self._rows, x=self._columns)
        members = read_values(of_lead.isel(number=numbers), self._path)
        event = variable.happens(members, self._threshold)
        return float(event.mean(axis=0)[self._inside].max())


def _remembered(workspace: Workspace) -> dict[str, list[str]]:
    """Read the keys of points already alerted, by initial time; a damaged file counts as empty."""
    try:
        document = read_json(workspace.alerts_sent)
    except (FileNotFoundError, DamagedFileError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {hour: list(keys) for hour, keys in document.items() if isinstance(keys, list)}
