"""A lazy xarray view of a dataset: float32 fields with CF attributes, NaN in hours that are not ok."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from convcast import __version__
from convcast.conventions import field_attributes, grid_coordinates, unpack
from convcast.dataset.dataset import Dataset
from convcast.dataset.layout import HourStatus
from convcast.variables import STATIC, Variable

CHUNK_BYTES = 64 << 20
"""Approximate size of a dask chunk, bytes; a chunk holds whole frames."""


def open_dataset(path: Path | str, *, chunk_hours: int | None = None) -> xr.Dataset:
    """Open a dataset with xarray.

    Args:
        path: The dataset's Zarr store.
        chunk_hours: Hours per dask chunk (default: about 64 MB), which bounds the memory of reductions over time.

    Returns:
        A variable (time, y, x) for each field, `orog` and `lsm` (y, x), and the coordinate `status` (time,), for every
        hour from the first to the last with a known status.

    Raises:
        SettingsError: There is no dataset at `path`.
        DamagedFileError: The store is damaged or is not a convcast dataset.
    """
    dataset = Dataset.open(Path(path))
    hours = chunk_hours or max(1, CHUNK_BYTES // (4 * dataset.grid.ny * dataset.grid.nx))
    fields = {
        variable.name: xr.Variable(
            ("time", "y", "x"),
            indexing.LazilyIndexedArray(_Field(dataset, number, variable)),
            field_attributes(variable),
        ).chunk({"time": min(hours, max(1, dataset.times.size))})
        for number, variable in enumerate(dataset.variables)
    }
    static = {
        name: xr.Variable(("y", "x"), values, field_attributes(STATIC[name]))
        for name, values in zip(STATIC, dataset.static, strict=True)
    }
    coordinates = {
        "time": xr.Variable("time", dataset.times.astype("datetime64[ns]"), {"standard_name": "time"}),
        "status": xr.Variable(
            "time",
            dataset.status,
            {
                "standard_name": "status_flag",
                "flag_values": np.array(list(HourStatus), np.uint8),
                "flag_meanings": " ".join(status.name.lower() for status in HourStatus),
            },
        ),
        **grid_coordinates(dataset.grid),
    }
    attributes = {
        "Conventions": "CF-1.11",
        "source": "convcast's simulated archive" if dataset.simulated else "NOAA HRRR",
        "simulated": int(dataset.simulated),
        "analysis_lead_hours": dataset.analysis_lead,
        "convcast_version": __version__,
    }
    return xr.Dataset(fields | static, coordinates, attributes)


class _Field(BackendArray):
    """One field (time, y, x) of all hours, read when it is indexed."""

    def __init__(self, dataset: Dataset, number: int, variable: Variable) -> None:
        self.dataset = dataset
        self.number = number
        self.variable = variable
        self.shape = (dataset.times.size, *dataset.grid.shape)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        """Read a part; `key` has an integer, a slice or an integer array for each axis, applied independently."""
        times, rows, columns = (np.atleast_1d(np.arange(n)[part]) for n, part in zip(self.shape, key, strict=True))
        box = [slice(part.min(), part.max() + 1) if part.size else slice(0) for part in (rows, columns)]
        values = np.full((times.size, rows.size, columns.size), np.nan, np.float32)
        ok = np.flatnonzero(self.dataset.status[times] == HourStatus.OK)
        if rows.size and columns.size:
            inner = np.ix_(rows - rows.min(), columns - columns.min())
            for position in ok:
                hour = self.dataset.times[times[position]]
                only = slice(self.number, self.number + 1)
                stored = self.dataset.store.read(hour, 1, box[0], box[1], only)[0, 0]
                values[position] = unpack(self.variable, stored[inner])
        squeezed = tuple(axis for axis, part in enumerate(key) if isinstance(part, int | np.integer))
        return values.squeeze(axis=squeezed)
