"""Compute the products of an ensemble, products/<init>.zarr, which take a quarter of the space of 50 members.

The products of each field are its mean, spread, quantiles, and probabilities of its events at a point and in a
neighbourhood. Fields that are constant over large areas, such as reflectivity, also have a probability-matched mean.
Forecasts of several leads also have the probabilities of reflectivity at any lead up to each lead.
The store is written under a temporary name and then renamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from convcast import conventions, stores
from convcast.errors import DamagedFileError
from convcast.files import lock, whole_folder
from convcast.forecasts import labels
from convcast.forecasts.integrity import attribute_leads, read_flags, require_coordinates, start_over_advice
from convcast.forecasts.store import ForecastDescription, unconsolidated_is_fine
from convcast.forecasts.summary import FieldSummary, Floats, any_time, neighbourhood_cells, quantiles, summarise
from convcast.notation import join_numbers
from convcast.settings import ProductSettings
from convcast.variables import REFC, Variable

FORMAT, FORMAT_VERSION = "convcast products", 1
MAP_DIMENSIONS = 4
"""Minimum number of dimensions of a map of products: (init_time, lead_time, y, x)."""
SHARE = {"long_name": "share of members at or below the quantile", "units": "1"}
"""Attributes of the coordinate `quantile`."""
ANY_TIME = ("refc_any_time_probability", "refc_any_time_neighbourhood_probability")
"""Names of the probabilities of reflectivity at any lead up to each lead, at the point and in its neighbourhood."""
PATIENCE = 3600
"""Maximum time, seconds, to wait for another process that computes the same products."""


def readable_leads(
    path: Path, description: ForecastDescription, members: Sequence[int], settings: ProductSettings
) -> set[int]:
    """Return the leads, hours, whose products at `path` can be read and are of this ensemble, members and settings.

    Args:
        path: The store of the products.
        description: The ensemble.
        members: Numbers of the members.
        settings: Settings of the products.

    Raises:
        DamagedFileError: `path` is a link, or is not a store of convcast products.
    """
    if path.is_symlink():
        raise DamagedFileError(
            f"{path} is a link, and products are not written through links", advice=start_over_advice(path)
        )
    if not path.exists():
        return set()
    complaint, advice = f"{path} is not convcast's products", start_over_advice(path)
    group = stores.open_group(path, writing=False, complaint=complaint, advice=advice)
    stored = dict(group.attrs)
    if stored.get("format") != FORMAT:
        raise DamagedFileError(complaint, advice=advice)
    wanted = _attributes(description, members, settings)
    ignored = {*description.information, "leads"}
    if any(stored.get(name) != value for name, value in wanted.items() if name not in ignored):
        return set()
    try:
        require_coordinates(group, path)
    except DamagedFileError:
        return set()
    leads = enumerate(attribute_leads(stored))
    return {lead for position, lead in leads if _readable(group, position)}


def _readable(group: zarr.Group, position: int) -> bool:
    """Check that all maps at the lead with this position are finite; zarr returns NaN for lost chunks."""
    try:
        with stores.readable("products are damaged"):
            maps = [array for _, array in group.arrays() if array.ndim >= MAP_DIMENSIONS]
            return bool(maps) and all(np.isfinite(np.asarray(array[0, position])).all() for array in maps)
    except DamagedFileError:
        return False


def make_products(
    ensemble: Path,
    path: Path,
    description: ForecastDescription,
    *,
    members: Sequence[int],
    leads: Sequence[int],
    settings: ProductSettings,
) -> bool:
    """Compute the products of these members and leads; products of other leads of the same ensemble are kept.

    Products of another ensemble or of other members are replaced. If several processes draw the members, the last one
    computes the products.

    Args:
        ensemble: Zarr store of the ensemble.
        path: Zarr store of the products, created if absent.
        description: Description of the ensemble.
        members: Numbers of the members.
        leads: Lead times, hours.
        settings: Quantiles, and the radius of the neighbourhood.

    Returns:
        Whether the products are complete; False while other processes are still drawing some of the members.

    Raises:
        DamagedFileError: `path` is not a store of convcast products, or values of the ensemble are lost.
    """
    with lock(path.parent / f".{path.name}.lock", f"making {path}", patience=PATIENCE):
        stored = readable_leads(path, description, members, settings)
        missing = sorted(set(leads) - stored)
        if not missing:
            return True
        complaint, advice = f"{ensemble} is not a convcast ensemble", start_over_advice(ensemble)
        group = stores.open_group(ensemble, writing=False, complaint=complaint, advice=advice)
        stored_leads = attribute_leads(dict(group.attrs))
        complete = stores.open_array(group, "complete", complaint=complaint, advice=advice)
        flags = read_flags(complete)[0][np.ix_(list(members), [stored_leads.index(lead) for lead in leads])]
        if not np.all(flags == conventions.COMPLETE):
            return False
        parts = [
            _one_lead(ensemble, group, stored_leads.index(lead), lead, description, sorted(set(members)), settings)
            for lead in missing
        ]
        if stored:
            with xr.open_zarr(path, zarr_format=3, decode_timedelta=True) as existing:
                parts.append(existing.sel(lead_time=[np.timedelta64(lead, "h") for lead in sorted(stored)]).load())
        parts = [part.drop_vars(ANY_TIME, errors="ignore") for part in parts]
        data = xr.concat(parts, "lead_time", data_vars="minimal", coords="minimal", compat="override", join="exact")
        data = data.sortby("lead_time").assign(
            _any_time(ensemble, group, sorted({*missing, *stored}), description, sorted(set(members)), settings)
        )
        data.attrs = _attributes(description, members, settings) | {"leads": sorted({*missing, *stored})}
        _replace(path, data)
    return True


def _one_lead(
    ensemble: Path,
    group: zarr.Group,
    position: int,
    lead: int,
    description: ForecastDescription,
    members: Sequence[int],
    settings: ProductSettings,
) -> xr.Dataset:
    shape, again = description.grid.shape, "run the same command again, which draws it again"
    data: dict[str, xr.Variable] = {}
    coordinates: dict[str, Any] = {"quantile": ("quantile", list(settings.quantiles), SHARE)}
    for variable in description.variables:
        array = group[variable.name]
        assert isinstance(array, zarr.Array)

        def read(member: int, rows: slice = slice(None), array: zarr.Array = array) -> Floats:
            with stores.readable(f"{ensemble} has damaged values of member {member} at lead {lead} h", again):
                values = np.asarray(array[0, member, position, rows], np.float32)
            if not np.isfinite(values).all():
                raise DamagedFileError(f"{ensemble} has lost values of member {member} at lead {lead} h", advice=again)
            return values

        radius = neighbourhood_cells(settings.neighbourhood)
        summary = summarise(variable, (read(member) for member in members), radius=radius)
        bands = quantiles(
            lambda rows, read=read: [read(member, rows) for member in members],  # type: ignore[misc]
            settings.quantiles,
            shape,
            len(members),
        )
        data |= _maps(variable, summary, bands, settings.neighbourhood)
        threshold = {"long_name": f"{variable.long_name} of the event", "units": variable.units}
        coordinates[f"{variable.name}_threshold"] = (f"{variable.name}_threshold", list(variable.thresholds), threshold)
    frame = conventions.ensemble_dataset(
        {},
        init=description.init,
        members=(),
        leads=[lead],
        grid=description.grid,
        attributes={},
        direct=description.direct,
    ).drop_vars(["number", "complete"])
    return frame.assign_coords(coordinates).assign(data)


def _any_time(
    ensemble: Path,
    group: zarr.Group,
    leads: Sequence[int],
    description: ForecastDescription,
    members: Sequence[int],
    settings: ProductSettings,
) -> dict[str, xr.Variable]:
    """Return the maps of ANY_TIME, (init_time, lead_time, threshold, y, x).

    There are none if the forecast has a single lead, or if the members of a lead have been deleted.
    """
    stored_leads = attribute_leads(dict(group.attrs))
    if REFC not in description.variables or len(leads) < 2 or not set(leads) <= set(stored_leads):
        return {}
    advice = "run the same command again, which draws it again"
    positions = [stored_leads.index(lead) for lead in leads]
    complete = stores.open_array(group, "complete", complaint=f"{ensemble} is not an ensemble", advice=advice)
    if not np.all(read_flags(complete)[0][np.ix_(list(members), positions)] == conventions.COMPLETE):
        return {}
    array = group[REFC.name]
    assert isinstance(array, zarr.Array)

    def read(member: int, position: int) -> Floats:
        with stores.readable(f"{ensemble} has damaged values of member {member}", advice):
            return np.asarray(array[0, member, position], np.float32)

    fields = ((read(member, position) for position in positions) for member in members)
    cells = neighbourhood_cells(settings.neighbourhood)
    made = any_time(REFC, fields, REFC.thresholds, len(leads), radius=cells)
    dimensions = ("init_time", "lead_time", f"{REFC.name}_threshold", "y", "x")
    return {
        name: xr.Variable(
            dimensions,
            values[None],
            labels.probability(REFC, within=within, any_time=True),
            dict(conventions.ENCODING),
        )
        for name, values, within in zip(ANY_TIME, made, (None, settings.neighbourhood), strict=True)
    }


def _maps(variable: Variable, summary: FieldSummary, bands: Floats, kilometres: float) -> dict[str, xr.Variable]:
    """Return the products of a field by name, each (init_time, lead_time, …, y, x)."""
    name, on_lattice = variable.name, partial(conventions.on_lattice, variable)
    thresholds = (f"{name}_threshold",)

    def map_of(values: Floats, attributes: dict[str, Any], between: tuple[str, ...] = ()) -> xr.Variable:
        dimensions = ("init_time", "lead_time", *between, "y", "x")
        return xr.Variable(dimensions, values[None, None], attributes, dict(conventions.ENCODING))

    near = labels.probability(variable, within=kilometres)
    products = {
        f"{name}_mean": map_of(on_lattice(summary.mean), labels.mean(variable)),
        f"{name}_spread": map_of(on_lattice(summary.spread), labels.spread(variable)),
        f"{name}_quantile": map_of(on_lattice(bands), labels.statistic(variable, "ensemble quantile"), ("quantile",)),
        f"{name}_probability": map_of(summary.probability, labels.probability(variable), thresholds),
        f"{name}_neighbourhood_probability": map_of(summary.neighbourhood, near, thresholds),
    }
    if variable.may_be_constant:
        products[f"{name}_matched_mean"] = map_of(on_lattice(summary.matched_mean), labels.matched_mean(variable))
    return products


def _attributes(description: ForecastDescription, members: Sequence[int], settings: ProductSettings) -> dict[str, Any]:
    title = str(description.information.get("title", "convcast ensemble forecast"))
    return description.attributes() | {
        "Conventions": "CF-1.11",
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "title": f"{title}: products",
        "members": join_numbers(members),
        "neighbourhood_km": settings.neighbourhood,
        "quantiles": list(settings.quantiles),
    }


def _replace(path: Path, data: xr.Dataset) -> None:
    """Write under a temporary name, then rename: readers find the old products, the new ones, or briefly none."""
    compressor = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=4)
    for variable in data.variables.values():
        variable.encoding = {
            name: v for name, v in variable.encoding.items() if name in ("dtype", "_FillValue", "units")
        }
    for coordinate in data.coords.values():
        coordinate.encoding["_FillValue"] = None  # CF allows no fill value on coordinates
    encoding = {
        str(name): conventions.ENCODING | {"chunks": (1,) * (v.ndim - 2) + v.shape[-2:], "compressors": compressor}
        for name, v in data.data_vars.items()
    }
    with whole_folder(path) as temporary, unconsolidated_is_fine():
        data.to_zarr(temporary, mode="w", zarr_format=3, consolidated=True, encoding=encoding)
