"""Opening of files of any program by their format: Zarr, NetCDF or GRIB2."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from convcast import (
    grib,  # noqa: F401 (before cfgrib: it imports ecCodes in the order that works)
    stores,
)
from convcast.errors import DamagedFileError, SettingsError
from convcast.grib import sections
from convcast.variables import FIELDS, SIMULATED_STATUS, GribKey, Variable
from convcast.verification.data.gridded_files.fields import NO_FIELD, SINGLE_FORECASTS, STATISTIC, is_level, is_named

__all__ = ["OpenedFile", "expand", "is_zarr", "open_file", "open_zarr", "stamp"]

_ZARR = ("zarr.json", ".zgroup", ".zmetadata")
_NETCDF = {b"\x89HDF": "netcdf4", b"CDF\x01": "scipy", b"CDF\x02": "scipy"}
"""Engine of xarray by the first bytes of a file. The netCDF library may hang on damaged headers of classic formats."""
_CDF5 = b"CDF\x05"
_GRIB_KEYS = (
    "discipline",
    "parameterCategory",
    "parameterNumber",
    "typeOfFirstFixedSurface",
    "productDefinitionTemplateNumber",
    "productionStatusOfProcessedData",
    "uvRelativeToGrid",
)


@dataclass(frozen=True)
class OpenedFile:
    """Contents of a file, or a part of them whose variables share their dimensions."""

    path: Path
    data: xr.Dataset
    """Lazy dataset with the file's own names of dimensions; only coordinates are read."""
    unread: dict[str, str] = field(default_factory=dict)
    """Reasons why other contents of the file were not opened, by name."""


def expand(paths: Sequence[Path], option: str) -> list[Path]:
    """Return the files that a repeatable option names, patterns (`'mem*.grib2'`) expanded.

    Args:
        paths: Values of the option.
        option: Name of the option, for error messages.

    Raises:
        SettingsError: A path does not exist, or a file is given twice.
    """
    files: list[Path] = []
    for path in paths:
        if path.exists():
            files.append(path)
            continue
        if re.match(r"[a-z][a-z0-9+]+:/", str(path)):
            raise SettingsError(
                f"{option} reads files on this machine, and {path} is an address", advice="copy it here first"
            )
        named = sorted(Path(name) for name in glob.glob(str(path)))  # noqa: PTH207 (a pattern may be absolute)
        named = [one for one in named if one.suffix != ".idx"]
        if not named:
            raise SettingsError(
                f"there is no {path}", advice=f"give {option} the path of a Zarr store, a NetCDF or a GRIB2 file"
            )
        files += named
    once: dict[Path, Path] = {}
    for path in files:
        if once.setdefault(path.resolve(), path) is not path:
            raise SettingsError(f"{path} is given twice", advice=f"give {option} each file once")
    return files


def is_zarr(path: Path) -> bool:
    """Return whether a path is a folder, which may be a Zarr store."""
    return path.is_dir()


def stamp(path: Path) -> str:
    """Return a text that changes with a file: its path, size and modification time."""
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def open_zarr(path: Path, what: str) -> xr.Dataset:
    """Open a Zarr store of format 2 or 3 lazily; only coordinates are read.

    Args:
        path: Folder of the store.
        what: Kind of contents, for error messages.

    Raises:
        DamagedFileError: The folder does not open as a Zarr store.
    """
    if path.is_dir() and not any((path / name).exists() for name in _ZARR):
        raise DamagedFileError(
            f"{path} is a folder and not a Zarr store", advice=f"name the files in it by a pattern: '{path}/*.grib2'"
        )
    advice = "give the path of a Zarr store, or write it again with the program that made it"
    complaint = f"{path} does not open as a Zarr {what}"
    with stores.readable(complaint, advice):
        data = xr.open_zarr(path, chunks=None, consolidated=False, decode_timedelta=True)
        for variable in data.variables.values():
            chunks = variable.encoding.get("shards") or variable.encoding.get("chunks") or ()
            stores.refuse_chunks(chunks, complaint=complaint, advice=advice)
        return _with_coordinates(data)


def open_file(path: Path) -> Iterator[OpenedFile]:
    """Open a NetCDF file, or the fields of a GRIB2 file one by one, lazily.

    Raises:
        DamagedFileError: The file has another format or cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    if start in _NETCDF:
        yield OpenedFile(path, _open_netcdf(path, _NETCDF[start]))
    elif start == _CDF5:
        raise DamagedFileError(
            f"{path} is in NetCDF's CDF-5 format, which convcast does not read",
            advice=f"convert it: nccopy -k nc4 {path} new.nc",
        )
    elif start == sections.START:
        yield from _open_grib(path)
    else:
        raise DamagedFileError(
            f"{path} is neither a Zarr store nor a NetCDF or GRIB2 file",
            advice="write it as one of them: xarray's data.to_netcdf, or data.to_zarr",
        )


def _open_netcdf(path: Path, engine: str) -> xr.Dataset:
    complaint = f"{path} does not open as a NetCDF file"
    with stores.readable(complaint, "write it again with the program that made it, or copy it again"):
        data = xr.open_dataset(path, engine=engine, chunks=None, cache=False, decode_timedelta=True)
        for name, variable in data.variables.items():
            if variable.size > 1 << 40:
                raise DamagedFileError(f"{complaint} ({name} has the shape {variable.shape})")
        return _with_coordinates(data)


def _with_coordinates(data: xr.Dataset) -> xr.Dataset:
    for name, coordinate in data.coords.items():
        if name != "complete":  # a running `convcast sample` may still change it
            coordinate.load()
    return data


def _open_grib(path: Path) -> Iterator[OpenedFile]:
    """Open each field with cfgrib, without an index file."""
    advice = "copy it again from where it came"
    _check_messages(path)
    with stores.readable(f"{path} does not open as a GRIB2 file", advice):
        offsets_by_field, unread = _fields_of(path)
    if not offsets_by_field:
        contents = ", ".join(unread) or "nothing"
        raise DamagedFileError(
            f"{path} holds none of the fields that convcast knows; it holds {contents}",
            advice=f"convcast knows {' '.join(FIELDS)}, as NCEP's GRIB2 tables have them",
        )
    for variable, offsets in offsets_by_field.items():
        with stores.readable(f"{path} does not open as a GRIB2 file", advice):
            data = _open_messages(path, offsets)
            (name,) = data.data_vars
            data = data.rename({name: variable.name}) if name != variable.name else data
            array = data[variable.name]
            simulated = array.attrs.get("GRIB_productionStatusOfProcessedData") == SIMULATED_STATUS
            origin = f"GRIB2 of {data.attrs.get('institution', 'an unknown centre')}"
            data = _with_coordinates(data.assign_attrs(simulated=int(simulated), source=origin))
        yield OpenedFile(path, data, unread)
        unread = {}


def _check_messages(path: Path) -> None:
    """Raise DamagedFileError if the sections of a message are inconsistent, since ecCodes would end the process."""
    size, offset = path.stat().st_size, 0
    with open(path, "rb") as file:
        while offset < size:
            try:
                start = file.read(sections.INDICATOR)
                length = sections.message_length(start)
                sections.check(start + file.read(max(0, min(length, size - offset) - len(start))))
            except DamagedFileError as error:
                old = start[:4] == sections.START and start[7:8] == b"\x01"
                raise DamagedFileError(
                    f"{path} cannot be read after byte {offset} ({error})",
                    advice=f"convert it: grib_set -s edition=2 {path} new.grib2"
                    if old
                    else "copy it again from where it came, or convert it: cfgrib to_netcdf",
                ) from error
            offset += length


def _fields_of(path: Path) -> tuple[dict[Variable, list[Any]], dict[str, str]]:
    """Return the offsets of the messages of each field, and reasons why others are not opened.

    Raises DamagedFileError where two messages hold the same field of one member, time and lead.
    """
    from cfgrib.messages import FileStream

    offsets_by_field: dict[Variable, list[Any]] = {}
    unread: dict[str, str] = {}
    seen: set[tuple[Any, ...]] = set()
    for offset, message in FileStream(str(path), errors="raise").items():
        variable, reason = _field_of(message)
        if variable is None:
            unread[f"{message['shortName']} at {message['level']} {message['typeOfLevel']}"] = reason
            continue
        member = message.get("number")
        identity = (variable, message["dataDate"], message["dataTime"], message["stepRange"], member)
        if identity in seen:
            of = "" if member is None else f" of member {member}"
            raise DamagedFileError(
                f"{path} holds {variable.name}{of} twice, {message['stepRange']} h after {message['dataDate']} "
                f"{message['dataTime']:04d}",
                advice="keep one of them: grib_copy writes the messages that are chosen by their keys",
            )
        seen.add(identity)
        offsets_by_field.setdefault(variable, []).append(offset)
    return offsets_by_field, unread


def _field_of(message: Any) -> tuple[Variable | None, str]:
    key = GribKey(
        message["discipline"],
        message["parameterCategory"],
        message["parameterNumber"],
        message["typeOfFirstFixedSurface:int"],
        float(message["level"]),
    )
    for variable in FIELDS.values():
        known = is_named(variable, str(message["shortName"])) and is_level(variable, str(message["typeOfLevel"]))
        if key != variable.grib and not known:
            continue
        if message["productDefinitionTemplateNumber"] in SINGLE_FORECASTS:
            return variable, ""
        return None, STATISTIC
    return None, NO_FIELD


def _open_messages(path: Path, offsets: Sequence[Any]) -> xr.Dataset:
    """Open the messages at these offsets, which hold one field at one level."""
    from convcast.verification.data.gridded_files.messages import SelectedMessages

    data: xr.Dataset = xr.open_dataset(
        SelectedMessages.at(path, offsets),
        engine="cfgrib",
        chunks=None,
        cache=False,
        decode_timedelta=True,
        backend_kwargs={"errors": "raise", "read_keys": list(_GRIB_KEYS)},
    )
    return data
