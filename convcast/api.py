"""The Python interface: `convcast.open_forecast`, and the accessor `.convcast` of the datasets that it returns.

import convcast as cc

forecast = cc.open_forecast("convcast-demo/forecasts/20240523T06.zarr")
forecast.sel(lead_time=1).refc.isel(number=0).plot()
forecast.convcast.probability("refc", 40, lead_time=1).plot()
forecast.convcast.plot("spaghetti", "refc", threshold=40)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from convcast import stores
from convcast.conventions import COMPLETE
from convcast.errors import MissingInputError, SettingsError
from convcast.forecasts import labels, open as files
from convcast.forecasts.summary import match_mean, neighbourhood_cells, neighbourhood_probability
from convcast.grid import SPACING, projection
from convcast.notation import HOUR
from convcast.settings import ProductSettings
from convcast.variables import FIELDS, Variable, select
from convcast.workspace import Workspace

if TYPE_CHECKING:
    from pyproj import CRS

Values = NDArray[np.floating]
Leads = int | list[int] | None
ENSEMBLE = ("init_time", "number", "lead_time")
"""Dimensions of a forecast other than those of space."""
RADIUS = ProductSettings().neighbourhood
"""Default radius of neighbourhoods, km."""


def open_forecast(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a forecast or its products, lazily, as a dataset with the accessor `.convcast`.

    Two things differ from `xarray.open_zarr`: `lead_time` is in whole hours, so that `.sel(lead_time=1)` works, and a
    file that has lost values raises an error. Open several initial times with
    `xarray.concat([open_forecast(path) for path in paths], "init_time")`.

    Args:
        path: A folder `forecasts/<init>.zarr` or `products/<init>.zarr` of a workspace.

    Returns:
        Members, (init_time, number, lead_time, y, x), or products, (init_time, lead_time, ..., y, x), in SI units and
        dBZ. Values of members that are not complete are NaN.

    Raises:
        MissingInputError: There is no such folder.
        DamagedFileError: It is not a forecast of convcast, or has lost values that it marks as complete.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"{path} does not exist", advice="run `convcast sample --init latest`, or name another")
    data = files.open_forecast(path)
    hours = (data.lead_time.values / HOUR).astype(np.int64)
    counted = data.assign_coords(lead_time=("lead_time", hours, data.lead_time.attrs | {"units": "hours"}))
    counted.set_close(data.close)
    return counted


@dataclass(frozen=True)
class Picture:
    """A map as PNG, which a notebook shows and `save` writes."""

    png: bytes = field(repr=False)

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file, `path`."""
        Path(path).write_bytes(self.png)


@xr.register_dataset_accessor("convcast")
class Forecast:
    """Methods that convcast adds to a forecast: `forecast.convcast`, where `forecast` is from `open_forecast`.

    All methods work on a part of a forecast too: some members, leads or places. Fields are named as in the dataset
    (`refc`, `t2m`, `d2m`, `u10`, `v10`, `cape`, `cin`). Members that are not complete are left out; where none is
    complete, the result is NaN. Products have no members; the methods return what is stored.
    """

    def __init__(self, data: xr.Dataset) -> None:
        self._data = data

    @property
    def crs(self) -> CRS:
        """Projection of the coordinates `x` and `y`, which cartopy and rioxarray take."""
        from pyproj import CRS

        return CRS.from_cf(self._data.spatial_ref.attrs)

    def nearest(self, latitude: ArrayLike, longitude: ArrayLike) -> xr.Dataset:
        """Return the forecast at the grid points nearest to places.

        Args:
            latitude: Latitude, degrees north: a number, or a sequence with one for each place.
            longitude: Longitude, degrees east (west is negative).

        Returns:
            The dataset without `y` and `x`; with a dimension `place` if several places are given.

        Raises:
            SettingsError: A place is not on the forecast's grid.
        """
        north, east = np.broadcast_arrays(np.asarray(latitude, float), np.asarray(longitude, float))
        if north.ndim > 1:
            raise SettingsError(
                "latitude and longitude have more than one dimension", advice="give one of each for every place"
            )
        found, near = {}, np.ones(north.shape, bool)
        for name, metres in zip("xy", projection()(east, north), strict=True):
            distances = np.abs(self._data[name].values - np.asarray(metres)[..., None])
            indices = distances.argmin(axis=-1)
            near &= distances.min(axis=-1) <= SPACING / 2 + 1  # pyproj puts an invalid latitude at infinity
            found[name] = xr.Variable("place", indices) if indices.ndim else indices
        if not near.all():
            away = np.flatnonzero(~near)[0]
            raise SettingsError(
                f"{north.flat[away]:g} N, {east.flat[away]:g} E is not on the forecast's grid",
                advice=f"choose a place {self._extent()}; western longitudes are negative",
            )
        return self._data.isel(found)

    def probability(self, field: str, threshold: float, *, lead_time: Leads = None) -> xr.DataArray:
        """Return the probability of an event: the share of members at or above a threshold (CIN: at or below).

        Args:
            field: Name of the field.
            threshold: Threshold in the field's units. Products hold only the settings' thresholds.
            lead_time: Lead or leads, hours; all by default.

        Returns:
            Probabilities from 0 to 1, with the dimensions of the field except `number`.

        Raises:
            SettingsError: The forecast has no such field, lead or, of products, threshold.
            DamagedFileError: Values cannot be read.
        """
        variable = self._variable(field)
        attributes = labels.probability(variable, f"{threshold:g} {variable.sign}")
        return self._derive(
            variable,
            lambda members: variable.happens(members, threshold).mean(axis=0),
            attributes,
            what="probability",
            lead_time=lead_time,
            threshold=threshold,
        )

    def neighbourhood(
        self, field: str, threshold: float, *, radius: float = RADIUS, lead_time: Leads = None
    ) -> xr.DataArray:
        """Return the probability of an event anywhere in a neighbourhood of each point.

        Args:
            field: Name of the field.
            threshold: Threshold in the field's units.
            radius: Radius of the neighbourhood, km. Products hold only that of the setting `products.neighbourhood`.
            lead_time: Lead or leads, hours; all by default.

        Returns:
            Probabilities from 0 to 1, (..., y, x). No event is assumed beyond the edge of the domain.

        Raises:
            SettingsError: As for `probability`, or the dataset has no `y` and `x`.
            DamagedFileError: Values cannot be read.
        """
        variable = self._variable(field)
        if not {"y", "x"} <= set(self._data.dims):
            raise SettingsError("single points have no neighbourhood", advice="compute it before .nearest(...)")
        stored = self._data.attrs.get("neighbourhood_km")
        if not self._of_members and stored != radius:
            raise SettingsError(f"the products hold neighbourhoods of {stored:g} km", advice=f"use radius={stored:g}")
        cells = neighbourhood_cells(radius)
        return self._derive(
            variable,
            partial(neighbourhood_probability, variable, threshold=threshold, radius=cells),
            labels.probability(variable, f"{threshold:g} {variable.sign}", within=radius),
            what="neighbourhood_probability",
            lead_time=lead_time,
            threshold=threshold,
        )

    def mean(self, field: str, *, lead_time: Leads = None) -> xr.DataArray:
        """Return the ensemble mean of a field, in its units; arguments as for `probability`."""
        variable = self._variable(field)
        average = partial(np.mean, axis=0)
        return self._derive(variable, average, labels.mean(variable), what="mean", lead_time=lead_time)

    def spread(self, field: str, *, lead_time: Leads = None) -> xr.DataArray:
        """Return the standard deviation of the members (n - 1), in the field's units; 0 for a single member.

        The arguments are those of `probability`.
        """
        variable = self._variable(field)

        def deviation(members: Values) -> Values:
            return np.asarray(members.std(axis=0, ddof=min(1, len(members) - 1)))

        return self._derive(variable, deviation, labels.spread(variable), what="spread", lead_time=lead_time)

    def maximum(self, field: str, *, lead_time: Leads = None) -> xr.DataArray:
        """Return the highest value of any member at each point (of CIN, the lowest), in the field's units.

        Raises SettingsError for products, which do not hold it.

        The arguments are those of `probability`.
        """
        variable = self._variable(field)
        extreme = partial(np.min if variable.events_below else np.max, axis=0)
        return self._derive(variable, extreme, labels.maximum(variable), what="maximum", lead_time=lead_time)

    def matched_mean(self, field: str, *, lead_time: Leads = None) -> xr.DataArray:
        """Return the probability-matched mean (Ebert 2001) of `refc`, `cape` or `cin`, in its units.

        It has the pattern of the mean, and the values of the members. Raises SettingsError for other fields.

        The arguments are those of `probability`.
        """
        variable = self._variable(field)
        if not variable.may_be_constant:
            raise SettingsError(f"{field} has no probability-matched mean", advice="use refc, cape or cin")
        matched = partial(match_mean, variable)
        attributes = labels.matched_mean(variable)
        return self._derive(variable, matched, attributes, what="matched_mean", lead_time=lead_time)

    def plot(
        self,
        kind: str = "probability",
        field: str = "refc",
        *,
        threshold: float | None = None,
        lead_time: int | None = None,
        units: Literal["si", "us"] = "si",
    ) -> Picture:
        """Draw a map as `convcast plot` does, with the analysis where the forecast's workspace has it.

        Args:
            kind: `stamps`, `mean`, `spread`, `probability`, `neighbourhood`, `any-time`, `any-time-neighbourhood`,
                `maximum`, `matched-mean`, `paintball`, `spaghetti`, `wind` or `difference`.
            field: Name of the field.
            threshold: Threshold of the event, in the units of the map; by default the field's middle one.
            lead_time: Lead, hours; the first by default.
            units: `si`, or `us` for °F and kt.

        Raises:
            SettingsError: The forecast lacks the field, the lead or what the kind shows, or has several initial times.
            DamagedFileError: Values cannot be read.
        """
        from convcast.forecasts.plot import maps_of_dataset
        from convcast.pictures.forecast import KINDS, draw
        from convcast.verification.results.warnings import warnings_of_map

        if kind not in KINDS:
            raise SettingsError(f"there is no kind of map {kind!r}", advice=f"use one of {', '.join(KINDS)}")
        variable, data = self._variable(field), self._data
        for name in ("init_time", "lead_time"):
            data = data if name in data.dims else data.expand_dims(name)
        if data.sizes["init_time"] > 1:
            raise SettingsError("a map shows one initial time", advice="select it with .isel(init_time=[0])")
        path = Path(data.encoding.get("source", "forecast"))
        workspace = Workspace(path.absolute().parent.parent)
        lead = int(data.lead_time.values[0]) if lead_time is None else self._lead(lead_time)
        timed = data.assign_coords(lead_time=("lead_time", data.lead_time.values * HOUR))
        maps = maps_of_dataset(
            timed, path, workspace, [variable], [lead], threshold=threshold, kinds=[kind], chosen=True, system=units
        )
        for shown, _ in maps:
            found = warnings_of_map(workspace.root / "verification", shown.model, kind, variable, lead)
            return Picture(draw(kind, replace(shown, warnings=found)))
        raise SettingsError(f"no member is complete at {lead} h", advice="draw the members with `convcast sample`")

    @property
    def _of_members(self) -> bool:
        return "number" in self._data.dims

    def _variable(self, field: str) -> Variable:
        (variable,) = select([field])
        if field not in self._data and f"{field}_mean" not in self._data:
            stored = [name for name in FIELDS if name in self._data or f"{name}_mean" in self._data]
            raise SettingsError(f"the forecast has no {field}", advice=f"it has {' '.join(stored)}")
        return variable

    def _lead(self, lead_time: int) -> int:
        leads = np.atleast_1d(self._data.lead_time.values).tolist()
        if lead_time not in leads:
            raise SettingsError(
                f"the forecast has no lead of {lead_time} h", advice=f"choose from {', '.join(map(str, leads))}"
            )
        return lead_time

    def _at_leads(self, data: xr.Dataset, lead_time: Leads) -> xr.Dataset:
        if lead_time is None:
            return data
        wanted = [self._lead(lead) for lead in np.atleast_1d(lead_time).tolist()]
        if "lead_time" not in data.dims:
            return data
        return data.sel(lead_time=wanted if np.ndim(lead_time) else wanted[0])

    def _derive(
        self,
        variable: Variable,
        function: Callable[[Values], Any],
        attributes: dict[str, Any],
        *,
        what: str,
        lead_time: Leads,
        threshold: float | None = None,
    ) -> xr.DataArray:
        """Apply a function of members, (member, ...), at each initial time and lead, or read the stored product."""
        data = self._at_leads(self._data, lead_time)
        if not self._of_members:
            return self._stored(data, variable, what, attributes, threshold)
        field = data[variable.name]
        outer = [name for name in field.dims if name in ENSEMBLE and name != "number"]
        inner = [name for name in field.dims if name not in ENSEMBLE]
        field = field.transpose(*outer, "number", *inner)
        complete = data.complete.transpose(*outer, "number").values == COMPLETE
        values = np.full([field.sizes[name] for name in (*outer, *inner)], np.nan, np.float32)
        for position in np.ndindex(*(field.sizes[name] for name in outer)):
            here = field.isel(dict(zip(outer, position, strict=True)) | {"number": np.flatnonzero(complete[position])})
            if here.sizes["number"]:
                with stores.readable(f"{data.encoding.get('source', 'the forecast')} has damaged values"):
                    members = np.asarray(here.values)
                values[position] = np.where(np.isnan(members).any(axis=0), np.nan, function(members))
        dims = [*outer, *inner]
        kept = {name: coordinate for name, coordinate in field.coords.items() if {*coordinate.dims} <= {*dims}}
        kept |= {} if threshold is None else {f"{variable.name}_threshold": threshold}
        return xr.DataArray(values, kept, dims, f"{variable.name}_{what}", attributes)

    def _stored(
        self, data: xr.Dataset, variable: Variable, what: str, attributes: dict[str, Any], threshold: float | None
    ) -> xr.DataArray:
        name = f"{variable.name}_{what}"
        if name not in data:
            raise SettingsError(
                f"products hold no {what} of {variable.name}", advice="open forecasts/<init>.zarr, which holds members"
            )
        stored = data[name]
        if threshold is not None:
            thresholds = stored[f"{variable.name}_threshold"].values.tolist()
            if threshold not in thresholds:
                raise SettingsError(
                    f"the products have no probability of {variable.name} at {threshold:g}",
                    advice=f"choose from {', '.join(f'{own:g}' for own in thresholds)}",
                )
            stored = stored.isel({f"{variable.name}_threshold": thresholds.index(threshold)})
        return stored.assign_attrs(attributes)

    def _extent(self) -> str:
        """Name the range of latitudes and longitudes."""
        (south, north), (west, east) = (
            (float(degrees.min()), float(degrees.max())) for degrees in (self._data.latitude, self._data.longitude)
        )
        return f"between {south:.1f} and {north:.1f} N, and {west:.1f} and {east:.1f} E"
