"""MRMS's composite reflectivity as truth: the scan nearest each hour, on the cells of the HRRR grid."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast import grib
from convcast.archive.archive import SIDECAR_SUFFIX, Archive, open_archives
from convcast.archive.locations import REFLECTIVITY, GribFile, archive_path, parse_path
from convcast.archive.scans import SCAN_KEY
from convcast.dataset import Dataset
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.notation import Hour, Hours
from convcast.variables import REFC, Variable
from convcast.verification.data.gridded_files.cf import UnreadableError
from convcast.verification.data.gridded_files.points import Box
from convcast.verification.data.radar_cells import CellChoice, RadarCells
from convcast.verification.data.truth import Truth
from convcast.verification.digest import digest

Field = NDArray[np.float32]
HELD = 12
"""Number of hours in memory, since several leads and initial times have the same valid hour."""


class Mrms:
    """Radar scans of the archive, on the points of the analyses."""

    dataset: Dataset | None = None

    def __init__(self, archive: Path, known: Truth, cells: CellChoice) -> None:
        """Open the scans of an archive.

        Args:
            archive: Folder of the workspace's archives.
            known: Analyses, from which baselines and regimes are made, and on whose grid forecasts are scored.
            cells: Take the maximum or the mean of a cell's pixels.

        Raises:
            SettingsError: The analyses are not on the HRRR grid, or have no reflectivity.
            MissingInputError: The archive holds no scan.
        """
        grid = known.points.grid
        if grid is None or REFC not in known.variables:
            raise SettingsError(
                "MRMS is compared with composite reflectivity on the HRRR grid", advice="use --truth analyses"
            )
        self.known, self._grid, self._choice, self._folder = known, grid, cells, archive
        self._archive: Archive = open_archives(archive)["mrms"]
        self.variables: tuple[Variable, ...] = (REFC,)
        self.points = known.points
        self.simulated = known.simulated
        self.analysis_lead = known.analysis_lead
        world = "scans of the simulated truth" if self.simulated else "MRMS composite reflectivity"
        self.source = f"{world}, the {cells} of the pixels of each cell of 3 km"
        self.hours = self._hours()
        if self.hours.size == 0:
            raise MissingInputError("the archive holds no radar scan", advice="run `convcast fetch --what mrms`")
        self._box: Box | None = None
        self._cells: RadarCells | None = None
        self._held: OrderedDict[Hour, Field] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the parts that a worker makes again."""
        return self.__dict__ | {"_cells": None, "_held": OrderedDict()}

    def read(self, variable: Variable, hour: Hour) -> Field:  # noqa: ARG002  it has one field
        if hour not in self._held:
            self._held[hour] = self._decode(hour)
            while len(self._held) > HELD:
                self._held.popitem(last=False)
        field = self._held[hour]
        return field if self._box is None else field[np.ix_(*self._box)]

    def fingerprint(self, hour: Hour) -> str:
        return digest(self._choice, self._archive.sidecar(self._path(hour)).sha256)

    def crop(self, box: Box, variables: Sequence[Variable]) -> Mrms:
        part = Mrms(self._folder, self.known, self._choice)
        part.variables, part._box, part.points = tuple(variables), box, self.points.crop(box)
        part.known = self.known.crop(box, self.known.variables)
        return part

    def field_report(self, scored: Sequence[Variable]) -> dict[str, Any]:
        return {
            "file": str(self._archive.root),
            "files": len(self.hours),
            "scored": {variable.name: "MergedReflectivityQCComposite" for variable in scored},
            "fields_not_scored": {},
            "variables_not_scored": {},
        }

    def advice(self, missing: Hours) -> str:
        return f"run `convcast fetch --what mrms --start {missing[0]} --end {missing[-1]}`"

    def _hours(self) -> Hours:
        hours = []
        for sidecar in self._archive.root.glob(f"mrms.*/*.grib2{SIDECAR_SUFFIX}"):
            name = sidecar.relative_to(self._archive.root).as_posix().removesuffix(SIDECAR_SUFFIX)
            file = parse_path(name)
            if file is None or file.model != "mrms":
                continue
            whole = self._archive.has(self._archive.root / name, [REFC.name])
            if whole is not None and whole.simulated == self.simulated:
                hours.append(file.valid)
        return np.array(sorted(hours), "datetime64[h]")

    def _path(self, hour: Hour) -> Path:
        return self._archive.root / archive_path(GribFile("mrms", REFLECTIVITY, hour, 0))

    def _decode(self, hour: Hour) -> Field:
        path = self._path(hour)
        try:
            header, scan = grib.decode(path.read_bytes())
            if header.key != SCAN_KEY:
                raise DamagedFileError(f"it holds {header.key}")
            pixels = header.regular_grid()
        except (DamagedFileError, OSError) as error:
            raise UnreadableError(
                f"{path}: {error}", advice="run `convcast fetch --verify`, then fetch again"
            ) from error
        if self._cells is None or self._cells.pixels != pixels:
            self._cells = RadarCells(pixels, self._grid)
        return self._cells.to_cells(scan, self._choice)
