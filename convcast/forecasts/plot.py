"""Prepare the fields of a workspace's forecasts for plotting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from convcast.conventions import COMPLETE
from convcast.dataset import Dataset
from convcast.errors import ConvcastError, SettingsError
from convcast.forecasts.integrity import read_values
from convcast.forecasts.open import StoredForecast, open_forecast, read_grid, select_leads
from convcast.grid import Grid
from convcast.notation import parse_numbers
from convcast.pictures.base_map import BaseMap
from convcast.pictures.forecast import OF_MEMBERS, ForecastField, from_members
from convcast.variables import STATIC, Variable
from convcast.workspace import Workspace

Rest = Callable[..., ForecastField]
"""Constructor of `ForecastField` with the arguments that all fields of a forecast share already given."""


def select_maps(
    workspace: Workspace,
    source: StoredForecast,
    variables: Sequence[Variable],
    leads: Sequence[int] | None,
    *,
    threshold: float | None,
    kinds: Sequence[str],
    chosen: bool,
    most: int | None = None,
) -> Iterator[tuple[ForecastField, list[str]]]:
    """Yield each field at each lead, with the kinds of plots that can be drawn of it.

    Args:
        workspace: Workspace of the forecast.
        source: The forecast.
        variables: Fields to plot.
        leads: Lead times, hours; None for all.
        threshold: Threshold of the event probabilities; None for the middle threshold of each field.
        kinds: Kinds of plots requested.
        chosen: Whether the user chose the kinds, so that an unavailable kind is an error instead of omitted.
        most: Maximum number of members to read; None for all.

    Raises:
        SettingsError: The forecast lacks a lead, a field, a threshold or, if `chosen`, a kind of plot.
        DamagedFileError: A file is damaged or is not a convcast forecast.
    """
    possible = list(kinds)
    if source.members is None:
        possible = [kind for kind in kinds if kind not in OF_MEMBERS]
        if chosen and len(possible) < len(kinds):
            raise SettingsError(
                f"the forecast from {source.init} has only products, which contain no members to draw",
                advice="sample with --keep both, or draw mean, spread and probability",
            )
    path = source.members or source.products
    assert path is not None
    with open_forecast(path) as data:
        grid = read_grid(data, path)
        rest = partial(
            ForecastField,
            init=source.init,
            base_map=BaseMap(grid, _land(workspace, grid)),
            simulated=bool(data.attrs.get("simulated", 0)),
            source=f"convcast {data.attrs.get('convcast_version', '')}, model {data.attrs.get('model', 'unknown')}",
        )
        stored_leads = select_leads(data, path, None)
        read = partial(_from_members, most=most) if source.members is not None else _from_products
        for lead in select_leads(data, path, leads):
            for variable in variables:
                limit = _threshold(variable, threshold)
                shown = read(
                    data.isel(init_time=0, lead_time=stored_leads.index(lead)), path, variable, limit, lead, rest
                )
                if shown is not None:
                    yield shown, possible


def _from_members(
    here: xr.Dataset,
    path: Path,
    variable: Variable,
    threshold: float,
    lead: int,
    rest: Rest,
    *,
    most: int | None,
) -> ForecastField | None:
    """Return None if no member is complete yet."""
    if variable.name not in here:
        raise SettingsError(f"{path} has no field {variable.name}", advice="choose another --field")
    numbers = np.flatnonzero(here.complete.values == COMPLETE)[:most]
    if numbers.size == 0:
        return None
    members = read_values(here[variable.name].isel(number=numbers), path)
    members_read = tuple(int(number) for number in here.number.values[numbers])
    construct = partial(rest, variable=variable, threshold=threshold, lead=lead, numbers=members_read)
    return from_members(construct, variable, threshold, members)


def _from_products(
    here: xr.Dataset, path: Path, variable: Variable, threshold: float, lead: int, rest: Rest
) -> ForecastField:
    if f"{variable.name}_mean" not in here:
        raise SettingsError(f"{path} has no field {variable.name}", advice="choose another --field")
    thresholds = here[f"{variable.name}_threshold"].values.tolist()
    if threshold not in thresholds:
        raise SettingsError(
            f"{path} has no probability of {variable.name} at {threshold:g}",
            advice=f"choose from --threshold {' '.join(f'{t:g}' for t in thresholds)}, or sample with --keep both",
        )
    return rest(
        variable=variable,
        threshold=threshold,
        lead=lead,
        numbers=parse_numbers(str(here.attrs["members"]), "members"),
        members=None,
        mean=read_values(here[f"{variable.name}_mean"], path),
        spread=read_values(here[f"{variable.name}_spread"], path),
        probability=read_values(here[f"{variable.name}_probability"], path)[thresholds.index(threshold)],
    )


def with_neighbourhood(shown: ForecastField, path: Path) -> ForecastField:
    """Replace the probability of the event at a point by that in the neighbourhood, from the products at `path`."""
    name = shown.variable.name
    with open_forecast(path) as data:
        here = data.isel(init_time=0, lead_time=select_leads(data, path, None).index(shown.lead))
        position = here[f"{name}_threshold"].values.tolist().index(shown.threshold)
        chances = read_values(here[f"{name}_neighbourhood_probability"], path)[position]
        return replace(shown, probability=chances, near=float(data.attrs["neighbourhood_km"]))


def _threshold(variable: Variable, requested: float | None) -> float:
    return variable.middle_threshold if requested is None else requested


def _land(workspace: Workspace, grid: Grid) -> Any:
    """Return the land mask (y, x) of the dataset, or None if no dataset covers the forecast."""
    try:
        dataset = Dataset.open(workspace.dataset)
    except ConvcastError:
        return None
    if not dataset.grid.covers(grid):
        return None
    return dataset.static[list(STATIC).index("lsm")][dataset.grid.window(grid)]
