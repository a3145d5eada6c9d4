"""Read access to a dataset: the accepted hours as physical fields."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.archive.forcing import Forcing, HrrrForecast
from convcast.conventions import FILL
from convcast.dataset.cache import HourCache
from convcast.dataset.forcing.store import ForcingStore
from convcast.dataset.layout import MEND_HOUR, HourStatus
from convcast.dataset.store import Store
from convcast.errors import DamagedFileError, MissingInputError
from convcast.grid import Grid
from convcast.notation import Hour, Hours, consecutive
from convcast.text import list_some
from convcast.variables import Variable


class Dataset:
    """A dataset opened for reading; hours that are appended later are visible after opening it again."""

    def __init__(self, store: Store, cache: Path | None = None) -> None:
        self.store = store
        self.cache = HourCache(cache, store) if cache else None
        self.times: Hours
        """Every hour from the first to the last with a known status."""
        self.status: NDArray[np.uint8]
        """Status (HourStatus) of each of `times`."""
        self.times, self.status = store.read_status()

    @classmethod
    def open(cls, path: Path, *, cache: Path | None = None) -> Dataset:
        """Open the dataset at `path` for reading.

        Args:
            path: The Zarr store.
            cache: Folder in which hours are unpacked when they are first read, and from which they are then read.

        Raises:
            SettingsError: There is no dataset at `path`.
            DamagedFileError: The store is damaged or is not a convcast dataset.
        """
        return cls(Store.open(path), cache)

    @property
    def path(self) -> Path:
        """Path of the Zarr store."""
        return self.store.path

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The dataset's fields, in the order of the axis `variable`."""
        return self.store.description.variables

    @property
    def grid(self) -> Grid:
        """The rectangle of the HRRR grid that the dataset covers."""
        return self.store.description.grid

    @property
    def simulated(self) -> bool:
        """Whether the weather is simulated."""
        return self.store.description.simulated

    @property
    def analysis_lead(self) -> int:
        """Lead time of the archived files that serve as analyses, hours."""
        return self.store.description.analysis_lead

    @cached_property
    def hours(self) -> Hours:
        """The hours whose status is ok, sorted."""
        ok: Hours = self.times[self.status == HourStatus.OK]
        return ok

    @cached_property
    def static(self) -> NDArray[np.float32]:
        """Terrain height (m) and land mask, (2, y, x)."""
        return self.store.static

    @cached_property
    def latitude_longitude(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitude and longitude of the grid points, degrees, each (y, x)."""
        return self.grid.latitude_longitude()

    def missing(self, hours: Sequence[Hour] | Hours) -> Hours:
        """Return those of `hours` whose status is not ok."""
        missing: Hours = np.setdiff1d(np.asarray(hours, "datetime64[h]"), self.hours)
        return missing

    def read(
        self, hours: Sequence[Hour] | Hours, rows: slice = slice(None), columns: slice = slice(None)
    ) -> NDArray[np.float32]:
        """Read the fields of these hours on a sub-grid.

        Args:
            hours: Valid times.
            rows: Rows of the dataset's grid.
            columns: Columns of the dataset's grid.

        Returns:
            float32, (time, variable, y, x), GRIB units, NaN where the source had no value.

        Raises:
            MissingInputError: The status of some hours, which the message names, is not ok.
            DamagedFileError: A file is damaged or lost.
        """
        return self.store.unpack(self.read_stored(hours, rows, columns))

    def read_stored(
        self, hours: Sequence[Hour] | Hours, rows: slice = slice(None), columns: slice = slice(None)
    ) -> NDArray[np.int16]:
        """Read the stored integers of these hours, int16 (time, variable, y, x); the arguments are those of `read`."""
        requested = np.asarray(hours, "datetime64[h]")
        self.require(requested)
        if self.cache is not None and requested.size:
            return self.cache.read(requested, rows, columns)
        ny, nx = (len(range(n)[part]) for n, part in zip(self.grid.shape, (rows, columns), strict=True))
        stored = np.empty((len(requested), len(self.variables), ny, nx), np.int16)
        start = 0
        for run in consecutive(requested):  # zarr reads the files of consecutive hours concurrently
            stored[start : start + run.size] = self.store.read(run[0], run.size, rows, columns)
            start += run.size
        for hour, fields in zip(requested, stored, strict=True):
            if (fields[:1] == FILL).all() and (fields == FILL).all():
                raise DamagedFileError(f"{self.path} has lost its values of {hour}", advice=MEND_HOUR)
        return stored

    @cached_property
    def forecasts(self) -> ForcingStore | None:
        """HRRR's forecasts, which force a model; None if the dataset has none."""
        return ForcingStore.open(self.path)

    @cached_property
    def forecast_status(self) -> dict[HrrrForecast, HourStatus]:
        """Status of each HRRR forecast with a known one; empty if the dataset has none."""
        return {} if self.forecasts is None else self.forecasts.statuses()

    def has_forecast(self, forecast: HrrrForecast | None) -> bool:
        """Return whether the dataset holds this HRRR forecast."""
        return forecast is not None and self.forecast_status.get(forecast) == HourStatus.OK

    def ages(self, forcing: Forcing, init: Hour, lead: int) -> tuple[int, ...]:
        """Return the ages, newest first, at which the dataset holds forcing for this initial time and lead (hours).

        Args:
            forcing: The HRRR forecasts that force the model.
            init: Initial time.
            lead: Lead time, hours.
        """
        return tuple(age for age in forcing.ages if self.has_forecast(forcing.forecast(init, lead, age)))

    def read_forecast(
        self, forecast: HrrrForecast, rows: slice = slice(None), columns: slice = slice(None)
    ) -> NDArray[np.float32]:
        """Read an HRRR forecast on a sub-grid, float32 (variable, y, x), GRIB units, NaN where it has no value.

        Args:
            forecast: The forecast's cycle and lead.
            rows: Rows of the dataset's grid.
            columns: Columns of the dataset's grid.

        Raises:
            MissingInputError: The dataset does not hold it.
            DamagedFileError: Its file is damaged or lost.
        """
        if self.forecasts is None or not self.has_forecast(forecast):
            raise MissingInputError(
                f"{self.path} does not hold the HRRR forecast of {forecast}",
                advice="run `convcast fetch --set model.forcing=hrrr`, then "
                "`convcast preprocess --set model.forcing=hrrr`",
            )
        return self.forecasts.read(forecast, rows, columns)

    def make_room(self, hours: Hours) -> None:
        """Raise DiskFullError if there is a cache and these hours do not fit on its disk."""
        if self.cache is not None:
            self.cache.make_room(hours)

    def verdicts(self) -> dict[Hour, dict[str, Any]]:
        """Return the last verdict on each hour: `status`, `reason`, `findings`, and `at`, the time of the verdict."""
        return self.store.read_verdicts()

    def require(self, hours: Sequence[Hour] | Hours) -> None:
        """Raise MissingInputError, which names the hours and the command to fetch them, if some hours are not ok."""
        missing = self.missing(hours)
        if missing.size == 0:
            return
        known = dict(zip(self.times, self.status, strict=True))
        names = {status: f" ({status.name.lower()})" for status in HourStatus} | {HourStatus.ABSENT: ""}
        named = [f"{hour}{names[HourStatus(known.get(hour, HourStatus.ABSENT))]}" for hour in missing]
        raise MissingInputError(
            f"{self.path} does not hold {list_some(named, 6)}",
            advice=f"run `convcast fetch --start {missing[0]} --end {missing[-1]}`, then `convcast preprocess`",
        )
