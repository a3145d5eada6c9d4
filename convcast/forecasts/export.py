"""Forecasts in the formats that others read: netCDF, and GRIB2 with ensemble keys and an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from convcast.forecasts.open import leads_of, opened, place_of
from convcast.notation import Hour, compact, parse_numbers
from convcast.variables import FIELDS, Variable

MOST_MEMBERS = 254
"""Members that product definition template 4.1 counts and numbers: an octet of all ones means that nothing is given."""
SHUFFLED = {"zlib": True, "complevel": 1, "shuffle": True}
"""Lossless; higher levels take several times as long for a few percent."""


@dataclass(frozen=True)
class Message:
    """One GRIB message and its line in the index."""

    variable: Variable
    lead: int
    """Hours."""
    what: str
    """The last columns of the index: `ENS=+3`, `ens mean`, `prob >=40:prob fcst 0/50`."""
    data: bytes


def to_netcdf(source: Path, target: Path, *, fields: Sequence[str] | None, leads: Sequence[int] | None) -> int:
    """One netCDF-4 file of an ensemble or its products, compressed without loss; how many fields are in it.

    Members or leads that are not complete stand as missing values, as `complete` says.

    Raises SettingsError for fields or leads that there are not, DamagedFileError for a file of others.
    """
    with opened(source) as data:
        hours = leads_of(data, source, leads)
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
        for field in _stored(chosen[names]):  # here, since netCDF's errors while writing look the same
            read_values(field, source)
        with whole_file(target) as temporary:
            chosen.to_netcdf(temporary, engine="netcdf4", format="NETCDF4", encoding=encoding)
        return len(names)


def _stored(data: xr.Dataset) -> Iterator[xr.DataArray]:
    """Each field or product at each lead, member by member, but for members that are not complete."""
    for place in range(data.sizes["lead_time"]):
        here = data.isel(init_time=0, lead_time=place)
        members = np.flatnonzero(here.complete.values == COMPLETE) if "complete" in here.coords else [None]
        for field, member in product(here.data_vars.values(), members):
            yield field if member is None else field.isel(number=int(member))


def _encode(variable: xr.DataArray, *, coordinate: bool) -> None:
    """Replace Zarr's encoding by netCDF's; Zarr keeps no type of attributes, and flags must have their variable's."""
    encoding = {key: variable.encoding[key] for key in ("dtype", "units", "calendar") if key in variable.encoding}
    variable.encoding = encoding | {"_FillValue": None if coordinate else variable.encoding.get("_FillValue")}
    if "flag_values" in variable.attrs:
        variable.attrs["flag_values"] = np.asarray(variable.attrs["flag_values"], variable.dtype)


def to_grib(
    source: Path, target: Path, *, fields: Sequence[str] | None, leads: Sequence[int] | None
) -> Iterator[Message]:
    """One GRIB2 file of an ensemble's members or its products, and an index beside it; each message as it is written.

    Of products, those that GRIB has templates for: mean, spread, probability of events at the point. Messages name NCEP
    as their centre, whose tables name these fields, and no process of its own.

    Raises as `to_netcdf`.
    """
    offset, lines = 0, []
    with opened(source) as data, whole_file(target) as temporary:
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
) -> Iterator[Message]:
    hours = leads_of(data, source, leads)
    members = "complete" in data.coords
    there = [v for v in FIELDS.values() if (v.name if members else f"{v.name}_mean") in data]
    variables = [v for v in there if fields is None or v.name in fields]
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
    grid, simulated = place_of(data, source), bool(data.attrs.get("simulated", 0))
    for lead in hours:
        here = data.isel(init_time=0).sel(lead_time=np.timedelta64(lead, "h"))
        for variable in variables:
            maps = (_of_members if members else _of_products)(here, variable, source)
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
                yield Message(variable, lead, what, encoded)


Map = tuple[str, grib.EnsembleSpec, NDArray[np.floating]]
"""Last columns of the index, keys, and values (y, x)."""


def _of_members(here: xr.Dataset, variable: Variable, path: Path) -> Iterator[Map]:
    """Of those that are complete."""
    places = np.flatnonzero(here.complete.values == COMPLETE)
    for place in places:
        number = int(here.number.values[place])
        keys = grib.EnsembleSpec(len(places), member=number)
        yield f"ENS=+{number}", keys, read_values(here[variable.name].isel(number=int(place)), path)


def _of_products(here: xr.Dataset, variable: Variable, path: Path) -> Iterator[Map]:
    size = len(parse_numbers(str(here.attrs["members"]), "members"))
    mean, spread, chances = (
        read_values(here[f"{variable.name}_{what}"], path) for what in ("mean", "spread", "probability")
    )
    yield "ens mean", grib.EnsembleSpec(size, derived="mean"), mean
    yield "ens spread", grib.EnsembleSpec(size, derived="spread"), spread
    below = variable.events_below
    for place, threshold in enumerate(here[f"{variable.name}_threshold"].values.tolist()):
        keys = grib.EnsembleSpec(size, threshold=threshold, below=below)
        yield f"prob {'<=' if below else '>='}{threshold:g}:prob fcst 0/{size}", keys, 100 * chances[place]


def _index_line(number: int, offset: int, init: Hour, message: Message) -> str:
    """As wgrib2 and NCEP write them."""
    variable, date = message.variable, compact(init).replace("T", "")
    level = f"{variable.index_name}:{variable.index_level}:{message.lead} hour fcst"
    return f"{number}:{offset}:d={date}:{level}:{message.what}\n"
