"""HRRR's forecasts that force a model, by cycle and lead, in the Zarr group of a dataset.

    forcing/data            int16 (cycle, lead, variable, y, x), stored like the hours, one file for each cycle and lead
    forcing/status          uint8 (cycle, lead): the commit record, written last; only forecasts that are ok here exist
    forcing/verdicts.jsonl  reasons for the status: one line for each forecast and attempt; the last one counts

A dataset without the folder has no forcing. Cycles are indexed as hours are in the dataset, and leads by their hours.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from convcast import stores
from convcast.archive.forcing import HrrrForecast
from convcast.conventions import FILL, pack, unpack
from convcast.dataset.layout import (
    EPOCH,
    MEND,
    YEAR,
    DatasetDescription,
    HourStatus,
    index,
    layout,
    open_described,
    open_laid_out,
    read_verdicts,
    recreate_lost,
    status_of,
    stored_hours,
    whole_years,
)
from convcast.errors import DamagedFileError
from convcast.files import append_lines
from convcast.notation import HOUR, Hour, Hours
from convcast.settings import HRRR_LONGEST_LEAD

FOLDER = "forcing"
DATA, STATUS, VERDICTS = f"{FOLDER}/data", f"{FOLDER}/status", "verdicts.jsonl"
LEADS = HRRR_LONGEST_LEAD + 1
"""Length of the axis `lead`, whose index is the lead in hours."""


class ForcingStore:
    """The forecasts of one dataset, opened for reading, or for reading and writing."""

    def __init__(self, path: Path, group: zarr.Group, description: DatasetDescription) -> None:
        """Open the arrays.

        Args:
            path: Path of the dataset.
            group: The group of the dataset, which has the forecasts in FOLDER.
            description: Fields and grid of the dataset.

        Raises:
            DamagedFileError: An array is lost or damaged, or has another layout.
        """
        self.path = path
        self.description = description
        self._data = _open_part(group, DATA, description, path)
        self._status = _open_part(group, STATUS, description, path).with_config({"write_empty_chunks": True})

    @classmethod
    def open(cls, path: Path, *, writing: bool = False) -> ForcingStore | None:
        """Open the forecasts of the dataset at `path`; None if it has none.

        Raises:
            DamagedFileError: The arrays are damaged.
        """
        begun = (path / STATUS / "zarr.json", path / FOLDER / VERDICTS)  # the last files of a new store
        if not any(file.is_file() for file in begun):
            return None
        return cls(path, *open_described(path, writing=writing))

    @classmethod
    def prepare(cls, path: Path) -> ForcingStore:
        """Open the forecasts of the dataset at `path` for writing, created or repaired where necessary.

        Only the holder of the dataset's lock may call this. Arrays are created again where they are lost, and the
        status follows the verdicts, which are written before it.
        """
        group, description = open_described(path, writing=True)
        recreate_lost(group, _layout(description), path, lambda name: _open_part(group, name, description, path))
        store = cls(path, group, description)
        store._follow_verdicts()
        return store

    def statuses(self) -> dict[HrrrForecast, HourStatus]:
        """Return the status of every forecast with a known one.

        Raises:
            DamagedFileError: The status is damaged.
        """
        codes = self._codes()
        return {
            HrrrForecast(EPOCH + int(cycle) * HOUR, int(lead)): HourStatus(codes[cycle, lead])
            for cycle, lead in np.argwhere(codes)
        }

    def read(self, forecast: HrrrForecast, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Read a forecast on a sub-grid, float32 (variable, y, x), GRIB units, NaN where the source had no value.

        Args:
            forecast: The forecast's cycle and lead.
            rows: Rows of the dataset's grid.
            columns: Columns of the dataset's grid.

        Raises:
            DamagedFileError: Its file is damaged or lost.
        """
        if not self.has_file(forecast):
            raise DamagedFileError(f"{self.path} has lost the HRRR forecast of {forecast}", advice=MEND)
        with stores.readable(f"{self.path / DATA} is damaged at {forecast}", "run `convcast preprocess --verify`"):
            stored = np.asarray(
                self._data[index(forecast.cycle), forecast.lead, :, rows, columns],
                np.int16,
            )
        variables = self.description.variables
        return np.stack([unpack(variable, field) for variable, field in zip(variables, stored, strict=True)])

    def has_file(self, forecast: HrrrForecast) -> bool:
        """Return whether there is a file with the values of a forecast, whatever its status."""
        file = self._folder(forecast.cycle) / str(forecast.lead) / "0" / "0" / "0"
        return file.is_file() and file.stat().st_size > 0

    def is_whole(self, forecast: HrrrForecast) -> bool:
        """Return whether the values of a forecast can be read."""
        try:
            self.read(forecast, slice(None), slice(None))
        except DamagedFileError:
            return False
        return True

    def write(self, forecast: HrrrForecast, values: NDArray[np.float32]) -> None:
        """Write the fields (variable, y, x) of a forecast, which `commit` then makes valid.

        Args:
            forecast: The forecast's cycle and lead.
            values: Fields in GRIB units, NaN where missing.
        """
        self.reserve(forecast.cycle)
        stored = np.stack([pack(v, field) for v, field in zip(self.description.variables, values, strict=True)])
        self._data[index(forecast.cycle), forecast.lead] = stored

    def reserve(self, cycle: Hour) -> None:
        """Extend the arrays to include this cycle; must be called before several processes write."""
        length = whole_years(index(cycle) + 1)
        for array in (self._data, self._status):
            if array.shape[0] < length:
                array.resize((length, *array.shape[1:]))

    def commit(self, status: HourStatus, forecasts: Sequence[HrrrForecast], verdicts: Sequence[dict[str, Any]]) -> None:
        """Append verdicts, then write the status of these forecasts.

        A verdict names `cycle`, `last` if it is about all cycles from `cycle` to `last`, `lead`, `status` and `reason`.
        """
        self.reserve(max(forecast.cycle for forecast in forecasts))
        append_lines(self.path / FOLDER / VERDICTS, verdicts)
        self._write_status(dict.fromkeys(forecasts, status))

    def verdicts(self) -> dict[HrrrForecast, dict[str, Any]]:
        """Read the last verdict on each forecast; lines truncated by a power failure are skipped."""
        found: dict[HrrrForecast, dict[str, Any]] = {}
        for cycles, entry in read_verdicts(self.path / FOLDER / VERDICTS, "cycle"):
            try:
                lead = int(entry["lead"])
            except (KeyError, TypeError, ValueError):
                continue
            if 0 < lead < LEADS:
                found |= {HrrrForecast(cycle, lead): entry for cycle in cycles}
        return found

    def stored_cycles(self) -> Hours:
        """Return the cycles with files, whatever their status."""
        return stored_hours(self.path / DATA)

    def prune(self, cycles: Iterable[Hour]) -> None:
        """Delete the forecasts of these cycles: commit them as pruned, then delete their files.

        Only the holder of the dataset's lock may call this. If it is interrupted, the same call deletes the rest.
        """
        known = self.statuses()
        for cycle in cycles:
            here = [each for each in known if each.cycle == cycle]
            if here:
                reason = "older than retention.dataset_hours"
                self.commit(HourStatus.PRUNED, here, [verdict(each, HourStatus.PRUNED, reason) for each in here])
            shutil.rmtree(self._folder(cycle), ignore_errors=True)

    def _folder(self, cycle: Hour) -> Path:
        return self.path / DATA / "c" / str(index(cycle))

    def _codes(self) -> NDArray[np.uint8]:
        with stores.readable(f"{self.path / STATUS} is damaged", MEND):
            return np.asarray(self._status[:], np.uint8)

    def _follow_verdicts(self) -> None:
        """Write the status that the verdicts give wherever the stored one differs or cannot be read."""
        recorded = {forecast: status_of(entry) for forecast, entry in self.verdicts().items()}
        if not recorded:
            return
        self.reserve(max(forecast.cycle for forecast in recorded))
        try:
            known: Mapping[HrrrForecast, HourStatus] = self.statuses()
        except DamagedFileError:
            shutil.rmtree(self.path / STATUS / "c", ignore_errors=True)
            known = {}
        changed = {forecast: status for forecast, status in recorded.items() if known.get(forecast) != status}
        if changed:
            self._write_status(changed)

    def _write_status(self, statuses: Mapping[HrrrForecast, HourStatus]) -> None:
        """Write these statuses, one file a year of cycles."""
        by_year: dict[int, list[HrrrForecast]] = {}
        for forecast in statuses:
            by_year.setdefault(index(forecast.cycle) // YEAR, []).append(forecast)
        for year, forecasts in by_year.items():
            part = slice(year * YEAR, (year + 1) * YEAR)
            codes = np.array(self._status[part], np.uint8)
            for forecast in forecasts:
                codes[index(forecast.cycle) - part.start, forecast.lead] = statuses[forecast]
            self._status[part] = codes


def verdict(forecast: HrrrForecast, status: HourStatus, reason: str, **more: Any) -> dict[str, Any]:
    """Return the line that records a status.

    Args:
        forecast: The forecast's cycle and lead.
        status: The status.
        reason: Why the forecast has this status.
        more: Further entries of the line.
    """
    parts = {"cycle": str(forecast.cycle), "lead": forecast.lead, "status": status.name.lower(), "reason": reason}
    return parts | more


def _layout(description: DatasetDescription) -> dict[str, dict[str, Any]]:
    """Return the arguments of zarr's `create_array` for each array by name, with a length of no cycles."""
    hours = layout(description)
    data, status = hours["data"], hours["status"]
    return {
        DATA: data
        | {
            "shape": (0, LEADS, *data["shape"][1:]),
            "chunks": (1, *data["chunks"]),
            "shards": None if data["shards"] is None else (1, *data["shards"]),
            "dimension_names": ("cycle", "lead", *data["dimension_names"][1:]),
        },
        STATUS: status | {"shape": (0, LEADS), "chunks": (YEAR, LEADS), "dimension_names": ("cycle", "lead")},
    }


def _open_part(group: zarr.Group, name: str, description: DatasetDescription, path: Path) -> zarr.Array:
    """Open an array and check it against the layout, except for its number of cycles; raises DamagedFileError."""
    array = open_laid_out(group, name, _layout(description)[name], path)
    if array.fill_value != _fill(name):
        raise DamagedFileError(f"{path} has an array {name} of {array.dtype} {array.shape}", advice=MEND)
    return array


def _fill(name: str) -> int:
    return FILL if name == DATA else int(HourStatus.ABSENT)
