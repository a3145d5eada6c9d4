"""What there is to look at: the fields of a workspace's forecasts, ready to be drawn."""

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
from convcast.forecasts.open import Source, leads_of, opened, place_of
from convcast.grid import Grid
from convcast.notation import parse_numbers
from convcast.pictures.base_map import BaseMap
from convcast.pictures.forecast import OF_MEMBERS, ForecastField, from_members
from convcast.variables import STATIC, Variable
from convcast.workspace import Workspace

Rest = Callable[..., ForecastField]
"""Makes what is shown of what differs from field to field."""


def show(
    workspace: Workspace,
    source: Source,
    variables: Sequence[Variable],
    leads: Sequence[int] | None,
    *,
    threshold: float | None,
    kinds: Sequence[str],
    chosen: bool,
    most: int | None = None,
) -> Iterator[tuple[ForecastField, list[str]]]:
    """Each field at each lead, and the kinds of pictures that can be made of it; of members, the first `most`.

    Raises SettingsError for leads, fields, thresholds or (where they were `chosen`) kinds that there is nothing of,
    DamagedFileError for files of others.
    """
    possible = list(kinds)
    if source.members is None:
        possible = [kind for kind in kinds if kind not in OF_MEMBERS]
        if chosen and len(possible) < len(kinds):
            raise SettingsError(
                f"of the forecast from {source.init} only products were kept, which have no members to draw",
                advice="sample with --keep both, or draw mean, spread and probability",
            )
    path = source.members or source.products
    assert path is not None
    with opened(path) as data:
        grid = place_of(data, path)
        rest = partial(
            ForecastField,
            init=source.init,
            base_map=BaseMap(grid, _land(workspace, grid)),
            simulated=bool(data.attrs.get("simulated", 0)),
            source=f"convcast {data.attrs.get('convcast_version', '')}, model {data.attrs.get('model', 'unknown')}",
        )
        there = leads_of(data, path, None)
        read = partial(_from_members, most=most) if source.members is not None else _from_products
        for lead in leads_of(data, path, leads):
            for variable in variables:
                limit = _threshold(variable, threshold)
                shown = read(data.isel(init_time=0, lead_time=there.index(lead)), path, variable, limit, lead, rest)
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
    """None where no member is complete yet."""
    if variable.name not in here:
        raise SettingsError(f"{path} has no field {variable.name}", advice="choose another --field")
    numbers = np.flatnonzero(here.complete.values == COMPLETE)[:most]
    if numbers.size == 0:
        return None
    members = read_values(here[variable.name].isel(number=numbers), path)
    named = tuple(int(number) for number in here.number.values[numbers])
    made = partial(rest, variable=variable, threshold=threshold, lead=lead, numbers=named)
    return from_members(made, variable, threshold, members)


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


def nearby(shown: ForecastField, path: Path) -> ForecastField:
    """The same with the probability of the event in the neighbourhood, from the products it was read from."""
    name = shown.variable.name
    with opened(path) as data:
        here = data.isel(init_time=0, lead_time=leads_of(data, path, None).index(shown.lead))
        place = here[f"{name}_threshold"].values.tolist().index(shown.threshold)
        chances = read_values(here[f"{name}_neighbourhood_probability"], path)[place]
        return replace(shown, probability=chances, near=float(data.attrs["neighbourhood_km"]))


def _threshold(variable: Variable, asked: float | None) -> float:
    return variable.middle_threshold if asked is None else asked


def _land(workspace: Workspace, grid: Grid) -> Any:
    """The land mask of the dataset, (y, x), where there is a dataset that covers the forecast."""
    try:
        dataset = Dataset.open(workspace.dataset)
    except ConvcastError:
        return None
    if not dataset.grid.covers(grid):
        return None
    top, left = grid.y0 - dataset.grid.y0, grid.x0 - dataset.grid.x0
    mask = dataset.static[list(STATIC).index("lsm")]
    return mask[top : top + grid.ny, left : left + grid.nx]
