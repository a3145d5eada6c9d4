"""Gather the files of one verification, in which members, leads and hours may be in separate files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from convcast.errors import DamagedFileError
from convcast.verification.data.gridded_files.cf import as_ensemble, as_truth, by_role, lacks, lead_hours, with_leads
from convcast.verification.data.gridded_files.files import OpenedFile, is_zarr, open_file, open_zarr
from convcast.verification.data.gridded_files.stack import stacked

POINT_COORDINATES = ("y", "x", "latitude", "longitude")


@dataclass(frozen=True)
class GatheredFiles:
    """Contents of one store or of several files, as one dataset."""

    path: Path
    """Path of the store, or of the first file."""
    files: tuple[Path, ...]
    data: xr.Dataset
    unread: dict[str, str]
    """Reasons why other contents of the files were not opened, by name."""


@dataclass(frozen=True)
class _Map:
    """Field of one member, initial time and lead."""

    path: Path
    values: xr.DataArray
    """Values of the field, (y, x)."""


_Key = tuple[np.datetime64, int, float, str]
"""Initial time, member, lead (hours) and name of a map."""
_ALONE = -1
"""Member number of maps in files that do not number their members."""


def gather_ensembles(paths: Sequence[Path]) -> Iterator[GatheredFiles]:
    """Yield the contents of each Zarr store, then those of all other files together, one initial time at a time.

    Members are identified by their number or, where the files have none, by their file.

    Raises:
        DamagedFileError: Files are not an ensemble, have different points, or hold a member twice.
    """
    others: list[Path] = []
    for path in paths:
        if is_zarr(path):
            yield GatheredFiles(path, (path,), as_ensemble(by_role(open_zarr(path, "ensemble"), path), path), {})
        else:
            others.append(path)
    if not others:
        return
    parts = [
        _Part(one, with_leads(by_role(one.data, one.path), one.path)) for path in others for one in open_file(path)
    ]
    _require_same_points([(part.opened.path, part.data) for part in parts])
    maps = _by_member(parts)
    for init in sorted({key[0] for key in maps}):
        yield _ensemble(init, {key[1:]: one for key, one in maps.items() if key[0] == init}, parts)


def gather_truth(paths: Sequence[Path]) -> GatheredFiles:
    """Return the maps of one Zarr store, or of other files together, with dimensions (time, y, x).

    Raises:
        DamagedFileError: Files are not a truth, have different points, or hold an hour twice.
    """
    if len(paths) == 1 and is_zarr(paths[0]):
        return GatheredFiles(
            paths[0], (paths[0],), as_truth(by_role(open_zarr(paths[0], "truth"), paths[0]), paths[0]), {}
        )
    for path in paths:
        if is_zarr(path):
            raise DamagedFileError(
                f"{path} is a folder, and --truth has several files",
                advice="give one Zarr store, or NetCDF and GRIB2 files",
            )
    opened = [one for path in paths for one in open_file(path)]
    parts = [_Part(one, as_truth(by_role(one.data, one.path), one.path)) for one in opened]
    if len(parts) == 1:
        return GatheredFiles(paths[0], (paths[0],), parts[0].data, parts[0].opened.unread)
    _require_same_points([(part.opened.path, part.data) for part in parts])
    maps: dict[str, dict[np.datetime64, _Map]] = defaultdict(dict)
    for part in parts:
        path = part.opened.path
        if "time" not in part.data.sizes:
            raise DamagedFileError(
                f"{path} does not give its hour",
                advice="give it a coordinate time: data.assign_coords(time=...)",
            )
        for name, array in part.maps:
            for index, time in enumerate(part.data["time"].values):
                _put(maps[name], time, _Map(path, array.isel(time=index)), f"{name} of {time}")
    times = sorted({time for of_name in maps.values() for time in of_name})
    variables = {
        name: stacked({"time": times}, {(time,): one.values for time, one in of_name.items()})
        for name, of_name in maps.items()
    }
    return GatheredFiles(
        paths[0], tuple(paths), _dataset(variables, {"time": ("time", np.array(times))}, parts), _unread(parts)
    )


@dataclass(frozen=True)
class _Part:
    opened: OpenedFile
    data: xr.Dataset
    """Dataset with convcast's names of dimensions."""

    @property
    def maps(self) -> Iterator[tuple[str, xr.DataArray]]:
        """Return the variables with dimensions y and x, by name."""
        for name, array in self.data.data_vars.items():
            if {"y", "x"} <= set(array.dims):
                yield str(name), array


def _by_member(parts: Sequence[_Part]) -> dict[_Key, _Map]:
    numbered = any("number" in part.data.coords for part in parts)
    by_file: dict[Path, list[tuple[_Key, _Map]]] = defaultdict(list)
    for part in parts:
        by_file[part.opened.path] += _maps_of(part)
    numbered_maps: dict[_Key, _Map] = {}
    for maps in by_file.values():
        first = 0
        if not all(key[1] != _ALONE for key, _ in maps):
            # The file is one member, and gets the first number that is free for all its maps.
            while any((key[0], first, *key[2:]) in numbered_maps for key, _ in maps):
                first += 1
        for (init, number, lead, name), one in maps:
            member = first if number == _ALONE else number
            what = f"member {member} of {name}, {lead:g} h after {init.astype('datetime64[m]')}"
            _put(numbered_maps, (init, member, lead, name), one, what)
    if len({key[1] for key in numbered_maps}) == 1 and not numbered:
        raise lacks(["number"], parts[0].opened.path)
    return numbered_maps


def _maps_of(part: _Part) -> Iterator[tuple[_Key, _Map]]:
    path, data = part.opened.path, part.data
    absent = [name for name in ("init_time", "lead_time", "y", "x") if name not in data.sizes]
    if absent:
        raise lacks([*absent], path)
    hours = lead_hours(data["lead_time"], path)
    inits = data["init_time"].values
    numbers = None
    if "number" in data.coords:
        numbers = np.atleast_1d(data["number"].values).tolist()
    elif "number" in data.sizes:
        numbers = list(range(data.sizes["number"]))
    complete = data["complete"] if "complete" in data.coords else None
    for name, array in part.maps:
        extra = set(array.dims) - {"init_time", "number", "lead_time", "y", "x"}
        if extra:  # variables that are not known fields may have any dimensions
            continue
        for i, m, h in product(range(len(inits)), range(len(numbers or [0])), range(len(hours))):
            index = {"init_time": i, "number": m, "lead_time": h}
            if complete is not None and not complete.isel(index, missing_dims="ignore").values.all():
                continue
            number = _ALONE if numbers is None else int(numbers[m])
            lead = float(hours[h])
            chosen = array.isel({dim: n for dim, n in index.items() if dim in array.dims})
            yield (inits[i].astype("datetime64[ns]"), number, lead, name), _Map(path, chosen)


def _ensemble(init: np.datetime64, maps: dict[tuple[int, float, str], _Map], parts: Sequence[_Part]) -> GatheredFiles:
    numbers, leads = sorted({number for number, _, _ in maps}), sorted({lead for _, lead, _ in maps})
    names = sorted({name for _, _, name in maps})
    files = tuple(dict.fromkeys(one.path for one in maps.values()))
    variables = {
        name: stacked(
            {"init_time": [init], "number": numbers, "lead_time": leads},
            {(init, number, lead): one.values for (number, lead, key), one in maps.items() if key == name},
        )
        for name in names
    }
    due = {lead: {name for _, key, name in maps if key == lead} for lead in leads}
    complete = np.array([[[all((n, h, name) in maps for name in due[h]) for h in leads] for n in numbers]], np.int8)
    coordinates: dict[str, Any] = {
        "init_time": ("init_time", np.array([init])),
        "number": ("number", np.array(numbers)),
        "lead_time": ("lead_time", np.rint(np.array(leads) * 3600).astype("timedelta64[s]")),
        "complete": (("init_time", "number", "lead_time"), complete),
    }
    used = [part for part in parts if part.opened.path in files]
    return GatheredFiles(files[0], files, as_ensemble(_dataset(variables, coordinates, used), files[0]), _unread(used))


def _dataset(variables: dict[str, xr.Variable], coordinates: dict[str, Any], parts: Sequence[_Part]) -> xr.Dataset:
    first = parts[0].data
    coordinates_of_points = {name: first[name] for name in (*POINT_COORDINATES, "spatial_ref") if name in first.coords}
    mappings = {n: v.variable for n, v in first.data_vars.items() if "grid_mapping_name" in v.attrs}
    attributes = first.attrs
    kept = {name: array.variable for name, array in coordinates_of_points.items()}
    return xr.Dataset(variables | mappings, coordinates | kept, attributes)


def _put(maps: dict[Any, _Map], key: Any, one: _Map, what: str) -> None:
    other = maps.setdefault(key, one)
    if other is not one:
        raise DamagedFileError(
            f"{other.path} and {one.path} both hold {what}",
            advice="give each once; where they are different members, number them: data.assign_coords(number=1)",
        )


def _require_same_points(files: Sequence[tuple[Path, xr.Dataset]]) -> None:
    path, first = files[0]
    for other, data in files[1:]:
        for name in POINT_COORDINATES:
            if (name in first.coords) != (name in data.coords):
                continue
            if name in first.coords and not (
                first[name].shape == data[name].shape
                and np.allclose(first[name].values, data[name].values, rtol=0, atol=1e-3)
            ):
                raise DamagedFileError(f"{path} and {other} are on different grids", advice="verify them one by one")
        if any(first.sizes.get(name) != data.sizes.get(name) for name in ("y", "x")):
            raise DamagedFileError(f"{path} and {other} are on different grids", advice="verify them one by one")


def _unread(parts: Sequence[_Part]) -> dict[str, str]:
    return {name: reason for part in parts for name, reason in part.opened.unread.items()}
