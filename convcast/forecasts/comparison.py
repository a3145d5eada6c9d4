"""Read the fields with which maps compare a forecast: the analysis of its valid time and HRRR's forecast."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convcast.archive.archive import open_archives
from convcast.archive.locations import GribFile, archive_path, hrrr
from convcast.dataset import Dataset
from convcast.dataset.preprocessing.decode import decode_hour
from convcast.errors import ConvcastError
from convcast.grid import Grid
from convcast.notation import HOUR, Hour
from convcast.variables import STATIC, Variable
from convcast.workspace import Workspace

Floats = NDArray[np.floating]


class ReferenceFields:
    """Fields of a workspace on the grid of a forecast; None for those that are absent or cannot be read."""

    def __init__(self, workspace: Workspace, grid: Grid, *, simulated: bool) -> None:
        """Prepare to read.

        Args:
            workspace: The workspace.
            grid: Grid of the forecast.
            simulated: Whether the forecast is of the simulated archive.
        """
        self._workspace, self._grid, self._simulated = workspace, grid, simulated

    @cached_property
    def _dataset(self) -> Dataset | None:
        with suppress(ConvcastError):
            dataset = Dataset.open(self._workspace.dataset)
            if dataset.grid.covers(self._grid) and dataset.simulated == self._simulated:
                return dataset
        return None

    @cached_property
    def land(self) -> Floats | None:
        """Land mask, 1 over land and 0 over water, (y, x)."""
        dataset = self._dataset
        if dataset is None:
            return None
        with suppress(ConvcastError):
            land: Floats = dataset.static[list(STATIC).index("lsm")][dataset.grid.window(self._grid)]
            return land
        return None

    def analysis(self, variable: Variable, init: Hour, lead: int) -> Floats | None:
        """Return the analysis of a forecast's valid time, (y, x).

        Args:
            variable: The field.
            init: Initial time of the forecast.
            lead: Lead time, hours.

        Returns:
            The analysis, float32, GRIB units.
        """
        dataset, valid = self._dataset, init + lead * HOUR
        if dataset is None or variable not in dataset.variables or valid not in dataset.hours:
            return None
        with suppress(ConvcastError):
            fields = dataset.read([valid], *dataset.grid.window(self._grid))[0]
            analysis: Floats = fields[dataset.variables.index(variable)]
            return analysis
        return None

    def hrrr(self, variable: Variable, init: Hour, lead: int) -> Floats | None:
        """Return HRRR's forecast from `init` for `lead` hours ahead, (y, x), from the cycle of the initial analysis.

        The arguments are those of `analysis`.
        """
        file = self._hrrr_file(init, lead)
        with suppress(ConvcastError, OSError):
            archive = open_archives(self._workspace.archive)["hrrr"]
            path = archive.root / archive_path(file)
            sidecar = archive.has(path, [variable.name])
            if sidecar is None or variable.name in sidecar.lacking:
                return None
            fields = decode_hour(path, valid=file.valid, lead=file.lead, variables=[variable])
            if fields.simulated == self._simulated and fields.grid.covers(self._grid):
                forecast: Floats = fields.crop(*fields.grid.window(self._grid)).values[0]
                return forecast
        return None

    def fetch_command(self, init: Hour, lead: int) -> str:
        """Return the command that fetches the forecast that `hrrr` reads."""
        file = self._hrrr_file(init, lead)
        times = f"--start {file.valid} --end {file.valid}"
        return f"convcast fetch --what time-lagged --leads {file.lead} {times} -w {self._workspace.root}"

    def _hrrr_file(self, init: Hour, lead: int) -> GribFile:
        """Return HRRR's file from the cycle of the initial analysis, which is the cycle before if analyses are f01."""
        late = 0 if self._dataset is None else self._dataset.analysis_lead
        return hrrr(init - late * HOUR, lead + late)
