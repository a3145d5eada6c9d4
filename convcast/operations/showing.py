"""What there is to look at: the fields of a workspace's forecasts, ready to be drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from convcast.conventions import COMPLETE
from convcast.dataset import Dataset
from convcast.errors import ConvcastError, DamagedFileError, MissingInputError, SettingsError
from convcast.grid import CONUS, SPACING, Grid
from convcast.notation import HOUR, Hour, from_compact, parse_hours, parse_numbers
from convcast.pictures.forecast import OF_MEMBERS, Shown, of_members
from convcast.pictures.ground import Ground
from convcast.variables import STATIC, Variable
from convcast.workspace import Workspace

FORMATS = ("convcast ensemble", "convcast products")


@dataclass(frozen=True)
class Source:
    """What is kept of the forecast of one initial time."""

    init: Hour
    members: Path | None
    products: Path | None


def available(workspace: Workspace, text: str) -> list[Source]:
    """Forecasts by `latest`, a time or a range; of a range, those that there are.

    Raises MissingInputError where there is none.
    """
    kept = {init for folder in (workspace.forecasts, workspace.products) for init in _inits(folder)}
    wanted = ([max(kept)] if kept else []) if text == "latest" else [hour for hour in parse_hours(text) if hour in kept]
    if not wanted:
        which = "" if text == "latest" else f" from {text}"
        raise MissingInputError(f"there is no forecast{which}", advice="run `convcast sample --init latest`")
    return [
        Source(init, *(path if path.exists() else None for path in (workspace.forecast(init), workspace.product(init))))
        for init in wanted
    ]


def show(
    workspace: Workspace,
    source: Source,
    variables: Sequence[Variable],
    leads: Sequence[int] | None,
    *,
    threshold: float | None,
    kinds: Sequence[str],
    chosen: bool,
) -> Iterator[tuple[Shown, list[str]]]:
    """Each field at each lead, and the kinds of pictures that can be made of it.

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
    with _opened(path) as data:
        grid = _grid(data, path)
        ground = Ground(grid, _land(workspace, grid))
        there = [int(lead / HOUR) for lead in data.lead_time.values]
        for lead in leads or there:
            if lead not in there:
                raise SettingsError(
                    f"{path} has no lead of {lead} h", advice=f"choose from --leads {','.join(map(str, there))}"
                )
            for variable in variables:
                read = _from_members if source.members is not None else _from_products
                shown = read(
                    data, path, variable, there.index(lead), _threshold(variable, threshold), source, lead, ground
                )
                if shown is not None:
                    yield shown, possible


def _from_members(
    data: xr.Dataset,
    path: Path,
    variable: Variable,
    place: int,
    threshold: float,
    source: Source,
    lead: int,
    ground: Ground,
) -> Shown | None:
    """None where no member is complete yet."""
    if variable.name not in data:
        raise SettingsError(f"{path} has no field {variable.name}", advice="choose another --field")
    numbers = np.flatnonzero(data.complete.values[0, :, place] == COMPLETE)
    if numbers.size == 0:
        return None
    members = np.asarray(data[variable.name].isel(init_time=0, number=numbers, lead_time=place).values)
    rest = partial(
        Shown,
        variable=variable,
        threshold=threshold,
        init=source.init,
        lead=lead,
        ground=ground,
        numbers=tuple(int(number) for number in data.number.values[numbers]),
        **_said(data),
    )
    return of_members(rest, variable, threshold, members)


def _from_products(
    data: xr.Dataset,
    path: Path,
    variable: Variable,
    place: int,
    threshold: float,
    source: Source,
    lead: int,
    ground: Ground,
) -> Shown:
    if f"{variable.name}_mean" not in data:
        raise SettingsError(f"{path} has no field {variable.name}", advice="choose another --field")
    here = data.isel(init_time=0, lead_time=place)
    thresholds = here[f"{variable.name}_threshold"].values.tolist()
    if threshold not in thresholds:
        raise SettingsError(
            f"{path} has no probability of {variable.name} at {threshold:g}",
            advice=f"choose from --threshold {' '.join(f'{t:g}' for t in thresholds)}, or sample with --keep both",
        )
    return Shown(
        variable=variable,
        threshold=threshold,
        init=source.init,
        lead=lead,
        ground=ground,
        numbers=parse_numbers(str(data.attrs["members"]), "members"),
        members=None,
        mean=here[f"{variable.name}_mean"].values,
        spread=here[f"{variable.name}_spread"].values,
        probability=here[f"{variable.name}_probability"].values[thresholds.index(threshold)],
        **_said(data),
    )


def _said(data: xr.Dataset) -> dict[str, Any]:
    return {
        "simulated": bool(data.attrs.get("simulated", 0)),
        "source": f"convcast {data.attrs.get('convcast_version', '')}, model {data.attrs.get('model', 'unknown')}",
    }


def _threshold(variable: Variable, asked: float | None) -> float:
    return variable.thresholds[len(variable.thresholds) // 2] if asked is None else asked


def _opened(path: Path) -> xr.Dataset:
    try:
        data: xr.Dataset = xr.open_zarr(path, decode_timedelta=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(f"{path} cannot be read ({error})", advice=f"delete or rename {path}") from error
    if data.attrs.get("format") not in FORMATS:
        raise DamagedFileError(f"{path} is not a convcast forecast", advice=f"delete or rename {path}")
    return data


def _grid(data: xr.Dataset, path: Path) -> Grid:
    """The rectangle of the HRRR grid that the coordinates say."""
    y0, x0 = (round(float((data[name].values[0] - getattr(CONUS, name)[0]) / SPACING)) for name in ("y", "x"))
    grid = Grid(data.sizes["y"], data.sizes["x"], y0, x0)
    if not CONUS.covers(grid) or not np.allclose(grid.x, data.x.values):
        raise DamagedFileError(f"{path} is not on the HRRR grid", advice=f"delete or rename {path}")
    return grid


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


def _inits(folder: Path) -> list[Hour]:
    found = [from_compact(path.stem) for path in folder.glob("*.zarr")]
    return [init for init in found if init is not None]
