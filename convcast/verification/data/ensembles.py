"""Ensemble forecasts in files, of convcast or another program: opened with xarray and checked before scoring."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from convcast.conventions import FLAG_MEANINGS
from convcast.errors import DamagedFileError, SettingsError
from convcast.forecasts.integrity import require_members
from convcast.notation import Hour, parse_hour
from convcast.variables import Variable
from convcast.verification.data.gridded_files.cf import (
    check_dimensions,
    check_values,
    read_values,
)
from convcast.verification.data.gridded_files.fields import MatchedVariable, find_fields, settle_winds, turned
from convcast.verification.data.gridded_files.files import expand, is_zarr, stamp
from convcast.verification.data.gridded_files.gather import GatheredFiles, gather_ensembles
from convcast.verification.data.gridded_files.points import Box, Points, read_points, shared
from convcast.verification.data.times import LeftOut, scorable_times


@dataclass(frozen=True)
class Ensemble:
    """Ensemble forecasts of one initial time."""

    path: Path
    init: Hour
    leads: tuple[int, ...]
    """Lead times, hours."""
    data: xr.Dataset
    """Lazy dataset with dimensions (number, lead_time, y, x)."""
    found: dict[Variable, MatchedVariable]
    """Variable of the file by field."""
    init_index: tuple[int, int] | None = None
    """Axis of the initial times in the stored arrays and index of this one, where the arrays have that axis."""
    box: Box | None = None
    """Rows and columns that are scored, where these are not all."""
    files: tuple[Path, ...] = ()
    """Files that hold the ensemble, if it is not a Zarr store."""

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.data.attrs)

    @property
    def training_hours(self) -> tuple[Hour, Hour] | None:
        """First and last hour of the model's training period, where the file states them.

        Raises:
            DamagedFileError: The attribute is not a pair of hours.
        """
        stated = self.data.attrs.get("training_hours")
        if not stated:
            return None
        try:
            first, last = stated.split("/") if isinstance(stated, str) else stated
            return parse_hour(str(first)), parse_hour(str(last))
        except (TypeError, ValueError, SettingsError) as error:
            raise DamagedFileError(
                f"{self.path} has {stated!r} as the hours that its model was trained on",
                advice="set its attribute training_hours to first/last, or remove it",
            ) from error

    @cached_property
    def fingerprint(self) -> str:
        """Hash that changes with the files that hold values of this initial time.

        Appending another initial time to the store does not change it.
        """
        identity = [str(self.path.resolve()), str(self.init), self.leads, sorted(self.data.attrs.items(), key=str)]
        digest = hashlib.blake2b(repr(identity).encode(), digest_size=16)
        if self.files:
            digest.update("\n".join(map(stamp, self.files)).encode())
            return digest.hexdigest()
        group = zarr.open_group(self.path, mode="r", use_consolidated=False)
        for name in (*(one.name for one in self.found.values()), *({"complete"} & set(group))):
            array = group[name]
            assert isinstance(array, zarr.Array)
            for key in _keys(array, self.init_index):
                try:
                    file = (self.path / name / key).stat()
                except FileNotFoundError:  # a chunk of fill values, for which zarr writes no file
                    continue
                digest.update(f"{name} {key} {file.st_size} {file.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def members(self, lead: int) -> NDArray[np.intp]:
        """Return the indices along `number` of the members that are complete at this lead, (member,)."""
        if "complete" not in self.data:
            return np.arange(self.data.sizes["number"])
        complete = read_values(self.data["complete"].isel(lead_time=self.leads.index(lead)), self.path)
        return np.flatnonzero(np.isfinite(complete) & (complete > 0))

    def read(self, variable: Variable, lead: int, members: NDArray[np.intp]) -> NDArray[np.float32]:
        """Read a field at a lead in the variable's units.

        Args:
            variable: Field to read.
            lead: Lead time, hours.
            members: Indices along `number`, ascending.

        Returns:
            Values, (member, y, x).

        Raises:
            DamagedFileError: The values are implausible in the variable's units.
            UnreadableError: The values are damaged.
        """
        consecutive = len(members) and members[-1] - members[0] + 1 == len(members)
        # A slice is read into its final array; a list of indices needs a copy.
        number = slice(int(members[0]), int(members[-1]) + 1) if consecutive else members
        match = self.found[variable]
        values = self._read(match.name, lead, number)
        if match.turn is not None:
            values = turned(variable, values, self._read(match.turn[0], lead, number), match.turn[1])
        values = match.convert(values)
        if len(values):
            check_values(variable, values[0], self.path)
        if self.box is None:
            return values
        return values[:, self.box[0][:, None], self.box[1]]

    def _read(self, name: str, lead: int, number: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        chosen = self.data[name].isel(lead_time=self.leads.index(lead), number=number)
        return read_values(chosen.transpose("number", "y", "x"), self.path)


@dataclass(frozen=True)
class OpenedEnsembles:
    """Ensembles of a store, one for each initial time, with the points and fields that they share with the truth."""

    ensembles: list[Ensemble]
    fields: tuple[Variable, ...]
    box: Box
    """Shared rows and columns of the truth."""
    points: Points
    field_report: dict[str, Any]
    """Description, for scores.json, of the variable used for each field and of variables that are not scored."""
    left_out: tuple[LeftOut, ...]
    """Forecasts that cannot be scored, by time."""


def open_ensembles(
    source: Path | GatheredFiles, *, fields: Sequence[Variable], points: Points, simulated: bool, foreign: bool = False
) -> OpenedEnsembles:
    """Open the ensembles of a Zarr store, or of gathered files.

    Args:
        source: Path of a store, or contents of files.
        fields: Fields of the truth.
        points: Points of the truth.
        simulated: Whether the truth is simulated weather.
        foreign: Whether another program made the ensembles, which may hold some of the fields on a part of the points.

    Raises:
        DamagedFileError: The source is not an ensemble of these fields at these points, or holds a forecast twice.
        SettingsError: Forecasts and truth do not overlap, or one is simulated and the other real.
    """
    if isinstance(source, Path):
        (source,) = gather_ensembles(expand([source], "--ensemble"))
    path, data = source.path, source.data
    matches = find_fields(data, path)
    available = read_points(data, path)
    settle_winds(data, matches, available)
    matches.unscored |= source.unread
    absent = [variable.name for variable in fields if variable not in matches.found]
    scored = {variable: matches.found[variable] for variable in fields if variable in matches.found}
    if not scored or (absent and not foreign):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in matches.lacking.items() if name in absent)
        has = " ".join(str(name) for name in data.data_vars) or "nothing"
        raise DamagedFileError(
            f"{path} does not hold {' '.join(absent)}, which the truth has; it holds {has} ({reasons})",
            advice=f'name its variables as convcast does: data.rename(temperature="{absent[0]}")',
        )
    _check_simulated(path, data, simulated)
    if (
        data.get("complete", xr.DataArray()).attrs.get("flag_meanings") == FLAG_MEANINGS
        and (path / "zarr.json").is_file()
    ):
        require_members(path)
    try:
        boxes = shared(available, points)
    except DamagedFileError as error:
        raise DamagedFileError(
            f"{path} is on another grid than the truth: {error}", advice="regrid one to the other first"
        ) from error
    if boxes is None:
        raise SettingsError(f"{path} and the truth do not overlap in space", advice="look at the coordinates of both")
    whole = boxes[0] if available.shape != tuple(map(len, boxes[0])) or not _in_order(boxes[0]) else None
    if not foreign and (whole is not None or points.shape != available.shape):
        raise DamagedFileError(
            f"{path} is on another grid than the truth: {available.shape} points, not {points.shape}"
        )
    times = scorable_times(data, path)
    leads = tuple(lead for _, lead in times.leads)
    data = data.isel(lead_time=[i for i, _ in times.leads]).assign_coords(lead_time=list(leads))
    check_dimensions(data, [one.name for one in scored.values()], path)
    axis = _stored_axis(path, data, scored) if is_zarr(path) else None
    files = () if is_zarr(path) else source.files
    ensembles = [
        Ensemble(path, init, leads, data.isel(init_time=i), scored, None if axis is None else (axis, i), whole, files)
        for i, init in times.inits
        if leads
    ]
    report = {"file": str(path), "files": len(source.files), **matches.field_report(scored)}
    return OpenedEnsembles(ensembles, tuple(scored), boxes[1], points.crop(boxes[1]), report, times.left_out)


def _stored_axis(path: Path, data: xr.Dataset, scored: dict[Variable, MatchedVariable]) -> int | None:
    """Return the axis of the initial times in the stored arrays; None if they have none."""
    first = next(iter(scored.values())).name
    array, dimensions = zarr.open_group(path, mode="r", use_consolidated=False)[first], data[first].dims
    assert isinstance(array, zarr.Array)
    return dimensions.index("init_time") if len(array.shape) == len(dimensions) else None


def _keys(array: zarr.Array, index: tuple[int, int] | None) -> Iterator[str]:
    """Return the names of an array's chunk files, or of those at an index along an axis."""
    sizes = array.shards or array.chunks
    counts = [range(-(-length // size)) for length, size in zip(array.shape, sizes, strict=True)]
    if index is not None and index[0] < len(counts):
        axis, number = index
        counts[axis] = range(number // sizes[axis], number // sizes[axis] + 1)
    for chunk in product(*counts):
        yield array.metadata.encode_chunk_key(chunk)


def _in_order(box: Box) -> bool:
    return all(np.array_equal(axis, np.arange(len(axis))) for axis in box)


def _check_simulated(path: Path, data: xr.Dataset, simulated: bool) -> None:
    marked = str(data.attrs.get("simulated", False)).lower() in ("true", "1")
    if marked != simulated:
        kinds = {True: "simulated", False: "real"}
        raise SettingsError(
            f"{path} forecasts {kinds[marked]} weather and the truth holds {kinds[simulated]} weather",
            advice="verify each in a workspace of its own",
        )
