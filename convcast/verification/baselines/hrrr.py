"""HRRR's own forecasts as baselines: the latest one, and a time-lagged ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcast.archive.archive import Archive, open_archives
from convcast.archive.locations import archive_path, hrrr
from convcast.archive.reference_ensembles import Member, time_lagged_members
from convcast.dataset.preprocessing.decode import DecodedFields, decode_hour
from convcast.errors import DamagedFileError, SettingsError
from convcast.notation import HOUR, Hour
from convcast.variables import Variable
from convcast.verification.baselines.archived import window_of_truth
from convcast.verification.baselines.base import Baseline
from convcast.verification.data.truth import Truth
from convcast.verification.digest import digest

MemberFiles = Callable[[Hour, int], tuple[Member, ...]]
"""Function of initial time and lead, hours, that returns the forecasts of an ensemble."""


def latest_forecast(truth: Truth) -> MemberFiles:
    """Return the HRRR forecast of a case's own cycle; of the cycle before where f01 replaces the analysis."""
    late = truth.analysis_lead
    return lambda init, lead: (Member("hrrr", hrrr(init - late * HOUR, lead + late), 0),)


def time_lagged(truth: Truth, ages: Sequence[int]) -> MemberFiles:
    """Return HRRR forecasts for the same valid time from earlier cycles.

    Args:
        truth: Fields that the forecasts are scored against.
        ages: Ages of the cycles relative to the case's own, hours.
    """
    late = truth.analysis_lead
    return lambda init, lead: time_lagged_members(init - late * HOUR, lead + late, ages)


class HrrrForecasts(Baseline):
    """HRRR forecasts of the archive as members, on the truth's points.

    A case is scored only where all members are available.
    """

    def __init__(self, name: str, members: MemberFiles, truth: Truth, archive: Path) -> None:
        """Open the archive.

        Args:
            name: Name of the system.
            members: Function of initial time and lead that returns the members' files.
            truth: The truth, on whose points the members are.
            archive: Folder of the archives.

        Raises:
            SettingsError: The truth is not on the HRRR grid.
        """
        grid = truth.points.grid
        if grid is None:
            raise SettingsError(
                f"{name} is on the HRRR grid and the truth is not",
                advice="use --against persistence, or regrid the truth",
            )
        self.name = name
        self._members, self._truth, self._grid = members, truth, grid
        self._archive: Archive = open_archives(archive)["hrrr"]
        self._held: dict[Path, DecodedFields] = {}

    def missing(self, init: Hour, lead: int) -> str | None:
        names = [variable.name for variable in self._truth.variables]
        for member, path in self._paths(init, lead):
            if self._archive.has(path, names) is None:
                return f"the archive lacks the forecast of {member.file.init} for {member.file.lead} h ahead"
            lacking = set(names) & set(self._archive.sidecar(path).lacking)
            if lacking:
                return f"the forecast of {member.file.init} for {member.file.lead} h ahead has no {' '.join(lacking)}"
        return None

    def remedy(self, cases: Sequence[tuple[Hour, int]]) -> str | None:
        files = [member.file for case in cases for member in self._members(*case)]
        leads = ",".join(map(str, sorted({file.lead for file in files})))
        first, last = min(file.valid for file in files), max(file.valid for file in files)
        return f"convcast fetch --what time-lagged --leads {leads} --start {first} --end {last}"

    def fingerprint(self, init: Hour, lead: int) -> str:
        return digest(*(self._archive.sidecar(path).sha256 for _, path in self._paths(init, lead)))

    def read(self, variable: Variable, init: Hour, lead: int) -> NDArray[np.float32]:
        paths = [path for _, path in self._paths(init, lead)]
        self._held = {
            path: self._held[path] if path in self._held else self._decode(path, init, lead) for path in paths
        }
        index = self._truth.variables.index(variable)
        return np.stack([self._held[path].values[index] for path in paths])

    def _paths(self, init: Hour, lead: int) -> list[tuple[Member, Path]]:
        return [(member, self._archive.root / archive_path(member.file)) for member in self._members(init, lead)]

    def _decode(self, path: Path, init: Hour, lead: int) -> DecodedFields:
        file = next(member.file for member, file_path in self._paths(init, lead) if file_path == path)
        fields = decode_hour(path, valid=file.valid, lead=file.lead, variables=self._truth.variables)
        if fields.simulated != self._truth.simulated:
            world = "the simulated world" if fields.simulated else "real weather"
            raise DamagedFileError(f"{path} is of {world}, unlike the truth", advice="run `convcast fetch` again")
        return fields.crop(*window_of_truth(fields.grid, self._grid, path))
