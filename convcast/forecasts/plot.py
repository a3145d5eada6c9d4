"""Prepare the fields of a workspace's forecasts for plotting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from convcast.conventions import COMPLETE
from convcast.errors import SettingsError
from convcast.forecasts.comparison import ReferenceFields
from convcast.forecasts.integrity import read_values
from convcast.forecasts.open import StoredForecast, made_by, model_identity, open_forecast, read_grid, select_leads
from convcast.forecasts.products import ANY_TIME
from convcast.forecasts.summary import any_time, match_mean, neighbourhood_cells, neighbourhood_probability
from convcast.notation import parse_numbers
from convcast.pictures.forecast import OF_MEMBERS, OF_SEVERAL_LEADS, drawable
from convcast.pictures.forecast_field import ForecastField, Wind, from_members
from convcast.pictures.geography.base_map import BaseMap
from convcast.pictures.units import UnitSystem, display_units
from convcast.settings import ProductSettings
from convcast.variables import REFC, U10, V10, Variable
from convcast.workspace import Workspace

Rest = Callable[..., ForecastField]
"""Constructor of `ForecastField` with the arguments that all fields of a forecast share already given."""
WINDS = (U10.name, V10.name)
ROUNDING = 0.02
"""Maximum difference, in the field's units, at which a converted threshold counts as one of the field's thresholds."""


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
    system: UnitSystem = "si",
    radius: float = ProductSettings().neighbourhood,
) -> Iterator[tuple[ForecastField, list[str]]]:
    """Yield each field at each lead, with the kinds of plots that can be drawn of it.

    The wind is drawn once a lead, with the first field.

    Args:
        workspace: Workspace of the forecast.
        source: The forecast.
        variables: Fields to plot.
        leads: Lead times, hours; None for all.
        threshold: Threshold of the event probabilities, in the maps' units; None for the middle one of each field.
        kinds: Kinds of plots requested.
        chosen: Whether the user chose the kinds, so that an unavailable kind is an error instead of omitted.
        most: Maximum number of members to read; None for all.
        system: System of units of the maps.
        radius: Radius, km, of neighbourhood probabilities that are computed from members.

    Raises:
        SettingsError: The forecast lacks a lead, a field, a threshold or, if `chosen`, a kind of plot.
        DamagedFileError: A file is damaged or is not a convcast forecast.
    """
    path = source.members or source.products
    assert path is not None
    with open_forecast(path) as data:
        yield from maps_of_dataset(
            data,
            path,
            workspace,
            variables,
            select_leads(data, path, leads),
            threshold=threshold,
            kinds=kinds,
            chosen=chosen,
            most=most,
            system=system,
            radius=radius,
        )


def maps_of_dataset(
    data: xr.Dataset,
    path: Path,
    workspace: Workspace,
    variables: Sequence[Variable],
    leads: Sequence[int],
    *,
    threshold: float | None,
    kinds: Sequence[str],
    chosen: bool,
    most: int | None = None,
    system: UnitSystem = "si",
    radius: float = ProductSettings().neighbourhood,
) -> Iterator[tuple[ForecastField, list[str]]]:
    """Yield the fields of an opened forecast of one initial time, or of a part of it, as `select_maps` does.

    Args:
        data: The forecast.
        path: Its file, for messages.
        workspace: Workspace of the forecast, whose analyses the maps show.
        variables: Fields to plot.
        leads: Lead times, hours.
        threshold: Threshold of the event probabilities, in the maps' units; None for the middle one of each field.
        kinds: Kinds of plots requested.
        chosen: Whether the user chose the kinds, so that an unavailable kind is an error instead of omitted.
        most: Maximum number of members to read; None for all.
        system: System of units of the maps.
        radius: Radius, km, of neighbourhood probabilities that are computed from members.
    """
    init, of_members = data.init_time.values[0].astype("datetime64[h]"), "number" in data.dims
    if chosen and not of_members and not OF_MEMBERS.isdisjoint(kinds):
        raise SettingsError(
            f"the forecast from {init} has only products, which contain no members to draw",
            advice="sample with --keep both, or draw mean, spread and probability",
        )
    grid = read_grid(data, path)
    simulated = bool(data.attrs.get("simulated", 0))
    comparison = ReferenceFields(workspace, grid, simulated=simulated)
    rest = partial(
        ForecastField,
        init=init,
        base_map=BaseMap(grid, comparison.land, borders=not simulated),
        simulated=simulated,
        source=f"convcast {data.attrs.get('convcast_version', '')}, {made_by(data.attrs)}",
        model=model_identity(data.attrs),
        system=system,
    )
    stored_leads = select_leads(data, path, None)
    read: Callable[..., ForecastField | None] = (
        partial(_from_members, most=most, radius=radius) if of_members else _from_products
    )
    for lead in leads:
        here = data.isel(init_time=0, lead_time=stored_leads.index(lead))
        for position, variable in enumerate(variables):
            limit = _threshold(variable, threshold, system)
            for_lead = partial(
                rest,
                lead=lead,
                observed=comparison.analysis(variable, init, lead),
                reference=comparison.hrrr(variable, init, lead) if "difference" in kinds else None,
                wind=_wind(here, path, most) if "wind" in kinds and position == 0 else None,
            )
            shown = read(here, path, variable, limit, for_lead, kinds)
            if shown is None:
                continue
            window = tuple(one for one in stored_leads if one <= lead)
            if len(window) > 1 and not set(OF_SEVERAL_LEADS).isdisjoint(kinds):
                shown = _with_any_time(shown, data.isel(init_time=0), path, window, stored_leads, most)
            possible = [kind for kind in kinds if drawable(shown, kind)]
            elsewhere = [*(["wind"] if position else []), *(OF_SEVERAL_LEADS if len(window) == 1 < len(leads) else [])]
            lacking = [kind for kind in kinds if kind not in possible and kind not in elsewhere]
            if chosen and lacking:
                raise _unavailable(lacking[0], shown, comparison)
            yield shown, possible


def _threshold(variable: Variable, requested: float | None, system: UnitSystem) -> float:
    """Return a threshold in the field's units, exactly one of the field's thresholds if it is equal up to rounding."""
    if requested is None:
        return variable.middle_threshold
    limit = display_units(variable, system).original(requested)
    return next((own for own in variable.thresholds if abs(own - limit) < ROUNDING), limit)


def _unavailable(kind: str, shown: ForecastField, comparison: ReferenceFields) -> SettingsError:
    if kind == "difference":
        return SettingsError(
            f"there is no HRRR forecast of {shown.variable.name} from {shown.init} for {shown.lead} h ahead",
            advice=f"run `{comparison.fetch_command(shown.init, shown.lead)}`, or leave --kind difference out",
        )
    why = dict.fromkeys(OF_SEVERAL_LEADS, "the forecast has no such probability over several leads") | {
        "wind": "the forecast has no u10 and v10",
        "matched-mean": f"{shown.variable.name} has no probability-matched mean, which is for refc, cape and cin",
    }
    return SettingsError(why.get(kind, f"the forecast has nothing to draw as {kind}"), advice="choose another --kind")


def _from_members(
    here: xr.Dataset,
    path: Path,
    variable: Variable,
    threshold: float,
    rest: Rest,
    kinds: Sequence[str],
    *,
    most: int | None,
    radius: float,
) -> ForecastField | None:
    """Make the maps of one lead from members; None if no member is complete yet."""
    _require(here, path, variable, variable.name)
    numbers = np.flatnonzero(here.complete.values == COMPLETE)[:most]
    if numbers.size == 0:
        return None
    members = read_values(here[variable.name].isel(number=numbers), path)
    members_read = tuple(int(number) for number in here.number.values[numbers])
    products: dict[str, NDArray[np.floating]] = {}
    if "neighbourhood" in kinds:
        cells = neighbourhood_cells(radius)
        products["neighbourhood"] = neighbourhood_probability(variable, members, threshold, radius=cells)
    if "matched-mean" in kinds and variable.may_be_constant:
        products["matched_mean"] = match_mean(variable, members)
    construct = partial(rest, variable=variable, threshold=threshold, numbers=members_read, radius=radius)
    return from_members(construct, variable, threshold, members, **products)


def _from_products(
    here: xr.Dataset, path: Path, variable: Variable, threshold: float, rest: Rest, kinds: Sequence[str]
) -> ForecastField:
    name = variable.name
    _require(here, path, variable, f"{name}_mean")
    thresholds = here[f"{name}_threshold"].values.tolist()
    if threshold not in thresholds:
        raise SettingsError(
            f"{path} has no probability of {name} at {threshold:g}",
            advice=f"choose from --threshold {' '.join(f'{t:g}' for t in thresholds)}, or sample with --keep both",
        )
    position = thresholds.index(threshold)
    wanted = {"neighbourhood": f"{name}_neighbourhood_probability", "matched-mean": f"{name}_matched_mean"}
    found = {
        kind: read_values(here[stored], path) for kind, stored in wanted.items() if kind in kinds and stored in here
    }
    return rest(
        variable=variable,
        threshold=threshold,
        numbers=parse_numbers(str(here.attrs["members"]), "members"),
        members=None,
        mean=read_values(here[f"{name}_mean"], path),
        spread=read_values(here[f"{name}_spread"], path),
        probability=read_values(here[f"{name}_probability"], path)[position],
        neighbourhood=found["neighbourhood"][position] if "neighbourhood" in found else None,
        radius=float(here.attrs["neighbourhood_km"]),
        matched_mean=found.get("matched-mean"),
    )


def _with_any_time(
    shown: ForecastField,
    data: xr.Dataset,
    path: Path,
    window: tuple[int, ...],
    stored_leads: Sequence[int],
    most: int | None,
) -> ForecastField:
    """Return a field with the probabilities of its event at any lead of a window, where the forecast has them."""
    variable, positions = shown.variable, [stored_leads.index(lead) for lead in window]
    if "number" not in data.dims:
        if not all(name in data for name in ANY_TIME) or variable is not REFC:
            return shown
        at = {"lead_time": positions[-1]}
        threshold = data[f"{variable.name}_threshold"].values.tolist().index(shown.threshold)
        maps = (read_values(data[name].isel(at | {f"{variable.name}_threshold": threshold}), path) for name in ANY_TIME)
        point, near = maps
        return replace(shown, any_time=point, any_time_near=near, window=window)
    complete = data.complete.transpose("number", "lead_time").values[:, positions] == COMPLETE
    numbers = np.flatnonzero(complete.all(axis=1))[:most]
    if numbers.size == 0:
        return shown
    values = data[variable.name]
    fields = (
        (read_values(values.isel(number=int(number), lead_time=position), path) for position in positions)
        for number in numbers
    )
    cells = neighbourhood_cells(shown.radius)
    points, nearby = any_time(variable, fields, (shown.threshold,), len(window), radius=cells)
    return replace(shown, any_time=points[-1, 0], any_time_near=nearby[-1, 0], window=window)


def _require(here: xr.Dataset, path: Path, variable: Variable, stored: str) -> None:
    if stored not in here:
        raise SettingsError(f"{path} has no field {variable.name}", advice="choose another --field")


def _wind(here: xr.Dataset, path: Path, most: int | None) -> Wind | None:
    """Return the wind of a lead; from products, the speed is that of the mean wind, since members are not stored."""
    if all(name in here for name in WINDS):
        numbers = np.flatnonzero(here.complete.values == COMPLETE)[:most]
        if numbers.size == 0:
            return None
        x, y = (read_values(here[name].isel(number=numbers), path) for name in WINDS)
        return Wind(x.mean(axis=0), y.mean(axis=0), np.hypot(x, y).mean(axis=0))
    if all(f"{name}_mean" in here for name in WINDS):
        x, y = (read_values(here[f"{name}_mean"], path) for name in WINDS)
        return Wind(x, y, np.hypot(x, y), of_mean=True)
    return None
