"""Fields that forecasts are scored against: the dataset's analyses, or fields of another program."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convcast.dataset import Dataset
from convcast.dataset.layout import FORMAT, index
from convcast.errors import DamagedFileError
from convcast.files import read_json
from convcast.metrics.regimes import sort_points
from convcast.notation import Hour, Hours
from convcast.variables import CAPE, REFC, T2M, Variable
from convcast.verification.data.gridded_files.cf import (
    UnreadableError,
    check_dimensions,
    check_values,
    read_values,
)
from convcast.verification.data.gridded_files.fields import find_fields, settle_winds, turned
from convcast.verification.data.gridded_files.files import expand, stamp
from convcast.verification.data.gridded_files.gather import GatheredFiles, gather_truth
from convcast.verification.data.gridded_files.points import Box, Points, read_points
from convcast.verification.data.times import nearest_hours, require_once
from convcast.verification.digest import digest

Field = NDArray[np.float32]


class Truth(Protocol):
    """Observed or analysed fields by hour."""

    variables: tuple[Variable, ...]
    """Fields that are available."""
    points: Points
    """Coordinates of the grid points."""
    hours: Hours
    """Hours that are available, ascending."""
    simulated: bool
    """Whether the fields are of the simulated world."""
    analysis_lead: int
    """Lead time, hours, of the forecasts that are used as analyses; 0 for analyses."""
    source: str
    """Name of the truth, as reports print it."""
    dataset: Dataset | None
    """The convcast dataset, if the truth is a whole one."""

    @property
    def known(self) -> Truth:
        """Fields from which baselines and regimes are made: those known at an initial time."""

    def read(self, variable: Variable, hour: Hour) -> Field:
        """Return a field at an hour, (y, x), NaN where missing."""

    def fingerprint(self, hour: Hour) -> str:
        """Return a hash that changes with the values of this hour."""

    def crop(self, box: Box, variables: Sequence[Variable]) -> Truth:
        """Return the part of the truth with these rows, columns and fields."""

    def field_report(self, scored: Sequence[Variable]) -> dict[str, Any]:
        """Describe, for scores.json, which variable is used for each scored field, and why others are not scored."""

    def advice(self, missing: Hours) -> str:
        """Return advice on how to get missing valid hours."""


class Analyses:
    """Analyses of a convcast dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._all = dataset
        self.dataset: Dataset | None = dataset
        self.variables = dataset.variables
        self.points = Points.of_grid(dataset.grid)
        self.hours = dataset.hours
        self.simulated = dataset.simulated
        self.analysis_lead = lead = dataset.analysis_lead
        self.source = f"{lead} h HRRR forecasts, in place of analyses" if lead else "HRRR analyses"
        if self.simulated:
            self.source = "the simulated truth"
        self._box: Box | None = None
        self._held: tuple[Hour, Field] | None = None

    @property
    def known(self) -> Analyses:
        return self

    def advice(self, missing: Hours) -> str:
        return f"run `convcast fetch --start {missing[0]} --end {missing[-1]}`, then `convcast preprocess`"

    def read(self, variable: Variable, hour: Hour) -> Field:
        if self._held is None or self._held[0] != hour:
            try:
                self._held = hour, self._all.read([hour])[0]
            except DamagedFileError as error:
                raise UnreadableError(str(error), advice=error.advice) from error
        field: Field = self._held[1][self._all.variables.index(variable)]
        return field if self._box is None else field[np.ix_(*self._box)]

    def field_report(self, scored: Sequence[Variable]) -> dict[str, Any]:
        left = [variable.name for variable in self._all.variables if variable not in scored]
        return {
            "file": str(self._all.path),
            "files": 1,
            "scored": {variable.name: variable.name for variable in scored},
            "fields_not_scored": dict.fromkeys(left, "the other file does not hold it"),
            "variables_not_scored": {},
        }

    def fingerprint(self, hour: Hour) -> str:
        files = sorted((self._all.path / "data" / "c" / str(index(hour))).rglob("*"))
        if not files:
            return hashlib.blake2b(self._all.read_stored([hour]).tobytes(), digest_size=16).hexdigest()
        return digest(*map(stamp, files))

    def crop(self, box: Box, variables: Sequence[Variable]) -> Analyses:
        part = Analyses(self._all)
        part.variables = tuple(variables)
        whole = all(np.array_equal(a, np.arange(n)) for a, n in zip(box, self.points.shape, strict=True))
        if not whole:
            part._box = box
            part.points = self.points.crop(box)
        if not whole or part.variables != self._all.variables:
            part.dataset = None
        return part


class StoredTruth:
    """Observations or analyses of another program, by time."""

    simulated: bool
    dataset: Dataset | None = None

    def __init__(self, gathered: GatheredFiles) -> None:
        path, data = gathered.path, gathered.data
        absent = [name for name in ("time", "y", "x") if name not in data.sizes]
        if absent or "number" in data.sizes:
            lacking = f"no dimension {' '.join(absent)}" if absent else f"{data.sizes['number']} members"
            raise DamagedFileError(
                f"{path} is not a truth: it has {lacking}",
                advice="give one field for each hour: dimensions (time, y, x)",
            )
        self.path, self._data, self._gathered = path, data, gathered
        self.points = read_points(data, path)
        self.matches = find_fields(data, path)
        settle_winds(data, self.matches, self.points)
        self.matches.unscored |= gathered.unread
        self._found = self.matches.found
        if not self._found:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.matches.lacking.items())
            raise DamagedFileError(
                f"{path} holds none of the fields that convcast knows ({reasons})",
                advice=f'name its variables as convcast does: data.rename(temperature="{T2M.name}")',
            )
        self.variables = tuple(self._found)
        check_dimensions(data, [one.name for one in self._found.values()], path, {"time", "y", "x"})
        hours, near = nearest_hours(data["time"].values, path)
        whole = np.flatnonzero(near)
        order = whole[np.argsort(hours[whole], kind="stable")]
        self.hours = hours[order]
        require_once(list(self.hours), "the hour", "time", path)
        self._index = dict(zip(self.hours.tolist(), order.tolist(), strict=True))
        self.simulated = str(data.attrs.get("simulated", 0)).lower() in ("true", "1")
        self.analysis_lead = int(data.attrs.get("analysis_lead", 0))
        self.source = str(data.attrs.get("title") or data.attrs.get("source") or path.name)
        self._box: Box | None = None
        self._prints: dict[Hour, str] = {}

    @property
    def known(self) -> StoredTruth:
        return self

    def advice(self, missing: Hours) -> str:  # noqa: ARG002
        return "give --truth the hours that the forecasts are for"

    def read(self, variable: Variable, hour: Hour) -> Field:
        match = self._found[variable]
        field = self._read(match.name, hour)
        if match.turn is not None:
            field = turned(variable, field, self._read(match.turn[0], hour), match.turn[1])
        field = match.convert(field)
        check_values(variable, field, self.path)
        return field if self._box is None else field[np.ix_(*self._box)]

    def _read(self, name: str, hour: Hour) -> Field:
        one = self._data[name].isel(time=self._index[hour.astype("datetime64[h]").item()])
        return read_values(one.transpose("y", "x"), self.path)

    def field_report(self, scored: Sequence[Variable]) -> dict[str, Any]:
        return {"file": str(self.path), "files": len(self._gathered.files), **self.matches.field_report(scored)}

    def fingerprint(self, hour: Hour) -> str:
        if hour not in self._prints:
            values = hashlib.blake2b(digest_size=16)
            try:
                for variable in self.variables:
                    values.update(self.read(variable, hour).tobytes())
            except UnreadableError as error:  # reported when this hour is scored
                values.update(str(error).encode())
            self._prints[hour] = values.hexdigest()
        return self._prints[hour]

    def crop(self, box: Box, variables: Sequence[Variable]) -> StoredTruth:
        part = StoredTruth(self._gathered)
        part.variables, part._box, part.points = tuple(variables), box, self.points.crop(box)
        return part


def open_truth(*paths: Path) -> Truth:
    """Open the truth: a convcast dataset, a Zarr store of another program, or NetCDF and GRIB2 files together.

    Raises:
        SettingsError: A path does not exist.
        DamagedFileError: A file cannot be read as a truth.
    """
    files = expand(paths, "--truth")
    if len(files) == 1 and _is_dataset(files[0]):
        try:
            return Analyses(Dataset.open(files[0]))
        except DamagedFileError as error:
            raise DamagedFileError(
                str(error), advice="run `convcast preprocess` in its workspace, or give another --truth"
            ) from error
    return StoredTruth(gather_truth(files))


def find_regimes(truth: Truth, init: Hour) -> NDArray[np.int8] | None:
    """Return the convective regime of every point at an initial time.

    Returns:
        Index into REGIMES, (y, x); None where the truth lacks the fields or the hour.
    """
    if not np.isin(init, truth.hours):
        return None

    def analysis(variable: Variable) -> NDArray[np.floating] | None:
        return truth.read(variable, init) if variable in truth.variables else None

    try:
        return sort_points(analysis(REFC), analysis(CAPE))
    except UnreadableError:
        return None


def _is_dataset(path: Path) -> bool:
    description = path / "zarr.json"
    if not description.is_file():
        return False
    try:
        metadata = read_json(description)
    except DamagedFileError as error:
        raise DamagedFileError(str(error), advice="write the store again with the program that made it") from error
    return isinstance(metadata, dict) and metadata.get("attributes", {}).get("format") == FORMAT
