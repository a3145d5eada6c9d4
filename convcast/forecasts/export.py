"""Export forecasts to netCDF, and to GRIB2 with ensemble keys and an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from convcast import __version__, grib
from convcast.conventions import COMPLETE
from convcast.errors import SettingsError
from convcast.files import whole_file, write_bytes
from convcast.forecasts.integrity import read_values
from convcast.forecasts.open import open_forecast, read_grid, select_leads
from convcast.notation import Hour, compact, parse_numbers
from convcast.variables import FIELDS, Variable

MOST_MEMBERS = 254
"""Maximum number of members in GRIB2: template 4.1 stores it in one octet, in which 255 means missing."""
SHUFFLED = {"zlib": True, "complevel": 1, "shuffle": True}
"""Lossless netCDF compression; higher levels take several times as long and save a few percent."""


@dataclass(frozen=True)
class ExportedMessage:
    """One GRIB message and the data of its line in the index."""

    variable: Variable
    lead: int
    """Lead time, hours."""
    what: str
    """The last columns of the index: `ENS=+3`, `ens mean`, `prob >=40:prob fcst 0/50`."""
    data: bytes
    """The encoded message."""
    first: int | None = None
    """First lead, hours, of the interval that ends at `lead`; None for the lead alone."""


def to_netcdf(source: Path, target: Path, *, fields: Sequence[str] | None, leads: Sequence[int] | None) -> int:
    """Export an ensemble or its products to one netCDF-4 file with lossless compression.

    Members and leads that are not complete have missing values.

    Args:
        source: Forecast file to export.
        target: netCDF file to write.
        fields: Names of the fields; None for all.
        leads: Lead times, hours; None for all.

    Returns:
        The number of data variables in the file.

    Raises:
        SettingsError: The forecast lacks the fields or a lead.
        DamagedFileError: `source` is damaged or is not a convcast forecast.
    """
    with open_forecast(source) as data:
        hours = select_leads(data, source, leads)
        names = [str(name) for name in data.data_vars if fields is None or str(name).split("_")[0] in fields]
        if not names:
            raise SettingsError(
                f"{source} has none of the fields {' '.join(fields or ())}", advice="choose another --field"
            )
        chosen = data[names].sel(lead_time=[np.timedelta64(hour, "h") for hour in hours])
        for name in chosen.variables:
            _encode(chosen[name], coordinate=name in chosen.coords)
        chosen.attrs["history"] = (
            f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} convcast {__version__} export of {source.name}"
        )
        encoding: dict[str, dict[str, Any]] = {
            name: SHUFFLED | {"chunksizes": (1,) * (chosen[name].ndim - 2) + chosen[name].shape[-2:]} for name in names
        }
        for field in _stored(chosen[names]):  # checked here, since all errors of netCDF look alike
            read_values(field, source)
        with whole_file(target) as temporary:
            chosen.to_netcdf(temporary, engine="netcdf4", format="NETCDF4", encoding=encoding)
        return len(names)


def _stored(data: xr.Dataset) -> Iterator[xr.DataArray]:
    """Iterate over each field or product at each lead, and over the complete members."""
    for position in range(data.sizes["lead_time"]):
        here = data.isel(init_time=0, lead_time=position)
        members = np.flatnonzero(here.complete.values == COMPLETE) if "complete" in here.coords else [None]
        for field, member in product(here.data_vars.values(), members):
            yield field if member is None else field.isel(number=int(member))


def _encode(variable: xr.DataArray, *, coordinate: bool) -> None:
    """Replace the Zarr encoding by netCDF's, and give flag values the type of their variable, as CF requires."""
    encoding = {key: variable.encoding[key] for key in ("dtype", "units", "calendar") if key in variable.encoding}
    variable.encoding = encoding | {"_FillValue": None if coordinate else variable.encoding.get("_FillValue")}
    if "flag_values" in variable.attrs:
        variable.attrs["flag_values"] = np.asarray(variable.attrs["flag_values"], variable.dtype)


def to_grib(
    source: Path, target: Path, *, fields: Sequence[str] | None, leads: Sequence[int] | None
) -> Iterator[ExportedMessage]:
    """Export the members of an ensemble, or its products, to one GRIB2 file, and write its index beside it.

    The exported products are those with a GRIB template: mean, spread, and probability of events at a point, at the
    lead and at any lead up to it. Messages name NCEP as their centre, since its tables define the fields, and no
    generating process.

    Args:
        source: Forecast file to export.
        target: GRIB2 file to write; the index is `<target>.idx`.
        fields: Names of the fields; None for all.
        leads: Lead times, hours; None for all.

    Yields:
        Each message after it is written; the files are complete when the iterator is exhausted.

    Raises:
        SettingsError: The forecast lacks the fields or a lead, or has more members than GRIB2 can number.
        DamagedFileError: `source` is damaged or is not a convcast forecast.
    """
    offset, lines = 0, []
    with open_forecast(source) as data, whole_file(target) as temporary:
        init = data.init_time.values[0].astype("datetime64[h]")
        with open(temporary, "wb") as file:
            for number, message in enumerate(_messages(data, source, init, fields, leads), 1):
                file.write(message.data)
                lines.append(_index_line(number, offset, init, message))
                offset += len(message.data)
                yield message
    write_bytes(target.with_name(f"{target.name}.idx"), "".join(lines).encode())


def _messages(
    data: xr.Dataset, source: Path, init: Hour, fields: Sequence[str] | None, leads: Sequence[int] | None
) -> Iterator[ExportedMessage]:
    hours = select_leads(data, source, leads)
    members = "complete" in data.coords
    stored = [v for v in FIELDS.values() if (v.name if members else f"{v.name}_mean") in data]
    variables = [v for v in stored if fields is None or v.name in fields]
    if not variables:
        raise SettingsError(
            f"{source} has none of the fields {' '.join(fields or ())}", advice="choose another --field"
        )
    last = int(data.number.max()) if members else 0
    if last >= MOST_MEMBERS:
        raise SettingsError(
            f"{source} has member {last}, and GRIB2 numbers members in one octet, up to {MOST_MEMBERS - 1}",
            advice=f"run `convcast export --init {init} --format netcdf`, which has no such limit",
        )
    grid, simulated = read_grid(data, source), bool(data.attrs.get("simulated", 0))
    for lead in hours:
        here = data.isel(init_time=0).sel(lead_time=np.timedelta64(lead, "h"))
        first = min(select_leads(data, source, None))
        for variable in variables:
            maps = _of_members(here, variable, source) if members else _of_products(here, variable, source, lead, first)
            for what, ensemble, values in maps:
                encoded = grib.encode(
                    values,
                    key=variable.grib,
                    grid=grid,
                    init=init,
                    lead_hours=lead,
                    simulated=simulated,
                    ensemble=ensemble,
                )
                yield ExportedMessage(variable, lead, what, encoded, ensemble.first_lead)


Map = tuple[str, grib.EnsembleSpec, NDArray[np.floating]]
"""Last columns of the index line, ensemble keys, and values (y, x) of a message."""


def _of_members(here: xr.Dataset, variable: Variable, path: Path) -> Iterator[Map]:
    """Yield the map of each complete member."""
    positions = np.flatnonzero(here.complete.values == COMPLETE)
    for position in positions:
        number = int(here.number.values[position])
        keys = grib.EnsembleSpec(len(positions), member=number)
        yield f"ENS=+{number}", keys, read_values(here[variable.name].isel(number=int(position)), path)


def _of_products(here: xr.Dataset, variable: Variable, path: Path, lead: int, first: int) -> Iterator[Map]:
    """Yield the maps of mean, spread and probabilities; `lead` and the file's `first` lead are hours."""
    size = len(parse_numbers(str(here.attrs["members"]), "members"))
    mean, spread, chances = (
        read_values(here[f"{variable.name}_{what}"], path) for what in ("mean", "spread", "probability")
    )
    yield "ens mean", grib.EnsembleSpec(size, derived="mean"), mean
    yield "ens spread", grib.EnsembleSpec(size, derived="spread"), spread
    below = variable.events_below
    by_then = f"{variable.name}_any_time_probability"
    any_time = read_values(here[by_then], path) if by_then in here and lead > first else None
    for position, threshold in enumerate(here[f"{variable.name}_threshold"].values.tolist()):
        keys = grib.EnsembleSpec(size, threshold=threshold, below=below)
        what = f"prob {'<=' if below else '>='}{threshold:g}:prob fcst 0/{size}"
        yield what, keys, 100 * chances[position]
        if any_time is not None:
            yield what, replace(keys, first_lead=first), 100 * any_time[position]


def _index_line(number: int, offset: int, init: Hour, message: ExportedMessage) -> str:
    """Format the index line of a message in wgrib2's format."""
    variable, date = message.variable, compact(init).replace("T", "")
    when = f"{message.lead} hour fcst" if message.first is None else f"{message.first}-{message.lead} hour max fcst"
    level = f"{variable.index_name}:{variable.index_level}:{when}"
    return f"{number}:{offset}:d={date}:{level}:{message.what}\n"
